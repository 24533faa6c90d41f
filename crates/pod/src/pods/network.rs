//! Pods in the network of CNI plugins: when they join it, and when they leave.
//!
//! Owns that a sandbox which has gone, by whomever, is taken out of its network. How that is done is [`crate::cni`]'s.

use std::path::PathBuf;
use std::sync::Weak;
use std::time::Duration;

use super::{Inner, Pods, no_sandbox};
use crate::cni::{Attachment, Cidr, Cni, NotReady};
use crate::observe::Sandbox;
use crate::runtime::Error;
use crate::spec::{PodIdentity, SandboxId, SandboxSpec};
use crate::view::{ChangeKind, Changes, Notice};

/// The engine's network that has nothing but the loopback interface.
pub(super) const NO_NETWORK: &str = "none";

/// How long until those are tried again that could not leave their network.
const RETRY: Duration = Duration::from_secs(60);

impl Pods {
    /// Whether pods can join a network now. With the engine's they always can.
    ///
    /// Cancel safe.
    ///
    /// # Errors
    /// When no network of CNI plugins can be used.
    pub async fn network_ready(&self) -> Result<(), NotReady> {
        match &self.0.cni {
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
        match &self.0.cni {
            Some(cni) => Ok(cni.set_pod_cidrs(cidrs).map(|()| true)?),
            None => Ok(false),
        }
    }

    /// The addresses of a sandbox, the first of them the one it is known by; none while it does not run, or with the host's network.
    pub fn addresses(&self, sandbox: &Sandbox) -> Vec<String> {
        let given = self.0.cni.as_ref().and_then(|cni| cni.result(&sandbox.id));
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
        let Some(cni) = &self.0.cni else {
            return Ok(());
        };
        let sandbox = self.0.view.sandbox(id).await?;
        if sandbox.as_ref().is_some_and(|sandbox| sandbox.host_network) {
            return Ok(());
        }
        let netns = sandbox
            .as_ref()
            .filter(|sandbox| sandbox.running && sandbox.process != 0)
            .map(|sandbox| PathBuf::from(format!("/proc/{}/ns/net", sandbox.process)));
        let pod = sandbox.map_or_else(PodIdentity::default, |sandbox| sandbox.pod.clone());
        Ok(cni.del(id, &pod, netns.as_deref()).await?)
    }

    /// Takes those out of the network whose sandbox has gone. False if one of them could not be.
    async fn sweep(&self, cni: &Cni) -> Result<bool, Error> {
        let mut all_left = true;
        // In this order: a sandbox is known before it is on record.
        for recorded in cni.attachments()? {
            if self.0.view.sandbox(&recorded.sandbox).await?.is_some() {
                continue;
            }
            let _turn = self.0.turns.of(&recorded.pod.uid).await;
            if let Err(error) = self.leave(&recorded.sandbox).await {
                all_left = false;
                tracing::warn!(
                    sandbox = %recorded.sandbox, network = recorded.network, %error,
                    "a pod that has gone cannot leave its network; tried again in {RETRY:?}"
                );
            }
        }
        Ok(all_left)
    }
}

/// Sweeps at the start and after each removal, for as long as there are pods.
pub(super) async fn keep(pods: Weak<Inner>, mut changes: Changes) {
    loop {
        let swept = {
            let Some(pods) = pods.upgrade().map(Pods) else {
                return;
            };
            let Some(cni) = &pods.0.cni else {
                return;
            };
            pods.sweep(cni).await
        };
        let retry = match swept {
            Ok(all_left) => !all_left,
            Err(error) => {
                tracing::debug!(%error, "who has left the network is not known");
                true
            }
        };
        let removal = async {
            loop {
                match changes.next().await {
                    None => return false,
                    Some(Notice::Lost) => return true,
                    Some(Notice::Change(change)) if change.kind == ChangeKind::Deleted => {
                        return true;
                    }
                    Some(Notice::Change(_)) => {}
                }
            }
        };
        let goes_on = if retry {
            tokio::time::timeout(RETRY, removal).await.unwrap_or(true)
        } else {
            removal.await
        };
        if !goes_on {
            return;
        }
    }
}
