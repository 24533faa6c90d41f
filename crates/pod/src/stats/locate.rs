//! Where a container's cgroups are.
//!
//! Owns the way from a process to directories: `/proc/<pid>/cgroup` says where in each hierarchy, the mount table where a hierarchy is.
//! There may be one hierarchy (version 2), one for each controller (version 1), or both (hybrid). Refuses to know what is in the
//! directories.
//!
//! A container that runs in a cgroup of somebody else's (a rootless engine without a cgroup driver leaves it in its own) has no usage that
//! could be told apart, so a cgroup counts only if the container's ID is in its path.

use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

use super::mounts::{Mount, mounts};
use super::text::lines;

/// How far above the root of our cgroup namespace directories are searched for names that the namespace hides.
const MAX_HIDDEN_LEVELS: usize = 4;

/// How many directories such a search looks at.
const MAX_SEARCHED: usize = 4096;

/// Why the cgroups of a container could not be told.
#[derive(Debug, thiserror::Error)]
pub enum LocateError {
    /// The process is gone, or `/proc` is not that of the host.
    #[error("process {pid} of the container could not be looked at")]
    Process {
        /// The process.
        pid: u32,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// There is a process, but it is not in a cgroup of this container.
    #[error(
        "process {pid} is in no cgroup of its container: the container has just ended, or the engine makes no cgroups"
    )]
    NotItsOwn {
        /// The process.
        pid: u32,
    },
    /// The cgroups are not to be seen from here.
    #[error(
        "the cgroups of the container are not mounted here: run berth on the host, or in a container with the host's cgroup \
         namespace and /sys/fs/cgroup"
    )]
    NotMounted,
    /// The mount table could not be read.
    #[error("the mount table {path:?} could not be read")]
    Mounts {
        /// Its path.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
}

impl LocateError {
    /// Whether the container has gone, most likely: not worth a warning.
    pub fn is_gone(&self) -> bool {
        matches!(self, Self::Process { source, .. } if source.kind() == io::ErrorKind::NotFound)
            || matches!(self, Self::NotItsOwn { .. })
    }
}

/// Where the cgroups of one container or pod are. Found once, when a container has been started, and good for as long as it runs.
///
/// A controller that has a directory of its own is read by the rules of version 1; all others are looked for in the unified one.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CgroupPaths {
    pub(crate) cpu: Option<PathBuf>,
    pub(crate) cpuacct: Option<PathBuf>,
    pub(crate) memory: Option<PathBuf>,
    pub(crate) pids: Option<PathBuf>,
    pub(crate) blkio: Option<PathBuf>,
    pub(crate) hugetlb: Option<PathBuf>,
    pub(crate) unified: Option<PathBuf>,
}

/// The controllers that have anything to say about usage.
const CONTROLLERS: [&[u8]; 6] = [b"cpu", b"cpuacct", b"memory", b"pids", b"blkio", b"hugetlb"];

impl CgroupPaths {
    /// The cgroup of the pod: the one that the container's is in, if it is the cgroup parent that the pod was given (a path, or the name of
    /// a slice). `None` if the container is elsewhere, or no parent was given: then the one above belongs to all containers of the engine.
    pub fn parent(&self, cgroup_parent: &str) -> Option<Self> {
        let name = Path::new(cgroup_parent).file_name()?;
        let up = |path: &Option<PathBuf>| {
            let parent = path.as_ref()?.parent()?;
            (parent.file_name() == Some(name)).then(|| parent.to_owned())
        };
        let paths = Self {
            cpu: up(&self.cpu),
            cpuacct: up(&self.cpuacct),
            memory: up(&self.memory),
            pids: up(&self.pids),
            blkio: up(&self.blkio),
            hugetlb: up(&self.hugetlb),
            unified: up(&self.unified),
        };
        (paths != Self::default()).then_some(paths)
    }

    /// A directory that shows which path this is, for people and for the `id` label of metrics.
    pub fn name(&self) -> Option<&Path> {
        self.unified
            .as_deref()
            .or(self.memory.as_deref())
            .or(self.cpuacct.as_deref())
    }

