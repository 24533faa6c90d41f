//! Names and labels: how a container on the engine says which pod it belongs to.
//!
//! They are those of dockershim and cri-dockerd, so existing tools understand berth's containers and berth understands theirs. Everything
//! berth has to remember about a container rides on it here; there is no other record.

use berth_docker::model::TextMap;

use crate::spec::PodIdentity;

/// The pod's name.
pub const POD_NAME: &str = "io.kubernetes.pod.name";
/// The pod's namespace.
pub const POD_NAMESPACE: &str = "io.kubernetes.pod.namespace";
/// The pod's UID.
pub const POD_UID: &str = "io.kubernetes.pod.uid";
/// The container's name in the pod; [`SANDBOX_NAME`] for a sandbox.
pub const CONTAINER_NAME: &str = "io.kubernetes.container.name";
/// [`TYPE_SANDBOX`] or [`TYPE_CONTAINER`].
pub const TYPE: &str = "io.kubernetes.docker.type";
/// The value of [`TYPE`] for a sandbox.
pub const TYPE_SANDBOX: &str = "podsandbox";
/// The value of [`TYPE`] for a container of a pod.
pub const TYPE_CONTAINER: &str = "container";
/// The sandbox a container belongs to.
pub const SANDBOX_ID: &str = "io.kubernetes.sandbox.id";
/// The absolute path of the container's log in CRI format, as dockershim labelled it.
pub const LOG_PATH: &str = "io.kubernetes.container.logpath";
/// What was asked for and cannot be read back from the engine (see [`crate::request`]).
pub const REQUEST: &str = "berth.request";
/// Whose probe a container is: one that is never started, which some look into an image takes, and no pod's. Its value is the owner's.
pub const PROBE: &str = "berth.probe";
/// What precedes the key of an annotation that is kept as a label.
pub const ANNOTATION_PREFIX: &str = "annotation.";
/// The name of the sandbox among the pod's containers.
pub const SANDBOX_NAME: &str = "POD";
/// How many times the container was started before, as the kubelet labels it.
pub const RESTART_COUNT: &str = "io.kubernetes.container.restartCount";

/// The name of a container on the engine: `k8s_<container>_<pod>_<namespace>_<uid>_<attempt>`. No part can contain an underscore.
pub fn docker_name(container: &str, pod: &PodIdentity, attempt: u32) -> String {
    let PodIdentity {
        namespace,
        name,
        uid,
    } = pod;
    format!("k8s_{container}_{name}_{namespace}_{uid}_{attempt}")
}

/// The attempt that a container's name on the engine ends with. A name made unique after a clash has a seventh part behind it.
pub fn attempt_of(docker_name: &str) -> Option<u32> {
    let mut parts = docker_name.trim_start_matches('/').split('_');
    (parts.next()? == "k8s").then_some(())?;
    parts.nth(4)?.parse().ok()
}

/// The name of the engine's volume behind a pod's directory.
pub fn volume_name(volume: &str, pod: &PodIdentity) -> String {
    let PodIdentity {
        namespace,
        name,
        uid,
    } = pod;
    format!("k8s_{volume}_{name}_{namespace}_{uid}")
}

/// The labels that name a pod, and one of its containers, as the upstream kubelet gives them.
pub fn naming<'a>(
    pod: &'a PodIdentity,
    container: Option<&'a str>,
) -> impl Iterator<Item = (&'static str, &'a str)> {
    [
        (POD_NAME, pod.name.as_str()),
        (POD_NAMESPACE, &pod.namespace),
        (POD_UID, &pod.uid),
    ]
    .into_iter()
    .chain(container.map(|name| (CONTAINER_NAME, name)))
}

/// Whether a label is one that berth sets itself, rather than only keeps.
pub fn is_own(key: &str) -> bool {
    [
        POD_NAME,
        POD_NAMESPACE,
        POD_UID,
        CONTAINER_NAME,
        TYPE,
        SANDBOX_ID,
        RESTART_COUNT,
        LOG_PATH,
        REQUEST,
    ]
    .contains(&key)
}

/// The pod that labels name; `None` when they are not those of a pod's container.
pub fn pod_of(labels: &TextMap) -> Option<PodIdentity> {
    Some(PodIdentity {
        namespace: labels.get(POD_NAMESPACE)?.to_owned(),
        name: labels.get(POD_NAME)?.to_owned(),
        uid: labels.get(POD_UID)?.to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_the_field_knows() {
        let pod = PodIdentity {
            namespace: "default".into(),
            name: "web".into(),
            uid: "u-1".into(),
        };
        let name = docker_name("nginx", &pod, 3);
        assert_eq!(name, "k8s_nginx_web_default_u-1_3");
        assert_eq!(attempt_of(&name), Some(3));
        assert_eq!(attempt_of("/k8s_nginx_web_default_u-1_4_9c1a"), Some(4));
        assert_eq!(attempt_of("web"), None);
        assert_eq!(attempt_of("k8s_nginx_web_default_u-1_x"), None);
    }
}
