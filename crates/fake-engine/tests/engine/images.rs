use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE};
use berth_fake_engine::{FakeEngine, RegistryAnswer, RegistryBehaviour};
use http_body_util::{BodyExt, Full};
use hyper::Request;
use hyper::body::Bytes;
use serde_json::{Value, json};

use crate::client::{Reply, act, call, create, engine, get, open, post, request, send};

fn with(registry: RegistryBehaviour) -> FakeEngine {
    FakeEngine::builder().registry(registry).build().unwrap()
}

async fn pull(engine: &FakeEngine, reference: &str) -> Reply {
    call(
        engine,
        "POST",
        &format!("/images/create?fromImage={reference}"),
        None,
    )
    .await
}

fn statuses(reply: &Reply) -> Vec<String> {
    reply
        .values()
        .iter()
        .filter_map(|v| v["status"].as_str().map(str::to_owned))
        .collect()
}

async fn upload(engine: &FakeEngine, method: &str, path: &str, body: impl Into<Bytes>) -> Reply {
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header("content-type", "application/x-tar");
    send(engine, request.body(Full::new(body.into())).unwrap())
        .await
        .unwrap()
}

#[tokio::test]
async fn a_pull_reports_each_layer_and_the_digest() {
    let engine = with(RegistryBehaviour::default());
    let reply = pull(&engine, "nginx&tag=1.27").await;
    let all = statuses(&reply);
    assert_eq!(all[0], "Pulling from library/nginx");
    assert_eq!(all.iter().filter(|s| *s == "Pulling fs layer").count(), 3);
    assert_eq!(all.iter().filter(|s| *s == "Pull complete").count(), 3);
    assert!(all[all.len() - 2].starts_with("Digest: sha256:"));
    assert_eq!(
        all[all.len() - 1],
        "Status: Downloaded newer image for nginx:1.27"
    );
    assert!(
        reply.text().contains("}\r\n{"),
        "values are separated by CR LF"
    );
    let again = statuses(&pull(&engine, "nginx:1.27").await);
    assert_eq!(
        again.last().unwrap(),
        "Status: Image is up to date for nginx:1.27"
    );
    let view = get(&engine, "/images/nginx:1.27/json").await.json();
    let digest = view["RepoDigests"][0].as_str().unwrap().to_owned();
    assert_eq!(
        get(&engine, &format!("/images/{digest}/json")).await.json()["Id"],
        view["Id"]
    );
    let short = &view["Id"].as_str().unwrap()[7..19];
    assert_eq!(
        get(&engine, &format!("/images/{short}/json")).await.json()["RepoTags"],
        json!(["nginx:1.27"])
    );
    assert_eq!(
        get(&engine, "/images/nginx:1.27/history")
            .await
            .json()
            .as_array()
            .unwrap()
            .len(),
        4
    );
}

#[tokio::test]
async fn a_registry_refuses_before_the_stream_or_inside_it() {
    let registry = RegistryBehaviour::default()
        .rule("denied:*", RegistryAnswer::Denied)
        .rule("untagged:*", RegistryAnswer::ManifestUnknown)
        .rule("example.com/down:*", RegistryAnswer::Unreachable)
        .rule("example.com/sick:*", RegistryAnswer::Status(503))
        .rule(
            "cut:*",
            RegistryAnswer::FailMidway {
                message: "unexpected EOF".into(),
            },
        );
    let engine = with(registry);
    for (reference, status, message) in [
        (
            "denied",
            404,
            "pull access denied for denied, repository does not exist",
        ),
        (
            "untagged:9",
            404,
            "manifest for untagged:9 not found: manifest unknown",
        ),
        (
            "example.com/down",
            500,
            "dial tcp: lookup example.com: no such host",
        ),
        (
            "example.com/sick",
            500,
            "received unexpected HTTP status: 503 Service Unavailable",
        ),
        ("Upper", 400, "must be lowercase"),
    ] {
        let reply = pull(&engine, reference).await;
        assert_eq!(reply.status, status, "{}", reply.text());
        assert!(reply.message().contains(message), "{}", reply.message());
    }
    let cut = pull(&engine, "cut").await;
    assert_eq!(cut.status, 200);
    let last = cut.values().pop().unwrap();
    assert_eq!(
        last,
        json!({ "errorDetail": { "message": "unexpected EOF" }, "error": "unexpected EOF" })
    );
    assert_eq!(
        get(&engine, "/images/cut/json").await.message(),
        "No such image: cut:latest"
    );
}