    fn slot(&mut self, controller: &[u8]) -> Option<&mut Option<PathBuf>> {
        Some(match controller {
            b"cpu" => &mut self.cpu,
            b"cpuacct" => &mut self.cpuacct,
            b"memory" => &mut self.memory,
            b"pids" => &mut self.pids,
            b"blkio" => &mut self.blkio,
            b"hugetlb" => &mut self.hugetlb,
            _ => return None,
        })
    }
}

/// The mounts of cgroup hierarchies.
#[derive(Debug)]
pub(super) struct Hierarchies(Vec<Mount>);

impl Hierarchies {
    /// From a `mountinfo`.
    pub(super) fn parse(mountinfo: &[u8]) -> Self {
        Self(
            mounts(mountinfo)
                .filter(|mount| mount.fs_type == "cgroup" || mount.fs_type == "cgroup2")
                .collect(),
        )
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The directories of the container `id`, from the `/proc/<pid>/cgroup` of one of its processes. Looks at directories only where a
    /// cgroup namespace hides part of a path.
    pub(super) fn locate(
        &self,
        pid: u32,
        id: &str,
        proc_cgroup: &[u8],
    ) -> Result<CgroupPaths, LocateError> {
        let mut paths = CgroupPaths::default();
        let mut is_its_own = false;
        for (controllers, path) in memberships(proc_cgroup) {
            let Some(path) = up_to(Path::new(OsStr::from_bytes(path)), id) else {
                continue;
            };
            is_its_own = true;
            if controllers.is_empty() {
                paths.unified = self.directory("cgroup2", b"", &path);
                continue;
            }
            for controller in controllers.split(|byte| *byte == b',') {
                if let Some(slot) = paths.slot(controller) {
                    *slot = self.directory("cgroup", controller, &path);
                }
            }
        }
        if !is_its_own {
            return Err(LocateError::NotItsOwn { pid });
        }
        if paths == CgroupPaths::default() {
            return Err(LocateError::NotMounted);
        }
        Ok(paths)
    }

    fn directory(&self, fs_type: &str, controller: &[u8], path: &Path) -> Option<PathBuf> {
        self.0
            .iter()
            .filter(|mount| mount.fs_type == fs_type)
            .filter(|mount| {
                controller.is_empty()
                    || mount
                        .options
                        .split(|byte| *byte == b',')
                        .any(|option| option == controller)
            })
            .find_map(|mount| match below(&mount.root, path) {
                Below::At(rest) => Some(mount.point.join(rest)),
                Below::Hidden { levels, rest } => {
                    search(&mount.point, levels, &rest, &mut { MAX_SEARCHED })
                }
                Below::Outside => None,
            })
    }
}

/// The lines of `/proc/<pid>/cgroup`: controllers (none for version 2) and path.
fn memberships(text: &[u8]) -> impl Iterator<Item = (&[u8], &[u8])> {
    lines(text).filter_map(|line| {
        let mut fields = line.splitn(3, |byte| *byte == b':');
        let _number = fields.next()?;
        let (controllers, path) = (fields.next()?, fields.next()?);
        let of_use = controllers.is_empty()
            || controllers
                .split(|byte| *byte == b',')
                .any(|controller| CONTROLLERS.contains(&controller));
        (of_use && path.starts_with(b"/")).then_some((controllers, path))
    })
}

/// The path up to the component that has the container's ID in it: the first process of a container may have moved into a cgroup further
/// down.
fn up_to(path: &Path, id: &str) -> Option<PathBuf> {
    if id.is_empty() {
        return None;
    }
    let mut found = PathBuf::new();
    for component in path.components() {
        found.push(component);
        let name = component.as_os_str().as_bytes();
        if name.windows(id.len()).any(|part| part == id.as_bytes()) {
            return Some(found);
        }
    }
    None
}

/// A path in a hierarchy, seen from the directory that is mounted.
#[derive(Debug, PartialEq, Eq)]
enum Below {
    /// It is this far down.
    At(PathBuf),
    /// As `At`, but below this many directories of which the names are not known.
    Hidden { levels: usize, rest: PathBuf },
    /// It cannot be reached.
    Outside,
}

/// Both paths are given from the root of our cgroup namespace, and go up from there with `..`.
fn below(root: &Path, path: &Path) -> Below {
    let (root_up, root_rest) = ups(root);
    let (path_up, path_rest) = ups(path);
    if root_up == path_up {
        return match path_rest.strip_prefix(&root_rest) {
            Ok(rest) => Below::At(rest.to_owned()),
            Err(_) => Below::Outside,
        };
    }
    if root_up < path_up || !root_rest.as_os_str().is_empty() {
        return Below::Outside;
    }
    // Down from what is mounted towards our own cgroup, and off that way before it: the names on it are hidden from us.
    Below::Hidden {
        levels: root_up - path_up,
        rest: path_rest,
    }
}

/// How often a path goes up at its beginning, and the rest.
fn ups(path: &Path) -> (usize, PathBuf) {
    let mut up = 0;
    let mut rest = PathBuf::new();
    for component in path.components() {
        match component {
            Component::ParentDir if rest.as_os_str().is_empty() => up += 1,
            Component::Normal(name) => rest.push(name),
            _ => {}
        }
    }
    (up, rest)
}

/// Looks for `rest` below every directory that is `levels` under `at`. The container's ID is in it, so the first one is the one.
fn search(at: &Path, levels: usize, rest: &Path, budget: &mut usize) -> Option<PathBuf> {
    if levels > MAX_HIDDEN_LEVELS {
        return None;
    }
    if levels == 0 {
        let found = at.join(rest);
        return found.is_dir().then_some(found);
    }
    for entry in std::fs::read_dir(at).ok()?.flatten() {
        if !entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            continue;
        }
        *budget = budget.checked_sub(1)?;
        if let Some(found) = search(&entry.path(), levels - 1, rest, budget) {
            return Some(found);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const ID: &str = "0d1bed6a4a9ab5230224b58bd51a993b4a0a282bf6b5ff4d4e00ccc37a91f52e";

    const V1_MOUNTS: &[u8] = b"\
31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755\n\
32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw,relatime - cgroup cgroup rw,cpu,cpuacct\n\
35 31 0:32 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory\n\
39 31 0:36 / /sys/fs/cgroup/pids rw,relatime - cgroup cgroup rw,pids\n\
40 31 0:37 / /sys/fs/cgroup/systemd rw,relatime - cgroup cgroup rw,name=systemd\n";

    const UNIFIED: &[u8] =
        b"41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw\n";

    fn locate(mounts: &[u8], cgroup: &str) -> Result<CgroupPaths, LocateError> {
        Hierarchies::parse(mounts).locate(7, ID, cgroup.as_bytes())
    }

    fn path(text: &str) -> Option<PathBuf> {
        Some(text.replace("ID", ID).into())
    }

    #[test]
    fn version_1_has_a_directory_for_each_controller() {
        let cgroup = format!(
            "9:name=systemd:/docker/{ID}\n8:pids:/docker/{ID}\n4:memory:/docker/{ID}\n1:cpu,cpuacct:/docker/{ID}\n"
        );
        let expected = CgroupPaths {
            cpu: path("/sys/fs/cgroup/cpu,cpuacct/docker/ID"),
            cpuacct: path("/sys/fs/cgroup/cpu,cpuacct/docker/ID"),
            memory: path("/sys/fs/cgroup/memory/docker/ID"),
            pids: path("/sys/fs/cgroup/pids/docker/ID"),
            ..CgroupPaths::default()
        };
        assert_eq!(locate(V1_MOUNTS, &cgroup).unwrap(), expected);

        // Hybrid: the unified hierarchy beside them.
        let hybrid = [V1_MOUNTS, UNIFIED].concat();
        let both = locate(&hybrid, &format!("{cgroup}0::/docker/{ID}\n")).unwrap();
        assert_eq!(both.memory, expected.memory);
        assert_eq!(both.unified, path("/sys/fs/cgroup/unified/docker/ID"));
    }

    #[test]
    fn version_2_has_one_directory_and_its_parent_may_be_the_pods() {
        let mounts = b"30 23 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw,nsdelegate\n";
        let cgroup = format!(
            "0::/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-podabc.slice/docker-{ID}.scope\n"
        );
        let paths = locate(mounts, &cgroup).unwrap();
        let pod = "/sys/fs/cgroup/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-podabc.slice";
        assert_eq!(
            paths,
            CgroupPaths {
                unified: path(&format!("{pod}/docker-ID.scope")),
                ..CgroupPaths::default()
            }
        );
        assert_eq!(
            paths
                .parent("kubepods-burstable-podabc.slice")
                .unwrap()
                .unified,
            path(pod)
        );
        assert_eq!(paths.parent(""), None);
        assert_eq!(paths.parent("/kubepods/podother"), None);
    }

    #[test]
    fn a_process_further_down_is_still_in_its_container() {
        let mounts = b"30 23 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n";
        let paths = locate(
            mounts,
            &format!("0::/system.slice/docker-{ID}.scope/init.scope\n"),
        )
        .unwrap();
        assert_eq!(
            paths.unified,
            path("/sys/fs/cgroup/system.slice/docker-ID.scope")
        );
    }

    #[test]
    fn a_process_elsewhere_has_no_usage_of_its_own() {
        let elsewhere = locate(UNIFIED, "0::/user.slice/user-1000.slice\n").unwrap_err();
        assert!(matches!(elsewhere, LocateError::NotItsOwn { pid: 7 }));
        assert!(elsewhere.is_gone());
        let unmounted = locate(b"", &format!("0::/docker/{ID}\n")).unwrap_err();
        assert!(matches!(unmounted, LocateError::NotMounted));
        assert!(!unmounted.is_gone());
    }

    #[test]
    fn paths_from_within_a_cgroup_namespace_are_followed_as_far_as_they_go() {
        let below = |root: &str, path: &str| below(Path::new(root), Path::new(path));
        let at = |rest: &str| Below::At(rest.into());
        assert_eq!(below("/", "/docker/x"), at("docker/x"));
        assert_eq!(below("/docker", "/docker/x"), at("x"));
        assert_eq!(below("/../..", "/../../docker/x"), at("docker/x"));
        assert_eq!(below("/", "/../x"), Below::Outside);
        assert_eq!(below("/other", "/docker/x"), Below::Outside);
        assert_eq!(
            below("/../..", "/../x"),
            Below::Hidden {
                levels: 1,
                rest: "x".into()
            }
        );
    }

    #[test]
    fn a_sibling_is_found_although_the_namespace_hides_the_parents_name() {
        let dir = tempfile::tempdir().unwrap();
        let scope = dir.path().join(format!("docker/{ID}"));
        std::fs::create_dir_all(&scope).unwrap();
        std::fs::create_dir_all(dir.path().join("user.slice")).unwrap();
        let mounts = format!(
            "30 23 0:26 /../.. {} rw - cgroup2 cgroup2 rw\n",
            dir.path().display()
        );
        let paths = locate(mounts.as_bytes(), &format!("0::/../{ID}\n")).unwrap();
        assert_eq!(paths.unified, Some(scope));
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(mounts: Vec<u8>, cgroup: Vec<u8>, id in "[0-9a-f]{0,3}") {
            let _ = Hierarchies::parse(&mounts).locate(1, &id, &cgroup);
        }

        #[test]
        fn odd_paths_never_lead_out_of_the_mount(root in "(/\\.\\.|/a|/b){0,4}", path in "(/\\.\\.|/a|/b){0,4}") {
            if let Below::At(rest) | Below::Hidden { rest, .. } = below(Path::new(&root), Path::new(&path)) {
                prop_assert!(rest.components().all(|part| matches!(part, Component::Normal(_))));
            }
        }
    }
}
