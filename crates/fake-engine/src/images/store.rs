//! Owns the image store: images by id, tags and digests that point at them, lookups, removal. Parses no requests.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;

use bytes::Bytes;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::clock::Nanos;
use crate::config::Config;
use crate::files::Tree;
use crate::http::ApiError;
use crate::reference::Reference;
use crate::time::rfc3339;

/// `sha256:…` of bytes.
pub(crate) fn digest_of(bytes: &[u8]) -> String {
    let hash = Sha256::digest(bytes);
    hash.iter().fold("sha256:".to_owned(), |mut text, byte| {
        text.push_str(&format!("{byte:02x}"));
        text
    })
}

#[derive(Clone, Debug)]
pub(crate) struct Layer {
    pub(crate) diff_id: String,
    /// The size shown, which for images of the library is not that of `tar`.
    pub(crate) size: u64,
    pub(crate) tar: Bytes,
}

#[derive(Clone, Debug)]
pub(crate) struct HistoryEntry {
    pub(crate) created: Nanos,
    pub(crate) created_by: String,
    pub(crate) comment: String,
    pub(crate) empty_layer: bool,
}

#[derive(Clone, Debug)]
pub(crate) struct Image {
    pub(crate) id: Arc<str>,
    pub(crate) config: Arc<Config>,
    pub(crate) created: Nanos,
    pub(crate) layers: Vec<Layer>,
    pub(crate) history: Vec<HistoryEntry>,
    pub(crate) comment: String,
    pub(crate) author: String,
    pub(crate) parent: Option<Arc<str>>,
    /// The image configuration whose digest is the id.
    pub(crate) blob: Bytes,
    pub(crate) tree: Arc<Tree>,
    pub(crate) has_shell: bool,
    pub(crate) last_tagged: Option<Nanos>,
}

/// The processor architecture of this machine as images name it.
pub(crate) fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

impl Image {
    /// An image with one history entry per layer and one for its command.
    pub(crate) fn build(
        config: Config,
        layers: Vec<Layer>,
        created: Nanos,
        tree: Arc<Tree>,
        has_shell: bool,
    ) -> Self {
        let mut history: Vec<HistoryEntry> = layers
            .iter()
            .map(|layer| HistoryEntry {
                created,
                created_by: format!("/bin/sh -c #(nop) ADD file:{} in / ", &layer.diff_id[7..]),
                comment: String::new(),
                empty_layer: false,
            })
            .collect();
        history.push(HistoryEntry {
            created,
            created_by: format!(
                "/bin/sh -c #(nop)  CMD {:?}",
                config.cmd.clone().unwrap_or_default()
            ),
            comment: String::new(),
            empty_layer: true,
        });
        Self::from_parts(config, layers, history, created, tree, has_shell)
    }

    pub(crate) fn from_parts(
        config: Config,
        layers: Vec<Layer>,
        history: Vec<HistoryEntry>,
        created: Nanos,
        tree: Arc<Tree>,
        has_shell: bool,
    ) -> Self {
        let entries: Vec<Value> = history
            .iter()
            .map(|entry| {
                let mut value =
                    json!({ "created": rfc3339(entry.created), "created_by": entry.created_by });
                if entry.empty_layer {
                    value["empty_layer"] = json!(true);
                }
                if !entry.comment.is_empty() {
                    value["comment"] = json!(entry.comment);
                }
                value
            })
            .collect();
        let diff_ids: Vec<&str> = layers.iter().map(|layer| layer.diff_id.as_str()).collect();
        let blob = json!({
            "architecture": architecture(),
            "config": config,
            "created": rfc3339(created),
            "history": entries,
            "os": "linux",
            "rootfs": { "type": "layers", "diff_ids": diff_ids },
        });
        let blob = Bytes::from(blob.to_string());
        Self {
            id: digest_of(&blob).into(),
            config: Arc::new(config),
            created,
            layers,
            history,
            comment: String::new(),
            author: String::new(),
            parent: None,
            blob,
            tree,
            has_shell,
            last_tagged: None,
        }
    }

    pub(crate) fn size(&self) -> u64 {
        self.layers.iter().map(|layer| layer.size).sum()
    }

    /// What messages call it.
    pub(crate) fn short_id(&self) -> &str {
        &self.id[7..19]
    }
}

/// What running a container of an image depends on.
#[derive(Clone, Debug, Default)]
pub(crate) struct Facts {
    pub(crate) has_shell: bool,
    /// The program the image itself runs.
    pub(crate) program: Option<String>,
}

/// All images, with the names that point at them.
#[derive(Debug, Default)]
pub(crate) struct Images {
    pub(crate) images: BTreeMap<Arc<str>, Image>,
    /// `busybox:latest` to id.
    pub(crate) tags: BTreeMap<String, Arc<str>>,
    /// `busybox@sha256:…` to id.
    pub(crate) digests: BTreeMap<String, Arc<str>>,
}

