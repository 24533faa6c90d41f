//! File systems as a whole.
//!
//! Owns how a path is put to a mount and its numbers. Refuses to know what is stored there.

use std::io;
use std::path::Path;
use std::time::SystemTime;

use rustix::fs::{StatVfs, statvfs};

use super::mounts::{Mount, mount_of, mounts};
use super::usage::FilesystemUsage;

/// The file system that `path` is on. Blocks while the file system does, as one of a dead server may for long.
pub(super) fn usage(mountinfo: &[u8], path: &Path) -> io::Result<FilesystemUsage> {
    let real = path.canonicalize()?;
    let numbers = statvfs(&real)?;
    let mount = mount_of(mounts(mountinfo), &real)
        .ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, "it is on none of the mounts"))?;
    Ok(from_parts(mount, &numbers, SystemTime::now()))
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
        let usage = usage(&mountinfo, &link).unwrap();
        assert!(
            dir.path()
                .canonicalize()
                .unwrap()
                .starts_with(&usage.mountpoint)
        );
        assert!(usage.capacity_bytes >= usage.used_bytes);
        assert!(usage.capacity_bytes > 0);
    }

    #[test]
    fn a_path_that_is_not_there_is_an_error() {
        assert!(usage(b"", Path::new("/nowhere/at/all")).is_err());
        assert!(usage(b"", Path::new("/")).is_err());
    }
}
