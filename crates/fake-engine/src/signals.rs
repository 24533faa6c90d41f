//! Owns signals: their names and numbers, and what a process does with each. Knows no processes.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

pub(crate) const HUP: i32 = 1;
pub(crate) const INT: i32 = 2;
pub(crate) const QUIT: i32 = 3;
pub(crate) const KILL: i32 = 9;
pub(crate) const TERM: i32 = 15;

/// Linux signal names in order of their numbers, from 1.
const NAMES: [&str; 31] = [
    "HUP", "INT", "QUIT", "ILL", "TRAP", "ABRT", "BUS", "FPE", "KILL", "USR1", "SEGV", "USR2",
    "PIPE", "ALRM", "TERM", "STKFLT", "CHLD", "CONT", "STOP", "TSTP", "TTIN", "TTOU", "URG",
    "XCPU", "XFSZ", "VTALRM", "PROF", "WINCH", "IO", "PWR", "SYS",
];

/// `TERM`, `SIGTERM`, `sigterm` or `15`.
pub(crate) fn parse(text: &str) -> Option<i32> {
    if let Ok(number) = text.parse::<i32>() {
        return (1..=64).contains(&number).then_some(number);
    }
    let upper = text.to_ascii_uppercase();
    let name = upper.strip_prefix("SIG").unwrap_or(&upper);
    let index = NAMES.iter().position(|known| *known == name)?;
    i32::try_from(index + 1).ok()
}

/// What a process does with a signal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Disposition {
    /// As the kernel does: most signals end the process.
    Default,
    Ignore,
    /// The process ends with this code.
    Exit(i64),
    /// The process is told and decides.
    Handle,
}

/// What came of sending a signal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Delivery {
    /// The process is over, with this exit code.
    Fatal(i64),
    Taken,
}

/// The signal table of one process.
#[derive(Debug)]
pub(crate) struct Signals {
    state: Mutex<State>,
    /// Told when a handled signal comes.
    pub(crate) arrived: Notify,
    /// Told at an interrupt character, for a shell that ends its foreground command.
    pub(crate) interrupted: Notify,
}

#[derive(Debug)]
struct State {
    table: BTreeMap<i32, Disposition>,
    others: Disposition,
    pending: VecDeque<i32>,
}

impl Signals {
    /// A process for which every signal has the disposition `others`.
    ///
    /// The first process of a container gets `Ignore`: the kernel applies no default action to process 1.
    pub(crate) fn new(others: Disposition) -> Self {
        let state = State {
            table: BTreeMap::new(),
            others,
            pending: VecDeque::new(),
        };
        Self {
            state: Mutex::new(state),
            arrived: Notify::new(),
            interrupted: Notify::new(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn set(&self, signal: i32, disposition: Disposition) {
        self.lock().table.insert(signal, disposition);
    }

    /// Back to what applies without a handler.
    pub(crate) fn unset(&self, signal: i32) {
        self.lock().table.remove(&signal);
    }

    pub(crate) fn deliver(&self, signal: i32) -> Delivery {
        if signal == KILL {
            return Delivery::Fatal(128 + i64::from(KILL));
        }
        let mut state = self.lock();
        let disposition = state.table.get(&signal).copied().unwrap_or(state.others);
        match disposition {
            Disposition::Exit(code) => Delivery::Fatal(code),
            Disposition::Handle => {
                state.pending.push_back(signal);
                drop(state);
                self.arrived.notify_one();
                Delivery::Taken
            }
            Disposition::Default if !harmless(signal) => Delivery::Fatal(128 + i64::from(signal)),
            Disposition::Default | Disposition::Ignore => Delivery::Taken,
        }
    }

    /// The next handled signal that came.
    pub(crate) fn pending(&self) -> Option<i32> {
        self.lock().pending.pop_front()
    }

    pub(crate) fn has_pending(&self) -> bool {
        !self.lock().pending.is_empty()
    }
}

/// Signals whose default action does not end a process.
fn harmless(signal: i32) -> bool {
    matches!(
        NAMES.get(usize::try_from(signal - 1).unwrap_or(usize::MAX)),
        Some(&"CHLD" | &"CONT" | &"URG" | &"WINCH")
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals_have_names_and_numbers() {
        assert_eq!(parse("SIGTERM"), Some(TERM));
        assert_eq!(parse("usr1"), Some(10));
        assert_eq!(parse("9"), Some(KILL));
        assert_eq!(parse("SIGNOPE"), None);
        assert_eq!(parse("0"), None);
    }

    #[test]
    fn process_one_ignores_what_it_does_not_handle_except_kill() {
        let signals = Signals::new(Disposition::Ignore);
        assert_eq!(signals.deliver(TERM), Delivery::Taken);
        assert_eq!(signals.deliver(KILL), Delivery::Fatal(137));
        signals.set(TERM, Disposition::Handle);
        assert_eq!(signals.deliver(TERM), Delivery::Taken);
        assert_eq!(signals.pending(), Some(TERM));
    }

    #[test]
    fn another_process_ends_by_default() {
        let signals = Signals::new(Disposition::Default);
        assert_eq!(signals.deliver(TERM), Delivery::Fatal(143));
        assert_eq!(signals.deliver(17), Delivery::Taken);
    }
}
