//! Owns file trees in memory and a container's view of them: its own layer over its image, with volumes and binds mounted
//! in. Knows no tar and no HTTP. Touches the host's files only below the root the engine was given for binds.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;

use crate::clock::Nanos;

/// Symbolic links followed in one path, as in Linux.
const LINK_LIMIT: usize = 40;

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Kind {
    Dir,
    File(Bytes),
    Link(String),
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Node {
    pub(crate) kind: Kind,
    pub(crate) mode: u32,
    /// User and group number.
    pub(crate) owner: (u32, u32),
    pub(crate) time: Nanos,
}

impl Node {
    pub(crate) fn dir(time: Nanos) -> Self {
        Self {
            kind: Kind::Dir,
            mode: 0o755,
            owner: (0, 0),
            time,
        }
    }

    pub(crate) fn file(data: impl Into<Bytes>, time: Nanos) -> Self {
        Self {
            kind: Kind::File(data.into()),
            mode: 0o644,
            owner: (0, 0),
            time,
        }
    }

    pub(crate) fn link(target: impl Into<String>, time: Nanos) -> Self {
        Self {
            kind: Kind::Link(target.into()),
            mode: 0o777,
            owner: (0, 0),
            time,
        }
    }

    /// The same, of this user and group.
    pub(crate) fn owned(self, owner: (u32, u32)) -> Self {
        Self { owner, ..self }
    }

    pub(crate) fn size(&self) -> usize {
        match &self.kind {
            Kind::Dir => 4096,
            Kind::File(data) => data.len(),
            Kind::Link(target) => target.len(),
        }
    }
}

/// Nodes by clean absolute path; the root itself is not in it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tree {
    pub(crate) nodes: BTreeMap<String, Node>,
    /// Paths of a lower tree that are gone.
    pub(crate) removed: BTreeSet<String>,
}

/// A tree that several containers may write.
pub(crate) type SharedTree = Arc<Mutex<Tree>>;

impl Tree {
    /// Puts a node in place, and directories above it where there are none.
    pub(crate) fn insert(&mut self, path: &str, node: Node) {
        for parent in parents(path) {
            if !self.nodes.contains_key(parent) {
                self.nodes.insert(parent.to_owned(), Node::dir(node.time));
            }
            self.removed.remove(parent);
        }
        self.removed.remove(path);
        if path != "/" {
            self.nodes.insert(path.to_owned(), node);
        }
    }

    /// Takes the directories above a path over from a lower tree, as a layer does before it changes anything in them.
    fn copy_up(&mut self, lower: &Self, path: &str) {
        for parent in parents(path) {
            if let (false, Some(node)) = (self.nodes.contains_key(parent), lower.nodes.get(parent))
            {
                self.nodes.insert(parent.to_owned(), node.clone());
            }
        }
    }

    /// Takes away a path and everything below it.
    pub(crate) fn remove(&mut self, path: &str) {
        self.nodes.retain(|other, _| !within(other, path));
    }

    /// What is below a directory, by the path from there.
    pub(crate) fn below<'a>(&'a self, root: &'a str) -> impl Iterator<Item = (String, Node)> + 'a {
        let prefix = format!("{root}/");
        self.nodes
            .range(prefix.clone()..)
            .take_while(move |(path, _)| path.starts_with(&prefix))
            .map(|(path, node)| (path[root.len()..].to_owned(), node.clone()))
    }

    /// The bytes its files hold.
    pub(crate) fn size(&self) -> usize {
        self.nodes
            .values()
            .map(|node| {
                if let Kind::File(data) = &node.kind {
                    data.len()
                } else {
                    0
                }
            })
            .sum()
    }
}

