//! What a container may use, in Docker's words: at create and at update. Pure.
//!
//! Docker has no words for huge pages and for single cgroup files; those are written directly once the container runs.

use berth_docker::model::{HostConfig, UpdateContainer};

use super::MIN_SHARES;
use crate::spec::Resources;

pub(super) fn apply(resources: &Resources, host: &mut HostConfig) {
    let update = update(resources);
    // What a container asks for nothing of should yield to those that ask.
    host.cpu_shares = update.cpu_shares.max(MIN_SHARES);
    host.cpu_quota = update.cpu_quota;
    host.cpu_period = update.cpu_period;
    host.cpuset_cpus = update.cpuset_cpus;
    host.cpuset_mems = update.cpuset_mems;
    host.memory = update.memory;
    host.memory_swap = update.memory_swap;
}

/// The update call for these resources; what is `None` or empty stays as it is.
pub fn update(resources: &Resources) -> UpdateContainer {
    let memory = resources.memory.map(signed).unwrap_or_default();
    UpdateContainer {
        cpu_shares: resources
            .cpu_shares
            .map(|shares| signed(shares).max(MIN_SHARES))
            .unwrap_or_default(),
        cpu_quota: resources.cpu_quota.unwrap_or_default(),
        cpu_period: resources.cpu_period.map(signed).unwrap_or_default(),
        cpuset_cpus: resources.cpuset_cpus.clone(),
        cpuset_mems: resources.cpuset_mems.clone(),
        memory,
        // Equal to the memory means no swap; the two always move together, or the engine refuses to raise one above the other.
        memory_swap: resources.memory_swap.map_or(memory, signed),
        ..Default::default()
    }
}

fn signed(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_of_memory_grants_no_swap_unless_it_is_asked_for() {
        let mut resources = Resources {
            memory: Some(64 << 20),
            ..Resources::default()
        };
        assert_eq!(update(&resources).memory_swap, 64 << 20);
        resources.memory_swap = Some(96 << 20);
        let update = update(&resources);
        assert_eq!((update.memory, update.memory_swap), (64 << 20, 96 << 20));
    }

    #[test]
    fn the_least_weight_is_the_kernels() {
        let mut host = HostConfig::default();
        apply(&Resources::default(), &mut host);
        assert_eq!(host.cpu_shares, 2);
        apply(
            &Resources {
                cpu_shares: Some(1),
                ..Resources::default()
            },
            &mut host,
        );
        assert_eq!(host.cpu_shares, 2);
        assert_eq!(
            update(&Resources::default()).cpu_shares,
            0,
            "an update says nothing"
        );
    }
}
