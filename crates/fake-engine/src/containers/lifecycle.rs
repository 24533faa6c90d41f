//! Owns a container's life: start, signals, exit, restart policy, removal, and the events each causes. Parses no requests.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::container::{Container, MountKind, Phase, Running};
use super::{health, views};
use crate::clock::{Nanos, duration_nanos};
use crate::engine::Inner;
use crate::events::{Event, container_attributes};
use crate::files::{Backing, Mounted, Node, SharedTree, View, clean, lock};
use crate::http::ApiError;
use crate::process::{self, Exit, Process, Start};
use crate::shell::{Output, Source};
use crate::signals::{Delivery, Disposition, Signals};
use crate::state::State;
use crate::terminal::{Size, Terminal};
use crate::volumes::mountpoint;

/// The first wait before a restart by policy, doubled each time (`restartmanager.go`, `defaultTimeout`).
const BACKOFF_FIRST: Duration = Duration::from_millis(100);
/// The longest wait before a restart by policy (`restartmanager.go`, `maxRestartTimeout`).
const BACKOFF_LAST: Duration = Duration::from_secs(60);
/// A run this long resets the back-off (`restartmanager.go`).
const BACKOFF_RESET: Duration = Duration::from_secs(10);

/// The environment every container has before its own.
const PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

impl Inner {
    /// Emits an event of a container.
    pub(crate) fn container_event(
        &self,
        container: &Container,
        action: &str,
        more: &[(&str, String)],
    ) {
        let mut attributes = container_attributes(
            &container.config.labels,
            &container.config.image,
            &container.name,
        );
        attributes.extend(
            more.iter()
                .map(|(name, value)| ((*name).to_owned(), value.clone())),
        );
        self.emit(Event {
            attributes,
            ..Event::new("container", action, &*container.id)
        });
    }

    fn network_event(&self, container: &Container, action: &str) {
        for endpoint in &container.endpoints {
            let event = Event::new("network", action, &*endpoint.network_id)
                .attribute("container", &*container.id)
                .attribute("name", &*endpoint.network)
                .attribute("type", crate::networks::driver_of(&endpoint.network));
            self.emit(event);
        }
    }

    fn volume_event(&self, container: &Container, action: &str) {
        for mount in container
            .mounts
            .iter()
            .filter(|mount| mount.kind == MountKind::Volume)
        {
            let mut event = Event::new("volume", action, &mount.source)
                .attribute("container", &*container.id)
                .attribute("driver", "local");
            if action == "mount" {
                event = event
                    .attribute("destination", &mount.target)
                    .attribute("propagation", "")
                    .attribute("read/write", mount.writable.to_string());
            }
            self.emit(event);
        }
    }

    /// Starts a container's process. 304 if it runs.
    pub(crate) fn start_container(
        self: &Arc<Self>,
        state: &mut State,
        id: &str,
    ) -> Result<(), ApiError> {
        match state.container(id)?.phase {
            Phase::Running => return Err(ApiError::not_modified()),
            Phase::Paused => {
                return Err(ApiError::conflict(
                    "cannot start a paused container, try unpause instead",
                ));
            }
            Phase::Created | Phase::Restarting | Phase::Exited => {}
        }
        let result = self.try_start(state, id);
        if let Err(failed) = &result {
            state.disconnect_all(id);
            if let Some(container) = state.containers.get_mut(id) {
                if container.phase == Phase::Restarting {
                    container.phase = Phase::Exited;
                }
                container.error.clone_from(&failed.error.message);
                container.exit_code = failed.exit_code;
                container.ports.clear();
                container.notify();
                if container.host.acts.auto_remove {
                    self.remove_container(state, id, true);
                }
            }
        }
        result.map_err(|failed| failed.error)
    }

