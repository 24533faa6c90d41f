//! What `berth cri` says of flags that it cannot do, and where it reads others.

#![allow(clippy::unwrap_used, reason = "a test's helpers fail the test")]

mod cli_support;

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;

use cli_support::{PATIENCE, Running, berth, code, stderr};

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

#[test]
fn a_flag_of_cri_dockerd_is_refused_with_what_to_write() {
    let output = Running::start(berth(&["cri", "--network-plugin=cni"])).output();
    assert_eq!(
        (code(&output), stderr(&output).trim()),
        (
            2,
            "error: --network-plugin is a flag of cri-dockerd; write --network cni for CNI plugins, --network docker for the engine's network"
        )
    );
}

#[test]
fn a_half_of_what_tls_needs_is_refused_and_so_is_a_file_without_a_certificate() {
    let directory = tempfile::tempdir().unwrap();
    let empty = directory.path().join("empty.pem");
    std::fs::write(&empty, "").unwrap();
    let empty = empty.display().to_string();
    let certificate = format!("--streaming-tls-cert-file={empty}");
    let output = Running::start(berth(&["cri", &certificate])).output();
    let words = stderr(&output);
    assert!(
        code(&output) == 2 && words.contains("--streaming-tls-private-key-file"),
        "{words}"
    );
    let key = format!("--streaming-tls-private-key-file={empty}");
    let output = Running::start(berth(&["cri", &certificate, &key])).output();
    let words = stderr(&output);
    assert!(
        code(&output) == 2 && words.contains(&format!("{empty}: it has no certificate")),
        "{words}"
    );
}

/// What a plain client is answered, head and all.
fn ask(address: &str, request: &str) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    write!(stream, "{request} HTTP/1.1\r\nHost: {address}\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

#[test]
fn metrics_are_served_where_a_file_of_settings_says() {
    let directory = tempfile::tempdir().unwrap();
    let config = directory.path().join("berth.yaml");
    let at = directory.path().display();
    let settings = format!(
        "listen: unix://{at}/cri.sock\nstateDir: {at}/state\ndockerEndpoint: fake://\nlogLevel: info\nmetricsBindAddr: 127.0.0.1:0\n"
    );
    std::fs::write(&config, settings).unwrap();
    let mut running = Running::start(berth(&["cri", "--config", config.to_str().unwrap()]));
    let said = BufReader::new(running.child.stderr.take().unwrap());
    let address = said
        .lines()
        .map(Result::unwrap)
        .find_map(|line| Some(line.split_once("http://")?.1.split_once('/')?.0.to_owned()))
        .expect("it says where");
    let page = ask(&address, "GET /metrics");
    assert!(page.starts_with("HTTP/1.1 200 OK\r\n"), "{page}");
    for part in [
        "content-type: application/openmetrics-text",
        "\nberth_engine_up 1\n",
        "\nberth_containers{state=\"running\"} 0\n",
        "\ndocker_operations_total{operation_type=",
        "\nprocess_resident_memory_bytes ",
        "\n# EOF\n",
    ] {
        assert!(page.contains(part), "{part}\n{page}");
    }
    assert!(ask(&address, "GET /").starts_with("HTTP/1.1 404 "));
    assert!(ask(&address, "POST /metrics").starts_with("HTTP/1.1 405 "));
    // Its log goes nowhere by now, as when the journal is restarted.
    running.signal(rustix::process::Signal::TERM);
    assert_eq!(code(&running.output()), 0);
}
