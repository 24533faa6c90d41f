//! What a check works with: names of its own, the usual containers and images, waiting for something to become true, and
//! the removal of all of it.
//!
//! Containers, volumes, networks and imported images are found again by their label, be it that the reply to their
//! creation was lost; other names of images are noted down before they are given.

use std::fmt::Debug;
use std::future::Future;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use berth_docker::api::{
    Attached, ImportImage, ListContainers, ListImages, LogsOptions, RemoveContainer, RemoveImage,
    WaitCondition,
};
use berth_docker::events::{EventItem, EventStream, EventsOptions};
use berth_docker::model::{
    ContainerConfig, CreateContainer, CreateNetwork, CreateVolume, Event, ExecConfig, Filters,
    HostConfig, TextMap, Timestamp,
};
use berth_docker::{ApiVersion, Body, Docker, Error, FrameStream, Source};

use crate::{Subject, Violation};

/// The label of everything that checks make; its value is the run's id.
const RUN_LABEL: &str = "berth.contract";

/// The label that says for which check it was made.
const CHECK_LABEL: &str = "berth.contract.check";

/// How long something that has to become true may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// One check under way.
#[derive(Clone)]
pub(crate) struct Case(Arc<Inner>);

struct Inner {
    subject: Subject,
    check: &'static str,
    names: AtomicU32,
    images: Mutex<Vec<String>>,
}

/// What a process wrote.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Output {
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Output {
    pub(crate) fn of_stdout(text: &str) -> Self {
        Self {
            stdout: text.to_owned(),
            stderr: String::new(),
        }
    }
}

impl Case {
    pub(crate) fn new(subject: &Subject, check: &'static str) -> Self {
        Self(Arc::new(Inner {
            subject: subject.clone(),
            check,
            names: AtomicU32::new(0),
            images: Mutex::default(),
        }))
    }

    pub(crate) fn docker(&self) -> &Docker {
        &self.0.subject.docker
    }

    /// The image with a shell.
    pub(crate) fn image(&self) -> &str {
        &self.0.subject.image
    }

    /// The registry.
    #[track_caller]
    pub(crate) fn registry(&self) -> Result<&str, Violation> {
        self.0
            .subject
            .registry
            .as_deref()
            .ok_or_else(|| Violation::new("this check needs a registry"))
    }

    /// The API version that is spoken with the engine.
    pub(crate) async fn api(&self) -> Result<ApiVersion, Violation> {
        Ok(self.docker().api_version().await?)
    }

    /// Whether API 1.`minor` or later is spoken.
    pub(crate) async fn speaks(&self, minor: u16) -> Result<bool, Violation> {
        Ok(self.api().await? >= ApiVersion::new(1, minor))
    }

    /// Whether the engine is of the release with API 1.`minor` or later, whatever is spoken with it.
    pub(crate) async fn engine_is(&self, minor: u16) -> Result<bool, Violation> {
        let version = self.docker().version().await?.api_version;
        let parsed: ApiVersion = version
            .parse()
            .map_err(|_| Violation::new(format!("the API version {version:?} is none")))?;
        Ok(parsed >= ApiVersion::new(1, minor))
    }

    /// Whether the engine keeps its images in containerd instead of a graph driver.
    pub(crate) async fn has_containerd_store(&self) -> Result<bool, Violation> {
        let status = self.docker().info().await?.driver_status;
        Ok(status
            .iter()
            .flatten()
            .any(|word| word.starts_with("io.containerd.snapshotter")))
    }

    /// A name that nobody else uses.
    pub(crate) fn name(&self) -> String {
        let number = self.0.names.fetch_add(1, Ordering::Relaxed);
        let check = self.0.check.rsplit(':').next().unwrap_or_default();
        let check: String = check.chars().take(40).collect();
        format!(
            "contract-{}-{}-{number}",
            self.0.subject.run,
            check.trim_end_matches('_')
        )
    }

    /// The name of a local image that nobody else uses; removed at the end.
    pub(crate) fn image_name(&self) -> String {
        let name = format!("berth.local/{}:1", self.name());
        self.note_image(&name);
        name
    }

    /// The name of an image in the registry that nobody else uses; removed from the engine at the end.
    #[track_caller]
    pub(crate) fn remote_name(&self) -> Result<String, Violation> {
        // One repository for all, so that what a registry keeps of runs is small.
        let name = format!("{}/berth-contract/image:{}", self.registry()?, self.name());
        self.note_image(&name);
        Ok(name)
    }

