//! Exec and attach over SPDY.

use std::time::Duration;

use berth_streaming::{Outcome, Session, Streams, TerminalSize, Timeouts};
use bytes::Bytes;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::Instant;

use super::support::handlers::{ALL, Dropped, OUTPUT, TTY, both, cat, pattern, read_all};
use super::support::spdy::{Client, Seen, V4, data_frame};
use super::support::{in_memory, serve, serve_with};

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
            client.to_end().await;
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
