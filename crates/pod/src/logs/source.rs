//! The files in which Docker's `local` driver keeps what a container wrote.
//!
//! ```text
//!   container.log      written to
//!   container.log.1    renamed from container.log when that was full; renamed to .2 by the next rotation, and so on
//!   container.log.4    the oldest; deleted by the next rotation
//! ```
//!
//! Owns the way through them: which file comes first, which one after it, and where reading goes on after a restart. Refuses to know what
//! becomes of the records. Everything here blocks.
//!
//! Docker closes a file before it renames it, and renames the older ones first. So a file that is not `container.log` any more can be read to
//! its end once more and is then done, and what follows it is the next lower number in any listing that is the same before and after the
//! file was opened. The file in hand stays open, so that its inode cannot be given to another.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use super::checkpoint::{FileId, Position, digest};
use super::record::{self, Decoded, MAX_RECORD, Record};

/// The name of the file that is written to (`daemon/container/container.go` of moby).
const CURRENT: &str = "container.log";
/// How often a listing is taken again because the engine was rotating. A rotation takes less than a millisecond.
const LISTINGS: usize = 100;
/// What is read in one go, in bytes. Larger ones save nothing that can be measured.
const CHUNK: usize = 128 * 1024;

/// The buffer of one turn.
pub(super) struct Window(Vec<u8>);

impl Window {
    /// An empty buffer.
    pub(super) fn new() -> Self {
        Self(vec![0; CHUNK])
    }

    /// Fills it from `offset` on; gives the bytes read. Fewer than fit means the end of the file.
    fn fill(&mut self, file: &File, offset: u64) -> io::Result<usize> {
        let mut filled = 0;
        while filled < self.0.len() {
            match file.read_at(&mut self.0[filled..], offset + filled as u64) {
                Ok(0) => break,
                Ok(read) => filled += read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(filled)
    }
}

/// What a step came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    /// There may be more at once.
    More,
    /// There is no more until the engine writes.
    End,
}

/// A reader of one container's files.
#[derive(Debug)]
pub(super) struct Source {
    container: String,
    dir: PathBuf,
    open: Option<Open>,
    position: Option<Position>,
}

#[derive(Debug)]
struct Open {
    file: File,
    id: FileId,
    /// Where the next record begins.
    next: u64,
    /// Whether the engine has gone on to another file.
    left: bool,
}

/// One file of a listing: 0 for the current one, and its inode.
type Listed = (u32, FileId);

impl Source {
    /// A reader that goes on behind `position`, or begins with the oldest record.
    pub(super) fn new(container: &str, dir: PathBuf, position: Option<Position>) -> Self {
        Self {
            container: container.to_owned(),
            dir,
            open: None,
            position,
        }
    }

    /// The end of the last record that was taken.
    pub(super) fn position(&self) -> Option<Position> {
        self.position
    }

    /// Goes to another place.
    pub(super) fn seek(&mut self, position: Option<Position>) {
        self.open = None;
        self.position = position;
    }

