//! The models against the recorded replies of real engines, as they are and with every value of them taken away.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use berth_docker::model::*;
use serde::de::DeserializeOwned;
use serde_json::Value;

/// How one type is decoded.
#[derive(Clone, Copy)]
struct Decode {
    text: fn(&[u8]) -> Result<(), String>,
    value: fn(&Value) -> Result<(), String>,
}

const fn kind<T: DeserializeOwned>() -> Decode {
    Decode {
        text: |json| {
            serde_json::from_slice::<T>(json)
                .map(drop)
                .map_err(|error| error.to_string())
        },
        value: |json| {
            T::deserialize(json)
                .map(drop)
                .map_err(|error| error.to_string())
        },
    }
}

/// Which type a recorded reply is of, by how its file name begins. The first match counts.
const TYPES: &[(&str, Decode)] = &[
    ("containers-list", kind::<Vec<ContainerSummary>>()),
    ("container-inspect", kind::<ContainerInspect>()),
    ("container-create", kind::<CreateContainerResponse>()),
    ("container-update", kind::<UpdateContainerResponse>()),
    ("container-changes", kind::<Vec<Change>>()),
    ("container-top", kind::<TopResult>()),
    ("container-wait", kind::<WaitResult>()),
    ("container-stats", kind::<Stats>()),
    ("containers-prune", kind::<PruneContainers>()),
    ("exec-inspect", kind::<ExecInspect>()),
    ("images-list", kind::<Vec<ImageSummary>>()),
    ("image-inspect", kind::<ImageInspect>()),
    ("image-history", kind::<Vec<ImageHistoryItem>>()),
    ("image-remove", kind::<Vec<DeletedImage>>()),
    ("images-prune", kind::<PruneImages>()),
    ("image-pull", kind::<ProgressMessage>()),
    ("image-push", kind::<ProgressMessage>()),
    ("image-load", kind::<ProgressMessage>()),
    ("image-import", kind::<ProgressMessage>()),
    ("distribution-inspect", kind::<DistributionInspect>()),
    ("networks-list", kind::<Vec<Network>>()),
    ("network-inspect", kind::<Network>()),
    ("network-create", kind::<CreateNetworkResponse>()),
    ("networks-prune", kind::<PruneNetworks>()),
    ("volumes-list", kind::<VolumeList>()),
    ("volume-inspect", kind::<Volume>()),
    ("volume-create", kind::<Volume>()),
    ("volumes-prune", kind::<PruneVolumes>()),
    ("events-", kind::<Event>()),
    ("version", kind::<Version>()),
    ("info", kind::<Info>()),
    ("system-df", kind::<SystemDf>()),
    ("auth", kind::<AuthResult>()),
];

/// Replies that have no type of their own here.
const UNTYPED: &[&str] = &[
    // One id, which the call gives as text.
    "exec-create",
    // Commit is not a call of this client.
    "image-commit",
    // Parts of a saved image.
    "image-save",
];

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures")
}

/// Every JSON value of every recorded reply that has a type: where it is from, the type, the bytes.
fn values() -> Vec<(String, Decode, Vec<u8>)> {
    let mut values = Vec::new();
    let mut folders = vec![fixtures()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).expect("fixtures are there") {
            let path = entry.expect("a file").path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let name = path
                .file_name()
                .and_then(|name| name.to_str())
                .expect("a name");
            let lines = match path.extension().and_then(|extension| extension.to_str()) {
                Some("json") => false,
                Some("ndjson") => true,
                _ => continue,
            };
            if UNTYPED.iter().any(|prefix| name.starts_with(prefix)) {
                continue;
            }
            let decode = TYPES
                .iter()
                .find(|(prefix, _)| name.starts_with(prefix))
                .map(|(_, decode)| *decode);
            let decode =
                decode.unwrap_or_else(|| panic!("{name} is recorded and has no type in this test"));
            let bytes = fs::read(&path).expect("readable");
            let at = path
                .strip_prefix(fixtures())
                .expect("below")
                .display()
                .to_string();
            if lines {
                for (number, line) in bytes.split(|byte| *byte == b'\n').enumerate() {
                    if !line.trim_ascii().is_empty() {
                        values.push((format!("{at}:{}", number + 1), decode, line.to_vec()));
                    }
                }
            } else {
                values.push((at, decode, bytes));
            }
        }
    }
    assert!(
        values.len() > 400,
        "only {} recorded values were found",
        values.len()
    );
    values
}

