//! Owns what goes over to registries and back: pull, push, distribution inspect, login, search, with their progress.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use serde_json::{Value, json};

use super::library;
use super::shelf::{MANIFEST, manifest};
use super::store::{Image, Layer, architecture};
use crate::config::nullable;
use crate::engine::Inner;
use crate::events::{Event, progress_line};
use crate::http::{Answer, ApiError, Body, Call, json, streamed, typed};
use crate::reference::Reference;
use crate::registry::{Admission, Transfer, credentials, manifest_unknown};

/// Progress lines per layer and direction at most.
const STEPS: u64 = 8;

/// One step of a transfer.
enum Step {
    Line(Value),
    Wait(Duration),
    Stall,
    /// The transfer is done: the store changes.
    Commit(Commit),
}

/// A change of the store, which gives the lines that report it.
type Commit = Box<dyn FnOnce(&Arc<Inner>) -> Vec<Value> + Send>;

/// Carries a plan out while it is read; a client that goes away ends it.
fn transfer(engine: Arc<Inner>, plan: Vec<Step>) -> Body {
    let state = (engine, VecDeque::from(plan));
    streamed(futures_util::stream::unfold(
        state,
        |(engine, mut plan)| async move {
            loop {
                match plan.pop_front()? {
                    Step::Line(value) => return Some((progress_line(&value), (engine, plan))),
                    Step::Wait(period) => engine.clock.sleep(period).await,
                    Step::Stall => std::future::pending().await,
                    Step::Commit(commit) => {
                        let lines: Vec<Step> =
                            commit(&engine).into_iter().map(Step::Line).collect();
                        plan = lines.into_iter().chain(plan).collect();
                    }
                }
            }
        },
    ))
}

fn line(status: &str, id: &str) -> Step {
    Step::Line(json!({ "status": status, "progressDetail": {}, "id": id }))
}

fn progress(status: &str, id: &str, current: u64, total: u64) -> Step {
    let filled = usize::try_from(current * 50 / total.max(1))
        .unwrap_or(50)
        .min(50);
    let bar = if filled == 50 {
        "=".repeat(50)
    } else {
        format!("{}>{}", "=".repeat(filled), " ".repeat(49 - filled))
    };
    Step::Line(json!({
        "status": status,
        "progressDetail": { "current": current, "total": total },
        "progress": format!("[{bar}]  {current}B/{total}B"),
        "id": id,
    }))
}

/// A failure inside the 200 stream.
fn failure(message: &str) -> Step {
    Step::Line(json!({ "errorDetail": { "message": message }, "error": message }))
}

/// What layers are called in progress.
fn short(layer: &Layer) -> &str {
    &layer.diff_id[7..19]
}

/// The lines and waits of moving one layer; the first layer may fail or stall half-way.
fn steps(
    status: &str,
    layer: &Layer,
    speed: Option<u64>,
    until: &Transfer,
    plan: &mut Vec<Step>,
) -> bool {
    for step in 1..=STEPS {
        if let Some(speed) = speed {
            let nanos = u128::from(layer.size / STEPS) * 1_000_000_000 / u128::from(speed.max(1));
            plan.push(Step::Wait(Duration::from_nanos(
                u64::try_from(nanos).unwrap_or(u64::MAX),
            )));
        }
        plan.push(progress(
            status,
            short(layer),
            layer.size * step / STEPS,
            layer.size,
        ));
        if step == STEPS / 2 {
            match until {
                Transfer::Whole => {}
                Transfer::FailMidway(message) => plan.push(failure(message)),
                Transfer::StallMidway => plan.push(Step::Stall),
            }
            if *until != Transfer::Whole {
                return false;
            }
        }
    }
    true
}

/// `POST /images/create`: a pull, or an import where `fromSrc` is given.
pub(crate) async fn create(call: Call) -> Answer {
    let from = call.query.get("fromImage").unwrap_or_default();
    let tag = call.query.get("tag").unwrap_or_default();
    let mut reference = Reference::parse(from)?;
    match tag {
        "" => {}
        digest if digest.starts_with("sha256:") => {
            reference = Reference::parse(&format!("{}@{digest}", reference.familiar_name()))?;
        }
        tag => reference = Reference::parse(&format!("{}:{tag}", reference.familiar_name()))?,
    }
    let reference = reference.tagged();
    check_platform(call.query.get("platform").unwrap_or_default(), &reference)?;
    let (admission, speed) = {
        let registry = call.engine.registry();
        (
            registry.admit(&reference, &credentials(&call))?,
            registry.bytes_per_second,
        )
    };
    let image = call.engine.remote_image(&reference, &admission)?;
    let until = admission.transfer;
    let present = call.engine.state().images.images.contains_key(&image.id);
    let version = reference
        .tag
        .clone()
        .or(reference.digest.clone())
        .unwrap_or_default();
    let mut plan = vec![Step::Line(
        json!({ "status": format!("Pulling from {}", reference.path), "id": version }),
    )];
    if !present {
        plan.extend(
            image
                .layers
                .iter()
                .map(|layer| line("Pulling fs layer", short(layer))),
        );
        plan.extend(
            image
                .layers
                .iter()
                .skip(1)
                .map(|layer| line("Waiting", short(layer))),
        );
        for layer in &image.layers {
            if !steps("Downloading", layer, speed, &until, &mut plan) {
                return Ok(
                    typed("application/json", transfer(Arc::clone(&call.engine), plan)).into(),
                );
            }
            plan.push(line("Verifying Checksum", short(layer)));
            plan.push(line("Download complete", short(layer)));
        }
        for layer in &image.layers {
            plan.push(progress(
                "Extracting",
                short(layer),
                layer.size / 2,
                layer.size,
            ));
            plan.push(progress("Extracting", short(layer), layer.size, layer.size));
            plan.push(line("Pull complete", short(layer)));
        }
    }
    plan.push(Step::Commit(Box::new(move |engine| {
        pulled(engine, &reference, image)
    })));
    Ok(typed("application/json", transfer(Arc::clone(&call.engine), plan)).into())
}