#[tokio::test]
async fn a_registry_keeps_what_is_pushed_to_it() {
    let registry = RegistryBehaviour::default()
        .rule("mine.example/*", RegistryAnswer::Pushed)
        .rule("down.example/*", RegistryAnswer::Unreachable);
    let engine = FakeEngine::builder()
        .image("busybox")
        .registry(registry)
        .build()
        .unwrap();
    crate::client::run(&engine, "job", "echo mine > /mine").await;
    crate::client::wait(&engine, "job").await;
    for name in ["mine.example/app", "else.example/app"] {
        let absent = pull(&engine, &format!("{name}:1")).await;
        let made_up = name.starts_with("else");
        assert_eq!(absent.status, if made_up { 200 } else { 404 }, "{name}");
        let commit = format!("/commit?container=job&repo={name}&tag=1");
        let id = post(&engine, &commit, json!({})).await.json()["Id"].clone();
        let mut request = request("POST", &format!("/images/{name}/push?tag=1"), None);
        request
            .headers_mut()
            .insert("x-registry-auth", "e30=".parse().unwrap());
        let pushed = send(&engine, request).await.unwrap();
        let digest = pushed.values().pop().unwrap()["aux"]["Digest"]
            .as_str()
            .unwrap()
            .to_owned();
        act(&engine, "DELETE", &format!("/images/{name}:1")).await;
        let describe = |tag: &str| format!("/distribution/{name}:{tag}/json");
        assert_eq!(
            get(&engine, &describe("1")).await.json()["Descriptor"]["digest"],
            digest
        );
        assert_eq!(
            get(&engine, &describe("2")).await.status,
            if made_up { 200 } else { 404 }
        );
        for reference in [format!("{name}:1"), format!("{name}@{digest}")] {
            assert_eq!(pull(&engine, &reference).await.status, 200, "{reference}");
            let view = get(&engine, &format!("/images/{reference}/json")).await;
            assert_eq!(view.json()["Id"], id, "{reference}");
        }
    }
    let login = |server: &str| json!({ "username": "me", "serveraddress": server });
    assert_eq!(
        post(&engine, "/auth", login("mine.example")).await.status,
        200
    );
    let down = post(&engine, "/auth", login("https://down.example/v2/")).await;
    assert_eq!(down.status, 500, "{}", down.text());
}

#[tokio::test(start_paused = true)]
async fn a_stalled_pull_says_nothing_more_and_a_slow_one_takes_its_time() {
    let registry = RegistryBehaviour::default()
        .rule("stall:*", RegistryAnswer::StallMidway)
        .speed(1_000_000);
    let engine = with(registry);
    let stalled = open(
        &engine,
        request("POST", "/images/create?fromImage=stall", None),
    )
    .await
    .unwrap();
    let whole =
        tokio::time::timeout(Duration::from_secs(100_000), stalled.into_body().collect()).await;
    assert!(whole.is_err(), "a stalled pull must not end");
    let before = tokio::time::Instant::now();
    pull(&engine, "busybox").await;
    assert_eq!(before.elapsed().as_secs(), 4, "4.27 MB at 1 MB/s");
}

#[tokio::test]
async fn credentials_are_read_as_the_engine_reads_them() {
    let answer = RegistryAnswer::Credentials {
        username: "me".into(),
        password: "~~~???>>>".into(),
    };
    let engine = with(RegistryBehaviour::default().rule("example.com/*", answer));
    let json = json!({ "username": "me", "password": "~~~???>>>" }).to_string();
    let wrong = json!({ "username": "me", "password": "no" }).to_string();
    for (header, status) in [
        (Some(URL_SAFE.encode(&json)), 200),
        (Some(STANDARD.encode(&json)), 500),
        (
            Some(URL_SAFE.encode(&json).trim_end_matches('=').to_owned() + "!"),
            500,
        ),
        (Some(URL_SAFE.encode(&wrong)), 500),
        (None, 500),
    ] {
        let mut request = request("POST", "/images/create?fromImage=example.com/app", None);
        if let Some(header) = &header {
            request
                .headers_mut()
                .insert("x-registry-auth", header.parse().unwrap());
        }
        let reply = send(&engine, request).await.unwrap();
        assert_eq!(reply.status, status, "{header:?}: {}", reply.text());
    }
    let login = |password: &str| json!({ "username": "me", "password": password });
    assert_eq!(
        post(&engine, "/auth", login("~~~???>>>")).await.json()["Status"],
        "Login Succeeded"
    );
    assert_eq!(post(&engine, "/auth", login("no")).await.status, 401);
    assert_eq!(
        get(&engine, "/distribution/example.com/app/json")
            .await
            .status,
        401
    );
}

#[tokio::test]
async fn removing_an_image_untags_before_it_deletes() {
    let engine = engine();
    act(&engine, "POST", "/images/busybox/tag?repo=mine&tag=1").await;
    assert_eq!(
        act(&engine, "DELETE", "/images/mine:1").await.json(),
        json!([{ "Untagged": "mine:1" }])
    );
    create(&engine, "user", json!({ "Cmd": ["true"] })).await;
    let refused = call(&engine, "DELETE", "/images/busybox", None).await;
    assert_eq!(refused.status, 409);
    assert!(refused.message().starts_with(
        "conflict: unable to remove repository reference \"busybox\" (must force) - container "
    ));
    let id = get(&engine, "/images/busybox/json").await.json()["Id"]
        .as_str()
        .unwrap()
        .to_owned();
    assert!(
        call(&engine, "DELETE", &format!("/images/{id}"), None)
            .await
            .message()
            .contains("(must be forced) - image is being used by stopped container")
    );
    act(&engine, "DELETE", "/containers/user").await;
    let removed = act(&engine, "DELETE", "/images/busybox").await.json();
    assert_eq!(removed[0], json!({ "Untagged": "busybox:latest" }));
    assert!(
        removed
            .as_array()
            .unwrap()
            .contains(&json!({ "Deleted": id }))
    );
    assert_eq!(get(&engine, "/images/json").await.json(), json!([]));
    assert_eq!(
        call(&engine, "DELETE", "/images/busybox", None)
            .await
            .status,
        404
    );
}

