//! What is fuzzed: each function feeds one decoder of the client with bytes of an outsider and checks what must hold for any bytes.
//!
//! cargo-fuzz runs them with coverage; `tests/fuzz_corpus.rs` of berth-docker runs them over the kept corpus and mutations of it on stable.

#![allow(dead_code, reason = "each fuzz target uses one")]

use berth_docker::auth::Keychain;
use berth_docker::model::Event;
use berth_docker::reference::ImageRef;
use berth_docker::wire::{body, frame, head, json, line};
use berth_docker::{Endpoint, Environment, Method};
use bytes::Bytes;
use futures_util::FutureExt as _;

/// Cuts `data` into a few pieces, as its first byte says, so that decoders are tried at many split points.
fn pieces(data: &[u8]) -> Vec<&[u8]> {
    let Some((&seed, data)) = data.split_first() else {
        return Vec::new();
    };
    let size = usize::from(seed % 32) + 1;
    data.chunks(size).collect()
}

/// A reply's head: never accepted with a length that is not there, and the same for any longer input.
pub(crate) fn head(data: &[u8]) {
    if let Ok(Some((head, length))) = head::parse(data, Method::Get) {
        assert!(length <= data.len() && length <= head::MAX_HEAD);
        assert!((100..1000).contains(&head.status));
        let longer = [data, b"more"].concat();
        assert!(matches!(head::parse(&longer, Method::Get), Ok(Some((_, same))) if same == length));
    }
}

/// A chunked body: the data does not depend on how the bytes are split.
pub(crate) fn body(data: &[u8]) {
    let decode = |pieces: &[&[u8]]| -> (Vec<u8>, bool) {
        let (mut decoder, mut out, mut pending) = (
            body::Decoder::new(head::Framing::Chunked),
            Vec::new(),
            Vec::new(),
        );
        for piece in pieces {
            pending.extend_from_slice(piece);
            loop {
                match decoder.step(&pending) {
                    Ok(body::Step::Data { skip, len }) => {
                        out.extend_from_slice(&pending[skip..skip + len]);
                        pending.drain(..skip + len);
                    }
                    Ok(body::Step::More { skip }) => {
                        pending.drain(..skip);
                        break;
                    }
                    Ok(body::Step::End { .. }) => return (out, true),
                    Err(_) => return (out, false),
                }
            }
        }
        (out, decoder.is_done())
    };
    let pieces = pieces(data);
    assert_eq!(decode(&pieces), decode(&[&pieces.concat()]));
}

/// Frames: the output of each source does not depend on how the bytes are split.
pub(crate) fn frames(data: &[u8]) {
    let decode = |pieces: &[&[u8]]| -> ([Vec<u8>; 3], Vec<String>) {
        let (mut decoder, mut out, mut failures) = (
            frame::Decoder::default(),
            <[Vec<u8>; 3]>::default(),
            Vec::new(),
        );
        for piece in pieces {
            let mut rest = *piece;
            loop {
                match decoder.step(rest) {
                    Ok(frame::Step::Payload { skip, len, source }) => {
                        out[source as usize].extend_from_slice(&rest[skip..skip + len]);
                        rest = &rest[skip + len..];
                    }
                    Ok(frame::Step::Failure { skip, message }) => {
                        failures.push(message);
                        rest = &rest[skip..];
                    }
                    Ok(frame::Step::More { skip }) => {
                        assert_eq!(skip, rest.len());
                        break;
                    }
                    Err(_) => return (out, failures),
                }
            }
        }
        (out, failures)
    };
    let pieces = pieces(data);
    assert_eq!(decode(&pieces), decode(&[&pieces.concat()]));
}

/// A stream of JSON values: the values do not depend on how the bytes are split.
pub(crate) fn json_stream(data: &[u8]) {
    let pieces = pieces(data);
    assert_eq!(values(&pieces), values(&[&pieces.concat()]));
}

fn values(pieces: &[&[u8]]) -> Vec<Vec<u8>> {
    let (mut splitter, mut values, mut pending) =
        (json::Splitter::default(), Vec::new(), Vec::new());
    let mut take = |pending: &mut Vec<u8>, piece: json::Piece| {
        values.push(pending[piece.skip..piece.skip + piece.len].to_vec());
        pending.drain(..piece.skip + piece.len);
    };
    for piece in pieces {
        pending.extend_from_slice(piece);
        loop {
            match splitter.next(&pending) {
                Ok(Some(piece)) => take(&mut pending, piece),
                Ok(None) => break,
                Err(_) => return values,
            }
        }
    }
    if let Ok(Some(piece)) = splitter.finish(&pending) {
        take(&mut pending, piece);
    }
    values
}

/// Lines of an event stream: whatever is a value is an event or an error.
pub(crate) fn event_lines(data: &[u8]) {
    for value in values(&[data]) {
        if let Ok(Some(event)) = serde_json::from_slice::<Option<Event>>(&value) {
            let _ = (event.action_name(), event.action_detail());
        }
    }
}

/// Lines of a log: nothing is lost, nothing exceeds the bound.
pub(crate) fn log_lines(data: &[u8]) {
    const MAX: usize = 16;
    let mut joiner = line::Joiner::new(MAX);
    let (mut back, mut all) = (Vec::new(), Vec::new());
    let mut keep = |line: line::Line| {
        assert!(line.bytes.len() <= MAX);
        back.extend_from_slice(&line.bytes);
        if !line.partial {
            back.push(b'\n');
        }
    };
    for piece in pieces(data) {
        // A carriage return before a newline is dropped by design.
        let mut bytes: Bytes = piece
            .iter()
            .copied()
            .filter(|byte| *byte != b'\r')
            .collect();
        all.extend_from_slice(&bytes);
        while let Some(line) = joiner.next(frame::Source::Stdout, &mut bytes) {
            keep(line);
        }
        assert!(bytes.is_empty());
    }
    while let Some(line) = joiner.finish() {
        keep(line);
    }
    assert_eq!(back, all);
}

/// An endpoint: what parses, prints and parses to the same.
pub(crate) fn endpoint(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    if let Ok(endpoint) = text.parse::<Endpoint>() {
        assert_eq!(
            endpoint.to_string().parse::<Endpoint>().as_ref(),
            Ok(&endpoint)
        );
    }
}

/// A reference to an image: read or refused; what is read is written so that it reads back as the same.
pub(crate) fn reference(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    if let Ok(image) = text.parse::<ImageRef>() {
        assert_eq!(image.to_string().parse().as_ref(), Ok(&image));
        if let ImageRef::Name(name) = &image {
            assert_eq!(name.familiar().parse().as_ref(), Ok(&image));
            assert!(name.is_found_under(&name.lookup().parse().unwrap()));
        }
    }
}

/// The credentials of a `config.json`: read or refused, and no error repeats what it could not read.
pub(crate) fn auth_config(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    if text.contains('\0') {
        return;
    }
    let environment = Environment::empty().with("DOCKER_AUTH_CONFIG", text);
    let Ok(keychain) = Keychain::load(&environment) else {
        return;
    };
    for image in ["busybox", "registry.example/a/b:1", "127.0.0.1:5000/x"] {
        if let Some(Ok(Some(credentials))) = keychain.for_image(image).now_or_never() {
            let header = credentials.to_header();
            assert!(
                header
                    .bytes()
                    .all(|byte| byte.is_ascii_alphanumeric() || b"-_=".contains(&byte)),
                "{header}"
            );
        }
    }
}
