//! What logs, attach and exec send, and how they frame what comes back.

mod scripted;

use std::time::Duration;

use berth_docker::api::*;
use berth_docker::model::*;
use berth_docker::{ErrorKind, Phase, Source};
use scripted::{Answer, Scripted, asked, chunks, frame, ok, open_chunks, reply, sent};
use serde_json::json;

const MULTIPLEXED: &str = "Content-Type: application/vnd.docker.multiplexed-stream\r\n";
const RAW: &str = "Content-Type: application/vnd.docker.raw-stream\r\n";

async fn output(mut stream: berth_docker::FrameStream) -> Vec<(Source, String)> {
    let mut output = Vec::new();
    while let Some(frame) = stream.next().await {
        let frame = frame.expect("a frame");
        output.push((
            frame.source,
            String::from_utf8(frame.bytes.to_vec()).expect("text"),
        ));
    }
    output
}

#[tokio::test]
async fn logs_ask_for_what_the_options_say() {
    let options = LogsOptions {
        stderr: false,
        since: Some(Timestamp::new(1_700_000_000, 1)),
        until: Some(Timestamp::new(1_700_000_001, 0)),
        timestamps: true,
        tail: Some(10),
        follow: true,
        ..Default::default()
    };
    let answer = chunks(MULTIPLEXED, &[&frame(1, "a")]);
    let (request, stream) = sent(answer, async |docker| docker.logs("web", &options).await).await;
    assert_eq!(
        request.line,
        "GET /v1.44/containers/web/logs?stdout=1&since=1700000000.000000001&until=1700000001.000000000&timestamps=1&tail=10&follow=1"
    );
    assert_eq!(
        output(stream.expect("logs")).await,
        [(Source::Stdout, "a".to_owned())]
    );
}

