//! Exec, attach and port-forward: between the streams of a client and those of the engine.

use std::convert::Infallible;
use std::future::pending;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use berth_docker::{Source, UpgradedWriter};
use berth_pod::netns;
use berth_pod::pods::{ExecSpec, Pods, Session as EngineSession, Terminal};
use berth_pod::spec::{ContainerId, SandboxId};
use berth_pod::view::Notice;
use berth_streaming::{Outcome, Resizes, Server, Session, Stdin, Streams, Wanted};
use tokio::io::{AsyncRead, AsyncReadExt as _, ReadBuf};
use tokio::net::tcp::OwnedReadHalf;
use tonic::Status;

use crate::status;
use crate::v1;

/// How much of a client's input is passed on at a time.
const CHUNK: usize = 32 << 10;

/// Which streams a client may ask for.
fn check(wanted: Wanted) -> Result<Wanted, Status> {
    if !(wanted.stdin || wanted.stdout || wanted.stderr) {
        return Err(Status::invalid_argument(
            "none of stdin, stdout and stderr is asked for",
        ));
    }
    if wanted.tty && wanted.stderr {
        return Err(Status::invalid_argument(
            "a terminal has no stderr of its own: ask for one of the two",
        ));
    }
    Ok(wanted)
}

/// Where the client finds its session.
fn registered(server: &Server, session: Session) -> Result<String, Status> {
    server
        .register(session)
        .map_err(|error| Status::resource_exhausted(error.to_string()))
}

/// Prepares a command; it is started when its client comes.
pub(crate) async fn exec(
    server: &Server,
    pods: &Pods,
    request: v1::ExecRequest,
) -> Result<String, Status> {
    if request.container_id.is_empty() || request.cmd.is_empty() {
        return Err(Status::invalid_argument("container_id or cmd is empty"));
    }
    let wanted = check(Wanted {
        stdin: request.stdin,
        stdout: request.stdout,
        stderr: request.stderr,
        tty: request.tty,
    })?;
    let id = ContainerId::new(request.container_id);
    pods.check_running(&id).await.map_err(status::of)?;
    let spec = ExecSpec {
        command: request.cmd,
        tty: request.tty,
        stdin: request.stdin,
        stdout: request.stdout,
        stderr: request.stderr,
    };
    let pods = pods.clone();
    registered(
        server,
        Session::exec(wanted, async move |streams| {
            match pods.exec(&id, &spec).await {
                Ok(session) => joined(session, streams).await,
                Err(error) => {
                    Outcome::Failed(format!("error executing command in container: {error}"))
                }
            }
        }),
    )
}

/// Prepares to attach; it is done when the client comes.
pub(crate) async fn attach(
    server: &Server,
    pods: &Pods,
    request: v1::AttachRequest,
) -> Result<String, Status> {
    if request.container_id.is_empty() {
        return Err(Status::invalid_argument("container_id is empty"));
    }
    let wanted = check(Wanted {
        stdin: request.stdin,
        stdout: request.stdout,
        stderr: request.stderr,
        tty: request.tty,
    })?;
    let id = ContainerId::new(request.container_id);
    pods.check_running(&id).await.map_err(status::of)?;
    let pods = pods.clone();
    registered(
        server,
        Session::attach(wanted, async move |streams| {
            let session = pods
                .attach(&id, wanted.stdin, wanted.stdout, wanted.stderr)
                .await;
            match session {
                Ok(session) => joined(session, streams).await,
                Err(error) => Outcome::Failed(format!("error attaching to container: {error}")),
            }
        }),
    )
}

/// Prepares to connect to ports of a pod.
pub(crate) async fn port_forward(
    server: &Server,
    pods: &Pods,
    request: v1::PortForwardRequest,
) -> Result<String, Status> {
    if request.pod_sandbox_id.is_empty() {
        return Err(Status::invalid_argument("pod_sandbox_id is empty"));
    }
    let id = SandboxId::new(request.pod_sandbox_id);
    let sandbox = pods.view().sandbox(&id).await.map_err(status::of)?;
    let sandbox = sandbox.ok_or_else(|| Status::not_found(format!("there is no sandbox {id}")))?;
    if !sandbox.running {
        return Err(Status::failed_precondition(format!(
            "the sandbox {id} does not run"
        )));
    }
    let ports: Result<Vec<u16>, _> = request.port.into_iter().map(u16::try_from).collect();
    let ports = ports.map_err(|_| Status::invalid_argument("port: not between 0 and 65535"))?;
    let pods = pods.clone();
    registered(
        server,
        Session::port_forward(ports, move |port| {
            let (pods, id) = (pods.clone(), id.clone());
            async move {
                // It may have ended since, and its number be another process's.
                let sandbox = pods.view().sandbox(&id).await.ok().flatten();
                let sandbox = sandbox
                    .filter(|sandbox| sandbox.running)
                    .ok_or_else(|| std::io::Error::other(format!("the sandbox {id} is gone")))?;
                let process = (!sandbox.host_network).then_some(sandbox.process);
                let (stream, to) = netns::connect(process, port).await?.into_split();
                let from = OfPod {
                    stream,
                    stopped: Some(Box::pin(stopped(pods, id))),
                };
                Ok(Box::new(tokio::io::join(from, to)) as Box<dyn berth_streaming::Duplex>)
            }
        }),
    )
}

