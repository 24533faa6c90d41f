//! The bytes that the replay server sends: recorded replies of real engines, framed as an engine frames them, and scaled.
//!
//! Heads are those an engine sends on a connection that it keeps. A JSON body of 2 KiB or more goes out as one chunk, a
//! smaller one with its length: that is what the engine's HTTP library does.

use std::path::Path;

/// The recordings of the newest engine.
pub const NEW: &str = "engine-29.7";
/// The recordings of the oldest engine.
pub const OLD: &str = "engine-20.10";

/// Below this, a body has a `Content-Length`; it is the size of the buffer before chunking of Go's `net/http`.
const CHUNKED_FROM: usize = 2048;

/// The payload of a frame of the log follow: what an engine cuts lines at.
pub const FRAME: usize = 16 * 1024;

/// The body of a recorded reply.
///
/// # Panics
/// When there is no such recording: the bench runs in the source tree.
pub fn body(engine: &str, file: &str) -> Vec<u8> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../docker/tests/fixtures")
        .join(engine)
        .join(file);
    std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The recorded head of a ping without the body, on a connection that is kept.
pub fn ping_head(engine: &str) -> Vec<u8> {
    let mut ping = kept(&body(engine, "ping.http"));
    let end = find(&ping, b"\r\n\r\n").expect("a recorded reply has a head") + 4;
    ping.truncate(end);
    ping
}

/// A recorded ping, on a connection that is kept.
pub fn ping(engine: &str) -> Vec<u8> {
    kept(&body(engine, "ping.http"))
}

/// A reply with that JSON body, framed as an engine frames it.
pub fn json_reply(engine: &str, body: &[u8]) -> Vec<u8> {
    let (api, server) = match engine {
        OLD => ("1.41", "Docker/20.10.24+dfsg1 (linux)"),
        _ => ("1.55", "Docker/29.7.2 (linux)"),
    };
    let mut reply = format!(
        "HTTP/1.1 200 OK\r\nApi-Version: {api}\r\nContent-Type: application/json\r\nDocker-Experimental: false\r\n\
         Ostype: linux\r\nServer: {server}\r\nDate: Mon, 23 Nov 2026 23:05:35 GMT\r\n"
    )
    .into_bytes();
    if body.len() < CHUNKED_FROM {
        reply.extend_from_slice(format!("Content-Length: {}\r\n\r\n", body.len()).as_bytes());
        reply.extend_from_slice(body);
    } else {
        reply.extend_from_slice(b"Transfer-Encoding: chunked\r\n\r\n");
        push_chunk(&mut reply, body);
        reply.extend_from_slice(b"0\r\n\r\n");
    }
    reply
}

