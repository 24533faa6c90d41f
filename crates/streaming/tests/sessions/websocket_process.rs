//! Exec and attach over WebSocket.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use berth_streaming::{Outcome, Session, Streams, TerminalSize, Wanted};
use bytes::Bytes;
use futures_util::SinkExt as _;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::Instant;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::frame::coding::{Data, OpCode};
use tokio_tungstenite::tungstenite::protocol::frame::{CloseFrame, Frame};

use super::support::handlers::{ALL, Dropped, OUTPUT, TTY, both, cat, pattern, read_all};
use super::support::websocket::Client;
use super::support::{in_memory, serve};

const SUCCESS: &str = r#"{"metadata":{},"status":"Success"}"#;
const TEXT: &str = "command terminated with non-zero exit code: exit status 137";

#[test]
fn binary_protocols_carry_output_status_and_a_clean_close() {
    in_memory(async {
        for (protocol, json) in [
            ("v5.channel.k8s.io", true),
            ("v4.channel.k8s.io", true),
            ("channel.k8s.io", false),
            ("", false),
        ] {
            for code in [0, 137] {
                let served = serve(Session::exec(OUTPUT, move |streams| both(streams, code)));
                let mut client = Client::exec(served.io, protocol).await;
                let chosen = client.response.headers().get("sec-websocket-protocol");
                assert_eq!(chosen.map_or("", |value| value.to_str().unwrap()), protocol);
                assert_eq!(client.response.headers()["connection"], "Upgrade");
                let got = client.until_closed().await;
                assert_eq!(got.messages[0], Message::binary(vec![1]), "an empty first");
                assert_eq!((got.text(1), got.text(2)), ("to stdout", "to stderr"));
                match (json, code) {
                    (true, 0) => assert_eq!(got.text(3), SUCCESS),
                    (true, _) => assert!(
                        got.text(3)
                            .contains(r#"{"reason":"ExitCode","message":"137"}"#)
                    ),
                    (false, 0) => assert_eq!(got.text(3), ""),
                    (false, _) => assert_eq!(got.text(3), TEXT),
                }
                assert_eq!(got.close, Some(1000));
                served.ended.await.unwrap();
            }
        }
    });
}

#[test]
fn base64_protocols_carry_the_same_as_text() {
    in_memory(async {
        for (protocol, status) in [
            ("v4.base64.channel.k8s.io", "\"NonZeroExitCode\""),
            ("base64.channel.k8s.io", TEXT),
        ] {
            let served = serve(Session::exec(ALL, async |streams: Streams| {
                let all = read_all(&mut streams.stdin.unwrap().take(11)).await;
                streams.stdout.unwrap().send(all.into()).await.unwrap();
                Outcome::Exited(137)
            }));
            let mut client = Client::exec(served.io, protocol).await;
            let text = format!("0{}", STANDARD.encode(b"some "));
            client.socket.send(Message::text(text)).await.unwrap();
            let text = format!("0{}", STANDARD.encode(b"base64"));
            client.socket.send(Message::text(text)).await.unwrap();
            let got = client.until_closed().await;
            let mut channels = [const { Vec::new() }; 4];
            for message in &got.messages {
                if let Message::Text(text) = message {
                    let channel: usize = text[..1].parse().unwrap();
                    channels[channel].extend(STANDARD.decode(&text[1..]).unwrap());
                }
            }
            assert_eq!(channels[1], b"some base64");
            let told = String::from_utf8(channels[3].clone()).unwrap();
            assert!(told.contains(status), "{told}");
            assert_eq!(got.close, Some(1000));
        }
    });
}

#[test]
fn v5_ends_the_input_alone() {
    in_memory(async {
        let served = serve(Session::exec(ALL, cat));
        let mut client = Client::exec(served.io, "v5.channel.k8s.io").await;
        client.send(0, b"in ").await;
        client.send(0, b"").await;
        client.send(0, b"two pieces").await;
        client.send(255, &[0]).await;
        client.send(0, b"too late").await;
        let got = client.until_closed().await;
        assert_eq!((got.text(1), got.text(3)), ("in two pieces", SUCCESS));
    });
}

#[test]
fn a_message_of_ten_mebibytes_goes_through_unchanged() {
    in_memory(async {
        let served = serve(Session::exec(ALL, async |streams: Streams| {
            let all = read_all(&mut streams.stdin.unwrap()).await;
            streams.stdout.unwrap().send(all.into()).await.unwrap();
            Outcome::Success
        }));
        let mut client = Client::exec(served.io, "v5.channel.k8s.io").await;
        let bytes = pattern(10 * 1024 * 1024);
        client.send(0, &bytes).await;
        client.send(255, &[0]).await;
        let got = client.until_closed().await;
        assert!(got.channels[1] == bytes, "changed on the way");
        assert_eq!(got.text(3), SUCCESS);
    });
}

#[test]
fn before_v5_a_client_ends_the_input_by_leaving_and_the_process_gets_all_of_it() {
    in_memory(async {
        let (send, all) = tokio::sync::oneshot::channel();
        let served = serve(Session::exec(ALL, async |streams: Streams| {
            let (mut stdin, mut stdout) = (streams.stdin.unwrap(), streams.stdout.unwrap());
            tokio::time::sleep(Duration::from_secs(1)).await;
            let all = read_all(&mut stdin).await;
            // Nobody reads it, and nobody waits for that.
            stdout.write_all(&[0; 1024 * 1024]).await.unwrap();
            let _ = send.send(all);
            Outcome::Success
        }));
        let mut client = Client::exec(served.io, "v4.channel.k8s.io").await;
        let bytes = pattern(100_000);
        client.send(0, &bytes).await;
        client.socket.close(None).await.unwrap();
        client.until_closed().await;
        assert!(all.await.unwrap() == bytes);
        served.ended.await.unwrap();
    });
}

#[test]
fn a_client_that_goes_takes_the_process_with_it() {
    in_memory(async {
        for (protocol, wanted, clean, seconds) in [
            ("v5.channel.k8s.io", ALL, true, 0),
            ("v5.channel.k8s.io", ALL, false, 0),
            ("v4.channel.k8s.io", ALL, false, 0),
            ("v4.channel.k8s.io", OUTPUT, true, 0),
            // It may only have ended the input.
            ("v4.channel.k8s.io", ALL, true, 10),
        ] {
            let dropped = Dropped::default();
            let guard = dropped.guard();
            let served = serve(Session::exec(wanted, async move |streams: Streams| {
                let (_streams, _guard) = (streams, guard);
                std::future::pending().await
            }));
            let mut client = Client::exec(served.io, protocol).await;
            assert_eq!(client.next().await, Some(Message::binary(vec![1])));
            let began = Instant::now();
            if clean {
                let frame = CloseFrame {
                    code: 1000.into(),
                    reason: "".into(),
                };
                client.socket.close(Some(frame)).await.unwrap();
                assert_eq!(client.until_closed().await.close, Some(1000));
            }
            drop(client);
            served.ended.await.unwrap();
            assert!(dropped.is_set(), "{protocol}");
            assert_eq!(began.elapsed().as_secs(), seconds, "{protocol}");
        }
    });
}

#[test]
fn sizes_reach_the_process() {
    in_memory(async {
        let served = serve(Session::exec(TTY, async |streams: Streams| {
            let size = streams.resizes.unwrap().next().await;
            assert_eq!(
                size,
                Some(TerminalSize {
                    width: 80,
                    height: 24
                })
            );
            Outcome::Success
        }));
        let mut client = Client::exec(served.io, "v5.channel.k8s.io").await;
        client.send(4, b"{\"Width\":0,\"Height\":0}").await;
        client.send(4, b"{\"Width\":80,").await;
        client.send(4, b"\"Height\":24}").await;
        assert_eq!(client.until_closed().await.text(3), SUCCESS);
    });
}

#[test]
fn pings_are_answered_while_input_is_not_taken() {
    in_memory(async {
        let served = serve(Session::exec(ALL, async |streams: Streams| {
            let _streams = streams;
            std::future::pending().await
        }));
        let mut client = Client::exec(served.io, "v5.channel.k8s.io").await;
        assert_eq!(client.next().await, Some(Message::binary(vec![1])));
        for _ in 0..6 {
            client.send(0, &[0; 32 * 1024]).await;
        }
        client
            .socket
            .send(Message::Ping(Bytes::from_static(b"there?")))
            .await
            .unwrap();
        let pong = Message::Pong(Bytes::from_static(b"there?"));
        assert_eq!(client.next().await, Some(pong));

        // When the buffer is full, pongs come that were not asked for: Go clients go after 61 seconds without one.
        let full = tokio::time::timeout(Duration::from_secs(1), async {
            loop {
                client.send(0, &[0; 32 * 1024]).await;
            }
        });
        assert!(full.await.is_err());
        for _ in 0..3 {
            let began = Instant::now();
            assert_eq!(client.next().await, Some(Message::Pong(Bytes::new())));
            assert!(began.elapsed() <= Duration::from_secs(15));
        }
        drop(client);
        served.ended.await.unwrap();
    });
}

#[test]
fn a_ping_between_the_pieces_of_a_message_is_answered() {
    in_memory(async {
        let served = serve(Session::exec(ALL, cat));
        let mut client = Client::exec(served.io, "v5.channel.k8s.io").await;
        assert_eq!(client.next().await, Some(Message::binary(vec![1])));
        let piece = |bytes: &'static [u8], code, last| {
            Message::Frame(Frame::message(bytes, OpCode::Data(code), last))
        };
        for message in [
            piece(b"\x00one ", Data::Binary, false),
            Message::Ping(Bytes::from_static(b"x")),
            piece(b"message", Data::Continue, true),
        ] {
            client.socket.send(message).await.unwrap();
        }
        client.send(255, &[0]).await;
        let got = client.until_closed().await;
        assert!(
            got.messages
                .contains(&Message::Pong(Bytes::from_static(b"x")))
        );
        assert_eq!(got.text(1), "one message");
    });
}

