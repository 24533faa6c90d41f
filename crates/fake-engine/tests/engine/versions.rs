use berth_fake_engine::{ApiVersion, EngineError, FakeEngine};
use serde_json::json;

use crate::client::{act, call, create, engine, get, inspect};

fn at(version: &str) -> FakeEngine {
    FakeEngine::builder()
        .api_version(version)
        .image("busybox")
        .build()
        .unwrap()
}

#[tokio::test]
async fn ping_answers_head_and_get_with_the_headers_of_negotiation() {
    let engine = at("1.45");
    for method in ["GET", "HEAD"] {
        let reply = call(&engine, method, "/_ping", None).await;
        assert_eq!(reply.header("api-version"), "1.45");
        assert_eq!(reply.header("ostype"), "linux");
        assert!(reply.header("server").starts_with("Docker/26."));
        assert_eq!(reply.text(), if method == "GET" { "OK" } else { "" });
    }
}

#[tokio::test]
async fn a_version_outside_the_range_is_refused_with_the_engines_words() {
    let engine = FakeEngine::builder()
        .api_version("1.47")
        .min_api_version("1.44")
        .build()
        .unwrap();
    let new = get(&engine, "/v1.48/version").await;
    assert_eq!(
        (new.status.as_u16(), new.header("api-version")),
        (400, "1.47")
    );
    assert_eq!(
        new.message(),
        "client version 1.48 is too new. Maximum supported API version is 1.47"
    );
    let old = get(&engine, "/v1.43/version").await;
    assert_eq!(
        old.message(),
        "client version 1.43 is too old. Minimum supported API version is 1.44, please upgrade your client to a newer version"
    );
    assert_eq!(
        get(&engine, "/v1.44/version").await.json()["MinAPIVersion"],
        "1.44"
    );
}

#[tokio::test]
async fn errors_are_json_with_the_usual_headers() {
    let engine = engine();
    let missing = get(&engine, "/containers/nope/json").await;
    assert_eq!(
        (missing.status.as_u16(), missing.message()),
        (404, "No such container: nope".to_owned())
    );
    assert_eq!(missing.header("content-type"), "application/json");
    assert_eq!(missing.header("api-version"), "1.47");
    assert_eq!(get(&engine, "/nope").await.message(), "page not found");
    assert_eq!(get(&engine, "/v1.x/info").await.status, 404);
    assert_eq!(call(&engine, "POST", "/build", None).await.status, 501);
    assert_eq!(get(&engine, "/services").await.status, 503);
}

#[tokio::test]
async fn a_replaced_daemon_speaks_its_own_version() {
    let engine = at("1.44");
    engine.set_api_version("1.52").unwrap();
    assert_eq!(get(&engine, "/_ping").await.header("api-version"), "1.52");
    assert_eq!(get(&engine, "/v1.43/info").await.status, 400);
    assert_eq!(
        engine.set_api_version("1.56"),
        Err(EngineError::VersionRange(ApiVersion::new(1, 56)))
    );
}

#[tokio::test]
async fn a_mac_address_asked_for_at_connect_counts_since_api_1_54() {
    for (version, counts) in [("1.53", false), ("1.54", true)] {
        let engine = at(version);
        let id = create(&engine, "web", json!({ "Cmd": ["sleep", "100"] })).await;
        act(&engine, "POST", "/containers/web/start").await;
        let network = json!({ "Name": "other" });
        call(&engine, "POST", "/networks/create", Some(network)).await;
        let asked =
            json!({ "Container": id, "EndpointConfig": { "MacAddress": "02:00:00:00:00:07" } });
        call(&engine, "POST", "/networks/other/connect", Some(asked)).await;
        let view = inspect(&engine, &id).await;
        let shown = &view["NetworkSettings"]["Networks"]["other"]["MacAddress"];
        assert_eq!(*shown == "02:00:00:00:00:07", counts, "{version}: {shown}");
        assert_ne!(*shown, "");
    }
}

#[tokio::test]
async fn rules_for_devices_are_updated_since_api_1_55() {
    for (version, changed) in [("1.54", false), ("1.55", true)] {
        let engine = at(version);
        let id = create(&engine, "web", json!({ "Cmd": ["sleep", "100"] })).await;
        let rules = json!([{ "Path": "/dev/sda", "Rate": 1000 }]);
        let update = json!({ "BlkioDeviceReadBps": rules });
        call(&engine, "POST", "/containers/web/update", Some(update)).await;
        let view = inspect(&engine, &id).await;
        assert_eq!(view["HostConfig"]["BlkioDeviceReadBps"] == rules, changed);
    }
}

#[tokio::test]
async fn api_1_52_drops_what_it_dropped() {
    for (version, legacy) in [("1.47", true), ("1.52", false)] {
        let engine = at(version);
        let id = create(&engine, "web", json!({ "Cmd": ["sleep", "100"] })).await;
        act(&engine, "POST", "/containers/web/start").await;
        let view = inspect(&engine, &id).await;
        assert_eq!(view["NetworkSettings"]["IPAddress"].is_string(), legacy);
        assert_eq!(
            view["NetworkSettings"]["Networks"]["bridge"]["IPAddress"],
            "172.17.0.2"
        );
        assert_eq!(view["GraphDriver"].is_object(), legacy);
    }
}

#[tokio::test]
async fn the_multiplexed_content_type_comes_with_api_1_42() {
    for (version, expected) in [
        ("1.41", "application/vnd.docker.raw-stream"),
        ("1.42", "application/vnd.docker.multiplexed-stream"),
    ] {
        let engine = at(version);
        create(&engine, "web", json!({ "Cmd": ["true"] })).await;
        create(&engine, "tty", json!({ "Cmd": ["true"], "Tty": true })).await;
        let header = |reply: crate::client::Reply| reply.header("content-type").to_owned();
        assert_eq!(
            header(get(&engine, "/containers/web/logs?stdout=1").await),
            expected
        );
        assert_eq!(
            header(get(&engine, "/containers/tty/logs?stdout=1").await),
            "application/vnd.docker.raw-stream"
        );
    }
}

#[test]
fn a_builder_refuses_what_is_not_served() {
    let build = |version: &str| {
        FakeEngine::builder()
            .api_version(version)
            .build()
            .unwrap_err()
            .to_string()
    };
    assert!(build("1.39").contains("choose 1.40 to 1.55"));
    assert!(build("one").contains("MAJOR.MINOR"));
    let order = FakeEngine::builder()
        .api_version("1.44")
        .min_api_version("1.45")
        .build()
        .unwrap_err();
    assert!(order.to_string().contains("above"));
    assert!(FakeEngine::builder().image("Not An Image").build().is_err());
}
