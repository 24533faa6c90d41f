//! What containers have written.

use berth_docker::api::LogsOptions;
use berth_docker::model::{LogConfig, Timestamp};

use crate::Violation;
use crate::case::{Case, Output, output, read_until, within};
use crate::violation::{ensure, equal, refused};

crate::group! {
    "logs";
    logs_keep_stdout_and_stderr_apart,
    only_the_stream_asked_for_comes,
    asking_for_no_stream_is_refused,
    a_container_that_never_ran_has_an_empty_log,
    tail_gives_the_last_lines,
    timestamps_precede_each_line_and_never_go_back,
    since_includes_its_time,
    until_excludes_what_is_later,
    a_follow_ends_with_the_container,
    a_follow_gives_lines_as_they_are_written,
    a_follow_of_no_tail_gives_only_what_is_new,
    a_follow_of_a_container_that_never_ran_ends_at_once,
    a_log_is_kept_over_a_restart,
    a_last_line_without_an_end_is_kept,
    a_long_line_comes_whole,
    bytes_are_kept_as_they_are,
    a_terminals_log_is_one_stream,
    many_lines_come_in_order,
    a_log_driver_that_keeps_nothing_cannot_be_read,
}

async fn logs_keep_stdout_and_stderr_apart(case: Case) -> Result<(), Violation> {
    let (_, output) = case
        .run(&case.shell("echo out; echo err >&2; echo out again"))
        .await?;
    equal!(
        output,
        Output {
            stdout: "out\nout again\n".to_owned(),
            stderr: "err\n".to_owned()
        },
        "the log"
    );
    Ok(())
}

/// An ended container that wrote these lines.
async fn wrote(case: &Case, script: &str) -> Result<String, Violation> {
    let id = case.start(&case.shell(script)).await?;
    case.ended(&id).await?;
    Ok(id)
}

async fn only_the_stream_asked_for_comes(case: Case) -> Result<(), Violation> {
    let id = wrote(&case, "echo out; echo err >&2").await?;
    let stdout = LogsOptions {
        stderr: false,
        ..LogsOptions::default()
    };
    equal!(
        case.log_with(&id, stdout).await?,
        Output::of_stdout("out\n"),
        "standard output"
    );
    let stderr = LogsOptions {
        stdout: false,
        ..LogsOptions::default()
    };
    let expected = Output {
        stdout: String::new(),
        stderr: "err\n".to_owned(),
    };
    equal!(
        case.log_with(&id, stderr).await?,
        expected,
        "standard error"
    );
    Ok(())
}

async fn asking_for_no_stream_is_refused(case: Case) -> Result<(), Violation> {
    let id = case.create(&case.idle()).await?;
    let options = LogsOptions {
        stdout: false,
        stderr: false,
        ..LogsOptions::default()
    };
    refused(case.docker().logs(&id, &options).await, &[400])?;
    Ok(())
}

async fn a_container_that_never_ran_has_an_empty_log(case: Case) -> Result<(), Violation> {
    let id = case.create(&case.idle()).await?;
    equal!(case.log(&id).await?, Output::default(), "the log");
    Ok(())
}

async fn tail_gives_the_last_lines(case: Case) -> Result<(), Violation> {
    let id = wrote(&case, "seq 1 30").await?;
    for (tail, expected) in [(0, ""), (1, "30\n"), (3, "28\n29\n30\n")] {
        let options = LogsOptions {
            tail: Some(tail),
            ..LogsOptions::default()
        };
        equal!(
            case.log_with(&id, options).await?,
            Output::of_stdout(expected),
            "the last {tail} lines"
        );
    }
    let options = LogsOptions {
        tail: Some(1000),
        ..LogsOptions::default()
    };
    equal!(
        case.log_with(&id, options).await?.stdout.lines().count(),
        30,
        "the lines of a tail that is longer"
    );
    Ok(())
}

/// The times of a log's lines.
async fn times(case: &Case, id: &str) -> Result<Vec<Timestamp>, Violation> {
    let options = LogsOptions {
        timestamps: true,
        ..LogsOptions::default()
    };
    let log = case.log_with(id, options).await?.stdout;
    let time = |line: &str| {
        let (time, _) = line.split_once(' ').unwrap_or_default();
        Timestamp::parse(time)
            .ok_or_else(|| Violation::new(format!("no time precedes the line {line:?}")))
    };
    log.lines().map(time).collect()
}