    /// Removes the image of that name at the end.
    pub(crate) fn note_image(&self, name: &str) {
        self.0
            .images
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(name.to_owned());
    }

    fn check_id(&self) -> String {
        format!("{}/{}", self.0.subject.run, self.0.check)
    }

    /// The labels that everything has to carry.
    pub(crate) fn labels(&self) -> TextMap {
        let check = self.check_id();
        [
            (RUN_LABEL, self.0.subject.run.as_ref()),
            (CHECK_LABEL, check.as_str()),
        ]
        .into_iter()
        .collect()
    }

    /// A filter for what this check made.
    pub(crate) fn own(&self) -> Filters {
        Filters::new().label(format!("{CHECK_LABEL}={}", self.check_id()))
    }

    /// A container of the image, without a network (which makes its start cheap), that runs `script`.
    pub(crate) fn shell(&self, script: &str) -> CreateContainer {
        CreateContainer {
            name: Some(self.name()),
            config: ContainerConfig {
                image: self.image().to_owned(),
                cmd: ["/bin/sh", "-c", script].map(str::to_owned).into(),
                labels: self.labels(),
                ..ContainerConfig::default()
            },
            host_config: HostConfig {
                network_mode: "none".to_owned(),
                ..HostConfig::default()
            },
            ..CreateContainer::default()
        }
    }

    /// A container that does nothing for long enough.
    pub(crate) fn idle(&self) -> CreateContainer {
        self.shell("exec sleep 600")
    }

    /// Creates a container and gives its id.
    pub(crate) async fn create(&self, container: &CreateContainer) -> Result<String, Violation> {
        Ok(self.docker().create_container(container).await?.id)
    }

    /// Creates and starts a container and gives its id.
    pub(crate) async fn start(&self, container: &CreateContainer) -> Result<String, Violation> {
        let id = self.create(container).await?;
        self.docker().start_container(&id).await?;
        Ok(id)
    }

    /// A running container that does nothing.
    pub(crate) async fn running(&self) -> Result<String, Violation> {
        self.start(&self.idle()).await
    }

    /// Runs a container to its end: its exit code and what it wrote.
    pub(crate) async fn run(
        &self,
        container: &CreateContainer,
    ) -> Result<(i64, Output), Violation> {
        let id = self.start(container).await?;
        let code = self.ended(&id).await?;
        Ok((code, self.log(&id).await?))
    }

    /// Waits until a container has ended and gives its exit code.
    pub(crate) async fn ended(&self, id: &str) -> Result<i64, Violation> {
        let wait = self.docker().wait_container(id, WaitCondition::NotRunning);
        Ok(within("the container's end", wait).await??.status_code)
    }

    /// Everything a container has written.
    pub(crate) async fn log(&self, id: &str) -> Result<Output, Violation> {
        self.log_with(id, LogsOptions::default()).await
    }

    /// What a container has written, as far as the options ask for it.
    pub(crate) async fn log_with(
        &self,
        id: &str,
        options: LogsOptions,
    ) -> Result<Output, Violation> {
        output(self.docker().logs(id, &options).await?).await
    }

    /// Waits until a container has written a line.
    pub(crate) async fn wait_for_line(&self, id: &str, line: &str) -> Result<(), Violation> {
        let options = LogsOptions {
            follow: true,
            ..LogsOptions::default()
        };
        let mut lines = self.docker().logs(id, &options).await?.lines(64 * 1024);
        let found = async {
            while let Some(next) = lines.next().await {
                if next?.bytes == line.as_bytes() {
                    return Ok(());
                }
            }
            Err(Violation::new(format!(
                "the log ended without the line {line:?}"
            )))
        };
        within(&format!("the line {line:?}"), found).await?
    }

    /// A command for a container, with all its outputs attached.
    pub(crate) fn command(&self, script: &str) -> ExecConfig {
        ExecConfig {
            attach_stdout: true,
            attach_stderr: true,
            cmd: ["/bin/sh", "-c", script].map(str::to_owned).into(),
            ..ExecConfig::default()
        }
    }

