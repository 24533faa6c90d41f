//! Owns the engine as its users hold it: building one, connecting to it, changing it from outside, ending it.

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde_json::Map;
use tokio::io::DuplexStream;
use tokio::sync::Notify;
use tokio::task::AbortHandle;

use crate::binds::Binds;
use crate::clock::Clock;
use crate::config::{Config, HostConfig};
use crate::containers::container::{Phase, Running};
use crate::containers::create::Wanted;
use crate::events::{Bus, Event};
use crate::fault::{Fault, Faults};
use crate::images::shelf::Shelf;
use crate::operation::Operation;
use crate::registry::RegistryBehaviour;
use crate::rng::Rng;
use crate::script::Script;
use crate::server;
use crate::signals::{Disposition, INT, QUIT, Signals, TERM};
use crate::state::State;
use crate::version::{ApiVersion, VersionError};

/// What an in-memory connection holds in each direction before the writer waits, as a unix socket's buffer.
const CONNECTION_BUFFER: usize = 64 * 1024;

/// A Docker Engine in memory. Cheap to clone; the clones are one engine, which ends with the last of them.
#[derive(Clone)]
pub struct FakeEngine {
    handle: Arc<Handle>,
}

struct Handle {
    inner: Arc<Inner>,
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.inner.shut_down();
    }
}

/// What the tasks of an engine share.
pub(crate) struct Inner {
    state: Mutex<State>,
    bus: Mutex<Bus>,
    faults: Mutex<(Faults, Rng)>,
    registry: Mutex<RegistryBehaviour>,
    shelf: Mutex<Shelf>,
    scripts: Mutex<Vec<Arc<Script>>>,
    calls: Vec<AtomicU64>,
    tasks: Mutex<Tasks>,
    down: AtomicBool,
    pub(crate) clock: Clock,
    pub(crate) binds: Arc<Binds>,
    /// Told when an exec ends.
    pub(crate) exec_changed: Notify,
}

