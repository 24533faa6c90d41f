//! An engine that says what it is told to: it reads one request, records it and answers with canned bytes.
//!
//! It knows HTTP only as far as it has to find the end of a request. Pings are answered by themselves, with the API
//! version the test chose, and are not recorded.

#![allow(dead_code, reason = "each test file uses its own part")]

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use berth_docker::{ConnectOptions, Docker};
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};

/// A request as it came.
#[derive(Clone, Debug)]
pub(crate) struct Recorded {
    /// Method and target, as in `GET /v1.44/info`.
    pub(crate) line: String,
    /// The head without its first line.
    pub(crate) fields: String,
    /// The body, out of its chunks.
    pub(crate) body: Vec<u8>,
}

impl Recorded {
    /// The value of a header field; the name in lower case.
    pub(crate) fn field(&self, name: &str) -> Option<&str> {
        self.fields.lines().find_map(|line| {
            let (field, value) = line.split_once(':')?;
            field.eq_ignore_ascii_case(name).then(|| value.trim())
        })
    }

    /// The body as JSON.
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).expect("a JSON body")
    }
}

/// What the engine does with one request.
#[derive(Clone, Debug)]
pub(crate) enum Answer {
    /// Writes this and waits for the next request.
    Say(Vec<u8>),
    /// Writes this and closes.
    SayAndClose(Vec<u8>),
    /// Writes this, and then nothing more, for ever.
    SayAndHang(Vec<u8>),
    /// Writes this, then gives back every byte that comes, until the client ends its side.
    SayAndEcho(Vec<u8>),
}

/// A 200 with this body.
pub(crate) fn ok(body: impl Into<String>) -> Answer {
    reply("200 OK", "Content-Type: application/json\r\n", body)
}

/// A reply with this status, these fields (each with its CRLF) and this body.
pub(crate) fn reply(status: &str, fields: &str, body: impl Into<String>) -> Answer {
    let body = body.into();
    Answer::Say(
        format!(
            "HTTP/1.1 {status}\r\n{fields}Content-Length: {}\r\n\r\n{body}",
            body.len()
        )
        .into(),
    )
}

/// A reply without a body.
pub(crate) fn empty(status: &str) -> Answer {
    Answer::Say(format!("HTTP/1.1 {status}\r\n\r\n").into())
}

/// A 200 whose body comes in these chunks and ends as it should.
pub(crate) fn chunks(fields: &str, pieces: &[&[u8]]) -> Answer {
    let mut bytes = open_chunks(fields, pieces);
    bytes.extend_from_slice(b"0\r\n\r\n");
    Answer::Say(bytes)
}

/// A 200 whose body comes in these chunks and does not end.
pub(crate) fn open_chunks(fields: &str, pieces: &[&[u8]]) -> Vec<u8> {
    let mut bytes =
        format!("HTTP/1.1 200 OK\r\n{fields}Transfer-Encoding: chunked\r\n\r\n").into_bytes();
    for piece in pieces {
        bytes.extend_from_slice(format!("{:x}\r\n", piece.len()).as_bytes());
        bytes.extend_from_slice(piece);
        bytes.extend_from_slice(b"\r\n");
    }
    bytes
}

/// One frame of multiplexed output.
pub(crate) fn frame(source: u8, text: &str) -> Vec<u8> {
    let len = u32::try_from(text.len()).expect("short").to_be_bytes();
    [&[source, 0, 0, 0][..], &len, text.as_bytes()].concat()
}

/// The engine and what it has been asked.
pub(crate) struct Scripted {
    /// The client under test.
    pub(crate) docker: Docker,
    requests: Arc<Mutex<Vec<Recorded>>>,
}

impl Scripted {
    /// An engine of that API version that gives these answers, one for each request in their order.
    pub(crate) fn new(api: &str, answers: impl IntoIterator<Item = Answer>) -> Self {
        let requests = Arc::<Mutex<Vec<Recorded>>>::default();
        let answers = Arc::new(Mutex::new(answers.into_iter().collect::<VecDeque<_>>()));
        let (api, recorded) = (api.to_owned(), requests.clone());
        let options = ConnectOptions::new("unix:///scripted.sock".parse().expect("an endpoint"));
        let docker = Docker::builder(options)
            .dialer(move || {
                let (ours, theirs) = tokio::io::duplex(64 * 1024);
                tokio::spawn(serve(
                    theirs,
                    api.clone(),
                    answers.clone(),
                    recorded.clone(),
                ));
                Ok(ours)
            })
            .build()
            .expect("a client");
        Self { docker, requests }
    }

    /// What the engine has been asked, pings left out.
    pub(crate) fn requests(&self) -> Vec<Recorded> {
        self.requests.lock().expect("not poisoned").clone()
    }

