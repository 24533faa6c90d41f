//! What `berth cri` says of flags that it cannot do.

mod cli_support;

use cli_support::{Running, berth, code, stderr};

#[test]
fn a_flag_that_would_have_no_effect_is_refused_by_name() {
    for (network, flag) in [
        ("docker", "--cni-conf-dir"),
        ("docker:pods", "--cni-bin-dir"),
        ("docker", "--cni-cache-dir"),
    ] {
        let output = Running::start(berth(&[
            "cri",
            "--listen",
            "unix:///tmp/never.sock",
            "--network",
            network,
            flag,
            "/tmp",
        ]))
        .output();
        let words = stderr(&output);
        assert!(
            code(&output) == 2 && words.contains(flag) && words.contains("--network cni"),
            "{words}"
        );
    }
}

#[test]
fn a_network_that_there_is_not_is_refused() {
    let output = Running::start(berth(&["cri", "--network", "bridge"])).output();
    assert_eq!(code(&output), 2, "{}", stderr(&output));
    assert!(stderr(&output).contains("docker:NAME"));
}
