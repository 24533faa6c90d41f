//! Networks whose plugins are small scripts that write down what they are told.

#![allow(clippy::unwrap_used, reason = "a test's helpers fail the test")]

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use berth_pod::cni::{Attachment, Cni, CniError, CniOptions, Failure, NotReady, Operation, Ready};
use berth_pod::spec::{Dns, PodIdentity, PortMapping, Protocol, SandboxId};
use serde_json::{Value, json};
use tempfile::TempDir;

/// How long something may take that has nothing to wait for.
const PATIENCE: Duration = Duration::from_secs(30);

const NETNS: &str = "/proc/7/ns/net";
const GIVEN: &str = r#"{"cniVersion":"1.0.0","interfaces":[{"name":"eth0","sandbox":"/proc/7/ns/net"}],"ips":[{"address":"10.1.0.5/16","interface":0},{"address":"fd00::5/64","interface":0}]}"#;
const VERSIONS: &str =
    r#"echo '{"cniVersion":"1.0.0","supportedVersions":["0.3.1","0.4.0","1.0.0"]}'"#;

/// A host with networks, plugins and records of its own.
struct Host(TempDir, String);

impl Host {
    fn new() -> Self {
        // Plugins of a sandbox are found among all processes, so no other test's may have the same.
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let id = format!("{}x{number}", std::process::id());
        let host = Self(tempfile::tempdir().unwrap(), id);
        for dir in ["net.d", "bin", "log"] {
            fs::create_dir(host.path(dir)).unwrap();
        }
        host
    }

