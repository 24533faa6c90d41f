//! Attaching to a container's main process.

use berth_docker::api::{AttachOptions, Attached, StopContainer};
use berth_docker::model::CreateContainer;

use crate::Violation;
use crate::case::{Case, Output, output, read_until};
use crate::violation::{ensure, equal, refused};

crate::group! {
    "attach";
    attaching_before_the_start_misses_nothing,
    stdin_half_close_ends_cat,
    input_stays_open_for_the_next_client,
    input_that_stays_open_ends_the_session_of_a_client_that_has_no_more,
    only_the_streams_asked_for_come,
    the_log_comes_first_when_asked_for,
    the_log_alone_ends_after_it,
    a_terminal_is_one_stream,
    the_detach_keys_leave_the_container_running,
    several_clients_see_the_same,
    a_client_that_leaves_changes_nothing,
    a_frozen_container_cannot_be_attached_to,
}

fn with_input(mut container: CreateContainer) -> CreateContainer {
    container.config.attach_stdin = true;
    container.config.open_stdin = true;
    container
}

fn input_too() -> AttachOptions {
    AttachOptions {
        stdin: true,
        ..AttachOptions::default()
    }
}

async fn attaching_before_the_start_misses_nothing(case: Case) -> Result<(), Violation> {
    let id = case
        .create(&case.shell("echo first; echo second >&2; exit 8"))
        .await?;
    let attached = case.docker().attach(&id, &AttachOptions::default()).await?;
    case.docker().start_container(&id).await?;
    let expected = Output {
        stdout: "first\n".to_owned(),
        stderr: "second\n".to_owned(),
    };
    equal!(output(attached.output).await?, expected, "the output");
    equal!(case.ended(&id).await?, 8, "the exit code");
    Ok(())
}

async fn stdin_half_close_ends_cat(case: Case) -> Result<(), Violation> {
    let mut container = with_input(case.shell("cat; echo after the end"));
    container.config.stdin_once = true;
    let id = case.create(&container).await?;
    let Attached {
        mut input,
        output: mut frames,
    } = case.docker().attach(&id, &input_too()).await?;
    case.docker().start_container(&id).await?;
    input.write_all(b"a line\n").await?;
    read_until(&mut frames, "a line\n").await?;
    input.write_all(b"and a rest").await?;
    input.shutdown().await?;
    equal!(
        output(frames).await?,
        Output::of_stdout("and a restafter the end\n"),
        "what comes after the end"
    );
    equal!(case.ended(&id).await?, 0, "the exit code");
    Ok(())
}

async fn input_stays_open_for_the_next_client(case: Case) -> Result<(), Violation> {
    let id = case
        .start(&with_input(
            case.shell("while read line; do echo got $line; done"),
        ))
        .await?;
    for word in ["one", "two"] {
        let Attached {
            mut input,
            output: mut frames,
        } = case.docker().attach(&id, &input_too()).await?;
        input.write_all(format!("{word}\n").as_bytes()).await?;
        read_until(&mut frames, &format!("got {word}\n")).await?;
    }
    ensure!(
        case.docker().inspect_container(&id).await?.state.running,
        "it ended with its first client"
    );
    Ok(())
}

/// The engine takes the end of such an input for the end of the client.
async fn input_that_stays_open_ends_the_session_of_a_client_that_has_no_more(
    case: Case,
) -> Result<(), Violation> {
    let id = case
        .start(&with_input(case.shell("cat; echo after the end")))
        .await?;
    let Attached {
        mut input,
        output: frames,
    } = case.docker().attach(&id, &input_too()).await?;
    input.shutdown().await?;
    equal!(output(frames).await?, Output::default(), "the output");
    ensure!(
        case.docker().inspect_container(&id).await?.state.running,
        "it ended with its client"
    );
    Ok(())
}

async fn only_the_streams_asked_for_come(case: Case) -> Result<(), Violation> {
    let id = case.create(&case.shell("echo out; echo err >&2")).await?;
    let stdout = AttachOptions {
        stderr: false,
        ..AttachOptions::default()
    };
    let stderr = AttachOptions {
        stdout: false,
        ..AttachOptions::default()
    };
    let stdout = case.docker().attach(&id, &stdout).await?;
    let stderr = case.docker().attach(&id, &stderr).await?;
    case.docker().start_container(&id).await?;
    equal!(
        output(stdout.output).await?,
        Output::of_stdout("out\n"),
        "standard output"
    );
    let expected = Output {
        stdout: String::new(),
        stderr: "err\n".to_owned(),
    };
    equal!(output(stderr.output).await?, expected, "standard error");
    Ok(())
}

