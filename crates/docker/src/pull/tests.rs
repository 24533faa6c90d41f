//! The model of a pull: what counts as progress, and what a reference is.

use std::collections::HashMap;

use super::*;

fn apply(progress: &mut PullProgress, lines: &[&str]) -> Vec<bool> {
    let mut places = progress
        .layers
        .iter()
        .enumerate()
        .map(|(at, layer)| (layer.id.as_str().into(), at))
        .collect::<HashMap<Box<str>, usize>>();
    lines
        .iter()
        .map(|line| progress.apply(&serde_json::from_str(line).expect("a message"), &mut places))
        .collect()
}

#[test]
fn a_pull_of_the_classic_store_adds_up() {
    let mut progress = PullProgress::default();
    apply(
        &mut progress,
        &[
            r#"{"status":"Pulling from library/nginx","id":"1.27"}"#,
            r#"{"status":"Already exists","progressDetail":{},"id":"aaaaaaaaaaaa"}"#,
            r#"{"status":"Pulling fs layer","progressDetail":{},"id":"bbbbbbbbbbbb"}"#,
            r#"{"status":"Waiting","progressDetail":{},"id":"bbbbbbbbbbbb"}"#,
            r#"{"status":"Downloading","progressDetail":{"current":10,"total":100},"id":"bbbbbbbbbbbb"}"#,
        ],
    );
    assert_eq!(
        (progress.layers.len(), progress.complete()),
        (2, 1),
        "the tag is not a layer"
    );
    assert_eq!((progress.downloaded(), progress.total()), (10, 100));
    assert_eq!(progress.status, "Pulling from library/nginx");
    assert!(!progress.is_unpacking());
    apply(
        &mut progress,
        &[
            r#"{"status":"Verifying Checksum","progressDetail":{},"id":"bbbbbbbbbbbb"}"#,
            r#"{"status":"Download complete","progressDetail":{},"id":"bbbbbbbbbbbb"}"#,
            r#"{"status":"Extracting","progressDetail":{"current":40,"total":100},"id":"bbbbbbbbbbbb"}"#,
        ],
    );
    assert_eq!(
        (progress.layers[1].downloaded, progress.layers[1].extracted),
        (100, 40)
    );
    assert!(progress.is_unpacking());
    apply(
        &mut progress,
        &[
            r#"{"status":"Pull complete","progressDetail":{},"id":"bbbbbbbbbbbb"}"#,
            r#"{"status":"Digest: sha256:12ab"}"#,
            r#"{"status":"Status: Downloaded newer image for nginx:1.27"}"#,
        ],
    );
    assert_eq!(progress.complete(), 2);
    assert_eq!(progress.digest.as_deref(), Some("sha256:12ab"));
    assert_eq!(progress.layers[1].extracted, 100);
}

#[test]
fn repeating_itself_is_no_progress() {
    let mut progress = PullProgress::default();
    let seen = apply(
        &mut progress,
        &[
            r#"{"status":"Pulling from library/nginx","id":"latest"}"#,
            r#"{"status":"Pulling from library/nginx","id":"latest"}"#,
            r#"{"status":"Downloading","progressDetail":{"current":10,"total":100},"id":"aaaaaaaaaaaa"}"#,
            r#"{"status":"Downloading","progressDetail":{"current":10,"total":100},"id":"aaaaaaaaaaaa"}"#,
            r#"{"status":"Downloading","progressDetail":{"current":11,"total":100},"id":"aaaaaaaaaaaa"}"#,
            r#"{"status":"Retrying in 5 seconds","id":"aaaaaaaaaaaa"}"#,
            r#"{"status":"Retrying in 4 seconds","id":"aaaaaaaaaaaa"}"#,
            r#"{}"#,
        ],
    );
    assert_eq!(seen, [true, false, true, false, true, true, false, false]);
}

#[test]
fn counting_the_seconds_of_unpacking_is_no_progress() {
    let mut progress = PullProgress::default();
    let seen = apply(
        &mut progress,
        &[
            r#"{"status":"Download complete","progressDetail":{"hidecounts":true},"id":"aaaaaaaaaaaa"}"#,
            r#"{"status":"Extracting","progressDetail":{"current":1,"units":"s"},"id":"aaaaaaaaaaaa"}"#,
            r#"{"status":"Extracting","progressDetail":{"current":2,"units":"s"},"id":"aaaaaaaaaaaa"}"#,
        ],
    );
    assert_eq!(seen, [true, true, false]);
    assert!(progress.is_unpacking());
}

#[test]
fn a_message_without_a_layer_changes_no_layer() {
    let mut progress = PullProgress::default();
    apply(
        &mut progress,
        &[r#"{"status":"Downloading","progressDetail":{"current":10,"total":100}}"#],
    );
    assert!(progress.layers.is_empty());
    assert_eq!(progress.to_string(), "Downloading");
}

#[test]
fn unknown_words_leave_the_layer_where_it_was() {
    let mut progress = PullProgress::default();
    apply(
        &mut progress,
        &[
            r#"{"status":"Extracting","progressDetail":{"current":5,"total":9},"id":"aaaaaaaaaaaa"}"#,
            r#"{"status":"Polishing","id":"aaaaaaaaaaaa"}"#,
        ],
    );
    assert_eq!(progress.layers[0].phase, LayerPhase::Extracting);
}

#[test]
fn numbers_beyond_all_bounds_are_added_without_a_panic() {
    let mut progress = PullProgress::default();
    let line = |id: &str| {
        format!(
            r#"{{"status":"Downloading","progressDetail":{{"current":{},"total":-5}},"id":"{id}"}}"#,
            i64::MAX
        )
    };
    apply(
        &mut progress,
        &[
            &line("aaaaaaaaaaaa"),
            &line("bbbbbbbbbbbb"),
            &line("cccccccccccc"),
        ],
    );
    assert_eq!(progress.downloaded(), u64::MAX);
}

#[test]
fn a_reference_is_a_name_and_a_tag_or_digest() {
    let digest = "sha256:0123";
    for (reference, expected) in [
        ("nginx", ("nginx", "latest")),
        ("nginx:1.27", ("nginx", "1.27")),
        ("reg:5000/a/b", ("reg:5000/a/b", "latest")),
        ("reg:5000/a/b:c", ("reg:5000/a/b", "c")),
        ("a/b@sha256:0123", ("a/b", digest)),
        ("reg:5000/a/b:c@sha256:0123", ("reg:5000/a/b", digest)),
        ("[::1]:5000/a", ("[::1]:5000/a", "latest")),
    ] {
        assert_eq!(
            split_reference(Operation::PULL_IMAGE, reference).expect(reference),
            expected
        );
    }
    for reference in ["", ":tag", "a/", "a:", "@sha256:0123", "a@", "reg:5000/:c"] {
        assert!(
            split_reference(Operation::PULL_IMAGE, reference).is_err(),
            "{reference:?} was accepted"
        );
    }
}