    /// Runs a command in a container: its exit code and what it wrote.
    pub(crate) async fn exec(
        &self,
        id: &str,
        command: &ExecConfig,
    ) -> Result<(i64, Output), Violation> {
        let exec = self.docker().create_exec(id, command).await?;
        let Attached {
            input,
            output: frames,
        } = self.docker().start_exec(&exec, command.tty).await?;
        let written = output(frames).await?;
        drop(input);
        Ok((self.exec_ended(&exec).await?, written))
    }

    /// Waits until a command has ended and gives its exit code.
    pub(crate) async fn exec_ended(&self, exec: &str) -> Result<i64, Violation> {
        until("the command has an exit code", || async move {
            let state = self.docker().inspect_exec(exec).await?;
            Ok(state.exit_code.filter(|_| !state.running))
        })
        .await
    }

    /// A volume of this check.
    pub(crate) fn volume(&self) -> CreateVolume {
        CreateVolume {
            name: self.name(),
            labels: self.labels(),
            ..CreateVolume::default()
        }
    }

    /// A network of this check.
    pub(crate) fn network(&self) -> CreateNetwork {
        CreateNetwork {
            name: self.name(),
            driver: "bridge".to_owned(),
            labels: self.labels(),
            ..CreateNetwork::default()
        }
    }

    /// Makes an image of one small file, which no other image has, and gives its id.
    pub(crate) async fn import(&self, reference: &str) -> Result<String, Violation> {
        let files = tarball(&[("mark", reference.as_bytes())])?;
        let changes = self
            .labels()
            .iter()
            .map(|(key, value)| format!("LABEL {key}={value}"))
            .collect();
        let options = ImportImage {
            reference: reference.to_owned(),
            changes,
            ..ImportImage::default()
        };
        Ok(self
            .docker()
            .import_image(Body::Bytes(files.into()), &options)
            .await?)
    }

    /// Events that match, from now on.
    pub(crate) async fn events(&self, filters: Filters) -> Result<Events, Violation> {
        let since = self.engine_time().await?;
        let options = EventsOptions {
            filters,
            since_nanos: Some(since.unix_nanos()),
        };
        Ok(Events(self.docker().events(options)))
    }

    /// The engine's clock.
    pub(crate) async fn engine_time(&self) -> Result<Timestamp, Violation> {
        let time = self.docker().info().await?.system_time;
        time.ok_or_else(|| Violation::new("info has no SystemTime"))
    }

    /// Removes everything that this check made.
    pub(crate) async fn clean_up(&self) -> Result<(), Violation> {
        let docker = self.docker();
        let options = ListContainers {
            all: true,
            filters: self.own(),
            ..ListContainers::default()
        };
        for container in docker.list_containers(&options).await? {
            let options = RemoveContainer {
                volumes: true,
                force: true,
                link: false,
            };
            gone(docker.remove_container(&container.id, options).await)?;
        }
        for network in docker.list_networks(&self.own()).await? {
            gone(docker.remove_network(&network.id).await)?;
        }
        for volume in docker.list_volumes(&self.own()).await?.volumes {
            gone(docker.remove_volume(&volume.name, true).await)?;
        }
        let force = RemoveImage {
            force: true,
            prune_children: true,
        };
        let named =
            std::mem::take(&mut *self.0.images.lock().unwrap_or_else(PoisonError::into_inner));
        for image in named {
            gone(docker.remove_image(&image, force).await)?;
        }
        let options = ListImages {
            filters: self.own(),
            ..ListImages::default()
        };
        for image in docker.list_images(&options).await? {
            gone(docker.remove_image(&image.id, force).await)?;
        }
        Ok(())
    }
}

/// A removal after which the thing is not there, whoever removed it.
#[track_caller]
fn gone<T>(result: Result<T, Error>) -> Result<(), Violation> {
    match result {
        Err(error) if !(error.is_not_found() || is_being_removed(&error)) => Err(error.into()),
        _ => Ok(()),
    }
}

fn is_being_removed(error: &Error) -> bool {
    error.is_conflict() && error.message().contains("already in progress")
}

/// A subscription whose items a check waits for.
pub(crate) struct Events(EventStream);

impl Events {
    /// The next event.
    pub(crate) async fn next(&mut self) -> Result<Event, Violation> {
        match within("an event", self.0.next()).await? {
            Some(Ok(EventItem::Event(event))) => Ok(event),
            Some(Ok(other)) => Err(Violation::new(format!("instead of an event: {other:?}"))),
            Some(Err(error)) => Err(error.into()),
            None => Err(Violation::new("the event stream ended")),
        }
    }

