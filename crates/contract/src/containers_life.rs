//! A container's life: start, stop, kill, restart, pause, and what the engine does by itself.

use std::time::{Duration, Instant};

use berth_docker::api::{RestartContainer, Started, StopContainer, Stopped};
use berth_docker::model::{
    ContainerStatus, HealthConfig, HealthStatus, KeySet, PortBinding, RestartPolicy,
    RestartPolicyName,
};

use crate::Violation;
use crate::case::{Case, strings, until};
use crate::violation::{ensure, equal, refused, too_old};

crate::group! {
    "life";
    a_started_container_runs,
    starting_a_running_container_says_already,
    an_ended_container_can_be_started_again,
    a_command_that_is_not_there_fails_the_start,
    a_host_port_in_use_fails_the_start,
    stopping_sends_term_and_waits,
    stopping_an_ended_container_says_already,
    a_stop_kills_after_the_grace,
    a_stop_without_a_grace_takes_the_containers,
    a_stop_can_send_another_signal,
    the_stop_signal_of_the_container_is_sent,
    a_kill_ends_a_container_that_ignores_term,
    a_kill_sends_the_signal_it_names,
    an_unknown_signal_is_refused,
    killing_what_does_not_run_is_a_conflict,
    a_restart_runs_it_anew,
    a_restart_can_send_another_signal,
    a_paused_container_is_frozen,
    pausing_twice_is_a_conflict,
    unpausing_what_is_not_paused_is_refused,
    a_failed_container_is_restarted_as_often_as_allowed,
    an_auto_removed_container_goes_with_its_end,
    a_health_check_makes_it_healthy,
    a_failing_health_check_makes_it_unhealthy,
}

/// Notes each signal in the log and ends with a code of its own.
const TRAPS: &str = "trap 'echo term; exit 15' TERM; trap 'echo usr1; exit 10' USR1; trap 'echo hup' HUP; \
                     echo ready; while :; do sleep 0.05; done";

async fn trapping(case: &Case) -> Result<String, Violation> {
    let id = case.start(&case.shell(TRAPS)).await?;
    case.wait_for_line(&id, "ready").await?;
    Ok(id)
}

/// A container that TERM does not end.
async fn stubborn(case: &Case, stop_timeout: Option<i64>) -> Result<String, Violation> {
    let mut container = case.shell("trap '' TERM; echo ready; while :; do sleep 0.05; done");
    container.config.stop_timeout = stop_timeout;
    let id = case.start(&container).await?;
    case.wait_for_line(&id, "ready").await?;
    Ok(id)
}

fn stop(seconds: i64) -> StopContainer {
    StopContainer {
        seconds: Some(seconds),
        signal: None,
    }
}

async fn a_started_container_runs(case: Case) -> Result<(), Violation> {
    let id = case.create(&case.idle()).await?;
    equal!(
        case.docker().start_container(&id).await?,
        Started::Now,
        "the start"
    );
    let state = case.docker().inspect_container(&id).await?.state;
    equal!(state.status, ContainerStatus::Running, "the status");
    ensure!(
        state.running && state.pid > 0 && state.started_at.is_some(),
        "the state is {state:?}"
    );
    equal!(state.finished_at, None, "when it ended");
    Ok(())
}

async fn starting_a_running_container_says_already(case: Case) -> Result<(), Violation> {
    let id = case.running().await?;
    let before = case.docker().inspect_container(&id).await?.state;
    equal!(
        case.docker().start_container(&id).await?,
        Started::Already,
        "the second start"
    );
    let after = case.docker().inspect_container(&id).await?.state;
    equal!(
        (after.pid, after.started_at),
        (before.pid, before.started_at),
        "its process"
    );
    Ok(())
}

async fn an_ended_container_can_be_started_again(case: Case) -> Result<(), Violation> {
    let id = case
        .start(&case.shell("echo run >>/tmp/runs; cat /tmp/runs; exit 9"))
        .await?;
    equal!(case.ended(&id).await?, 9, "the exit code");
    let first = case.docker().inspect_container(&id).await?.state;
    equal!(first.status, ContainerStatus::Exited, "the status");
    equal!(
        (first.running, first.pid, first.exit_code),
        (false, 0, 9),
        "the state"
    );
    // Not that the end comes after the start: engines note the time of a start when the process runs already.
    ensure!(
        first.started_at.is_some() && first.finished_at.is_some(),
        "a time is missing: {first:?}"
    );
    equal!(
        case.docker().start_container(&id).await?,
        Started::Now,
        "the second start"
    );
    case.ended(&id).await?;
    let second = case.docker().inspect_container(&id).await?.state;
    ensure!(
        second.started_at > first.started_at && second.finished_at > first.finished_at,
        "the times stay: {second:?}"
    );
    // Its files and its log are kept.
    equal!(
        case.log(&id).await?.stdout,
        "run\nrun\nrun\n",
        "the log of both runs"
    );
    Ok(())
}

