//! How much a container has written into its own layer.
//!
//! Owns the walks over upper directories: one at a time, in a thread that ends when there is nothing left to walk, at the lowest priority,
//! and not more often than [`Pace`] says. An answer is the result of the last walk, and absent before the first has ended, which only those
//! wait for who say so. Nothing is walked that nobody asked about.
//!
//! The tree belongs to the container, which may change it at any moment and may mean harm. So no name is followed through a link, the walk
//! stays on its device, and its depth, memory and time are bounded; what cannot be counted whole is not given as a number.

use std::collections::{HashMap, HashSet, VecDeque};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime};

use rustix::fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags, fstat, openat, statat};
use rustix::io::Errno;

use super::usage::LayerUsage;

/// Directories open at a time. Trees of source code stay below 40.
const MAX_DEPTH: usize = 128;

/// Files with more than one name that are remembered, of 8 bytes each and as much again for the table.
const MAX_LINKED: usize = 1_000_000;

/// How many entries are looked at between rests.
const BATCH: u32 = 512;

/// The lowest priority there is (setpriority(2)); the disk's scheduler follows it.
const NICE: i32 = 19;

/// How often and how long trees are walked.
#[derive(Debug, Clone, Copy)]
struct Pace {
    /// From the end of a walk to the next one of the same tree.
    between: Duration,
    /// As `between`, in multiples of what the last walk took: no tree takes more than a small part of a disk's time.
    times: u32,
    /// How long one walk may take. The next tree waits for it.
    budget: Duration,
    /// After how long a tree that nobody asks about is forgotten.
    forget: Duration,
}

impl Pace {
    /// The kubelet asks every 10 s and wants a container that fills its disk evicted within minutes.
    const GENTLE: Self = Self {
        between: Duration::from_secs(60),
        times: 20,
        budget: Duration::from_secs(30),
        forget: Duration::from_secs(15 * 60),
    };
}

/// The layers that somebody asked about, and the thread that walks them.
#[derive(Debug)]
pub(super) struct Layers {
    shared: Arc<Shared>,
    pace: Pace,
}

#[derive(Debug, Default)]
struct Shared {
    table: Mutex<Table>,
    /// A walk has ended, or all have to.
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Table {
    known: HashMap<String, Layer>,
    /// Each layer is in it once at the most.
    queue: VecDeque<(String, PathBuf)>,
    /// Of the last thread, and whether it still takes from the queue.
    thread: Option<JoinHandle<()>>,
    walking: bool,
    stop: bool,
}

#[derive(Debug)]
struct Layer {
    usage: Option<LayerUsage>,
    queued: bool,
    next: Instant,
    asked: Instant,
}

impl Layer {
    /// Whether nothing is known of it yet, and a walk will tell.
    fn is_first(&self) -> bool {
        self.usage.is_none() && self.queued
    }
}

impl Shared {
    /// A panic in a walk must not take the other numbers along.
    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for `rest`, or until all walks have to stop. Whether they have.
    fn rest(&self, rest: Duration) -> bool {
        let (table, _) = self
            .changed
            .wait_timeout_while(self.table(), rest, |table| !table.stop)
            .unwrap_or_else(PoisonError::into_inner);
        table.stop
    }
}

impl Layers {
    pub(super) fn new() -> Self {
        Self::at_pace(Pace::GENTLE)
    }

    fn at_pace(pace: Pace) -> Self {
        Self {
            shared: Arc::default(),
            pace,
        }
    }

    /// What was last found of `upper`, the layer of the container `id`; sees to it that it is walked again if that is due. If nothing was
    /// found yet, waits for that until `until`.
    pub(super) fn usage(
        &self,
        id: &str,
        upper: &Path,
        until: Option<Instant>,
    ) -> Option<LayerUsage> {
        let now = Instant::now();
        let mut table = self.shared.table();
        if !table.known.contains_key(id) {
            let forget = self.pace.forget;
            table.known.retain(|_, layer| {
                layer.queued || now.saturating_duration_since(layer.asked) <= forget
            });
        }
        let layer = table.known.entry(id.to_owned()).or_insert(Layer {
            usage: None,
            queued: false,
            next: now,
            asked: now,
        });
        layer.asked = now;
        let usage = layer.usage;
        if !layer.queued && layer.next <= now {
            layer.queued = true;
            table.queue.push_back((id.to_owned(), upper.to_owned()));
            // A thread that has ended without saying so has panicked.
            let ended = table.thread.as_ref().is_none_or(JoinHandle::is_finished);
            if ended || !table.walking {
                self.start(&mut table);
            }
        }
        if usage.is_some() {
            return usage;
        }
        let patience = until?.checked_duration_since(now)?;
        let is_first = |table: &mut Table| table.known.get(id).is_some_and(Layer::is_first);
        let (table, _) = self
            .shared
            .changed
            .wait_timeout_while(table, patience, is_first)
            .unwrap_or_else(PoisonError::into_inner);
        table.known.get(id)?.usage
    }

