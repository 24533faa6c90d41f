//! `berth run` and what goes with it, as a user would try it: the same scenarios on the fake engine and on a real one.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test's helpers fail the test"
)]

mod engine;
mod misbehaving;
mod scenarios;

use engine::Engine;

macro_rules! on_both {
    ($($name:ident,)*) => {
        mod fake {
            $(#[test]
            fn $name() {
                super::scenarios::$name(&super::Engine::fake());
            })*
        }

        mod real {
            $(#[test]
            fn $name() {
                if let Some(engine) = super::Engine::real() {
                    super::scenarios::$name(&engine);
                }
            })*
        }
    };
}

on_both! {
    a_job_runs_to_its_end_and_its_lines_are_shown,
    a_job_that_fails_is_told_by_the_exit_code,
    what_a_container_writes_is_shown_as_it_is,
    a_reader_that_does_not_read_holds_up_nothing_but_the_lines,
    a_second_run_changes_nothing,
    a_detached_run_says_that_nothing_restarts_what_should_be,
    only_the_container_that_changed_is_started_again,
    a_bad_manifest_starts_nothing_and_says_where,
    an_unsupported_field_is_refused_by_name_or_warned_about,
    ctrl_c_stops_and_removes_what_was_made,
    a_second_ctrl_c_kills,
    ctrl_c_leaves_a_pod_that_was_there_before,
    ctrl_c_leaves_a_pod_that_was_there_and_had_ended,
    ctrl_c_removes_a_pod_of_the_run_that_has_finished,
    a_pod_that_is_deleted_elsewhere_is_not_made_again,
    rm_removes_a_finished_pod,
    pods_are_shown_in_every_format,
    a_manifest_is_read_from_standard_input,
    delete_is_told_what_is_not_there,
    facts_of_the_pod_reach_the_environment,
    a_container_that_cannot_start_says_why,
    a_killed_berth_leaves_containers_that_the_next_one_finds,
}

#[test]
fn an_engine_that_is_not_there_is_named() {
    let directory = tempfile::tempdir().unwrap();
    let endpoint = format!("unix://{}/none.sock", directory.path().display());
    let output = engine::berth(&endpoint)
        .args(["get", "pods"])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(5));
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(
        text.contains(&endpoint)
            && text.contains("No such file")
            && text.contains("--docker-endpoint"),
        "{text}"
    );
}

#[test]
fn a_bad_command_line_is_a_usage_error() {
    for args in [
        &["run"][..],
        &["get", "nodes"],
        &["delete", "pod"],
        &["delete", "pod", "x", "--force", "--grace-period=5"],
        &["delete", "pod", "x", "--now", "--grace-period=0"],
        &["--docker-endpoint", "ssh://x", "get", "pods"],
        &["frobnicate"],
    ] {
        let output = engine::berth("fake://").args(args).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{args:?}: {output:?}");
    }
}
