//! What the engine has of our pods, in memory: built by one list and a look at each, kept by the engine's events and by our own calls, and checked
//! against the list now and then. Reads cost no call.
//!
//! The view owns when to look again. It refuses to know what should run, and it changes nothing. Three rules make it right:
//! - An event or a call of ours only marks an ID; what is then known of it comes from looking at it afterwards, never from the event.
//! - A reader of something that is marked waits for that look, so it sees what was done before it asked.
//! - After anything that may have hidden an event (a gap, a lost connection) everything is looked at again, and readers wait; while the engine is
//!   away they are told so at once.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use berth_docker::events::{EventItem, EventStream, EventsOptions};
use berth_docker::model::{Event, Filters};
use tokio::sync::{broadcast, mpsc, oneshot, watch};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{Instant, sleep_until};

use crate::labels;
use crate::observe::{Container, Observed, Sandbox};
use crate::runtime::{Error, Runtime};
use crate::spec::{ContainerId, SandboxId};
use table::Table;

mod table;

/// Between two checks against the engine's list. Events are reliable; this bounds how long a mistake of theirs could last.
const RELIST: Duration = Duration::from_secs(60);

/// How many looks are under way at once: enough to keep a small engine busy, too few to hold up others.
const LOOKS: usize = 8;

/// How many changes wait for a slow subscriber before it is told to look at everything: a burst of hundreds of containers.
const CHANGES: usize = 4096;

/// How long a reader waits for a look.
const PATIENCE: Duration = Duration::from_secs(5);

/// Pauses between questions to an engine that is away double from the first to the last, which keeps within the two seconds in which the view is
/// to be right again.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LAST_PAUSE: Duration = Duration::from_millis(500);

/// How long the question may take whether an engine is back.
const PING_PATIENCE: Duration = Duration::from_secs(2);

/// What happened to a sandbox or a container.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChangeKind {
    /// It was made.
    Created,
    /// It was started.
    Started,
    /// It ended.
    Stopped,
    /// It was removed.
    Deleted,
}

/// A change of a sandbox or a container.
#[derive(Debug, Clone)]
pub struct Change {
    /// What happened.
    pub kind: ChangeKind,
    /// To which sandbox or container.
    pub id: String,
    /// The pod's sandbox as it is, or as it last was; `None` when it was never seen.
    pub sandbox: Option<Arc<Sandbox>>,
    /// The containers of the pod after the change.
    pub containers: Vec<Arc<Container>>,
}

/// What a subscriber gets.
#[derive(Debug, Clone)]
pub enum Notice {
    /// A change.
    Change(Box<Change>),
    /// The subscriber was too slow, and changes before the next one were lost to it: it has to look at everything.
    Lost,
}

/// A subscription to changes.
#[derive(Debug)]
pub struct Changes(pub(crate) broadcast::Receiver<Arc<Change>>);

impl Changes {
    /// The next change; `None` when the view has ended. Cancel safe.
    pub async fn next(&mut self) -> Option<Notice> {
        match self.0.recv().await {
            Ok(change) => Some(Notice::Change(Box::new(Change::clone(&change)))),
            Err(broadcast::error::RecvError::Lagged(_)) => Some(Notice::Lost),
            Err(broadcast::error::RecvError::Closed) => None,
        }
    }
}

/// Whether the table can be believed.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Trust {
    /// It is what the engine has.
    Fresh,
    /// It is being looked at as a whole.
    Looking,
    /// The engine is away, and why.
    Away(Arc<str>),
}

#[derive(Debug)]
struct Shared {
    state: Mutex<Known>,
    trust: watch::Sender<Trust>,
    /// Counts the looks that were finished; readers wait on it.
    looks: watch::Sender<u64>,
    marks: mpsc::UnboundedSender<String>,
    changes: broadcast::Sender<Arc<Change>>,
}

/// The marks of something.
#[derive(Debug, Clone, Copy)]
struct Marked {
    /// The last one.
    last: u64,
    /// The last one that was followed by a look, or was another's before the first.
    seen: u64,
}

#[derive(Debug, Default)]
struct Known {
    table: Table,
    /// How many marks there have been. Each has this as its number.
    marks: u64,
    /// What is to be looked at, or is being looked at. Bounded by the engine's containers.
    marked: HashMap<String, Marked>,
    /// What is being looked at, and its last mark when that began.
    looking: HashMap<String, u64>,
    /// What was removed while it was being looked at: that look may show it as it was before.
    gone: HashSet<String>,
    /// Who waits for the end of which exec.
    execs: HashMap<String, oneshot::Sender<i64>>,
}

