//! Exec and attach over SPDY.

use std::time::Duration;

use berth_streaming::{Outcome, Session, Streams, TerminalSize, Timeouts};
use bytes::Bytes;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::Instant;

use super::support::handlers::{ALL, Dropped, OUTPUT, TTY, both, cat, pattern, read_all};
use super::support::spdy::{Client, Seen, V4, data_frame, data_frames};
use super::support::{in_memory, on_sockets, serve, serve_with};

const SUCCESS: &str = r#"{"metadata":{},"status":"Success"}"#;

fn failure(code: u8) -> String {
    format!(
        "{{\"metadata\":{{}},\"status\":\"Failure\",\"message\":\"command terminated with non-zero exit code: exit status {code}\",\
         \"reason\":\"NonZeroExitCode\",\"details\":{{\"causes\":[{{\"reason\":\"ExitCode\",\"message\":\"{code}\"}}]}}}}"
    )
}

#[test]
fn output_and_exit_code_reach_the_client_apart_and_in_order() {
    in_memory(async {
        for (code, status) in [
            (0, SUCCESS.to_owned()),
            (1, failure(1)),
            (137, failure(137)),
            (255, failure(255)),
        ] {
            let served = serve(Session::exec(OUTPUT, move |streams| both(streams, code)));
            let mut client = Client::exec(served.io).await;
            let ids = client.open_exec(&["error", "stdout", "stderr"]).await;
            assert_eq!(client.finish(ids).await, status);
            assert_eq!(client.streams[&ids.stdout].text(), "to stdout");
            assert_eq!(client.streams[&ids.stderr].text(), "to stderr");
            client.until_closed().await;
            assert_eq!(
                client.seen,
                [
                    Seen::Reply(1),
                    Seen::Reply(3),
                    Seen::Reply(5),
                    Seen::Data(ids.stdout, 9),
                    Seen::Data(ids.stderr, 9),
                    Seen::Fin(ids.stdout),
                    Seen::Fin(ids.stderr),
                    Seen::Data(ids.error, status.len()),
                    Seen::Fin(ids.error),
                    Seen::GoAway(0),
                ]
            );
            served.ended.await.unwrap();
        }
    });
}

#[test]
fn input_ends_when_its_half_is_closed_and_output_goes_on() {
    in_memory(async {
        let served = serve(Session::exec(ALL, async |streams: Streams| {
            let (mut stdin, mut stdout) = (streams.stdin.unwrap(), streams.stdout.unwrap());
            let all = read_all(&mut stdin).await;
            stdout.send(all.into()).await.unwrap();
            stdout.send(Bytes::from_static(b", after")).await.unwrap();
            Outcome::Success
        }));
        let mut client = Client::exec(served.io).await;
        let ids = client
            .open_exec(&["error", "stdin", "stdout", "stderr"])
            .await;
        client.send(ids.stdin, b"in ", false).await;
        client.send(ids.stdin, b"two pieces", false).await;
        client.send(ids.stdin, b"", true).await;
        assert_eq!(client.finish(ids).await, SUCCESS);
        assert_eq!(client.streams[&ids.stdout].text(), "in two pieces, after");
        client
            .until(|client| client.streams[&ids.stdin].reset == Some(5))
            .await;
    });
}

#[test]
fn ten_mebibytes_go_both_ways_unchanged() {
    in_memory(async {
        let served = serve(Session::exec(ALL, cat));
        let mut client = Client::exec(served.io).await;
        let ids = client
            .open_exec(&["error", "stdin", "stdout", "stderr"])
            .await;
        let (mut client, mut write) = client.split();
        let bytes = pattern(10 * 1024 * 1024);
        let writing = async {
            write
                .write_all(&data_frames(ids.stdin, &bytes))
                .await
                .unwrap();
            write
                .write_all(&data_frame(ids.stdin, b"", true))
                .await
                .unwrap();
        };
        let ((), status) = tokio::join!(writing, client.finish(ids));
        assert_eq!(status, SUCCESS);
        assert!(
            client.streams[&ids.stdout].data == bytes,
            "changed on the way"
        );
    });
}