    fn start(&self, table: &mut Table) {
        // The last thread said that it takes no more: it is at its end.
        if let Some(ended) = table.thread.take() {
            join(ended);
        }
        let (shared, pace) = (Arc::clone(&self.shared), self.pace);
        let thread = std::thread::Builder::new()
            .name("layer-walk".into())
            .spawn(move || work(&shared, pace));
        match thread {
            Ok(thread) => {
                table.thread = Some(thread);
                table.walking = true;
            }
            // The next question tries again.
            Err(error) => tracing::warn!(
                error = &error as &dyn std::error::Error,
                "no thread for measuring writable layers"
            ),
        }
    }
}

/// Stops a walk at its next batch, and waits for the thread.
impl Drop for Layers {
    fn drop(&mut self) {
        let thread = {
            let mut table = self.shared.table();
            table.stop = true;
            table.thread.take()
        };
        self.shared.changed.notify_all();
        if let Some(thread) = thread {
            join(thread);
        }
    }
}

fn join(thread: JoinHandle<()>) {
    if thread.join().is_err() {
        tracing::error!("a walk over a writable layer panicked");
    }
}

fn work(shared: &Shared, pace: Pace) {
    // Lowering is always allowed; a walk at full priority is still a walk.
    let _ = rustix::process::setpriority_process(Some(rustix::thread::gettid()), NICE);
    loop {
        let mut table = shared.table();
        let next = if table.stop {
            None
        } else {
            table.queue.pop_front()
        };
        let Some((id, upper)) = next else {
            // Under the same lock as the look at the queue, so that nothing is put into it unseen.
            table.walking = false;
            return;
        };
        drop(table);

        let start = Instant::now();
        let mut batch = start;
        let found = walk(&upper, &mut || {
            let now = Instant::now();
            if now.duration_since(start) > pace.budget {
                return Err(Unknown::TooLong);
            }
            // Rests as long as it worked.
            if shared.rest(now.duration_since(batch)) {
                return Err(Unknown::Stopped);
            }
            batch = Instant::now();
            Ok(())
        });
        let end = Instant::now();
        if let Err(reason) = &found {
            tracing::debug!(container = id, ?upper, %reason, "writable layer not measured");
        }
        let mut table = shared.table();
        if let Some(layer) = table.known.get_mut(&id) {
            layer.queued = false;
            layer.next = end + pace.between.max(end.duration_since(start) * pace.times);
            layer.usage = match found {
                Ok(usage) => Some(usage),
                Err(Unknown::Stopped) => layer.usage,
                Err(_) => None,
            };
        }
        drop(table);
        shared.changed.notify_all();
    }
}

/// Why a tree has no number.
#[derive(Debug, thiserror::Error)]
enum Unknown {
    #[error("berth is stopping")]
    Stopped,
    #[error("the walk took too long")]
    TooLong,
    #[error("directories are nested more than {MAX_DEPTH} deep")]
    TooDeep,
    #[error("more than {MAX_LINKED} files have several names")]
    TooManyLinks,
    #[error("reading it failed: {0}")]
    Failed(Errno),
}

impl From<Errno> for Unknown {
    fn from(errno: Errno) -> Self {
        Self::Failed(errno)
    }
}

/// Adds up the tree at `root`, `root` included. `rest` is called every so often, and may end the walk. What goes while it is being looked
/// at counts as never having been there.
fn walk(root: &Path, rest: &mut dyn FnMut() -> Result<(), Unknown>) -> Result<LayerUsage, Unknown> {
    let directory = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let root: OwnedFd = openat(CWD, root, directory, Mode::empty())?;
    let stat = fstat(&root)?;
    let device = stat.st_dev;
    let mut sum = Sum::default();
    sum.add(&stat)?;
    let mut open = vec![Dir::new(root)?];
    let mut entries = 0_u32;
    while let Some(dir) = open.last_mut() {
        let Some(entry) = dir.read() else {
            open.pop();
            continue;
        };
        let entry = match entry {
            Ok(entry) => entry,
            // The directory was removed.
            Err(Errno::NOENT) => {
                open.pop();
                continue;
            }
            Err(errno) => return Err(errno.into()),
        };
        let name = entry.file_name();
        if name == c"." || name == c".." {
            continue;
        }
        entries = entries.wrapping_add(1);
        if entries.is_multiple_of(BATCH) {
            rest()?;
        }
        let stat = match statat(dir.fd()?, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => stat,
            Err(Errno::NOENT) => continue,
            Err(errno) => return Err(errno.into()),
        };
        if stat.st_dev != device {
            continue;
        }
        sum.add(&stat)?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::Directory {
            continue;
        }
        if open.len() >= MAX_DEPTH {
            return Err(Unknown::TooDeep);
        }
        let dir = open.last().ok_or(Errno::NOENT)?;
        match openat(dir.fd()?, name, directory, Mode::empty()) {
            Ok(below) if fstat(&below)?.st_dev == device => open.push(Dir::new(below)?),
            Ok(_) => {}
            // It was removed, or something else has its name now.
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
    Ok(LayerUsage {
        at: SystemTime::now(),
        used_bytes: sum.bytes,
        inodes_used: sum.inodes,
    })
}

#[derive(Default)]
struct Sum {
    bytes: u64,
    inodes: u64,
    linked: HashSet<u64>,
}

impl Sum {
    fn add(&mut self, stat: &rustix::fs::Stat) -> Result<(), Unknown> {
        let is_directory = FileType::from_raw_mode(stat.st_mode) == FileType::Directory;
        if stat.st_nlink > 1 && !is_directory {
            if self.linked.len() >= MAX_LINKED {
                return Err(Unknown::TooManyLinks);
            }
            if !self.linked.insert(stat.st_ino) {
                return Ok(());
            }
        }
        // st_blocks counts 512 bytes, whatever the file system's block is (stat(2)).
        let blocks = u64::try_from(stat.st_blocks).unwrap_or(0);
        self.bytes = self.bytes.saturating_add(blocks.saturating_mul(512));
        self.inodes += 1;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;

    use super::*;

    const QUICK: Pace = Pace {
        between: Duration::ZERO,
        times: 0,
        budget: Duration::from_secs(30),
        forget: Duration::from_secs(30),
    };

    fn walk_freely(root: &Path) -> Result<LayerUsage, Unknown> {
        walk(root, &mut || Ok(()))
    }

    fn blocks(path: &Path) -> u64 {
        std::fs::symlink_metadata(path).unwrap().blocks() * 512
    }

    /// Asks until there is an answer that `wanted` likes.
    fn eventually(layers: &Layers, upper: &Path, wanted: impl Fn(LayerUsage) -> bool) {
        let start = Instant::now();
        let mut seen = None;
        while start.elapsed() < Duration::from_secs(20) {
            seen = layers.usage("c", upper, None);
            if seen.is_some_and(&wanted) {
                return;
            }
            std::thread::yield_now();
        }
        panic!("last seen: {seen:?}");
    }

    #[test]
    fn a_tree_counts_every_inode_once_and_follows_no_link() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        std::fs::create_dir_all(at("a/b")).unwrap();
        std::fs::write(at("a/data"), vec![1; 100_000]).unwrap();
        std::fs::hard_link(at("a/data"), at("a/b/again")).unwrap();
        std::os::unix::fs::symlink("/", at("a/b/everything")).unwrap();
        std::os::unix::fs::symlink("..", at("a/b/round")).unwrap();
        let names = [".", "a", "a/b", "a/data", "a/b/everything", "a/b/round"];
        let usage = walk_freely(dir.path()).unwrap();
        assert_eq!(usage.inodes_used, 6);
        assert_eq!(
            usage.used_bytes,
            names.iter().map(|name| blocks(&at(name))).sum::<u64>()
        );
    }

    #[test]
    fn a_tree_that_is_a_link_or_has_gone_has_no_number() {
        let dir = tempfile::tempdir().unwrap();
        let link = dir.path().join("link");
        std::os::unix::fs::symlink(dir.path(), &link).unwrap();
        assert!(walk_freely(&link).is_err());
        assert!(walk_freely(&dir.path().join("gone")).is_err());
    }

    #[test]
    fn a_tree_deeper_than_the_bound_has_no_number() {
        let dir = tempfile::tempdir().unwrap();
        let fits: PathBuf = std::iter::repeat_n("d", MAX_DEPTH - 1).collect();
        std::fs::create_dir_all(dir.path().join(&fits)).unwrap();
        let usage = walk_freely(dir.path()).unwrap();
        assert_eq!(usage.inodes_used, MAX_DEPTH as u64);
        std::fs::create_dir(dir.path().join(fits).join("d")).unwrap();
        assert!(matches!(walk_freely(dir.path()), Err(Unknown::TooDeep)));
    }

    #[test]
    fn a_walk_ends_when_it_is_told_to() {
        let dir = tempfile::tempdir().unwrap();
        for number in 0..=BATCH {
            std::fs::write(dir.path().join(number.to_string()), "").unwrap();
        }
        let mut rests = 0;
        let end = walk(dir.path(), &mut || {
            rests += 1;
            Err(Unknown::TooLong)
        });
        assert!(matches!(end, Err(Unknown::TooLong)));
        assert_eq!(rests, 1);
    }

    #[test]
    fn the_first_answer_is_unknown_and_a_later_one_is_what_a_walk_found() {
        let dir = tempfile::tempdir().unwrap();
        let layers = Layers::at_pace(QUICK);
        assert_eq!(layers.usage("c", dir.path(), None), None);
        eventually(&layers, dir.path(), |usage| usage.inodes_used == 1);
        std::fs::write(dir.path().join("new"), "x").unwrap();
        eventually(&layers, dir.path(), |usage| usage.inodes_used == 2);
    }

    #[test]
    fn who_has_patience_gets_the_first_answer() {
        let dir = tempfile::tempdir().unwrap();
        let layers = Layers::new();
        let until = Instant::now() + Duration::from_secs(20);
        let usage = layers.usage("c", dir.path(), Some(until)).unwrap();
        assert_eq!(usage.inodes_used, 1);
        let gone = dir.path().join("gone");
        assert_eq!(layers.usage("gone", &gone, Some(until)), None);
        assert!(Instant::now() < until, "waited for what cannot be");
    }

    #[test]
    fn a_tree_is_not_walked_again_before_it_is_due() {
        let dir = tempfile::tempdir().unwrap();
        let layers = Layers::new();
        eventually(&layers, dir.path(), |usage| usage.inodes_used == 1);
        std::fs::write(dir.path().join("new"), "x").unwrap();
        for _ in 0..100 {
            assert_eq!(layers.usage("c", dir.path(), None).unwrap().inodes_used, 1);
        }
        let table = layers.shared.table();
        assert!(table.queue.is_empty());
        assert!(table.known["c"].next > Instant::now() + Duration::from_secs(30));
    }

    #[test]
    fn a_layer_that_has_gone_has_no_number_any_more() {
        let dir = tempfile::tempdir().unwrap();
        let layers = Layers::at_pace(QUICK);
        eventually(&layers, dir.path(), |_| true);
        let path = dir.path().to_owned();
        drop(dir);
        let start = Instant::now();
        while layers.usage("c", &path, None).is_some() {
            assert!(start.elapsed() < Duration::from_secs(20), "still known");
            std::thread::yield_now();
        }
    }

    #[test]
    fn dropping_ends_the_thread_in_the_middle_of_a_walk() {
        let dir = tempfile::tempdir().unwrap();
        for number in 0..5000 {
            std::fs::write(dir.path().join(number.to_string()), "").unwrap();
        }
        let layers = Layers::at_pace(QUICK);
        layers.usage("c", dir.path(), None);
        let shared = Arc::downgrade(&layers.shared);
        drop(layers);
        assert!(shared.upgrade().is_none(), "the thread still has its share");
    }
}