impl Shared {
    fn known(&self) -> MutexGuard<'_, Known> {
        // Nothing in it is left half-done by a panic.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Has something looked at.
    fn mark(&self, id: &str) {
        {
            let mut known = self.known();
            known.marks += 1;
            let last = known.marks;
            let new = Marked {
                last,
                seen: last - 1,
            };
            known.marked.entry(id.to_owned()).or_insert(new).last = last;
        }
        // The task ends only with the view; then nobody looks any more.
        let _ = self.marks.send(id.to_owned());
    }

    fn tell(&self, changes: impl IntoIterator<Item = Change>) {
        for change in changes {
            // Without subscribers nobody is told.
            let _ = self.changes.send(Arc::new(change));
        }
    }

    fn remove(&self, id: &str) {
        let change = {
            let mut known = self.known();
            known.marked.remove(id);
            if known.looking.contains_key(id) {
                known.gone.insert(id.to_owned());
            }
            known.table.remove(id)
        };
        self.tell(change);
        self.looks.send_modify(|looks| *looks += 1);
    }
}

/// The view of one engine. Dropping it ends its task and its subscription.
#[derive(Debug)]
pub struct View {
    shared: Arc<Shared>,
    task: JoinHandle<()>,
}

impl Drop for View {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl View {
    /// Begins to look at the engine. Must be called within a tokio runtime.
    pub fn start(runtime: Arc<Runtime>) -> Self {
        let (marks, marked) = mpsc::unbounded_channel();
        let shared = Arc::new(Shared {
            state: Mutex::default(),
            trust: watch::Sender::new(Trust::Looking),
            looks: watch::Sender::new(0),
            marks,
            changes: broadcast::Sender::new(CHANGES),
        });
        let keeper = Keeper {
            events: runtime.docker().events(EventsOptions {
                filters: Filters::new().with("type", "container").label(labels::TYPE),
                since_nanos: None,
            }),
            runtime,
            shared: shared.clone(),
            marked,
            waiting: Vec::new(),
            looks: JoinSet::new(),
            sweep: None,
        };
        Self {
            shared,
            task: tokio::spawn(keeper.run()),
        }
    }

    /// Waits until the table can be believed, and until the looks are done that were due when this was called.
    ///
    /// An engine may show one container and not another. That hides no other from who asks for all of them; who asks for it is not told what it
    /// was before.
    async fn settled(&self, about: About<'_>) -> Result<(), Error> {
        let mut trust = self.shared.trust.subscribe();
        let wait = async {
            loop {
                match &*trust.borrow_and_update() {
                    Trust::Fresh => return Ok(()),
                    Trust::Away(reason) => return Err(Error::Away(reason.to_string())),
                    Trust::Looking => {}
                }
                if trust.changed().await.is_err() {
                    return Err(Error::Away("berth is ending".to_owned()));
                }
            }
        };
        match tokio::time::timeout(PATIENCE, wait).await {
            Ok(result) => result?,
            Err(_) => {
                return Err(Error::Away(format!(
                    "the engine has not told within {PATIENCE:?} what it has"
                )));
            }
        }
        let mut looks = self.shared.looks.subscribe();
        let due: Vec<(String, u64)> = {
            let known = self.shared.known();
            let marked = known.marked.iter();
            marked
                .filter(|(id, _)| match about {
                    About::All => true,
                    About::One(one) => *id == one,
                    About::Of(sandbox) => known.table.may_be_of(id, sandbox),
                })
                .map(|(id, marked)| (id.clone(), marked.last))
                .collect()
        };
        if due.is_empty() {
            return Ok(());
        }
        let wait = async {
            loop {
                looks.borrow_and_update();
                {
                    let known = self.shared.known();
                    // Marked again since then is a matter of a later reader, but is no look.
                    let open = due.iter().any(|(id, mark)| {
                        let marked = known.marked.get(id);
                        marked.is_some_and(|marked| marked.seen < *mark)
                    });
                    if !open {
                        return;
                    }
                }
                if looks.changed().await.is_err() {
                    return;
                }
            }
        };
        // The look may never be done: then what it would have shown is not known.
        let gone = async {
            loop {
                if let Trust::Away(reason) = &*trust.borrow_and_update() {
                    return Error::Away(reason.to_string());
                }
                if trust.changed().await.is_err() {
                    return Error::Away("berth is ending".to_owned());
                }
            }
        };
        tokio::select! {
            error = gone => Err(error),
            done = tokio::time::timeout(PATIENCE, wait) => match (done, about) {
                (Ok(()), _) | (Err(_), About::All) => Ok(()),
                (Err(_), About::One(id)) => Err(unseen(id)),
                (Err(_), About::Of(sandbox)) => Err(unseen(sandbox.as_str())),
            },
        }
    }

