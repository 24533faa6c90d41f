//! Owns what images from registries hold: the few every test uses, and one made up for any other reference. The same
//! reference always gives the same image.

use std::sync::{Arc, OnceLock};

use bytes::Bytes;

use super::shelf::manifest;
use super::store::{Image, Layer};
use crate::config::Config;
use crate::files::{Kind, Node, Tree};
use crate::reference::Reference;
use crate::shell::APPLETS;

/// When library images were built: 2024-01-01.
const BUILT: u64 = 1_704_067_200_000_000_000;

/// The image behind a reference.
pub(crate) fn image(reference: &Reference) -> Image {
    let name = reference.familiar_name();
    let base = name.rsplit('/').next().unwrap_or_default();
    let words = |words: &[&str]| Some(words.iter().map(|w| (*w).to_owned()).collect::<Vec<_>>());
    let mut config = Config {
        env: words(&["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"]),
        ..Config::default()
    };
    let (has_shell, layers): (bool, &[u64]) = match base {
        "busybox" => {
            config.cmd = words(&["sh"]);
            (true, &[4_269_694])
        }
        "alpine" => {
            config.cmd = words(&["/bin/sh"]);
            (true, &[7_798_532])
        }
        "debian" | "ubuntu" => {
            config.cmd = words(&["/bin/sh"]);
            (true, &[116_539_392])
        }
        "pause" => {
            config.entrypoint = words(&["/pause"]);
            (false, &[742_785])
        }
        "nginx" => {
            config.entrypoint = words(&["/docker-entrypoint.sh"]);
            config.cmd = words(&["nginx", "-g", "daemon off;"]);
            config
                .exposed_ports
                .insert("80/tcp".to_owned(), serde_json::Map::new());
            config.stop_signal = Some("SIGQUIT".to_owned());
            (true, &[74_762_240, 117_884_928, 3_584])
        }
        "redis" => {
            config.entrypoint = words(&["docker-entrypoint.sh"]);
            config.cmd = words(&["redis-server"]);
            config
                .exposed_ports
                .insert("6379/tcp".to_owned(), serde_json::Map::new());
            config.volumes = Some([("/data".to_owned(), serde_json::Map::new())].into());
            config.working_dir = "/data".to_owned();
            (true, &[74_762_240, 42_168_320])
        }
        _ => {
            config.cmd = words(&["/app"]);
            (true, &[29_124_608, 8_388_608])
        }
    };
    let layers = layers
        .iter()
        .enumerate()
        .map(|(index, size)| {
            let tar = marker(&format!("{}#{index}", reference.key()));
            Layer {
                diff_id: digest_bytes(&tar),
                size: *size,
                tar,
            }
        })
        .collect();
    let tree = if has_shell {
        shell_tree()
    } else {
        Arc::default()
    };
    Image::build(config, layers, BUILT, tree, has_shell)
}

pub(crate) fn digest_bytes(bytes: &[u8]) -> String {
    super::store::digest_of(bytes)
}

/// The digest a registry gives a reference.
pub(crate) fn manifest_digest(reference: &Reference, image: &Image) -> String {
    reference
        .digest
        .clone()
        .unwrap_or_else(|| digest_bytes(&manifest(image)))
}

/// A layer of one small file: enough to have a digest of its own and to be saved and loaded.
fn marker(text: &str) -> Bytes {
    let mut builder = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    header.set_size(text.len() as u64);
    header.set_mode(0o644);
    header.set_mtime(BUILT / 1_000_000_000);
    // Writing to memory does not fail.
    let _ = builder.append_data(&mut header, "etc/layer", text.as_bytes());
    builder.into_inner().unwrap_or_default().into()
}

/// What an image with a shell has as files; one tree for all of them.
pub(crate) fn shell_tree() -> Arc<Tree> {
    static TREE: OnceLock<Arc<Tree>> = OnceLock::new();
    let tree = TREE.get_or_init(|| {
        let mut tree = Tree::default();
        for dir in [
            "/dev",
            "/etc",
            "/home",
            "/proc",
            "/root",
            "/sys",
            "/usr",
            "/usr/bin",
            "/usr/sbin",
            "/var",
        ] {
            tree.insert(dir, Node::dir(BUILT));
        }
        for dir in ["/tmp", "/var/tmp"] {
            tree.insert(
                dir,
                Node {
                    mode: 0o1777,
                    ..Node::dir(BUILT)
                },
            );
        }
        for applet in APPLETS {
            tree.insert(
                &format!("/bin/{applet}"),
                Node {
                    mode: 0o755,
                    ..Node::file(Bytes::new(), BUILT)
                },
            );
        }
        tree.insert(
            "/etc/passwd",
            Node::file(
                "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/home:/bin/false\n",
                BUILT,
            ),
        );
        tree.insert(
            "/etc/group",
            Node::file("root:x:0:\nwheel:x:10:root\nnogroup:x:65534:\n", BUILT),
        );
        Arc::new(tree)
    });
    Arc::clone(tree)
}

/// Whether a tree has a shell that the built-in one can stand for.
pub(crate) fn has_shell(tree: &Tree) -> bool {
    ["/bin/sh", "/usr/bin/sh"].iter().any(|path| {
        tree.nodes
            .get(*path)
            .is_some_and(|node| !matches!(node.kind, Kind::Dir))
    })
}