/// Refuses a platform other than this machine's.
pub(crate) fn check_platform(platform: &str, reference: &Reference) -> Result<(), ApiError> {
    let (os, arch) = platform
        .split_once('/')
        .unwrap_or((platform, architecture()));
    if platform.is_empty() || os == "linux" && arch.split('/').next() == Some(architecture()) {
        return Ok(());
    }
    Err(ApiError::not_found(format!(
        "no matching manifest for {platform} in the manifest list entries: {}",
        reference.familiar()
    )))
}

/// Puts a pulled image in the store; gives the last lines of the stream.
fn pulled(engine: &Arc<Inner>, reference: &Reference, image: Image) -> Vec<Value> {
    let now = engine.clock.nanos();
    let mut state = engine.state();
    let digest = library::manifest_digest(reference, &image);
    let id = state.images.add(image);
    let known = state
        .images
        .id_of(&reference.key())
        .is_ok_and(|of| of == id);
    let by_digest = Reference {
        tag: None,
        digest: Some(digest.clone()),
        ..reference.clone()
    };
    state.images.tag(reference, &id, now);
    state.images.tag(&by_digest, &id, now);
    let familiar = reference.familiar();
    engine
        .emit(Event::new("image", "pull", &familiar).attribute("name", reference.familiar_name()));
    let outcome = if known {
        "Image is up to date"
    } else {
        "Downloaded newer image"
    };
    vec![
        json!({ "status": format!("Digest: {digest}") }),
        json!({ "status": format!("Status: {outcome} for {familiar}") }),
    ]
}

impl Inner {
    /// What a registry has for a reference.
    fn remote_image(
        &self,
        reference: &Reference,
        admission: &Admission,
    ) -> Result<Image, ApiError> {
        match self.shelf().get(reference) {
            Some(image) => Ok(Image {
                // Nothing of the store that pushed it came along.
                parent: None,
                last_tagged: None,
                ..image.clone()
            }),
            None if admission.pushed_only => Err(manifest_unknown(reference)),
            None => Ok(library::image(reference)),
        }
    }

    /// Puts an image in the store without a pull.
    pub(crate) fn preload(&self, name: &str) -> Result<(), ApiError> {
        let reference = Reference::parse(name)?.tagged();
        let image = library::image(&reference);
        let mut state = self.state();
        let digest = library::manifest_digest(&reference, &image);
        let id = state.images.add(image);
        let now = self.clock.nanos();
        state.images.tag(&reference, &id, now);
        state.images.tag(
            &Reference {
                tag: None,
                digest: Some(digest),
                ..reference
            },
            &id,
            now,
        );
        Ok(())
    }
}

/// `POST /images/{name}/push`
pub(crate) async fn push(call: Call) -> Answer {
    if !call.headers.contains_key("x-registry-auth") {
        return Err(ApiError::bad(
            "Bad parameters and missing X-Registry-Auth: invalid X-Registry-Auth header: EOF",
        ));
    }
    let name = Reference::parse(&call.target)?;
    let tag = call.query.get("tag").filter(|tag| !tag.is_empty());
    let wanted: Vec<(String, Image)> = {
        let state = call.engine.state();
        let all = state
            .images
            .tags
            .iter()
            .filter(|(key, _)| crate::reference::strip_tag(key) == name.familiar_name());
        let only = all.filter(|(key, _)| tag.is_none_or(|tag| key.ends_with(&format!(":{tag}"))));
        only.filter_map(|(key, id)| Some((key.clone(), state.images.images.get(id)?.clone())))
            .collect()
    };
    let registry = call.engine.registry().clone();
    let domain = &name.domain;
    let mut plan = vec![Step::Line(
        json!({ "status": format!("The push refers to repository [{domain}/{}]", name.path) }),
    )];
    let Some((first, _)) = wanted.first() else {
        let text = format!(
            "An image does not exist locally with the tag: {}",
            name.familiar_name()
        );
        plan.push(failure(&text));
        return Ok(typed("application/json", transfer(Arc::clone(&call.engine), plan)).into());
    };
    // Registries refuse a push inside the stream: the head of the reply is out by then.
    let until = match registry.admit(&Reference::parse(first)?.tagged(), &credentials(&call)) {
        Ok(admission) => admission.transfer,
        Err(error) => {
            let message = if error.message.starts_with("pull access denied") {
                "denied: requested access to the resource is denied".to_owned()
            } else {
                error.message
            };
            plan.push(failure(&message));
            return Ok(typed("application/json", transfer(Arc::clone(&call.engine), plan)).into());
        }
    };
    for (key, image) in wanted {
        plan.extend(
            image
                .layers
                .iter()
                .map(|layer| line("Preparing", short(layer))),
        );
        for layer in &image.layers {
            if !steps(
                "Pushing",
                layer,
                registry.bytes_per_second,
                &until,
                &mut plan,
            ) {
                return Ok(
                    typed("application/json", transfer(Arc::clone(&call.engine), plan)).into(),
                );
            }
            plan.push(line("Pushed", short(layer)));
        }
        let reference = Reference::parse(&key)?.tagged();
        plan.push(Step::Commit(Box::new(move |engine| {
            pushed(engine, &reference, &image)
        })));
    }
    Ok(typed("application/json", transfer(Arc::clone(&call.engine), plan)).into())
}

