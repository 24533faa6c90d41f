use std::time::Duration;

use berth_fake_engine::{FakeEngine, Health, OnSignal, Script, Step};
use serde_json::json;

use crate::client::{act, create, get, hijack, inspect, post, rest, split, wait};

#[tokio::test(start_paused = true)]
async fn a_script_stands_for_the_containers_of_an_image() {
    let steps = vec![
        Step::Print("up\n".into()),
        Step::Cpu(0.5),
        Step::Memory(64 << 20),
        Step::Health(Health::Healthy),
        Step::Sleep(Duration::from_secs(10)),
        Step::PrintErr("down\n".into()),
        Step::Exit(3),
    ];
    let engine = FakeEngine::builder()
        .image("web:1")
        .script(Script::for_image("web:*", steps))
        .build()
        .unwrap();
    create(&engine, "web", json!({ "Image": "web:1" })).await;
    act(&engine, "POST", "/containers/web/start").await;
    tokio::time::sleep(Duration::from_secs(4)).await;
    assert_eq!(
        inspect(&engine, "web").await["State"]["Health"]["Status"],
        "healthy"
    );
    let stats = get(&engine, "/containers/web/stats?stream=0").await.json();
    assert_eq!(stats["memory_stats"]["usage"], 64 << 20);
    let used = |part: &str| stats[part]["cpu_usage"]["total_usage"].as_u64().unwrap();
    assert_eq!(
        used("cpu_stats") - used("precpu_stats"),
        500_000_000,
        "half a core for a second"
    );
    assert_eq!(wait(&engine, "web").await, 3);
    let logs = get(&engine, "/containers/web/logs?stdout=1&stderr=1").await;
    assert_eq!(split(&logs.body), ("up\n".to_owned(), "down\n".to_owned()));
}

#[tokio::test(start_paused = true)]
async fn a_script_answers_signals_in_its_own_time() {
    let action = OnSignal {
        after: Duration::from_secs(3),
        print: "bye\n".into(),
        exit: Some(0),
    };
    let script = Script::for_name("polite", vec![Step::Wait]).on_signal("TERM", action);
    let rude = Script::for_name("rude", vec![Step::Wait]);
    let engine = FakeEngine::builder()
        .image("busybox")
        .script(script)
        .script(rude)
        .build()
        .unwrap();
    for (name, code, seconds) in [("polite", 0, 3), ("rude", 143, 0)] {
        create(&engine, name, json!({})).await;
        act(&engine, "POST", &format!("/containers/{name}/start")).await;
        let before = tokio::time::Instant::now();
        act(&engine, "POST", &format!("/containers/{name}/stop?t=60")).await;
        assert_eq!(before.elapsed().as_secs(), seconds);
        assert_eq!(inspect(&engine, name).await["State"]["ExitCode"], code);
    }
}

#[tokio::test]
async fn scripts_answer_execs_run_out_of_memory_and_refuse_to_start() {
    let engine = FakeEngine::builder()
        .image("app")
        .script(Script::for_exec(
            "check *",
            vec![Step::Print("fine\n".into()), Step::Exit(6)],
        ))
        .script(Script::for_name("greedy", vec![Step::OomKill]))
        .script(Script::for_name(
            "broken",
            vec![Step::FailStart("no such device".into())],
        ))
        .build()
        .unwrap();
    engine.create_running_container("app", "app").unwrap();
    let body = json!({ "Cmd": ["check", "me"], "AttachStdout": true });
    let id = post(&engine, "/containers/app/exec", body).await.json()["Id"]
        .as_str()
        .unwrap()
        .to_owned();
    let (_, mut stream) = hijack(&engine, &format!("/exec/{id}/start"), "{}", true).await;
    assert_eq!(split(&rest(&mut stream).await).0, "fine\n");
    assert_eq!(
        get(&engine, &format!("/exec/{id}/json")).await.json()["ExitCode"],
        6
    );
    create(&engine, "greedy", json!({ "Image": "app" })).await;
    act(&engine, "POST", "/containers/greedy/start").await;
    assert_eq!(wait(&engine, "greedy").await, 137);
    assert_eq!(inspect(&engine, "greedy").await["State"]["OOMKilled"], true);
    create(&engine, "broken", json!({ "Image": "app" })).await;
    let refused = post(&engine, "/containers/broken/start", json!(null)).await;
    assert_eq!(
        (refused.status.as_u16(), refused.message()),
        (500, "no such device".to_owned())
    );
}

#[tokio::test]
async fn a_predicate_chooses_by_the_command() {
    let mut script = Script::for_image(
        "*",
        vec![Step::Repeat {
            times: Some(2),
            steps: vec![Step::Print("x\n".into())],
        }],
    );
    script.when.predicate = Some(std::sync::Arc::new(|argv: &[String]| argv.len() == 2));
    let engine = FakeEngine::builder()
        .image("busybox")
        .script(script)
        .build()
        .unwrap();
    for (command, expected) in [
        (json!(["echo", "a"]), "x\nx\n"),
        (json!(["echo", "a", "b"]), "a b\n"),
    ] {
        let id = create(&engine, "", json!({ "Cmd": command })).await;
        act(&engine, "POST", &format!("/containers/{id}/start")).await;
        wait(&engine, &id).await;
        let logs = get(&engine, &format!("/containers/{id}/logs?stdout=1")).await;
        assert_eq!(split(&logs.body).0, expected);
    }
}
