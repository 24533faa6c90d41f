use std::time::{Duration, UNIX_EPOCH};

use berth_fake_engine::{Clock, Event, FakeEngine};
use serde_json::{Value, json};

use crate::client::{act, create, engine, get, open, post, request, run, wait};

async fn past(engine: &FakeEngine, query: &str) -> Vec<Value> {
    past_since(engine, &format!("since=1&{query}")).await
}

async fn past_since(engine: &FakeEngine, query: &str) -> Vec<Value> {
    let now = engine.clock().now().duration_since(UNIX_EPOCH).unwrap();
    let until = format!("{}.{:09}", now.as_secs(), now.subsec_nanos());
    let reply = get(engine, &format!("/events?until={until}&{query}")).await;
    assert_eq!(reply.status, 200, "{}", reply.text());
    reply.values()
}

fn actions(events: &[Value]) -> Vec<String> {
    events
        .iter()
        .map(|e| {
            format!(
                "{} {}",
                e["Type"].as_str().unwrap(),
                e["Action"].as_str().unwrap()
            )
        })
        .collect()
}

#[tokio::test]
async fn a_containers_life_is_told_in_order() {
    let engine = engine();
    let id = create(
        &engine,
        "job",
        json!({ "Cmd": ["sh", "-c", "exit 3"], "Labels": { "a": "b" } }),
    )
    .await;
    act(&engine, "POST", "/containers/job/start").await;
    wait(&engine, &id).await;
    act(&engine, "DELETE", "/containers/job").await;
    let events = past(&engine, "").await;
    assert_eq!(
        actions(&events),
        [
            "container create",
            "network connect",
            "container start",
            "container die",
            "network disconnect",
            "container destroy"
        ]
    );
    let die = &events[3];
    let attributes = json!({ "a": "b", "image": "busybox", "name": "job", "exitCode": "3", "execDuration": "0" });
    assert_eq!(die["Actor"], json!({ "ID": id, "Attributes": attributes }));
    assert_eq!(
        (&die["status"], &die["id"], &die["from"]),
        (&json!("die"), &json!(id), &json!("busybox"))
    );
    assert_eq!(
        die["timeNano"].as_u64().unwrap() / 1_000_000_000,
        die["time"].as_u64().unwrap()
    );
    let times: Vec<u64> = events
        .iter()
        .map(|e| e["timeNano"].as_u64().unwrap())
        .collect();
    assert!(times.windows(2).all(|pair| pair[0] < pair[1]), "{times:?}");
    let resumed = format!(
        "since={}.{:09}",
        times[4] / 1_000_000_000,
        times[4] % 1_000_000_000
    );
    assert_eq!(past_since(&engine, &resumed).await, events[4..]);
}

#[tokio::test]
async fn filters_choose_events() {
    let engine = engine();
    run(&engine, "one", "sleep 1000").await;
    run(&engine, "two", "sleep 1000").await;
    post(&engine, "/containers/one/exec", json!({ "Cmd": ["ls"] })).await;
    post(&engine, "/volumes/create", json!({ "Name": "vol1" })).await;
    assert_eq!(
        actions(&past(&engine, r#"filters={"type":["volume"]}"#).await),
        ["volume create"]
    );
    assert_eq!(
        actions(&past(&engine, r#"filters={"container":["two"]}"#).await),
        ["container create", "container start"]
    );
    assert_eq!(
        past(&engine, r#"filters={"event":["start"]}"#).await.len(),
        2
    );
    assert_eq!(
        actions(&past(&engine, r#"filters={"event":["exec_create"]}"#).await),
        ["container exec_create: ls "]
    );
    assert_eq!(
        past(
            &engine,
            r#"filters={"image":["busybox"],"event":["create"]}"#
        )
        .await
        .len(),
        2
    );
    assert_eq!(
        get(&engine, r#"/events?filters={"nope":["x"]}"#)
            .await
            .status,
        400
    );
}

#[tokio::test]
async fn only_256_past_events_are_kept() {
    let engine = engine();
    for index in 0..300 {
        engine.emit_event(
            Event::new("container", "start", format!("c{index}")).attribute("name", "x"),
        );
    }
    let events = past(&engine, "").await;
    assert_eq!((events.len(), &events[0]["id"]), (256, &json!("c44")));
}

#[tokio::test]
async fn a_subscriber_that_does_not_read_loses_events_and_no_more() {
    let engine = engine();
    let slow = open(&engine, request("GET", "/events", None))
        .await
        .unwrap();
    for index in 0..5000 {
        engine.emit_event(Event::new("container", "start", format!("c{index}")));
    }
    // Nothing ran in between: what the buffer held came through, the rest is gone.
    let mut body = slow.into_body();
    let mut text = Vec::new();
    while text.iter().filter(|b| **b == b'\n').count() < 1024 {
        let frame = http_body_util::BodyExt::frame(&mut body)
            .await
            .unwrap()
            .unwrap();
        text.extend_from_slice(frame.data_ref().unwrap());
    }
    engine.emit_event(Event::new("container", "stop", "last"));
    let last = http_body_util::BodyExt::frame(&mut body)
        .await
        .unwrap()
        .unwrap();
    assert!(String::from_utf8_lossy(last.data_ref().unwrap()).contains("\"last\""));
}

#[tokio::test]
async fn events_can_be_lost() {
    let engine = FakeEngine::builder()
        .clock(Clock::manual(UNIX_EPOCH + Duration::from_secs(50)))
        .build()
        .unwrap();
    engine.lose_events(2);
    for name in ["a", "b", "c"] {
        engine.emit_event(Event::new("container", "start", name));
    }
    engine.clock().advance(Duration::from_secs(1));
    let ids: Vec<Value> = past(&engine, "")
        .await
        .iter()
        .map(|e| e["id"].clone())
        .collect();
    assert_eq!(ids, [json!("c")]);
}

#[tokio::test]
async fn api_1_52_leaves_the_old_fields_out() {
    let engine = FakeEngine::builder()
        .api_version("1.52")
        .image("busybox")
        .build()
        .unwrap();
    create(&engine, "job", json!({})).await;
    let event = past(&engine, "").await.remove(0);
    assert_eq!(
        (event.get("status"), event.get("id"), event.get("from")),
        (None, None, None)
    );
    assert_eq!(event["Actor"]["Attributes"]["image"], "busybox");
}
