//! Owns host ports: which a starting container is bound to, and which are taken. Nothing listens on them.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::config::{host_port_range, parse_port};
use crate::containers::container::Published;
use crate::http::ApiError;
use crate::rng::Rng;
use crate::state::State;

/// The first port given where a client lets the engine choose (Linux' `ip_local_port_range`).
const FIRST_FREE_PORT: u16 = 32_768;

impl State {
    /// Binds a starting container's ports to the host's.
    pub(crate) fn publish_ports(&mut self, id: &str) -> Result<(), ApiError> {
        let container = self.container(id)?;
        let host = Arc::clone(&container.host);
        if host.acts.network_mode == "host"
            || host.acts.network_mode == "none"
            || container.endpoints.is_empty()
        {
            return Ok(());
        }
        let exposed: Vec<String> = if host.acts.publish_all_ports {
            container.config.exposed_ports.keys().cloned().collect()
        } else {
            Vec::new()
        };
        let (name, container_id) = (container.name.clone(), Arc::clone(&container.id));
        let mut published = Vec::new();
        let bound = host
            .acts
            .port_bindings
            .iter()
            .map(|(port, bindings)| (port.as_str(), bindings.clone().unwrap_or_default()));
        let missing = exposed
            .iter()
            .filter(|port| !host.acts.port_bindings.contains_key(*port));
        for (port, bindings) in bound.chain(missing.map(|port| (port.as_str(), Vec::new()))) {
            let Some((private, protocol)) = parse_port(port) else {
                continue;
            };
            let bindings = if bindings.is_empty() {
                vec![crate::config::PortBinding::default()]
            } else {
                bindings
            };
            for binding in bindings {
                let ips = match binding.host_ip.as_str() {
                    "" => vec!["0.0.0.0", "::"],
                    ip => vec![ip],
                };
                let range = host_port_range(&binding.host_port).filter(|(first, _)| *first != 0);
                let public = self.choose_port(range, protocol, ips[0], &published).ok_or_else(|| {
                    let endpoint = Rng::derived_id(&[&container_id, "bridge"]);
                    let prefix = if self.api.at_least(48) { "failed to set up container networking: " } else { "" };
                    ApiError::internal(format!(
                        "{prefix}driver failed programming external connectivity on endpoint {name} ({}): Bind for {}:{} failed: port is already allocated",
                        endpoint,
                        ips[0],
                        binding.host_port
                    ))
                })?;
                published.extend(ips.into_iter().map(|ip| Published {
                    private,
                    protocol: protocol.to_owned(),
                    ip: ip.to_owned(),
                    public,
                }));
            }
        }
        self.container_mut(id)?.ports = published;
        Ok(())
    }

    fn choose_port(
        &self,
        range: Option<(u16, u16)>,
        protocol: &str,
        ip: &str,
        own: &[Published],
    ) -> Option<u16> {
        let any = |ip: &str| matches!(ip, "0.0.0.0" | "::" | "");
        let taken: BTreeSet<u16> = self
            .containers
            .values()
            .flat_map(|c| &c.ports)
            .chain(own)
            .filter(|p| p.protocol == protocol && (p.ip == ip || any(&p.ip) || any(ip)))
            .map(|p| p.public)
            .collect();
        let (first, last) = range.unwrap_or((FIRST_FREE_PORT, u16::MAX));
        (first..=last).find(|port| !taken.contains(port))
    }
}
