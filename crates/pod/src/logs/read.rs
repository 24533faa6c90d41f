//! Log files read back, for those who ask for a container's log.
//!
//! Owns which lines are wanted, how they are printed, and the way from a file to the one that takes its place. Reads CRI's lines, and those of
//! Docker's `json-file` driver, to which cri-dockerd made links. Refuses to know whether a container runs: it is told that nothing more comes
//! ([`Reader::finish`]).

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use berth_docker::model::Timestamp;
use bytes::Bytes;
use serde::Deserialize;
use tokio::sync::Notify;

use super::checkpoint::FileId;
use super::line;
use super::record::{Record, Stream};
use super::{Error, FileError, Shared};

/// What is read in one go, in bytes.
const CHUNK: usize = 64 * 1024;
/// The longest line of a file, in bytes: 16 KiB as JSON may be six times as long, and more for drivers that do not cut.
const LONGEST: usize = 1024 * 1024;
/// How often is looked where the host gives no inotify watch.
const UNWATCHED: Duration = Duration::from_secs(1);

/// Which part of a log is read, and how it is printed. The default is all of it, without times.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ReadOptions {
    /// Also what is written later.
    pub follow: bool,
    /// Only so many of the last lines; a line that was written in pieces is one.
    pub tail: Option<u64>,
    /// Only lines of this time or later.
    pub since: Option<Timestamp>,
    /// Only so many bytes, as printed. They may end within a line.
    pub limit_bytes: Option<u64>,
    /// Each line with its time in front: RFC 3339 with nanoseconds, and a blank.
    pub timestamps: bool,
    /// Only standard output, or only standard error.
    pub stream: Option<Stream>,
}

/// A log that is being read.
#[derive(Debug)]
pub struct Reader {
    shared: Arc<Shared>,
    path: PathBuf,
    file: Arc<File>,
    id: FileId,
    /// Where the next read begins.
    next: u64,
    /// Whether another file has taken this one's place.
    left: bool,
    follow: bool,
    printer: Printer,
    wake: Arc<Notify>,
}

impl Reader {
    pub(super) async fn open(
        shared: Arc<Shared>,
        path: &Path,
        options: ReadOptions,
    ) -> Result<Self, Error> {
        let at = path.to_owned();
        let tail = options.tail;
        let opened = shared.blocking(move || {
            let file = File::open(at)?;
            let metadata = file.metadata()?;
            let next = match tail {
                Some(lines) => tail_start(&file, metadata.len(), lines)?,
                None => 0,
            };
            Ok((Arc::new(file), FileId::of(&metadata), next))
        });
        let (file, id, next) = opened.await?.map_err(failed(path))?;
        Ok(Self {
            shared,
            path: path.to_owned(),
            file,
            id,
            next,
            left: false,
            follow: options.follow,
            printer: Printer::new(options),
            wake: Arc::default(),
        })
    }

    /// Nothing more will be written: what there is comes, and then the end. To be called once the container's log is finished.
    pub fn finish(&mut self) {
        self.follow = false;
    }

    /// The next piece, of whole lines; `None` at the end. Cancel safe: a dropped call loses nothing.
    ///
    /// When the file was renamed and a new one is there, reading goes on in the new one. Of files that came and went in between, because
    /// the pieces were taken too slowly, nothing is read.
    ///
    /// # Errors
    /// When the file cannot be read. The next call tries again.
    pub async fn next(&mut self) -> Option<Result<Bytes, Error>> {
        loop {
            if self.printer.is_done() {
                return None;
            }
            let watched = self.follow && self.arm();
            match self.read().await {
                Err(error) => return Some(Err(error)),
                Ok(Some(bytes)) if bytes.is_empty() => {}
                Ok(Some(bytes)) => return Some(Ok(bytes)),
                Ok(None) if !self.follow => return None,
                Ok(None) if watched => self.wake.notified().await,
                Ok(None) => tokio::time::sleep(UNWATCHED).await,
            }
        }
    }

    fn arm(&self) -> bool {
        let dir = self.path.parent().unwrap_or(&self.path);
        match &self.shared.watch {
            Some(watch) => watch.arm(dir, &self.wake).is_ok(),
            None => false,
        }
    }