    /// Reads one buffer and gives each record in it to `each`, until that gives `false`: that record then is the first of the next step.
    ///
    /// `done` says that the engine will write no more, so that what is incomplete stays so.
    ///
    /// # Errors
    /// When a file cannot be read. [`io::ErrorKind::InvalidData`] when what it begins with is no record of the kind that is known here, and
    /// none has been read of this log before.
    pub(super) fn step(
        &mut self,
        window: &mut Window,
        done: bool,
        mut each: impl FnMut(&Record<'_>) -> bool,
    ) -> io::Result<Step> {
        if self.open.is_none() {
            self.open = self.first()?;
        }
        let Some(open) = &mut self.open else {
            return Ok(Step::End);
        };
        let filled = window.fill(&open.file, open.next)?;
        let at_end = filled < window.0.len();
        let no_more = at_end && (done || open.left);
        let bytes = &window.0[..filled];
        let (mut at, mut last, mut need, mut stopped) = (0, None, 0, false);
        while at < filled {
            let why = match record::decode(&bytes[at..]) {
                Decoded::Record { record, size } => {
                    if !each(&record) {
                        stopped = true;
                        break;
                    }
                    last = Some(at..at + size);
                    at += size;
                    continue;
                }
                Decoded::Incomplete { size } if !no_more => {
                    need = size;
                    break;
                }
                Decoded::Incomplete { .. } => "a record that was cut off",
                Decoded::Damaged(why) => why,
            };
            let unknown = self.position.is_none() && open.next == 0 && at == 0;
            if unknown && !no_more && record::resync(bytes).is_none() {
                return Err(io::Error::new(
                    io::ErrorKind::InvalidData,
                    "it is in a form that is not known",
                ));
            }
            let Some(skipped) = skip(&bytes[at..], at_end, no_more) else {
                need = MAX_RECORD;
                break;
            };
            tracing::warn!(
                container = self.container,
                file = %self.dir.join(CURRENT).display(),
                offset = open.next + at as u64,
                bytes = skipped,
                why,
                "the engine's log is damaged: these bytes hold no line that can be read"
            );
            at += skipped;
        }
        if let Some(last) = last {
            self.position = Some(Position {
                end: open.next + last.end as u64,
                size: last.len() as u64,
                digest: digest(&bytes[last]),
            });
        }
        open.next += at as u64;
        if stopped || !at_end {
            if at == 0 && need > window.0.len() {
                window.0.resize(need.min(MAX_RECORD), 0);
            }
            return Ok(Step::More);
        }
        if at < filled {
            // Whole but for its end. That comes, or the file is left and this the last of it.
            return self.end_of_file(false);
        }
        self.end_of_file(true)
    }

    /// Decides what comes at the end of a file, of which all records have been taken (`whole`) or the last is not there yet.
    fn end_of_file(&mut self, whole: bool) -> io::Result<Step> {
        let Some(open) = &mut self.open else {
            return Ok(Step::End);
        };
        if !open.left {
            match fs::metadata(self.dir.join(CURRENT)) {
                Ok(metadata) if FileId::of(&metadata) == open.id => {
                    if metadata.len() >= open.next {
                        return Ok(Step::End);
                    }
                    tracing::warn!(
                        container = self.container,
                        "the engine's log was truncated: lines may be lost"
                    );
                    open.next = 0;
                }
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                // The engine has closed this file, so what was written to it since the last read is the end.
                _ => open.left = true,
            }
            return Ok(Step::More);
        }
        if !whole {
            return Ok(Step::More);
        }
        let id = open.id;
        let next = self.choose(|_, files| {
            let Some(here) = files.iter().position(|(_, file)| *file == id) else {
                return Ok(files.len().checked_sub(1));
            };
            Ok(here.checked_sub(1))
        })?;
        let Some((next, files)) = next else {
            // The engine is about to make the next one, or the container is gone.
            return Ok(Step::End);
        };
        if !files.iter().any(|(_, file)| *file == id) {
            tracing::warn!(
                container = self.container,
                "the engine has deleted log files before they were read: lines may be lost"
            );
        }
        self.open = Some(next);
        Ok(Step::More)
    }

    /// The file to begin with.
    fn first(&self) -> io::Result<Option<Open>> {
        let Some(position) = self.position else {
            let oldest = self.choose(|_, files| Ok(files.len().checked_sub(1)))?;
            return Ok(oldest.map(|(open, _)| open));
        };
        let known = self.choose(|dir, files| {
            for (index, (number, _)) in files.iter().enumerate() {
                match File::open(dir.join(name(*number))) {
                    Ok(file) if holds(&file, position)? => return Ok(Some(index)),
                    Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                    _ => {}
                }
            }
            Ok(None)
        })?;
        if let Some((open, _)) = known {
            let next = position.end;
            return Ok(Some(Open { next, ..open }));
        }
        let oldest = self.choose(|_, files| Ok(files.len().checked_sub(1)))?;
        if oldest.is_some() {
            tracing::warn!(
                container = self.container,
                "the engine has deleted the log file that was read last: lines may be lost"
            );
        }
        Ok(oldest.map(|(open, _)| open))
    }

    /// Opens the file that `pick` chooses from a listing, newest first. The listing is given back, and was the same after the file was opened.
    fn choose(
        &self,
        pick: impl Fn(&Path, &[Listed]) -> io::Result<Option<usize>>,
    ) -> io::Result<Option<(Open, Vec<Listed>)>> {
        let mut files = self.list()?;
        for _ in 0..LISTINGS {
            let Some(index) = pick(&self.dir, &files)? else {
                return Ok(None);
            };
            let (number, id) = files[index];
            let opened = File::open(self.dir.join(name(number)));
            let again = self.list()?;
            match opened {
                Ok(file) if again == files && FileId::of(&file.metadata()?) == id => {
                    let open = Open {
                        file,
                        id,
                        next: 0,
                        left: false,
                    };
                    return Ok(Some((open, files)));
                }
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => files = again,
            }
        }
        Err(io::Error::other(format!(
            "the engine renames the files in {} faster than they can be opened",
            self.dir.display()
        )))
    }

    /// The files, newest first. None when the directory is not there.
    fn list(&self) -> io::Result<Vec<Listed>> {
        let entries = match fs::read_dir(&self.dir) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(error),
        };
        let mut files = Vec::new();
        for entry in entries {
            let entry = entry?;
            let Some(number) = entry.file_name().to_str().and_then(number) else {
                continue;
            };
            match entry.metadata() {
                Ok(metadata) if metadata.is_file() => files.push((number, FileId::of(&metadata))),
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        files.sort_unstable_by_key(|(number, _)| *number);
        Ok(files)
    }
}

/// How many of the bytes, which begin with no record, can be left out for good. `None` when only more bytes can tell.
fn skip(bytes: &[u8], at_end: bool, no_more: bool) -> Option<usize> {
    if let Some(skipped) = record::resync(bytes) {
        return Some(skipped);
    }
    if no_more {
        return Some(bytes.len());
    }
    if at_end || bytes.len() < MAX_RECORD {
        return None;
    }
    // A record may begin in here and end behind it; nothing does before the first place that looks like the beginning of one.
    let begins = |at: &usize| matches!(record::decode(&bytes[*at..]), Decoded::Incomplete { .. });
    Some((1..bytes.len()).find(begins).unwrap_or(bytes.len()))
}

/// Whether the record of a position ends there in this file.
fn holds(file: &File, position: Position) -> io::Result<bool> {
    let (Some(start), Ok(size)) = (
        position.end.checked_sub(position.size),
        usize::try_from(position.size),
    ) else {
        return Ok(false);
    };
    if size > MAX_RECORD || file.metadata()?.len() < position.end {
        return Ok(false);
    }
    let mut bytes = vec![0; size];
    match file.read_exact_at(&mut bytes, start) {
        Ok(()) => Ok(digest(&bytes) == position.digest),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
        Err(error) => Err(error),
    }
}

fn name(number: u32) -> String {
    match number {
        0 => CURRENT.to_owned(),
        number => format!("{CURRENT}.{number}"),
    }
}

fn number(name: &str) -> Option<u32> {
    let rest = name.strip_prefix(CURRENT)?;
    if rest.is_empty() {
        return Some(0);
    }
    rest.strip_prefix('.')?
        .parse()
        .ok()
        .filter(|number| *number > 0)
}

#[cfg(test)]
pub(super) mod tests {
    use std::io::Write;

    use super::super::record::Stream;
    use super::super::record::tests::{Piece, encode};
    use super::*;
    use proptest::prelude::*;

    /// Docker's side: writes records, and rotates.
    pub(crate) struct Engine {
        pub(crate) dir: PathBuf,
        pub(crate) files: u32,
        clock: i64,
    }

    impl Engine {
        pub(crate) fn new(dir: &Path) -> Self {
            Self {
                dir: dir.to_owned(),
                files: 5,
                clock: 1_795_720_541_000_000_000,
            }
        }

        pub(crate) fn raw(&self, bytes: &[u8]) {
            fs::create_dir_all(&self.dir).unwrap();
            let path = self.dir.join(CURRENT);
            let mut file = fs::OpenOptions::new()
                .append(true)
                .create(true)
                .open(path)
                .unwrap();
            file.write_all(bytes).unwrap();
        }

        pub(crate) fn record(&mut self, stream: Stream, text: &[u8], piece: Piece) -> Vec<u8> {
            self.clock += 1_000_003;
            encode(stream, self.clock, text, piece)
        }

        pub(crate) fn write(&mut self, text: &str) {
            let bytes = self.record(Stream::Stdout, text.as_bytes(), None);
            self.raw(&bytes);
        }

        pub(crate) fn rotate(&self) {
            self.shift();
            File::create_new(self.dir.join(CURRENT)).unwrap();
        }

        /// A rotation up to where the current file is missing.
        pub(crate) fn shift(&self) {
            let path = |number| self.dir.join(name(number));
            let _ = fs::remove_file(path(self.files - 1));
            for number in (0..self.files - 1).rev() {
                let _ = fs::rename(path(number), path(number + 1));
            }
        }
    }

    /// All that can be read now.
    fn drain(source: &mut Source, done: bool) -> Vec<String> {
        let (mut window, mut lines) = (Window(vec![0; 64]), Vec::new());
        for _ in 0..10_000 {
            let step = source.step(&mut window, done, |record| {
                lines.push(String::from_utf8_lossy(record.text).into_owned());
                true
            });
            if step.unwrap() == Step::End {
                return lines;
            }
        }
        panic!("no end after {lines:?}");
    }

    fn set_up() -> (tempfile::TempDir, Engine, Source) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("local-logs");
        let engine = Engine::new(&path);
        let source = Source::new("c", path, None);
        (dir, engine, source)
    }

    #[test]
    fn records_are_read_once_also_when_they_come_byte_by_byte() {
        let (_dir, mut engine, mut source) = set_up();
        assert!(drain(&mut source, false).is_empty());
        let long = "x".repeat(1000);
        let record = engine.record(Stream::Stdout, long.as_bytes(), None);
        for byte in &record[..record.len() - 1] {
            engine.raw(&[*byte]);
            assert!(drain(&mut source, false).is_empty());
        }
        engine.raw(&record[record.len() - 1..]);
        assert_eq!(drain(&mut source, false), [long]);
        assert!(drain(&mut source, false).is_empty());
    }

    #[test]
    fn rotation_is_followed_and_the_end_of_the_old_file_is_not_lost() {
        let (_dir, mut engine, mut source) = set_up();
        engine.write("1");
        assert_eq!(drain(&mut source, false), ["1"]);
        engine.write("2");
        engine.shift();
        assert_eq!(drain(&mut source, false), ["2"]);
        assert!(drain(&mut source, false).is_empty());
        engine.write("3");
        for text in ["4", "5", "6"] {
            engine.rotate();
            engine.write(text);
        }
        assert_eq!(drain(&mut source, false), ["3", "4", "5", "6"]);
        engine.rotate();
        assert!(drain(&mut source, false).is_empty());
        engine.write("7");
        assert_eq!(drain(&mut source, false), ["7"]);
    }

    #[test]
    fn a_position_is_found_in_the_file_that_has_been_renamed() {
        for rotations in 0..5 {
            let (dir, mut engine, mut source) = set_up();
            engine.write("1");
            engine.write("2");
            drain(&mut source, false);
            engine.write("3");
            for rotation in 0..rotations {
                engine.rotate();
                engine.write(&format!("r{rotation}"));
            }
            let position = source.position();
            let mut again = Source::new("c", dir.path().join("local-logs"), position);
            let mut expected = vec!["3".to_owned()];
            expected.extend((0..rotations).map(|rotation| format!("r{rotation}")));
            assert_eq!(drain(&mut again, false), expected);
        }
    }

    #[test]
    fn of_what_was_rotated_away_the_rest_is_read() {
        for restarted in [false, true] {
            let (_dir, mut engine, mut source) = set_up();
            engine.files = 2;
            engine.write("1");
            assert_eq!(drain(&mut source, false), ["1"]);
            // Of the same length, so that only its content tells that this file is not the one that was read.
            for text in ["2", "3", "4"] {
                engine.write(text);
                engine.rotate();
            }
            engine.write("5");
            if restarted {
                source = Source::new("c", engine.dir.clone(), source.position());
            }
            let read = drain(&mut source, false);
            // A file that is open is read to its end also when it was deleted.
            let expected = if restarted {
                &["4", "5"][..]
            } else {
                &["2", "4", "5"]
            };
            assert_eq!(read, expected);
        }
    }

    #[test]
    fn a_file_that_is_truncated_is_read_from_its_beginning() {
        let (_dir, mut engine, mut source) = set_up();
        engine.write("a longer one");
        drain(&mut source, false);
        File::create(engine.dir.join(CURRENT)).unwrap();
        engine.write("b");
        assert_eq!(drain(&mut source, false), ["b"]);
    }

    #[test]
    fn a_torn_record_is_waited_for_and_passed_over_once_the_engine_goes_on() {
        let (_dir, mut engine, mut source) = set_up();
        let torn = engine.record(Stream::Stdout, &[b'x'; 3000], None);
        engine.write("1");
        engine.raw(&torn[..2000]);
        assert_eq!(drain(&mut source, false), ["1"]);
        let mut read = Vec::new();
        for number in 0..100 {
            engine.write(&format!("{number}"));
            read.extend(drain(&mut source, false));
        }
        assert_eq!(
            read,
            (0..100)
                .map(|number| number.to_string())
                .collect::<Vec<_>>()
        );
    }

    #[test]
    fn a_torn_record_at_the_end_of_all_or_of_a_file_holds_nothing_up() {
        let (_dir, mut engine, mut source) = set_up();
        let torn = engine.record(Stream::Stdout, &[b'x'; 3000], None);
        engine.raw(&torn[..2000]);
        engine.write("hidden");
        assert!(drain(&mut source, false).is_empty());
        engine.rotate();
        engine.raw(&torn[..2]);
        assert_eq!(drain(&mut source, false), ["hidden"]);
        assert!(drain(&mut source, true).is_empty());
        engine.write("2");
        assert_eq!(drain(&mut source, true), ["2"]);
    }

    #[test]
    fn megabytes_that_are_no_records_are_passed_over() {
        let (_dir, mut engine, mut source) = set_up();
        engine.write("0");
        engine.raw(&vec![0; 3 * MAX_RECORD]);
        engine.write("1");
        engine.raw(&vec![b'x'; 2 * MAX_RECORD]);
        engine.write("2");
        assert_eq!(drain(&mut source, false), ["0", "1", "2"]);
    }

    #[test]
    fn a_form_that_is_not_known_is_an_error_at_the_beginning_of_a_log() {
        let (_dir, engine, mut source) = set_up();
        engine.raw(b"{\"log\":\"1\\n\"}\n");
        let step = source.step(&mut Window::new(), false, |_| true);
        assert_eq!(step.unwrap_err().kind(), io::ErrorKind::InvalidData);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn whatever_the_engine_and_a_restarting_reader_do_each_record_comes_once(
            acts in prop::collection::vec(0u8..6, 0..60),
        ) {
            let (_dir, mut engine, mut source) = set_up();
            let (mut written, mut read, mut unread_rotations) = (0, Vec::new(), 0);
            for act in acts {
                match act {
                    0..3 => {
                        engine.write(&written.to_string());
                        written += 1;
                    }
                    // Beyond four the oldest would be lost.
                    3 if unread_rotations < 4 && engine.dir.exists() => {
                        engine.rotate();
                        unread_rotations += 1;
                    }
                    4 => {
                        read.extend(drain(&mut source, false));
                        unread_rotations = 0;
                    }
                    _ => source = Source::new("c", engine.dir.clone(), source.position()),
                }
            }
            read.extend(drain(&mut source, false));
            prop_assert_eq!(read, (0..written).map(|number: u32| number.to_string()).collect::<Vec<_>>());
        }
    }
}
