//! Streams beside each other, slow readers, and clients that go away.

use std::time::Duration;

use berth_docker::api::{AttachOptions, LogsOptions};
use berth_docker::{Framing, Method, Operation, Request, Source};
use futures_util::future::join_all;

use crate::Violation;
use crate::case::{Case, Output, output, read_until, within};
use crate::violation::{ensure, equal};

crate::group! {
    "streams";
    a_slow_reader_loses_nothing,
    calls_are_answered_beside_many_follows,
    dropped_streams_leave_the_engine_well,
    a_blocked_writer_goes_on,
    both_streams_keep_their_own_order,
    a_connection_can_become_a_pipe,
    the_listener_of_a_socket_is_known,
}

fn following() -> LogsOptions {
    LogsOptions {
        follow: true,
        ..LogsOptions::default()
    }
}

async fn a_slow_reader_loses_nothing(case: Case) -> Result<(), Violation> {
    // It lives on: engines up to 20.10 may end a follow that lags behind when the container ends.
    let id = case
        .start(&case.shell("seq 1 200000; exec sleep 600"))
        .await?;
    let mut log = case.docker().logs(&id, &following()).await?;
    let mut read = String::new();
    let mut pauses = 0;
    while !read.ends_with("\n200000\n") {
        let Some(frame) = within("the log", log.next()).await? else {
            break;
        };
        read.push_str(&crate::case::text(frame?.bytes.to_vec())?);
        if pauses < 10 {
            pauses += 1;
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
    let complete = read
        .lines()
        .enumerate()
        .all(|(index, line)| line.parse() == Ok(index + 1));
    equal!(
        (read.lines().count(), complete),
        (200_000, true),
        "the lines, and whether they are those written"
    );
    Ok(())
}

async fn calls_are_answered_beside_many_follows(case: Case) -> Result<(), Violation> {
    let id = case
        .start(&case.shell("echo ready; exec sleep 600"))
        .await?;
    let opened = join_all((0..50).map(|_| async {
        let mut log = case.docker().logs(&id, &following()).await?;
        read_until(&mut log, "ready\n").await?;
        Ok::<_, Violation>(log)
    }));
    let follows = opened.await.into_iter().collect::<Result<Vec<_>, _>>()?;
    ensure!(
        case.docker().metrics().streams_open() >= 50,
        "the streams are not counted"
    );
    for _ in 0..20 {
        let inspect = within("the answer", case.docker().inspect_container(&id)).await??;
        ensure!(inspect.state.running, "it does not run");
    }
    case.docker().kill_container(&id, None).await?;
    for log in follows {
        equal!(
            output(log).await?,
            Output::default(),
            "the rest of a follow"
        );
    }
    Ok(())
}

async fn dropped_streams_leave_the_engine_well(case: Case) -> Result<(), Violation> {
    let docker = case.docker();
    let id = case
        .start(&case.shell("while :; do echo a line of some length; done"))
        .await?;
    for _ in 0..10 {
        let mut log = docker.logs(&id, &following()).await?;
        within("a frame", log.next()).await?.transpose()?;
        let mut attached = docker.attach(&id, &AttachOptions::default()).await?;
        within("a frame", attached.output.next())
            .await?
            .transpose()?;
        let mut stats = docker.stats_stream(&id).await?;
        within("a sample", stats.next()).await?.transpose()?;
        drop(docker.export_container(&id).await?);
    }
    ensure!(
        docker.inspect_container(&id).await?.state.running,
        "it does not run any more"
    );
    docker.kill_container(&id, None).await?;
    equal!(case.ended(&id).await?, 137, "the exit code");
    Ok(())
}

async fn a_blocked_writer_goes_on(case: Case) -> Result<(), Violation> {
    // The command writes far more than fits into any buffer before anybody reads.
    let id = case.running().await?;
    let exec = case
        .docker()
        .create_exec(
            &id,
            &case.command("yes 0123456789abcde | head -n 200000; echo end >&2"),
        )
        .await?;
    let attached = case.docker().start_exec(&exec, false).await?;
    tokio::time::sleep(Duration::from_millis(300)).await;
    let written = output(attached.output).await?;
    equal!(
        (written.stdout.len(), written.stderr.as_str()),
        (3_200_000, "end\n"),
        "the output"
    );
    equal!(case.exec_ended(&exec).await?, 0, "the exit code");
    Ok(())
}

async fn both_streams_keep_their_own_order(case: Case) -> Result<(), Violation> {
    let id = case
        .start(&case.shell("i=0; while [ $i -lt 300 ]; do i=$((i+1)); echo $i; echo $i >&2; done"))
        .await?;
    let mut lines = case.docker().logs(&id, &following()).await?.lines(1024);
    let mut next = [1, 1];
    while let Some(line) = within("a line", lines.next()).await? {
        let line = line?;
        let which = usize::from(line.source == Source::Stderr);
        equal!(
            line.bytes,
            next[which].to_string().as_bytes(),
            "the next line"
        );
        next[which] += 1;
    }
    equal!(next, [301, 301], "the lines");
    Ok(())
}

async fn a_connection_can_become_a_pipe(case: Case) -> Result<(), Violation> {
    // As the typed attach does it, for calls that have no method of their own.
    let mut container = case.shell("read line; echo got $line");
    container.config.open_stdin = true;
    let id = case.start(&container).await?;
    let operation = Operation::new("contract_attach");
    let request = Request::new(operation, Method::Post, format!("/containers/{id}/attach"))
        .query("stream", 1)
        .query("stdin", 1)
        .query("stdout", 1);
    let upgraded = case.docker().send_upgrade(request).await?;
    ensure!(
        upgraded.headers().get("content-type").is_some(),
        "the reply has no type"
    );
    let (frames, mut input) = upgraded.into_parts(Framing::Multiplexed);
    input.write_all(b"it\n").await?;
    equal!(
        output(frames).await?,
        Output::of_stdout("got it\n"),
        "the output"
    );
    Ok(())
}

async fn the_listener_of_a_socket_is_known(case: Case) -> Result<(), Violation> {
    let docker = case.docker();
    ensure!(!docker.endpoint().is_empty(), "the endpoint has no name");
    let listener = docker.listener_process_id().await;
    // Only a unix socket tells; an engine in another PID namespace is not seen.
    ensure!(
        listener.is_none_or(|pid| pid > 0),
        "the process is {listener:?}"
    );
    docker.ping().await?;
    ensure!(
        docker.idle_connections() <= 64,
        "{} connections are kept",
        docker.idle_connections()
    );
    Ok(())
}
