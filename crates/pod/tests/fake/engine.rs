//! A fake engine that can go away, and what pods on it are made of.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use berth_docker::{ConnectOptions, Docker};
use berth_fake_engine::{FakeEngine, Loss};
use berth_pod::Runtime;
use berth_pod::pods::{PodNetwork, Pods};
use berth_pod::spec::{ContainerSpec, PodIdentity, SandboxSpec};

pub(crate) const IMAGE: &str = "berth.local/demo:1";

pub(crate) struct Engine {
    pub(crate) fake: FakeEngine,
    reachable: Arc<AtomicBool>,
}

impl Engine {
    /// The same engine, always reachable.
    pub(crate) fn of(fake: FakeEngine) -> Self {
        Self {
            fake,
            reachable: Arc::new(AtomicBool::new(true)),
        }
    }

    pub(crate) fn new() -> Self {
        Self {
            fake: FakeEngine::builder().image(IMAGE).build().unwrap(),
            reachable: Arc::new(AtomicBool::new(true)),
        }
    }

    /// One whose containers have other IDs than those of any other test: who looks among the host's processes finds only its own.
    pub(crate) fn with_own_ids() -> Self {
        static NUMBER: AtomicU64 = AtomicU64::new(1);
        let seed = u64::from(std::process::id()) << 32 | NUMBER.fetch_add(1, Ordering::Relaxed);
        Self::of(
            FakeEngine::builder()
                .seed(seed)
                .image(IMAGE)
                .build()
                .unwrap(),
        )
    }

    pub(crate) fn client(&self) -> Docker {
        let (fake, reachable) = (self.fake.clone(), self.reachable.clone());
        Docker::builder(ConnectOptions::new("fake://".parse().unwrap()))
            .dialer(move || {
                if reachable.load(Ordering::SeqCst) {
                    Ok(fake.connect())
                } else {
                    Err(std::io::ErrorKind::ConnectionRefused.into())
                }
            })
            .build()
            .unwrap()
    }

    /// Pods in the engine's own network.
    pub(crate) fn pods(&self, state: PathBuf) -> Pods {
        Pods::start(self.client(), state, PodNetwork::Engine { before: None })
    }

    pub(crate) fn runtime(&self) -> Arc<Runtime> {
        Arc::new(Runtime::new(self.client()))
    }

    /// Cuts every connection and takes no new ones.
    pub(crate) fn go_away(&self) {
        self.reachable.store(false, Ordering::SeqCst);
        self.fake.restart(Loss::KeepContainers);
    }

    pub(crate) fn come_back(&self) {
        self.reachable.store(true, Ordering::SeqCst);
    }
}

pub(crate) fn pod(name: &str) -> PodIdentity {
    PodIdentity {
        namespace: "test".into(),
        name: name.into(),
        uid: format!("uid-{name}"),
    }
}

pub(crate) fn sandbox(name: &str) -> SandboxSpec {
    SandboxSpec {
        pod: pod(name),
        image: Some(IMAGE.into()),
        hostname: name.into(),
        ..SandboxSpec::default()
    }
}

pub(crate) fn container(name: &str, script: &str) -> ContainerSpec {
    ContainerSpec {
        name: name.into(),
        image: IMAGE.into(),
        command: vec!["/bin/sh".into(), "-c".into(), script.into()],
        ..ContainerSpec::default()
    }
}

/// What has to be so within two seconds, as the view promises.
pub(crate) async fn soon<F: Future<Output = bool>>(what: &str, mut is_so: impl FnMut() -> F) {
    let wait = async {
        while !is_so().await {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(2), wait)
        .await
        .unwrap_or_else(|_| panic!("not within two seconds: {what}"));
}
