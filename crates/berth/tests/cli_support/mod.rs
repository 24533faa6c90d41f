//! What the tests of the binary share: an engine to talk to, the binary beside it, and pods that are gone afterwards.

#![allow(dead_code, reason = "each test binary uses its own part")]
#![allow(clippy::unwrap_used, reason = "a test's helpers fail the test")]

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use berth_docker::{ConnectOptions, Docker};
use berth_pod::Runtime;
use berth_pod::config::InSandbox;
use berth_pod::observe::Observed;
use berth_pod::spec::ContainerSpec;
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

pub(crate) mod scenarios;
pub(crate) mod terminal;

/// The image of all pods.
pub(crate) const IMAGE: &str = "berth.local/demo:1";
/// The namespace of all pods.
pub(crate) const NAMESPACE: &str = "berth-cli-test";
/// How long anything may take before the test fails.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// An engine, and the binary told to use it.
pub(crate) struct Target {
    pub(crate) endpoint: String,
    _fake: Option<Fake>,
}

impl Target {
    /// A fake engine in a process of its own.
    pub(crate) fn fake() -> Self {
        Self::fake_with(&[])
    }

    /// The same with further flags.
    pub(crate) fn fake_with(flags: &[&str]) -> Self {
        let fake = Fake::start(flags);
        Self {
            endpoint: fake.endpoint.clone(),
            _fake: Some(fake),
        }
    }

    /// The engine that `BERTH_TEST_ENGINE` names.
    pub(crate) fn real() -> Option<Self> {
        match std::env::var("BERTH_TEST_ENGINE") {
            Ok(endpoint) => Some(Self {
                endpoint,
                _fake: None,
            }),
            Err(_) => {
                assert!(
                    std::env::var_os("CI").is_none(),
                    "BERTH_TEST_ENGINE must be set in CI"
                );
                eprintln!("skipped: BERTH_TEST_ENGINE names no engine");
                None
            }
        }
    }

    /// The binary with these arguments, its input empty and its outputs to be read.
    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let mut command = berth(&["--docker-endpoint", &self.endpoint]);
        command.args(args);
        command
    }

    /// Runs the binary to its end.
    pub(crate) fn berth(&self, args: &[&str]) -> Output {
        Running::start(self.command(args)).output()
    }

    /// A pod with these containers, each a name and a script of /bin/sh, that are never started again.
    pub(crate) fn pod(&self, name: &str, containers: &[(&str, &str)]) -> Pod<'_> {
        self.pod_with(name, serde_json::json!({}), containers)
    }

    /// The same with annotations.
    pub(crate) fn pod_with(
        &self,
        name: &str,
        annotations: serde_json::Value,
        containers: &[(&str, &str)],
    ) -> Pod<'_> {
        let containers = containers
            .iter()
            .map(|(name, script)| serde_json::json!({"name": name, "image": IMAGE, "command": ["/bin/sh", "-c", script]}));
        self.create(name, annotations, containers.collect())
    }

    /// A pod of one container that runs this command.
    pub(crate) fn pod_running(&self, name: &str, command: &[&str]) -> Pod<'_> {
        let container = serde_json::json!({"name": "app", "image": IMAGE, "command": command});
        self.create(name, serde_json::json!({}), vec![container])
    }

    /// Makes and starts the next instance of the pod's only container, with another script.
    pub(crate) fn start_again(&self, pod: &Pod<'_>, script: &str) {
        let options = ConnectOptions::new(self.endpoint.parse().unwrap());
        let runtime = Runtime::new(Docker::builder(options).build().unwrap());
        let work = async {
            let ours = |one| match one {
                Observed::Container(container) => (container.pod.name == pod.name
                    && container.pod.namespace == NAMESPACE)
                    .then_some(container),
                Observed::Sandbox(_) => None,
            };
            let seen = runtime.observe(None).await.unwrap();
            let old = seen.into_iter().find_map(ours).unwrap();
            let spec = ContainerSpec {
                name: old.name.clone(),
                attempt: old.attempt + 1,
                image: IMAGE.to_owned(),
                command: ["/bin/sh", "-c", script].map(str::to_owned).to_vec(),
                labels: old.labels.clone(),
                annotations: old.annotations.clone(),
                ..ContainerSpec::default()
            };
            let id = runtime
                .create_container(&spec, &old.pod, &InSandbox::new(&old.sandbox))
                .await
                .unwrap();
            runtime.start_container(&id).await.unwrap();
        };
        let mut builder = tokio::runtime::Builder::new_current_thread();
        builder.enable_all().build().unwrap().block_on(work);
    }

    fn create(
        &self,
        name: &str,
        annotations: serde_json::Value,
        containers: Vec<serde_json::Value>,
    ) -> Pod<'_> {
        let manifest = serde_json::json!({
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": name, "namespace": NAMESPACE, "annotations": annotations},
            "spec": {"containers": containers, "restartPolicy": "Never", "terminationGracePeriodSeconds": 0},
        });
        let pod = Pod {
            target: self,
            name: name.to_owned(),
        };
        pod.delete();
        let mut command = self.command(&["run", "-d", "-"]);
        command.stdin(Stdio::piped());
        let mut running = Running::start(command);
        running
            .child
            .stdin
            .take()
            .unwrap()
            .write_all(manifest.to_string().as_bytes())
            .unwrap();
        let output = running.output();
        assert!(output.status.success(), "{}", stderr(&output));
        pod
    }
}

