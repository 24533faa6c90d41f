//! The pause image: a container that does nothing but hold a pod's namespaces open.
//!
//! Owns the image's bytes: the executable that `build.rs` made from `pause/pause.rs`, wrapped as an archive
//! that `docker load` takes, so that the first pod on a host needs no registry. It talks to no engine; whether
//! the image is there already, and loading it, is its caller's business.
//!
//! The archive is a function of the executable alone: no time stamps, no host names, no map orders. Its name
//! carries the digest, so two versions of berth on one host keep apart what differs and share what does not.

use serde::Serialize;
use sha2::{Digest, Sha256};
use tar::{EntryType, Header};

/// The executable for berth's own architecture; empty where `pause.rs` cannot be built.
const EXECUTABLE: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/pause"));

/// Where images of berth's own making live. The domain is not resolvable, so no engine can pull from it.
const REPOSITORY: &str = "berth.local/pause";

/// The start of the epoch, as reproducible images have it: a real date would change the digest.
const CREATED: &str = "1970-01-01T00:00:00Z";

/// Neither root nor any user of the host; the same number as Kubernetes' own pause image.
const USER: &str = "65535:65535";

/// berth was built for an architecture that has no built-in pause image.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "this berth has no built-in pause image for {}; \
     name one that the engine has or can pull with --pod-infra-container-image",
    std::env::consts::ARCH
)]
pub struct NoPauseImage;

/// The pause image that is built into berth.
#[derive(Clone, Debug)]
pub struct PauseImage {
    name: String,
    id: String,
    config: Vec<u8>,
    layer: Vec<u8>,
}

impl PauseImage {
    /// Makes the image in memory, in well under a millisecond and some 20 KiB.
    ///
    /// # Errors
    /// [`NoPauseImage`] when berth was built for an architecture other than `x86_64` and `aarch64`.
    pub fn built_in() -> Result<Self, NoPauseImage> {
        Self::of(EXECUTABLE)
    }

    fn of(executable: &[u8]) -> Result<Self, NoPauseImage> {
        let architecture = docker_architecture(std::env::consts::ARCH).ok_or(NoPauseImage)?;
        if executable.is_empty() {
            return Err(NoPauseImage);
        }
        let layer = tar_of(&[("pause", 0o755, executable)]);
        let config = json(&ImageConfig {
            architecture,
            os: "linux",
            created: CREATED,
            config: RunConfig {
                user: USER,
                entrypoint: ["/pause"],
                working_dir: "/",
            },
            rootfs: RootFs {
                kind: "layers",
                diff_ids: [format!("sha256:{}", sha256(&layer))],
            },
            history: [History {
                created: CREATED,
                created_by: "berth pause/pause.rs",
            }],
        });
        let digest = sha256(&config);
        Ok(Self {
            name: format!("{REPOSITORY}:{}", &digest[..12]),
            id: format!("sha256:{digest}"),
            config,
            layer,
        })
    }

    /// The name the image is loaded under, such as `berth.local/pause:1f0c6a2d9b3e`. The tag is the start of
    /// the image's digest: an engine that has this name has this very image, unless somebody re-tagged it.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The digest of the image's configuration, `sha256:` and 64 hexadecimal digits. It is the image ID on
    /// an engine with graph drivers; the containerd image store reports a manifest digest of its own instead,
    /// so look for the image by [`name`](Self::name).
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The archive for `POST /images/load`, uncompressed: the same bytes on every call.
    #[must_use]
    pub fn archive(&self) -> Vec<u8> {
        let config = format!("{}.json", self.id.trim_start_matches("sha256:"));
        let manifest = json(&[ArchiveManifest {
            config: &config,
            repo_tags: [&self.name],
            layers: ["layer.tar"],
        }]);
        tar_of(&[
            (&config, 0o644, &self.config),
            ("layer.tar", 0o644, &self.layer),
            ("manifest.json", 0o644, &manifest),
        ])
    }
}

/// Go's name for a processor architecture, as Docker spells it.
fn docker_architecture(arch: &str) -> Option<&'static str> {
    match arch {
        "x86_64" => Some("amd64"),
        "aarch64" => Some("arm64"),
        _ => None,
    }
}

// Structs rather than `json!`: their field order, and with it the digest, does not hang on a feature that
// another crate may switch on in serde_json.

