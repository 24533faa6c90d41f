//! Owns volumes: their requests and their content. Knows containers only as far as asking who uses one.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::clock::Nanos;
use crate::config::nullable;
use crate::containers::views::containers_using_volume;
use crate::engine::Inner;
use crate::events::Event;
use crate::files::{SharedTree, lock};
use crate::http::{Answer, ApiError, Call, created, json, no_content};
use crate::state::State;
use crate::time::{parse_moment, rfc3339};

/// The label the engine gives volumes that nobody named.
const ANONYMOUS: &str = "com.docker.volume.anonymous";

#[derive(Debug)]
pub(crate) struct Volume {
    pub(crate) created: Nanos,
    pub(crate) labels: BTreeMap<String, String>,
    pub(crate) options: Option<BTreeMap<String, String>>,
    pub(crate) anonymous: bool,
    pub(crate) files: SharedTree,
}

#[derive(Default, serde::Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct CreateBody {
    #[serde(deserialize_with = "nullable")]
    name: String,
    #[serde(deserialize_with = "nullable")]
    driver: String,
    driver_opts: Option<BTreeMap<String, String>>,
    #[serde(deserialize_with = "nullable")]
    labels: BTreeMap<String, String>,
}

/// Where the engine keeps volumes.
pub(crate) fn mountpoint(name: &str) -> String {
    format!("{}/volumes/{name}/_data", crate::system::ROOT)
}

impl Volume {
    fn view(&self, name: &str) -> Value {
        let labels = if self.labels.is_empty() && !self.anonymous {
            Value::Null
        } else {
            json!(self.labels)
        };
        json!({
            "CreatedAt": rfc3339(self.created / 1_000_000_000 * 1_000_000_000),
            "Driver": "local",
            "Labels": labels,
            "Mountpoint": mountpoint(name),
            "Name": name,
            "Options": self.options,
            "Scope": "local",
        })
    }

    pub(crate) fn usage(&self, name: &str, users: usize) -> Value {
        let mut view = self.view(name);
        view["UsageData"] = json!({ "RefCount": users, "Size": lock(&self.files).size() });
        view
    }
}

/// Refuses a name the engine refuses.
pub(crate) fn check_name(name: &str) -> Result<(), ApiError> {
    let word = |b: u8| b.is_ascii_alphanumeric();
    let valid = name.len() > 1
        && name.bytes().next().is_some_and(word)
        && name
            .bytes()
            .all(|b| word(b) || matches!(b, b'_' | b'.' | b'-'));
    if valid {
        return Ok(());
    }
    Err(ApiError::bad(format!(
        "create {name}: \"{name}\" includes invalid characters for a local volume name, only \"[a-zA-Z0-9][a-zA-Z0-9_.-]\" are allowed. If you intended to pass a host directory, use absolute path"
    )))
}

fn missing(name: &str) -> ApiError {
    ApiError::not_found(format!("get {name}: no such volume"))
}

impl Inner {
    pub(crate) fn create_volume(&self, state: &mut State, name: &str, anonymous: bool) {
        let mut labels = BTreeMap::new();
        if anonymous {
            labels.insert(ANONYMOUS.to_owned(), String::new());
        }
        let created = self.clock.nanos();
        let volume = Volume {
            created,
            labels,
            options: None,
            anonymous,
            files: SharedTree::default(),
        };
        state.volumes.insert(name.to_owned(), volume);
        self.emit(Event::new("volume", "create", name).attribute("driver", "local"));
    }
}

