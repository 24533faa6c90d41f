//! What the process behind a socket uses, by what the kernel says of it.

use std::fs;
use std::path::Path;
use std::time::Duration;

use tokio::net::UnixStream;

/// Of `utime` and `stime`: a hundredth of a second on every Linux (`USER_HZ`).
const TICK: Duration = Duration::from_millis(10);

/// A server and those of its children that do its work: dockerd's containerd.
#[derive(Debug, Clone)]
pub(crate) struct Process(Vec<u32>);

impl Process {
    /// That which listens on a unix socket, if it can be seen from here.
    pub(crate) async fn behind(socket: &Path) -> Option<Self> {
        let stream = UnixStream::connect(socket).await.ok()?;
        let own = u32::try_from(stream.peer_cred().ok()?.pid()?).ok()?;
        stat(own)?;
        let mut all = vec![own];
        for entry in fs::read_dir("/proc").ok()? {
            let name = entry.ok()?.file_name();
            let Some(pid) = name.to_str().and_then(|name| name.parse().ok()) else {
                continue;
            };
            if let Some((name, fields)) = stat(pid)
                && name == "containerd"
                && fields.get(1) == Some(&own.to_string())
            {
                all.push(pid);
            }
        }
        Some(Self(all))
    }

    /// The time on a CPU since its start.
    pub(crate) fn cpu(&self) -> Duration {
        // Fields 14 and 15 of the file, where the state is the third.
        let ticks = |pid: &u32| -> u32 {
            let fields = stat(*pid).map(|(_, fields)| fields).unwrap_or_default();
            fields[11..13]
                .iter()
                .map(|time| time.parse::<u32>().unwrap())
                .sum()
        };
        TICK * self.0.iter().map(ticks).sum()
    }

    /// Its resident memory, in KiB.
    pub(crate) fn resident(&self) -> u64 {
        let of = |pid: &u32| -> u64 {
            let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
            let line = status.lines().find(|line| line.starts_with("VmRSS:"));
            let number = line.unwrap().split_whitespace().nth(1).unwrap();
            number.parse().unwrap()
        };
        self.0.iter().map(of).sum()
    }

    /// How many descriptors it has.
    pub(crate) fn descriptors(&self) -> usize {
        let of = |pid: &u32| fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count();
        self.0.iter().map(of).sum()
    }
}

/// A process's name and the fields behind it, from its state on.
fn stat(pid: u32) -> Option<(String, Vec<String>)> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (before, after) = stat.rsplit_once(')')?;
    let name = before.split_once('(')?.1.to_owned();
    Some((name, after.split_whitespace().map(str::to_owned).collect()))
}