/// The body of a list of `count` containers, made from the recorded list by repeating its rows with other ids, names and
/// image ids. `labels` gives the labels of each row; they are added to those of the recording.
///
/// # Panics
/// When the recording is not a list.
pub fn container_list(
    engine: &str,
    count: usize,
    labels: impl Fn(usize) -> Vec<(&'static str, String)>,
) -> Vec<u8> {
    let rows: Vec<serde_json::Value> =
        serde_json::from_slice(&body(engine, "containers-list.json"))
            .expect("the recorded list is a list");
    let list: Vec<_> = (0..count)
        .map(|index| {
            let mut row = rows[index % rows.len()].clone();
            row["Id"] = hex(index as u64).into();
            row["ImageID"] = format!("sha256:{}", hex(index as u64 % 40 + 1_000_000)).into();
            if let Some(name) = row["Names"].get_mut(0) {
                *name = format!("{}-{index}", name.as_str().unwrap_or_default()).into();
            }
            if let Some(all) = row["Labels"].as_object_mut() {
                for value in all.values_mut() {
                    *value = format!("{}-{index}", value.as_str().unwrap_or_default()).into();
                }
                all.extend(
                    labels(index)
                        .into_iter()
                        .map(|(key, value)| (key.to_owned(), value.into())),
                );
            }
            row
        })
        .collect();
    let mut text = serde_json::to_vec(&list).expect("JSON from JSON");
    text.push(b'\n');
    text
}

/// The labels that the container of a pod has: the keys are those of dockershim, which berth uses too.
pub fn pod_labels(index: usize) -> Vec<(&'static str, String)> {
    let uid = &hex(index as u64 + 5_000_000)[..32];
    let pod = format!("web-{}-{index}", &uid[..9]);
    vec![
        (
            "annotation.io.kubernetes.container.hash",
            uid[..8].to_owned(),
        ),
        (
            "annotation.io.kubernetes.container.restartCount",
            (index % 7).to_string(),
        ),
        (
            "annotation.io.kubernetes.container.terminationMessagePath",
            "/dev/termination-log".to_owned(),
        ),
        (
            "annotation.io.kubernetes.container.terminationMessagePolicy",
            "File".to_owned(),
        ),
        (
            "annotation.io.kubernetes.pod.terminationGracePeriod",
            "30".to_owned(),
        ),
        (
            "io.kubernetes.container.logpath",
            format!("/var/log/pods/default_{pod}_{uid}/web/0.log"),
        ),
        ("io.kubernetes.container.name", "web".to_owned()),
        ("io.kubernetes.docker.type", "container".to_owned()),
        ("io.kubernetes.pod.name", pod),
        ("io.kubernetes.pod.namespace", "default".to_owned()),
        ("io.kubernetes.pod.uid", uid.to_owned()),
        ("io.kubernetes.sandbox.id", hex(index as u64 + 9_000_000)),
    ]
}

/// The head of a log follow.
pub fn log_head(engine: &str) -> Vec<u8> {
    body(engine, "logs-mux.head")
}

/// `count` chunks of one log frame of [`FRAME`] bytes each: the first frame of the recorded 40,000-byte line, without its
/// time.
pub fn large_frames(count: usize) -> Vec<u8> {
    let recorded = body(NEW, "logs-mux-long-line.bin");
    let line = &recorded[8 + 31..][..FRAME];
    frames(&[line], count)
}

/// `count` chunks of one log frame each that holds one line of 100 bytes, newline included.
pub fn short_lines(count: usize) -> Vec<u8> {
    let lines: Vec<Vec<u8>> = (0..count)
        .map(|index| {
            let mut line = format!(
                "2026-11-23T23:05:36.{:09}Z request {index} done ",
                index % 999_999_937
            )
            .into_bytes();
            line.resize(99, b'x');
            line.push(b'\n');
            line
        })
        .collect();
    frames(&lines, count)
}

/// `count` chunks of one frame each, the payloads in turn.
fn frames(payloads: &[impl AsRef<[u8]>], count: usize) -> Vec<u8> {
    let mut wire = Vec::new();
    for payload in payloads.iter().cycle().take(count) {
        let payload = payload.as_ref();
        let length = u32::try_from(payload.len()).expect("a frame is below 4 GiB");
        let mut frame = vec![1, 0, 0, 0];
        frame.extend_from_slice(&length.to_be_bytes());
        frame.extend_from_slice(payload);
        push_chunk(&mut wire, &frame);
    }
    wire
}

fn push_chunk(wire: &mut Vec<u8>, data: &[u8]) {
    wire.extend_from_slice(format!("{:x}\r\n", data.len()).as_bytes());
    wire.extend_from_slice(data);
    wire.extend_from_slice(b"\r\n");
}

/// 64 digits that differ from one seed to the next.
fn hex(seed: u64) -> String {
    (1..=4u64)
        .map(|part| {
            format!(
                "{:016x}",
                (seed + 1)
                    .wrapping_mul(0x9e37_79b9_7f4a_7c15)
                    .wrapping_mul(part * 2 + 1)
            )
        })
        .collect()
}

/// Recordings were made with one connection for each request; here it is kept.
fn kept(reply: &[u8]) -> Vec<u8> {
    let close = b"Connection: close\r\n";
    match find(reply, close) {
        Some(at) => [&reply[..at], &reply[at + close.len()..]].concat(),
        None => reply.to_vec(),
    }
}

fn find(text: &[u8], what: &[u8]) -> Option<usize> {
    text.windows(what.len()).position(|window| window == what)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scaled_list_has_no_row_twice() {
        let list: Vec<serde_json::Value> =
            serde_json::from_slice(&container_list(NEW, 100, pod_labels)).unwrap();
        let ids: std::collections::BTreeSet<_> =
            list.iter().map(|row| row["Id"].as_str().unwrap()).collect();
        assert_eq!((list.len(), ids.len()), (100, 100));
        assert!(ids.iter().all(|id| id.len() == 64));
        assert!(
            list.iter()
                .all(|row| row["Labels"].as_object().unwrap().len() >= 12)
        );
    }

    #[test]
    fn every_frame_has_the_length_it_says() {
        assert_eq!(short_lines(10).len(), 10 * (4 + 8 + 100 + 2));
        assert_eq!(large_frames(2).len(), 2 * (6 + 8 + FRAME + 2));
    }

    #[test]
    fn a_kept_reply_says_nothing_of_closing() {
        assert!(find(&ping(NEW), b"Connection").is_none());
        assert!(ping_head(NEW).ends_with(b"\r\n\r\n"));
    }
}
