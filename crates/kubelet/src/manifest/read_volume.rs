//! Volumes and the mounts that use them.

use std::collections::{HashMap, HashSet};

use super::fields::{At, Fields, Reader};
use super::node::Node;
use super::problem::quoted;
use super::read_pod::check;
use super::vocabulary::{EMPTY_DIR, HOST_PATH, VOLUME, VOLUME_MOUNT};
use crate::name;
use crate::pod::{EmptyDir, HostPath, HostPathType, Medium, Volume, VolumeMount, VolumeSource};

/// The volume that an API server adds to every pod, by the start of its name (Kubernetes: the ServiceAccount admission plug-in).
const TOKEN_VOLUME: &str = "kube-api-access-";

/// What a mount of a volume comes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Use {
    Mounted,
    /// The volume was left out with a warning, and its mounts with it.
    LeftOut,
}

/// The volumes of a pod.
#[derive(Debug, Default)]
pub(super) struct Volumes {
    pub(super) volumes: Vec<Volume>,
    uses: HashMap<String, Use>,
}

impl Volumes {
    /// Every volume the manifest names, also those in error, so that an error is reported once.
    pub(super) fn names(&self) -> HashMap<String, Use> {
        self.uses.clone()
    }
}

/// Reads `spec.volumes`.
pub(super) fn read_all(reader: &mut Reader, fields: &mut Fields<'_>) -> Volumes {
    let mut volumes = Volumes::default();
    for (node, path) in fields.items(reader, "volumes") {
        let Some(mut fields) = reader.open(node, &path, VOLUME) else {
            continue;
        };
        let name = fields.required_string(reader, "name");
        if let Some(name) = &name {
            check(reader, name, name::check_label);
            if volumes.uses.contains_key(&name.value) {
                reader.error(
                    name.at,
                    &name.path,
                    format!("there is another volume named {}", quoted(&name.value)),
                );
            }
        }
        let left_out = name
            .as_ref()
            .is_some_and(|name| name.value.starts_with(TOKEN_VOLUME))
            && fields.has("projected");
        let source = if left_out {
            reader.warn(
                node.at,
                &path,
                "left out, with its mounts: there is no API server to give the pod a token",
            );
            fields.forget("projected");
            None
        } else {
            read_source(reader, &mut fields)
        };
        fields.close(reader);
        if let Some(name) = name {
            volumes.uses.insert(
                name.value.clone(),
                if left_out { Use::LeftOut } else { Use::Mounted },
            );
            if let Some(source) = source {
                volumes.volumes.push(Volume {
                    name: name.value,
                    source,
                });
            }
        }
    }
    volumes
}

fn read_source(reader: &mut Reader, fields: &mut Fields<'_>) -> Option<VolumeSource> {
    let host_path = fields.object(reader, "hostPath", HOST_PATH);
    let empty_dir = fields.object(reader, "emptyDir", EMPTY_DIR);
    if let Some((name, at)) = fields.first_unsupported() {
        let message = "is a kind of volume that berth does not support yet (hostPath and emptyDir are supported)";
        reader.error(at, fields.path_of(name), message);
        fields.forget(name);
        // Readers of both kinds go on below, to find their own mistakes.
    } else if host_path.is_none() && empty_dir.is_none() {
        reader.error(
            fields.at,
            &fields.path,
            "needs a kind, such as hostPath or emptyDir",
        );
    }
    if let (Some(_), Some(empty_dir)) = (&host_path, &empty_dir) {
        reader.error(
            empty_dir.at,
            &fields.path,
            "has two kinds: hostPath and emptyDir",
        );
    }
    let host_path = host_path.map(|host_path| read_host_path(reader, host_path));
    let empty_dir = empty_dir.map(|empty_dir| read_empty_dir(reader, empty_dir));
    host_path
        .map(VolumeSource::HostPath)
        .or(empty_dir.map(VolumeSource::EmptyDir))
}

fn read_host_path(reader: &mut Reader, mut fields: Fields<'_>) -> HostPath {
    let path = match fields.required_string(reader, "path") {
        Some(path) => {
            check_absolute(reader, &path);
            if path.value.split('/').any(|part| part == "..") {
                reader.error(path.at, &path.path, "must not contain '..'");
            }
            path.value
        }
        None => String::new(),
    };
    let kind = fields.word(
        reader,
        "type",
        &[
            ("DirectoryOrCreate", HostPathType::DirectoryOrCreate),
            ("Directory", HostPathType::Directory),
            ("FileOrCreate", HostPathType::FileOrCreate),
            ("File", HostPathType::File),
            ("Socket", HostPathType::Socket),
            ("CharDevice", HostPathType::CharDevice),
            ("BlockDevice", HostPathType::BlockDevice),
        ],
    );
    fields.close(reader);
    HostPath {
        path,
        kind: kind.map(|kind| kind.value).unwrap_or_default(),
    }
}

