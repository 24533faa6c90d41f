//! Limits that Docker has no word for: written to the files of a container's cgroup once it runs.
//!
//! There is a moment between the start and the write in which they do not hold; the engine offers no place in between. Kubelets name a limit
//! for every size of huge pages that the kernel has, also where no cgroup limits them: such a limit is left out, as other runtimes do.

use std::fs::OpenOptions;
use std::io::{self, Write as _};
use std::path::PathBuf;

use crate::spec::Resources;
use crate::stats::CgroupPaths;

/// One file of a cgroup and what belongs into it.
#[derive(Debug, PartialEq, Eq)]
struct Limit {
    path: PathBuf,
    value: String,
    /// Whether the host may lack the file: then there is nothing that could be limited.
    is_optional: bool,
}

/// The limit that a kubelet names for the sizes that a container does not ask for.
const NONE: &str = "0";

/// Says of limits of huge pages that they do not hold, where one of them was asked for.
pub(super) fn tell_of_left_out(resources: &Resources, why: &dyn std::fmt::Display) {
    if resources.hugepages.iter().any(|(_, limit)| *limit > 0) {
        tracing::warn!(%why, "limits of huge pages are left out");
    }
}

/// Whether there is anything to write.
pub(super) fn are_in(resources: &Resources) -> bool {
    !resources.hugepages.is_empty() || !resources.unified.is_empty()
}

/// The files to write and what into them; pure.
fn limits(paths: &CgroupPaths, resources: &Resources) -> Result<Vec<Limit>, String> {
    let mut limits = Vec::new();
    for (size, limit) in &resources.hugepages {
        if size.is_empty() || size.contains('/') {
            return Err(format!("{size:?} is no size of huge pages"));
        }
        let path = match (&paths.hugetlb, &paths.unified) {
            (Some(own), _) => own.join(format!("hugetlb.{size}.limit_in_bytes")),
            (None, Some(unified)) => unified.join(format!("hugetlb.{size}.max")),
            (None, None) => continue,
        };
        limits.push(Limit {
            path,
            value: limit.to_string(),
            is_optional: true,
        });
    }
    if !resources.unified.is_empty() {
        // On a host with both hierarchies the second has no controllers, so a file would not be there.
        let unified = paths
            .unified
            .as_ref()
            .filter(|_| paths.memory.is_none())
            .ok_or("unified: this host has cgroups of version 1, which have no such files")?;
        limits.extend(resources.unified.iter().map(|(name, value)| Limit {
            path: unified.join(name),
            value: value.clone(),
            is_optional: false,
        }));
    }
    Ok(limits)
}

/// Limits that can be written: their files are open.
#[derive(Debug, Default)]
pub(super) struct Ready(Vec<(std::fs::File, Limit)>);

/// Opens the files of a running container's limits. Nothing is written yet.
///
/// # Errors
/// When the host has no such file, or it cannot be written.
pub(super) fn prepare(paths: &CgroupPaths, resources: &Resources) -> Result<Ready, String> {
    let mut ready = Vec::new();
    for limit in limits(paths, resources)? {
        match OpenOptions::new().write(true).open(&limit.path) {
            Ok(file) => ready.push((file, limit)),
            Err(error) if limit.is_optional && error.kind() == io::ErrorKind::NotFound => {
                let path = limit.path.display();
                match limit.value.as_str() {
                    NONE => tracing::debug!(%path, "no cgroup of this host limits these pages"),
                    value => {
                        tracing::warn!(%path, value, "a limit of huge pages is left out: no cgroup of this host limits these pages")
                    }
                }
            }
            Err(error) => {
                return Err(format!("cannot write to {}: {error}", limit.path.display()));
            }
        }
    }
    Ok(Ready(ready))
}

impl Ready {
    /// Writes them, unless the cgroup has gone with the container's end meanwhile.
    ///
    /// # Errors
    /// When the kernel refuses a value; those before it are written.
    pub(super) fn write(self) -> Result<(), String> {
        for (mut file, limit) in self.0 {
            match file.write_all(limit.value.as_bytes()) {
                // What the kernel says of a file whose cgroup was removed.
                Err(error)
                    if error.raw_os_error() == Some(rustix::io::Errno::NODEV.raw_os_error()) =>
                {
                    break;
                }
                result => result.map_err(|error| {
                    let (path, value) = (limit.path.display(), &limit.value);
                    format!("cannot write {value:?} to {path}: {error}")
                })?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn resources() -> Resources {
        Resources {
            hugepages: vec![("2MB".to_owned(), 4 << 20)],
            unified: [("memory.high".to_owned(), "1000000".to_owned())].into(),
            ..Resources::default()
        }
    }

    fn old() -> CgroupPaths {
        CgroupPaths {
            memory: Some("/v1/memory/c".into()),
            hugetlb: Some("/v1/hugetlb/c".into()),
            unified: Some("/v1/unified/c".into()),
            ..CgroupPaths::default()
        }
    }

    fn new(directory: &Path) -> CgroupPaths {
        CgroupPaths {
            unified: Some(directory.to_owned()),
            ..CgroupPaths::default()
        }
    }

    #[test]
    fn the_files_are_those_of_the_hosts_version() {
        let names = |paths: &CgroupPaths, resources: &Resources| -> Result<Vec<String>, String> {
            Ok(limits(paths, resources)?
                .into_iter()
                .map(|limit| limit.path.display().to_string())
                .collect())
        };
        assert_eq!(
            names(&new(Path::new("/v2/c")), &resources()).expect("v2"),
            ["/v2/c/hugetlb.2MB.max", "/v2/c/memory.high"]
        );
        let error = names(&old(), &resources()).expect_err("v1 has no unified files");
        assert!(error.contains("unified"), "{error}");
        let mut only_pages = resources();
        only_pages.unified.clear();
        assert_eq!(
            names(&old(), &only_pages).expect("v1"),
            ["/v1/hugetlb/c/hugetlb.2MB.limit_in_bytes"]
        );
    }

    #[test]
    fn pages_that_no_cgroup_limits_are_left_out_and_other_files_have_to_be_there() {
        let directory = tempfile::tempdir().expect("a directory");
        let paths = new(directory.path());
        let mut wanted = resources();
        let error = prepare(&paths, &wanted).expect_err("there is no memory.high");
        assert!(error.contains("memory.high"), "{error}");
        let file = directory.path().join("memory.high");
        std::fs::write(&file, "max").expect("a file");
        prepare(&paths, &wanted)
            .and_then(Ready::write)
            .expect("written");
        assert_eq!(std::fs::read_to_string(&file).expect("the file"), "1000000");
        assert!(!directory.path().join("hugetlb.2MB.max").exists());
        wanted.unified.clear();
        prepare(&CgroupPaths::default(), &wanted)
            .and_then(Ready::write)
            .expect("nothing to do");
    }
}
