//! Bodies that are not the JSON they should be.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

use berth_docker::{Deadline, MAX_BODY};

use crate::support::call::{Call, Fault, fault};
use crate::support::fixture::{CHUNKED, LAST_CHUNK, chunk, ok};
use crate::support::process::in_memory;
use crate::support::{Peer, Server, at_rest};

/// Names of things that are not JSON values, and they.
fn nonsense() -> Vec<(&'static str, Vec<u8>)> {
    vec![
        ("a bare word", b"nonsense".to_vec()),
        ("a comma too many", b"{\"a\":1,}".to_vec()),
        ("NUL in a string", b"\"a\0b\"".to_vec()),
        ("NUL before a value", b"\0{}".to_vec()),
        ("a byte order mark", b"\xef\xbb\xbf{}".to_vec()),
        ("a string that is not UTF-8", b"\"\xff\xfe\"".to_vec()),
        ("half a surrogate pair", b"\"\\ud800\"".to_vec()),
        (
            "a depth of 10,000",
            [vec![b'['; 10_000], vec![b']'; 10_000]].concat(),
        ),
        ("a number beyond all bounds", b"1e999999".to_vec()),
        ("HTML", b"<html>hello</html>".to_vec()),
    ]
}

#[test]
fn a_body_that_is_no_json_is_malformed_and_its_connection_is_kept() {
    in_memory(async {
        for (name, body) in nonsense().into_iter().chain([
            ("nothing", vec![]),
            ("half a value", b"{\"a\":".to_vec()),
            ("two values", b"{} {}".to_vec()),
        ]) {
            let server = Server::memory(move |mut peer: Peer| {
                let reply = ok(&body);
                async move {
                    while peer.request().await.is_some() {
                        peer.send(&reply).await;
                    }
                }
            });
            let docker = server.client();
            let outcome = Call::Json.run(&docker, Deadline::Short).await;
            assert_eq!(fault(outcome.error()), Fault::Malformed, "{name}");
            at_rest(&docker, 1);
            drop(docker);
            server.finish().await;
        }
    });
}

#[test]
fn a_value_that_is_no_json_is_an_error_item_and_the_stream_goes_on() {
    in_memory(async {
        for (name, value) in nonsense() {
            let server = Server::memory(move |mut peer: Peer| {
                let body = [b"{\"n\":1}\n".as_slice(), &value, b"\n{\"n\":2}"].concat();
                async move {
                    peer.request().await;
                    peer.send([CHUNKED.as_bytes(), &chunk(body), LAST_CHUNK.as_bytes()].concat())
                        .await;
                    peer.gone().await;
                }
            });
            let docker = server.client();
            let outcome = Call::Values.run(&docker, Deadline::Short).await;
            assert_eq!(outcome.items, ["{\"n\":1}", "{\"n\":2}"], "{name}");
            assert!(
                !outcome.errors.is_empty()
                    && outcome
                        .errors
                        .iter()
                        .all(|error| fault(error) == Fault::Malformed),
                "{name}: {outcome:?}"
            );
            at_rest(&docker, 0);
            drop(docker);
            server.finish().await;
        }
    });
}

#[test]
fn a_value_comes_after_a_million_newlines_that_keep_the_connection_alive() {
    in_memory(async {
        let server = Server::memory(move |mut peer: Peer| async move {
            peer.request().await;
            peer.send(CHUNKED).await;
            for _ in 0..1000 {
                peer.send(chunk(vec![b'\n'; 1000])).await;
            }
            peer.send([chunk(b"{\"n\":1}"), LAST_CHUNK.into()].concat())
                .await;
            peer.gone().await;
        });
        let docker = server.client();
        let outcome = Call::Values.run(&docker, Deadline::Short).await;
        assert_eq!(outcome.items, ["{\"n\":1}"]);
        assert!(outcome.errors.is_empty(), "{outcome:?}");
        at_rest(&docker, 0);
        drop(docker);
        server.finish().await;
    });
}

#[test]
fn a_stream_that_closes_what_it_never_opened_ends_with_an_error() {
    in_memory(async {
        for value in ["}", "]", "{\"a\":"] {
            let server = Server::memory(move |mut peer: Peer| async move {
                peer.request().await;
                peer.send(
                    [
                        CHUNKED.as_bytes(),
                        &chunk(format!("{{\"n\":1}}\n{value}")),
                        LAST_CHUNK.as_bytes(),
                    ]
                    .concat(),
                )
                .await;
                peer.gone().await;
            });
            let docker = server.client();
            let outcome = Call::Values.run(&docker, Deadline::Short).await;
            assert_eq!(outcome.items, ["{\"n\":1}"], "{value}");
            assert_eq!(fault(outcome.error()), Fault::Malformed, "{value}");
            at_rest(&docker, 0);
            drop(docker);
            server.finish().await;
        }
    });
}

/// An engine that answers with a string without end, in chunks, and counts what it could get rid of.
fn endless() -> (Server, Arc<AtomicUsize>) {
    let sent = Arc::new(AtomicUsize::new(0));
    let count = sent.clone();
    let server = Server::memory(move |mut peer: Peer| {
        let count = count.clone();
        async move {
            peer.request().await;
            peer.send([CHUNKED.as_bytes(), &chunk("\"")].concat()).await;
            let piece = chunk(vec![b'a'; 256 * 1024]);
            while peer.send(&piece).await {
                count.fetch_add(256 * 1024, SeqCst);
            }
        }
    });
    (server, sent)
}

#[test]
fn a_string_without_end_is_refused_at_the_bound() {
    in_memory(async {
        const MIB: usize = 1024 * 1024;
        for (call, bound) in [(Call::Values, 4 * MIB), (Call::Json, MAX_BODY)] {
            let (server, sent) = endless();
            let docker = server.client();
            let outcome = call.run(&docker, Deadline::Short).await;
            assert_eq!(fault(outcome.error()), Fault::Malformed, "{call:?}");
            assert!(
                outcome.error().to_string().contains("MiB"),
                "the bound is named: {}",
                outcome.error()
            );
            assert!(
                sent.load(SeqCst) < bound + MIB,
                "{call:?} took {} bytes",
                sent.load(SeqCst)
            );
            at_rest(&docker, 0);
            drop(docker);
            server.finish().await;
        }
    });
}

#[test]
fn a_length_beyond_the_bound_is_refused_before_it_is_read() {
    in_memory(async {
        let server = Server::memory(|mut peer: Peer| async move {
            peer.request().await;
            // Nothing follows: waiting for it would end in a time-out.
            peer.send(format!(
                "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n\"",
                1024 * 1024 * 1024
            ))
            .await;
            peer.gone().await;
        });
        let docker = server.client();
        for call in [Call::Json, Call::Reply] {
            let outcome = call.run(&docker, Deadline::Short).await;
            assert_eq!(fault(outcome.error()), Fault::Malformed, "{call:?}");
            at_rest(&docker, 0);
        }
        drop(docker);
        server.finish().await;
    });
}
