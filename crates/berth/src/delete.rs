//! `berth delete pod`: stops pods and removes all that was made for them.

use std::collections::BTreeMap;
use std::sync::Arc;

use berth_kubelet::manifest::Validate;
use berth_kubelet::notice::What;
use berth_kubelet::pod::Pod;
use berth_kubelet::worker::{Options, PodWorkers, Report};
use berth_pod::Runtime;

use crate::cli::{DeleteArgs, EngineArgs};
use crate::exit::{Code, Failure};
use crate::{engine, get, manifests, output};

/// The grace period of `--now`, in seconds: kubectl's.
const NOW: u32 = 1;

pub(crate) async fn delete(engine: &EngineArgs, args: &DeleteArgs) -> Result<(), Failure> {
    if args.force && args.grace_period.is_some_and(|seconds| seconds > 0) {
        return Err(Failure::new(
            Code::Usage,
            "--force and --grace-period greater than 0 cannot be specified together",
        ));
    }
    let wanted = wanted(args)?;
    let runtime = Arc::new(Runtime::new(engine::connect(engine).await?));
    let mut there = get::by_pod(runtime.observe(None).await?);
    let mut missing = Vec::new();
    let (mut workers, mut notices) = PodWorkers::new(runtime, Options::default());
    let grace = match args {
        DeleteArgs { force: true, .. } => Some(0),
        DeleteArgs { now: true, .. } => Some(NOW),
        DeleteArgs { grace_period, .. } => *grace_period,
    };
    let mut names: BTreeMap<String, String> = BTreeMap::new();
    for (namespace, name) in wanted {
        let identities: Vec<_> = there
            .keys()
            .filter(|pod| pod.namespace == namespace && pod.name == name)
            .cloned()
            .collect();
        if identities.is_empty() {
            missing.push(format!(
                "pods \"{name}\" not found in the namespace {namespace}"
            ));
        }
        for identity in identities {
            let seen = there.remove(&identity).unwrap_or_default();
            let pod: Pod = get::pod_of(&identity, &seen)?;
            names.insert(identity.uid.clone(), name.clone());
            workers.remove(pod, grace);
        }
    }
    let mut interrupted = std::pin::pin!(tokio::signal::ctrl_c());
    while !workers.is_empty() {
        tokio::select! {
            result = &mut interrupted => {
                result?;
                return Err(Failure { code: 130, message: "interrupted; the engine goes on stopping what it was asked to stop, the rest is left as it is".to_owned() });
            }
            Some(notice) = notices.recv() => match notice.what {
                What::Failed { message, .. } => anstream::eprintln!("pod {}: {message}; trying again", notice.pod),
                What::Stopping { container, grace, .. } => {
                    tracing::info!("pod {}: stopping container {container} within {}s", notice.pod, grace.as_secs());
                }
                _ => {}
            },
            Some((uid, report)) = workers.next() => {
                if let (Report::Ended(_), Some(name)) = (report, names.get(&uid)) {
                    output::print(&format!("pod \"{name}\" deleted\n"))?;
                }
            }
        }
    }
    if missing.is_empty() || args.ignore_not_found {
        Ok(())
    } else {
        Err(Failure::new(Code::NotFound, missing.join("\n")))
    }
}

/// Namespace and name of each pod to be deleted.
fn wanted(args: &DeleteArgs) -> Result<Vec<(String, String)>, Failure> {
    if !args.filename.is_empty() {
        let pods = manifests::load(&args.filename, Validate::Warn)?;
        return Ok(pods
            .into_iter()
            .map(|pod| (pod.metadata.namespace, pod.metadata.name))
            .collect());
    }
    let kind = args.kind.as_deref().unwrap_or_default();
    let is_pods = |kind: &str| matches!(kind, "pods" | "pod" | "po");
    let mut names: Vec<String> = Vec::new();
    match kind.split_once('/') {
        Some((kind, name)) if is_pods(kind) => names.push(name.to_owned()),
        None if is_pods(kind) => {}
        _ => {
            return Err(Failure::new(
                Code::Usage,
                format!("berth knows no {kind:?}; it deletes pods: berth delete pod NAME"),
            ));
        }
    }
    names.extend(args.names.iter().map(|name| {
        name.strip_prefix("pod/")
            .or(name.strip_prefix("pods/"))
            .unwrap_or(name)
            .to_owned()
    }));
    if names.is_empty() {
        return Err(Failure::new(
            Code::Usage,
            "which pod? berth delete pod NAME, or -f FILE",
        ));
    }
    Ok(names
        .into_iter()
        .map(|name| (args.namespace.namespace.clone(), name))
        .collect())
}
