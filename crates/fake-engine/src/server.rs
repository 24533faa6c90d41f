//! Owns one connection: reads requests, checks versions, routes, arms faults, and hands the connection over to streams.

use std::sync::{Arc, Mutex, PoisonError};

use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::header::{CONNECTION, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;

use crate::containers::{self, attach, exec, logs, requests};
use crate::engine::Inner;
use crate::fault::FaultKind;
use crate::http::{
    Answer, ApiError, Body, Call, Query, Reply, empty, full, percent_decode, set_header,
};
use crate::operation::Operation;
use crate::session::Session;
use crate::version::ApiVersion;
use crate::wire::{Mode, Stream, Wire, WireIo};
use crate::{disk_usage, events, images, networks, system, volumes};

/// What becomes of a connection that leaves HTTP.
enum After {
    Session(Box<Session>, Mode),
    Garbage(Vec<u8>),
}

/// No answer: hyper closes the connection.
#[derive(Debug)]
struct Dropped;

impl std::fmt::Display for Dropped {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("the connection is dropped without an answer")
    }
}

impl std::error::Error for Dropped {}

/// Serves a connection until it ends.
pub(crate) async fn serve(engine: Arc<Inner>, stream: Box<dyn Stream>) {
    let wire = Wire::default();
    let after: Arc<Mutex<Option<After>>> = Arc::default();
    let io = WireIo::new(stream, wire.clone(), engine.clock.clone());
    let service = {
        let (wire, after) = (wire.clone(), Arc::clone(&after));
        service_fn(move |request: Request<Incoming>| {
            let route = route(&engine, &request);
            let streams = matches!(&route, Ok(route) if matches!(route.operation, Operation::Attach | Operation::StartExec));
            wire.begin(streams);
            let exchange = Exchange {
                engine: Arc::clone(&engine),
                wire: wire.clone(),
                after: Arc::clone(&after),
            };
            Box::pin(async move { exchange.answer(request, route).await })
        })
    };
    let connection = http1::Builder::new()
        .title_case_headers(true)
        .serve_connection(TokioIo::new(io), service);
    let Ok(parts) = connection.without_shutdown().await else {
        return;
    };
    let mut io = parts.io.into_inner();
    wire.release_eof();
    let next = after.lock().unwrap_or_else(PoisonError::into_inner).take();
    match next {
        None => {}
        Some(After::Session(session, mode)) => {
            wire.arm(mode);
            session.run(&mut io, parts.read_buf).await;
        }
        Some(After::Garbage(bytes)) => {
            wire.arm(Mode::Pass);
            // The client may be gone.
            let _ = tokio::io::AsyncWriteExt::write_all(&mut io, &bytes).await;
        }
    }
}

/// Where a request goes.
struct Route {
    operation: Operation,
    target: String,
    api: ApiVersion,
}

/// Reads version and path. The versions are checked before the path, as the engine does.
fn route(engine: &Inner, request: &Request<Incoming>) -> Result<Route, ApiError> {
    let (max, min) = {
        let state = engine.state();
        (state.api, state.min_api)
    };
    let path = request.uri().path();
    let versioned = path.strip_prefix("/v").and_then(|rest| {
        let (version, rest) = rest.split_once('/')?;
        Some((version.parse::<ApiVersion>().ok()?, rest))
    });
    let (api, path) = versioned.unwrap_or((max, path.trim_start_matches('/')));
    if api > max {
        return Err(ApiError::bad(format!(
            "client version {api} is too new. Maximum supported API version is {max}"
        )));
    }
    if api < min {
        return Err(ApiError::bad(format!(
            "client version {api} is too old. Minimum supported API version is {min}, please upgrade your client to a newer version"
        )));
    }
    let import = request.uri().query().is_some_and(|query| {
        Query::parse(query)
            .get("fromSrc")
            .is_some_and(|s| !s.is_empty())
    });
    let segments: Vec<String> = path.split('/').map(percent_decode).collect();
    let segments: Vec<&str> = segments.iter().map(String::as_str).collect();
    let (operation, target) = operation(request.method(), &segments, import);
    Ok(Route {
        operation,
        target,
        api,
    })
}

