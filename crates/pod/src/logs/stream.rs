//! A log whose lines come from the engine over its API: for engines on other hosts, and for drivers whose files are not read.
//!
//! Owns the reading of such a stream, and where it goes on after a break: the log file's last lines have times, so the engine is asked for
//! what it has since the first of them, and what the file has already is passed over, line by line. Refuses to know the engine's files.
//!
//! It is less exact than the files in two ways. Older engines (20.10) leave out each line that is older than the time asked for, so a line
//! that they have out of the order of times may be lost in a break: the pieces of a long line, which all have the time of the first. And
//! where a piece of a line ends can only be told by its length and the repeated time.

use std::collections::HashMap;
use std::future::pending;
use std::io;
use std::sync::Arc;

use berth_docker::api::LogsOptions;
use berth_docker::model::Timestamp;
use berth_docker::{Docker, Frame, Source};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};

use super::checkpoint::digest;
use super::line::{self, Encoder};
use super::record::{Record, Stream};
use super::sink::Sink;
use super::tail::{FileError, Places};
use super::task::{Command, Finishing, Retry, reply_to_all};
use super::{Error, Following, Shared};

/// Lines that are gathered before they are written, in bytes, if they come that fast.
const BATCH: usize = 64 * 1024;
/// How many of the file's last lines are compared with what the engine has after a break. A break is between two lines; more than one
/// matters where times are out of order.
const KNOWN_LINES: usize = 1000;
/// Where the engine cuts a long line (`defaultBufSize` in `daemon/logger/copier.go` of moby), in bytes.
const CUT: usize = 16 * 1024;
/// The longest text that is gathered, in bytes: for drivers that do not cut.
const LONGEST: usize = 1024 * 1024;
/// The longest time in front of a line, in bytes; with nine digits of a second it has 30.
const LONGEST_TIME: usize = 40;

/// The file that is written to. Everything about it blocks.
#[derive(Debug)]
pub(super) struct Log {
    at: Arc<Places>,
    sink: Option<Sink>,
}

/// What the file ends with.
#[derive(Debug, Default)]
struct Known {
    /// The times of the earliest and the latest line of these.
    times: Option<(i64, i64)>,
    /// How often each line is there, by its digest.
    lines: HashMap<u64, usize>,
    /// Whether the engine's lines have come to these.
    reached: bool,
    /// The beginning of a line, which a kill has cut.
    torn: Vec<u8>,
}

impl Log {
    /// Opens the file, and makes it if it is not there.
    pub(super) fn open(at: Arc<Places>) -> Result<Self, FileError> {
        let mut log = Self { at, sink: None };
        log.reopen()?;
        Ok(log)
    }

    fn failed(&self) -> impl Fn(io::Error) -> FileError + use<> {
        let at = Arc::clone(&self.at);
        move |source| FileError::Write {
            path: at.log.clone(),
            source,
        }
    }

    fn reopen(&mut self) -> Result<(), FileError> {
        let failed = self.failed();
        let there = match &self.sink {
            Some(sink) => sink.is_at(&self.at.log).map_err(&failed)?,
            None => false,
        };
        if !there {
            self.sink = Some(Sink::open(&self.at.log).map_err(failed)?);
        }
        Ok(())
    }

    fn append(&mut self, bytes: &[u8]) -> Result<(), FileError> {
        let failed = self.failed();
        let appended = match &mut self.sink {
            Some(sink) => sink.append(bytes),
            None => Err(io::Error::other("it is not open")),
        };
        if appended.is_err() {
            self.sink = None;
        }
        appended.map_err(failed)
    }

    /// What the file has, to be passed over.
    fn known(&mut self) -> Result<Known, FileError> {
        let failed = self.failed();
        if self.sink.is_none() {
            self.reopen()?;
        }
        let mut known = Known::default();
        let Some(sink) = &self.sink else {
            return Ok(known);
        };
        let tail = sink.tail().map_err(&failed)?;
        let rest = usize::try_from(sink.length().saturating_sub(tail.end)).unwrap_or(LONGEST);
        known.torn = vec![0; rest.min(LONGEST)];
        let read = sink.read_at(&mut known.torn, tail.end).map_err(&failed)?;
        known.torn.truncate(read);
        known.add(tail.lines());
        if known.count() < KNOWN_LINES
            && let Some(rotated) = Sink::newest_rotated(&self.at.log).map_err(&failed)?
        {
            known.add(rotated.tail().map_err(&failed)?.lines());
        }
        Ok(known)
    }
}

