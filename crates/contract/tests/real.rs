//! The checks on a real engine: `BERTH_TEST_ENGINE` names it, and it has the image `berth.local/demo:1`.
//! `BERTH_TEST_REGISTRY` names a registry (`host:port`) for it; `DOCKER_API_VERSION` pins the version that is spoken.

mod harness;

use std::process::ExitCode;

use berth_contract::Subject;
use berth_docker::{ConnectOptions, Docker};

const IMAGE: &str = "berth.local/demo:1";

fn main() -> ExitCode {
    let arguments = harness::arguments(8);
    let Ok(endpoint) = std::env::var("BERTH_TEST_ENGINE") else {
        assert!(
            std::env::var_os("CI").is_none(),
            "BERTH_TEST_ENGINE must be set in CI"
        );
        eprintln!("skipped: BERTH_TEST_ENGINE names no engine");
        return ExitCode::SUCCESS;
    };
    let mut options =
        ConnectOptions::new(endpoint.parse().expect("BERTH_TEST_ENGINE is an endpoint"));
    if let Ok(version) = std::env::var("DOCKER_API_VERSION") {
        let version = version.parse().expect("DOCKER_API_VERSION is a version");
        options = options
            .with_api_version(version)
            .expect("DOCKER_API_VERSION can be spoken");
    }
    let docker = Docker::builder(options)
        .build()
        .expect("a client can be made");
    let mut subject = Subject::new(docker, IMAGE);
    match std::env::var("BERTH_TEST_REGISTRY") {
        Ok(registry) => subject = subject.with_registry(&registry),
        Err(_) => assert!(
            std::env::var_os("CI").is_none(),
            "BERTH_TEST_REGISTRY must be set in CI"
        ),
    }
    let runtime = harness::runtime();
    let trials = harness::trials(runtime, "", &subject);
    harness::run(&arguments, trials, vec![(String::new(), subject)])
}
