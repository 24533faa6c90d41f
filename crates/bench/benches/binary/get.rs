//! The peak memory of `berth get pods` with many containers, on an engine that only pretends.

use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Stdio};

use berth_bench::measure::{Row, Target, Unit};
use berth_bench::memory;
use serde_json::{Value, json};
use tokio::runtime::Runtime;

use crate::{Berth, manifest};

/// Pods of one container each; with their sandboxes the engine has twice as many containers.
const PODS: usize = 200;
const ROUNDS: usize = 9;
/// The most memory that the command may have taken at any time, in bytes.
const MOST: f64 = 12e6;
/// A pipe holds so much at least, which is less than the command writes.
const PIPE: usize = 4096;

pub(crate) fn run(_: &Runtime) -> Result<Vec<Row>, String> {
    let dir = tempfile::tempdir().map_err(|error| error.to_string())?;
    let berth = Berth::built(format!(
        "unix://{}",
        dir.path().join("engine.sock").display()
    ))?;
    let _engine = Engine::start(&berth)?;
    let pods: Vec<Value> = (0..PODS)
        .map(|pod| manifest(&format!("web-{pod}")))
        .collect();
    let file = dir.path().join("pods.json");
    let list = json!({"apiVersion": "v1", "kind": "List", "items": pods}).to_string();
    std::fs::write(&file, list).map_err(|error| error.to_string())?;
    berth.run(&["run", "--detach", &file.display().to_string()])?;

    let mut rows = Vec::new();
    for args in [&["get", "pods"][..], &["get", "pods", "-o", "json"]] {
        // The largest: a limit holds always, not in half of the cases.
        let mut most = 0.0f64;
        for _ in 0..ROUNDS {
            most = most.max(peak(&berth, args)?);
        }
        rows.push(Row {
            what: format!("berth {}, peak memory", args.join(" ")),
            measured: format!("berth {}", Unit::Bytes.show(most)),
            beside: format!("{PODS} pods, {} containers", 2 * PODS),
            value: most,
            unit: Unit::Bytes,
            target: Some(Target::AtMost(MOST)),
        });
    }
    Ok(rows)
}

/// The most memory that the command has had when it writes its first byte, in bytes. It writes when all has been put together, and
/// cannot end before the pipe is emptied.
fn peak(berth: &Berth, args: &[&str]) -> Result<f64, String> {
    let failed = |error: &dyn std::fmt::Display| format!("berth {}: {error}", args.join(" "));
    let mut child = berth
        .command(args)
        .stderr(Stdio::inherit())
        .spawn()
        .map_err(|error| failed(&error))?;
    let mut out = child
        .stdout
        .take()
        .ok_or_else(|| failed(&"has no output"))?;
    rustix::pipe::fcntl_setpipe_size(&out, PIPE).map_err(|error| failed(&error))?;
    let mut first = [0];
    out.read_exact(&mut first).map_err(|error| failed(&error))?;
    let peak = memory::of(&child.id().to_string(), "VmHWM");
    let mut rest = Vec::new();
    out.read_to_end(&mut rest).map_err(|error| failed(&error))?;
    let status = child.wait().map_err(|error| failed(&error))?;
    if !status.success() {
        return Err(failed(&status));
    }
    if rest.len() < 2 * PIPE {
        return Err(failed(&"writes too little to be looked at while it runs"));
    }
    peak.ok_or_else(|| failed(&"its memory cannot be seen"))
}

/// `berth fake-engine`. It is ended when this is dropped.
struct Engine(Child);

impl Engine {
    fn start(berth: &Berth) -> Result<Self, String> {
        let mut child = berth
            .command(&["fake-engine", "--listen", &berth.endpoint])
            .stderr(Stdio::inherit())
            .spawn()
            .map_err(|error| error.to_string())?;
        let out = child.stdout.take();
        let engine = Self(child);
        // It says where it listens once it does.
        let mut line = String::new();
        let read = out.map(|out| BufReader::new(out).read_line(&mut line));
        if !line.contains(&berth.endpoint) {
            return Err(format!(
                "the fake engine does not start: {line:?}, {read:?}"
            ));
        }
        Ok(engine)
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
