//! `berth fake-engine`, as its users start and end it.

mod cli_support;

use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::{Command, Stdio};

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

/// The docker command of this machine, told to use the fake engine.
fn docker(fake: &Fake, args: &[&str]) -> Command {
    let mut command = Command::new("docker");
    command
        .args(["-H", &fake.endpoint])
        .args(args)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    // Nothing of the user's: no context, no proxies, no credentials.
    command.env("DOCKER_CONFIG", fake.socket.with_file_name(""));
    for name in ["DOCKER_HOST", "DOCKER_CONTEXT", "DOCKER_API_VERSION"] {
        command.env_remove(name);
    }
    command
}

fn said(fake: &Fake, args: &[&str]) -> String {
    let output = Running::start(docker(fake, args)).output();
    assert!(output.status.success(), "{args:?}: {}", stderr(&output));
    stdout(&output)
}

#[test]
fn the_docker_command_works_on_it() {
    if Command::new("docker").arg("--version").output().is_err() {
        assert!(
            std::env::var_os("CI").is_none(),
            "the docker command must be there in CI"
        );
        eprintln!("skipped: there is no docker command");
        return;
    }
    for version in ["1.41", "1.47", "1.55"] {
        let fake = Fake::start(&["--api-version", version]);
        let mut events = Running::start(docker(
            &fake,
            &["events", "--since", "1h", "--format", "{{.Action}}"],
        ));
        assert!(said(&fake, &["version"]).contains(version));
        said(&fake, &["pull", "example.test/web:1"]);
        let script = "echo hello; sleep 600";
        let id = said(
            &fake,
            &[
                "run",
                "-d",
                "--name",
                "web",
                "example.test/web:1",
                "sh",
                "-c",
                script,
            ],
        );
        let rows = said(
            &fake,
            &["ps", "--format", "{{.Names}} {{.Image}} {{.State}}"],
        );
        assert_eq!(rows, "web example.test/web:1 running\n");
        let mut logs = Running::start(docker(&fake, &["logs", "-f", "web"]));
        assert_eq!(logs.line().trim(), "hello");
        assert_eq!(said(&fake, &["exec", "web", "echo", "within"]), "within\n");
        let failing = docker(&fake, &["exec", "web", "sh", "-c", "exit 3"]);
        assert_eq!(code(&Running::start(failing).output()), 3);
        let state = said(
            &fake,
            &["inspect", "--format", "{{.State.Status}}", id.trim()],
        );
        assert_eq!(state, "running\n");
        said(&fake, &["stop", "-t", "0", "web"]);
        let end = until("the end of the log", || logs.child.try_wait().unwrap());
        assert!(end.success(), "{end}");
        said(&fake, &["rm", "web"]);
        assert_eq!(said(&fake, &["ps", "-aq"]), "");
        said(&fake, &["rmi", "example.test/web:1"]);
        let mut told = Vec::new();
        while told.last().is_none_or(|action| action != "delete") {
            let line = events.line();
            assert!(!line.is_empty(), "the events ended after {told:?}");
            told.push(line.trim().to_owned());
        }
        for action in ["pull", "create", "start", "die", "destroy", "untag"] {
            assert!(told.iter().any(|one| one == action), "{action}: {told:?}");
        }
        events.signal(Signal::INT);
    }
}
