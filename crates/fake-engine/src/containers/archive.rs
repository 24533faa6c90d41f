//! Owns the requests about a container's files: archive out and in, stat, export, changes.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hyper::StatusCode;
use serde_json::{Value, json};

use crate::engine::Inner;
use crate::files::{FileError, Kind, Node, View, clean, lock};
use crate::http::{Answer, ApiError, Call, full, json, set_header, status, typed};
use crate::tarfiles::{pack, unpack};
use crate::time::rfc3339;

/// Go's `fs.ModeDir` and `fs.ModeSymlink`.
const GO_DIR: u64 = 1 << 31;
const GO_LINK: u64 = 1 << 27;

/// A path in a container with its view.
struct Place {
    engine: Arc<Inner>,
    id: Arc<str>,
    view: View,
    path: String,
    /// As the client wrote it.
    given: String,
    container: String,
}

fn place(call: &Call) -> Result<Place, ApiError> {
    let given = call.query.get("path").unwrap_or_default().to_owned();
    if given.is_empty() {
        return Err(ApiError::bad("missing parameter: path"));
    }
    let mut state = call.engine.state();
    let id = state.container_id(&call.target)?;
    let view = call.engine.view(&mut state, &id)?;
    Ok(Place {
        engine: Arc::clone(&call.engine),
        id,
        view,
        path: clean("/", &given),
        given,
        container: call.target.clone(),
    })
}

impl Place {
    fn missing(&self) -> ApiError {
        ApiError::not_found(format!(
            "Could not find the file {} in container {}",
            self.given, self.container
        ))
    }

    fn stat(&self) -> Result<Node, ApiError> {
        self.view.lstat(&self.path).map_err(|_| self.missing())
    }

    fn emit(&self, action: &str) {
        if let Some(container) = self.engine.state().containers.get(&self.id) {
            self.engine.container_event(container, action, &[]);
        }
    }

    /// The client's mistake; engines before 23 (API 1.42) took these for their own.
    fn mistake(&self, message: &str) -> ApiError {
        if self.engine.state().api.at_least(42) {
            ApiError::bad(message)
        } else {
            ApiError::internal(message)
        }
    }

    fn name(&self) -> &str {
        match self.path.rsplit('/').next() {
            Some("") | None => "/",
            Some(name) => name,
        }
    }
}

/// What `X-Docker-Container-Path-Stat` holds.
fn stat_header(place: &Place, node: &Node) -> String {
    let (bits, target) = match &node.kind {
        Kind::Dir => (GO_DIR, String::new()),
        Kind::File(_) => (0, String::new()),
        Kind::Link(target) => (
            GO_LINK,
            clean(
                place.path.rsplit_once('/').map_or("/", |(dir, _)| dir),
                target,
            ),
        ),
    };
    let stat = json!({
        "name": place.name(),
        "size": node.size(),
        "mode": bits | u64::from(node.mode),
        "mtime": rfc3339(node.time),
        "linkTarget": target,
    });
    STANDARD.encode(stat.to_string())
}

/// `HEAD /containers/{id}/archive`
pub(crate) async fn stat(call: Call) -> Answer {
    let place = place(&call)?;
    let node = place.stat()?;
    let mut reply = status(StatusCode::OK);
    set_header(
        &mut reply,
        "x-docker-container-path-stat",
        &stat_header(&place, &node),
    );
    Ok(reply.into())
}

/// `GET /containers/{id}/archive`
pub(crate) async fn get(call: Call) -> Answer {
    let place = place(&call)?;
    let node = place.stat()?;
    // A link comes as a link, anything else with what is below it.
    let nodes = match node.kind {
        Kind::Link(_) => vec![(place.path.clone(), node.clone())],
        _ => place
            .view
            .walk(&place.path)
            .map_err(|error| unusable(&place, error))?,
    };
    let root = nodes
        .first()
        .map(|(path, _)| path.clone())
        .unwrap_or_default();
    let name = place.name().to_owned();
    let named = nodes.iter().map(|(path, node)| {
        let rest = if root == "/" {
            path.as_str()
        } else {
            path.strip_prefix(&root).unwrap_or(path)
        };
        let full = format!("{name}/{}", rest.trim_start_matches('/'));
        (full.trim_matches('/').to_owned(), node)
    });
    let tar = pack(named.filter(|(name, _)| !name.is_empty()))
        .map_err(|e| ApiError::internal(e.to_string()))?;
    let mut reply = typed("application/x-tar", full(tar));
    set_header(
        &mut reply,
        "x-docker-container-path-stat",
        &stat_header(&place, &node),
    );
    place.emit("archive-path");
    Ok(reply.into())
}

