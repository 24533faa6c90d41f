//! Whom a container's process runs as, from `/proc` of this host.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::Pods;
use crate::observe::Container;
use crate::spec::ContainerId;

/// A user as the kernel knows it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ProcessUser {
    /// Its user ID.
    pub uid: i64,
    /// Its primary group ID.
    pub gid: i64,
    /// Its groups, with the primary one if it is listed.
    pub groups: Vec<i64>,
}

/// Who each container began as: what a process makes of itself later does not count.
#[derive(Debug, Default)]
pub(super) struct Users(Mutex<HashMap<ContainerId, (u32, ProcessUser)>>);

impl Users {
    fn get(&self, container: &Container) -> Option<ProcessUser> {
        let users = self.lock();
        let (process, user) = users.get(&container.id)?;
        (*process == container.process).then(|| user.clone())
    }

    /// Remembers one, and forgets those of containers that are gone.
    fn put(&self, container: &Container, user: &ProcessUser, there: &[Arc<Container>]) {
        let there: HashSet<_> = there.iter().map(|container| &container.id).collect();
        let mut users = self.lock();
        users.retain(|id, _| there.contains(id));
        users.insert(container.id.clone(), (container.process, user.clone()));
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<ContainerId, (u32, ProcessUser)>> {
        // Whole entries come and go.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Pods {
    /// The user that a container's main process began as; `None` when it does not run, or runs on another host. Reads two files of `/proc` the
    /// first time. Cancel safe.
    pub async fn process_user(&self, container: &Container) -> Option<ProcessUser> {
        if container.process == 0 || !container.is_running() {
            return None;
        }
        if let Some(user) = self.0.users.get(container) {
            return Some(user);
        }
        let user = read(container)?;
        if let Ok(there) = self.0.view.containers().await {
            self.0.users.put(container, &user, &there);
        }
        Some(user)
    }
}

fn read(container: &Container) -> Option<ProcessUser> {
    let read = |file: &str| fs::read_to_string(format!("/proc/{}/{file}", container.process));
    // Not somebody else's process of the same number, as with an engine on another host.
    if !read("cgroup").ok()?.contains(container.id.as_str()) {
        return None;
    }
    user(&read("status").ok()?)
}

/// The effective user in the text of `/proc/<pid>/status`.
fn user(status: &str) -> Option<ProcessUser> {
    let field = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name))?;
        Some(line.split_whitespace().map(str::parse::<i64>))
    };
    // Real, effective, saved, file system.
    let effective = |name| field(name)?.nth(1)?.ok();
    Some(ProcessUser {
        uid: effective("Uid:")?,
        gid: effective("Gid:")?,
        groups: field("Groups:")?.collect::<Result<_, _>>().ok()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_effective_user_counts() {
        let status = "Name:\tsh\nUid:\t0\t1000\t0\t0\nGid:\t0\t50\t0\t0\nGroups:\t50 7 \n";
        let expected = ProcessUser {
            uid: 1000,
            gid: 50,
            groups: vec![50, 7],
        };
        assert_eq!(user(status), Some(expected));
        for broken in ["", "Uid:\t0\n", "Uid:\t0\tx\nGid:\t0\t0\nGroups:\n"] {
            assert_eq!(user(broken), None, "{broken:?}");
        }
    }
}
