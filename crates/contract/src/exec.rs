//! Commands in running containers.

use berth_docker::api::{Attached, TerminalSize};
use berth_docker::model::ExecConfig;

use crate::Violation;
use crate::case::{Case, Output, output, read_until, strings, until, within};
use crate::violation::{ensure, equal, refused, too_old};

crate::group! {
    "exec";
    a_command_gives_its_output_and_exit_code,
    a_commands_streams_stay_apart,
    only_what_is_attached_comes,
    input_reaches_the_command_and_its_end_too,
    a_large_output_comes_whole,
    a_command_has_environment_directory_and_user,
    a_privileged_command_says_so,
    a_terminal_joins_the_streams,
    a_terminal_of_a_command_has_the_size_it_is_told,
    a_terminal_of_a_command_begins_with_its_size,
    a_detached_command_runs_by_itself,
    inspect_follows_a_command_through_its_life,
    a_command_goes_on_when_its_client_leaves,
    the_detach_keys_end_the_stream,
    a_container_lists_its_commands,
    a_command_that_is_not_there_ends_with_127,
    a_command_starts_only_once,
    a_command_needs_a_running_container,
    a_command_of_nothing_is_refused,
    a_missing_command_is_not_found,
    a_command_ends_with_its_container,
}

/// A command that prints `ready` and then waits for its input's end.
fn waiting(case: &Case) -> ExecConfig {
    ExecConfig {
        attach_stdin: true,
        ..case.command("echo ready; cat; exit 5")
    }
}

async fn a_command_gives_its_output_and_exit_code(case: Case) -> Result<(), Violation> {
    let id = case.running().await?;
    for code in [0, 1, 42] {
        let (exit, output) = case
            .exec(
                &id,
                &case.command(&format!("echo said {code}; exit {code}")),
            )
            .await?;
        equal!(
            (exit, output),
            (code, Output::of_stdout(&format!("said {code}\n"))),
            "exit code and output"
        );
    }
    Ok(())
}

async fn a_commands_streams_stay_apart(case: Case) -> Result<(), Violation> {
    let id = case.running().await?;
    let (_, output) = case
        .exec(&id, &case.command("echo out; echo err >&2; echo out again"))
        .await?;
    equal!(
        output,
        Output {
            stdout: "out\nout again\n".to_owned(),
            stderr: "err\n".to_owned()
        },
        "the output"
    );
    Ok(())
}

async fn only_what_is_attached_comes(case: Case) -> Result<(), Violation> {
    let id = case.running().await?;
    let command = ExecConfig {
        attach_stderr: false,
        ..case.command("echo out; echo err >&2")
    };
    equal!(
        case.exec(&id, &command).await?.1,
        Output::of_stdout("out\n"),
        "with standard output"
    );
    let command = ExecConfig {
        attach_stdout: false,
        ..case.command("echo out; echo err >&2")
    };
    let expected = Output {
        stdout: String::new(),
        stderr: "err\n".to_owned(),
    };
    equal!(
        case.exec(&id, &command).await?.1,
        expected,
        "with standard error"
    );
    Ok(())
}

async fn input_reaches_the_command_and_its_end_too(case: Case) -> Result<(), Violation> {
    let id = case.running().await?;
    let exec = case.docker().create_exec(&id, &waiting(&case)).await?;
    let Attached {
        mut input,
        output: mut frames,
    } = case.docker().start_exec(&exec, false).await?;
    read_until(&mut frames, "ready\n").await?;
    input.write_all(b"one\n").await?;
    read_until(&mut frames, "one\n").await?;
    input.write_all(b"two without an end").await?;
    input.shutdown().await?;
    equal!(
        output(frames).await?,
        Output::of_stdout("two without an end"),
        "the rest"
    );
    equal!(case.exec_ended(&exec).await?, 5, "the exit code");
    Ok(())
}

async fn a_large_output_comes_whole(case: Case) -> Result<(), Violation> {
    let id = case.running().await?;
    let (code, output) = case.exec(&id, &case.command("seq 1 100000")).await?;
    equal!(code, 0, "the exit code");
    equal!(output.stdout.lines().count(), 100_000, "the lines");
    let complete = output
        .stdout
        .lines()
        .enumerate()
        .all(|(index, line)| line.parse() == Ok(index + 1));
    ensure!(complete, "the lines are not those written");
    Ok(())
}

async fn a_command_has_environment_directory_and_user(case: Case) -> Result<(), Violation> {
    let mut container = case.idle();
    container.config.env = strings(["OF_CONTAINER=1"]);
    let id = case.start(&container).await?;
    let command = ExecConfig {
        env: strings(["OF_COMMAND=2"]),
        working_dir: "/tmp".to_owned(),
        user: "nobody".to_owned(),
        ..case.command("echo \"$OF_CONTAINER|$OF_COMMAND|$(pwd)|$(id -u)\"")
    };
    equal!(
        case.exec(&id, &command).await?.1,
        Output::of_stdout("1|2|/tmp|65534\n"),
        "what it found"
    );
    Ok(())
}

