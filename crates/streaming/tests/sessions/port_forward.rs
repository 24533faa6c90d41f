//! Port-forward: pairs of SPDY streams, the same inside a WebSocket, and the old channels.

use std::io;
use std::time::Duration;

use berth_streaming::{Duplex, Session};
use futures_util::{SinkExt as _, StreamExt as _};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_tungstenite::tungstenite::Message;

use super::support::handlers::pattern;
use super::support::spdy::{Client, Seen, data_frame, data_frames};
use super::support::{in_memory, serve, websocket};

/// A session whose connections' other ends come out of the channel; port 9 is closed.
fn forwarded(ports: Vec<u16>) -> (Session, mpsc::UnboundedReceiver<(u16, DuplexStream)>) {
    let (send, targets) = mpsc::unbounded_channel();
    let session = Session::port_forward(ports, move |port| {
        let send = send.clone();
        async move {
            if port == 9 {
                return Err(io::Error::from(io::ErrorKind::ConnectionRefused));
            }
            let (ours, theirs) = tokio::io::duplex(16 * 1024);
            send.send((port, theirs)).unwrap();
            Ok(Box::new(ours) as Box<dyn Duplex>)
        }
    });
    (session, targets)
}

/// A session whose ports send back what they get.
fn echo() -> Session {
    Session::port_forward(vec![], async |_| {
        let (ours, theirs) = tokio::io::duplex(16 * 1024);
        tokio::spawn(async move {
            let (mut read, mut write) = tokio::io::split(theirs);
            tokio::io::copy(&mut read, &mut write).await.unwrap();
            write.shutdown().await.unwrap();
        });
        Ok(Box::new(ours) as Box<dyn Duplex>)
    })
}

/// The streams of one connection.
#[derive(Debug, Clone, Copy)]
struct Pair {
    error: u32,
    data: u32,
}

/// Opens a connection as client-go does: the error stream, which is half closed at once, then the data stream.
async fn open<S>(client: &mut Client<S>, port: &str, request: &str) -> Pair
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
{
    let headers = |kind| [("streamtype", kind), ("port", port), ("requestid", request)];
    let error = client.open(&headers("error")).await;
    client.send(error, b"", true).await;
    let data = client.open(&headers("data")).await;
    Pair { error, data }
}

#[test]
fn connections_are_carried_side_by_side() {
    in_memory(async {
        let served = serve(echo());
        let mut client = Client::port_forward(served.io).await;
        let mut pairs = Vec::new();
        for request in 0..50 {
            pairs.push(open(&mut client, "80", &request.to_string()).await);
        }
        let (mut client, mut write) = client.split();
        let bytes = pattern(200_000);
        let writing = async {
            for chunk in bytes.chunks(10_000) {
                for pair in &pairs {
                    let frame = data_frame(pair.data, chunk, false);
                    write.write_all(&frame).await.unwrap();
                }
            }
            for pair in &pairs {
                let frame = data_frame(pair.data, b"", true);
                write.write_all(&frame).await.unwrap();
            }
        };
        let reading = client.until(|client| {
            pairs
                .iter()
                .all(|pair| client.streams[&pair.data].fin && client.streams[&pair.error].fin)
        });
        tokio::join!(writing, reading);
        for pair in &pairs {
            assert!(client.streams[&pair.data].data == bytes);
            assert_eq!(client.streams[&pair.error].text(), "");
        }
    });
}

#[test]
fn a_refused_connection_is_told_and_the_others_live_on() {
    in_memory(async {
        let (session, mut targets) = forwarded(vec![]);
        let served = serve(session);
        let mut client = Client::port_forward(served.io).await;
        let good = open(&mut client, "80", "0").await;
        let (port, mut target) = targets.recv().await.unwrap();
        assert_eq!(port, 80);
        let refused = open(&mut client, "9", "1").await;
        client
            .until(|client| client.streams[&refused.data].reset == Some(5))
            .await;
        let error = client.streams[&refused.error].text();
        assert_eq!(error, "error forwarding port 9 to pod: connection refused");
        assert!(client.streams[&refused.error].fin);

        client.send(good.data, b"still here", false).await;
        let mut buffer = [0; 10];
        target.read_exact(&mut buffer).await.unwrap();
        target.write_all(&buffer).await.unwrap();
        client
            .until(|client| client.streams[&good.data].text() == "still here")
            .await;
        let later = open(&mut client, "81", "2").await;
        assert_eq!(targets.recv().await.unwrap().0, 81);
        client.reset(later.data, 5).await;
    });
}