#[derive(Default)]
struct Tasks {
    next: u64,
    /// `None` until its task has been spawned.
    connections: HashMap<u64, Option<AbortHandle>>,
    /// Requests that go on without their client; a restart ends them.
    requests: Vec<AbortHandle>,
    others: Vec<AbortHandle>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // The data is consistent after a panic elsewhere: nothing is left half-changed across a call that could panic.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Inner {
    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }

    pub(crate) fn bus(&self) -> MutexGuard<'_, Bus> {
        lock(&self.bus)
    }

    pub(crate) fn registry(&self) -> MutexGuard<'_, RegistryBehaviour> {
        lock(&self.registry)
    }

    /// What was pushed to registries.
    pub(crate) fn shelf(&self) -> MutexGuard<'_, Shelf> {
        lock(&self.shelf)
    }

    pub(crate) fn plan(&self, operation: Operation) -> crate::fault::Plan {
        let (faults, rng) = &mut *lock(&self.faults);
        faults.plan(operation, rng)
    }

    pub(crate) fn count(&self, operation: Operation) {
        self.calls[operation as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// The script that stands for a command; the one added last wins.
    pub(crate) fn script(
        &self,
        image: &str,
        name: &str,
        argv: &[String],
        exec: bool,
    ) -> Option<Arc<Script>> {
        lock(&self.scripts)
            .iter()
            .rev()
            .find(|script| script.fits(image, name, argv, exec))
            .cloned()
    }

    /// Ends a task with the engine.
    pub(crate) fn keep(&self, task: AbortHandle) {
        let mut tasks = lock(&self.tasks);
        tasks.others.retain(|task| !task.is_finished());
        if self.down.load(Ordering::SeqCst) {
            task.abort();
        }
        tasks.others.push(task);
    }

    /// Ends a request's task with the engine, and when the engine restarts.
    pub(crate) fn keep_request(&self, task: AbortHandle) {
        let mut tasks = lock(&self.tasks);
        tasks.requests.retain(|task| !task.is_finished());
        tasks.requests.push(task);
    }

    /// Serves a connection in a task of its own. Must be called inside a tokio runtime.
    pub(crate) fn accept(self: &Arc<Self>, stream: Box<dyn crate::wire::Stream>) {
        let number = {
            let mut tasks = lock(&self.tasks);
            if self.down.load(Ordering::SeqCst) {
                return;
            }
            tasks.next += 1;
            let number = tasks.next;
            tasks.connections.insert(number, None);
            number
        };
        let inner = Arc::clone(self);
        let guard = ConnectionGuard {
            inner: Arc::clone(self),
            number,
        };
        // Without the lock: a runtime that ends drops the task, and with it the guard, before this returns.
        let task = tokio::spawn(async move {
            let _guard = guard;
            server::serve(inner, stream).await;
        });
        match lock(&self.tasks).connections.get_mut(&number) {
            Some(place) => *place = Some(task.abort_handle()),
            // It is over, or was cut meanwhile.
            None => task.abort(),
        }
    }

    fn cut_connections(&self) {
        let mut tasks = lock(&self.tasks);
        let connections = tasks.connections.drain();
        connections
            .filter_map(|(_, task)| task)
            .for_each(|task| task.abort());
        tasks.requests.drain(..).for_each(|task| task.abort());
    }

    fn shut_down(&self) {
        self.down.store(true, Ordering::SeqCst);
        self.cut_connections();
        for task in lock(&self.tasks).others.drain(..) {
            task.abort();
        }
        let mut state = self.state();
        for container in state.containers.values_mut() {
            for task in container.process.iter().flat_map(|process| &process.tasks) {
                task.abort();
            }
        }
        state.abort_execs();
    }
}

/// Forgets a connection when its task is over, however it ends.
struct ConnectionGuard {
    inner: Arc<Inner>,
    number: u64,
}

impl Drop for ConnectionGuard {
    fn drop(&mut self) {
        lock(&self.inner.tasks).connections.remove(&self.number);
    }
}

/// What a restart of the engine costs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Loss {
    /// Containers run on, as with `live-restore`; execs are forgotten.
    KeepContainers,
    /// All containers are gone; images, networks and volumes stay.
    LoseContainers,
}

/// What cannot be built or changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EngineError {
    /// The text is not an API version.
    #[error(transparent)]
    Version(#[from] VersionError),
    /// The API version is one this crate does not serve.
    #[error("API version {0} is not served: choose {floor} to {ceiling}", floor = ApiVersion::FLOOR, ceiling = ApiVersion::CEILING)]
    VersionRange(ApiVersion),
    /// The lowest version is above the highest.
    #[error("the lowest API version {min} is above the highest {max}")]
    VersionOrder {
        /// The lowest version.
        min: ApiVersion,
        /// The highest version.
        max: ApiVersion,
    },
    /// The engine refuses what was asked for, with the message a client would get.
    #[error("{0}")]
    Refused(String),
}

impl From<crate::http::ApiError> for EngineError {
    fn from(error: crate::http::ApiError) -> Self {
        Self::Refused(error.message)
    }
}

/// What an engine is built from. Every setting has a default.
#[derive(Clone, Debug, Default)]
pub struct Builder {
    api: Option<String>,
    min_api: Option<String>,
    seed: u64,
    clock: Option<Clock>,
    images: Vec<String>,
    scripts: Vec<Script>,
    registry: RegistryBehaviour,
    faults: Vec<Fault>,
    bind_root: Option<PathBuf>,
}

impl Builder {
    /// The newest API version spoken, 1.40 to 1.52; 1.47 by default.
    #[must_use]
    pub fn api_version(mut self, version: impl Into<String>) -> Self {
        self.api = Some(version.into());
        self
    }