#[tokio::test]
async fn a_saved_image_loads_with_its_id_and_its_files() {
    let from = engine();
    crate::client::run(&from, "job", "echo content > /etc/mine; rm /etc/group").await;
    crate::client::wait(&from, "job").await;
    let commit = post(
        &from,
        "/commit?container=job&repo=mine&tag=1&changes=CMD%20%5B%22cat%22,%22/etc/mine%22%5D",
        json!({}),
    )
    .await;
    let id = commit.json()["Id"].as_str().unwrap().to_owned();
    let archive = get(&from, "/images/mine:1/get").await;
    assert_eq!(archive.header("content-type"), "application/x-tar");
    let to = FakeEngine::builder().build().unwrap();
    let loaded = upload(&to, "POST", "/images/load", archive.body).await;
    assert_eq!(
        loaded.values(),
        [json!({ "stream": "Loaded image: mine:1\n" })]
    );
    assert_eq!(get(&to, "/images/mine:1/json").await.json()["Id"], id);
    let container = create(&to, "", json!({ "Image": "mine:1" })).await;
    act(&to, "POST", &format!("/containers/{container}/start")).await;
    assert_eq!(crate::client::wait(&from, "job").await, 0);
    let broken = upload(&to, "POST", "/images/load", "nonsense").await;
    assert_eq!(broken.status, 500, "{}", broken.text());
}

#[tokio::test]
async fn an_exported_container_imports_as_an_image() {
    let engine = engine();
    crate::client::run(&engine, "job", "echo content > /mine").await;
    crate::client::wait(&engine, "job").await;
    let tar = get(&engine, "/containers/job/export").await;
    let path = "/images/create?fromSrc=-&repo=imported&tag=1&changes=CMD%20cat%20/mine";
    let reply = upload(&engine, "POST", path, tar.body).await;
    assert!(
        reply.values()[0]["status"]
            .as_str()
            .unwrap()
            .starts_with("sha256:")
    );
    let id = create(&engine, "", json!({ "Image": "imported:1" })).await;
    act(&engine, "POST", &format!("/containers/{id}/start")).await;
    assert_eq!(crate::client::wait(&engine, &id).await, 0);
    let logs = get(&engine, &format!("/containers/{id}/logs?stdout=1")).await;
    assert_eq!(crate::client::split(&logs.body).0, "content\n");
}

#[tokio::test]
async fn a_push_reports_its_failure_inside_the_stream() {
    let engine = FakeEngine::builder()
        .image("good/app:1")
        .image("bad/app:1")
        .registry(RegistryBehaviour::default().rule("bad/*", RegistryAnswer::Denied))
        .build()
        .unwrap();
    let push = async |name: &str| {
        let mut request = request("POST", &format!("/images/{name}/push?tag=1"), None);
        request
            .headers_mut()
            .insert("x-registry-auth", "e30=".parse().unwrap());
        send(&engine, request).await.unwrap()
    };
    let good = push("good/app").await.values();
    assert!(
        good.iter().any(|v| v["aux"]["Digest"].is_string()),
        "{good:?}"
    );
    let bad: Vec<Value> = push("bad/app").await.values();
    assert_eq!(
        bad.last().unwrap()["error"],
        "denied: requested access to the resource is denied"
    );
    let none = push("none/app").await.values();
    assert_eq!(
        none.last().unwrap()["error"],
        "An image does not exist locally with the tag: none/app"
    );
    assert_eq!(
        call(&engine, "POST", "/images/good/app/push", None)
            .await
            .status,
        400
    );
}

#[tokio::test]
async fn prune_takes_dangling_images_or_all_that_nobody_uses() {
    let engine = FakeEngine::builder()
        .image("busybox")
        .image("alpine")
        .build()
        .unwrap();
    create(&engine, "user", json!({ "Cmd": ["true"] })).await;
    assert_eq!(
        act(&engine, "POST", "/images/prune").await.json()["ImagesDeleted"],
        Value::Null
    );
    let all = act(
        &engine,
        "POST",
        "/images/prune?filters={\"dangling\":[\"false\"]}",
    )
    .await
    .json();
    assert!(all["SpaceReclaimed"].as_u64().unwrap() > 0);
    let left = get(&engine, "/images/json").await.json();
    assert_eq!(
        (left.as_array().unwrap().len(), &left[0]["RepoTags"]),
        (1, &json!(["busybox:latest"]))
    );
}
