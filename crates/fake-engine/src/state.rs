//! Owns all that an engine knows: containers, execs, links, images, networks, volumes, and how they are looked up by name or id.
//! Changes of a container's life are `containers::lifecycle`'s.

use std::collections::{BTreeMap, HashMap};
use std::ops::Bound;
use std::sync::Arc;

use crate::clock::Nanos;
use crate::config::HostConfig;
use crate::containers::container::Container;
use crate::containers::exec::Exec;
use crate::containers::links::Links;
use crate::http::ApiError;
use crate::images::store::Images;
use crate::networks::Networks;
use crate::rng::Rng;
use crate::version::ApiVersion;
use crate::volumes::Volume;

pub(crate) struct State {
    pub(crate) containers: BTreeMap<Arc<str>, Box<Container>>,
    pub(crate) names: HashMap<String, Arc<str>>,
    pub(crate) execs: BTreeMap<Arc<str>, Exec>,
    pub(crate) images: Images,
    pub(crate) networks: Networks,
    pub(crate) volumes: BTreeMap<String, Volume>,
    pub(crate) links: Links,
    pub(crate) rng: Rng,
    pub(crate) api: ApiVersion,
    pub(crate) min_api: ApiVersion,
    pub(crate) engine_id: String,
    /// The host configuration created last: a client that makes many containers makes them alike.
    last_host: Option<Arc<HostConfig>>,
    next_pid: u32,
    last_created: Nanos,
}

/// What a name or the start of an id found.
enum Found<T> {
    One(T),
    None,
    Several,
}

/// The only key that starts with `prefix`.
fn by_prefix<'a, V>(map: &'a BTreeMap<Arc<str>, V>, prefix: &str) -> Found<&'a Arc<str>> {
    if prefix.is_empty() {
        return Found::None;
    }
    let from = (Bound::Included(prefix), Bound::Unbounded);
    let mut hits = map
        .range::<str, _>(from)
        .map(|(id, _)| id)
        .take_while(|id| id.starts_with(prefix));
    match (hits.next(), hits.next()) {
        (None, _) => Found::None,
        (Some(id), None) => Found::One(id),
        (Some(id), Some(_)) if **id == *prefix => Found::One(id),
        (Some(_), Some(_)) => Found::Several,
    }
}

impl State {
    pub(crate) fn new(mut rng: Rng, api: ApiVersion, min_api: ApiVersion, now: Nanos) -> Self {
        let engine_id = {
            let hex = rng.id();
            format!(
                "{}-{}-{}-{}-{}",
                &hex[..8],
                &hex[8..12],
                &hex[12..16],
                &hex[16..20],
                &hex[20..32]
            )
        };
        let networks = Networks::new(&mut rng, now);
        Self {
            containers: BTreeMap::new(),
            names: HashMap::new(),
            execs: BTreeMap::new(),
            images: Images::default(),
            networks,
            volumes: BTreeMap::new(),
            links: Links::default(),
            rng,
            api,
            min_api,
            engine_id,
            last_host: None,
            next_pid: 1000,
            last_created: 0,
        }
    }

    pub(crate) fn pid(&mut self) -> u32 {
        self.next_pid = self.next_pid % 4_000_000 + 17;
        self.next_pid
    }

    /// One copy of a host configuration for containers made alike.
    pub(crate) fn share_host(&mut self, host: HostConfig) -> Arc<HostConfig> {
        match &self.last_host {
            Some(last) if last.text.get() == host.text.get() => Arc::clone(last),
            _ => Arc::clone(self.last_host.insert(Arc::new(host))),
        }
    }

    /// A creation time no other container has, so that `since` and `before` order them.
    pub(crate) fn creation_time(&mut self, now: Nanos) -> Nanos {
        self.last_created = now.max(self.last_created + 1);
        self.last_created
    }

    /// The id behind a full id, a name, or the unique start of an id: in this order, as the engine looks.
    pub(crate) fn container_id(&self, reference: &str) -> Result<Arc<str>, ApiError> {
        if let Some((id, _)) = self.containers.get_key_value(reference) {
            return Ok(Arc::clone(id));
        }
        if let Some(id) = self.names.get(reference.trim_start_matches('/')) {
            return Ok(Arc::clone(id));
        }
        if let Some(id) = self.linked(reference) {
            return Ok(id);
        }
        match by_prefix(&self.containers, reference) {
            Found::One(id) => Ok(Arc::clone(id)),
            Found::None => Err(ApiError::not_found(format!(
                "No such container: {reference}"
            ))),
            Found::Several => Err(ApiError::bad(format!(
                "Multiple IDs found with provided prefix: {reference}"
            ))),
        }
    }

    pub(crate) fn container(&self, reference: &str) -> Result<&Container, ApiError> {
        let id = self.container_id(reference)?;
        self.containers
            .get(&id)
            .map(|boxed| &**boxed)
            .ok_or_else(|| gone(&id))
    }

    pub(crate) fn container_mut(&mut self, reference: &str) -> Result<&mut Container, ApiError> {
        let id = self.container_id(reference)?;
        self.containers
            .get_mut(&id)
            .map(|boxed| &mut **boxed)
            .ok_or_else(|| gone(&id))
    }

    pub(crate) fn exec(&self, id: &str) -> Result<&Exec, ApiError> {
        let missing = || ApiError::not_found(format!("No such exec instance: {id}"));
        let exec = self.execs.get(id).ok_or_else(missing)?;
        if self.containers.contains_key(&exec.container) {
            Ok(exec)
        } else {
            Err(missing())
        }
    }

    /// Ends the processes of all execs.
    pub(crate) fn abort_execs(&mut self) {
        self.execs.values_mut().for_each(Exec::abort);
    }

    pub(crate) fn set_cpu(&mut self, container: &str, cores: f64, now: Nanos) {
        if let Some(container) = self.containers.get_mut(container) {
            container.load.set_cpu(cores, now);
        }
    }

    pub(crate) fn set_memory(&mut self, container: &str, bytes: u64) {
        if let Some(container) = self.containers.get_mut(container) {
            container.load.memory = bytes;
        }
    }

    /// A name nobody has, such as the engine gives: an adjective and a noun of the sea.
    pub(crate) fn free_name(&mut self) -> String {
        const LEFT: &[&str] = &[
            "brave", "calm", "clever", "eager", "gentle", "happy", "keen", "lucid", "quiet",
            "swift",
        ];
        const RIGHT: &[&str] = &[
            "anchor", "bay", "buoy", "cove", "dock", "harbor", "jetty", "keel", "mast", "pier",
        ];
        loop {
            let dice = self.rng.next_u64();
            let pick = |words: &[&'static str], dice: u64| {
                words[usize::try_from(dice % 10).unwrap_or_default()]
            };
            let mut name = format!("{}_{}", pick(LEFT, dice), pick(RIGHT, dice >> 8));
            if self.names.contains_key(&name) {
                name = format!("{name}{}", (dice >> 16) % 100_000);
            }
            if !self.names.contains_key(&name) {
                return name;
            }
        }
    }
}

fn gone(id: &str) -> ApiError {
    ApiError::not_found(format!("No such container: {id}"))
}
