//! What `berth logs` and `berth exec` do, on whichever engine. Each scenario makes its own pod.

use std::io::{Read as _, Write as _};
use std::process::Stdio;

use rustix::process::Signal;

use super::terminal::{Terminal, same};
use super::{NAMESPACE, Running, Target, code, stderr, stdout, until};

/// Waits until the log of a container has this much, so that a look at it is not too early.
fn logged(pod: &super::Pod<'_>, container: &str, text: &str) {
    until(text, || {
        stdout(&pod.berth("logs", &["-c", container]))
            .contains(text)
            .then_some(())
    });
}

pub(crate) fn names_that_are_wrong_are_told_by_code_and_words(target: &Target) {
    let pod = target.pod("names", &[("zoo", "sleep 1000"), ("app", "sleep 1000")]);
    for verb in ["logs", "exec"] {
        let with = |name: &str, flags: &[&str]| {
            let mut args = vec![verb, name, "-n", NAMESPACE];
            args.extend(flags);
            args.extend(["--", "true"].iter().filter(|_| verb == "exec"));
            target.berth(&args)
        };
        let output = with("nobody", &[]);
        assert_eq!(code(&output), 3);
        assert!(
            stderr(&output).contains("pods \"nobody\" not found\n"),
            "{}",
            stderr(&output)
        );
        assert!(stderr(&output).contains("names"), "{}", stderr(&output));
        let output = with("pod/names", &[]);
        assert_eq!(code(&output), 2);
        assert!(
            stderr(&output).contains("choose one of: [zoo app]"),
            "{}",
            stderr(&output)
        );
        let output = with("names", &["-c", "nothing"]);
        assert_eq!(code(&output), 3);
        assert!(stderr(&output).contains("zoo, app"), "{}", stderr(&output));
        let output = with("service/names", &[]);
        assert_eq!(code(&output), 2);
    }
    let output = target.berth(&["logs", "names", "-n", "default"]);
    assert_eq!(code(&output), 3);
    assert!(
        stderr(&output).contains(&format!("add -n {NAMESPACE}")),
        "{}",
        stderr(&output)
    );
    let output = pod.berth("logs", &["-c", "app", "-p"]);
    assert_eq!(code(&output), 3);
    assert!(
        stderr(&output)
            .contains("previous terminated container \"app\" in pod \"names\" not found"),
        "{}",
        stderr(&output)
    );
}

pub(crate) fn the_default_container_annotation_is_honoured(target: &Target) {
    let annotations = serde_json::json!({"kubectl.kubernetes.io/default-container": "app"});
    let pod = target.pod_with(
        "annotated",
        annotations,
        &[
            ("zoo", "echo zoo; sleep 1000"),
            ("app", "echo app; sleep 1000"),
        ],
    );
    logged(&pod, "app", "app");
    assert_eq!(stdout(&pod.berth("logs", &[])), "app\n");
}

pub(crate) fn bytes_pass_unchanged(target: &Target) {
    let pod = target.pod("bytes", &[("app", r"printf 'a\r\né\000\033[1mc'")]);
    // Text only: the engine's log files are JSON, which has no other bytes.
    let wanted = "a\r\né\0\x1b[1mc".as_bytes();
    let output = until("the whole log", || {
        Some(pod.berth("logs", &["-f"])).filter(|output| !output.stdout.is_empty())
    });
    assert_eq!(
        (code(&output), output.stdout.as_slice()),
        (0, wanted),
        "{}",
        stderr(&output)
    );
    assert_eq!(pod.berth("logs", &[]).stdout, wanted);
}

pub(crate) fn the_instance_before_the_current_one_is_shown(target: &Target) {
    let pod = target.pod("previous", &[("app", "echo first")]);
    logged(&pod, "app", "first");
    target.start_again(&pod, "echo second; sleep 1000");
    logged(&pod, "app", "second");
    assert_eq!(stdout(&pod.berth("logs", &["-p"])), "first\n");
    assert_eq!(stdout(&pod.berth("logs", &[])), "second\n");
}