/// A pod that is removed when it is dropped.
pub(crate) struct Pod<'a> {
    target: &'a Target,
    pub(crate) name: String,
}

impl Pod<'_> {
    fn delete(&self) {
        let output = self.target.berth(&[
            "delete",
            "pod",
            &self.name,
            "-n",
            NAMESPACE,
            "--force",
            "--ignore-not-found",
        ]);
        if !std::thread::panicking() {
            assert!(output.status.success(), "{}", stderr(&output));
        }
    }

    /// A command of the binary about this pod: `-n` and the name follow `verb`, then `args`.
    pub(crate) fn command(&self, verb: &str, args: &[&str]) -> Command {
        let mut command = self.target.command(&[verb, "-n", NAMESPACE, &self.name]);
        command.args(args);
        command
    }

    /// Runs one to its end.
    pub(crate) fn berth(&self, verb: &str, args: &[&str]) -> Output {
        Running::start(self.command(verb, args)).output()
    }
}

impl Drop for Pod<'_> {
    fn drop(&mut self) {
        self.delete();
    }
}

/// `berth fake-engine`, ended and waited for when dropped.
pub(crate) struct Fake {
    pub(crate) running: Running,
    pub(crate) endpoint: String,
    pub(crate) socket: PathBuf,
    _dir: TempDir,
}

impl Fake {
    pub(crate) fn start(args: &[&str]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("engine.sock");
        let endpoint = format!("unix://{}", socket.display());
        let mut command = berth(&["fake-engine", "--listen", &endpoint]);
        command.args(args);
        let mut running = Running::forever(command);
        let line = running.line();
        assert!(
            line.contains(&endpoint) && line.contains("docker -H"),
            "{line}"
        );
        Self {
            running,
            endpoint,
            socket,
            _dir: dir,
        }
    }
}

impl Drop for Fake {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.running.child.kill();
        let _ = self.running.child.wait();
    }
}

/// The binary in an environment that names no engine.
pub(crate) fn berth(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_berth"));
    command
        .args(args)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    for name in [
        "DOCKER_HOST",
        "DOCKER_CONTEXT",
        "DOCKER_CONFIG",
        "DOCKER_TLS",
        "DOCKER_TLS_VERIFY",
        "DOCKER_CERT_PATH",
        "DOCKER_API_VERSION",
        "BERTH_LOG",
    ] {
        command.env_remove(name);
    }
    command.env("HOME", "/nonexistent");
    command
}

/// A process that is killed when it takes longer than [`PATIENCE`], so that no test hangs.
pub(crate) struct Running {
    pub(crate) child: Child,
    stdout: Option<BufReader<std::process::ChildStdout>>,
    done: Arc<AtomicBool>,
}

impl Running {
    pub(crate) fn start(command: Command) -> Self {
        let running = Self::forever(command);
        let (pid, done) = (running.pid(), running.done.clone());
        std::thread::spawn(move || {
            let deadline = Instant::now() + PATIENCE;
            while Instant::now() < deadline {
                if done.load(Ordering::SeqCst) {
                    return;
                }
                std::thread::sleep(Duration::from_millis(20));
            }
            // Waited for only after `done`, so the number is still its own.
            let _ = kill_process(pid, Signal::KILL);
        });
        running
    }

    fn forever(mut command: Command) -> Self {
        let child = command.spawn().unwrap();
        Self {
            child,
            stdout: None,
            done: Arc::default(),
        }
    }

    pub(crate) fn pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }

    /// The next line of its standard output.
    pub(crate) fn line(&mut self) -> String {
        if self.stdout.is_none() {
            self.stdout = self.child.stdout.take().map(BufReader::new);
        }
        let mut line = String::new();
        self.stdout.as_mut().unwrap().read_line(&mut line).unwrap();
        line
    }

    /// Closes our end of its standard output.
    pub(crate) fn close_output(&mut self) {
        self.stdout = None;
        self.child.stdout = None;
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(self.pid(), signal).unwrap();
    }

    /// Waits for its end; gives what was written and not read yet.
    pub(crate) fn output(mut self) -> Output {
        let mut before = Vec::new();
        if let Some(mut rest) = self.stdout.take() {
            std::io::Read::read_to_end(&mut rest, &mut before).unwrap();
        }
        let mut output = self.child.wait_with_output().unwrap();
        self.done.store(true, Ordering::SeqCst);
        before.append(&mut output.stdout);
        output.stdout = before;
        assert_ne!(
            std::os::unix::process::ExitStatusExt::signal(&output.status),
            Some(9),
            "killed, because it took too long; it said: {}",
            stderr(&output)
        );
        output
    }
}

pub(crate) fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

pub(crate) fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

pub(crate) fn code(output: &Output) -> i32 {
    output
        .status
        .code()
        .unwrap_or_else(|| panic!("ended by a signal: {:?}; {}", output.status, stderr(output)))
}

/// Repeats a look until it finds something.
pub(crate) fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < deadline, "{what}: not within {PATIENCE:?}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Whether anything is at the path.
pub(crate) fn exists(path: &Path) -> bool {
    path.symlink_metadata().is_ok()
}