async fn a_command_that_is_not_there_fails_the_start(case: Case) -> Result<(), Violation> {
    let mut container = case.idle();
    container.config.cmd = strings(["/no/such/command"]);
    let id = case.create(&container).await?;
    let error = refused(case.docker().start_container(&id).await, &[400, 404])?;
    ensure!(
        error.message().contains("/no/such/command"),
        "the command is not named: {error}"
    );
    let state = case.docker().inspect_container(&id).await?.state;
    equal!(state.status, ContainerStatus::Created, "the status");
    equal!((state.running, state.exit_code), (false, 127), "the state");
    ensure!(
        state.error.contains("/no/such/command"),
        "the reason is {:?}",
        state.error
    );
    Ok(())
}

async fn a_host_port_in_use_fails_the_start(case: Case) -> Result<(), Violation> {
    let mut holder = case.idle();
    holder.host_config.network_mode = "bridge".to_owned();
    holder.config.exposed_ports = KeySet::from(["80/tcp"]);
    let free = PortBinding {
        host_ip: "127.0.0.1".to_owned(),
        host_port: String::new(),
    };
    holder.host_config.port_bindings = [("80/tcp".to_owned(), vec![free])].into();
    let id = case.start(&holder).await?;
    let ports = case
        .docker()
        .inspect_container(&id)
        .await?
        .network_settings
        .ports;
    let taken = crate::case::only(ports.get("80/tcp").cloned().unwrap_or_default(), "binding")?;
    ensure!(
        taken.host_port.parse::<u16>().is_ok_and(|port| port > 0),
        "the port is {taken:?}"
    );

    let mut late = holder.clone();
    late.name = Some(case.name());
    late.host_config.port_bindings = [("80/tcp".to_owned(), vec![taken.clone()])].into();
    let id = case.create(&late).await?;
    let error = refused(case.docker().start_container(&id).await, &[500])?;
    ensure!(
        error.message().contains(&taken.host_port),
        "the port {} is not named: {error}",
        taken.host_port
    );
    let state = case.docker().inspect_container(&id).await?.state;
    equal!(state.status, ContainerStatus::Created, "the status");
    ensure!(!state.error.is_empty(), "the reason is not noted");
    Ok(())
}

async fn stopping_sends_term_and_waits(case: Case) -> Result<(), Violation> {
    let id = trapping(&case).await?;
    equal!(
        case.docker().stop_container(&id, &stop(30)).await?,
        Stopped::Now,
        "the stop"
    );
    let state = case.docker().inspect_container(&id).await?.state;
    equal!((state.running, state.exit_code), (false, 15), "the state");
    equal!(case.log(&id).await?.stdout, "ready\nterm\n", "the log");
    Ok(())
}

async fn stopping_an_ended_container_says_already(case: Case) -> Result<(), Violation> {
    let id = case.start(&case.shell("exit 0")).await?;
    case.ended(&id).await?;
    equal!(
        case.docker().stop_container(&id, &stop(1)).await?,
        Stopped::Already,
        "the stop of an ended one"
    );
    let id = case.create(&case.idle()).await?;
    equal!(
        case.docker()
            .stop_container(&id, &StopContainer::default())
            .await?,
        Stopped::Already,
        "the stop of a created one"
    );
    Ok(())
}

async fn a_stop_kills_after_the_grace(case: Case) -> Result<(), Violation> {
    let id = stubborn(&case, None).await?;
    let since = Instant::now();
    equal!(
        case.docker().stop_container(&id, &stop(1)).await?,
        Stopped::Now,
        "the stop"
    );
    ensure!(
        since.elapsed() >= Duration::from_secs(1),
        "it took only {:?}",
        since.elapsed()
    );
    let state = case.docker().inspect_container(&id).await?.state;
    equal!(
        (state.running, state.exit_code, state.oom_killed),
        (false, 137, false),
        "the state"
    );
    Ok(())
}

async fn a_stop_without_a_grace_takes_the_containers(case: Case) -> Result<(), Violation> {
    let id = stubborn(&case, Some(1)).await?;
    let since = Instant::now();
    equal!(
        case.docker()
            .stop_container(&id, &StopContainer::default())
            .await?,
        Stopped::Now,
        "the stop"
    );
    let took = since.elapsed();
    ensure!(took >= Duration::from_secs(1), "it took only {took:?}");
    ensure!(
        took < Duration::from_secs(9),
        "it took {took:?}, as if its own grace did not count"
    );
    equal!(
        case.docker().inspect_container(&id).await?.state.exit_code,
        137,
        "the exit code"
    );
    Ok(())
}