fn pushed(engine: &Arc<Inner>, reference: &Reference, image: &Image) -> Vec<Value> {
    let digest = library::manifest_digest(reference, image);
    let size = manifest(image).len();
    engine.shelf().put(reference, image);
    let mut state = engine.state();
    let now = engine.clock.nanos();
    let by_digest = Reference {
        tag: None,
        digest: Some(digest.clone()),
        ..reference.clone()
    };
    state.images.tag(&by_digest, &image.id, now);
    engine.emit(
        Event::new("image", "push", reference.familiar())
            .attribute("name", reference.familiar_name()),
    );
    let tag = reference.tag.clone().unwrap_or_default();
    vec![
        json!({ "status": format!("{tag}: digest: {digest} size: {size}") }),
        json!({ "progressDetail": {}, "aux": { "Tag": tag, "Digest": digest, "Size": size } }),
    ]
}

/// `GET /distribution/{name}/json`
pub(crate) async fn distribution(call: Call) -> Answer {
    let reference = Reference::parse(&call.target)?.tagged();
    let admission = call
        .engine
        .registry()
        .admit(&reference, &credentials(&call));
    let image = admission.and_then(|admission| call.engine.remote_image(&reference, &admission));
    let image = match image {
        Ok(image) => image,
        // This request hands the registry's refusal on as what it is.
        Err(error) if error.message.contains("auth credentials") => {
            return Err(ApiError::new(
                hyper::StatusCode::UNAUTHORIZED,
                error.message,
            ));
        }
        Err(error) if error.message.starts_with("manifest for ") => {
            return Err(ApiError::not_found("manifest unknown: manifest unknown"));
        }
        Err(error) => return Err(error),
    };
    Ok(json(&json!({
        "Descriptor": {
            "mediaType": MANIFEST,
            "digest": library::manifest_digest(&reference, &image),
            "size": manifest(&image).len(),
        },
        "Platforms": [{ "architecture": architecture(), "os": "linux" }],
    }))
    .into())
}

#[derive(Default, serde::Deserialize)]
#[serde(default)]
struct AuthBody {
    #[serde(deserialize_with = "nullable")]
    username: String,
    #[serde(deserialize_with = "nullable")]
    password: String,
    #[serde(deserialize_with = "nullable")]
    serveraddress: String,
}

/// `POST /auth`
pub(crate) async fn auth(mut call: Call) -> Answer {
    let body: AuthBody = call.json().await?.unwrap_or_default();
    call.engine.registry().reach(&body.serveraddress)?;
    if call.engine.registry().knows(&body.username, &body.password) {
        return Ok(json(&json!({ "Status": "Login Succeeded", "IdentityToken": "" })).into());
    }
    let server = if body.serveraddress.is_empty() {
        "https://index.docker.io/v1/"
    } else {
        &body.serveraddress
    };
    Err(ApiError::new(
        hyper::StatusCode::UNAUTHORIZED,
        format!("login attempt to {server} failed with status: 401 Unauthorized"),
    ))
}

/// `GET /images/search`: the library, as far as the term fits.
pub(crate) async fn search(call: Call) -> Answer {
    let term = call.query.get("term").unwrap_or_default();
    if term.is_empty() {
        return Err(ApiError::bad("the search term is empty"));
    }
    let hits: Vec<Value> = ["alpine", "busybox", "debian", "nginx", "redis", "ubuntu"]
        .iter()
        .filter(|name| name.contains(term))
        .map(|name| json!({ "name": name, "description": "", "star_count": 0, "is_official": true, "is_automated": false }))
        .collect();
    Ok(json(&hits).into())
}

/// A line of text as the only one of a progress stream.
pub(crate) fn single_line(value: &Value) -> Body {
    let line: Bytes = progress_line(value);
    crate::http::full(line)
}
