//! Output of processes: headers that lie, terminals, and lines that are cut anywhere.

use berth_docker::{Deadline, Docker, ErrorKind, Framing, Source};

use crate::support::call::{Call, Fault, fault};
use crate::support::fixture::{CHUNKED, LAST_CHUNK, UNTIL_CLOSE, chunk, frame};
use crate::support::process::in_memory;
use crate::support::{Peer, Server, at_rest};

/// An engine that answers with `pieces`, each a chunk and a write of its own.
fn engine(pieces: Vec<Vec<u8>>) -> Server {
    Server::memory(move |mut peer: Peer| {
        let pieces = pieces.clone();
        async move {
            peer.request().await;
            peer.send(CHUNKED).await;
            for piece in pieces {
                peer.send(chunk(piece)).await;
                tokio::task::yield_now().await;
            }
            peer.send(LAST_CHUNK).await;
            peer.gone().await;
        }
    })
}

async fn lines(docker: &Docker, framing: Framing, max: usize) -> Vec<(Source, String, bool)> {
    let stream = docker
        .send_stream(Call::Bytes.request(Deadline::Short))
        .await
        .unwrap();
    let mut lines = stream.frames(framing).lines(max);
    let mut all = Vec::new();
    while let Some(line) = lines.next().await {
        let line = line.unwrap();
        all.push((
            line.source,
            String::from_utf8(line.bytes.to_vec()).unwrap(),
            line.partial,
        ));
    }
    all
}

#[test]
fn a_header_that_cannot_be_one_ends_the_stream_with_an_error() {
    in_memory(async {
        let cases: [(&str, [u8; 8]); 6] = [
            ("a type of 4", [4, 0, 0, 0, 0, 0, 0, 1]),
            ("a type of 255", [255, 0, 0, 0, 0, 0, 0, 1]),
            ("padding that is not zero", [1, 0, 0, 1, 0, 0, 0, 1]),
            ("a length of 2^32 - 1", [1, 0, 0, 0, 255, 255, 255, 255]),
            ("a length of 16 MiB and a byte", [2, 0, 0, 0, 1, 0, 0, 1]),
            ("text", *b"hello, w"),
        ];
        for call in [Call::Frames, Call::Lines] {
            for (name, header) in cases {
                let server = engine(vec![
                    frame(1, "before\n"),
                    [&header[..], b"and much behind it"].concat(),
                    frame(1, "after\n"),
                ]);
                let docker = server.client();
                let outcome = call.run(&docker, Deadline::Short).await;
                assert_eq!(fault(outcome.error()), Fault::Malformed, "{name}, {call:?}");
                assert_eq!(
                    outcome.items.concat().trim_end(),
                    "before",
                    "{name}, {call:?}"
                );
                at_rest(&docker, 0);
                drop(docker);
                server.finish().await;
            }
        }
    });
}

#[test]
fn a_header_costs_no_memory_for_what_it_only_claims() {
    in_memory(async {
        // 16 MiB are claimed, and 5 bytes come: they are handed on at once.
        let server = Server::memory(|mut peer: Peer| async move {
            peer.request().await;
            peer.send([UNTIL_CLOSE.as_bytes(), &[1, 0, 0, 0, 1, 0, 0, 0], b"hello"].concat())
                .await;
            peer.gone().await;
        });
        let docker = server.client();
        let mut frames = docker
            .send_stream(Call::Frames.request(Deadline::Short))
            .await
            .unwrap()
            .frames(Framing::Multiplexed);
        assert_eq!(&frames.next().await.unwrap().unwrap().bytes[..], b"hello");
        drop(frames);
        at_rest(&docker, 0);
        drop(docker);
        server.finish().await;
    });
}

#[test]
fn empty_frames_say_nothing() {
    in_memory(async {
        for call in [Call::Frames, Call::Lines] {
            let server = engine(vec![
                frame(1, ""),
                frame(2, ""),
                frame(1, "one\n"),
                frame(0, ""),
                frame(1, ""),
            ]);
            let docker = server.client();
            let outcome = call.run(&docker, Deadline::Short).await;
            assert_eq!(
                (outcome.items.len(), outcome.errors.len()),
                (1, 0),
                "{call:?}"
            );
            drop(docker);
            server.finish().await;
        }
    });
}

