//! `berth cri` as a process of its own, which can be killed at any moment and started again.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use crate::kubelet::IMAGE;

/// How many lines of what berth said a failed test shows.
const SHOWN: usize = 60;

pub(crate) struct Server {
    endpoint: String,
    directory: PathBuf,
    /// The image of sandboxes, where the engine cannot run the built-in one.
    sandbox_image: Option<&'static str>,
    /// What it is told besides.
    arguments: Vec<String>,
    child: Option<Child>,
}

impl Server {
    /// One whose socket, state and output are in the directory. It does not run yet.
    pub(crate) fn new(endpoint: &str, directory: &Path) -> Self {
        Self {
            endpoint: endpoint.to_owned(),
            directory: directory.to_owned(),
            sandbox_image: None,
            arguments: Vec::new(),
            child: None,
        }
    }

    /// The same for a fake engine, which runs what its images say and cannot know the built-in one.
    pub(crate) fn on_fake(endpoint: &str, directory: &Path) -> Self {
        let mut server = Self::new(endpoint, directory);
        server.sandbox_image = Some(IMAGE);
        server
    }

    /// Starts with these arguments, too, from now on.
    pub(crate) fn tell(&mut self, arguments: Vec<String>) {
        self.arguments = arguments;
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.directory.join("cri.sock")
    }

    /// Where it keeps how far each log has come.
    pub(crate) fn records(&self) -> PathBuf {
        self.directory.join("state/logs")
    }

    pub(crate) fn process(&self) -> u32 {
        self.child.as_ref().expect("it runs").id()
    }

    /// Starts it, without waiting for it.
    pub(crate) fn start(&mut self) {
        assert!(self.child.is_none(), "it runs already");
        let output = File::options()
            .create(true)
            .append(true)
            .open(self.output())
            .unwrap();
        // With fewer descriptors than it needs, as the 1,024 of a login shell can be.
        let mut command = Command::new("sh");
        command
            .args(["-c", "ulimit -S -n 256 && exec \"$@\"", "sh"])
            .arg(env!("CARGO_BIN_EXE_berth"));
        for name in [
            "DOCKER_HOST",
            "DOCKER_CONTEXT",
            "DOCKER_CONFIG",
            "DOCKER_API_VERSION",
        ] {
            command.env_remove(name);
        }
        command.env("BERTH_LOG", "info");
        command
            .args(["cri", "--docker-endpoint", &self.endpoint])
            .arg("--listen")
            .arg(format!("unix://{}", self.socket().display()))
            .arg("--state-dir")
            .arg(self.directory.join("state"));
        if let Some(image) = self.sandbox_image {
            command.args(["--pod-infra-container-image", image]);
        }
        command.args(&self.arguments);
        let child = command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(output)
            .spawn()
            .unwrap();
        self.child = Some(child);
    }

    /// Ends it with SIGKILL.
    pub(crate) fn kill(&mut self) {
        let mut child = self.child.take().expect("it runs");
        let ended = child.try_wait().unwrap();
        assert!(ended.is_none(), "berth ended by itself: {ended:?}");
        child.kill().unwrap();
        child.wait().unwrap();
    }

    fn output(&self) -> PathBuf {
        self.directory.join("berth.log")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
        if std::thread::panicking() {
            let said = fs::read_to_string(self.output()).unwrap_or_default();
            let lines: Vec<_> = said.lines().collect();
            eprintln!(
                "what berth said last:\n{}",
                lines[lines.len().saturating_sub(SHOWN)..].join("\n")
            );
        }
    }
}
