//! Networks.

use serde::ser::{Serialize, SerializeMap, Serializer};

use super::{Gate, WORK, about};
use crate::client::Docker;
use crate::error::Error;
use crate::model::{
    ConnectNetwork, CreateNetwork, CreateNetworkResponse, DisconnectNetwork, EndpointSettings,
    Filters, Network, PruneNetworks,
};
use crate::request::{Method, Operation, Request};

/// A network to create whose name must be free. Engines from API 1.44 on insist anyway; older ones only when told to.
struct UniqueNetwork<'a>(&'a CreateNetwork);

impl Serialize for UniqueNetwork<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        self.0.write_fields(&mut map)?;
        map.serialize_entry("CheckDuplicate", &true)?;
        map.end()
    }
}

impl Docker {
    /// Lists networks. [`Network::containers`] is empty in them.
    ///
    /// `GET /networks`. Deadline: short. Cancel safe.
    ///
    /// # Errors
    /// 400 for a filter that the Engine does not know.
    pub async fn list_networks(&self, filters: &Filters) -> Result<Vec<Network>, Error> {
        let request = Request::new(Operation::LIST_NETWORKS, Method::Get, "/networks");
        self.send_list(request.query_some("filters", filters.to_query()))
            .await
    }

    /// Everything the Engine knows of one network, by name or id.
    ///
    /// `GET /networks/{id}`. Deadline: short. Cancel safe.
    ///
    /// # Errors
    /// 404 when there is no such network.
    pub async fn inspect_network(&self, network: &str) -> Result<Network, Error> {
        self.send_json(about(
            Operation::INSPECT_NETWORK,
            Method::Get,
            "/networks",
            network,
            "",
        )?)
        .await
    }

    /// Creates a network. Its name must be free, with engines of every version.
    ///
    /// `POST /networks/create`. Deadline: short. Dropping the future does not undo it.
    ///
    /// # Errors
    /// 409 when the name is taken; 400 or 403 for a configuration that is wrong or overlaps another network's.
    pub async fn create_network(
        &self,
        network: &CreateNetwork,
    ) -> Result<CreateNetworkResponse, Error> {
        let operation = Operation::CREATE_NETWORK;
        if network.enable_ipv4.is_some() {
            self.require(operation, &[Gate::new("the choice of EnableIPv4", 48)])
                .await?;
        }
        let request = Request::new(operation, Method::Post, "/networks/create")
            .json(&UniqueNetwork(network))
            .about(&network.name);
        self.send_json(request).await
    }

    /// Puts a container into a network; `None` lets the Engine choose addresses and names.
    ///
    /// `POST /networks/{id}/connect`. Deadline: short. Dropping the future does not undo it.
    ///
    /// # Errors
    /// 404 when there is no such network or container; 403 or 400 when it can't be connected.
    pub async fn connect_network(
        &self,
        network: &str,
        container: &str,
        endpoint: Option<EndpointSettings>,
    ) -> Result<(), Error> {
        let operation = Operation::CONNECT_NETWORK;
        let mut gates = Vec::new();
        if let Some(endpoint) = &endpoint {
            if !endpoint.mac_address.is_empty() {
                gates.push(Gate::new("the MacAddress of a later endpoint", 54));
            }
            if endpoint.gw_priority != 0 {
                gates.push(Gate::new("the GwPriority of an endpoint", 48));
            }
        }
        self.require(operation, &gates).await?;
        let body = ConnectNetwork {
            container: container.to_owned(),
            endpoint_config: endpoint,
        };
        self.send(about(operation, Method::Post, "/networks", network, "/connect")?.json(&body))
            .await
            .map(drop)
    }

    /// Takes a container out of a network; with `force` also when the container is gone.
    ///
    /// `POST /networks/{id}/disconnect`. Deadline: short. Dropping the future does not undo it.
    ///
    /// # Errors
    /// 404 when there is no such network or container; 403 when it is not in that network or can't leave it.
    pub async fn disconnect_network(
        &self,
        network: &str,
        container: &str,
        force: bool,
    ) -> Result<(), Error> {
        let body = DisconnectNetwork {
            container: container.to_owned(),
            force,
        };
        let request = about(
            Operation::DISCONNECT_NETWORK,
            Method::Post,
            "/networks",
            network,
            "/disconnect",
        )?;
        self.send(request.json(&body)).await.map(drop)
    }

    /// Removes a network that no container is in.
    ///
    /// `DELETE /networks/{id}`. Deadline: short. Dropping the future does not undo it.
    ///
    /// # Errors
    /// 404 when there is no such network; 403 when a container is in it or it is one of the Engine's own.
    pub async fn remove_network(&self, network: &str) -> Result<(), Error> {
        self.send(about(
            Operation::REMOVE_NETWORK,
            Method::Delete,
            "/networks",
            network,
            "",
        )?)
        .await
        .map(drop)
    }

    /// Removes every network that no container is in and that matches (`until`, `label`).
    ///
    /// `POST /networks/prune`. Deadline: 10 minutes without an answer. Dropping the future does not undo it.
    ///
    /// # Errors
    /// 409 when another prune is under way.
    pub async fn prune_networks(&self, filters: &Filters) -> Result<PruneNetworks, Error> {
        let request = Request::new(Operation::PRUNE_NETWORKS, Method::Post, "/networks/prune");
        self.send_json(
            request
                .query_some("filters", filters.to_query())
                .deadline(WORK),
        )
        .await
    }
}
