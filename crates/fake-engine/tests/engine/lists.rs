use berth_fake_engine::FakeEngine;
use serde_json::{Value, json};

use crate::client::{act, call, create, engine, get, run, wait};

async fn names(engine: &FakeEngine, query: &str) -> Vec<String> {
    let reply = get(engine, &format!("/containers/json?{query}")).await;
    assert_eq!(reply.status, 200, "{}", reply.text());
    let list = reply.json();
    list.as_array()
        .unwrap()
        .iter()
        .map(|c| c["Names"][0].as_str().unwrap()[1..].to_owned())
        .collect()
}

async fn filled() -> FakeEngine {
    let engine = FakeEngine::builder()
        .image("busybox")
        .image("alpine")
        .build()
        .unwrap();
    for (name, image, label) in [
        ("first", "busybox", "x"),
        ("second", "alpine", "y"),
        ("third", "busybox", "y"),
    ] {
        let body =
            json!({ "Image": image, "Cmd": ["sh", "-c", "exit 2"], "Labels": { "tier": label } });
        create(&engine, name, body).await;
    }
    act(&engine, "POST", "/containers/second/start").await;
    wait(&engine, "second").await;
    run(&engine, "live", "sleep 1000").await;
    engine
}

#[tokio::test]
async fn a_list_shows_what_runs_newest_first_or_all() {
    let engine = filled().await;
    assert_eq!(names(&engine, "").await, ["live"]);
    assert_eq!(
        names(&engine, "all=1").await,
        ["live", "third", "second", "first"]
    );
    assert_eq!(names(&engine, "limit=2").await, ["live", "third"]);
    assert_eq!(
        names(&engine, "all=1&since=first&before=live").await,
        ["third", "second"]
    );
}

#[tokio::test]
async fn filters_narrow_a_list_in_both_encodings() {
    let engine = filled().await;
    for (filters, expected) in [
        (r#"{"label":["tier=y"]}"#, vec!["third", "second"]),
        (r#"{"label":{"tier=y":true}}"#, vec!["third", "second"]),
        (r#"{"label":["tier"],"label!":["tier=y"]}"#, vec!["first"]),
        (r#"{"name":["ir"]}"#, vec!["third", "first"]),
        (r#"{"name":["^/third$"]}"#, vec!["third"]),
        (r#"{"status":["created"]}"#, vec!["third", "first"]),
        (r#"{"status":["exited","running"]}"#, vec!["live", "second"]),
        (r#"{"exited":["2"]}"#, vec!["second"]),
        (r#"{"ancestor":["alpine"]}"#, vec!["second"]),
        (
            r#"{"network":["bridge"],"status":["running"]}"#,
            vec!["live"],
        ),
        (r#"{"health":["none"],"status":["running"]}"#, vec!["live"]),
        (r#"{"since":["third"]}"#, vec!["live"]),
    ] {
        assert_eq!(
            names(&engine, &format!("all=1&filters={filters}")).await,
            expected,
            "{filters}"
        );
    }
    for bad in [
        r#"{"nope":["x"]}"#,
        r#"{"status":["nope"]}"#,
        r#"{"exited":["x"]}"#,
        "[",
        r#"{"label":7}"#,
    ] {
        let reply = call(
            &engine,
            "GET",
            &format!("/containers/json?filters={bad}"),
            None,
        )
        .await;
        assert_eq!(reply.status, 400, "{bad}");
    }
}

#[tokio::test]
async fn a_list_item_has_the_fields_clients_read() {
    let engine = engine();
    let id = create(
        &engine,
        "web",
        json!({ "Cmd": ["sleep", "100"], "ExposedPorts": { "80/tcp": {} } }),
    )
    .await;
    act(&engine, "POST", "/containers/web/start").await;
    let item: Value = get(&engine, "/containers/json?size=1").await.json()[0].clone();
    assert_eq!(item["Id"], id);
    assert_eq!(item["Image"], "busybox");
    assert!(item["ImageID"].as_str().unwrap().starts_with("sha256:"));
    assert_eq!(item["Command"], "sleep 100");
    assert_eq!(item["State"], "running");
    assert_eq!(item["Status"], "Up Less than a second");
    assert_eq!(item["HostConfig"]["NetworkMode"], "bridge");
    assert_eq!(item["Ports"], json!([{ "PrivatePort": 80, "Type": "tcp" }]));
    assert!(item["SizeRootFs"].as_u64().unwrap() > 1_000_000);
    assert_eq!(
        item["NetworkSettings"]["Networks"]["bridge"]["IPAddress"],
        "172.17.0.2"
    );
}

#[tokio::test]
async fn a_container_is_found_by_name_id_and_unique_start() {
    let engine = engine();
    let ids: Vec<String> = {
        let mut ids = Vec::new();
        for index in 0..40 {
            ids.push(create(&engine, &format!("c{index}"), json!({})).await);
        }
        ids
    };
    assert_eq!(
        get(&engine, &format!("/containers/{}/json", &ids[0][..12]))
            .await
            .json()["Id"],
        ids[0]
    );
    assert_eq!(
        get(&engine, "/containers/c7/json").await.json()["Id"],
        ids[7]
    );
    let first = ids
        .iter()
        .map(|id| &id[..1])
        .find(|start| ids.iter().filter(|id| id.starts_with(start)).count() > 1)
        .unwrap();
    let several = get(&engine, &format!("/containers/{first}/json")).await;
    assert_eq!(
        (several.status.as_u16(), several.message()),
        (
            400,
            format!("Multiple IDs found with provided prefix: {first}")
        )
    );
}
