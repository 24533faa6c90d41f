use std::time::{Duration, Instant};

use berth_fake_engine::{FakeEngine, Loss};
use serde_json::{Value, json};

use crate::client::{act, call, create, engine, get, inspect, post, run, wait};

async fn state(engine: &FakeEngine, id: &str) -> Value {
    inspect(engine, id).await["State"].clone()
}

#[tokio::test]
async fn a_container_is_created_runs_exits_and_is_removed() {
    let engine = engine();
    let id = create(
        &engine,
        "job",
        json!({ "Cmd": ["sh", "-c", "exit 3"], "Labels": { "a": "b" } }),
    )
    .await;
    assert_eq!(state(&engine, "job").await["Status"], "created");
    act(&engine, "POST", "/containers/job/start").await;
    assert_eq!(wait(&engine, &id[..12]).await, 3);
    let exited = inspect(&engine, "job").await;
    assert_eq!(exited["State"]["Status"], "exited");
    assert_eq!(exited["State"]["ExitCode"], 3);
    assert_eq!(exited["Config"]["Labels"]["a"], "b");
    assert_eq!(exited["NetworkSettings"]["IPAddress"], "");
    act(&engine, "DELETE", "/containers/job").await;
    assert_eq!(get(&engine, "/containers/job/json").await.status, 404);
}

#[tokio::test]
async fn a_name_in_use_is_a_conflict_that_names_its_owner() {
    let engine = engine();
    let id = create(&engine, "web", json!({})).await;
    let again = post(
        &engine,
        "/containers/create?name=web",
        json!({ "Image": "busybox" }),
    )
    .await;
    assert_eq!(again.status, 409);
    assert_eq!(
        again.message(),
        format!(
            "Conflict. The container name \"/web\" is already in use by container \"{id}\". You have to remove (or rename) that container to be able to reuse that name."
        )
    );
}

#[tokio::test]
async fn create_refuses_what_the_engine_refuses() {
    let engine = engine();
    for (path, body, status, message) in [
        (
            "?name=x",
            json!({ "Image": "busybox" }),
            400,
            "Invalid container name (x), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed",
        ),
        (
            "",
            json!({ "Image": "nope" }),
            404,
            "No such image: nope:latest",
        ),
        (
            "",
            json!({ "Image": "No" }),
            400,
            "invalid reference format: repository name (library/No) must be lowercase",
        ),
        (
            "",
            json!({ "Image": "busybox", "Cmd": 7 }),
            400,
            "invalid JSON",
        ),
        (
            "",
            json!({ "Image": "busybox", "HostConfig": { "Memory": 1 } }),
            400,
            "Minimum memory limit allowed is 6MB",
        ),
        (
            "",
            json!({ "Image": "busybox", "HostConfig": { "Binds": ["/a:/b", "/c:/b"] } }),
            400,
            "Duplicate mount point: /b",
        ),
        (
            "",
            json!({ "Image": "busybox", "HostConfig": { "PortBindings": { "x": [] } } }),
            400,
            "invalid port specification: \"x\"",
        ),
    ] {
        let reply = post(&engine, &format!("/containers/create{path}"), body).await;
        assert_eq!(reply.status, status, "{}", reply.text());
        assert!(
            reply.message().starts_with(message),
            "{} is not {message}",
            reply.message()
        );
    }
    let foreign = post(
        &engine,
        "/containers/create?platform=plan9/mips",
        json!({ "Image": "busybox" }),
    )
    .await;
    assert_eq!(foreign.status, 404, "{}", foreign.text());
    let empty = call(&engine, "POST", "/containers/create", None).await;
    assert_eq!(
        empty.message(),
        "config cannot be empty in order to create a container"
    );
    assert_eq!(
        get(&engine, "/containers/json?all=1").await.json(),
        json!([])
    );
}

#[tokio::test]
async fn starting_and_stopping_twice_is_not_modified() {
    let engine = engine();
    let id = run(
        &engine,
        "web",
        "trap 'exit 0' TERM; while true; do sleep 0.01; done",
    )
    .await;
    assert_eq!(
        call(&engine, "POST", "/containers/web/start", None)
            .await
            .status,
        304
    );
    act(&engine, "POST", "/containers/web/stop").await;
    assert_eq!(
        call(&engine, "POST", "/containers/web/stop", None)
            .await
            .status,
        304
    );
    assert_eq!(state(&engine, &id).await["ExitCode"], 0);
}

