//! Which network is configured: looks into the directories, and remembers what it looked at.
//!
//! A look is repeated only when something it saw has changed, which a few calls to `stat` tell. So what is given is always what is there, and
//! nothing runs while nobody asks.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{self, Read as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::Deserialize;
use tokio::time::Instant;

use super::config::{MAX_CONFIG, Network, Plugin, Version};
use super::error::{Failure, NotReady, Operation, list};
use super::plugin::{self, Call};
use super::{CniOptions, INTERFACE};

/// The ends of the names of files that may be networks.
const EXTENSIONS: [&str; 3] = ["conf", "conflist", "json"];

/// How many files' problems a message has.
const MAX_PROBLEMS: usize = 5;

/// How long a plugin may take to say which versions it speaks.
const VERSION_PATIENCE: Duration = Duration::from_secs(5);

/// How long something must have been as it is before a look at it counts for later: two changes within one tick of the kernel's clock (up to
/// 10 ms) have the same time.
const SETTLED: Duration = Duration::from_millis(50);

/// A network that can be used.
#[derive(Debug)]
pub(super) struct Configured {
    pub(super) network: Arc<Network>,
    pub(super) file: PathBuf,
}

/// What a look has found.
#[derive(Debug)]
pub(super) struct Loaded {
    pub(super) outcome: Result<Arc<Configured>, NotReady>,
    /// The directories that decide, whether they are there or not.
    pub(super) dirs: Vec<PathBuf>,
    problems: Vec<String>,
    seen: HashMap<PathBuf, Option<Stamp>>,
    settled: bool,
}

/// What tells whether a file or directory is as it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stamp {
    device: u64,
    inode: u64,
    mode: u32,
    size: u64,
    /// When it was last changed in any way, which unlike the time of its content nobody can set.
    changed: (i64, i64),
}

impl Stamp {
    fn of(path: &Path) -> Option<Self> {
        let metadata = fs::metadata(path).ok()?;
        Some(Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            mode: metadata.mode(),
            size: metadata.size(),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        })
    }

    fn is_settled(&self) -> bool {
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        let (Ok(seconds), Ok(nanos)) = (self.changed.0.try_into(), self.changed.1.try_into())
        else {
            return false;
        };
        now > Duration::new(seconds, nanos) + SETTLED
    }

    /// Whether it is a file that may be run.
    fn is_program(&self) -> bool {
        const FILE_TYPE: u32 = 0o170_000;
        const REGULAR: u32 = 0o100_000;
        self.mode & FILE_TYPE == REGULAR && self.mode & 0o111 != 0
    }
}

/// What plugins have said of their versions, for as long as their programs are the same.
pub(super) type Spoken = HashMap<PathBuf, (Stamp, Vec<Version>)>;

impl Loaded {
    /// Whether a look now would find the same.
    pub(super) fn is_current(&self) -> bool {
        self.settled
            && self
                .seen
                .iter()
                .all(|(path, seen)| Stamp::of(path) == *seen)
    }

    /// Logs what is wrong with files that are passed over, unless it was so before.
    pub(super) fn log(&self, before: Option<&Self>) {
        let known =
            |problem: &String| before.is_some_and(|before| before.problems.contains(problem));
        if let Ok(configured) = &self.outcome {
            for problem in self.problems.iter().filter(|problem| !known(problem)) {
                tracing::warn!("a CNI configuration is passed over: {problem}");
            }
            let same = before.is_some_and(|before| {
                before.outcome.as_ref().is_ok_and(|before| {
                    before.file == configured.file && before.network == configured.network
                })
            });
            if !same {
                tracing::info!(
                    network = configured.network.name(),
                    version = %configured.network.version(),
                    file = %configured.file.display(),
                    "pods join this CNI network"
                );
            }
        }
    }
}

