//! `berth doctor`: what keeps pods from running on this host, and what to do about it.

use std::fmt::Write as _;

use anstyle::{AnsiColor, Style};
use berth_docker::{ConnectOptions, Environment};
use serde::Serialize;

use crate::cli::{DoctorArgs, DoctorOutput, EngineArgs};
use crate::engine;
use crate::exit::{Code, Failure};
use crate::output;

mod checks;
mod facts;
#[cfg(test)]
mod tests;

use checks::{Check, Level};

/// Checks, prints, and fails with 5 when there is no engine, with 1 when there is another problem.
pub(crate) async fn doctor(engine: &EngineArgs, args: &DoctorArgs) -> Result<(), Failure> {
    let (docker, source) = engine::client(engine)?;
    let given = engine
        .docker_endpoint
        .as_deref()
        .map(|text| ("--docker-endpoint", text));
    let options = ConnectOptions::resolve(&Environment::of_process(), given)
        .map_err(|error| Failure::new(Code::Usage, error))?;
    let facts = facts::gather(docker, options.endpoint(), &source, options.rootless()).await;
    let checks = checks::checks(&facts);
    let text = match args.output {
        DoctorOutput::Text => text(
            &checks,
            marks_are_understood(|name| std::env::var(name).ok()),
        ),
        DoctorOutput::Json => json(&checks)?,
    };
    output::print(&text)?;
    if facts.engine.is_err() {
        Err(Failure::of_program(Code::Unreachable as u8))
    } else if count(&checks, Level::Problem) > 0 {
        Err(Failure::of_program(Code::Failed as u8))
    } else {
        Ok(())
    }
}

fn count(checks: &[Check], level: Level) -> usize {
    checks.iter().filter(|check| check.level == level).count()
}

/// One line for each check, its advice below it, and the sum.
fn text(checks: &[Check], unicode: bool) -> String {
    let width = checks
        .iter()
        .map(|check| check.name.len())
        .max()
        .unwrap_or_default();
    let arrow = if unicode { "→" } else { "->" };
    let mut text = String::new();
    for Check {
        name,
        level,
        finding,
        advice,
    } in checks
    {
        let (mark, style) = mark(*level, unicode);
        let indent = " ".repeat(width + 4);
        let mut finding = finding.lines();
        // Writing to a String cannot fail.
        let _ = writeln!(
            text,
            "{style}{mark}{style:#} {name:width$}  {}",
            finding.next().unwrap_or_default()
        );
        for line in finding {
            let _ = writeln!(text, "{indent}{line}");
        }
        for line in advice.iter().flat_map(|advice| advice.lines()) {
            let _ = writeln!(text, "{indent}{arrow} {line}");
        }
    }
    let sums = [(Level::Problem, "problem"), (Level::Warning, "warning")].map(|(level, word)| {
        let count = count(checks, level);
        format!("{count} {word}{}", if count == 1 { "" } else { "s" })
    });
    let _ = writeln!(
        text,
        "\n{}, {} unknown",
        sums.join(", "),
        count(checks, Level::Unknown)
    );
    text
}

fn mark(level: Level, unicode: bool) -> (&'static str, Style) {
    let (mark, ascii, color) = match level {
        Level::Ok => ("✓", "+", AnsiColor::Green),
        Level::Warning => ("!", "!", AnsiColor::Yellow),
        Level::Problem => ("✗", "x", AnsiColor::Red),
        Level::Unknown => ("?", "?", AnsiColor::Cyan),
    };
    (
        if unicode { mark } else { ascii },
        color.on_default().bold(),
    )
}

/// Whether the locale's characters are UTF-8: the first of these that is set decides (locale(7)).
fn marks_are_understood(variable: impl Fn(&str) -> Option<String>) -> bool {
    let locale = ["LC_ALL", "LC_CTYPE", "LANG"]
        .into_iter()
        .filter_map(variable)
        .find(|value| !value.is_empty());
    let locale = locale.unwrap_or_default().to_lowercase();
    locale.contains("utf-8") || locale.contains("utf8")
}

fn json(checks: &[Check]) -> Result<String, Failure> {
    #[derive(Serialize)]
    struct Report<'a> {
        problems: usize,
        warnings: usize,
        unknown: usize,
        checks: &'a [Check],
    }
    let report = Report {
        problems: count(checks, Level::Problem),
        warnings: count(checks, Level::Warning),
        unknown: count(checks, Level::Unknown),
        checks,
    };
    let mut text =
        serde_json::to_string_pretty(&report).map_err(|error| Failure::new(Code::Failed, error))?;
    text.push('\n');
    Ok(text)
}
