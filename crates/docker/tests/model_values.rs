//! The small types of the models: open words, times, maps of text, filters, and what bodies look like on the wire.

use berth_docker::model::*;
use proptest::prelude::*;
use serde_json::json;

#[test]
fn podman_and_old_engines_are_understood() {
    let inspect: ContainerInspect = serde_json::from_value(json!({
        "Id": "ab", "Created": 1700000000, "Name": "web", "RestartCount": "2",
        "State": {"Status": "stopped", "ExitCode": null, "Pid": "17", "Running": 1,
            "FinishedAt": "0001-01-01T00:00:00Z", "StartedAt": "2020-10-03 11:28:43.123 +0200 CEST"},
        "Config": {"Entrypoint": "/bin/sh", "Cmd": null, "ExposedPorts": ["80/tcp"], "StopSignal": 15, "StopTimeout": 1e1},
        "HostConfig": {"NanoCpus": 5e8, "OomScoreAdj": null},
        "NetworkSettings": {"SecondaryIPv6Addresses": null, "Ports": {"80/tcp": null}, "IPAddress": "10.88.0.2"},
        "ImageName": "docker.io/library/web", "Rootfs": "", "OCIRuntime": "crun",
    }))
    .expect("a container");
    assert_eq!(inspect.created, Some(Timestamp::new(1_700_000_000, 0)));
    assert_eq!((inspect.restart_count, inspect.bare_name()), (2, "web"));
    assert_eq!(
        inspect.state.status,
        ContainerStatus::Other("stopped".into())
    );
    assert_eq!(
        (
            inspect.state.exit_code,
            inspect.state.pid,
            inspect.state.running
        ),
        (0, 17, true)
    );
    assert_eq!(
        (inspect.state.started_at, inspect.state.finished_at),
        (None, None)
    );
    assert_eq!(
        inspect.config.entrypoint.as_deref(),
        Some(&["/bin/sh".to_owned()][..])
    );
    assert!(inspect.config.exposed_ports.contains("80/tcp"));
    assert_eq!(
        (
            inspect.config.stop_signal.as_str(),
            inspect.config.stop_timeout
        ),
        ("15", Some(10))
    );
    assert_eq!(inspect.host_config.nano_cpus, 500_000_000);
    assert_eq!(inspect.network_settings.ports["80/tcp"], []);
    assert_eq!(inspect.network_settings.ip_address(), Some("10.88.0.2"));
}

#[test]
fn the_address_in_the_bridge_goes_before_others_and_ipv4_before_ipv6() {
    let address = |settings: serde_json::Value| {
        let settings: NetworkSettings = serde_json::from_value(settings).expect("settings");
        settings.ip_address().map(str::to_owned)
    };
    let a = json!({"IPAddress": "10.0.0.2"});
    let bridge = json!({"IPAddress": "172.17.0.2", "GlobalIPv6Address": "fd00::2"});
    let v6 = json!({"IPAddress": "", "GlobalIPv6Address": "fd00::3"});
    assert_eq!(
        address(json!({"Networks": {"a": a, "bridge": bridge}})).as_deref(),
        Some("172.17.0.2")
    );
    assert_eq!(
        address(json!({"Networks": {"a": a, "bridge": v6}})).as_deref(),
        Some("10.0.0.2")
    );
    assert_eq!(
        address(json!({"Networks": {"b": v6}})).as_deref(),
        Some("fd00::3")
    );
    assert_eq!(
        address(json!({"IPAddress": "172.17.0.9", "Networks": null})).as_deref(),
        Some("172.17.0.9")
    );
    assert_eq!(address(json!({"Networks": {"host": {}}})), None);
}

