//! A thousand log follows that have nothing to say: what they weigh, and whether an inspect beside them notices.
//!
//! The client runs in a process of its own, so that its memory is not that of the replay server and no earlier bench has
//! left freed memory behind that would be used without being counted.

use std::io::ErrorKind;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use berth_bench::measure::{Contender, Row, Target, Unit, in_turns, median_time};
use berth_bench::memory;
use berth_bench::recorded::{self, NEW};
use berth_bench::replay::{self, Answer, Replay};
use berth_docker::Docker;
use berth_docker::api::LogsOptions;
use bollard::query_parameters::LogsOptionsBuilder;
use futures_util::StreamExt;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::io::AsyncWriteExt;
use tokio::net::UnixStream;
use tokio::runtime::Runtime;
use tokio::task::JoinSet;

/// The first argument of the process that is only the client.
pub(crate) const CLIENT: &str = "--idle-follows";

const FOLLOWS: usize = 1000;
const ROUNDS: usize = 21;
const CALLS: usize = 200;
/// Inspects that are not counted, after the number of follows has changed.
const WARM_UP: usize = 50;
/// The most user memory that a follow may take, in bytes.
const MOST: f64 = 16.0 * 1024.0;

pub(crate) fn run(_: &Runtime) -> Result<Vec<Row>, String> {
    allow_descriptors();
    let inspect = recorded::body(NEW, "container-inspect-running.json");
    let mut follow = recorded::log_head(NEW);
    follow.extend(recorded::short_lines(1));
    let server = Replay::start(vec![
        ("HEAD /_ping", Answer::Reply(recorded::ping_head(NEW))),
        (
            "/containers/web/json",
            Answer::Reply(recorded::json_reply(NEW, &inspect)),
        ),
        ("/containers/web/logs", Answer::Held(follow)),
    ])
    .map_err(|error| error.to_string())?;

    let raw = client("raw", &server.path())?[0];
    let bollard = client("bollard", &server.path())?[0];
    let [berth, without, with, ratio] = client("berth", &server.path())?[..] else {
        return Err("the client process says something else than its figures".to_owned());
    };
    let weight = |name: &str, bytes: f64, target| Row {
        what: "1,000 idle log follows, memory of each".to_owned(),
        measured: format!("{name} {}", Unit::Bytes.show(bytes)),
        beside: format!("raw {}", Unit::Bytes.show(raw)),
        value: bytes,
        unit: Unit::Bytes,
        target,
    };
    Ok(vec![
        weight("berth", berth, Some(Target::AtMost(MOST))),
        weight("bollard", bollard, None),
        Row {
            what: "inspect beside 1,000 idle log follows".to_owned(),
            measured: format!("with {}", Unit::Seconds.show(with)),
            beside: format!("without {}", Unit::Seconds.show(without)),
            value: ratio,
            unit: Unit::Times,
            target: Some(Target::AtMost(1.1)),
        },
    ])
}

/// Runs the client process and reads its figures.
fn client(who: &str, socket: &Path) -> Result<Vec<f64>, String> {
    let program = std::env::current_exe().map_err(|error| error.to_string())?;
    let output = Command::new(program)
        .args([CLIENT, who])
        .arg(socket)
        .stderr(Stdio::inherit())
        .output()
        .map_err(|error| error.to_string())?;
    if !output.status.success() {
        return Err(format!("the client process ended with {}", output.status));
    }
    String::from_utf8_lossy(&output.stdout)
        .split_whitespace()
        .map(|word| {
            word.parse()
                .map_err(|_| format!("{word:?} is not a figure"))
        })
        .collect()
}