/// The operation behind a method and a path, and the name in the path.
fn operation(method: &Method, path: &[&str], import: bool) -> (Operation, String) {
    use Operation as Op;
    let get = method == Method::GET;
    let post = method == Method::POST;
    let delete = method == Method::DELETE;
    let none = String::new;
    match *path {
        ["_ping"] if get || method == Method::HEAD => (Op::Ping, none()),
        ["version"] if get => (Op::Version, none()),
        ["info"] if get => (Op::Info, none()),
        ["auth"] if post => (Op::Auth, none()),
        ["events"] if get => (Op::Events, none()),
        ["system", "df"] if get => (Op::SystemDf, none()),
        ["build", "prune"] if post => (Op::PruneBuild, none()),
        ["commit"] if post => (Op::CommitContainer, none()),
        ["containers", "json"] if get => (Op::ListContainers, none()),
        ["containers", "create"] if post => (Op::CreateContainer, none()),
        ["containers", "prune"] if post => (Op::PruneContainers, none()),
        // A link is a name with a slash.
        ["containers", ref id @ ..] if delete && !id.is_empty() => {
            (Op::RemoveContainer, id.join("/"))
        }
        ["containers", ref id @ .., action] if !id.is_empty() => {
            match container_operation(method, action) {
                Some(operation) => (operation, id.join("/")),
                None => (Op::Unserved, none()),
            }
        }
        ["exec", id, "start"] if post => (Op::StartExec, id.to_owned()),
        ["exec", id, "json"] if get => (Op::InspectExec, id.to_owned()),
        ["exec", id, "resize"] if post => (Op::ResizeExec, id.to_owned()),
        ["images", "json"] if get => (Op::ListImages, none()),
        ["images", "create"] if post => (
            if import {
                Op::ImportImage
            } else {
                Op::PullImage
            },
            none(),
        ),
        ["images", "load"] if post => (Op::LoadImage, none()),
        ["images", "prune"] if post => (Op::PruneImages, none()),
        ["images", "search"] if get => (Op::SearchImages, none()),
        ["images", "get"] if get => (Op::SaveImages, none()),
        ["images", ref name @ .., "json"] if get => (Op::InspectImage, name.join("/")),
        ["images", ref name @ .., "history"] if get => (Op::ImageHistory, name.join("/")),
        ["images", ref name @ .., "get"] if get => (Op::SaveImages, name.join("/")),
        ["images", ref name @ .., "push"] if post => (Op::PushImage, name.join("/")),
        ["images", ref name @ .., "tag"] if post => (Op::TagImage, name.join("/")),
        ["images", ref name @ ..] if delete && !name.is_empty() => {
            (Op::RemoveImage, name.join("/"))
        }
        ["distribution", ref name @ .., "json"] if get => (Op::InspectDistribution, name.join("/")),
        ["networks"] if get => (Op::ListNetworks, none()),
        ["networks", "create"] if post => (Op::CreateNetwork, none()),
        ["networks", "prune"] if post => (Op::PruneNetworks, none()),
        ["networks", id] if get => (Op::InspectNetwork, id.to_owned()),
        ["networks", id] if delete => (Op::RemoveNetwork, id.to_owned()),
        ["networks", id, "connect"] if post => (Op::ConnectNetwork, id.to_owned()),
        ["networks", id, "disconnect"] if post => (Op::DisconnectNetwork, id.to_owned()),
        ["volumes"] if get => (Op::ListVolumes, none()),
        ["volumes", "create"] if post => (Op::CreateVolume, none()),
        ["volumes", "prune"] if post => (Op::PruneVolumes, none()),
        ["volumes", name] if get => (Op::InspectVolume, name.to_owned()),
        ["volumes", name] if delete => (Op::RemoveVolume, name.to_owned()),
        ["plugins"] if get => (Op::ListPlugins, none()),
        _ => (Op::Unserved, path.join("/")),
    }
}

