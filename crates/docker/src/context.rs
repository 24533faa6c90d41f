//! Owns the docker command's context store as it is read: where a context's files are and what they say. It decides nothing between
//! contexts and variables.

use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};

use crate::config_error::ConfigError;
use crate::config_file::{Names, from_go_json, read_json_file};
use crate::endpoint::Endpoint;
use crate::environment::{existing, read_file};
use crate::options::TlsFiles;

/// The most contexts that are named to someone who asked for one that does not exist.
const NAMED: usize = 10;

/// Where a context leads.
pub(crate) struct Context {
    pub(crate) endpoint: Endpoint,
    /// Present when the endpoint is [`Endpoint::Tls`].
    pub(crate) tls: Option<TlsFiles>,
}

from_go_json! {
    struct Meta {
        name: String = "name",
        endpoints: Endpoints = "endpoints",
    }
}

from_go_json! {
    struct Endpoints {
        docker: Option<DockerEndpoint> = "docker",
    }
}

from_go_json! {
    struct MetaNames {
        endpoints: Names = "endpoints",
    }
}

from_go_json! {
    struct DockerEndpoint {
        host: String = "host",
        skip_tls_verify: bool = "skiptlsverify",
    }
}

/// Reads the context `name`, which `origin` asks for, of the store below `config_dir`.
pub(crate) fn load(config_dir: &Path, name: &str, origin: &str) -> Result<Context, ConfigError> {
    let store = config_dir.join("contexts");
    let id = id(name);
    let path = store.join("meta").join(&id).join("meta.json");
    let Some(bytes) = read_file(&path)? else {
        return Err(ConfigError::value(
            origin,
            name,
            format!("there is no such context in {}", store.display()),
        )
        .with_hint(known(&store)));
    };
    let meta: Meta = read_json_file(&path, &bytes)?;
    let Some(docker) = meta.endpoints.docker else {
        let MetaNames {
            endpoints: Names(others),
        } = read_json_file(&path, &bytes)?;
        let others: Vec<_> = others
            .iter()
            .map(String::as_str)
            .filter(|other| *other != "docker")
            .collect();
        let only = if others.is_empty() {
            String::new()
        } else {
            format!(", only {}", others.join(", "))
        };
        return Err(ConfigError::file(
            &path,
            format!("context {name:?} has no docker endpoint{only}"),
        ));
    };
    let tls_dir = existing(store.join("tls").join(&id).join("docker"))?;
    let endpoint = if docker.host.is_empty() {
        Endpoint::default_unix()
    } else {
        let tls = tls_dir.is_some() || docker.skip_tls_verify;
        Endpoint::parse(&docker.host, tls)
            .map_err(|error| error.with_origin(format!("context {name:?} ({})", path.display())))?
    };
    let tls = match (&endpoint, tls_dir) {
        (Endpoint::Tls { .. }, dir) => {
            let mut files =
                dir.map_or_else(|| Ok(TlsFiles::default()), |dir| TlsFiles::found_in(&dir))?;
            files.verify = !docker.skip_tls_verify;
            Some(files)
        }
        _ => None,
    };
    Ok(Context { endpoint, tls })
}

/// The name of a context's directories: the SHA-256 of the context's name in hexadecimal.
fn id(name: &str) -> String {
    Sha256::digest(name.as_bytes())
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

/// Names the contexts there are, as far as they can be read.
fn known(store: &Path) -> String {
    let files = std::fs::read_dir(store.join("meta"))
        .into_iter()
        .flatten()
        .flatten();
    let mut names: Vec<String> = files
        .filter_map(|dir| {
            let path: PathBuf = dir.path().join("meta.json");
            let meta: Meta = read_json_file(&path, &read_file(&path).ok()??).ok()?;
            Some(meta.name).filter(|name| !name.is_empty())
        })
        .take(NAMED)
        .collect();
    names.sort();
    names.insert(0, "default".to_owned());
    format!("there are: {}", names.join(", "))
}