pub(crate) fn lines_are_chosen_and_marked(target: &Target) {
    let pod = target.pod(
        "lines",
        &[
            ("app", "echo one; echo two >&2; echo three; sleep 1000"),
            ("side", "echo other; sleep 1000"),
        ],
    );
    logged(&pod, "app", "three");
    logged(&pod, "side", "other");
    let logs = |args: &[&str]| {
        let output = pod.berth("logs", args);
        assert_eq!(code(&output), 0, "{}", stderr(&output));
        stdout(&output)
    };
    // Engines keep the outputs in the order they arrived, which is not always that of the writes.
    let mut lines: Vec<String> = logs(&["-c", "app"]).lines().map(str::to_owned).collect();
    lines.sort();
    assert_eq!(lines, ["one", "three", "two"]);
    assert_eq!(logs(&["-c", "app", "--tail", "1"]).lines().count(), 1);
    assert_eq!(logs(&["-c", "app", "--tail", "0"]), "");
    assert_eq!(logs(&["-c", "app", "--since", "1h"]).lines().count(), 3);
    assert_eq!(
        logs(&["-c", "side", "--prefix"]),
        "[pod/lines/side] other\n"
    );
    let all = logs(&["--all-containers", "--prefix"]);
    assert_eq!(all.lines().count(), 4);
    assert!(
        all.starts_with("[pod/lines/app] ") && all.ends_with("[pod/lines/side] other\n"),
        "{all}"
    );
    let stamped = logs(&["-c", "side", "--timestamps"]);
    let (time, rest) = stamped.split_once(' ').unwrap();
    assert_eq!(rest, "other\n");
    // As in 2026-11-23T22:25:00.123456789Z.
    assert!(
        time.len() == 30
            && time.ends_with('Z')
            && time.as_bytes()[10] == b'T'
            && time.as_bytes()[19] == b'.',
        "{time}"
    );
    let output = pod.berth("logs", &["-c", "app", "--tail=-5"]);
    assert_eq!(code(&output), 2);
}

pub(crate) fn a_follow_goes_on_until_the_container_ends(target: &Target) {
    let pod = target.pod(
        "follow",
        &[(
            "app",
            "echo one; while [ ! -e /tmp/go ]; do sleep 0.1; done; echo two; exit 3",
        )],
    );
    let mut follow = Running::start(pod.command("logs", &["-f"]));
    assert_eq!(follow.line(), "one\n");
    assert!(
        pod.berth("exec", &["--", "touch", "/tmp/go"])
            .status
            .success()
    );
    let output = follow.output();
    assert_eq!(
        (code(&output), stdout(&output).as_str()),
        (0, "two\n"),
        "{}",
        stderr(&output)
    );
}

pub(crate) fn several_containers_are_followed_together(target: &Target) {
    // With its newline: engine 20.10 keeps a line without one from those who follow the container to its end.
    let script = |name: &str| {
        format!("echo {name}; while [ ! -e /tmp/go ]; do sleep 0.1; done; echo {name} ends")
    };
    let pod = target.pod("together", &[("a", &script("a")), ("b", &script("b"))]);
    let mut follow = Running::start(pod.command("logs", &["-f", "--all-containers", "--prefix"]));
    let mut first = [follow.line(), follow.line()];
    first.sort();
    assert_eq!(first, ["[pod/together/a] a\n", "[pod/together/b] b\n"]);
    for name in ["b", "a"] {
        assert!(
            pod.berth("exec", &["-c", name, "--", "touch", "/tmp/go"])
                .status
                .success()
        );
        assert_eq!(
            follow.line(),
            format!("[pod/together/{name}] {name} ends\n")
        );
    }
    assert_eq!(code(&follow.output()), 0);
}

pub(crate) fn a_closed_pipe_ends_a_follow_quietly(target: &Target) {
    let pod = target.pod(
        "closed",
        &[("app", "while true; do echo line; sleep 0.05; done")],
    );
    let mut follow = Running::start(pod.command("logs", &["-f"]));
    assert_eq!(follow.line(), "line\n");
    follow.close_output();
    let output = follow.output();
    assert_eq!((code(&output), stderr(&output).as_str()), (0, ""));
}

pub(crate) fn an_interrupt_ends_a_follow(target: &Target) {
    let pod = target.pod("interrupt", &[("app", "echo one; sleep 1000")]);
    let mut follow = Running::start(pod.command("logs", &["-f"]));
    assert_eq!(follow.line(), "one\n");
    follow.signal(Signal::INT);
    let output = follow.output();
    // By the signal itself, which a shell shows as 130.
    assert_eq!(
        std::os::unix::process::ExitStatusExt::signal(&output.status),
        Some(2),
        "{:?}",
        output.status
    );
}

pub(crate) fn an_exec_has_both_outputs_and_the_code(target: &Target) {
    let pod = target.pod("exec", &[("app", "sleep 1000")]);
    let output = pod.berth(
        "exec",
        &["--", "sh", "-c", "echo out; echo err >&2; exit 7"],
    );
    assert_eq!(
        (
            code(&output),
            stdout(&output).as_str(),
            stderr(&output).as_str()
        ),
        (7, "out\n", "err\n")
    );
    let output = pod.berth("exec", &["--", "true"]);
    assert_eq!(
        (code(&output), output.stdout.len(), stderr(&output).as_str()),
        (0, 0, "")
    );
    let output = pod.berth("exec", &["--", "/no/such/program", "--flag"]);
    assert!([126, 127].contains(&code(&output)), "{output:?}");
    assert!(
        output.stdout.is_empty() && stderr(&output).contains("/no/such/program"),
        "{output:?}"
    );
    let output = pod.berth("exec", &["-t", "--", "echo", "plain"]);
    assert_eq!((code(&output), stdout(&output).as_str()), (0, "plain\n"));
    assert!(
        stderr(&output)
            .contains("Unable to use a TTY - input is not a terminal or the right kind of file")
    );
}