/// Whether `path` is `root` or below it.
pub(crate) fn within(path: &str, root: &str) -> bool {
    root == "/"
        || path
            .strip_prefix(root)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// `/a/b/c` gives `/a`, `/a/b`.
fn parents(path: &str) -> impl Iterator<Item = &str> {
    path.match_indices('/').skip(1).map(|(at, _)| &path[..at])
}

/// A clean absolute path: `..` and `.` resolved by text, no trailing slash.
pub(crate) fn clean(base: &str, path: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    let joined = if path.starts_with('/') {
        path.to_owned()
    } else {
        format!("{base}/{path}")
    };
    for part in joined.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    format!("/{}", parts.join("/"))
}

/// Why a path could not be used, worded as the C library does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum FileError {
    #[error("No such file or directory")]
    Missing,
    #[error("Is a directory")]
    IsDir,
    #[error("Not a directory")]
    NotDir,
    #[error("Read-only file system")]
    ReadOnly,
    #[error("File exists")]
    Exists,
    #[error("Device or resource busy")]
    Busy,
    #[error("Directory not empty")]
    NotEmpty,
    #[error("Too many levels of symbolic links")]
    Loop,
    #[error("Input/output error")]
    Io,
}

/// What is mounted at a path of a container.
#[derive(Clone, Debug)]
pub(crate) enum Backing {
    /// A volume, a tmpfs or a bind kept in memory; the string is the path inside the tree.
    Memory(SharedTree, String),
    /// A directory or file of the host.
    Host(PathBuf),
    /// A file the engine provides, such as `/etc/hosts`.
    Fixed(Bytes),
}

#[derive(Clone, Debug)]
pub(crate) struct Mounted {
    pub(crate) at: String,
    pub(crate) backing: Backing,
    pub(crate) read_only: bool,
}

/// The file system as the processes of one container see it.
#[derive(Clone, Debug)]
pub(crate) struct View {
    pub(crate) image: Arc<Tree>,
    pub(crate) own: SharedTree,
    /// Longest path first.
    pub(crate) mounts: Arc<[Mounted]>,
    pub(crate) read_only: bool,
    /// Who new files belong to: user and group number.
    pub(crate) user: (u32, u32),
}

enum Place<'a> {
    Own(String),
    Mount(&'a Mounted, String),
}

pub(crate) fn lock(tree: &SharedTree) -> MutexGuard<'_, Tree> {
    tree.lock().unwrap_or_else(PoisonError::into_inner)
}

