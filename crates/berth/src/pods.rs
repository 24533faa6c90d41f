//! A pod on the engine, found by the name a person typed, and the container of it that is meant.
//!
//! The rules are kubectl's. It reads and never changes anything.

use std::cmp::Reverse;
use std::collections::BTreeSet;

use berth_docker::api::ListContainers;
use berth_docker::model::{ContainerSummary, Filters};
use berth_kubelet::translate;
use berth_pod::observe::{Container, Observed, Sandbox};
use berth_pod::spec::PodIdentity;
use berth_pod::{Runtime, labels};

use crate::exit::{Code, Failure};

/// The annotation that names the container to take when none is named (kubectl 1.21 and later).
const DEFAULT_CONTAINER: &str = "kubectl.kubernetes.io/default-container";

/// The most names that a hint lists.
const MAX_NAMES: usize = 10;

/// A pod as the engine has it.
#[derive(Debug)]
pub(crate) struct PodFound {
    /// Which pod it is.
    pub(crate) identity: PodIdentity,
    /// Its sandboxes, the newest first.
    pub(crate) sandboxes: Vec<Sandbox>,
    /// Its containers, in the order of its spec; those that the spec is not known to have come last, by name.
    pub(crate) containers: Vec<Instances>,
}

/// All that the engine has of one container of a pod.
#[derive(Debug)]
pub(crate) struct Instances {
    /// The container's name in the pod.
    pub(crate) name: String,
    /// The newest first; none when it has not been made yet.
    pub(crate) instances: Vec<Container>,
}

impl Instances {
    /// The newest instance.
    pub(crate) fn current(&self) -> Option<&Container> {
        self.instances.first()
    }

    /// The one before the newest.
    pub(crate) fn previous(&self) -> Option<&Container> {
        self.instances.get(1)
    }
}

/// The pod with this name, written `NAME` or `pod/NAME`. Of several (one being removed while its successor starts) the newest.
///
/// Cancel safe.
///
/// # Errors
/// With exit code 3 when there is no such pod; the message says which there are. With 2 when `pod` is not a name.
pub(crate) async fn find(
    runtime: &Runtime,
    namespace: &str,
    pod: &str,
) -> Result<PodFound, Failure> {
    let name = name_of(pod)?;
    let filters = Filters::new()
        .label(format!("{}={namespace}", labels::POD_NAMESPACE))
        .label(format!("{}={name}", labels::POD_NAME));
    let rows = list(runtime, filters).await?;
    let newest = rows
        .iter()
        .filter(|row| is_ours(row))
        .max_by_key(|row| row.created);
    if let Some(uid) = newest.and_then(|row| row.labels.get(labels::POD_UID))
        && let Some(found) = PodFound::of(&runtime.observe(Some(uid)).await?)
    {
        return Ok(found);
    }
    let all = list(runtime, Filters::new().label(labels::POD_UID)).await?;
    let pods: BTreeSet<PodIdentity> = all
        .iter()
        .filter(|row| is_ours(row))
        .filter_map(|row| labels::pod_of(&row.labels))
        .collect();
    Err(not_found(&pods, namespace, name))
}

async fn list(runtime: &Runtime, filters: Filters) -> Result<Vec<ContainerSummary>, Failure> {
    let options = ListContainers {
        all: true,
        filters,
        ..Default::default()
    };
    Ok(runtime.docker().list_containers(&options).await?)
}

/// Whether observation will read it: the label says what it is.
fn is_ours(row: &ContainerSummary) -> bool {
    matches!(
        row.labels.get(labels::TYPE),
        Some(labels::TYPE_SANDBOX | labels::TYPE_CONTAINER)
    )
}

/// `web` of `web`, `pod/web`, `pods/web` and `po/web`.
fn name_of(pod: &str) -> Result<&str, Failure> {
    let name = match pod.split_once('/') {
        None => pod,
        Some(("pod" | "pods" | "po", name)) => name,
        Some((kind, _)) => {
            return Err(Failure::new(
                Code::Usage,
                format!("there is no {kind:?} here, only pods: name one as NAME or pod/NAME"),
            ));
        }
    };
    if name.is_empty() || name.contains('/') {
        return Err(Failure::new(
            Code::Usage,
            format!("{pod:?} is not a pod's name: write NAME or pod/NAME"),
        ));
    }
    Ok(name)
}

