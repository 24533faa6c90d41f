//! The images of one engine: what is there, pulling, removing, and what they take of the disk.
//!
//! Owns which image a reference means and what is told of one, joins equal pulls, and reads the engine's refusals. Which names an image has
//! is asked of the engine each time a caller asks; what was told of an ID is kept only where an older answer is as good. Refuses to know when an image is wanted and when it is no
//! longer: pull policies, back-off and clean-up are their callers'.

mod config;
mod flights;
mod pull;
mod usage;

use std::collections::{BTreeSet, HashMap};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use berth_docker::api::{ListImages, RemoveImage};
use berth_docker::auth::Keychain;
use berth_docker::model::ImageInspect;
use berth_docker::{ConfigError, Docker, Error};
use futures_util::future::try_join_all;

use crate::observe::Container;
use crate::spec::User;
use flights::Flights;

pub use berth_docker::auth::{AuthConfig, BadAuth, Credentials};
pub use berth_docker::pull::PullProgress;
pub use berth_docker::reference::{BadReference, ImageName, ImageRef};
pub use pull::{PullError, PullFailure, PullRequest};
pub use usage::ImagesUsage;

/// How many images the engine is asked about at the same time, when each has to be asked for.
const AT_ONCE: usize = 8;

/// How often a removal is begun anew while another client of the engine removes the same image: either may be told of an image that is half
/// gone.
const REMOVAL_ATTEMPTS: u32 = 8;

/// How long the other one is given first; twice as long each further time, for the layers of a large image.
const REMOVAL_PAUSE: Duration = Duration::from_millis(50);

/// Of how many images the names with a digest are kept.
const MAX_DIGESTS: usize = 4096;

/// What old engines write for an image without a name, or without a tag.
const NO_NAME: &str = "<none>";

/// An image on the engine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Image {
    /// Its ID, the same in every answer about this image: the engine's, which is the digest of its configuration, or of its manifest or
    /// index with the containerd image store.
    pub id: String,
    /// Its names with a tag, as Docker writes them: `busybox:latest`, `quay.io/a/b:1`.
    pub repo_tags: Vec<String>,
    /// Its names with a digest.
    pub repo_digests: Vec<String>,
    /// Bytes it takes, those shared with others included; at least 1. The containerd image store counts what is unpacked in lists only.
    pub size: u64,
    /// Whom its containers run as unless told otherwise; `None` for root, unsaid.
    pub user: Option<User>,
    /// Whether clean-up has to leave it: it is the image of sandboxes.
    pub pinned: bool,
}

impl Image {
    /// Whether `reference` means this image.
    pub fn is_meant_by(&self, reference: &ImageRef) -> bool {
        is_meant(
            &self.id,
            self.repo_tags.iter().chain(&self.repo_digests),
            reference,
        )
    }
}

/// The images of the engine that `docker` speaks to.
#[derive(Debug)]
pub struct Images {
    docker: Docker,
    pinned: Vec<ImageRef>,
    /// The names with a digest of the images that were looked at, by ID.
    digests: Mutex<HashMap<String, Vec<String>>>,
    /// The users of the images of the last list.
    users: Mutex<HashMap<String, Option<User>>>,
    pulls: pull::Pulls,
    removals: Flights<Image, Result<(), Error>>,
    meter: usage::Meter,
}

impl Images {
    /// The images of an engine, of which those that `pinned` means are needed even while no container uses them.
    pub fn new(docker: Docker, pinned: Vec<ImageRef>) -> Self {
        Self {
            docker,
            pinned,
            digests: Mutex::default(),
            users: Mutex::default(),
            pulls: pull::Pulls::default(),
            removals: Flights::default(),
            meter: usage::Meter::default(),
        }
    }

