//! Each check, on facts made up for it.

use std::path::PathBuf;

use berth_docker::model::{Info, Ping, Version, VersionComponent};
use berth_docker::{ApiVersion, ConnectReason};
use berth_pod::oom::ProcessFacts;

use super::checks::{Check, Level, checks};
use super::facts::{Disk, Engine, Facts, LogLimit, Obstacle, Socket, User};
use super::{json, marks_are_understood, text};

const HOST_IDS: &str = "0 0 4294967295";
const GIB: u64 = 1 << 30;

/// A host on which nothing is amiss.
fn healthy() -> Engine {
    Engine {
        ping: Ping::default(),
        version: Ok(Version {
            version: "29.0.0".into(),
            api_version: "1.55".into(),
            min_api_version: "1.40".into(),
            ..Default::default()
        }),
        api: Ok(ApiVersion::CEILING),
        info: Ok(Info {
            os_type: "linux".into(),
            architecture: "x86_64".into(),
            cgroup_version: "2".into(),
            cgroup_driver: "systemd".into(),
            memory_limit: true,
            swap_limit: true,
            cpu_cfs_quota: true,
            pids_limit: true,
            driver: "overlay2".into(),
            logging_driver: "json-file".into(),
            docker_root_dir: "/var/lib/docker".into(),
            live_restore_enabled: true,
            ..Default::default()
        }),
        networks: Ok(vec!["bridge".into(), "host".into(), "none".into()]),
        missing_interface: None,
        clock: Some((0.1, 0.01)),
        disk: Ok(Disk {
            total: 100 * GIB,
            free: 50 * GIB,
            files: 1000,
            files_free: 500,
        }),
        process: Some(ProcessFacts {
            status: "CapEff:\t000001ffffffffff\n".into(),
            uid_map: HOST_IDS.into(),
        }),
        log_limit: LogLimit::Set("10m".into(), "/etc/docker/daemon.json".into()),
        architecture: "x86_64",
        has_pause_image: true,
    }
}

fn facts(engine: Result<Engine, Obstacle>) -> Facts {
    Facts {
        endpoint: "unix:///var/run/docker.sock".into(),
        source: "the default".into(),
        chosen: false,
        engine: engine.map(Box::new),
    }
}

/// The check of that name when `change` is what is amiss; all the others must be fine.
fn with(name: &str, change: impl FnOnce(&mut Engine, &mut Info)) -> Check {
    let mut engine = healthy();
    let mut info = engine.info.clone().unwrap();
    change(&mut engine, &mut info);
    if engine.info.is_ok() {
        engine.info = Ok(info);
    }
    let all = checks(&facts(Ok(engine)));
    for check in &all {
        assert!(check.name == name || check.level == Level::Ok, "{check:?}");
    }
    all.into_iter().find(|check| check.name == name).unwrap()
}

fn is(check: &Check, level: Level, words: &str) {
    assert_eq!(check.level, level, "{check:?}");
    assert!(check.finding.contains(words), "{check:?}");
    assert_eq!(
        check.advice.is_some(),
        matches!(level, Level::Warning | Level::Problem),
        "{check:?}"
    );
}

#[test]
fn a_healthy_host_is_fine_in_every_respect() {
    let all = checks(&facts(Ok(healthy())));
    assert!(
        all.len() > 10
            && all
                .iter()
                .all(|check| check.level == Level::Ok && check.advice.is_none()),
        "{all:#?}"
    );
}

#[test]
fn the_engine_is_named_and_podman_is_not_taken_for_docker() {
    is(
        &with("engine", |_, info| {
            info.security_options.push("name=rootless".into())
        }),
        Level::Ok,
        "Docker Engine 29.0.0, rootless at unix://",
    );
    let podman = with("engine", |engine, _| {
        let part = VersionComponent {
            name: "Podman Engine".into(),
            ..Default::default()
        };
        engine.version.as_mut().unwrap().components.push(part);
    });
    is(&podman, Level::Warning, "Podman 29.0.0");
    is(
        &with("engine", |engine, _| engine.version = Err("no JSON".into())),
        Level::Problem,
        "no JSON",
    );
}

