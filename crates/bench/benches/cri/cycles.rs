//! Whether a server grows with the pods that came and went.

use std::time::Instant;

use crate::load::Load;
use crate::process::Process;
use crate::rate::at_once;

/// How many come and go before it is looked at, when buffers and the allocator's pools have grown to their size.
const WARM_UP: usize = 200;

pub(crate) async fn measure(load: &Load, server: &Process, cycles: usize) {
    let cycle = async |_| {
        let pod = load.start().await;
        load.exec(&pod[1]).await;
        load.remove(&pod).await;
    };
    at_once(WARM_UP, cycle).await;
    let show = |done: usize| {
        println!(
            "after {done:>6} pods {:>8} KiB resident {:>5} descriptors",
            server.resident(),
            server.descriptors()
        );
    };
    show(WARM_UP);
    let begun = Instant::now();
    for part in 1..=4 {
        at_once(cycles / 4, cycle).await;
        show(WARM_UP + part * (cycles / 4));
    }
    println!(
        "{:.1} pods per second came and went",
        (cycles / 4 * 4) as f64 / begun.elapsed().as_secs_f64()
    );
}
