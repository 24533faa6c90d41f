//! Ending a process of a container together with everything that it started, from outside.
//!
//! The engine starts commands but cannot end them. Their processes are found in `/proc` of this host; one is touched only if its cgroup is the
//! container's, so neither the processes of another host's engine nor a number that was given out again can be meant.

use std::collections::HashSet;
use std::fs;

use rustix::process::{Pid, Signal, kill_process};

use crate::spec::ContainerId;

/// How often the tree is looked at for children that came meanwhile; each time its known part stands still, so it can only grow at its edges.
const ROUNDS: usize = 8;

/// Ends a process and its descendants with SIGKILL. Gives how many there were: 0 when it is gone, or not a process of the container on this host.
///
/// Reads `/proc`: a few milliseconds on a busy host.
pub(super) fn kill_tree(root: u32, container: &ContainerId) -> usize {
    let mut tree: HashSet<u32> = HashSet::new();
    for _ in 0..ROUNDS {
        let new: Vec<u32> = descendants(root)
            .into_iter()
            .filter(|pid| !tree.contains(pid) && is_in(*pid, container))
            .collect();
        if new.is_empty() {
            break;
        }
        for pid in new {
            // What stands still starts nothing more.
            send(pid, Signal::STOP);
            tree.insert(pid);
        }
    }
    for pid in &tree {
        if is_in(*pid, container) {
            send(*pid, Signal::KILL);
        }
    }
    tree.len()
}

fn send(pid: u32, signal: Signal) {
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw);
    if let Some(pid) = pid {
        // It may have ended by itself.
        let _ = kill_process(pid, signal);
    }
}

/// Whether the process runs in the container's cgroup, whose path has the container's ID with every driver.
fn is_in(pid: u32, container: &ContainerId) -> bool {
    fs::read_to_string(format!("/proc/{pid}/cgroup"))
        .is_ok_and(|cgroups| cgroups.contains(container.as_str()))
}

/// The process and its descendants.
fn descendants(root: u32) -> Vec<u32> {
    // What has no process yet has number 0, of which everything descends; and no container's process is the host's first.
    if root <= 1 {
        return Vec::new();
    }
    let Ok(entries) = fs::read_dir("/proc") else {
        return Vec::new();
    };
    let parents: Vec<(u32, u32)> = entries
        .filter_map(|entry| {
            let pid: u32 = entry.ok()?.file_name().to_str()?.parse().ok()?;
            Some((
                pid,
                parent(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)?,
            ))
        })
        .collect();
    let mut tree = vec![root];
    let mut at = 0;
    while at < tree.len() {
        let pid = tree[at];
        let children = parents
            .iter()
            .filter(|(_, parent)| *parent == pid)
            .map(|(child, _)| *child);
        tree.extend(children);
        at += 1;
    }
    tree
}

/// The parent in a `/proc/<pid>/stat` line: `pid (name) state parent …`, where the name may contain anything.
fn parent(stat: &str) -> Option<u32> {
    let (_, rest) = stat.rsplit_once(')')?;
    rest.split_whitespace().nth(1)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_brackets_does_not_hide_the_parent() {
        assert_eq!(parent("12 (a) 1 (b)) S 7 12 12 0"), Some(7));
        assert_eq!(parent("12 (sh"), None);
        assert_eq!(parent(""), None);
    }

    #[test]
    fn a_process_that_is_not_the_containers_is_left_alone() {
        let own = std::process::id();
        let container = ContainerId::new("f".repeat(64));
        assert!(descendants(own).contains(&own));
        assert_eq!(kill_tree(own, &container), 0);
    }

    #[test]
    fn no_process_is_not_the_parent_of_all() {
        assert_eq!(descendants(0), Vec::<u32>::new());
        assert_eq!(descendants(1), Vec::<u32>::new());
    }
}