    /// Reads once; `None` when there is nothing more for now.
    async fn read(&mut self) -> Result<Option<Bytes>, Error> {
        let (file, next) = (Arc::clone(&self.file), self.next);
        let read = self.shared.blocking(move || {
            let mut chunk = vec![0; CHUNK];
            let read = file.read_at(&mut chunk, next)?;
            chunk.truncate(read);
            Ok(chunk)
        });
        let chunk = read.await?.map_err(failed(&self.path))?;
        if !chunk.is_empty() {
            // Nothing is waited for from here on, so all of this happens or nothing.
            self.next += chunk.len() as u64;
            let mut out = Vec::new();
            self.printer.feed(&chunk, &mut out);
            return Ok(Some(out.into()));
        }
        let path = self.path.clone();
        let (id, left) = (self.id, self.left);
        let looked = self.shared.blocking(move || {
            let metadata = match fs::metadata(&path) {
                Ok(metadata) => metadata,
                // Renamed, and the new one is not there yet.
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
                Err(error) => return Err(error),
            };
            if FileId::of(&metadata) == id {
                return Ok(None);
            }
            // The old one is read to its end once more before it is left: its last lines came before the new file.
            let file = if left { Some(File::open(&path)?) } else { None };
            Ok(Some(file))
        });
        match looked.await?.map_err(failed(&self.path))? {
            None => Ok(None),
            Some(None) => {
                self.left = true;
                Ok(Some(Bytes::new()))
            }
            Some(Some(file)) => {
                self.id = FileId::of(&file.metadata().map_err(failed(&self.path))?);
                self.file = Arc::new(file);
                (self.next, self.left) = (0, false);
                self.printer.forget_torn();
                Ok(Some(Bytes::new()))
            }
        }
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        if let Some(watch) = &self.shared.watch {
            watch.disarm(&self.wake);
        }
    }
}

fn failed(path: &Path) -> impl Fn(io::Error) -> Error + use<> {
    let path = path.to_owned();
    move |source| {
        Error::File(FileError::Read {
            path: path.clone(),
            source,
        })
    }
}

/// A line of `json-file`.
#[derive(Deserialize)]
struct Json {
    #[serde(default)]
    log: String,
    stream: String,
    time: String,
}

/// Makes what is wanted of the lines of a file.
#[derive(Debug)]
struct Printer {
    since: Option<i64>,
    left: Option<u64>,
    timestamps: bool,
    stream: Option<Stream>,
    /// The beginning of a line whose end has not been read.
    torn: Vec<u8>,
    /// Whether a line that is too long is being passed over.
    overlong: bool,
    /// Whether what was printed last was a whole line.
    at_start: bool,
}

impl Printer {
    fn new(options: ReadOptions) -> Self {
        Self {
            since: options.since.map(Timestamp::unix_nanos),
            left: options.limit_bytes,
            timestamps: options.timestamps,
            stream: options.stream,
            torn: Vec::new(),
            overlong: false,
            at_start: true,
        }
    }

    /// Whether as many bytes were printed as were asked for.
    fn is_done(&self) -> bool {
        self.left == Some(0)
    }

    /// The file has ended: what has no end gets none.
    fn forget_torn(&mut self) {
        self.torn.clear();
        self.overlong = false;
    }

