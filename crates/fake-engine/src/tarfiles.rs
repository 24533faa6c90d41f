//! Owns tar: file trees to archives and back. Knows no containers and no requests.

use std::io::Read as _;

use bytes::Bytes;
use tar::{EntryType, Header};

use crate::files::{Kind, Node, clean};

/// An archive cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("Error processing tar file: {0}")]
pub(crate) struct TarError(#[from] std::io::Error);

/// One entry of an archive, its path clean and absolute.
pub(crate) struct Entry {
    pub(crate) path: String,
    pub(crate) node: Node,
}

/// The entries of an archive. Devices and the like are left out; a hard link becomes a copy.
pub(crate) fn unpack(archive: &[u8]) -> Result<Vec<Entry>, TarError> {
    let mut entries: Vec<Entry> = Vec::new();
    let mut reader = tar::Archive::new(archive);
    for entry in reader.entries()? {
        let mut entry = entry?;
        let path = clean("/", &String::from_utf8_lossy(&entry.path_bytes()));
        let target = entry
            .link_name_bytes()
            .map(|name| String::from_utf8_lossy(&name).into_owned());
        let header = entry.header();
        let (mode, time) = (
            header.mode()? & 0o7777,
            header.mtime()?.saturating_mul(1_000_000_000),
        );
        // Writers that do not care leave these empty, which the engine takes for root.
        let number = |id: std::io::Result<u64>| u32::try_from(id.unwrap_or(0)).unwrap_or(u32::MAX);
        let owner = (number(header.uid()), number(header.gid()));
        let kind = match header.entry_type() {
            EntryType::Directory => Kind::Dir,
            EntryType::Regular | EntryType::Continuous | EntryType::GNUSparse => {
                let mut data = Vec::new();
                entry.read_to_end(&mut data)?;
                Kind::File(data.into())
            }
            EntryType::Symlink => Kind::Link(target.unwrap_or_default()),
            EntryType::Link => {
                let target = clean("/", &target.unwrap_or_default());
                match entries.iter().find(|other| other.path == target) {
                    Some(other) => other.node.kind.clone(),
                    None => continue,
                }
            }
            _ => continue,
        };
        entries.push(Entry {
            path,
            node: Node {
                kind,
                mode,
                owner,
                time,
            },
        });
    }
    Ok(entries)
}

/// An archive of nodes under the names given.
pub(crate) fn pack<'a>(
    nodes: impl IntoIterator<Item = (String, &'a Node)>,
) -> Result<Bytes, TarError> {
    let mut builder = tar::Builder::new(Vec::new());
    for (name, node) in nodes {
        let mut header = Header::new_gnu();
        header.set_mode(node.mode);
        header.set_mtime(node.time / 1_000_000_000);
        header.set_uid(u64::from(node.owner.0));
        header.set_gid(u64::from(node.owner.1));
        match &node.kind {
            Kind::Dir => {
                header.set_entry_type(EntryType::Directory);
                header.set_size(0);
                builder.append_data(&mut header, format!("{name}/"), std::io::empty())?;
            }
            Kind::File(data) => {
                header.set_entry_type(EntryType::Regular);
                header.set_size(data.len() as u64);
                builder.append_data(&mut header, &name, &data[..])?;
            }
            Kind::Link(target) => {
                header.set_entry_type(EntryType::Symlink);
                header.set_size(0);
                builder.append_link(&mut header, &name, target)?;
            }
        }
    }
    Ok(builder.into_inner()?.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tree_survives_packing() {
        let file = Node {
            mode: 0o640,
            ..Node::file("hi", 5_000_000_000)
        };
        let (dir, link) = (Node::dir(0).owned((1, 2)), Node::link("a/b", 0));
        let long = "x".repeat(150);
        let tar = pack([
            ("a".into(), &dir),
            ("a/b".into(), &file),
            ("l".into(), &link),
            (long.clone(), &file),
        ])
        .unwrap();
        let entries = unpack(&tar).unwrap();
        let found: Vec<_> = entries
            .iter()
            .map(|e| (e.path.clone(), e.node.clone()))
            .collect();
        assert_eq!(
            found,
            [
                ("/a".into(), dir),
                ("/a/b".into(), file.clone()),
                ("/l".into(), link),
                (format!("/{long}"), file)
            ]
        );
    }

    #[test]
    fn a_path_cannot_leave_the_archive_and_nonsense_is_an_error() {
        let file = Node::file("x", 0);
        let tar = pack([("a".into(), &file)]).unwrap();
        let mut evil = tar.to_vec();
        evil[..7].copy_from_slice(b"../../e");
        evil[148..156].copy_from_slice(b"        ");
        let sum: u32 = evil[..512].iter().map(|b| u32::from(*b)).sum();
        evil[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        assert_eq!(unpack(&evil).unwrap()[0].path, "/e");
        assert!(unpack(&[1; 1024]).is_err());
    }
}
