//! A network of CNI plugins that belongs to one test, and what is still taken of it. On the fake engine, whose sandboxes have no namespaces, the
//! plugin that gives addresses is a script; on a real one it is Debian's `bridge`, on a bridge of the test's own.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::json;

/// Where distributions put plugins.
const PLUGINS: [&str; 2] = ["/opt/cni/bin", "/usr/lib/cni"];

pub(crate) struct Network {
    dir: PathBuf,
    bridge: Option<String>,
}

impl Network {
    /// One whose addresses a script gives out.
    pub(crate) fn of_a_script(directory: &Path) -> Self {
        let network = Self::new(directory, None);
        let leases = network.dir.join("leases/pods");
        fs::create_dir_all(&leases).unwrap();
        let script = format!(
            r#"#!/bin/sh
cat > /dev/null
case $CNI_COMMAND in
VERSION) echo '{{"cniVersion":"1.0.0","supportedVersions":["0.4.0","1.0.0"]}}' ;;
ADD)
    : > {leases}/$CNI_CONTAINERID
    echo '{{"cniVersion":"1.0.0","ips":[{{"address":"198.18.0.5/24"}}]}}' ;;
DEL) rm -f {leases}/$CNI_CONTAINERID ;;
esac
"#,
            leases = leases.display()
        );
        let program = network.dir.join("bin/main");
        fs::write(&program, script).unwrap();
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
        network.describe(&json!({"type": "main"}));
        network
    }

    /// One of Debian's plugins; `None` where they cannot be run.
    pub(crate) fn of_a_bridge(directory: &Path) -> Option<Self> {
        let is_there = |plugin: &str| {
            PLUGINS
                .iter()
                .any(|dir| Path::new(dir).join(plugin).exists())
        };
        if !rustix::process::geteuid().is_root()
            || !["bridge", "host-local"]
                .iter()
                .all(|plugin| is_there(plugin))
        {
            assert!(
                std::env::var_os("CI").is_none(),
                "the plugins must be there in CI (package containernetworking-plugins)"
            );
            eprintln!("skipped: it takes root, and the package containernetworking-plugins");
            return None;
        }
        let number = std::process::id().to_le_bytes()[0];
        let bridge = format!("berth-churn-{number}");
        let network = Self::new(directory, Some(bridge.clone()));
        network.describe(&json!({"type": "bridge", "bridge": bridge, "ipam": {
            "type": "host-local", "dataDir": network.dir.join("leases"),
            "ranges": [[{"subnet": format!("198.19.{number}.0/24")}]],
        }}));
        Some(network)
    }

    fn new(directory: &Path, bridge: Option<String>) -> Self {
        let dir = directory.join("cni");
        for part in ["net.d", "bin", "leases"] {
            fs::create_dir_all(dir.join(part)).unwrap();
        }
        Self { dir, bridge }
    }

    fn describe(&self, plugin: &serde_json::Value) {
        let network = json!({"cniVersion": "1.0.0", "name": "pods", "plugins": [plugin]});
        fs::write(self.dir.join("net.d/10-pods.conflist"), network.to_string()).unwrap();
    }

    /// What tells berth of it.
    pub(crate) fn arguments(&self) -> Vec<String> {
        let flag = |name: &str, value: PathBuf| format!("--cni-{name}={}", value.display());
        let mut arguments = vec![
            "--network=cni".to_owned(),
            flag("conf-dir", self.dir.join("net.d")),
            flag("cache-dir", self.dir.join("cache")),
            flag("bin-dir", self.dir.join("bin")),
        ];
        arguments.extend(PLUGINS.map(|dir| flag("bin-dir", dir.into())));
        arguments
    }

    /// Addresses, records and interfaces that are taken.
    pub(crate) fn left(&self) -> Vec<String> {
        let names = |dir: &str| -> Vec<String> {
            let Ok(files) = fs::read_dir(self.dir.join(dir)) else {
                return Vec::new();
            };
            files
                .map(|file| file.unwrap().file_name().into_string().unwrap())
                .filter(|name| name != "lock" && !name.starts_with("last_reserved"))
                .collect()
        };
        let mut left = names("leases/pods");
        left.extend(names("cache/results"));
        if let Some(bridge) = &self.bridge {
            let links = format!("/sys/class/net/{bridge}/brif");
            left.extend(
                fs::read_dir(links)
                    .into_iter()
                    .flatten()
                    .map(|link| format!("interface {}", link.unwrap().file_name().display())),
            );
        }
        left
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        if let Some(bridge) = &self.bridge {
            let _ = Command::new("ip").args(["link", "delete", bridge]).output();
        }
    }
}
