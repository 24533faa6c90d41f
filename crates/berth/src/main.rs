//! berth: the kubelet for Docker Engine.
//!
//! Parse, call, print. What a pod is and does is berth-kubelet's, what an engine is berth-docker's; here are only words for people, formats
//! for scripts, and exit codes.

use std::process::ExitCode;

use clap::error::ErrorKind;

mod cli;
mod cri;
mod delete;
mod doctor;
mod engine;
mod exec;
mod exit;
mod fake_engine;
mod get;
mod logs;
mod manifests;
mod output;
mod pods;
mod run;

use cli::{Cli, Command};
use cri::settings::NotParsed;
use exit::{Code, Failure};

fn main() -> ExitCode {
    let cli = match cri::settings::parse(std::env::args_os().collect()) {
        Ok(cli) => cli,
        Err(NotParsed::Arguments(error)) => {
            if let Some(advice) = cri::cri_dockerd::advice(&error) {
                return report(&Failure::new(Code::Usage, advice));
            }
            // Printing to a closed pipe is no reason for another code.
            let _ = error.print();
            let asked_for = matches!(
                error.kind(),
                ErrorKind::DisplayHelp | ErrorKind::DisplayVersion
            );
            return ExitCode::from(if asked_for { 0 } else { Code::Usage as u8 });
        }
        Err(NotParsed::File(failure)) => return report(&failure),
    };
    let result = log(&cli.log_level).and_then(|()| {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let result = runtime.block_on(dispatch(&cli));
        // A read of standard input cannot be interrupted; it must not hold up the end.
        runtime.shutdown_background();
        result
    });
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => report(&failure),
    }
}

/// Says what failed, if that has not been said.
fn report(Failure { code, message }: &Failure) -> ExitCode {
    if !message.is_empty() {
        anstream::eprintln!(
            "{}error:{} {message}",
            output::ERROR,
            output::ERROR.render_reset()
        );
    }
    ExitCode::from(*code)
}

async fn dispatch(cli: &Cli) -> Result<(), Failure> {
    match &cli.command {
        Command::Run(args) => run::run(&cli.engine, args).await,
        Command::Get(args) => get::get(&cli.engine, args).await,
        Command::Logs(args) => logs::logs(&cli.engine, args).await,
        Command::Exec(args) => exec::exec(&cli.engine, args).await,
        Command::Delete(args) => delete::delete(&cli.engine, args).await,
        Command::Doctor(args) => doctor::doctor(&cli.engine, args).await,
        Command::Cri(args) => cri::serve(&cli.engine, args).await,
        Command::FakeEngine(args) => fake_engine::serve(args).await,
    }
}

fn log(filter: &str) -> Result<(), Failure> {
    // cri-dockerd's names for levels.
    let filter = match filter {
        "warning" => "warn",
        "fatal" | "panic" => "error",
        other => other,
    };
    let filter = tracing_subscriber::EnvFilter::builder()
        .parse(filter)
        .map_err(|error| {
            Failure::new(
                Code::Usage,
                format!("--log-level {filter:?}: {error}; use error, warn, info, debug or trace"),
            )
        })?;
    let color = std::io::IsTerminal::is_terminal(&std::io::stderr())
        && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(color)
        .with_target(false)
        // It would print them where it could not write, and panic.
        .log_internal_errors(false)
        .init();
    Ok(())
}