    fn try_start(self: &Arc<Self>, state: &mut State, id: &str) -> Result<(), Failed> {
        let now = self.clock.nanos();
        state.check_links(id)?;
        state.connect_all(id)?;
        state.adopt_host_name(id)?;
        state.publish_ports(id)?;
        let linked = state.variables_of_links(state.container(id)?);
        let view = self.view(state, id)?;
        let (pid, api) = (state.pid(), state.api);
        let facts = state.images.facts(&state.container(id)?.image);
        let container = state.container_mut(id)?;
        let config = Arc::clone(&container.config);
        let argv = config.argv();
        let directory = if config.working_dir.is_empty() {
            "/".to_owned()
        } else {
            config.working_dir.clone()
        };
        if view.stat(&directory).is_err() {
            // The engine makes the working directory where the image has none.
            lock(&view.own).insert(&directory, Node::dir(now));
        }
        let script = self.script(&config.image, &container.name, &argv, false);
        let program = process::resolve(
            script,
            &argv,
            facts.program.as_deref(),
            facts.has_shell,
            &view,
            &directory,
        )
        .map_err(|failure| Failed {
            // The runtime's refusal of the command is the client's mistake, anything else is not.
            error: match failure.code {
                126 | 127 => ApiError::bad(failure.of_container(api)),
                _ => ApiError::internal(failure.message),
            },
            exit_code: failure.code,
        })?;
        container.run += 1;
        let run = container.run;
        container.phase = Phase::Running;
        container.pid = pid;
        container.exit_code = 0;
        container.error.clear();
        container.started = Some(now);
        container.out_of_memory = false;
        container.stopped_by_hand = false;
        container.load.start(now);
        // The kernel spares process 1; an init process in its place makes the command an ordinary one.
        let scripted = matches!(program, process::Program::Script(_));
        let others = if container.host.acts.init || scripted {
            Disposition::Default
        } else {
            Disposition::Ignore
        };
        let signals = Arc::new(Signals::new(others));
        let logged = container.host.acts.log_config.driver != "none";
        let output = Output::Container {
            pipes: Arc::clone(&container.pipes),
            logged,
            tty: config.tty,
        };
        container.pipes.open(run);
        let terminal = config.tty.then(|| {
            let size = Size::of_console(&container.host.acts.console_size);
            Arc::new(Terminal::new(size))
        });
        let stdin = match config
            .open_stdin
            .then(|| container.pipes.lock().take_stdin())
            .flatten()
        {
            Some(input) if config.tty => Source::terminal(input, output.clone()),
            Some(input) => Source::channel(input),
            None => Source::empty(),
        };
        let process = Process {
            engine: Arc::clone(self),
            container: Arc::clone(&container.id),
            output,
            pipes: Arc::clone(&container.pipes),
            signals: Arc::clone(&signals),
            view,
            hostname: container.hostname(),
            terminal: terminal.clone(),
            worked: container.load.worked(),
            has_shell: facts.has_shell,
            user: user_numbers(&config.user),
        };
        let environment = environment(&config, &container.hostname(), config.tty, linked);
        let owner = Arc::clone(&container.id);
        let start = Start {
            process,
            program,
            argv,
            environment,
            directory,
            stdin,
        };
        let task = process::spawn(start, move |engine, exit| {
            let mut state = engine.state();
            engine.container_exited(&mut state, &owner, run, exit);
        });
        container.process = Some(Running {
            signals,
            terminal,
            tasks: task.into_iter().collect(),
        });
        health::begin(self, container);
        container.notify();
        let container = state.container(id)?;
        self.network_event(container, "connect");
        self.volume_event(container, "mount");
        self.container_event(container, "start", &[]);
        Ok(())
    }

