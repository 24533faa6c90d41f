//! Short calls and streams do not wait for each other.

use std::time::{Duration, Instant};

use berth_docker::{ApiVersion, ByteStream, ConnectOptions, Deadline, Docker, Method, Request};
use tokio::net::UnixListener;

use crate::support::call::OPERATION;
use crate::support::fixture::{CHUNKED, chunk, ok, recorded};
use crate::support::process::{in_memory, on_sockets};
use crate::support::{Peer, Server, Transport, at_rest, eventually, soon};

const FOLLOWS: usize = 1000;

fn follow() -> Request {
    Request::new(OPERATION, Method::Get, "/containers/web/logs")
        .query("follow", true)
        .deadline(Deadline::Stream { idle: None })
}

fn inspect() -> Request {
    Request::new(OPERATION, Method::Get, "/containers/web/json")
}

/// An engine with one line of output for each follow, and then none.
async fn engine(transport: Transport) -> Server {
    Server::on(transport, |mut peer: Peer| async move {
        while let Some(request) = peer.request().await {
            if request.line().contains("/logs") {
                peer.send([CHUNKED.as_bytes(), &chunk("a line\n")].concat())
                    .await;
                peer.gone().await;
                return;
            }
            peer.send(ok(recorded("container-inspect-running.json")))
                .await;
        }
    })
    .await
}

async fn follows(docker: &Docker) -> Vec<ByteStream> {
    let mut streams = Vec::new();
    for _ in 0..FOLLOWS {
        let mut stream = docker.send_stream(follow()).await.unwrap();
        assert_eq!(&stream.next().await.unwrap().unwrap()[..], b"a line\n");
        streams.push(stream);
    }
    streams
}

/// The median time of an inspect.
async fn time(docker: &Docker) -> Duration {
    let mut times = Vec::new();
    for _ in 0..301 {
        let since = Instant::now();
        docker
            .send_json::<serde_json::Value>(inspect())
            .await
            .unwrap();
        times.push(since.elapsed());
    }
    times.sort_unstable();
    times[times.len() / 2]
}

#[test]
fn a_thousand_open_follows_do_not_slow_an_inspect() {
    on_sockets(async {
        // Both ends of each are in this process.
        let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
        let raised = rustix::process::Rlimit {
            current: limit.maximum,
            maximum: limit.maximum,
        };
        rustix::process::setrlimit(rustix::process::Resource::Nofile, raised).unwrap();

        let server = engine(Transport::Unix).await;
        let docker = server.client();
        let alone = time(&docker).await;
        let streams = follows(&docker).await;
        assert_eq!(docker.metrics().streams_open(), FOLLOWS as i64);
        assert_eq!(
            docker.idle_connections(),
            1,
            "an inspect has its own connection"
        );
        let beside = time(&docker).await;
        assert_eq!(server.accepted(), FOLLOWS + 1);
        // Far more than noise, far less than a queue behind a thousand.
        assert!(
            beside < alone * 5 + Duration::from_millis(1),
            "{alone:?} alone, {beside:?} beside {FOLLOWS} follows"
        );
        drop(streams);
        at_rest(&docker, 1);
        eventually("the engine sees them go", || server.open() == 1).await;
        drop(docker);
        server.finish().await;
    });
}

#[test]
fn a_thousand_follows_that_wait_for_their_head_do_not_hold_up_an_inspect() {
    in_memory(async {
        let server = Server::memory(|mut peer: Peer| async move {
            while let Some(request) = peer.request().await {
                if request.line().contains("/logs") {
                    return drop(peer.gone().await);
                }
                peer.send(ok("{}")).await;
            }
        });
        let docker = server.client();
        let waiting: Vec<_> = (0..FOLLOWS)
            .map(|_| {
                let docker = docker.clone();
                tokio::spawn(async move { docker.send_stream(follow()).await.map(drop) })
            })
            .collect();
        eventually("all have asked", || server.requests().len() == FOLLOWS).await;
        let since = tokio::time::Instant::now();
        docker.send(inspect()).await.unwrap();
        assert!(since.elapsed() < Duration::from_millis(1));
        for task in &waiting {
            task.abort();
        }
        for task in waiting {
            assert!(task.await.unwrap_err().is_cancelled());
        }
        at_rest(&docker, 1);
        drop(docker);
        server.finish().await;
    });
}

#[test]
fn streams_that_cannot_connect_do_not_hold_up_an_inspect() {
    on_sockets(async {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("engine.sock");
        let socket =
            socket2::Socket::new(socket2::Domain::UNIX, socket2::Type::STREAM, None).unwrap();
        socket
            .bind(&socket2::SockAddr::unix(&path).unwrap())
            .unwrap();
        socket.listen(1).unwrap();
        socket.set_nonblocking(true).unwrap();
        let listener =
            UnixListener::from_std(std::os::unix::net::UnixListener::from(socket)).unwrap();
        let options = ConnectOptions::new(format!("unix://{}", path.display()).parse().unwrap());
        let docker = Docker::builder(options.with_api_version(ApiVersion::new(1, 44)).unwrap())
            .build()
            .unwrap();

        // One connection is accepted and serves on; then nobody accepts any more.
        let engine = tokio::spawn(async move {
            use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = [0; 4096];
            while stream.read(&mut request).await.is_ok_and(|len| len > 0) {
                stream.write_all(&ok("{}")).await.unwrap();
            }
            drop(listener);
        });
        soon(docker.send(inspect())).await.unwrap();
        let stuck: Vec<_> = (0..100)
            .map(|_| {
                let docker = docker.clone();
                tokio::spawn(async move { docker.send_stream(follow()).await.map(drop) })
            })
            .collect();
        // The backlog is full once one more connection is told to come again.
        eventually("the backlog is full", || {
            let probe =
                socket2::Socket::new(socket2::Domain::UNIX, socket2::Type::STREAM, None).unwrap();
            probe.set_nonblocking(true).unwrap();
            probe
                .connect(&socket2::SockAddr::unix(&path).unwrap())
                .is_err()
        })
        .await;
        for _ in 0..100 {
            soon(docker.send(inspect())).await.unwrap();
        }
        assert!(stuck.iter().all(|task| !task.is_finished()));
        for task in &stuck {
            task.abort();
        }
        for task in stuck {
            assert!(task.await.unwrap_err().is_cancelled());
        }
        at_rest(&docker, 1);
        drop(docker);
        engine.await.unwrap();
    });
}