#[derive(Serialize)]
struct ImageConfig {
    architecture: &'static str,
    os: &'static str,
    created: &'static str,
    config: RunConfig,
    rootfs: RootFs,
    history: [History; 1],
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct RunConfig {
    user: &'static str,
    entrypoint: [&'static str; 1],
    working_dir: &'static str,
}

#[derive(Serialize)]
struct RootFs {
    #[serde(rename = "type")]
    kind: &'static str,
    diff_ids: [String; 1],
}

#[derive(Serialize)]
struct History {
    created: &'static str,
    created_by: &'static str,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct ArchiveManifest<'a> {
    config: &'a str,
    repo_tags: [&'a str; 1],
    layers: [&'a str; 1],
}

#[expect(
    clippy::expect_used,
    reason = "structs of strings always serialise, into memory that always takes them"
)]
fn json(value: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(value).expect("a struct of strings")
}

#[expect(
    clippy::expect_used,
    reason = "the names are short and a Vec takes every write"
)]
fn tar_of(files: &[(&str, u32, &[u8])]) -> Vec<u8> {
    let mut archive = tar::Builder::new(Vec::new());
    for (name, mode, bytes) in files {
        let mut header = Header::new_ustar();
        header.set_entry_type(EntryType::Regular);
        header.set_mode(*mode);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(0);
        header.set_size(bytes.len() as u64);
        archive
            .append_data(&mut header, name, *bytes)
            .expect("a short name, into memory");
    }
    archive.into_inner().expect("into memory")
}

fn sha256(bytes: &[u8]) -> String {
    use std::fmt::Write;
    Sha256::digest(bytes)
        .iter()
        .fold(String::with_capacity(64), |mut hex, byte| {
            let _ = write!(hex, "{byte:02x}");
            hex
        })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::io::Read;

    use serde_json::Value;

    use super::*;

    fn files(archive: &[u8]) -> BTreeMap<String, (u32, Vec<u8>)> {
        let mut archive = tar::Archive::new(archive);
        let entries = archive.entries().expect("an archive");
        entries
            .map(|entry| {
                let mut entry = entry.expect("an entry");
                let mut bytes = Vec::new();
                entry.read_to_end(&mut bytes).expect("its bytes");
                let name = entry.path().expect("its name").display().to_string();
                (name, (entry.header().mode().expect("its mode"), bytes))
            })
            .collect()
    }

    #[test]
    fn the_archive_is_the_same_bytes_every_time() {
        let (one, two) = (
            PauseImage::built_in().unwrap(),
            PauseImage::built_in().unwrap(),
        );
        assert_eq!(one.archive(), two.archive());
        assert_eq!(one.name(), two.name());
    }

    #[test]
    fn the_archive_leads_from_the_name_to_the_executable() {
        let image = PauseImage::built_in().unwrap();
        let outer = files(&image.archive());

        let manifest: Value = serde_json::from_slice(&outer["manifest.json"].1).unwrap();
        assert_eq!(manifest[0]["RepoTags"][0], image.name());
        let config_bytes = &outer[manifest[0]["Config"].as_str().unwrap()].1;
        assert_eq!(format!("sha256:{}", sha256(config_bytes)), image.id());
        let layer = &outer[manifest[0]["Layers"][0].as_str().unwrap()].1;

        let config: Value = serde_json::from_slice(config_bytes).unwrap();
        assert_eq!(
            config["rootfs"]["diff_ids"][0],
            format!("sha256:{}", sha256(layer))
        );
        assert_eq!(config["config"]["Entrypoint"][0], "/pause");
        assert_eq!(config["config"]["User"], "65535:65535");

        let inner = files(layer);
        assert_eq!(inner.len(), 1);
        assert_eq!(inner["pause"], (0o755, EXECUTABLE.to_vec()));
    }

    #[test]
    fn another_executable_is_another_image() {
        let (one, two) = (
            PauseImage::of(b"one").unwrap(),
            PauseImage::of(b"two").unwrap(),
        );
        assert_ne!(one.name(), two.name());
        assert_ne!(one.id(), two.id());
    }

    #[test]
    fn the_executable_is_a_few_kib() {
        assert!(EXECUTABLE.starts_with(b"\x7fELF"));
        assert!(EXECUTABLE.len() <= 16 * 1024, "{} bytes", EXECUTABLE.len());
    }

    #[test]
    fn a_berth_without_an_executable_names_the_flag_that_helps() {
        let error = PauseImage::of(b"").unwrap_err();
        assert!(
            error.to_string().contains("--pod-infra-container-image"),
            "{error}"
        );
    }
}