fn not_found(pods: &BTreeSet<PodIdentity>, namespace: &str, name: &str) -> Failure {
    let here: Vec<&str> = pods
        .iter()
        .filter(|pod| pod.namespace == namespace)
        .map(|pod| pod.name.as_str())
        .collect();
    let elsewhere: Vec<&str> = pods
        .iter()
        .filter(|pod| pod.name == name)
        .map(|pod| pod.namespace.as_str())
        .collect();
    let hint = if let Some(other) = elsewhere.first() {
        format!(
            "the namespace {namespace:?} has none of that name, but {} has: add -n {other}",
            shown(&elsewhere)
        )
    } else if !here.is_empty() {
        format!("the namespace {namespace:?} has: {}", shown(&here))
    } else if pods.is_empty() {
        "this engine has no pods at all".to_owned()
    } else {
        let namespaces: BTreeSet<&str> = pods.iter().map(|pod| pod.namespace.as_str()).collect();
        let namespaces: Vec<&str> = namespaces.into_iter().collect();
        format!(
            "the namespace {namespace:?} has no pods; there are some in: {}",
            shown(&namespaces)
        )
    };
    Failure::new(Code::NotFound, format!("pods {name:?} not found\n  {hint}"))
}

/// Names for a message, not too many of them.
fn shown(names: &[&str]) -> String {
    match names.len().checked_sub(MAX_NAMES) {
        None | Some(0) => names.join(", "),
        Some(more) => format!("{} and {more} more", names[..MAX_NAMES].join(", ")),
    }
}

impl PodFound {
    /// Sorts what was observed of one pod; `None` when that is nothing.
    fn of(seen: &[Observed]) -> Option<Self> {
        let mut identity = None;
        let mut sandboxes = Vec::new();
        let spec = translate::wanted(seen)
            .map(|pod| pod.spec.containers)
            .unwrap_or_default();
        let mut containers: Vec<Instances> = spec
            .into_iter()
            .map(|container| Instances {
                name: container.name,
                instances: Vec::new(),
            })
            .collect();
        let in_spec = containers.len();
        for one in seen {
            match one {
                Observed::Sandbox(sandbox) => {
                    identity.get_or_insert_with(|| sandbox.pod.clone());
                    sandboxes.push((**sandbox).clone());
                }
                Observed::Container(container) => {
                    identity.get_or_insert_with(|| container.pod.clone());
                    match containers
                        .iter_mut()
                        .find(|group| group.name == container.name)
                    {
                        Some(group) => group.instances.push((**container).clone()),
                        None => containers.push(Instances {
                            name: container.name.clone(),
                            instances: vec![(**container).clone()],
                        }),
                    }
                }
            }
        }
        sandboxes.sort_by_key(|sandbox| Reverse((sandbox.created_at, sandbox.attempt)));
        for group in &mut containers {
            group
                .instances
                .sort_by_key(|container| Reverse((container.created_at, container.attempt)));
        }
        containers[in_spec..].sort_by(|a, b| a.name.cmp(&b.name));
        Some(Self {
            identity: identity?,
            sandboxes,
            containers,
        })
    }

