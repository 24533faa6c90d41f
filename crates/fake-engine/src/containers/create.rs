//! Owns `POST /containers/create`: reads and checks what the client wants, and makes the container of it.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::{Map, Value, json};

use super::conflicts;
use super::container::{Container, Endpoint, EndpointSettings, Load, Mount, MountKind, Phase};
use crate::config::{Config, HostConfig};
use crate::engine::Inner;
use crate::files::{SharedTree, clean, lock};
use crate::http::{Answer, ApiError, Call, created};
use crate::images::pull::check_platform;
use crate::pipes::Pipes;
use crate::reference::Reference;
use crate::signals;
use crate::state::State;

/// Everything a new container is made of.
pub(crate) struct Wanted {
    pub(crate) name: Option<String>,
    pub(crate) config: Config,
    pub(crate) host: HostConfig,
    pub(crate) endpoints: BTreeMap<String, Option<EndpointSettings>>,
}

/// `POST /containers/create`
pub(crate) async fn create(mut call: Call) -> Answer {
    let Some(mut body) = call.json::<Map<String, Value>>().await? else {
        return Err(ApiError::bad(
            "config cannot be empty in order to create a container",
        ));
    };
    let host = match body.remove("HostConfig") {
        None | Some(Value::Null) => None,
        Some(Value::Object(map)) => Some(map),
        Some(_) => return Err(ApiError::bad("invalid JSON: HostConfig is not an object")),
    };
    let invalid = |e: serde_json::Error| ApiError::bad(format!("invalid JSON: {e}"));
    let networking = body.remove("NetworkingConfig").unwrap_or_default();
    let endpoints = match networking.get("EndpointsConfig") {
        None | Some(Value::Null) => BTreeMap::new(),
        Some(value) => serde_json::from_value(value.clone()).map_err(invalid)?,
    };
    let config: Config = serde_json::from_value(Value::Object(body)).map_err(invalid)?;
    let name = call
        .query
        .get("name")
        .filter(|name| !name.is_empty())
        .map(str::to_owned);
    let mut warnings = Vec::new();
    if call.api.at_least(52) {
        if config
            .mac_address
            .as_ref()
            .is_some_and(|mac| !mac.is_empty())
        {
            return Err(ApiError::bad(
                "container-wide MAC address no longer supported; use endpoint-specific MAC address instead",
            ));
        }
    } else if !call.api.at_least(44) && endpoints.len() > 1 {
        let names: Vec<&str> = endpoints.keys().map(String::as_str).collect();
        return Err(ApiError::bad(format!(
            "Container cannot be connected to network endpoints: {}",
            names.join(", ")
        )));
    }
    let host = HostConfig::from_client(host)?;
    if host
        .acts
        .port_bindings
        .values()
        .any(|bindings| bindings.as_ref().is_none_or(Vec::is_empty))
        && call.api.at_least(52)
    {
        warnings.push("Following container port(s) have an empty list of port-bindings; such bindings will be discarded in a future version");
    }
    let platform = call.query.get("platform").unwrap_or_default();
    if !platform.is_empty() {
        check_platform(platform, &Reference::parse(&config.image)?.tagged())?;
    }
    let mut state = call.engine.state();
    let id = call.engine.create_container(
        &mut state,
        Wanted {
            name,
            config,
            host,
            endpoints,
        },
    )?;
    Ok(created(&json!({ "Id": &*id, "Warnings": warnings })).into())
}

impl Inner {
    pub(crate) fn create_container(
        &self,
        state: &mut State,
        wanted: Wanted,
    ) -> Result<Arc<str>, ApiError> {
        let Wanted {
            name,
            mut config,
            host,
            endpoints,
        } = wanted;
        if let Some(name) = &name {
            check_name(state, name)?;
        }
        host.validate()?;
        conflicts::check(&config, &host)?;
        if !config.working_dir.is_empty() {
            if !config.working_dir.starts_with('/') {
                let directory = &config.working_dir;
                return Err(ApiError::bad(format!(
                    "the working directory '{directory}' is invalid, it needs to be an absolute path"
                )));
            }
            config.working_dir = clean("/", &config.working_dir);
        }
        if let Some(signal) = config
            .stop_signal
            .as_deref()
            .filter(|signal| !signal.is_empty())
        {
            signals::parse(signal)
                .ok_or_else(|| ApiError::bad(format!("invalid signal: {signal}")))?;
        }
        let image = state.images.find(&config.image)?;
        config.merge_image(&image.config);
        if config.argv().is_empty() {
            return Err(ApiError::bad("no command specified"));
        }
        let image = Arc::clone(&image.id);
        // In a network with names of its own a link is a name there and nothing more.
        let links = match host.acts.network_mode.as_str() {
            "bridge" => state.find_links(&host.acts.links)?,
            _ => Vec::new(),
        };
        let mounts = self.mounts(state, &config, &host)?;
        let id: Arc<str> = state.rng.id().into();
        self.fill_volumes(state, &mounts, &image);
        if config.hostname.is_empty() {
            config.hostname = match host.acts.network_mode.as_str() {
                "host" => crate::system::HOST.to_owned(),
                _ => id[..12].to_owned(),
            };
        }
        let name = match name {
            Some(name) => name.trim_start_matches('/').to_owned(),
            None => state.free_name(),
        };
        let container = Container {
            id: Arc::clone(&id),
            name: name.clone(),
            created: state.creation_time(self.clock.nanos()),
            image,
            endpoints: endpoints_of(&host, endpoints),
            config: Arc::new(config),
            host: state.share_host(host),
            phase: Phase::Created,
            pid: 0,
            exit_code: 0,
            error: String::new(),
            started: None,
            finished: None,
            out_of_memory: false,
            health: None,
            run: 0,
            restarts: 0,
            backoff: 0,
            stopped_by_hand: false,
            restarting_by_hand: false,
            process: None,
            ports: Vec::new(),
            mounts,
            pipes: Arc::new(Pipes::default()),
            files: None,
            execs: Vec::new(),
            load: Load::default(),
        };
        self.container_event(&container, "create", &[]);
        state.names.insert(name, Arc::clone(&id));
        state.add_links(&id, links);
        state
            .containers
            .insert(Arc::clone(&id), Box::new(container));
        Ok(id)
    }

