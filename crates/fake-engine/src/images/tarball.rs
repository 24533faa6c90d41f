//! Owns images as archives and images made from containers: load, save, import, commit.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use serde_json::json;

use super::library;
use super::store::{HistoryEntry, Image, Images, Layer, digest_of};
use crate::clock::Nanos;
use crate::config::{Config, nullable};
use crate::events::Event;
use crate::files::{Kind, Node, Tree, clean, lock};
use crate::http::{Answer, ApiError, Call, created, full, typed};
use crate::images::pull::single_line;
use crate::reference::Reference;
use crate::tarfiles::{pack, unpack};

/// The parts of an image configuration that matter here.
#[derive(Default, serde::Deserialize)]
#[serde(default)]
struct ImageBlob {
    #[serde(deserialize_with = "nullable")]
    config: Config,
    #[serde(deserialize_with = "nullable")]
    created: String,
    #[serde(deserialize_with = "nullable")]
    author: String,
    #[serde(deserialize_with = "nullable")]
    comment: String,
    #[serde(deserialize_with = "nullable")]
    history: Vec<BlobHistory>,
    #[serde(deserialize_with = "nullable")]
    rootfs: RootFs,
}

#[derive(Default, serde::Deserialize)]
#[serde(default)]
struct BlobHistory {
    #[serde(deserialize_with = "nullable")]
    created: String,
    #[serde(deserialize_with = "nullable")]
    created_by: String,
    #[serde(deserialize_with = "nullable")]
    comment: String,
    #[serde(deserialize_with = "nullable")]
    empty_layer: bool,
}

#[derive(Default, serde::Deserialize)]
#[serde(default)]
struct RootFs {
    #[serde(deserialize_with = "nullable")]
    diff_ids: Vec<String>,
}

/// One image of an archive's `manifest.json`.
#[derive(serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "PascalCase")]
struct ManifestEntry {
    config: String,
    #[serde(default, deserialize_with = "nullable")]
    repo_tags: Vec<String>,
    #[serde(default, deserialize_with = "nullable")]
    layers: Vec<String>,
}

fn invalid(what: &str) -> ApiError {
    ApiError::internal(format!("invalid archive: {what}"))
}

/// Puts a layer over a tree, its whiteouts carried out.
fn apply(tree: &mut Tree, layer: &[u8]) -> Result<(), ApiError> {
    for entry in unpack(layer).map_err(|e| ApiError::internal(e.to_string()))? {
        let (dir, name) = entry.path.rsplit_once('/').unwrap_or(("", &entry.path));
        match name.strip_prefix(".wh.") {
            Some(".wh..opq") => tree
                .nodes
                .retain(|path, _| !path.starts_with(&format!("{dir}/"))),
            Some(gone) => tree.remove(&clean("/", &format!("{dir}/{gone}"))),
            None => tree.insert(&entry.path, entry.node),
        }
    }
    Ok(())
}

/// Reads an image from its configuration and the layers' archives.
fn read_image(blob: &Bytes, layers: Vec<Bytes>) -> Result<Image, ApiError> {
    let parsed: ImageBlob =
        serde_json::from_slice(blob).map_err(|e| invalid(&format!("image configuration: {e}")))?;
    if parsed.rootfs.diff_ids.len() != layers.len() {
        return Err(invalid(&format!(
            "{} layers for {} diff ids",
            layers.len(),
            parsed.rootfs.diff_ids.len()
        )));
    }
    let mut tree = Tree::default();
    let mut kept = Vec::new();
    for (tar, diff_id) in layers.into_iter().zip(parsed.rootfs.diff_ids) {
        if digest_of(&tar) != diff_id {
            return Err(invalid(&format!(
                "layer {diff_id} has another digest; compressed layers are not served"
            )));
        }
        let before = tree.size();
        apply(&mut tree, &tar)?;
        let size = u64::try_from(tree.size().saturating_sub(before)).unwrap_or(u64::MAX);
        kept.push(Layer { diff_id, size, tar });
    }
    let time = |text: &str| crate::time::parse_moment(text, 0).unwrap_or(0);
    let history = parsed
        .history
        .into_iter()
        .map(|entry| HistoryEntry {
            created: time(&entry.created),
            created_by: entry.created_by,
            comment: entry.comment,
            empty_layer: entry.empty_layer,
        })
        .collect();
    let has_shell = library::has_shell(&tree);
    Ok(Image {
        id: digest_of(blob).into(),
        config: Arc::new(parsed.config),
        created: time(&parsed.created),
        layers: kept,
        history,
        comment: parsed.comment,
        author: parsed.author,
        parent: None,
        blob: blob.clone(),
        tree: Arc::new(tree),
        has_shell,
        last_tagged: None,
    })
}