#[test]
fn versions_that_do_not_meet_are_a_problem_and_newer_ones_are_not() {
    let mut engine = healthy();
    engine.api = Err("speaks API 1.24 at most".into());
    engine.info = Err("the same".into());
    let all = checks(&facts(Ok(engine)));
    assert_eq!(
        all.iter()
            .map(|check| (check.name, check.level))
            .collect::<Vec<_>>(),
        [
            ("engine", Level::Ok),
            ("API version", Level::Problem),
            ("information", Level::Problem)
        ]
    );
    let newer = with("API version", |engine, _| {
        engine.version.as_mut().unwrap().api_version = "1.99".into()
    });
    is(
        &newer,
        Level::Ok,
        "the newest that berth is tested with; the engine speaks 1.40 to 1.99",
    );
}

#[test]
fn the_pause_image_must_fit_the_engine() {
    is(
        &with("platform", |_, info| info.architecture = "aarch64".into()),
        Level::Problem,
        "pause image is for x86_64",
    );
    is(
        &with("platform", |_, info| info.architecture = "amd64".into()),
        Level::Ok,
        "amd64",
    );
    is(
        &with("platform", |engine, _| engine.has_pause_image = false),
        Level::Problem,
        "no built-in pause image",
    );
    is(
        &with("platform", |_, info| info.os_type = "windows".into()),
        Level::Problem,
        "windows",
    );
}

#[test]
fn cgroups_and_limits_are_looked_at() {
    is(
        &with("cgroups", |_, info| info.cgroup_version = "1".into()),
        Level::Warning,
        "version 1",
    );
    is(
        &with("cgroups", |_, info| info.cgroup_driver = "none".into()),
        Level::Warning,
        "driver none",
    );
    is(
        &with("cgroups", |_, info| info.cgroup_version.clear()),
        Level::Unknown,
        "does not tell the version",
    );
    is(
        &with("limits", |_, info| info.swap_limit = false),
        Level::Warning,
        "cannot limit swap",
    );
    is(
        &with("limits", |_, info| {
            (info.memory_limit, info.cpu_cfs_quota) = (false, false)
        }),
        Level::Warning,
        "memory, CPU",
    );
}

#[test]
fn storage_drivers_that_hurt_are_warned_about() {
    for driver in ["vfs", "devicemapper", "aufs"] {
        is(
            &with("storage driver", |_, info| info.driver = driver.into()),
            Level::Warning,
            driver,
        );
    }
    for driver in ["overlayfs", "btrfs", "zfs", "fuse-overlayfs"] {
        is(
            &with("storage driver", |_, info| info.driver = driver.into()),
            Level::Ok,
            driver,
        );
    }
    is(
        &with("storage driver", |_, info| info.driver.clear()),
        Level::Unknown,
        "",
    );
}

#[test]
fn a_log_driver_that_cannot_be_read_is_a_problem_for_logs() {
    is(
        &with("log driver", |_, info| info.logging_driver = "none".into()),
        Level::Problem,
        "nothing to read",
    );
    is(
        &with("log driver", |_, info| {
            info.logging_driver = "fluentd".into()
        }),
        Level::Ok,
        "own copy",
    );
    let old = |engine: &mut Engine, info: &mut Info| {
        info.logging_driver = "fluentd".into();
        engine.api = Ok(ApiVersion::new(1, 40));
    };
    is(
        &with("log driver", old),
        Level::Problem,
        "cannot read it back",
    );
    is(
        &with("log driver", |_, info| info.logging_driver = "local".into()),
        Level::Ok,
        "local",
    );
}

#[test]
fn logs_without_limit_are_warned_about_and_what_is_not_known_is_not_claimed() {
    is(&with("log size", |_, _| {}), Level::Ok, "up to 10m");
    is(
        &with("log size", |engine, _| {
            engine.log_limit = LogLimit::Unset("none in daemon.json".into())
        }),
        Level::Warning,
        "without limit",
    );
    let unknown = with("log size", |engine, _| {
        engine.log_limit = LogLimit::Unknown("it is far away".into())
    });
    assert!(
        unknown.level == Level::Unknown && unknown.finding.contains("far away"),
        "{unknown:?}"
    );
    let other = |engine: &mut Engine, info: &mut Info| {
        info.logging_driver = "local".into();
        engine.log_limit = LogLimit::Unset(String::new());
    };
    is(&with("log size", other), Level::Ok, "local");
}