fn read<T: DeserializeOwned>(path: &str) -> T {
    let bytes = fs::read(fixtures().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"));
    serde_json::from_slice(&bytes).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// The pointers to every value within `value`.
fn pointers(value: &Value, at: &str, found: &mut Vec<String>) {
    let mut child = |key: &str, value: &Value| {
        let at = format!("{at}/{}", key.replace('~', "~0").replace('/', "~1"));
        pointers(value, &at, found);
        found.push(at);
    };
    match value {
        Value::Object(members) => members.iter().for_each(|(key, value)| child(key, value)),
        Value::Array(items) => items
            .iter()
            .enumerate()
            .for_each(|(index, value)| child(&index.to_string(), value)),
        _ => {}
    }
}

fn without(value: &Value, pointer: &str) -> Value {
    let mut value = value.clone();
    let (parent, key) = pointer.rsplit_once('/').expect("a pointer");
    match value.pointer_mut(parent).expect("a parent") {
        Value::Object(members) => drop(members.remove(&key.replace("~1", "/").replace("~0", "~"))),
        Value::Array(items) => drop(items.remove(key.parse::<usize>().expect("an index"))),
        _ => unreachable!("only these two have children"),
    }
    value
}

/// Decodes `value` with a null in that place, and puts back what was there.
fn nulled(value: &mut Value, pointer: &str, decode: Decode) -> Result<(), String> {
    let there = value.pointer_mut(pointer).expect("there").take();
    let result = (decode.value)(value);
    *value.pointer_mut(pointer).expect("there") = there;
    result
}

/// Large lists repeat themselves; their first elements are all shapes there are.
fn shortened(value: Value) -> Value {
    match value {
        Value::Array(items) => Value::Array(items.into_iter().take(4).map(shortened).collect()),
        Value::Object(members) => members
            .into_iter()
            .map(|(key, value)| (key, shortened(value)))
            .collect(),
        other => other,
    }
}

#[test]
fn every_recorded_reply_decodes() {
    let failed: Vec<String> = values()
        .into_iter()
        .filter_map(|(at, decode, json)| {
            (decode.text)(&json)
                .err()
                .map(|error| format!("{at}: {error}"))
        })
        .collect();
    assert!(failed.is_empty(), "{}", failed.join("\n"));
}

#[test]
fn any_value_may_be_null_or_absent() {
    let mut failed = BTreeSet::new();
    let mut tried = 0;
    let mut shapes = BTreeSet::new();
    for (at, decode, json) in values() {
        let mut value = shortened(serde_json::from_slice(&json).expect("JSON"));
        let mut all = Vec::new();
        pointers(&value, "", &mut all);
        // Thousands of progress messages have the same few shapes.
        if !shapes.insert((decode.text as usize, all.clone())) {
            continue;
        }
        for pointer in all {
            for (how, decoded) in [
                ("null", nulled(&mut value, &pointer, decode)),
                ("absent", (decode.value)(&without(&value, &pointer))),
            ] {
                tried += 1;
                if let Err(error) = decoded {
                    failed.insert(format!("{at} with {pointer} {how}: {error}"));
                }
            }
        }
    }
    assert!(failed.is_empty(), "{failed:#?}");
    assert!(tried > 5_000, "only {tried} changes were tried");
}

#[test]
fn any_word_may_be_one_that_is_not_known() {
    fn reworded(value: &mut Value) {
        match value {
            Value::String(text) => "brand-new-word".clone_into(text),
            Value::Array(items) => items.iter_mut().for_each(reworded),
            Value::Object(members) => members.values_mut().for_each(reworded),
            _ => {}
        }
    }
    for (at, decode, json) in values() {
        let mut value: Value = serde_json::from_slice(&json).expect("JSON");
        reworded(&mut value);
        (decode.value)(&value).unwrap_or_else(|error| panic!("{at}: {error}"));
    }
}

#[test]
fn unknown_members_are_skipped() {
    fn extended(value: &mut Value) {
        match value {
            Value::Array(items) => items.iter_mut().for_each(extended),
            Value::Object(members) => {
                members.insert(
                    "X-New".to_owned(),
                    serde_json::json!({"deep": [1, {"er": null}]}),
                );
            }
            _ => {}
        }
    }
    for (at, decode, json) in values() {
        let mut value: Value = serde_json::from_slice(&json).expect("JSON");
        extended(&mut value);
        (decode.value)(&value).unwrap_or_else(|error| panic!("{at}: {error}"));
    }
}

#[test]
fn what_does_not_fit_at_all_is_an_error() {
    for (json, decode) in [
        (r#"{"Id":{}}"#, kind::<ContainerInspect>()),
        (r#"{"State":"running"}"#, kind::<ContainerInspect>()),
        (
            r#"{"State":{"ExitCode":"three"}}"#,
            kind::<ContainerInspect>(),
        ),
        (r#"{"State":{"Pid":1.5}}"#, kind::<ContainerInspect>()),
        (
            r#"{"State":{"Running":"maybe"}}"#,
            kind::<ContainerInspect>(),
        ),
        (r#"{"Config":{"Env":{}}}"#, kind::<ContainerInspect>()),
        (r#"{"Config":{"Labels":["a"]}}"#, kind::<ContainerInspect>()),
        (r#"[]"#, kind::<ContainerInspect>()),
        (
            r#"[{"Ports":[{"PrivatePort":70000}]}]"#,
            kind::<Vec<ContainerSummary>>(),
        ),
    ] {
        assert!(
            (decode.text)(json.as_bytes()).is_err(),
            "{json} was accepted"
        );
    }
}

#[test]
fn a_running_container_reads_the_same_from_every_engine() {
    for engine in ["engine-20.10", "engine-25.0", "engine-29.7"] {
        let inspect: ContainerInspect = read(&format!("{engine}/container-inspect-running.json"));
        assert_eq!(inspect.bare_name(), "web", "{engine}");
        assert_eq!(inspect.id.len(), 64, "{engine}");
        assert_eq!(inspect.state.status, ContainerStatus::Running, "{engine}");
        assert!(inspect.state.running && inspect.state.pid > 0, "{engine}");
        assert!(inspect.state.started_at > inspect.created, "{engine}");
        assert_eq!(
            inspect.state.finished_at, None,
            "{engine}: Go's zero time is no time"
        );
        let ip = inspect.network_settings.ip_address().unwrap_or_default();
        assert!(ip.starts_with("172."), "{engine}: its address is {ip:?}");
        assert!(
            inspect
                .network_settings
                .networks
                .contains_key("fixture-net"),
            "{engine}"
        );
        let ports = &inspect.network_settings.ports;
        assert_eq!(
            (ports["53/udp"].len(), ports["80/tcp"].len()),
            (0, 2),
            "{engine}"
        );
        assert!(
            inspect
                .mounts
                .iter()
                .any(|mount| mount.kind == MountType::Bind),
            "{engine}"
        );
        assert!(
            inspect
                .mounts
                .iter()
                .any(|mount| mount.kind == MountType::Volume),
            "{engine}"
        );
        assert!(inspect.host_config.memory > 0, "{engine}");
        assert!(!inspect.config.labels.is_empty(), "{engine}");
        assert!(!inspect.config.env.is_empty(), "{engine}");
    }
}

#[test]
fn states_are_told_apart_in_every_engine() {
    for engine in ["engine-20.10", "engine-25.0", "engine-29.7"] {
        let state = |name: &str| {
            read::<ContainerInspect>(&format!("{engine}/container-inspect-{name}.json")).state
        };
        assert_eq!(
            state("never-started").status,
            ContainerStatus::Created,
            "{engine}"
        );
        assert_eq!(state("never-started").started_at, None, "{engine}");
        assert_eq!(
            (state("exited").status, state("exited").exit_code),
            (ContainerStatus::Exited, 3),
            "{engine}"
        );
        assert!(state("paused").paused, "{engine}");
        assert_eq!(
            state("restarting").status,
            ContainerStatus::Restarting,
            "{engine}"
        );
        assert!(
            state("oom-killed").oom_killed && state("oom-killed").exit_code == 137,
            "{engine}"
        );
        assert!(
            !state("killed").oom_killed && state("killed").exit_code == 137,
            "{engine}"
        );
        assert!(!state("start-failed").error.is_empty(), "{engine}");
        let health = |name: &str| state(name).health.expect("a health check");
        assert_eq!(health("healthy").status, HealthStatus::Healthy, "{engine}");
        assert_eq!(
            health("unhealthy").status,
            HealthStatus::Unhealthy,
            "{engine}"
        );
        assert!(!health("unhealthy").log.is_empty(), "{engine}");
        assert!(
            read::<ContainerInspect>(&format!("{engine}/container-inspect-tty.json"))
                .config
                .tty,
            "{engine}"
        );
        let host: ContainerInspect = read(&format!("{engine}/container-inspect-host-network.json"));
        assert_eq!(
            (
                host.host_config.network_mode.as_str(),
                host.network_settings.ip_address()
            ),
            ("host", None)
        );
    }
}

#[test]
fn lists_read_the_same_from_every_engine() {
    for engine in ["engine-20.10", "engine-25.0", "engine-29.7"] {
        let rows: Vec<ContainerSummary> = read(&format!("{engine}/containers-list.json"));
        let web = rows
            .iter()
            .find(|row| row.names.iter().any(|name| name == "/web"))
            .expect("web");
        assert_eq!(web.state, ContainerStatus::Running, "{engine}");
        assert!(web.status.starts_with("Up "), "{engine}: {}", web.status);
        assert!(
            web.created.is_some() && web.image_id.starts_with("sha256:"),
            "{engine}"
        );
        assert!(
            web.ports
                .iter()
                .any(|port| port.protocol == PortProtocol::Udp && port.public_port == 0),
            "{engine}"
        );
        assert!(
            web.ports
                .iter()
                .any(|port| port.protocol == PortProtocol::Tcp && port.public_port != 0),
            "{engine}"
        );
        assert_eq!(web.size_rw, None, "{engine}: sizes only when asked for");
        let sized: Vec<ContainerSummary> = read(&format!("{engine}/containers-list-size.json"));
        assert!(
            sized.iter().all(|row| row.size_root_fs.is_some()),
            "{engine}"
        );
        let labels = &web.labels;
        assert!(
            !labels.is_empty()
                && labels
                    .iter()
                    .all(|(key, value)| labels.get(key) == Some(value)),
            "{engine}"
        );
    }
}

#[test]
fn an_exec_that_runs_has_no_exit_code() {
    for engine in ["engine-20.10", "engine-25.0", "engine-29.7"] {
        let exec = |name: &str| read::<ExecInspect>(&format!("{engine}/exec-inspect-{name}.json"));
        assert!(exec("running").running, "{engine}");
        assert_eq!(exec("running").exit_code, None, "{engine}");
        assert!(exec("finished").exit_code.is_some(), "{engine}");
        assert!(
            matches!(exec("start-failed").exit_code, Some(126 | 127)),
            "{engine}"
        );
    }
}

#[test]
fn events_read_the_same_with_and_without_the_old_fields() {
    for engine in ["engine-20.10", "engine-25.0", "engine-29.7"] {
        let text =
            fs::read_to_string(fixtures().join(engine).join("events-life.ndjson")).expect("events");
        let events: Vec<Event> = text
            .lines()
            .map(|line| serde_json::from_str(line).expect("an event"))
            .collect();
        let start = events
            .iter()
            .find(|event| event.action == "start")
            .expect("a start");
        assert_eq!(start.kind, EventType::Container, "{engine}");
        assert_eq!(start.actor.id.len(), 64, "{engine}");
        assert_eq!(start.actor.attributes.get("name"), Some("life"), "{engine}");
        assert!(
            start.time.is_some_and(|time| time.subsec_nanos() != 0),
            "{engine}"
        );
        let exec = events
            .iter()
            .find(|event| event.action_name() == "exec_create")
            .expect("an exec");
        assert!(
            exec.action_detail()
                .is_some_and(|command| !command.is_empty()),
            "{engine}"
        );
        let die = events
            .iter()
            .find(|event| event.action == "die")
            .expect("an end");
        assert!(die.actor.attributes.contains_key("exitCode"), "{engine}");
        let times: Vec<_> = events.iter().map(|event| event.time).collect();
        assert!(times.is_sorted(), "{engine}");
    }
}

#[test]
fn an_event_of_old_engines_is_read_from_the_old_fields() {
    let event: Event =
        serde_json::from_str(r#"{"status":"die","id":"ab12","from":"busybox","time":1700000000}"#)
            .expect("an event");
    assert_eq!(
        (&event.kind, event.action.as_str(), event.actor.id.as_str()),
        (&EventType::Container, "die", "ab12")
    );
    assert_eq!(event.actor.attributes.get("image"), Some("busybox"));
    assert_eq!(event.time, Some(Timestamp::new(1_700_000_000, 0)));
}

#[test]
fn failures_inside_a_stream_are_found_in_every_engine() {
    for engine in [
        "engine-20.10",
        "engine-25.0",
        "engine-29.7",
        "engine-29.7-overlay2",
    ] {
        for name in [
            "image-pull-corrupt-layer",
            "image-pull-missing-layer",
            "image-push-refused",
        ] {
            let text = fs::read_to_string(fixtures().join(engine).join(format!("{name}.ndjson")))
                .expect(name);
            let failures: Vec<String> = text
                .lines()
                .map(|line| serde_json::from_str::<ProgressMessage>(line).expect("a message"))
                .filter_map(|message| message.failure().map(str::to_owned))
                .collect();
            assert_eq!(failures.len(), 1, "{engine}/{name}: {failures:?}");
            assert!(!failures[0].is_empty(), "{engine}/{name}");
        }
        let fine =
            fs::read_to_string(fixtures().join(engine).join("image-pull.ndjson")).expect("a pull");
        assert!(fine.lines().all(|line| {
            serde_json::from_str::<ProgressMessage>(line)
                .expect("a message")
                .failure()
                .is_none()
        }));
    }
}

#[test]
fn a_failure_may_be_told_in_the_new_way_the_old_way_or_without_words() {
    let failure = |json: &str| {
        serde_json::from_str::<ProgressMessage>(json)
            .expect("a message")
            .failure()
            .map(str::to_owned)
    };
    assert_eq!(
        failure(r#"{"errorDetail":{"code":401,"message":"new"},"error":"old"}"#).as_deref(),
        Some("new")
    );
    assert_eq!(
        failure(r#"{"errorDetail":{"message":"new"}}"#).as_deref(),
        Some("new")
    );
    assert_eq!(failure(r#"{"error":"old"}"#).as_deref(), Some("old"));
    assert_eq!(
        failure(r#"{"errorDetail":{"message":""},"error":"old"}"#).as_deref(),
        Some("old")
    );
    assert!(failure(r#"{"errorDetail":{"code":500}}"#).is_some());
    assert_eq!(
        failure(r#"{"errorDetail":null,"error":"","status":"Waiting"}"#),
        None
    );
}
