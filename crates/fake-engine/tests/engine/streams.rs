use std::time::Duration;

use berth_fake_engine::FakeEngine;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::client::{
    act, call, create, engine, frames, get, hijack, inspect, post, rest, run, split, wait,
};

async fn exec(engine: &FakeEngine, container: &str, body: serde_json::Value) -> String {
    let reply = post(engine, &format!("/containers/{container}/exec"), body).await;
    assert_eq!(reply.status, 201, "{}", reply.text());
    reply.json()["Id"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn each_log_line_is_a_frame_of_its_stream() {
    let engine = engine();
    let id = run(&engine, "job", "echo a; echo b >&2; printf 'c\\nd'").await;
    wait(&engine, &id).await;
    let logs = get(&engine, "/containers/job/logs?stdout=1&stderr=1").await;
    let expected = [(1, "a\n"), (2, "b\n"), (1, "c\n"), (1, "d")].map(|(s, t)| (s, t.to_owned()));
    assert_eq!(frames(&logs.body), expected);
    let only = get(&engine, "/containers/job/logs?stderr=1").await;
    assert_eq!(split(&only.body), (String::new(), "b\n".to_owned()));
    assert_eq!(
        get(&engine, "/containers/job/logs").await.message(),
        "Bad parameters: you must choose at least one stream"
    );
}

#[tokio::test(start_paused = true)]
async fn logs_select_by_tail_and_time() {
    let engine = engine();
    let id = run(
        &engine,
        "job",
        "for i in 1 2 3 4; do echo $i; sleep 1; done",
    )
    .await;
    wait(&engine, &id).await;
    let text = async |query: &str| {
        split(
            &get(&engine, &format!("/containers/job/logs?stdout=1&{query}"))
                .await
                .body,
        )
        .0
    };
    assert_eq!(text("tail=2").await, "3\n4\n");
    assert_eq!(text("tail=all").await, "1\n2\n3\n4\n");
    assert_eq!(text("tail=0").await, "");
    let stamped = text("timestamps=1").await;
    let third = stamped
        .lines()
        .nth(2)
        .unwrap()
        .split(' ')
        .next()
        .unwrap()
        .to_owned();
    assert_eq!(third.len(), "2026-01-01T00:00:00.000000000Z".len());
    let started = inspect(&engine, "job").await["State"]["StartedAt"]
        .as_str()
        .unwrap()
        .to_owned();
    assert!(started < third);
    let seconds = engine
        .clock()
        .now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap()
        .as_secs();
    assert_eq!(text(&format!("until={}", seconds - 1000)).await, "");
    assert_eq!(
        text(&format!("since={}", seconds - 1000)).await,
        "1\n2\n3\n4\n"
    );
    assert_eq!(
        call(
            &engine,
            "GET",
            "/containers/job/logs?stdout=1&since=x",
            None
        )
        .await
        .status,
        400
    );
}

#[tokio::test(start_paused = true)]
async fn a_follower_sees_lines_as_they_come_and_the_end() {
    let engine = engine();
    run(&engine, "job", "echo a; sleep 5; echo b").await;
    let before = tokio::time::Instant::now();
    let logs = get(&engine, "/containers/job/logs?stdout=1&follow=1").await;
    assert_eq!(split(&logs.body).0, "a\nb\n");
    assert_eq!(before.elapsed().as_secs(), 5);
}

#[tokio::test]
async fn a_long_line_comes_in_parts_of_16_kib() {
    let engine = engine();
    let id = run(&engine, "job", "head -c 40000 /dev/zero; echo").await;
    wait(&engine, &id).await;
    let logs = get(&engine, "/containers/job/logs?stdout=1").await;
    let sizes: Vec<usize> = frames(&logs.body).iter().map(|f| f.1.len()).collect();
    assert_eq!(sizes, [16_384, 16_384, 7_233]);
}

#[tokio::test]
async fn exec_upgrades_when_asked_and_only_then() {
    let engine = engine();
    run(&engine, "web", "sleep 1000").await;
    let body = json!({ "Cmd": ["sh", "-c", "echo out; echo err >&2; exit 7"], "AttachStdout": true, "AttachStderr": true });
    for (upgrade, status, media) in [
        (
            true,
            "HTTP/1.1 101 UPGRADED",
            "application/vnd.docker.multiplexed-stream",
        ),
        (
            false,
            "HTTP/1.1 200 OK",
            "application/vnd.docker.raw-stream",
        ),
    ] {
        let id = exec(&engine, "web", body.clone()).await;
        let (head, mut stream) = hijack(&engine, &format!("/exec/{id}/start"), "{}", upgrade).await;
        assert!(head.starts_with(status) && head.contains(media), "{head}");
        assert_eq!(
            split(&rest(&mut stream).await),
            ("out\n".to_owned(), "err\n".to_owned())
        );
        let view = get(&engine, &format!("/exec/{id}/json")).await.json();
        assert_eq!(
            (&view["Running"], &view["ExitCode"]),
            (&json!(false), &json!(7))
        );
        let message = format!("exec command {id} has already run");
        let path = format!("/exec/{id}/start");
        let again = post(&engine, &path, json!({ "Detach": true })).await;
        assert_eq!(
            (again.status.as_u16(), again.message()),
            (409, message.clone())
        );
        // With streams the head of the reply is out by then.
        let (_, mut stream) = hijack(&engine, &path, "{}", upgrade).await;
        assert_eq!(split(&rest(&mut stream).await).0, message + "\r\n");
    }
}

#[tokio::test]
async fn half_closing_stdin_ends_the_input_and_not_the_output() {
    let engine = engine();
    run(&engine, "web", "sleep 1000").await;
    let body =
        json!({ "Cmd": ["sh", "-c", "cat; echo done"], "AttachStdin": true, "AttachStdout": true });
    let id = exec(&engine, "web", body).await;
    let (_, mut stream) = hijack(&engine, &format!("/exec/{id}/start"), "{}", true).await;
    stream.write_all(b"hello ").await.unwrap();
    stream.shutdown().await.unwrap();
    assert_eq!(split(&rest(&mut stream).await).0, "hello done\n");
}

#[tokio::test]
async fn stdin_that_comes_with_the_request_is_not_lost() {
    let engine = engine();
    run(&engine, "web", "sleep 1000").await;
    let id = exec(
        &engine,
        "web",
        json!({ "Cmd": ["cat"], "AttachStdin": true, "AttachStdout": true }),
    )
    .await;
    let request = format!(
        "POST /exec/{id}/start HTTP/1.1\r\nHost: docker\r\nConnection: Upgrade\r\nUpgrade: tcp\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{{}}early"
    );
    let mut stream = crate::client::raw(&engine, &request).await;
    // Closed before the head of the reply is even read.
    stream.shutdown().await.unwrap();
    crate::client::read_head(&mut stream).await;
    assert_eq!(split(&rest(&mut stream).await).0, "early");
}

#[tokio::test]
async fn a_failing_exec_says_so_in_its_stream() {
    let engine = engine();
    run(&engine, "web", "sleep 1000").await;
    let id = exec(
        &engine,
        "web",
        json!({ "Cmd": ["nope"], "AttachStdout": true }),
    )
    .await;
    let (head, mut stream) = hijack(&engine, &format!("/exec/{id}/start"), "{}", true).await;
    assert!(head.starts_with("HTTP/1.1 101"));
    let text = split(&rest(&mut stream).await).0;
    assert!(
        text.contains("exec: \"nope\": executable file not found in $PATH")
            && text.ends_with("\r\n"),
        "{text}"
    );
    assert_eq!(
        get(&engine, &format!("/exec/{id}/json")).await.json()["ExitCode"],
        126
    );
}

#[tokio::test]
async fn a_detached_exec_runs_on_its_own() {
    let engine = engine();
    run(&engine, "web", "while ! [ -f /done ]; do sleep 0.01; done").await;
    let id = exec(&engine, "web", json!({ "Cmd": ["touch", "/done"] })).await;
    assert_eq!(
        post(
            &engine,
            &format!("/exec/{id}/start"),
            json!({ "Detach": true })
        )
        .await
        .status,
        200
    );
    assert_eq!(wait(&engine, "web").await, 0);
    assert_eq!(
        get(&engine, "/exec/nope/json").await.message(),
        "No such exec instance: nope"
    );
    let late = post(&engine, "/containers/web/exec", json!({ "Cmd": ["true"] })).await;
    assert_eq!(late.status, 409);
}

#[tokio::test]
async fn an_exec_ends_with_its_container() {
    let engine = engine();
    run(&engine, "web", "sleep 1000").await;
    let id = exec(
        &engine,
        "web",
        json!({ "Cmd": ["sleep", "500"], "AttachStdout": true }),
    )
    .await;
    let (_, mut stream) = hijack(&engine, &format!("/exec/{id}/start"), "{}", true).await;
    assert_eq!(
        get(&engine, &format!("/exec/{id}/json")).await.json()["ExitCode"],
        json!(null)
    );
    act(&engine, "POST", "/containers/web/kill").await;
    assert_eq!(rest(&mut stream).await, b"");
    assert_eq!(
        get(&engine, &format!("/exec/{id}/json")).await.json()["ExitCode"],
        137
    );
}

#[tokio::test]
async fn attach_before_start_gets_everything_and_stdin_goes_in() {
    let engine = engine();
    let body = json!({ "Cmd": ["sh", "-c", "read line; echo got $line; cat; exit 4"], "OpenStdin": true, "StdinOnce": true });
    create(&engine, "job", body).await;
    let path = "/containers/job/attach?stream=1&stdin=1&stdout=1&stderr=1";
    let (head, mut stream) = hijack(&engine, path, "", true).await;
    assert!(head.starts_with("HTTP/1.1 101 UPGRADED"), "{head}");
    act(&engine, "POST", "/containers/job/start").await;
    stream.write_all(b"one\ntwo\n").await.unwrap();
    stream.shutdown().await.unwrap();
    assert_eq!(split(&rest(&mut stream).await).0, "got one\ntwo\n");
    assert_eq!(wait(&engine, "job").await, 4);
    let (_, mut late) = hijack(&engine, "/containers/job/attach?logs=1&stdout=1", "", true).await;
    assert_eq!(split(&rest(&mut late).await).0, "got one\ntwo\n");
}

#[tokio::test]
async fn a_refused_attach_is_an_ordinary_reply() {
    let engine = engine();
    let reply = call(
        &engine,
        "POST",
        "/containers/nope/attach?stream=1&stdout=1",
        None,
    )
    .await;
    assert_eq!(
        (reply.status.as_u16(), reply.message()),
        (404, "No such container: nope".to_owned())
    );
    run(&engine, "web", "sleep 1000").await;
    act(&engine, "POST", "/containers/web/pause").await;
    assert_eq!(
        call(
            &engine,
            "POST",
            "/containers/web/attach?stream=1&stdout=1",
            None
        )
        .await
        .status,
        409
    );
}

#[tokio::test]
async fn a_terminal_is_raw_echoes_and_detaches_by_its_keys() {
    let engine = engine();
    create(
        &engine,
        "tty",
        json!({ "Cmd": ["sh"], "Tty": true, "OpenStdin": true }),
    )
    .await;
    act(&engine, "POST", "/containers/tty/start").await;
    let path = "/containers/tty/attach?stream=1&stdin=1&stdout=1&stderr=1";
    let (head, mut stream) = hijack(&engine, path, "", true).await;
    assert!(head.contains("application/vnd.docker.raw-stream"), "{head}");
    stream.write_all(b"echo $((6*7))\r").await.unwrap();
    let mut seen = String::new();
    while !seen.contains("42\r\n") {
        let mut buffer = [0; 256];
        let read = tokio::time::timeout(Duration::from_secs(20), stream.read(&mut buffer))
            .await
            .unwrap()
            .unwrap();
        assert!(read > 0, "{seen}");
        seen.push_str(&String::from_utf8_lossy(&buffer[..read]));
    }
    assert!(seen.contains("echo $((6*7))\r\n"), "{seen}");
    stream.write_all(b"\x10\x11").await.unwrap();
    rest(&mut stream).await;
    assert_eq!(inspect(&engine, "tty").await["State"]["Running"], true);
}

#[tokio::test]
async fn a_process_waits_for_a_client_that_does_not_read() {
    let engine = engine();
    run(&engine, "web", "sleep 1000").await;
    let script = "head -c 4000000 /dev/zero; echo x > /done";
    let id = exec(
        &engine,
        "web",
        json!({ "Cmd": ["sh", "-c", script], "AttachStdout": true }),
    )
    .await;
    let (_, mut stream) = hijack(&engine, &format!("/exec/{id}/start"), "{}", true).await;
    for _ in 0..1000 {
        tokio::task::yield_now().await;
    }
    let stat = "/containers/web/archive?path=/done";
    assert_eq!(
        call(&engine, "HEAD", stat, None).await.status,
        404,
        "the exec must wait for its reader"
    );
    assert_eq!(split(&rest(&mut stream).await).0.len(), 4_000_000);
    assert_eq!(call(&engine, "HEAD", stat, None).await.status, 200);
}

#[tokio::test]
async fn an_interrupt_ends_an_exec_but_not_process_one_nor_a_shell() {
    let engine = engine();
    create(
        &engine,
        "one",
        json!({ "Cmd": ["cat"], "Tty": true, "OpenStdin": true }),
    )
    .await;
    act(&engine, "POST", "/containers/one/start").await;
    let attach = "/containers/one/attach?stream=1&stdin=1&stdout=1";
    let (_, mut stream) = hijack(&engine, attach, "", true).await;
    stream.write_all(b"\x03still here\r").await.unwrap();
    let mut seen = String::new();
    while seen.matches("still here").count() < 2 {
        let mut buffer = [0; 256];
        let read = tokio::time::timeout(Duration::from_secs(20), stream.read(&mut buffer))
            .await
            .unwrap()
            .unwrap();
        assert!(read > 0, "{seen}");
        seen.push_str(&String::from_utf8_lossy(&buffer[..read]));
    }
    let tty = |cmd: serde_json::Value| json!({ "Cmd": cmd, "Tty": true, "AttachStdin": true, "AttachStdout": true });
    let id = exec(&engine, "one", tty(json!(["sleep", "1000"]))).await;
    let (_, mut stream) = hijack(&engine, &format!("/exec/{id}/start"), "{}", true).await;
    stream.write_all(b"\x03").await.unwrap();
    rest(&mut stream).await;
    assert_eq!(
        get(&engine, &format!("/exec/{id}/json")).await.json()["ExitCode"],
        130
    );
    let id = exec(&engine, "one", tty(json!(["sh"]))).await;
    let (_, mut stream) = hijack(&engine, &format!("/exec/{id}/start"), "{}", true).await;
    let mut prompt = [0; 4];
    stream.read_exact(&mut prompt).await.unwrap();
    stream.write_all(b"\x03exit 3\r").await.unwrap();
    rest(&mut stream).await;
    assert_eq!(
        get(&engine, &format!("/exec/{id}/json")).await.json()["ExitCode"],
        3
    );
}

#[tokio::test(start_paused = true)]
async fn an_exec_that_ended_is_forgotten_after_five_minutes() {
    let engine = engine();
    run(&engine, "web", "sleep 100000").await;
    let old = exec(
        &engine,
        "web",
        json!({ "Cmd": ["true"], "AttachStdout": true }),
    )
    .await;
    let (_, mut stream) = hijack(&engine, &format!("/exec/{old}/start"), "{}", true).await;
    rest(&mut stream).await;
    for (minutes, status) in [(4, 200), (2, 404)] {
        tokio::time::sleep(Duration::from_secs(minutes * 60)).await;
        exec(&engine, "web", json!({ "Cmd": ["true"] })).await;
        assert_eq!(
            get(&engine, &format!("/exec/{old}/json")).await.status,
            status
        );
    }
}