    /// The oldest API version spoken; by default that of the engine release with this API version.
    #[must_use]
    pub fn min_api_version(mut self, version: impl Into<String>) -> Self {
        self.min_api = Some(version.into());
        self
    }

    /// The seed of all chance: ids, names, fault dice. The same seed and calls give the same run; 0 by default.
    #[must_use]
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = seed;
        self
    }

    /// The engine's time; [`Clock::real`] at the time of `build` by default.
    #[must_use]
    pub fn clock(mut self, clock: Clock) -> Self {
        self.clock = Some(clock);
        self
    }

    /// An image that is there from the start.
    #[must_use]
    pub fn image(mut self, reference: impl Into<String>) -> Self {
        self.images.push(reference.into());
        self
    }

    /// A script; of several that fit a process the one added last wins.
    #[must_use]
    pub fn script(mut self, script: Script) -> Self {
        self.scripts.push(script);
        self
    }

    /// How registries behave; by default they have every image.
    #[must_use]
    pub fn registry(mut self, behaviour: RegistryBehaviour) -> Self {
        self.registry = behaviour;
        self
    }

    /// A fault from the start.
    #[must_use]
    pub fn fault(mut self, fault: Fault) -> Self {
        self.faults.push(fault);
        self
    }

    /// Binds of host paths below this directory read and write the host's files. Without it, and for all other paths,
    /// binds are kept in memory and the host is never touched.
    #[must_use]
    pub fn bind_root(mut self, root: impl Into<PathBuf>) -> Self {
        self.bind_root = Some(root.into());
        self
    }

    /// Builds the engine. It serves nobody until [`FakeEngine::connect`] or [`FakeEngine::serve_unix`].
    ///
    /// # Errors
    ///
    /// An API version that is none or not served, or an image reference that is none.
    pub fn build(self) -> Result<FakeEngine, EngineError> {
        let (api, min_api) = versions(self.api.as_deref(), self.min_api.as_deref())?;
        let clock = self.clock.unwrap_or_else(Clock::real);
        let mut faults = Faults::default();
        self.faults.into_iter().for_each(|fault| faults.add(fault));
        // The faults' dice are their own: a fault does not change the ids that follow.
        let dice = Rng::new(self.seed ^ 0x5EED_FA17);
        let inner = Arc::new(Inner {
            state: Mutex::new(State::new(Rng::new(self.seed), api, min_api, clock.nanos())),
            bus: Mutex::default(),
            faults: Mutex::new((faults, dice)),
            registry: Mutex::new(self.registry),
            shelf: Mutex::default(),
            scripts: Mutex::new(self.scripts.into_iter().map(Arc::new).collect()),
            calls: Operation::ALL.iter().map(|_| AtomicU64::new(0)).collect(),
            tasks: Mutex::default(),
            down: AtomicBool::new(false),
            clock,
            binds: Arc::new(Binds::new(self.bind_root)),
            exec_changed: Notify::new(),
        });
        for image in &self.images {
            inner.preload(image)?;
        }
        Ok(FakeEngine {
            handle: Arc::new(Handle { inner }),
        })
    }
}

fn versions(api: Option<&str>, min: Option<&str>) -> Result<(ApiVersion, ApiVersion), EngineError> {
    let api = api.map_or(Ok(ApiVersion::DEFAULT), str::parse)?;
    if !(ApiVersion::FLOOR..=ApiVersion::CEILING).contains(&api) {
        return Err(EngineError::VersionRange(api));
    }
    let min = min.map_or(Ok(api.default_minimum()), str::parse)?;
    if min > api {
        return Err(EngineError::VersionOrder { min, max: api });
    }
    Ok((api, min))
}

/// How often each operation was called.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Calls(BTreeMap<Operation, u64>);

impl Calls {
    /// How often an operation was called.
    pub fn of(&self, operation: Operation) -> u64 {
        self.0.get(&operation).copied().unwrap_or(0)
    }

    /// All calls.
    pub fn total(&self) -> u64 {
        self.0.values().sum()
    }