#[test]
fn a_data_frame_may_be_cut_anywhere() {
    in_memory(async {
        let served = serve(Session::exec(ALL, cat));
        let mut client = Client::exec(served.io).await;
        let ids = client
            .open_exec(&["error", "stdin", "stdout", "stderr"])
            .await;
        let frame = data_frame(ids.stdin, b"cut anywhere", true);
        for byte in frame {
            client.write(&[byte]).await;
            tokio::task::yield_now().await;
        }
        assert_eq!(client.finish(ids).await, SUCCESS);
        assert_eq!(client.streams[&ids.stdout].text(), "cut anywhere");
    });
}

#[test]
fn all_in_one_write_is_as_good() {
    in_memory(async {
        let served = serve(Session::exec(ALL, cat));
        let mut client = Client::exec(served.io).await;
        let mut all = Vec::new();
        let kinds = ["stdin", "resize", "stderr", "stdout", "error"];
        for (id, kind) in (1..).step_by(2).zip(kinds) {
            all.extend(client.syn_frame(id, &[("streamtype", kind)]));
            if kind == "stdin" {
                // Before the other streams are there.
                all.extend(data_frame(1, b"early", true));
            }
        }
        client.write(&all).await;
        client
            .until(|client| client.streams[&9].fin && client.streams[&7].fin)
            .await;
        assert_eq!(client.streams[&9].text(), SUCCESS);
        assert_eq!(client.streams[&7].text(), "early");
    });
}

#[test]
fn sizes_reach_the_process_and_the_latest_wins() {
    in_memory(async {
        let (sizes, mut seen) = tokio::sync::mpsc::unbounded_channel();
        let (go, mut gate) = tokio::sync::mpsc::unbounded_channel::<()>();
        let served = serve(Session::exec(TTY, async move |streams: Streams| {
            let mut resizes = streams.resizes.unwrap();
            while let Some(size) = resizes.next().await {
                sizes.send(size).unwrap();
                gate.recv().await;
            }
            Outcome::Success
        }));
        let mut client = Client::exec(served.io).await;
        let ids = client
            .open_exec(&["error", "stdin", "stdout", "resize"])
            .await;
        let size = |width, height| TerminalSize { width, height };
        client.send(ids.resize, b"{\"Width\":80,\"Hei", false).await;
        client.send(ids.resize, b"ght\":24}\n", false).await;
        assert_eq!(seen.recv().await, Some(size(80, 24)));
        for text in [
            "{\"Width\":1,\"Height\":1}\n",
            "{\"Width\":0,\"Height\":0}\n{\"Width\":100,\"Height\":30}\n",
            "{\"Width\":0,\"Height\":0}\n",
        ] {
            client.send(ids.resize, text.as_bytes(), false).await;
        }
        client.ping(1).await;
        client
            .until(|client| client.seen.contains(&Seen::Ping(1)))
            .await;
        go.send(()).unwrap();
        assert_eq!(seen.recv().await, Some(size(100, 30)));
        drop(client);
        served.ended.await.unwrap();
        assert_eq!(seen.recv().await, None);
    });
}

#[test]
fn older_versions_have_no_sizes_and_say_failures_in_plain_text() {
    in_memory(async {
        for (version, sizes) in [
            ("v3.channel.k8s.io", true),
            ("v2.channel.k8s.io", false),
            ("channel.k8s.io", false),
        ] {
            for (code, status) in [
                (0, ""),
                (
                    1,
                    "command terminated with non-zero exit code: exit status 1",
                ),
            ] {
                let served = serve(Session::exec(TTY, async move |streams: Streams| {
                    let size = streams.resizes.unwrap().next().await;
                    assert_eq!(size.is_some(), sizes);
                    Outcome::Exited(code)
                }));
                let (mut client, reply) =
                    Client::connect(served.io, "/", &[version]).await.unwrap();
                assert_eq!(reply.all("x-stream-protocol-version"), [version]);
                let mut kinds = vec!["error", "stdin", "stdout"];
                if sizes {
                    kinds.push("resize");
                }
                let ids = client.open_exec(&kinds).await;
                if sizes {
                    let text = b"{\"Width\":80,\"Height\":24}\n";
                    client.send(ids.resize, text, false).await;
                }
                assert_eq!(client.finish(ids).await, status);
            }
        }
    });
}