#[test]
fn each_direction_ends_by_itself() {
    in_memory(async {
        let (session, mut targets) = forwarded(vec![]);
        let served = serve(session);
        let mut client = Client::port_forward(served.io).await;

        // The client's first.
        let pair = open(&mut client, "80", "0").await;
        let (_, mut target) = targets.recv().await.unwrap();
        client.send(pair.data, b"request", true).await;
        let mut all = String::new();
        target.read_to_string(&mut all).await.unwrap();
        assert_eq!(all, "request");
        tokio::time::sleep(Duration::from_secs(600)).await;
        target.write_all(b"late reply").await.unwrap();
        drop(target);
        client
            .until(|client| client.streams[&pair.data].fin && client.streams[&pair.error].fin)
            .await;
        assert_eq!(client.streams[&pair.data].text(), "late reply");
        assert_eq!(client.streams[&pair.data].reset, None);

        // The port's first. Clients wait for the end of the error stream then.
        let pair = open(&mut client, "80", "1").await;
        let (_, mut target) = targets.recv().await.unwrap();
        target.write_all(b"hello").await.unwrap();
        target.shutdown().await.unwrap();
        client
            .until(|client| client.streams[&pair.data].fin && client.streams[&pair.error].fin)
            .await;
        assert_eq!(client.streams[&pair.data].text(), "hello");
        client.send(pair.data, b"goodbye", true).await;
        let mut all = String::new();
        target.read_to_string(&mut all).await.unwrap();
        assert_eq!(all, "goodbye");
    });
}

#[test]
fn a_connection_that_breaks_midway_is_reset_without_a_word() {
    in_memory(async {
        struct Broken;
        impl tokio::io::AsyncRead for Broken {
            fn poll_read(
                self: std::pin::Pin<&mut Self>,
                _: &mut std::task::Context<'_>,
                _: &mut tokio::io::ReadBuf<'_>,
            ) -> std::task::Poll<io::Result<()>> {
                std::task::Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()))
            }
        }
        let session = Session::port_forward(vec![], async |_| {
            Ok(Box::new(tokio::io::join(Broken, tokio::io::sink())) as Box<dyn Duplex>)
        });
        let mut client = Client::port_forward(serve(session).io).await;
        let pair = open(&mut client, "80", "0").await;
        // Go clients end the whole session at a word.
        client
            .until(|client| client.streams[&pair.error].reset == Some(5))
            .await;
        assert_eq!(client.streams[&pair.data].reset, Some(5));
        assert_eq!(client.streams[&pair.error].text(), "");
    });
}

#[test]
fn a_task_that_panics_fails_its_connection_alone() {
    in_memory(async {
        let session = Session::port_forward(vec![], async |port| {
            assert_ne!(port, 80, "a test");
            let (ours, _) = tokio::io::duplex(16);
            Ok(Box::new(ours) as Box<dyn Duplex>)
        });
        let mut client = Client::port_forward(serve(session).io).await;
        let pair = open(&mut client, "80", "0").await;
        client
            .until(|client| client.streams[&pair.data].reset == Some(5))
            .await;
        assert_eq!(client.streams[&pair.error].text(), "internal error");
        let pair = open(&mut client, "81", "1").await;
        client.until(|client| client.streams[&pair.data].fin).await;
    });
}

#[test]
fn streams_without_what_they_need_are_refused() {
    in_memory(async {
        let (session, mut targets) = forwarded(vec![]);
        let mut client = Client::port_forward(serve(session).io).await;
        for headers in [
            &[("streamtype", "data"), ("requestid", "0")][..],
            &[("port", "80"), ("requestid", "0")],
            &[("streamtype", "stdin"), ("port", "80"), ("requestid", "0")],
            &[("streamtype", "data"), ("port", "0"), ("requestid", "0")],
            &[
                ("streamtype", "data"),
                ("port", "65536"),
                ("requestid", "0"),
            ],
            &[("streamtype", "data"), ("port", "http"), ("requestid", "0")],
        ] {
            let id = client.open(headers).await;
            assert_eq!(client.streams[&id].reset, Some(3), "{headers:?}");
        }
        // The second of its kind in one pair.
        let headers = |kind| [("streamtype", kind), ("port", "80"), ("requestid", "0")];
        client.open(&headers("error")).await;
        let second = client.open(&headers("error")).await;
        assert_eq!(client.streams[&second].reset, Some(3));
        client.open(&headers("data")).await;
        assert_eq!(targets.recv().await.unwrap().0, 80);
    });
}

