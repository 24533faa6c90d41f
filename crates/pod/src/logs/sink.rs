//! The CRI log file of a container: what is appended to, and how its own end tells what it has.
//!
//! Owns opening, finding (a rotator renames it without asking) and appending. Refuses to know what a line means. Everything here blocks.

use std::ffi::OsStr;
use std::fs::{self, File, Permissions};
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use rustix::fs::{Mode, OFlags};

use super::checkpoint::FileId;

/// That of containerd's and CRI-O's log files: the owner writes, the group reads.
const MODE: u32 = 0o640;
/// How much of the end of a file is looked at for its last lines, in bytes: more than 64 lines, and more than the longest, in most logs.
const TAIL: u64 = 256 * 1024;

/// An open log file.
#[derive(Debug)]
pub(super) struct Sink {
    file: File,
    id: FileId,
    length: u64,
}

impl Sink {
    /// Opens the file at `path`, and makes it (and its directories) if it is not there.
    ///
    /// # Errors
    /// When that cannot be; also when a symbolic link is there, for it may lead into the engine's own file.
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        match open(path, OFlags::empty()) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            result => return result,
        }
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent)?;
        }
        match open(path, OFlags::CREATE | OFlags::EXCL) {
            Ok(sink) => {
                // The process's mask may have taken the group's right.
                sink.file.set_permissions(Permissions::from_mode(MODE))?;
                Ok(sink)
            }
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                open(path, OFlags::empty())
            }
            Err(error) => Err(error),
        }
    }

    /// Opens the file that was at `path` once, by whatever name its directory has it now.
    ///
    /// # Errors
    /// When the directory cannot be read, or the file not be opened.
    pub(super) fn find(path: &Path, id: FileId) -> io::Result<Option<Self>> {
        if is(path, id)? {
            return open(path, OFlags::empty()).map(Some);
        }
        for (sibling, _) in siblings(path)? {
            if is(&sibling, id)? {
                return open(&sibling, OFlags::empty()).map(Some);
            }
        }
        Ok(None)
    }

    /// Opens the file that was rotated last: the newest one that is named `path` and a dot and more.
    ///
    /// # Errors
    /// When the directory cannot be read, or the file not be opened.
    pub(super) fn newest_rotated(path: &Path) -> io::Result<Option<Self>> {
        let mut prefix = path.file_name().unwrap_or_default().as_bytes().to_vec();
        prefix.push(b'.');
        let rotated = siblings(path)?.into_iter().filter(|(sibling, _)| {
            let name = sibling.file_name().map(OsStr::as_bytes);
            name.is_some_and(|name| name.starts_with(&prefix) && !name.ends_with(b".gz"))
        });
        match rotated.max_by_key(|(_, modified)| *modified) {
            Some((sibling, _)) => open(&sibling, OFlags::empty()).map(Some),
            None => Ok(None),
        }
    }

    /// Which file it is.
    pub(super) fn id(&self) -> FileId {
        self.id
    }

    /// Its length in bytes, after the last append.
    pub(super) fn length(&self) -> u64 {
        self.length
    }

    /// Whether it is the file at `path`.
    ///
    /// # Errors
    /// When the path cannot be looked at.
    pub(super) fn is_at(&self, path: &Path) -> io::Result<bool> {
        is(path, self.id)
    }

    /// Appends bytes.
    ///
    /// # Errors
    /// When they cannot be written; some may have been.
    pub(super) fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all(bytes)?;
        // Asked, not counted: someone may have truncated it.
        self.length = self.file.metadata()?.len();
        Ok(())
    }

    /// Ends the last line, if it has no end.
    ///
    /// # Errors
    /// As those of [`Sink::append`].
    pub(super) fn end_line(&mut self) -> io::Result<()> {
        let mut last = [0];
        let read = match self.length.checked_sub(1) {
            Some(at) => self.read_at(&mut last, at)?,
            None => 0,
        };
        if read == 1 && last != *b"\n" {
            self.append(b"\n")?;
        }
        Ok(())
    }

    /// The bytes from `offset` on, at most `buffer` of them; how many there are.
    ///
    /// # Errors
    /// When they cannot be read.
    pub(super) fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let mut filled = 0;
        while filled < buffer.len() {
            match self
                .file
                .read_at(&mut buffer[filled..], offset + filled as u64)
            {
                Ok(0) => break,
                Ok(read) => filled += read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(filled)
    }

    /// The last lines: each with its newline, and where the first of them begins. What comes after the last newline is left out.
    ///
    /// # Errors
    /// When they cannot be read.
    pub(super) fn tail(&self) -> io::Result<Tail> {
        let start = self.length.saturating_sub(TAIL);
        let mut bytes = vec![0; usize::try_from(self.length - start).unwrap_or_default()];
        let read = self.read_at(&mut bytes, start)?;
        bytes.truncate(read);
        // Of the first line, only the end may have been read.
        let whole = match start {
            0 => 0,
            _ => bytes
                .iter()
                .position(|&byte| byte == b'\n')
                .map_or(bytes.len(), |at| at + 1),
        };
        let end = bytes
            .iter()
            .rposition(|&byte| byte == b'\n')
            .map_or(whole, |at| at + 1);
        bytes.truncate(end);
        bytes.drain(..whole.min(bytes.len()));
        Ok(Tail {
            bytes,
            end: start + end as u64,
        })
    }
}

