//! An image's configuration as text, for people who ask for details. Pure.

use berth_docker::model::{HealthConfig, ImageInspect, KeySet, TextMap};
use serde::Serialize;

/// The configuration in the form of the OCI image specification, with the fields that Docker adds to it.
///
/// The steps it was built in are left out: the engine tells them by another call only, and not all of them.
#[derive(Serialize)]
struct ImageConfig<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    created: Option<String>,
    #[serde(skip_serializing_if = "str::is_empty")]
    author: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    architecture: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    variant: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    os: &'a str,
    #[serde(rename = "os.version", skip_serializing_if = "str::is_empty")]
    os_version: &'a str,
    config: RunConfig<'a>,
    rootfs: RootFs<'a>,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct RunConfig<'a> {
    #[serde(skip_serializing_if = "str::is_empty")]
    user: &'a str,
    #[serde(skip_serializing_if = "has_none")]
    exposed_ports: &'a KeySet,
    #[serde(skip_serializing_if = "is_empty")]
    env: &'a [String],
    #[serde(skip_serializing_if = "is_empty")]
    entrypoint: &'a [String],
    #[serde(skip_serializing_if = "is_empty")]
    cmd: &'a [String],
    #[serde(skip_serializing_if = "has_none")]
    volumes: &'a KeySet,
    #[serde(skip_serializing_if = "str::is_empty")]
    working_dir: &'a str,
    #[serde(skip_serializing_if = "TextMap::is_empty")]
    labels: &'a TextMap,
    #[serde(skip_serializing_if = "str::is_empty")]
    stop_signal: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    healthcheck: Option<&'a HealthConfig>,
    #[serde(skip_serializing_if = "is_empty")]
    on_build: &'a [String],
    #[serde(skip_serializing_if = "is_empty")]
    shell: &'a [String],
}

#[derive(Serialize)]
struct RootFs<'a> {
    #[serde(rename = "type")]
    kind: &'a str,
    diff_ids: &'a [String],
}

fn has_none(set: &&KeySet) -> bool {
    set.0.is_empty()
}

fn is_empty(list: &&[String]) -> bool {
    list.is_empty()
}

/// The configuration as JSON.
pub(super) fn text(image: &ImageInspect) -> String {
    let config = ImageConfig {
        created: image.created.map(|created| created.to_string()),
        author: &image.author,
        architecture: &image.architecture,
        variant: &image.variant,
        os: &image.os,
        os_version: &image.os_version,
        config: RunConfig {
            user: &image.config.user,
            exposed_ports: &image.config.exposed_ports,
            env: &image.config.env,
            entrypoint: &image.config.entrypoint,
            cmd: &image.config.cmd,
            volumes: &image.config.volumes,
            working_dir: &image.config.working_dir,
            labels: &image.config.labels,
            stop_signal: &image.config.stop_signal,
            healthcheck: image.config.healthcheck.as_ref(),
            on_build: &image.config.on_build,
            shell: &image.config.shell,
        },
        rootfs: RootFs {
            kind: &image.root_fs.kind,
            diff_ids: &image.root_fs.layers,
        },
    };
    // Structs of text always serialise.
    serde_json::to_string(&config).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_configuration_is_that_of_the_image_specification() {
        let inspect: ImageInspect = serde_json::from_str(
            r#"{"Id":"sha256:00","Created":"2024-01-01T00:00:00Z","Architecture":"amd64","Os":"linux","Author":"",
                "Config":{"Hostname":"","User":"www","Env":["A=b"],"Cmd":["sh"],"Entrypoint":null,"ExposedPorts":{"80/tcp":{}},
                "WorkingDir":"/srv","Labels":{"k":"v"},"Volumes":null,"OnBuild":null,"AttachStdin":false},
                "RootFS":{"Type":"layers","Layers":["sha256:11"]}}"#,
        )
        .unwrap();
        let expected = serde_json::json!({
            "created": "2024-01-01T00:00:00Z", "architecture": "amd64", "os": "linux",
            "config": {
                "User": "www", "Env": ["A=b"], "Cmd": ["sh"], "ExposedPorts": { "80/tcp": {} }, "WorkingDir": "/srv", "Labels": { "k": "v" },
            },
            "rootfs": { "type": "layers", "diff_ids": ["sha256:11"] },
        });
        let text = text(&inspect);
        assert_eq!(
            serde_json::from_str::<serde_json::Value>(&text).ok(),
            Some(expected),
            "{text}"
        );
    }
}