impl Known {
    fn count(&self) -> usize {
        self.lines.values().sum()
    }

    fn add<'a>(&mut self, lines: impl Iterator<Item = &'a [u8]>) {
        for line in lines.take(KNOWN_LINES - self.count().min(KNOWN_LINES)) {
            let Some(record) = line.split_last().and_then(|(_, line)| line::parse(line)) else {
                continue;
            };
            let (earliest, latest) = self.times.unwrap_or((record.time, record.time));
            self.times = Some((earliest.min(record.time), latest.max(record.time)));
            *self.lines.entry(digest(line)).or_default() += 1;
        }
    }

    /// Adds to `out` what of a line the file lacks.
    fn pass(&mut self, line: &[u8], time: i64, out: &mut Vec<u8>) {
        if let Some(count) = self.lines.get_mut(&digest(line)) {
            self.reached = true;
            *count -= 1;
            if *count == 0 {
                self.lines.remove(&digest(line));
            }
            return;
        }
        // The engine's order is the file's. What it has before the known lines the file has too.
        if !self.reached && self.times.is_some_and(|(_, latest)| time <= latest) {
            return;
        }
        let torn = std::mem::take(&mut self.torn);
        match line.strip_prefix(torn.as_slice()) {
            Some(rest) => out.extend_from_slice(rest),
            None => {
                // What was cut cannot be completed any more.
                out.push(b'\n');
                out.extend_from_slice(line);
            }
        }
    }
}

/// Why following stopped for now.
enum Pause {
    /// The stream has ended.
    Ended,
    /// It is to be read to its end, without waiting for more.
    Finish,
    /// Nobody can give commands any more.
    Stop,
}

/// What is done for one container while commands come in.
pub(super) struct Follower {
    docker: Docker,
    tty: bool,
    places: Arc<Places>,
    /// `None` while a thread has it, and after that thread has panicked.
    log: Option<Log>,
    shared: Arc<Shared>,
    commands: mpsc::Receiver<Command>,
    finishing: Finishing,
    /// Whether the container was started: before that a stream ends at once.
    started: bool,
    done: bool,
}

/// Follows a container's log until finished, or until the sender of commands is dropped.
pub(super) async fn follow(mut follower: Follower) {
    let places = Arc::clone(&follower.places);
    let container = places.container.as_str();
    let mut retry = Retry::default();
    loop {
        let mut pause = None;
        if follower.started || follower.done {
            match follower.read(container).await {
                Ok(Pause::Finish) => continue,
                Ok(Pause::Stop) => return,
                Ok(Pause::Ended) if follower.done => {
                    reply_to_all(&mut follower.finishing, || Ok(()));
                    return;
                }
                Ok(Pause::Ended) => {
                    // That of a container that has died. Of one that runs the engine should not have ended it.
                    match follower.docker.inspect_container(container).await {
                        Ok(container) if container.state.running => {
                            pause = Some(Instant::now() + retry.failed());
                        }
                        Ok(_) => follower.started = false,
                        Err(error) if error.is_not_found() => follower.started = false,
                        Err(_) => pause = Some(Instant::now() + retry.failed()),
                    }
                }
                Err(error) => {
                    if !retry.is_failing() {
                        tracing::warn!(
                            container,
                            error = &error as &dyn std::error::Error,
                            "the log is held up; it goes on where it is when the engine gives it again"
                        );
                    }
                    let mut error = Some(error);
                    reply_to_all(&mut follower.finishing, || {
                        Err(error.take().unwrap_or(Error::HeldUp))
                    });
                    pause = Some(Instant::now() + retry.failed());
                }
            }
            if pause.is_none() {
                retry.succeeded();
            }
        }
        let command = match pause {
            None => follower.commands.recv().await,
            Some(at) => tokio::select! {
                command = follower.commands.recv() => command,
                () = sleep_until(at) => continue,
            },
        };
        if !follower.obey(command).await {
            return;
        }
    }
}

impl Follower {
    /// A follower of a container that has not been started.
    pub(super) fn new(
        docker: Docker,
        tty: bool,
        places: Arc<Places>,
        shared: Arc<Shared>,
        commands: mpsc::Receiver<Command>,
    ) -> Self {
        Self {
            docker,
            tty,
            places,
            log: None,
            shared,
            commands,
            finishing: Finishing::new(),
            started: false,
            done: false,
        }
    }

