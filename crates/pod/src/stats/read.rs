//! Reading small files of the kernel, cheaply.
//!
//! Owns one buffer that is used again and again, directories that are opened once for all files read from them, and the files that are
//! kept open from one reading to the next. Everything that fails is absent: a cgroup or a process may go at any moment, and what is left
//! of a list is still wanted.
//!
//! Opening and closing a small file of a cgroup costs the kernel five times what reading it does, so the few that are read for every list
//! stay open ([`Files`]), as long as there is [`Room`]. An open file keeps nothing of a cgroup that has gone: reading it fails (`ENODEV`),
//! and the cgroup is freed all the same. It takes 4.4 KB of the kernel's memory, a page of it for the text.

use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use rustix::fs::{Mode, OFlags, open, openat};
use rustix::io::Errno;
use rustix::process::{Resource, getrlimit};

/// Larger than nearly all files that are read, so that two calls read one to its end.
const START: usize = 16 * 1024;

/// What is used of any one file. Only a mount table, or the `io.stat` of a host with thousands of disks, may come near.
const MAX: usize = 8 * 1024 * 1024;

/// Where files are read into.
#[derive(Debug, Default)]
pub(super) struct Buffer(Vec<u8>);

/// How the kernel makes a file's text, which tells where it ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// All at once, as the files of a cgroup but `cgroup.procs`: what comes short of the buffer is the end.
    Whole,
    /// Bit by bit: the end is where nothing comes any more.
    List,
}

impl Buffer {
    /// Reads a file to its end. Fails where opening or reading it does.
    pub(super) fn read(&mut self, path: &Path) -> io::Result<&[u8]> {
        let file = open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
        let length = self.fill(&file, Kind::List)?;
        Ok(&self.0[..length])
    }

    /// The text of a file of a cgroup, where no other file of the same directory is wanted.
    pub(super) fn read_value(&mut self, dir: &Path, name: &str) -> Option<&[u8]> {
        let flags = OFlags::RDONLY | OFlags::CLOEXEC;
        let file = open(dir.join(name), flags, Mode::empty()).ok()?;
        let length = self.fill(&file, Kind::Whole).ok()?;
        Some(&self.0[..length])
    }

    /// Reads a file from its beginning, wherever it was left. How long it is.
    fn fill(&mut self, file: &OwnedFd, kind: Kind) -> Result<usize, Errno> {
        if self.0.is_empty() {
            self.0.resize(START, 0);
        }
        let mut length = 0;
        loop {
            if length == self.0.len() {
                if length >= MAX {
                    break;
                }
                self.0.resize((length * 2).min(MAX), 0);
            }
            // Below MAX, so it is an offset.
            match rustix::io::pread(file, &mut self.0[length..], length as u64) {
                Ok(0) => break,
                Ok(count) => length += count,
                Err(Errno::INTR) => continue,
                Err(error) => return Err(error),
            }
            if kind == Kind::Whole && length < self.0.len() {
                break;
            }
        }
        Ok(length)
    }
}

/// How many more files may be kept open.
#[derive(Debug)]
pub(super) struct Room(AtomicUsize);

impl Room {
    /// A quarter of what this process may have open: the rest is for connections, logs and sessions. With the 65536 of berth's unit there is
    /// room for some 800 pods of one container; with the 1024 of a shell for a dozen, and what finds none is opened each time.
    pub(super) fn of_this_process() -> Self {
        let limit = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
        Self::new(usize::try_from(limit / 4).unwrap_or(usize::MAX))
    }

    pub(super) fn new(files: usize) -> Self {
        Self(AtomicUsize::new(files))
    }

    // Nothing else hangs on the number, so no order is needed.
    fn take(&self) -> bool {
        self.0
            .try_update(Ordering::Relaxed, Ordering::Relaxed, |left| {
                left.checked_sub(1)
            })
            .is_ok()
    }

    fn give_back(&self, files: usize) {
        self.0.fetch_add(files, Ordering::Relaxed);
    }
}

/// The files of one cgroup that are read again and again. Dropping them closes them.
#[derive(Debug)]
pub(super) struct Files {
    /// No two directories of a cgroup are read for the same name.
    open: Vec<(&'static str, OwnedFd)>,
    room: Arc<Room>,
}

impl Files {
    pub(super) fn new(room: Arc<Room>) -> Self {
        Self {
            open: Vec::new(),
            room,
        }
    }

    /// The text of a file in `dir`, one that the kernel writes in one go. A cgroup that was made anew under the same name is noticed.
    pub(super) fn read<'b>(
        &mut self,
        dir: &Path,
        name: &'static str,
        buffer: &'b mut Buffer,
    ) -> Option<&'b [u8]> {
        let known = self.open.iter().position(|(known, _)| *known == name);
        if let Some(index) = known {
            if let Ok(length) = buffer.fill(&self.open[index].1, Kind::Whole) {
                return Some(&buffer.0[..length]);
            }
            // The cgroup of this file has gone.
            self.open.swap_remove(index);
            self.room.give_back(1);
        }
        let flags = OFlags::RDONLY | OFlags::CLOEXEC;
        let file = open(dir.join(name), flags, Mode::empty()).ok()?;
        let length = buffer.fill(&file, Kind::Whole).ok()?;
        if self.room.take() {
            self.open.push((name, file));
        }
        Some(&buffer.0[..length])
    }
}

