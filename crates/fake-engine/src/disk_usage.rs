//! Owns `GET /system/df`: what images, containers and volumes take. Engines tell the objects, from API 1.52 on also
//! totals with the objects in them, and of a client that asks for `verbose` they know that it needs nothing else.

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};

use crate::clock::Nanos;
use crate::containers::views::{Lister, containers_using_volume, size_rw};
use crate::files::lock;
use crate::http::{Answer, Call, json};
use crate::images::requests::summary;
use crate::state::State;
use crate::version::ApiVersion;

/// One kind of object.
struct Usage {
    /// Such as `Image`: what the fields are called after.
    kind: &'static str,
    /// The older engines' field with the objects.
    list: &'static str,
    items: Vec<Value>,
    active: usize,
    size: u64,
    reclaimable: u64,
}

impl Usage {
    /// The totals; what is zero or empty is left out.
    fn totals(&self) -> Value {
        let mut view = json!({
            "ActiveCount": self.active,
            "Items": self.items,
            "Reclaimable": self.reclaimable,
            "TotalCount": self.items.len(),
            "TotalSize": self.size,
        });
        if let Value::Object(fields) = &mut view {
            fields.retain(|_, value| *value != 0 && *value != json!([]));
        }
        view
    }
}

fn bytes(size: usize) -> u64 {
    u64::try_from(size).unwrap_or(u64::MAX)
}

fn images(state: &State, api: ApiVersion) -> Usage {
    let used: BTreeSet<&str> = state.containers.values().map(|c| &*c.image).collect();
    let items = state.images.images.values().map(|image| {
        let mut view = summary(state, image, api, true);
        let users = state.containers.values().filter(|c| c.image == image.id);
        view["Containers"] = json!(users.count());
        view
    });
    let size = |wanted: fn(bool) -> bool| {
        let images = state.images.images.values();
        images
            .filter(|image| wanted(used.contains(&*image.id)))
            .map(|image| image.size())
            .sum()
    };
    Usage {
        kind: "Image",
        list: "Images",
        items: items.collect(),
        active: used.len(),
        size: size(|_| true),
        reclaimable: size(|used| !used),
    }
}

fn containers(state: &State, api: ApiVersion, now: Nanos) -> Usage {
    let mut lister = Lister::new(state, api, now, true);
    let size = |active: bool| {
        let containers = state.containers.values();
        let wanted = containers.filter(|c| active || !c.is_active());
        wanted.map(|c| bytes(size_rw(c))).sum()
    };
    Usage {
        kind: "Container",
        list: "Containers",
        active: state.containers.values().filter(|c| c.is_active()).count(),
        size: size(true),
        reclaimable: size(false),
        items: state
            .containers
            .values()
            .map(|container| json!(lister.summary(container)))
            .collect(),
    }
}

fn volumes(state: &State) -> Usage {
    let users = |name: &str| containers_using_volume(state, name).count();
    let size = |in_use: bool| {
        let volumes = state.volumes.iter();
        let wanted = volumes.filter(|(name, _)| in_use || users(name) == 0);
        wanted
            .map(|(_, volume)| bytes(lock(&volume.files).size()))
            .sum()
    };
    Usage {
        kind: "Volume",
        list: "Volumes",
        active: state.volumes.keys().filter(|name| users(name) > 0).count(),
        size: size(true),
        reclaimable: size(false),
        items: state
            .volumes
            .iter()
            .map(|(name, volume)| volume.usage(name, users(name)))
            .collect(),
    }
}

/// `GET /system/df`
pub(crate) async fn df(call: Call) -> Answer {
    let types: Vec<&str> = call.query.all("type").collect();
    let wants = |kind: &str| types.is_empty() || types.contains(&kind);
    let verbose = call.query.flag("verbose");
    let state = call.engine.state();
    let mut usages = Vec::new();
    if wants("image") {
        usages.push(images(&state, call.api));
    }
    if wants("container") {
        usages.push(containers(&state, call.api, call.engine.clock.nanos()));
    }
    if wants("volume") {
        usages.push(volumes(&state));
    }
    if wants("build-cache") {
        usages.push(Usage {
            kind: "BuildCache",
            list: "BuildCache",
            items: Vec::new(),
            active: 0,
            size: 0,
            reclaimable: 0,
        });
    }
    let mut view = Map::new();
    for usage in usages {
        if call.api.at_least(52) {
            view.insert(format!("{}Usage", usage.kind), usage.totals());
            if verbose {
                continue;
            }
        }
        if usage.kind == "Image" {
            view.insert("LayersSize".to_owned(), json!(usage.size));
        }
        view.insert(usage.list.to_owned(), json!(usage.items));
    }
    if !call.api.at_least(42) {
        view.insert("BuilderSize".to_owned(), json!(0));
    }
    Ok(json(&view).into())
}
