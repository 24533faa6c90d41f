//! What a kubelet may expect of `berth cri` when things go wrong: berth is killed, the engine is, or somebody else changes its containers; and
//! when it goes on for long. The real binary, over its socket, on the fake engine, and on real ones that belong to one test each.

#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    reason = "a test fails by panicking"
)]

mod chance;
mod churn;
mod cni;
mod endurance;
#[path = "../own_engine/mod.rs"]
mod engine;
mod kubelet;
mod outages;
mod server;

use std::path::Path;
use std::time::{Duration, Instant};

use berth_docker::Docker;
use berth_fake_engine::FakeEngine;
use churn::Plan;
use engine::Engine;
use kubelet::IMAGE;
use server::Server;

/// Runs a test with a fake engine that is served on a socket of this process.
fn on_fake(test: impl AsyncFnOnce(&Docker, &mut Server, &Path)) {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    let tasks = tokio::task::LocalSet::new();
    tasks.block_on(&runtime, async {
        let directory = tempfile::tempdir().unwrap();
        let fake = FakeEngine::builder().image(IMAGE).build().unwrap();
        let socket = directory.path().join("engine.sock");
        let _served = fake.serve_unix(&socket).unwrap();
        let endpoint = format!("unix://{}", socket.display());
        let docker = engine::client(&endpoint, engine::LIMIT);
        let mut server = Server::on_fake(&endpoint, directory.path());
        test(&docker, &mut server, directory.path()).await;
    });
}

#[test]
fn killed_two_hundred_times_it_loses_no_container_no_name_and_no_line() {
    on_fake(async |docker, server, directory| {
        let plan = Plan {
            kills: 200,
            workers: 4,
            life: Duration::from_millis(60),
        };
        churn::survive(server, directory, docker, plan).await;
    });
}

#[test]
fn killed_two_hundred_times_with_plugins_it_leaks_no_address() {
    on_fake(async |docker, server, directory| {
        let network = cni::Network::of_a_script(directory);
        server.tell(network.arguments());
        let plan = Plan {
            kills: 200,
            workers: 4,
            life: Duration::from_millis(60),
        };
        churn::survive(server, directory, docker, plan).await;
        nothing_taken(&network).await;
    });
}

/// A pod that was being added when berth was killed is taken out by the next one, on its own.
async fn nothing_taken(network: &cni::Network) {
    let begun = Instant::now();
    while begun.elapsed() < PATIENCE && !network.left().is_empty() {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(network.left(), Vec::<String>::new(), "this is still taken");
}

#[test]
fn a_thousand_pods_are_known_soon_and_listed_at_once() {
    on_fake(async |_, server, directory| endurance::a_thousand_pods(server, directory).await);
}

#[test]
fn pods_that_come_and_go_leave_no_memory_and_no_descriptor_behind() {
    on_fake(async |_, server, directory| endurance::many_cycles(server, directory).await);
}

/// How often berth is killed on a real engine, where each pod takes a while.
const KILLS: usize = 20;

/// How long a real engine may take to clear away what it has removed.
const PATIENCE: Duration = Duration::from_secs(10);

#[test]
fn killed_on_a_real_engine_it_leaves_no_process_no_cgroup_and_no_network() {
    on_real(async |engine, directory| {
        let docker = engine.patient_client();
        let mut server = Server::new(&engine.endpoint, directory);
        let plan = Plan {
            kills: KILLS,
            workers: 3,
            life: Duration::from_millis(600),
        };
        let ids = churn::survive(&mut server, directory, &docker, plan).await;
        // The engine clears away behind its answers.
        let begun = Instant::now();
        while begun.elapsed() < PATIENCE && !engine.left_of(&ids).is_empty() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        assert_eq!(engine.left_of(&ids), Vec::<String>::new(), "this was left");
    });
}

#[test]
fn killed_on_a_real_engine_with_plugins_it_leaks_no_address_and_no_interface() {
    on_real(async |engine, directory| {
        let Some(network) = cni::Network::of_a_bridge(directory) else {
            return;
        };
        let docker = engine.patient_client();
        let mut server = Server::new(&engine.endpoint, directory);
        server.tell(network.arguments());
        let plan = Plan {
            kills: KILLS,
            workers: 3,
            life: Duration::from_millis(600),
        };
        churn::survive(&mut server, directory, &docker, plan).await;
        nothing_taken(&network).await;
    });
}

/// Runs a test with an engine of its own, or says why not.
fn on_real(test: impl AsyncFnOnce(&mut Engine, &Path)) {
    engine::with(async |engine| {
        let directory = tempfile::tempdir().unwrap();
        let tasks = tokio::task::LocalSet::new();
        tasks.run_until(test(engine, directory.path())).await;
    });
}

mod it_outlasts {
    macro_rules! scenarios {
        ($($name:ident)+) => {$(
            #[test]
            fn $name() {
                super::on_real(async |engine, directory| {
                    super::outages::$name(engine, directory).await;
                });
            }
        )+};
    }

    scenarios! {
        a_kill_of_the_engine
        a_restart_of_the_engine
        outages_that_containers_live_through
        a_standstill_of_the_engine
        changes_behind_its_back
    }
}
