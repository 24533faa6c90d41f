//! Replies of 200 that fail on the way: pulls, pushes, loads and imports.

use berth_docker::api::ImportImage;
use berth_docker::pull::PullImage;
use berth_docker::{Body, Docker, Error, ErrorKind, Phase};

use crate::support::call::{Fault, Sent, fault};
use crate::support::fixture::{CHUNKED, LAST_CHUNK, chunk, recorded};
use crate::support::process::{in_memory, on_sockets};
use crate::support::{Peer, SOCKETS, Server, Transport, at_rest};

#[derive(Debug, Clone, Copy)]
enum Task {
    Pull,
    Push,
    Load,
    Import,
}

const ALL: [Task; 4] = [Task::Pull, Task::Push, Task::Load, Task::Import];

impl Task {
    async fn run(self, docker: &Docker) -> Result<(), Error> {
        let archive = || Body::Bytes("tar".into());
        match self {
            Self::Pull => docker
                .pull_image("busybox:1.36", PullImage::default())
                .await?
                .wait()
                .await
                .map(drop),
            Self::Push => docker.push_image("busybox:1.36", None).await?.wait().await,
            Self::Load => docker.load_images(archive()).await.map(drop),
            Self::Import => docker
                .import_image(archive(), &ImportImage::default())
                .await
                .map(drop),
        }
    }

    /// What an engine says when it goes well.
    fn recorded(self) -> Vec<u8> {
        recorded(match self {
            Self::Pull => "image-pull-up-to-date.ndjson",
            Self::Push => "image-push-again.ndjson",
            Self::Load => "image-load.ndjson",
            Self::Import => "image-import.ndjson",
        })
    }
}

/// An engine that answers `body` in one chunk, and ends it.
fn engine(body: Vec<u8>) -> Server {
    Server::memory(move |mut peer: Peer| {
        let body = body.clone();
        async move {
            peer.request().await;
            peer.send([CHUNKED.as_bytes(), &chunk(&body), LAST_CHUNK.as_bytes()].concat())
                .await;
            peer.gone().await;
        }
    })
}

async fn run(task: Task, body: Vec<u8>) -> Result<(), Error> {
    let server = engine(body);
    let docker = server.client();
    let result = task.run(&docker).await;
    at_rest(&docker, 0);
    drop(docker);
    server.finish().await;
    result
}

#[test]
fn a_failure_in_the_stream_is_the_failure_of_the_call_wherever_it_stands() {
    in_memory(async {
        for task in ALL {
            let good = task.recorded();
            run(task, good.clone())
                .await
                .unwrap_or_else(|error| panic!("{task:?}: {error}"));
            let failures = [
                (
                    "both",
                    "{\"errorDetail\":{\"code\":1,\"message\":\"disk full\"},\"error\":\"disk full\"}",
                ),
                (
                    "the detail alone",
                    "{\"errorDetail\":{\"message\":\"disk full\"}}",
                ),
                ("the text alone", "{\"error\":\"disk full\"}"),
            ];
            for (name, failure) in failures {
                let places = [
                    ("first", [failure.as_bytes(), b"\r\n", &good].concat()),
                    (
                        "last, without a line break",
                        [&good, failure.as_bytes()].concat(),
                    ),
                    ("alone", failure.into()),
                ];
                for (place, body) in places {
                    let error = run(task, body).await.unwrap_err();
                    let expected = ErrorKind::Refused {
                        status: 200,
                        message: "disk full".into(),
                    };
                    assert_eq!(*error.kind(), expected, "{task:?}, {name}, {place}");
                    assert!(!error.effect_is_unknown());
                }
            }
        }
    });
}

#[test]
fn a_failure_behind_very_many_messages_is_found_and_they_are_not_kept() {
    in_memory(async {
        for task in ALL {
            let server = Server::memory(|mut peer: Peer| async move {
                peer.request().await;
                peer.send(CHUNKED).await;
                let block = "{\"status\":\"Downloading\",\"id\":\"a\"}\r\n".repeat(1000);
                for _ in 0..50 {
                    peer.send(chunk(&block)).await;
                }
                peer.send(
                    [
                        &chunk("{\"error\":\"disk full\"}")[..],
                        LAST_CHUNK.as_bytes(),
                    ]
                    .concat(),
                )
                .await;
                peer.gone().await;
            });
            let docker = server.client();
            let error = task.run(&docker).await.unwrap_err();
            assert_eq!(fault(&error), Fault::Refused(200), "{task:?}");
            drop(docker);
            server.finish().await;
        }
    });
}

/// Lets the engine go away after each prefix of what it said in earnest.
async fn cut_everywhere(transport: Transport, task: Task, step: usize) {
    let wire = move || {
        let body = task.recorded();
        let chunks: Vec<u8> = body
            .split_inclusive(|byte| *byte == b'\n')
            .flat_map(chunk)
            .collect();
        [recorded("image-pull.head"), chunks, LAST_CHUNK.into()].concat()
    };
    let (head, cuts) = (
        recorded("image-pull.head").len(),
        wire().len().div_ceil(step),
    );
    let server = Server::on(transport, move |mut peer: Peer| async move {
        peer.request().await;
        peer.send(&wire()[..peer.index * step]).await;
    })
    .await;
    let docker = server.client();
    for cut in 0..cuts {
        let error = task.run(&docker).await.expect_err("a cut is no success");
        let phase = if cut * step < head {
            Phase::Headers
        } else {
            Phase::Body
        };
        assert_eq!(
            fault(&error),
            Fault::NoAnswer(phase, Sent::Yes),
            "{task:?} over {transport:?} after {} bytes",
            cut * step
        );
        at_rest(&docker, 0);
    }
    drop(docker);
    server.finish().await;
}

#[test]
fn a_cut_at_any_byte_is_no_success() {
    in_memory(async {
        for task in ALL {
            cut_everywhere(Transport::Memory, task, 1).await;
        }
    });
    on_sockets(async {
        for transport in SOCKETS {
            cut_everywhere(*transport, Task::Pull, 31).await;
        }
    });
}

#[test]
fn what_is_no_progress_at_all_is_malformed() {
    in_memory(async {
        for task in ALL {
            for body in [
                "nonsense\n",
                "{\"status\":",
                "[1]",
                "<html>please log in</html>",
            ] {
                let error = run(task, body.into()).await.unwrap_err();
                assert_eq!(fault(&error), Fault::Malformed, "{task:?} {body:?}");
            }
        }
    });
}