#[test]
fn a_failure_says_what_was_tried() {
    in_memory(async {
        let failed = async |_: Streams| Outcome::Failed("no such file".to_owned());
        for (session, what) in [
            (
                Session::exec(OUTPUT, failed),
                "error executing command in container: no such file",
            ),
            (
                Session::attach(OUTPUT, failed),
                "error attaching to container: no such file",
            ),
        ] {
            let mut client = Client::exec(serve(session).io).await;
            let ids = client.open_exec(&["error", "stdout", "stderr"]).await;
            let status = client.finish(ids).await;
            assert!(
                status.contains(&format!("\"Internal error occurred: {what}\"")),
                "{status}"
            );
            assert!(status.contains("\"code\":500"));
        }
    });
}

/// A process that never ends by itself.
async fn forever(streams: Streams, guard: super::support::handlers::Guard) -> Outcome {
    let (_streams, _guard) = (streams, guard);
    std::future::pending().await
}

#[test]
fn a_client_that_goes_takes_the_process_with_it_at_every_step() {
    in_memory(async {
        for steps in 0..=5 {
            let dropped = Dropped::default();
            let guard = dropped.guard();
            let served = serve(Session::exec(ALL, |streams| forever(streams, guard)));
            let mut client = Client::exec(served.io).await;
            for kind in ["error", "stdin", "stdout", "stderr"].iter().take(steps) {
                client.open(&[("streamtype", kind)]).await;
            }
            if steps == 5 {
                client.send(3, b"input", false).await;
            }
            assert!(!dropped.is_set());
            let began = Instant::now();
            drop(client);
            served.ended.await.unwrap();
            assert!(dropped.is_set(), "after {steps} steps");
            assert!(began.elapsed() < Duration::from_secs(1));
        }
    });
}

#[test]
fn a_client_that_goes_mid_output_takes_the_process_with_it() {
    in_memory(async {
        let dropped = Dropped::default();
        let guard = dropped.guard();
        let served = serve(Session::exec(OUTPUT, async move |streams: Streams| {
            let _guard = guard;
            let mut stdout = streams.stdout.unwrap();
            loop {
                stdout.write_all(&[b'y'; 1000]).await.unwrap();
            }
        }));
        let mut client = Client::exec(served.io).await;
        let ids = client.open_exec(&["error", "stdout", "stderr"]).await;
        client
            .until(|client| client.streams[&ids.stdout].data.len() > 100_000)
            .await;
        drop(client);
        served.ended.await.unwrap();
        assert!(dropped.is_set());
    });
}

#[test]
fn input_that_is_cut_off_is_no_end() {
    in_memory(async {
        let (send, read) = tokio::sync::oneshot::channel();
        let served = serve(Session::exec(ALL, async move |streams: Streams| {
            let _ = send.send(streams.stdin.unwrap());
            std::future::pending().await
        }));
        let mut client = Client::exec(served.io).await;
        let ids = client
            .open_exec(&["error", "stdin", "stdout", "stderr"])
            .await;
        client.send(ids.stdin, b"half", false).await;
        let mut stdin = read.await.unwrap();
        let mut half = [0; 4];
        stdin.read_exact(&mut half).await.unwrap();
        drop(client);
        served.ended.await.unwrap();
        let error = stdin.read(&mut half).await.unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::UnexpectedEof);
    });
}

#[test]
fn streams_that_come_late_are_refused_before_goaway() {
    in_memory(async {
        let served = serve(Session::exec(OUTPUT, |streams| both(streams, 0)));
        let mut client = Client::exec(served.io).await;
        let ids = client.open_exec(&["error", "stdout", "stderr"]).await;
        assert_eq!(client.finish(ids).await, SUCCESS);
        let late = client.open(&[("streamtype", "resize")]).await;
        assert_eq!(client.streams[&late].reset, Some(3));
        client.until_closed().await;
        assert_eq!(client.seen.last(), Some(&Seen::GoAway(0)));
    });
}

