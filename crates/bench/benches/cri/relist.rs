//! What a kubelet that looks every second costs.

use std::time::{Duration, Instant};

use berth_cri::v1;

use crate::load::Load;
use crate::process::Process;
use crate::rate::at_once;

/// How many pods there are.
const PODS: usize = 50;
/// Between two looks, as the kubelet's PLEG.
const PERIOD: Duration = Duration::from_secs(1);
/// How many looks there are; as long nothing is asked before them.
const LOOKS: u32 = 30;

pub(crate) async fn measure(load: &Load, server: Option<Process>, engine: Option<Process>) {
    let pods = at_once(PODS, async |_| load.start().await).await;
    let processes = [("the server", server), ("the engine", engine)];
    let cpu = || {
        let of = |(_, process): &(&str, Option<Process>)| process.as_ref().map(Process::cpu);
        processes.iter().map(of).collect::<Vec<_>>()
    };
    // What was begun by the starts has ended.
    tokio::time::sleep(PERIOD * 3).await;
    let before = cpu();
    tokio::time::sleep(PERIOD * LOOKS).await;
    let idle = cpu();
    let looking = Instant::now();
    let mut ticks = tokio::time::interval(PERIOD);
    let mut longest = Duration::ZERO;
    for _ in 0..LOOKS {
        ticks.tick().await;
        let begun = Instant::now();
        look(load, &pods).await;
        longest = longest.max(begun.elapsed());
    }
    // The last has its second too.
    ticks.tick().await;
    let (looking, after) = (looking.elapsed(), cpu());
    println!("with {PODS} pods, {LOOKS} looks in {looking:.1?}, the longest {longest:.2?}:");
    for (index, (name, _)) in processes.iter().enumerate() {
        let (Some(before), Some(idle), Some(after)) = (before[index], idle[index], after[index])
        else {
            println!("{name:<34} cannot be seen from here");
            continue;
        };
        let share = |used: Duration, of: Duration| 100.0 * used.as_secs_f64() / of.as_secs_f64();
        println!(
            "{:<34} {:>8.2} %  idle {:.2} %",
            format!("CPU of {name}"),
            share(after - idle, looking),
            share(idle - before, PERIOD * LOOKS)
        );
    }
    at_once(PODS, async |number| load.remove(&pods[number]).await).await;
}

/// Lists, and the status of each.
async fn look(load: &Load, pods: &[[String; 2]]) {
    let mut runtime = load.runtime();
    runtime
        .list_pod_sandbox(v1::ListPodSandboxRequest::default())
        .await
        .unwrap();
    runtime
        .list_containers(v1::ListContainersRequest::default())
        .await
        .unwrap();
    for [sandbox, container] in pods {
        let request = v1::PodSandboxStatusRequest {
            pod_sandbox_id: sandbox.clone(),
            verbose: false,
        };
        runtime.pod_sandbox_status(request).await.unwrap();
        let request = v1::ContainerStatusRequest {
            container_id: container.clone(),
            verbose: false,
        };
        runtime.container_status(request).await.unwrap();
    }
}