/// Looks for the first usable network: directory by directory, file by file in the order of their names.
pub(super) async fn load(options: &CniOptions, spoken: &mut Spoken) -> Loaded {
    let mut look = Look {
        options,
        seen: HashMap::new(),
        dirs: options.bin_dirs.clone(),
        settled: true,
        used: Vec::new(),
    };
    let mut problems = Vec::new();
    let mut any_file = false;
    let mut found = None;
    'dirs: for dir in &options.conf_dirs {
        look.dirs.push(dir.clone());
        let files = match look.candidates(dir, &EXTENSIONS) {
            Ok(files) => files,
            Err(error) => {
                problems.push(match error.kind() {
                    io::ErrorKind::NotFound => format!("{} is missing", dir.display()),
                    _ => format!("{} cannot be read: {error}", dir.display()),
                });
                continue;
            }
        };
        if files.is_empty() {
            problems.push(format!(
                "{} has no file that ends in .conflist, .conf or .json",
                dir.display()
            ));
        }
        for file in files {
            any_file = true;
            match look.usable(&file, spoken).await {
                Ok(network) => {
                    found = Some(Configured {
                        network: Arc::new(network),
                        file,
                    });
                    break 'dirs;
                }
                Err(problem) => problems.push(format!("{}: {problem}", file.display())),
            }
        }
    }
    spoken.retain(|program, _| look.used.contains(program));
    let outcome = match found {
        Some(configured) => Ok(Arc::new(configured)),
        None => {
            let more = problems.len().saturating_sub(MAX_PROBLEMS);
            let mut message = problems[..problems.len() - more].join("; ");
            if more > 0 {
                message.push_str(&format!("; and {more} more"));
            }
            if message.is_empty() {
                "no directory is set".clone_into(&mut message);
            }
            Err(NotReady {
                reason: if any_file {
                    NotReady::BAD_CONFIG
                } else {
                    NotReady::NO_CONFIG
                },
                message: format!("no CNI network can be used: {message}"),
            })
        }
    };
    Loaded {
        outcome,
        dirs: look.dirs,
        problems,
        seen: look.seen,
        settled: look.settled,
    }
}

/// The program of a plugin.
pub(super) fn program(options: &CniOptions, plugin: &Plugin) -> Option<PathBuf> {
    options
        .bin_dirs
        .iter()
        .map(|dir| dir.join(plugin.kind()))
        .find(|path| Stamp::of(path).is_some_and(|stamp| stamp.is_program()))
}

/// One look.
struct Look<'a> {
    options: &'a CniOptions,
    seen: HashMap<PathBuf, Option<Stamp>>,
    dirs: Vec<PathBuf>,
    settled: bool,
    /// The programs that were asked for their versions.
    used: Vec<PathBuf>,
}