#[test]
fn a_client_that_is_content_ends_the_session_at_once() {
    in_memory(async {
        let served = serve(Session::exec(OUTPUT, |streams| both(streams, 0)));
        let mut client = Client::exec(served.io).await;
        let ids = client.open_exec(&["error", "stdout", "stderr"]).await;
        let began = Instant::now();
        client.finish(ids).await;
        drop(client);
        served.ended.await.unwrap();
        assert_eq!(began.elapsed(), Duration::ZERO);
    });
}

#[test]
fn streams_nobody_asked_for_are_accepted_and_unknown_or_repeated_ones_are_not() {
    in_memory(async {
        let served = serve(Session::exec(OUTPUT, |streams| both(streams, 0)));
        let mut client = Client::exec(served.io).await;
        let stdin = client.open(&[("streamtype", "stdin")]).await;
        client.send(stdin, b"nobody reads this", true).await;
        for headers in [
            &[("streamtype", "stdin")][..],
            &[("streamtype", "other")],
            &[("port", "80")],
            &[],
        ] {
            let id = client.open(headers).await;
            assert_eq!(client.streams[&id].reset, Some(3), "{headers:?}");
        }
        let ids = client.open_exec(&["error", "stdout", "stderr"]).await;
        assert_eq!(client.finish(ids).await, SUCCESS);
    });
}

#[test]
fn a_client_has_thirty_seconds_for_its_streams() {
    in_memory(async {
        let dropped = Dropped::default();
        let guard = dropped.guard();
        let served = serve(Session::exec(ALL, |streams| forever(streams, guard)));
        let mut client = Client::exec(served.io).await;
        let began = Instant::now();
        client.open_exec(&["error", "stdin", "stdout"]).await;
        client.until_closed().await;
        assert_eq!(client.seen.last(), Some(&Seen::GoAway(0)));
        assert_eq!(began.elapsed().as_secs(), 30);
        drop(client);
        served.ended.await.unwrap();
        assert!(dropped.is_set());
    });
}

#[test]
fn pings_are_answered_while_input_is_not_taken() {
    in_memory(async {
        let dropped = Dropped::default();
        let guard = dropped.guard();
        let served = serve(Session::exec(ALL, |streams| forever(streams, guard)));
        let mut client = Client::exec(served.io).await;
        let ids = client
            .open_exec(&["error", "stdin", "stdout", "stderr"])
            .await;
        client
            .write(&data_frames(ids.stdin, &[0; 200 * 1024]))
            .await;
        client.ping(11).await;
        client
            .until(|client| client.seen.contains(&Seen::Ping(11)))
            .await;

        // Then the buffer is full, and signs of life come without being asked for, which notice a client that is gone.
        let (mut client, mut write) = client.split();
        let frames = data_frames(ids.stdin, &[0; 1024 * 1024]);
        let flood = tokio::spawn(async move {
            let _ = write.write_all(&frames).await;
        });
        let began = Instant::now();
        client
            .until(|client| client.seen.contains(&Seen::Ping(4)))
            .await;
        assert_eq!(began.elapsed().as_secs(), 30);
        assert!(!flood.is_finished(), "the client waits");
        flood.abort();
        let _ = flood.await;
        drop(client);
        served.ended.await.unwrap();
        assert!(dropped.is_set());
    });
}

#[test]
fn input_that_the_process_drops_is_thrown_away() {
    in_memory(async {
        let (go, gate) = tokio::sync::oneshot::channel::<()>();
        let served = serve(Session::exec(ALL, async move |streams: Streams| {
            drop(streams.stdin);
            gate.await.unwrap();
            Outcome::Exited(3)
        }));
        let mut client = Client::exec(served.io).await;
        let ids = client
            .open_exec(&["error", "stdin", "stdout", "stderr"])
            .await;
        client
            .write(&data_frames(ids.stdin, &[0; 2 * 1024 * 1024]))
            .await;
        go.send(()).unwrap();
        assert_eq!(client.finish(ids).await, failure(3));
    });
}

