//! Owns faults: which calls misbehave and how. Decides only; the server and the wire carry out.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::operation::Operation;
use crate::rng::Rng;

/// A way in which some calls misbehave.
///
/// Several faults may meet in one call: their delays add up, and of the other kinds the one added first wins.
///
/// As JSON: `{"on": ["inspect_container"], "when": {"nth": 2}, "then": {"error": {"status": 500, "message": "no"}}}`;
/// durations are written as in Go (`"1.5s"`). Without `on` all operations are meant, without `when` every call.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fault {
    /// The operations it applies to; empty means all.
    #[serde(default)]
    pub on: Vec<Operation>,
    /// Which of their calls.
    #[serde(default)]
    pub when: When,
    /// What happens.
    pub then: FaultKind,
}

impl Fault {
    /// A fault on every call of `operation`.
    pub fn on(operation: Operation, then: FaultKind) -> Self {
        Self {
            on: vec![operation],
            when: When::Always,
            then,
        }
    }

    /// A fault on every call of every operation.
    pub fn everywhere(then: FaultKind) -> Self {
        Self {
            on: Vec::new(),
            when: When::Always,
            then,
        }
    }

    /// The same fault, on other calls.
    #[must_use]
    pub fn when(self, when: When) -> Self {
        Self { when, ..self }
    }
}

/// Which of the matching calls a fault meets, counted from when the fault was added.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum When {
    /// Every call.
    #[default]
    Always,
    /// Only the n-th call, the first being 1.
    Nth(u64),
    /// The first n calls.
    First(u64),
    /// Each call with this probability, 0 to 1, by the engine's seed.
    Probability(f64),
}

/// What a fault does to a call.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum FaultKind {
    /// Wait before the call has its effect.
    Delay(Delay),
    /// Answer with this status and message; the call has no effect.
    Error {
        /// The HTTP status, 400 to 599; anything else is sent as 500.
        status: u16,
        /// The `message` of the JSON body.
        message: String,
    },
    /// Close the connection without an answer and without effect.
    DropBefore,
    /// Let the call have its effect, then close the connection without an answer.
    DropAfter,
    /// Close the connection after this many bytes of body, chunk framing included.
    TruncateBody(u64),
    /// Let the call have its effect, then send these bytes instead of the answer and close.
    Garbage(Vec<u8>),
    /// Let the call have its effect and never send a byte of the answer.
    StuckHeaders,
    /// Send the head and this many bytes of body, then nothing more.
    StuckBody(u64),
    /// Send the answer slowly.
    Dribble {
        /// Bytes per step, at least 1.
        bytes: usize,
        /// Time between two steps, on the engine's clock.
        #[serde(with = "duration_text")]
        every: Duration,
    },
}

/// How long a delayed call waits, on the engine's clock.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Delay {
    /// Always the same time.
    Fixed(#[serde(with = "duration_text")] Duration),
    /// Normally distributed by the engine's seed, never below the floor.
    Normal {
        /// The mean.
        #[serde(with = "duration_text")]
        mean: Duration,
        /// The standard deviation.
        #[serde(with = "duration_text")]
        sd: Duration,
        /// The smallest delay.
        #[serde(with = "duration_text")]
        floor: Duration,
    },
}

impl Delay {
    fn sample(self, rng: &mut Rng) -> Duration {
        match self {
            Self::Fixed(delay) => delay,
            Self::Normal { mean, sd, floor } => {
                let seconds = mean.as_secs_f64() + sd.as_secs_f64() * rng.normal();
                Duration::try_from_secs_f64(seconds)
                    .unwrap_or(Duration::ZERO)
                    .max(floor)
            }
        }
    }
}

/// What the faults say about one call.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Plan {
    pub(crate) delay: Duration,
    /// Never a [`FaultKind::Delay`].
    pub(crate) effect: Option<FaultKind>,
}

/// The faults of an engine, each with the number of calls it has seen.
#[derive(Debug, Default)]
pub(crate) struct Faults(Vec<(Fault, u64)>);

