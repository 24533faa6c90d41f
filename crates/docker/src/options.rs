//! Owns how a client is to connect, and the choice between flag, variables, contexts and default, which is that of the docker command.
//! It opens no connection.

use std::fmt;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};

use crate::config_file::ConfigFile;
use crate::context;
use crate::custom_header;
use crate::endpoint::Endpoint;
use crate::environment::{Environment, existing};
use crate::version::ApiVersion;

pub(crate) use crate::config_error::ConfigError;

/// Who named the endpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum EndpointSource {
    /// The caller, by a flag of this name or in code.
    Given(String),
    /// The variable `DOCKER_HOST`.
    DockerHost,
    /// A context of the docker command.
    Context {
        /// The context's name.
        name: String,
        /// What chose the context: `DOCKER_CONTEXT`, or `currentContext` of which file.
        chosen_by: String,
    },
    /// Nobody; it is the default.
    Default,
}

impl fmt::Display for EndpointSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Given(flag) => f.write_str(flag),
            Self::DockerHost => f.write_str("DOCKER_HOST"),
            Self::Context { name, chosen_by } => {
                write!(f, "context {name:?}, named by {chosen_by}")
            }
            Self::Default => f.write_str("the default"),
        }
    }
}

/// The certificates of a TLS connection, as paths of PEM files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsFiles {
    /// The authorities that may sign the engine's certificate; `None` for those the system trusts.
    pub ca: Option<PathBuf>,
    /// The client's certificate. It is of use only with [`key`](Self::key).
    pub cert: Option<PathBuf>,
    /// The key of the client's certificate.
    pub key: Option<PathBuf>,
    /// Whether the engine's certificate is verified. Without, anyone on the way can read and change everything.
    pub verify: bool,
}

impl Default for TlsFiles {
    /// The system's authorities, no client certificate, verified.
    fn default() -> Self {
        Self {
            ca: None,
            cert: None,
            key: None,
            verify: true,
        }
    }
}

impl TlsFiles {
    /// Those of `ca.pem`, `cert.pem` and `key.pem` that are in `dir`.
    pub(crate) fn found_in(dir: &Path) -> Result<Self, ConfigError> {
        let [ca, cert, key] =
            ["ca.pem", "cert.pem", "key.pem"].map(|name| existing(dir.join(name)));
        let files = Self {
            ca: ca?,
            cert: cert?,
            key: key?,
            verify: true,
        };
        let (there, lacking) = match (&files.cert, &files.key) {
            (Some(_), None) => ("cert.pem", "key.pem"),
            (None, Some(_)) => ("key.pem", "cert.pem"),
            _ => return Ok(files),
        };
        Err(
            ConfigError::file(&dir.join(lacking), format!("is missing beside {there}"))
                .with_hint("a client certificate needs both"),
        )
    }

    /// The files that the variables name. The docker command's rules: `ca.pem` must be there, the client certificate may be missing.
    fn of_variables(environment: &Environment, verify: bool) -> Result<Self, ConfigError> {
        let dir = match environment.os("DOCKER_CERT_PATH").map(PathBuf::from) {
            Some(dir) if !dir.is_dir() => {
                return Err(ConfigError::value(
                    "DOCKER_CERT_PATH",
                    &dir.to_string_lossy(),
                    "must be a directory",
                ));
            }
            Some(dir) => dir,
            None => environment.config_dir().ok_or_else(|| {
                ConfigError::hidden(
                    "DOCKER_CERT_PATH",
                    "is not set, and there is no home directory with a .docker in it",
                )
            })?,
        };
        let files = Self {
            verify,
            ..Self::found_in(&dir)?
        };
        if verify && files.ca.is_none() {
            let error = ConfigError::file(
                &dir.join("ca.pem"),
                "is missing, but needed to verify the engine",
            );
            return Err(error.with_hint(
                "name the directory of ca.pem, cert.pem and key.pem with DOCKER_CERT_PATH",
            ));
        }
        Ok(files)
    }
}

/// How to connect to an engine. Its parts agree with each other: an [`Endpoint::Tls`] has TLS files, no other has.
#[derive(Clone)]
pub struct ConnectOptions {
    pub(crate) endpoint: Endpoint,
    pub(crate) source: EndpointSource,
    pub(crate) api_version: Option<ApiVersion>,
    pub(crate) tls: Option<TlsFiles>,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) rootless: Option<Endpoint>,
}

impl ConnectOptions {
    /// Connects to `endpoint` and looks at no variable and no file. HTTPS is verified with the system's authorities.
    pub fn new(endpoint: Endpoint) -> Self {
        let tls = matches!(endpoint, Endpoint::Tls { .. }).then(TlsFiles::default);
        Self {
            endpoint,
            source: EndpointSource::Given("the program".to_owned()),
            api_version: None,
            tls,
            headers: Vec::new(),
            rootless: None,
        }
    }

