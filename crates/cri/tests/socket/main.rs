//! What the interface promises, asked over its socket: on the fake engine, and on the real one that `BERTH_TEST_ENGINE` names, which has the image
//! `berth.local/demo:1`.

#![allow(clippy::unwrap_used, reason = "a test's helpers fail the test")]

mod calls;
mod cri_dockerd;
mod network;
mod resources;
mod scenarios;
mod server;
mod sessions;

/// Tests of a module, on the fake engine and on the real one.
macro_rules! on_both {
    ($fake:ident $real:ident $module:ident: $($name:ident)+) => {
        mod $fake {
            $(#[test] fn $name() {
                crate::server::on_fake(async |server| crate::$module::$name(server).await);
            })+
        }
        mod $real {
            $(#[test] fn $name() {
                crate::server::on_real(async |server| crate::$module::$name(server).await);
            })+
        }
    };
}

macro_rules! network_scenarios {
    ($($name:ident)+) => {
        mod fake_network {
            $(#[test] fn $name() {
                crate::network::on_fake(async |server, host| crate::network::$name(server, host).await);
            })+
        }
        mod real_network {
            $(#[test] fn $name() {
                crate::network::on_real(async |server, host| crate::network::$name(server, host).await);
            })+
        }
    };
}

on_both! { fake real scenarios:
    the_runtime_says_who_it_is_and_that_it_is_ready
    a_client_may_name_the_server_by_its_path
    a_profile_that_cannot_confine_is_refused_before_anything_is_made
    a_pod_lives_from_run_to_remove
    what_is_gone_or_stopped_is_stopped_and_removed_without_an_error
    what_is_not_there_is_not_found
    labels_and_annotations_come_back_as_they_were_given
    lists_are_filtered
    an_end_is_told_with_its_code_and_reason
    stopping_a_sandbox_kills_its_containers
    a_command_gives_its_output_and_code
    a_call_that_takes_too_long_is_told_by_its_code
    what_docker_cannot_do_is_said_with_the_reason
    the_images_file_system_is_told
    a_pod_with_the_hosts_network_has_the_name_servers_it_was_given
    a_log_has_every_line_in_the_format_of_the_interface
    images_are_one_and_the_same_under_each_of_their_names
    every_change_is_an_event
    the_newest_container_of_a_pod_comes_first
    the_hosts_root_can_be_mounted
    a_bad_request_is_refused_by_name_and_changes_nothing
    stats_are_there_for_what_runs
}

on_both! { fake_resources real_resources resources:
    limits_of_huge_pages_keep_no_container_from_starting
    resources_are_changed_in_place
    resources_of_a_pod_are_the_kubelets
}

on_both! { fake_sessions real_sessions sessions:
    streaming_addresses_are_for_one_use
    a_command_reads_its_input_and_gives_output_and_code
    output_goes_on_after_the_end_of_a_clients_input
}

/// With processes that are there.
mod real_processes {
    use crate::{server::on_real, sessions};

    #[test]
    fn a_terminal_has_a_size_and_one_output() {
        on_real(async |server| sessions::a_terminal_has_a_size_and_one_output(server).await);
    }

    #[test]
    fn an_attached_client_sees_what_is_written_and_leaves_it_running() {
        on_real(async |server| sessions::an_attached_client_sees_what_is_written(server).await);
    }

    #[test]
    fn a_port_of_a_pod_is_reached_and_a_closed_one_is_told() {
        on_real(async |server| sessions::a_port_of_a_pod_is_reached(server).await);
    }
}

network_scenarios! {
    a_network_is_there_as_soon_as_its_file_is
    a_pod_has_the_addresses_that_plugins_gave_it
    the_nodes_ranges_are_handed_to_the_plugins
    what_a_plugin_refuses_is_told_in_its_words_and_leaves_nothing
    a_pod_is_taken_out_of_its_network_once
    one_that_somebody_else_removed_is_taken_out_of_its_network
    one_with_the_hosts_network_needs_no_plugin
    ports_of_the_host_are_the_plugins_to_open
}

#[test]
fn reads_cost_the_engine_nothing() {
    server::on_fake(async |server| {
        let fake = server.fake.clone().unwrap();
        scenarios::reads_cost_the_engine_nothing(server, &fake).await;
    });
}

#[test]
fn an_engine_that_is_away_is_not_ready_and_calls_fail_at_once() {
    server::on_fake(async |server| scenarios::an_engine_that_is_away(server).await);
}

#[test]
fn an_engine_that_hangs_is_not_ready_within_the_time_that_the_client_has() {
    server::on_fake(async |server| {
        let fake = server.fake.clone().unwrap();
        scenarios::an_engine_that_hangs(server, &fake).await;
    });
}

mod taken_over {
    use crate::server::{ENGINES, on_fake_with, on_real_with};
    use crate::{cri_dockerd, network};

    #[test]
    fn what_cri_dockerd_made_on_the_fake_engine() {
        on_fake_with(
            ENGINES,
            cri_dockerd::make,
            cri_dockerd::what_it_made_is_taken_over_as_it_is,
        );
    }

    #[test]
    fn what_cri_dockerd_made_on_a_real_engine() {
        on_real_with(
            ENGINES,
            cri_dockerd::make,
            cri_dockerd::what_it_made_is_taken_over_as_it_is,
        );
    }

    #[test]
    fn one_that_cri_dockerd_added_to_a_network_on_the_fake_engine() {
        network::on_fake_after(
            network::cri_dockerd_added,
            network::one_that_cri_dockerd_added_keeps_its_address_and_leaves_once,
        );
    }

    #[test]
    fn one_that_cri_dockerd_added_to_a_network_on_a_real_engine() {
        network::on_real_after(
            network::cri_dockerd_added,
            network::one_that_cri_dockerd_added_keeps_its_address_and_leaves_once,
        );
    }
}
