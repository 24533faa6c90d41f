//! Owns the requests about images in the store: list, inspect, history, tag, remove, prune.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::{Value, json};

use super::store::{Image, Images, architecture};
use crate::clock::Nanos;
use crate::containers::container::Container;
use crate::events::Event;
use crate::http::{Answer, ApiError, Call, json, status};
use crate::reference::{Reference, strip_tag};
use crate::script::glob;
use crate::state::State;
use crate::time::{ZERO, parse_moment, rfc3339};
use crate::version::ApiVersion;

/// `GET /images/json`
pub(crate) async fn list(call: Call) -> Answer {
    let filters = call.filters(&[
        "before",
        "dangling",
        "label",
        "label!",
        "reference",
        "since",
        "until",
    ])?;
    let dangling = filters.boolean("dangling")?;
    let state = call.engine.state();
    let age = |name: &str| match filters.get(name).first() {
        Some(reference) => state
            .images
            .find(reference)
            .map(|image| Some(image.created)),
        None => Ok(None),
    };
    let (before, since) = (age("before")?, age("since")?);
    let until = moment(&call, filters.get("until"))?;
    let mut shown: Vec<&Image> = state
        .images
        .images
        .values()
        .filter(|image| before.is_none_or(|before| image.created < before))
        .filter(|image| since.is_none_or(|since| image.created > since))
        .filter(|image| until.is_none_or(|until| image.created < until))
        .filter(|image| filters.labels(&image.config.labels))
        .filter(|image| {
            dangling.is_none_or(|wanted| state.images.tags_of(&image.id).is_empty() == wanted)
        })
        .filter(|image| {
            filters.any("reference", |pattern| {
                state
                    .images
                    .tags_of(&image.id)
                    .iter()
                    .any(|tag| fits(pattern, tag))
            })
        })
        .collect();
    shown.sort_by_key(|image| std::cmp::Reverse(image.created));
    let shared = call.query.flag("shared-size");
    let views: Vec<Value> = shown
        .into_iter()
        .map(|image| summary(&state, image, call.api, shared))
        .collect();
    Ok(json(&views).into())
}

fn moment(call: &Call, values: &[String]) -> Result<Option<Nanos>, ApiError> {
    let now = call.engine.clock.nanos();
    let parse = |text: &String| {
        parse_moment(text, now)
            .ok_or_else(|| ApiError::bad(format!("invalid filter 'until={text}'")))
    };
    values.first().map(parse).transpose()
}

/// A pattern fits the whole reference or the repository alone.
fn fits(pattern: &str, tag: &str) -> bool {
    glob(pattern, tag) || glob(pattern, strip_tag(tag))
}

fn users<'a>(state: &'a State, image: &'a Image) -> impl Iterator<Item = &'a Container> {
    state
        .containers
        .values()
        .map(|boxed| &**boxed)
        .filter(|container| container.image == image.id)
}

/// Names of an image, with the engine's placeholders in old versions where there is none.
fn names(images: &Images, id: &str, api: ApiVersion) -> (Vec<String>, Vec<String>) {
    let mut tags: Vec<String> = images.tags_of(id).into_iter().map(str::to_owned).collect();
    let mut digests: Vec<String> = images
        .digests_of(id)
        .into_iter()
        .map(str::to_owned)
        .collect();
    if !api.at_least(43) && tags.is_empty() && digests.is_empty() {
        tags.push("<none>:<none>".to_owned());
        digests.push("<none>@<none>".to_owned());
    }
    (tags, digests)
}

