//! The pause executable as a process of this host: what it does about signals and about dead children.
//! Its life as PID 1 of a container is in `real_pause.rs`.

#![cfg(all(
    target_os = "linux",
    any(target_arch = "x86_64", target_arch = "aarch64")
))]

use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

const PAUSE: &str = concat!(env!("OUT_DIR"), "/pause");

/// Far more than a busy machine needs, and short enough to notice a hang.
const LIMIT: Duration = Duration::from_secs(20);

/// A process that does not outlive its test.
struct Process(Child);

impl Process {
    fn start(command: &mut Command) -> Self {
        Self(command.spawn().expect("the process starts"))
    }

    fn pause() -> Self {
        let process = Self::start(&mut Command::new(PAUSE));
        process.wait_until_it_waits();
        process
    }

    /// Returns when the process is a pause asleep: it sleeps nowhere but in its wait for signals, which comes
    /// after it has blocked them.
    fn wait_until_it_waits(&self) {
        eventually("pause waits for a signal", || {
            (self.stat()? == ("pause".into(), 'S')).then_some(())
        });
    }

    /// The process's name and state, as the kernel lists them.
    fn stat(&self) -> Option<(String, char)> {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.0.id())).ok()?;
        let (name, rest) = stat.split_once('(')?.1.rsplit_once(") ")?;
        Some((name.into(), rest.chars().next()?))
    }

    fn send(&self, signal: Signal) {
        let pid = Pid::from_child(&self.0);
        kill_process(pid, signal).expect("the signal can be sent");
    }

    fn end(&mut self) -> ExitStatus {
        eventually("the process ends", || {
            self.0.try_wait().expect("a child of ours")
        })
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Both fail only when the process is gone already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn eventually<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(value) = look() {
            return value;
        }
        assert!(start.elapsed() < LIMIT, "not within {LIMIT:?}: {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

#[test]
fn sigterm_and_sigint_end_it_with_success() {
    for signal in [Signal::TERM, Signal::INT] {
        let mut pause = Process::pause();
        pause.send(signal);
        let status = pause.end();
        assert_eq!(
            (status.code(), status.signal()),
            (Some(0), None),
            "after {signal:?}"
        );
    }
}

#[test]
fn other_signals_are_ignored() {
    let mut pause = Process::pause();
    for signal in [
        Signal::HUP,
        Signal::QUIT,
        Signal::USR1,
        Signal::USR2,
        Signal::ALARM,
        Signal::PIPE,
        Signal::CHILD,
    ] {
        pause.send(signal);
    }
    // Had one of them ended it, the status would name that signal.
    pause.send(Signal::TERM);
    let status = pause.end();
    assert_eq!((status.code(), status.signal()), (Some(0), None));
}

#[test]
fn a_stop_and_a_continue_leave_it_waiting() {
    let mut pause = Process::pause();
    pause.send(Signal::STOP);
    eventually("it is stopped", || (pause.stat()?.1 == 'T').then_some(()));
    pause.send(Signal::CONT);
    pause.wait_until_it_waits();

    pause.send(Signal::TERM);
    assert_eq!(pause.end().code(), Some(0));
}

#[test]
fn dead_children_are_reaped() {
    // The shell's children become pause's children, as orphans of a pod do. Each tells its number and then
    // lives until its standard input ends.
    let script = r#"
        exec 3<&0
        for child in 1 2 3; do sh -c 'echo $$; read line' <&3 & done
        exec "$0" <&- 3<&-
    "#;
    let mut pause = Process::start(
        Command::new("sh")
            .args(["-c", script, PAUSE])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped()),
    );
    let output = BufReader::new(pause.0.stdout.take().expect("it is piped"));
    let children: Vec<String> = output
        .lines()
        .take(3)
        .map(|line| line.expect("a line"))
        .collect();
    pause.wait_until_it_waits();
    for child in &children {
        let status = fs::read_to_string(format!("/proc/{child}/status")).expect("the child lives");
        let parent = format!("PPid:\t{}\n", pause.0.id());
        assert!(status.contains(&parent), "{status}");
    }

    drop(pause.0.stdin.take());
    // A dead child that nobody has waited for would still be listed.
    for child in &children {
        eventually("the child is gone", || {
            let listed = fs::exists(format!("/proc/{child}")).expect("/proc is readable");
            (!listed).then_some(())
        });
    }
    let ended = pause.0.try_wait().expect("a child of ours");
    assert!(ended.is_none(), "pause ended with its children: {ended:?}");
    pause.send(Signal::TERM);
    assert_eq!(pause.end().code(), Some(0));
}