    fn feed(&mut self, bytes: &[u8], out: &mut Vec<u8>) {
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            let Some((b'\n', end)) = piece.split_last() else {
                if self.torn.len() + piece.len() > LONGEST {
                    self.overlong = true;
                    self.torn.clear();
                } else if !self.overlong {
                    self.torn.extend_from_slice(piece);
                }
                return;
            };
            if std::mem::take(&mut self.overlong) {
                tracing::warn!("a line of a log file is longer than a megabyte; it is left out");
            } else if self.torn.is_empty() {
                self.line(end, out);
            } else {
                let mut line = std::mem::take(&mut self.torn);
                line.extend_from_slice(end);
                self.line(&line, out);
            }
        }
    }

    fn line(&mut self, line: &[u8], out: &mut Vec<u8>) {
        if let Some(record) = line::parse(line) {
            return self.record(&record, out);
        }
        let parsed = serde_json::from_slice::<Json>(line).ok().and_then(|json| {
            let time = Timestamp::parse(&json.time)?.unix_nanos();
            let stream = match json.stream.as_str() {
                "stdout" => Stream::Stdout,
                "stderr" => Stream::Stderr,
                _ => return None,
            };
            Some((json.log, stream, time))
        });
        match parsed {
            Some((text, stream, time)) => {
                let whole = text.strip_suffix('\n');
                let record = Record {
                    stream,
                    time,
                    text: whole.unwrap_or(&text).as_bytes(),
                    partial: whole.is_none(),
                };
                self.record(&record, out);
            }
            None => tracing::warn!("a line of a log file is in no known format; it is left out"),
        }
    }

    fn record(&mut self, record: &Record<'_>, out: &mut Vec<u8>) {
        if self.since.is_some_and(|since| record.time < since)
            || self.stream.is_some_and(|stream| record.stream != stream)
        {
            return;
        }
        if self.timestamps && self.at_start {
            let time = Timestamp::from_unix_nanos(record.time);
            let mut text = time.to_string();
            if time.subsec_nanos() == 0 {
                text.pop();
                text.push_str(".000000000Z");
            }
            text.push(' ');
            self.print(text.as_bytes(), out);
        }
        self.print(record.text, out);
        if !record.partial {
            self.print(b"\n", out);
        }
        self.at_start = !record.partial;
    }

    fn print(&mut self, bytes: &[u8], out: &mut Vec<u8>) {
        let Some(left) = &mut self.left else {
            return out.extend_from_slice(bytes);
        };
        let fits = usize::try_from(*left)
            .unwrap_or(usize::MAX)
            .min(bytes.len());
        out.extend_from_slice(&bytes[..fits]);
        *left -= fits as u64;
    }
}

/// Where the last `lines` lines of a file begin. Pieces of a line count with its end; what has no newline yet counts for nothing.
fn tail_start(file: &File, length: u64, lines: u64) -> io::Result<u64> {
    if lines == 0 {
        return Ok(length);
    }
    let (mut end, mut after) = (length, Vec::new());
    let (mut counted, mut newest) = (0, true);
    loop {
        let start = end.saturating_sub(CHUNK as u64);
        let mut bytes = vec![0; usize::try_from(end - start).unwrap_or(CHUNK)];
        file.read_exact_at(&mut bytes, start)?;
        bytes.append(&mut after);
        // From the last line to the first that is whole.
        let mut rest = bytes.len();
        if newest {
            // Behind the last newline there is no line yet.
            match bytes.iter().rposition(|byte| *byte == b'\n') {
                Some(at) => rest = at + 1,
                None if start > 0 && bytes.len() < LONGEST => {
                    (end, after) = (start, bytes);
                    continue;
                }
                None => return Ok(start),
            }
        }
        while let Some(newline) = rest.checked_sub(1) {
            let begin = match bytes[..newline].iter().rposition(|byte| *byte == b'\n') {
                Some(at) => at + 1,
                None if start == 0 => 0,
                None => break,
            };
            // The last piece of all ends a line too, though it says otherwise.
            if newest || !is_partial(&bytes[begin..newline]) {
                if counted == lines {
                    return Ok(start + rest as u64);
                }
                counted += 1;
            }
            (newest, rest) = (false, begin);
        }
        bytes.truncate(rest);
        if start == 0 {
            return Ok(0);
        }
        if bytes.len() > LONGEST {
            return Ok(start + rest as u64);
        }
        (end, after) = (start, bytes);
    }
}

