//! Limits that Docker has no word for: written to the files of a container's cgroup once it runs.
//!
//! There is a moment between the start and the write in which they do not hold; the engine offers no place in between.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use crate::spec::{ContainerId, Resources};

/// Where cgroups are mounted.
const CGROUPS: &str = "/sys/fs/cgroup";

/// The files to write and what into them; pure. `cgroups` is the text of `/proc/<pid>/cgroup`.
fn writes(cgroups: &str, resources: &Resources) -> Result<BTreeMap<PathBuf, String>, String> {
    let unified = cgroups.lines().find_map(|line| line.strip_prefix("0::/"));
    let controller = |name: &str| {
        cgroups.lines().find_map(|line| {
            let mut fields = line.splitn(3, ':');
            let controllers = fields.nth(1)?;
            let path = fields.next()?.trim_start_matches('/');
            controllers
                .split(',')
                .any(|one| one == name)
                .then_some(path)
        })
    };
    let mut files = BTreeMap::new();
    for (size, limit) in &resources.hugepages {
        let (path, limit_file) = match (controller("hugetlb"), unified) {
            (Some(path), _) => (Path::new("hugetlb").join(path), "limit_in_bytes"),
            (None, Some(path)) => (PathBuf::from(path), "max"),
            (None, None) => return Err("the host has no cgroup that limits huge pages".to_owned()),
        };
        if size.contains('/') {
            return Err(format!("{size:?} is no size of huge pages"));
        }
        files.insert(
            path.join(format!("hugetlb.{size}.{limit_file}")),
            limit.to_string(),
        );
    }
    if !resources.unified.is_empty() {
        // On a host with both hierarchies the second has no controllers, so a file would not be there.
        let path = unified
            .filter(|_| controller("memory").is_none())
            .ok_or("unified: this host has cgroups of version 1, which have no such files")?;
        for (name, value) in &resources.unified {
            files.insert(Path::new(path).join(name), value.clone());
        }
    }
    Ok(files)
}

/// Writes the limits of a running container. Nothing is written unless the process is the container's.
///
/// # Errors
/// When the host has no such file, or the kernel refuses.
pub(super) fn apply(process: u32, id: &ContainerId, resources: &Resources) -> Result<(), String> {
    if resources.hugepages.is_empty() && resources.unified.is_empty() {
        return Ok(());
    }
    let cgroups = fs::read_to_string(format!("/proc/{process}/cgroup"))
        .ok()
        .filter(|text| text.contains(id.as_str()))
        .ok_or(
            "the container does not run on this host, so files of its cgroup cannot be written",
        )?;
    for (path, value) in writes(&cgroups, resources)? {
        let path = Path::new(CGROUPS).join(path);
        fs::write(&path, &value)
            .map_err(|error| format!("cannot write {value:?} to {}: {error}", path.display()))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resources() -> Resources {
        Resources {
            hugepages: vec![("2MB".to_owned(), 4 << 20)],
            unified: [("memory.high".to_owned(), "1000000".to_owned())].into(),
            ..Resources::default()
        }
    }

    #[test]
    fn the_files_are_those_of_the_hosts_version() {
        let files = writes("0::/system.slice/docker-1.scope\n", &resources()).expect("v2");
        let names: Vec<_> = files
            .keys()
            .map(|path| path.display().to_string())
            .collect();
        assert_eq!(
            names,
            [
                "system.slice/docker-1.scope/hugetlb.2MB.max",
                "system.slice/docker-1.scope/memory.high"
            ]
        );
        let old = "9:hugetlb:/docker/1\n4:memory:/docker/1\n0::/docker/1\n";
        let error = writes(old, &resources()).expect_err("v1 has no unified files");
        assert!(error.contains("unified"), "{error}");
        let mut only_pages = resources();
        only_pages.unified.clear();
        let files = writes(old, &only_pages).expect("v1");
        assert_eq!(
            files.keys().next().map(|path| path.display().to_string()),
            Some("hugetlb/docker/1/hugetlb.2MB.limit_in_bytes".to_owned())
        );
    }
}
