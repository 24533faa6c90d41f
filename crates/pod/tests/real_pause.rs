//! The pause image on a real engine: it can be loaded, and its process does its duties as PID 1.
//!
//! Speaks to the engine over a bare socket, so that nothing but the image is under test. The image stays on
//! the engine afterwards: tests beside this one may be running pods on it.

#![cfg(all(
    target_os = "linux",
    any(target_arch = "x86_64", target_arch = "aarch64")
))]

use std::env;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use berth_pod::pause::PauseImage;
use serde_json::{Value, json};

/// The shell image that `dev/sample-image` makes.
const SAMPLE_IMAGE: &str = "berth.local/demo:1";

/// For one call: far more than a busy machine needs.
const LIMIT: Duration = Duration::from_secs(60);

/// The engine that `BERTH_TEST_ENGINE` names; only CI may not go without.
fn engine() -> Option<Engine> {
    let Ok(endpoint) = env::var("BERTH_TEST_ENGINE") else {
        assert!(
            env::var_os("CI").is_none(),
            "BERTH_TEST_ENGINE is not set; dev/test sets it"
        );
        eprintln!("skipped: BERTH_TEST_ENGINE names no engine");
        return None;
    };
    let socket = endpoint
        .strip_prefix("unix://")
        .expect("BERTH_TEST_ENGINE is a unix:// endpoint");
    Some(Engine {
        socket: socket.to_owned(),
    })
}

struct Engine {
    socket: String,
}

impl Engine {
    /// One HTTP/1.0 exchange, whose reply ends where the connection does.
    fn call(&self, method: &str, path: &str, kind: &str, body: &[u8]) -> (u16, Vec<u8>) {
        let mut socket = UnixStream::connect(&self.socket).expect("the engine listens");
        socket
            .set_read_timeout(Some(LIMIT))
            .expect("a time-out above zero");
        let length = body.len();
        let head = format!(
            "{method} {path} HTTP/1.0\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\n\r\n"
        );
        socket
            .write_all(head.as_bytes())
            .expect("the engine reads the head");
        socket.write_all(body).expect("the engine reads the body");
        let mut reply = Vec::new();
        socket
            .read_to_end(&mut reply)
            .unwrap_or_else(|error| panic!("{method} {path}: {error}"));
        let end = reply
            .windows(4)
            .position(|bytes| bytes == b"\r\n\r\n")
            .expect("a whole head");
        let status = str::from_utf8(&reply[9..12])
            .expect("digits")
            .parse()
            .expect("a status");
        (status, reply.split_off(end + 4))
    }

    /// A call that has to succeed; `Null` is no body. An engine that does not expect a body would leave it
    /// unread, and its close would then throw away the reply.
    fn json(&self, method: &str, path: &str, body: &Value) -> Value {
        let body = if body.is_null() {
            String::new()
        } else {
            body.to_string()
        };
        let (status, reply) = self.call(method, path, "application/json", body.as_bytes());
        let text = String::from_utf8_lossy(&reply);
        assert!(
            (200..300).contains(&status),
            "{method} {path}: {status} {text}"
        );
        serde_json::from_slice(&reply).unwrap_or(Value::Null)
    }

    fn inspect(&self, path: &str) -> Value {
        self.json("GET", path, &Value::Null)
    }

    fn load(&self, image: &PauseImage) {
        let (status, reply) = self.call(
            "POST",
            "/images/load",
            "application/x-tar",
            &image.archive(),
        );
        let text = String::from_utf8_lossy(&reply);
        assert!(status == 200 && !text.contains("error"), "{status} {text}");
    }

    fn start(&self, purpose: &str, config: &Value) -> Container<'_> {
        let name = format!("berth-test-{purpose}-{}", std::process::id());
        let container = Container { engine: self, name };
        self.json(
            "POST",
            &format!("/containers/create?name={}", container.name),
            config,
        );
        self.json("POST", &container.path("/start"), &Value::Null);
        container
    }
}

/// A container that does not outlive its test.
struct Container<'a> {
    engine: &'a Engine,
    name: String,
}

impl Container<'_> {
    fn path(&self, rest: &str) -> String {
        format!("/containers/{}{rest}", self.name)
    }

    fn state(&self) -> Value {
        self.engine.inspect(&self.path("/json"))["State"].take()
    }
}

impl Drop for Container<'_> {
    fn drop(&mut self) {
        let path = self.path("?force=true&v=true");
        let (status, _) = self.engine.call("DELETE", &path, "application/json", b"");
        if !matches!(status, 204 | 404) && !std::thread::panicking() {
            panic!("DELETE {path}: {status}");
        }
    }
}

#[test]
fn the_archive_can_be_loaded_and_found_by_its_name() {
    let Some(engine) = engine() else { return };
    let image = PauseImage::built_in().unwrap();
    engine.load(&image);
    // A second load of the same bytes is no error: two berths may find the image absent at once.
    engine.load(&image);

    let found = engine.inspect(&format!("/images/{}/json", image.name()));
    assert_eq!(found["Os"], "linux");
    assert_eq!(found["Config"]["User"], "65535:65535");
    assert_eq!(found["Config"]["Entrypoint"], json!(["/pause"]));
}

#[test]
fn as_pid_1_it_ignores_signals_and_stops_at_once() {
    let Some(engine) = engine() else { return };
    let image = PauseImage::built_in().unwrap();
    engine.load(&image);

    let pause = engine.start("pause", &json!({ "Image": image.name() }));
    for signal in ["SIGHUP", "SIGUSR1", "SIGCHLD"] {
        engine.json(
            "POST",
            &pause.path(&format!("/kill?signal={signal}")),
            &Value::Null,
        );
    }
    assert_eq!(pause.state()["Running"], true);

    let began = Instant::now();
    engine.json("POST", &pause.path("/stop?t=50"), &Value::Null);
    assert!(
        began.elapsed() < Duration::from_secs(25),
        "it was killed rather than stopped"
    );
    assert_eq!(pause.state()["ExitCode"], 0);
}

#[test]
fn as_pid_1_it_reaps_the_orphans_of_the_pod() {
    let Some(engine) = engine() else { return };
    let image = PauseImage::built_in().unwrap();
    engine.load(&image);

    let pause = engine.start("reaper", &json!({ "Image": image.name() }));
    // Each substitution leaves an orphan behind that ends at once. While nobody reaps it, it stays in /proc
    // and the script goes on waiting.
    let script = "for i in 1 2 3; do
        orphan=$( (sh -c 'echo $$' &) )
        [ -n \"$orphan\" ] || exit 1
        while [ -d /proc/$orphan ]; do sleep 0.05; done
    done";
    let shell = engine.start(
        "orphans",
        &json!({
            "Image": SAMPLE_IMAGE,
            "Cmd": ["sh", "-c", script],
            "HostConfig": { "PidMode": format!("container:{}", pause.name) },
        }),
    );
    let ended = engine.json("POST", &shell.path("/wait"), &Value::Null);
    assert_eq!(ended["StatusCode"], 0);
}
