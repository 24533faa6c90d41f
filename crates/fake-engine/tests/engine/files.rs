use std::io::Read as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http_body_util::Full;
use hyper::Request;
use serde_json::{Value, json};

use crate::client::{call, create, engine, get, run, send, wait};

fn tar(entries: &[(&str, &str)]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (name, content) in entries {
        let mut header = tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        header.set_mode(0o640);
        builder
            .append_data(&mut header, name, content.as_bytes())
            .unwrap();
    }
    builder.into_inner().unwrap()
}

fn entries(archive: &[u8]) -> Vec<(String, String)> {
    let mut reader = tar::Archive::new(archive);
    let read = |entry: std::io::Result<tar::Entry<'_, &[u8]>>| {
        let mut entry = entry.unwrap();
        let mut text = String::new();
        entry.read_to_string(&mut text).unwrap();
        (entry.path().unwrap().display().to_string(), text)
    };
    reader.entries().unwrap().map(read).collect()
}

#[tokio::test]
async fn files_go_in_and_out_as_archives() {
    let engine = engine();
    create(&engine, "box", json!({})).await;
    let put = Request::builder()
        .method("PUT")
        .uri("/containers/box/archive?path=/tmp")
        .body(Full::from(tar(&[("dir/a", "one"), ("b", "two")])))
        .unwrap();
    assert_eq!(send(&engine, put).await.unwrap().status, 200);
    let one = get(&engine, "/containers/box/archive?path=/tmp/b").await;
    assert_eq!(entries(&one.body), [("b".to_owned(), "two".to_owned())]);
    let stat: Value = serde_json::from_slice(
        &STANDARD
            .decode(one.header("x-docker-container-path-stat"))
            .unwrap(),
    )
    .unwrap();
    assert_eq!(
        (&stat["name"], &stat["size"], &stat["mode"]),
        (&json!("b"), &json!(3), &json!(0o640))
    );
    let tree = get(&engine, "/containers/box/archive?path=/tmp/dir").await;
    assert_eq!(
        entries(&tree.body),
        [
            ("dir/".to_owned(), String::new()),
            ("dir/a".to_owned(), "one".to_owned())
        ]
    );
    let missing = call(&engine, "HEAD", "/containers/box/archive?path=/nope", None).await;
    assert_eq!(missing.status, 404);
    assert_eq!(
        get(&engine, "/containers/box/archive?path=/nope")
            .await
            .message(),
        "Could not find the file /nope in container box"
    );
}

#[tokio::test]
async fn changes_tell_added_changed_and_deleted_files() {
    let engine = engine();
    let id = run(
        &engine,
        "box",
        "echo x > /etc/new; echo y > /etc/passwd; rm /etc/group",
    )
    .await;
    wait(&engine, &id).await;
    let changes = get(&engine, "/containers/box/changes").await.json();
    let expected = json!([
        { "Path": "/etc", "Kind": 0 }, { "Path": "/etc/group", "Kind": 2 },
        { "Path": "/etc/new", "Kind": 1 }, { "Path": "/etc/passwd", "Kind": 0 },
    ]);
    assert_eq!(changes, expected);
}

#[tokio::test]
async fn an_archive_that_is_none_is_refused_and_read_only_holds() {
    let engine = engine();
    create(
        &engine,
        "ro",
        json!({ "HostConfig": { "ReadonlyRootfs": true } }),
    )
    .await;
    let put = |container: &str, body: Vec<u8>| {
        Request::builder()
            .method("PUT")
            .uri(format!("/containers/{container}/archive?path=/tmp"))
            .body(Full::from(body))
            .unwrap()
    };
    assert_eq!(
        send(&engine, put("ro", tar(&[("a", "b")])))
            .await
            .unwrap()
            .status,
        400
    );
    create(&engine, "rw", json!({})).await;
    assert_eq!(
        send(&engine, put("rw", vec![7; 2048]))
            .await
            .unwrap()
            .status,
        400
    );
}