/// `POST /images/load`
pub(crate) async fn load(mut call: Call) -> Answer {
    let archive = call.archive().await?;
    let files: BTreeMap<String, Bytes> = unpack(&archive)
        .map_err(|e| ApiError::internal(e.to_string()))?
        .into_iter()
        .filter_map(|entry| match entry.node.kind {
            Kind::File(data) => Some((entry.path, data)),
            _ => None,
        })
        .collect();
    let file = |name: &str| {
        files
            .get(&clean("/", name))
            .cloned()
            .ok_or_else(|| invalid(&format!("{name} is missing")))
    };
    let manifest: Vec<ManifestEntry> = serde_json::from_slice(&file("manifest.json")?)
        .map_err(|e| invalid(&format!("manifest.json: {e}")))?;
    let mut lines = String::new();
    for entry in manifest {
        let layers = entry
            .layers
            .iter()
            .map(|name| file(name))
            .collect::<Result<Vec<_>, _>>()?;
        let image = read_image(&file(&entry.config)?, layers)?;
        let mut state = call.engine.state();
        let id = state.images.add(image);
        call.engine
            .emit(Event::new("image", "load", &*id).attribute("name", &*id));
        let mut say = |text: String| lines.push_str(&format!("{}\r\n", json!({ "stream": text })));
        if entry.repo_tags.is_empty() {
            say(format!("Loaded image ID: {id}\n"));
        }
        for tag in &entry.repo_tags {
            let reference = Reference::parse(tag)?.tagged();
            state.images.tag(&reference, &id, call.engine.clock.nanos());
            say(format!("Loaded image: {}\n", reference.familiar()));
        }
    }
    Ok(typed("application/json", full(lines)).into())
}

/// `GET /images/get` and `GET /images/{name}/get`
pub(crate) async fn save(call: Call) -> Answer {
    let names: Vec<String> = if call.target.is_empty() {
        call.query
            .all("names")
            .flat_map(|names| names.split(','))
            .map(str::to_owned)
            .collect()
    } else {
        vec![call.target.clone()]
    };
    let state = call.engine.state();
    let mut files: BTreeMap<String, Node> = BTreeMap::new();
    let mut manifest: BTreeMap<Arc<str>, ManifestEntry> = BTreeMap::new();
    for name in &names {
        let image = state.images.find(name)?;
        let blob = |digest: &str| format!("blobs/sha256/{}", digest.trim_start_matches("sha256:"));
        let entry = manifest
            .entry(Arc::clone(&image.id))
            .or_insert_with(|| ManifestEntry {
                config: blob(&image.id),
                repo_tags: Vec::new(),
                layers: image
                    .layers
                    .iter()
                    .map(|layer| blob(&layer.diff_id))
                    .collect(),
            });
        entry
            .repo_tags
            .extend(saved_tags(&state.images, name, image));
        files.insert(
            blob(&image.id),
            Node::file(image.blob.clone(), image.created),
        );
        for layer in &image.layers {
            files.insert(
                blob(&layer.diff_id),
                Node::file(layer.tar.clone(), image.created),
            );
        }
        call.engine
            .emit(Event::new("image", "save", &*image.id).attribute("name", &*image.id));
    }
    let manifest: Vec<ManifestEntry> = manifest.into_values().collect();
    let text = serde_json::to_vec(&manifest).map_err(|e| ApiError::internal(e.to_string()))?;
    files.insert("manifest.json".to_owned(), Node::file(text, 0));
    let tar = pack(files.iter().map(|(name, node)| (name.clone(), node)))
        .map_err(|e| ApiError::internal(e.to_string()))?;
    Ok(typed("application/x-tar", full(tar)).into())
}

/// The tags an image is saved under: the one asked for, or all of a repository; none when asked for by id.
fn saved_tags(images: &Images, name: &str, image: &Image) -> Vec<String> {
    let Ok(reference) = Reference::parse(name) else {
        return Vec::new();
    };
    let tags = images.tags_of(&image.id);
    match &reference.tag {
        Some(_) => tags
            .into_iter()
            .filter(|tag| *tag == reference.key())
            .map(str::to_owned)
            .collect(),
        None => {
            let of_repository =
                |tag: &&str| crate::reference::strip_tag(tag) == reference.familiar_name();
            tags.into_iter()
                .filter(of_repository)
                .map(str::to_owned)
                .collect()
        }
    }
}

