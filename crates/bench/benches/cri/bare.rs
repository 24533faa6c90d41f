//! The calls of the engine that the same work takes.

use berth_docker::Docker;
use berth_docker::api::{RemoveContainer, StopContainer};
use berth_docker::model::{ContainerConfig, CreateContainer, ExecConfig, HostConfig};

pub(crate) struct Bare {
    pub(crate) docker: Docker,
    pub(crate) image: String,
}

impl Bare {
    pub(crate) async fn start(&self) -> [String; 2] {
        let create = |network: String, shared: bool| CreateContainer {
            config: ContainerConfig {
                image: self.image.clone(),
                cmd: vec!["sleep".to_owned(), "1000000".to_owned()],
                ..Default::default()
            },
            host_config: HostConfig {
                network_mode: network.clone(),
                ipc_mode: if shared {
                    network
                } else {
                    "shareable".to_owned()
                },
                ..Default::default()
            },
            ..Default::default()
        };
        let first = create("default".to_owned(), false);
        let sandbox = self.docker.create_container(&first).await.unwrap().id;
        self.docker.start_container(&sandbox).await.unwrap();
        let second = create(format!("container:{sandbox}"), true);
        let app = self.docker.create_container(&second).await.unwrap().id;
        self.docker.start_container(&app).await.unwrap();
        [sandbox, app]
    }

    pub(crate) async fn remove(&self, [sandbox, app]: &[String; 2]) {
        let now = StopContainer {
            seconds: Some(0),
            signal: None,
        };
        let remove = RemoveContainer {
            force: true,
            volumes: true,
            link: false,
        };
        for id in [app, sandbox] {
            self.docker.stop_container(id, &now).await.unwrap();
        }
        for id in [app, sandbox] {
            self.docker.remove_container(id, remove).await.unwrap();
        }
    }

    pub(crate) async fn exec(&self, id: &str) {
        let config = ExecConfig {
            attach_stdout: true,
            attach_stderr: true,
            cmd: vec!["true".to_owned()],
            ..Default::default()
        };
        let exec = self.docker.create_exec(id, &config).await.unwrap();
        let mut attached = self.docker.start_exec(&exec, false).await.unwrap();
        while attached.output.next().await.is_some() {}
        self.docker.inspect_exec(&exec).await.unwrap();
    }
}
