//! The directories of a pod: named volumes of the engine, so that they need no path of the host and no record of ours.

use berth_docker::model::TextMap;

/// The options of the engine's `local` driver. Memory is a tmpfs, open to every user, of the given size if any.
pub(crate) fn driver_options(memory: Option<Option<u64>>) -> TextMap {
    let Some(size) = memory else {
        return TextMap::new();
    };
    let options = match size {
        Some(bytes) => format!("mode=0777,size={bytes}"),
        None => "mode=0777".to_owned(),
    };
    [
        ("type", "tmpfs"),
        ("device", "tmpfs"),
        ("o", options.as_str()),
    ]
    .into_iter()
    .collect()
}

/// A tar archive with one empty directory of mode 0777 for each name. Extracted over volumes, it opens them to every user.
pub(crate) fn open_directories<'a>(names: impl Iterator<Item = &'a str>) -> Vec<u8> {
    let mut archive = Vec::new();
    for name in names {
        let mut header = tar::Header::new_ustar();
        header.set_entry_type(tar::EntryType::Directory);
        header.set_mode(0o777);
        header.set_size(0);
        // A volume's name is a DNS label: it always fits.
        if header.set_path(format!("{name}/")).is_ok() {
            header.set_cksum();
            archive.extend_from_slice(header.as_bytes());
        }
    }
    // The end of an archive is two empty blocks.
    archive.resize(archive.len() + 1024, 0);
    archive
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_directory_is_open_to_all() {
        let bytes = open_directories(["cache", "data"].into_iter());
        let mut archive = tar::Archive::new(bytes.as_slice());
        let entries: Vec<(String, u32)> = archive
            .entries()
            .unwrap()
            .map(|entry| {
                let entry = entry.unwrap();
                (
                    entry.path().unwrap().display().to_string(),
                    entry.header().mode().unwrap(),
                )
            })
            .collect();
        assert_eq!(
            entries,
            [("cache/".to_owned(), 0o777), ("data/".to_owned(), 0o777)]
        );
    }
}
