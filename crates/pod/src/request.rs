//! What was asked of a sandbox or a container and cannot be read back from the engine: kept as one label, as JSON.
//!
//! Labels outlive restarts, cost no write of their own and vanish with the container. A label that is missing (a container of cri-dockerd's)
//! or cannot be read is as one that says nothing.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::labels;
use crate::spec::{ContainerSpec, Mount, Pid, PidMode, PodIdentity, SandboxSpec};

/// What only the request knows of a sandbox.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct SandboxRequest {
    /// [`SandboxSpec::pid`], of which the host's is the only one that the engine sees.
    #[serde(skip_serializing_if = "is_default")]
    pub pid: PidMode,
    /// [`SandboxSpec::runtime_handler`] as it was asked for; the engine fills in its default.
    #[serde(skip_serializing_if = "is_default")]
    pub runtime_handler: String,
    /// Of the labels that berth sets, those that the caller gave, where they are others than the upstream kubelet's: status shows them as they
    /// were given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub naming: Option<BTreeMap<String, String>>,
}

/// What only the request knows of a container.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ContainerRequest {
    /// [`ContainerSpec::image_name`].
    #[serde(skip_serializing_if = "is_default")]
    pub image_name: String,
    /// [`ContainerSpec::image_ref`]: digests come and go with the names of an image, and this is what the container was made of.
    #[serde(skip_serializing_if = "is_default")]
    pub image_ref: String,
    /// [`ContainerSpec::mounts`]: the engine adds its own, and forgets how some were asked for.
    #[serde(skip_serializing_if = "is_default")]
    pub mounts: Vec<Mount>,
    /// Huge pages, which only the cgroup knows.
    #[serde(skip_serializing_if = "is_default")]
    pub hugepages: Vec<(String, u64)>,
    /// Files of the cgroup.
    #[serde(skip_serializing_if = "is_default")]
    pub unified: BTreeMap<String, String>,
    /// Whether it sees the pod's process IDs. Those of another container look the same to the engine.
    #[serde(skip_serializing_if = "is_default")]
    pub pod_pid: bool,
    /// Of the labels that berth sets, those that the caller gave, where they are others than the upstream kubelet's: status shows them as they
    /// were given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub naming: Option<BTreeMap<String, String>>,
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// The naming labels that a caller gave; `None` if they are just those that the upstream kubelet gives.
fn unusual_naming(
    given: &BTreeMap<String, String>,
    pod: &PodIdentity,
    container: Option<&str>,
) -> Option<BTreeMap<String, String>> {
    let named: BTreeMap<&str, &str> = given
        .iter()
        .map(|(key, value)| (key.as_str(), value.as_str()))
        .filter(|(key, _)| labels::is_own(key))
        .collect();
    if named == labels::naming(pod, container).collect() {
        return None;
    }
    let owned = named
        .into_iter()
        .map(|(key, value)| (key.to_owned(), value.to_owned()));
    Some(owned.collect())
}

impl SandboxRequest {
    pub(crate) fn of(spec: &SandboxSpec) -> Self {
        Self {
            pid: spec.pid,
            runtime_handler: spec.runtime_handler.clone(),
            naming: unusual_naming(&spec.labels, &spec.pod, None),
        }
    }
}

impl ContainerRequest {
    pub(crate) fn of(spec: &ContainerSpec, pod: &PodIdentity) -> Self {
        Self {
            image_name: spec.image_name.clone(),
            image_ref: spec.image_ref.clone(),
            mounts: spec.mounts.clone(),
            hugepages: spec.resources.hugepages.clone(),
            unified: spec.resources.unified.clone(),
            pod_pid: spec.pid == Pid::Pod,
            naming: unusual_naming(&spec.labels, pod, Some(&spec.name)),
        }
    }
}

macro_rules! label {
    ($($name:ident)+) => {
        $(impl $name {
            /// The label's value; `None` when there is nothing to say.
            pub(crate) fn to_label(&self) -> Option<String> {
                if is_default(self) {
                    return None;
                }
                // Text, numbers, lists and maps with text keys: it always serialises.
                serde_json::to_string(self).ok()
            }

            /// Reads the label's value.
            pub(crate) fn from_label(label: Option<&str>) -> Self {
                let Some(label) = label else {
                    return Self::default();
                };
                serde_json::from_str(label).unwrap_or_else(|error| {
                    tracing::warn!(%error, "the label {} of a container cannot be read", crate::labels::REQUEST);
                    Self::default()
                })
            }
        })+
    };
}
label! { SandboxRequest ContainerRequest }

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::MountSource;

    #[test]
    fn a_request_is_read_back_and_an_empty_one_takes_no_label() {
        assert_eq!(ContainerRequest::default().to_label(), None);
        let source = MountSource::Host {
            path: "/data".to_owned(),
            create: true,
        };
        let request = ContainerRequest {
            image_name: "web:1".to_owned(),
            image_ref: "web@sha256:00".to_owned(),
            mounts: vec![Mount::new(source, "/d")],
            ..ContainerRequest::default()
        };
        let label = request.to_label();
        assert_eq!(ContainerRequest::from_label(label.as_deref()), request);
    }

    #[test]
    fn what_is_no_request_says_nothing() {
        for label in [
            None,
            Some(""),
            Some("{"),
            Some("[1]"),
            Some("{\"mounts\":7}"),
        ] {
            assert_eq!(
                ContainerRequest::from_label(label),
                ContainerRequest::default()
            );
        }
        assert_eq!(
            SandboxRequest::from_label(Some("{\"runtime_handler\":\"kata\",\"later\":1}"))
                .runtime_handler,
            "kata"
        );
    }
}
