//! A client as small as can be: one connection per request, replies whole, streams as bytes.

use berth_fake_engine::FakeEngine;
use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::{HeaderMap, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};

pub(crate) struct Reply {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Reply {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|e| panic!("{e}: {:?}", self.body))
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub(crate) fn message(&self) -> String {
        self.json()["message"]
            .as_str()
            .unwrap_or_default()
            .to_owned()
    }

    /// The values of a stream of JSON.
    pub(crate) fn values(&self) -> Vec<Value> {
        serde_json::Deserializer::from_slice(&self.body)
            .into_iter()
            .map(Result::unwrap)
            .collect()
    }

    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers
            .get(name)
            .map(|v| v.to_str().unwrap())
            .unwrap_or_default()
    }
}

/// Sends a request and gives the reply with its body still to come.
pub(crate) async fn open(
    engine: &FakeEngine,
    request: Request<Full<Bytes>>,
) -> hyper::Result<Response<Incoming>> {
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(engine.connect())).await?;
    tokio::spawn(connection);
    sender.send_request(request).await
}

pub(crate) fn request(method: &str, path: &str, body: Option<Value>) -> Request<Full<Bytes>> {
    // Filters are written in the tests as JSON; a URI takes only some of its characters.
    let path: String = path
        .chars()
        .map(|c| {
            if "{}[]\"^<>\\ ".contains(c) {
                format!("%{:02X}", u32::from(c))
            } else {
                c.to_string()
            }
        })
        .collect();
    let builder = Request::builder()
        .method(method)
        .uri(path)
        .header("host", "docker");
    match body {
        Some(body) => builder
            .header("content-type", "application/json")
            .body(Full::from(body.to_string()))
            .unwrap(),
        None => builder.body(Full::default()).unwrap(),
    }
}

pub(crate) async fn send(
    engine: &FakeEngine,
    request: Request<Full<Bytes>>,
) -> hyper::Result<Reply> {
    let response = open(engine, request).await?;
    let (head, body) = response.into_parts();
    Ok(Reply {
        status: head.status,
        headers: head.headers,
        body: body.collect().await?.to_bytes(),
    })
}

pub(crate) async fn call(
    engine: &FakeEngine,
    method: &str,
    path: &str,
    body: Option<Value>,
) -> Reply {
    send(engine, request(method, path, body)).await.unwrap()
}

pub(crate) async fn get(engine: &FakeEngine, path: &str) -> Reply {
    call(engine, "GET", path, None).await
}

pub(crate) async fn post(engine: &FakeEngine, path: &str, body: Value) -> Reply {
    call(engine, "POST", path, Some(body)).await
}

/// A request without a body that must succeed.
pub(crate) async fn act(engine: &FakeEngine, method: &str, path: &str) -> Reply {
    let reply = call(engine, method, path, None).await;
    assert!(
        reply.status.is_success(),
        "{method} {path}: {} {}",
        reply.status,
        reply.text()
    );
    reply
}

pub(crate) fn engine() -> FakeEngine {
    FakeEngine::builder().image("busybox").build().unwrap()
}

/// Creates a container of busybox and gives its id.
pub(crate) async fn create(engine: &FakeEngine, name: &str, mut body: Value) -> String {
    if body["Image"].is_null() {
        body["Image"] = json!("busybox");
    }
    let reply = post(engine, &format!("/containers/create?name={name}"), body).await;
    assert_eq!(reply.status, StatusCode::CREATED, "{}", reply.text());
    reply.json()["Id"].as_str().unwrap().to_owned()
}

/// Creates and starts a container that runs a shell script.
pub(crate) async fn run(engine: &FakeEngine, name: &str, script: &str) -> String {
    let id = create(engine, name, json!({ "Cmd": ["sh", "-c", script] })).await;
    act(engine, "POST", &format!("/containers/{id}/start")).await;
    id
}

/// Waits for a container's exit code.
pub(crate) async fn wait(engine: &FakeEngine, id: &str) -> i64 {
    act(engine, "POST", &format!("/containers/{id}/wait"))
        .await
        .json()["StatusCode"]
        .as_i64()
        .unwrap()
}

pub(crate) async fn inspect(engine: &FakeEngine, id: &str) -> Value {
    get(engine, &format!("/containers/{id}/json")).await.json()
}

/// Runs a shell script to its end and gives its exit code, stdout and stderr.
pub(crate) async fn output(engine: &FakeEngine, script: &str) -> (i64, String, String) {
    let id = run(engine, "", script).await;
    let code = wait(engine, &id).await;
    let logs = get(engine, &format!("/containers/{id}/logs?stdout=1&stderr=1")).await;
    let (stdout, stderr) = split(&logs.body);
    (code, stdout, stderr)
}

/// The frames of a multiplexed stream; panics on a cut one.
pub(crate) fn frames(mut bytes: &[u8]) -> Vec<(u8, String)> {
    let mut frames = Vec::new();
    while !bytes.is_empty() {
        let length = u32::from_be_bytes(bytes[4..8].try_into().unwrap()) as usize;
        frames.push((
            bytes[0],
            String::from_utf8_lossy(&bytes[8..8 + length]).into_owned(),
        ));
        bytes = &bytes[8 + length..];
    }
    frames
}

pub(crate) fn split(bytes: &[u8]) -> (String, String) {
    let of = |stream| {
        frames(bytes)
            .into_iter()
            .filter(|f| f.0 == stream)
            .map(|f| f.1)
            .collect()
    };
    (of(1), of(2))
}

/// Sends raw bytes on a new connection.
pub(crate) async fn raw(engine: &FakeEngine, bytes: &str) -> DuplexStream {
    let mut stream = engine.connect();
    stream.write_all(bytes.as_bytes()).await.unwrap();
    stream
}

/// A `POST` that asks for an upgrade, and the connection after the reply's head.
pub(crate) async fn hijack(
    engine: &FakeEngine,
    path: &str,
    body: &str,
    upgrade: bool,
) -> (String, DuplexStream) {
    let upgrade = if upgrade {
        "Connection: Upgrade\r\nUpgrade: tcp\r\n"
    } else {
        ""
    };
    let head = format!(
        "POST {path} HTTP/1.1\r\nHost: docker\r\n{upgrade}Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    let mut stream = raw(engine, &head).await;
    let head = read_head(&mut stream).await;
    (head, stream)
}

pub(crate) async fn read_head(stream: &mut DuplexStream) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        assert_eq!(
            stream.read(&mut byte).await.unwrap(),
            1,
            "end within the head: {:?}",
            String::from_utf8_lossy(&head)
        );
        head.push(byte[0]);
    }
    String::from_utf8(head).unwrap()
}

pub(crate) async fn rest(stream: &mut DuplexStream) -> Vec<u8> {
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).await.unwrap();
    bytes
}
