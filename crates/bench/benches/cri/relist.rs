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
/// How long each part takes.
const WHILE: Duration = Duration::from_secs(30);

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
    tokio::time::sleep(WHILE).await;
    let idle = cpu();
    let begun = Instant::now();
    let mut ticks = tokio::time::interval(PERIOD);
    let mut looks = 0;
    let mut longest = Duration::ZERO;
    while begun.elapsed() < WHILE {
        ticks.tick().await;
        let look_begun = Instant::now();
        look(load, &pods).await;
        longest = longest.max(look_begun.elapsed());
        looks += 1;
    }
    let after = cpu();
    println!("with {PODS} pods, {looks} looks in {WHILE:?}, the longest {longest:.2?}:");
    for (index, (name, _)) in processes.iter().enumerate() {
        let (Some(before), Some(idle), Some(after)) = (before[index], idle[index], after[index])
        else {
            println!("{name:<34} cannot be seen from here");
            continue;
        };
        let share = |time: Duration| 100.0 * time.as_secs_f64() / WHILE.as_secs_f64();
        println!(
            "{:<34} {:>8.2} %  idle {:.2} %",
            format!("CPU of {name}"),
            share(after - idle),
            share(idle - before)
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