#[test]
fn input_still_on_its_way_does_not_hold_up_the_end() {
    // The other clock would not move: there is always something to do.
    on_sockets(async {
        let served = serve(Session::exec(ALL, async |streams: Streams| {
            let mut first = [0];
            streams.stdin.unwrap().read_exact(&mut first).await.unwrap();
            Outcome::Success
        }));
        let mut client = Client::exec(served.io).await;
        let ids = client
            .open_exec(&["error", "stdin", "stdout", "stderr"])
            .await;
        let (mut client, mut write) = client.split();
        let flood = tokio::spawn(async move {
            // Never ends, as `yes | kubectl exec -i -- true`.
            while write
                .write_all(&data_frame(ids.stdin, &[b'y'; 1000], false))
                .await
                .is_ok()
            {}
        });
        assert_eq!(client.finish(ids).await, SUCCESS);
        client.until_closed().await;
        drop(client);
        served.ended.await.unwrap();
        flood.abort();
    });
}

#[test]
fn a_slow_client_makes_the_process_wait_and_loses_nothing() {
    in_memory(async {
        let (count, mut counted) = tokio::sync::watch::channel(0);
        let served = serve(Session::exec(OUTPUT, async move |streams: Streams| {
            let mut stdout = streams.stdout.unwrap();
            for chunk in pattern(4 * 1024 * 1024).chunks(10_000) {
                stdout.write_all(chunk).await.unwrap();
                count.send_modify(|count| *count += chunk.len());
            }
            Outcome::Exited(7)
        }));
        let mut client = Client::exec(served.io).await;
        let ids = client.open_exec(&["error", "stdout", "stderr"]).await;
        // Nothing else happens on this clock once the process waits.
        tokio::time::sleep(Duration::from_secs(600)).await;
        let waiting = *counted.borrow_and_update();
        assert!(
            (100_000..600_000).contains(&waiting),
            "{waiting} bytes were taken from the process"
        );
        assert_eq!(client.finish(ids).await, failure(7));
        assert!(client.streams[&ids.stdout].data == pattern(4 * 1024 * 1024));
    });
}

#[test]
fn the_last_output_waits_for_a_client_that_reads_late() {
    in_memory(async {
        let session = Session::exec(OUTPUT, async |streams: Streams| {
            let bytes = Bytes::from(pattern(200 * 1024));
            streams.stdout.unwrap().send(bytes).await.unwrap();
            Outcome::Exited(9)
        });
        let served = serve_with(session, Timeouts::default(), 1024);
        let mut client = Client::exec(served.io).await;
        let ids = client.open_exec(&["error", "stdout", "stderr"]).await;
        tokio::time::sleep(Duration::from_secs(3600)).await;
        assert_eq!(client.finish(ids).await, failure(9));
        assert!(client.streams[&ids.stdout].data == pattern(200 * 1024));
    });
}

#[test]
fn a_client_that_floods_pings_and_never_reads_is_not_read_for_ever() {
    in_memory(async {
        let dropped = Dropped::default();
        let guard = dropped.guard();
        let served = serve(Session::exec(OUTPUT, |streams| forever(streams, guard)));
        let mut client = Client::exec(served.io).await;
        client.open_exec(&["error", "stdout", "stderr"]).await;
        let sent = tokio::time::timeout(Duration::from_secs(60), async {
            for n in 0..1_000_000u32 {
                client.ping(2 * n + 1).await;
            }
        });
        assert!(sent.await.is_err(), "the answers are kept somewhere");
        drop(client);
        served.ended.await.unwrap();
        assert!(dropped.is_set());
    });
}

#[test]
fn a_session_ends_when_nothing_comes_or_goes() {
    in_memory(async {
        let timeouts = Timeouts {
            idle: Duration::from_secs(3600),
            ..Timeouts::default()
        };
        let dropped = Dropped::default();
        let guard = dropped.guard();
        let session = Session::exec(OUTPUT, |streams| forever(streams, guard));
        let served = serve_with(session, timeouts, 1024);
        let mut client = Client::exec(served.io).await;
        let began = Instant::now();
        client.open_exec(&["error", "stdout", "stderr"]).await;
        for n in 0..3 {
            tokio::time::sleep(Duration::from_secs(3000)).await;
            client.ping(2 * n + 1).await;
            client
                .until(|client| client.seen.contains(&Seen::Ping(2 * n + 1)))
                .await;
        }
        client.until_closed().await;
        assert_eq!(began.elapsed().as_secs(), 3 * 3000 + 3600);
        drop(client);
        served.ended.await.unwrap();
        assert!(dropped.is_set());
    });
}