async fn timestamps_precede_each_line_and_never_go_back(case: Case) -> Result<(), Violation> {
    let before = case.engine_time().await?;
    let id = wrote(
        &case,
        "echo one; sleep 0.02; echo two; echo three; sleep 0.02; echo; echo last",
    )
    .await?;
    let times = times(&case, &id).await?;
    equal!(times.len(), 5, "the lines with a time");
    ensure!(times.is_sorted(), "the times go back: {times:?}");
    ensure!(
        times[0] >= before && times[4] <= case.engine_time().await?,
        "the times are not those of the run: {times:?}"
    );
    Ok(())
}

async fn since_includes_its_time(case: Case) -> Result<(), Violation> {
    let id = wrote(&case, "for i in 1 2 3 4; do echo $i; sleep 0.02; done").await?;
    let times = times(&case, &id).await?;
    let options = LogsOptions {
        since: Some(times[2]),
        ..LogsOptions::default()
    };
    equal!(
        case.log_with(&id, options).await?,
        Output::of_stdout("3\n4\n"),
        "the log since the third line"
    );
    let later = Timestamp::from_unix_nanos(times[2].unix_nanos() + 1);
    let options = LogsOptions {
        since: Some(later),
        ..LogsOptions::default()
    };
    equal!(
        case.log_with(&id, options).await?,
        Output::of_stdout("4\n"),
        "the log since a nanosecond later"
    );
    Ok(())
}

async fn until_excludes_what_is_later(case: Case) -> Result<(), Violation> {
    let id = wrote(&case, "for i in 1 2 3 4; do echo $i; sleep 0.02; done").await?;
    let times = times(&case, &id).await?;
    let between = Timestamp::from_unix_nanos(times[2].unix_nanos() - 1);
    let options = LogsOptions {
        until: Some(between),
        ..LogsOptions::default()
    };
    equal!(
        case.log_with(&id, options).await?,
        Output::of_stdout("1\n2\n"),
        "the log until the third line"
    );
    let options = LogsOptions {
        since: Some(times[1]),
        until: Some(between),
        ..LogsOptions::default()
    };
    equal!(
        case.log_with(&id, options).await?,
        Output::of_stdout("2\n"),
        "the log of the second line's time"
    );
    Ok(())
}

fn following() -> LogsOptions {
    LogsOptions {
        follow: true,
        ..LogsOptions::default()
    }
}

async fn a_follow_ends_with_the_container(case: Case) -> Result<(), Violation> {
    let id = case
        .start(&case.shell("echo first; sleep 0.2; echo last; exit 1"))
        .await?;
    equal!(
        case.log_with(&id, following()).await?,
        Output::of_stdout("first\nlast\n"),
        "the log"
    );
    equal!(case.ended(&id).await?, 1, "the exit code");
    // One that has ended already ends the follow at once.
    equal!(
        case.log_with(&id, following()).await?,
        Output::of_stdout("first\nlast\n"),
        "the log"
    );
    Ok(())
}

async fn a_follow_gives_lines_as_they_are_written(case: Case) -> Result<(), Violation> {
    let id = case
        .start(&case.shell("echo one; while [ ! -e /tmp/go ]; do sleep 0.05; done; echo two"))
        .await?;
    let mut log = case.docker().logs(&id, &following()).await?;
    equal!(
        read_until(&mut log, "one\n").await?,
        "one\n",
        "the first line"
    );
    case.exec(&id, &case.command("touch /tmp/go")).await?;
    equal!(output(log).await?, Output::of_stdout("two\n"), "the rest");
    Ok(())
}

async fn a_follow_of_no_tail_gives_only_what_is_new(case: Case) -> Result<(), Violation> {
    let id = case
        .start(&case.shell("echo old; while [ ! -e /tmp/go ]; do sleep 0.05; done; echo new"))
        .await?;
    case.wait_for_line(&id, "old").await?;
    let log = case
        .docker()
        .logs(
            &id,
            &LogsOptions {
                tail: Some(0),
                ..following()
            },
        )
        .await?;
    case.exec(&id, &case.command("touch /tmp/go")).await?;
    equal!(output(log).await?, Output::of_stdout("new\n"), "the log");
    Ok(())
}