pub(crate) fn summary(state: &State, image: &Image, api: ApiVersion, shared: bool) -> Value {
    let (tags, digests) = names(&state.images, &image.id, api);
    let mut view = json!({
        "Id": &*image.id,
        "ParentId": image.parent.as_deref().unwrap_or_default(),
        "RepoTags": tags,
        "RepoDigests": if digests.is_empty() && !api.at_least(43) { Value::Null } else { json!(digests) },
        "Created": image.created / 1_000_000_000,
        "Size": image.size(),
        "SharedSize": if shared { 0 } else { -1 },
        "Labels": if image.config.labels.is_empty() { Value::Null } else { json!(image.config.labels) },
        "Containers": if api.at_least(51) { i64::try_from(users(state, image).count()).unwrap_or(i64::MAX) } else { -1 },
    });
    if !api.at_least(44) {
        view["VirtualSize"] = json!(image.size());
    }
    view
}

/// `GET /images/{name}/json`
pub(crate) async fn inspect(call: Call) -> Answer {
    let state = call.engine.state();
    let image = state.images.find(&call.target)?;
    let (tags, digests) = (
        state.images.tags_of(&image.id),
        state.images.digests_of(&image.id),
    );
    let mut config = json!(*image.config);
    if image.config.labels.is_empty() {
        config["Labels"] = Value::Null;
    }
    if call.api.at_least(50) {
        // The fields that only a container has are gone.
        if let Value::Object(map) = &mut config {
            for field in [
                "Hostname",
                "Domainname",
                "AttachStdin",
                "AttachStdout",
                "AttachStderr",
                "Tty",
                "OpenStdin",
                "StdinOnce",
                "Image",
            ] {
                map.remove(field);
            }
        }
    }
    let mut view = json!({
        "Id": &*image.id,
        "RepoTags": tags,
        "RepoDigests": digests,
        "Parent": image.parent.as_deref().unwrap_or_default(),
        "Comment": image.comment,
        "Created": rfc3339(image.created),
        "DockerVersion": "",
        "Author": image.author,
        "Config": config,
        "Architecture": architecture(),
        "Os": "linux",
        "Size": image.size(),
        "RootFS": { "Type": "layers", "Layers": image.layers.iter().map(|layer| &layer.diff_id).collect::<Vec<_>>() },
        "Metadata": { "LastTagTime": image.last_tagged.map_or_else(|| ZERO.to_owned(), rfc3339) },
    });
    if call.api.at_least(52) {
        if let Value::Object(map) = &mut view {
            map.retain(|field, value| {
                !(matches!(
                    field.as_str(),
                    "Parent" | "Comment" | "DockerVersion" | "Author"
                ) && *value == "")
            });
        }
    } else {
        let dir =
            |part: &str| format!("{}/overlay2/{}/{part}", crate::system::ROOT, &image.id[7..]);
        let data =
            json!({ "MergedDir": dir("merged"), "UpperDir": dir("diff"), "WorkDir": dir("work") });
        view["GraphDriver"] = json!({ "Name": "overlay2", "Data": data });
    }
    if !call.api.at_least(44) {
        view["VirtualSize"] = json!(image.size());
    }
    if !call.api.at_least(45) {
        view["Container"] = json!("");
        view["ContainerConfig"] = json!(crate::config::Config::default());
    }
    Ok(json(&view).into())
}

/// `GET /images/{name}/history`
pub(crate) async fn history(call: Call) -> Answer {
    let state = call.engine.state();
    let image = state.images.find(&call.target)?;
    let mut sizes = image.layers.iter().map(|layer| layer.size);
    let mut entries: Vec<Value> = image
        .history
        .iter()
        .map(|entry| {
            json!({
                "Id": "<missing>",
                "Created": entry.created / 1_000_000_000,
                "CreatedBy": entry.created_by,
                "Tags": null,
                "Size": if entry.empty_layer { 0 } else { sizes.next().unwrap_or(0) },
                "Comment": entry.comment,
            })
        })
        .collect();
    entries.reverse();
    if let Some(newest) = entries.first_mut() {
        let tags = state.images.tags_of(&image.id);
        newest["Id"] = json!(&*image.id);
        newest["Tags"] = if tags.is_empty() {
            Value::Null
        } else {
            json!(tags)
        };
    }
    Ok(json(&entries).into())
}

