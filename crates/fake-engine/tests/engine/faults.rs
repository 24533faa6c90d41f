use std::time::Duration;

use berth_fake_engine::{Delay, FakeEngine, Fault, FaultKind, Operation, When};
use serde_json::json;
use tokio::io::AsyncReadExt;

use crate::client::{
    act, call, create, engine, get, hijack, post, raw, read_head, request, rest, run, send,
};

fn with(fault: Fault) -> FakeEngine {
    FakeEngine::builder()
        .image("busybox")
        .fault(fault)
        .build()
        .unwrap()
}

#[tokio::test]
async fn an_error_has_its_status_and_message_and_no_effect() {
    let kind = FaultKind::Error {
        status: 507,
        message: "no space left on device".into(),
    };
    let engine = with(Fault::on(Operation::CreateContainer, kind).when(When::Nth(1)));
    let refused = post(
        &engine,
        "/containers/create?name=web",
        json!({ "Image": "busybox" }),
    )
    .await;
    assert_eq!(
        (refused.status.as_u16(), refused.message()),
        (507, "no space left on device".to_owned())
    );
    create(&engine, "web", json!({})).await;
    assert_eq!(engine.calls().of(Operation::CreateContainer), 2);
    assert_eq!(engine.calls().total(), 2);
}

#[tokio::test]
async fn dropping_before_has_no_effect_and_dropping_after_has() {
    for (kind, exists) in [(FaultKind::DropBefore, 404), (FaultKind::DropAfter, 200)] {
        let engine = with(Fault::on(Operation::CreateContainer, kind.clone()));
        let body = Some(json!({ "Image": "busybox" }));
        assert!(
            send(
                &engine,
                request("POST", "/containers/create?name=web", body)
            )
            .await
            .is_err()
        );
        assert_eq!(
            get(&engine, "/containers/web/json").await.status,
            exists,
            "{kind:?}"
        );
    }
    let engine = with(Fault::on(Operation::PullImage, FaultKind::DropAfter));
    assert!(
        send(
            &engine,
            request("POST", "/images/create?fromImage=alpine", None)
        )
        .await
        .is_err()
    );
    assert_eq!(
        get(&engine, "/images/alpine/json").await.status,
        200,
        "a pull has its effect at the end of its stream"
    );
}

#[tokio::test]
async fn a_truncated_body_is_cut_where_it_says() {
    let engine = with(Fault::on(Operation::Info, FaultKind::TruncateBody(10)));
    let mut stream = raw(&engine, "GET /info HTTP/1.1\r\nHost: docker\r\n\r\n").await;
    let head = read_head(&mut stream).await.to_ascii_lowercase();
    assert!(head.contains("content-length:"), "{head}");
    assert_eq!(rest(&mut stream).await.len(), 10);
    assert!(send(&engine, request("GET", "/info", None)).await.is_err());
}

#[tokio::test]
async fn garbage_comes_instead_of_the_reply() {
    let engine = with(Fault::on(
        Operation::Version,
        FaultKind::Garbage(b"\x00\xffnot http".to_vec()),
    ));
    let mut stream = raw(&engine, "GET /version HTTP/1.1\r\nHost: docker\r\n\r\n").await;
    assert_eq!(rest(&mut stream).await, b"\x00\xffnot http");
}

#[tokio::test(start_paused = true)]
async fn a_stuck_reply_gives_nothing_or_only_its_start() {
    let engine = with(Fault::on(Operation::Version, FaultKind::StuckHeaders));
    let mut stream = raw(&engine, "GET /version HTTP/1.1\r\nHost: docker\r\n\r\n").await;
    let mut buffer = [0; 64];
    let read = tokio::time::timeout(Duration::from_secs(10_000), stream.read(&mut buffer)).await;
    assert!(read.is_err(), "{read:?}");
    drop(stream);
    let engine = with(Fault::on(Operation::Version, FaultKind::StuckBody(5)));
    let mut stream = raw(&engine, "GET /version HTTP/1.1\r\nHost: docker\r\n\r\n").await;
    read_head(&mut stream).await;
    let mut five = [0; 5];
    stream.read_exact(&mut five).await.unwrap();
    assert_eq!(&five, b"{\"Api");
    assert!(
        tokio::time::timeout(Duration::from_secs(10_000), stream.read(&mut buffer))
            .await
            .is_err()
    );
    drop(stream);
    while engine.open_connections() > 0 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test(start_paused = true)]