/// A new image of one layer on top of `base`.
fn derive(
    base: Option<&Image>,
    layer: Bytes,
    config: Config,
    entry: HistoryEntry,
    tree: Tree,
) -> Image {
    let created = entry.created;
    let mut layers = base.map(|image| image.layers.clone()).unwrap_or_default();
    let mut history = base.map(|image| image.history.clone()).unwrap_or_default();
    let size = u64::try_from(layer.len()).unwrap_or(u64::MAX);
    layers.push(Layer {
        diff_id: digest_of(&layer),
        size,
        tar: layer,
    });
    history.push(entry);
    let has_shell = base.is_some_and(|image| image.has_shell) || library::has_shell(&tree);
    let mut image = Image::from_parts(config, layers, history, created, Arc::new(tree), has_shell);
    image.parent = base.map(|image| Arc::clone(&image.id));
    image
}

/// `A=1 B="two words"`, or in the old form one name and its value: `A two words`. Quotes and `\` as in a Dockerfile.
fn pairs(text: &str) -> Option<Vec<(String, String)>> {
    let mut words = vec![String::new()];
    let mut quote = None;
    let mut chars = text.trim().chars();
    while let Some(c) = chars.next() {
        let word = words.last_mut()?;
        match (c, quote) {
            ('\\', None | Some('"')) => word.extend(chars.next()),
            ('"' | '\'', None) => quote = Some(c),
            (c, Some(open)) if c == open => quote = None,
            (c, None) if c.is_whitespace() => words.push(String::new()),
            (c, _) => word.push(c),
        }
    }
    words.retain(|word| !word.is_empty());
    if words.first()?.contains('=') {
        let pair = |word: &String| {
            let (name, value) = word.split_once('=')?;
            (!name.is_empty()).then(|| (name.to_owned(), value.to_owned()))
        };
        return words.iter().map(pair).collect();
    }
    let (name, value) = text.trim().split_once(char::is_whitespace)?;
    Some(vec![(name.to_owned(), value.trim().to_owned())])
}

/// Carries out the `changes` of import and commit: the Dockerfile instructions that set configuration.
fn apply_changes(
    config: &mut Config,
    changes: impl Iterator<Item = String>,
) -> Result<(), ApiError> {
    for change in changes {
        let (instruction, rest) = change.trim().split_once(' ').unwrap_or((change.trim(), ""));
        let words = || -> Vec<String> {
            serde_json::from_str(rest)
                .unwrap_or_else(|_| vec!["/bin/sh".into(), "-c".into(), rest.to_owned()])
        };
        let missing = || ApiError::bad(format!("{instruction} needs a name and a value"));
        match instruction.to_ascii_uppercase().as_str() {
            "CMD" => config.cmd = Some(words()),
            "ENTRYPOINT" => config.entrypoint = Some(words()),
            "WORKDIR" => config.working_dir = rest.to_owned(),
            "USER" => config.user = rest.to_owned(),
            "STOPSIGNAL" => config.stop_signal = Some(rest.to_owned()),
            "ENV" => {
                let env = config.env.get_or_insert_default();
                for (name, value) in pairs(rest).ok_or_else(missing)? {
                    let start = format!("{name}=");
                    env.retain(|variable| !variable.starts_with(&start));
                    env.push(start + &value);
                }
            }
            "LABEL" => {
                config.labels.extend(pairs(rest).ok_or_else(missing)?);
            }
            "EXPOSE" => {
                for port in rest.split_whitespace() {
                    let (number, protocol) = crate::config::parse_port(port)
                        .ok_or_else(|| ApiError::bad(format!("invalid port: {port}")))?;
                    config
                        .exposed_ports
                        .insert(format!("{number}/{protocol}"), serde_json::Map::new());
                }
            }
            other => {
                return Err(ApiError::bad(format!(
                    "{other} is not a valid change command"
                )));
            }
        }
    }
    Ok(())
}

