//! `berth logs` and `berth exec` on the fake engine.

mod cli_support;

use cli_support::{Target, scenarios};

macro_rules! on_the_fake {
    ($($scenario:ident,)*) => {$(
        #[test]
        fn $scenario() {
            scenarios::$scenario(&Target::fake());
        }
    )*};
}

on_the_fake! {
    names_that_are_wrong_are_told_by_code_and_words,
    the_default_container_annotation_is_honoured,
    bytes_pass_unchanged,
    the_instance_before_the_current_one_is_shown,
    lines_are_chosen_and_marked,
    a_follow_goes_on_until_the_container_ends,
    several_containers_are_followed_together,
    a_closed_pipe_ends_a_follow_quietly,
    an_interrupt_ends_a_follow,
    an_exec_has_both_outputs_and_the_code,
    an_exec_takes_our_input_to_its_end,
    a_container_that_does_not_run_is_told,
    a_terminal_is_raw_during_the_command_and_restored_after_it,
}
