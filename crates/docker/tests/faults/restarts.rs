//! An engine that restarts in the middle of what it was asked: the loss is an error of its own kind, and the same client goes on afterwards.

use berth_docker::api::{AttachOptions, LogsOptions, WaitCondition};
use berth_docker::pull::PullImage;
use berth_docker::{Docker, Error, FrameStream, Phase};

use crate::support::call::{Fault, Sent, fault};
use crate::support::fixture::{LAST_CHUNK, UPGRADED, chunk, frame, recorded};
use crate::support::process::on_sockets;
use crate::support::{Peer, SOCKETS, Server, at_rest, soon};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Task {
    Logs,
    Attach,
    Exec,
    Wait,
    Pull,
    Stats,
}

const ALL: [Task; 6] = [
    Task::Logs,
    Task::Attach,
    Task::Exec,
    Task::Wait,
    Task::Pull,
    Task::Stats,
];

async fn drain(mut stream: FrameStream) -> Result<(), Error> {
    while let Some(frame) = stream.next().await {
        frame?;
    }
    Ok(())
}

impl Task {
    async fn run(self, docker: &Docker) -> Result<(), Error> {
        match self {
            Self::Logs => {
                drain(
                    docker
                        .logs(
                            "web",
                            &LogsOptions {
                                follow: true,
                                ..LogsOptions::default()
                            },
                        )
                        .await?,
                )
                .await
            }
            Self::Attach => {
                drain(
                    docker
                        .attach("web", &AttachOptions::default())
                        .await?
                        .output,
                )
                .await
            }
            Self::Exec => drain(docker.start_exec("e1", false).await?.output).await,
            Self::Wait => docker
                .wait_container("web", WaitCondition::NotRunning)
                .await
                .map(drop),
            Self::Pull => docker
                .pull_image("busybox", PullImage::default())
                .await?
                .wait()
                .await
                .map(drop),
            Self::Stats => {
                let mut stats = docker.stats_stream("web").await?;
                while let Some(sample) = stats.next().await {
                    sample?;
                }
                Ok(())
            }
        }
    }

    /// What the engine says, whole.
    fn reply(self) -> Vec<u8> {
        let chunked = |body: Vec<u8>| {
            let chunks: Vec<u8> = body
                .split_inclusive(|byte| *byte == b'\n')
                .flat_map(chunk)
                .collect();
            [recorded("logs-mux.head"), chunks, LAST_CHUNK.into()].concat()
        };
        match self {
            Self::Logs => chunked(recorded("logs-mux.bin")),
            Self::Attach | Self::Exec => {
                let head = UPGRADED.replace("raw-stream", "multiplexed-stream");
                [head.as_bytes(), &frame(1, "some output")].concat()
            }
            Self::Wait => chunked(recorded("container-wait-exited.json")),
            Self::Pull => chunked(recorded("image-pull-up-to-date.ndjson")),
            Self::Stats => chunked(recorded("container-stats-stream.ndjson")),
        }
    }
}

#[test]
fn what_a_restart_breaks_off_is_an_error_and_can_be_asked_again() {
    on_sockets(async {
        for transport in SOCKETS {
            for task in ALL {
                let server = Server::on(*transport, move |mut peer: Peer| async move {
                    peer.request().await;
                    let reply = task.reply();
                    // The first time the engine dies near the end of what it has to say.
                    if peer.index == 0 {
                        peer.send(&reply[..reply.len() - 12]).await;
                        return;
                    }
                    peer.send(&reply).await;
                    peer.fin().await;
                    peer.gone().await;
                })
                .await;
                let docker = server.client();
                let error = soon(task.run(&docker))
                    .await
                    .expect_err("the engine is gone");
                let lost = Fault::NoAnswer(Phase::Body, Sent::Yes);
                match task {
                    // Behind an upgrade it is the frame that tells, or TLS.
                    Task::Attach | Task::Exec => assert!(
                        [Fault::Malformed, lost].contains(&fault(&error)),
                        "{transport:?} {task:?}: {error}"
                    ),
                    _ => assert_eq!(fault(&error), lost, "{transport:?} {task:?}: {error}"),
                }
                at_rest(&docker, 0);
                soon(task.run(&docker))
                    .await
                    .unwrap_or_else(|error| panic!("{transport:?} {task:?}: {error}"));
                assert_eq!(server.accepted(), 2);
                at_rest(&docker, 0);
                drop(docker);
                server.finish().await;
            }
        }
    });
}