#[test]
fn streams_pair_in_either_order_and_without_a_request_id_by_their_ids() {
    in_memory(async {
        let (session, mut targets) = forwarded(vec![]);
        let mut client = Client::port_forward(serve(session).io).await;
        let data = [("streamtype", "data"), ("port", "80"), ("requestid", "a")];
        let error = [("streamtype", "error"), ("port", "80"), ("requestid", "a")];
        let id = client.open(&data).await;
        client.send(id, b"early", false).await;
        client.open(&error).await;
        let (_, mut target) = targets.recv().await.unwrap();
        let mut buffer = [0; 5];
        target.read_exact(&mut buffer).await.unwrap();
        assert_eq!(&buffer, b"early");

        for port in ["81", "82"] {
            client
                .open(&[("streamtype", "error"), ("port", port)])
                .await;
            client.open(&[("streamtype", "data"), ("port", port)]).await;
            let (got, _target) = targets.recv().await.unwrap();
            assert_eq!(got.to_string(), port);
        }
    });
}

#[test]
fn half_a_pair_is_given_up_after_thirty_seconds() {
    in_memory(async {
        let (session, mut targets) = forwarded(vec![]);
        let served = serve(session);
        let mut client = Client::port_forward(served.io).await;
        let began = Instant::now();
        let error = client
            .open(&[("streamtype", "error"), ("port", "80"), ("requestid", "7")])
            .await;
        tokio::time::sleep(Duration::from_secs(10)).await;
        let data = client
            .open(&[("streamtype", "data"), ("port", "80"), ("requestid", "8")])
            .await;
        let good = open(&mut client, "80", "9").await;
        let (_, mut target) = targets.recv().await.unwrap();
        client
            .until(|client| client.streams[&error].reset.is_some())
            .await;
        assert_eq!(began.elapsed().as_secs(), 30);
        assert_eq!(
            client.streams[&error].text(),
            "(request=7) timed out waiting for streams"
        );
        client
            .until(|client| client.streams[&data].reset.is_some())
            .await;
        assert_eq!(began.elapsed().as_secs(), 40);
        target.write_all(b"lives").await.unwrap();
        client
            .until(|client| client.streams[&good.data].text() == "lives")
            .await;
        tokio::time::sleep(Duration::from_secs(60)).await;
        assert_eq!(client.streams[&good.data].reset, None);
    });
}

#[test]
fn what_the_client_gives_up_is_dropped() {
    in_memory(async {
        let (session, mut targets) = forwarded(vec![]);
        let served = serve(session);
        let mut client = Client::port_forward(served.io).await;
        let one = open(&mut client, "80", "0").await;
        open(&mut client, "81", "1").await;
        let (_, mut first) = targets.recv().await.unwrap();
        let (_, mut second) = targets.recv().await.unwrap();
        client.reset(one.data, 5).await;
        let mut buffer = [0];
        assert_eq!(first.read(&mut buffer).await.unwrap(), 0);
        client.ping(1).await;
        client
            .until(|client| client.seen.contains(&Seen::Ping(1)))
            .await;
        drop(client);
        assert_eq!(second.read(&mut buffer).await.unwrap(), 0);
        served.ended.await.unwrap();
        assert!(targets.recv().await.is_none(), "the session is dropped");
    });
}

#[test]
fn a_port_that_takes_nothing_holds_up_no_more_than_is_bounded() {
    in_memory(async {
        let (session, mut targets) = forwarded(vec![]);
        let served = serve(session);
        let mut client = Client::port_forward(served.io).await;
        let stuck = open(&mut client, "80", "0").await;
        let good = open(&mut client, "81", "1").await;
        let (_, target) = targets.recv().await.unwrap();
        let (_, mut other) = targets.recv().await.unwrap();
        // Below the bound the other connection is not held up.
        client
            .write(&data_frames(stuck.data, &[0; 200 * 1024]))
            .await;
        client.send(good.data, b"x", false).await;
        assert_eq!(other.read_u8().await.unwrap(), b'x');
        // Above it the client has to wait, and is sent signs of life.
        let (mut client, mut write) = client.split();
        let frames = data_frames(stuck.data, &[0; 1024 * 1024]);
        let flood = tokio::spawn(async move {
            let _ = write.write_all(&frames).await;
            write
        });
        client
            .until(|client| client.seen.contains(&Seen::Ping(2)))
            .await;
        assert!(!flood.is_finished());
        // Data for a port that has gone is thrown away.
        drop(target);
        let mut write = flood.await.unwrap();
        write
            .write_all(&data_frame(good.data, b"y", false))
            .await
            .unwrap();
        assert_eq!(other.read_u8().await.unwrap(), b'y');
    });
}

