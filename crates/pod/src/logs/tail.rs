//! One container's log on its way from the engine's files to the CRI file, so that a kill at any point neither loses nor doubles a byte.
//!
//! ```text
//!   engine's file   ──────────────┤p──────────────►     p: what the checkpoint says was read
//!   CRI file        ──────────┤l─────┤e                 l: how long the file was then; e: how long it is found to be
//! ```
//!
//! Lines are appended first and the checkpoint is written after them. So what the file has between `l` and `e` was made from the records
//! behind `p`; and as the same records always make the same bytes, making them again and comparing says where to go on, within a line too.
//!
//! Without a checkpoint (the host was restarted, for it is kept in memory) the file's last lines are looked for among the engine's records.
//!
//! Owns this order of writes. Refuses to know when to run. Everything here blocks.

use std::collections::VecDeque;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use super::checkpoint::{Checkpoint, digest};
use super::line::{self, Encoder};
use super::sink::Sink;
use super::source::{Source, Step, Window};

/// Buffers of [`Window`] size that one turn moves: about a megabyte, then other containers have theirs.
const BUFFERS_PER_TURN: usize = 8;
/// How many last lines have to be found among the engine's records, for the end of the file to be known. A line has a time in nanoseconds, so
/// the last one alone would nearly do: only the pieces of one long line can be alike.
const KNOWN_LINES: usize = 64;