    /// All images, but for those that others were built on and that have no name.
    ///
    /// One call of the engine, and one more for each image that was not in the last list. Cancel safe.
    ///
    /// # Errors
    /// When the engine does not answer.
    pub async fn list(&self) -> Result<Vec<Image>, Error> {
        let rows = self.docker.list_images(&ListImages::default()).await?;
        let mut users = HashMap::with_capacity(rows.len());
        let mut unknown = Vec::new();
        {
            let known = self.users();
            for row in &rows {
                match known.get(&row.id) {
                    Some(user) => drop(users.insert(row.id.clone(), user.clone())),
                    None => unknown.push(row.id.as_str()),
                }
            }
        }
        for some in unknown.chunks(AT_ONCE) {
            let asked = some.iter().map(|id| self.user_of(id));
            for (id, found) in some.iter().zip(try_join_all(asked).await?) {
                users.extend(found.map(|user| ((*id).to_owned(), user)));
            }
        }
        let mut images: Vec<Image> = Vec::with_capacity(rows.len());
        let mut places = HashMap::new();
        for row in rows {
            // One that has gone since it was listed has no user here.
            let Some(user) = users.get(&row.id) else {
                continue;
            };
            let size = row.size.max(row.virtual_size);
            let image = self.image(row.id, row.repo_tags, row.repo_digests, size, user.clone());
            // Some engines list an image once for each of its names.
            match places.get(&image.id) {
                Some(&place) => absorb(&mut images[place], image),
                None => {
                    places.insert(image.id.clone(), images.len());
                    images.push(image);
                }
            }
        }
        *self.users() = users;
        *self.digests() = images
            .iter()
            .map(|image| (image.id.clone(), image.repo_digests.clone()))
            .collect();
        Ok(images)
    }

    /// The image of an ID by its digest in a repository, that of `name` if it has one there: what it is called wherever it comes from. `None`
    /// when it was never in a repository.
    ///
    /// One call of the engine, and none for an image that was looked at before. Cancel safe.
    ///
    /// # Errors
    /// When the engine does not answer.
    pub async fn by_digest(&self, id: &ImageRef, name: &str) -> Result<Option<String>, Error> {
        let known = match id {
            ImageRef::Id(id) => self.digests().get(id).cloned(),
            ImageRef::Name(_) => None,
        };
        let digests = match known {
            Some(digests) => digests,
            None => match self.status(id).await? {
                Some(image) => image.repo_digests,
                None => return Ok(None),
            },
        };
        let repository = |name: &str| match name.parse() {
            Ok(ImageRef::Name(name)) => Some((name.domain().to_owned(), name.path().to_owned())),
            _ => None,
        };
        let wanted = repository(name);
        let same_repository = digests
            .iter()
            .find(|digest| wanted.is_some() && repository(digest) == wanted);
        Ok(same_repository.or(digests.first()).cloned())
    }

