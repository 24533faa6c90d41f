//! Kubernetes Pod manifests, YAML or JSON, to [`Pod`]s.
//!
//! Owns what a manifest may say: the whole vocabulary of Kubernetes' Pod is known here, and every field of a file is either read,
//! refused by name or warned about by name; none is passed over. Refuses to know where the bytes come from and what happens to the
//! pods.
//!
//! How it reads, in order: `yaml` or `json` make a tree in which each value knows its line and column; `fields` takes typed
//! values out of it and accounts for the rest by `vocabulary`; `read_pod`, `read_container` and `read_volume` apply
//! Kubernetes' rules and defaults. Everything wrong with a file is reported at once, in the order of the file.
//!
//! Decisions worth knowing:
//! - YAML is read as kubectl reads it (YAML 1.1 scalars): `yes`, `on` and `y` are booleans, `0644` is octal. A number or boolean where
//!   a string belongs is an error that says to put it in quotes; nothing is converted.
//! - Keys are strings and come once. kubectl turns other keys into strings; here they are an error.
//! - A field with its Kubernetes default written out is the same as the field left out. So what `kubectl run --dry-run=client -o
//!   yaml` prints is taken without a word, and what `kubectl get -o yaml` prints with warnings for what only a cluster needs.
//! - A null is an absent field; for fields berth does not support so are `""`, `[]` and `{}`.
//! - `dnsPolicy: ClusterFirst`, Kubernetes' default, is the host's DNS, as for a kubelet that has no cluster DNS.
//! - Of volumes and `valueFrom`, only kinds that berth has are taken, also with [`Validate::Warn`]: a pod without a volume it mounts,
//!   or without a variable's value, is another pod. The one exception is the token volume that an API server adds by itself
//!   (`kube-api-access-…`), which is left out with a warning.

mod fields;
mod json;
mod node;
mod problem;
mod read_container;
mod read_pod;
mod read_volume;
mod settings;
#[cfg(test)]
mod tests;
mod vocabulary;
mod yaml;

use std::collections::HashMap;
use std::sync::Arc;

pub use problem::{Errors, MAX_REPORTED, Position, Problem};
pub use settings::{Setting, refused, settings};

use fields::{Reader, join, suggestion};
use node::{Malformed, Node, Trees, Value};
use problem::quoted;

use crate::pod::Pod;

/// The largest file read, in bytes. A Pod's manifest is a few KiB; an etcd object is at most 1.5 MiB.
pub const MAX_BYTES: usize = 10 * 1024 * 1024;

/// What to do about fields that are unknown or not supported.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Validate {
    /// Refuse the file.
    #[default]
    Strict,
    /// Take the file without those fields and warn about each.
    Warn,
}

/// A file that was read.
#[derive(Debug, Clone, PartialEq)]
pub struct Parsed {
    /// Its pods, in order; at least one. No two have the same namespace and name, or the same UID.
    pub pods: Vec<Pod>,
    /// What the user should know, in the order of the file; at most [`MAX_REPORTED`].
    pub warnings: Vec<Problem>,
}

/// Reads the Pods of a manifest: YAML or JSON, one or several documents, Pods or lists of them.
///
/// `file` is the name to use in messages, `<stdin>` by custom for standard input. Never panics, whatever the bytes; takes at most
/// [`MAX_BYTES`] of them.
///
/// # Errors
/// Everything that is wrong with the file, up to [`MAX_REPORTED`] problems. No pod of a file with an error is returned.
pub fn parse(bytes: &[u8], file: &str, validate: Validate) -> Result<Parsed, Errors> {
    let file: Arc<str> = file.into();
    let mut reader = Reader::new(&file, validate);
    let mut pods = Pods::default();
    match text(bytes) {
        Err(malformed) => reader.error(malformed.at, "", malformed.message),
        Ok(text) => {
            let trees = trees(text);
            let empty = trees.documents.iter().all(|node| node.value == Value::Null);
            for node in &trees.documents {
                if node.value != Value::Null {
                    read_object(&mut reader, node, "", Expected::Any, &mut pods);
                }
            }
            if empty && trees.stopped.is_none() {
                reader.error(Position::START, "", "holds no Kubernetes object");
            }
            for malformed in trees.problems.into_iter().chain(trees.stopped) {
                reader.error(malformed.at, "", malformed.message);
            }
        }
    }
    if pods.pods.is_empty() && !reader.failed() {
        reader.error(Position::START, "", "holds no Pod");
    }
    let failed = reader.failed();
    let (errors, warnings) = reader.finish();
    if failed {
        return Err(errors.finish());
    }
    Ok(Parsed {
        pods: pods.pods,
        warnings: warnings.finish().problems,
    })
}

/// The bytes as text, without a byte order mark.
fn text(bytes: &[u8]) -> Result<&str, Malformed> {
    if bytes.len() > MAX_BYTES {
        return Err(Malformed::new(
            Position::START,
            "larger than 10 MiB, which no manifest is",
        ));
    }
    if bytes.starts_with(&[0xff, 0xfe]) || bytes.starts_with(&[0xfe, 0xff]) {
        return Err(Malformed::new(
            Position::START,
            "encoded as UTF-16: save it as UTF-8",
        ));
    }
    match std::str::from_utf8(bytes) {
        Ok(text) => Ok(text.strip_prefix('\u{feff}').unwrap_or(text)),
        Err(error) => {
            let good = String::from_utf8_lossy(&bytes[..error.valid_up_to()]);
            let at = Position {
                line: good.matches('\n').count() + 1,
                column: good
                    .rsplit('\n')
                    .next()
                    .map_or(0, |line| line.chars().count())
                    + 1,
            };
            Err(Malformed::new(at, "not UTF-8 text"))
        }
    }
}

