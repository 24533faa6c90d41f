//! Pods in the network of CNI plugins: when they join it, and when they leave.
//!
//! Owns that a sandbox which has ended or gone, by whomever, is taken out of its network, also on a host whose pods join another one by now. How
//! that is done is [`crate::cni`]'s.

use std::path::PathBuf;
use std::sync::{Arc, Weak};
use std::time::Duration;

use super::{Inner, Pods, no_sandbox};
use crate::cni::{Attachment, Cidr, Cni, NotReady};
use crate::observe::Sandbox;
use crate::runtime::Error;
use crate::spec::{PodIdentity, SandboxId, SandboxSpec};
use crate::view::{Change, ChangeKind, Changes, Notice};

/// How long until those are tried again that could not leave their network.
const RETRY: Duration = Duration::from_secs(60);

/// The network of the pods that have not the host's.
#[derive(Debug)]
pub enum PodNetwork {
    /// The engine's, which each spec names.
    Engine {
        /// That of CNI plugins which pods of an earlier berth have joined. They keep their addresses, and leave it when they end.
        before: Option<Cni>,
    },
    /// That of CNI plugins.
    Cni(Cni),
}

impl PodNetwork {
    /// The one of CNI plugins that pods join.
    pub(super) fn joined(&self) -> Option<&Cni> {
        match self {
            Self::Cni(cni) => Some(cni),
            Self::Engine { .. } => None,
        }
    }

    /// The one of CNI plugins that pods may be in.
    pub(super) fn plugins(&self) -> Option<&Cni> {
        match self {
            Self::Cni(cni) => Some(cni),
            Self::Engine { before } => before.as_ref(),
        }
    }
}

impl Pods {
    /// Whether pods can join a network now. With the engine's they always can.
    ///
    /// Cancel safe.
    ///
    /// # Errors
    /// When no network of CNI plugins can be used.
    pub async fn network_ready(&self) -> Result<(), NotReady> {
        match self.0.network.joined() {
            Some(cni) => cni.status().await.map(|_| ()),
            None => Ok(()),
        }
    }

    /// Takes the ranges that the node's pods have their addresses from, one for each family. False if the engine's network gives the
    /// addresses, which has its own.
    ///
    /// # Errors
    /// When they cannot be written down. They count nevertheless.
    pub fn set_pod_cidrs(&self, cidrs: Vec<Cidr>) -> Result<bool, Error> {
        match self.0.network.joined() {
            Some(cni) => Ok(cni.set_pod_cidrs(cidrs).map(|()| true)?),
            None => Ok(false),
        }
    }

    /// The addresses of a sandbox, the first of them the one it is known by; none while it does not run, or with the host's network.
    pub fn addresses(&self, sandbox: &Sandbox) -> Vec<String> {
        let plugins = self.0.network.plugins();
        let given = plugins.and_then(|cni| cni.result(&sandbox.id));
        match given {
            Some(given) if sandbox.running => given
                .ip()
                .iter()
                .chain(given.additional_ips())
                .map(ToString::to_string)
                .collect(),
            _ => {
                let all = sandbox.ip.iter().chain(&sandbox.additional_ips);
                all.cloned().collect()
            }
        }
    }

    /// Adds a new sandbox to the network. One that an earlier call has added stays as it is.
    pub(super) async fn join(
        &self,
        cni: &Cni,
        spec: &SandboxSpec,
        id: &SandboxId,
    ) -> Result<(), Error> {
        let _turn = self.0.network_turns.of(id.as_str()).await;
        if cni.result(id).is_some() {
            return Ok(());
        }
        let sandbox = self
            .0
            .view
            .sandbox(id)
            .await?
            .ok_or_else(|| no_sandbox(id))?;
        if !sandbox.running || sandbox.process == 0 {
            return Err(Error::Invalid(format!(
                "the sandbox {id} ended before it could join the network"
            )));
        }
        cni.add(&Attachment::new(spec, id.clone(), sandbox.process))
            .await?;
        Ok(())
    }