impl Look<'_> {
    /// To be called before something is read, so that a change in between is seen later.
    fn at(&mut self, path: &Path) -> Option<Stamp> {
        let stamp = Stamp::of(path);
        self.settled &= stamp.is_none_or(|stamp| stamp.is_settled());
        self.seen.insert(path.to_owned(), stamp);
        stamp
    }

    /// The files of a directory that may be configurations, in the order of their names.
    fn candidates(&mut self, dir: &Path, extensions: &[&str]) -> io::Result<Vec<PathBuf>> {
        self.at(dir);
        let mut files = Vec::new();
        for entry in fs::read_dir(dir)? {
            let path = entry?.path();
            let fits = path
                .extension()
                .and_then(|extension| extension.to_str())
                .is_some_and(|extension| extensions.contains(&extension));
            if fits && !path.is_dir() {
                files.push(path);
            }
        }
        files.sort();
        Ok(files)
    }

    fn read(&mut self, file: &Path) -> Result<Vec<u8>, String> {
        self.at(file);
        let mut bytes = Vec::new();
        let most = MAX_CONFIG as u64 + 1;
        File::open(file)
            .and_then(|file| file.take(most).read_to_end(&mut bytes))
            .map_err(|error| error.to_string())?;
        Ok(bytes)
    }

    /// The network of a file, if all of its plugins are there and speak one of its versions.
    async fn usable(&mut self, file: &Path, spoken: &mut Spoken) -> Result<Network, String> {
        let bytes = self.read(file)?;
        let mut network = Network::parse(&bytes).map_err(|error| error.to_string())?;
        if network.may_have_more() {
            let beside = file.with_file_name(network.name());
            let plugins = self.beside(&beside)?;
            network.append(plugins).map_err(|error| error.to_string())?;
            if network.plugins().is_empty() {
                return Err(format!(
                    "the network has no plugins, and there are none in {}",
                    beside.display()
                ));
            }
        }
        let mut programs = Vec::new();
        for plugin in network.plugins() {
            programs.push((plugin.kind().to_owned(), self.program(plugin)?));
        }
        for (kind, (program, stamp)) in programs {
            self.used.push(program.clone());
            let versions = match spoken.get(&program) {
                Some((same, versions)) if *same == stamp => versions.clone(),
                _ => {
                    let versions = versions(self.options, &program).await.map_err(|failure| {
                        // It may have been for want of memory; the next look asks again.
                        self.settled = false;
                        format!("plugin {kind:?} does not say which versions it speaks: {failure}")
                    })?;
                    spoken.insert(program.clone(), (stamp, versions.clone()));
                    versions
                }
            };
            let wanted = network.version();
            if !network.keep_versions(&versions) {
                let versions: Vec<String> = versions.iter().map(Version::to_string).collect();
                return Err(format!(
                    "plugin {kind:?} ({}) does not speak cniVersion {wanted}, only {}",
                    program.display(),
                    versions.join(", ")
                ));
            }
        }
        Ok(network)
    }

    /// The plugins of a directory beside a network's file; none if there is no such directory.
    fn beside(&mut self, dir: &Path) -> Result<Vec<Plugin>, String> {
        self.dirs.push(dir.to_owned());
        let files = match self.candidates(dir, &["conf"]) {
            Ok(files) => files,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(format!("{} cannot be read: {error}", dir.display())),
        };
        let mut plugins = Vec::new();
        for file in files {
            let bytes = self
                .read(&file)
                .map_err(|error| format!("{}: {error}", file.display()))?;
            let plugin = Plugin::parse(&bytes);
            plugins.push(plugin.map_err(|error| format!("{}: {error}", file.display()))?);
        }
        Ok(plugins)
    }

    fn program(&mut self, plugin: &Plugin) -> Result<(PathBuf, Stamp), String> {
        let kind = plugin.kind();
        for dir in &self.options.bin_dirs {
            let path = dir.join(kind);
            match self.at(&path) {
                Some(stamp) if stamp.is_program() => return Ok((path, stamp)),
                _ => {}
            }
        }
        Err(format!(
            "its plugin {kind:?} is not installed: there is no such program in {}",
            list(&self.options.bin_dirs)
        ))
    }
}

/// Asks a plugin which versions it speaks.
async fn versions(options: &CniOptions, program: &Path) -> Result<Vec<Version>, Failure> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Answer {
        supported_versions: Option<Vec<String>>,
    }
    let plugins = options.cni_path();
    let call = Call {
        program,
        operation: Operation::Version,
        // Plugins built with the oldest libraries want all of them, whatever they are asked.
        container: "none",
        netns: Path::new("none"),
        interface: INTERFACE,
        arguments: "",
        plugins: &plugins,
        search_path: &options.search_path,
    };
    let request = format!(r#"{{"cniVersion":"{}"}}"#, Version::NEWEST);
    let deadline = Instant::now() + VERSION_PATIENCE;
    let output = plugin::run(&call, request.as_bytes(), deadline).await?;
    let answer: Answer =
        serde_json::from_slice(&output).map_err(|error| plugin::garbage(error, &output))?;
    let mut versions: Vec<Version> = answer
        .supported_versions
        .into_iter()
        .flatten()
        .filter_map(|version| version.parse().ok())
        .collect();
    versions.sort_unstable();
    versions.dedup();
    Ok(versions)
}
