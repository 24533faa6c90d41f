//! `berth fake-engine`, as its users start and end it.

mod cli_support;

use std::os::unix::net::UnixListener;
use std::path::Path;

use cli_support::{Fake, Running, Target, berth, code, exists, stderr, stdout, until};
use rustix::process::Signal;

fn refused(args: &[&str]) -> (i32, String) {
    let mut command = berth(&["fake-engine"]);
    command.args(args);
    let output = Running::start(command).output();
    (code(&output), stderr(&output))
}

#[test]
fn it_serves_until_a_signal_and_leaves_no_socket() {
    for signal in [Signal::INT, Signal::TERM] {
        let mut fake = Fake::start(&[]);
        let output =
            Running::start(berth(&["get", "pods", "--docker-endpoint", &fake.endpoint])).output();
        assert_eq!(code(&output), 0, "{}", stderr(&output));
        assert!(exists(&fake.socket));
        fake.running.signal(signal);
        let status = until("its end", || fake.running.child.try_wait().unwrap());
        assert_eq!(status.code(), Some(0));
        assert!(!exists(&fake.socket));
    }
}

#[test]
fn an_address_in_use_is_refused_and_a_deserted_one_is_taken() {
    let fake = Fake::start(&[]);
    let (code, words) = refused(&["--listen", &fake.endpoint]);
    assert_eq!(code, 1);
    assert!(
        words.contains("another engine serves this socket"),
        "{words}"
    );
    let output =
        Running::start(berth(&["get", "pods", "--docker-endpoint", &fake.endpoint])).output();
    assert!(output.status.success(), "{}", stderr(&output));

    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("old.sock");
    drop(UnixListener::bind(&path).unwrap());
    let endpoint = format!("unix://{}", path.display());
    let mut running = Running::start(berth(&["fake-engine", "--listen", &endpoint]));
    assert!(running.line().contains(&endpoint));
    running.signal(Signal::TERM);
    assert_eq!(self::code(&running.output()), 0);

    let file = dir.path().join("file");
    std::fs::write(&file, "precious").unwrap();
    let (code, words) = refused(&["--listen", &format!("unix://{}", file.display())]);
    assert_eq!(code, 1);
    assert!(words.contains("not a socket"), "{words}");
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "precious");
}

#[test]
fn what_cannot_be_served_is_refused_with_the_reason() {
    let (code, words) = refused(&["--listen", "tcp://127.0.0.1:2375"]);
    assert!(code == 2 && words.contains("unix:///path"), "{words}");
    let (code, words) = refused(&["--listen", "unix:///nonexistent/directory/engine.sock"]);
    assert!(
        code == 1 && words.contains("the directory does not exist"),
        "{words}"
    );
    let (code, words) = refused(&[
        "--listen",
        "unix:///tmp/never.sock",
        "--api-version",
        "1.12",
    ]);
    assert!(
        code == 2 && words.contains("1.12") && words.contains("1.40"),
        "{words}"
    );
    assert!(!exists(Path::new("/tmp/never.sock")));
    let dir = tempfile::tempdir().unwrap();
    let script = dir.path().join("script.json");
    std::fs::write(&script, "[\n  {\"steps\": [\"wait\"],}\n]").unwrap();
    let script = script.display().to_string();
    let (code, words) = refused(&["--listen", "unix:///tmp/never.sock", "--script", &script]);
    assert!(
        code == 2 && words.contains(&format!("{script}:2:")),
        "{words}"
    );
}

#[test]
fn it_speaks_the_api_version_that_was_asked_for() {
    let fake = Fake::start(&["--api-version", "1.44"]);
    let output = Running::start(berth(&["doctor", "--docker-endpoint", &fake.endpoint])).output();
    assert!(
        stdout(&output).contains("1.44 is used"),
        "{}",
        stdout(&output)
    );
}

#[test]
fn the_demos_script_plays_the_demos_parts() {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../dev/demo-fake.json");
    let target = Target::fake_with(&["--script", &script.display().to_string()]);
    let pod = target.pod_running("demo", &["httpd", "-f", "-v", "-p", "80", "-h", "/www"]);
    for command in [
        ["wget", "-q", "-O", "-", "http://127.0.0.1:80/"].as_slice(),
        &["cat", "/www/index.html"],
    ] {
        let output = pod.berth("exec", &[&["--"], command].concat());
        assert_eq!(
            (code(&output), stdout(&output).as_str()),
            (0, "Hello from a pod that berth runs.\n"),
            "{}",
            stderr(&output)
        );
    }
    assert!(stdout(&pod.berth("logs", &[])).contains("scripted web server"));
}