    /// The operations that were called, with how often.
    pub fn iter(&self) -> impl Iterator<Item = (Operation, u64)> + '_ {
        self.0.iter().map(|(operation, count)| (*operation, *count))
    }
}

impl FakeEngine {
    /// Settings for an engine, all at their defaults.
    pub fn builder() -> Builder {
        Builder::default()
    }

    pub(crate) fn inner(&self) -> &Arc<Inner> {
        &self.handle.inner
    }

    /// A new connection, as a client's end of a stream on which the engine serves HTTP.
    ///
    /// Must be called inside a tokio runtime, which runs the connection's task. The task ends when either end closes,
    /// and with the engine. After [`shut_down`](Self::shut_down) the stream is closed from the start.
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime.
    pub fn connect(&self) -> DuplexStream {
        let (client, server) = tokio::io::duplex(CONNECTION_BUFFER);
        self.inner().accept(Box::new(server));
        client
    }

    /// Restarts the engine: all connections are cut, past events and execs are forgotten.
    pub fn restart(&self, loss: Loss) {
        let inner = self.inner();
        inner.cut_connections();
        inner.bus().forget();
        let mut state = inner.state();
        state.abort_execs();
        state.execs.clear();
        for container in state.containers.values_mut() {
            container.execs.clear();
        }
        if loss == Loss::LoseContainers {
            let ids: Vec<Arc<str>> = state.containers.keys().map(Arc::clone).collect();
            for id in ids {
                state.disconnect_all(&id);
                let Some(container) = state.containers.remove(&id) else {
                    continue;
                };
                container
                    .process
                    .iter()
                    .flat_map(|process| &process.tasks)
                    .for_each(AbortHandle::abort);
                container
                    .pipes
                    .close(inner.clock.nanos(), container.exit_code);
            }
            state.names.clear();
        }
    }

    /// Ends the engine: connections are cut, processes end, new connections are closed at once. Dropping the last clone
    /// does the same.
    pub fn shut_down(&self) {
        self.inner().shut_down();
    }

    /// Makes the engine one of another version, as after an upgrade; the lowest version becomes that release's default.
    ///
    /// # Errors
    ///
    /// A version that is none or not served.
    pub fn set_api_version(&self, version: &str) -> Result<(), EngineError> {
        let (api, min) = versions(Some(version), None)?;
        let mut state = self.inner().state();
        (state.api, state.min_api) = (api, min);
        Ok(())
    }

    /// The newest API version spoken.
    pub fn api_version(&self) -> ApiVersion {
        self.inner().state().api
    }

    /// How often each operation was called since the engine was built.
    pub fn calls(&self) -> Calls {
        let counts = Operation::ALL.iter().zip(&self.inner().calls);
        Calls(
            counts
                .map(|(op, count)| (*op, count.load(Ordering::Relaxed)))
                .filter(|(_, count)| *count > 0)
                .collect(),
        )
    }

    /// Connections that are open, those turned into streams included.
    pub fn open_connections(&self) -> usize {
        lock(&self.inner().tasks).connections.len()
    }

    /// The engine's time.
    pub fn clock(&self) -> &Clock {
        &self.inner().clock
    }

    /// Adds a fault.
    pub fn add_fault(&self, fault: Fault) {
        lock(&self.inner().faults).0.add(fault);
    }

    /// Takes all faults away. Calls under way keep theirs.
    pub fn clear_faults(&self) {
        lock(&self.inner().faults).0.clear();
    }

    /// Adds a script; it counts for processes started from now on.
    pub fn add_script(&self, script: Script) {
        lock(&self.inner().scripts).push(Arc::new(script));
    }

    /// Changes how registries behave.
    pub fn set_registry(&self, behaviour: RegistryBehaviour) {
        *self.inner().registry() = behaviour;
    }