async fn a_privileged_command_says_so(case: Case) -> Result<(), Violation> {
    let id = case.running().await?;
    let command = ExecConfig {
        privileged: true,
        ..case.command("exit 0")
    };
    let exec = case.docker().create_exec(&id, &command).await?;
    let process = case.docker().inspect_exec(&exec).await?.process_config;
    equal!(process.privileged, Some(true), "whether it is privileged");
    equal!(
        (process.entrypoint.as_str(), &process.arguments),
        ("/bin/sh", &strings(["-c", "exit 0"])),
        "the command"
    );
    Ok(())
}

async fn a_terminal_joins_the_streams(case: Case) -> Result<(), Violation> {
    let id = case.running().await?;
    let command = ExecConfig {
        tty: true,
        ..case.command("echo out; echo err >&2")
    };
    // A terminal ends lines with a carriage return, and everything is standard output.
    equal!(
        case.exec(&id, &command).await?.1,
        Output::of_stdout("out\r\nerr\r\n"),
        "the output"
    );
    Ok(())
}

async fn a_terminal_of_a_command_has_the_size_it_is_told(case: Case) -> Result<(), Violation> {
    let id = case.running().await?;
    let command = ExecConfig {
        attach_stdin: true,
        tty: true,
        ..case.command("echo ready; read line; stty size")
    };
    let exec = case.docker().create_exec(&id, &command).await?;
    let mut attached = case.docker().start_exec(&exec, true).await?;
    read_until(&mut attached.output, "ready").await?;
    case.docker()
        .resize_exec_tty(
            &exec,
            TerminalSize {
                height: 33,
                width: 111,
            },
        )
        .await?;
    attached.input.write_all(b"go\n").await?;
    read_until(&mut attached.output, "33 111").await?;
    Ok(())
}

async fn a_terminal_of_a_command_begins_with_its_size(case: Case) -> Result<(), Violation> {
    let id = case.running().await?;
    let command = ExecConfig {
        tty: true,
        console_size: vec![22, 66],
        ..case.command("stty size")
    };
    if !case.speaks(42).await? {
        return too_old(
            case.docker().create_exec(&id, &command).await,
            "ExecConfig.ConsoleSize",
        );
    }
    equal!(
        case.exec(&id, &command).await?.1,
        Output::of_stdout("22 66\r\n"),
        "the size"
    );
    Ok(())
}

async fn a_detached_command_runs_by_itself(case: Case) -> Result<(), Violation> {
    let id = case.running().await?;
    let command = ExecConfig {
        attach_stdout: false,
        attach_stderr: false,
        ..case.command("echo done >/tmp/mark; exit 3")
    };
    let exec = case.docker().create_exec(&id, &command).await?;
    case.docker().start_exec_detached(&exec).await?;
    equal!(case.exec_ended(&exec).await?, 3, "the exit code");
    equal!(
        case.exec(&id, &case.command("cat /tmp/mark")).await?.1,
        Output::of_stdout("done\n"),
        "what it did"
    );
    Ok(())
}

async fn inspect_follows_a_command_through_its_life(case: Case) -> Result<(), Violation> {
    let id = case.running().await?;
    let docker = case.docker();
    let exec = docker.create_exec(&id, &waiting(&case)).await?;
    let before = docker.inspect_exec(&exec).await?;
    equal!((&before.id, &before.container_id), (&exec, &id), "the ids");
    equal!(
        (before.running, before.exit_code, before.pid),
        (false, None, 0),
        "the state before the start"
    );
    ensure!(
        before.open_stdin && before.open_stdout && before.open_stderr,
        "its streams are not open: {before:?}"
    );
    let Attached {
        mut input,
        output: mut frames,
    } = docker.start_exec(&exec, false).await?;
    read_until(&mut frames, "ready\n").await?;
    // Its output may come before the engine has noted the process.
    let during = until("the command has a process", || async {
        Ok(Some(docker.inspect_exec(&exec).await?).filter(|state| state.pid > 0))
    })
    .await?;
    equal!(
        (during.running, during.exit_code),
        (true, None),
        "the state while it runs"
    );
    input.shutdown().await?;
    output(frames).await?;
    equal!(case.exec_ended(&exec).await?, 5, "the exit code");
    Ok(())
}

async fn a_command_goes_on_when_its_client_leaves(case: Case) -> Result<(), Violation> {
    let id = case.running().await?;
    let command = case
        .command("echo ready; while [ ! -e /tmp/go ]; do sleep 0.05; done; echo went >/tmp/went");
    let exec = case.docker().create_exec(&id, &command).await?;
    let mut attached = case.docker().start_exec(&exec, false).await?;
    read_until(&mut attached.output, "ready\n").await?;
    drop(attached);
    case.exec(&id, &case.command("touch /tmp/go")).await?;
    equal!(case.exec_ended(&exec).await?, 0, "the exit code");
    equal!(
        case.exec(&id, &case.command("cat /tmp/went")).await?.1,
        Output::of_stdout("went\n"),
        "what it did"
    );
    Ok(())
}