impl Faults {
    pub(crate) fn add(&mut self, fault: Fault) {
        self.0.push((fault, 0));
    }

    pub(crate) fn clear(&mut self) {
        self.0.clear();
    }

    pub(crate) fn plan(&mut self, operation: Operation, rng: &mut Rng) -> Plan {
        let mut plan = Plan::default();
        for (fault, seen) in &mut self.0 {
            if !fault.on.is_empty() && !fault.on.contains(&operation) {
                continue;
            }
            *seen += 1;
            let hit = match fault.when {
                When::Always => true,
                When::Nth(n) => *seen == n,
                When::First(n) => *seen <= n,
                When::Probability(p) => rng.unit() < p,
            };
            match &fault.then {
                _ if !hit => {}
                FaultKind::Delay(delay) => {
                    plan.delay = plan.delay.saturating_add(delay.sample(rng))
                }
                effect if plan.effect.is_none() => plan.effect = Some(effect.clone()),
                _ => {}
            }
        }
        plan
    }
}

/// Durations as Go writes them.
pub(crate) mod duration_text {
    use std::time::Duration;

    use serde::de::{Deserialize, Deserializer, Error};
    use serde::ser::Serializer;

    pub(crate) fn serialize<S: Serializer>(
        duration: &Duration,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&format!("{}s", duration.as_secs_f64()))
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Duration, D::Error> {
        let text = String::deserialize(deserializer)?;
        crate::time::parse_duration(&text).ok_or_else(|| {
            D::Error::custom(format!(
                "{text:?} is not a duration such as \"1.5s\" or \"2m\""
            ))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error() -> FaultKind {
        FaultKind::Error {
            status: 500,
            message: "no".into(),
        }
    }

    #[test]
    fn the_nth_call_of_an_operation_alone_is_met() {
        let mut faults = Faults::default();
        faults.add(Fault::on(Operation::Ping, error()).when(When::Nth(2)));
        let mut rng = Rng::new(1);
        assert_eq!(faults.plan(Operation::Ping, &mut rng).effect, None);
        assert_eq!(faults.plan(Operation::Info, &mut rng).effect, None);
        assert_eq!(faults.plan(Operation::Ping, &mut rng).effect, Some(error()));
        assert_eq!(faults.plan(Operation::Ping, &mut rng).effect, None);
    }

    #[test]
    fn delays_add_up_and_keep_their_floor() {
        let mut faults = Faults::default();
        let second = Duration::from_secs(1);
        faults.add(Fault::everywhere(FaultKind::Delay(Delay::Fixed(second))));
        let normal = Delay::Normal {
            mean: Duration::ZERO,
            sd: second * 100,
            floor: second,
        };
        faults.add(Fault::everywhere(FaultKind::Delay(normal)));
        let mut rng = Rng::new(7);
        for _ in 0..100 {
            assert!(faults.plan(Operation::Ping, &mut rng).delay >= second * 2);
        }
    }

    #[test]
    fn a_seed_repeats_its_dice() {
        let run = |seed| {
            let mut faults = Faults::default();
            faults.add(Fault::everywhere(FaultKind::DropBefore).when(When::Probability(0.5)));
            let mut rng = Rng::new(seed);
            (0..64)
                .map(|_| faults.plan(Operation::Ping, &mut rng).effect.is_some())
                .collect::<Vec<_>>()
        };
        assert_eq!(run(3), run(3));
        assert_ne!(run(3), run(4));
    }

    #[test]
    fn a_fault_reads_from_json() {
        let text = r#"{"on":["pull_image"],"when":{"nth":1},"then":{"dribble":{"bytes":1,"every":"10ms"}}}"#;
        let fault: Fault = serde_json::from_str(text).unwrap();
        assert_eq!(
            fault.then,
            FaultKind::Dribble {
                bytes: 1,
                every: Duration::from_millis(10)
            }
        );
        assert!(serde_json::from_str::<Fault>(r#"{"on":["pull"],"then":"drop_after"}"#).is_err());
    }
}
