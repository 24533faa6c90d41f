//! The real engine that some benches need, and one container on it.

use std::path::{Path, PathBuf};

use berth_docker::api::RemoveContainer;
use berth_docker::model::{ContainerConfig, CreateContainer};
use berth_docker::{Docker, Error};
use tokio::runtime::Runtime;

use crate::replay;

/// The image of every container: `dev/sample-image` makes it.
pub const IMAGE: &str = "berth.local/demo:1";

/// A real engine: `BERTH_TEST_ENGINE`, or the default socket.
pub struct Engine {
    /// A client of it.
    pub docker: Docker,
    /// Its socket.
    pub socket: PathBuf,
    /// Its version.
    pub version: String,
    /// The version of the API that is spoken with it.
    pub api: String,
}

impl Engine {
    /// Finds the engine.
    ///
    /// # Errors
    /// What keeps it from being measured, in words.
    pub fn find(runtime: &Runtime) -> Result<Self, String> {
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
}

/// A running container that does nothing. It is removed when this is dropped.
pub struct Sleeper<'a> {
    /// Its ID.
    pub id: String,
    docker: &'a Docker,
    runtime: &'a Runtime,
}

impl<'a> Sleeper<'a> {
    /// Makes and starts it.
    ///
    /// # Errors
    /// What the engine refused, in words.
    pub fn start(engine: &'a Engine, runtime: &'a Runtime) -> Result<Self, String> {
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