    /// The events up to and with the first of this action.
    pub(crate) async fn through(&mut self, action: &str) -> Result<Vec<Event>, Violation> {
        let mut events: Vec<Event> = Vec::new();
        loop {
            match self.next().await {
                Ok(event) => events.push(event),
                Err(violation) => {
                    let seen = actions(&events);
                    return Err(Violation::new(format!(
                        "waiting for {action:?} after {seen:?}: {violation}"
                    )));
                }
            }
            if events
                .last()
                .is_some_and(|event| event.action_name() == action)
            {
                return Ok(events);
            }
        }
    }
}

/// The actions of events, in their order.
pub(crate) fn actions(events: &[Event]) -> Vec<&str> {
    events.iter().map(Event::action_name).collect()
}

/// Everything that comes until a stream of output ends.
pub(crate) async fn output(mut frames: FrameStream) -> Result<Output, Violation> {
    let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
    while let Some(frame) = within("the output or its end", frames.next()).await? {
        let frame = frame?;
        match frame.source {
            Source::Stdout => stdout.extend_from_slice(&frame.bytes),
            Source::Stderr => stderr.extend_from_slice(&frame.bytes),
            Source::Stdin => return Err(Violation::new("output that claims to be input")),
        }
    }
    Ok(Output {
        stdout: text(stdout)?,
        stderr: text(stderr)?,
    })
}

/// Reads output until it has `needle`, and gives what came.
pub(crate) async fn read_until(
    frames: &mut FrameStream,
    needle: &str,
) -> Result<String, Violation> {
    let mut seen = String::new();
    while !seen.contains(needle) {
        match within(needle, frames.next()).await? {
            Some(frame) => seen.push_str(&text(frame?.bytes.to_vec())?),
            None => {
                return Err(Violation::new(format!(
                    "the output ended without {needle:?}: {seen:?}"
                )));
            }
        }
    }
    Ok(seen)
}

pub(crate) fn text(bytes: Vec<u8>) -> Result<String, Violation> {
    String::from_utf8(bytes)
        .map_err(|error| Violation::new(format!("not the text that was written: {error}")))
}

/// A future's result, unless it takes too long.
pub(crate) async fn within<F: Future>(what: &str, future: F) -> Result<F::Output, Violation> {
    match tokio::time::timeout(PATIENCE, future).await {
        Ok(result) => Ok(result),
        Err(_) => Err(Violation::new(format!(
            "no sign of {what} after {PATIENCE:?}"
        ))),
    }
}

/// Asks again until there is an answer. An error ends it.
pub(crate) async fn until<T, F, Fut>(what: &str, mut probe: F) -> Result<T, Violation>
where
    F: FnMut() -> Fut,
    Fut: Future<Output = Result<Option<T>, Violation>>,
{
    let asking = async {
        let mut pause = Duration::from_millis(5);
        loop {
            if let Some(answer) = probe().await? {
                return Ok(answer);
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(Duration::from_millis(200));
        }
    };
    match tokio::time::timeout(PATIENCE, asking).await {
        Ok(result) => result,
        Err(_) => Err(Violation::new(format!(
            "still not so after {PATIENCE:?}: {what}"
        ))),
    }
}

/// A tar archive of files.
pub(crate) fn tarball(files: &[(&str, &[u8])]) -> Result<Vec<u8>, Violation> {
    let mut archive = tar::Builder::new(Vec::new());
    for (path, content) in files {
        let mut header = tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        header.set_mode(0o644);
        header.set_mtime(1_600_000_000);
        archive.append_data(&mut header, path, *content)?;
    }
    Ok(archive.into_inner()?)
}

/// What is in a list exactly once.
#[track_caller]
pub(crate) fn only<T: Debug>(mut list: Vec<T>, what: &str) -> Result<T, Violation> {
    match (list.pop(), list.is_empty()) {
        (Some(one), true) => Ok(one),
        (last, _) => Err(Violation::new(format!(
            "not one {what} but {last:?} and {list:?}"
        ))),
    }
}

/// A list of texts out of literals.
pub(crate) fn strings<const N: usize>(texts: [&str; N]) -> Vec<String> {
    texts.map(str::to_owned).into()
}