    /// Puts an image in the store as if it had been pulled.
    ///
    /// # Errors
    ///
    /// A reference that is none.
    pub fn add_image(&self, reference: &str) -> Result<(), EngineError> {
        Ok(self.inner().preload(reference)?)
    }

    /// Emits an event; its time is set here.
    pub fn emit_event(&self, event: Event) {
        self.inner().emit(event);
    }

    /// The next `count` events reach nobody and are not kept for `since`.
    pub fn lose_events(&self, count: u64) {
        self.inner().bus().lose(count);
    }

    /// Makes a running container without a request, for tests that need many: an idle process that TERM ends. The image
    /// is added if it is missing. Gives the id. Works outside a tokio runtime.
    ///
    /// # Errors
    ///
    /// What create and start refuse, such as a name in use.
    pub fn create_running_container(&self, name: &str, image: &str) -> Result<String, EngineError> {
        self.create_container(name, image, Phase::Running)
    }

    /// The same, exited with 0.
    ///
    /// # Errors
    ///
    /// What create refuses, such as a name in use.
    pub fn create_exited_container(&self, name: &str, image: &str) -> Result<String, EngineError> {
        self.create_container(name, image, Phase::Exited)
    }

    fn create_container(
        &self,
        name: &str,
        image: &str,
        phase: Phase,
    ) -> Result<String, EngineError> {
        let inner = self.inner();
        if inner.state().images.find(image).is_err() {
            inner.preload(image)?;
        }
        let config = Config {
            image: image.to_owned(),
            cmd: Some(vec!["idle".to_owned()]),
            ..Config::default()
        };
        let host = HostConfig::from_client(Some(Map::new()))?;
        let wanted = Wanted {
            name: Some(name.to_owned()),
            config,
            host,
            endpoints: BTreeMap::new(),
        };
        let mut state = inner.state();
        let id = inner.create_container(&mut state, wanted)?;
        let now = inner.clock.nanos();
        let running = phase == Phase::Running;
        if running {
            state.connect_all(&id)?;
        }
        let pid = state.pid();
        let container = state.container_mut(&id)?;
        container.phase = phase;
        container.run = 1;
        container.started = Some(now);
        if running {
            container.pid = pid;
            container.load.start(now);
            container.pipes.open(1);
            let signals = Signals::new(Disposition::Ignore);
            [INT, QUIT, TERM]
                .into_iter()
                .for_each(|signal| signals.set(signal, Disposition::Exit(0)));
            container.process = Some(Running {
                signals: Arc::new(signals),
                terminal: None,
                tasks: Vec::new(),
            });
            inner.container_event(container, "start", &[]);
        } else {
            container.finished = Some(now);
        }
        Ok(id.to_string())
    }
}

impl std::fmt::Debug for FakeEngine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let state = self.inner().state();
        f.debug_struct("FakeEngine")
            .field("api_version", &state.api)
            .field("containers", &state.containers.len())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::time::Duration;

    use super::*;

    /// Connects when it is dropped, as a client does that tries again.
    struct Reconnects(FakeEngine, mpsc::Sender<()>);

    impl Drop for Reconnects {
        fn drop(&mut self) {
            drop(self.0.connect());
            let _ = self.1.send(());
        }
    }

    #[test]
    fn a_connection_while_the_runtime_ends_hangs_nothing() {
        let (connected, told) = mpsc::channel();
        let ending = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .build()
                .expect("a runtime");
            let engine = FakeEngine::builder().build().expect("an engine");
            let last = Reconnects(engine.clone(), connected);
            runtime.block_on(async {
                tokio::spawn(async move {
                    let _last = last;
                    std::future::pending::<()>().await;
                });
                tokio::task::yield_now().await;
            });
            drop(runtime);
            assert_eq!(engine.open_connections(), 0);
        });
        told.recv_timeout(Duration::from_secs(10))
            .expect("it connects and returns");
        ending.join().expect("nothing is left");
    }
}