#[test]
fn a_client_that_breaks_the_protocol_is_told_and_dropped() {
    in_memory(async {
        let dropped = Dropped::default();
        let guard = dropped.guard();
        let served = serve(Session::exec(OUTPUT, |streams| forever(streams, guard)));
        let mut client = Client::exec(served.io).await;
        client.open_exec(&["error", "stdout", "stderr"]).await;
        client.write(&[0x80, 3, 0, 99, 0, 0, 0, 0]).await;
        client.until_closed().await;
        assert_eq!(client.seen.last(), Some(&Seen::GoAway(1)));
        drop(client);
        served.ended.await.unwrap();
        assert!(dropped.is_set());
    });
}

#[test]
fn a_session_that_is_stopped_says_so() {
    in_memory(async {
        let dropped = Dropped::default();
        let guard = dropped.guard();
        let served = serve(Session::exec(OUTPUT, |streams| forever(streams, guard)));
        let mut client = Client::exec(served.io).await;
        let ids = client.open_exec(&["error", "stdout", "stderr"]).await;
        served.stop.cancel();
        let status = client.finish(ids).await;
        assert!(status.contains("the server is shutting down"), "{status}");
        assert!(dropped.is_set());
        drop(client);
        served.ended.await.unwrap();
    });
}

#[test]
fn a_handler_that_panics_has_failed() {
    in_memory(async {
        let served = serve(Session::exec(OUTPUT, async |_: Streams| panic!("a test")));
        let mut client = Client::exec(served.io).await;
        let ids = client.open_exec(&["error", "stdout", "stderr"]).await;
        let status = client.finish(ids).await;
        assert!(status.contains("the handler panicked"), "{status}");
        drop(client);
        served.ended.await.unwrap();
    });
}

#[test]
fn a_request_that_is_refused_says_why() {
    in_memory(async {
        let refused = async |wanted, protocols: &[&str]| {
            let served = serve(Session::exec(wanted, |streams| both(streams, 0)));
            let reply = Client::connect(served.io, "/", protocols).await.err();
            reply.expect("a refusal")
        };
        let reply = refused(OUTPUT, &[]).await;
        assert_eq!(reply.status, 400);
        assert!(reply.body.contains("X-Stream-Protocol-Version is required"));
        let reply = refused(OUTPUT, &["v9.channel.k8s.io"]).await;
        assert_eq!(reply.status, 403);
        assert_eq!(reply.all("x-accepted-stream-protocol-versions").len(), 4);
        let reply = refused(berth_streaming::Wanted::default(), V4).await;
        assert_eq!(reply.status, 400);
        assert!(reply.body.contains("at least 1 of stdin, stdout, stderr"));
    });
}

#[test]
fn times_without_a_limit_are_no_trouble() {
    in_memory(async {
        let timeouts = Timeouts {
            idle: Duration::MAX,
            streams: Duration::MAX,
        };
        let session = Session::exec(OUTPUT, |streams| both(streams, 2));
        let served = serve_with(session, timeouts, 1024);
        let mut client = Client::exec(served.io).await;
        let ids = client.open_exec(&["error", "stdout", "stderr"]).await;
        assert_eq!(client.finish(ids).await, failure(2));
    });
}

#[test]
fn a_session_can_be_stopped_before_it_begins() {
    in_memory(async {
        let dropped = Dropped::default();
        let guard = dropped.guard();
        let served = serve(Session::exec(ALL, |streams| forever(streams, guard)));
        let mut client = Client::exec(served.io).await;
        client.open_exec(&["error", "stdin"]).await;
        served.stop.cancel();
        client.until_closed().await;
        drop(client);
        served.ended.await.unwrap();
        assert!(dropped.is_set());
    });
}
