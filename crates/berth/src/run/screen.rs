//! What `berth run` prints: what happens on standard error, what containers write on standard output.

use std::collections::HashMap;
use std::io::{self, IsTerminal as _, Write as _};
use std::time::{Duration, SystemTime};

use anstyle::Style;
use berth_docker::{Line, Source};
use berth_kubelet::notice::{Notice, What};
use berth_kubelet::pod::Pod;
use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use tokio::sync::{mpsc, oneshot};

use crate::output;

/// How many lines wait for a slow reader before the engine has to.
const LINES: usize = 256;

/// The prefix of a container's lines.
pub(super) fn label(pod: &str, container: &str) -> String {
    format!("{pod}/{container}")
}

/// Prints lines of containers, each with its label, as they are: what a container writes is its business.
pub(super) struct Printer {
    pub(super) lines: mpsc::Sender<(String, Line)>,
    /// Ends once everything has been printed and nobody can send more.
    pub(super) ended: oneshot::Receiver<()>,
}

pub(super) struct Screen {
    /// The colour of each container's prefix.
    styles: HashMap<String, Style>,
    /// How wide the prefixes are.
    width: usize,
    bars: MultiProgress,
    pulls: HashMap<String, ProgressBar>,
    is_terminal: bool,
}

impl Screen {
    pub(super) fn new(pods: &[Pod]) -> Self {
        let labels: Vec<String> = pods
            .iter()
            .flat_map(|pod| {
                pod.spec
                    .containers
                    .iter()
                    .map(|container| label(&pod.metadata.name, &container.name))
            })
            .collect();
        let width = labels.iter().map(String::len).max().unwrap_or_default();
        let styles = labels
            .into_iter()
            .enumerate()
            .map(|(index, label)| (label, output::prefix_style(index)))
            .collect();
        let is_terminal = std::io::stderr().is_terminal();
        let target = if is_terminal {
            ProgressDrawTarget::stderr()
        } else {
            ProgressDrawTarget::hidden()
        };
        Self {
            styles,
            width,
            bars: MultiProgress::with_draw_target(target),
            pulls: HashMap::new(),
            is_terminal,
        }
    }

    /// A line of ours.
    pub(super) fn say(&self, text: &str) {
        self.bars.suspend(|| anstream::eprintln!("{text}"));
    }

    /// Begins to print lines of containers, in a thread of their own: a reader that does not read holds up the logs and nothing else.
    pub(super) fn printer(&self) -> io::Result<Printer> {
        let stdout = io::stdout();
        let is_styled = anstream::AutoStream::choice(&stdout) != anstream::ColorChoice::Never;
        let styles = if is_styled {
            self.styles.clone()
        } else {
            HashMap::new()
        };
        let width = self.width;
        // Progress is drawn over what is printed, where both go to the terminal.
        let bars = (self.is_terminal && stdout.is_terminal()).then(|| self.bars.clone());
        let (lines, mut receiver) = mpsc::channel::<(String, Line)>(LINES);
        let (alive, ended) = oneshot::channel::<()>();
        std::thread::Builder::new()
            .name("lines".to_owned())
            .spawn(move || {
                let _alive = alive;
                let mut out = Vec::new();
                while let Some((label, line)) = receiver.blocking_recv() {
                    let style = styles.get(&label).copied().unwrap_or_default();
                    let bar = if line.source == Source::Stderr {
                        '!'
                    } else {
                        '|'
                    };
                    out.clear();
                    // Writing to a vector cannot fail.
                    let _ = write!(out, "{style}{label:width$} {bar}{style:#} ");
                    out.extend_from_slice(&line.bytes);
                    out.push(b'\n');
                    // A reader that has gone away is no reason to stop the pod.
                    let print = || drop(stdout.lock().write_all(&out));
                    match &bars {
                        Some(bars) => bars.suspend(print),
                        None => print(),
                    }
                }
                let _ = stdout.lock().flush();
            })?;
        Ok(Printer { lines, ended })
    }

    /// What a worker tells.
    pub(super) fn show(&mut self, notice: &Notice) {
        let pod = if notice.namespace == "default" {
            notice.pod.clone()
        } else {
            format!("{}/{}", notice.namespace, notice.pod)
        };
        let container = |name: &Option<String>| {
            name.as_ref()
                .map(|name| format!(" container {name}:"))
                .unwrap_or_default()
        };
        let text = match &notice.what {
            What::SandboxStarted { ip: Some(ip) } => {
                format!("pod {pod}: sandbox started, address {ip}")
            }
            What::SandboxStarted { ip: None } => {
                format!("pod {pod}: sandbox started on the host's network")
            }
            What::Pulling { image } => {
                if self.is_terminal {
                    let bar = self.bars.add(ProgressBar::new(0));
                    // The template is fixed; it parses.
                    if let Ok(style) =
                        ProgressStyle::with_template("{msg:40!} {bar:30} {bytes}/{total_bytes}")
                    {
                        bar.set_style(style);
                    }
                    bar.set_message(format!("pulling {image}"));
                    self.pulls.insert(image.clone(), bar);
                    return;
                }
                format!("pod {pod}: pulling image {image}")
            }
            What::PullProgress {
                image,
                done,
                total,
                layers_done,
                layers,
                status,
            } => {
                if let Some(bar) = self.pulls.get(image) {
                    bar.set_length(*total);
                    bar.set_position(*done);
                    let layers = if *layers > 0 {
                        format!(" ({layers_done}/{layers} layers)")
                    } else {
                        format!(" {status}")
                    };
                    bar.set_message(format!("pulling {image}{layers}"));
                }
                return;
            }
            What::Pulled { image, took } => {
                if let Some(bar) = self.pulls.remove(image) {
                    bar.finish_and_clear();
                    self.bars.remove(&bar);
                }
                format!(
                    "pod {pod}: pulled image {image} in {:.1}s",
                    took.as_secs_f64()
                )
            }
            What::Started {
                container,
                attempt: 0,
                ..
            } => format!("pod {pod}: started container {container}"),
            What::Started {
                container, attempt, ..
            } => format!("pod {pod}: started container {container} again (restart {attempt})"),
            What::Found { container, .. } => {
                format!("pod {pod}: container {container} is running already")
            }
            What::Exited {
                container,
                exit_code,
                reason,
                message,
            } => {
                let message = if message.is_empty() {
                    String::new()
                } else {
                    format!(": {message}")
                };
                format!(
                    "pod {pod}: container {container} ended with exit code {exit_code} ({reason}){message}"
                )
            }
            What::Waiting {
                container: name,
                reason,
                until,
            } => {
                let left = until.duration_since(SystemTime::now()).unwrap_or_default();
                format!(
                    "pod {pod}:{} {reason}, trying again in {}s",
                    container(name),
                    left.as_secs().max(1)
                )
            }
            What::Stopping {
                container,
                grace,
                why,
            } => {
                let grace = if *grace == Duration::ZERO {
                    "at once".to_owned()
                } else {
                    format!("within {}s", grace.as_secs())
                };
                format!("pod {pod}: stopping container {container} {grace} ({why})")
            }
            What::Failed {
                container: name,
                message,
            } => {
                for (_, bar) in self.pulls.drain() {
                    bar.finish_and_clear();
                }
                let style = output::ERROR;
                format!(
                    "pod {pod}:{} {style}failed:{style:#} {message}",
                    container(name)
                )
            }
            What::RemovedElsewhere => format!("pod {pod}: somebody else removed it"),
            What::Removed => format!("pod {pod}: removed"),
            _ => return,
        };
        self.say(&text);
    }
}