impl View {
    fn place(&self, path: &str) -> Place<'_> {
        match self.mounts.iter().find(|mount| within(path, &mount.at)) {
            Some(mount) => {
                let rest = if mount.at == "/" {
                    path
                } else {
                    &path[mount.at.len()..]
                };
                match &mount.backing {
                    Backing::Memory(_, root) => {
                        Place::Mount(mount, clean("/", &format!("{root}/{rest}")))
                    }
                    _ => Place::Mount(mount, rest.trim_start_matches('/').to_owned()),
                }
            }
            None => Place::Own(path.to_owned()),
        }
    }

    /// Whether a path is the container's own and not in something mounted.
    pub(crate) fn in_own_layer(&self, path: &str) -> bool {
        matches!(self.place(path), Place::Own(_))
    }

    /// The node at a path, the last link not followed.
    fn lookup(&self, path: &str) -> Option<Node> {
        if path == "/" {
            return Some(Node::dir(0));
        }
        match self.place(path) {
            Place::Own(path) => {
                let own = lock(&self.own);
                if let Some(node) = own.nodes.get(&path) {
                    return Some(node.clone());
                }
                let gone = own.removed.iter().any(|removed| within(&path, removed));
                let implied = || {
                    self.mounts
                        .iter()
                        .any(|mount| within(&mount.at, &path))
                        .then(|| Node::dir(0))
                };
                if gone {
                    implied()
                } else {
                    self.image.nodes.get(&path).cloned().or_else(implied)
                }
            }
            Place::Mount(mount, rest) => match &mount.backing {
                Backing::Memory(tree, _) if rest == "/" => {
                    let _ = tree;
                    Some(Node::dir(0))
                }
                Backing::Memory(tree, _) => lock(tree).nodes.get(&rest).cloned().or_else(|| {
                    // The mount point itself is there even when nothing is in it yet.
                    (path == mount.at).then(|| Node::dir(0))
                }),
                Backing::Host(root) => host_node(&host_path(root, &rest).ok()?),
                Backing::Fixed(data) => rest.is_empty().then(|| Node::file(data.clone(), 0)),
            },
        }
    }

    /// Follows links in all components, the last one too if `follow`.
    fn resolve(&self, path: &str, follow: bool) -> Result<String, FileError> {
        let mut path = clean("/", path);
        for _ in 0..LINK_LIMIT {
            let Some((link, target)) = self.first_link(&path, follow) else {
                return Ok(path);
            };
            let base = link.rsplit_once('/').map_or("/", |(parent, _)| parent);
            let rest = path[link.len()..].to_owned();
            path = clean("/", &format!("{}/{rest}", clean(base, &target)));
        }
        Err(FileError::Loop)
    }

    fn first_link(&self, path: &str, follow: bool) -> Option<(String, String)> {
        let candidates = parents(path).chain(follow.then_some(path));
        candidates
            .into_iter()
            .find_map(|prefix| match self.lookup(prefix)?.kind {
                Kind::Link(target) => Some((prefix.to_owned(), target)),
                _ => None,
            })
    }

    /// The node a path leads to.
    pub(crate) fn stat(&self, path: &str) -> Result<Node, FileError> {
        self.lookup(&self.resolve(path, true)?)
            .ok_or(FileError::Missing)
    }

    /// The node at a path itself, even if it is a link.
    pub(crate) fn lstat(&self, path: &str) -> Result<Node, FileError> {
        self.lookup(&self.resolve(path, false)?)
            .ok_or(FileError::Missing)
    }

    pub(crate) fn is_dir(&self, path: &str) -> bool {
        self.stat(path).is_ok_and(|node| node.kind == Kind::Dir)
    }

    pub(crate) fn read(&self, path: &str) -> Result<Bytes, FileError> {
        match self.stat(path)?.kind {
            Kind::File(data) => Ok(data),
            _ => Err(FileError::IsDir),
        }
    }

    /// Puts a node at a path; the directory above must exist.
    pub(crate) fn put(&self, path: &str, node: Node) -> Result<(), FileError> {
        let path = self.resolve(path, true)?;
        let parent =
            path.rsplit_once('/').map_or(
                "/",
                |(parent, _)| if parent.is_empty() { "/" } else { parent },
            );
        if !self.is_dir(parent) {
            return Err(if self.stat(parent).is_ok() {
                FileError::NotDir
            } else {
                FileError::Missing
            });
        }
        if self.is_dir(&path) && node.kind != Kind::Dir && !self.vacant(&path) {
            return Err(FileError::IsDir);
        }
        self.place_node(&path, node)
    }

    /// Whether a path is a bind kept in memory in which nothing was put yet: it may turn out to be a file.
    fn vacant(&self, path: &str) -> bool {
        self.mounts.iter().any(|mount| match &mount.backing {
            Backing::Memory(tree, root) if mount.at == path && root != "/" => {
                !lock(tree).nodes.keys().any(|other| within(other, root))
            }
            _ => false,
        })
    }

    fn place_node(&self, path: &str, node: Node) -> Result<(), FileError> {
        match self.place(path) {
            Place::Own(_) if self.read_only => Err(FileError::ReadOnly),
            Place::Own(path) => {
                let mut own = lock(&self.own);
                own.copy_up(&self.image, &path);
                own.insert(&path, node);
                Ok(())
            }
            Place::Mount(mount, _) if mount.read_only => Err(FileError::ReadOnly),
            Place::Mount(mount, rest) => match &mount.backing {
                Backing::Memory(tree, _) => {
                    lock(tree).insert(&rest, node);
                    Ok(())
                }
                Backing::Host(root) => host_put(&host_path(root, &rest)?, &node),
                Backing::Fixed(_) => Err(FileError::ReadOnly),
            },
        }
    }

    /// Writes a file, or adds to its end; a file that is there keeps its mode and owner.
    pub(crate) fn write(
        &self,
        path: &str,
        data: &[u8],
        append: bool,
        time: Nanos,
    ) -> Result<(), FileError> {
        let existing = match self.stat(path) {
            Ok(node) if node.kind == Kind::Dir && !self.vacant(&self.resolve(path, true)?) => {
                return Err(FileError::IsDir);
            }
            Ok(node) if node.kind != Kind::Dir => Some(node),
            _ => None,
        };
        let (mode, owner) = existing
            .as_ref()
            .map_or((0o644, self.user), |node| (node.mode, node.owner));
        let mut content = match existing {
            Some(Node {
                kind: Kind::File(content),
                ..
            }) if append => content.to_vec(),
            _ => Vec::new(),
        };
        content.extend_from_slice(data);
        let node = Node {
            mode,
            ..Node::file(content, time).owned(owner)
        };
        self.put(path, node)
    }

    /// Removes a path with everything below it.
    pub(crate) fn remove(&self, path: &str) -> Result<(), FileError> {
        let path = self.resolve(path, false)?;
        self.lookup(&path).ok_or(FileError::Missing)?;
        if path == "/" || self.mounts.iter().any(|mount| mount.at == path) {
            return Err(FileError::Busy);
        }
        match self.place(&path) {
            Place::Own(_) if self.read_only => Err(FileError::ReadOnly),
            Place::Own(path) => {
                let mut own = lock(&self.own);
                own.copy_up(&self.image, &path);
                own.remove(&path);
                if self.image.nodes.contains_key(&path) {
                    own.removed.insert(path);
                }
                Ok(())
            }
            Place::Mount(mount, _) if mount.read_only => Err(FileError::ReadOnly),
            Place::Mount(mount, rest) => match &mount.backing {
                Backing::Memory(tree, _) => {
                    lock(tree).remove(&rest);
                    Ok(())
                }
                Backing::Host(root) => {
                    let path = host_path(root, &rest)?;
                    let removed = if path.is_dir() {
                        std::fs::remove_dir_all(&path)
                    } else {
                        std::fs::remove_file(&path)
                    };
                    removed.map_err(|_| FileError::Io)
                }
                Backing::Fixed(_) => Err(FileError::ReadOnly),
            },
        }
    }

    /// The names in a directory, sorted.
    pub(crate) fn list(&self, path: &str) -> Result<Vec<String>, FileError> {
        let path = self.resolve(path, true)?;
        if self.lookup(&path).ok_or(FileError::Missing)?.kind != Kind::Dir {
            return Err(FileError::NotDir);
        }
        let mut names = BTreeSet::new();
        match self.place(&path) {
            Place::Own(path) => {
                let own = lock(&self.own);
                names.extend(children(&own, &path));
                let gone =
                    |name: &String| own.removed.iter().any(|r| within(&clean(&path, name), r));
                names.extend(children(&self.image, &path).filter(|name| !gone(name)));
            }
            Place::Mount(mount, rest) => match &mount.backing {
                Backing::Memory(tree, _) => names.extend(children(&lock(tree), &rest)),
                Backing::Host(root) => {
                    let entries =
                        std::fs::read_dir(host_path(root, &rest)?).map_err(|_| FileError::Io)?;
                    names.extend(
                        entries
                            .flatten()
                            .map(|entry| entry.file_name().to_string_lossy().into_owned()),
                    );
                }
                Backing::Fixed(_) => {}
            },
        }
        let slash = if path == "/" {
            "/".to_owned()
        } else {
            format!("{path}/")
        };
        names.extend(
            self.mounts
                .iter()
                .filter_map(|mount| {
                    mount
                        .at
                        .strip_prefix(&slash)?
                        .split('/')
                        .next()
                        .map(str::to_owned)
                })
                .filter(|name| !name.is_empty()),
        );
        Ok(names.into_iter().collect())
    }

    /// A path and all below it, parents first, links not followed.
    pub(crate) fn walk(&self, path: &str) -> Result<Vec<(String, Node)>, FileError> {
        let root = self.resolve(path, true)?;
        let mut found = vec![(root.clone(), self.lookup(&root).ok_or(FileError::Missing)?)];
        let mut at = 0;
        while at < found.len() {
            let (path, node) = &found[at];
            at += 1;
            if node.kind != Kind::Dir {
                continue;
            }
            let path = path.clone();
            for name in self.list(&path)? {
                let child = clean(&path, &name);
                if let Some(node) = self.lookup(&child) {
                    found.push((child, node));
                }
            }
        }
        found.sort_by(|a, b| a.0.cmp(&b.0));
        Ok(found)
    }
}

