//! Owns `GET /containers/json`: which containers a list shows, and in which order.

use std::sync::Arc;

use super::container::{Container, Phase, STATUSES};
use super::views::Lister;
use crate::clock::Nanos;
use crate::http::{Answer, ApiError, Call, Filters, json_list};
use crate::script::glob;
use crate::state::State;

const FILTERS: &[&str] = &[
    "ancestor",
    "before",
    "exited",
    "expose",
    "health",
    "id",
    "is-task",
    "isolation",
    "label",
    "label!",
    "name",
    "network",
    "publish",
    "since",
    "status",
    "volume",
];

/// `GET /containers/json`
pub(crate) async fn list(call: Call) -> Answer {
    let filters = call.filters(FILTERS)?;
    let size = call.query.flag("size");
    let limit = call.query.number("limit")?.unwrap_or(0);
    let state = call.engine.state();
    let wanted = Wanted::new(&state, &call, &filters)?;
    let mut shown: Vec<&Container> = state
        .containers
        .values()
        .map(|boxed| &**boxed)
        .filter(|container| wanted.fits(&state, container))
        .collect();
    shown.sort_unstable_by_key(|container| std::cmp::Reverse(container.created));
    if let Ok(limit @ 1..) = usize::try_from(limit) {
        shown.truncate(limit);
    }
    let now = call.engine.clock.nanos();
    let mut lister = Lister::new(&state, call.api, now, size);
    Ok(json_list(shown.into_iter().map(|container| lister.summary(container))).into())
}

/// The filters with their references looked up.
struct Wanted<'a> {
    filters: &'a Filters,
    all: bool,
    before: Option<Nanos>,
    since: Option<Nanos>,
    exited: Vec<i64>,
    ancestors: Option<Vec<Arc<str>>>,
}

impl<'a> Wanted<'a> {
    fn new(state: &State, call: &Call, filters: &'a Filters) -> Result<Self, ApiError> {
        for status in filters.get("status") {
            if !STATUSES.contains(&status.as_str()) {
                return Err(ApiError::bad(format!("invalid filter 'status={status}'")));
            }
        }
        for health in filters.get("health") {
            if !matches!(
                health.as_str(),
                "none" | "starting" | "healthy" | "unhealthy"
            ) {
                return Err(ApiError::bad(format!("invalid filter 'health={health}'")));
            }
        }
        let exited = filters.get("exited").iter().map(|code| {
            code.parse()
                .map_err(|_| ApiError::bad(format!("invalid filter 'exited={code}'")))
        });
        let age = |name: &str| {
            let reference = filters
                .get(name)
                .first()
                .map(String::as_str)
                .or_else(|| call.query.get(name));
            match reference.filter(|reference| !reference.is_empty()) {
                Some(reference) => match state.container(reference) {
                    Ok(container) => Ok(Some(container.created)),
                    // Engines before 23 (API 1.42) took it for an error of their own.
                    Err(error) if !state.api.at_least(42) => Err(ApiError::internal(error.message)),
                    Err(error) => Err(error),
                },
                None => Ok(None),
            }
        };
        let ancestors = filters.has("ancestor").then(|| {
            let found = filters
                .get("ancestor")
                .iter()
                .filter_map(|name| state.images.find(name).ok());
            found.map(|image| Arc::clone(&image.id)).collect()
        });
        Ok(Self {
            filters,
            // A limit, an age and a status look at all containers.
            all: call.query.flag("all")
                || call.query.number("limit")?.is_some_and(|limit| limit > 0)
                || filters.has("status")
                || filters.has("exited")
                || age("before")?.is_some()
                || age("since")?.is_some(),
            before: age("before")?,
            since: age("since")?,
            exited: exited.collect::<Result<_, _>>()?,
            ancestors,
        })
    }

    fn fits(&self, state: &State, container: &Container) -> bool {
        let filters = self.filters;
        let port = |wanted: &String, ports: &[(u16, &str)]| {
            let (range, protocol) = wanted.split_once('/').unwrap_or((wanted, "tcp"));
            crate::config::host_port_range(range).is_some_and(|(first, last)| {
                ports
                    .iter()
                    .any(|(p, proto)| *proto == protocol && (first..=last).contains(p))
            })
        };
        let exposed = || -> Vec<(u16, &str)> {
            container
                .config
                .exposed_ports
                .keys()
                .filter_map(|port| crate::config::parse_port(port))
                .collect()
        };
        let published = || -> Vec<(u16, &str)> {
            container
                .ports
                .iter()
                .map(|p| (p.public, p.protocol.as_str()))
                .collect()
        };
        let health = container
            .health
            .as_ref()
            .map_or("none", |health| health.status.as_str());
        (self.all || container.is_active())
            && self.before.is_none_or(|before| container.created < before)
            && self.since.is_none_or(|since| container.created > since)
            && filters.any("id", |id| container.id.starts_with(id.as_str()))
            && filters.any("name", |name| name_fits(name, &container.name))
            && filters.labels(&container.config.labels)
            && filters.exact("status", container.phase.as_str())
            && filters.exact("health", health)
            && (self.exited.is_empty()
                || container.phase == Phase::Exited && self.exited.contains(&container.exit_code))
            && self.ancestors.as_ref().is_none_or(|ids| {
                ids.iter()
                    .any(|id| state.images.descends(&container.image, id))
            })
            && filters.any("network", |wanted| {
                // A network's name, or the start of its id, which is not known before the first start.
                container.endpoints.iter().any(|e| {
                    *e.network == **wanted
                        || !e.network_id.is_empty() && e.network_id.starts_with(wanted.as_str())
                })
            })
            && filters.any("volume", |volume| {
                container
                    .mounts
                    .iter()
                    .any(|m| m.source == *volume || m.target == *volume)
            })
            && filters.any("expose", |wanted| port(wanted, &exposed()))
            && filters.any("publish", |wanted| port(wanted, &published()))
            && filters
                .boolean("is-task")
                .is_ok_and(|task| task != Some(true))
            && filters.any("isolation", |isolation| {
                isolation == "default" || isolation.is_empty()
            })
    }
}

/// A name filter is a regular expression for the engine; `^`, `$` and `.*` are what people use of it.
fn name_fits(pattern: &str, name: &str) -> bool {
    let (start, rest) = pattern
        .strip_prefix('^')
        .map_or((false, pattern), |rest| (true, rest));
    let (end, rest) = rest
        .strip_suffix('$')
        .map_or((false, rest), |rest| (true, rest));
    // The engine's names begin with a slash, and patterns may.
    let rest = rest.strip_prefix('/').unwrap_or(rest).replace(".*", "*");
    let rest = format!(
        "{}{rest}{}",
        if start { "" } else { "*" },
        if end { "" } else { "*" }
    );
    glob(&rest, name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_filter_is_a_part_unless_it_is_anchored() {
        assert!(
            name_fits("we", "tower")
                && name_fits("^/tower$", "tower")
                && name_fits("^t.*r$", "tower")
        );
        assert!(!name_fits("^we", "tower") && !name_fits("^tow$", "tower"));
    }
}