    /// The container called `name`; without a name the only one, or the one that the pod's `default-container` annotation names.
    ///
    /// # Errors
    /// With exit code 3 when there is no such container, with 2 when several could be meant; the message lists them.
    pub(crate) fn container(&self, name: Option<&str>) -> Result<&Instances, Failure> {
        let pod = &self.identity.name;
        let names = || {
            self.containers
                .iter()
                .map(|group| group.name.as_str())
                .collect::<Vec<_>>()
        };
        if let Some(name) = name {
            return self
                .containers
                .iter()
                .find(|group| group.name == name)
                .ok_or_else(|| {
                    let message = format!(
                        "container {name:?} not found in pod {pod:?}; it has: {}",
                        shown(&names())
                    );
                    Failure::new(Code::NotFound, message)
                });
        }
        match self.containers.as_slice() {
            [] => Err(Failure::new(
                Code::NotFound,
                format!("pod {pod:?} has no containers yet"),
            )),
            [only] => Ok(only),
            several => {
                let default = self.annotation(DEFAULT_CONTAINER);
                several.iter().find(|group| Some(group.name.as_str()) == default).ok_or_else(|| {
                    let names = names().join(" ");
                    let message = format!("a container name must be specified for pod {pod}, choose one of: [{names}]\n  with -c NAME");
                    Failure::new(Code::Usage, message)
                })
            }
        }
    }

    /// An annotation of the pod, as its newest sandbox keeps it.
    fn annotation(&self, key: &str) -> Option<&str> {
        self.sandboxes
            .first()?
            .annotations
            .get(key)
            .map(String::as_str)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::sync::Arc;
    use std::time::{Duration, SystemTime};

    use berth_pod::observe::State;
    use berth_pod::spec::{ContainerId, PidMode, Resources, SandboxId};

    use super::*;

    fn identity(namespace: &str, name: &str) -> PodIdentity {
        PodIdentity {
            namespace: namespace.into(),
            name: name.into(),
            uid: format!("uid-{namespace}-{name}"),
        }
    }

    fn at(seconds: u64) -> Option<SystemTime> {
        Some(SystemTime::UNIX_EPOCH + Duration::from_secs(seconds))
    }

    fn container(name: &str, attempt: u32, created: u64) -> Observed {
        Observed::Container(Arc::new(Container {
            id: ContainerId::new(format!("{name}-{attempt}")),
            pod: identity("default", "web"),
            sandbox: SandboxId::new("s"),
            name: name.into(),
            attempt,
            created_at: at(created),
            state: State::Created,
            image: "image".into(),
            image_ref: String::new(),
            image_id: "sha256:0".into(),
            process: 0,
            image_name: "image".into(),
            user: String::new(),
            groups: Vec::new(),
            resources: Resources::default(),
            mounts: Vec::new(),
            stop_signal: String::new(),
            tty: false,
            stdin: false,
            stdin_once: false,
            log_path: None,
            log_driver: String::new(),
            upper_directory: None,
            naming: None,
            labels: BTreeMap::new(),
            annotations: BTreeMap::new(),
        }))
    }

    fn sandbox(annotations: &[(&str, &str)]) -> Observed {
        Observed::Sandbox(Arc::new(Sandbox {
            id: SandboxId::new("s"),
            pod: identity("default", "web"),
            attempt: 0,
            created_at: at(1),
            running: true,
            ip: None,
            host_network: false,
            no_network: false,
            pid: PidMode::Container,
            host_ipc: false,
            process: 7,
            additional_ips: Vec::new(),
            runtime_handler: String::new(),
            runtime: "runc".into(),
            cgroup_parent: String::new(),
            naming: None,
            labels: BTreeMap::new(),
            annotations: annotations
                .iter()
                .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
                .collect(),
        }))
    }

    fn chosen(pod: &PodFound, name: Option<&str>) -> Result<String, (u8, String)> {
        pod.container(name)
            .map(|group| group.name.clone())
            .map_err(|failure| (failure.code, failure.message))
    }

    #[test]
    fn instances_are_grouped_and_the_newest_comes_first() {
        let seen = [
            container("b", 0, 10),
            container("a", 0, 10),
            container("b", 2, 30),
            container("b", 1, 20),
        ];
        let pod = PodFound::of(&seen).unwrap();
        let attempts: Vec<(&str, Vec<u32>)> = pod
            .containers
            .iter()
            .map(|group| {
                (
                    group.name.as_str(),
                    group.instances.iter().map(|one| one.attempt).collect(),
                )
            })
            .collect();
        assert_eq!(attempts, [("a", vec![0]), ("b", vec![2, 1, 0])]);
        assert_eq!(pod.containers[1].previous().map(|one| one.attempt), Some(1));
        assert!(PodFound::of(&[]).is_none());
    }

    #[test]
    fn containers_come_in_the_order_of_the_spec_and_are_known_before_they_are_made() {
        let data = r#"{"apiVersion":"v1","kind":"Pod","metadata":{"name":"web","namespace":"default","uid":"u"},
            "spec":{"containers":[{"name":"zoo","image":"i"},{"name":"app","image":"i"}]}}"#;
        let seen = [
            sandbox(&[(translate::POD_DATA, data)]),
            container("app", 0, 2),
        ];
        let pod = PodFound::of(&seen).unwrap();
        let names: Vec<&str> = pod
            .containers
            .iter()
            .map(|group| group.name.as_str())
            .collect();
        assert_eq!(names, ["zoo", "app"]);
        assert!(pod.containers[0].current().is_none() && pod.containers[1].current().is_some());
    }

