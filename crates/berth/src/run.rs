//! `berth run`: the pods of manifest files, with what happens to them and what they write, until they end or are interrupted.

use std::collections::BTreeMap;
use std::sync::Arc;

use berth_docker::Docker;
use berth_kubelet::manifest::Validate;
use berth_kubelet::notice::{Notice, What};
use berth_kubelet::pod::RestartPolicy;
use berth_kubelet::worker::{Options, Outcome, PodWorkers, Report};
use berth_pod::Runtime;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use crate::cli::{self, EngineArgs, RunArgs};
use crate::exit::{Code, Failure};
use crate::{engine, manifests};

mod log;
mod screen;

use screen::{Printer, Screen};

/// What a shell makes of a program that was ended by Ctrl-C: 128 + SIGINT.
const INTERRUPTED: u8 = 130;

/// How long the rest of the logs may take once a pod has ended.
const LAST_LINES: std::time::Duration = std::time::Duration::from_secs(2);

pub(crate) async fn run(engine: &EngineArgs, args: &RunArgs) -> Result<(), Failure> {
    let validate = match args.validate {
        cli::Validate::Strict => Validate::Strict,
        cli::Validate::Warn => Validate::Warn,
    };
    let pods = manifests::load(&args.files, validate)?;
    let docker = engine::connect(engine).await?;
    let runtime = Arc::new(Runtime::new(docker.clone()));
    let options = Options {
        sandbox_image: args.pod_infra_container_image.clone(),
    };
    let (mut workers, mut notices) = PodWorkers::new(runtime, options);
    let mut screen = Screen::new(&pods);
    let restarting = pods
        .iter()
        .any(|pod| pod.spec.restart_policy != RestartPolicy::Never);
    for pod in pods {
        workers.run(pod);
    }
    if args.detach {
        return detach(workers, notices, screen, restarting).await;
    }

    let mut logs = Logs::new(docker, screen.printer()?);
    let mut outcomes: BTreeMap<String, Outcome> = BTreeMap::new();
    let mut interrupts = 0u32;
    // Whether there was something of a pod before us, once that is known. What was there is not ours to remove.
    let mut there: BTreeMap<String, bool> = BTreeMap::new();
    let mut interrupt = Interrupts::new()?;
    loop {
        tokio::select! {
            biased;
            () = interrupt.next() => {
                interrupts += 1;
                match interrupts {
                    1 => {
                        screen.say("stopping; Ctrl-C again kills the containers at once");
                        // A worker may have begun to make things since it was last listened to.
                        while let Ok(notice) = notices.try_recv() {
                            heard(&notice, &mut there, &mut logs, &mut screen);
                        }
                        let mut is_left = false;
                        let is_ours = |uid: &String| there.get(uid) == Some(&false);
                        for uid in workers.uids() {
                            // One that has ended and has a worker is being removed, because of --rm.
                            if is_ours(&uid) {
                                workers.delete(&uid, None);
                            } else if !outcomes.contains_key(&uid) {
                                workers.leave(&uid);
                                is_left = true;
                            }
                        }
                        if is_left {
                            screen.say("what was there before goes on; `berth delete pod` removes it");
                        }
                        outcomes.keys().filter(|uid| is_ours(uid)).for_each(|uid| workers.delete(uid, None));
                    }
                    2 => {
                        screen.say("killing");
                        workers.uids().iter().for_each(|uid| workers.delete(uid, Some(0)));
                    }
                    _ => {
                        let left = "interrupted; containers may be left behind: `berth get pods` shows them, `berth delete pod` removes them";
                        return Err(Failure { code: INTERRUPTED, message: left.to_owned() });
                    }
                }
            }
            Some(notice) = notices.recv() => {
                heard(&notice, &mut there, &mut logs, &mut screen);
            }
            Some((uid, report)) = workers.next() => {
                if let Report::Ended(outcome) = report {
                    outcomes.insert(uid.clone(), outcome);
                    if matches!(outcome, Outcome::Finished { .. }) && args.rm && interrupts == 0 {
                        workers.delete(&uid, None);
                    }
                }
            }
            else => break,
        }
        if workers.is_empty() {
            break;
        }
    }
    logs.finish().await;
    while let Ok(notice) = notices.try_recv() {
        screen.show(&notice);
    }
    if interrupts > 0 {
        return Err(Failure::of_program(INTERRUPTED));
    }
    let failed = outcomes.values().any(|outcome| {
        !matches!(
            outcome,
            Outcome::Finished { succeeded: true }
                | Outcome::Removed {
                    succeeded: Some(true)
                }
        )
    });
    if failed {
        Err(Failure::of_program(Code::Failed as u8))
    } else {
        Ok(())
    }
}

