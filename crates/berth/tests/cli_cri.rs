//! What `berth cri` says of flags that it cannot do, and where it reads others.

#![allow(clippy::unwrap_used, reason = "a test's helpers fail the test")]

mod cli_support;

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};

use cli_support::{PATIENCE, Running, Target, berth, code, exists, stderr, until};
use rustix::process::Signal;

#[test]
fn a_flag_that_would_have_no_effect_is_refused_by_name() {
    for (network, flag, value) in [
        ("docker", "--cni-conf-dir", "/tmp"),
        ("docker:pods", "--pod-cidr", "10.1.0.0/24"),
    ] {
        let output = Running::start(berth(&[
            "cri",
            "--listen",
            "unix:///tmp/never.sock",
            "--network",
            network,
            flag,
            value,
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
    fs::write(&empty, "").unwrap();
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
    fs::write(&config, settings).unwrap();
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
    running.signal(Signal::TERM);
    assert_eq!(code(&running.output()), 0);
}

#[test]
fn with_the_engines_network_a_pod_that_is_gone_leaves_that_of_plugins() {
    let target = Target::fake();
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name).display().to_string();
    // What a berth left that was told `--network cni`.
    let record = format!("{}/results/pods-{:064x}-eth0", path("cache"), 7);
    fs::create_dir_all(path("cache/results")).unwrap();
    let config =
        "eyJjbmlWZXJzaW9uIjoiMS4wLjAiLCJuYW1lIjoicG9kcyIsInBsdWdpbnMiOlt7InR5cGUiOiJvbmUifV19";
    let words = serde_json::json!({
        "kind": "cniCacheV1", "containerId": format!("{:064x}", 7), "config": config, "ifName": "eth0", "networkName": "pods",
        "cniArgs": [["K8S_POD_UID", "u-1"]], "result": {"cniVersion": "1.0.0", "ips": [{"address": "10.1.0.5/16"}]},
        "owner": "berth",
    });
    fs::write(&record, words.to_string()).unwrap();
    fs::create_dir(path("bin")).unwrap();
    let script = format!("#!/bin/sh\ncat > {}\n", path("told"));
    fs::write(path("bin/one"), script).unwrap();
    fs::set_permissions(path("bin/one"), fs::Permissions::from_mode(0o755)).unwrap();

    let listen = format!("unix://{}", path("cri.sock"));
    let (state, bin, cache) = (path("state"), path("bin"), path("cache"));
    let running = Running::start(target.command(&[
        "cri",
        "--listen",
        &listen,
        "--state-dir",
        &state,
        "--cni-bin-dir",
        &bin,
        "--cni-cache-dir",
        &cache,
    ]));
    until("the record is gone", || {
        (!exists(record.as_ref())).then_some(())
    });
    let told: serde_json::Value =
        serde_json::from_str(&fs::read_to_string(path("told")).unwrap()).unwrap();
    assert_eq!(told["prevResult"]["ips"][0]["address"], "10.1.0.5/16");
    running.signal(Signal::TERM);
    let output = running.output();
    let words = stderr(&output);
    assert_eq!(code(&output), 0, "{words}");
    assert!(
        words.contains("pods of an earlier start are in a network of CNI plugins"),
        "{words}"
    );
}

/// What systemd does for a unit with a socket and `Type=notify`.
#[test]
fn a_socket_that_systemd_hands_over_is_served_and_readiness_is_told() {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name);
    let told = UnixDatagram::bind(path("notify")).unwrap();
    told.set_read_timeout(Some(PATIENCE)).unwrap();
    let socket = UnixListener::bind(path("handed.sock")).unwrap();
    rustix::io::fcntl_setfd(&socket, rustix::io::FdFlags::empty()).unwrap();
    let number = std::os::fd::AsRawFd::as_raw_fd(&socket);
    // Its own number is known to a process alone.
    let script = format!("exec 3<&{number}; LISTEN_PID=$$ LISTEN_FDS=1 exec \"$@\"");
    let berth = env!("CARGO_BIN_EXE_berth");
    let mut command = std::process::Command::new("sh");
    command
        .args(["-c", &script, "sh", berth, "cri"])
        .args(["--docker-endpoint", "fake://", "--state-dir"])
        .arg(path("state"))
        .env("NOTIFY_SOCKET", path("notify"));
    let running = Running::start(command);
    let mut message = [0; 256];
    let length = told.recv(&mut message).unwrap();
    let message = String::from_utf8_lossy(&message[..length]);
    assert!(message.contains("READY=1"), "{message}");
    assert!(UnixStream::connect(path("handed.sock")).is_ok());
    running.signal(Signal::TERM);
    assert_eq!(code(&running.output()), 0);
    // It is systemd's to remove.
    assert!(path("handed.sock").exists());
}

#[test]
fn a_group_may_connect_and_nobody_else() {
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("cri.sock");
    let state = directory.path().join("state");
    // Any other group than the one that files are of by themselves.
    let listen = format!("unix://{}", socket.display());
    let running = Running::start(berth(&[
        "cri",
        "--docker-endpoint",
        "fake://",
        "--listen",
        &listen,
        "--state-dir",
        state.to_str().unwrap(),
        "--socket-group",
        "daemon",
    ]));
    until("the socket is there", || exists(&socket).then_some(()));
    let seen = fs::metadata(&socket).unwrap();
    let groups = fs::read_to_string("/etc/group").unwrap();
    let daemon = groups
        .lines()
        .find_map(|line| line.strip_prefix("daemon:x:"))
        .unwrap();
    assert_eq!(seen.permissions().mode() & 0o777, 0o660);
    assert_eq!(
        seen.gid().to_string(),
        daemon.split(':').next().unwrap(),
        "of the group"
    );
    running.signal(Signal::TERM);
    assert_eq!(code(&running.output()), 0);
    assert!(!socket.exists());
}