/// The last lines of a file.
#[derive(Debug)]
pub(super) struct Tail {
    /// Whole lines.
    bytes: Vec<u8>,
    /// Where the last of them ends in the file.
    pub(super) end: u64,
}

impl Tail {
    /// The lines, each with its newline; the last comes first.
    pub(super) fn lines(&self) -> impl Iterator<Item = &[u8]> {
        let mut rest = self.bytes.as_slice();
        std::iter::from_fn(move || {
            let (_, before) = rest.split_last()?;
            let start = before
                .iter()
                .rposition(|&byte| byte == b'\n')
                .map_or(0, |at| at + 1);
            let (head, line) = rest.split_at(start);
            rest = head;
            Some(line)
        })
    }
}

fn open(path: &Path, extra: OFlags) -> io::Result<Sink> {
    let flags = OFlags::RDWR | OFlags::APPEND | OFlags::NOFOLLOW | OFlags::CLOEXEC | extra;
    let file = File::from(rustix::fs::open(path, flags, Mode::from_raw_mode(MODE))?);
    let metadata = file.metadata()?;
    if !metadata.is_file() {
        return Err(io::Error::other("it is not a regular file"));
    }
    Ok(Sink {
        id: FileId::of(&metadata),
        length: metadata.len(),
        file,
    })
}

fn is(path: &Path, id: FileId) -> io::Result<bool> {
    match fs::symlink_metadata(path) {
        Ok(metadata) => Ok(metadata.is_file() && FileId::of(&metadata) == id),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

/// The other regular files beside `path`, and when each was written to last.
fn siblings(path: &Path) -> io::Result<Vec<(PathBuf, SystemTime)>> {
    let Some(entries) = path.parent().map(fs::read_dir) else {
        return Ok(Vec::new());
    };
    let entries = match entries {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let mut siblings = Vec::new();
    for entry in entries {
        let entry = entry?;
        match entry.metadata() {
            Ok(metadata) if metadata.is_file() && entry.path() != path => {
                siblings.push((entry.path(), metadata.modified()?));
            }
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    Ok(siblings)
}

#[cfg(test)]
impl Sink {
    /// What a kill within a write does.
    pub(super) fn cut(&self, length: u64) {
        self.file.set_len(length).unwrap();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tail(content: &[u8]) -> (Vec<Vec<u8>>, u64) {
        let dir = tempfile::tempdir().unwrap();
        let mut sink = Sink::open(&dir.path().join("0.log")).unwrap();
        sink.append(content).unwrap();
        let tail = sink.tail().unwrap();
        (tail.lines().map(<[u8]>::to_vec).collect(), tail.end)
    }

    #[test]
    fn a_new_file_and_its_directories_are_made_with_the_mode_that_readers_expect() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a/b/0.log");
        Sink::open(&path).unwrap();
        let metadata = fs::metadata(&path).unwrap();
        assert_eq!(metadata.permissions().mode() & 0o777, 0o640);
        assert_eq!(metadata.len(), 0);
    }

    #[test]
    fn a_link_or_a_directory_in_its_place_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("0.log");
        std::os::unix::fs::symlink(dir.path().join("docker"), &path).unwrap();
        assert!(Sink::open(&path).is_err());
        assert!(!dir.path().join("docker").exists());
        assert!(Sink::open(dir.path()).is_err());
    }

    #[test]
    fn a_file_is_found_by_whatever_name_it_has() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("0.log");
        let sink = Sink::open(&path).unwrap();
        assert!(sink.is_at(&path).unwrap());
        let find = || Sink::find(&path, sink.id()).unwrap().map(|sink| sink.id());
        assert_eq!(find(), Some(sink.id()));
        fs::rename(&path, dir.path().join("0.log.20261126-191541")).unwrap();
        assert_eq!(find(), Some(sink.id()));
        let other = Sink::open(&path).unwrap();
        assert!(!sink.is_at(&path).unwrap());
        assert_eq!(find(), Some(sink.id()));
        fs::remove_file(dir.path().join("0.log.20261126-191541")).unwrap();
        assert_eq!(find(), None);
        assert_ne!(other.id(), sink.id());
    }

    #[test]
    fn the_tail_holds_whole_lines_only() {
        assert_eq!(tail(b""), (vec![], 0));
        assert_eq!(tail(b"torn"), (vec![], 0));
        let expected = vec![b"\n".to_vec(), b"b\n".to_vec(), b"a\n".to_vec()];
        assert_eq!(tail(b"a\nb\n\ntorn"), (expected, 5));
        let long = [vec![b'x'; 300 * 1024], b"\nlast\nto".to_vec()].concat();
        assert_eq!(tail(&long), (vec![b"last\n".to_vec()], 300 * 1024 + 6));
        let longer = vec![b'x'; 300 * 1024];
        assert_eq!(tail(&longer).0, Vec::<Vec<u8>>::new());
    }
}