async fn a_stop_can_send_another_signal(case: Case) -> Result<(), Violation> {
    let id = trapping(&case).await?;
    let options = StopContainer {
        seconds: Some(30),
        signal: Some("SIGUSR1".to_owned()),
    };
    if !case.speaks(42).await? {
        return too_old(
            case.docker().stop_container(&id, &options).await,
            "a stop signal",
        );
    }
    case.docker().stop_container(&id, &options).await?;
    equal!(
        case.docker().inspect_container(&id).await?.state.exit_code,
        10,
        "the exit code"
    );
    Ok(())
}

async fn the_stop_signal_of_the_container_is_sent(case: Case) -> Result<(), Violation> {
    let mut container = case.shell(TRAPS);
    container.config.stop_signal = "SIGUSR1".to_owned();
    let id = case.start(&container).await?;
    case.wait_for_line(&id, "ready").await?;
    case.docker().stop_container(&id, &stop(30)).await?;
    equal!(
        case.docker().inspect_container(&id).await?.state.exit_code,
        10,
        "the exit code"
    );
    Ok(())
}

async fn a_kill_ends_a_container_that_ignores_term(case: Case) -> Result<(), Violation> {
    let id = stubborn(&case, None).await?;
    case.docker().kill_container(&id, None).await?;
    // The engine answers after the end.
    let state = case.docker().inspect_container(&id).await?.state;
    equal!((state.running, state.exit_code), (false, 137), "the state");
    Ok(())
}

async fn a_kill_sends_the_signal_it_names(case: Case) -> Result<(), Violation> {
    let id = trapping(&case).await?;
    for name in ["SIGHUP", "HUP", "1"] {
        case.docker().kill_container(&id, Some(name)).await?;
    }
    case.wait_for_line(&id, "hup").await?;
    ensure!(
        case.docker().inspect_container(&id).await?.state.running,
        "a signal it survives ended it"
    );
    case.docker().kill_container(&id, Some("USR1")).await?;
    equal!(case.ended(&id).await?, 10, "the exit code");
    Ok(())
}

async fn an_unknown_signal_is_refused(case: Case) -> Result<(), Violation> {
    let id = case.running().await?;
    refused(
        case.docker().kill_container(&id, Some("SIGNONSENSE")).await,
        &[400],
    )?;
    ensure!(
        case.docker().inspect_container(&id).await?.state.running,
        "it ended"
    );
    Ok(())
}

async fn killing_what_does_not_run_is_a_conflict(case: Case) -> Result<(), Violation> {
    let id = case.create(&case.idle()).await?;
    refused(case.docker().kill_container(&id, None).await, &[409])?;
    let id = case.start(&case.shell("exit 0")).await?;
    case.ended(&id).await?;
    refused(
        case.docker().kill_container(&id, Some("TERM")).await,
        &[409],
    )?;
    Ok(())
}

async fn a_restart_runs_it_anew(case: Case) -> Result<(), Violation> {
    let id = trapping(&case).await?;
    let before = case.docker().inspect_container(&id).await?;
    let options = RestartContainer {
        seconds: Some(30),
        signal: None,
    };
    case.docker().restart_container(&id, &options).await?;
    let after = case.docker().inspect_container(&id).await?;
    ensure!(
        after.state.running && after.state.pid != before.state.pid,
        "the state is {:?}",
        after.state
    );
    ensure!(
        after.state.started_at > before.state.started_at,
        "it started at {:?}",
        after.state.started_at
    );
    equal!(after.restart_count, 0, "the restarts by its policy");
    // One that does not run is started.
    let id = case.create(&case.idle()).await?;
    case.docker()
        .restart_container(&id, &RestartContainer::default())
        .await?;
    ensure!(
        case.docker().inspect_container(&id).await?.state.running,
        "a created container does not run"
    );
    Ok(())
}

async fn a_restart_can_send_another_signal(case: Case) -> Result<(), Violation> {
    let id = trapping(&case).await?;
    let options = RestartContainer {
        seconds: Some(30),
        signal: Some("USR1".to_owned()),
    };
    if !case.speaks(42).await? {
        return too_old(
            case.docker().restart_container(&id, &options).await,
            "a stop signal",
        );
    }
    case.docker().restart_container(&id, &options).await?;
    let log = case.log(&id).await?.stdout;
    ensure!(log.starts_with("ready\nusr1\n"), "the log is {log:?}");
    Ok(())
}

