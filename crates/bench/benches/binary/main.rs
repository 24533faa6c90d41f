//! `cargo bench -p berth-bench --bench binary [-- NAME…]`: the program as its users have it, a release build, which
//! `cargo build --release -p berth` makes. See docs/performance.md.

use std::path::PathBuf;
use std::process::{Command, ExitCode, Output, Stdio};

use berth_bench::engine::IMAGE;
use berth_bench::suite::{self, Bench};
use serde_json::{Value, json};

mod get;
mod run;

const BENCHES: [Bench; 2] = [("run", run::run), ("get", get::run)];

fn main() -> ExitCode {
    match tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
    {
        Ok(runtime) => suite::run(&runtime, std::env::args().skip(1).collect(), &BENCHES),
        Err(error) => {
            eprintln!("there is no runtime: {error}");
            ExitCode::from(2)
        }
    }
}

/// berth, and the engine that it is to use.
struct Berth {
    program: PathBuf,
    endpoint: String,
}

impl Berth {
    /// The release build in the directory that this bench was built into.
    fn built(endpoint: String) -> Result<Self, String> {
        let bench = std::env::current_exe().map_err(|error| error.to_string())?;
        let program = bench
            .ancestors()
            .nth(2)
            .map(|dir| dir.join("berth"))
            .unwrap_or_default();
        if !program.is_file() {
            return Err(format!(
                "there is no {}: cargo build --release -p berth makes it",
                program.display()
            ));
        }
        Ok(Self { program, endpoint })
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        command
            .args(["--docker-endpoint", &self.endpoint])
            .args(args)
            .env_remove("DOCKER_API_VERSION")
            .env_remove("BERTH_LOG")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    /// Runs a command to its end, which has to be a good one.
    fn run(&self, args: &[&str]) -> Result<Output, String> {
        let output = self
            .command(args)
            .output()
            .map_err(|error| error.to_string())?;
        if output.status.success() {
            return Ok(output);
        }
        let said = String::from_utf8_lossy(&output.stderr);
        Err(format!(
            "berth {} ended with {}: {said}",
            args.join(" "),
            output.status
        ))
    }
}

/// A pod of one container that does nothing.
fn manifest(name: &str) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name},
        "spec": {
            "terminationGracePeriodSeconds": 0,
            "containers": [{
                "name": "app",
                "image": IMAGE,
                "imagePullPolicy": "IfNotPresent",
                "command": ["sleep", "3600"],
            }],
        },
    })
}
