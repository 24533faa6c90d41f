//! Bodies in chunks that are malformed, unusual, or end without their last chunk.

use berth_docker::{Deadline, Phase};

use crate::support::call::{ALL, Fault, Sent, fault};
use crate::support::fixture::{CHUNKED, LAST_CHUNK, chunk};
use crate::support::process::in_memory;
use crate::support::{Peer, Server, at_rest};

#[test]
fn what_is_no_chunk_is_malformed_and_what_is_cut_is_no_answer() {
    let cut = Fault::NoAnswer(Phase::Body, Sent::Yes);
    let cases: Vec<(&str, Vec<u8>, Fault)> = vec![
        ("no size", b"\r\nhello".to_vec(), Fault::Malformed),
        (
            "a size that is no number",
            b"zz\r\n".to_vec(),
            Fault::Malformed,
        ),
        (
            "a negative size",
            b"-5\r\nhello\r\n".to_vec(),
            Fault::Malformed,
        ),
        (
            "a size of 2^64",
            b"10000000000000000\r\n".to_vec(),
            Fault::Malformed,
        ),
        (
            "a size of 2^64 - 1, then the end",
            b"FFFFFFFFFFFFFFFF\r\n ".to_vec(),
            cut.clone(),
        ),
        (
            "a size line with a bare LF",
            b"5\nhello\r\n".to_vec(),
            Fault::Malformed,
        ),
        (
            "a size line with a bare CR",
            b"5\rhello\r\n".to_vec(),
            Fault::Malformed,
        ),
        (
            "more data than the size",
            b"1\r\n      \r\n".to_vec(),
            Fault::Malformed,
        ),
        (
            "an extension without end",
            [b"1;".to_vec(), vec![b'x'; 5000]].concat(),
            Fault::Malformed,
        ),
        (
            "a trailer without end",
            [b"0\r\n".to_vec(), b"X: y\r\n".repeat(4000)].concat(),
            Fault::Malformed,
        ),
        ("no last chunk", b"".to_vec(), cut.clone()),
        ("half a last chunk", b"0\r\n".to_vec(), cut.clone()),
        ("half a trailer", b"0\r\nX: y\r\n".to_vec(), cut),
    ];
    in_memory(async {
        for (name, bytes, expected) in cases {
            for call in ALL {
                let server = Server::memory({
                    let reply = [CHUNKED.as_bytes(), &chunk(call.body()), &bytes].concat();
                    move |mut peer: Peer| {
                        let reply = reply.clone();
                        async move {
                            peer.request().await;
                            peer.send(reply).await;
                        }
                    }
                });
                let docker = server.client();
                let outcome = call.run(&docker, Deadline::Short).await;
                assert_eq!(fault(outcome.error()), expected, "{name}, {call:?}");
                assert_eq!(
                    outcome.items.is_empty(),
                    !call.is_stream(),
                    "{name}, {call:?}: what came before it is given"
                );
                at_rest(&docker, 0);
                drop(docker);
                server.finish().await;
            }
        }
    });
}

#[test]
fn extensions_and_trailers_are_no_data_and_no_loss_of_data() {
    in_memory(async {
        for call in ALL {
            let body = call.body();
            let plain = Server::memory(move |mut peer: Peer| async move {
                peer.request().await;
                peer.send(
                    [
                        CHUNKED.as_bytes(),
                        &chunk(call.body()),
                        LAST_CHUNK.as_bytes(),
                    ]
                    .concat(),
                )
                .await;
                peer.gone().await;
            });
            let docker = plain.client();
            let expected = call.run(&docker, Deadline::Short).await;
            assert!(expected.errors.is_empty(), "{call:?}: {expected:?}");
            drop(docker);
            plain.finish().await;

            let (first, rest) = body.split_at(7);
            let head = format!("{CHUNKED}7;name=\"va;lue\"\r\n");
            let middle = format!("\r\n{:X} \t;x\r\n", rest.len());
            let end = "\r\n000;last\r\nExpires: never\r\nX-Checksum: 1\r\n\r\n";
            let reply = [
                head.as_bytes(),
                first,
                middle.as_bytes(),
                rest,
                end.as_bytes(),
            ]
            .concat();
            let server = Server::memory(move |mut peer: Peer| {
                let reply = reply.clone();
                async move {
                    while peer.request().await.is_some() {
                        peer.send(&reply).await;
                    }
                }
            });
            let docker = server.client();
            for _ in 0..2 {
                let outcome = call.run(&docker, Deadline::Short).await;
                assert_eq!(outcome.items, expected.items, "{call:?}");
                assert!(outcome.errors.is_empty(), "{call:?}: {outcome:?}");
                at_rest(&docker, usize::from(!call.is_stream()));
            }
            assert_eq!(
                server.accepted(),
                if call.is_stream() { 2 } else { 1 },
                "{call:?}"
            );
            drop(docker);
            server.finish().await;
        }
    });
}