impl Drop for Files {
    fn drop(&mut self) {
        self.room.give_back(self.open.len());
    }
}

/// A directory to read files from. It stays the same directory however its name changes hands, so that what is read within one call belongs
/// to one cgroup.
#[derive(Debug)]
pub(super) struct Dir(OwnedFd);

impl Dir {
    /// Opens it; absent if it is not there.
    pub(super) fn open(path: &Path) -> Option<Self> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        open(path, flags, Mode::empty()).ok().map(Self)
    }

    /// The text of a file in it, one that the kernel writes in one go.
    pub(super) fn read<'b>(&self, name: &str, buffer: &'b mut Buffer) -> Option<&'b [u8]> {
        self.read_as(Kind::Whole, name, buffer)
    }

    /// The text of a file in it that is a list without a bound.
    pub(super) fn read_list<'b>(&self, name: &str, buffer: &'b mut Buffer) -> Option<&'b [u8]> {
        self.read_as(Kind::List, name, buffer)
    }

    fn read_as<'b>(&self, kind: Kind, name: &str, buffer: &'b mut Buffer) -> Option<&'b [u8]> {
        let flags = OFlags::RDONLY | OFlags::CLOEXEC;
        let file = openat(&self.0, name, flags, Mode::empty()).ok()?;
        let length = buffer.fill(&file, kind).ok()?;
        Some(&buffer.0[..length])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_larger_than_the_buffer_is_read_whole_and_the_next_one_alone() {
        let dir = tempfile::tempdir().unwrap();
        let large = vec![b'x'; START * 3 + 1];
        std::fs::write(dir.path().join("large"), &large).unwrap();
        std::fs::write(dir.path().join("small"), "1\n").unwrap();
        let mut buffer = Buffer::default();
        let opened = Dir::open(dir.path()).unwrap();
        assert_eq!(opened.read("large", &mut buffer).unwrap(), large);
        assert_eq!(opened.read("small", &mut buffer).unwrap(), b"1\n");
        assert_eq!(opened.read("none", &mut buffer), None);
        assert!(Dir::open(&dir.path().join("none")).is_none());
    }

    #[test]
    fn a_kept_file_is_read_anew_without_being_opened_again() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("value");
        std::fs::write(&path, "first\n").unwrap();
        let (room, mut buffer) = (Arc::new(Room::new(1)), Buffer::default());
        let mut files = Files::new(room.clone());
        let read = |files: &mut Files, buffer: &mut Buffer| {
            files.read(dir.path(), "value", buffer).map(<[u8]>::to_vec)
        };
        assert_eq!(read(&mut files, &mut buffer).unwrap(), b"first\n");
        std::fs::write(&path, "2\n").unwrap();
        assert_eq!(read(&mut files, &mut buffer).unwrap(), b"2\n");
        // Only an open file still has a text.
        std::fs::remove_file(&path).unwrap();
        assert_eq!(read(&mut files, &mut buffer).unwrap(), b"2\n");
        assert_eq!(room.0.load(Ordering::Relaxed), 0);
        drop(files);
        assert_eq!(room.0.load(Ordering::Relaxed), 1);
    }

    #[test]
    fn without_room_files_are_read_all_the_same() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["a", "b"] {
            std::fs::write(dir.path().join(name), name).unwrap();
        }
        let (room, mut buffer) = (Arc::new(Room::new(1)), Buffer::default());
        let mut files = Files::new(room.clone());
        for _ in 0..2 {
            for name in ["a", "b"] {
                let text = files.read(dir.path(), name, &mut buffer);
                assert_eq!(text.unwrap(), name.as_bytes());
            }
            assert_eq!((files.open.len(), room.0.load(Ordering::Relaxed)), (1, 0));
        }
    }

    /// Files of a process fail as those of a cgroup do once it has gone.
    #[test]
    fn a_file_of_something_gone_is_looked_for_again() {
        let mut child = std::process::Command::new("sleep")
            .arg("1000")
            .spawn()
            .unwrap();
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("value");
        std::os::unix::fs::symlink(format!("/proc/{}/stat", child.id()), &path).unwrap();
        let (room, mut buffer) = (Arc::new(Room::new(5)), Buffer::default());
        let mut files = Files::new(room.clone());
        let first = files.read(dir.path(), "value", &mut buffer);
        let has_text = first.is_some_and(|text| text.ends_with(b"\n"));
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(has_text);
        assert_eq!(files.read(dir.path(), "value", &mut buffer), None);
        assert_eq!((files.open.len(), room.0.load(Ordering::Relaxed)), (0, 5));
        std::fs::remove_file(&path).unwrap();
        std::fs::write(&path, "again").unwrap();
        let again = files.read(dir.path(), "value", &mut buffer);
        assert_eq!(again.unwrap(), b"again");
    }
}
