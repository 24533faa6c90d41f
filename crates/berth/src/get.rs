//! `berth get pods`: what is on the engine, in kubectl's columns and formats.

use std::collections::BTreeMap;
use std::time::SystemTime;

use berth_kubelet::history::History;
use berth_kubelet::manifest::{self, Validate};
use berth_kubelet::pod::Pod;
use berth_kubelet::status::{self, PodStatus};
use berth_kubelet::translate;
use berth_pod::Runtime;
use berth_pod::observe::Observed;
use berth_pod::spec::PodIdentity;
use serde::ser::{Error as _, Serialize, SerializeStruct as _, Serializer};
use serde_json::{Value, json};

use crate::cli::{EngineArgs, GetArgs, Output};
use crate::exit::{Code, Failure};
use crate::{engine, output};

/// A pod on the engine.
struct Row {
    identity: PodIdentity,
    pod: Pod,
    status: PodStatus,
    node: String,
}

pub(crate) async fn get(engine: &EngineArgs, args: &GetArgs) -> Result<(), Failure> {
    let names = names(args)?;
    let runtime = Runtime::new(engine::connect(engine).await?);
    let seen = runtime.observe(None).await?;
    let node = match args.output {
        Some(Output::Wide | Output::Json | Output::Yaml) => runtime.docker().info().await?.name,
        _ => String::new(),
    };
    let mut rows: Vec<Row> = by_pod(seen)
        .into_iter()
        .filter_map(|(identity, seen)| row(identity, &seen, &node))
        .collect();
    if !args.all_namespaces {
        rows.retain(|row| row.identity.namespace == args.namespace.namespace);
    }
    let missing: Vec<&String> = names
        .iter()
        .filter(|name| !rows.iter().any(|row| row.identity.name == **name))
        .collect();
    if !names.is_empty() {
        rows.retain(|row| names.contains(&row.identity.name));
    }
    print(&rows, args, names.len() == 1)?;
    if missing.is_empty() {
        return Ok(());
    }
    let lines: Vec<String> = missing
        .iter()
        .map(|name| {
            format!(
                "pods \"{name}\" not found in the namespace {}",
                args.namespace.namespace
            )
        })
        .collect();
    Err(Failure::new(Code::NotFound, lines.join("\n")))
}

/// The names asked for: `pods a b`, `pod/a pod/b`.
fn names(args: &GetArgs) -> Result<Vec<String>, Failure> {
    let mut names = Vec::new();
    let is_pods = |kind: &str| matches!(kind, "pods" | "pod" | "po");
    let refuse = |kind: &str| {
        Failure::new(
            Code::Usage,
            format!("berth knows no {kind:?}; it shows pods: berth get pods"),
        )
    };
    match args.kind.split_once('/') {
        Some((kind, name)) if is_pods(kind) => names.push(name.to_owned()),
        Some((kind, _)) => return Err(refuse(kind)),
        None if is_pods(&args.kind) => {}
        None => return Err(refuse(&args.kind)),
    }
    for name in &args.names {
        names.push(match name.split_once('/') {
            Some((kind, name)) if is_pods(kind) => name.to_owned(),
            Some((kind, _)) => return Err(refuse(kind)),
            None => name.clone(),
        });
    }
    Ok(names)
}

/// What is seen, by pod, in the order of namespace and name.
pub(crate) fn by_pod(seen: Vec<Observed>) -> BTreeMap<PodIdentity, Vec<Observed>> {
    let mut pods: BTreeMap<PodIdentity, Vec<Observed>> = BTreeMap::new();
    for one in seen {
        let identity = match &one {
            Observed::Sandbox(sandbox) => sandbox.pod.clone(),
            Observed::Container(container) => container.pod.clone(),
        };
        pods.entry(identity).or_default().push(one);
    }
    pods
}