    /// What the docker command would do in this process. It is [`resolve`](Self::resolve) for [`Environment::of_process`].
    ///
    /// # Errors
    /// As for [`resolve`](Self::resolve).
    pub fn from_env() -> Result<Self, ConfigError> {
        Self::resolve(&Environment::of_process(), None)
    }

    /// What the docker command would do in `environment`.
    ///
    /// The endpoint is the first of:
    /// 1. `given`: the name of a flag and its value,
    /// 2. `DOCKER_HOST`,
    /// 3. the context that `DOCKER_CONTEXT` names,
    /// 4. the context that `currentContext` of `config.json` names,
    /// 5. `unix:///var/run/docker.sock`; with `DOCKER_TLS` or `DOCKER_TLS_VERIFY`, `https://localhost:2376`.
    ///
    /// The context `default` stands for the last. `DOCKER_TLS_VERIFY` (any value) turns `tcp://` into HTTPS, `DOCKER_TLS` into HTTPS whose
    /// certificate is not verified; both with the files of `DOCKER_CERT_PATH` or else of the configuration directory. They say nothing to
    /// a context, which has its own. An `https://` address is verified without them: with the files of `DOCKER_CERT_PATH` if that is set,
    /// else with the system's authorities.
    ///
    /// `DOCKER_API_VERSION` pins the version. `HttpHeaders` of `config.json` are sent with every request; `DOCKER_CUSTOM_HEADERS` replaces
    /// them. `config.json` and the context store are in `DOCKER_CONFIG`, or else in `.docker` of the home directory. Reads files, so it
    /// blocks for as long as they take.
    ///
    /// # Errors
    /// When a variable, a file or a context has a bad value. A `config.json` that cannot be read is an error too; the docker command warns
    /// and goes on without the headers and contexts in it.
    pub fn resolve(
        environment: &Environment,
        given: Option<(&str, &str)>,
    ) -> Result<Self, ConfigError> {
        let file = ConfigFile::load(environment)?;
        let mut options = match choose(environment, &file, given)? {
            Choice::Address { source, text } => {
                let (endpoint, tls) = address(environment, text, &source)?;
                Self {
                    endpoint,
                    source,
                    tls,
                    ..Self::default()
                }
            }
            Choice::Context { name, chosen_by } => {
                let dir = environment.config_dir().ok_or_else(|| {
                    ConfigError::value(
                        &chosen_by,
                        &name,
                        "there is no home directory with a .docker in it to find the context in",
                    )
                })?;
                let context::Context { endpoint, tls } = context::load(&dir, &name, &chosen_by)?;
                Self {
                    endpoint,
                    source: EndpointSource::Context { name, chosen_by },
                    tls,
                    ..Self::default()
                }
            }
            Choice::Default if tls_wanted(environment) => {
                let files =
                    TlsFiles::of_variables(environment, environment.is_set("DOCKER_TLS_VERIFY"))?;
                Self {
                    endpoint: Endpoint::default_tls(),
                    tls: Some(files),
                    ..Self::default()
                }
            }
            Choice::Default => Self {
                rootless: rootless(environment),
                ..Self::default()
            },
        };
        options.headers = headers(environment, &file)?;
        if let Some(version) = pinned(environment)? {
            options = options
                .with_api_version(version)
                .map_err(|error| error.with_origin("DOCKER_API_VERSION"))?;
        }
        Ok(options)
    }

    /// Makes all calls with `version` instead of negotiating one.
    ///
    /// # Errors
    /// When this client does not speak it.
    pub fn with_api_version(mut self, version: ApiVersion) -> Result<Self, ConfigError> {
        if !(ApiVersion::FLOOR..=ApiVersion::CEILING).contains(&version) {
            let rule = format!(
                "must be from {} to {}, which this client speaks",
                ApiVersion::FLOOR,
                ApiVersion::CEILING
            );
            return Err(ConfigError::value(
                "API version",
                &version.to_string(),
                rule,
            ));
        }
        self.api_version = Some(version);
        Ok(self)
    }

    /// Uses TLS with `files`. A `tcp://` endpoint becomes `https://` with the same port; sockets stay as they are.
    #[must_use]
    pub fn with_tls(mut self, files: TlsFiles) -> Self {
        self.endpoint = self.endpoint.with_tls();
        self.tls = matches!(self.endpoint, Endpoint::Tls { .. }).then_some(files);
        self
    }

    /// Sends a header with every request; a second of the same name replaces the first. `User-Agent` is passed over.
    ///
    /// # Errors
    /// When the name or the value cannot be one, or the header belongs to the client.
    pub fn with_header(mut self, name: &str, value: &str) -> Result<Self, ConfigError> {
        if let Some(field) = custom_header::checked("header", name, value)? {
            self.headers.retain(|(known, _)| *known != field.0);
            self.headers.push(field);
        }
        Ok(self)
    }

    /// Where to connect.
    pub fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// Who said so.
    pub fn source(&self) -> &EndpointSource {
        &self.source
    }

    /// The pinned version, if one is.
    pub fn api_version(&self) -> Option<ApiVersion> {
        self.api_version
    }