/// `POST /images/{name}/tag`
pub(crate) async fn tag(call: Call) -> Answer {
    let repo = call.query.get("repo").unwrap_or_default();
    let tag = call.query.get("tag").filter(|tag| !tag.is_empty());
    let text = tag.map_or_else(|| repo.to_owned(), |tag| format!("{repo}:{tag}"));
    let reference = match Reference::parse(&text) {
        Ok(reference) => reference.tagged(),
        // Engines before 23 (API 1.42) took it for an error of their own.
        Err(error) if !call.engine.state().api.at_least(42) => {
            return Err(ApiError::internal(error.message));
        }
        Err(error) => return Err(error),
    };
    if reference.digest.is_some() {
        return Err(ApiError::bad(
            "refusing to create a tag with a digest reference",
        ));
    }
    let mut state = call.engine.state();
    let id = state.images.id_of(&call.target)?;
    state.images.tag(&reference, &id, call.engine.clock.nanos());
    call.engine
        .emit(Event::new("image", "tag", &*id).attribute("name", reference.familiar()));
    Ok(status(hyper::StatusCode::CREATED).into())
}

/// What a removal did, as the reply lists it.
#[derive(Default)]
struct Removed(Vec<Value>);

/// `DELETE /images/{name}`
pub(crate) async fn remove(call: Call) -> Answer {
    let (force, prune) = (call.query.flag("force"), !call.query.flag("noprune"));
    let mut state = call.engine.state();
    let id = state.images.id_of(&call.target)?;
    let mut removed = Removed::default();
    let by_id = is_id(&call.target, &id);
    let image = state.images.find(&call.target)?.clone();
    let tags: Vec<String> = state
        .images
        .tags_of(&id)
        .into_iter()
        .map(str::to_owned)
        .collect();
    let repositories: std::collections::BTreeSet<&str> =
        tags.iter().map(|tag| strip_tag(tag)).collect();
    if by_id {
        if repositories.len() > 1 && !force {
            return Err(ApiError::conflict(format!(
                "conflict: unable to delete {} (must be forced) - image is referenced in multiple repositories",
                image.short_id()
            )));
        }
        check_unused(&state, &image, force)?;
        for tag in &tags {
            untag(&call, &mut state, tag, &id, &mut removed);
        }
    } else {
        let reference = Reference::parse(&call.target)?.tagged();
        let last = tags.len() <= 1;
        if last
            && !force
            && let Some(user) = users(&state, &image).next()
        {
            return Err(ApiError::conflict(format!(
                "conflict: unable to remove repository reference {:?} (must force) - container {} is using its referenced image {}",
                call.target,
                &user.id[..12],
                image.short_id()
            )));
        }
        let in_use = users(&state, &image).any(Container::is_active);
        if last && in_use && reference.digest.is_none() {
            // Forced: the name goes, the image stays with its running container.
            untag(&call, &mut state, &reference.key(), &id, &mut removed);
            return Ok(json(&removed.0).into());
        }
        untag(&call, &mut state, &reference.key(), &id, &mut removed);
        if !state.images.tags_of(&id).is_empty() {
            return Ok(json(&removed.0).into());
        }
    }
    delete(&call, &mut state, &id, prune, &mut removed);
    Ok(json(&removed.0).into())
}

fn is_id(target: &str, id: &str) -> bool {
    let hex = target.strip_prefix("sha256:").unwrap_or(target);
    hex.len() >= 4 && id[7..].starts_with(hex)
}

fn check_unused(state: &State, image: &Image, force: bool) -> Result<(), ApiError> {
    if let Some(user) = users(state, image).find(|c| c.is_active()) {
        return Err(ApiError::conflict(format!(
            "conflict: unable to delete {} (cannot be forced) - image is being used by running container {}",
            image.short_id(),
            &user.id[..12]
        )));
    }
    match users(state, image).next() {
        Some(user) if !force => Err(ApiError::conflict(format!(
            "conflict: unable to delete {} (must be forced) - image is being used by stopped container {}",
            image.short_id(),
            &user.id[..12]
        ))),
        _ => Ok(()),
    }
}