async fn the_detach_keys_end_the_stream(case: Case) -> Result<(), Violation> {
    let id = case.running().await?;
    let command = ExecConfig {
        attach_stdin: true,
        tty: true,
        detach_keys: "ctrl-x,q".to_owned(),
        ..case.command("echo ready; sleep 600")
    };
    let exec = case.docker().create_exec(&id, &command).await?;
    let Attached {
        mut input,
        output: mut frames,
    } = case.docker().start_exec(&exec, true).await?;
    read_until(&mut frames, "ready").await?;
    input.write_all(&[0x18, b'q']).await?;
    // The command goes on, though the engine calls it ended from now on.
    let said = output(frames).await?.stdout;
    ensure!(
        said.contains("read escape sequence"),
        "the engine said {said:?}"
    );
    ensure!(
        case.docker().inspect_container(&id).await?.state.running,
        "the container ended"
    );
    Ok(())
}

async fn a_container_lists_its_commands(case: Case) -> Result<(), Violation> {
    let id = case.running().await?;
    let exec = case.docker().create_exec(&id, &waiting(&case)).await?;
    let attached = case.docker().start_exec(&exec, false).await?;
    equal!(
        case.docker().inspect_container(&id).await?.exec_ids,
        [exec.as_str()],
        "the commands"
    );
    drop(attached);
    Ok(())
}

async fn a_command_that_is_not_there_ends_with_127(case: Case) -> Result<(), Violation> {
    let id = case.running().await?;
    let command = ExecConfig {
        cmd: strings(["/no/such/command"]),
        ..case.command("")
    };
    let (code, output) = case.exec(&id, &command).await?;
    // Engines before 29 (API 1.52) take it for a file that cannot be run.
    let expected = if case.engine_is(52).await? { 127 } else { 126 };
    equal!(code, expected, "the exit code");
    ensure!(
        output.stdout.contains("/no/such/command"),
        "the reason is {output:?}"
    );
    Ok(())
}

async fn a_command_starts_only_once(case: Case) -> Result<(), Violation> {
    let id = case.running().await?;
    let exec = case.docker().create_exec(&id, &waiting(&case)).await?;
    let mut attached = case.docker().start_exec(&exec, false).await?;
    read_until(&mut attached.output, "ready\n").await?;
    refused(case.docker().start_exec_detached(&exec).await, &[409])?;
    // Attached, the reply has begun by the time the engine finds out.
    let said = output(case.docker().start_exec(&exec, false).await?.output)
        .await?
        .stdout;
    ensure!(said.contains("already running"), "the engine said {said:?}");
    attached.input.shutdown().await?;
    equal!(case.exec_ended(&exec).await?, 5, "the exit code");
    refused(case.docker().start_exec_detached(&exec).await, &[409])?;
    Ok(())
}

async fn a_command_needs_a_running_container(case: Case) -> Result<(), Violation> {
    let id = case.create(&case.idle()).await?;
    refused(
        case.docker().create_exec(&id, &case.command("true")).await,
        &[409],
    )?;
    let id = case.running().await?;
    let exec = case
        .docker()
        .create_exec(&id, &case.command("true"))
        .await?;
    case.docker().kill_container(&id, None).await?;
    refused(case.docker().start_exec(&exec, false).await, &[404, 409])?;
    Ok(())
}

async fn a_command_of_nothing_is_refused(case: Case) -> Result<(), Violation> {
    let id = case.running().await?;
    refused(
        case.docker().create_exec(&id, &ExecConfig::default()).await,
        &[400],
    )?;
    Ok(())
}

async fn a_missing_command_is_not_found(case: Case) -> Result<(), Violation> {
    let missing = "0".repeat(64);
    let docker = case.docker();
    refused(docker.inspect_exec(&missing).await, &[404])?;
    refused(docker.start_exec(&missing, false).await, &[404])?;
    refused(docker.start_exec_detached(&missing).await, &[404])?;
    refused(
        docker
            .resize_exec_tty(
                &missing,
                TerminalSize {
                    height: 1,
                    width: 1,
                },
            )
            .await,
        &[404],
    )?;
    Ok(())
}

async fn a_command_ends_with_its_container(case: Case) -> Result<(), Violation> {
    let id = case.running().await?;
    let exec = case
        .docker()
        .create_exec(&id, &case.command("echo ready; sleep 600"))
        .await?;
    let Attached {
        input,
        output: mut frames,
    } = case.docker().start_exec(&exec, false).await?;
    read_until(&mut frames, "ready\n").await?;
    case.docker().kill_container(&id, None).await?;
    within("the end of its output", output(frames)).await??;
    drop(input);
    until("it does not run", || async {
        match case.docker().inspect_exec(&exec).await {
            Err(error) if error.is_not_found() => Ok(Some(())),
            result => Ok((!result?.running).then_some(())),
        }
    })
    .await
}
