//! Owns what is known of the process: the variables that configuration is read from, and the home directory. The one place that reads the
//! real environment is [`Environment::of_process`]; everything else is handed an [`Environment`].

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fmt;
use std::io::{ErrorKind, Read};
use std::path::{Path, PathBuf};

use crate::config_error::ConfigError;

/// The variables that are read; all are the docker command's, the system's or the login session's.
const VARIABLES: [&str; 11] = [
    "DOCKER_API_VERSION",
    "DOCKER_AUTH_CONFIG",
    "DOCKER_CERT_PATH",
    "DOCKER_CONFIG",
    "DOCKER_CONTEXT",
    "DOCKER_CUSTOM_HEADERS",
    "DOCKER_HOST",
    "DOCKER_TLS",
    "DOCKER_TLS_VERIFY",
    "PATH",
    "XDG_RUNTIME_DIR",
];

/// The longest configuration file that is read, in bytes. Real ones have some kilobytes; this is what a Kubernetes Secret may hold.
const MAX_FILE: u64 = 1024 * 1024;

/// The variables and the home directory that configuration is read from.
///
/// As for the docker command, a variable that is set to nothing is not set.
#[derive(Clone, Default)]
pub struct Environment {
    variables: BTreeMap<String, OsString>,
    home: Option<PathBuf>,
}

impl Environment {
    /// An environment without variables and without a home.
    pub fn empty() -> Self {
        Self::default()
    }

    /// The environment of this process: the `DOCKER_…` variables, `PATH`, `XDG_RUNTIME_DIR`, and the home directory (`HOME`, else the
    /// user's entry in the user database).
    pub fn of_process() -> Self {
        let variables = VARIABLES
            .into_iter()
            .filter_map(|name| Some((name.to_owned(), std::env::var_os(name)?)))
            .collect();
        Self {
            variables,
            home: std::env::home_dir(),
        }
    }

    /// The same with the variable `name` set.
    #[must_use]
    pub fn with(mut self, name: impl Into<String>, value: impl Into<OsString>) -> Self {
        self.variables.insert(name.into(), value.into());
        self
    }

    /// The same with another home directory.
    #[must_use]
    pub fn with_home(mut self, home: impl Into<PathBuf>) -> Self {
        self.home = Some(home.into());
        self
    }

    pub(crate) fn os(&self, name: &str) -> Option<&OsStr> {
        self.variables
            .get(name)
            .map(OsString::as_os_str)
            .filter(|value| !value.is_empty())
    }

    pub(crate) fn is_set(&self, name: &str) -> bool {
        self.os(name).is_some()
    }

    pub(crate) fn text(&self, name: &str) -> Result<Option<&str>, ConfigError> {
        match self.os(name) {
            None => Ok(None),
            Some(value) => value
                .to_str()
                .map(Some)
                .ok_or_else(|| ConfigError::hidden(name, "is not UTF-8")),
        }
    }

    /// `DOCKER_CONFIG`, else `.docker` in the home directory; `None` when there is neither.
    pub(crate) fn config_dir(&self) -> Option<PathBuf> {
        match self.os("DOCKER_CONFIG") {
            Some(dir) => Some(PathBuf::from(dir)),
            None => self
                .home
                .as_deref()
                .filter(|home| !home.as_os_str().is_empty())
                .map(|home| home.join(".docker")),
        }
    }
}

impl fmt::Debug for Environment {
    /// Names the variables and leaves their values out: headers and credentials may be among them.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Environment")
            .field("variables", &self.variables.keys())
            .field("home", &self.home)
            .finish()
    }
}

/// The contents of a configuration file; `None` when there is no such file.
pub(crate) fn read_file(path: &Path) -> Result<Option<Vec<u8>>, ConfigError> {
    let failed = |error: std::io::Error| {
        let hint = match error.kind() {
            ErrorKind::PermissionDenied => {
                "let this user read it, or name another directory with DOCKER_CONFIG"
            }
            _ => "name another directory with DOCKER_CONFIG",
        };
        ConfigError::file(path, format!("cannot be read: {error}")).with_hint(hint)
    };
    // Asked before opening: to open a FIFO is to wait for its writer.
    match std::fs::metadata(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed(error)),
        Ok(metadata) if !metadata.is_file() => {
            return Err(ConfigError::file(path, "is not a regular file"));
        }
        Ok(_) => {}
    }
    let mut bytes = Vec::new();
    std::fs::File::open(path)
        .and_then(|file| file.take(MAX_FILE + 1).read_to_end(&mut bytes))
        .map_err(failed)?;
    if bytes.len() as u64 > MAX_FILE {
        return Err(ConfigError::file(
            path,
            format!("has more than {MAX_FILE} bytes"),
        ));
    }
    Ok(Some(bytes))
}

/// The path, if there is a file of that name. A file that cannot be asked for is an error and not an absence.
pub(crate) fn existing(path: PathBuf) -> Result<Option<PathBuf>, ConfigError> {
    match path.try_exists() {
        Ok(true) => Ok(Some(path)),
        Ok(false) => Ok(None),
        Err(error) => Err(ConfigError::file(&path, format!("cannot be read: {error}"))),
    }
}