#[test]
fn a_disk_that_is_almost_full_is_told() {
    let disk = |total, free, files, files_free| {
        with("disk", |engine, _| {
            engine.disk = Ok(Disk {
                total,
                free,
                files,
                files_free,
            })
        })
    };
    is(
        &disk(1000 * GIB, 101 * GIB, 0, 0),
        Level::Ok,
        "101.0 GiB of 1000.0 GiB free (10 %)",
    );
    is(&disk(1000 * GIB, 99 * GIB, 0, 0), Level::Warning, "(9 %)");
    is(&disk(2 * GIB, GIB - 1, 0, 0), Level::Problem, "0.9 GiB");
    is(
        &disk(100 * GIB, 50 * GIB, 1000, 49),
        Level::Warning,
        "49 of 1000 files",
    );
    is(&disk(0, 0, 0, 0), Level::Problem, "0.0 GiB");
    is(
        &with("disk", |engine, _| {
            engine.disk = Err("the engine is not on this host".into())
        }),
        Level::Unknown,
        "not on this host",
    );
}

#[test]
fn oom_score_adj_follows_from_the_engines_process() {
    let clamped = with("oom_score_adj", |engine, _| {
        engine.process.as_mut().unwrap().status = "CapEff:\t0000000000000000\n".into()
    });
    is(&clamped, Level::Warning, "CAP_SYS_RESOURCE");
    is(
        &with("oom_score_adj", |engine, _| engine.process = None),
        Level::Unknown,
        "not seen",
    );
    let rootless = |engine: &mut Engine, info: &mut Info| {
        engine.process = None;
        info.security_options.push("name=rootless".into());
    };
    is(&with("oom_score_adj", rootless), Level::Warning, "rootless");
}

#[test]
fn a_bridge_without_its_interface_is_a_problem() {
    let gone = with("network", |engine, _| {
        engine.missing_interface = Some("docker0".into());
    });
    is(&gone, Level::Problem, "the interface docker0");
}

#[test]
fn a_missing_bridge_a_wrong_clock_and_warnings_are_told() {
    is(
        &with("network", |engine, _| {
            engine.networks = Ok(vec!["host".into()])
        }),
        Level::Problem,
        "bridge",
    );
    is(
        &with("network", |engine, _| {
            engine.networks = Err("status 500".into())
        }),
        Level::Unknown,
        "status 500",
    );
    is(
        &with("clock", |engine, _| engine.clock = Some((-90.0, 0.1))),
        Level::Warning,
        "90.0 s behind",
    );
    is(
        &with("clock", |engine, _| engine.clock = Some((3.0, 2.0))),
        Level::Ok,
        "agrees",
    );
    is(
        &with("clock", |engine, _| engine.clock = None),
        Level::Unknown,
        "",
    );
    let off = with("live restore", |_, info| info.live_restore_enabled = false);
    assert!(off.level == Level::Ok && off.advice.is_some(), "{off:?}");
    let warned = with("engine warns", |_, info| {
        info.warnings = vec![
            "WARNING: No swap limit support".into(),
            "WARNING: bridge-nf-call-iptables is disabled".into(),
        ]
    });
    assert_eq!(
        (warned.level, warned.finding.as_str()),
        (Level::Warning, "bridge-nf-call-iptables is disabled")
    );
}

fn obstacle(reason: Option<ConnectReason>) -> Obstacle {
    Obstacle {
        reason,
        words: "the whole error".into(),
        socket: Some(Socket {
            path: PathBuf::from("/var/run/docker.sock"),
            is_socket: true,
            mode: 0o660,
            owner: "root".into(),
            group: "docker".into(),
            gid: 998,
        }),
        user: User {
            name: "dev".into(),
            gids: vec![1000],
            listed_in_group: false,
        },
        rootless: None,
        installed: true,
        systemd: true,
    }
}

fn why(obstacle: Obstacle) -> (String, String) {
    let all = checks(&facts(Err(obstacle)));
    assert_eq!(all.len(), 1);
    assert_eq!(all[0].level, Level::Problem);
    (all[0].finding.clone(), all[0].advice.clone().unwrap())
}

