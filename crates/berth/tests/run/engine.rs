//! An engine for a test, and the berth that is tried on it.

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, ChildStdout, Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::RecvTimeoutError;
use std::time::{Duration, Instant};

use serde_json::Value;

/// For one command on a busy machine; a test that gets here has failed.
const LIMIT: Duration = Duration::from_secs(60);

pub(crate) const IMAGE: &str = "berth.local/demo:1";

/// berth with that endpoint and nothing of the environment that could name another.
pub(crate) fn berth(endpoint: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_berth"));
    for name in [
        "DOCKER_HOST",
        "DOCKER_CONTEXT",
        "DOCKER_CONFIG",
        "DOCKER_API_VERSION",
        "BERTH_LOG",
    ] {
        command.env_remove(name);
    }
    command
        .args(["--docker-endpoint", endpoint])
        .stdin(Stdio::null());
    command
}

pub(crate) struct Engine {
    pub(crate) endpoint: String,
    /// Makes the names of this test's pods its own.
    suffix: String,
    fake: Option<(Child, tempfile::TempDir)>,
}

impl Engine {
    pub(crate) fn fake() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let endpoint = format!("unix://{}/engine.sock", directory.path().display());
        let mut child = Command::new(env!("CARGO_BIN_EXE_berth"))
            .args(["fake-engine", "--listen", &endpoint])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        // It says where it listens once it does.
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap())
            .read_line(&mut line)
            .unwrap();
        assert!(line.contains(&endpoint), "{line}");
        Self {
            endpoint,
            suffix: "t".into(),
            fake: Some((child, directory)),
        }
    }

    /// One that somebody else serves.
    pub(crate) fn at(endpoint: String) -> Self {
        Self {
            endpoint,
            suffix: "t".into(),
            fake: None,
        }
    }

    pub(crate) fn real() -> Option<Self> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let Ok(endpoint) = std::env::var("BERTH_TEST_ENGINE") else {
            assert!(
                std::env::var_os("CI").is_none(),
                "BERTH_TEST_ENGINE is not set; dev/test sets it"
            );
            eprintln!("skipped: BERTH_TEST_ENGINE names no engine");
            return None;
        };
        let suffix = format!(
            "{}-{}",
            std::process::id(),
            NUMBER.fetch_add(1, Ordering::Relaxed)
        );
        Some(Self {
            endpoint,
            suffix,
            fake: None,
        })
    }

    pub(crate) fn berth(&self) -> Command {
        berth(&self.endpoint)
    }

    /// A name for a pod that only this test uses.
    pub(crate) fn name(&self, name: &str) -> String {
        format!("{name}-{}", self.suffix)
    }

    /// Runs a command to its end.
    pub(crate) fn run(&self, args: &[&str]) -> Ran {
        Ran::from(wait(
            self.berth()
                .args(args)
                .stdout(Stdio::piped())
                .stderr(Stdio::piped())
                .spawn()
                .unwrap(),
        ))
    }

    /// `berth run` of a manifest, with flags.
    pub(crate) fn run_manifest(&self, flags: &[&str], manifest: &str) -> Ran {
        let mut child = self
            .berth()
            .arg("run")
            .args(flags)
            .arg("-")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        child
            .stdin
            .take()
            .unwrap()
            .write_all(manifest.as_bytes())
            .unwrap();
        Ran::from(wait(child))
    }

    /// The pod as `berth get -o json` shows it; `None` when it is not there.
    pub(crate) fn pod(&self, name: &str) -> Option<Value> {
        let ran = self.run(&["get", "pod", name, "-o", "json"]);
        match ran.code {
            Some(0) => Some(serde_json::from_str(&ran.out).unwrap()),
            Some(3) => None,
            _ => panic!("{ran:?}"),
        }
    }

    /// The IDs of the pod's containers, by name.
    pub(crate) fn ids(&self, name: &str) -> Vec<(String, String)> {
        let pod = self.pod(name).unwrap();
        let statuses = pod["status"]["containerStatuses"]
            .as_array()
            .unwrap()
            .clone();
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        statuses
            .iter()
            .map(|status| (text(&status["name"]), text(&status["containerID"])))
            .collect()
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        if let Some((child, _)) = &mut self.fake {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// Removes a pod at the end of a test, however it ends.
pub(crate) struct Cleanup<'e>(pub(crate) &'e Engine, pub(crate) String);

impl Drop for Cleanup<'_> {
    fn drop(&mut self) {
        let _ = self
            .0
            .berth()
            .args(["delete", "pod", &self.1, "--force", "--ignore-not-found"])
            .stdout(Stdio::null())
            .status();
    }
}

