//! The Engine itself: ping, version, info, disk use, registry log-in, build cache.

use super::{Gate, WORK, flag};
use crate::auth::Credentials;
use crate::client::Docker;
use crate::error::Error;
use crate::model::{AuthResult, Filters, Info, Ping, PruneBuildCache, SystemDf, Version};
use crate::request::{Method, Operation, Request};

/// A kind of object that takes disk space.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum DiskUsageType {
    /// Containers.
    Container,
    /// Images.
    Image,
    /// Volumes.
    Volume,
    /// Build caches.
    BuildCache,
}

/// What [`Docker::system_df`] computes.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct SystemDfOptions {
    /// Only these kinds, which saves the Engine the work for the others (API 1.42); empty for all.
    pub types: Vec<DiskUsageType>,
    /// With the single objects in the totals (API 1.52; older engines always list them).
    pub verbose: bool,
}

/// What [`Docker::prune_build_cache`] removes.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct PruneBuildCacheOptions {
    /// All unused caches, not only the dangling ones.
    pub all: bool,
    /// Only caches that match.
    pub filters: Filters,
}

impl Docker {
    /// Asks whether the Engine answers, and what it tells without being asked.
    ///
    /// `GET /_ping`, without a version: it works with engines that are too old or too new for anything else. Deadline:
    /// short. Cancel safe.
    ///
    /// # Errors
    /// 500 when the Engine is there but not well.
    pub async fn ping(&self) -> Result<Ping, Error> {
        let reply = self
            .send(Request::new(Operation::PING, Method::Get, "/_ping").unversioned())
            .await?;
        let header = |name: &str| reply.headers.get(name).unwrap_or_default().to_owned();
        Ok(Ping {
            api_version: header("Api-Version"),
            os_type: header("Ostype"),
            experimental: header("Docker-Experimental") == "true",
            builder_version: header("Builder-Version"),
            server: header("Server"),
            libpod_api_version: reply.headers.get("Libpod-Api-Version").map(str::to_owned),
        })
    }

    /// The versions of the Engine and its parts.
    ///
    /// `GET /version`, without an API version in the path: it works with engines that are too old or too new for anything
    /// else. Deadline: short. Cancel safe.
    ///
    /// # Errors
    /// As any call.
    pub async fn version(&self) -> Result<Version, Error> {
        self.send_json(Request::new(Operation::VERSION, Method::Get, "/version").unversioned())
            .await
    }

    /// The state and configuration of the Engine and its host.
    ///
    /// `GET /info`. Deadline: short. Cancel safe. The Engine looks at every image for it: not a call to make often.
    ///
    /// # Errors
    /// As any call.
    pub async fn info(&self) -> Result<Info, Error> {
        self.send_json(Request::new(Operation::INFO, Method::Get, "/info"))
            .await
    }

    /// What takes disk space. The Engine walks through all files for it, which takes long on full disks.
    ///
    /// `GET /system/df`. Deadline: short. Cancel safe; the Engine stops too.
    ///
    /// # Errors
    /// 409 when another such call is under way.
    pub async fn system_df(&self, options: &SystemDfOptions) -> Result<SystemDf, Error> {
        let operation = Operation::DISK_USAGE;
        if !options.types.is_empty() {
            self.require(operation, &[Gate::new("disk use of some types only", 42)])
                .await?;
        }
        let mut request = Request::new(operation, Method::Get, "/system/df")
            .query_some("verbose", flag(options.verbose));
        for kind in &options.types {
            let kind = match kind {
                DiskUsageType::Container => "container",
                DiskUsageType::Image => "image",
                DiskUsageType::Volume => "volume",
                DiskUsageType::BuildCache => "build-cache",
            };
            request = request.query("type", kind);
        }
        self.send_json(request).await
    }

    /// Asks the registry that the credentials name whether it accepts them.
    ///
    /// `POST /auth`. Deadline: short. Cancel safe; nothing is stored.
    ///
    /// # Errors
    /// 401 when the registry refuses them; 500 when it can't be reached.
    pub async fn check_auth(&self, credentials: &Credentials) -> Result<AuthResult, Error> {
        let mut request =
            Request::new(Operation::AUTH, Method::Post, "/auth").json(&credentials.to_fields());
        if !credentials.server_address().is_empty() {
            request = request.about(credentials.server_address());
        }
        let reply = self.send(request).await?;
        // 204: accepted, and nothing to say.
        if reply.body.is_empty() {
            return Ok(AuthResult::default());
        }
        serde_json::from_slice(&reply.body)
            .map_err(|_| Error::malformed(Operation::AUTH, "its body is not what was expected"))
    }

    /// Removes build caches.
    ///
    /// `POST /build/prune`. Deadline: 10 minutes without an answer. Dropping the future does not undo it.
    ///
    /// # Errors
    /// As any call.
    pub async fn prune_build_cache(
        &self,
        options: &PruneBuildCacheOptions,
    ) -> Result<PruneBuildCache, Error> {
        let request = Request::new(Operation::PRUNE_BUILD_CACHE, Method::Post, "/build/prune")
            .query_some("all", flag(options.all))
            .query_some("filters", options.filters.to_query())
            .deadline(WORK);
        self.send_json(request).await
    }
}