/// Reads what begins as JSON does as JSON; when that fails it may be YAML in flow style.
fn trees(text: &str) -> Trees {
    if text
        .trim_start_matches([' ', '\t', '\r', '\n'])
        .starts_with(['{', '['])
    {
        let json = json::trees(text);
        if json.stopped.is_none() {
            return json;
        }
        let yaml = yaml::trees(text);
        return if yaml.stopped.is_none() { yaml } else { json };
    }
    yaml::trees(text)
}

/// The pods read so far.
#[derive(Default)]
struct Pods {
    pods: Vec<Pod>,
    /// The line of each, by namespace and name, and by UID.
    names: HashMap<(String, String), usize>,
    uids: HashMap<String, usize>,
}

/// What kind of object may stand in a place.
#[derive(Clone, Copy, PartialEq)]
enum Expected {
    Any,
    /// An element of a `PodList`, which may leave out `apiVersion` and `kind`.
    Pod,
}

/// Kinds that hold others.
const LISTS: [&str; 2] = ["List", "PodList"];

fn read_object(reader: &mut Reader, node: &Node, path: &str, expected: Expected, pods: &mut Pods) {
    let Value::Mapping(entries) = &node.value else {
        let found = node.value.describe();
        reader.error(
            node.at,
            path,
            format!(
                "expected a Kubernetes object (a mapping with apiVersion and kind), found {found}"
            ),
        );
        return;
    };
    let entry = |name: &str| entries.iter().find(|entry| &*entry.key == name);
    let kind = match entry("kind") {
        Some(kind) => {
            let Some(text) = reader.text(&kind.value, &join(path, "kind")) else {
                return;
            };
            text
        }
        None if expected == Expected::Pod => "Pod".to_owned(),
        None => {
            reader.error(node.at, join(path, "kind"), "is required");
            return;
        }
    };
    let kind_at = entry("kind").map_or(node.at, |kind| kind.value.at);
    if kind != "Pod" && (expected == Expected::Pod || !LISTS.contains(&kind.as_str())) {
        let path = join(path, "kind");
        match suggestion(&kind, ["Pod", "PodList", "List"].into_iter()) {
            Some(kind_meant) => reader.error(
                kind_at,
                path,
                format!(
                    "unknown kind {} (did you mean \"{kind_meant}\"?)",
                    quoted(&kind)
                ),
            ),
            None => reader.refuse(
                kind_at,
                &path,
                &format!(
                    "berth runs Pods; an object of kind {} is not supported yet",
                    quoted(&kind)
                ),
            ),
        }
        return;
    }
    let version = entry("apiVersion").map(|version| (&version.value, join(path, "apiVersion")));
    match version {
        Some((node, path)) => {
            if let Some(text) = reader.text(node, &path)
                && text != "v1"
            {
                reader.error(
                    node.at,
                    path,
                    format!("expected \"v1\" for kind {kind}, found {}", quoted(&text)),
                );
            }
        }
        None if expected == Expected::Pod => {}
        None => reader.error(node.at, join(path, "apiVersion"), "is required"),
    }
    if kind == "Pod" {
        read_one(reader, node, path, pods)
    } else {
        read_list(reader, node, path, &kind, pods)
    }
}

fn read_list(reader: &mut Reader, node: &Node, path: &str, kind: &str, pods: &mut Pods) {
    let Some(mut fields) = reader.open(node, path, vocabulary::LIST) else {
        return;
    };
    let (_, _) = (fields.take("apiVersion"), fields.take("kind"));
    // A list's metadata is about the answer it came in, never about a pod. kubectl writes it; nothing in it can be honoured.
    if let Some(mut metadata) = fields.object(reader, "metadata", vocabulary::LIST_META) {
        for name in [
            "selfLink",
            "resourceVersion",
            "continue",
            "remainingItemCount",
        ] {
            let _ = metadata.take(name);
        }
        metadata.close(reader);
    }
    let expected = if kind == "PodList" {
        Expected::Pod
    } else {
        Expected::Any
    };
    for (item, path) in fields.items(reader, "items") {
        read_object(reader, item, &path, expected, pods);
    }
    fields.close(reader);
}

fn read_one(reader: &mut Reader, node: &Node, path: &str, pods: &mut Pods) {
    let Some(pod) = read_pod::read(reader, node, path) else {
        return;
    };
    let metadata = &pod.metadata;
    let line = node.at.line;
    if metadata.name.is_empty() {
        // Reported already.
    } else if let Some(earlier) = pods
        .names
        .insert((metadata.namespace.clone(), metadata.name.clone()), line)
    {
        let name = format!("{}/{}", metadata.namespace, metadata.name);
        reader.error(
            node.at,
            join(path, "metadata"),
            format!("the pod {name} is already in this file, on line {earlier}"),
        );
    } else if let Some(earlier) = pods.uids.insert(metadata.uid.to_string(), line) {
        let uid = &metadata.uid;
        reader.error(
            node.at,
            join(path, "metadata"),
            format!("a pod with the uid {uid} is already in this file, on line {earlier}"),
        );
    }
    pods.pods.push(pod);
}
