//! Which of the benches of one program run, and the exit code.

use std::process::ExitCode;

use tokio::runtime::Runtime;

use crate::measure::{Row, Table};

/// A bench: the name that chooses it, and what runs it. What cannot be measured here is an error that says why.
pub type Bench = (&'static str, fn(&Runtime) -> Result<Vec<Row>, String>);

/// Runs those of `benches` whose names contain one of the words in `asked`, the arguments of the program; all, with no
/// words. Prints the table. The code is 1 when a target was missed, and 2 when something could not be measured.
pub fn run(runtime: &Runtime, mut asked: Vec<String>, benches: &[Bench]) -> ExitCode {
    // Cargo gives this to benches and leaves it out when it runs them as tests, which would measure a debug build.
    let Some(at) = asked.iter().position(|argument| argument == "--bench") else {
        println!("not measured: use cargo bench -p berth-bench");
        return ExitCode::SUCCESS;
    };
    asked.remove(at);
    if let Some(unknown) = asked.iter().find(|asked| {
        !benches
            .iter()
            .any(|(name, _)| name.contains(asked.as_str()))
    }) {
        let names: Vec<_> = benches.iter().map(|(name, _)| *name).collect();
        eprintln!(
            "no bench is called {unknown:?}; there are {}",
            names.join(", ")
        );
        return ExitCode::from(2);
    }
    let mut table = Table::default();
    let mut failed = false;
    for (name, run) in benches {
        if !asked.is_empty() && !asked.iter().any(|asked| name.contains(asked.as_str())) {
            continue;
        }
        eprintln!("{name} …");
        match run(runtime) {
            Ok(rows) => table.0.extend(rows),
            Err(reason) => {
                eprintln!("{name}: {reason}");
                failed = true;
            }
        }
    }
    println!("{table}");
    let misses = table.0.iter().filter(|row| row.is_miss()).count();
    if misses > 0 {
        println!("{misses} missed");
    }
    if failed {
        ExitCode::from(2)
    } else {
        ExitCode::from(u8::from(misses > 0))
    }
}
