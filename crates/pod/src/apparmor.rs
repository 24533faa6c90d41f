//! Whether a profile of AppArmor can confine a container: the engine itself looks only when the container is started, and one that has no
//! AppArmor lets it run unconfined.

use std::fs::File;
use std::io::Read as _;

/// Where the kernel lists the profiles that are loaded, as lines of `NAME (MODE)`; for root alone.
const PROFILES: &str = "/sys/kernel/security/apparmor/profiles";

/// The most that is read of it, in bytes. A distribution's profiles take some 10 KiB.
const LIMIT: u64 = 4 << 20;

/// Why the profile cannot be used; `None` where it can, or where only the engine can tell. `here` is whether the engine is on this host.
pub(crate) fn problem(profile: &str, engine_has_apparmor: bool, here: bool) -> Option<String> {
    if !engine_has_apparmor {
        return Some(format!(
            "the AppArmor profile {profile:?} cannot be applied: the engine's host has no AppArmor"
        ));
    }
    if !here {
        return None;
    }
    let mut profiles = String::new();
    let file = File::open(PROFILES).ok()?;
    file.take(LIMIT).read_to_string(&mut profiles).ok()?;
    (!is_loaded(profile, &profiles)).then(|| {
        format!("the AppArmor profile {profile:?} is not loaded on this host; load it with apparmor_parser")
    })
}

fn is_loaded(profile: &str, profiles: &str) -> bool {
    profiles
        .lines()
        .filter_map(|line| line.rsplit_once(" ("))
        .any(|(name, _)| name == profile)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_profile_is_loaded_under_its_whole_name() {
        let profiles = "docker-default (enforce)\n/usr/bin/a b (c) (complain)\n";
        for name in ["docker-default", "/usr/bin/a b (c)"] {
            assert!(is_loaded(name, profiles), "{name}");
        }
        for name in ["docker", "default", "docker-default (enforce)", ""] {
            assert!(!is_loaded(name, profiles), "{name}");
        }
    }

    #[test]
    fn without_apparmor_no_profile_can_be_applied() {
        let problem = problem("web", false, true).expect("it would run unconfined");
        assert!(problem.contains("\"web\""), "{problem}");
    }
}
