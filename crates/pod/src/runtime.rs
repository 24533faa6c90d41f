//! Sandboxes and containers on one engine: make, start, stop, remove, and read back.
//!
//! Every operation is idempotent where its name allows it: stopping what is stopped and removing what is gone succeed. What a failed step
//! has made is undone before the error is returned; what a killed process has left is found again by its labels.

use std::collections::HashMap;
use std::io::Read as _;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use berth_docker::api::{ListContainers, PutArchive, RemoveContainer, StopContainer};
use berth_docker::model::{
    ContainerConfig, ContainerStatus, CreateContainer, CreateVolume, Filters, HostConfig,
    UpdateContainer,
};
use berth_docker::pull::PullImage;
use berth_docker::{Body, Docker};
use tokio::sync::OnceCell;

use crate::config::{self, EngineFacts, InSandbox, Resolved, Unsupported};
use crate::engine::{EngineInfo, InfoCache};
use crate::image::{BadReference, ImageRef, Images, PullError};
use crate::labels;
use crate::observe::{self, Observed};
use crate::oom::{self, Clamp, ProcessFacts};
use crate::pause::{NoPauseImage, PauseImage};
use crate::spec::{
    AppArmor, ContainerId, ContainerSpec, GroupsPolicy, Mount, MountSource, PodIdentity, PodVolume,
    Resources, SandboxId, SandboxSpec, Seccomp, Security, User,
};
use crate::users::{self, ImageUsers};
use crate::{apparmor, volume};

/// The most that is read of a seccomp profile, in bytes; the engine's own has 13 KiB.
const MAX_PROFILE: u64 = 1 << 20;

/// Of how many images the users are remembered: a few kilobytes each.
const MAX_IMAGE_USERS: usize = 64;

