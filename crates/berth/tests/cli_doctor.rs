//! `berth doctor`, as a script and as a person see it.

#![allow(clippy::unwrap_used, reason = "a test's helpers fail the test")]

mod cli_support;

use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixListener;

use cli_support::{Running, Target, berth, code, stderr, stdout};

fn report(endpoint: &str, flags: &[&str]) -> (i32, serde_json::Value) {
    let mut command = berth(&["doctor", "-o", "json", "--docker-endpoint", endpoint]);
    command.args(flags);
    let output = Running::start(command).output();
    assert_eq!(stderr(&output), "");
    (
        code(&output),
        serde_json::from_str(&stdout(&output)).unwrap(),
    )
}

fn check<'a>(report: &'a serde_json::Value, name: &str) -> &'a serde_json::Value {
    report["checks"]
        .as_array()
        .unwrap()
        .iter()
        .find(|check| check["name"] == name)
        .unwrap()
}

#[test]
fn an_engine_that_answers_is_looked_at_in_full() {
    let target = Target::fake();
    let (code, report) = report(&target.endpoint, &[]);
    assert_eq!(code, i32::from(report["problems"] != 0), "{report:#}");
    for name in [
        "engine",
        "API version",
        "platform",
        "cgroups",
        "limits",
        "storage driver",
        "log driver",
        "log size",
        "disk",
        "oom_score_adj",
        "network",
        "clock",
        "live restore",
    ] {
        check(&report, name);
    }
    // The fake claims a host of its own: nothing of this one may be passed off as its.
    assert_eq!(check(&report, "disk")["level"], "unknown");
    let output = target.berth(&["doctor"]);
    let text = stdout(&output);
    assert!(
        text.contains("engine") && text.trim_end().ends_with("unknown") && !text.contains('\x1b'),
        "{text}"
    );
}

#[test]
fn an_engine_that_is_not_there_has_a_code_of_its_own() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("none.sock");
    let endpoint = format!("unix://{}", path.display());
    let (code, missing) = report(&endpoint, &[]);
    assert_eq!((code, missing["problems"].as_u64()), (5, Some(1)));
    assert!(
        check(&missing, "engine")["finding"]
            .as_str()
            .unwrap()
            .starts_with("there is no socket at ")
    );

    // A socket whose engine has gone.
    drop(UnixListener::bind(&path).unwrap());
    let (code, deserted) = report(&endpoint, &[]);
    assert_eq!(code, 5);
    assert!(
        check(&deserted, "engine")["finding"]
            .as_str()
            .unwrap()
            .starts_with("nobody listens at "),
        "{deserted:#}"
    );

    std::fs::remove_file(&path).unwrap();
    std::fs::write(&path, "").unwrap();
    let (code, file) = report(&endpoint, &[]);
    assert_eq!(code, 5);
    assert!(
        check(&file, "engine")["finding"]
            .as_str()
            .unwrap()
            .contains("is no socket"),
        "{file:#}"
    );
}

#[test]
fn the_variable_that_names_the_endpoint_is_named() {
    let mut command = berth(&["doctor"]);
    command.env("DOCKER_HOST", "unix:///nonexistent/docker.sock");
    let output = Running::start(command).output();
    assert_eq!(code(&output), 5);
    let text = stdout(&output);
    assert!(
        text.contains("no socket at unix:///nonexistent/docker.sock (from DOCKER_HOST)"),
        "{text}"
    );
    assert!(
        text.contains("the endpoint comes from DOCKER_HOST"),
        "{text}"
    );

    let output =
        Running::start(berth(&["doctor", "--docker-endpoint", "ftp://somewhere"])).output();
    assert_eq!(code(&output), 2);
    assert!(
        stderr(&output).contains("--docker-endpoint"),
        "{}",
        stderr(&output)
    );
}

/// Serves one connection after the other with the same answer; `None` reads and stays silent.
fn server(answer: Option<&'static str>) -> (tempfile::TempDir, String) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("other.sock");
    let listener = UnixListener::bind(&path).unwrap();
    std::thread::spawn(move || {
        let mut silent = Vec::new();
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            match answer {
                Some(answer) => {
                    let _ = stream.read(&mut [0; 4096]);
                    let _ = stream.write_all(answer.as_bytes());
                }
                None => silent.push(stream),
            }
        }
    });
    (dir, format!("unix://{}", path.display()))
}

#[test]
fn what_is_no_engine_is_not_taken_for_one() {
    for answer in [
        "SSH-2.0-OpenSSH_9.2\r\n",
        "HTTP/1.1 500 Internal Server Error\r\nContent-Length: 4\r\n\r\noops",
    ] {
        let (_dir, endpoint) = server(Some(answer));
        let (code, report) = report(&endpoint, &[]);
        assert_eq!(code, 5, "{report:#}");
        assert!(
            check(&report, "engine")["finding"]
                .as_str()
                .unwrap()
                .contains("does not answer as an engine does"),
            "{report:#}"
        );
    }
}

#[test]
fn an_engine_that_hangs_is_told_from_one_that_is_not_there() {
    let (_dir, endpoint) = server(None);
    let (code, report) = report(&endpoint, &["--runtime-request-timeout", "300ms"]);
    assert_eq!(code, 5);
    assert!(
        check(&report, "engine")["finding"]
            .as_str()
            .unwrap()
            .contains("300ms"),
        "{report:#}"
    );
}