    /// All sandboxes, by ID. Cancel safe.
    ///
    /// # Errors
    /// [`Error::Away`] while the engine cannot be reached.
    pub async fn sandboxes(&self) -> Result<Vec<Arc<Sandbox>>, Error> {
        self.settled(About::All).await?;
        Ok(self.shared.known().table.sandboxes().cloned().collect())
    }

    /// All containers, by ID. Cancel safe.
    ///
    /// # Errors
    /// [`Error::Away`] while the engine cannot be reached.
    pub async fn containers(&self) -> Result<Vec<Arc<Container>>, Error> {
        self.settled(About::All).await?;
        Ok(self.shared.known().table.containers().cloned().collect())
    }

    /// One sandbox; `None` when there is none. Cancel safe.
    ///
    /// # Errors
    /// [`Error::Away`] while the engine cannot be reached, or does not show this one.
    pub async fn sandbox(&self, id: &SandboxId) -> Result<Option<Arc<Sandbox>>, Error> {
        self.settled(About::One(id.as_str())).await?;
        Ok(self.shared.known().table.sandbox(id).cloned())
    }

    /// One container; `None` when there is none. Cancel safe.
    ///
    /// # Errors
    /// [`Error::Away`] while the engine cannot be reached, or does not show this one.
    pub async fn container(&self, id: &ContainerId) -> Result<Option<Arc<Container>>, Error> {
        self.settled(About::One(id.as_str())).await?;
        Ok(self.shared.known().table.container(id).cloned())
    }

    /// The containers of a sandbox, also of one that is gone itself. Cancel safe.
    ///
    /// # Errors
    /// [`Error::Away`] while the engine cannot be reached, or does not show one that may be of them.
    pub async fn containers_of(&self, sandbox: &SandboxId) -> Result<Vec<Arc<Container>>, Error> {
        self.settled(About::Of(sandbox)).await?;
        Ok(self.shared.known().table.containers_of(sandbox))
    }

    /// Why the engine is away; `None` while it is there.
    pub fn away(&self) -> Option<String> {
        match &*self.shared.trust.borrow() {
            Trust::Away(reason) => Some(reason.to_string()),
            Trust::Fresh | Trust::Looking => None,
        }
    }

    /// Changes from now on.
    pub fn subscribe(&self) -> Changes {
        Changes(self.shared.changes.subscribe())
    }

    /// Says that something was changed by a call of ours: readers from now on see what it is after that.
    pub fn mark(&self, id: &str) {
        self.shared.mark(id);
    }

    /// Says that something was removed by a call of ours.
    pub fn mark_gone(&self, id: &str) {
        self.shared.remove(id);
    }

