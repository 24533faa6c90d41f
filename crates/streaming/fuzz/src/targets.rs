//! What is fuzzed: each function feeds one part of the server with bytes of a client and checks what must hold for any bytes.
//!
//! cargo-fuzz runs them with coverage; `tests/fuzz_corpus.rs` of berth-streaming runs them over the kept corpus and mutations of it on
//! stable.

#![allow(dead_code, reason = "each fuzz target uses one")]

use berth_streaming::spdy::frame::{Decoder, Frame, GoAway};
use berth_streaming::spdy::header::{Inflater, MAX_BLOCK};
use berth_streaming::websocket::channel::Framing;
use berth_streaming::{ProtocolError, Wanted, forward, process, spdy, websocket};
use bytes::BytesMut;

/// More of an answer than this cannot be to the inputs tried.
const MAX_ANSWER: usize = 1024 * 1024;

const ALL: Wanted = Wanted {
    stdin: true,
    stdout: true,
    stderr: true,
    tty: true,
};

/// Cuts `data` into pieces, as its first byte says, so that decoders are tried at many split points.
fn pieces(data: &[u8]) -> Vec<&[u8]> {
    let Some((&seed, data)) = data.split_first() else {
        return Vec::new();
    };
    let size = usize::from(seed % 32) + 1;
    data.chunks(size).collect()
}

/// What a decoder made of its input: what happened, what it answered, and whether it gave up.
type Made<T> = (Vec<T>, Vec<u8>, bool);

/// Feeds `pieces` to `receive`. `join` puts an event and the one before it together where only the split keeps them apart.
fn feed<T>(
    pieces: &[&[u8]],
    mut receive: impl FnMut(&mut BytesMut, &mut BytesMut) -> Result<Option<T>, ProtocolError>,
    mut join: impl FnMut(&mut Vec<T>, T),
) -> Made<T> {
    let (mut events, mut input, mut out) = (Vec::new(), BytesMut::new(), BytesMut::new());
    // What comes of itself comes before the first byte.
    for piece in [&[][..]].iter().chain(pieces) {
        input.extend_from_slice(piece);
        loop {
            match receive(&mut input, &mut out) {
                Ok(Some(event)) => join(&mut events, event),
                Ok(None) => break,
                Err(_) => return (events, out.to_vec(), true),
            }
        }
    }
    assert!(out.len() < MAX_ANSWER);
    (events, out.to_vec(), false)
}

/// What `make` makes must not depend on how the bytes are split.
fn same_for_any_split<T: PartialEq + std::fmt::Debug>(
    data: &[u8],
    make: impl Fn(&[&[u8]]) -> Made<T>,
) {
    let pieces = pieces(data);
    assert_eq!(make(&pieces), make(&[&pieces.concat()]));
}

/// The same where messages may be broken: before the failure, more or less of the last one has been seen. `flat` gives an event byte by
/// byte.
fn same_up_to_a_failure<T: PartialEq + std::fmt::Debug>(
    data: &[u8],
    make: impl Fn(&[&[u8]]) -> Made<T>,
    flat: impl Fn(&T) -> Vec<u8>,
) {
    let pieces = pieces(data);
    let (split, whole) = (make(&pieces), make(&[&pieces.concat()]));
    if !whole.2 {
        return assert_eq!(split, whole);
    }
    assert_eq!((&split.1, split.2), (&whole.1, whole.2));
    let [split, whole] = [split.0, whole.0].map(|events| {
        let bytes: Vec<u8> = events.iter().flat_map(&flat).collect();
        bytes
    });
    assert!(split.starts_with(&whole) || whole.starts_with(&split));
}

/// Frames of SPDY.
pub(crate) fn spdy_frames(data: &[u8]) {
    same_for_any_split(data, |pieces| {
        let mut decoder = Decoder::default();
        feed(
            pieces,
            |input, _| decoder.next(input),
            |frames, frame| match (frames.last_mut(), frame) {
                (
                    Some(Frame::Data {
                        id,
                        bytes,
                        fin: fin @ false,
                    }),
                    Frame::Data {
                        id: same,
                        bytes: more,
                        fin: end,
                    },
                ) if *id == same => {
                    *bytes = [&bytes[..], &more[..]].concat().into();
                    *fin = end;
                }
                (_, frame) => frames.push(frame),
            },
        )
    });
}