#[test]
fn a_body_leaves_out_what_is_at_its_default() {
    assert_eq!(
        serde_json::to_value(CreateContainer::default()).expect("a body"),
        json!({"HostConfig": {}})
    );
    let body = CreateContainer {
        name: Some("web".to_owned()),
        config: ContainerConfig {
            image: "nginx".to_owned(),
            cmd: vec!["a".to_owned()],
            entrypoint: Some(Vec::new()),
            labels: TextMap::from([("b", "2"), ("a", "1")]),
            exposed_ports: KeySet::from(["80/tcp"]),
            ..Default::default()
        },
        host_config: HostConfig {
            port_bindings: [(
                "80/tcp".to_owned(),
                vec![PortBinding {
                    host_port: "8080".to_owned(),
                    ..Default::default()
                }],
            )]
            .into(),
            masked_paths: Some(Vec::new()),
            init: Some(false),
            oom_score_adj: -998,
            restart_policy: Some(RestartPolicy {
                name: RestartPolicyName::OnFailure,
                maximum_retry_count: 3,
            }),
            mounts: vec![Mount {
                kind: MountType::Bind,
                source: "/a".to_owned(),
                target: "/b".to_owned(),
                ..Default::default()
            }],
            ..Default::default()
        },
        ..Default::default()
    };
    assert_eq!(
        serde_json::to_value(&body).expect("a body"),
        json!({
            "Image": "nginx", "Cmd": ["a"], "Entrypoint": [], "Labels": {"a": "1", "b": "2"},
            "ExposedPorts": {"80/tcp": {}},
            "HostConfig": {
                "PortBindings": {"80/tcp": [{"HostPort": "8080"}]},
                "MaskedPaths": [], "Init": false, "OomScoreAdj": -998,
                "RestartPolicy": {"Name": "on-failure", "MaximumRetryCount": 3},
                "Mounts": [{"Type": "bind", "Source": "/a", "Target": "/b"}],
            },
        }),
        "the name travels in the query"
    );
}

#[test]
fn what_inspect_says_can_be_sent_to_create_again() {
    let config = json!({
        "Hostname": "h", "User": "1000", "ExposedPorts": {"80/tcp": {}}, "Env": ["A=b"], "Cmd": ["c"],
        "Healthcheck": {"Test": ["CMD", "true"], "Interval": 1000000000}, "Image": "i", "WorkingDir": "/w",
        "Labels": {"k": "v"}, "StopTimeout": 0,
    });
    let read: ContainerConfig = serde_json::from_value(config.clone()).expect("a configuration");
    assert_eq!(serde_json::to_value(read).expect("a body"), config);
}

#[test]
fn a_secret_is_not_shown() {
    let result: AuthResult =
        serde_json::from_value(json!({"Status": "Login Succeeded", "IdentityToken": "hunter2"}))
            .expect("a result");
    assert_eq!(result.identity_token, "hunter2");
    assert!(!format!("{result:?}").contains("hunter2"));
}

#[test]
fn nanoseconds_come_back_as_they_were_given_up_to_both_ends() {
    let ends = [i64::MIN, i64::MIN + 1, -1, 0, 1, i64::MAX - 1, i64::MAX];
    for nanos in ends {
        assert_eq!(Timestamp::from_unix_nanos(nanos).unix_nanos(), nanos);
    }
    for (seconds, end) in [(i64::MIN, i64::MIN), (i64::MAX, i64::MAX)] {
        assert_eq!(Timestamp::new(seconds, 7).unix_nanos(), end);
    }
    let before = Timestamp::parse("0226-11-26T19:15:41.66Z").unwrap();
    assert_eq!(before.unix_nanos(), i64::MIN);
}

#[test]
fn times_are_read_to_the_nanosecond_in_any_zone() {
    for (text, seconds, nanos) in [
        ("1970-01-01T00:00:00Z", 0, 0),
        ("2026-11-23T22:25:00.123456789Z", 1_795_472_700, 123_456_789),
        (
            "2026-11-23T23:25:00.1234567891234+01:00",
            1_795_472_700,
            123_456_789,
        ),
        ("2026-11-23T22:25:00.5Z", 1_795_472_700, 500_000_000),
        ("2024-02-29T12:00:00-00:30", 1_709_209_800, 0),
        ("1969-12-31T23:59:59.000000001Z", -1, 1),
        (
            "1677-09-21T00:12:43.145224192Z",
            -9_223_372_037,
            145_224_192,
        ),
    ] {
        assert_eq!(
            Timestamp::parse(text),
            Some(Timestamp::new(seconds, nanos)),
            "{text}"
        );
    }
    for text in [
        "",
        "now",
        "2026-11-23",
        "2026-13-01T00:00:00Z",
        "2026-02-29T00:00:00Z",
        "2026-11-23T24:00:00Z",
        "2026-11-23T00:00:00",
        "2026-11-23T00:00:00.Z",
        "2026-11-23T00:00:00+1:00",
        "2026-11-23T00:00:00+01:00x",
        "+026-11-23T00:00:00Z",
        "2026-11-23T00:00:0éZ",
    ] {
        assert_eq!(Timestamp::parse(text), None, "{text:?} was accepted");
    }
}

