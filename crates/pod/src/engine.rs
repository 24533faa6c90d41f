//! What berth has to know of the engine beyond its API version: read from `GET /info`, which is expensive, and kept.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use berth_docker::Docker;
use berth_docker::model::Info;

use crate::runtime::Error;

/// How long an answer counts: engines do not change their configuration while they run, but a reload may add a runtime.
const KEPT_FOR: Duration = Duration::from_secs(300);

/// The annotation under which a runtime's features stand in `GET /info` (OCI runtime-spec, features.md).
const OCI_FEATURES: &str = "org.opencontainers.runtime-spec.features";

/// What the engine says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EngineInfo {
    /// Its version, as text.
    pub version: String,
    /// Whether its cgroups are systemd's.
    pub systemd_cgroups: bool,
    /// Whether it labels containers for SELinux.
    pub selinux: bool,
    /// Whether it confines containers by AppArmor.
    pub apparmor: bool,
    /// Its runtimes by name, and whether each can mount recursively read-only.
    pub runtimes: BTreeMap<String, RuntimeFeatures>,
    /// The name of the runtime it uses by itself.
    pub default_runtime: String,
    /// Where it keeps its data, on its host.
    pub data_root: PathBuf,
    /// Its storage driver.
    pub storage_driver: String,
    /// The version of its kernel.
    pub kernel_version: String,
}

/// What a runtime says it can do.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RuntimeFeatures {
    /// Recursive read-only mounts.
    pub recursive_read_only: bool,
}

impl EngineInfo {
    fn of(info: Info) -> Self {
        let selinux = has_option(&info, "selinux");
        let apparmor = has_option(&info, "apparmor");
        Self {
            version: info.server_version,
            systemd_cgroups: info.cgroup_driver == "systemd",
            selinux,
            apparmor,
            runtimes: info
                .runtimes
                .into_iter()
                .map(|(name, runtime)| {
                    (
                        name,
                        features(runtime.status.get(OCI_FEATURES).unwrap_or_default()),
                    )
                })
                .collect(),
            default_runtime: info.default_runtime,
            data_root: info.docker_root_dir.into(),
            storage_driver: info.driver,
            kernel_version: info.kernel_version,
        }
    }

    /// The runtimes that a pod can ask for, with the default one under the empty name.
    pub fn handlers(&self) -> impl Iterator<Item = (&str, RuntimeFeatures)> {
        let default = self
            .runtimes
            .get(&self.default_runtime)
            .copied()
            .unwrap_or_default();
        std::iter::once(("", default)).chain(
            self.runtimes
                .iter()
                .map(|(name, features)| (name.as_str(), *features)),
        )
    }
}

/// Whether an option of security is among those that the engine lists; old ones write the name alone.
fn has_option(info: &Info, name: &str) -> bool {
    info.security_options
        .iter()
        .any(|option| option.strip_prefix("name=").unwrap_or(option) == name)
}

fn features(text: &str) -> RuntimeFeatures {
    #[derive(Default, serde::Deserialize)]
    #[serde(default, rename_all = "camelCase")]
    struct Features {
        mount_options: Vec<String>,
    }
    let features: Features = serde_json::from_str(text).unwrap_or_default();
    RuntimeFeatures {
        recursive_read_only: features.mount_options.iter().any(|option| option == "rro"),
    }
}

/// The last answer, and since when it counts.
#[derive(Debug, Default)]
pub(crate) struct InfoCache(Mutex<Option<Kept>>);

#[derive(Debug)]
struct Kept {
    info: Arc<EngineInfo>,
    /// `None` when the engine may be another one since.
    at: Option<Instant>,
}

impl InfoCache {
    /// The kept answer, or a new one.
    pub(crate) async fn get(&self, docker: &Docker) -> Result<Arc<EngineInfo>, Error> {
        if let Some(info) = self.fresh() {
            return Ok(info);
        }
        let info = Arc::new(EngineInfo::of(docker.info().await?));
        *self.lock() = Some(Kept {
            info: info.clone(),
            at: Some(Instant::now()),
        });
        Ok(info)
    }

    fn fresh(&self) -> Option<Arc<EngineInfo>> {
        let kept = self.lock();
        let kept = kept.as_ref()?;
        (kept.at?.elapsed() < KEPT_FOR).then(|| kept.info.clone())
    }

    /// The last answer, however old; `None` before the first.
    pub(crate) fn last(&self) -> Option<Arc<EngineInfo>> {
        self.lock().as_ref().map(|kept| kept.info.clone())
    }

    /// The next question goes to the engine: it may be another one.
    pub(crate) fn forget(&self) {
        if let Some(kept) = self.lock().as_mut() {
            kept.at = None;
        }
    }

    fn lock(&self) -> MutexGuard<'_, Option<Kept>> {
        // What it holds is replaced as a whole.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_runtime_says_whether_it_mounts_recursively_read_only() {
        assert!(features(r#"{"mountOptions":["ro","rro"]}"#).recursive_read_only);
        for text in [
            "",
            "{",
            r#"{"mountOptions":["ro"]}"#,
            r#"{"mountOptions":7}"#,
        ] {
            assert!(!features(text).recursive_read_only, "{text}");
        }
    }
}