    /// What the processes of a container see as files.
    pub(crate) fn view(&self, state: &mut State, id: &str) -> Result<View, ApiError> {
        let addresses = state.host_entries(id);
        let image = state.images.tree(&state.container(id)?.image);
        let binds = Arc::clone(&self.binds);
        let volumes: BTreeMap<String, SharedTree> = state
            .volumes
            .iter()
            .map(|(name, volume)| (name.clone(), volume.files.clone()))
            .collect();
        let container = state.container_mut(id)?;
        let own = container.own_files();
        let mut mounts = vec![
            fixed("/etc/hostname", format!("{}\n", container.hostname())),
            fixed("/etc/hosts", addresses),
            fixed(
                "/etc/resolv.conf",
                "nameserver 127.0.0.11\noptions ndots:0\n".to_owned(),
            ),
        ];
        for mount in &container.mounts {
            // What a client mounts there stands in for the engine's own file.
            mounts.retain(|other| other.at != mount.target);
            let backing = match mount.kind {
                MountKind::Bind => binds.backing(&mount.source),
                MountKind::Volume => {
                    let files = volumes.get(&mount.source).cloned().unwrap_or_default();
                    let part = clean("/", &mount.part);
                    if part != "/" && !lock(&files).nodes.contains_key(&part) {
                        let path = mountpoint(&mount.source) + &part;
                        return Err(ApiError::not_found(format!(
                            "cannot access path {path}: lstat {path}: no such file or directory"
                        )));
                    }
                    Backing::Memory(files, part)
                }
                MountKind::Tmpfs => {
                    Backing::Memory(mount.memory.clone().unwrap_or_default(), "/".to_owned())
                }
            };
            mounts.push(Mounted {
                at: mount.target.clone(),
                backing,
                read_only: !mount.writable,
            });
        }
        mounts.sort_by_key(|mount| std::cmp::Reverse(mount.at.len()));
        Ok(View {
            image,
            own,
            mounts: mounts.into(),
            read_only: container.host.acts.readonly_rootfs,
            user: user_numbers(&container.config.user),
        })
    }

    /// Sends a signal to a container's process.
    pub(crate) fn signal_container(self: &Arc<Self>, state: &mut State, id: &str, signal: i32) {
        let Some(container) = state.containers.get_mut(id) else {
            return;
        };
        let Some(process) = &container.process else {
            return;
        };
        let delivery = process.signals.deliver(signal);
        self.container_event(container, "kill", &[("signal", signal.to_string())]);
        if container.phase == Phase::Paused {
            // A frozen process could not take the signal: the engine thaws it.
            container.phase = Phase::Running;
            container.pipes.pause(false);
            self.container_event(container, "unpause", &[]);
        }
        if let Delivery::Fatal(code) = delivery {
            let run = container.run;
            self.container_exited(
                state,
                id,
                run,
                Exit {
                    code,
                    out_of_memory: false,
                },
            );
        }
    }

    /// A container's process is gone.
    pub(crate) fn container_exited(
        self: &Arc<Self>,
        state: &mut State,
        id: &str,
        run: u64,
        exit: Exit,
    ) {
        let now = self.clock.nanos();
        let Some(container) = state.containers.get_mut(id) else {
            return;
        };
        if container.run != run || !container.is_running() {
            return;
        }
        let Some(process) = container.process.take() else {
            return;
        };
        for task in &process.tasks {
            task.abort();
        }
        container.phase = Phase::Exited;
        container.pid = 0;
        container.exit_code = exit.code;
        container.out_of_memory = exit.out_of_memory;
        container.finished = Some(now.max(container.started.unwrap_or_default()));
        container.ports.clear();
        for mount in container
            .mounts
            .iter_mut()
            .filter(|mount| mount.kind == MountKind::Tmpfs)
        {
            mount.memory = Some(SharedTree::default());
        }
        let lasted = now.saturating_sub(container.started.unwrap_or(now));
        for exec in container.execs.clone() {
            self.exec_ended(
                state,
                &exec,
                Exit {
                    code: 137,
                    out_of_memory: false,
                },
                true,
            );
        }
        let Some(container) = state.containers.get_mut(id) else {
            return;
        };
        if exit.out_of_memory {
            self.container_event(container, "oom", &[]);
        }
        let mut more = vec![("exitCode", exit.code.to_string())];
        if state.api.at_least(42) {
            more.push(("execDuration", (lasted / 1_000_000_000).to_string()));
        }
        self.container_event(container, "die", &more);
        self.network_event(container, "disconnect");
        self.volume_event(container, "unmount");
        state.disconnect_all(id);
        let Some(container) = state.containers.get_mut(id) else {
            return;
        };
        let wait = restart_wait(container, lasted);
        if wait.is_some() {
            container.phase = Phase::Restarting;
            container.restarts += 1;
        }
        container.pipes.close(now, exit.code);
        container.notify();
        if let Some(wait) = wait {
            self.restart_after(container, wait);
        } else if container.host.acts.auto_remove && !container.restarting_by_hand {
            self.remove_container(state, id, true);
        }
    }