#[test]
fn a_frame_of_type_3_is_the_engines_own_failure_and_the_stream_goes_on() {
    in_memory(async {
        for call in [Call::Frames, Call::Lines, Call::Upgrade] {
            let server = engine(vec![
                frame(1, "before\n"),
                frame(3, "error from daemon in stream: disk\n"),
                frame(2, "after\n"),
            ]);
            let docker = server.client();
            let outcome = call.run(&docker, Deadline::Short).await;
            let error = outcome.error();
            assert_eq!(
                *error.kind(),
                ErrorKind::Refused {
                    status: 200,
                    message: "error from daemon in stream: disk".into()
                },
                "{call:?}"
            );
            assert_eq!(
                outcome
                    .items
                    .iter()
                    .map(|item| item.trim_end())
                    .collect::<Vec<_>>(),
                ["before", "after"],
                "{call:?}"
            );
            at_rest(&docker, 0);
            drop(docker);
            server.finish().await;
        }
    });
}

#[test]
fn frames_are_the_same_however_they_are_split() {
    in_memory(async {
        let wire = [
            frame(1, "out\n"),
            frame(2, "err\n"),
            frame(1, ""),
            frame(0, "in\n"),
            frame(2, "no newline"),
        ]
        .concat();
        let expected = ["out\n", "err\n", "in\n", "no newline"];
        let splits = (1..wire.len()).map(|at| vec![wire[..at].to_vec(), wire[at..].to_vec()]);
        let single = wire.iter().map(|byte| vec![*byte]).collect();
        for pieces in splits.chain([single]) {
            for call in [Call::Frames, Call::Lines] {
                let server = engine(pieces.clone());
                let docker = server.client();
                let outcome = call.run(&docker, Deadline::Short).await;
                assert!(outcome.errors.is_empty(), "{outcome:?}");
                let items: Vec<_> = outcome.items.iter().map(|item| item.trim_end()).collect();
                assert_eq!(items, expected.map(str::trim_end), "{call:?}");
                drop(docker);
                server.finish().await;
            }
        }
    });
}

#[test]
fn what_a_terminal_shows_is_passed_on_whatever_its_first_bytes_are() {
    in_memory(async {
        for first in [0u8, 1, 2, 3, 4, 255] {
            let shown = [
                vec![first],
                vec![0, 0, 0, 0, 0, 0, 5],
                b"hello\x1b[0m".to_vec(),
            ]
            .concat();
            let server = engine(vec![shown.clone()]);
            let docker = server.client();
            let mut frames = docker
                .send_stream(Call::Bytes.request(Deadline::Short))
                .await
                .unwrap()
                .frames(Framing::Raw);
            let frame = frames.next().await.unwrap().unwrap();
            assert_eq!(
                (frame.source, &frame.bytes[..]),
                (Source::Stdout, &shown[..])
            );
            assert!(frames.next().await.is_none());
            drop((frames, docker));
            server.finish().await;
        }
    });
}

#[test]
fn output_without_a_newline_comes_in_parts_of_the_bound() {
    in_memory(async {
        const PIECES: usize = 512;
        for framing in [Framing::Raw, Framing::Multiplexed] {
            let piece = vec![b'x'; 16 * 1024];
            let piece = if framing == Framing::Raw {
                piece
            } else {
                frame(1, piece)
            };
            let server = engine(vec![piece; PIECES]);
            let docker = server.client();
            let lines = lines(&docker, framing, 1000).await;
            assert!(
                lines
                    .iter()
                    .all(|(_, text, partial)| text.len() <= 1000 && *partial)
            );
            assert_eq!(
                lines.iter().map(|(_, text, _)| text.len()).sum::<usize>(),
                PIECES * 16 * 1024
            );
            drop(docker);
            server.finish().await;
        }
    });
}

#[test]
fn a_character_cut_between_frames_and_sources_stays_whole() {
    in_memory(async {
        let out = "größer → 🦀\n".as_bytes();
        let err = "naïve\n".as_bytes();
        for at in 0..=out.len() {
            for other in 0..=err.len() {
                let server = engine(vec![
                    frame(1, &out[..at]),
                    frame(2, &err[..other]),
                    frame(1, &out[at..]),
                    frame(2, &err[other..]),
                ]);
                let docker = server.client();
                let mut lines = lines(&docker, Framing::Multiplexed, 1024).await;
                lines.sort_by_key(|(source, ..)| *source == Source::Stderr);
                assert_eq!(
                    lines,
                    [
                        (Source::Stdout, "größer → 🦀".into(), false),
                        (Source::Stderr, "naïve".into(), false)
                    ]
                );
                drop(docker);
                server.finish().await;
            }
        }
    });
}