    #[test]
    fn one_container_needs_no_name_and_several_do() {
        let one = PodFound::of(&[sandbox(&[]), container("app", 0, 2)]).unwrap();
        assert_eq!(chosen(&one, None), Ok("app".into()));
        let two = PodFound::of(&[
            sandbox(&[]),
            container("app", 0, 2),
            container("side", 0, 2),
        ])
        .unwrap();
        assert_eq!(chosen(&two, Some("side")), Ok("side".into()));
        let (code, message) = chosen(&two, None).unwrap_err();
        assert_eq!(code, Code::Usage as u8);
        assert!(message.contains("choose one of: [app side]"), "{message}");
        let (code, message) = chosen(&two, Some("nope")).unwrap_err();
        assert_eq!(code, Code::NotFound as u8);
        assert!(message.contains("app, side"), "{message}");
        let none = PodFound::of(&[sandbox(&[])]).unwrap();
        assert_eq!(chosen(&none, None).unwrap_err().0, Code::NotFound as u8);
    }

    #[test]
    fn the_default_container_annotation_chooses() {
        let pod = |value| {
            PodFound::of(&[
                sandbox(&[(DEFAULT_CONTAINER, value)]),
                container("app", 0, 2),
                container("side", 0, 2),
            ])
            .unwrap()
        };
        assert_eq!(chosen(&pod("side"), None), Ok("side".into()));
        assert_eq!(chosen(&pod("side"), Some("app")), Ok("app".into()));
        assert_eq!(chosen(&pod("gone"), None).unwrap_err().0, Code::Usage as u8);
    }

    #[test]
    fn names_are_taken_as_kubectl_takes_them() {
        for text in ["web", "pod/web", "pods/web", "po/web"] {
            assert_eq!(name_of(text).unwrap(), "web");
        }
        for text in ["", "pod/", "deployment/web", "pod/a/b"] {
            assert_eq!(name_of(text).unwrap_err().code, Code::Usage as u8, "{text}");
        }
    }

    #[test]
    fn what_is_not_found_is_said_with_what_there_is() {
        let pods: BTreeSet<_> = [identity("default", "web"), identity("shop", "db")].into();
        let message = |namespace: &str, name: &str| {
            let failure = not_found(&pods, namespace, name);
            assert_eq!(failure.code, Code::NotFound as u8);
            failure.message
        };
        assert!(
            message("default", "wbe").starts_with("pods \"wbe\" not found\n"),
            "{}",
            message("default", "wbe")
        );
        assert!(message("default", "wbe").ends_with("has: web"));
        assert!(message("default", "db").ends_with("add -n shop"));
        assert!(message("other", "x").ends_with("there are some in: default, shop"));
        assert!(
            not_found(&BTreeSet::new(), "default", "x")
                .message
                .ends_with("no pods at all")
        );
        let many: BTreeSet<_> = (0..13)
            .map(|i| identity("default", &format!("p{i:02}")))
            .collect();
        assert!(
            not_found(&many, "default", "x")
                .message
                .ends_with("p09 and 3 more")
        );
    }
}