#[test]
fn a_session_that_is_stopped_says_goaway() {
    in_memory(async {
        let (session, mut targets) = forwarded(vec![]);
        let served = serve(session);
        let mut client = Client::port_forward(served.io).await;
        open(&mut client, "80", "0").await;
        let (_, mut target) = targets.recv().await.unwrap();
        served.stop.cancel();
        client.until_closed().await;
        assert_eq!(client.seen.last(), Some(&Seen::GoAway(0)));
        assert_eq!(target.read(&mut [0]).await.unwrap(), 0);
        drop(client);
        served.ended.await.unwrap();
    });
}

/// The bytes inside a WebSocket: a task moves them, in messages of odd sizes.
async fn tunnelled(io: DuplexStream) -> (DuplexStream, tokio::task::JoinHandle<Option<u16>>) {
    let protocols = ["SPDY/3.1+portforward.k8s.io"];
    let client = websocket::Client::connect(io, "ws://test/portforward", &protocols)
        .await
        .expect("an upgrade");
    assert_eq!(
        client.response.headers()["sec-websocket-protocol"],
        protocols[0]
    );
    let (outer, inner) = tokio::io::duplex(1024);
    let task = tokio::spawn(async move {
        let (mut sink, mut stream) = client.socket.split();
        let (mut read, mut write) = tokio::io::split(inner);
        let mut buffer = [0; 777];
        loop {
            tokio::select! {
                length = read.read(&mut buffer) => {
                    let length = length.unwrap();
                    if length == 0 {
                        sink.send(Message::Close(None)).await.unwrap();
                        return None;
                    }
                    let message = Message::binary(buffer[..length].to_vec());
                    sink.send(message).await.unwrap();
                }
                message = stream.next() => match message.unwrap().unwrap() {
                    Message::Binary(bytes) => write.write_all(&bytes).await.unwrap(),
                    Message::Close(frame) => return frame.map(|frame| frame.code.into()),
                    _ => {}
                }
            }
        }
    });
    (outer, task)
}

#[test]
fn a_tunnel_carries_the_same_and_closes_in_good_order() {
    in_memory(async {
        let (session, mut targets) = forwarded(vec![]);
        let served = serve(session);
        let (io, tunnel) = tunnelled(served.io).await;
        let mut client = Client::over(io);
        let pair = open(&mut client, "80", "0").await;
        let (_, mut target) = targets.recv().await.unwrap();
        let bytes = pattern(300_000);
        let (mut client, mut write) = client.split();
        let frames = data_frames(pair.data, &bytes);
        let mut got = vec![0; bytes.len()];
        let writing = async { write.write_all(&frames).await.unwrap() };
        let reading = async {
            target.read_exact(&mut got).await.unwrap();
            target.write_all(&got).await.unwrap();
        };
        let all = client.until(|client| client.streams[&pair.data].data.len() == bytes.len());
        tokio::join!(writing, reading, all);
        assert!(client.streams[&pair.data].data == bytes);

        served.stop.cancel();
        client.until_closed().await;
        assert_eq!(client.seen.last(), Some(&Seen::GoAway(0)));
        assert_eq!(tunnel.await.unwrap(), Some(1000));
        served.ended.await.unwrap();
    });
}

#[test]
fn a_client_that_closes_its_tunnel_ends_the_session() {
    in_memory(async {
        let (session, mut targets) = forwarded(vec![]);
        let served = serve(session);
        let (io, tunnel) = tunnelled(served.io).await;
        let mut client = Client::over(io);
        open(&mut client, "80", "0").await;
        let (_, mut target) = targets.recv().await.unwrap();
        drop(client);
        assert_eq!(target.read(&mut [0]).await.unwrap(), 0);
        tunnel.await.unwrap();
        served.ended.await.unwrap();
    });
}