#[tokio::test]
async fn the_framing_of_logs_comes_from_the_reply_or_else_from_inspect() {
    let frames = [frame(1, "out"), frame(2, "err")].concat();
    let split = [
        (Source::Stdout, "out".to_owned()),
        (Source::Stderr, "err".to_owned()),
    ];
    let options = LogsOptions::default();

    let engine = Scripted::new("1.44", [chunks(MULTIPLEXED, &[&frames])]);
    assert_eq!(
        output(engine.docker.logs("web", &options).await.expect("logs")).await,
        split
    );
    assert_eq!(engine.requests().len(), 1, "the reply said it");

    let engine = Scripted::new(
        "1.41",
        [chunks(RAW, &[&frames]), ok(r#"{"Config":{"Tty":false}}"#)],
    );
    assert_eq!(
        output(engine.docker.logs("web", &options).await.expect("logs")).await,
        split
    );
    assert_eq!(engine.requests()[1].line, "GET /v1.41/containers/web/json");

    // A terminal whose first bytes look like a frame.
    let engine = Scripted::new(
        "1.41",
        [
            chunks("", &[b"\x01\0\0\0"]),
            ok(r#"{"Config":{"Tty":true}}"#),
        ],
    );
    let raw = output(engine.docker.logs("web", &options).await.expect("logs")).await;
    assert_eq!(raw, [(Source::Stdout, "\u{1}\0\0\0".to_owned())]);

    let known = LogsOptions {
        tty: Some(true),
        ..Default::default()
    };
    let engine = Scripted::new("1.41", [chunks("", &[b"raw"])]);
    assert_eq!(
        output(engine.docker.logs("web", &known).await.expect("logs")).await,
        [(Source::Stdout, "raw".to_owned())]
    );
    assert_eq!(engine.requests().len(), 1, "the caller said it");
}

#[tokio::test(start_paused = true)]
async fn a_log_that_is_not_followed_may_be_silent_for_a_minute_and_a_follow_for_ever() {
    let hang = || Answer::SayAndHang(open_chunks(MULTIPLEXED, &[]));
    let engine = Scripted::new("1.44", [hang()]);
    let mut stream = engine
        .docker
        .logs("web", &LogsOptions::default())
        .await
        .expect("logs");
    let began = tokio::time::Instant::now();
    let error = stream.next().await.expect("an item").expect_err("silence");
    assert!(
        matches!(
            error.kind(),
            ErrorKind::TimedOut {
                phase: Phase::Body,
                ..
            }
        ),
        "{error}"
    );
    assert_eq!(began.elapsed().as_secs(), 60);

    let engine = Scripted::new("1.44", [hang()]);
    let follow = LogsOptions {
        follow: true,
        ..Default::default()
    };
    let mut stream = engine.docker.logs("web", &follow).await.expect("logs");
    assert!(
        tokio::time::timeout(Duration::from_secs(24 * 3600), stream.next())
            .await
            .is_err()
    );
}

const UPGRADED: &str = "HTTP/1.1 101 UPGRADED\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n";

#[tokio::test]
async fn attach_asks_for_the_streams_and_frames_as_the_reply_or_inspect_says() {
    let options = AttachOptions {
        stdin: true,
        detach_keys: Some("ctrl-x".to_owned()),
        ..Default::default()
    };
    let head = format!("{UPGRADED}{MULTIPLEXED}\r\n").into_bytes();
    // The first output comes in the same segment as the head.
    let answer = Answer::SayAndClose([head, frame(2, "err")].concat());
    let (request, attached) =
        sent(answer, async |docker| docker.attach("web", &options).await).await;
    assert_eq!(
        request.line,
        "POST /v1.44/containers/web/attach?stream=1&stdin=1&stdout=1&stderr=1&detachKeys=ctrl-x"
    );
    assert_eq!(
        (request.field("connection"), request.field("upgrade")),
        (Some("Upgrade"), Some("tcp"))
    );
    assert_eq!(
        output(attached.expect("attached").output).await,
        [(Source::Stderr, "err".to_owned())]
    );

    let head = format!("{UPGRADED}{RAW}\r\n").into_bytes();
    let engine = Scripted::new(
        "1.41",
        [Answer::SayAndEcho(head), ok(r#"{"Config":{"Tty":true}}"#)],
    );
    let Attached {
        mut input,
        output: mut echoed,
    } = engine
        .docker
        .attach("web", &AttachOptions::default())
        .await
        .expect("attached");
    input.write_all(b"hello").await.expect("written");
    assert_eq!(
        &echoed.next().await.expect("a frame").expect("fine").bytes[..],
        b"hello"
    );
    input.shutdown().await.expect("half-closed");
    assert!(
        echoed.next().await.is_none(),
        "the other side ends when ours does"
    );
    assert_eq!(engine.requests()[1].line, "GET /v1.41/containers/web/json");
}

#[tokio::test]
async fn a_refused_attach_keeps_its_words() {
    let answer = Answer::SayAndClose(
        b"HTTP/1.1 409 Conflict\r\nContent-Type: application/vnd.docker.raw-stream\r\n\r\ncontainer web is paused\r\n".to_vec(),
    );
    let (_, attached) = sent(answer, async |docker| {
        docker.attach("web", &AttachOptions::default()).await
    })
    .await;
    let error = attached.expect_err("paused");
    assert!(error.is_conflict());
    assert_eq!(error.message(), "container web is paused");
}

#[tokio::test]
async fn an_exec_is_created_started_and_inspected() {
    let config = ExecConfig {
        attach_stdout: true,
        cmd: vec!["date".to_owned()],
        user: "1".to_owned(),
        ..Default::default()
    };
    let answer = reply("201 Created", "", r#"{"Id":"e1"}"#);
    let (request, id) = sent(answer, async |docker| {
        docker.create_exec("web", &config).await
    })
    .await;
    assert_eq!(request.line, "POST /v1.44/containers/web/exec");
    assert_eq!(
        request.json(),
        json!({"AttachStdout": true, "Cmd": ["date"], "User": "1"})
    );
    assert_eq!(id.expect("an id"), "e1");
    let (_, id) = sent(ok("{}"), async |docker| {
        docker.create_exec("web", &config).await
    })
    .await;
    assert!(matches!(
        id.expect_err("no id").kind(),
        ErrorKind::Malformed { .. }
    ));

    // Old engines call everything raw: then the framing is that of the terminal it was created with.
    let head = format!("{UPGRADED}{RAW}\r\n").into_bytes();
    let answer = Answer::SayAndClose([head.clone(), frame(1, "out")].concat());
    let (request, attached) =
        sent(answer, async |docker| docker.start_exec("e1", false).await).await;
    assert_eq!(request.line, "POST /v1.44/exec/e1/start");
    assert_eq!(request.json(), json!({"Detach": false, "Tty": false}));
    assert_eq!(
        output(attached.expect("attached").output).await,
        [(Source::Stdout, "out".to_owned())]
    );
    let answer = Answer::SayAndClose([head, b"raw".to_vec()].concat());
    let (request, attached) =
        sent(answer, async |docker| docker.start_exec("e1", true).await).await;
    assert_eq!(request.json(), json!({"Detach": false, "Tty": true}));
    assert_eq!(
        output(attached.expect("attached").output).await,
        [(Source::Stdout, "raw".to_owned())]
    );

    let (request, started) = sent(ok(""), async |docker| {
        docker.start_exec_detached("e1").await
    })
    .await;
    assert_eq!(request.json(), json!({"Detach": true, "Tty": false}));
    assert_eq!(
        request.field("upgrade"),
        None,
        "a detached start is an ordinary call"
    );
    started.expect("started");

    let (request, inspect) = sent(
        ok(r#"{"ID":"e1","Running":false,"ExitCode":3}"#),
        async |docker| docker.inspect_exec("e1").await,
    )
    .await;
    assert_eq!(request.line, "GET /v1.44/exec/e1/json");
    assert_eq!(inspect.expect("a command").exit_code, Some(3));

    let size = TerminalSize {
        height: 24,
        width: 80,
    };
    assert_eq!(
        asked(reply("201 Created", "", ""), async |docker| docker
            .resize_exec_tty("e1", size)
            .await)
        .await,
        "POST /v1.44/exec/e1/resize?h=24&w=80"
    );
}

#[tokio::test]
async fn a_console_size_for_an_exec_needs_an_engine_that_knows_it() {
    let engine = Scripted::new("1.41", []);
    let config = ExecConfig {
        console_size: vec![24, 80],
        tty: true,
        ..Default::default()
    };
    let error = engine
        .docker
        .create_exec("web", &config)
        .await
        .expect_err("too old");
    assert!(
        error
            .message()
            .contains("ExecConfig.ConsoleSize needs API 1.42"),
        "{error}"
    );
}

#[tokio::test(start_paused = true)]
async fn an_engine_that_does_not_take_up_the_connection_is_not_waited_for_for_ever() {
    for call in ["attach", "exec"] {
        let engine = Scripted::new("1.44", [Answer::SayAndHang(Vec::new())]);
        let result = match call {
            "attach" => engine.docker.attach("web", &AttachOptions::default()).await,
            _ => engine.docker.start_exec("e1", false).await,
        };
        let error = result.expect_err("silence");
        assert!(
            matches!(
                error.kind(),
                ErrorKind::TimedOut {
                    phase: Phase::Headers,
                    ..
                }
            ),
            "{call}: {error}"
        );
    }
}
