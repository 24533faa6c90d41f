//! What the container calls send, and what they make of the answers.

mod scripted;

use std::time::Duration;

use berth_docker::ErrorKind;
use berth_docker::api::*;
use berth_docker::model::*;
use scripted::{Answer, Scripted, asked, chunks, empty, ok, open_chunks, reply, sent};
use serde_json::json;

#[tokio::test]
async fn a_plain_list_asks_for_nothing_special() {
    let (request, list) = sent(ok("null\n"), async |docker| {
        docker.list_containers(&ListContainers::default()).await
    })
    .await;
    assert_eq!(request.line, "GET /v1.44/containers/json");
    assert_eq!(list.expect("a list"), [], "null is an empty list");
}

#[tokio::test]
async fn a_list_asks_for_what_the_options_say() {
    let options = ListContainers {
        all: true,
        limit: Some(5),
        since: Some("a".to_owned()),
        before: Some("b".to_owned()),
        size: true,
        filters: Filters::new().label("app=web"),
    };
    let (request, list) = sent(
        ok(r#"[{"Id":"ab","State":"running"},{"Id":"cd","State":"frozen"}]"#),
        async |docker| docker.list_containers(&options).await,
    )
    .await;
    let filters = "%7B%22before%22%3A%5B%22b%22%5D%2C%22label%22%3A%5B%22app%3Dweb%22%5D%2C%22since%22%3A%5B%22a%22%5D%7D";
    assert_eq!(
        request.line,
        format!("GET /v1.44/containers/json?all=1&limit=5&size=1&filters={filters}")
    );
    let states: Vec<ContainerStatus> = list
        .expect("a list")
        .into_iter()
        .map(|row| row.state)
        .collect();
    assert_eq!(
        states,
        [
            ContainerStatus::Running,
            ContainerStatus::Other("frozen".into())
        ]
    );
}

#[tokio::test]
async fn inspect_names_the_container_as_one_segment() {
    let (request, inspect) = sent(ok(r#"{"Name":"/web"}"#), async |docker| {
        docker.inspect_container("we/../b").await
    })
    .await;
    assert_eq!(request.line, "GET /v1.44/containers/we%2F%2E%2E%2Fb/json");
    assert_eq!(inspect.expect("a container").bare_name(), "web");
    assert_eq!(
        asked(ok("{}"), async |docker| docker
            .inspect_container_with_size("web")
            .await)
        .await,
        "GET /v1.44/containers/web/json?size=1"
    );
}

#[tokio::test]
async fn a_missing_container_is_not_found() {
    let answer = reply(
        "404 Not Found",
        "",
        r#"{"message":"No such container: web"}"#,
    );
    let (_, result) = sent(answer, async |docker| docker.inspect_container("web").await).await;
    let error = result.expect_err("missing");
    assert!(error.is_not_found());
    assert_eq!(error.message(), "No such container: web");
    assert!(
        error
            .to_string()
            .starts_with("inspect container web: No such container: web"),
        "{error}"
    );
}

#[tokio::test]
async fn an_empty_name_is_refused_before_it_becomes_another_call() {
    let engine = Scripted::new("1.44", []);
    let docker = &engine.docker;
    let invalid = |error: Option<berth_docker::Error>| {
        matches!(error.expect("an error").kind(), ErrorKind::Invalid { .. })
    };
    assert!(invalid(docker.inspect_container("").await.err()));
    assert!(invalid(
        docker
            .remove_container("", RemoveContainer::default())
            .await
            .err()
    ));
    assert!(invalid(
        docker.remove_image("", RemoveImage::default()).await.err()
    ));
    assert!(invalid(docker.inspect_exec("").await.err()));
    assert!(invalid(docker.remove_volume("", false).await.err()));
    assert!(invalid(docker.remove_network("").await.err()));
    assert!(engine.requests().is_empty());
}

#[tokio::test]
async fn create_sends_name_and_platform_in_the_query_and_the_rest_as_json() {
    let container = CreateContainer {
        name: Some("web".to_owned()),
        platform: Some("linux/arm64".to_owned()),
        config: ContainerConfig {
            image: "nginx".to_owned(),
            ..Default::default()
        },
        host_config: HostConfig {
            memory: 1 << 20,
            ..Default::default()
        },
        ..Default::default()
    };
    let answer = reply("201 Created", "", r#"{"Id":"ab","Warnings":null}"#);
    let (request, created) = sent(answer, async |docker| {
        docker.create_container(&container).await
    })
    .await;
    assert_eq!(
        request.line,
        "POST /v1.44/containers/create?name=web&platform=linux%2Farm64"
    );
    assert_eq!(request.field("content-type"), Some("application/json"));
    assert_eq!(
        request.json(),
        json!({"Image": "nginx", "HostConfig": {"Memory": 1 << 20}})
    );
    let created = created.expect("created");
    assert_eq!((created.id.as_str(), created.warnings.len()), ("ab", 0));
}

#[tokio::test]
async fn a_field_that_the_engine_is_too_old_for_is_refused_by_name() {
    let host = |host_config: HostConfig| CreateContainer {
        host_config,
        ..Default::default()
    };
    let endpoint = |endpoint: EndpointSettings| CreateContainer {
        networking_config: NetworkingConfig {
            endpoints_config: [("net".to_owned(), endpoint)].into(),
        },
        ..Default::default()
    };
    let mount = |mount: Mount| {
        host(HostConfig {
            mounts: vec![mount],
            ..Default::default()
        })
    };
    let bind = |options: BindOptions| {
        mount(Mount {
            bind_options: Some(options),
            ..Default::default()
        })
    };
    let cases = [
        (
            "1.40",
            "a platform",
            CreateContainer {
                platform: Some("linux".to_owned()),
                ..Default::default()
            },
        ),
        (
            "1.40",
            "HostConfig.CgroupnsMode",
            host(HostConfig {
                cgroupns_mode: "host".to_owned(),
                ..Default::default()
            }),
        ),
        (
            "1.41",
            "HostConfig.ConsoleSize",
            host(HostConfig {
                console_size: vec![24, 80],
                ..Default::default()
            }),
        ),
        (
            "1.41",
            "a mount of a cluster volume",
            mount(Mount {
                kind: MountType::Cluster,
                ..Default::default()
            }),
        ),
        (
            "1.41",
            "BindOptions.CreateMountpoint",
            bind(BindOptions {
                create_mountpoint: true,
                ..Default::default()
            }),
        ),
        (
            "1.42",
            "HostConfig.Annotations",
            host(HostConfig {
                annotations: [("a", "b")].into(),
                ..Default::default()
            }),
        ),
        (
            "1.43",
            "Healthcheck.StartInterval",
            CreateContainer {
                config: ContainerConfig {
                    healthcheck: Some(HealthConfig {
                        start_interval: 1,
                        ..Default::default()
                    }),
                    ..Default::default()
                },
                ..Default::default()
            },
        ),
        (
            "1.43",
            "BindOptions.ReadOnlyNonRecursive",
            bind(BindOptions {
                read_only_non_recursive: true,
                ..Default::default()
            }),
        ),
        (
            "1.43",
            "BindOptions.ReadOnlyForceRecursive",
            bind(BindOptions {
                read_only_force_recursive: true,
                ..Default::default()
            }),
        ),
        (
            "1.43",
            "more than one network",
            CreateContainer {
                networking_config: NetworkingConfig {
                    endpoints_config: [
                        ("a".to_owned(), Default::default()),
                        ("b".to_owned(), Default::default()),
                    ]
                    .into(),
                },
                ..Default::default()
            },
        ),
        (
            "1.43",
            "the MacAddress",
            endpoint(EndpointSettings {
                mac_address: "02:00:00:00:00:01".to_owned(),
                ..Default::default()
            }),
        ),
        (
            "1.44",
            "VolumeOptions.Subpath",
            mount(Mount {
                volume_options: Some(VolumeOptions {
                    subpath: "a".to_owned(),
                    ..Default::default()
                }),
                ..Default::default()
            }),
        ),
        (
            "1.45",
            "TmpfsOptions.Options",
            mount(Mount {
                tmpfs_options: Some(TmpfsOptions {
                    options: vec![vec!["noexec".to_owned()]],
                    ..Default::default()
                }),
                ..Default::default()
            }),
        ),
        (
            "1.47",
            "a mount of an image",
            mount(Mount {
                kind: MountType::Image,
                ..Default::default()
            }),
        ),
        (
            "1.47",
            "the GwPriority",
            endpoint(EndpointSettings {
                gw_priority: 1,
                ..Default::default()
            }),
        ),
    ];
    for (api, what, container) in cases {
        let engine = Scripted::new(api, []);
        let error = engine
            .docker
            .create_container(&container)
            .await
            .expect_err(what);
        assert!(matches!(error.kind(), ErrorKind::Invalid { .. }), "{error}");
        assert!(
            error.message().contains(what) && error.message().contains(api),
            "{error}"
        );
        assert!(engine.requests().is_empty(), "{what} was sent");

        let (major, minor) = api.split_once('.').expect("a version");
        let newer = format!("{major}.{}", minor.parse::<u16>().expect("a number") + 1);
        let engine = Scripted::new(&newer, [reply("201 Created", "", r#"{"Id":"ab"}"#)]);
        engine
            .docker
            .create_container(&container)
            .await
            .unwrap_or_else(|error| panic!("{what} with {newer}: {error}"));
    }
}

#[tokio::test]
async fn a_start_has_no_body_and_tells_whether_it_was_needed() {
    let (request, started) = sent(empty("204 No Content"), async |docker| {
        docker.start_container("web").await
    })
    .await;
    assert_eq!(request.line, "POST /v1.44/containers/web/start");
    assert_eq!(
        (request.field("content-length"), request.body.len()),
        (Some("0"), 0)
    );
    assert_eq!(started.expect("started"), Started::Now);
    let (_, started) = sent(empty("304 Not Modified"), async |docker| {
        docker.start_container("web").await
    })
    .await;
    assert_eq!(started.expect("started"), Started::Already);
}

#[tokio::test]
async fn a_stop_names_grace_and_signal() {
    let options = StopContainer {
        seconds: Some(7),
        signal: Some("SIGINT".to_owned()),
    };
    let (request, stopped) = sent(empty("204 No Content"), async |docker| {
        docker.stop_container("web", &options).await
    })
    .await;
    assert_eq!(
        request.line,
        "POST /v1.44/containers/web/stop?t=7&signal=SIGINT"
    );
    assert_eq!(stopped.expect("stopped"), Stopped::Now);
    let options = StopContainer {
        seconds: Some(0),
        signal: None,
    };
    let (request, stopped) = sent(empty("304 Not Modified"), async |docker| {
        docker.stop_container("web", &options).await
    })
    .await;
    assert_eq!(request.line, "POST /v1.44/containers/web/stop?t=0");
    assert_eq!(stopped.expect("stopped"), Stopped::Already);
}

#[tokio::test]
async fn a_stop_signal_is_refused_for_engines_that_ignore_it() {
    let engine = Scripted::new("1.41", []);
    let options = StopContainer {
        seconds: Some(1),
        signal: Some("SIGINT".to_owned()),
    };
    let error = engine
        .docker
        .stop_container("web", &options)
        .await
        .expect_err("too old");
    assert!(
        error.message().contains("a stop signal needs API 1.42"),
        "{error}"
    );
    let options = RestartContainer {
        seconds: Some(-2),
        signal: None,
    };
    assert!(matches!(
        engine
            .docker
            .restart_container("web", &options)
            .await
            .expect_err("-2")
            .kind(),
        ErrorKind::Invalid { .. }
    ));
    assert!(engine.requests().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_stop_may_take_its_grace_and_thirty_seconds() {
    let hang = || Answer::SayAndHang(Vec::new());
    for (seconds, answers, expected) in [
        (Some(0), vec![hang()], 30),
        (Some(600), vec![hang()], 630),
        (
            None,
            vec![ok(r#"{"Config":{"StopTimeout":300}}"#), hang()],
            330,
        ),
        (None, vec![ok("{}"), hang()], 40),
    ] {
        let engine = Scripted::new("1.44", answers);
        let began = tokio::time::Instant::now();
        let error = engine
            .docker
            .stop_container(
                "web",
                &StopContainer {
                    seconds,
                    signal: None,
                },
            )
            .await
            .expect_err("hangs");
        assert!(error.is_timeout() && error.effect_is_unknown(), "{error}");
        assert_eq!(
            began.elapsed().as_secs(),
            expected,
            "a grace of {seconds:?}"
        );
    }
    let engine = Scripted::new("1.44", [hang()]);
    let options = StopContainer {
        seconds: Some(-1),
        signal: None,
    };
    let day = Duration::from_secs(24 * 3600);
    assert!(
        tokio::time::timeout(day, engine.docker.stop_container("web", &options))
            .await
            .is_err(),
        "-1 waits for ever"
    );
    assert_eq!(
        engine.request().line,
        "POST /v1.44/containers/web/stop?t=-1"
    );
}

#[tokio::test]
async fn the_other_steps_of_a_life_are_as_asked() {
    let done = || empty("204 No Content");
    let options = RestartContainer {
        seconds: Some(3),
        signal: None,
    };
    assert_eq!(
        asked(done(), async |docker| docker
            .restart_container("web", &options)
            .await)
        .await,
        "POST /v1.44/containers/web/restart?t=3"
    );
    assert_eq!(
        asked(done(), async |docker| docker
            .kill_container("web", Some("SIGHUP"))
            .await)
        .await,
        "POST /v1.44/containers/web/kill?signal=SIGHUP"
    );
    assert_eq!(
        asked(done(), async |docker| docker
            .kill_container("web", None)
            .await)
        .await,
        "POST /v1.44/containers/web/kill"
    );
    let options = RemoveContainer {
        volumes: true,
        link: true,
        force: true,
    };
    assert_eq!(
        asked(done(), async |docker| docker
            .remove_container("web", options)
            .await)
        .await,
        "DELETE /v1.44/containers/web?v=1&link=1&force=1"
    );
    assert_eq!(
        asked(done(), async |docker| docker
            .remove_container("web", RemoveContainer::default())
            .await)
        .await,
        "DELETE /v1.44/containers/web"
    );
    assert_eq!(
        asked(done(), async |docker| docker
            .rename_container("web", "a b")
            .await)
        .await,
        "POST /v1.44/containers/web/rename?name=a%20b"
    );
    assert_eq!(
        asked(done(), async |docker| docker.pause_container("web").await).await,
        "POST /v1.44/containers/web/pause"
    );
    assert_eq!(
        asked(done(), async |docker| docker.unpause_container("web").await).await,
        "POST /v1.44/containers/web/unpause"
    );
    let size = TerminalSize {
        height: 24,
        width: 80,
    };
    assert_eq!(
        asked(done(), async |docker| docker
            .resize_container_tty("web", size)
            .await)
        .await,
        "POST /v1.44/containers/web/resize?h=24&w=80"
    );
    let update = UpdateContainer {
        memory: 1,
        pids_limit: Some(0),
        ..Default::default()
    };
    let (request, updated) = sent(ok(r#"{"Warnings":["w"]}"#), async |docker| {
        docker.update_container("web", &update).await
    })
    .await;
    assert_eq!(request.line, "POST /v1.44/containers/web/update");
    assert_eq!(request.json(), json!({"Memory": 1, "PidsLimit": 0}));
    assert_eq!(updated.expect("updated").warnings, ["w"]);
    let filters = Filters::new().until("24h");
    let (request, pruned) = sent(
        ok(r#"{"ContainersDeleted":["a"],"SpaceReclaimed":5}"#),
        async |docker| docker.prune_containers(&filters).await,
    )
    .await;
    assert_eq!(
        request.line,
        "POST /v1.44/containers/prune?filters=%7B%22until%22%3A%5B%2224h%22%5D%7D"
    );
    assert_eq!(pruned.expect("pruned").space_reclaimed, 5);
}

#[tokio::test]
async fn a_wait_gives_the_exit_code_as_a_value() {
    let answer = chunks("", &[b"{\"StatusCode\":3", b"}\n"]);
    let (request, result) = sent(answer, async |docker| {
        docker.wait_container("web", WaitCondition::NextExit).await
    })
    .await;
    assert_eq!(
        request.line,
        "POST /v1.44/containers/web/wait?condition=next-exit"
    );
    assert_eq!(
        result.expect("a result"),
        WaitResult {
            status_code: 3,
            error: None
        }
    );
    let answer = ok(r#"{"StatusCode":0,"Error":{"Message":"busy"}}"#);
    let (request, result) = sent(answer, async |docker| {
        docker.wait_container("web", WaitCondition::Removed).await
    })
    .await;
    assert!(
        request.line.ends_with("?condition=removed"),
        "{}",
        request.line
    );
    assert_eq!(
        result.expect("a result").error.expect("an error").message,
        "busy"
    );
}

#[tokio::test]
async fn a_wait_that_the_engine_breaks_off_is_an_error() {
    for answer in [
        Answer::SayAndClose(open_chunks("", &[])),
        Answer::SayAndClose(open_chunks("", &[b"{\"StatusCode\""])),
        chunks("", &[]),
        chunks("", &[b"\n"]),
    ] {
        let (_, result) = sent(answer.clone(), async |docker| {
            docker
                .wait_container("web", WaitCondition::NotRunning)
                .await
        })
        .await;
        let error = result.expect_err("no exit code came");
        assert!(error.effect_is_unknown(), "{answer:?}: {error}");
        assert!(
            error.to_string().starts_with("wait container web: "),
            "{error}"
        );
    }
}

#[tokio::test]
async fn what_a_container_does_is_read() {
    let (request, top) = sent(
        ok(r#"{"Titles":["PID"],"Processes":[["1"],["2"]]}"#),
        async |docker| docker.top("web", Some("-o pid")).await,
    )
    .await;
    assert_eq!(
        request.line,
        "GET /v1.44/containers/web/top?ps_args=-o%20pid"
    );
    assert_eq!(top.expect("processes").processes.len(), 2);
    let (request, changes) = sent(
        ok(r#"[{"Path":"/a","Kind":1},{"Path":"/b","Kind":9}]"#),
        async |docker| docker.changes("web").await,
    )
    .await;
    assert_eq!(request.line, "GET /v1.44/containers/web/changes");
    let kinds: Vec<ChangeKind> = changes
        .expect("changes")
        .into_iter()
        .map(|change| change.kind)
        .collect();
    assert_eq!(kinds, [ChangeKind::Added, ChangeKind::Other("9".into())]);
    let (_, changes) = sent(ok("null"), async |docker| docker.changes("web").await).await;
    assert_eq!(changes.expect("none"), []);
}

#[tokio::test]
async fn one_sample_of_stats_is_asked_for_without_a_wait_where_the_engine_can() {
    let (request, stats) = sent(ok(r#"{"pids_stats":{"current":2}}"#), async |docker| {
        docker.stats("web").await
    })
    .await;
    assert_eq!(
        request.line,
        "GET /v1.44/containers/web/stats?stream=false&one-shot=true"
    );
    assert_eq!(stats.expect("stats").pids_stats.current, 2);
    let engine = Scripted::new("1.40", [ok("{}")]);
    engine.docker.stats("web").await.expect("stats");
    assert_eq!(
        engine.request().line,
        "GET /v1.40/containers/web/stats?stream=false"
    );
}

#[tokio::test]
async fn streamed_stats_come_one_by_one() {
    let answer = chunks("", &[b"{\"num_procs\":1}\n{\"num", b"_procs\":2}\n"]);
    let (request, mut stream) = sent(answer, async |docker| {
        docker.stats_stream("web").await.expect("a stream")
    })
    .await;
    assert_eq!(request.line, "GET /v1.44/containers/web/stats?stream=true");
    assert_eq!(
        stream.next().await.expect("one").expect("fine").num_procs,
        1
    );
    assert_eq!(
        stream.next().await.expect("two").expect("fine").num_procs,
        2
    );
    assert!(stream.next().await.is_none());
}