    /// The mounts of binds, `Mounts`, tmpfs and the image's volumes; named volumes that are missing are made.
    fn mounts(
        &self,
        state: &mut State,
        config: &Config,
        host: &HostConfig,
    ) -> Result<Vec<Mount>, ApiError> {
        let mut mounts: Vec<Mount> = Vec::new();
        for from in &host.acts.volumes_from {
            let (reference, mode) = from.split_once(':').unwrap_or((from, "rw"));
            for inherited in state.container(reference)?.mounts.clone() {
                let writable = inherited.writable && mode != "ro";
                mounts.retain(|mount| mount.target != inherited.target);
                mounts.push(Mount {
                    writable,
                    copies: false,
                    ..inherited
                });
            }
        }
        let mut add = |mount: Mount| {
            if !mount.target.starts_with('/') {
                return Err(ApiError::bad(format!(
                    "invalid mount config for type {:?}: invalid mount path: '{}' mount path must be absolute",
                    mount.kind.as_str(),
                    mount.target
                )));
            }
            let target = clean("/", &mount.target);
            if target == "/" {
                return Err(ApiError::bad(format!(
                    "invalid specification: destination can't be '/': {}",
                    mount.source
                )));
            }
            if mounts.iter().any(|other| other.target == target) {
                return Err(ApiError::bad(format!("Duplicate mount point: {target}")));
            }
            mounts.push(Mount { target, ..mount });
            Ok(())
        };
        for bind in &host.acts.binds {
            let mount = parse_bind(bind)?;
            if mount.kind == MountKind::Bind {
                self.binds.create(&mount.source);
            }
            add(mount)?;
        }
        for spec in &host.acts.mounts {
            let (kind, memory) = match spec.kind.as_str() {
                "bind" => (MountKind::Bind, None),
                "volume" => (MountKind::Volume, None),
                "tmpfs" => (MountKind::Tmpfs, Some(SharedTree::default())),
                "image" | "npipe" | "cluster" => {
                    return Err(ApiError::bad(format!(
                        "the fake engine does not serve mounts of type {:?}",
                        spec.kind
                    )));
                }
                other => return Err(ApiError::bad(format!("mount type unknown: {other:?}"))),
            };
            let invalid = |what: String| {
                Err(ApiError::bad(format!(
                    "invalid mount config for type {:?}: {what}",
                    spec.kind
                )))
            };
            let source = match kind {
                MountKind::Bind if spec.source.is_empty() => {
                    return invalid("field Source must not be empty".to_owned());
                }
                MountKind::Bind if !spec.source.starts_with('/') => {
                    return invalid(format!(
                        "invalid mount path: '{}' mount path must be absolute",
                        spec.source
                    ));
                }
                MountKind::Bind => clean("/", &spec.source),
                MountKind::Volume | MountKind::Tmpfs => spec.source.clone(),
            };
            if kind == MountKind::Bind && !self.binds.exists(&source) {
                return invalid(format!("bind source path does not exist: {source}"));
            }
            let part = &spec.volume_options.subpath;
            if part.starts_with('/') || part.split('/').any(|word| word == "..") {
                return invalid("subpath must be a relative path within the volume".to_owned());
            }
            let mode = if kind == MountKind::Volume { "z" } else { "" };
            let target = spec.target.clone();
            add(Mount {
                kind,
                source,
                target,
                mode: mode.to_owned(),
                writable: !spec.read_only,
                part: part.clone(),
                copies: !spec.volume_options.no_copy && part.is_empty(),
                memory,
            })?;
        }
        for (target, options) in &host.acts.tmpfs {
            let writable = !options.split(',').any(|option| option == "ro");
            let memory = Some(SharedTree::default());
            add(Mount {
                kind: MountKind::Tmpfs,
                source: String::new(),
                target: target.clone(),
                mode: String::new(),
                writable,
                part: String::new(),
                copies: false,
                memory,
            })?;
        }
        for target in config.volumes.iter().flat_map(BTreeMap::keys) {
            let target = clean("/", target);
            if !mounts.iter().any(|mount| mount.target == target) {
                mounts.push(Mount {
                    kind: MountKind::Volume,
                    source: String::new(),
                    target,
                    mode: String::new(),
                    writable: true,
                    part: String::new(),
                    copies: true,
                    memory: None,
                });
            }
        }
        for mount in mounts
            .iter_mut()
            .filter(|mount| mount.kind == MountKind::Volume)
        {
            if mount.source.is_empty() {
                mount.source = state.rng.id();
                self.create_volume(state, &mount.source, true);
            } else if !state.volumes.contains_key(&mount.source) {
                crate::volumes::check_name(&mount.source)?;
                self.create_volume(state, &mount.source, false);
            }
        }
        mounts.sort_by(|a, b| a.target.cmp(&b.target));
        Ok(mounts)
    }

