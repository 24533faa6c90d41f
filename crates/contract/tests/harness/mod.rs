//! Runs checks as tests: one line for each, and names that can be filtered as those of any test.

use std::process::ExitCode;

use berth_contract::{Subject, checks, unexercised};
use berth_docker::Operation;
use libtest_mimic::{Arguments, Trial};
use tokio::runtime::Runtime;

/// The arguments of the test command; unless it says otherwise so many checks run at a time.
pub(crate) fn arguments(at_a_time: usize) -> Arguments {
    let mut arguments = Arguments::from_args();
    arguments.test_threads.get_or_insert(at_a_time);
    arguments
}

/// All checks of one engine. Those that need a registry are ignored, and say so, where there is none.
pub(crate) fn trials(runtime: &'static Runtime, prefix: &str, subject: &Subject) -> Vec<Trial> {
    let trial = |check: &'static berth_contract::Check| {
        let subject = subject.clone();
        let ignored = check.needs_registry && !subject.has_registry();
        let trial = Trial::test(format!("{prefix}{}", check.name), move || {
            Ok(runtime.block_on(check.run(&subject))?)
        });
        let trial = trial.with_ignored_flag(ignored);
        if ignored {
            trial.with_kind("needs BERTH_TEST_REGISTRY")
        } else {
            trial
        }
    };
    checks().map(trial).collect()
}

/// Runs the trials, and afterwards, unless they were filtered or failed, claims of each engine that every operation of
/// the client was used on it.
pub(crate) fn run(
    arguments: &Arguments,
    trials: Vec<Trial>,
    subjects: Vec<(String, Subject)>,
) -> ExitCode {
    let conclusion = libtest_mimic::run(arguments, trials);
    let all = arguments.filter.is_none()
        && arguments.skip.is_empty()
        && !arguments.list
        && !arguments.ignored;
    if conclusion.has_failed() || !all {
        return conclusion.exit_code();
    }
    let coverage = subjects.into_iter().map(|(prefix, subject)| {
        Trial::test(
            format!("{prefix}every_operation_of_the_client_succeeded"),
            move || {
                let mut missing = unexercised(subject.docker().metrics());
                if !subject.has_registry() {
                    let remote = [
                        Operation::PULL_IMAGE,
                        Operation::PUSH_IMAGE,
                        Operation::INSPECT_DISTRIBUTION,
                        Operation::AUTH,
                    ];
                    missing.retain(|operation| !remote.contains(operation));
                }
                if missing.is_empty() {
                    Ok(())
                } else {
                    Err(format!("never succeeded: {missing:?}").into())
                }
            },
        )
    });
    libtest_mimic::run(arguments, coverage.collect()).exit_code()
}

/// The runtime of all checks: one client lives in one runtime.
pub(crate) fn runtime() -> &'static Runtime {
    Box::leak(Box::new(Runtime::new().expect("a runtime can be made")))
}