fn heard(
    notice: &Notice,
    there: &mut BTreeMap<String, bool>,
    logs: &mut Logs,
    screen: &mut Screen,
) {
    if let What::Looked { there: was } = notice.what {
        // Its removal looks again; the first look counts.
        there.entry(notice.uid.clone()).or_insert(was);
    }
    logs.follow(notice);
    screen.show(notice);
}

/// Waits until each pod is as it should be, or one cannot become so.
async fn detach(
    mut workers: PodWorkers,
    mut notices: mpsc::Receiver<Notice>,
    mut screen: Screen,
    restarting: bool,
) -> Result<(), Failure> {
    let mut interrupt = Interrupts::new()?;
    let mut failures = Vec::new();
    loop {
        tokio::select! {
            biased;
            () = interrupt.next() => {
                let message = "interrupted; what was started goes on: `berth get pods` shows it, `berth delete pod` removes it";
                return Err(Failure { code: INTERRUPTED, message: message.to_owned() });
            }
            Some(notice) = notices.recv() => {
                screen.show(&notice);
                if let What::Failed { message, .. } = &notice.what {
                    failures.push(format!("pod {}/{}: {message}", notice.namespace, notice.pod));
                    workers.leave(&notice.uid);
                }
            }
            Some((uid, report)) = workers.next() => match report {
                Report::Settled => workers.leave(&uid),
                Report::Ended(Outcome::Finished { succeeded: false }) => failures.push("a container failed".to_owned()),
                Report::Ended(_) => {}
            },
        }
        if workers.is_empty() {
            break;
        }
    }
    while let Ok(notice) = notices.try_recv() {
        screen.show(&notice);
    }
    if !failures.is_empty() {
        let message = format!(
            "{}\n  `berth get pods` shows what is there, `berth delete pod` removes it",
            failures.join("\n")
        );
        return Err(Failure::new(Code::Failed, message));
    }
    if restarting {
        screen.say("detached: the containers go on, but nothing restarts them when they end, until a berth that keeps running takes the pod over");
    }
    Ok(())
}

/// The logs of the containers that run.
struct Logs {
    docker: Docker,
    tasks: JoinSet<()>,
    printer: Printer,
}

impl Logs {
    fn new(docker: Docker, printer: Printer) -> Self {
        Self {
            docker,
            tasks: JoinSet::new(),
            printer,
        }
    }

    /// Follows a container that has started, from its first line on; one that was there before, from now on.
    fn follow(&mut self, notice: &Notice) {
        let (container, id, tail) = match &notice.what {
            What::Started { container, id, .. } => (container, id, None),
            What::Found { container, id } => (container, id, Some(0)),
            _ => return,
        };
        let label = screen::label(&notice.pod, container);
        self.tasks.spawn(log::follow(
            self.docker.clone(),
            id.clone(),
            tail,
            label,
            self.printer.lines.clone(),
        ));
        while self.tasks.try_join_next().is_some() {}
    }

    /// Waits for what is still under way to be printed, unless nobody reads it.
    async fn finish(self) {
        let Printer { lines, ended } = self.printer;
        drop(lines);
        let _ = tokio::time::timeout(LAST_LINES, ended).await;
    }
}

/// Ctrl-C, and the signal with which a service manager says the same.
struct Interrupts {
    int: tokio::signal::unix::Signal,
    term: tokio::signal::unix::Signal,
}

impl Interrupts {
    fn new() -> Result<Self, Failure> {
        use tokio::signal::unix::{SignalKind, signal};
        Ok(Self {
            int: signal(SignalKind::interrupt())?,
            term: signal(SignalKind::terminate())?,
        })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.int.recv() => {}
            _ = self.term.recv() => {}
        }
    }
}