    /// With its file open.
    pub(super) fn with(self, log: Log) -> Self {
        Self {
            log: Some(log),
            ..self
        }
    }

    /// Of a container that was started, and has died if someone waits for the end of its log.
    pub(super) fn running(self, finishing: Finishing) -> Self {
        Self {
            started: true,
            done: !finishing.is_empty(),
            finishing,
            ..self
        }
    }

    /// Carries out a command; `false` when there will be none any more.
    async fn obey(&mut self, command: Option<Command>) -> bool {
        match command {
            // Whoever asked may have gone.
            Some(Command::Attach(reply)) => drop(reply.send(Ok(Following::Stream))),
            Some(Command::Reopen(reply)) => drop(reply.send(self.blocking(Log::reopen).await)),
            Some(Command::Started) => self.started = true,
            Some(Command::Finish(reply)) => {
                self.finishing.push(reply);
                self.done = true;
            }
            None => return false,
        }
        true
    }

    /// Reads from where the file ends to where the stream ends.
    async fn read(&mut self, container: &str) -> Result<Pause, Error> {
        let mut known = self.blocking(Log::known).await?;
        let options = LogsOptions {
            timestamps: true,
            follow: !self.done,
            since: known
                .times
                .map(|(earliest, _)| Timestamp::from_unix_nanos(earliest)),
            tty: Some(self.tty),
            ..Default::default()
        };
        let mut frames = self.docker.logs(container, &options).await?;
        let (mut lines, mut encoder) = (Lines::default(), Encoder::default());
        let (mut line, mut out) = (Vec::new(), Vec::new());
        let done = self.done;
        loop {
            let waiting = async {
                // More is gathered only while it is there already.
                if out.is_empty() {
                    pending().await
                }
            };
            let next = tokio::select! {
                biased;
                command = self.commands.recv() => Next::Command(command),
                frame = frames.next(), if out.len() < BATCH => Next::Frame(frame),
                () = waiting => Next::Write,
            };
            let end = match next {
                Next::Command(command) => {
                    self.write(&mut out).await?;
                    if !self.obey(command).await {
                        return Ok(Pause::Stop);
                    }
                    if self.done != done {
                        return Ok(Pause::Finish);
                    }
                    continue;
                }
                Next::Write => {
                    self.write(&mut out).await?;
                    continue;
                }
                Next::Frame(Some(Ok(frame))) => {
                    lines.feed(&frame, |record| {
                        line.clear();
                        encoder.encode(record, &mut line);
                        known.pass(&line, record.time, &mut out);
                    });
                    continue;
                }
                Next::Frame(Some(Err(error))) => Err(error),
                Next::Frame(None) => Ok(()),
            };
            if end.is_ok() && done {
                // Only a whole log ends with what has no newline; from one that was cut it would be a piece of a line.
                lines.finish(|record| {
                    line.clear();
                    encoder.encode(record, &mut line);
                    known.pass(&line, record.time, &mut out);
                });
            }
            self.write(&mut out).await?;
            end?;
            return Ok(Pause::Ended);
        }
    }

    async fn write(&mut self, out: &mut Vec<u8>) -> Result<(), Error> {
        if out.is_empty() {
            return Ok(());
        }
        let bytes = std::mem::take(out);
        self.blocking(move |log| log.append(&bytes)).await
    }

    async fn blocking<T: Send + 'static>(
        &mut self,
        work: impl FnOnce(&mut Log) -> Result<T, FileError> + Send + 'static,
    ) -> Result<T, Error> {
        let (log, places) = (self.log.take(), Arc::clone(&self.places));
        let done = self
            .shared
            .blocking(move || -> Result<_, FileError> {
                let mut log = match log {
                    Some(log) => log,
                    None => Log::open(places)?,
                };
                let result = work(&mut log);
                Ok((log, result))
            })
            .await?;
        let (log, result) = done?;
        self.log = Some(log);
        Ok(result?)
    }
}

/// What a follower hears next.
enum Next {
    Command(Option<Command>),
    Frame(Option<Result<Frame, berth_docker::Error>>),
    /// Nothing more for now.
    Write,
}

/// Takes a stream of `<time> <text>\n` apart, for each of a container's streams.
#[derive(Debug, Default)]
struct Lines {
    stdout: Half,
    stderr: Half,
}

/// What has come of a line of one stream.
#[derive(Debug, Default)]
struct Half {
    /// The time and its blank, as far as they have come; all of a line whose time is none, up to its newline.
    stamp: Vec<u8>,
    time: Option<i64>,
    text: Vec<u8>,
    /// At the place where the engine may have cut: how much of the time, repeated, has come.
    repeated: usize,
}

