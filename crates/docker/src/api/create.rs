//! Creating and updating containers, and which part of their configuration needs which API version.
//!
//! Engines ignore fields they don't know. A limit or a protection that is silently not there is worse than a refusal,
//! so what the engine at hand is too old for is refused here, by name.

use super::{Gate, about};
use crate::client::Docker;
use crate::error::Error;
use crate::model::{
    CreateContainer, CreateContainerResponse, Mount, MountType, UpdateContainer,
    UpdateContainerResponse,
};
use crate::request::{Method, Operation, Request};

impl Docker {
    /// Creates a container; it is not started.
    ///
    /// `POST /containers/create`. Deadline: short. Dropping the future does not undo it: whether the container is there
    /// is then unknown, so give it a name and look for that.
    ///
    /// # Errors
    /// 404 when the image is not there; 409 when the name is taken; 400 for a bad configuration; invalid when a field is
    /// set that the engine is too old for.
    pub async fn create_container(
        &self,
        container: &CreateContainer,
    ) -> Result<CreateContainerResponse, Error> {
        let operation = Operation::CREATE_CONTAINER;
        self.require(operation, &gates(container)).await?;
        let mut request = Request::new(operation, Method::Post, "/containers/create")
            .query_some("name", container.name.as_deref())
            .query_some("platform", container.platform.as_deref())
            .json(container);
        if let Some(name) = &container.name {
            request = request.about(name);
        }
        self.send_json(request).await
    }

    /// Changes limits or the restart policy of a container, running or not. What is at its default stays as it is.
    ///
    /// `POST /containers/{id}/update`. Deadline: short. Dropping the future does not undo it.
    ///
    /// # Errors
    /// 404 when there is no such container; 400, 409 or 500 for limits that it can't have.
    pub async fn update_container(
        &self,
        container: &str,
        update: &UpdateContainer,
    ) -> Result<UpdateContainerResponse, Error> {
        let request = about(
            Operation::UPDATE_CONTAINER,
            Method::Post,
            "/containers",
            container,
            "/update",
        )?;
        self.send_json(request.json(update)).await
    }
}

/// What of a configuration needs more than the oldest API version.
fn gates(container: &CreateContainer) -> Vec<Gate> {
    let mut gates = Vec::new();
    let mut gate = |used: bool, what: &'static str, minor: u16| {
        if used {
            gates.push(Gate::new(what, minor));
        }
    };
    let CreateContainer {
        platform,
        config,
        host_config: host,
        networking_config,
        ..
    } = container;
    gate(platform.is_some(), "a platform", 41);
    gate(
        !host.cgroupns_mode.is_empty(),
        "HostConfig.CgroupnsMode",
        41,
    );
    gate(!host.console_size.is_empty(), "HostConfig.ConsoleSize", 42);
    gate(!host.annotations.is_empty(), "HostConfig.Annotations", 43);
    if let Some(check) = &config.healthcheck {
        gate(check.start_interval != 0, "Healthcheck.StartInterval", 44);
    }
    for Mount {
        kind,
        bind_options,
        volume_options,
        tmpfs_options,
        ..
    } in &host.mounts
    {
        gate(
            *kind == MountType::Cluster,
            "a mount of a cluster volume",
            42,
        );
        gate(*kind == MountType::Image, "a mount of an image", 48);
        if let Some(bind) = bind_options {
            gate(bind.create_mountpoint, "BindOptions.CreateMountpoint", 42);
            gate(
                bind.read_only_non_recursive,
                "BindOptions.ReadOnlyNonRecursive",
                44,
            );
            gate(
                bind.read_only_force_recursive,
                "BindOptions.ReadOnlyForceRecursive",
                44,
            );
        }
        if let Some(volume) = volume_options {
            gate(!volume.subpath.is_empty(), "VolumeOptions.Subpath", 45);
        }
        if let Some(tmpfs) = tmpfs_options {
            gate(!tmpfs.options.is_empty(), "TmpfsOptions.Options", 46);
        }
    }
    let endpoints = &networking_config.endpoints_config;
    gate(endpoints.len() > 1, "more than one network at creation", 44);
    for endpoint in endpoints.values() {
        gate(
            !endpoint.mac_address.is_empty(),
            "the MacAddress of an endpoint",
            44,
        );
        gate(
            endpoint.gw_priority != 0,
            "the GwPriority of an endpoint",
            48,
        );
    }
    gates
}