#[tokio::test(start_paused = true)]
async fn process_one_without_a_handler_is_killed_after_its_grace() {
    let engine = engine();
    create(
        &engine,
        "deaf",
        json!({ "Cmd": ["sleep", "1000"], "StopTimeout": 7 }),
    )
    .await;
    act(&engine, "POST", "/containers/deaf/start").await;
    let before = tokio::time::Instant::now();
    act(&engine, "POST", "/containers/deaf/stop").await;
    assert_eq!(before.elapsed().as_secs(), 7);
    assert_eq!(state(&engine, "deaf").await["ExitCode"], 137);
}

#[tokio::test]
async fn an_init_process_lets_the_default_action_apply() {
    let engine = engine();
    create(
        &engine,
        "web",
        json!({ "Cmd": ["sleep", "1000"], "HostConfig": { "Init": true } }),
    )
    .await;
    act(&engine, "POST", "/containers/web/start").await;
    act(&engine, "POST", "/containers/web/stop?t=600").await;
    assert_eq!(state(&engine, "web").await["ExitCode"], 143);
}

#[tokio::test]
async fn stop_sends_the_signal_asked_for() {
    let engine = engine();
    run(
        &engine,
        "web",
        "trap 'exit 5' USR1; while :; do sleep 0.01; done",
    )
    .await;
    act(&engine, "POST", "/containers/web/stop?signal=SIGUSR1&t=600").await;
    assert_eq!(state(&engine, "web").await["ExitCode"], 5);
    assert_eq!(
        call(&engine, "POST", "/containers/web/stop?signal=NOPE", None)
            .await
            .message(),
        "invalid signal: NOPE"
    );
}

#[tokio::test]
async fn a_running_container_is_removed_only_by_force() {
    let engine = engine();
    let id = run(&engine, "web", "sleep 1000").await;
    let refused = call(&engine, "DELETE", "/containers/web", None).await;
    assert_eq!(refused.status, 409);
    assert_eq!(
        refused.message(),
        "cannot remove container \"/web\": container is running: stop the container before removing or force remove"
    );
    let waiting = tokio::spawn({
        let engine = engine.clone();
        async move {
            act(
                &engine,
                "POST",
                &format!("/containers/{id}/wait?condition=removed"),
            )
            .await
            .json()
        }
    });
    tokio::task::yield_now().await;
    act(&engine, "DELETE", "/containers/web?force=1").await;
    assert_eq!(waiting.await.unwrap()["StatusCode"], 137);
}

#[tokio::test]
async fn an_auto_removed_container_leaves_its_exit_code_to_those_who_wait() {
    let engine = engine();
    create(
        &engine,
        "once",
        json!({ "Cmd": ["sh", "-c", "exit 9"], "HostConfig": { "AutoRemove": true } }),
    )
    .await;
    let head = crate::client::open(
        &engine,
        crate::client::request("POST", "/containers/once/wait?condition=removed", None),
    );
    // The head comes before the container has even started.
    let reply = tokio::time::timeout(Duration::from_secs(20), head)
        .await
        .unwrap()
        .unwrap();
    act(&engine, "POST", "/containers/once/start").await;
    let body = http_body_util::BodyExt::collect(reply.into_body())
        .await
        .unwrap()
        .to_bytes();
    assert_eq!(
        serde_json::from_slice::<Value>(&body).unwrap(),
        json!({ "StatusCode": 9 })
    );
    assert_eq!(get(&engine, "/containers/once/json").await.status, 404);
}

#[tokio::test(start_paused = true)]
async fn on_failure_restarts_as_often_as_it_says() {
    let engine = engine();
    let policy = json!({ "RestartPolicy": { "Name": "on-failure", "MaximumRetryCount": 3 } });
    create(
        &engine,
        "flaky",
        json!({ "Cmd": ["sh", "-c", "echo x; exit 1"], "HostConfig": policy }),
    )
    .await;
    act(&engine, "POST", "/containers/flaky/start").await;
    tokio::time::sleep(Duration::from_secs(10)).await;
    let view = inspect(&engine, "flaky").await;
    assert_eq!(
        (&view["RestartCount"], &view["State"]["Status"]),
        (&json!(3), &json!("exited"))
    );
    let logs = get(&engine, "/containers/flaky/logs?stdout=1").await;
    assert_eq!(crate::client::split(&logs.body).0, "x\nx\nx\nx\n");
}