#[test]
fn a_ping_of_the_tunnel_is_answered() {
    in_memory(async {
        let served = serve(echo());
        let protocols = ["SPDY/3.1+portforward.k8s.io"];
        let mut client = websocket::Client::connect(served.io, "ws://test/", &protocols)
            .await
            .expect("an upgrade");
        let ping = bytes::Bytes::from_static(b"there?");
        client
            .socket
            .send(Message::Ping(ping.clone()))
            .await
            .unwrap();
        assert_eq!(client.next().await, Some(Message::Pong(ping)));
    });
}

#[test]
fn the_old_channels_carry_a_connection_to_each_port() {
    in_memory(async {
        let (session, mut targets) = forwarded(vec![]);
        let served = serve(session);
        let protocols = ["v5.channel.k8s.io", "v4.channel.k8s.io"];
        let url = "ws://test/portforward?port=80&port=9,81";
        let mut client = websocket::Client::connect(served.io, url, &protocols)
            .await
            .expect("an upgrade");
        assert_eq!(
            client.response.headers()["sec-websocket-protocol"],
            "v4.channel.k8s.io"
        );
        let (_, mut first) = targets.recv().await.unwrap();
        let (_, mut second) = targets.recv().await.unwrap();
        client.send(0, b"to 80").await;
        client.send(4, b"to 81").await;
        client.send(1, b"not an input").await;
        let mut buffer = [0; 5];
        first.read_exact(&mut buffer).await.unwrap();
        assert_eq!(&buffer, b"to 80");
        first.write_all(b"from 80").await.unwrap();
        drop(first);
        second.read_exact(&mut buffer).await.unwrap();
        assert_eq!(&buffer, b"to 81");
        second.write_all(b"from 81").await.unwrap();
        drop(second);
        // When all connections are over, so is the session.
        let got = client.until_closed().await;
        let with_port = |port: u16, text: &str| [&port.to_le_bytes(), text.as_bytes()].concat();
        assert_eq!(got.channels[0], with_port(80, "from 80"));
        assert_eq!(got.channels[1], with_port(80, ""));
        assert_eq!(got.channels[2], with_port(9, ""));
        assert_eq!(
            got.channels[3],
            with_port(9, "error forwarding port 9 to pod: connection refused")
        );
        assert_eq!(got.channels[4], with_port(81, "from 81"));
        assert_eq!(got.channels[5], with_port(81, ""));
        assert_eq!(got.close, Some(1000));
        served.ended.await.unwrap();
    });
}

#[test]
fn the_old_channels_take_the_sessions_ports_first_and_need_some() {
    in_memory(async {
        let (session, mut targets) = forwarded(vec![443]);
        let served = serve(session);
        let mut client = websocket::Client::connect(served.io, "ws://test/?port=80", &[])
            .await
            .expect("an upgrade");
        assert_eq!(targets.recv().await.unwrap().0, 443);
        let got = client.next().await.unwrap();
        assert_eq!(got, Message::binary(vec![0, 0xbb, 0x01]));

        let (session, _targets) = forwarded(vec![]);
        let served = serve(session);
        let refusal = websocket::Client::connect(served.io, "ws://test/", &[]).await;
        let refusal = refusal.err().expect("a refusal");
        assert_eq!(refusal.status(), 400);
    });
}

#[test]
fn the_old_channels_are_given_up_when_the_client_leaves() {
    in_memory(async {
        let (session, mut targets) = forwarded(vec![80]);
        let served = serve(session);
        let mut client =
            websocket::Client::connect(served.io, "ws://test/", &["v4.base64.channel.k8s.io"])
                .await
                .expect("an upgrade");
        let (_, mut target) = targets.recv().await.unwrap();
        // 80 in two bytes, the low one first.
        assert_eq!(client.next().await, Some(Message::text("0UAA=")));
        assert_eq!(client.next().await, Some(Message::text("1UAA=")));
        client.socket.send(Message::text("0aGk=")).await.unwrap();
        let mut buffer = [0; 2];
        target.read_exact(&mut buffer).await.unwrap();
        assert_eq!(&buffer, b"hi");
        client.socket.close(None).await.unwrap();
        assert_eq!(target.read(&mut buffer).await.unwrap(), 0);
        served.ended.await.unwrap();
    });
}