pub(crate) fn an_exec_takes_our_input_to_its_end(target: &Target) {
    let pod = target.pod("input", &[("app", "sleep 1000")]);
    // More than every buffer on the way, and no text.
    let sent: Vec<u8> = (0..2_000_000u32)
        .map(|i| u8::try_from((i ^ (i >> 8)) % 256).unwrap())
        .collect();
    let mut command = pod.command("exec", &["-i", "--", "cat"]);
    command.stdin(Stdio::piped());
    let mut running = Running::start(command);
    let (mut input, mut output) = (
        running.child.stdin.take().unwrap(),
        running.child.stdout.take().unwrap(),
    );
    let received = std::thread::scope(|scope| {
        let sent = &sent;
        scope.spawn(move || input.write_all(sent).unwrap());
        let mut received = Vec::new();
        output.read_to_end(&mut received).unwrap();
        received
    });
    assert_eq!(code(&running.output()), 0);
    assert!(
        received == sent,
        "{} of {} bytes came back, or other ones",
        received.len(),
        sent.len()
    );

    // A command that does not wait for the end of its input does not wait for ours.
    let mut command = pod.command("exec", &["-i", "--", "head", "-n", "1"]);
    command.stdin(Stdio::piped());
    let mut running = Running::start(command);
    let mut input = running.child.stdin.take().unwrap();
    input.write_all(b"first\n").unwrap();
    assert_eq!(running.line(), "first\n");
    assert_eq!(code(&running.output()), 0);
    drop(input);
}

pub(crate) fn a_container_that_does_not_run_is_told(target: &Target) {
    let script = "while [ ! -e /tmp/go ]; do sleep 0.1; done; exit 3";
    let pod = target.pod("ended", &[("app", script)]);
    let output = pod.berth("exec", &["--", "touch", "/tmp/go"]);
    assert!(output.status.success(), "{}", stderr(&output));
    let expected =
        "container \"app\" in pod \"ended\" is not running: it has ended with exit code 3";
    // One that ends while the command is being started is told in the engine's words.
    until("the container's end is told", || {
        let output = pod.berth("exec", &["--", "true"]);
        (code(&output) == 1 && stderr(&output).contains(expected)).then_some(())
    });
}

pub(crate) fn a_terminal_is_raw_during_the_command_and_restored_after_it(target: &Target) {
    let pod = target.pod("terminal", &[("app", "sleep 1000")]);
    let terminal = Terminal::open(33, 101);
    let before = terminal.modes();
    assert!(!terminal.is_raw());
    let start = |script: &str| {
        let mut command = pod.command("exec", &["-i", "-t", "--", "sh", "-c", script]);
        command
            .stdin(terminal.end())
            .stdout(terminal.end())
            .stderr(terminal.end());
        Running::start(command)
    };
    let running = start("echo ready; read x; echo got $x; exit 9");
    terminal.wait_for("ready");
    assert!(terminal.is_raw());
    terminal.types(b"keys\n");
    terminal.wait_for("got keys");
    assert_eq!(code(&running.output()), 9);
    assert!(same(&terminal.modes(), &before));

    let running = start("echo again; sleep 1000");
    terminal.wait_for("again");
    assert!(terminal.is_raw());
    running.signal(Signal::TERM);
    assert_eq!(code(&running.output()), 128 + 15);
    assert!(same(&terminal.modes(), &before));
}

pub(crate) fn the_commands_terminal_has_the_size_of_ours(target: &Target) {
    let pod = target.pod("size", &[("app", "sleep 1000")]);
    let terminal = Terminal::open(33, 101);
    let mut command = pod.command("exec", &["-it", "--", "sh", "-c", "until stty size | grep 101; do sleep 0.1; done; until stty size | grep 77; do sleep 0.1; done"]);
    command
        .stdin(terminal.end())
        .stdout(terminal.end())
        .stderr(terminal.end());
    let running = Running::start(command);
    terminal.wait_for("33 101");
    terminal.resize(22, 77);
    // The terminal is not the program's controlling one, whose change the kernel would tell it.
    running.signal(Signal::WINCH);
    terminal.wait_for("22 77");
    assert_eq!(code(&running.output()), 0);
}