fn is_partial(line: &[u8]) -> bool {
    match line::parse(line) {
        Some(record) => record.partial,
        // One of JSON's ends with `\n"` before the stream's name.
        None => line.starts_with(b"{") && !line.windows(3).any(|part| part == br#"\n""#),
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use proptest::prelude::*;

    use super::*;

    const LINES: &str = "2026-11-26T19:15:41.000000000Z stdout F one\n\
        2026-11-26T19:15:42.000000001Z stderr P tw\n\
        2026-11-26T19:15:42.000000001Z stderr F o\n\
        2026-11-26T19:15:43.500000000Z stdout F \n\
        2026-11-26T19:15:44.000000000Z stdout P end\n";

    fn print(lines: &str, options: ReadOptions) -> String {
        let mut whole = Vec::new();
        Printer::new(options.clone()).feed(lines.as_bytes(), &mut whole);
        for at in 0..lines.len() {
            let (mut printer, mut out) = (Printer::new(options.clone()), Vec::new());
            printer.feed(&lines.as_bytes()[..at], &mut out);
            printer.feed(&lines.as_bytes()[at..], &mut out);
            assert_eq!(out, whole, "split at {at}");
        }
        String::from_utf8(whole).unwrap()
    }

    #[test]
    fn lines_are_printed_as_they_were_written() {
        let options = ReadOptions::default();
        assert_eq!(print(LINES, options.clone()), "one\ntwo\n\nend");
        let stdout = ReadOptions {
            stream: Some(Stream::Stdout),
            ..options.clone()
        };
        assert_eq!(print(LINES, stdout), "one\n\nend");
        let since = ReadOptions {
            since: Timestamp::parse("2026-11-26T19:15:42.000000002Z"),
            ..options.clone()
        };
        assert_eq!(print(LINES, since), "\nend");
        let times = ReadOptions {
            timestamps: true,
            ..options.clone()
        };
        let expected = "2026-11-26T19:15:41.000000000Z one\n2026-11-26T19:15:42.000000001Z two\n\
            2026-11-26T19:15:43.500000000Z \n2026-11-26T19:15:44.000000000Z end";
        assert_eq!(print(LINES, times), expected);
        for limit in 0..12 {
            let limited = ReadOptions {
                limit_bytes: Some(limit),
                ..options.clone()
            };
            let all = "one\ntwo\n\nend";
            assert_eq!(
                print(LINES, limited),
                all[..all.len().min(usize::try_from(limit).unwrap())]
            );
        }
    }

    #[test]
    fn dockers_json_is_read_and_anything_else_is_left_out() {
        let lines = "{\"log\":\"a \\u003c\\n\",\"stream\":\"stdout\",\"time\":\"2026-11-26T19:15:41.5Z\"}\n\
            not a line\n{\"log\":\"b\",\"stream\":\"stderr\",\"time\":\"2026-11-26T19:15:42Z\"}\n";
        assert_eq!(print(lines, ReadOptions::default()), "a <\nb");
    }

    #[test]
    fn a_line_of_megabytes_costs_no_memory() {
        let (mut printer, mut out) = (Printer::new(ReadOptions::default()), Vec::new());
        for _ in 0..100 {
            printer.feed(&[b'x'; CHUNK], &mut out);
            assert!(printer.torn.len() <= LONGEST);
        }
        printer.feed(b"\n", &mut out);
        printer.feed(LINES.as_bytes(), &mut out);
        assert_eq!(out, b"one\ntwo\n\nend");
    }

    fn start_of_tail(content: &[u8], lines: u64) -> u64 {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(content).unwrap();
        tail_start(&file, content.len() as u64, lines).unwrap()
    }

    #[test]
    fn the_last_lines_are_counted_and_those_in_pieces_are_one() {
        let start = |line: usize| {
            LINES
                .split_inclusive('\n')
                .take(line)
                .map(str::len)
                .sum::<usize>() as u64
        };
        for (lines, first) in [(0, 5), (1, 4), (2, 3), (3, 1), (4, 0), (5, 0)] {
            assert_eq!(
                start_of_tail(LINES.as_bytes(), lines),
                start(first),
                "{lines}"
            );
        }
        assert_eq!(start_of_tail(b"", 1), 0);
        assert_eq!(start_of_tail(b"torn", 1), 0);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn a_tail_is_the_end_of_all(
            lengths in prop::collection::vec((0_usize..30_000, any::<bool>()), 0..30),
            torn in 0_usize..100_000,
            lines in 0_u64..35,
        ) {
            let (mut content, mut starts) = (Vec::new(), Vec::new());
            let mut begins = true;
            for (length, partial) in lengths {
                if begins {
                    starts.push(content.len() as u64);
                }
                content.extend(format!("2026-11-26T19:15:41.0Z stdout {} ", if partial { 'P' } else { 'F' }).bytes());
                content.resize(content.len() + length, b'x');
                content.push(b'\n');
                begins = !partial;
            }
            let end = content.len() as u64;
            content.resize(content.len() + torn, b't');
            let expected = match (usize::try_from(lines).unwrap(), starts.len()) {
                (0, _) => content.len() as u64,
                (_, 0) if torn < CHUNK => 0,
                (_, 0) => start_of_tail(&content, lines),
                (lines, all) if lines >= all => 0,
                (lines, all) => starts[all - lines],
            };
            prop_assert!(expected <= end.max(content.len() as u64));
            prop_assert_eq!(start_of_tail(&content, lines), expected);
        }
    }
}
