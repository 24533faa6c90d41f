//! Reads the usage of containers, and how long that takes.
//!
//! Takes lines of a container's first process and its ID; prints the best and the median round over all of them, and the metrics of the
//! first one:
//!
//! ```console
//! $ docker ps -q --no-trunc | xargs docker inspect -f '{{.State.Pid}} {{.Id}}' | cargo run --release -p berth-pod --example usage
//! ```

use std::io::BufRead;
use std::time::Instant;

use berth_pod::stats::metrics::{Subject, samples};
use berth_pod::stats::{Cgroup, Roots, Stats};

const ROUNDS: usize = 51;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let stats = Stats::new(Roots::default());
    let mut containers: Vec<(u32, String, Cgroup)> = Vec::new();
    for line in std::io::stdin().lock().lines() {
        let line = line?;
        let (pid, id) = line
            .split_once(' ')
            .ok_or("a line is a process, a blank and an ID")?;
        let pid = pid.parse()?;
        let cgroup = stats.cgroup(stats.locate(pid, id)?);
        containers.push((pid, id.to_owned(), cgroup));
    }
    let Some((pid, id, cgroup)) = containers.first() else {
        return Err("there are no containers".into());
    };

    measure("locate", &containers, |(pid, id, _)| {
        drop(stats.locate(*pid, id));
    });
    let mut reading = stats.reading();
    measure("usage, files opened", &containers, |(_, id, cgroup)| {
        reading.usage(id, &stats.cgroup(cgroup.paths().clone()));
    });
    measure("usage", &containers, |(_, id, cgroup)| {
        reading.usage(id, cgroup);
    });
    measure("waits", &containers, |(_, _, cgroup)| {
        reading.waits(cgroup);
    });
    measure("network", &containers, |(pid, ..)| {
        reading.network(*pid);
    });
    measure("detail", &containers, |(pid, _, cgroup)| {
        reading.detail(cgroup.paths(), Some(*pid));
    });
    let usage = reading.usage(id, cgroup);
    let detail = reading.detail(cgroup.paths(), Some(*pid));
    let network = reading.network(*pid);
    let waits = reading.waits(cgroup);
    let subject = Subject {
        usage: Some(&usage),
        waits: Some(&waits),
        detail: Some(&detail),
        network: network.as_ref(),
        ..Subject::default()
    };
    measure("samples", &containers, |_| drop(samples(&subject)));

    for sample in samples(&subject) {
        let labels = sample.own_label_values.join(" ");
        println!("{} {labels} {}", sample.descriptor.name, sample.value);
    }
    Ok(())
}

fn measure<T>(what: &str, all: &[T], mut one: impl FnMut(&T)) {
    let mut rounds = [0.0; ROUNDS];
    for round in &mut rounds {
        let start = Instant::now();
        all.iter().for_each(&mut one);
        *round = start.elapsed().as_secs_f64() * 1e6;
    }
    rounds.sort_unstable_by(f64::total_cmp);
    let (best, median) = (rounds[0], rounds[ROUNDS / 2]);
    println!(
        "{what}: {} in {best:.0} µs (median {median:.0}), {:.1} µs each",
        all.len(),
        best / all.len() as f64
    );
}
