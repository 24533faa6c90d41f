//! The mount table, from `/proc/<pid>/mountinfo`.
//!
//! Owns the format, and which mount a path lies on. Refuses to know what is done with the answer.

use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use super::text::lines;

/// One mount.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mount {
    /// Which directory of the file system is mounted.
    pub root: PathBuf,
    /// Where.
    pub point: PathBuf,
    /// The type, such as `ext4`.
    pub fs_type: String,
    /// What is mounted, such as `/dev/sda1`.
    pub source: String,
    /// The options of the file system, separated by commas; as the kernel writes them, so that a comma in a value is `\\054`.
    pub options: Vec<u8>,
}

/// All mounts in a `mountinfo`, in its order. A line that is not one is passed over.
pub fn mounts(text: &[u8]) -> impl Iterator<Item = Mount> {
    lines(text).filter_map(mount)
}

fn mount(line: &[u8]) -> Option<Mount> {
    // 36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 - ext3 /dev/root rw,errors=continue
    let mut fields = line.split(|byte| *byte == b' ');
    let root = fields.nth(3)?;
    let point = fields.next()?;
    // After the mount's own options comes any number of tags, up to a dash.
    fields.by_ref().find(|field| *field == b"-")?;
    let fs_type = fields.next()?;
    let source = fields.next()?;
    let options = fields.next().unwrap_or_default();
    Some(Mount {
        root: path(root),
        point: path(point),
        fs_type: String::from_utf8_lossy(fs_type).into_owned(),
        source: String::from_utf8_lossy(&unescape(source)).into_owned(),
        options: options.to_vec(),
    })
}

/// The mount that `path`, which is absolute and has no links in it, lies on: the last one, of those with the longest mount point above it.
pub fn mount_of(mounts: impl Iterator<Item = Mount>, path: &Path) -> Option<Mount> {
    mounts
        .filter(|mount| path.starts_with(&mount.point))
        .max_by_key(|mount| mount.point.as_os_str().len())
}

/// The directory that takes a container's writes: `upperdir` of the overlay that its root is, from the `mountinfo` of its first process.
/// The path is one of the engine's.
pub fn upper_dir(mountinfo: &[u8]) -> Option<PathBuf> {
    let root = mounts(mountinfo).find(|mount| mount.point == Path::new("/"))?;
    if root.fs_type != "overlay" && root.fs_type != "fuse.fuse-overlayfs" {
        return None;
    }
    let upper = root
        .options
        .split(|byte| *byte == b',')
        .find_map(|option| option.strip_prefix(b"upperdir="))?;
    let upper = PathBuf::from(OsString::from_vec(without_backslashes(&unescape(upper))));
    upper.is_absolute().then_some(upper)
}

/// Whoever mounts an overlay puts a backslash before commas, colons and backslashes in a path, and older kernels show it as it was given.
fn without_backslashes(path: &[u8]) -> Vec<u8> {
    let mut plain = Vec::with_capacity(path.len());
    let mut bytes = path.iter().copied().peekable();
    while let Some(byte) = bytes.next() {
        let escapes = byte == b'\\' && matches!(bytes.peek(), Some(b',' | b':' | b'\\'));
        plain.push(if escapes {
            bytes.next().unwrap_or(byte)
        } else {
            byte
        });
    }
    plain
}

/// The kernel writes blanks, backslashes, ends of lines and, within options, commas as a backslash and three octal digits.
fn unescape(text: &[u8]) -> Vec<u8> {
    let mut plain = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((byte, tail)) = rest.split_first() {
        rest = tail;
        if *byte == b'\\'
            && let Some(code) = tail.get(..3).and_then(octal)
        {
            plain.push(code);
            rest = &tail[3..];
        } else {
            plain.push(*byte);
        }
    }
    plain
}

fn octal(digits: &[u8]) -> Option<u8> {
    digits.iter().try_fold(0_u8, |code, digit| {
        let digit = digit.wrapping_sub(b'0');
        (digit < 8).then(|| code.checked_mul(8)?.checked_add(digit))?
    })
}

fn path(field: &[u8]) -> PathBuf {
    PathBuf::from(std::ffi::OsStr::from_bytes(&unescape(field)))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const TABLE: &[u8] = b"\
22 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw\n\
23 22 0:21 / /sys rw,relatime - sysfs sysfs rw\n\
32 23 0:29 / /sys/fs/cgroup/cpu,cpuacct rw,relatime shared:9 master:3 - cgroup cgroup rw,cpu,cpuacct\n\
40 22 8:1 /data /var/lib/my\\040docker rw - xfs /dev/sda1 rw,attr2\n\
not a mount\n";

    #[test]
    fn a_path_lies_on_the_deepest_mount_above_it() {
        let of = |path: &str| mount_of(mounts(TABLE), Path::new(path)).unwrap();
        assert_eq!(of("/var/lib/my docker/overlay2/x").source, "/dev/sda1");
        assert_eq!(
            of("/var/lib/my docker").point,
            Path::new("/var/lib/my docker")
        );
        assert_eq!(of("/var/lib/my docker2").source, "/dev/vda");
        assert_eq!(of("/").fs_type, "ext4");
        let cgroup = of("/sys/fs/cgroup/cpu,cpuacct/docker/x");
        assert_eq!(cgroup.options, b"rw,cpu,cpuacct");
        assert_eq!(mount_of(mounts(b""), Path::new("/")), None);
    }

    #[test]
    fn the_upper_directory_is_that_of_the_root() {
        let table = b"72 48 0:39 / / rw,relatime master:2 - overlay overlay rw,lowerdir=/d/l/A:/d/l/B,upperdir=/d/817f/diff,workdir=/d/817f/work\n73 72 0:42 / /proc rw - proc proc rw\n74 72 0:50 / /mnt rw - overlay overlay rw,upperdir=/elsewhere\n";
        assert_eq!(upper_dir(table), Some("/d/817f/diff".into()));
        let escaped =
            b"72 48 0:39 / / rw - overlay overlay rw,upperdir=/d/a\\134\\054b\\040c,workdir=/w\n";
        assert_eq!(upper_dir(escaped), Some("/d/a,b c".into()));
        assert_eq!(upper_dir(TABLE), None);
        assert_eq!(
            upper_dir(b"72 48 0:39 / / ro - overlay overlay ro,lowerdir=/a:/b\n"),
            None
        );
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(text: Vec<u8>, path: String) {
            mount_of(mounts(&text), Path::new(&path));
            upper_dir(&text);
        }

        #[test]
        fn nearly_right_lines_never_panic(
            text in "[0-9]{1,2} 1 0:1 / / rw (x:1 )?-? overlay o [a-z,=\\\\0-9/]{0,40}"
        ) {
            mount_of(mounts(text.as_bytes()), Path::new("/a"));
            upper_dir(text.as_bytes());
        }
    }
}
