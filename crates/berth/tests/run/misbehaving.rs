//! `berth run` on an engine that does not do as it should.

use std::io::{BufRead as _, BufReader};
use std::process::Stdio;
use std::time::Duration;

use berth_fake_engine::{
    Delay, FakeEngine, Fault, FaultKind, Operation, RegistryAnswer, RegistryBehaviour, Server, When,
};
use rustix::process::Signal;

use crate::engine::{Engine, Foreground, IMAGE};
use crate::scenarios::{SERVE, manifest};

/// A fake engine in this process, where a test can get at it.
struct Fake {
    fake: FakeEngine,
    engine: Engine,
    _server: Server,
    _directory: tempfile::TempDir,
    _runtime: tokio::runtime::Runtime,
}

impl Fake {
    fn start() -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let fake = FakeEngine::builder().build().unwrap();
        let directory = tempfile::tempdir().unwrap();
        let socket = directory.path().join("engine.sock");
        let server = {
            let _inside = runtime.enter();
            fake.serve_unix(&socket).unwrap()
        };
        Self {
            fake,
            engine: Engine::at(format!("unix://{}", socket.display())),
            _server: server,
            _directory: directory,
            _runtime: runtime,
        }
    }

    /// Interrupts once, and waits for the end.
    fn interrupt(&self, berth: Foreground) -> Vec<String> {
        berth.signal(Signal::INT);
        let (code, lines) = berth.end();
        assert_eq!(code, Some(130), "{lines:?}");
        lines
    }
}

#[test]
fn ctrl_c_ends_a_pull() {
    for (image, flags) in [
        (IMAGE, &[][..]),
        (
            "registry.local/pause:1",
            &["--pod-infra-container-image", "registry.local/pause:1"],
        ),
    ] {
        let fake = Fake::start();
        fake.fake
            .set_registry(RegistryBehaviour::default().rule(image, RegistryAnswer::StallMidway));
        let pod = manifest("pulls", "Always", 5, &[("a", SERVE)]);
        let mut berth = Foreground::run(&fake.engine, flags, &pod);
        berth.until(&format!("pulling image {image}"));
        let lines = fake.interrupt(berth);
        assert!(
            lines.iter().any(|line| line.contains("removed")),
            "{lines:?}"
        );
        assert_eq!(fake.engine.pod("pulls"), None);
    }
}

#[test]
fn ctrl_c_leaves_pods_that_have_not_been_looked_at() {
    let fake = Fake::start();
    let pod = manifest("there", "Always", 5, &[("a", SERVE)]);
    assert_eq!(fake.engine.run_manifest(&["-d"], &pod).code, Some(0));
    let before = fake.engine.ids("there");
    fake.fake.add_fault(Fault::on(
        Operation::ListContainers,
        FaultKind::Error {
            status: 500,
            message: "not now".to_owned(),
        },
    ));
    let mut berth = Foreground::run(&fake.engine, &[], &pod);
    berth.until("not now");
    fake.interrupt(berth);
    fake.fake.clear_faults();
    assert_eq!(fake.engine.ids("there"), before);
}

#[test]
fn each_line_is_shown_once_though_the_log_is_cut() {
    let fake = Fake::start();
    fake.fake
        .add_fault(Fault::on(Operation::Logs, FaultKind::TruncateBody(300)).when(When::First(2)));
    let script = "trap 'exit 0' TERM; i=0; while [ $i -lt 30 ]; do echo out $i; echo err $i >&2; i=$((i+1)); done; \
        while true; do sleep 0.1; done";
    let pod = manifest("cut", "Always", 5, &[("a", script)]);
    let mut berth = Foreground::run_to(Stdio::piped(), &fake.engine, &[], &pod);
    let mut shown: Vec<String> = BufReader::new(berth.stdout())
        .lines()
        .map(Result::unwrap)
        .take(60)
        .collect();
    let calls = fake.fake.calls().of(Operation::Logs);
    let lines = fake.interrupt(berth);
    assert_eq!(calls, 3, "{lines:?}");
    let mut expected: Vec<String> = (0..30)
        .flat_map(|i| [format!("cut/a | out {i}"), format!("cut/a ! err {i}")])
        .collect();
    // The outputs are two; their order among each other is nobody's.
    shown.sort();
    expected.sort();
    assert_eq!(shown, expected, "{lines:?}");
}

#[test]
fn a_pod_that_is_deleted_elsewhere_stays_deleted_whoever_is_slower() {
    // The delayed calls are those of the run that restarts, of the deletion, or of both.
    for slow in [
        Operation::CreateContainer,
        Operation::StartContainer,
        Operation::RemoveContainer,
        Operation::ListContainers,
        Operation::InspectContainer,
    ] {
        for when in [When::Nth(1), When::Nth(2), When::Nth(3), When::Always] {
            let fake = Fake::start();
            let pod = manifest("both", "Always", 5, &[("a", SERVE)]);
            let mut berth = Foreground::run(&fake.engine, &[], &pod);
            berth.until("started container a");
            let delay = FaultKind::Delay(Delay::Fixed(Duration::from_millis(100)));
            fake.fake.add_fault(Fault::on(slow, delay).when(when));
            let deleted = fake.engine.run(&["delete", "pod", "both", "--force"]);
            assert_eq!(deleted.code, Some(0), "{slow:?} {when:?}: {deleted:?}");
            let (code, lines) = berth.end();
            assert_eq!(code, Some(1), "{slow:?} {when:?}: {lines:?}");
            assert!(
                lines.iter().any(|line| line.contains("somebody else")),
                "{slow:?} {when:?}: {lines:?}"
            );
            assert_eq!(fake.engine.pod("both"), None, "{slow:?} {when:?}");
        }
    }
}
