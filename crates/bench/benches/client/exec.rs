//! A command in a container of a real engine: create, start, output to its end, exit code.

use berth_bench::engine::{Engine, Sleeper};
use berth_bench::measure::{Contender, Row, in_turns};
use berth_docker::Docker;
use berth_docker::model::ExecConfig;
use bollard::exec::{StartExecOptions, StartExecResults};
use futures_util::StreamExt;
use tokio::runtime::Runtime;

const ROUNDS: usize = 61;
const CALLS: usize = 3;

pub(crate) fn run(runtime: &Runtime) -> Result<Vec<Row>, String> {
    let engine = match Engine::find(runtime) {
        Ok(engine) => engine,
        Err(reason) => {
            eprintln!("exec is not measured: {reason}");
            return Ok(Vec::new());
        }
    };
    let bollard = crate::bollard_of(&engine, runtime)?;
    let sleeper = Sleeper::start(&engine, runtime)?;
    let container = sleeper.id.as_str();
    let command = ["echo", "hello"].map(str::to_owned);
    let ours = ExecConfig {
        attach_stdout: true,
        attach_stderr: true,
        cmd: command.to_vec(),
        ..ExecConfig::default()
    };
    let theirs = bollard::models::ExecConfig {
        attach_stdout: Some(true),
        attach_stderr: Some(true),
        cmd: Some(command.to_vec()),
        ..bollard::models::ExecConfig::default()
    };
    let figures = in_turns(
        ROUNDS,
        vec![
            Contender::timed("berth", runtime, CALLS, async || {
                let outcome = berth(&engine.docker, container, &ours).await;
                assert_eq!(outcome.expect("the engine runs it"), (6, 0));
            }),
            Contender::timed("bollard", runtime, CALLS, async || {
                let outcome = peer(&bollard, container, &theirs).await;
                assert_eq!(outcome.expect("the engine runs it"), (6, 0));
            }),
        ],
    );
    let what = format!("exec round trip (engine {})", engine.version);
    Ok(vec![figures.time_row(&what, "berth", "bollard", Some(1.0))])
}

/// Bytes of output and the exit code.
async fn berth(
    docker: &Docker,
    container: &str,
    config: &ExecConfig,
) -> Result<(usize, i64), berth_docker::Error> {
    let exec = docker.create_exec(container, config).await?;
    let mut attached = docker.start_exec(&exec, false).await?;
    let mut bytes = 0;
    while let Some(frame) = attached.output.next().await {
        bytes += frame?.bytes.len();
    }
    loop {
        // The output may end a moment before the engine knows the exit code.
        if let Some(code) = docker.inspect_exec(&exec).await?.exit_code {
            return Ok((bytes, code));
        }
    }
}

/// The same with bollard.
async fn peer(
    docker: &bollard::Docker,
    container: &str,
    config: &bollard::models::ExecConfig,
) -> Result<(usize, i64), bollard::errors::Error> {
    let exec = docker.create_exec(container, config.clone()).await?.id;
    let mut bytes = 0;
    if let StartExecResults::Attached { mut output, .. } =
        docker.start_exec(&exec, None::<StartExecOptions>).await?
    {
        while let Some(frame) = output.next().await {
            bytes += frame?.into_bytes().len();
        }
    }
    loop {
        if let Some(code) = docker.inspect_exec(&exec).await?.exit_code {
            return Ok((bytes, code));
        }
    }
}
