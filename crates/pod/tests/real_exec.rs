//! Commands in containers of a real engine: `BERTH_TEST_ENGINE` names it, and it has the image `berth.local/demo:1`.

#![allow(clippy::unwrap_used, reason = "a test's helpers fail the test")]

mod real_engine;

use std::time::Duration;

use berth_pod::pods::{ExecSpec, PodNetwork, Pods};
use berth_pod::spec::{ContainerId, ContainerSpec, PodIdentity, SandboxSpec};

const IMAGE: &str = "berth.local/demo:1";

async fn runs(pods: &Pods, container: &ContainerId, what: &str) -> bool {
    let look = ["sh", "-c", &format!("ps | grep -q '[s]leep {what}'")].map(str::to_owned);
    let output = pods.exec_sync(container, &look, None).await.unwrap();
    output.exit_code == 0
}

#[tokio::test]
async fn a_command_ends_with_its_session_and_the_main_process_does_not() {
    let Some(docker) = real_engine::docker() else {
        return;
    };
    let logs = tempfile::tempdir().unwrap();
    let pods = Pods::start(
        docker,
        logs.path().to_owned(),
        PodNetwork::Engine { before: None },
    );
    let pod = PodIdentity {
        namespace: "berth-test".into(),
        name: "sessions".into(),
        uid: format!("sessions-{}", std::process::id()),
    };
    let sandbox = SandboxSpec {
        pod,
        ..SandboxSpec::default()
    };
    let sandbox = pods.run_sandbox(sandbox).await.unwrap();
    let command = ["sleep", "611"].map(str::to_owned);
    let spec = ContainerSpec {
        name: "app".into(),
        image: IMAGE.into(),
        command: command.into(),
        ..ContainerSpec::default()
    };
    let container = pods.create_container(sandbox.clone(), spec).await.unwrap();
    pods.start_container(container.clone()).await.unwrap();

    let exec = ExecSpec {
        command: ["sh", "-c", "sleep 612 & sleep 613"]
            .map(str::to_owned)
            .into(),
        stdout: true,
        stderr: true,
        ..ExecSpec::default()
    };
    let session = pods.exec(&container, &exec).await.unwrap();
    let both =
        async || runs(&pods, &container, "612").await && runs(&pods, &container, "613").await;
    let neither =
        async || !runs(&pods, &container, "612").await && !runs(&pods, &container, "613").await;
    soon("the command runs", both).await;
    drop(session);
    soon("the command has ended", neither).await;

    let attached = pods.attach(&container, false, true, true).await.unwrap();
    drop(attached);
    assert!(runs(&pods, &container, "611").await);

    pods.stop_sandbox(sandbox.clone()).await.unwrap();
    pods.remove_sandbox(sandbox).await.unwrap();
}

async fn soon(what: &str, is_so: impl AsyncFn() -> bool) {
    let wait = async {
        while !is_so().await {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), wait)
        .await
        .unwrap_or_else(|_| panic!("not within twenty seconds: {what}"));
}