/// `POST /volumes/create`
pub(crate) async fn create(mut call: Call) -> Answer {
    let body: CreateBody = call.json().await?.unwrap_or_default();
    if !matches!(body.driver.as_str(), "" | "local" | "default") {
        let driver = body.driver;
        return Err(ApiError::not_found(format!(
            "error looking up volume plugin {driver}: plugin \"{driver}\" not found"
        )));
    }
    let mut state = call.engine.state();
    let anonymous = body.name.is_empty();
    let name = if anonymous { state.rng.id() } else { body.name };
    check_name(&name)?;
    // A volume that is there stays as it is.
    let new = !state.volumes.contains_key(&name);
    if new {
        call.engine.create_volume(&mut state, &name, anonymous);
    }
    let volume = state.volumes.get_mut(&name).ok_or_else(|| missing(&name))?;
    if new {
        volume.labels.extend(body.labels);
        volume.options = body.driver_opts;
    }
    Ok(created(&volume.view(&name)).into())
}

/// `GET /volumes`
pub(crate) async fn list(call: Call) -> Answer {
    let filters = call.filters(&["dangling", "driver", "label", "label!", "name"])?;
    let dangling = filters.boolean("dangling")?;
    let state = call.engine.state();
    let volumes: Vec<Value> = state
        .volumes
        .iter()
        .filter(|(name, volume)| {
            filters.any("name", |part| name.contains(part.as_str()))
                && filters.exact("driver", "local")
                && filters.labels(&volume.labels)
                && dangling.is_none_or(|wanted| {
                    containers_using_volume(&state, name).next().is_none() == wanted
                })
        })
        .map(|(name, volume)| volume.view(name))
        .collect();
    Ok(json(&json!({ "Volumes": volumes, "Warnings": null })).into())
}

/// `GET /volumes/{name}`
pub(crate) async fn inspect(call: Call) -> Answer {
    let state = call.engine.state();
    let volume = state
        .volumes
        .get(&call.target)
        .ok_or_else(|| missing(&call.target))?;
    Ok(json(&volume.view(&call.target)).into())
}

/// `DELETE /volumes/{name}`
pub(crate) async fn remove(call: Call) -> Answer {
    let mut state = call.engine.state();
    let name = &call.target;
    if !state.volumes.contains_key(name) {
        return if call.query.flag("force") {
            Ok(no_content().into())
        } else {
            Err(missing(name))
        };
    }
    let users: Vec<String> = containers_using_volume(&state, name)
        .map(|c| c.id.to_string())
        .collect();
    if !users.is_empty() {
        return Err(ApiError::conflict(format!(
            "remove {name}: volume is in use - [{}]",
            users.join(", ")
        )));
    }
    state.volumes.remove(name);
    call.engine
        .emit(Event::new("volume", "destroy", name).attribute("driver", "local"));
    Ok(no_content().into())
}

/// `POST /volumes/prune`
pub(crate) async fn prune(call: Call) -> Answer {
    let filters = call.filters(&["all", "label", "label!", "until"])?;
    // Until API 1.42 named volumes went too.
    let all = filters.boolean("all")?.unwrap_or(!call.api.at_least(42));
    let now = call.engine.clock.nanos();
    let until = filters.get("until").first().map(|text| {
        parse_moment(text, now)
            .ok_or_else(|| ApiError::bad(format!("invalid filter 'until={text}'")))
    });
    let until = until.transpose()?;
    let mut state = call.engine.state();
    let unused: Vec<String> = state
        .volumes
        .iter()
        .filter(|(name, volume)| {
            (all || volume.anonymous)
                && filters.labels(&volume.labels)
                && until.is_none_or(|until| volume.created < until)
                && containers_using_volume(&state, name).next().is_none()
        })
        .map(|(name, _)| name.clone())
        .collect();
    let mut reclaimed = 0;
    for name in &unused {
        if let Some(volume) = state.volumes.remove(name) {
            reclaimed += lock(&volume.files).size();
            call.engine
                .emit(Event::new("volume", "destroy", name).attribute("driver", "local"));
        }
    }
    call.engine
        .emit(Event::new("volume", "prune", "").attribute("reclaimed", reclaimed.to_string()));
    Ok(json(&json!({ "VolumesDeleted": unused, "SpaceReclaimed": reclaimed })).into())
}
