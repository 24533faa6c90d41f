//! How an engine says no.

use berth_docker::api::{
    AttachOptions, LogsOptions, PutArchive, RemoveContainer, RestartContainer, StopContainer,
    TerminalSize, WaitCondition,
};
use berth_docker::model::{Filters, RestartPolicy, RestartPolicyName, UpdateContainer};
use berth_docker::{Body, Error, ErrorKind};
use bytes::Bytes;

use crate::Violation;
use crate::case::{Case, strings};
use crate::violation::{ensure, equal, refused};

crate::group! {
    "errors";
    every_call_about_a_missing_container_is_not_found,
    calls_that_need_a_running_container_are_conflicts,
    an_error_names_the_call_the_thing_and_the_engine,
    an_empty_name_never_reaches_the_engine,
    a_name_cannot_reach_another_route,
    a_bad_configuration_is_refused,
    a_connection_is_used_again_after_a_refusal,
}

async fn every_call_about_a_missing_container_is_not_found(case: Case) -> Result<(), Violation> {
    let docker = case.docker();
    let id = case.name();
    let id = id.as_str();
    let network = docker.create_network(&case.network()).await?.id;
    let size = TerminalSize {
        height: 1,
        width: 1,
    };
    let stop = StopContainer {
        seconds: Some(1),
        signal: None,
    };
    let restart = RestartContainer {
        seconds: Some(1),
        signal: None,
    };
    let empty = || Body::Bytes(Bytes::from_static(&[0; 1024]));
    let answers: Vec<(&str, Result<(), Error>)> = vec![
        ("inspect", docker.inspect_container(id).await.map(drop)),
        (
            "inspect with size",
            docker.inspect_container_with_size(id).await.map(drop),
        ),
        ("start", docker.start_container(id).await.map(drop)),
        ("stop", docker.stop_container(id, &stop).await.map(drop)),
        (
            "stop with its own grace",
            docker
                .stop_container(id, &StopContainer::default())
                .await
                .map(drop),
        ),
        ("restart", docker.restart_container(id, &restart).await),
        ("kill", docker.kill_container(id, None).await),
        (
            "remove",
            docker
                .remove_container(id, RemoveContainer::default())
                .await,
        ),
        (
            "remove by force",
            docker
                .remove_container(
                    id,
                    RemoveContainer {
                        force: true,
                        ..RemoveContainer::default()
                    },
                )
                .await,
        ),
        ("rename", docker.rename_container(id, &case.name()).await),
        (
            "update",
            docker
                .update_container(
                    id,
                    &UpdateContainer {
                        cpu_shares: 9,
                        ..UpdateContainer::default()
                    },
                )
                .await
                .map(drop),
        ),
        ("pause", docker.pause_container(id).await),
        ("unpause", docker.unpause_container(id).await),
        (
            "wait",
            docker
                .wait_container(id, WaitCondition::NotRunning)
                .await
                .map(drop),
        ),
        (
            "wait for the next exit",
            docker
                .wait_container(id, WaitCondition::NextExit)
                .await
                .map(drop),
        ),
        (
            "wait for the removal",
            docker
                .wait_container(id, WaitCondition::Removed)
                .await
                .map(drop),
        ),
        ("top", docker.top(id, None).await.map(drop)),
        ("changes", docker.changes(id).await.map(drop)),
        ("stats", docker.stats(id).await.map(drop)),
        ("stats stream", docker.stats_stream(id).await.map(drop)),
        ("resize", docker.resize_container_tty(id, size).await),
        ("export", docker.export_container(id).await.map(drop)),
        (
            "logs",
            docker.logs(id, &LogsOptions::default()).await.map(drop),
        ),
        (
            "attach",
            docker.attach(id, &AttachOptions::default()).await.map(drop),
        ),
        (
            "create exec",
            docker
                .create_exec(id, &case.command("true"))
                .await
                .map(drop),
        ),
        ("get archive", docker.get_archive(id, "/").await.map(drop)),
        (
            "put archive",
            docker
                .put_archive(id, "/", empty(), PutArchive::default())
                .await,
        ),
        ("connect", docker.connect_network(&network, id, None).await),
        (
            "disconnect",
            docker.disconnect_network(&network, id, false).await,
        ),
    ];
    for (what, answer) in answers {
        match answer {
            Err(error) if error.is_not_found() && error.message().contains(id) => {}
            Err(error) => {
                return Err(Violation::new(format!(
                    "{what} should say not found and name it: {error}"
                )));
            }
            Ok(()) => return Err(Violation::new(format!("{what} did something"))),
        }
    }
    let stat = docker.stat_archive(id, "/").await;
    ensure!(
        stat.as_ref().is_err_and(Error::is_not_found),
        "stat archive says {stat:?}"
    );
    Ok(())
}