/// Ends when the sandbox does not run any more.
async fn stopped(pods: Pods, id: SandboxId) {
    let mut changes = pods.view().subscribe();
    loop {
        match pods.view().sandbox(&id).await {
            Ok(None) => return,
            Ok(Some(sandbox)) if !sandbox.running => return,
            // While the engine is away nothing is known, and what runs goes on.
            _ => {}
        }
        loop {
            match changes.next().await {
                Some(Notice::Change(change)) if change.id != id.as_str() => {}
                Some(_) => break,
                None => return,
            }
        }
    }
}

/// What comes from a port of a pod, until the pod stops: an open connection would keep the network that the pod had, for as long as its
/// client likes.
struct OfPod {
    stream: OwnedReadHalf,
    /// `None` once it has.
    stopped: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
}

impl AsyncRead for OfPod {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if let Some(stopped) = &mut self.stopped
            && stopped.as_mut().poll(cx).is_ready()
        {
            self.stopped = None;
        }
        if self.stopped.is_none() {
            return Poll::Ready(Err(io::Error::other("the pod has stopped")));
        }
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

/// Passes everything on until the process's output has ended. Dropped when the client goes: a command then ends, a main process goes on.
async fn joined(session: EngineSession, streams: Streams) -> Outcome {
    let EngineSession {
        mut input,
        input_ends,
        mut output,
        terminal,
        end,
    } = session;
    let Streams {
        stdin,
        mut stdout,
        mut stderr,
        resizes,
    } = streams;
    let shown = async {
        while let Some(frame) = output.next().await {
            let frame = frame?;
            let to = match frame.source {
                Source::Stderr => stderr.as_mut(),
                _ => stdout.as_mut(),
            };
            if let Some(to) = to
                && to.send(frame.bytes).await.is_err()
            {
                // It wants no more of it.
                break;
            }
        }
        Ok::<(), berth_docker::Error>(())
    };
    // Neither the end of the input nor that of the sizes is the end of the session.
    let fed = async {
        if let Some(stdin) = stdin
            && feed(stdin, &mut input).await
            && input_ends
            && let Err(error) = input.shutdown().await
        {
            tracing::debug!(%error, "the end of the input was not passed on");
        }
        pending::<Infallible>().await
    };
    let sized = async {
        if let (Some(resizes), Some(terminal)) = (resizes, terminal) {
            resize(resizes, &terminal).await;
        }
        pending::<Infallible>().await
    };
    let result = tokio::select! {
        result = shown => result,
        never = fed => match never {},
        never = sized => match never {},
    };
    if let Err(error) = result {
        return Outcome::Failed(error.to_string());
    }
    let Some(mut end) = end else {
        return Outcome::Success;
    };
    match end.exit_code().await {
        // A code has eight bits; more can only come from a broken engine.
        Ok(code) => Outcome::Exited(u8::try_from(code).unwrap_or(u8::MAX)),
        Err(error) => Outcome::Failed(error.to_string()),
    }
}

/// Passes a client's input on; true when it has come to its end.
async fn feed(mut stdin: Stdin, input: &mut UpgradedWriter) -> bool {
    let mut chunk = vec![0; CHUNK];
    loop {
        match stdin.read(&mut chunk).await {
            Ok(0) => return true,
            // When the process takes no more it may still have more to say.
            Ok(length) if input.write_all(&chunk[..length]).await.is_err() => return false,
            Ok(_) => {}
            // The client is gone without an end.
            Err(_) => return false,
        }
    }
}

async fn resize(mut resizes: Resizes, terminal: &Terminal) {
    while let Some(size) = resizes.next().await {
        if let Err(error) = terminal.resize(size.width, size.height).await {
            tracing::debug!(%error, "a terminal keeps its size");
        }
    }
}