fn container_operation(method: &Method, action: &str) -> Option<Operation> {
    use Operation as Op;
    Some(match (method.as_str(), action) {
        ("GET", "json") => Op::InspectContainer,
        ("GET", "logs") => Op::Logs,
        ("GET", "top") => Op::TopContainer,
        ("GET", "stats") => Op::StatsContainer,
        ("GET", "changes") => Op::ContainerChanges,
        ("GET", "export") => Op::ExportContainer,
        ("GET", "archive") => Op::GetArchive,
        ("PUT", "archive") => Op::PutArchive,
        ("HEAD", "archive") => Op::StatArchive,
        ("POST", "start") => Op::StartContainer,
        ("POST", "stop") => Op::StopContainer,
        ("POST", "restart") => Op::RestartContainer,
        ("POST", "kill") => Op::KillContainer,
        ("POST", "pause") => Op::PauseContainer,
        ("POST", "unpause") => Op::UnpauseContainer,
        ("POST", "wait") => Op::WaitContainer,
        ("POST", "rename") => Op::RenameContainer,
        ("POST", "update") => Op::UpdateContainer,
        ("POST", "resize") => Op::ResizeContainer,
        ("POST", "attach") => Op::Attach,
        ("POST", "exec") => Op::CreateExec,
        _ => return None,
    })
}

/// Does what a request asks.
async fn dispatch(call: Call) -> Answer {
    use Operation as Op;
    match call.operation {
        Op::Ping => system::ping(call).await,
        Op::Version => system::version(call).await,
        Op::Info => system::info(call).await,
        Op::Auth => images::pull::auth(call).await,
        Op::Events => events::events(call).await,
        Op::SystemDf => disk_usage::df(call).await,
        Op::ListContainers => containers::list::list(call).await,
        Op::InspectContainer => requests::inspect(call).await,
        Op::CreateContainer => containers::create::create(call).await,
        Op::StartContainer => requests::start(call).await,
        Op::StopContainer => requests::stop(call).await,
        Op::RestartContainer => requests::restart(call).await,
        Op::KillContainer => requests::kill(call).await,
        Op::PauseContainer => requests::pause(call).await,
        Op::UnpauseContainer => requests::unpause(call).await,
        Op::WaitContainer => requests::wait(call).await,
        Op::RemoveContainer => requests::remove(call).await,
        Op::RenameContainer => requests::rename(call).await,
        Op::UpdateContainer => requests::update(call).await,
        Op::ResizeContainer => requests::resize(call).await,
        Op::TopContainer => containers::top::top(call).await,
        Op::StatsContainer => containers::stats::stats(call).await,
        Op::ContainerChanges => containers::archive::changes(call).await,
        Op::PruneContainers => requests::prune(call).await,
        Op::Logs => logs::logs(call).await,
        Op::Attach => attach::attach(call).await,
        Op::GetArchive => containers::archive::get(call).await,
        Op::PutArchive => containers::archive::put(call).await,
        Op::StatArchive => containers::archive::stat(call).await,
        Op::ExportContainer => containers::archive::export(call).await,
        Op::CommitContainer => images::tarball::commit(call).await,
        Op::CreateExec => exec::create(call).await,
        Op::StartExec => exec::start(call).await,
        Op::InspectExec => exec::inspect(call).await,
        Op::ResizeExec => exec::resize(call).await,
        Op::ListImages => images::requests::list(call).await,
        Op::InspectImage => images::requests::inspect(call).await,
        Op::ImageHistory => images::requests::history(call).await,
        Op::PullImage => images::pull::create(call).await,
        Op::ImportImage => images::tarball::import(call).await,
        Op::PushImage => images::pull::push(call).await,
        Op::TagImage => images::requests::tag(call).await,
        Op::RemoveImage => images::requests::remove(call).await,
        Op::LoadImage => images::tarball::load(call).await,
        Op::SaveImages => images::tarball::save(call).await,
        Op::PruneImages => images::requests::prune(call).await,
        Op::SearchImages => images::pull::search(call).await,
        Op::InspectDistribution => images::pull::distribution(call).await,
        Op::PruneBuild => system::prune_build(call).await,
        Op::ListNetworks => networks::list(call).await,
        Op::InspectNetwork => networks::inspect(call).await,
        Op::CreateNetwork => networks::create(call).await,
        Op::ConnectNetwork => networks::connect(call).await,
        Op::DisconnectNetwork => networks::disconnect(call).await,
        Op::RemoveNetwork => networks::remove(call).await,
        Op::PruneNetworks => networks::prune(call).await,
        Op::ListVolumes => volumes::list(call).await,
        Op::InspectVolume => volumes::inspect(call).await,
        Op::CreateVolume => volumes::create(call).await,
        Op::RemoveVolume => volumes::remove(call).await,
        Op::PruneVolumes => volumes::prune(call).await,
        Op::ListPlugins => system::plugins(call).await,
        Op::Unserved => Err(unserved(&call.target)),
    }
}