/// What a command did.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) code: Option<i32>,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl From<Output> for Ran {
    fn from(output: Output) -> Self {
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        Self {
            code: output.status.code(),
            out: text(output.stdout),
            err: text(output.stderr),
        }
    }
}

fn wait(child: Child) -> Output {
    let pid = child.id();
    let (sender, receiver) = std::sync::mpsc::channel();
    std::thread::spawn(move || sender.send(child.wait_with_output()));
    match receiver.recv_timeout(LIMIT) {
        Ok(output) => output.unwrap(),
        Err(_) => {
            signal(pid, rustix::process::Signal::KILL);
            panic!("berth did not end within {LIMIT:?}");
        }
    }
}

pub(crate) fn signal(pid: u32, signal: rustix::process::Signal) {
    let pid = rustix::process::Pid::from_raw(i32::try_from(pid).unwrap()).unwrap();
    let _ = rustix::process::kill_process(pid, signal);
}

/// A berth in the foreground, whose standard error is read line by line.
pub(crate) struct Foreground {
    child: Child,
    lines: std::sync::mpsc::Receiver<String>,
    seen: Vec<String>,
}

impl Foreground {
    pub(crate) fn run(engine: &Engine, flags: &[&str], manifest: &str) -> Self {
        Self::run_to(Stdio::null(), engine, flags, manifest)
    }

    /// The same with a standard output.
    pub(crate) fn run_to(stdout: Stdio, engine: &Engine, flags: &[&str], manifest: &str) -> Self {
        let mut child = engine
            .berth()
            .arg("run")
            .args(flags)
            .arg("-")
            .stdin(Stdio::piped())
            .stdout(stdout)
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        child
            .stdin
            .take()
            .unwrap()
            .write_all(manifest.as_bytes())
            .unwrap();
        let (sender, lines) = std::sync::mpsc::channel();
        let stderr = BufReader::new(child.stderr.take().unwrap());
        std::thread::spawn(move || {
            stderr
                .lines()
                .map_while(Result::ok)
                .for_each(|line| drop(sender.send(line)))
        });
        Self {
            child,
            lines,
            seen: Vec::new(),
        }
    }

    /// Its standard output, if that is a pipe.
    pub(crate) fn stdout(&mut self) -> ChildStdout {
        self.child.stdout.take().unwrap()
    }

    /// Waits for a line with these words.
    pub(crate) fn until(&mut self, words: &str) {
        let deadline = Instant::now() + LIMIT;
        loop {
            match self
                .lines
                .recv_timeout(deadline.saturating_duration_since(Instant::now()))
            {
                Ok(line) => {
                    let found = line.contains(words);
                    self.seen.push(line);
                    if found {
                        return;
                    }
                }
                Err(_) => panic!("no line with {words:?} in {:?}", self.seen),
            }
        }
    }

    pub(crate) fn signal(&self, which: rustix::process::Signal) {
        signal(self.child.id(), which);
    }

    /// Waits for the end; gives the exit code and all lines.
    pub(crate) fn end(mut self) -> (Option<i32>, Vec<String>) {
        let deadline = Instant::now() + LIMIT;
        loop {
            match self
                .lines
                .recv_timeout(deadline.saturating_duration_since(Instant::now()))
            {
                Ok(line) => self.seen.push(line),
                Err(RecvTimeoutError::Disconnected) => break,
                Err(RecvTimeoutError::Timeout) => {
                    panic!("no end within {LIMIT:?}: {:?}", self.seen)
                }
            }
        }
        (
            self.child.wait().unwrap().code(),
            std::mem::take(&mut self.seen),
        )
    }
}

impl Drop for Foreground {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
