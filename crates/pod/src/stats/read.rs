//! Reading small files of the kernel, cheaply.
//!
//! Owns one buffer that is used again and again, and directories that are opened once for all files read from them. Everything that fails
//! is absent: a cgroup or a process may go at any moment, and what is left of a list is still wanted.
//!
//! No file is kept open between calls. Reading an open one again would cost a tenth, but a container would take ten descriptors of a
//! service that has 1024 of them by default, and an open file keeps the memory of a cgroup that has gone.

use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::{Mode, OFlags, open, openat};

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
        self.fill(&file, Kind::List)
    }

    /// The text of a file of a cgroup, where no other file of the same directory is wanted.
    pub(super) fn read_value(&mut self, dir: &Path, name: &str) -> Option<&[u8]> {
        let flags = OFlags::RDONLY | OFlags::CLOEXEC;
        let file = open(dir.join(name), flags, Mode::empty()).ok()?;
        self.fill(&file, Kind::Whole).ok()
    }

    fn fill(&mut self, file: &OwnedFd, kind: Kind) -> io::Result<&[u8]> {
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
            match rustix::io::read(file, &mut self.0[length..]) {
                Ok(0) => break,
                Ok(count) => length += count,
                Err(rustix::io::Errno::INTR) => continue,
                Err(error) => return Err(error.into()),
            }
            if kind == Kind::Whole && length < self.0.len() {
                break;
            }
        }
        Ok(&self.0[..length])
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
        buffer.fill(&file, kind).ok()
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
}
