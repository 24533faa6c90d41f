//! How far a container's log has come: one small record per container, which outlives a killed berth.
//!
//! Owns the record's form and its file. It is written after each batch of lines and never at idle, in place and in one write, into a
//! directory that should be in memory (`/run`): it has to outlive berth, not the host. A record that cannot be read counts as none.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::Path;

/// The first bytes of a record; the number is the version of the form.
const MAGIC: &[u8; 8] = b"berthlg1";
/// Magic, eight numbers and a checksum, in bytes.
const SIZE: usize = 8 * 8;

/// The end of a record of the engine's log: how far that log has been read.
///
/// The file it lies in is not named: files are renamed when they are rotated, and the inode of one that was deleted is given to the next. A file
/// is known by holding this record in this place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Position {
    /// Bytes of the engine's file up to and with the record.
    pub(super) end: u64,
    /// Bytes of the record.
    pub(super) size: u64,
    /// [`digest`] of the record.
    pub(super) digest: u64,
}

/// Which file, wherever it is renamed to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct FileId {
    device: u64,
    inode: u64,
}

impl FileId {
    /// That of a file.
    pub(super) fn of(metadata: &fs::Metadata) -> Self {
        Self {
            device: metadata.dev(),
            inode: metadata.ino(),
        }
    }
}

/// What was true after a batch of lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Checkpoint {
    /// Up to where the engine's log had been read; `None` before its first record.
    pub(super) position: Option<Position>,
    /// The log file that was written to.
    pub(super) file: FileId,
    /// Its length in bytes. What it has beyond that are lines of records behind the position.
    pub(super) length: u64,
}

impl Checkpoint {
    fn encode(&self) -> [u8; SIZE] {
        let position = self.position.unwrap_or(Position {
            end: 0,
            size: 0,
            digest: 0,
        });
        let numbers = [
            position.end,
            position.size,
            position.digest,
            self.file.device,
            self.file.inode,
            self.length,
        ];
        let mut bytes = [0; SIZE];
        let (head, checksum) = bytes.split_at_mut(SIZE - 8);
        let (magic, body) = head.split_at_mut(8);
        magic.copy_from_slice(MAGIC);
        for (place, number) in body.chunks_exact_mut(8).zip(numbers) {
            place.copy_from_slice(&number.to_le_bytes());
        }
        checksum.copy_from_slice(&digest(head).to_le_bytes());
        bytes
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let bytes: &[u8; SIZE] = bytes.try_into().ok()?;
        let mut numbers = bytes.as_chunks::<8>().0.iter();
        let mut next = || numbers.next().copied().map(u64::from_le_bytes);
        if next()?.to_le_bytes() != *MAGIC {
            return None;
        }
        let (end, size, known) = (next()?, next()?, next()?);
        let (device, inode, length, checksum) = (next()?, next()?, next()?, next()?);
        let position = Position {
            end,
            size,
            digest: known,
        };
        (checksum == digest(&bytes[..SIZE - 8])).then_some(Self {
            position: (end > 0).then_some(position),
            file: FileId { device, inode },
            length,
        })
    }

    /// Reads a checkpoint; `None` when there is none, or none that is whole.
    ///
    /// # Errors
    /// When the file is there and cannot be read.
    pub(super) fn load(path: &Path) -> io::Result<Option<Self>> {
        let file = match File::open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let mut bytes = Vec::with_capacity(SIZE + 1);
        file.take(SIZE as u64 + 1).read_to_end(&mut bytes)?;
        let checkpoint = Self::decode(&bytes);
        if checkpoint.is_none() {
            tracing::warn!(path = %path.display(), "the record of how far a log has come is damaged; the log itself will tell");
        }
        Ok(checkpoint)
    }

    /// Writes the checkpoint.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub(super) fn store(&self, path: &Path) -> io::Result<()> {
        // The file's length never changes, so one write is all or nothing also for a process that is killed in it.
        OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(path)?
            .write_all_at(&self.encode(), 0)
    }
}

/// FNV-1a, 64 bits: the same in each release, which the standard library's hashes do not promise.
pub(super) fn digest(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, &byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checkpoint(position: Option<Position>) -> Checkpoint {
        Checkpoint {
            position,
            file: FileId {
                device: 3,
                inode: 4,
            },
            length: 5,
        }
    }

    #[test]
    fn a_checkpoint_comes_back_and_one_byte_off_is_none() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("id");
        assert_eq!(Checkpoint::load(&path).unwrap(), None);
        let position = Position {
            end: u64::MAX,
            size: 1,
            digest: 2,
        };
        for checkpoint in [checkpoint(Some(position)), checkpoint(None)] {
            checkpoint.store(&path).unwrap();
            assert_eq!(Checkpoint::load(&path).unwrap(), Some(checkpoint));
        }
        let good = fs::read(&path).unwrap();
        for at in 0..good.len() {
            let mut bad = good.clone();
            bad[at] ^= 1;
            assert_eq!(Checkpoint::decode(&bad), None, "byte {at}");
            assert_eq!(Checkpoint::decode(&good[..at]), None, "cut at {at}");
        }
        assert_eq!(Checkpoint::decode(&[good.as_slice(), b"x"].concat()), None);
    }
}