fn untag(call: &Call, state: &mut State, key: &str, id: &Arc<str>, removed: &mut Removed) {
    let gone =
        state.images.tags.remove(key).is_some() || state.images.digests.remove(key).is_some();
    if gone {
        removed.0.push(json!({ "Untagged": key }));
        call.engine
            .emit(Event::new("image", "untag", &**id).attribute("name", &**id));
    }
    // The repository's digest goes with its last tag.
    let repository = strip_tag(key).to_owned();
    if !state
        .images
        .tags_of(id)
        .iter()
        .any(|tag| strip_tag(tag) == repository)
    {
        let digests: Vec<String> = state
            .images
            .digests_of(id)
            .into_iter()
            .filter(|d| strip_tag(d) == repository)
            .map(str::to_owned)
            .collect();
        for digest in digests {
            state.images.digests.remove(&digest);
            removed.0.push(json!({ "Untagged": digest }));
        }
    }
}

fn delete(call: &Call, state: &mut State, id: &Arc<str>, prune: bool, removed: &mut Removed) {
    let Some(image) = state.images.images.remove(id) else {
        return;
    };
    state.images.digests.retain(|_, of| of != id);
    removed.0.push(json!({ "Deleted": &**id }));
    call.engine
        .emit(Event::new("image", "delete", &**id).attribute("name", &**id));
    let used: BTreeMap<&str, ()> = state
        .images
        .images
        .values()
        .flat_map(|other| &other.layers)
        .map(|layer| (layer.diff_id.as_str(), ()))
        .collect();
    for layer in image
        .layers
        .iter()
        .rev()
        .filter(|layer| !used.contains_key(layer.diff_id.as_str()))
    {
        removed.0.push(json!({ "Deleted": layer.diff_id }));
    }
    // A parent that nothing else needs goes too.
    if prune
        && let Some(parent) = image.parent
        && state.images.tags_of(&parent).is_empty()
        && !state
            .images
            .images
            .values()
            .any(|other| other.parent.as_ref() == Some(&parent))
        && !state
            .containers
            .values()
            .any(|container| container.image == parent)
    {
        delete(call, state, &parent, prune, removed);
    }
}

/// `POST /images/prune`
pub(crate) async fn prune(call: Call) -> Answer {
    let filters = call.filters(&["dangling", "label", "label!", "until"])?;
    let dangling_only = filters.boolean("dangling")?.unwrap_or(true);
    let until = moment(&call, filters.get("until"))?;
    let mut state = call.engine.state();
    let unused: Vec<(Arc<str>, u64)> = state
        .images
        .images
        .values()
        .filter(|image| users(&state, image).next().is_none())
        .filter(|image| !dangling_only || state.images.tags_of(&image.id).is_empty())
        .filter(|image| {
            filters.labels(&image.config.labels) && until.is_none_or(|until| image.created < until)
        })
        .map(|image| (Arc::clone(&image.id), image.size()))
        .collect();
    let mut removed = Removed::default();
    for (id, _) in &unused {
        for tag in state
            .images
            .tags_of(id)
            .into_iter()
            .map(str::to_owned)
            .collect::<Vec<_>>()
        {
            untag(&call, &mut state, &tag, id, &mut removed);
        }
        delete(&call, &mut state, id, true, &mut removed);
    }
    let reclaimed: u64 = unused.iter().map(|(_, size)| size).sum();
    call.engine
        .emit(Event::new("image", "prune", "").attribute("reclaimed", reclaimed.to_string()));
    let deleted = if removed.0.is_empty() {
        Value::Null
    } else {
        json!(removed.0)
    };
    Ok(json(&json!({ "ImagesDeleted": deleted, "SpaceReclaimed": reclaimed })).into())
}