#[test]
fn a_query_takes_seconds_and_nine_digits() {
    assert_eq!(
        Timestamp::new(1_700_000_000, 5).to_query(),
        "1700000000.000000005"
    );
    assert_eq!(Timestamp::from_unix_nanos(-5).to_query(), "0");
    assert_eq!(Timestamp::from_unix_nanos(-5).unix_nanos(), -5);
}

#[test]
fn filters_are_lists_by_key() {
    assert_eq!(Filters::new().to_string(), "{}");
    let filters = Filters::new()
        .label("a=\"b\"")
        .label("c")
        .status("exited")
        .dangling(true)
        .with("volume", "/data");
    assert_eq!(
        filters.to_string(),
        r#"{"dangling":["true"],"label":["a=\"b\"","c"],"status":["exited"],"volume":["/data"]}"#
    );
}

#[test]
fn go_file_modes_are_understood() {
    let stat = |mode: u32| PathStat {
        mode,
        ..Default::default()
    };
    assert!(stat(2_147_484_141).is_dir() && stat(2_147_484_141).permissions() == 0o755);
    assert!(stat(134_218_239).is_symlink() && !stat(134_218_239).is_dir());
    assert!(!stat(0o644).is_dir() && !stat(0o644).is_symlink());
}

proptest! {
    #[test]
    fn a_time_survives_being_written(seconds in -60_000_000_000_i64..250_000_000_000, nanos in 0..1_000_000_000_u32) {
        let time = Timestamp::new(seconds, nanos);
        prop_assert_eq!(Timestamp::parse(&time.to_string()), Some(time));
        prop_assert_eq!(Timestamp::from(std::time::SystemTime::from(time)), time);
    }

    #[test]
    fn any_text_is_a_time_or_none(text in "\\PC{0,40}") {
        let _ = Timestamp::parse(&text);
    }

    #[test]
    fn a_map_of_text_is_a_map(pairs in prop::collection::vec(("[a-c\u{e9}]{0,3}", "\\PC{0,6}"), 0..12), probe in "[a-c\u{e9}]{0,3}") {
        let expected: std::collections::BTreeMap<&str, &str> = pairs.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
        let collected: TextMap = pairs.iter().map(|(k, v)| (k, v)).collect();
        let mut inserted = TextMap::new();
        for (key, value) in &pairs {
            inserted.insert(key, value);
        }
        // In the order they come, doubles included: what a JSON object may hold.
        let members: Vec<String> = pairs.iter().map(|(k, v)| format!("{}:{}", json!(k), json!(v))).collect();
        let decoded: TextMap = serde_json::from_str(&format!("{{{}}}", members.join(","))).expect("a map");
        for map in [&collected, &inserted, &decoded] {
            prop_assert!(map.iter().eq(expected.iter().map(|(k, v)| (*k, *v))));
            prop_assert_eq!(map.get(&probe), expected.get(probe.as_str()).copied());
            prop_assert_eq!(map, &collected);
        }
        prop_assert_eq!(serde_json::to_value(&collected).expect("JSON"), serde_json::to_value(&expected).expect("JSON"));
    }

    #[test]
    fn any_word_is_kept(word in "\\PC{0,20}") {
        let status = ContainerStatus::from(word.as_str());
        prop_assert_eq!(status.as_str(), word.as_str());
    }

    #[test]
    fn nonsense_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = serde_json::from_slice::<ContainerInspect>(&bytes);
        let _ = serde_json::from_slice::<Vec<ContainerSummary>>(&bytes);
        let _ = serde_json::from_slice::<Event>(&bytes);
    }
}