async fn delays_and_dribbles_take_their_time() {
    let second = Duration::from_secs(1);
    let engine = with(Fault::on(
        Operation::Ping,
        FaultKind::Delay(Delay::Fixed(3 * second)),
    ));
    let before = tokio::time::Instant::now();
    act(&engine, "GET", "/_ping").await;
    assert_eq!(before.elapsed().as_secs(), 3);
    engine.clear_faults();
    engine.add_fault(Fault::everywhere(FaultKind::Dribble {
        bytes: 1,
        every: second,
    }));
    let before = tokio::time::Instant::now();
    assert_eq!(get(&engine, "/_ping").await.text(), "OK");
    let bytes = before.elapsed().as_secs();
    assert!((150..1000).contains(&bytes), "one byte a second: {bytes}");
}

#[tokio::test]
async fn streams_are_cut_too() {
    let engine = with(Fault::on(Operation::StartExec, FaultKind::TruncateBody(11)));
    run(&engine, "web", "sleep 1000").await;
    let body = json!({ "Cmd": ["echo", "hello world"], "AttachStdout": true });
    let id = post(&engine, "/containers/web/exec", body).await.json()["Id"]
        .as_str()
        .unwrap()
        .to_owned();
    let (head, mut stream) = hijack(&engine, &format!("/exec/{id}/start"), "{}", true).await;
    assert!(head.starts_with("HTTP/1.1 101"));
    assert_eq!(
        rest(&mut stream).await,
        b"\x01\0\0\0\0\0\0\x0chel",
        "a frame cut in its payload"
    );
    let engine = with(Fault::on(Operation::Logs, FaultKind::TruncateBody(0)));
    run(&engine, "web", "echo x; sleep 1000").await;
    assert!(
        send(
            &engine,
            request("GET", "/containers/web/logs?stdout=1&follow=1", None)
        )
        .await
        .is_err()
    );
}

#[tokio::test]
async fn a_connection_outlives_replies_without_faults() {
    let engine = engine();
    let mut stream = raw(
        &engine,
        &"GET /_ping HTTP/1.1\r\nHost: docker\r\n\r\n".repeat(3),
    )
    .await;
    for _ in 0..3 {
        read_head(&mut stream).await;
        let mut ok = [0; 2];
        stream.read_exact(&mut ok).await.unwrap();
        assert_eq!(&ok, b"OK");
    }
}

#[tokio::test]
async fn the_same_seed_gives_the_same_faults() {
    let outcomes = async |seed| {
        let fault = Fault::everywhere(FaultKind::Error {
            status: 500,
            message: "chance".into(),
        })
        .when(When::Probability(0.3));
        let engine = FakeEngine::builder()
            .seed(seed)
            .fault(fault)
            .build()
            .unwrap();
        let mut outcomes = Vec::new();
        for _ in 0..60 {
            outcomes.push(call(&engine, "GET", "/_ping", None).await.status.as_u16());
        }
        outcomes
    };
    assert_eq!(outcomes(1).await, outcomes(1).await);
    assert_ne!(outcomes(1).await, outcomes(2).await);
}

#[tokio::test]
async fn nonsense_requests_are_refused_and_harm_nobody() {
    let engine = engine();
    for request in [
        "\x00\x01\x02\r\n\r\n",
        "GET /containers/json?filters=%ZZ&all=%FF HTTP/1.1\r\nHost: docker\r\n\r\n",
        "POST /containers/create HTTP/1.1\r\nHost: docker\r\nContent-Type: application/json\r\nContent-Length: 5\r\n\r\n[[[[[",
        "POST /containers/create HTTP/1.1\r\nHost: docker\r\nContent-Length: 2\r\n\r\n{}",
        "GET /containers/..%2f..%2f/json HTTP/1.1\r\nHost: docker\r\n\r\n",
        "GET /images//json HTTP/1.1\r\nHost: docker\r\n\r\n",
    ] {
        let mut stream = raw(&engine, request).await;
        tokio::io::AsyncWriteExt::shutdown(&mut stream)
            .await
            .unwrap();
        let _ = tokio::time::timeout(Duration::from_secs(20), rest(&mut stream))
            .await
            .expect("no request hangs");
    }
    assert_eq!(get(&engine, "/_ping").await.text(), "OK");
}
