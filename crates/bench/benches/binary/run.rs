//! A pod of one container, from the request until both of its containers run: the command `berth run --detach`, from the start of
//! its process to its end, beside the four calls of the engine that nobody can do without.
//!
//! Those are made by the raw peer on a kept connection, with the bodies of berth: what the engine shows of the containers of a pod
//! that berth has made, under other names. Removing the pods is not measured.

use std::time::Instant;

use berth_bench::engine::Engine;
use berth_bench::measure::{Contender, Row, in_turns};
use berth_bench::raw;
use berth_docker::api::{ListContainers, RemoveContainer};
use berth_docker::model::Filters;
use berth_docker::{Docker, Error, Method, Operation, Request};
use serde_json::Value;
use tokio::runtime::Runtime;

use crate::{Berth, manifest};

const ROUNDS: usize = 61;

pub(crate) fn run(runtime: &Runtime) -> Result<Vec<Row>, String> {
    let engine = match Engine::find(runtime) {
        Ok(engine) => engine,
        Err(reason) => {
            eprintln!("berth run is not measured: {reason}");
            return Ok(Vec::new());
        }
    };
    let berth = Berth::built(format!("unix://{}", engine.socket.display()))?;
    let name = format!("bench-pod-{}", std::process::id());
    let bare_name = name.replace("pod", "raw");
    let dir = tempfile::tempdir().map_err(|error| error.to_string())?;
    let file = dir.path().join("pod.json");
    std::fs::write(&file, manifest(&name).to_string()).map_err(|error| error.to_string())?;
    let file = file.display().to_string();
    let start = ["run", "--detach", &file];
    let remove = || runtime.block_on(remove(&engine.docker, &[&name, &bare_name]));

    let recorded = berth
        .run(&start)
        .and_then(|_| runtime.block_on(Bodies::record(&engine.docker, &name)));
    remove()?;
    let bodies = recorded?.renamed(&name, &bare_name);
    let mut raw = runtime
        .block_on(raw::Connection::open(&engine.socket))
        .map_err(|error| error.to_string())?;

    let mut failure = None;
    let mut round = |start: &mut dyn FnMut() -> Result<(), String>| {
        let begun = Instant::now();
        let outcome = start();
        let time = begun.elapsed().as_secs_f64();
        if let Err(reason) = outcome.and_then(|()| remove()) {
            failure.get_or_insert(reason);
        }
        time
    };
    let figures = {
        let round = std::cell::RefCell::new(&mut round);
        in_turns(
            ROUNDS,
            vec![
                Contender::new("bare calls", || {
                    round.borrow_mut()(&mut || {
                        let made = runtime.block_on(bodies.start(&mut raw, &engine.api));
                        made.map_err(|error| error.to_string())
                    })
                }),
                Contender::new("berth run -d", || {
                    round.borrow_mut()(&mut || berth.run(&start).map(drop))
                }),
                Contender::new("berth --version", || {
                    let begun = Instant::now();
                    let ran = berth.run(&["--version"]);
                    ran.expect("berth knows its version");
                    begun.elapsed().as_secs_f64()
                }),
            ],
        )
    };
    if let Some(reason) = failure {
        return Err(reason);
    }
    let what = format!("start of a pod (engine {})", engine.version);
    Ok(vec![
        figures.time_row(&what, "berth run -d", "bare calls", Some(1.03)),
        figures.time_row(
            "the process alone, as part of it",
            "berth --version",
            "bare calls",
            None,
        ),
    ])
}

/// What it takes to create the sandbox of a pod and its container.
struct Bodies {
    sandbox_id: String,
    sandbox: New,
    app: New,
}

/// A container that is to be made.
struct New {
    name: String,
    body: String,
}

impl Bodies {
    /// Those of the pod of that name, which runs.
    async fn record(docker: &Docker, pod: &str) -> Result<Self, String> {
        let mut sandbox = None;
        let mut app = None;
        for id in ids(docker, pod).await.map_err(|error| error.to_string())? {
            let path = format!("/containers/{id}/json");
            let request = Request::new(Operation::INSPECT_CONTAINER, Method::Get, path);
            let mut seen: Value = docker
                .send_json(request)
                .await
                .map_err(|error| error.to_string())?;
            let mut body = seen["Config"].take();
            let mut host = seen["HostConfig"].take();
            let joins = host["NetworkMode"]
                .as_str()
                .is_some_and(|mode| mode.starts_with("container:"));
            if let (true, Some(body)) = (joins, body.as_object_mut()) {
                // The host name is that of the sandbox, and the engine wants it said there only.
                body.remove("Hostname");
                body.remove("Domainname");
                body.remove("ExposedPorts");
            }
            body["HostConfig"] = host.take();
            let name = seen["Name"].as_str().unwrap_or_default();
            let new = New {
                name: name.trim_start_matches('/').to_owned(),
                body: body.to_string(),
            };
            match joins {
                true => app = Some(new),
                false => sandbox = Some((id, new)),
            }
        }
        match (sandbox, app) {
            (Some((sandbox_id, sandbox)), Some(app)) => Ok(Self {
                sandbox_id,
                sandbox,
                app,
            }),
            _ => Err("the pod has not one sandbox and one container that joins it".to_owned()),
        }
    }

    /// The same for a pod of another name.
    fn renamed(mut self, from: &str, to: &str) -> Self {
        for new in [&mut self.sandbox, &mut self.app] {
            new.name = new.name.replace(from, to);
            new.body = new.body.replace(from, to);
        }
        self
    }

    /// Makes and starts both.
    async fn start(&self, raw: &mut raw::Connection, api: &str) -> std::io::Result<()> {
        let sandbox = create(raw, api, &self.sandbox.name, &self.sandbox.body).await?;
        raw.post(&format!("/v{api}/containers/{sandbox}/start"), b"")
            .await?;
        let body = self.app.body.replace(&self.sandbox_id, &sandbox);
        let app = create(raw, api, &self.app.name, &body).await?;
        raw.post(&format!("/v{api}/containers/{app}/start"), b"")
            .await?;
        Ok(())
    }
}

/// Makes a container; gives its ID.
async fn create(
    raw: &mut raw::Connection,
    api: &str,
    name: &str,
    body: &str,
) -> std::io::Result<String> {
    let path = format!("/v{api}/containers/create?name={name}");
    let reply: Value = serde_json::from_slice(raw.post(&path, body.as_bytes()).await?)?;
    Ok(reply["Id"].as_str().unwrap_or_default().to_owned())
}

/// The containers of a pod.
async fn ids(docker: &Docker, pod: &str) -> Result<Vec<String>, Error> {
    let all = ListContainers {
        all: true,
        filters: Filters::default().label(format!("io.kubernetes.pod.name={pod}")),
        ..ListContainers::default()
    };
    let list = docker.list_containers(&all).await?;
    Ok(list.into_iter().map(|container| container.id).collect())
}

/// Removes what there is of these pods.
async fn remove(docker: &Docker, pods: &[&str]) -> Result<(), String> {
    let options = RemoveContainer {
        force: true,
        volumes: true,
        ..RemoveContainer::default()
    };
    for pod in pods {
        for id in ids(docker, pod).await.map_err(|error| error.to_string())? {
            docker
                .remove_container(&id, options)
                .await
                .map_err(|error| error.to_string())?;
        }
    }
    Ok(())
}