    /// The exit code of an exec, once the engine tells its end; to be called before it is started. The receiver fails when the connection to the
    /// engine is lost meanwhile.
    pub fn exec_end(&self, exec: &str) -> ExecEnd {
        let (sender, receiver) = oneshot::channel();
        self.shared.known().execs.insert(exec.to_owned(), sender);
        ExecEnd {
            shared: self.shared.clone(),
            exec: exec.to_owned(),
            receiver,
        }
    }
}

/// Whom a reader asks about.
#[derive(Debug, Clone, Copy)]
enum About<'a> {
    /// Everything.
    All,
    /// A sandbox or a container.
    One(&'a str),
    /// The containers of a sandbox.
    Of(&'a SandboxId),
}

fn unseen(id: &str) -> Error {
    Error::Away(format!(
        "it was asked what became of {id}, and has not told within {PATIENCE:?}"
    ))
}

/// Waits for the end of an exec.
#[derive(Debug)]
pub struct ExecEnd {
    shared: Arc<Shared>,
    exec: String,
    receiver: oneshot::Receiver<i64>,
}

impl ExecEnd {
    /// The exit code; `None` when events may have been lost. Cancel safe.
    pub async fn wait(&mut self) -> Option<i64> {
        (&mut self.receiver).await.ok()
    }
}

impl Drop for ExecEnd {
    fn drop(&mut self) {
        self.shared.known().execs.remove(&self.exec);
    }
}

/// The task that keeps the view.
struct Keeper {
    runtime: Arc<Runtime>,
    shared: Arc<Shared>,
    events: EventStream,
    marked: mpsc::UnboundedReceiver<String>,
    /// What is to be looked at once there is room.
    waiting: Vec<String>,
    looks: JoinSet<(String, Result<Option<Observed>, Error>)>,
    /// What has to be looked at until the table can be believed again.
    sweep: Option<HashSet<String>>,
}

impl Keeper {
    async fn run(mut self) {
        let mut relist = Instant::now() + RELIST;
        self.sweep().await;
        loop {
            self.begin_looks();
            tokio::select! {
                item = self.events.next() => match item {
                    Some(Ok(EventItem::Event(event))) => self.event(&event),
                    Some(Ok(EventItem::Disconnected(error))) => {
                        self.away(&error);
                        self.sweep().await;
                    }
                    Some(Ok(_)) => {
                        self.shared.trust.send_replace(Trust::Looking);
                        // The end of an exec may have been told meanwhile: whoever waits for one has to ask.
                        self.shared.known().execs.clear();
                        self.sweep().await;
                    }
                    Some(Err(error)) => {
                        tracing::error!(%error, "the engine refuses its events; trying again");
                        self.away(&error);
                        tokio::time::sleep(LAST_PAUSE).await;
                        self.events = self.runtime.docker().events(EventsOptions {
                            filters: Filters::new().with("type", "container").label(labels::TYPE),
                            since_nanos: None,
                        });
                        self.sweep().await;
                    }
                    None => {
                        self.shared.trust.send_replace(Trust::Away("the event stream has ended".into()));
                        return;
                    }
                },
                Some(id) = self.marked.recv() => self.queue(id),
                Some(done) = self.looks.join_next() => {
                    if let Ok((id, seen)) = done {
                        self.looked(id, seen).await;
                    }
                }
                () = sleep_until(relist) => {
                    self.check().await;
                    relist = Instant::now() + RELIST;
                }
            }
        }
    }

    fn queue(&mut self, id: String) {
        if !self.waiting.contains(&id) {
            self.waiting.push(id);
        }
    }

    fn begin_looks(&mut self) {
        let mut at = 0;
        while self.looks.len() < LOOKS && at < self.waiting.len() {
            let mut known = self.shared.known();
            // One look at a time: a second one of the same could overtake the first.
            if known.looking.contains_key(&self.waiting[at]) {
                at += 1;
                continue;
            }
            let id = self.waiting.swap_remove(at);
            // What was removed since it was marked needs no look, and nobody has to wait for one.
            let Some(marked) = known.marked.get(&id).copied() else {
                drop(known);
                self.swept(&id);
                continue;
            };
            known.looking.insert(id.clone(), marked.last);
            drop(known);
            let runtime = self.runtime.clone();
            self.looks.spawn(async move {
                let seen = runtime.look_at(&id).await;
                (id, seen)
            });
        }
    }

    /// Takes in what a look showed.
    async fn looked(&mut self, id: String, seen: Result<Option<Observed>, Error>) {
        let (began, gone) = {
            let mut known = self.shared.known();
            let began = known.looking.remove(&id).unwrap_or_default();
            (began, known.gone.remove(&id))
        };
        let changes = match seen {
            Ok(_) if gone => Vec::new(),
            Ok(Some(observed)) => self.shared.known().table.put(observed),
            Ok(None) => {
                let gone = self.shared.known().table.remove(&id);
                gone.into_iter().collect()
            }
            // It answers, so it is not away; what was known of this one is all there is.
            Err(Error::Docker(error)) if error.is_refused() => {
                tracing::warn!(%error, %id, "the engine does not show a container");
                Vec::new()
            }
            Err(error) => {
                self.away(&error);
                self.sweep().await;
                return;
            }
        };
        {
            let mut known = self.shared.known();
            match known.marked.get_mut(&id) {
                // Marked again meanwhile: this look may be older than what was done, and another one is queued.
                Some(marked) if marked.last > began => marked.seen = marked.seen.max(began),
                _ => drop(known.marked.remove(&id)),
            }
        }
        self.shared.tell(changes);
        self.swept(&id);
        self.shared.looks.send_modify(|looks| *looks += 1);
    }

    fn swept(&mut self, id: &str) {
        if let Some(sweep) = &mut self.sweep {
            sweep.remove(id);
            self.trust_if_swept();
        }
    }

    fn trust_if_swept(&mut self) {
        if self.sweep.as_ref().is_some_and(HashSet::is_empty) {
            self.sweep = None;
            self.shared.trust.send_replace(Trust::Fresh);
        }
    }

    fn away(&mut self, error: &impl std::fmt::Display) {
        let reason: Arc<str> = error.to_string().into();
        self.shared.trust.send_if_modified(|trust| {
            let news = !matches!(trust, Trust::Away(_));
            if news {
                tracing::warn!("the engine is away: {reason}");
                *trust = Trust::Away(reason.clone());
            }
            news
        });
        // Whoever waits for an exec has to ask for its end.
        self.shared.known().execs.clear();
    }

    /// Lists what there is, waiting for the engine if it is away, and has all of it looked at.
    async fn sweep(&mut self) {
        self.runtime.forget_info();
        let mut pause = FIRST_PAUSE;
        let (before, listed) = loop {
            let docker = self.runtime.docker();
            let before = self.shared.known().marks;
            match tokio::time::timeout(PING_PATIENCE, docker.ping()).await {
                Ok(Ok(_)) => match self.runtime.list().await {
                    Ok(listed) => break (before, listed),
                    Err(error) => self.away(&error),
                },
                Ok(Err(error)) => self.away(&error),
                Err(_) => self.away(&format!(
                    "it accepts connections and does not answer within {PING_PATIENCE:?}"
                )),
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LAST_PAUSE);
        };
        self.shared.trust.send_if_modified(|trust| {
            let was_away = matches!(trust, Trust::Away(_));
            if was_away {
                tracing::info!("the engine is there again");
                *trust = Trust::Looking;
            }
            was_away
        });
        let ids: HashSet<String> = listed.into_iter().map(|(id, _)| id).collect();
        let gone: Vec<String> = {
            let known = self.shared.known();
            let marked = known.marked.keys().map(String::as_str);
            let known_ids = known.table.ids().map(|(id, _)| id).chain(marked);
            // What was marked since may have been made after the list; it is looked at.
            let is_newer = |id: &str| known.marked.get(id).is_some_and(|mark| mark.last > before);
            known_ids
                .filter(|id| !ids.contains(*id) && !is_newer(id))
                .map(str::to_owned)
                .collect()
        };
        for id in gone {
            self.shared.remove(&id);
        }
        for id in &ids {
            self.shared.mark(id);
        }
        self.sweep = Some(ids);
        self.trust_if_swept();
    }

    /// Compares the table with the engine's list, and has looked at what differs.
    async fn check(&mut self) {
        if self.sweep.is_some() {
            return;
        }
        let listed: HashMap<String, bool> = match self.runtime.list().await {
            Ok(listed) => listed.into_iter().collect(),
            // If the engine is away the events tell.
            Err(error) => {
                tracing::debug!(%error, "the check of the view failed");
                return;
            }
        };
        let differing: Vec<String> = {
            let known = self.shared.known();
            let in_table: HashMap<&str, bool> = known.table.ids().collect();
            let changed = listed
                .iter()
                .filter(|(id, running)| in_table.get(id.as_str()) != Some(running))
                .map(|(id, _)| id.as_str());
            let gone = in_table
                .keys()
                .copied()
                .filter(|id| !listed.contains_key(*id));
            changed.chain(gone).map(str::to_owned).collect()
        };
        for id in differing {
            tracing::debug!(%id, "differs from the engine's list");
            self.shared.mark(&id);
        }
    }

    fn event(&mut self, event: &Event) {
        let id = event.actor.id.as_str();
        match event.action_name() {
            "destroy" => self.shared.remove(id),
            "oom" => {
                self.shared.known().table.note_out_of_memory(id);
                self.shared.mark(id);
            }
            "exec_die" => {
                let attributes = &event.actor.attributes;
                let code = attributes
                    .get("exitCode")
                    .and_then(|code| code.parse().ok());
                if let (Some(exec), Some(code)) = (attributes.get("execID"), code)
                    && let Some(waiter) = self.shared.known().execs.remove(exec)
                {
                    // It may have stopped waiting.
                    let _ = waiter.send(code);
                }
            }
            "create" | "start" | "restart" | "stop" | "die" | "kill" | "pause" | "unpause"
            | "update" | "rename" => self.shared.mark(id),
            _ => {}
        }
    }
}