async fn calls_that_need_a_running_container_are_conflicts(case: Case) -> Result<(), Violation> {
    let docker = case.docker();
    let id = case.start(&case.shell("exit 0")).await?;
    case.ended(&id).await?;
    let size = TerminalSize {
        height: 1,
        width: 1,
    };
    for (what, answer) in [
        ("kill", docker.kill_container(&id, None).await),
        ("pause", docker.pause_container(&id).await),
        (
            "create exec",
            docker
                .create_exec(&id, &case.command("true"))
                .await
                .map(drop),
        ),
        ("top", docker.top(&id, None).await.map(drop)),
        ("resize", docker.resize_container_tty(&id, size).await),
    ] {
        ensure!(
            answer.as_ref().is_err_and(Error::is_conflict),
            "{what} of an ended container says {answer:?}"
        );
    }
    Ok(())
}

async fn an_error_names_the_call_the_thing_and_the_engine(case: Case) -> Result<(), Violation> {
    let name = case.name();
    let error = refused(case.docker().inspect_container(&name).await, &[404])?;
    let text = error.to_string();
    for part in ["inspect container", &name, "404", case.docker().endpoint()] {
        ensure!(text.contains(part), "{part:?} is not in {text:?}");
    }
    ensure!(
        !text.contains('{') && !text.contains('\n'),
        "the engine's JSON shows through: {text:?}"
    );
    equal!(
        case.docker().metrics().timeouts(error.operation()),
        0,
        "time-outs"
    );
    Ok(())
}

async fn an_empty_name_never_reaches_the_engine(case: Case) -> Result<(), Violation> {
    let docker = case.docker();
    // Sent, it would be a list, or a prune of all.
    for answer in [
        docker.inspect_container("").await.map(drop),
        docker
            .remove_container("", RemoveContainer::default())
            .await,
        docker.inspect_image("").await.map(drop),
        docker.remove_volume("", false).await,
        docker.remove_network("").await,
        docker.inspect_exec("").await.map(drop),
    ] {
        match answer {
            Err(error) if matches!(error.kind(), ErrorKind::Invalid { .. }) => {}
            other => return Err(Violation::new(format!("an empty name gives {other:?}"))),
        }
    }
    Ok(())
}

async fn a_name_cannot_reach_another_route(case: Case) -> Result<(), Violation> {
    for name in ["json", "../images", "..", "a b?all=1", "x#y", "%2e%2e"] {
        match case.docker().inspect_container(name).await {
            // 301: engines redirect to a path without dots, and a client that followed would reach another route.
            Err(error) if matches!(error.status(), Some(301 | 400 | 404)) => {}
            other => return Err(Violation::new(format!("{name:?} gives {other:?}"))),
        }
    }
    Ok(())
}

async fn a_bad_configuration_is_refused(case: Case) -> Result<(), Violation> {
    let mut twice = case.idle();
    twice.host_config.tmpfs = [("/same", "")].into_iter().collect();
    twice.host_config.binds = strings(["/tmp:/same"]);
    let mut policy = case.idle();
    policy.host_config.auto_remove = true;
    policy.host_config.restart_policy = Some(RestartPolicy {
        name: RestartPolicyName::Always,
        maximum_retry_count: 0,
    });
    let mut retries = case.idle();
    retries.host_config.restart_policy = Some(RestartPolicy {
        name: RestartPolicyName::Always,
        maximum_retry_count: 5,
    });
    let mut relative = case.idle();
    relative.config.working_dir = "not/absolute".to_owned();
    let mut capability = case.idle();
    capability.host_config.cap_add = strings(["NO_SUCH_CAPABILITY"]);
    let mut memory = case.idle();
    memory.host_config.memory = 1024;
    let mut driver = case.idle();
    driver.host_config.log_config = Some(berth_docker::model::LogConfig {
        kind: "no-such-driver".to_owned(),
        ..Default::default()
    });
    for (what, container, statuses) in [
        ("a mount point used twice", twice, &[400][..]),
        ("a restart of what is removed", policy, &[400]),
        ("retries of always", retries, &[400]),
        ("a relative working directory", relative, &[400]),
        ("an unknown capability", capability, &[400]),
        ("too little memory", memory, &[400]),
        ("an unknown log driver", driver, &[400, 500]),
    ] {
        match refused(case.docker().create_container(&container).await, statuses) {
            Ok(_) => {}
            // Some are found at the start only.
            Err(violation) => return Err(Violation::new(format!("{what}: {violation}"))),
        }
    }
    let filters = Filters::new().with("dangling", "perhaps");
    refused(case.docker().list_volumes(&filters).await, &[400, 500])?;
    Ok(())
}

async fn a_connection_is_used_again_after_a_refusal(case: Case) -> Result<(), Violation> {
    let docker = case.docker();
    for _ in 0..50 {
        refused(
            docker.inspect_container("contract-no-such-container").await,
            &[404],
        )?;
        docker.ping().await?;
    }
    // Others use the same client, so this is a bound and not a count.
    let (connections, calls) = (
        docker.metrics().connections_opened(),
        docker.metrics().calls(berth_docker::Operation::PING),
    );
    ensure!(calls >= 50, "{calls} pings are counted");
    ensure!(
        docker.idle_connections() > 0,
        "none of {connections} connections is kept"
    );
    Ok(())
}