#[tokio::test(start_paused = true)]
async fn always_restarts_until_someone_stops_it() {
    let engine = engine();
    let body = json!({ "Cmd": ["false"], "HostConfig": { "RestartPolicy": { "Name": "always" } } });
    create(&engine, "again", body).await;
    act(&engine, "POST", "/containers/again/start").await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    let restarting = inspect(&engine, "again").await;
    assert_eq!(restarting["State"]["Status"], "restarting");
    // 100 ms, 200 ms, 400 ms, 800 ms: the fifth run is over before two seconds are.
    assert_eq!(restarting["RestartCount"], 5);
    act(&engine, "POST", "/containers/again/stop").await;
    tokio::time::sleep(Duration::from_secs(300)).await;
    assert_eq!(state(&engine, "again").await["Status"], "exited");
}

#[tokio::test]
async fn a_command_that_is_not_there_fails_the_start() {
    let engine = engine();
    create(&engine, "bad", json!({ "Cmd": ["nope"] })).await;
    let reply = call(&engine, "POST", "/containers/bad/start", None).await;
    assert_eq!(reply.status, 400);
    assert!(
        reply
            .message()
            .contains("exec: \"nope\": executable file not found in $PATH"),
        "{}",
        reply.message()
    );
    let state = state(&engine, "bad").await;
    assert_eq!(
        (&state["Status"], &state["ExitCode"]),
        (&json!("created"), &json!(127))
    );
    assert_eq!(state["Error"], reply.message());
}

#[tokio::test(start_paused = true)]
async fn a_paused_container_stands_still() {
    let engine = engine();
    run(&engine, "tick", "while true; do echo tick; sleep 1; done").await;
    tokio::time::sleep(Duration::from_millis(2500)).await;
    act(&engine, "POST", "/containers/tick/pause").await;
    tokio::time::sleep(Duration::from_secs(60)).await;
    let logs = get(&engine, "/containers/tick/logs?stdout=1").await;
    assert_eq!(crate::client::frames(&logs.body).len(), 3);
    assert_eq!(state(&engine, "tick").await["Status"], "paused");
    let refused = post(&engine, "/containers/tick/exec", json!({ "Cmd": ["true"] })).await;
    assert_eq!(refused.status, 409);
    act(&engine, "POST", "/containers/tick/unpause").await;
    tokio::time::sleep(Duration::from_millis(1500)).await;
    let logs = get(&engine, "/containers/tick/logs?stdout=1").await;
    assert!(crate::client::frames(&logs.body).len() > 3);
}

#[tokio::test(start_paused = true)]
async fn health_follows_the_checks() {
    let engine = engine();
    let check =
        json!({ "Test": ["CMD-SHELL", "test -f /ok"], "Interval": 1_000_000_000, "Retries": 2 });
    create(
        &engine,
        "web",
        json!({ "Cmd": ["sh", "-c", "sleep 5; touch /ok; sleep 100"], "Healthcheck": check }),
    )
    .await;
    act(&engine, "POST", "/containers/web/start").await;
    let health = async || state(&engine, "web").await["Health"].clone();
    assert_eq!(health().await["Status"], "starting");
    tokio::time::sleep(Duration::from_millis(2500)).await;
    let sick = health().await;
    assert_eq!(
        (&sick["Status"], &sick["FailingStreak"]),
        (&json!("unhealthy"), &json!(2))
    );
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert_eq!(health().await["Status"], "healthy");
    let list = get(
        &engine,
        "/containers/json?filters={\"health\":[\"healthy\"]}",
    )
    .await
    .json();
    assert!(list[0]["Status"].as_str().unwrap().ends_with("(healthy)"));
}

