//! Owns links: a container of the default network that knows another by a name of its own. A link is also a name of the
//! container it leads to (`/client/alias`).

use std::net::Ipv4Addr;
use std::sync::Arc;

use super::container::Container;
use crate::config::parse_port;
use crate::http::ApiError;
use crate::state::State;

/// One link.
#[derive(Debug)]
struct Link {
    /// The container that has it.
    owner: Arc<str>,
    alias: String,
    /// The container it leads to.
    to: Arc<str>,
}

/// All links.
#[derive(Debug, Default)]
pub(crate) struct Links(Vec<Link>);

/// `NAME:ALIAS` or `NAME`.
fn parse(text: &str) -> Result<(&str, &str), ApiError> {
    let parts: Vec<&str> = text.split(':').collect();
    match parts[..] {
        [name] if !name.is_empty() => Ok((name, name.trim_start_matches('/'))),
        [name, alias] if !name.is_empty() && !alias.is_empty() => Ok((name, alias)),
        _ => Err(ApiError::bad(format!("bad format for links: {text}"))),
    }
}

impl State {
    /// What the links of a new container lead to, with their names.
    pub(crate) fn find_links(
        &self,
        wanted: &[String],
    ) -> Result<Vec<(Arc<str>, String)>, ApiError> {
        let find = |text: &String| {
            let (name, alias) = parse(text)?;
            let to = self.container_id(name).map_err(|error| {
                ApiError::bad(format!(
                    "could not get container for {name}: {}",
                    error.message
                ))
            })?;
            Ok((to, alias.to_owned()))
        };
        wanted.iter().map(find).collect()
    }

    pub(crate) fn add_links(&mut self, owner: &Arc<str>, links: Vec<(Arc<str>, String)>) {
        self.links
            .0
            .extend(links.into_iter().map(|(to, alias)| Link {
                owner: Arc::clone(owner),
                alias,
                to,
            }));
    }

    /// The container behind `owner/alias`.
    pub(crate) fn linked(&self, name: &str) -> Option<Arc<str>> {
        let (owner, alias) = name.trim_start_matches('/').split_once('/')?;
        let owner = self.names.get(owner)?;
        let link = self
            .links
            .0
            .iter()
            .find(|link| link.owner == *owner && link.alias == alias)?;
        Some(Arc::clone(&link.to))
    }

    /// Takes the link `owner/alias` away.
    pub(crate) fn unlink(&mut self, name: &str) -> Result<(), ApiError> {
        self.container_id(name)?;
        let Some((owner, alias)) = name.trim_start_matches('/').split_once('/') else {
            return Err(ApiError::internal(
                "Conflict, cannot remove the default link name of the container",
            ));
        };
        let owner = self.container_id(owner)?;
        self.links
            .0
            .retain(|link| link.owner != owner || link.alias != alias);
        Ok(())
    }

    /// Forgets the links from and to a container that is gone.
    pub(crate) fn forget_links(&mut self, id: &str) {
        self.links
            .0
            .retain(|link| *link.owner != *id && *link.to != *id);
    }

    /// The links of a container: where they lead and their names.
    fn links_of<'a>(&'a self, id: &'a str) -> impl Iterator<Item = (&'a Container, &'a str)> {
        let own = self.links.0.iter().filter(move |link| *link.owner == *id);
        own.filter_map(|link| Some((&**self.containers.get(&link.to)?, link.alias.as_str())))
    }

    /// The names that other containers' links give this one, without the leading slash.
    pub(crate) fn names_by_links(&self, id: &str) -> Vec<String> {
        let links = self.links.0.iter().filter(|link| *link.to == *id);
        let name = |link: &Link| {
            let owner = self.containers.get(&link.owner)?;
            Some(format!("{}/{}", owner.name, link.alias))
        };
        links.filter_map(name).collect()
    }

    /// `HostConfig.Links` as inspect shows it.
    pub(crate) fn link_views(&self, container: &Container) -> Option<Vec<String>> {
        let links: Vec<String> = self
            .links_of(&container.id)
            .map(|(to, alias)| format!("/{}:/{}/{alias}", to.name, container.name))
            .collect();
        (!links.is_empty()).then_some(links)
    }

    /// Refuses the start of a container that is linked to one that does not run.
    pub(crate) fn check_links(&self, id: &str) -> Result<(), ApiError> {
        let owner = self.container(id)?;
        match self.links_of(id).find(|(to, _)| !to.is_running()) {
            None => Ok(()),
            Some((to, alias)) => Err(ApiError::internal(format!(
                "Cannot link to a non running container: /{} AS /{}/{alias}",
                to.name, owner.name
            ))),
        }
    }

    /// The lines of links in the container's `/etc/hosts`.
    pub(crate) fn hosts_of_links(&self, id: &str) -> String {
        let mut text = String::new();
        for (to, alias) in self.links_of(id) {
            let Some(address) = to.endpoints.iter().find_map(|endpoint| endpoint.address) else {
                continue;
            };
            text.push_str(&format!(
                "{}\t{alias} {}",
                Ipv4Addr::from(address),
                to.hostname()
            ));
            if *alias != *to.name {
                text.push_str(&format!(" {}", to.name));
            }
            text.push('\n');
        }
        text
    }

    /// The variables by which a container knows what it is linked to.
    pub(crate) fn variables_of_links(&self, container: &Container) -> Vec<String> {
        let mut variables = Vec::new();
        for (to, alias) in self.links_of(&container.id) {
            let prefix = alias.to_uppercase().replace('-', "_");
            let address = to.endpoints.iter().find_map(|endpoint| endpoint.address);
            let ports = to.config.exposed_ports.keys();
            let ports = ports.filter_map(|port| parse_port(port));
            for (index, (port, protocol)) in ports.enumerate() {
                let Some(address) = address.map(Ipv4Addr::from) else {
                    break;
                };
                let url = format!("{protocol}://{address}:{port}");
                let name = format!("{prefix}_PORT_{port}_{}", protocol.to_uppercase());
                if index == 0 {
                    variables.push(format!("{prefix}_PORT={url}"));
                }
                variables.push(format!("{name}={url}"));
                variables.push(format!("{name}_ADDR={address}"));
                variables.push(format!("{name}_PORT={port}"));
                variables.push(format!("{name}_PROTO={protocol}"));
            }
            variables.push(format!("{prefix}_NAME=/{}/{alias}", container.name));
            let others = to.config.env.iter().flatten().filter(|variable| {
                !variable.starts_with("HOME=") && !variable.starts_with("PATH=")
            });
            variables.extend(others.map(|variable| format!("{prefix}_ENV_{variable}")));
        }
        variables
    }
}