#[test]
fn an_engine_that_is_not_there_is_to_be_started_or_installed() {
    let (finding, advice) = why(Obstacle {
        socket: None,
        ..obstacle(Some(ConnectReason::NoSuchSocket))
    });
    assert!(
        finding.contains("no socket at unix:///var/run/docker.sock (from the default)"),
        "{finding}"
    );
    assert!(advice.contains("systemctl"), "{advice}");
    let (_, advice) = why(Obstacle {
        installed: false,
        ..obstacle(Some(ConnectReason::NotRunning))
    });
    assert!(advice.contains("install"), "{advice}");
    let (_, advice) = why(Obstacle {
        systemd: false,
        rootless: Some("unix:///run/user/1000/docker.sock".into()),
        ..obstacle(Some(ConnectReason::NotRunning))
    });
    assert!(
        advice.contains("sudo dockerd")
            && advice.contains("DOCKER_HOST=unix:///run/user/1000/docker.sock"),
        "{advice}"
    );
    let mut facts = facts(Err(obstacle(Some(ConnectReason::NotRunning))));
    (facts.chosen, facts.source) = (true, "DOCKER_HOST".into());
    assert!(
        checks(&facts)[0]
            .advice
            .as_ref()
            .unwrap()
            .contains("comes from DOCKER_HOST")
    );
}

#[test]
fn a_missing_permission_is_explained_by_the_socket_and_the_user() {
    let denied = || obstacle(Some(ConnectReason::NoPermission));
    let (finding, advice) = why(denied());
    assert!(
        finding.contains("user \"dev\" may not open it (owner root, group docker, mode 660"),
        "{finding}"
    );
    assert!(
        advice.starts_with("sudo usermod -aG docker dev"),
        "{advice}"
    );
    let mut listed = denied();
    listed.user.listed_in_group = true;
    assert!(why(listed).1.contains("newgrp docker"));
    let mut member = denied();
    member.user.gids.push(998);
    assert!(why(member).1.contains("as root"));
    let mut of_root = denied();
    of_root.socket.as_mut().unwrap().gid = 0;
    assert_eq!(why(of_root).1, "run berth as root");
    let hidden = Obstacle {
        socket: None,
        ..denied()
    };
    assert!(why(hidden).1.contains("directories"));
}

#[test]
fn other_obstacles_keep_their_words() {
    assert_eq!(why(obstacle(Some(ConnectReason::Tls))).0, "the whole error");
    assert!(
        why(obstacle(None))
            .0
            .contains("does not answer as an engine does: the whole error")
    );
}

#[test]
fn the_report_is_aligned_and_the_sum_is_right() {
    let mut engine = healthy();
    engine.networks = Ok(Vec::new());
    engine.clock = None;
    let all = checks(&facts(Ok(engine)));
    let plain = anstream::adapter::strip_str(&text(&all, false)).to_string();
    assert!(
        plain.starts_with("+ engine          Docker Engine"),
        "{plain}"
    );
    assert!(
        plain.contains("\nx network         the engine has no network"),
        "{plain}"
    );
    assert!(
        plain.contains("\n                  -> start dockerd"),
        "{plain}"
    );
    assert!(
        plain.ends_with("\n\n1 problem, 0 warnings, 1 unknown\n"),
        "{plain}"
    );
    assert!(text(&all, true).contains('✗'));
    let value: serde_json::Value = serde_json::from_str(&json(&all).unwrap()).unwrap();
    assert_eq!(
        (
            value["problems"].as_u64(),
            value["checks"][0]["level"].as_str()
        ),
        (Some(1), Some("ok"))
    );
}

#[test]
fn the_locale_decides_about_the_marks() {
    let understood = |pairs: &[(&str, &str)]| {
        marks_are_understood(|name| {
            pairs
                .iter()
                .find(|(key, _)| *key == name)
                .map(|(_, value)| (*value).to_owned())
        })
    };
    assert!(understood(&[("LANG", "en_GB.UTF-8")]));
    assert!(understood(&[("LC_ALL", ""), ("LC_CTYPE", "C.utf8")]));
    assert!(!understood(&[("LC_ALL", "C"), ("LANG", "en_GB.UTF-8")]));
    assert!(!understood(&[]));
}