fn children(tree: &Tree, path: &str) -> impl Iterator<Item = String> {
    let prefix = if path == "/" {
        "/".to_owned()
    } else {
        format!("{path}/")
    };
    let names: Vec<String> = tree
        .nodes
        .range(prefix.clone()..)
        .take_while(|(other, _)| other.starts_with(&prefix))
        .filter_map(|(other, _)| {
            let rest = &other[prefix.len()..];
            (!rest.contains('/')).then(|| rest.to_owned())
        })
        .collect();
    names.into_iter()
}

/// A path below a bind's source. A link of the host's that leads out of it is refused: the engine was allowed this much
/// of the host and no more.
fn host_path(root: &Path, rest: &str) -> Result<PathBuf, FileError> {
    let root = root.canonicalize().map_err(|_| FileError::Missing)?;
    if rest.is_empty() {
        return Ok(root);
    }
    let path = root.join(rest);
    let real = match (path.canonicalize(), path.parent(), path.file_name()) {
        (Ok(real), ..) => real,
        // A file that is yet to be made, or a link that leads nowhere: which is not followed.
        (Err(_), Some(parent), Some(name)) if path.symlink_metadata().is_err() => parent
            .canonicalize()
            .map_err(|_| FileError::Missing)?
            .join(name),
        _ => return Err(FileError::Missing),
    };
    if real.starts_with(&root) {
        Ok(real)
    } else {
        Err(FileError::Missing)
    }
}