/// Checks that a path starts at the root and has no character a path cannot have.
pub(super) fn check_absolute(reader: &mut Reader, path: &At<String>) {
    if !path.value.starts_with('/') {
        reader.error(
            path.at,
            &path.path,
            format!("expected an absolute path, found {}", quoted(&path.value)),
        );
    } else if path.value.contains('\0') {
        reader.error(path.at, &path.path, "must not contain a NUL character");
    }
}

fn read_empty_dir(reader: &mut Reader, mut fields: Fields<'_>) -> EmptyDir {
    let medium_at = fields.string(reader, "medium");
    let medium = match medium_at.as_ref().map(|medium| medium.value.as_str()) {
        None | Some("") => Medium::Disk,
        Some("Memory") => Medium::Memory,
        Some(other) => {
            let message = match other.starts_with("HugePages") {
                true => "huge pages are not supported yet (\"\" and Memory are)".to_owned(),
                false => format!("expected \"\" or Memory, found {}", quoted(other)),
            };
            if let Some(At { at, path, .. }) = &medium_at {
                reader.error(*at, path, message);
            }
            Medium::Disk
        }
    };
    let limit = fields.quantity(reader, "sizeLimit");
    let mut size_limit = None;
    if let Some(At { at, path, value }) = limit {
        if value.units() <= 0 || !value.is_whole() {
            reader.error(at, path, "expected a whole number of bytes above zero");
        } else if medium == Medium::Disk {
            reader.refuse(
                at,
                &path,
                "is enforced only with medium: Memory; for disks berth does not support it yet",
            );
        } else {
            size_limit = Some(value);
        }
    }
    fields.close(reader);
    EmptyDir { medium, size_limit }
}

/// Reads a container's `volumeMounts`.
pub(super) fn read_mounts(
    reader: &mut Reader,
    fields: &mut Fields<'_>,
    volumes: &HashMap<String, Use>,
) -> Vec<VolumeMount> {
    let mut mounts = Vec::new();
    let mut places = HashSet::new();
    for (node, path) in fields.items(reader, "volumeMounts") {
        let Some((mount, used)) = read_mount(reader, node, &path, volumes) else {
            continue;
        };
        let place = clean(&mount.mount_path);
        if !mount.mount_path.is_empty() && !places.insert(place) {
            let message = format!(
                "something else is mounted at {} in this container",
                quoted(&mount.mount_path)
            );
            reader.error(node.at, format!("{path}.mountPath"), message);
        }
        if used == Use::Mounted {
            mounts.push(mount);
        }
    }
    mounts
}

fn read_mount(
    reader: &mut Reader,
    node: &Node,
    path: &str,
    volumes: &HashMap<String, Use>,
) -> Option<(VolumeMount, Use)> {
    let mut fields = reader.open(node, path, VOLUME_MOUNT)?;
    let mut used = Use::Mounted;
    let name = match fields.required_string(reader, "name") {
        Some(name) => {
            match volumes.get(&name.value) {
                Some(found) => used = *found,
                None => {
                    let hint =
                        match super::suggestion(&name.value, volumes.keys().map(String::as_str)) {
                            Some(meant) => format!(" (did you mean \"{meant}\"?)"),
                            None => String::new(),
                        };
                    reader.error(
                        name.at,
                        &name.path,
                        format!("spec.volumes has no volume {}{hint}", quoted(&name.value)),
                    );
                }
            }
            name.value
        }
        None => String::new(),
    };
    let mount_path = match fields.required_string(reader, "mountPath") {
        Some(place) => {
            check_absolute(reader, &place);
            if place.value.contains(':') {
                reader.error(place.at, &place.path, "must not contain ':'");
            } else if place.value.starts_with('/') && clean(&place.value) == "/" {
                reader.error(
                    place.at,
                    &place.path,
                    "the root of the container cannot be mounted over",
                );
            }
            place.value
        }
        None => String::new(),
    };
    let read_only = fields
        .boolean(reader, "readOnly")
        .is_some_and(|flag| flag.value);
    let sub_path = fields.filled_string(reader, "subPath");
    if let Some(sub_path) = &sub_path {
        if sub_path.value.starts_with('/') {
            reader.error(sub_path.at, &sub_path.path, "must be a relative path");
        }
        if sub_path.value.split('/').any(|part| part == "..") {
            reader.error(sub_path.at, &sub_path.path, "must not contain '..'");
        }
        if sub_path.value.contains('\0') {
            reader.error(
                sub_path.at,
                &sub_path.path,
                "must not contain a NUL character",
            );
        }
    }
    fields.close(reader);
    let mount = VolumeMount {
        name,
        mount_path,
        read_only,
        sub_path: sub_path.map(|sub_path| sub_path.value),
    };
    Some((mount, used))
}

/// A path with `.`, `..` and doubled slashes resolved as text, to tell whether two name one place.
fn clean(path: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    format!("/{}", parts.join("/"))
}
