//! What must be at a host path before it is mounted (`hostPath.type`).

use std::fs;
use std::os::unix::fs::{DirBuilderExt as _, FileTypeExt as _, OpenOptionsExt as _};
use std::path::Path;

use crate::pod::{HostPath, HostPathType};

/// Checks a host path, and makes what its type says is to be made. `is_local`: the engine mounts paths of this host.
///
/// # Errors
/// What is there instead, or why it cannot be made.
pub(crate) fn prepare(host: &HostPath, is_local: bool) -> Result<(), String> {
    let path = Path::new(&host.path);
    // The engine makes a directory where nothing is, also on a host that is not ours.
    if matches!(host.kind, HostPathType::Unset)
        || (!is_local && host.kind == HostPathType::DirectoryOrCreate)
    {
        return Ok(());
    }
    if !is_local {
        return Err(format!(
            "hostPath {}: its type can only be checked on the host of the engine, and the engine is on another",
            host.path
        ));
    }
    let failed = |error: std::io::Error| format!("hostPath {}: {error}", host.path);
    let kind = match fs::metadata(path) {
        Ok(metadata) => Some(metadata.file_type()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
        Err(error) => return Err(failed(error)),
    };
    let (matches, expected) = match (host.kind, kind) {
        (HostPathType::Unset, _) => return Ok(()),
        (HostPathType::DirectoryOrCreate, None) => {
            return fs::DirBuilder::new()
                .recursive(true)
                .mode(0o755)
                .create(path)
                .map_err(failed);
        }
        (HostPathType::FileOrCreate, None) => {
            return fs::OpenOptions::new()
                .write(true)
                .create_new(true)
                .mode(0o644)
                .open(path)
                .map(drop)
                .map_err(failed);
        }
        (HostPathType::DirectoryOrCreate | HostPathType::Directory, kind) => {
            (kind.is_some_and(|kind| kind.is_dir()), "a directory")
        }
        (HostPathType::FileOrCreate | HostPathType::File, kind) => {
            (kind.is_some_and(|kind| kind.is_file()), "a file")
        }
        (HostPathType::Socket, kind) => (kind.is_some_and(|kind| kind.is_socket()), "a socket"),
        (HostPathType::CharDevice, kind) => (
            kind.is_some_and(|kind| kind.is_char_device()),
            "a character device",
        ),
        (HostPathType::BlockDevice, kind) => (
            kind.is_some_and(|kind| kind.is_block_device()),
            "a block device",
        ),
    };
    if matches {
        return Ok(());
    }
    let found = if kind.is_some() {
        "something else is there"
    } else {
        "nothing is there"
    };
    Err(format!(
        "hostPath {}: {expected} is expected, and {found}",
        host.path
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn prepare_at(path: &Path, kind: HostPathType) -> Result<(), String> {
        prepare(
            &HostPath {
                path: path.display().to_string(),
                kind,
            },
            true,
        )
    }

    #[test]
    fn what_is_to_be_made_is_made_and_what_must_be_there_is_checked() {
        let directory = tempfile::tempdir().unwrap();
        let made = directory.path().join("a/b");
        assert!(
            prepare_at(&made, HostPathType::Directory)
                .unwrap_err()
                .contains("nothing is there")
        );
        prepare_at(&made, HostPathType::DirectoryOrCreate).unwrap();
        prepare_at(&made, HostPathType::Directory).unwrap();
        assert!(
            prepare_at(&made, HostPathType::File)
                .unwrap_err()
                .contains("something else")
        );
        let file = directory.path().join("file");
        prepare_at(&file, HostPathType::FileOrCreate).unwrap();
        prepare_at(&file, HostPathType::File).unwrap();
        assert!(prepare_at(&file, HostPathType::Socket).is_err());
        prepare_at(Path::new("/dev/null"), HostPathType::CharDevice).unwrap();
        // A parent that is not there is not made for a file.
        assert!(prepare_at(&directory.path().join("x/y"), HostPathType::FileOrCreate).is_err());
    }

    #[test]
    fn another_hosts_paths_cannot_be_checked() {
        let host = |kind| HostPath {
            path: "/nowhere".into(),
            kind,
        };
        assert!(prepare(&host(HostPathType::File), false).is_err());
        assert!(prepare(&host(HostPathType::Unset), false).is_ok());
        assert!(prepare(&host(HostPathType::DirectoryOrCreate), false).is_ok());
    }
}
