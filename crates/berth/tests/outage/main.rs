//! An engine that is killed, stopped for a while, and restarted under everything that uses it. Each test has an engine of its own, which is the
//! real one, and leaves nothing behind.

#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    reason = "a test fails by panicking"
)]

mod client;
#[path = "../own_engine/mod.rs"]
mod engine;
mod foreground;
mod registry;

macro_rules! scenarios {
    ($($module:ident: $($name:ident)+;)+) => {
        $($(
            #[test]
            fn $name() {
                engine::with(async |engine| $module::$name(engine).await);
            }
        )+)+
    };
}

scenarios! {
    client:
        a_log_follow_ends_with_the_engine_and_outlasts_a_pause
        events_reconnect_and_own_up_to_the_gap
        a_pull_fails_with_the_engine_and_can_be_asked_again
        an_exec_ends_with_the_engine_and_outlasts_a_pause
        a_wait_ends_with_the_engine_and_outlasts_a_pause
        short_calls_end_in_time_and_work_again_on_the_same_client;
    foreground:
        berth_run_outlasts_a_kill_of_the_engine
        berth_run_outlasts_a_restart_of_the_engine
        berth_run_outlasts_a_pause_of_the_engine
        berth_exec_and_berth_logs_do_not_take_an_outage_for_the_end;
}
