//! Rounds in turns, medians, ratios, and the table they end in. It knows nothing of Docker.

use std::fmt;
use std::time::Instant;

use tokio::runtime::Runtime;

/// One of the things that are compared: its name, and what does one round of it and gives the round's figure.
pub struct Contender<'a> {
    name: &'static str,
    round: Box<dyn FnMut() -> f64 + 'a>,
}

impl<'a> Contender<'a> {
    /// A contender whose figure is whatever `round` gives, in the same unit as that of the others.
    pub fn new(name: &'static str, round: impl FnMut() -> f64 + 'a) -> Self {
        Self {
            name,
            round: Box::new(round),
        }
    }

    /// A contender whose figure is the median time in seconds of `count` runs of `operation`, one after another.
    pub fn timed(
        name: &'static str,
        runtime: &'a Runtime,
        count: usize,
        mut operation: impl AsyncFnMut() + 'a,
    ) -> Self {
        Self::new(name, move || {
            runtime.block_on(median_time(count, &mut operation))
        })
    }
}

/// The median time in seconds of `count` runs of `operation`, one after another.
pub async fn median_time(count: usize, mut operation: impl AsyncFnMut()) -> f64 {
    let mut times = Vec::with_capacity(count);
    for _ in 0..count {
        let start = Instant::now();
        operation().await;
        times.push(start.elapsed().as_secs_f64());
    }
    median(times)
}

/// The figures of every round.
pub struct Figures {
    names: Vec<&'static str>,
    rounds: Vec<Vec<f64>>,
}

/// Lets the contenders do one round each, in turns, `rounds` times, after one round that does not count. Who begins
/// moves on from round to round, so that nobody always comes after the same neighbour.
pub fn in_turns(rounds: usize, mut contenders: Vec<Contender<'_>>) -> Figures {
    for contender in &mut contenders {
        (contender.round)();
    }
    let count = contenders.len();
    let rounds = (0..rounds)
        .map(|round| {
            let mut figures = vec![0.0; count];
            for turn in 0..count {
                let index = (round + turn) % count;
                figures[index] = (contenders[index].round)();
            }
            figures
        })
        .collect();
    Figures {
        names: contenders.iter().map(|contender| contender.name).collect(),
        rounds,
    }
}

impl Figures {
    /// The median figure of the contender called `name`.
    pub fn median(&self, name: &str) -> f64 {
        let index = self.index(name);
        median(self.rounds.iter().map(|round| round[index]).collect())
    }

    /// The median over the rounds of one contender's figure divided by another's.
    pub fn ratio(&self, name: &str, to: &str) -> f64 {
        let (index, to) = (self.index(name), self.index(to));
        median(
            self.rounds
                .iter()
                .map(|round| round[index] / round[to])
                .collect(),
        )
    }

    /// A row that sets one contender's time beside another's, as a multiple; the target is the largest that passes.
    pub fn time_row(&self, what: &str, name: &str, to: &str, target: Option<f64>) -> Row {
        Row {
            what: what.to_owned(),
            measured: format!("{name} {}", Unit::Seconds.show(self.median(name))),
            beside: format!("{to} {}", Unit::Seconds.show(self.median(to))),
            value: self.ratio(name, to),
            unit: Unit::Times,
            target: target.map(Target::AtMost),
        }
    }

    /// A row that sets one contender's rate beside another's, as a share; the target is the smallest that passes.
    pub fn rate_row(
        &self,
        what: &str,
        name: &str,
        to: &str,
        unit: Unit,
        target: Option<f64>,
    ) -> Row {
        Row {
            what: what.to_owned(),
            measured: format!("{name} {}", unit.show(self.median(name))),
            beside: format!("{to} {}", unit.show(self.median(to))),
            value: self.ratio(name, to),
            unit: Unit::Share,
            target: target.map(Target::AtLeast),
        }
    }

    fn index(&self, name: &str) -> usize {
        self.names
            .iter()
            .position(|known| *known == name)
            .unwrap_or_else(|| panic!("nobody called {name:?} took part"))
    }
}

/// What a figure counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    /// Seconds.
    Seconds,
    /// Operations per second.
    PerSecond,
    /// Bytes per second.
    BytesPerSecond,
    /// Bytes.
    Bytes,
    /// A multiple of something.
    Times,
    /// A share of something.
    Share,
}