/// The client process: `who` is the client, `socket` is the server's.
pub(crate) fn client_main(runtime: &Runtime, who: &str, socket: &Path) {
    allow_descriptors();
    let docker = replay::docker(socket);
    let follow: Box<dyn Fn(&mut Follows)> = match who {
        "berth" => {
            runtime.block_on(inspect(&docker));
            Box::new(|follows| follows.start(|seen| berth(docker.clone(), seen)))
        }
        "bollard" => {
            let path = socket.display().to_string();
            let client =
                bollard::Docker::connect_with_unix(&path, 120, bollard::API_DEFAULT_VERSION)
                    .expect("the server listens");
            runtime
                .block_on(client.inspect_container("web", None))
                .expect("the server answers");
            Box::new(move |follows| follows.start(|seen| peer(client.clone(), seen)))
        }
        _ => {
            let path = socket.to_owned();
            Box::new(move |follows| follows.start(|seen| raw(path.clone(), seen)))
        }
    };

    let before = anonymous_memory();
    let follows = runtime.block_on(Follows::open(&follow));
    println!("{}", (anonymous_memory() - before) / FOLLOWS as f64);
    runtime.block_on(follows.close());
    if who != "berth" {
        return;
    }

    let inspects = async || {
        median_time(WARM_UP, async || inspect(&docker).await).await;
        median_time(CALLS, async || inspect(&docker).await).await
    };
    let figures = in_turns(
        ROUNDS,
        vec![
            Contender::new("without", || runtime.block_on(inspects())),
            Contender::new("with", || {
                runtime.block_on(async {
                    let follows = Follows::open(&follow).await;
                    let time = inspects().await;
                    follows.close().await;
                    time
                })
            }),
        ],
    );
    println!("{}", figures.median("without"));
    println!("{}", figures.median("with"));
    println!("{}", figures.ratio("with", "without"));
}

/// Open follows, a task for each.
struct Follows {
    tasks: JoinSet<()>,
    seen: Arc<AtomicUsize>,
}

impl Follows {
    /// Opens them all and waits until each has given its first line and waits for the next.
    async fn open(follow: &dyn Fn(&mut Self)) -> Self {
        let mut follows = Self {
            tasks: JoinSet::new(),
            seen: Arc::default(),
        };
        for count in 1..=FOLLOWS {
            follow(&mut follows);
            while follows.seen.load(Ordering::Relaxed) < count {
                tokio::task::yield_now().await;
            }
        }
        follows
    }

    fn start<F: Future<Output = ()> + Send + 'static>(
        &mut self,
        work: impl FnOnce(Arc<AtomicUsize>) -> F,
    ) {
        self.tasks.spawn(work(self.seen.clone()));
    }

    async fn close(mut self) {
        self.tasks.shutdown().await;
    }
}

async fn inspect(docker: &Docker) {
    let inspected = docker.inspect_container("web").await;
    inspected.expect("the server answers");
}

async fn berth(docker: Docker, seen: Arc<AtomicUsize>) {
    let options = LogsOptions {
        follow: true,
        ..LogsOptions::default()
    };
    let opened = docker.logs("web", &options).await;
    let mut output = opened.expect("the server answers");
    while let Some(frame) = output.next().await {
        frame.expect("the stream is whole");
        seen.fetch_add(1, Ordering::Relaxed);
    }
}

async fn peer(docker: bollard::Docker, seen: Arc<AtomicUsize>) {
    let options = LogsOptionsBuilder::new()
        .stdout(true)
        .stderr(true)
        .follow(true)
        .build();
    let mut output = std::pin::pin!(docker.logs("web", Some(options)));
    while let Some(frame) = output.next().await {
        frame.expect("the stream is whole");
        seen.fetch_add(1, Ordering::Relaxed);
    }
}

/// A task that waits on a socket and has no buffer: the least there can be.
async fn raw(path: std::path::PathBuf, seen: Arc<AtomicUsize>) {
    let mut stream = UnixStream::connect(path).await.expect("the server listens");
    let request = b"GET /v1.54/containers/web/logs HTTP/1.1\r\nHost: localhost\r\n\r\n";
    stream.write_all(request).await.expect("the server reads");
    loop {
        stream.readable().await.expect("the stream is whole");
        match stream.try_read(&mut [0; 1024]) {
            Ok(0) => return,
            Ok(_) => {
                seen.fetch_add(1, Ordering::Relaxed);
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(error) => panic!("{error}"),
        }
    }
}

/// The memory that this process has written to and that no file is behind, in bytes.
fn anonymous_memory() -> f64 {
    memory::of("self", "RssAnon").expect("Linux shows the memory")
}

/// The server and the client need a descriptor for each follow.
fn allow_descriptors() {
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: maximum,
        maximum,
    };
    if let Err(error) = setrlimit(Resource::Nofile, raised) {
        eprintln!("the limit on descriptors stays as it is: {error}");
    }
}