    fn restart_after(self: &Arc<Self>, container: &mut Container, wait: Duration) {
        let (engine, id, run) = (Arc::clone(self), Arc::clone(&container.id), container.run);
        let task = tokio::spawn(async move {
            engine.clock.sleep(wait).await;
            let mut state = engine.state();
            let due = state
                .containers
                .get(&id)
                .is_some_and(|c| c.phase == Phase::Restarting && c.run == run);
            if due {
                // A failure to start is the container's state and error; nobody waits for an answer.
                let _ = engine.start_container(&mut state, &id);
            }
        });
        self.keep(task.abort_handle());
    }

    /// Takes a container out of the engine. It must not run.
    pub(crate) fn remove_container(self: &Arc<Self>, state: &mut State, id: &str, volumes: bool) {
        let Some(container) = state.containers.remove(id) else {
            return;
        };
        state.names.remove(&container.name);
        state.forget_links(id);
        for exec in &container.execs {
            state.execs.remove(exec);
        }
        self.container_event(&container, "destroy", &[]);
        if volumes {
            for mount in container
                .mounts
                .iter()
                .filter(|mount| mount.kind == MountKind::Volume)
            {
                let anonymous = state
                    .volumes
                    .get(&mount.source)
                    .is_some_and(|volume| volume.anonymous);
                let used = views::containers_using_volume(state, &mount.source)
                    .next()
                    .is_some();
                if anonymous && !used {
                    state.volumes.remove(&mount.source);
                    self.emit(
                        Event::new("volume", "destroy", &mount.source).attribute("driver", "local"),
                    );
                }
            }
        }
        container
            .pipes
            .close(self.clock.nanos(), container.exit_code);
        container.notify();
    }
}

/// A start that failed: what the client is told and what the container shows.
struct Failed {
    error: ApiError,
    exit_code: i64,
}

impl From<ApiError> for Failed {
    fn from(error: ApiError) -> Self {
        // The engine's code for a failure before the command was tried.
        Self {
            error,
            exit_code: 128,
        }
    }
}

/// How long the restart policy waits before the next run; `None` when there is none.
fn restart_wait(container: &mut Container, lasted: Nanos) -> Option<Duration> {
    let policy = &container.host.acts.restart_policy;
    let again = match policy.name.as_str() {
        "always" | "unless-stopped" => true,
        "on-failure" => {
            let limit = u64::try_from(policy.maximum_retry_count).unwrap_or(0);
            container.exit_code != 0 && (limit == 0 || container.restarts < limit)
        }
        _ => false,
    };
    if !again || container.stopped_by_hand {
        container.backoff = 0;
        return None;
    }
    if lasted >= duration_nanos(BACKOFF_RESET) {
        container.backoff = 0;
    }
    let wait = BACKOFF_FIRST
        .saturating_mul(1 << container.backoff.min(16))
        .min(BACKOFF_LAST);
    container.backoff += 1;
    Some(wait)
}

fn fixed(at: &str, text: String) -> Mounted {
    Mounted {
        at: at.to_owned(),
        backing: Backing::Fixed(text.into()),
        read_only: true,
    }
}

/// The environment of a process: the engine's variables, then the container's.
pub(crate) fn environment(
    config: &crate::config::Config,
    hostname: &str,
    tty: bool,
    linked: Vec<String>,
) -> Vec<String> {
    let mut environment = vec![PATH.to_owned(), format!("HOSTNAME={hostname}")];
    if tty {
        environment.push("TERM=xterm".to_owned());
    }
    environment.extend(linked);
    environment.extend(config.env.iter().flatten().cloned());
    if !environment
        .iter()
        .any(|variable| variable.starts_with("HOME="))
    {
        environment.push("HOME=/root".to_owned());
    }
    environment
}

/// `1000:1000`, `nobody` (which is 65534 in busybox), nothing for root.
pub(crate) fn user_numbers(user: &str) -> (u32, u32) {
    let (user, group) = user.split_once(':').unwrap_or((user, ""));
    let number = |text: &str, default| match text {
        "nobody" | "nogroup" => 65_534,
        text => text.parse().unwrap_or(default),
    };
    let user = number(user, 0);
    (user, number(group, if user == 65_534 { user } else { 0 }))
}