async fn a_paused_container_is_frozen(case: Case) -> Result<(), Violation> {
    let id = case
        .start(&case.shell("i=0; while :; do i=$((i+1)); echo $i; sleep 0.02; done"))
        .await?;
    case.wait_for_line(&id, "3").await?;
    case.docker().pause_container(&id).await?;
    let state = case.docker().inspect_container(&id).await?.state;
    equal!(state.status, ContainerStatus::Paused, "the status");
    equal!((state.running, state.paused), (true, true), "the state");
    refused(
        case.docker().create_exec(&id, &case.command("true")).await,
        &[409],
    )?;
    // What it wrote before is on its way to the log for a moment.
    tokio::time::sleep(Duration::from_millis(100)).await;
    let before = case.log(&id).await?;
    tokio::time::sleep(Duration::from_millis(200)).await;
    equal!(
        case.log(&id).await?,
        before,
        "the log of a frozen container"
    );
    case.docker().unpause_container(&id).await?;
    let state = case.docker().inspect_container(&id).await?.state;
    equal!((state.running, state.paused), (true, false), "the state");
    until("it goes on", || async {
        Ok((case.log(&id).await? != before).then_some(()))
    })
    .await?;
    Ok(())
}

async fn pausing_twice_is_a_conflict(case: Case) -> Result<(), Violation> {
    let id = case.running().await?;
    case.docker().pause_container(&id).await?;
    refused(case.docker().pause_container(&id).await, &[409])?;
    let id = case.create(&case.idle()).await?;
    refused(case.docker().pause_container(&id).await, &[409])?;
    Ok(())
}

async fn unpausing_what_is_not_paused_is_refused(case: Case) -> Result<(), Violation> {
    let id = case.running().await?;
    refused(case.docker().unpause_container(&id).await, &[409, 500])?;
    ensure!(
        case.docker().inspect_container(&id).await?.state.running,
        "it does not run any more"
    );
    Ok(())
}

async fn a_failed_container_is_restarted_as_often_as_allowed(case: Case) -> Result<(), Violation> {
    let mut container = case.shell("echo run; exit 1");
    let policy = RestartPolicy {
        name: RestartPolicyName::OnFailure,
        maximum_retry_count: 2,
    };
    container.host_config.restart_policy = Some(policy);
    let id = case.start(&container).await?;
    let docker = case.docker();
    let inspect = until("it is given up", || async {
        let inspect = docker.inspect_container(&id).await?;
        let over = inspect.state.status == ContainerStatus::Exited && inspect.restart_count == 2;
        Ok(over.then_some(inspect))
    })
    .await?;
    equal!(inspect.state.exit_code, 1, "the exit code");
    equal!(
        case.log(&id).await?.stdout,
        "run\n".repeat(3),
        "the log of all runs"
    );
    Ok(())
}

async fn an_auto_removed_container_goes_with_its_end(case: Case) -> Result<(), Violation> {
    let mut container = case.idle();
    container.host_config.auto_remove = true;
    let id = case.start(&container).await?;
    case.docker().kill_container(&id, None).await?;
    until("it is gone", || async {
        match case.docker().inspect_container(&id).await {
            Err(error) if error.is_not_found() => Ok(Some(())),
            result => Ok(result.map(|_| None)?),
        }
    })
    .await
}

/// Waits until a container's health check has said this, and gives its last words.
async fn health(case: &Case, id: &str, status: HealthStatus) -> Result<(i64, String), Violation> {
    until("the health check has a verdict", || async {
        let health = case.docker().inspect_container(id).await?.state.health;
        let health = health.ok_or_else(|| Violation::new("it has no health"))?;
        let last = health
            .log
            .last()
            .map(|last| (last.exit_code, last.output.clone()));
        Ok(last.filter(|_| health.status == status))
    })
    .await
}

fn check(script: &str) -> HealthConfig {
    HealthConfig {
        test: strings(["CMD-SHELL", script]),
        interval: 100_000_000,
        timeout: 20_000_000_000,
        retries: 2,
        ..HealthConfig::default()
    }
}

async fn a_health_check_makes_it_healthy(case: Case) -> Result<(), Violation> {
    let mut container = case.idle();
    container.config.healthcheck = Some(check("echo well"));
    let id = case.start(&container).await?;
    equal!(
        health(&case, &id, HealthStatus::Healthy).await?,
        (0, "well\n".to_owned()),
        "the last check"
    );
    Ok(())
}

async fn a_failing_health_check_makes_it_unhealthy(case: Case) -> Result<(), Violation> {
    let mut container = case.idle();
    container.config.healthcheck = Some(check("echo ill; exit 1"));
    let id = case.start(&container).await?;
    equal!(
        health(&case, &id, HealthStatus::Unhealthy).await?,
        (1, "ill\n".to_owned()),
        "the last check"
    );
    let state = case.docker().inspect_container(&id).await?.state;
    ensure!(
        state
            .health
            .is_some_and(|health| health.failing_streak >= 2),
        "too few failures"
    );
    ensure!(state.running, "it does not run any more");
    Ok(())
}