impl Unit {
    /// The value in words.
    pub fn show(self, value: f64) -> String {
        match self {
            Self::Seconds if value < 1e-3 => format!("{:.1} µs", value * 1e6),
            Self::Seconds if value < 1.0 => format!("{:.2} ms", value * 1e3),
            Self::Seconds => format!("{value:.2} s"),
            Self::PerSecond if value < 1e6 => format!("{:.1} k/s", value / 1e3),
            Self::PerSecond => format!("{:.1} M/s", value / 1e6),
            Self::BytesPerSecond => format!("{:.0} MB/s", value / 1e6),
            Self::Bytes if value < 1024.0 * 1024.0 => format!("{:.1} KiB", value / 1024.0),
            Self::Bytes => format!("{:.1} MiB", value / 1024.0 / 1024.0),
            Self::Times => format!("{value:.2}×"),
            Self::Share => format!("{:.0} %", value * 100.0),
        }
    }
}

/// What a figure has to reach, in the unit of the row.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Target {
    /// The largest that passes.
    AtMost(f64),
    /// The smallest that passes.
    AtLeast(f64),
}

/// One line of the table.
#[derive(Debug, Clone)]
pub struct Row {
    /// What was measured.
    pub what: String,
    /// Who did it, and the figure.
    pub measured: String,
    /// Who it is compared to, and the figure.
    pub beside: String,
    /// What the target is about.
    pub value: f64,
    /// The unit of the value and of the target.
    pub unit: Unit,
    /// `None` for a row that is there to compare with.
    pub target: Option<Target>,
}

impl Row {
    /// Whether the value misses its target. The value as it was measured counts, not as it is shown.
    pub fn is_miss(&self) -> bool {
        match self.target {
            Some(Target::AtMost(most)) => self.value > most,
            Some(Target::AtLeast(least)) => self.value < least,
            None => false,
        }
    }
}

/// All rows, shown as a table that can go into a Markdown document as it is.
#[derive(Debug, Default)]
pub struct Table(pub Vec<Row>);

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut cells =
            vec![["Bench", "Measured", "Beside", "Result", "Target", ""].map(str::to_owned)];
        cells.extend(self.0.iter().map(|row| {
            let target = match row.target {
                Some(Target::AtMost(most)) => format!("≤ {}", row.unit.show(most)),
                Some(Target::AtLeast(least)) => format!("≥ {}", row.unit.show(least)),
                None => String::new(),
            };
            let verdict = match row.target {
                Some(_) if row.is_miss() => "MISS",
                Some(_) => "pass",
                None => "",
            };
            [
                row.what.clone(),
                row.measured.clone(),
                row.beside.clone(),
                row.unit.show(row.value),
                target,
                verdict.to_owned(),
            ]
        }));
        let widths: [usize; 6] = std::array::from_fn(|column| {
            let width = cells.iter().map(|line| line[column].chars().count()).max();
            width.unwrap_or_default().max(3)
        });
        for (index, line) in cells.iter().enumerate() {
            for (cell, width) in line.iter().zip(widths) {
                write!(f, "| {cell:width$} ")?;
            }
            writeln!(f, "|")?;
            if index == 0 {
                for width in widths {
                    write!(f, "|{:-<width$}", "", width = width + 2)?;
                }
                writeln!(f, "|")?;
            }
        }
        Ok(())
    }
}

/// The middle one of the values, or the mean of the two in the middle.
pub fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    match values.len() {
        0 => f64::NAN,
        count if count % 2 == 1 => values[count / 2],
        count => f64::midpoint(values[count / 2 - 1], values[count / 2]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_the_middle() {
        assert_eq!(median(vec![3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(vec![4.0, 1.0, 2.0, 3.0]), 2.5);
    }

    #[test]
    fn turns_rotate_and_the_first_round_does_not_count() {
        let order = std::cell::RefCell::new(Vec::new());
        let contender = |name: &'static str, figure: f64| {
            let order = &order;
            Contender::new(name, move || {
                order.borrow_mut().push(name);
                figure
            })
        };
        let figures = in_turns(2, vec![contender("a", 3.0), contender("b", 2.0)]);
        assert_eq!(*order.borrow(), ["a", "b", "a", "b", "b", "a"]);
        assert_eq!(figures.ratio("a", "b"), 1.5);
        assert_eq!(figures.rounds.len(), 2);
    }

    #[test]
    fn a_miss_is_decided_on_what_was_measured() {
        let row = |value, target| Row {
            what: String::new(),
            measured: String::new(),
            beside: String::new(),
            value,
            unit: Unit::Times,
            target,
        };
        assert!(row(1.2501, Some(Target::AtMost(1.25))).is_miss());
        assert!(!row(1.25, Some(Target::AtMost(1.25))).is_miss());
        assert!(row(0.899, Some(Target::AtLeast(0.9))).is_miss());
        assert!(!row(9.0, None).is_miss());
    }
}
