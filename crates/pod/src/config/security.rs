//! Who a container's process is and what it may do, in Docker's words. Pure.

use berth_docker::model::HostConfig;

use super::{Resolved, Unsupported};
use crate::spec::{AppArmor, GroupsPolicy, SeLinux, Seccomp, Security, User};

/// `user[:group]`, as Docker wants it; empty is the image's.
///
/// With a group Docker adds none of the image's, so a strict policy always names one.
pub(super) fn user(security: &Security, resolved: &Resolved) -> Result<String, Unsupported> {
    let named = |user: &User| match user {
        User::Id(id) => id.to_string(),
        User::Name(name) => name.clone(),
    };
    if security.groups_policy == GroupsPolicy::Strict
        && security.group.is_none()
        && let Some((user, group)) = &resolved.user
    {
        return Ok(format!("{user}:{group}"));
    }
    match (&security.user, security.group) {
        (Some(user), Some(group)) => Ok(format!("{}:{group}", named(user))),
        (Some(user), None) => Ok(named(user)),
        (None, None) => Ok(String::new()),
        (None, Some(_)) => Err(Unsupported::Spec(
            "Docker cannot set a group without a user: set runAsUser beside runAsGroup".to_owned(),
        )),
    }
}

pub(super) fn apply(security: &Security, resolved: &Resolved, host: &mut HostConfig) {
    host.privileged = security.privileged;
    host.readonly_rootfs = security.read_only_root;
    host.group_add = security
        .supplemental_groups
        .iter()
        .chain(&resolved.groups)
        .map(i64::to_string)
        .collect();
    host.cap_add.clone_from(&security.add_capabilities);
    host.cap_drop.clone_from(&security.drop_capabilities);
    let options = &mut host.security_opt;
    if security.no_new_privileges {
        options.push("no-new-privileges".to_owned());
    }
    match &security.selinux {
        Some(label) => options.extend(selinux(label)),
        None if security.privileged => options.push("label=disable".to_owned()),
        None => {}
    }
    // Docker would filter a privileged container too if it were told how.
    if security.privileged {
        return;
    }
    match (&security.seccomp, &resolved.seccomp) {
        (Seccomp::EngineDefault, _) => {}
        (Seccomp::Unconfined, _) => options.push("seccomp=unconfined".to_owned()),
        (Seccomp::File(_), profile) => options.push(format!(
            "seccomp={}",
            profile.as_deref().unwrap_or_default()
        )),
    }
    match &security.apparmor {
        AppArmor::EngineDefault => {}
        AppArmor::Unconfined => options.push("apparmor=unconfined".to_owned()),
        AppArmor::Profile(name) => options.push(format!("apparmor={name}")),
    }
    host.masked_paths.clone_from(&security.masked_paths);
    host.readonly_paths.clone_from(&security.readonly_paths);
}

fn selinux(label: &SeLinux) -> impl Iterator<Item = String> {
    [
        ("user", &label.user),
        ("role", &label.role),
        ("type", &label.kind),
        ("level", &label.level),
    ]
    .into_iter()
    .filter(|(_, value)| !value.is_empty())
    .map(|(part, value)| format!("label={part}:{value}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn opts(security: &Security) -> Vec<String> {
        let mut host = HostConfig::default();
        let resolved = Resolved {
            seccomp: Some("{}".to_owned()),
            ..Resolved::default()
        };
        apply(security, &resolved, &mut host);
        host.security_opt
    }

    #[test]
    fn each_filter_has_its_word() {
        assert_eq!(opts(&Security::default()), Vec::<String>::new());
        let security = Security {
            no_new_privileges: true,
            seccomp: Seccomp::File("/p.json".to_owned()),
            apparmor: AppArmor::Profile("web".to_owned()),
            selinux: Some(SeLinux {
                level: "s0:c1,c2".to_owned(),
                ..SeLinux::default()
            }),
            ..Security::default()
        };
        assert_eq!(
            opts(&security),
            [
                "no-new-privileges",
                "label=level:s0:c1,c2",
                "seccomp={}",
                "apparmor=web"
            ]
        );
    }

    #[test]
    fn a_privileged_container_gets_no_filter() {
        let security = Security {
            privileged: true,
            seccomp: Seccomp::Unconfined,
            apparmor: AppArmor::Unconfined,
            masked_paths: Some(vec!["/proc/kcore".to_owned()]),
            ..Security::default()
        };
        let mut host = HostConfig::default();
        apply(&security, &Resolved::default(), &mut host);
        assert_eq!(host.security_opt, ["label=disable"]);
        assert_eq!(host.masked_paths, None);
    }

    #[test]
    fn an_empty_list_of_masked_paths_is_not_the_default() {
        let security = Security {
            masked_paths: Some(Vec::new()),
            ..Security::default()
        };
        let mut host = HostConfig::default();
        apply(&security, &Resolved::default(), &mut host);
        assert_eq!(host.masked_paths, Some(Vec::new()));
        assert_eq!(host.readonly_paths, None);
    }

    #[test]
    fn a_group_needs_a_user_and_a_strict_policy_a_group() {
        let mut security = Security {
            group: Some(7),
            ..Security::default()
        };
        assert!(user(&security, &Resolved::default()).is_err());
        security.user = Some(User::Name("www".to_owned()));
        assert_eq!(
            user(&security, &Resolved::default()).as_deref(),
            Ok("www:7")
        );
        security.group = None;
        security.groups_policy = GroupsPolicy::Strict;
        let resolved = Resolved {
            user: Some(("www".to_owned(), 33)),
            ..Resolved::default()
        };
        assert_eq!(user(&security, &resolved).as_deref(), Ok("www:33"));
    }

    #[test]
    fn the_images_groups_come_behind_those_that_were_asked_for() {
        let security = Security {
            supplemental_groups: vec![4000],
            ..Security::default()
        };
        let resolved = Resolved {
            groups: vec![50000],
            ..Resolved::default()
        };
        let mut host = HostConfig::default();
        apply(&security, &resolved, &mut host);
        assert_eq!(host.group_add, ["4000", "50000"]);
    }
}
