//! The real engine that tests are told of.

use berth_docker::{ConnectOptions, Docker};

/// A client of the engine that `BERTH_TEST_ENGINE` names; only CI may not go without.
pub(crate) fn docker() -> Option<Docker> {
    let Ok(endpoint) = std::env::var("BERTH_TEST_ENGINE") else {
        assert!(
            std::env::var_os("CI").is_none(),
            "BERTH_TEST_ENGINE must be set in CI"
        );
        eprintln!("skipped: BERTH_TEST_ENGINE names no engine");
        return None;
    };
    let options = ConnectOptions::new(endpoint.parse().expect("BERTH_TEST_ENGINE is an endpoint"));
    Some(Docker::builder(options).build().unwrap())
}
