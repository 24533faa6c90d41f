//! Owns what lies behind binds: host paths kept in memory, or real ones below the one directory the engine was allowed.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use crate::files::{Backing, SharedTree};

/// The host as containers see it through binds.
#[derive(Debug, Default)]
pub(crate) struct Binds {
    /// Binds of paths below this one reach the host's files; all others stay in memory.
    root: Option<PathBuf>,
    memory: Mutex<SharedTree>,
}

impl Binds {
    pub(crate) fn new(root: Option<PathBuf>) -> Self {
        Self {
            root,
            memory: Mutex::default(),
        }
    }

    fn real(&self, source: &str) -> Option<PathBuf> {
        let root = self.root.as_ref()?;
        Path::new(source)
            .starts_with(root)
            .then(|| PathBuf::from(source))
    }

    /// What a container sees of a host path.
    pub(crate) fn backing(&self, source: &str) -> Backing {
        match self.real(source) {
            Some(path) => Backing::Host(path),
            None => {
                let tree = self
                    .memory
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .clone();
                Backing::Memory(tree, source.to_owned())
            }
        }
    }

    /// Makes a missing directory, as the engine does for the short form of a bind.
    pub(crate) fn create(&self, source: &str) {
        if let Some(path) = self.real(source)
            && !path.exists()
        {
            // A directory that cannot be made shows as one that is not there.
            let _ = std::fs::create_dir_all(path);
        }
    }

    /// Whether a path is there; the host in memory has every path.
    pub(crate) fn exists(&self, source: &str) -> bool {
        self.real(source).is_none_or(|path| path.exists())
    }
}