async fn a_follow_of_a_container_that_never_ran_ends_at_once(case: Case) -> Result<(), Violation> {
    // Whoever wants its first words attaches before the start.
    let id = case.create(&case.shell("echo first")).await?;
    equal!(
        case.log_with(&id, following()).await?,
        Output::default(),
        "the log"
    );
    Ok(())
}

async fn a_log_is_kept_over_a_restart(case: Case) -> Result<(), Violation> {
    let id = wrote(&case, "echo run").await?;
    case.docker().start_container(&id).await?;
    case.ended(&id).await?;
    equal!(
        case.log(&id).await?,
        Output::of_stdout("run\nrun\n"),
        "the log of both runs"
    );
    Ok(())
}

async fn a_last_line_without_an_end_is_kept(case: Case) -> Result<(), Violation> {
    let (_, output) = case.run(&case.shell("echo whole; printf rest")).await?;
    equal!(output, Output::of_stdout("whole\nrest"), "the log");
    Ok(())
}

async fn a_long_line_comes_whole(case: Case) -> Result<(), Violation> {
    let long = "0123456789".repeat(4000);
    let mut container = case.shell("printf '%s\\n' \"$0\"; echo short");
    container.config.cmd.push(long.clone());
    let id = case.start(&container).await?;
    case.ended(&id).await?;
    let mut lines = case
        .docker()
        .logs(&id, &LogsOptions::default())
        .await?
        .lines(1 << 20);
    let mut read = Vec::new();
    while let Some(line) = within("a line", lines.next()).await? {
        let line = line?;
        read.push((line.bytes.len(), line.partial));
    }
    equal!(
        read,
        [(long.len(), false), (5, false)],
        "the lengths of the lines"
    );
    equal!(
        case.log(&id).await?,
        Output::of_stdout(&format!("{long}\nshort\n")),
        "the log"
    );
    // A time precedes the line, not each of its parts.
    let options = LogsOptions {
        timestamps: true,
        ..LogsOptions::default()
    };
    let log = case.log_with(&id, options).await?.stdout;
    ensure!(
        log.lines().count() == 2,
        "the log has {} lines",
        log.lines().count()
    );
    Ok(())
}

async fn bytes_are_kept_as_they_are(case: Case) -> Result<(), Violation> {
    let mut container = case.shell("printf '%s\\n' \"$0\"");
    let odd = "tab\t carriage\r escape\u{1b}[1m żółw 🐢 \"quoted\" \\ <&>\u{2028}";
    container.config.cmd.push(odd.to_owned());
    let (_, output) = case.run(&container).await?;
    equal!(output, Output::of_stdout(&format!("{odd}\n")), "the log");
    Ok(())
}

async fn a_terminals_log_is_one_stream(case: Case) -> Result<(), Violation> {
    let mut container = case.shell("echo out; echo err >&2");
    container.config.tty = true;
    let id = case.start(&container).await?;
    case.ended(&id).await?;
    let expected = Output::of_stdout("out\r\nerr\r\n");
    equal!(case.log(&id).await?, expected, "the log");
    let options = LogsOptions {
        tty: Some(true),
        ..LogsOptions::default()
    };
    equal!(
        case.log_with(&id, options).await?,
        expected,
        "the log of a terminal that is known"
    );
    Ok(())
}

async fn many_lines_come_in_order(case: Case) -> Result<(), Violation> {
    let id = case.start(&case.shell("seq 1 20000")).await?;
    let output = case.log_with(&id, following()).await?;
    equal!(output.stdout.lines().count(), 20_000, "the lines");
    let in_order = output
        .stdout
        .lines()
        .enumerate()
        .all(|(index, line)| line.parse() == Ok(index + 1));
    ensure!(in_order, "the lines are not those written");
    Ok(())
}

async fn a_log_driver_that_keeps_nothing_cannot_be_read(case: Case) -> Result<(), Violation> {
    let mut container = case.shell("echo lost");
    container.host_config.log_config = Some(LogConfig {
        kind: "none".to_owned(),
        ..LogConfig::default()
    });
    let id = case.start(&container).await?;
    case.ended(&id).await?;
    refused(
        case.docker().logs(&id, &LogsOptions::default()).await,
        &[500, 501],
    )?;
    Ok(())
}