    /// Gives empty volumes what the image has where they are mounted.
    fn fill_volumes(&self, state: &mut State, mounts: &[Mount], image: &str) {
        for mount in mounts {
            if mount.kind != MountKind::Volume || !mount.copies {
                continue;
            }
            let tree = state.images.tree(image);
            if let Some(volume) = state.volumes.get(&mount.source) {
                let mut files = lock(&volume.files);
                if files.nodes.is_empty() {
                    files.nodes.extend(tree.below(&mount.target));
                }
            }
        }
    }
}

/// Refuses a name the engine refuses, or one in use.
pub(crate) fn check_name(state: &State, name: &str) -> Result<(), ApiError> {
    let bare = name.strip_prefix('/').unwrap_or(name);
    let word = |b: u8| b.is_ascii_alphanumeric();
    let valid = bare.len() > 1
        && bare.bytes().next().is_some_and(word)
        && bare
            .bytes()
            .all(|b| word(b) || matches!(b, b'_' | b'.' | b'-'));
    if !valid {
        return Err(ApiError::bad(format!(
            "Invalid container name ({name}), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed"
        )));
    }
    match state.names.get(bare) {
        None => Ok(()),
        Some(id) => Err(ApiError::conflict(format!(
            "Conflict. The container name \"/{bare}\" is already in use by container \"{id}\". You have to remove (or rename) that container to be able to reuse that name."
        ))),
    }
}

/// `SOURCE:TARGET[:MODE]` or `TARGET`.
fn parse_bind(text: &str) -> Result<Mount, ApiError> {
    let invalid = || ApiError::bad(format!("invalid volume specification: '{text}'"));
    let parts: Vec<&str> = text.split(':').collect();
    let (source, target, mode) = match parts[..] {
        [target] => ("", target, ""),
        [source, target] => (source, target, ""),
        [source, target, mode] => (source, target, mode),
        _ => return Err(invalid()),
    };
    if target.is_empty() || parts.len() > 1 && source.is_empty() {
        return Err(invalid());
    }
    let known = [
        "",
        "ro",
        "rw",
        "z",
        "Z",
        "nocopy",
        "private",
        "rprivate",
        "shared",
        "rshared",
        "slave",
        "rslave",
        "cached",
        "delegated",
        "consistent",
    ];
    if !mode.split(',').all(|option| known.contains(&option)) {
        return Err(ApiError::bad(format!("invalid mode: {mode}")));
    }
    let kind = if source.starts_with('/') {
        MountKind::Bind
    } else {
        MountKind::Volume
    };
    if !target.starts_with('/') {
        return Err(ApiError::bad(format!(
            "invalid volume specification: '{text}': invalid mount config for type {:?}: invalid mount path: '{target}' mount path must be absolute",
            kind.as_str()
        )));
    }
    Ok(Mount {
        source: if kind == MountKind::Bind {
            clean("/", source)
        } else {
            source.to_owned()
        },
        kind,
        target: target.to_owned(),
        mode: mode.to_owned(),
        writable: !mode.split(',').any(|option| option == "ro"),
        part: String::new(),
        copies: !mode.split(',').any(|option| option == "nocopy"),
        memory: None,
    })
}

/// The networks a container will join, the one of its network mode first.
fn endpoints_of(
    host: &HostConfig,
    mut wanted: BTreeMap<String, Option<EndpointSettings>>,
) -> Vec<Endpoint> {
    let mode = host.acts.network_mode.as_str();
    if mode.starts_with("container:") {
        return Vec::new();
    }
    let endpoint = |network: &str, settings: Option<EndpointSettings>| Endpoint {
        network: network.into(),
        network_id: "".into(),
        address: None,
        settings: settings.map(Box::new),
    };
    let own = wanted.remove(mode).or_else(|| {
        if mode == "bridge" {
            wanted.remove("default")
        } else {
            None
        }
    });
    let mut endpoints = vec![endpoint(mode, own.flatten())];
    endpoints.extend(
        wanted
            .into_iter()
            .map(|(network, settings)| endpoint(&network, settings)),
    );
    endpoints
}
