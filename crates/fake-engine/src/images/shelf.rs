//! Owns what registries have: the images that were pushed to them, and the manifests by which registries know images.

use std::collections::BTreeMap;

use bytes::Bytes;
use serde_json::{Value, json};

use super::store::{Image, digest_of};
use crate::reference::Reference;

/// The media type of a manifest.
pub(crate) const MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";

/// The manifest of an image.
pub(crate) fn manifest(image: &Image) -> Bytes {
    let layers: Vec<Value> = image
        .layers
        .iter()
        .map(|layer| {
            json!({
                "mediaType": "application/vnd.docker.image.rootfs.diff.tar.gzip",
                "size": layer.size,
                "digest": layer.diff_id,
            })
        })
        .collect();
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": {
            "mediaType": "application/vnd.docker.container.image.v1+json",
            "size": image.blob.len(),
            "digest": &*image.id,
        },
        "layers": layers,
    });
    manifest.to_string().into()
}

/// The images that were pushed, by repository.
#[derive(Debug, Default)]
pub(crate) struct Shelf(BTreeMap<String, Repository>);

#[derive(Debug, Default)]
struct Repository {
    /// Tag to digest.
    tags: BTreeMap<String, String>,
    /// Digest of the manifest to image.
    images: BTreeMap<String, Image>,
}

impl Shelf {
    pub(crate) fn put(&mut self, reference: &Reference, image: &Image) {
        let repository = self.0.entry(reference.familiar_name()).or_default();
        let digest = digest_of(&manifest(image));
        if let Some(tag) = &reference.tag {
            repository.tags.insert(tag.clone(), digest.clone());
        }
        repository.images.insert(digest, image.clone());
    }

    /// The image that was pushed under this tag, or has this digest.
    pub(crate) fn get(&self, reference: &Reference) -> Option<&Image> {
        let repository = self.0.get(&reference.familiar_name())?;
        let digest = match &reference.digest {
            Some(digest) => digest,
            None => repository.tags.get(reference.tag.as_deref()?)?,
        };
        repository.images.get(digest)
    }
}