/// Resources a real engine has and this one does not.
fn unserved(path: &str) -> ApiError {
    let first = path.split('/').next().unwrap_or_default();
    if let Some(name) = path
        .strip_prefix("plugins/")
        .and_then(|rest| rest.strip_suffix("/json"))
    {
        return ApiError::not_found(format!("plugin {name:?} not found"));
    }
    match first {
        "swarm" | "nodes" | "services" | "tasks" | "secrets" | "configs" => ApiError::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "This node is not a swarm manager. Use \"docker swarm init\" or \"docker swarm join\" to connect this node to swarm and try again.",
        ),
        "build" | "session" | "grpc" | "plugins" => ApiError::new(
            StatusCode::NOT_IMPLEMENTED,
            format!("the fake engine does not serve /{first}"),
        ),
        _ => ApiError::not_found("page not found"),
    }
}

/// What the engine brings to its end though the client has gone away meanwhile: a stop with its grace above all.
fn outlives_client(operation: Operation) -> bool {
    use Operation as Op;
    matches!(
        operation,
        Op::CreateContainer
            | Op::StartContainer
            | Op::StopContainer
            | Op::RestartContainer
            | Op::KillContainer
            | Op::PauseContainer
            | Op::UnpauseContainer
            | Op::RemoveContainer
            | Op::RenameContainer
            | Op::UpdateContainer
            | Op::PruneContainers
            | Op::CommitContainer
            | Op::CreateExec
            | Op::TagImage
            | Op::RemoveImage
            | Op::PruneImages
            | Op::CreateNetwork
            | Op::ConnectNetwork
            | Op::DisconnectNetwork
            | Op::RemoveNetwork
            | Op::PruneNetworks
            | Op::CreateVolume
            | Op::RemoveVolume
            | Op::PruneVolumes
    )
}

/// One request and its answer.
struct Exchange {
    engine: Arc<Inner>,
    wire: Wire,
    after: Arc<Mutex<Option<After>>>,
}

impl Exchange {
    async fn answer(
        self,
        request: Request<Incoming>,
        route: Result<Route, ApiError>,
    ) -> Result<Response<Body>, Dropped> {
        let route = match route {
            Ok(route) => route,
            Err(error) => return Ok(self.finish(error.into_response())),
        };
        let operation = route.operation;
        self.engine.count(operation);
        let plan = self.engine.plan(operation);
        let refused = match &plan.effect {
            Some(FaultKind::DropBefore) => Some(Err(Dropped)),
            Some(FaultKind::Error { status, message }) => {
                let status = StatusCode::from_u16(*status)
                    .ok()
                    .filter(|s| s.is_client_error() || s.is_server_error());
                let status = status.unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
                Some(Ok(self.finish(
                    ApiError::new(status, message.clone()).into_response(),
                )))
            }
            _ => None,
        };
        if let Some(refused) = refused {
            self.engine.clock.sleep(plan.delay).await;
            return refused;
        }
        let head = request.method() == Method::HEAD;
        let (parts, body) = request.into_parts();
        let body = if outlives_client(operation) {
            let Ok(whole) = body.collect().await else {
                return Err(Dropped);
            };
            full(whole.to_bytes())
        } else {
            body.map_err(std::io::Error::other).boxed_unsync()
        };
        let call = Call {
            engine: Arc::clone(&self.engine),
            api: route.api,
            operation,
            target: route.target,
            query: Query::parse(parts.uri.query().unwrap_or_default()),
            headers: parts.headers,
            body: Some(body),
            head,
        };
        let (clock, delay) = (self.engine.clock.clone(), plan.delay);
        let work = async move {
            if !delay.is_zero() {
                clock.sleep(delay).await;
            }
            dispatch(call).await
        };
        let answer = if outlives_client(operation) {
            let task = tokio::spawn(work);
            self.engine.keep_request(task.abort_handle());
            // The engine ended or was restarted under it.
            let Ok(answer) = task.await else {
                return Err(Dropped);
            };
            answer
        } else {
            Box::pin(work).await
        };
        match answer {
            Ok(Reply::Hijack(session)) => self.hijack(session, plan.effect),
            Ok(Reply::Http(response)) => self.deliver(operation, response, plan.effect).await,
            Err(error) => {
                self.deliver(operation, error.into_response(), plan.effect)
                    .await
            }
        }
    }