async fn the_log_comes_first_when_asked_for(case: Case) -> Result<(), Violation> {
    let id = case
        .start(&with_input(
            case.shell("echo before; read line; echo after"),
        ))
        .await?;
    case.wait_for_line(&id, "before").await?;
    let options = AttachOptions {
        logs: true,
        ..input_too()
    };
    let Attached {
        mut input,
        output: mut frames,
    } = case.docker().attach(&id, &options).await?;
    equal!(
        read_until(&mut frames, "before\n").await?,
        "before\n",
        "the log"
    );
    input.write_all(b"go\n").await?;
    equal!(
        output(frames).await?,
        Output::of_stdout("after\n"),
        "what comes after the log"
    );
    Ok(())
}

async fn the_log_alone_ends_after_it(case: Case) -> Result<(), Violation> {
    let id = case
        .start(&case.shell("echo before; exec sleep 600"))
        .await?;
    case.wait_for_line(&id, "before").await?;
    let options = AttachOptions {
        logs: true,
        stream: false,
        ..AttachOptions::default()
    };
    let attached = case.docker().attach(&id, &options).await?;
    equal!(
        output(attached.output).await?,
        Output::of_stdout("before\n"),
        "the log"
    );
    Ok(())
}

async fn a_terminal_is_one_stream(case: Case) -> Result<(), Violation> {
    let mut container = with_input(case.shell("read line; echo out $line; echo err >&2"));
    container.config.tty = true;
    let id = case.create(&container).await?;
    // Whether it is a terminal is known from the reply or asked for.
    let Attached {
        mut input,
        output: frames,
    } = case.docker().attach(&id, &input_too()).await?;
    case.docker().start_container(&id).await?;
    input.write_all(b"typed\n").await?;
    // A terminal shows what is typed.
    equal!(
        output(frames).await?,
        Output::of_stdout("typed\r\nout typed\r\nerr\r\n"),
        "the output"
    );
    Ok(())
}

async fn the_detach_keys_leave_the_container_running(case: Case) -> Result<(), Violation> {
    let mut container = with_input(case.shell("echo ready; exec sleep 600"));
    container.config.tty = true;
    let id = case.create(&container).await?;
    let options = AttachOptions {
        detach_keys: Some("ctrl-x,q".to_owned()),
        tty: Some(true),
        ..input_too()
    };
    let Attached {
        mut input,
        output: mut frames,
    } = case.docker().attach(&id, &options).await?;
    case.docker().start_container(&id).await?;
    read_until(&mut frames, "ready").await?;
    input.write_all(&[0x18, b'q']).await?;
    output(frames).await?;
    ensure!(
        case.docker().inspect_container(&id).await?.state.running,
        "the container ended"
    );
    Ok(())
}

async fn several_clients_see_the_same(case: Case) -> Result<(), Violation> {
    let id = case.create(&case.shell("seq 1 1000")).await?;
    let mut clients = Vec::new();
    for _ in 0..3 {
        clients.push(case.docker().attach(&id, &AttachOptions::default()).await?);
    }
    case.docker().start_container(&id).await?;
    let expected: String = (1..=1000).map(|number| format!("{number}\n")).collect();
    for written in
        futures_util::future::join_all(clients.into_iter().map(|client| output(client.output)))
            .await
    {
        equal!(written?, Output::of_stdout(&expected), "what a client saw");
    }
    Ok(())
}

async fn a_client_that_leaves_changes_nothing(case: Case) -> Result<(), Violation> {
    let id = case
        .start(&case.shell("while [ ! -e /tmp/go ]; do echo tick; sleep 0.02; done; exit 3"))
        .await?;
    let mut attached = case.docker().attach(&id, &AttachOptions::default()).await?;
    read_until(&mut attached.output, "tick\n").await?;
    drop(attached);
    let other = case.docker().attach(&id, &AttachOptions::default()).await?;
    case.exec(&id, &case.command("touch /tmp/go")).await?;
    output(other.output).await?;
    equal!(case.ended(&id).await?, 3, "the exit code");
    Ok(())
}

async fn a_frozen_container_cannot_be_attached_to(case: Case) -> Result<(), Violation> {
    let id = case.running().await?;
    case.docker().pause_container(&id).await?;
    refused(
        case.docker().attach(&id, &AttachOptions::default()).await,
        &[409],
    )?;
    case.docker().unpause_container(&id).await?;
    case.docker()
        .stop_container(
            &id,
            &StopContainer {
                seconds: Some(0),
                signal: None,
            },
        )
        .await?;
    Ok(())
}