/// Which file failed.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// One of the engine's.
    #[error("cannot read the engine's log in {}", .dir.display())]
    Engine {
        /// Their directory.
        dir: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A CRI log file that is written.
    #[error("cannot write the log file {}", .path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A log file that is read back.
    #[error("cannot read the log file {}", .path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// How the log is continued.
#[derive(Debug, Clone, Copy)]
enum Resume {
    /// The file's bytes from here on come from the records behind the source's position.
    Compare(u64),
    /// The last lines are to be looked for.
    Search,
}

/// Where everything of one container's log is.
#[derive(Debug)]
pub(super) struct Places {
    /// The container's ID.
    pub(super) container: String,
    /// The CRI file.
    pub(super) log: PathBuf,
    /// The checkpoint.
    pub(super) checkpoint: PathBuf,
    /// The directory of the engine's files; empty when they are on another host.
    pub(super) engine: PathBuf,
}

/// One container's log.
#[derive(Debug)]
pub(super) struct Tail {
    at: Arc<Places>,
    /// What is true whether or not it could be stored.
    checkpoint: Option<Checkpoint>,
    /// Whether storing has failed, and been said.
    unstored: bool,
    source: Source,
    /// `None` after an error: what was written then is found out anew.
    sink: Option<Sink>,
    resume: Option<Resume>,
    encoder: Encoder,
}

impl Tail {
    /// Opens the CRI file, and makes it if there has never been one. A file that is there is continued.
    ///
    /// # Errors
    /// When it cannot be opened.
    pub(super) fn open(at: Arc<Places>) -> Result<Self, FileError> {
        let read = Checkpoint::load(&at.checkpoint).unwrap_or_else(|error| {
            tracing::warn!(%error, path = %at.checkpoint.display(), "cannot read how far a log has come; the log itself will tell");
            None
        });
        let mut tail = Self {
            checkpoint: read,
            unstored: false,
            source: Source::new(&at.container, at.engine.clone(), None),
            sink: None,
            resume: None,
            encoder: Encoder::default(),
            at,
        };
        tail.begin()?;
        Ok(tail)
    }

    fn write_error(&self) -> impl Fn(io::Error) -> FileError + use<> {
        let at = Arc::clone(&self.at);
        move |source| FileError::Write {
            path: at.log.clone(),
            source,
        }
    }

    fn read_error(&self) -> impl Fn(io::Error) -> FileError + use<> {
        let at = Arc::clone(&self.at);
        move |source| FileError::Engine {
            dir: at.engine.clone(),
            source,
        }
    }

    /// Finds the file that was written to, and what is to be done before it is written to again.
    fn begin(&mut self) -> Result<(), FileError> {
        let failed = self.write_error();
        let Some(checkpoint) = self.checkpoint else {
            let sink = Sink::open(&self.at.log).map_err(&failed)?;
            let rotated = match sink.length() {
                0 => Sink::newest_rotated(&self.at.log).map_err(&failed)?,
                _ => None,
            };
            self.source.seek(None);
            if sink.length() == 0 && rotated.is_none() {
                self.sink = Some(sink);
                self.resume = None;
                self.store();
            } else {
                self.sink = Some(rotated.unwrap_or(sink));
                self.resume = Some(Resume::Search);
            }
            return Ok(());
        };
        self.source.seek(checkpoint.position);
        match Sink::find(&self.at.log, checkpoint.file).map_err(&failed)? {
            Some(sink) => {
                // One that was truncated meanwhile has nothing to compare.
                self.resume = Some(Resume::Compare(checkpoint.length.min(sink.length())));
                self.sink = Some(sink);
            }
            None => {
                self.sink = Some(Sink::open(&self.at.log).map_err(&failed)?);
                self.resume = None;
                self.store();
            }
        }
        Ok(())
    }

    /// Keeps what is true now. A failure is said once, and costs only exactness after a kill.
    fn store(&mut self) {
        let Some(sink) = &self.sink else { return };
        let checkpoint = Checkpoint {
            position: self.source.position(),
            file: sink.id(),
            length: sink.length(),
        };
        self.checkpoint = Some(checkpoint);
        match checkpoint.store(&self.at.checkpoint) {
            Ok(()) => self.unstored = false,
            Err(_) if self.unstored => {}
            Err(error) => {
                self.unstored = true;
                tracing::warn!(
                    container = self.at.container,
                    path = %self.at.checkpoint.display(),
                    %error,
                    "cannot keep how far a log has come: after a kill, the log itself has to tell"
                );
            }
        }
    }

    /// Moves about a megabyte, or what there is. `done` says that the engine will write no more.
    ///
    /// # Errors
    /// When a file cannot be read or written. The next turn finds out what was written, and goes on from there.
    pub(super) fn turn(&mut self, done: bool) -> Result<Step, FileError> {
        let turn = self.ready().and_then(|()| self.pump(done));
        if turn.is_err() {
            self.sink = None;
        }
        turn
    }

    /// Goes on in a new file at the log's path, if the old one was renamed.
    ///
    /// # Errors
    /// When the new one cannot be made; the old one is then written to.
    pub(super) fn reopen(&mut self) -> Result<(), FileError> {
        let done = self.ready().and_then(|()| self.switch());
        if done.is_err() {
            self.sink = None;
        }
        done
    }

    fn ready(&mut self) -> Result<(), FileError> {
        if self.sink.is_none() {
            self.begin()?;
        }
        match self.resume {
            Some(Resume::Compare(from)) => self.compare(from)?,
            Some(Resume::Search) => self.search()?,
            None => return Ok(()),
        }
        self.resume = None;
        // A new file at the log's path means that the rotation was complete but for the checkpoint. No file means that the rotator has
        // yet to ask for one, or will take its renaming back.
        if self.at.log.symlink_metadata().is_ok() {
            self.switch()?;
        }
        self.store();
        Ok(())
    }

    fn switch(&mut self) -> Result<(), FileError> {
        let failed = self.write_error();
        if let Some(sink) = &self.sink
            && !sink.is_at(&self.at.log).map_err(&failed)?
        {
            self.sink = Some(Sink::open(&self.at.log).map_err(&failed)?);
            // Before the first line: a checkpoint that names the old file would not know of it.
            self.store();
        }
        Ok(())
    }

    fn pump(&mut self, done: bool) -> Result<Step, FileError> {
        let (wrong_read, wrong_write) = (self.read_error(), self.write_error());
        let mut window = Window::new();
        let mut out = Vec::new();
        for _ in 0..BUFFERS_PER_TURN {
            out.clear();
            let encoder = &mut self.encoder;
            let step = self
                .source
                .step(&mut window, done, |record| {
                    encoder.encode(record, &mut out);
                    true
                })
                .map_err(&wrong_read)?;
            if !out.is_empty() {
                if let Some(sink) = &mut self.sink {
                    sink.append(&out).map_err(&wrong_write)?;
                }
                self.store();
            }
            if step == Step::End {
                return Ok(Step::End);
            }
        }
        Ok(Step::More)
    }

    /// Passes over the records whose lines the file has from `at` on, and completes the last of these lines if it was torn.
    fn compare(&mut self, mut at: u64) -> Result<(), FileError> {
        let (wrong_read, wrong_write) = (self.read_error(), self.write_error());
        let Some(sink) = &mut self.sink else {
            return Ok(());
        };
        let mut window = Window::new();
        let (mut line, mut has) = (Vec::new(), Vec::new());
        let (mut differs, mut failure) = (false, None);
        while at < sink.length() && !differs {
            let encoder = &mut self.encoder;
            let step = self.source.step(&mut window, false, |record| {
                if at >= sink.length() {
                    return false;
                }
                line.clear();
                encoder.encode(record, &mut line);
                has.resize(line.len(), 0);
                let written = sink.read_at(&mut has, at).and_then(|read| {
                    has.truncate(read);
                    differs = !line.starts_with(&has);
                    if !differs && read < line.len() {
                        sink.append(&line[read..])?;
                    }
                    Ok(())
                });
                failure = written.err();
                if differs || failure.is_some() {
                    return false;
                }
                at += line.len() as u64;
                true
            });
            if let Some(error) = failure {
                return Err(wrong_write(error));
            }
            if step.map_err(&wrong_read)? == Step::End && at < sink.length() {
                differs = true;
            }
        }
        if differs {
            tracing::warn!(
                container = self.at.container,
                path = %self.at.log.display(),
                offset = at,
                "the log file has lines that do not come from the engine's log: what follows them may be there twice"
            );
            sink.end_line().map_err(&wrong_write)?;
        }
        Ok(())
    }

    /// Looks for the file's last lines among the engine's records, and goes on behind them.
    fn search(&mut self) -> Result<(), FileError> {
        let (wrong_read, wrong_write) = (self.read_error(), self.write_error());
        let Some(sink) = &mut self.sink else {
            return Ok(());
        };
        let tail = sink.tail().map_err(&wrong_write)?;
        let known: Vec<u64> = tail.lines().take(KNOWN_LINES).map(digest).collect();
        let Some(last) = tail.lines().next() else {
            // At most the beginning of the first line.
            return self.compare(tail.end);
        };
        let last = line::parse(&last[..last.len() - 1]).map(|record| record.time);
        let mut matcher = Matcher::new(known);
        let (mut window, mut line) = (Window::new(), Vec::new());
        let (mut found, mut later) = (false, None);
        loop {
            let (mut stop, mut before) = (false, false);
            let encoder = &mut self.encoder;
            let step = self
                .source
                .step(&mut window, false, |record| {
                    if stop {
                        return false;
                    }
                    // The position before the first later record is known only when a step ends there.
                    if later.is_none() && last.is_some_and(|last| record.time > last) && !before {
                        before = true;
                        return false;
                    }
                    line.clear();
                    encoder.encode(record, &mut line);
                    stop = matcher.matches(digest(&line));
                    true
                })
                .map_err(&wrong_read)?;
            if before && later.is_none() {
                later = Some(self.source.position());
            }
            found |= stop;
            if found || step == Step::End {
                break;
            }
        }
        if found {
            return self.compare(tail.end);
        }
        tracing::warn!(
            container = self.at.container,
            path = %self.at.log.display(),
            "the last lines of the log file are not in the engine's log any more: it goes on by time, and lines may be lost"
        );
        // Without a later record there is nothing to go on with yet; without a time, everything.
        match (later, last) {
            (Some(position), _) => self.source.seek(position),
            (None, Some(_)) => {}
            (None, None) => self.source.seek(None),
        }
        sink.end_line().map_err(wrong_write)
    }
}

/// Finds a run of lines in a sequence of lines, by their digests.
struct Matcher {
    /// The run, its last line first.
    known: Vec<u64>,
    /// Whether its last line comes in it once.
    unique: bool,
    /// The last lines of the sequence, the newest first.
    seen: VecDeque<u64>,
}

impl Matcher {
    fn new(known: Vec<u64>) -> Self {
        let unique = match known.split_first() {
            Some((last, rest)) => !rest.contains(last),
            None => false,
        };
        Self {
            known,
            unique,
            seen: VecDeque::new(),
        }
    }

    /// Whether the run ends with this line, the next of the sequence. The beginning of a run may have been before that of the sequence.
    fn matches(&mut self, line: u64) -> bool {
        self.seen.push_front(line);
        self.seen.truncate(self.known.len());
        let whole = self.seen.len() == self.known.len();
        (whole || self.unique) && self.seen.iter().zip(&self.known).all(|(a, b)| a == b)
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use proptest::prelude::*;

    use super::super::record::Stream;
    use super::super::source::tests::Engine;
    use super::*;

    /// A container's files, and what its log should hold.
    struct Setup {
        _dir: tempfile::TempDir,
        places: Arc<Places>,
        engine: Engine,
        expected: Vec<u8>,
    }

    impl Setup {
        fn new() -> Self {
            let dir = tempfile::tempdir().unwrap();
            let engine = dir.path().join("c/local-logs");
            let places = Places {
                container: "c".to_owned(),
                log: dir.path().join("pod/0.log"),
                checkpoint: dir.path().join("checkpoint"),
                engine: engine.clone(),
            };
            Self {
                places: Arc::new(places),
                engine: Engine::new(&engine),
                expected: Vec::new(),
                _dir: dir,
            }
        }

        /// Adds what one record becomes to what is expected.
        fn write(&mut self, stream: Stream, text: &str, piece: Option<(bool, u8)>) {
            let bytes = self.engine.record(stream, text.as_bytes(), piece);
            let super::super::record::Decoded::Record { record, .. } =
                super::super::record::decode(&bytes)
            else {
                panic!("not a record");
            };
            Encoder::default().encode(&record, &mut self.expected);
            self.engine.raw(&bytes);
        }

        fn tail(&self) -> Tail {
            Tail::open(Arc::clone(&self.places)).unwrap()
        }

        /// A tail that was killed and begins anew, and moves what there is.
        fn restart(&self) {
            drain(&mut self.tail());
        }

        fn checkpoint(&self) -> Checkpoint {
            Checkpoint::load(&self.places.checkpoint).unwrap().unwrap()
        }

        fn rotated(&self, name: &str) -> PathBuf {
            self.places.log.with_file_name(format!("0.log.{name}"))
        }

        fn check(&self, files: &[&Path]) {
            let all: Vec<u8> = files
                .iter()
                .flat_map(|file| fs::read(file).unwrap())
                .collect();
            assert_eq!(
                String::from_utf8_lossy(&all),
                String::from_utf8_lossy(&self.expected)
            );
        }
    }

    fn drain(tail: &mut Tail) {
        while tail.turn(false).unwrap() == Step::More {}
    }

    #[test]
    fn every_byte_of_a_write_that_a_kill_has_cut_is_continued() {
        let mut setup = Setup::new();
        setup.write(Stream::Stdout, "one", None);
        setup.restart();
        let (checkpoint, before) = (
            fs::read(&setup.places.checkpoint).unwrap(),
            setup.expected.len(),
        );
        setup.write(Stream::Stderr, "two\u{fffd}", None);
        setup.write(Stream::Stdout, "part", Some((false, 1)));
        setup.write(Stream::Stdout, "part", Some((false, 2)));
        setup.write(Stream::Stdout, "", Some((true, 3)));
        for cut in before..=setup.expected.len() {
            // The lines were written up to here, and the checkpoint was not.
            fs::write(&setup.places.log, &setup.expected[..cut]).unwrap();
            fs::write(&setup.places.checkpoint, &checkpoint).unwrap();
            let mut tail = setup.tail();
            drain(&mut tail);
            setup.check(&[&setup.places.log]);
            drop(tail);
            setup.restart();
            setup.check(&[&setup.places.log]);
        }
    }

    #[test]
    fn a_kill_at_any_byte_between_renaming_and_reopening_is_continued() {
        let mut setup = Setup::new();
        setup.write(Stream::Stdout, "one", None);
        setup.restart();
        let (checkpoint, before) = (
            fs::read(&setup.places.checkpoint).unwrap(),
            setup.expected.len(),
        );
        setup.write(Stream::Stdout, "two", None);
        setup.write(Stream::Stdout, "three", None);
        let rotated = setup.rotated("20261126-191541");
        for cut in before..=setup.expected.len() {
            for made in [false, true] {
                fs::write(&setup.places.log, &setup.expected[..cut]).unwrap();
                fs::write(&setup.places.checkpoint, &checkpoint).unwrap();
                fs::rename(&setup.places.log, &rotated).unwrap();
                if made {
                    // The new file was made, and the checkpoint does not know of it.
                    fs::write(&setup.places.log, "").unwrap();
                }
                let mut tail = setup.tail();
                drain(&mut tail);
                assert_eq!(setup.places.log.exists(), made);
                if made {
                    setup.check(&[&rotated, &setup.places.log]);
                    let complete = fs::read(&rotated).unwrap();
                    assert!(complete.ends_with(b"\n") && complete.len() < cut + 50);
                    // The next round's checkpoint names this file.
                    fs::rename(&rotated, &setup.places.log).unwrap();
                } else {
                    setup.check(&[&rotated]);
                    // The kubelet takes its renaming back when it got no answer.
                    fs::rename(&rotated, &setup.places.log).unwrap();
                    setup.restart();
                    setup.check(&[&setup.places.log]);
                }
                drop(tail);
            }
        }
    }

    #[test]
    fn reopening_makes_a_new_file_once_the_old_one_was_renamed() {
        let mut setup = Setup::new();
        let mut tail = setup.tail();
        setup.write(Stream::Stdout, "one", None);
        drain(&mut tail);
        tail.reopen().unwrap();
        setup.check(&[&setup.places.log]);
        let rotated = setup.rotated("1");
        fs::rename(&setup.places.log, &rotated).unwrap();
        setup.write(Stream::Stdout, "two", None);
        drain(&mut tail);
        assert!(!setup.places.log.exists());
        tail.reopen().unwrap();
        setup.write(Stream::Stdout, "three", None);
        drain(&mut tail);
        setup.check(&[&rotated, &setup.places.log]);
        assert_eq!(
            fs::read_to_string(&setup.places.log)
                .unwrap()
                .lines()
                .count(),
            1
        );
    }

    #[test]
    fn without_a_checkpoint_the_last_lines_tell_at_every_byte() {
        let mut setup = Setup::new();
        for number in 0..100 {
            setup.write(Stream::Stdout, &format!("line {number}"), None);
        }
        // All alike, but for their number.
        for number in 1..20 {
            setup.write(Stream::Stdout, "piece", Some((number == 19, number)));
        }
        let length = setup.expected.len();
        for cut in (0..length).step_by(37).chain(length - 200..=length) {
            fs::create_dir_all(setup.places.log.parent().unwrap()).unwrap();
            fs::write(&setup.places.log, &setup.expected[..cut]).unwrap();
            let _ = fs::remove_file(&setup.places.checkpoint);
            setup.restart();
            setup.check(&[&setup.places.log]);
        }
    }

    #[test]
    fn without_a_checkpoint_a_rotated_file_tells_when_the_new_one_is_empty() {
        let mut setup = Setup::new();
        for number in 0..100 {
            setup.write(Stream::Stdout, &format!("line {number}"), None);
        }
        let rotated = setup.rotated("20261126-191541");
        for cut in [2000, 2001, 2040, setup.expected.len()] {
            fs::create_dir_all(rotated.parent().unwrap()).unwrap();
            fs::write(&rotated, &setup.expected[..cut]).unwrap();
            fs::write(&setup.places.log, "").unwrap();
            let _ = fs::remove_file(&setup.places.checkpoint);
            setup.restart();
            setup.check(&[&rotated, &setup.places.log]);
        }
    }

    #[test]
    fn without_a_checkpoint_and_with_the_known_lines_rotated_away_it_goes_on_by_time() {
        let mut setup = Setup::new();
        setup.engine.files = 1;
        setup.write(Stream::Stdout, "old", None);
        setup.restart();
        setup.engine.rotate();
        fs::remove_file(&setup.places.checkpoint).unwrap();
        setup.write(Stream::Stdout, "new", None);
        setup.write(Stream::Stdout, "newer", None);
        setup.restart();
        setup.check(&[&setup.places.log]);
    }

    #[test]
    fn lines_of_others_in_the_file_are_left_alone_and_none_of_ours_is_lost() {
        let mut setup = Setup::new();
        setup.write(Stream::Stdout, "one", None);
        setup.restart();
        let mut file = fs::read(&setup.places.log).unwrap();
        file.extend(b"not ours");
        fs::write(&setup.places.log, &file).unwrap();
        setup.expected.extend(b"not ours\n");
        setup.write(Stream::Stdout, "two", None);
        setup.restart();
        setup.check(&[&setup.places.log]);
    }

    #[test]
    fn a_file_that_was_deleted_or_truncated_is_made_again_with_what_comes_next() {
        let mut setup = Setup::new();
        setup.write(Stream::Stdout, "one", None);
        setup.restart();
        fs::remove_file(&setup.places.log).unwrap();
        setup.expected.clear();
        setup.write(Stream::Stdout, "two", None);
        setup.restart();
        setup.check(&[&setup.places.log]);
        fs::write(&setup.places.log, "").unwrap();
        setup.expected.clear();
        setup.write(Stream::Stdout, "three", None);
        setup.restart();
        setup.check(&[&setup.places.log]);
    }

    #[test]
    fn a_failed_write_is_made_good_by_the_next_turn() {
        let mut setup = Setup::new();
        let mut tail = setup.tail();
        setup.write(Stream::Stdout, "one", None);
        drain(&mut tail);
        // A directory in the file's place cannot be written to.
        let rotated = setup.rotated("1");
        fs::rename(&setup.places.log, &rotated).unwrap();
        fs::create_dir(&setup.places.log).unwrap();
        assert!(tail.reopen().is_err());
        setup.write(Stream::Stdout, "two", None);
        assert!(tail.turn(false).is_err());
        fs::remove_dir(&setup.places.log).unwrap();
        tail.reopen().unwrap();
        drain(&mut tail);
        setup.check(&[&rotated, &setup.places.log]);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn whatever_is_rotated_reopened_or_killed_each_line_comes_once(
            acts in prop::collection::vec((0u8..8, any::<prop::sample::Index>()), 1..60),
        ) {
            let mut setup = Setup::new();
            let mut tail = setup.tail();
            // Beyond four rotations the engine deletes what was not read.
            let (mut files, mut unread_rotations) = (Vec::new(), 0);
            for (number, (act, cut)) in acts.into_iter().enumerate() {
                match act {
                    0..3 => setup.write(Stream::Stdout, &format!("line {number}"), None),
                    3 if unread_rotations < 4 && setup.engine.dir.exists() => {
                        setup.engine.rotate();
                        unread_rotations += 1;
                    }
                    4 => {
                        let file = setup.rotated(&number.to_string());
                        if fs::rename(&setup.places.log, &file).is_ok() {
                            files.push(file);
                        }
                    }
                    5 => tail.reopen().unwrap(),
                    6 => {
                        // Killed after the lines and before the checkpoint, at any byte of the lines.
                        drop(tail);
                        drop(setup.tail().ready());
                        let before = setup.checkpoint();
                        setup.restart();
                        let after = setup.checkpoint();
                        let added = usize::try_from(after.length - before.length).unwrap();
                        let sink = Sink::find(&setup.places.log, after.file).unwrap().unwrap();
                        sink.cut(after.length - cut.index(added + 1) as u64);
                        before.store(&setup.places.checkpoint).unwrap();
                        tail = setup.tail();
                    }
                    _ => {
                        drain(&mut tail);
                        unread_rotations = 0;
                    }
                }
            }
            drain(&mut tail);
            if setup.places.log.exists() {
                files.push(setup.places.log.clone());
            }
            let files: Vec<&Path> = files.iter().map(PathBuf::as_path).collect();
            setup.check(&files);
        }
    }
}
