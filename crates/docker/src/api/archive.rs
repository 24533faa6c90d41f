//! Files of containers, as tar archives.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::{about, flag};
use crate::client::{ByteStream, Docker};
use crate::error::Error;
use crate::model::PathStat;
use crate::request::{Body, Deadline, Method, Operation};
use crate::wire::head::Headers;

/// The longest time without a byte in either direction.
const IDLE: Duration = Duration::from_secs(60);

/// The header that describes the path.
const STAT_HEADER: &str = "X-Docker-Container-Path-Stat";

/// How [`Docker::put_archive`] unpacks.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct PutArchive {
    /// Fail instead of replacing a directory by something else or something else by a directory.
    pub no_overwrite_dir_non_dir: bool,
    /// Give the files to the user of the container's configuration (if it names one) instead of the owners that the
    /// archive names.
    pub copy_uid_gid: bool,
}

/// A path of a container as a tar archive.
#[derive(Debug)]
pub struct Archive {
    /// What the path is.
    pub stat: PathStat,
    /// The archive; its names begin with the last part of the path.
    pub tar: ByteStream,
}

impl Docker {
    /// What a path in a container is.
    ///
    /// `HEAD /containers/{id}/archive`. Deadline: short. Cancel safe.
    ///
    /// # Errors
    /// 404 when there is no such container or path. The reply to `HEAD` has no body, so the error has no words.
    pub async fn stat_archive(&self, container: &str, path: &str) -> Result<PathStat, Error> {
        let operation = Operation::STAT_ARCHIVE;
        let request = about(
            operation,
            Method::Head,
            "/containers",
            container,
            "/archive",
        )?
        .query("path", path);
        let reply = self.send(request).await?;
        path_stat(operation, container, path, &reply.headers)
    }

    /// Reads a file or directory of a container, running or not, as a tar archive.
    ///
    /// `GET /containers/{id}/archive`. Deadline: 60 s without a byte. Cancel safe; dropping the stream ends it in the
    /// Engine too.
    ///
    /// # Errors
    /// 404 when there is no such container or path.
    pub async fn get_archive(&self, container: &str, path: &str) -> Result<Archive, Error> {
        let operation = Operation::GET_ARCHIVE;
        let request = about(operation, Method::Get, "/containers", container, "/archive")?
            .query("path", path)
            .deadline(Deadline::Stream { idle: Some(IDLE) });
        let tar = self.send_stream(request).await?;
        let stat = path_stat(operation, container, path, tar.headers())?;
        Ok(Archive { stat, tar })
    }

    /// Unpacks a tar archive (plain or compressed with gzip, bzip2 or xz) into a directory of a container.
    ///
    /// `PUT /containers/{id}/archive`. Deadline: 60 s without a byte. Dropping the future leaves what was unpacked.
    ///
    /// # Errors
    /// 404 when there is no such container or path; 400 when the path is not a directory or the archive is broken; 403
    /// when the volume or the root file system is read-only.
    pub async fn put_archive(
        &self,
        container: &str,
        path: &str,
        tar: Body,
        options: PutArchive,
    ) -> Result<(), Error> {
        let request = about(
            Operation::PUT_ARCHIVE,
            Method::Put,
            "/containers",
            container,
            "/archive",
        )?
        .query("path", path)
        .query_some(
            "noOverwriteDirNonDir",
            flag(options.no_overwrite_dir_non_dir),
        )
        .query_some("copyUIDGID", flag(options.copy_uid_gid))
        .header("Content-Type", "application/x-tar")
        .body(tar)
        .deadline(Deadline::Stream { idle: Some(IDLE) });
        self.send(request).await.map(drop)
    }
}

/// The description of a path out of the reply's header.
fn path_stat(
    operation: Operation,
    container: &str,
    path: &str,
    headers: &Headers,
) -> Result<PathStat, Error> {
    let malformed =
        |why: String| Error::malformed(operation, format!("{why} ({path} in {container})"));
    let header = headers
        .get(STAT_HEADER)
        .ok_or_else(|| malformed(format!("it has no {STAT_HEADER} header")))?;
    let json = STANDARD
        .decode(header)
        .map_err(|error| malformed(format!("its {STAT_HEADER} header is not base64: {error}")))?;
    serde_json::from_slice(&json).map_err(|error| {
        malformed(format!(
            "its {STAT_HEADER} header is not what was expected: {error}"
        ))
    })
}