#[tokio::test]
async fn rename_update_and_resize_change_what_they_say() {
    let engine = engine();
    let id = run(&engine, "old", "sleep 1000").await;
    act(&engine, "POST", "/containers/old/rename?name=new").await;
    assert_eq!(inspect(&engine, "new").await["Id"], id);
    assert_eq!(get(&engine, "/containers/old/json").await.status, 404);
    let update =
        json!({ "Memory": 64 << 20, "RestartPolicy": { "Name": "always" }, "CpuShares": 0 });
    assert_eq!(
        post(&engine, "/containers/new/update", update).await.status,
        200
    );
    let host = inspect(&engine, "new").await["HostConfig"].clone();
    assert_eq!(
        (&host["Memory"], &host["RestartPolicy"]["Name"]),
        (&json!(64 << 20), &json!("always"))
    );
    act(&engine, "POST", "/containers/new/resize?h=24&w=80").await;
    assert_eq!(
        call(&engine, "POST", "/containers/new/resize?h=x&w=80", None)
            .await
            .status,
        400
    );
}

#[tokio::test]
async fn restarting_the_engine_keeps_or_loses_containers_and_cuts_connections() {
    let engine = engine();
    let id = run(&engine, "web", "sleep 1000").await;
    let events = crate::client::open(&engine, crate::client::request("GET", "/events", None))
        .await
        .unwrap();
    engine.restart(Loss::KeepContainers);
    assert!(
        http_body_util::BodyExt::collect(events.into_body())
            .await
            .is_err(),
        "the stream must be cut, not ended"
    );
    assert_eq!(state(&engine, &id).await["Status"], "running");
    engine.restart(Loss::LoseContainers);
    assert_eq!(
        get(&engine, "/containers/json?all=1").await.json(),
        json!([])
    );
    create(&engine, "web", json!({})).await;
}

#[tokio::test]
async fn a_connection_that_ends_is_forgotten_and_a_dropped_engine_ends_them_all() {
    let engine = engine();
    run(&engine, "web", "sleep 1000").await;
    let follow = "GET /containers/web/logs?stdout=1&follow=1 HTTP/1.1\r\nHost: docker\r\n\r\n";
    let open: Vec<_> =
        futures_util::future::join_all((0..50).map(|_| crate::client::raw(&engine, follow))).await;
    let until = |count: usize| {
        let engine = engine.clone();
        async move {
            let start = Instant::now();
            while engine.open_connections() != count {
                assert!(
                    start.elapsed() < Duration::from_secs(20),
                    "{} connections, not {count}",
                    engine.open_connections()
                );
                tokio::task::yield_now().await;
            }
        }
    };
    until(50).await;
    drop(open);
    until(0).await;
    let mut last = crate::client::raw(&engine, follow).await;
    crate::client::read_head(&mut last).await;
    drop(engine);
    assert_eq!(crate::client::rest(&mut last).await, b"");
}

#[tokio::test(start_paused = true)]
async fn a_stop_goes_on_without_the_client_that_asked_for_it() {
    let engine = engine();
    run(&engine, "deaf", "sleep 100000").await;
    let request =
        "POST /containers/deaf/stop?t=30 HTTP/1.1\r\nHost: docker\r\nContent-Length: 0\r\n\r\n";
    let client = crate::client::raw(&engine, request).await;
    tokio::time::sleep(Duration::from_secs(5)).await;
    drop(client);
    tokio::time::sleep(Duration::from_secs(26)).await;
    assert_eq!(engine.open_connections(), 0);
    assert_eq!(state(&engine, "deaf").await["ExitCode"], 137);
}

#[tokio::test(start_paused = true)]
async fn a_restart_of_the_engine_ends_a_stop_under_way() {
    let engine = engine();
    run(&engine, "deaf", "sleep 100000").await;
    let request =
        "POST /containers/deaf/stop?t=30 HTTP/1.1\r\nHost: docker\r\nContent-Length: 0\r\n\r\n";
    let mut client = crate::client::raw(&engine, request).await;
    tokio::time::sleep(Duration::from_secs(5)).await;
    engine.restart(Loss::KeepContainers);
    assert_eq!(crate::client::rest(&mut client).await, b"");
    tokio::time::sleep(Duration::from_secs(600)).await;
    assert_eq!(state(&engine, "deaf").await["Status"], "running");
}