/// The pod that containers belong to: as it was wanted, or, when another program made them, what can be told from their labels.
pub(crate) fn pod_of(identity: &PodIdentity, seen: &[Observed]) -> Result<Pod, Failure> {
    if let Some(pod) = translate::wanted(seen) {
        return Ok(pod);
    }
    let mut containers: BTreeMap<&str, &str> = BTreeMap::new();
    for one in seen {
        if let Observed::Container(container) = one {
            containers.insert(&container.name, &container.image);
        }
    }
    if containers.is_empty() {
        containers.insert("unknown", "unknown");
    }
    let containers: Vec<Value> = containers
        .into_iter()
        .map(|(name, image)| json!({"name": name, "image": image}))
        .collect();
    let PodIdentity {
        namespace,
        name,
        uid,
    } = identity;
    let metadata = json!({"namespace": namespace, "name": name, "uid": uid});
    let manifest = json!({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": {"containers": containers}}).to_string();
    let parsed = manifest::parse(manifest.as_bytes(), "labels", Validate::Warn);
    parsed
        .ok()
        .and_then(|mut parsed| parsed.pods.pop())
        .ok_or_else(|| {
            Failure::new(
                Code::Failed,
                format!(
                    "the labels of the containers of {namespace}/{name} are not those of a pod"
                ),
            )
        })
}

/// `None`, with a warning, for containers whose labels do not make a pod.
fn row(identity: PodIdentity, seen: &[Observed], node: &str) -> Option<Row> {
    let pod = match pod_of(&identity, seen) {
        Ok(pod) => pod,
        Err(failure) => {
            tracing::warn!("{}", failure.message);
            return None;
        }
    };
    // What no worker of this process has tried, it does not remember.
    let status = status::status(
        &pod,
        &translate::observed(seen),
        &History::default(),
        SystemTime::now(),
    );
    Some(Row {
        identity,
        pod,
        status,
        node: node.to_owned(),
    })
}

fn print(rows: &[Row], args: &GetArgs, single: bool) -> Result<(), Failure> {
    let text = match args.output {
        Some(Output::Name) => rows
            .iter()
            .map(|row| format!("pod/{}\n", row.identity.name))
            .collect(),
        Some(Output::Json) => match rows {
            [row] if single => pretty(&Object(row))?,
            _ => pretty(&List(rows))?,
        },
        Some(Output::Yaml) => match rows {
            [row] if single => serde_saphyr::to_string(&Object(row)).map_err(unprintable)?,
            _ => serde_saphyr::to_string(&List(rows)).map_err(unprintable)?,
        },
        format => columns(rows, args, format == Some(Output::Wide)),
    };
    if rows.is_empty() && text.is_empty() {
        let place = if args.all_namespaces {
            String::new()
        } else {
            format!(" in {} namespace", args.namespace.namespace)
        };
        anstream::eprintln!("No resources found{place}.");
        return Ok(());
    }
    output::print(&text)
}

fn columns(rows: &[Row], args: &GetArgs, wide: bool) -> String {
    if rows.is_empty() {
        return String::new();
    }
    let now = SystemTime::now();
    let mut header = Vec::new();
    if args.all_namespaces {
        header.push("NAMESPACE");
    }
    header.extend(["NAME", "READY", "STATUS", "RESTARTS", "AGE"]);
    if wide {
        header.extend(["IP", "NODE", "WHY"]);
    }
    let cells = |row: &Row| {
        let mut cells = Vec::new();
        if args.all_namespaces {
            cells.push(row.identity.namespace.clone());
        }
        let status = &row.status;
        cells.extend([
            row.identity.name.clone(),
            status.ready_column(),
            status.status_column(),
        ]);
        cells.extend([status.restarts_column(now), status.age_column(now)]);
        if wide {
            cells.extend([
                status
                    .pod_ip
                    .map_or("<none>".to_owned(), |ip| ip.to_string()),
                row.node.clone(),
                status.why_column(),
            ]);
        }
        cells
    };
    let rows: Vec<Vec<String>> = rows.iter().map(cells).collect();
    output::table((!args.no_headers).then_some(&header), &rows)
}

fn pretty(value: &impl Serialize) -> Result<String, Failure> {
    let text = serde_json::to_string_pretty(value).map_err(unprintable)?;
    Ok(text + "\n")
}

/// The pod as Kubernetes' API would give it.
struct Object<'a>(&'a Row);

impl Serialize for Object<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Row {
            pod, status, node, ..
        } = self.0;
        let value = |value: serde_json::Result<Value>| value.map_err(S::Error::custom);
        let mut object = value(serde_json::to_value(pod))?;
        object["status"] = value(serde_json::to_value(status))?;
        object["spec"]["nodeName"] = Value::String(node.clone());
        object.serialize(serializer)
    }
}

/// The list of them. Its objects are made one after another, for together they take more memory than the text.
struct List<'a>(&'a [Row]);

impl Serialize for List<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        struct Items<'a>(&'a [Row]);

        impl Serialize for Items<'_> {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_seq(self.0.iter().map(Object))
            }
        }

        let mut list = serializer.serialize_struct("List", 4)?;
        list.serialize_field("apiVersion", "v1")?;
        list.serialize_field("items", &Items(self.0))?;
        list.serialize_field("kind", "List")?;
        list.serialize_field("metadata", &json!({"resourceVersion": ""}))?;
        list.end()
    }
}

fn unprintable(error: impl std::fmt::Display) -> Failure {
    Failure::new(Code::Failed, format!("the pods cannot be printed: {error}"))
}