    /// The only request there was.
    pub(crate) fn request(&self) -> Recorded {
        let requests = self.requests();
        assert_eq!(requests.len(), 1, "{requests:?}");
        requests[0].clone()
    }
}

/// Makes one call to an engine of API 1.44 that gives one answer; what it was asked, and what the call gave.
pub(crate) async fn sent<T>(answer: Answer, call: impl AsyncFnOnce(&Docker) -> T) -> (Recorded, T) {
    let engine = Scripted::new("1.44", [answer]);
    let result = call(&engine.docker).await;
    (engine.request(), result)
}

/// As [`sent`], for a call that has to succeed and of which only the line matters.
pub(crate) async fn asked<T>(
    answer: Answer,
    call: impl AsyncFnOnce(&Docker) -> Result<T, berth_docker::Error>,
) -> String {
    let (request, result) = sent(answer, call).await;
    if let Err(error) = result {
        panic!("{}: {error}", request.line);
    }
    request.line
}

async fn serve(
    mut stream: DuplexStream,
    api: String,
    answers: Arc<Mutex<VecDeque<Answer>>>,
    requests: Arc<Mutex<Vec<Recorded>>>,
) {
    let mut held = Vec::new();
    while let Some(request) = read_request(&mut stream, &mut held).await {
        if request.line.ends_with(" /_ping") && request.line.starts_with("HEAD") {
            let reply =
                format!("HTTP/1.1 200 OK\r\nApi-Version: {api}\r\nContent-Length: 0\r\n\r\n");
            if stream.write_all(reply.as_bytes()).await.is_err() {
                return;
            }
            continue;
        }
        let line = request.line.clone();
        requests.lock().expect("not poisoned").push(request);
        let answer = answers.lock().expect("not poisoned").pop_front();
        let answer = answer.unwrap_or_else(|| {
            reply(
                "500 No answer left",
                "",
                format!("no answer is left for {line}"),
            )
        });
        // The client may hang up at any time; that is for the test to judge.
        let (Answer::Say(bytes)
        | Answer::SayAndClose(bytes)
        | Answer::SayAndHang(bytes)
        | Answer::SayAndEcho(bytes)) = &answer;
        if stream.write_all(bytes).await.is_err() {
            return;
        }
        match answer {
            Answer::Say(_) => {}
            Answer::SayAndClose(_) => return,
            Answer::SayAndHang(_) => std::future::pending().await,
            Answer::SayAndEcho(_) => {
                let (mut read, mut write) = tokio::io::split(stream);
                let _ = tokio::io::copy(&mut read, &mut write).await;
                return;
            }
        }
    }
}

/// The next request, or `None` when the client has closed.
async fn read_request(stream: &mut DuplexStream, held: &mut Vec<u8>) -> Option<Recorded> {
    let end = loop {
        if let Some(at) = held.windows(4).position(|window| window == b"\r\n\r\n") {
            break at + 4;
        }
        more(stream, held).await?;
    };
    let head = String::from_utf8(held.drain(..end).collect()).expect("a head is text");
    let (line, fields) = head.split_once("\r\n").expect("a first line");
    let line = line.strip_suffix(" HTTP/1.1").expect("HTTP/1.1").to_owned();
    let mut recorded = Recorded {
        line,
        fields: fields.to_owned(),
        body: Vec::new(),
    };
    if recorded.field("transfer-encoding") == Some("chunked") {
        loop {
            let size = read_line(stream, held).await?;
            let size = usize::from_str_radix(&size, 16).expect("a size");
            while held.len() < size + 2 {
                more(stream, held).await?;
            }
            recorded.body.extend(held.drain(..size));
            held.drain(..2);
            if size == 0 {
                return Some(recorded);
            }
        }
    }
    let length = recorded
        .field("content-length")
        .map_or(0, |length| length.parse().expect("a length"));
    while held.len() < length {
        more(stream, held).await?;
    }
    recorded.body = held.drain(..length).collect();
    Some(recorded)
}

async fn read_line(stream: &mut DuplexStream, held: &mut Vec<u8>) -> Option<String> {
    loop {
        if let Some(at) = held.windows(2).position(|window| window == b"\r\n") {
            let line = String::from_utf8(held.drain(..at).collect()).expect("text");
            held.drain(..2);
            return Some(line);
        }
        more(stream, held).await?;
    }
}

async fn more(stream: &mut DuplexStream, held: &mut Vec<u8>) -> Option<()> {
    let mut piece = [0; 4096];
    let len = stream.read(&mut piece).await.ok().filter(|len| *len > 0)?;
    held.extend_from_slice(&piece[..len]);
    Some(())
}
