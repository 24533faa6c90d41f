//! Volumes.

use super::{WORK, about, flag};
use crate::client::Docker;
use crate::error::Error;
use crate::model::{CreateVolume, Filters, PruneVolumes, Volume, VolumeList};
use crate::request::{Method, Operation, Request};

impl Docker {
    /// Lists volumes.
    ///
    /// `GET /volumes`. Deadline: short. Cancel safe.
    ///
    /// # Errors
    /// 400 for a filter that the Engine does not know.
    pub async fn list_volumes(&self, filters: &Filters) -> Result<VolumeList, Error> {
        let request = Request::new(Operation::LIST_VOLUMES, Method::Get, "/volumes");
        self.send_json(request.query_some("filters", filters.to_query()))
            .await
    }

    /// Everything the Engine knows of one volume.
    ///
    /// `GET /volumes/{name}`. Deadline: short. Cancel safe.
    ///
    /// # Errors
    /// 404 when there is no such volume.
    pub async fn inspect_volume(&self, volume: &str) -> Result<Volume, Error> {
        self.send_json(about(
            Operation::INSPECT_VOLUME,
            Method::Get,
            "/volumes",
            volume,
            "",
        )?)
        .await
    }

    /// Creates a volume. One of that name and driver that is there already is given back as it is.
    ///
    /// `POST /volumes/create`. Deadline: short. Dropping the future does not undo it.
    ///
    /// # Errors
    /// 409 when the name is taken with another driver; 400 for a bad name; 500 when the driver refuses.
    pub async fn create_volume(&self, volume: &CreateVolume) -> Result<Volume, Error> {
        let mut request =
            Request::new(Operation::CREATE_VOLUME, Method::Post, "/volumes/create").json(volume);
        if !volume.name.is_empty() {
            request = request.about(&volume.name);
        }
        self.send_json(request).await
    }

    /// Removes a volume; with `force` a missing one is no error.
    ///
    /// `DELETE /volumes/{name}`. Deadline: short. Dropping the future does not undo it.
    ///
    /// # Errors
    /// 404 when there is no such volume; 409 when a container uses it.
    pub async fn remove_volume(&self, volume: &str, force: bool) -> Result<(), Error> {
        let request = about(
            Operation::REMOVE_VOLUME,
            Method::Delete,
            "/volumes",
            volume,
            "",
        )?;
        self.send(request.query_some("force", flag(force)))
            .await
            .map(drop)
    }

    /// Removes volumes that no container uses and that match (`label`).
    ///
    /// From API 1.42 on only anonymous ones, unless the filter `all` is `true`; **older engines remove named ones too**
    /// and don't know that filter.
    ///
    /// `POST /volumes/prune`. Deadline: 10 minutes without an answer. Dropping the future does not undo it.
    ///
    /// # Errors
    /// 409 when another prune is under way; 400 for a filter that the Engine does not know.
    pub async fn prune_volumes(&self, filters: &Filters) -> Result<PruneVolumes, Error> {
        let request = Request::new(Operation::PRUNE_VOLUMES, Method::Post, "/volumes/prune");
        self.send_json(
            request
                .query_some("filters", filters.to_query())
                .deadline(WORK),
        )
        .await
    }
}