/// `POST /images/create` with `fromSrc`
pub(crate) async fn import(mut call: Call) -> Answer {
    let source = call.query.get("fromSrc").unwrap_or_default().to_owned();
    if source != "-" {
        return Err(ApiError::bad(format!(
            "the fake engine imports from the request body only, not from {source}"
        )));
    }
    let layer = call.archive().await?;
    let mut config = Config::default();
    apply_changes(&mut config, call.query.all("changes").map(str::to_owned))?;
    let mut tree = Tree::default();
    apply(&mut tree, &layer)?;
    let comment = match call.query.get("message").unwrap_or_default() {
        "" => format!("Imported from {source}"),
        message => message.to_owned(),
    };
    let entry = HistoryEntry {
        created: call.engine.clock.nanos(),
        created_by: String::new(),
        comment: comment.clone(),
        empty_layer: false,
    };
    let mut image = derive(None, layer, config, entry, tree);
    image.comment = comment;
    let repo = call.query.get("repo").unwrap_or_default().to_owned();
    let tag = call.query.get("tag").unwrap_or_default().to_owned();
    let id = store(&call, image, &repo, &tag, "import")?;
    Ok(typed("application/json", single_line(&json!({ "status": &*id }))).into())
}

fn store(
    call: &Call,
    image: Image,
    repo: &str,
    tag: &str,
    action: &str,
) -> Result<Arc<str>, ApiError> {
    let now: Nanos = call.engine.clock.nanos();
    let text = if tag.is_empty() {
        repo.to_owned()
    } else {
        format!("{repo}:{tag}")
    };
    let reference = if repo.is_empty() {
        None
    } else {
        Some(Reference::parse(&text)?.tagged())
    };
    let mut state = call.engine.state();
    let id = state.images.add(image);
    call.engine
        .emit(Event::new("image", action, &*id).attribute("name", &*id));
    if let Some(reference) = reference {
        state.images.tag(&reference, &id, now);
        call.engine
            .emit(Event::new("image", "tag", &*id).attribute("name", reference.familiar()));
    }
    Ok(id)
}

/// `POST /commit`
pub(crate) async fn commit(mut call: Call) -> Answer {
    let own: Option<Config> = call.json().await?;
    let parameter = |name: &str| call.query.get(name).unwrap_or_default().to_owned();
    let (repo, tag, comment, author) = (
        parameter("repo"),
        parameter("tag"),
        parameter("comment"),
        parameter("author"),
    );
    let mut image = {
        let state = call.engine.state();
        let container = state.container(&parameter("container"))?;
        let base = state.images.images.get(&container.image).cloned();
        let mut config = own.unwrap_or_default();
        config.merge_image(&container.config);
        config.image.clone_from(&container.config.image);
        let changes: Vec<String> = call
            .query
            .all("changes")
            .flat_map(str::lines)
            .map(str::to_owned)
            .collect();
        apply_changes(&mut config, changes.into_iter())?;
        let mut tree = (*state.images.tree(&container.image)).clone();
        let layer = match &container.files {
            None => pack([]),
            Some(files) => {
                let files = lock(files);
                files.removed.iter().for_each(|path| tree.remove(path));
                files
                    .nodes
                    .iter()
                    .for_each(|(path, node)| tree.insert(path, node.clone()));
                let gone = Node::file(Bytes::new(), 0);
                let whiteouts = files.removed.iter().map(|path| {
                    let (dir, name) = path.rsplit_once('/').unwrap_or(("", path));
                    (
                        format!("{}/.wh.{name}", dir.trim_start_matches('/'))
                            .trim_start_matches('/')
                            .to_owned(),
                        &gone,
                    )
                });
                let kept = files
                    .nodes
                    .iter()
                    .map(|(path, node)| (path.trim_start_matches('/').to_owned(), node));
                pack(kept.chain(whiteouts))
            }
        };
        let layer = layer.map_err(|e| ApiError::internal(e.to_string()))?;
        let entry = HistoryEntry {
            created: call.engine.clock.nanos(),
            created_by: container.config.argv().join(" "),
            comment: comment.clone(),
            empty_layer: false,
        };
        derive(base.as_ref(), layer, config, entry, tree)
    };
    (image.comment, image.author) = (comment, author);
    let id = store(&call, image, &repo, &tag, "commit")?;
    Ok(created(&json!({ "Id": &*id })).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_values_are_read_as_in_a_dockerfile() {
        let read = |text: &str| {
            let pairs = pairs(text).unwrap();
            pairs
                .iter()
                .map(|(k, v)| format!("{k}:{v}"))
                .collect::<Vec<_>>()
        };
        assert_eq!(read("A=1"), ["A:1"]);
        assert_eq!(
            read("A=1 B=\"two words\" C='x' D=a\\ b"),
            ["A:1", "B:two words", "C:x", "D:a b"]
        );
        assert_eq!(read("A two words"), ["A:two words"]);
        assert_eq!(pairs("A"), None);
        assert_eq!(pairs("A=1 B"), None);
        assert_eq!(pairs(""), None);
    }
}