#[test]
fn what_breaks_the_protocol_ends_the_session() {
    in_memory(async {
        for (protocol, message) in [
            ("v5.channel.k8s.io", Message::binary(vec![255])),
            ("v5.channel.k8s.io", Message::binary(vec![255, 9])),
            ("v4.base64.channel.k8s.io", Message::text("0not base64")),
            ("v4.base64.channel.k8s.io", Message::text("/")),
        ] {
            let dropped = Dropped::default();
            let guard = dropped.guard();
            let served = serve(Session::exec(ALL, async move |streams: Streams| {
                let (_streams, _guard) = (streams, guard);
                std::future::pending().await
            }));
            let mut client = Client::exec(served.io, protocol).await;
            client.socket.send(message).await.unwrap();
            assert_eq!(client.until_closed().await.close, Some(1002));
            served.ended.await.unwrap();
            assert!(dropped.is_set());
        }
    });
}

#[test]
fn text_on_a_binary_protocol_is_taken_for_bytes_and_unknown_channels_are_not_used() {
    in_memory(async {
        let served = serve(Session::exec(ALL, cat));
        let mut client = Client::exec(served.io, "v5.channel.k8s.io").await;
        client.socket.send(Message::text("\0text")).await.unwrap();
        client.send(1, b"not an input").await;
        client.send(77, b"no channel").await;
        client.socket.send(Message::binary(vec![])).await.unwrap();
        client.send(255, &[0]).await;
        assert_eq!(client.until_closed().await.text(1), "text");
    });
}