    /// The user of an image; `None` when it has gone.
    async fn user_of(&self, id: &str) -> Result<Option<Option<User>>, Error> {
        match self.docker.inspect_image(id).await {
            Ok(inspect) => Ok(Some(user(&inspect.config.user))),
            Err(error) if error.is_not_found() => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The image that `reference` means; `None` when the engine does not have it.
    ///
    /// One call of the engine. Cancel safe.
    ///
    /// # Errors
    /// When the engine does not answer.
    pub async fn status(&self, reference: &ImageRef) -> Result<Option<Image>, Error> {
        let found = self.inspect(reference).await?;
        let image = found.map(|inspect| self.inspected(inspect));
        if let Some(image) = &image {
            let mut digests = self.digests();
            // The kubelet lists all every few minutes, which begins it anew.
            if digests.len() >= MAX_DIGESTS {
                digests.clear();
            }
            digests.insert(image.id.clone(), image.repo_digests.clone());
        }
        Ok(image)
    }

    /// The image that `reference` means, and its configuration: JSON as in the OCI image specification.
    ///
    /// One call of the engine. Cancel safe.
    ///
    /// # Errors
    /// When the engine does not answer.
    pub async fn describe(&self, reference: &ImageRef) -> Result<Option<(Image, String)>, Error> {
        let found = self.inspect(reference).await?;
        Ok(found.map(|inspect| {
            let config = config::text(&inspect);
            (self.inspected(inspect), config)
        }))
    }

    async fn inspect(&self, reference: &ImageRef) -> Result<Option<ImageInspect>, Error> {
        let lookup = match reference {
            ImageRef::Id(id) => id.clone(),
            ImageRef::Name(name) => name.lookup(),
        };
        match self.docker.inspect_image(&lookup).await {
            Ok(found) => {
                // The engine takes a name that it does not have for the beginning of an ID.
                let names = found.repo_tags.iter().chain(&found.repo_digests);
                Ok(is_meant(&found.id, names, reference).then_some(found))
            }
            Err(error) if error.is_not_found() => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Removes the image that `reference` means, with all its names. One that is not there is fine, and so is being one of several who
    /// remove it. Containers that have ended do not keep it; pinned ones are removed like others.
    ///
    /// The engine goes on removing when the call is dropped.
    ///
    /// # Errors
    /// A conflict, when a container runs with it or another image is built on it; and when the engine does not answer.
    pub async fn remove(&self, reference: &ImageRef) -> Result<(), Error> {
        let flight = match self.status(reference).await? {
            Some(image) => {
                let docker = self.docker.clone();
                let id = image.id.clone();
                let same = image.id.clone();
                self.removals
                    .join(
                        |other| other.id == same,
                        || (image, async move { remove_all(&docker, &id).await }),
                    )
                    .1
            }
            // Its names go before the image itself, so that somebody may be at it.
            None => match self.removals.find(|image| image.is_meant_by(reference)) {
                Some((_, flight)) => flight,
                None => return Ok(()),
            },
        };
        flight.await
    }

    fn inspected(&self, inspect: ImageInspect) -> Image {
        self.image(
            inspect.id,
            inspect.repo_tags,
            inspect.repo_digests,
            inspect.size.max(inspect.virtual_size),
            user(&inspect.config.user),
        )
    }

    fn image(
        &self,
        id: String,
        repo_tags: Vec<String>,
        repo_digests: Vec<String>,
        size: i64,
        user: Option<User>,
    ) -> Image {
        let (repo_tags, repo_digests) = sorted(repo_tags, repo_digests);
        let mut image = Image {
            id,
            repo_tags,
            repo_digests,
            size: u64::try_from(size).unwrap_or(0).max(1),
            user,
            pinned: false,
        };
        image.pinned = self.pinned.iter().any(|pinned| image.is_meant_by(pinned));
        image
    }

    fn digests(&self) -> MutexGuard<'_, HashMap<String, Vec<String>>> {
        // Whole entries come and go.
        self.digests.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn users(&self) -> MutexGuard<'_, HashMap<String, Option<User>>> {
        // The table is replaced as a whole.
        self.users.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The credentials that the docker command would use for this image: from its `config.json` and credential helpers.
///
/// Cancel safe.
///
/// # Errors
/// When the configuration is broken or a helper fails.
pub async fn keychain_credentials(name: &ImageName) -> Result<Option<Credentials>, ConfigError> {
    Keychain::from_env()?.for_image(&name.to_string()).await
}

/// The IDs of the images that these containers were made of.
pub fn in_use<'a>(containers: impl IntoIterator<Item = &'a Container>) -> BTreeSet<&'a str> {
    containers
        .into_iter()
        .map(|container| container.image_id.as_str())
        .collect()
}

/// Removes an image with all its names.
async fn remove_all(docker: &Docker, id: &str) -> Result<(), Error> {
    let by_force = RemoveImage {
        force: true,
        prune_children: true,
    };
    let mut pause = REMOVAL_PAUSE;
    let mut attempt = 1;
    loop {
        let error = match docker.remove_image(id, by_force).await {
            Ok(_) => return Ok(()),
            Err(error) if !error.is_refused() => return Err(error),
            Err(error) => error,
        };
        // Gone, or another remover is at it: names go first, and what is left of it is not found by some calls and found by others.
        match docker.inspect_image(id).await {
            Err(gone) if gone.is_not_found() => return Ok(()),
            _ if error.is_conflict() || attempt == REMOVAL_ATTEMPTS => return Err(error),
            _ => {}
        }
        tokio::time::sleep(pause).await;
        pause *= 2;
        attempt += 1;
    }
}

/// An image's names by kind. Engines below API 1.43 make names up, and Docker 29's containerd image store has an image that was pulled by
/// digest among the tags, in its list there alone.
fn sorted(tags: Vec<String>, digests: Vec<String>) -> (Vec<String>, Vec<String>) {
    let (mut repo_tags, mut repo_digests) = (Vec::new(), digests);
    for name in tags {
        if !name.contains('@') {
            repo_tags.push(name);
        } else if !repo_digests.contains(&name) {
            repo_digests.push(name);
        }
    }
    repo_tags.retain(|name| !name.contains(NO_NAME));
    repo_digests.retain(|name| !name.contains(NO_NAME));
    (repo_tags, repo_digests)
}

/// Whether the image with this ID and these names is the one that `reference` means.
fn is_meant<'a>(id: &str, names: impl Iterator<Item = &'a String>, reference: &ImageRef) -> bool {
    match reference {
        ImageRef::Id(meant) => bare(id) == bare(meant),
        ImageRef::Name(meant) => names
            .filter_map(|name| name.parse::<ImageName>().ok())
            .any(|name| meant.is_found_under(&name)),
    }
}

/// An ID without its algorithm, as Podman writes it.
fn bare(id: &str) -> &str {
    id.strip_prefix("sha256:").unwrap_or(id)
}

/// Adds the names of another row of the same image.
fn absorb(image: &mut Image, other: Image) {
    for (names, more) in [
        (&mut image.repo_tags, other.repo_tags),
        (&mut image.repo_digests, other.repo_digests),
    ] {
        for name in more {
            if !names.contains(&name) {
                names.push(name);
            }
        }
    }
    image.size = image.size.max(other.size);
    image.pinned |= other.pinned;
}

/// The user of `user[:group]`.
fn user(text: &str) -> Option<User> {
    match text.split(':').next().unwrap_or_default() {
        "" => None,
        user => Some(match user.parse() {
            Ok(id) => User::Id(id),
            Err(_) => User::Name(user.to_owned()),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_sorted_by_kind_and_made_up_ones_left_out() {
        let of = |tags: &[&str], digests: &[&str]| {
            let owned = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect();
            sorted(owned(tags), owned(digests))
        };
        let (tags, digests) = of(&["<none>:<none>"], &["<none>@<none>"]);
        assert!(tags.is_empty() && digests.is_empty());
        let (tags, digests) = of(&["r.io/a@sha256:1", "b:1"], &["b@sha256:1"]);
        assert_eq!(
            (tags, digests),
            of(&["b:1"], &["b@sha256:1", "r.io/a@sha256:1"])
        );
        let (tags, digests) = of(&["r.io/a@sha256:1"], &["r.io/a@sha256:1"]);
        assert_eq!((tags, digests), of(&[], &["r.io/a@sha256:1"]));
    }

    #[test]
    fn the_user_of_an_image_is_a_number_or_a_name() {
        for (text, expected) in [
            ("", None),
            (":7", None),
            ("0", Some(User::Id(0))),
            ("1002", Some(User::Id(1002))),
            ("1002:1003", Some(User::Id(1002))),
            ("www-data", Some(User::Name("www-data".into()))),
            ("www-data:www-data", Some(User::Name("www-data".into()))),
            (
                "99999999999999999999",
                Some(User::Name("99999999999999999999".into())),
            ),
        ] {
            assert_eq!(user(text), expected, "{text}");
        }
    }
}
