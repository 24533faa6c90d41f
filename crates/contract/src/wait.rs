//! Waiting for containers.

use std::time::Duration;

use berth_docker::api::{RemoveContainer, WaitCondition};

use crate::Violation;
use crate::case::{Case, within};
use crate::violation::{ensure, equal};

crate::group! {
    "wait";
    a_wait_gives_the_exit_code,
    a_wait_for_an_ended_container_is_answered_at_once,
    a_created_container_counts_as_not_running,
    a_wait_for_the_next_exit_passes_over_the_last,
    a_wait_for_the_removal_ends_with_it,
    a_dropped_wait_leaves_the_container_alone,
    many_wait_for_one_end,
}

async fn a_wait_gives_the_exit_code(case: Case) -> Result<(), Violation> {
    for code in [0, 3, 255] {
        let id = case.start(&case.shell(&format!("exit {code}"))).await?;
        equal!(case.ended(&id).await?, code, "the exit code");
    }
    Ok(())
}

async fn a_wait_for_an_ended_container_is_answered_at_once(case: Case) -> Result<(), Violation> {
    let id = case.start(&case.shell("exit 5")).await?;
    case.ended(&id).await?;
    let result = within(
        "the second wait",
        case.docker().wait_container(&id, WaitCondition::NotRunning),
    )
    .await??;
    equal!(result.status_code, 5, "the second wait");
    ensure!(result.error.is_none(), "an error: {:?}", result.error);
    Ok(())
}

async fn a_created_container_counts_as_not_running(case: Case) -> Result<(), Violation> {
    let id = case.create(&case.idle()).await?;
    equal!(case.ended(&id).await?, 0, "the exit code");
    Ok(())
}

async fn a_wait_for_the_next_exit_passes_over_the_last(case: Case) -> Result<(), Violation> {
    let id = case
        .start(&case.shell("[ -e /was ] && exit 2; touch /was; exit 1"))
        .await?;
    equal!(case.ended(&id).await?, 1, "the first exit code");
    let docker = case.docker();
    let next = docker.wait_container(&id, WaitCondition::NextExit);
    // When the wait reaches the engine is not known, so there are ends until it has met one.
    let ends = async {
        loop {
            docker.start_container(&id).await?;
            case.ended(&id).await?;
        }
    };
    let ended = async {
        tokio::select! { result = next => result.map_err(Violation::from), result = ends => result }
    };
    equal!(
        within("the next end", ended).await??.status_code,
        2,
        "the next exit code"
    );
    Ok(())
}

async fn a_wait_for_the_removal_ends_with_it(case: Case) -> Result<(), Violation> {
    let docker = case.docker();
    for _ in 0..5 {
        let id = case.start(&case.shell("exit 6")).await?;
        case.ended(&id).await?;
        let wait = docker.wait_container(&id, WaitCondition::Removed);
        tokio::pin!(wait);
        let early = tokio::time::timeout(Duration::from_millis(200), &mut wait).await;
        ensure!(
            early.is_err(),
            "the wait ended before the removal: {early:?}"
        );
        docker
            .remove_container(&id, RemoveContainer::default())
            .await?;
        match within("the removal", wait).await? {
            Ok(result) => {
                equal!(result.status_code, 6, "the exit code");
                ensure!(result.error.is_none(), "an error: {:?}", result.error);
                return Ok(());
            }
            // The removal overtook the wait.
            Err(error) if error.is_not_found() => {}
            Err(error) => return Err(error.into()),
        }
    }
    Err(Violation::new("no wait was met by the removal"))
}

async fn a_dropped_wait_leaves_the_container_alone(case: Case) -> Result<(), Violation> {
    let id = case.running().await?;
    let docker = case.docker();
    let wait = docker.wait_container(&id, WaitCondition::NotRunning);
    let gave_up = tokio::time::timeout(Duration::from_millis(50), wait)
        .await
        .is_err();
    ensure!(gave_up, "the wait for a running container ended");
    ensure!(
        docker.inspect_container(&id).await?.state.running,
        "the container does not run"
    );
    Ok(())
}

async fn many_wait_for_one_end(case: Case) -> Result<(), Violation> {
    let id = case.running().await?;
    let docker = case.docker();
    let waits = (0..10).map(|_| docker.wait_container(&id, WaitCondition::NotRunning));
    let kill = docker.kill_container(&id, None);
    let (results, killed) = within(
        "the end",
        futures_util::future::join(futures_util::future::join_all(waits), kill),
    )
    .await?;
    killed?;
    for result in results {
        equal!(result?.status_code, 137, "the exit code");
    }
    Ok(())
}
