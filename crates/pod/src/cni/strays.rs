//! Plugins that outlived the berth that ran them: found by their environment, and ended.
//!
//! A berth that is killed in the middle of an `ADD` leaves the plugin running. A `DEL` beside it could free what is only then taken.

use std::fs::{self, File};
use std::io::{self, Read as _};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

/// How long a killed process may take to go. It is in the kernel then, as a rule for milliseconds.
const PATIENCE: Duration = Duration::from_secs(10);
const INTERVAL: Duration = Duration::from_millis(5);

/// The most that is read of an environment, in bytes; what is looked for is among the first few variables.
const MAX_ENVIRONMENT: u64 = 64 * 1024;

/// Kills what still adds a sandbox to a network, and waits until it is gone.
///
/// # Errors
/// When `/proc` cannot be read, or a process does not go.
pub(super) async fn end(sandbox: &str) -> io::Result<()> {
    let wanted = [
        "CNI_COMMAND=ADD".to_owned(),
        format!("CNI_CONTAINERID={sandbox}"),
    ];
    let began = tokio::time::Instant::now();
    loop {
        let strays = find(&wanted)?;
        if strays.is_empty() {
            return Ok(());
        }
        if began.elapsed() > PATIENCE {
            return Err(io::Error::new(
                io::ErrorKind::TimedOut,
                format!("CNI plugins of an earlier start do not end: processes {strays:?}"),
            ));
        }
        for pid in strays {
            tracing::info!(process = %pid, %sandbox, "ending a CNI plugin that outlived the berth that ran it");
            // It may be gone by now.
            let _ = kill_process(pid, Signal::KILL);
        }
        tokio::time::sleep(INTERVAL).await;
    }
}

/// The processes whose environment has both variables. One that is dying has none any more.
fn find(wanted: &[String; 2]) -> io::Result<Vec<Pid>> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc")? {
        let Ok(entry) = entry else { continue };
        let name = entry.file_name();
        let Some(pid) = name.to_str().and_then(|name| name.parse().ok()) else {
            continue;
        };
        let mut environment = Vec::new();
        // Others' processes cannot be read unless we are root; they are not ours then.
        let read = File::open(entry.path().join("environ"))
            .and_then(|file| file.take(MAX_ENVIRONMENT).read_to_end(&mut environment));
        let has = |wanted: &String| {
            environment
                .split(|byte| *byte == 0)
                .any(|variable| variable == wanted.as_bytes())
        };
        if read.is_ok() && wanted.iter().all(has) {
            found.extend(Pid::from_raw(pid));
        }
    }
    Ok(found)
}