#[test]
fn a_session_that_is_stopped_says_so() {
    in_memory(async {
        let served = serve(Session::attach(OUTPUT, async |_: Streams| {
            std::future::pending().await
        }));
        let mut client = Client::exec(served.io, "v5.channel.k8s.io").await;
        assert_eq!(client.next().await, Some(Message::binary(vec![1])));
        served.stop.cancel();
        let got = client.until_closed().await;
        assert!(got.text(3).contains("the server is shutting down"));
        assert_eq!(got.close, Some(1000));
        served.ended.await.unwrap();
    });
}

#[test]
fn a_client_that_does_not_agree_to_the_end_is_waited_for_five_seconds() {
    in_memory(async {
        let served = serve(Session::exec(OUTPUT, |streams| both(streams, 0)));
        let client = Client::exec(served.io, "v5.channel.k8s.io").await;
        let began = Instant::now();
        served.ended.await.unwrap();
        assert!((5..8).contains(&began.elapsed().as_secs()));
        drop(client);
    });
}

#[test]
fn a_handshake_that_is_refused_says_why() {
    in_memory(async {
        for (wanted, protocol, status) in [
            (OUTPUT, "v9.channel.k8s.io", 403),
            (Wanted::default(), "v5.channel.k8s.io", 400),
        ] {
            let served = serve(Session::exec(wanted, |streams| both(streams, 0)));
            let refusal = Client::connect(served.io, "ws://test/exec", &[protocol]).await;
            let refusal = refusal.err().expect("a refusal");
            assert_eq!(refusal.status(), status);
            served.ended.await.unwrap();
        }
    });
}