/// Why an operation on a pod failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The engine refused, did not answer, or cannot be reached.
    #[error(transparent)]
    Docker(#[from] berth_docker::Error),
    /// The engine cannot do what the spec asks for.
    #[error(transparent)]
    Unsupported(#[from] Unsupported),
    /// There is no pause image to make a sandbox of.
    #[error(transparent)]
    NoPauseImage(#[from] NoPauseImage),
    /// An image could not be pulled.
    #[error(transparent)]
    Pull(#[from] PullError),
    /// What should name an image does not.
    #[error(transparent)]
    BadReference(#[from] BadReference),
    /// Something that the spec refers to is not there or cannot be read.
    #[error("{0}")]
    Missing(String),
    /// The container's log cannot be written.
    #[error(transparent)]
    Log(#[from] crate::logs::Error),
    /// The sandbox cannot join its network, or leave it.
    #[error(transparent)]
    Network(#[from] crate::cni::CniError),
    /// The files of an image cannot be mounted.
    #[error("{0}")]
    ImageMount(String),
    /// There is no such sandbox or container.
    #[error("{0}")]
    NotFound(String),
    /// The call contradicts itself, or the state of what it is about.
    #[error("{0}")]
    Invalid(String),
    /// It took longer than the caller allowed.
    #[error("{0}")]
    TimedOut(String),
    /// The engine cannot be reached at the moment, and what it has is not known.
    #[error("the Docker Engine is away: {0}")]
    Away(String),
    /// `runAsNonRoot` is set, and the container would run as root, or as a user that only the image knows.
    #[error("{0}")]
    MayRunAsRoot(String),
}

impl Error {
    /// The engine's refusal or failure, if it is one.
    pub fn docker(&self) -> Option<&berth_docker::Error> {
        match self {
            Self::Docker(error) => Some(error),
            Self::Pull(error) => Some(error.docker()),
            _ => None,
        }
    }

    /// Whether asking again without a change of the spec cannot help.
    pub fn is_config(&self) -> bool {
        !matches!(
            self,
            Self::Docker(_) | Self::Pull(_) | Self::Away(_) | Self::Network(_)
        )
    }
}

/// What a running container of the same name is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Running {
    /// The one that is wanted.
    IsWanted,
    /// Another one.
    IsAnother,
}

/// What came of a create call.
enum Created {
    New(String),
    /// There was one, and it runs.
    Running(String),
}

/// How many containers of the same name are got out of the way for one create call.
const MAX_CLASHES: u32 = 4;

/// The pods of one engine.
#[derive(Debug)]
pub struct Runtime {
    docker: Docker,
    images: Images,
    clamp: Clamp,
    info: InfoCache,
    owner: String,
    /// Whether the probes of an earlier owner of this name are gone. Before that none is made, so none can be taken for theirs.
    earlier_probes_gone: OnceCell<()>,
    /// Held while the pause image is loaded.
    loading: tokio::sync::Mutex<()>,
    /// The users of images that were asked for, by the image's ID.
    users: Mutex<HashMap<String, Arc<ImageUsers>>>,
}

impl Runtime {
    /// The pods of the engine that `docker` speaks to. Sandboxes are of the built-in pause image, unless
    /// [told otherwise](Self::with_sandbox_image).
    pub fn new(docker: Docker) -> Self {
        let pause = PauseImage::built_in().ok();
        let pinned = pause.and_then(|image| image.name().parse().ok());
        Self {
            images: Images::new(docker.clone(), pinned.into_iter().collect()),
            docker,
            clamp: Clamp::default(),
            info: InfoCache::default(),
            owner: String::new(),
            earlier_probes_gone: OnceCell::new(),
            loading: tokio::sync::Mutex::default(),
            users: Mutex::default(),
        }
    }

    /// Says who looks into images: a name that one process at a time has, and the next has again after that one was killed.
    #[must_use]
    pub fn with_owner(self, owner: String) -> Self {
        Self { owner, ..self }
    }

    /// Pins the image that sandboxes are made of, in place of the built-in one.
    #[must_use]
    pub fn with_sandbox_image(self, image: ImageRef) -> Self {
        Self {
            images: Images::new(self.docker.clone(), vec![image]),
            ..self
        }
    }

    /// The images.
    pub fn images(&self) -> &Images {
        &self.images
    }

    /// What the engine says of itself; asked at most every few minutes.
    ///
    /// # Errors
    /// When the engine does not answer.
    pub async fn info(&self) -> Result<Arc<EngineInfo>, Error> {
        self.info.get(&self.docker).await
    }

    /// What the engine said of itself when it was last asked, which may be long ago and another engine; `None` before it has ever answered.
    pub fn last_info(&self) -> Option<Arc<EngineInfo>> {
        self.info.last()
    }

    /// Forgets what the engine said of itself: it may have been replaced.
    pub(crate) fn forget_info(&self) {
        self.info.forget();
    }

    /// The client.
    pub fn docker(&self) -> &Docker {
        &self.docker
    }

    /// Makes and starts a sandbox: the pause image is loaded if the engine lacks it, the pod's directories are made, the pause container is
    /// created and started. A sandbox of the same name that is in the way is replaced: it is a leftover of an attempt that was cut off.
    ///
    /// Not cancel safe: a dropped call may leave a sandbox, which the next observation shows.
    ///
    /// # Errors
    /// When any step fails; what the earlier steps made has been removed again.
    pub async fn run_sandbox(&self, spec: &SandboxSpec) -> Result<SandboxId, Error> {
        let image = match &spec.image {
            Some(image) => image.clone(),
            None => PauseImage::built_in()?.name().to_owned(),
        };
        self.decide_clamp().await?;
        self.create_volumes(spec).await?;
        let facts = self.facts(!spec.cgroup_parent.is_empty(), false).await?;
        let resolved = self.resolve(&spec.security, &image).await?;
        let mut has_image = false;
        loop {
            let score = self.clamp.apply(config::SANDBOX_OOM_SCORE_ADJ);
            let create = config::sandbox(spec, &image, score, facts, &resolved)?;
            let id = match self.create(create, Running::IsWanted).await {
                Ok(Created::New(id)) => SandboxId::new(id),
                // An earlier call made it, and its caller did not hear of it.
                Ok(Created::Running(id)) => return Ok(SandboxId::new(id)),
                // Asked for only when it is missed: nearly always it is there.
                Err(Error::Docker(error)) if error.is_not_found() && !has_image => {
                    self.provide_image(spec.image.as_deref()).await?;
                    has_image = true;
                    continue;
                }
                Err(error) => return Err(error),
            };
            match self.start_sandbox(spec, &id).await {
                Ok(()) => return Ok(id),
                Err(error) => {
                    self.remove_quietly(id.as_str()).await;
                    if !(score < 0 && oom::is_refusal(error.message()) && self.clamp.refused()) {
                        return Err(error.into());
                    }
                }
            }
        }
    }

    async fn start_sandbox(
        &self,
        spec: &SandboxSpec,
        id: &SandboxId,
    ) -> Result<(), berth_docker::Error> {
        if !spec.volumes.is_empty() {
            // A fresh volume belongs to root; an emptyDir is open to every user of the pod.
            let archive =
                volume::open_directories(spec.volumes.iter().map(|volume| volume.name.as_str()));
            let archive = Body::Bytes(archive.into());
            self.docker
                .put_archive(
                    id.as_str(),
                    config::VOLUMES_PATH,
                    archive,
                    PutArchive::default(),
                )
                .await?;
        }
        self.docker.start_container(id.as_str()).await?;
        Ok(())
    }

    async fn create_volumes(&self, spec: &SandboxSpec) -> Result<(), Error> {
        for PodVolume { name, memory } in &spec.volumes {
            let volume = CreateVolume {
                name: labels::volume_name(name, &spec.pod),
                driver_opts: volume::driver_options(*memory),
                labels: [
                    (labels::POD_NAME, spec.pod.name.as_str()),
                    (labels::POD_NAMESPACE, &spec.pod.namespace),
                    (labels::POD_UID, &spec.pod.uid),
                ]
                .into_iter()
                .collect(),
                ..Default::default()
            };
            // A volume that is there stays as it is, also when the pod now wants it in memory, or larger.
            let there = self.docker.create_volume(&volume).await?;
            if there.options != volume.driver_opts {
                self.docker
                    .remove_volume(&volume.name, false)
                    .await
                    .or_else(gone)?;
                self.docker.create_volume(&volume).await?;
            }
        }
        Ok(())
    }

    /// Gives the engine the image of sandboxes: the built-in one is loaded, another one is pulled.
    async fn provide_image(&self, named: Option<&str>) -> Result<(), Error> {
        match named {
            Some(image) => {
                let pull = self.docker.pull_image(image, PullImage::default()).await?;
                pull.wait().await?;
                Ok(())
            }
            None => {
                let image = PauseImage::built_in()?;
                // The pods of a fresh node come together: the first loads it for all.
                let _one = self.loading.lock().await;
                if self.docker.inspect_image(image.name()).await.is_ok() {
                    return Ok(());
                }
                tracing::info!(image = image.name(), "loading the pause image");
                self.docker
                    .load_images(Body::Bytes(image.archive().into()))
                    .await?;
                Ok(())
            }
        }
    }

    /// Creates a container in a sandbox. A container of the same name that is in the way is replaced: it is a leftover.
    ///
    /// Not cancel safe: a dropped call may leave a container, which the next observation shows.
    ///
    /// # Errors
    /// When the engine refuses or cannot do what the spec asks for.
    pub async fn create_container(
        &self,
        spec: &ContainerSpec,
        pod: &PodIdentity,
        sandbox: &InSandbox<'_>,
    ) -> Result<ContainerId, Error> {
        if spec.security.run_as_non_root && spec.security.user.is_none() {
            self.require_non_root(&spec.image).await?;
        }
        self.decide_clamp().await?;
        let relabels = spec.mounts.iter().any(|mount| mount.selinux_relabel);
        let facts = self.facts(false, relabels).await?;
        let mut resolved = self.resolve(&spec.security, &spec.image).await?;
        // Not for a sandbox: whose groups its process has is nobody's concern, and looking costs a container.
        resolved.groups = self.groups_of_image(&spec.security, &spec.image).await?;
        self.check_image_paths(&spec.mounts, facts).await?;
        let score = self.clamp.apply(spec.oom_score_adj);
        let create = config::container(spec, pod, sandbox, score, facts, &resolved)?;
        match self.create(create, Running::IsAnother).await? {
            Created::New(id) | Created::Running(id) => Ok(ContainerId::new(id)),
        }
    }

    /// What is known of the engine; it is asked only for what the spec needs.
    async fn facts(&self, cgroups: bool, selinux: bool) -> Result<EngineFacts, Error> {
        let version = self.docker.api_version().await?;
        let info = if cgroups || selinux {
            Some(self.info().await?)
        } else {
            None
        };
        Ok(EngineFacts {
            version,
            systemd_cgroups: info.as_ref().is_some_and(|info| info.systemd_cgroups),
            selinux: info.is_some_and(|info| info.selinux),
        })
    }

    /// Looks up what the security settings refer to.
    async fn resolve(&self, security: &Security, image: &str) -> Result<Resolved, Error> {
        if let AppArmor::Profile(profile) = &security.apparmor
            && !security.privileged
        {
            let here = self.docker.endpoint().starts_with("unix:");
            if let Some(problem) = apparmor::problem(profile, self.info().await?.apparmor, here) {
                return Err(Error::Missing(problem));
            }
        }
        let seccomp = match &security.seccomp {
            Seccomp::File(path) if !security.privileged => Some(profile(path)?),
            _ => None,
        };
        let user = match (security.groups_policy, security.group) {
            (GroupsPolicy::Strict, None) => Some(self.primary_group(security, image).await?),
            _ => None,
        };
        Ok(Resolved {
            seccomp,
            user,
            groups: Vec::new(),
        })
    }

    /// The user that the container runs as and its primary group, by the image's own list of users.
    async fn primary_group(
        &self,
        security: &Security,
        image: &str,
    ) -> Result<(String, i64), Error> {
        let user = match &security.user {
            Some(User::Id(id)) => id.to_string(),
            Some(User::Name(name)) => name.clone(),
            None => self.docker.inspect_image(image).await?.config.user,
        };
        let known = self.users_of(image).await?;
        known.primary_group(&user).ok_or_else(|| {
            Error::Missing(format!(
                "the image {image} has no user {user:?}, whose groups are asked for"
            ))
        })
    }

    /// The groups that the image has the user in, where they count and Docker would not look for them.
    async fn groups_of_image(&self, security: &Security, image: &str) -> Result<Vec<i64>, Error> {
        let user = match (&security.user, security.group, security.groups_policy) {
            (Some(User::Id(id)), Some(_), GroupsPolicy::Merge) => id.to_string(),
            (Some(User::Name(name)), Some(_), GroupsPolicy::Merge) => name.clone(),
            _ => return Ok(Vec::new()),
        };
        Ok(self.users_of(image).await?.groups_of(&user))
    }

    /// The users and groups of an image. Takes a container that is never started, so it is done once for each image.
    async fn users_of(&self, image: &str) -> Result<Arc<ImageUsers>, Error> {
        let id = self.docker.inspect_image(image).await?.id;
        if let Some(known) = self.known_users().get(&id) {
            return Ok(known.clone());
        }
        let probe = self.probe(image).await?;
        let passwd = self.container_file(&probe, "/etc/passwd").await;
        let group = self.container_file(&probe, "/etc/group").await;
        self.remove_quietly(&probe).await;
        let users = Arc::new(ImageUsers {
            passwd: passwd?,
            group: group?,
        });
        let mut known = self.known_users();
        if known.len() >= MAX_IMAGE_USERS {
            known.clear();
        }
        known.insert(id, users.clone());
        Ok(users)
    }

    fn known_users(&self) -> MutexGuard<'_, HashMap<String, Arc<ImageUsers>>> {
        // Whole entries come and go.
        self.users.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is mounted of images has to be in them: the engine itself looks only at the start.
    async fn check_image_paths(&self, mounts: &[Mount], facts: EngineFacts) -> Result<(), Error> {
        for mount in mounts {
            let MountSource::Image { image, sub_path } = &mount.source else {
                continue;
            };
            // An engine that cannot mount images is told apart later.
            if sub_path.is_empty() || facts.version < config::IMAGE_MOUNTS {
                continue;
            }
            let id = self.probe(image).await?;
            let stat = self.docker.stat_archive(&id, &format!("/{sub_path}")).await;
            self.remove_quietly(&id).await;
            match stat {
                Ok(_) => {}
                Err(error) if error.is_not_found() => {
                    return Err(Error::ImageMount(format!(
                        "the image {image} has no {sub_path:?}, which is to be mounted at {:?}",
                        mount.path
                    )));
                }
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    /// Removes the probes that an earlier process of the same [owner](Self::with_owner) has left when it was killed. Once that has succeeded,
    /// nothing more is done. Cancel safe: what is left then is removed by the next call.
    ///
    /// # Errors
    /// When the engine does not answer. One that it cannot remove is left.
    pub async fn remove_earlier_probes(&self) -> Result<(), Error> {
        let remove = async || {
            if self.owner.is_empty() {
                return Ok(());
            }
            let left = ListContainers {
                all: true,
                filters: Filters::new().label(format!("{}={}", labels::PROBE, self.owner)),
                ..Default::default()
            };
            for row in self.docker.list_containers(&left).await? {
                match self.remove(&row.id).await {
                    // It is in nobody's way.
                    Err(error) if error.is_refused() => {
                        tracing::warn!(%error, "a container of an earlier berth is left behind");
                    }
                    removed => removed?,
                }
            }
            Ok(())
        };
        self.earlier_probes_gone
            .get_or_try_init(remove)
            .await
            .copied()
    }

    /// A container that is never started, to look at the files of its image; it has to be removed.
    async fn probe(&self, image: &str) -> Result<String, Error> {
        self.remove_earlier_probes().await?;
        let probe = CreateContainer {
            config: ContainerConfig {
                image: image.to_owned(),
                entrypoint: Some(vec!["-".to_owned()]),
                labels: [(labels::PROBE, self.owner.as_str())].into_iter().collect(),
                ..Default::default()
            },
            host_config: HostConfig {
                network_mode: "none".to_owned(),
                ..Default::default()
            },
            ..Default::default()
        };
        // Its name is the engine's to choose: nothing can be in the way.
        Ok(self.docker.create_container(&probe).await?.id)
    }

    /// A small text file of a container, empty when it has none.
    async fn container_file(&self, id: &str, path: &str) -> Result<String, Error> {
        let mut archive = match self.docker.get_archive(id, path).await {
            Ok(archive) => archive,
            Err(error) if error.is_not_found() => return Ok(String::new()),
            Err(error) => return Err(error.into()),
        };
        let mut bytes = Vec::new();
        while let Some(piece) = archive.tar.next().await {
            bytes.extend_from_slice(&piece?);
            if bytes.len() > users::LIMIT {
                break;
            }
        }
        let mut text = String::new();
        let mut tar = tar::Archive::new(&bytes[..]);
        let file = tar.entries().ok().and_then(|mut entries| entries.next());
        if let Some(Ok(file)) = file {
            // A name that is no UTF-8 is in neither a pod nor a label.
            let mut content = Vec::new();
            let _ = file.take(users::LIMIT as u64).read_to_end(&mut content);
            text = String::from_utf8_lossy(&content).into_owned();
        }
        Ok(text)
    }

    /// The image's user must be a number other than 0: a name could be root under another name.
    async fn require_non_root(&self, image: &str) -> Result<(), Error> {
        let user = self.docker.inspect_image(image).await?.config.user;
        let name = user.split(':').next().unwrap_or_default();
        match name.parse::<i64>() {
            Ok(0) => Err(Error::MayRunAsRoot(format!(
                "runAsNonRoot is set, and the image {image} runs as root; set runAsUser"
            ))),
            Ok(_) => Ok(()),
            Err(_) if name.is_empty() => Err(Error::MayRunAsRoot(format!(
                "runAsNonRoot is set, and the image {image} runs as root; set runAsUser"
            ))),
            Err(_) => Err(Error::MayRunAsRoot(format!(
                "runAsNonRoot is set, and the image {image} runs as {name:?}, which cannot be verified as other than root; set runAsUser"
            ))),
        }
    }

    /// Creates a container. Where its name is taken: by one of the same pod that never ran, that one is a leftover of a call that was cut off and
    /// is replaced; by one that runs, it may be what is wanted; else the new one gets a further part to its name.
    async fn create(
        &self,
        mut create: CreateContainer,
        running: Running,
    ) -> Result<Created, Error> {
        let mut tries = 0;
        loop {
            let name = create.name.clone().unwrap_or_default();
            let error = match self.docker.create_container(&create).await {
                Ok(created) => {
                    for warning in &created.warnings {
                        tracing::warn!(%name, "the engine warns: {warning}");
                    }
                    return Ok(Created::New(created.id));
                }
                Err(error) if error.is_conflict() && tries < MAX_CLASHES => error,
                Err(error) => return Err(error.into()),
            };
            tries += 1;
            let owner = match self.docker.inspect_container(&name).await {
                Ok(owner) => owner,
                // It has gone by itself.
                Err(gone) if gone.is_not_found() => continue,
                Err(_) => return Err(error.into()),
            };
            let ours = owner.config.labels.get(labels::POD_UID)
                == create.config.labels.get(labels::POD_UID)
                && owner.config.labels.get(labels::TYPE) == create.config.labels.get(labels::TYPE);
            if ours && owner.state.running && running == Running::IsWanted {
                tracing::info!(%name, "it runs already");
                return Ok(Created::Running(owner.id));
            }
            if ours && !owner.state.running && owner.state.started_at.is_none() {
                tracing::info!(%name, "replacing a leftover container of this name");
                self.remove(&owner.id).await?;
            } else {
                // The ID of the owner tells the two apart, and is another one at the next clash.
                let part = owner.id.get(..8).unwrap_or(&owner.id);
                create.name = Some(format!("{name}_{part}"));
            }
        }
    }

    /// Starts a created container; one that runs already is fine.
    ///
    /// # Errors
    /// When the engine cannot start it: no such command, a port that is taken, a mount that is missing. The container then stays, with the
    /// engine's words in its state.
    pub async fn start_container(&self, id: &ContainerId) -> Result<(), Error> {
        match self.docker.start_container(id.as_str()).await {
            Ok(_) => Ok(()),
            Err(error) => {
                if oom::is_refusal(error.message()) {
                    // The next attempt gets another value.
                    self.clamp.refused();
                }
                Err(error.into())
            }
        }
    }

    /// Changes what a container may use; what is `None` or empty stays as it is.
    ///
    /// # Errors
    /// When the engine or the kernel refuses: nothing has changed then.
    pub async fn update_resources(
        &self,
        id: &ContainerId,
        resources: &Resources,
    ) -> Result<(), Error> {
        let update = config::update(resources);
        if update != UpdateContainer::default() {
            let reply = self.docker.update_container(id.as_str(), &update).await?;
            for warning in &reply.warnings {
                tracing::warn!(%id, "the engine warns: {warning}");
            }
        }
        Ok(())
    }

    /// Stops a container: its stop signal, then SIGKILL after `grace`. One that has stopped or is gone is fine.
    ///
    /// The engine goes on stopping when the call is dropped.
    ///
    /// # Errors
    /// When the engine does not answer or cannot stop it.
    pub async fn stop_container(&self, id: &ContainerId, grace: Duration) -> Result<(), Error> {
        self.stop(id.as_str(), grace).await
    }

    async fn stop(&self, id: &str, grace: Duration) -> Result<(), Error> {
        let seconds = i64::try_from(grace.as_secs()).unwrap_or(i64::MAX);
        match self
            .docker
            .stop_container(
                id,
                &StopContainer {
                    seconds: Some(seconds),
                    signal: None,
                },
            )
            .await
        {
            Ok(_) => Ok(()),
            Err(error) if error.is_not_found() => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Removes a container and its anonymous volumes, running or not. One that is gone is fine.
    ///
    /// # Errors
    /// When the engine does not answer or cannot remove it.
    pub async fn remove_container(&self, id: &ContainerId) -> Result<(), Error> {
        Ok(self.remove(id.as_str()).await?)
    }

    /// Kills the pause process at once. The pod's containers should have stopped; they lose their network with it.
    ///
    /// # Errors
    /// When the engine does not answer or cannot stop it.
    pub async fn stop_sandbox(&self, id: &SandboxId) -> Result<(), Error> {
        self.stop(id.as_str(), Duration::ZERO).await
    }

    /// Removes a sandbox, running or not. One that is gone is fine.
    ///
    /// # Errors
    /// When the engine does not answer or cannot remove it.
    pub async fn remove_sandbox(&self, id: &SandboxId) -> Result<(), Error> {
        Ok(self.remove(id.as_str()).await?)
    }

    /// Removes the directories of a pod. To be called once its containers are gone.
    ///
    /// # Errors
    /// When the engine does not answer or a container still uses one.
    pub async fn remove_volumes(&self, pod: &PodIdentity) -> Result<(), Error> {
        let filters = Filters::new().label(format!("{}={}", labels::POD_UID, pod.uid));
        for volume in self.docker.list_volumes(&filters).await?.volumes {
            self.docker
                .remove_volume(&volume.name, false)
                .await
                .or_else(gone)?;
        }
        Ok(())
    }

    async fn remove(&self, id: &str) -> Result<(), berth_docker::Error> {
        self.docker
            .remove_container(
                id,
                RemoveContainer {
                    volumes: true,
                    force: true,
                    link: false,
                },
            )
            .await
            .or_else(gone)
    }

    async fn remove_quietly(&self, id: &str) {
        if let Err(error) = self.remove(id).await {
            tracing::warn!(%error, "a container that could not be started is left behind");
        }
    }

    /// Everything the engine has of the pod with this UID, or of all pods.
    ///
    /// # Errors
    /// When the engine does not answer.
    pub async fn observe(&self, uid: Option<&str>) -> Result<Vec<Observed>, Error> {
        let filters = match uid {
            Some(uid) => Filters::new().label(format!("{}={uid}", labels::POD_UID)),
            None => Filters::new().label(labels::POD_UID),
        };
        let mut observed = Vec::new();
        for row in self
            .docker
            .list_containers(&ListContainers {
                all: true,
                filters,
                ..Default::default()
            })
            .await?
        {
            match self.docker.inspect_container(&row.id).await {
                Ok(inspect) => observed.extend(observe::read(&inspect)),
                // Removed since it was listed.
                Err(error) if error.is_not_found() => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(observed)
    }

    /// The IDs of all sandboxes and containers of pods, and whether each runs.
    pub(crate) async fn list(&self) -> Result<Vec<(String, bool)>, Error> {
        let rows = self
            .docker
            .list_containers(&ListContainers {
                all: true,
                filters: Filters::new().label(labels::TYPE),
                ..Default::default()
            })
            .await?;
        Ok(rows
            .into_iter()
            .map(|row| {
                let runs = matches!(
                    row.state,
                    ContainerStatus::Running | ContainerStatus::Paused
                );
                (row.id, runs)
            })
            .collect())
    }

    /// One sandbox or container, as the engine has it; `None` when it is gone or not a pod's.
    ///
    /// # Errors
    /// When the engine does not answer.
    pub async fn look_at(&self, id: &str) -> Result<Option<Observed>, Error> {
        match self.docker.inspect_container(id).await {
            Ok(inspect) => Ok(observe::read(&inspect)),
            Err(error) if error.is_not_found() => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Looks at the facts that decide about `oom_score_adj`, the first time it is called.
    async fn decide_clamp(&self) -> Result<(), Error> {
        if !self.clamp.is_decided() {
            let verdict = match self.engine_process().await {
                Some(facts) => oom::verdict_of_process(&facts),
                None => oom::verdict_of_options(&self.docker.info().await?.security_options),
            };
            self.clamp.decide(verdict);
        }
        Ok(())
    }

    /// What `/proc` says of the engine's process, if it runs on this host behind a unix socket.
    pub async fn engine_process(&self) -> Option<ProcessFacts> {
        let pid = self.docker.listener_process_id().await?;
        let read = |file| std::fs::read_to_string(format!("/proc/{pid}/{file}")).ok();
        Some(ProcessFacts {
            status: read("status")?,
            uid_map: read("uid_map")?,
        })
    }
}

/// The text of a seccomp profile.
fn profile(path: &str) -> Result<String, Error> {
    let cannot = |why: String| Error::Missing(format!("the seccomp profile {path:?} {why}"));
    if !path.starts_with('/') {
        return Err(cannot("is no absolute path".to_owned()));
    }
    let file =
        std::fs::File::open(path).map_err(|error| cannot(format!("cannot be opened: {error}")))?;
    let mut text = String::new();
    file.take(MAX_PROFILE)
        .read_to_string(&mut text)
        .map_err(|error| cannot(format!("cannot be read: {error}")))?;
    serde_json::from_str::<serde::de::IgnoredAny>(&text)
        .map_err(|error| cannot(format!("is not JSON: {error}")))?;
    Ok(text)
}

/// What is gone needs no removing; what the engine is removing already will be gone.
fn gone(error: berth_docker::Error) -> Result<(), berth_docker::Error> {
    if error.is_not_found()
        || (error.is_conflict() && error.message().contains("already in progress"))
    {
        Ok(())
    } else {
        Err(error)
    }
}
