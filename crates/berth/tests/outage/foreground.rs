//! What a user of `berth` may expect of an outage.

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, Command, Stdio};

use berth_docker::api::ListContainers;
use berth_docker::model::Filters;
use rustix::process::Signal;
use serde_json::Value;
use tokio::sync::mpsc;

use crate::engine::{Engine, IMAGE, Outage, signal, soon, until};

const SERVE: &str = "echo serving; trap 'exit 0' TERM; while true; do sleep 0.05; done";

/// A berth that runs, and what it says.
struct Berth {
    child: Child,
    lines: mpsc::UnboundedReceiver<String>,
    seen: Vec<String>,
}

impl Berth {
    fn spawn(engine: &Engine, args: &[&str], input: &str) -> Self {
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
            .args(["--docker-endpoint", &engine.endpoint])
            .args(args);
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        child
            .stdin
            .take()
            .unwrap()
            .write_all(input.as_bytes())
            .unwrap();
        let (sender, lines) = mpsc::unbounded_channel();
        let read = |from: Box<dyn std::io::Read + Send>, sender: mpsc::UnboundedSender<String>| {
            std::thread::spawn(move || {
                BufReader::new(from)
                    .lines()
                    .map_while(Result::ok)
                    .for_each(|line| drop(sender.send(line)))
            })
        };
        read(Box::new(child.stdout.take().unwrap()), sender.clone());
        read(Box::new(child.stderr.take().unwrap()), sender);
        Self {
            child,
            lines,
            seen: Vec::new(),
        }
    }

    /// Waits for a line with these words.
    async fn until(&mut self, words: &str) {
        soon(words, async {
            loop {
                let Some(line) = self.lines.recv().await else {
                    panic!("it ended without {words:?}: {:#?}", self.seen)
                };
                self.seen.push(line);
                if self.seen.last().unwrap().contains(words) {
                    return;
                }
            }
        })
        .await;
    }

    /// Waits for its end; gives the exit code and all it said.
    async fn end(mut self) -> (Option<i32>, Vec<String>) {
        soon("the end of berth", async {
            while let Some(line) = self.lines.recv().await {
                self.seen.push(line);
            }
        })
        .await;
        let status = until("its exit code", async || self.child.try_wait().unwrap()).await;
        (status.code(), std::mem::take(&mut self.seen))
    }
}

impl Drop for Berth {
    fn drop(&mut self) {
        if std::thread::panicking() {
            while let Ok(line) = self.lines.try_recv() {
                self.seen.push(line);
            }
            eprintln!("what berth said:\n{}", self.seen.join("\n"));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A pod that has to run always. The engine has no bridge.
fn manifest() -> String {
    serde_json::json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "web"},
        "spec": {
            "hostNetwork": true,
            "restartPolicy": "Always",
            "terminationGracePeriodSeconds": 10,
            "containers": [{"name": "a", "image": IMAGE, "imagePullPolicy": "IfNotPresent", "command": ["sh", "-c", SERVE]}],
        },
    })
    .to_string()
}

/// The ID of the pod's container if that runs.
async fn running(engine: &Engine) -> Option<String> {
    let (code, lines) = Berth::spawn(engine, &["get", "pod", "web", "-o", "json"], "")
        .end()
        .await;
    if code != Some(0) {
        return None;
    }
    let pod: Value = serde_json::from_str(&lines.join("\n")).unwrap();
    let container = &pod["status"]["containerStatuses"][0];
    container["state"]["running"]
        .is_object()
        .then(|| container["containerID"].as_str().unwrap().to_owned())
}

/// Ctrl-C, after which nothing may be left.
async fn interrupt(engine: &Engine, berth: Berth) {
    signal(berth.child.id(), Signal::INT);
    let (code, lines) = berth.end().await;
    assert_eq!(code, Some(130), "{lines:#?}");
    let docker = engine.patient_client();
    let left = docker
        .list_containers(&ListContainers {
            all: true,
            ..ListContainers::default()
        })
        .await
        .unwrap();
    assert!(left.is_empty(), "{left:#?}\n{lines:#?}");
    let volumes = docker.list_volumes(&Filters::new()).await.unwrap();
    assert!(volumes.volumes.is_empty(), "{volumes:#?}");
}

async fn berth_run_outlasts(engine: &mut Engine, outage: Outage) {
    let mut berth = Berth::spawn(engine, &["run", "-"], &manifest());
    berth.until("started container a").await;
    let before = running(engine).await.expect("it runs");
    engine.end(outage).await;
    berth.until("the engine's events stopped").await;
    engine.start().await;
    let after = until("the pod runs again", async || {
        running(engine).await.filter(|id| *id != before)
    })
    .await;
    assert_ne!(before, after);
    assert!(berth.child.try_wait().unwrap().is_none(), "berth is there");
    interrupt(engine, berth).await;
}

pub(crate) async fn berth_run_outlasts_a_kill_of_the_engine(engine: &mut Engine) {
    berth_run_outlasts(engine, Outage::Kill).await;
}

pub(crate) async fn berth_run_outlasts_a_restart_of_the_engine(engine: &mut Engine) {
    berth_run_outlasts(engine, Outage::Restart).await;
}

pub(crate) async fn berth_run_outlasts_a_pause_of_the_engine(engine: &mut Engine) {
    let mut berth = Berth::spawn(engine, &["run", "-"], &manifest());
    berth.until("started container a").await;
    let before = running(engine).await.expect("it runs");
    engine.pause(async {}).await;
    assert_eq!(
        running(engine).await,
        Some(before),
        "the container is the same"
    );
    // Interrupted while the engine does not answer, it still removes everything.
    engine
        .pause(async { signal(berth.child.id(), Signal::INT) })
        .await;
    interrupt(engine, berth).await;
}

pub(crate) async fn berth_exec_and_berth_logs_do_not_take_an_outage_for_the_end(
    engine: &mut Engine,
) {
    for outage in [Outage::Kill, Outage::Restart] {
        let mut run = Berth::spawn(engine, &["run", "-"], &manifest());
        run.until("started container a").await;
        let mut exec = Berth::spawn(
            engine,
            &["exec", "web", "--", "sh", "-c", "echo begun; sleep 600"],
            "",
        );
        exec.until("begun").await;
        let mut logs = Berth::spawn(engine, &["logs", "-f", "web"], "");
        logs.until("serving").await;
        engine.end(outage).await;
        let (code, lines) = exec.end().await;
        let said = lines.iter().any(|line| line.contains(&engine.endpoint));
        // 1 for a call that was cut, 5 when the next one finds no engine; and 137 is what the engine said when it was asked
        // to end and had ended the command first.
        let expected = match code {
            Some(1 | 5) => said,
            Some(137) => matches!(outage, Outage::Restart),
            _ => false,
        };
        assert!(expected, "exec after {outage:?}: {code:?} {lines:#?}");
        engine.start().await;
        // A follow goes on with the next instance, or says that it cannot.
        drop(logs);
        until("the pod runs again", async || running(engine).await).await;
        interrupt(engine, run).await;
    }
}