fn unusable(place: &Place, error: FileError) -> ApiError {
    match error {
        FileError::Missing => place.missing(),
        FileError::ReadOnly => place.mistake("container rootfs is marked read-only"),
        other => ApiError::bad(format!("{}: {other}", place.given)),
    }
}

/// `PUT /containers/{id}/archive`
pub(crate) async fn put(mut call: Call) -> Answer {
    let archive = call.archive().await?;
    let place = place(&call)?;
    let strict = call.query.flag("noOverwriteDirNonDir");
    let to_user = call.query.flag("copyUIDGID");
    match place.view.stat(&place.path) {
        Ok(node) if node.kind == Kind::Dir => {}
        Ok(_) => {
            let message = "extraction point is not a directory";
            return Err(place.mistake(message));
        }
        Err(_) => return Err(place.missing()),
    }
    if place.view.read_only && place.view.in_own_layer(&place.path) {
        return Err(unusable(&place, FileError::ReadOnly));
    }
    for entry in unpack(&archive).map_err(|e| ApiError::bad(e.to_string()))? {
        let path = clean("/", &format!("{}/{}", place.path, entry.path));
        if path == place.path {
            continue;
        }
        let is_dir = entry.node.kind == Kind::Dir;
        if let Ok(existing) = place.view.lstat(&path) {
            let was_dir = existing.kind == Kind::Dir;
            if was_dir && is_dir {
                continue;
            }
            if strict && was_dir != is_dir {
                let what = if was_dir {
                    "directory"
                } else {
                    "non-directory"
                };
                let with = if is_dir { "directory" } else { "non-directory" };
                return Err(ApiError::bad(format!(
                    "cannot overwrite {what} {path:?} with {with} {:?}",
                    place.path
                )));
            }
            place
                .view
                .remove(&path)
                .map_err(|error| unusable(&place, error))?;
        }
        for (at, _) in path.match_indices('/').skip(1) {
            if !place.view.is_dir(&path[..at]) {
                place
                    .view
                    .put(&path[..at], Node::dir(entry.node.time))
                    .map_err(|error| unusable(&place, error))?;
            }
        }
        let node = if to_user {
            entry.node.owned(place.view.user)
        } else {
            entry.node
        };
        place
            .view
            .put(&path, node)
            .map_err(|error| unusable(&place, error))?;
    }
    place.emit("extract-to-dir");
    Ok(status(StatusCode::OK).into())
}

/// `GET /containers/{id}/export`
pub(crate) async fn export(call: Call) -> Answer {
    let mut state = call.engine.state();
    let id = state.container_id(&call.target)?;
    let mut view = call.engine.view(&mut state, &id)?;
    call.engine
        .container_event(state.container(&id)?, "export", &[]);
    drop(state);
    // What is mounted is not part of the container's own file system.
    view.mounts = std::sync::Arc::from([]);
    let nodes = view
        .walk("/")
        .map_err(|error| ApiError::internal(error.to_string()))?;
    let named = nodes
        .iter()
        .map(|(path, node)| (path.trim_start_matches('/').to_owned(), node));
    let tar = pack(named.filter(|(name, _)| !name.is_empty()))
        .map_err(|e| ApiError::internal(e.to_string()))?;
    Ok(typed("application/octet-stream", full(tar)).into())
}

/// `GET /containers/{id}/changes`
pub(crate) async fn changes(call: Call) -> Answer {
    let state = call.engine.state();
    let container = state.container(&call.target)?;
    let image = state.images.tree(&container.image);
    let Some(files) = &container.files else {
        return Ok(json(&Value::Null).into());
    };
    let own = lock(files);
    let mut changes: Vec<(&str, u8)> = own
        .nodes
        .keys()
        .map(|path| (path.as_str(), u8::from(!image.nodes.contains_key(path))))
        .chain(own.removed.iter().map(|path| (path.as_str(), 2)))
        .collect();
    changes.sort_unstable();
    let views: Vec<Value> = changes
        .iter()
        .map(|(path, kind)| json!({ "Path": path, "Kind": kind }))
        .collect();
    Ok(json(&if views.is_empty() {
        Value::Null
    } else {
        json!(views)
    })
    .into())
}