fn host_node(path: &Path) -> Option<Node> {
    let meta = std::fs::metadata(path).ok()?;
    if meta.is_dir() {
        return Some(Node::dir(0));
    }
    Some(Node::file(std::fs::read(path).ok()?, 0))
}

fn host_put(path: &Path, node: &Node) -> Result<(), FileError> {
    match &node.kind {
        Kind::Dir => std::fs::create_dir_all(path),
        Kind::File(data) => std::fs::write(path, data),
        Kind::Link(_) => return Err(FileError::Io),
    }
    .map_err(|_| FileError::Io)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn view(mounts: Vec<Mounted>) -> View {
        let mut image = Tree::default();
        image.insert("/etc/motd", Node::file("hello", 0));
        image.insert("/lib", Node::link("/etc", 0));
        View {
            image: Arc::new(image),
            own: SharedTree::default(),
            mounts: mounts.into(),
            read_only: false,
            user: (0, 0),
        }
    }

    #[test]
    fn a_container_hides_and_restores_what_its_image_has() {
        let view = view(Vec::new());
        assert_eq!(view.read("/lib/motd").unwrap(), "hello");
        view.remove("/etc/motd").unwrap();
        assert_eq!(view.read("/etc/motd"), Err(FileError::Missing));
        assert_eq!(view.list("/etc").unwrap(), [] as [&str; 0]);
        view.write("/etc/motd", b"again", false, 0).unwrap();
        assert_eq!(view.read("/etc/motd").unwrap(), "again");
        assert_eq!(
            view.write("/none/x", b"", false, 0),
            Err(FileError::Missing)
        );
    }

    #[test]
    fn a_volume_is_shared_and_may_be_read_only() {
        let tree = SharedTree::default();
        let mount = |read_only| Mounted {
            at: "/data".into(),
            backing: Backing::Memory(tree.clone(), "/".into()),
            read_only,
        };
        let writer = view(vec![mount(false)]);
        let reader = view(vec![mount(true)]);
        writer.write("/data/x", b"1", false, 0).unwrap();
        writer.write("/data/x", b"2", true, 0).unwrap();
        assert_eq!(reader.read("/data/x").unwrap(), "12");
        assert_eq!(
            reader.write("/data/x", b"", false, 0),
            Err(FileError::ReadOnly)
        );
        assert_eq!(reader.list("/").unwrap(), ["data", "etc", "lib"]);
    }

    #[test]
    fn a_link_loop_is_an_error() {
        let view = view(Vec::new());
        view.put("/a", Node::link("/b", 0)).unwrap();
        view.put("/b", Node::link("/a", 0)).unwrap();
        assert_eq!(view.read("/a/x"), Err(FileError::Loop));
    }
}