    /// One with a network of two plugins, of which the first gives addresses.
    fn with_chain() -> Self {
        let host = Self::new();
        host.plugin("main", &format!("echo '{GIVEN}'"), "");
        host.plugin("ports", ECHO_PREVIOUS, "");
        host.network(
            "10-chain.conflist",
            json!({
                "cniVersion": "1.0.0", "name": "chain", "plugins": [
                    {"type": "main", "mtu": 1400},
                    {"type": "ports", "capabilities": {"portMappings": true}},
                ],
            }),
        );
        host
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// The ID of the sandbox that its tests are about.
    fn id(&self) -> SandboxId {
        SandboxId::new(&self.1)
    }

    /// The name of the record of that sandbox in the network `chain`.
    fn record(&self) -> String {
        format!("chain-{}-eth0", self.1)
    }

    fn options(&self) -> CniOptions {
        CniOptions {
            conf_dirs: vec![self.path("net.d")],
            bin_dirs: vec![self.path("bin-before"), self.path("bin")],
            cache_dir: self.path("cache"),
            adopted_cache_dirs: vec![self.path("adopted")],
            ..CniOptions::default()
        }
    }

    fn cni(&self) -> Cni {
        Cni::new(self.options())
    }

    fn network(&self, file: &str, network: Value) {
        fs::write(self.path("net.d").join(file), network.to_string()).unwrap();
    }

    fn plugin(&self, name: &str, add: &str, del: &str) {
        self.plugin_of_versions(name, VERSIONS, add, del);
    }

    fn plugin_of_versions(&self, name: &str, versions: &str, add: &str, del: &str) {
        let log = self.path("log");
        let log = log.display();
        let script = format!(
            "#!/bin/sh\n\
             [ $CNI_COMMAND = VERSION ] || echo $CNI_COMMAND {name} >> {log}/order\n\
             cat > {log}/$CNI_COMMAND.{name}.stdin\n\
             env > {log}/$CNI_COMMAND.{name}.env\n\
             input={log}/$CNI_COMMAND.{name}.stdin\n\
             log={log}\n\
             case $CNI_COMMAND in\n\
             VERSION) {versions}\n;;\n\
             ADD) {add}\n;;\n\
             DEL) {del}\n;;\n\
             esac\n"
        );
        // Beside it first, so that nobody runs a half of it.
        let (new, program) = (self.path("plugin.new"), self.path("bin").join(name));
        fs::write(&new, script).unwrap();
        fs::set_permissions(&new, fs::Permissions::from_mode(0o755)).unwrap();
        fs::rename(&new, &program).unwrap();
    }

    /// What has run, in order.
    fn order(&self) -> Vec<String> {
        let text = fs::read_to_string(self.path("log/order")).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }

    fn forget_order(&self) {
        fs::remove_file(self.path("log/order")).unwrap();
    }

    fn stdin(&self, run: &str) -> Value {
        let bytes = fs::read(self.path("log").join(format!("{run}.stdin"))).unwrap();
        serde_json::from_slice(&bytes).unwrap()
    }

    fn env(&self, run: &str) -> BTreeSet<String> {
        let text = fs::read_to_string(self.path("log").join(format!("{run}.env"))).unwrap();
        // A shell's own.
        let own = |line: &&str| {
            !["PWD=", "SHLVL=", "_=", "OLDPWD="]
                .iter()
                .any(|own| line.starts_with(own))
        };
        text.lines().filter(own).map(str::to_owned).collect()
    }

    fn records(&self) -> Vec<String> {
        let Ok(files) = fs::read_dir(self.path("cache/results")) else {
            return Vec::new();
        };
        files
            .map(|file| file.unwrap().file_name().into_string().unwrap())
            .collect()
    }
}

/// A plugin that changes nothing: it gives what it was given. The result is the last key of its input, since the keys are sorted up to `type`.
const ECHO_PREVIOUS: &str =
    r#"sed 's/.*"prevResult"://; s/,"runtimeConfig".*//; s/,"type":"[a-z]*"}$//' $input"#;

fn pod() -> PodIdentity {
    PodIdentity {
        namespace: "default".into(),
        name: "web".into(),
        uid: "u-1".into(),
    }
}

fn attachment(sandbox: SandboxId) -> Attachment {
    Attachment {
        sandbox,
        pod: pod(),
        netns: NETNS.into(),
        ports: Vec::new(),
        dns: Dns::default(),
        cgroup_parent: String::new(),
        annotations: Default::default(),
    }
}

/// Waits until `look` gives something.
async fn eventually<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let began = Instant::now();
    loop {
        if let Some(seen) = look() {
            return seen;
        }
        assert!(began.elapsed() < PATIENCE, "not seen in time: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

fn only_failure(error: CniError) -> (String, Operation, Failure) {
    match error {
        CniError::Plugins(mut failures) => {
            assert_eq!(failures.len(), 1, "{failures:?}");
            let failure = failures.remove(0);
            (failure.plugin, failure.operation, failure.failure)
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn plugins_add_in_order_and_take_away_in_reverse_each_knowing_what_was_given() {
    let host = Host::with_chain();
    let cni = host.cni();
    let attachment = Attachment {
        ports: vec![PortMapping {
            container_port: 80,
            host_port: Some(8080),
            host_ip: None,
            protocol: Protocol::Tcp,
        }],
        ..attachment(host.id())
    };
    let result = cni.add(&attachment).await.unwrap();
    assert_eq!(result.ip(), Some("10.1.0.5".parse().unwrap()));
    assert_eq!(
        result.additional_ips(),
        ["fd00::5".parse::<std::net::IpAddr>().unwrap()]
    );
    assert_eq!(host.order(), ["ADD main", "ADD ports"]);
    let given: Value = serde_json::from_str(GIVEN).unwrap();
    let told =
        json!({"portMappings": [{"hostPort": 8080, "containerPort": 80, "protocol": "tcp"}]});
    let main = json!({"cniVersion": "1.0.0", "name": "chain", "type": "main", "mtu": 1400});
    let ports = json!({
        "cniVersion": "1.0.0", "name": "chain", "type": "ports", "runtimeConfig": told, "prevResult": given,
    });
    assert_eq!(host.stdin("ADD.main"), main);
    assert_eq!(host.stdin("ADD.ports"), ports);
    let args = "IgnoreUnknown=1;K8S_POD_NAMESPACE=default;K8S_POD_NAME=web;K8S_POD_INFRA_CONTAINER_ID=ID;K8S_POD_UID=u-1";
    let args = args.replace("ID;", &format!("{};", host.1));
    let path = format!("{0}/bin-before:{0}/bin", host.0.path().display());
    let environment = |command: &str, netns: &str| -> BTreeSet<String> {
        [
            format!("CNI_COMMAND={command}"),
            format!("CNI_CONTAINERID={}", host.1),
            format!("CNI_NETNS={netns}"),
            "CNI_IFNAME=eth0".into(),
            format!("CNI_ARGS={args}"),
            format!("CNI_PATH={path}"),
            format!("PATH={}", host.options().search_path.to_str().unwrap()),
        ]
        .into()
    };
    assert_eq!(host.env("ADD.ports"), environment("ADD", NETNS));

    host.forget_order();
    cni.del(&host.id(), &pod(), Some(Path::new(NETNS)))
        .await
        .unwrap();
    assert_eq!(host.order(), ["DEL ports", "DEL main"]);
    let mut main = main;
    main["prevResult"] = given;
    assert_eq!(host.stdin("DEL.main"), main);
    assert_eq!(host.stdin("DEL.ports"), ports);
    assert_eq!(host.env("DEL.main"), environment("DEL", NETNS));
    assert!(host.records().is_empty());
    assert_eq!(cni.result(&host.id()), None);
}

#[tokio::test]
async fn what_was_given_is_known_after_a_restart_and_taken_away_whatever_is_configured_by_then() {
    let host = Host::with_chain();
    let result = host.cni().add(&attachment(host.id())).await.unwrap();
    fs::remove_file(host.path("net.d/10-chain.conflist")).unwrap();
    host.plugin("other", "", "");
    host.network(
        "10-other.conf",
        json!({"cniVersion": "1.0.0", "name": "other", "type": "other"}),
    );

    let cni = host.cni();
    assert_eq!(cni.result(&host.id()), Some(result.clone()));
    let recorded = cni.attachments().unwrap();
    assert_eq!(recorded.len(), 1);
    assert_eq!(
        (&recorded[0].sandbox, &recorded[0].pod),
        (&host.id(), &pod())
    );
    assert_eq!(recorded[0].network, "chain");
    assert_eq!(recorded[0].result, Some(result));
    host.forget_order();
    cni.del(&host.id(), &pod(), None).await.unwrap();
    assert_eq!(host.order(), ["DEL ports", "DEL main"]);
    assert!(host.env("DEL.main").contains("CNI_NETNS="));
    assert!(cni.attachments().unwrap().is_empty());
}

#[tokio::test]
async fn what_a_failed_chain_has_done_is_undone() {
    let host = Host::with_chain();
    host.plugin(
        "ports",
        r#"echo '{"cniVersion":"1.0.0","code":11,"msg":"busy","details":"port 80 is taken"}'; exit 1"#,
        "",
    );
    let cni = host.cni();
    let error = cni.add(&attachment(host.id())).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        r#"network "chain": plugin "ports": ADD failed: busy; port 80 is taken (code 11)"#
    );
    assert!(error.is_passing());
    assert_eq!(
        host.order(),
        ["ADD main", "ADD ports", "DEL ports", "DEL main"]
    );
    // There is no result to be told of.
    assert!(host.stdin("DEL.main").get("prevResult").is_none());
    assert!(host.env("DEL.main").contains(&format!("CNI_NETNS={NETNS}")));
    assert!(host.records().is_empty() && cni.attachments().unwrap().is_empty());
}

#[tokio::test]
async fn what_could_not_be_undone_stays_on_record_with_both_reasons() {
    let host = Host::with_chain();
    host.plugin(
        "main",
        "echo out of addresses >&2; exit 3",
        "echo no firewall >&2; exit 4",
    );
    let cni = host.cni();
    let error = cni.add(&attachment(host.id())).await.unwrap_err();
    let text = error.to_string();
    assert!(matches!(error, CniError::NotUndone { .. }), "{text}");
    assert!(
        text.contains("out of addresses") && text.contains("no firewall"),
        "{text}"
    );
    assert_eq!(cni.attachments().unwrap()[0].result, None);
    assert_eq!(cni.result(&host.id()), None);
    // The next attempt begins with what is left of this one.
    host.plugin("main", &format!("echo '{GIVEN}'"), "");
    host.forget_order();
    cni.add(&attachment(host.id())).await.unwrap();
    assert_eq!(
        host.order(),
        ["DEL ports", "DEL main", "ADD main", "ADD ports"]
    );
}

#[tokio::test]
async fn a_plugin_that_fails_at_taking_away_does_not_keep_the_others_from_it() {
    let host = Host::with_chain();
    let cni = host.cni();
    cni.add(&attachment(host.id())).await.unwrap();
    host.plugin("ports", "", "exit 1");
    host.forget_order();
    let error = cni.del(&host.id(), &pod(), None).await.unwrap_err();
    let (plugin, operation, failure) = only_failure(error);
    assert_eq!((plugin.as_str(), operation), ("ports", Operation::Del));
    assert!(matches!(failure, Failure::Failed(..)), "{failure:?}");
    assert_eq!(host.order(), ["DEL ports", "DEL main"]);
    assert_eq!(host.records(), [host.record()]);

    fs::remove_file(host.path("bin/ports")).unwrap();
    let error = cni.del(&host.id(), &pod(), None).await.unwrap_err();
    assert!(matches!(only_failure(error).2, Failure::Missing(dirs) if dirs.len() == 2));

    // Nobody knows the sandbox any more: there is nothing to be taken away.
    host.plugin(
        "ports",
        "",
        r#"echo '{"code":3,"msg":"unknown container"}'; exit 1"#,
    );
    cni.del(&host.id(), &pod(), None).await.unwrap();
    assert!(host.records().is_empty());
    host.forget_order();
    cni.del(&host.id(), &pod(), None).await.unwrap();
    assert!(host.order().is_empty(), "{:?}", host.order());
}

#[tokio::test]
async fn a_sandbox_that_is_not_on_record_is_taken_away_as_long_as_it_has_a_namespace() {
    let host = Host::with_chain();
    let cni = host.cni();
    cni.del(&host.id(), &pod(), Some(Path::new(NETNS)))
        .await
        .unwrap();
    assert_eq!(host.order(), ["DEL ports", "DEL main"]);
    // Without a network there is nothing that could be run.
    let host = Host::new();
    host.cni()
        .del(&host.id(), &pod(), Some(Path::new(NETNS)))
        .await
        .unwrap();
}

#[tokio::test]
async fn a_plugin_that_hangs_is_killed_with_all_it_started_and_the_rest_has_its_time() {
    let host = Host::with_chain();
    let hang = "sleep 1000 & echo $! > $log/child; wait";
    host.plugin("ports", hang, "sleep 1000");
    let cni = Cni::new(CniOptions {
        add_patience: Duration::from_millis(700),
        del_patience: Duration::from_millis(1400),
        ..host.options()
    });
    let began = Instant::now();
    let error = cni.add(&attachment(host.id())).await.unwrap_err();
    assert!(began.elapsed() < PATIENCE);
    let CniError::NotUndone { add, undo } = error else {
        panic!("{error:?}");
    };
    assert!(matches!(only_failure(*add).2, Failure::TimedOut(_)));
    let (plugin, _, failure) = only_failure(*undo);
    assert!(plugin == "ports" && matches!(failure, Failure::TimedOut(_)));
    assert_eq!(
        host.order(),
        ["ADD main", "ADD ports", "DEL ports", "DEL main"]
    );
    let child = fs::read_to_string(host.path("log/child")).unwrap();
    eventually("the end of the plugin's child", || {
        let path = format!("/proc/{}/cmdline", child.trim());
        // One that has ended and is not yet reaped has no command line.
        fs::read(path).unwrap_or_default().is_empty().then_some(())
    })
    .await;
}

#[tokio::test]
async fn what_is_not_a_result_is_an_error_that_shows_it() {
    let host = Host::new();
    host.network(
        "10.conf",
        json!({"cniVersion": "1.0.0", "name": "net", "type": "main"}),
    );
    let cni = host.cni();
    for (add, words) in [
        ("", "EOF while parsing"),
        (
            "echo starting; echo '{}'",
            r#"expected value at line 1 column 1; it wrote "starting"#,
        ),
        (
            r#"echo '{"ips":[{"address":"10.1.0.5"}]}'"#,
            "length of a prefix",
        ),
        (
            "yes | head -c 2000000",
            "it wrote more than 1048576 bytes and was killed",
        ),
        ("echo '{}'", "gave the pod no address"),
        (
            "echo no json; exit 2",
            "it failed (exit status: 2): no json",
        ),
        (
            "echo on stdout; echo panic: on stderr >&2; exit 2",
            "(exit status: 2): panic: on stderr",
        ),
        ("kill -9 $$", "it failed (signal: 9"),
        (
            r#"echo '{"code":999,"msg":" x "}'; exit 1"#,
            "ADD failed: x (code 999)",
        ),
    ] {
        host.plugin("main", add, "");
        let error = cni
            .add(&attachment(host.id()))
            .await
            .unwrap_err()
            .to_string();
        assert!(error.contains(words), "{add}: {error}");
        assert!(host.records().is_empty());
    }
}

#[tokio::test]
async fn a_plugin_may_ignore_a_long_input_and_leave_a_daemon_that_holds_its_pipes() {
    let host = Host::new();
    let script = format!(
        "#!/bin/sh\n[ $CNI_COMMAND = VERSION ] && {VERSIONS} && exit\nsleep 1000 &\necho $! > {}/log/daemon\necho '{GIVEN}'\n",
        host.0.path().display()
    );
    let program = host.path("bin/main");
    fs::write(&program, script).unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    host.network(
        "10.conf",
        json!({"cniVersion": "1.0.0", "name": "net", "type": "main", "long": "x".repeat(300_000)}),
    );
    let (cni, attachment) = (host.cni(), attachment(host.id()));
    let added = tokio::time::timeout(PATIENCE, cni.add(&attachment)).await;
    added.expect("it does not wait for the daemon").unwrap();
    let daemon = fs::read_to_string(host.path("log/daemon")).unwrap();
    let daemon = rustix::process::Pid::from_raw(daemon.trim().parse().unwrap()).unwrap();
    rustix::process::kill_process(daemon, rustix::process::Signal::KILL).unwrap();
}

#[tokio::test]
async fn a_long_input_reaches_a_plugin_whole() {
    let host = Host::new();
    host.plugin("main", &format!("echo '{GIVEN}'"), "");
    let long = "x".repeat(300_000);
    host.network(
        "10.conf",
        json!({"cniVersion": "1.0.0", "name": "net", "type": "main", "long": long}),
    );
    host.cni().add(&attachment(host.id())).await.unwrap();
    assert_eq!(host.stdin("ADD.main")["long"], long);
}

#[tokio::test]
async fn a_dropped_call_ends_its_plugin_and_stays_on_record() {
    let host = Host::with_chain();
    host.plugin("ports", "echo $$ > $log/pid; exec sleep 1000", "");
    let cni = host.cni();
    let pid = {
        let attachment = attachment(host.id());
        let add = cni.add(&attachment);
        tokio::pin!(add);
        let begun = eventually("the plugin", || {
            let pid = fs::read_to_string(host.path("log/pid")).ok()?;
            pid.ends_with('\n').then_some(pid)
        });
        tokio::select! {
            result = &mut add => panic!("{result:?}"),
            pid = begun => pid,
        }
    };
    eventually("the end of the plugin", || {
        let path = format!("/proc/{}/cmdline", pid.trim());
        fs::read(path).unwrap_or_default().is_empty().then_some(())
    })
    .await;
    let recorded = cni.attachments().unwrap();
    assert!(recorded.len() == 1 && recorded[0].result.is_none());
    host.forget_order();
    cni.del(&host.id(), &recorded[0].pod, None).await.unwrap();
    assert_eq!(host.order(), ["DEL ports", "DEL main"]);
    assert!(host.records().is_empty());
}

/// Not a test: what the next one runs as a process of its own, to be killed.
#[tokio::test]
async fn a_berth_to_be_killed() {
    let (Some(dir), Ok(sandbox)) = (
        std::env::var_os("BERTH_TEST_CNI_HOST"),
        std::env::var("BERTH_TEST_CNI_SANDBOX"),
    ) else {
        return;
    };
    let dir = PathBuf::from(dir);
    let cni = Cni::new(CniOptions {
        conf_dirs: vec![dir.join("net.d")],
        bin_dirs: vec![dir.join("bin")],
        cache_dir: dir.join("cache"),
        adopted_cache_dirs: Vec::new(),
        ..CniOptions::default()
    });
    let result = cni.add(&attachment(SandboxId::new(sandbox))).await;
    panic!("it was to be killed before {result:?}");
}

#[tokio::test]
async fn a_berth_that_was_killed_while_adding_leaves_nothing() {
    let host = Host::with_chain();
    // It takes an address as soon as it may: after the `DEL` of the next start, if that does not end it.
    host.plugin(
        "main",
        "echo $$ > $log/pid; while ! [ -e $log/go ]; do sleep 0.01; done; echo > $log/address",
        "rm -f $log/address; echo > $log/go",
    );
    let mut berth = tokio::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "a_berth_to_be_killed"])
        .env("BERTH_TEST_CNI_HOST", host.0.path())
        .env("BERTH_TEST_CNI_SANDBOX", &host.1)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let pid = eventually("the plugin", || {
        let pid = fs::read_to_string(host.path("log/pid")).ok()?;
        pid.ends_with('\n').then_some(pid)
    })
    .await;
    berth.kill().await.unwrap();
    assert!(
        Path::new(&format!("/proc/{}", pid.trim())).exists(),
        "the plugin outlives it"
    );

    let cni = host.cni();
    let recorded = cni.attachments().unwrap();
    assert_eq!(recorded.len(), 1);
    assert_eq!(
        (&recorded[0].sandbox, &recorded[0].result),
        (&host.id(), &None)
    );
    cni.del(&recorded[0].sandbox, &recorded[0].pod, None)
        .await
        .unwrap();
    let command = fs::read(format!("/proc/{}/cmdline", pid.trim())).unwrap_or_default();
    assert!(command.is_empty(), "the plugin has ended");
    assert!(!host.path("log/address").exists());
    assert!(host.records().is_empty());
}

#[tokio::test]
async fn many_pods_are_added_at_once_and_nothing_is_left_of_it() {
    let host = Host::with_chain();
    // What it was told is in one file for all.
    host.plugin("ports", &format!("echo '{GIVEN}'"), "");
    let cni = std::sync::Arc::new(host.cni());
    cni.status().await.unwrap();
    // Tests beside this one open and close files, so only a growth with the number of pods counts.
    let open = || fs::read_dir("/proc/self/fd").unwrap().count();
    let before = open();
    let mut work = tokio::task::JoinSet::new();
    for number in 0..40 {
        let (cni, sandbox) = (cni.clone(), host.id());
        work.spawn(async move {
            let attachment = attachment(SandboxId::new(format!("{sandbox}y{number}")));
            cni.add(&attachment).await.unwrap();
            let netns = Some(Path::new(NETNS));
            cni.del(&attachment.sandbox, &attachment.pod, netns)
                .await
                .unwrap();
        });
    }
    while let Some(done) = work.join_next().await {
        done.unwrap();
    }
    assert_eq!(host.order().len(), 160);
    assert!(host.records().is_empty());
    eventually("few open files", || (open() < before + 40).then_some(())).await;
}

#[tokio::test]
async fn what_another_runtime_keeps_in_the_same_directory_is_its_own() {
    let host = Host::with_chain();
    host.cni().add(&attachment(host.id())).await.unwrap();
    let file = host.path("cache/results").join(host.record());
    let mut record: serde_json::Value = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
    assert_eq!(host.cni().attachments().unwrap().len(), 1);
    record.as_object_mut().unwrap().remove("owner");
    fs::write(&file, record.to_string()).unwrap();
    let cni = host.cni();
    assert!(cni.attachments().unwrap().is_empty());
    assert!(cni.result(&host.id()).unwrap().ip().is_some());
}

#[tokio::test]
async fn what_another_runtime_has_added_is_taken_away_as_it_was_added() {
    let host = Host::with_chain();
    let theirs = Cni::new(CniOptions {
        cache_dir: host.path("adopted"),
        ..host.options()
    });
    theirs.add(&attachment(host.id())).await.unwrap();
    let cni = host.cni();
    assert!(cni.attachments().unwrap().is_empty());
    assert!(cni.result(&host.id()).unwrap().ip().is_some());
    host.forget_order();
    cni.del(&host.id(), &pod(), None).await.unwrap();
    assert_eq!(host.order(), ["DEL ports", "DEL main"]);
    assert!(!host.path("adopted/results").join(host.record()).exists());
}

#[tokio::test]
async fn a_record_that_cannot_be_read_is_cleaned_by_todays_network_if_it_is_the_same() {
    let host = Host::with_chain();
    // Of another one it is set aside: a pod's end waits for no hand.
    host.cni().add(&attachment(host.id())).await.unwrap();
    let file = host.path("cache/results").join(host.record());
    fs::write(&file, "").unwrap();
    let cni = host.cni();
    assert_eq!(cni.attachments().unwrap()[0].network, "chain");
    host.network(
        "00.conf",
        json!({"cniVersion": "1.0.0", "name": "new", "type": "main"}),
    );
    host.forget_order();
    cni.del(&host.id(), &pod(), None).await.unwrap();
    assert!(host.order().is_empty() && !file.exists());
    let aside = format!("{}.unreadable", file.display());
    assert!(cni.attachments().unwrap().is_empty());
    assert!(host.cni().attachments().unwrap().is_empty());
    fs::rename(&aside, &file).unwrap();
    let cni = host.cni();
    fs::remove_file(host.path("net.d/00.conf")).unwrap();
    cni.del(&host.id(), &pod(), None).await.unwrap();
    assert_eq!(host.order(), ["DEL ports", "DEL main"]);
    assert!(!file.exists());
}

#[tokio::test]
async fn a_pod_that_cannot_be_described_is_refused_before_anything_runs() {
    let host = Host::with_chain();
    let cni = host.cni();
    let limited = Attachment {
        annotations: [(
            "kubernetes.io/egress-bandwidth".to_owned(),
            "fast".to_owned(),
        )]
        .into(),
        ..attachment(host.id())
    };
    let odd = Attachment {
        sandbox: SandboxId::new("../aa"),
        ..attachment(host.id())
    };
    for attachment in [limited, odd] {
        let error = cni.add(&attachment).await.unwrap_err();
        assert!(matches!(error, CniError::Invalid(_)), "{error:?}");
    }
    assert!(host.order().is_empty() && host.records().is_empty());
}

async fn not_ready(cni: &Cni) -> (&'static str, String) {
    let NotReady { reason, message } = cni.status().await.unwrap_err();
    (reason, message)
}

#[tokio::test]
async fn what_keeps_a_host_from_having_a_network_is_said_and_seen_when_it_changes() {
    let host = Host::new();
    let (dir, bin) = (host.path("net.d"), host.path("bin"));
    let (dir, bin) = (dir.display(), bin.display());
    fs::remove_dir(host.path("net.d")).unwrap();
    let cni = host.cni();
    let (reason, message) = not_ready(&cni).await;
    assert_eq!(reason, "NetworkConfigMissing");
    assert_eq!(
        message,
        format!("no CNI network can be used: {dir} is missing")
    );

    fs::create_dir(host.path("net.d")).unwrap();
    fs::write(host.path("net.d/README"), "").unwrap();
    let (reason, message) = not_ready(&cni).await;
    assert_eq!(reason, "NetworkConfigMissing");
    let words = "has no file that ends in .conflist, .conf or .json";
    assert_eq!(
        message,
        format!("no CNI network can be used: {dir} {words}")
    );

    fs::write(host.path("net.d/10-bad.conflist"), "{\n  \"name\": }").unwrap();
    let network = json!({"cniVersion": "1.0.0", "name": "net", "type": "main"});
    host.network("20-good.conf", network.clone());
    let (reason, message) = not_ready(&cni).await;
    assert_eq!(reason, "NetworkConfigInvalid");
    assert_eq!(
        message,
        format!(
            "no CNI network can be used: {dir}/10-bad.conflist: expected value at line 2 column 11; \
             {dir}/20-good.conf: its plugin \"main\" is not installed: there is no such program in {bin}-before or {bin}"
        )
    );
    let error = cni.add(&attachment(host.id())).await.unwrap_err();
    assert!(
        error.is_passing() && error.to_string() == message,
        "{error}"
    );

    // A file that cannot be run is no plugin.
    fs::write(host.path("bin/main"), "").unwrap();
    assert_eq!(not_ready(&cni).await.1, message);
    host.plugin("main", &format!("echo '{GIVEN}'"), "");
    let ready = cni.status().await.unwrap();
    assert_eq!(ready.network, "net");
    assert_eq!(ready.version.to_string(), "1.0.0");
    assert_eq!(ready.file, host.path("net.d/20-good.conf"));

    // An earlier file wins from now on; the same in place, as an editor that keeps the file.
    let mut network = network;
    network["name"] = "first".into();
    host.network("10-bad.conflist", network.clone());
    assert_eq!(cni.status().await.unwrap().network, "first");
    network["name"] = "other".into();
    host.network("10-bad.conflist", network);
    assert_eq!(cni.status().await.unwrap().network, "other");
    fs::remove_file(host.path("bin/main")).unwrap();
    assert_eq!(not_ready(&cni).await.0, "NetworkConfigInvalid");
}

#[tokio::test]
async fn plugins_are_asked_for_their_versions_once_and_the_newest_common_one_is_spoken() {
    let host = Host::new();
    let count = format!("echo >> $log/asked; {VERSIONS}");
    host.plugin_of_versions("main", &count, "", "");
    let network =
        |versions: &[&str]| json!({"cniVersions": versions, "name": "net", "type": "main"});
    let asked = || {
        fs::read_to_string(host.path("log/asked"))
            .unwrap_or_default()
            .len()
    };
    host.network("10.conf", network(&["0.3.1", "1.1.0", "0.4.0"]));
    let cni = host.cni();
    assert_eq!(cni.status().await.unwrap().version.to_string(), "0.4.0");
    for _ in 0..10 {
        cni.status().await.unwrap();
    }
    host.network("10.conf", network(&["1.1.0"]));
    let (_, message) = not_ready(&cni).await;
    let words = "does not speak cniVersion 1.1.0, only 0.3.1, 0.4.0, 1.0.0";
    assert!(message.ends_with(words), "{message}");
    assert_eq!(asked(), 1);
    // A program that is replaced is asked again.
    let newer = r#"echo >> $log/asked; echo '{"supportedVersions":["1.1.0"]}'"#;
    host.plugin_of_versions("main", newer, "", "");
    assert_eq!(cni.status().await.unwrap().version.to_string(), "1.1.0");
    assert_eq!(asked(), 2);
    host.plugin_of_versions("main", "exit 1", "", "");
    let (_, message) = not_ready(&cni).await;
    assert!(
        message.contains("does not say which versions it speaks"),
        "{message}"
    );
}

#[tokio::test]
async fn plugins_beside_the_file_belong_to_the_network() {
    let host = Host::with_chain();
    let dir = host.path("net.d/chain");
    let cni = host.cni();
    cni.status().await.unwrap();
    fs::create_dir(&dir).unwrap();
    fs::write(dir.join("20-more.conf"), r#"{"type": "more"}"#).unwrap();
    let (_, message) = not_ready(&cni).await;
    assert!(
        message.contains(r#"its plugin "more" is not installed"#),
        "{message}"
    );
    host.plugin("more", ECHO_PREVIOUS, "");
    cni.add(&attachment(host.id())).await.unwrap();
    assert_eq!(host.order(), ["ADD main", "ADD ports", "ADD more"]);
    fs::write(dir.join("20-more.conf"), r#"{"type": }"#).unwrap();
    let (_, message) = not_ready(&cni).await;
    assert!(
        message.contains("20-more.conf: expected value at line 1 column 10"),
        "{message}"
    );
    // It was inlined into the record, and goes as it came.
    host.forget_order();
    cni.del(&host.id(), &pod(), None).await.unwrap();
    assert_eq!(host.order(), ["DEL more", "DEL ports", "DEL main"]);
}

#[tokio::test]
async fn a_network_of_the_nodes_ranges_waits_for_them_and_they_are_remembered() {
    let host = Host::new();
    host.plugin("main", &format!("echo '{GIVEN}'"), "");
    host.network(
        "10.conf",
        json!({"cniVersion": "1.0.0", "name": "net", "type": "main", "capabilities": {"ipRanges": true}}),
    );
    let cni = host.cni();
    assert_eq!(not_ready(&cni).await.0, "PodCIDRMissing");
    let cidrs = ["10.244.1.0/24", "fd00:1::/64"].map(|cidr| cidr.parse().unwrap());
    cni.set_pod_cidrs(cidrs.to_vec()).unwrap();
    cni.status().await.unwrap();
    let cni = host.cni();
    cni.add(&attachment(host.id())).await.unwrap();
    let ranges = json!({"ipRanges": [[{"subnet": "10.244.1.0/24"}], [{"subnet": "fd00:1::/64"}]]});
    assert_eq!(host.stdin("ADD.main")["runtimeConfig"], ranges);
    // What is told afterwards does not count for the end of a pod that is there.
    cni.set_pod_cidrs(Vec::new()).unwrap();
    cni.del(&host.id(), &pod(), None).await.unwrap();
    assert_eq!(host.stdin("DEL.main")["runtimeConfig"], ranges);
}

async fn status_after(
    cni: &Cni,
    seen: &Result<Ready, NotReady>,
    change: impl FnOnce(),
) -> Result<Ready, NotReady> {
    let waiting = cni.status_after(seen);
    tokio::pin!(waiting);
    // Long enough for it to be waiting, as a rule; it has to hold either way.
    let early = tokio::time::timeout(Duration::from_millis(100), &mut waiting).await;
    assert!(early.is_err(), "{early:?}");
    change();
    tokio::time::timeout(PATIENCE, waiting)
        .await
        .expect("it is woken")
}

#[tokio::test]
async fn who_waits_for_a_change_is_woken_by_each_step_on_the_way_to_a_network() {
    let host = Host::new();
    fs::remove_dir(host.path("net.d")).unwrap();
    fs::remove_dir(host.path("bin")).unwrap();
    let cni = Cni::new(CniOptions {
        conf_dirs: vec![host.path("etc/cni/net.d")],
        ..host.options()
    });
    let conf = host.path("etc/cni/net.d");
    let seen = cni.status().await;
    let seen = status_after(&cni, &seen, || fs::create_dir_all(&conf).unwrap()).await;
    assert_eq!(seen.as_ref().unwrap_err().reason, "NetworkConfigMissing");
    let network = json!({"cniVersion": "1.0.0", "name": "net", "type": "main", "capabilities": {"ipRanges": true}});
    let file = conf.join("10.conf");
    // In one step, so that only one status follows.
    fs::write(host.path("new"), network.to_string()).unwrap();
    let seen = status_after(&cni, &seen, || fs::rename(host.path("new"), &file).unwrap()).await;
    assert_eq!(seen.as_ref().unwrap_err().reason, "NetworkConfigInvalid");
    let seen = status_after(&cni, &seen, || {
        fs::create_dir(host.path("bin")).unwrap();
        host.plugin("main", "", "");
    })
    .await;
    assert_eq!(seen.as_ref().unwrap_err().reason, "PodCIDRMissing");
    let cidr = "10.244.1.0/24".parse().unwrap();
    let seen = status_after(&cni, &seen, || cni.set_pod_cidrs(vec![cidr]).unwrap()).await;
    assert_eq!(seen.as_ref().unwrap().network, "net");
    let seen = status_after(&cni, &seen, || fs::remove_file(&file).unwrap()).await;
    assert_eq!(seen.unwrap_err().reason, "NetworkConfigMissing");
}