impl Images {
    /// By tag, digest, id, or the unique start of an id. The error names the reference as the engine does.
    pub(crate) fn find(&self, name: &str) -> Result<&Image, ApiError> {
        self.id_of(name)
            .and_then(|id| self.images.get(&id).ok_or_else(|| missing(name)))
    }

    pub(crate) fn id_of(&self, name: &str) -> Result<Arc<str>, ApiError> {
        let hex = name.strip_prefix("sha256:").unwrap_or(name);
        let is_hex = !hex.is_empty()
            && hex
                .bytes()
                .all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
        if is_hex && hex.len() == 64 {
            let id = format!("sha256:{hex}");
            return self
                .images
                .get_key_value(id.as_str())
                .map(|(id, _)| Arc::clone(id))
                .ok_or_else(|| missing(name));
        }
        if !name.starts_with("sha256:") {
            let reference = Reference::parse(name)?.tagged();
            let key = reference.key();
            if let Some(id) = self.tags.get(&key).or_else(|| self.digests.get(&key)) {
                return Ok(Arc::clone(id));
            }
            // `name@id-of-the-image` is accepted too.
            if let Some(id) = reference
                .digest
                .as_deref()
                .and_then(|digest| self.images.get_key_value(digest))
            {
                return Ok(Arc::clone(id.0));
            }
        }
        if is_hex {
            let prefix = format!("sha256:{hex}");
            let from = (Bound::Included(prefix.as_str()), Bound::Unbounded);
            let mut hits = self
                .images
                .range::<str, _>(from)
                .map(|(id, _)| id)
                .take_while(|id| id.starts_with(&prefix));
            if let (Some(id), None) = (hits.next(), hits.next()) {
                return Ok(Arc::clone(id));
            }
        }
        Err(missing(name))
    }

    /// Puts an image in, unless it is there.
    pub(crate) fn add(&mut self, image: Image) -> Arc<str> {
        let id = Arc::clone(&image.id);
        self.images.entry(Arc::clone(&id)).or_insert(image);
        id
    }

    /// Points a tag or digest at an image.
    pub(crate) fn tag(&mut self, reference: &Reference, id: &Arc<str>, now: Nanos) {
        let names = if reference.digest.is_some() {
            &mut self.digests
        } else {
            &mut self.tags
        };
        names.insert(reference.key(), Arc::clone(id));
        if let Some(image) = self.images.get_mut(id) {
            image.last_tagged = Some(now);
        }
    }

    pub(crate) fn tags_of(&self, id: &str) -> Vec<&str> {
        self.tags
            .iter()
            .filter(|(_, of)| ***of == *id)
            .map(|(name, _)| name.as_str())
            .collect()
    }

    pub(crate) fn digests_of(&self, id: &str) -> Vec<&str> {
        self.digests
            .iter()
            .filter(|(_, of)| ***of == *id)
            .map(|(name, _)| name.as_str())
            .collect()
    }

    pub(crate) fn facts(&self, id: &str) -> Facts {
        self.images
            .get(id)
            .map_or_else(Facts::default, |image| Facts {
                has_shell: image.has_shell,
                program: image.config.argv().into_iter().next(),
            })
    }

    pub(crate) fn tree(&self, id: &str) -> Arc<Tree> {
        self.images
            .get(id)
            .map(|image| Arc::clone(&image.tree))
            .unwrap_or_default()
    }

    pub(crate) fn size(&self, id: &str) -> usize {
        self.images.get(id).map_or(0, |image| {
            usize::try_from(image.size()).unwrap_or(usize::MAX)
        })
    }

    /// Whether a name still means the image with this id.
    pub(crate) fn means(&self, name: &str, id: &str) -> bool {
        !name.starts_with("sha256:") && self.id_of(name).is_ok_and(|of| *of == *id)
    }

    /// Whether `id` is `ancestor` or was made from it.
    pub(crate) fn descends(&self, id: &str, ancestor: &str) -> bool {
        let (Some(image), Some(of)) = (self.images.get(id), self.images.get(ancestor)) else {
            return id == ancestor;
        };
        let mut own = image.layers.iter().map(|layer| &layer.diff_id);
        id == ancestor
            || image
                .parent
                .as_deref()
                .is_some_and(|parent| self.descends(parent, ancestor))
            || image.layers.len() > of.layers.len()
                && of
                    .layers
                    .iter()
                    .all(|layer| own.next() == Some(&layer.diff_id))
    }
}

fn missing(name: &str) -> ApiError {
    let shown = match Reference::parse(name) {
        Ok(reference) if !name.starts_with("sha256:") => reference.tagged().familiar(),
        _ => name.to_owned(),
    };
    ApiError::not_found(format!("No such image: {shown}"))
}
