//! The real engine that some benches need, and one container on it.

use std::path::{Path, PathBuf};

use berth_bench::replay;
use berth_docker::api::RemoveContainer;
use berth_docker::model::{ContainerConfig, CreateContainer};
use berth_docker::{Docker, Error};
use tokio::runtime::Runtime;

/// The image of the container: `dev/sample-image` makes it.
const IMAGE: &str = "berth.local/demo:1";

/// A real engine: `BERTH_TEST_ENGINE`, or the default socket.
pub(crate) struct Engine {
    pub(crate) docker: Docker,
    pub(crate) socket: PathBuf,
    /// Version of the engine and of the API that is spoken with it.
    pub(crate) version: String,
    pub(crate) api: String,
}

impl Engine {
    /// Finds the engine. An error says why nothing can be measured.
    pub(crate) fn find(runtime: &Runtime) -> Result<Self, String> {
        let endpoint = std::env::var("BERTH_TEST_ENGINE")
            .unwrap_or_else(|_| "unix:///var/run/docker.sock".to_owned());
        let Some(socket) = endpoint.strip_prefix("unix://") else {
            return Err(format!(
                "BERTH_TEST_ENGINE is {endpoint:?}, and only unix:// engines can be measured"
            ));
        };
        let docker = replay::docker(Path::new(socket));
        let found: Result<_, Error> = runtime.block_on(async {
            docker.inspect_image(IMAGE).await?;
            Ok((docker.version().await?.version, docker.api_version().await?))
        });
        match found {
            Ok((version, api)) => Ok(Self {
                docker,
                socket: socket.into(),
                version,
                api: api.to_string(),
            }),
            Err(error) if error.is_not_found() => Err(format!(
                "the engine at {endpoint} has no image {IMAGE}: dev/sample-image makes it"
            )),
            Err(error) => Err(error.to_string()),
        }
    }

    /// Bollard for the same engine and the same version of the API.
    pub(crate) fn bollard(&self, runtime: &Runtime) -> Result<bollard::Docker, String> {
        let socket = self.socket.display().to_string();
        let client = bollard::Docker::connect_with_unix(&socket, 120, bollard::API_DEFAULT_VERSION)
            .map_err(|error| error.to_string())?;
        runtime
            .block_on(client.negotiate_version())
            .map_err(|error| error.to_string())
    }
}

/// A running container that does nothing. It is removed when this is dropped.
pub(crate) struct Sleeper<'a> {
    pub(crate) id: String,
    docker: &'a Docker,
    runtime: &'a Runtime,
}

impl<'a> Sleeper<'a> {
    pub(crate) fn start(engine: &'a Engine, runtime: &'a Runtime) -> Result<Self, String> {
        let container = CreateContainer {
            name: Some(format!("berth-bench-{}", std::process::id())),
            config: ContainerConfig {
                image: IMAGE.to_owned(),
                cmd: ["sleep", "3600"].map(str::to_owned).to_vec(),
                ..ContainerConfig::default()
            },
            ..CreateContainer::default()
        };
        runtime
            .block_on(async {
                let created = engine.docker.create_container(&container).await?;
                let sleeper = Self {
                    id: created.id,
                    docker: &engine.docker,
                    runtime,
                };
                Ok((engine.docker.start_container(&sleeper.id).await, sleeper))
            })
            .and_then(|(started, sleeper)| started.map(|_| sleeper))
            .map_err(|error: Error| error.to_string())
    }
}

impl Drop for Sleeper<'_> {
    fn drop(&mut self) {
        let options = RemoveContainer {
            force: true,
            ..RemoveContainer::default()
        };
        if let Err(error) = self
            .runtime
            .block_on(self.docker.remove_container(&self.id, options))
        {
            eprintln!("the container of the bench is left behind: {error}");
        }
    }
}