impl Lines {
    fn feed(&mut self, frame: &Frame, each: impl FnMut(&Record<'_>)) {
        match frame.source {
            Source::Stderr => self.stderr.feed(Stream::Stderr, &frame.bytes, each),
            Source::Stdout | Source::Stdin => self.stdout.feed(Stream::Stdout, &frame.bytes, each),
        }
    }

    fn finish(&mut self, mut each: impl FnMut(&Record<'_>)) {
        for (half, stream) in [
            (&mut self.stdout, Stream::Stdout),
            (&mut self.stderr, Stream::Stderr),
        ] {
            half.settle();
            if let Some(time) = half.time.take()
                && !half.text.is_empty()
            {
                each(&Record {
                    stream,
                    time,
                    text: &half.text,
                    partial: true,
                });
            }
            *half = Half::default();
        }
    }
}

impl Half {
    fn feed(&mut self, stream: Stream, mut bytes: &[u8], mut each: impl FnMut(&Record<'_>)) {
        while let Some((&byte, rest)) = bytes.split_first() {
            let Some(time) = self.time else {
                self.begin(byte);
                bytes = rest;
                continue;
            };
            if self.text.len() == CUT && self.repeated < self.stamp.len() {
                if self.stamp.get(self.repeated) == Some(&byte) {
                    self.repeated += 1;
                    bytes = rest;
                    if self.repeated == self.stamp.len() {
                        each(&Record {
                            stream,
                            time,
                            text: &self.text,
                            partial: true,
                        });
                        self.text.clear();
                        self.repeated = 0;
                    }
                    continue;
                }
                self.settle();
            }
            let room = match self.text.len() {
                ..CUT => CUT - self.text.len(),
                have => LONGEST.saturating_sub(have).max(1),
            };
            let window = &bytes[..bytes.len().min(room)];
            let end = window.iter().position(|&byte| byte == b'\n');
            let taken = end.unwrap_or(window.len());
            self.text.extend_from_slice(&window[..taken]);
            bytes = &bytes[taken + usize::from(end.is_some())..];
            if end.is_some() || self.text.len() >= LONGEST {
                each(&Record {
                    stream,
                    time,
                    text: &self.text,
                    partial: end.is_none(),
                });
                self.text.clear();
            }
            if end.is_some() {
                (self.time, self.repeated) = (None, 0);
                self.stamp.clear();
            }
        }
    }

    /// Takes a byte of the time.
    fn begin(&mut self, byte: u8) {
        if byte == b'\n' {
            // No line of the engine's: each has a time.
            tracing::warn!("the engine gave a line without a time; it is left out");
            self.stamp.clear();
            return;
        }
        if self.stamp.len() <= LONGEST_TIME {
            self.stamp.push(byte);
            if byte == b' ' {
                let time = self.stamp.split_last().map(|(_, time)| time);
                let time = time.and_then(|time| std::str::from_utf8(time).ok());
                self.time = time.and_then(Timestamp::parse).map(Timestamp::unix_nanos);
            }
        }
    }

    /// What looked like a repeated time is text.
    fn settle(&mut self) {
        let repeated = std::mem::take(&mut self.repeated);
        self.text.extend_from_slice(&self.stamp[..repeated]);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const TIME: &str = "2026-11-26T19:15:45.810867401Z ";

    fn parse(pieces: &[&[u8]]) -> Vec<(i64, Vec<u8>, bool)> {
        let (mut lines, mut records) = (Lines::default(), Vec::new());
        let mut each =
            |record: &Record<'_>| records.push((record.time, record.text.to_vec(), record.partial));
        for piece in pieces {
            let frame = Frame {
                source: Source::Stdout,
                bytes: piece.to_vec().into(),
            };
            lines.feed(&frame, &mut each);
        }
        lines.finish(&mut each);
        records
    }

    /// What the engine sends for these lines, the last without a newline if it is empty.
    fn send(lines: &[Vec<u8>]) -> Vec<u8> {
        let mut sent = Vec::new();
        for (number, line) in lines.iter().enumerate() {
            for piece in line
                .chunks(CUT)
                .chain((line.len() % CUT == 0).then_some(&[][..]))
            {
                let time = 1_795_720_545_810_867_401 + i64::try_from(number).unwrap();
                sent.extend(format!("{} ", Timestamp::from_unix_nanos(time)).bytes());
                sent.extend(piece);
            }
            sent.push(b'\n');
        }
        sent
    }

    #[test]
    fn lines_are_taken_apart_at_every_split() {
        let sent = [
            TIME.as_bytes(),
            b"a b\n",
            TIME.as_bytes(),
            b"\n",
            TIME.as_bytes(),
            b"end",
        ]
        .concat();
        let time = 1_795_720_545_810_867_401;
        let expected = vec![
            (time, b"a b".to_vec(), false),
            (time, Vec::new(), false),
            (time, b"end".to_vec(), true),
        ];
        for at in 0..=sent.len() {
            assert_eq!(
                parse(&[&sent[..at], &sent[at..]]),
                expected,
                "split at {at}"
            );
        }
    }

    #[test]
    fn pieces_of_a_long_line_are_told_by_the_repeated_time() {
        for (length, pieces) in [(CUT - 1, 1), (CUT, 2), (CUT + 1, 2), (3 * CUT, 4)] {
            let line = vec![b'x'; length];
            let sent = send(&[line.clone(), b"next".to_vec()]);
            for at in (CUT..CUT + 100).chain([0]) {
                let at = at.min(sent.len());
                let records = parse(&[&sent[..at], &sent[at..]]);
                assert_eq!(records.len(), pieces + 1, "{length} split at {at}");
                let text: Vec<u8> = records[..pieces]
                    .iter()
                    .flat_map(|(_, text, _)| text.clone())
                    .collect();
                assert_eq!(text, line);
                assert!(records[..pieces - 1].iter().all(|(_, _, partial)| *partial));
                assert_eq!(
                    records[pieces - 1..]
                        .iter()
                        .filter(|(_, _, partial)| *partial)
                        .count(),
                    0
                );
            }
        }
        // A driver that does not cut, and a text that has half of its own time where a cut could be.
        let mut line = vec![b'x'; CUT];
        line.extend(&TIME.as_bytes()[..20]);
        line.extend(b"and more");
        let sent = [TIME.as_bytes(), &line, b"\n"].concat();
        assert_eq!(parse(&[&sent]), [(1_795_720_545_810_867_401, line, false)]);
    }

    #[test]
    fn lines_without_a_time_are_left_out_and_lines_without_an_end_are_bounded() {
        let sent = [
            b"no time at all\n".as_slice(),
            &[b'x'; 100],
            b"\n",
            TIME.as_bytes(),
            b"ok\n",
        ]
        .concat();
        assert_eq!(parse(&[&sent]).len(), 1);
        let sent = [TIME.as_bytes(), &vec![b'x'; 3 * LONGEST]].concat();
        let records = parse(&[&sent]);
        assert_eq!(
            records.iter().map(|(_, text, _)| text.len()).sum::<usize>(),
            3 * LONGEST
        );
        assert!(
            records
                .iter()
                .all(|(_, text, partial)| text.len() <= LONGEST && *partial)
        );
    }

    proptest! {
        #[test]
        fn whatever_a_file_has_its_continuation_has_each_line_once(
            // Out of order by up to four lines, which is less than the window.
            late in prop::collection::vec(0_i64..40, 1..40),
            cut in any::<prop::sample::Index>(),
            window in 5_usize..20,
        ) {
            let mut whole = Vec::new();
            let mut lines = Vec::new();
            for (number, late) in (0_i64..).zip(late) {
                let (text, time) = (number.to_string(), 10 * number + late);
                let record = Record { stream: Stream::Stdout, time, text: text.as_bytes(), partial: false };
                let mut line = Vec::new();
                Encoder::default().encode(&record, &mut line);
                whole.extend_from_slice(&line);
                lines.push((time, line));
            }
            let mut file = whole[..cut.index(whole.len() + 1)].to_vec();
            let end = file.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
            let mut known = Known { torn: file[end..].to_vec(), ..Default::default() };
            let has: Vec<&[u8]> = file[..end].split_inclusive(|byte| *byte == b'\n').collect();
            known.add(has.iter().rev().take(window).copied());
            // An engine of today begins with the first line that is not older.
            let since = known.times.map_or(i64::MIN, |(earliest, _)| earliest);
            let mut added = Vec::new();
            for (time, line) in lines.iter().skip_while(|(time, _)| *time < since) {
                known.pass(line, *time, &mut added);
            }
            file.extend(added);
            prop_assert_eq!(String::from_utf8_lossy(&file), String::from_utf8_lossy(&whole));
        }
    }
}