    /// The TLS files of an `https://` endpoint.
    pub fn tls(&self) -> Option<&TlsFiles> {
        self.tls.as_ref()
    }

    /// The socket of a rootless engine (`$XDG_RUNTIME_DIR/docker.sock`), if there is one and nobody named an endpoint. It is not used, as the
    /// docker command does not; it is worth a hint when the default socket does not answer.
    pub fn rootless(&self) -> Option<&Endpoint> {
        self.rootless.as_ref()
    }
}

impl Default for ConnectOptions {
    /// The default socket.
    fn default() -> Self {
        Self {
            source: EndpointSource::Default,
            ..Self::new(Endpoint::default_unix())
        }
    }
}

impl fmt::Debug for ConnectOptions {
    /// Leaves the values of headers out; they may be secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> = self.headers.iter().map(|(name, _)| name).collect();
        f.debug_struct("ConnectOptions")
            .field("endpoint", &self.endpoint)
            .field("source", &self.source)
            .field("api_version", &self.api_version)
            .field("tls", &self.tls)
            .field("headers", &names)
            .field("rootless", &self.rootless)
            .finish()
    }
}

/// What names the endpoint.
enum Choice<'a> {
    Address {
        source: EndpointSource,
        text: &'a str,
    },
    Context {
        name: String,
        chosen_by: String,
    },
    Default,
}

fn choose<'a>(
    environment: &'a Environment,
    file: &ConfigFile,
    given: Option<(&str, &'a str)>,
) -> Result<Choice<'a>, ConfigError> {
    if let Some((flag, text)) = given {
        return Ok(Choice::Address {
            source: EndpointSource::Given(flag.to_owned()),
            text,
        });
    }
    if let Some(text) = environment.text("DOCKER_HOST")? {
        return Ok(Choice::Address {
            source: EndpointSource::DockerHost,
            text,
        });
    }
    let (name, chosen_by) = match environment.text("DOCKER_CONTEXT")? {
        Some(name) => (name, "DOCKER_CONTEXT".to_owned()),
        None => (
            file.current_context.as_str(),
            format!("currentContext of {}", config_path(environment)),
        ),
    };
    Ok(match name {
        "" | "default" => Choice::Default,
        name => Choice::Context {
            name: name.to_owned(),
            chosen_by,
        },
    })
}

fn config_path(environment: &Environment) -> String {
    ConfigFile::path(environment).map_or_else(
        || "config.json".to_owned(),
        |path| path.display().to_string(),
    )
}

fn tls_wanted(environment: &Environment) -> bool {
    environment.is_set("DOCKER_TLS_VERIFY") || environment.is_set("DOCKER_TLS")
}

fn address(
    environment: &Environment,
    text: &str,
    source: &EndpointSource,
) -> Result<(Endpoint, Option<TlsFiles>), ConfigError> {
    let wanted = tls_wanted(environment);
    let endpoint =
        Endpoint::parse(text, wanted).map_err(|error| error.with_origin(source.to_string()))?;
    let tls = match endpoint {
        Endpoint::Tls { .. } if wanted => Some(TlsFiles::of_variables(
            environment,
            environment.is_set("DOCKER_TLS_VERIFY"),
        )?),
        Endpoint::Tls { .. } if environment.is_set("DOCKER_CERT_PATH") => {
            Some(TlsFiles::of_variables(environment, true)?)
        }
        Endpoint::Tls { .. } => Some(TlsFiles::default()),
        _ => None,
    };
    Ok((endpoint, tls))
}

fn rootless(environment: &Environment) -> Option<Endpoint> {
    let path = Path::new(environment.os("XDG_RUNTIME_DIR")?).join("docker.sock");
    let is_socket = std::fs::metadata(&path).is_ok_and(|metadata| metadata.file_type().is_socket());
    is_socket
        .then(|| format!("unix://{}", path.to_str()?).parse().ok())
        .flatten()
}

fn headers(
    environment: &Environment,
    file: &ConfigFile,
) -> Result<Vec<(String, String)>, ConfigError> {
    match environment.text("DOCKER_CUSTOM_HEADERS")? {
        Some(text) => custom_header::of_variable("DOCKER_CUSTOM_HEADERS", text),
        None => custom_header::of_config(
            &format!("HttpHeaders of {}", config_path(environment)),
            &file.headers.0,
        ),
    }
}

/// As the docker command, takes `v1.44` for 1.44.
fn pinned(environment: &Environment) -> Result<Option<ApiVersion>, ConfigError> {
    match environment.text("DOCKER_API_VERSION")?.map(str::trim) {
        None | Some("") => Ok(None),
        Some(text) => match text.strip_prefix('v').unwrap_or(text).parse() {
            Ok(version) => Ok(Some(version)),
            Err(_) => Err(ConfigError::value(
                "DOCKER_API_VERSION",
                text,
                "must be MAJOR.MINOR, such as 1.44",
            )),
        },
    }
}
