//! What every Docker Engine does, as checks over a [`Docker`] client, so that a fake engine cannot drift from a real one.
//!
//! Owns the list of [`checks`], and that each leaves the engine as it found it, however it ends. A check's name states a
//! property; where engines of different versions differ, the check names the version and holds each to its own side.
//! Refuses to know whether the engine is real: there is one truth for both.
//!
//! ```no_run
//! # async fn example(docker: berth_docker::Docker) {
//! let subject = berth_contract::Subject::new(docker, "busybox");
//! for check in berth_contract::checks() {
//!     match check.run(&subject).await {
//!         Ok(()) => println!("{}: ok", check.name),
//!         Err(violation) => println!("{}: {violation}", check.name),
//!     }
//! }
//! # }
//! ```

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use berth_docker::{Docker, Metrics, Operation};
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use tokio::sync::{RwLock, RwLockReadGuard, RwLockWriteGuard};

mod archive;
mod attach;
mod case;
mod containers;
mod containers_config;
mod containers_life;
mod containers_list;
mod errors;
mod events;
mod exec;
mod images;
mod logs;
mod networks;
mod prune;
mod registry;
mod streams;
mod system;
mod violation;
mod volumes;
mod wait;

use case::Case;
pub use violation::Violation;

/// How long a check may take: many times what it needs on a loaded machine.
const CHECK_DEADLINE: Duration = Duration::from_secs(120);

/// How long it may take to remove what a check made.
const CLEANUP_DEADLINE: Duration = Duration::from_secs(60);

/// The engine that is checked. Clones are the same run.
///
/// Everything that checks make carries the label `berth.contract` with the run's id, so what a killed run left behind is
/// found by it.
#[derive(Clone, Debug)]
pub struct Subject {
    docker: Docker,
    image: Arc<str>,
    registry: Option<Arc<str>>,
    run: Arc<str>,
    /// Written by a check that has the engine for itself, read by all others.
    alone: Arc<RwLock<()>>,
}

impl Subject {
    /// The engine of this client, which has an `image` with busybox's programs and `/bin/sh`.
    #[must_use]
    pub fn new(docker: Docker, image: &str) -> Self {
        let now = SystemTime::now()
            .duration_since(SystemTime::UNIX_EPOCH)
            .unwrap_or_default();
        let run = format!(
            "{:x}{:x}{:05x}",
            std::process::id(),
            now.as_secs() & 0xff_ffff,
            now.subsec_micros()
        );
        Self {
            docker,
            image: image.into(),
            registry: None,
            run: run.into(),
            alone: Arc::default(),
        }
    }

    /// A registry (`host:port`) that the engine can pull from and push to without credentials.
    #[must_use]
    pub fn with_registry(mut self, registry: &str) -> Self {
        self.registry = Some(registry.into());
        self
    }

    /// The client.
    #[must_use]
    pub fn docker(&self) -> &Docker {
        &self.docker
    }

    /// Whether there is a registry, which some checks need.
    #[must_use]
    pub fn has_registry(&self) -> bool {
        self.registry.is_some()
    }
}

/// One property that an engine has.
#[derive(Debug)]
pub struct Check {
    /// The property: its group and a claim, such as `logs::tail_gives_the_last_lines`.
    pub name: &'static str,
    /// Whether it can only be checked with a registry.
    pub needs_registry: bool,
    /// Whether no other check may run meanwhile; such a check waits for its turn.
    alone: bool,
    body: fn(Case) -> BoxFuture<'static, Result<(), Violation>>,
}

impl Check {
    /// Checks the property, and removes what was made for it.
    ///
    /// Takes at most three minutes once it has its turn. Dropping the future leaves what was made so far.
    ///
    /// # Errors
    /// When the engine does not have the property, or something that was made cannot be removed.
    pub async fn run(&self, subject: &Subject) -> Result<(), Violation> {
        let _turn = if self.alone {
            Turn::Alone(subject.alone.write().await)
        } else {
            Turn::Shared(subject.alone.read().await)
        };
        let case = Case::new(subject, self.name);
        let body = AssertUnwindSafe((self.body)(case.clone())).catch_unwind();
        let result = match tokio::time::timeout(CHECK_DEADLINE, body).await {
            Ok(Ok(result)) => result,
            Ok(Err(_)) => Err(Violation::new("the check panicked; its message is above")),
            Err(_) => Err(Violation::new(format!("not done after {CHECK_DEADLINE:?}"))),
        };
        let cleaned = match tokio::time::timeout(CLEANUP_DEADLINE, case.clean_up()).await {
            Ok(result) => result,
            Err(_) => Err(Violation::new(format!(
                "cleaning up was not done after {CLEANUP_DEADLINE:?}"
            ))),
        };
        result.and(cleaned)
    }
}

/// What a check holds while it runs.
enum Turn<'a> {
    Shared(#[expect(dead_code, reason = "held, not read")] RwLockReadGuard<'a, ()>),
    Alone(#[expect(dead_code, reason = "held, not read")] RwLockWriteGuard<'a, ()>),
}

/// All checks, group by group.
pub fn checks() -> impl Iterator<Item = &'static Check> {
    [
        // First, so that nothing has to be waited for before they have the engine for themselves.
        prune::CHECKS,
        system::CHECKS,
        containers::CHECKS,
        containers_life::CHECKS,
        containers_list::CHECKS,
        containers_config::CHECKS,
        wait::CHECKS,
        exec::CHECKS,
        attach::CHECKS,
        logs::CHECKS,
        archive::CHECKS,
        images::CHECKS,
        registry::CHECKS,
        networks::CHECKS,
        volumes::CHECKS,
        events::CHECKS,
        streams::CHECKS,
        errors::CHECKS,
    ]
    .into_iter()
    .flatten()
}

/// The operations of the client that never succeeded: after a run of all checks there are none, but for those of a
/// registry that is not there.
#[must_use]
pub fn unexercised(metrics: &Metrics) -> Vec<Operation> {
    let mut missing: Vec<Operation> = Operation::ALL.to_vec();
    // Only errors have this name; the question itself is a ping.
    missing.retain(|operation| {
        *operation != Operation::NEGOTIATE
            && metrics.calls(*operation) <= metrics.errors(*operation)
    });
    missing
}

/// A group's list of checks; the names are the functions'.
macro_rules! group {
    ($group:literal; alone: $($name:ident,)*) => {
        pub(crate) const CHECKS: &[crate::Check] = &[$(crate::group!(@ $group, $name, false, true),)*];
    };
    ($group:literal; $($name:ident,)* $(; with a registry: $($remote:ident,)*)?) => {
        pub(crate) const CHECKS: &[crate::Check] = &[
            $(crate::group!(@ $group, $name, false, false),)*
            $($(crate::group!(@ $group, $remote, true, false),)*)?
        ];
    };
    (@ $group:literal, $name:ident, $needs_registry:literal, $alone:literal) => {
        crate::Check {
            name: concat!($group, "::", stringify!($name)),
            needs_registry: $needs_registry,
            alone: $alone,
            body: |case| Box::pin($name(case)),
        }
    };
}
use group;