/// Header blocks of SPDY, each after its length in one byte: what they inflate to is bounded, and read the same each time.
pub(crate) fn spdy_headers(data: &[u8]) {
    let read = || {
        let (mut inflater, mut rest, mut all) = (Inflater::default(), data, Vec::new());
        while let Some((&length, after)) = rest.split_first() {
            let (block, after) = after.split_at(usize::from(length).min(after.len()));
            rest = after;
            let Ok(headers) = inflater.block(block) else {
                break;
            };
            for name in ["streamtype", "port", "requestid"] {
                let value = headers.get(name).map(str::to_owned);
                assert!(value.as_ref().is_none_or(|value| value.len() <= MAX_BLOCK));
                all.push(value);
            }
        }
        all
    };
    assert_eq!(read(), read());
}

fn join_process(events: &mut Vec<process::Event>, event: process::Event) {
    use process::Event::{Resize, Stdin};
    match (events.last_mut(), event) {
        (Some(Stdin(bytes)), Stdin(more)) | (Some(Resize(bytes)), Resize(more)) => {
            *bytes = [&bytes[..], &more[..]].concat().into();
        }
        (_, event) => events.push(event),
    }
}

/// An exec session over SPDY, to its end.
pub(crate) fn spdy_process(data: &[u8]) {
    same_for_any_split(data, |pieces| {
        let mut process = spdy::process::Process::new(spdy::process::Version::V4, ALL);
        feed(
            pieces,
            |input, out| {
                let event = process.receive(input, out)?;
                if event == Some(process::Event::StdinEnd) {
                    process.ping(out);
                    process.finish(b"status", out);
                    process.go_away(GoAway::Ok, out);
                }
                Ok(event)
            },
            join_process,
        )
    });
}

fn join_forward(events: &mut Vec<forward::Event>, event: forward::Event) {
    use forward::Event::Data;
    match (events.last_mut(), event) {
        (
            Some(Data { id, bytes }),
            Data {
                id: same,
                bytes: more,
            },
        ) if *id == same => {
            *bytes = [&bytes[..], &more[..]].concat().into();
        }
        (_, event) => events.push(event),
    }
}

/// A port-forward session over SPDY, with ports of all kinds.
pub(crate) fn spdy_forward(data: &[u8]) {
    same_for_any_split(data, |pieces| {
        let mut forward = spdy::forward::Forward::default();
        feed(
            pieces,
            |input, out| {
                let event = forward.receive(input, out)?;
                match event {
                    Some(forward::Event::Connect { id, port }) => match port % 4 {
                        0 => forward.fail(id, "refused", out),
                        1 => forward.abort(id, out),
                        2 => {
                            forward.send(id, b"hello", out);
                            forward.end(id, out);
                        }
                        _ => {}
                    },
                    Some(forward::Event::End { id }) => forward.close(id, out),
                    Some(forward::Event::Waiting { serial }) if serial % 3 == 2 => {
                        forward.expire(serial - 1, out);
                    }
                    _ => {}
                }
                Ok(event)
            },
            join_forward,
        )
    });
}

/// An exec session over WebSocket, whose protocol the first byte names.
pub(crate) fn websocket_process(data: &[u8]) {
    let Some((&first, data)) = data.split_first() else {
        return;
    };
    let all = websocket::process::Protocol::ALL;
    let (_, protocol) = all[usize::from(first) % all.len()];
    let make = |pieces: &[&[u8]]| {
        let mut process = websocket::process::Process::new(protocol, ALL);
        feed(
            pieces,
            |input, out| {
                let event = process.receive(input, out)?;
                if event == Some(process::Event::StdinEnd) {
                    process.pong(out);
                    process.finish(b"status", out);
                }
                Ok(event)
            },
            join_process,
        )
    };
    same_up_to_a_failure(data, make, |event| match event {
        process::Event::Stdin(bytes) => bytes.iter().flat_map(|byte| [0, *byte]).collect(),
        process::Event::Resize(bytes) => bytes.iter().flat_map(|byte| [4, *byte]).collect(),
        other => format!("{other:?}").into_bytes(),
    });
}

/// An old port-forward session over WebSocket.
pub(crate) fn websocket_forward(data: &[u8]) {
    for framing in [Framing::Binary, Framing::Base64] {
        let make = |pieces: &[&[u8]]| {
            let mut forward = websocket::forward::Forward::new(framing, vec![80, 443]);
            feed(
                pieces,
                |input, out| forward.receive(input, out),
                join_forward,
            )
        };
        same_up_to_a_failure(data, make, |event| match event {
            forward::Event::Data { id, bytes } => bytes
                .iter()
                .flat_map(|byte| [id.to_le_bytes()[0], *byte])
                .collect(),
            other => format!("{other:?}").into_bytes(),
        });
    }
}