    /// The head fields every reply of the engine has.
    fn finish(&self, mut response: Response<Body>) -> Response<Body> {
        let api = self.engine.state().api;
        set_header(&mut response, "api-version", &api.to_string());
        set_header(&mut response, "docker-experimental", "false");
        set_header(&mut response, "ostype", "linux");
        set_header(
            &mut response,
            "server",
            &format!("Docker/{} (linux)", api.engine_release()),
        );
        response
    }

    async fn deliver(
        &self,
        operation: Operation,
        response: Response<Body>,
        effect: Option<FaultKind>,
    ) -> Result<Response<Body>, Dropped> {
        let mut response = self.finish(response);
        match effect {
            Some(FaultKind::DropAfter) => {
                self.carry_out(operation, response).await;
                return Err(Dropped);
            }
            Some(FaultKind::Garbage(bytes)) => {
                self.carry_out(operation, response).await;
                return Ok(self.leave(After::Garbage(bytes)));
            }
            Some(FaultKind::TruncateBody(after)) => {
                self.wire.arm(Mode::Cut(after));
                // What is cut off must break the connection even if it is the end of the exchange.
                response
                    .headers_mut()
                    .insert(CONNECTION, HeaderValue::from_static("close"));
            }
            Some(FaultKind::StuckHeaders) => self.wire.arm(Mode::Stall(None)),
            Some(FaultKind::StuckBody(after)) => self.wire.arm(Mode::Stall(Some(after))),
            Some(FaultKind::Dribble { bytes, every }) => {
                self.wire.arm(Mode::Dribble { bytes, every })
            }
            Some(FaultKind::Delay(_) | FaultKind::Error { .. } | FaultKind::DropBefore) | None => {}
        }
        self.wire.release_eof();
        Ok(response)
    }

    /// Lets a reply have its effect though nobody will read it: a transfer is done when its stream has ended.
    async fn carry_out(&self, operation: Operation, response: Response<Body>) {
        use Operation as Op;
        if matches!(
            operation,
            Op::PullImage | Op::PushImage | Op::LoadImage | Op::ImportImage
        ) {
            // The body is made here: it does not fail.
            let _ = response.into_body().collect().await;
        }
    }

    fn hijack(
        &self,
        session: Box<Session>,
        effect: Option<FaultKind>,
    ) -> Result<Response<Body>, Dropped> {
        let mode = match effect {
            Some(FaultKind::DropAfter) => return Err(Dropped),
            Some(FaultKind::Garbage(bytes)) => return Ok(self.leave(After::Garbage(bytes))),
            Some(FaultKind::TruncateBody(after)) => Mode::Cut(after),
            Some(FaultKind::StuckHeaders) => Mode::Stall(None),
            Some(FaultKind::StuckBody(after)) => Mode::Stall(Some(after)),
            Some(FaultKind::Dribble { bytes, every }) => Mode::Dribble { bytes, every },
            Some(FaultKind::Delay(_) | FaultKind::Error { .. } | FaultKind::DropBefore) | None => {
                Mode::Pass
            }
        };
        Ok(self.leave(After::Session(session, mode)))
    }

    /// Ends HTTP on this connection: hyper's own reply goes nowhere, and what follows writes its own head.
    fn leave(&self, after: After) -> Response<Body> {
        *self.after.lock().unwrap_or_else(PoisonError::into_inner) = Some(after);
        self.wire.arm(Mode::Swallow);
        let mut response = Response::new(empty());
        response
            .headers_mut()
            .insert(CONNECTION, HeaderValue::from_static("close"));
        response
    }
}
