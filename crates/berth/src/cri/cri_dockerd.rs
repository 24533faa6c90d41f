//! What becomes of cri-dockerd's flags, which operators have in their units: those that mean the same are flags of `berth cri`, the others are
//! refused with what to write.

use clap::error::{ContextKind, ContextValue, ErrorKind};

/// The flags of cri-dockerd 0.4 that `berth cri` does not have, and what to do.
const MOVED: &[(&str, &str)] = &[
    (
        "--network-plugin",
        "write --network cni for CNI plugins, --network docker for the engine's network",
    ),
    (
        "--network-plugin-mtu",
        "write \"mtu\" into the configuration of the CNI plugin, or for --network docker into the engine's",
    ),
    (
        "--hairpin-mode",
        "write \"hairpinMode\" into the configuration of the CNI plugin bridge; Docker's bridge lets pods reach themselves",
    ),
    (
        "--ipv6-dual-stack",
        "leave it out: addresses of both families are always told",
    ),
    (
        "--cri-dockerd-root-directory",
        "write --state-dir; berth keeps what it knows of pods in the labels of their containers",
    ),
    (
        "--runtime-cgroups",
        "write Slice= into the systemd unit of berth",
    ),
    ("--buildinfo", "write --version"),
];

/// What to say of a command line that was refused for a flag of cri-dockerd's.
pub(crate) fn advice(error: &clap::Error) -> Option<String> {
    if error.kind() != ErrorKind::UnknownArgument {
        return None;
    }
    let Some(ContextValue::String(flag)) = error.get(ContextKind::InvalidArg) else {
        return None;
    };
    let (flag, instead) = MOVED.iter().find(|(moved, _)| flag == moved)?;
    Some(format!("{flag} is a flag of cri-dockerd; {instead}"))
}

#[cfg(test)]
mod tests {
    use clap::{CommandFactory as _, Parser as _};

    use super::*;
    use crate::cli::Cli;

    /// As `cri-dockerd --help` of 0.4.3 shows them, each with a value that it takes.
    const THEIRS: [(&str, &str); 21] = [
        ("--buildinfo", ""),
        ("--cni-bin-dir", "/opt/cni/bin,/usr/lib/cni"),
        ("--cni-cache-dir", "/var/lib/cni/cache"),
        ("--cni-conf-dir", "/etc/cni/net.d"),
        (
            "--container-runtime-endpoint",
            "unix:///var/run/cri-dockerd.sock",
        ),
        ("--cri-dockerd-root-directory", "/var/lib/cri-dockerd"),
        ("--docker-endpoint", "unix:///var/run/docker.sock"),
        ("--hairpin-mode", "none"),
        ("--help", ""),
        ("--image-pull-progress-deadline", "1m0s"),
        ("--ipv6-dual-stack", ""),
        ("--log-level", "info"),
        ("--network-plugin", "cni"),
        ("--network-plugin-mtu", "1460"),
        ("--pod-cidr", "10.0.0.0/24"),
        ("--pod-infra-container-image", "registry.k8s.io/pause:3.10"),
        ("--runtime-cgroups", "/system.slice"),
        ("--runtime-request-timeout", "2m0s"),
        ("--streaming-bind-addr", "127.0.0.1:0"),
        ("--version", ""),
        ("--log-level", "panic"),
    ];

    #[test]
    fn each_flag_of_cri_dockerd_is_taken_or_refused_with_what_to_write() {
        let mut refused = 0;
        for (flag, value) in THEIRS {
            let given = if value.is_empty() {
                flag.to_owned()
            } else {
                format!("{flag}={value}")
            };
            let error = match Cli::try_parse_from(["berth", "cri", &given]) {
                Ok(_) => continue,
                Err(error) => error,
            };
            if matches!(
                error.kind(),
                ErrorKind::DisplayHelp | ErrorKind::DisplayVersion
            ) {
                continue;
            }
            let advice = advice(&error).unwrap_or_else(|| panic!("{given}: {error}"));
            assert!(advice.starts_with(&format!("{flag} is")), "{advice}");
            refused += 1;
        }
        assert_eq!(refused, MOVED.len());
    }

    #[test]
    fn what_to_write_instead_is_there() {
        let command = Cli::command();
        let cri = command.find_subcommand("cri").expect("it is there");
        for (_, instead) in MOVED {
            let Some(flag) = instead.strip_prefix("write --") else {
                continue;
            };
            let flag = flag.split([' ', ';']).next().unwrap_or_default();
            assert!(
                flag == "version" || cri.get_arguments().any(|arg| arg.get_long() == Some(flag)),
                "{flag}"
            );
        }
    }

    #[test]
    fn other_mistakes_are_not_theirs() {
        let error = Cli::try_parse_from(["berth", "cri", "--nonsense"]).expect_err("no such flag");
        assert_eq!(advice(&error), None);
    }
}