    /// Takes a sandbox out of its network, running or not, or gone. One that is in none is fine.
    pub(super) async fn leave(&self, id: &SandboxId) -> Result<(), Error> {
        let Some(cni) = self.0.network.plugins() else {
            return Ok(());
        };
        let _turn = self.0.network_turns.of(id.as_str()).await;
        let sandbox = self.0.view.sandbox(id).await?;
        // Plugins have nothing to do where the engine's network or the host's is.
        if sandbox.as_ref().is_some_and(|sandbox| !sandbox.no_network) {
            return Ok(());
        }
        let netns = sandbox
            .as_ref()
            .filter(|sandbox| sandbox.running && sandbox.process != 0)
            .map(|sandbox| PathBuf::from(format!("/proc/{}/ns/net", sandbox.process)));
        let pod = sandbox.map_or_else(PodIdentity::default, |sandbox| sandbox.pod.clone());
        Ok(cni.del(id, &pod, netns.as_deref()).await?)
    }

    /// Takes those out of the network whose sandbox has ended or gone. False if one of them could not be.
    async fn sweep(&self, cni: &Cni) -> Result<bool, Error> {
        let mut all_left = true;
        // In this order: a sandbox is known to run before it is on record.
        for recorded in cni.attachments()? {
            let sandbox = self.0.view.sandbox(&recorded.sandbox).await?;
            if sandbox.is_some_and(|sandbox| sandbox.running) {
                continue;
            }
            if let Err(error) = self.leave(&recorded.sandbox).await {
                all_left = false;
                tracing::warn!(
                    sandbox = %recorded.sandbox, network = recorded.network, %error,
                    "a pod that has ended cannot leave its network; tried again in {RETRY:?}"
                );
            }
        }
        Ok(all_left)
    }

    /// Where pods do not join a network of plugins, says how many may be in one that nothing is on record of. False if that is not known yet.
    async fn tell_of_unrecorded(&self, cni: &Cni) -> bool {
        if self.0.network.joined().is_some() {
            return true;
        }
        let Ok(all) = self.0.view.sandboxes().await else {
            return false;
        };
        let unrecorded = |sandbox: &&Arc<Sandbox>| {
            sandbox.running && sandbox.no_network && cni.result(&sandbox.id).is_none()
        };
        let pods = all.iter().filter(unrecorded).count();
        if pods > 0 {
            tracing::warn!(
                pods,
                "pods run without a network of the engine's, and no record says what CNI plugins gave them; if an earlier start kept its records elsewhere, start with its --cni-cache-dir"
            );
        }
        true
    }
}

/// Sweeps at the start, and after each end and removal of a sandbox, for as long as there are pods.
pub(super) async fn keep(pods: Weak<Inner>, mut changes: Changes) {
    let mut is_told = false;
    loop {
        let swept = {
            let Some(pods) = pods.upgrade().map(Pods) else {
                return;
            };
            let Some(cni) = pods.0.network.plugins() else {
                return;
            };
            let swept = pods.sweep(cni).await;
            is_told = is_told || pods.tell_of_unrecorded(cni).await;
            swept
        };
        let retry = match swept {
            Ok(all_left) => !(all_left && is_told),
            Err(error) => {
                tracing::debug!(%error, "who has left the network is not known");
                true
            }
        };
        let end = async {
            loop {
                match changes.next().await {
                    None => return false,
                    Some(Notice::Lost) => return true,
                    Some(Notice::Change(change)) if is_end(&change) => return true,
                    Some(Notice::Change(_)) => {}
                }
            }
        };
        let goes_on = if retry {
            tokio::time::timeout(RETRY, end).await.unwrap_or(true)
        } else {
            end.await
        };
        if !goes_on {
            return;
        }
    }
}

/// Whether a sandbox has ended or gone.
fn is_end(change: &Change) -> bool {
    let of_sandbox = change
        .sandbox
        .as_ref()
        .is_none_or(|sandbox| sandbox.id.as_str() == change.id);
    of_sandbox && matches!(change.kind, ChangeKind::Stopped | ChangeKind::Deleted)
}
