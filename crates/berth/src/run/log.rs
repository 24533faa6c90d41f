//! One container's log, followed for as long as the container runs, whatever becomes of the connection.
//!
//! The engine is asked for the time of each line. After a cut it is asked for what it has since the last of them, and what was shown is
//! passed over. A line whose end had not come is shown when it comes whole.

use std::time::Duration;

use berth_docker::api::LogsOptions;
use berth_docker::model::Timestamp;
use berth_docker::{Docker, Line, Source};
use berth_pod::spec::ContainerId;
use tokio::sync::mpsc;

/// Where engines cut long lines, in bytes. The time is repeated there.
const CUT: usize = 16 * 1024;

/// The time in front of a line and the blank behind it, in bytes, as Docker writes them; nothing longer is looked at.
const STAMP: usize = 31;

/// The longest line that is printed in one piece, in bytes, with its times: a whole number of the engine's pieces.
const MAX_LINE: usize = 4 * (STAMP + CUT);

/// Pauses between attempts to reach an engine that is away double from the first to the last.
const FIRST_PAUSE: Duration = Duration::from_millis(200);
const LAST_PAUSE: Duration = Duration::from_secs(10);

/// Sends the lines of a container until it ends: all, or what comes behind the last `tail` lines.
pub(super) async fn follow(
    docker: Docker,
    id: ContainerId,
    tail: Option<u64>,
    label: String,
    sender: mpsc::Sender<(String, Line)>,
) {
    let mut log = Log::default();
    let mut pause = FIRST_PAUSE;
    loop {
        let since = log.since();
        let options = LogsOptions {
            follow: true,
            timestamps: true,
            since,
            tail: tail.filter(|_| since.is_none()),
            ..Default::default()
        };
        let error = match docker.logs(id.as_str(), &options).await {
            Ok(frames) => {
                let mut lines = frames.lines(MAX_LINE);
                loop {
                    match lines.next().await {
                        Some(Ok(line)) => {
                            for line in log.take(line) {
                                pause = FIRST_PAUSE;
                                if sender.send((label.clone(), line)).await.is_err() {
                                    return;
                                }
                            }
                        }
                        // The stream goes on behind what the engine could not read.
                        Some(Err(error)) if error.is_refused() => {
                            tracing::warn!("the logs of {label}: {error}");
                        }
                        Some(Err(error)) => break error,
                        None => {
                            for line in log.end() {
                                // Nobody listening any more is as good an end as any.
                                let _ = sender.send((label.clone(), line)).await;
                            }
                            return;
                        }
                    }
                }
            }
            // It went while the engine was away.
            Err(error) if error.is_not_found() && since.is_some() => return,
            Err(error) if error.is_refused() => {
                tracing::warn!("the logs of {label} cannot be shown: {error}");
                return;
            }
            Err(error) => error,
        };
        log.cut();
        if pause == FIRST_PAUSE {
            tracing::warn!("the logs of {label} go on when the engine gives them again: {error}");
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(LAST_PAUSE);
    }
}

/// What has been shown of a log.
#[derive(Debug, Default)]
struct Log {
    halves: [Half; 2],
}

/// What has been shown of one output, whose lines are in the order of their times.
#[derive(Debug, Default)]
struct Half {
    /// The time of the last line that was shown, and how many of that time were.
    last: Option<Timestamp>,
    shown: usize,
    /// The same when the connection was cut; the count goes down as they come again.
    resume: Option<Timestamp>,
    known: usize,
    /// When the line was written whose end had not come then, until it comes again.
    lost: Option<Timestamp>,
    /// The line under way: its time, as text too, and how much of a piece of it is still to come.
    time: Option<Timestamp>,
    stamp: Vec<u8>,
    room: usize,
    goes_on: bool,
    passes: bool,
    /// A part that is shown once more of the line has come: the last part before a cut comes again.
    held: Option<Line>,
}

impl Log {
    /// From when on the log is needed, if anything of it is known.
    fn since(&self) -> Option<Timestamp> {
        let last = self.halves.iter().filter_map(|half| half.last).max()?;
        let lost = self.halves.iter().filter_map(|half| half.lost).min();
        Some(lost.map_or(last, |lost| lost.min(last)))
    }

    /// Takes a line with its time; gives what is to be shown.
    fn take(&mut self, mut line: Line) -> impl Iterator<Item = Line> + use<> {
        let half = &mut self.halves[usize::from(line.source == Source::Stderr)];
        half.strip(&mut line);
        half.goes_on = line.partial;
        let (mut before, mut now) = (None, None);
        if !half.passes {
            before = half.held.take();
            if line.partial {
                half.held = Some(line);
            } else {
                half.note();
                now = Some(line);
            }
        }
        before.into_iter().chain(now)
    }

    /// The log has ended: what has no end gets none.
    fn end(&mut self) -> impl Iterator<Item = Line> + use<> {
        let held = self.halves.each_mut().map(|half| half.held.take());
        held.into_iter().flatten()
    }

    /// The connection was cut.
    fn cut(&mut self) {
        for half in &mut self.halves {
            if half.held.take().is_some() {
                half.lost = half.lost.or(half.time);
            }
            (half.resume, half.known) = (half.last, half.shown);
            half.goes_on = false;
        }
    }
}

impl Half {
    fn note(&mut self) {
        self.lost = None;
        let is_same = self.last.is_some() && self.last == self.time;
        self.shown = if is_same { self.shown + 1 } else { 1 };
        self.last = self.time.or(self.last);
    }

    /// Takes the times out of a line, or out of a part of one.
    fn strip(&mut self, line: &mut Line) {
        if !self.goes_on {
            self.begin(line);
        }
        if line.bytes.len() <= self.room {
            self.room -= line.bytes.len();
            return;
        }
        let mut text = Vec::with_capacity(line.bytes.len());
        let mut rest = &line.bytes[..];
        while !rest.is_empty() {
            if self.room == 0 {
                match rest.strip_prefix(&self.stamp[..]) {
                    Some(piece) => (rest, self.room) = (piece, CUT),
                    // A log driver that does not cut.
                    None => self.room = usize::MAX,
                }
            }
            let (piece, behind) = rest.split_at(rest.len().min(self.room));
            text.extend_from_slice(piece);
            self.room -= piece.len();
            rest = behind;
        }
        line.bytes = text.into();
    }

    fn begin(&mut self, line: &mut Line) {
        (self.time, self.room) = (None, usize::MAX);
        self.stamp.clear();
        let blank = line
            .bytes
            .iter()
            .take(STAMP + 10)
            .position(|&byte| byte == b' ');
        let stamp = blank.and_then(|blank| std::str::from_utf8(&line.bytes[..blank]).ok());
        if let (Some(blank), Some(time)) = (blank, stamp.and_then(Timestamp::parse)) {
            (self.time, self.room) = (Some(time), CUT);
            self.stamp.extend_from_slice(&line.bytes[..=blank]);
            line.bytes = line.bytes.slice(blank + 1..);
        }
        self.passes = match (self.time, self.resume) {
            (Some(time), Some(resume)) if time == resume && self.known > 0 => {
                self.known -= 1;
                true
            }
            (Some(time), Some(resume)) => time < resume,
            _ => false,
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: u8) -> String {
        format!("2026-11-26T19:15:{second:02}.810867401Z ")
    }

    fn line(source: Source, text: &str, partial: bool) -> Line {
        Line {
            source,
            bytes: text.to_owned().into(),
            partial,
        }
    }

    fn shown(log: &mut Log, lines: &[(Source, String)]) -> Vec<String> {
        let lines = lines.iter().map(|(source, text)| {
            let whole = text.strip_suffix('\n');
            line(*source, whole.unwrap_or(text), whole.is_none())
        });
        let shown = lines.flat_map(|line| log.take(line).collect::<Vec<_>>());
        shown
            .map(|line| String::from_utf8(line.bytes.to_vec()).unwrap())
            .collect()
    }

    #[test]
    fn each_line_is_shown_once_wherever_the_log_is_cut() {
        use Source::{Stderr, Stdout};
        // Several of one time, empty ones, and outputs that overlap.
        let log: Vec<(u8, Source, &str)> = vec![
            (1, Stdout, "a"),
            (1, Stdout, "a"),
            (1, Stderr, "b"),
            (2, Stdout, ""),
            (2, Stdout, "c"),
            (2, Stderr, "d"),
            (2, Stderr, "d"),
            (3, Stdout, "e"),
        ];
        let wire = |from: usize, to: usize, since: Option<Timestamp>| -> Vec<(Source, String)> {
            let time = |second| Timestamp::parse(at(second).trim()).unwrap();
            let lines = log[from..to].iter();
            lines
                .filter(|(second, ..)| since.is_none_or(|since| time(*second) >= since))
                .map(|(second, source, text)| (*source, format!("{}{text}\n", at(*second))))
                .collect()
        };
        let expected: Vec<&str> = log.iter().map(|(_, _, text)| *text).collect();
        for first in 0..=log.len() {
            for second in first..=log.len() {
                let mut seen = Log::default();
                let mut all = shown(&mut seen, &wire(0, first, None));
                // The next line has begun, and its source is cut within it.
                if let Some((second, source, _)) = log.get(first) {
                    all.extend(shown(&mut seen, &[(*source, format!("{}x", at(*second)))]));
                }
                for end in [second, log.len()] {
                    seen.cut();
                    let since = seen.since();
                    all.extend(shown(&mut seen, &wire(0, end, since)));
                }
                assert_eq!(all, expected, "cut at {first} and {second}");
            }
        }
    }

    #[test]
    fn a_line_whose_end_was_cut_off_is_asked_for_again() {
        use Source::{Stderr, Stdout};
        let mut log = Log::default();
        let begun = (Stdout, format!("{}beg", at(1)));
        assert!(shown(&mut log, std::slice::from_ref(&begun)).is_empty());
        assert_eq!(shown(&mut log, &[(Stderr, format!("{}x\n", at(2)))]), ["x"]);
        for _ in 0..2 {
            log.cut();
            assert_eq!(log.since(), Timestamp::parse(at(1).trim()));
        }
        let again = [
            (Stdout, format!("{}begun\n", at(1))),
            (Stderr, format!("{}x\n", at(2))),
        ];
        assert_eq!(shown(&mut log, &again), ["begun"]);
        assert_eq!(log.since(), Timestamp::parse(at(2).trim()));
        // At the end of the log it is all there is.
        assert!(shown(&mut log, &[begun]).is_empty());
        assert_eq!(log.end().count(), 1);
    }

    #[test]
    fn the_times_within_a_long_line_are_no_text() {
        let text = "x".repeat(2 * CUT + 5);
        let stamped = |text: &str| {
            let pieces = text.as_bytes().chunks(CUT);
            let pieces = pieces.map(|piece| at(1) + std::str::from_utf8(piece).unwrap());
            pieces.collect::<String>()
        };
        let mut log = Log::default();
        let whole = [(Source::Stdout, stamped(&text) + "\n")];
        assert_eq!(shown(&mut log, &whole), std::slice::from_ref(&text));
        // In parts, as it comes when it is longer than what is held.
        let long = stamped(&"y".repeat(5 * CUT));
        let (part, rest) = long.split_at(MAX_LINE);
        let parts = [
            (Source::Stdout, part.to_owned()),
            (Source::Stdout, format!("{rest}\n")),
        ];
        let lengths = shown(&mut log, &parts)
            .iter()
            .map(String::len)
            .collect::<Vec<_>>();
        assert_eq!(lengths, [4 * CUT, CUT]);
        // A driver that does not cut, and one that writes no time.
        for sent in [at(2) + &text + "\n", text.clone() + "\n"] {
            let shown = shown(&mut log, &[(Source::Stdout, sent)]);
            assert_eq!(shown, std::slice::from_ref(&text));
        }
    }
}
