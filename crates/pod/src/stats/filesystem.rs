//! File systems as a whole.
//!
//! Owns how a path is put to a mount and its numbers. Refuses to know what is stored there.
//!
//! The mount table of a host with 100 pods takes the kernel milliseconds to write, so which mount a path is on is remembered for as long
//! as the kernel says that it is still the same one.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use rustix::fs::{AtFlags, CWD, StatVfs, StatxFlags, statvfs, statx};

use super::mounts::{Mount, mount_of, mounts};
use super::usage::FilesystemUsage;

/// How many paths are remembered. An engine has one directory for its layers.
const MAX_KNOWN: usize = 8;

/// The file systems that somebody asked about.
#[derive(Debug, Default)]
pub(super) struct Filesystems(Mutex<Vec<Known>>);

/// Which mount a path was found on.
#[derive(Debug, Clone)]
struct Known {
    path: PathBuf,
    identity: Identity,
    mount: Mount,
}

/// What tells one mount from another: its device, and its ID where the kernel gives it (Linux 5.8).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Identity {
    device: (u32, u32),
    id: u64,
}

impl Identity {
    fn of(path: &Path) -> io::Result<Self> {
        let found = statx(CWD, path, AtFlags::empty(), StatxFlags::MNT_ID)?;
        Ok(Self {
            device: (found.stx_dev_major, found.stx_dev_minor),
            id: found.stx_mnt_id,
        })
    }
}

impl Filesystems {
    /// The file system that `path` is on; `mountinfo` is asked for only if that is not known yet. Blocks while the file system does, as one
    /// of a dead server may for long.
    pub(super) fn usage<T: AsRef<[u8]>>(
        &self,
        path: &Path,
        mountinfo: impl FnOnce() -> io::Result<T>,
    ) -> io::Result<FilesystemUsage> {
        let real = path.canonicalize()?;
        let identity = Identity::of(&real)?;
        let numbers = statvfs(&real)?;
        let at = SystemTime::now();
        let is_it = |known: &Known| known.path == real && known.identity == identity;
        let known = self.known().iter().find(|known| is_it(known)).cloned();
        let mount = match known {
            Some(known) => known.mount,
            None => {
                let mount = mount_of(mounts(mountinfo()?.as_ref()), &real).ok_or_else(|| {
                    io::Error::new(io::ErrorKind::NotFound, "it is on none of the mounts")
                })?;
                let mut known = self.known();
                known.retain(|known| known.path != real);
                if known.len() >= MAX_KNOWN {
                    known.remove(0);
                }
                known.push(Known {
                    path: real,
                    identity,
                    mount: mount.clone(),
                });
                mount
            }
        };
        Ok(from_parts(mount, &numbers, at))
    }

    fn known(&self) -> MutexGuard<'_, Vec<Known>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn from_parts(mount: Mount, numbers: &StatVfs, at: SystemTime) -> FilesystemUsage {
    let bytes = |blocks: u64| blocks.saturating_mul(numbers.f_frsize);
    // Such as btrfs: inodes are made as they are needed, and none are counted.
    let inodes = (numbers.f_files > 0).then_some(numbers.f_files);
    FilesystemUsage {
        at,
        mountpoint: mount.point,
        source: mount.source,
        capacity_bytes: bytes(numbers.f_blocks),
        used_bytes: bytes(numbers.f_blocks.saturating_sub(numbers.f_bfree)),
        available_bytes: bytes(numbers.f_bavail),
        inodes,
        inodes_used: inodes.map(|inodes| inodes.saturating_sub(numbers.f_ffree)),
        inodes_free: inodes.map(|_| numbers.f_ffree),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_is_on_a_file_system_of_this_host() {
        let dir = tempfile::tempdir().unwrap();
        let link = dir.path().join("link");
        std::os::unix::fs::symlink(dir.path(), &link).unwrap();
        let mountinfo = std::fs::read("/proc/self/mountinfo").unwrap();
        let filesystems = Filesystems::default();
        let usage = filesystems.usage(&link, || Ok(&mountinfo)).unwrap();
        assert!(
            dir.path()
                .canonicalize()
                .unwrap()
                .starts_with(&usage.mountpoint)
        );
        assert!(usage.capacity_bytes >= usage.used_bytes);
        assert!(usage.capacity_bytes > 0);

        let again = filesystems.usage(&link, || -> io::Result<Vec<u8>> {
            panic!("the mount table is read although the mount is known")
        });
        assert_eq!(again.unwrap().mountpoint, usage.mountpoint);
    }

    #[test]
    fn another_mount_at_a_known_path_is_noticed() {
        let dir = tempfile::tempdir().unwrap();
        let filesystems = Filesystems::default();
        let mountpoint = |table: &'static str| {
            let usage = filesystems.usage(dir.path(), || Ok(table)).unwrap();
            usage.mountpoint
        };
        let (first, second) = (
            "22 1 254:0 / / rw - ext4 /dev/vda rw\n",
            "22 1 254:0 / /tmp rw - ext4 /dev/vdb rw\n",
        );
        assert_eq!(mountpoint(first), Path::new("/"));
        assert_eq!(mountpoint(second), Path::new("/"), "it is read once");
        for known in filesystems.known().iter_mut() {
            known.identity.device.1 ^= 1;
        }
        let temporary = dir.path().canonicalize().unwrap();
        if temporary.starts_with("/tmp") {
            assert_eq!(mountpoint(second), Path::new("/tmp"));
        }
        assert_eq!(filesystems.known().len(), 1);
    }

    #[test]
    fn a_path_that_is_not_there_is_an_error() {
        let usage = |path| Filesystems::default().usage(Path::new(path), || Ok(""));
        assert!(usage("/nowhere/at/all").is_err());
        assert!(usage("/").is_err());
    }
}
