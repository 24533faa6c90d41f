//! Sessions that wait for their client, each under a token that is good for one request and one minute.
//!
//! A token is the only credential on the server's port. It is never logged, and no error names it.

use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::session::{Kind, Session};

/// How long a client has to come for its session, as with the upstream CRI server.
pub(crate) const LIFE: Duration = Duration::from_secs(60);

/// The most sessions that wait, as with the upstream CRI server.
pub(crate) const MAX_PENDING: usize = 1000;

/// Random bytes in a token: 128 bits.
const BYTES: usize = 16;

/// Why there is no URL for a session.
#[derive(Debug, thiserror::Error)]
pub enum RegisterError {
    /// As many sessions as are allowed wait for their client. A CRI runtime answers `ResourceExhausted`.
    #[error("maximum number of in-flight requests exceeded")]
    TooMany,
    /// None of stdin, stdout and stderr is wanted. A CRI runtime answers `InvalidArgument`.
    #[error("one of stdin, stdout, or stderr must be set")]
    NoStreams,
    /// The operating system gave no random bytes.
    #[error("no random bytes for a token")]
    NoRandom(#[source] getrandom::Error),
}

#[derive(Default)]
pub(crate) struct Tokens {
    pending: Mutex<Pending>,
    /// There is a first session to expire.
    added: Notify,
}

#[derive(Default)]
struct Pending {
    sessions: HashMap<String, Session>,
    /// The same tokens by age, with the end of their life.
    ages: VecDeque<(Instant, String)>,
}

impl Tokens {
    /// Keeps a session; returns its token.
    pub(crate) fn add(&self, session: Session) -> Result<String, RegisterError> {
        if let Kind::Process { wanted, .. } = &session.0
            && !wanted.any()
        {
            return Err(RegisterError::NoStreams);
        }
        let mut bytes = [0; BYTES];
        getrandom::fill(&mut bytes).map_err(RegisterError::NoRandom)?;
        let token = URL_SAFE_NO_PAD.encode(bytes);
        let now = Instant::now();
        // Dropped after the lock: what a session holds is not ours.
        let _expired = self.expire(now);
        let mut pending = self.lock();
        if pending.sessions.len() >= MAX_PENDING {
            return Err(RegisterError::TooMany);
        }
        pending.ages.push_back((now + LIFE, token.clone()));
        pending.sessions.insert(token.clone(), session);
        drop(pending);
        self.added.notify_one();
        Ok(token)
    }

    /// Takes a session out. The token is spent, whatever becomes of the request.
    pub(crate) fn take(&self, token: &str) -> Option<Session> {
        let _expired = self.expire(Instant::now());
        let mut pending = self.lock();
        let session = pending.sessions.remove(token)?;
        pending.ages.retain(|(_, other)| other != token);
        Some(session)
    }

    fn expire(&self, now: Instant) -> Vec<Session> {
        let mut pending = self.lock();
        let mut expired = Vec::new();
        while pending.ages.front().is_some_and(|(end, _)| *end <= now) {
            if let Some((_, token)) = pending.ages.pop_front() {
                expired.extend(pending.sessions.remove(&token));
            }
        }
        expired
    }

    /// Drops sessions when their time is over. Never returns.
    pub(crate) async fn keep_expiring(&self) {
        loop {
            let first = self.lock().ages.front().map(|(end, _)| *end);
            match first {
                Some(end) => {
                    tokio::time::sleep_until(end).await;
                    let expired = self.expire(Instant::now());
                    if !expired.is_empty() {
                        tracing::debug!(count = expired.len(), "sessions expired unused");
                    }
                }
                None => self.added.notified().await,
            }
        }
    }

    /// Drops all that wait.
    pub(crate) fn clear(&self) {
        let pending = std::mem::take(&mut *self.lock());
        drop(pending);
    }

    fn lock(&self) -> MutexGuard<'_, Pending> {
        // Nothing is done under the lock that could leave it half done.
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::{Outcome, Wanted};
    use std::sync::Arc;

    fn session() -> Session {
        let wanted = Wanted {
            stdout: true,
            ..Wanted::default()
        };
        Session::exec(wanted, |_| async { Outcome::Success })
    }

    #[tokio::test(start_paused = true)]
    async fn a_token_is_good_for_once() {
        let tokens = Tokens::default();
        let (first, second) = (
            tokens.add(session()).unwrap(),
            tokens.add(session()).unwrap(),
        );
        assert_ne!(first, second);
        assert_eq!(first.len(), 22, "128 bits in base64");
        assert!(tokens.take("other").is_none());
        assert!(tokens.take(&first).is_some());
        assert!(tokens.take(&first).is_none());
        assert!(tokens.take(&second).is_some());
        assert!(tokens.lock().ages.is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn a_token_is_good_for_a_minute() {
        let tokens = Tokens::default();
        let old = tokens.add(session()).unwrap();
        tokio::time::advance(Duration::from_secs(59)).await;
        let young = tokens.add(session()).unwrap();
        tokio::time::advance(Duration::from_secs(1)).await;
        assert!(tokens.take(&old).is_none());
        assert!(tokens.take(&young).is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn an_expired_session_is_dropped_without_anybody_asking() {
        let tokens = Tokens::default();
        let held = Arc::new(());
        let copy = held.clone();
        let expiring = async {
            tokio::select! {
                () = tokens.keep_expiring() => {}
                () = async { while Arc::strong_count(&held) > 1 { tokio::time::sleep(Duration::from_secs(1)).await; } } => {}
            }
        };
        let register = async {
            let wanted = Wanted {
                stdin: true,
                ..Wanted::default()
            };
            let session = Session::attach(wanted, move |_| async move {
                drop(copy);
                Outcome::Success
            });
            tokens.add(session).unwrap();
        };
        let began = Instant::now();
        tokio::join!(expiring, register);
        assert!(began.elapsed() <= LIFE + Duration::from_secs(1));
    }

    #[tokio::test(start_paused = true)]
    async fn there_is_a_bound_on_those_that_wait() {
        let tokens = Tokens::default();
        let mut first = None;
        for _ in 0..MAX_PENDING {
            first.get_or_insert(tokens.add(session()).unwrap());
        }
        assert!(matches!(tokens.add(session()), Err(RegisterError::TooMany)));
        tokens.take(&first.unwrap());
        assert!(tokens.add(session()).is_ok());
        assert!(matches!(tokens.add(session()), Err(RegisterError::TooMany)));
        tokio::time::advance(LIFE).await;
        assert!(tokens.add(session()).is_ok());
        assert_eq!(tokens.lock().sessions.len(), 1);
    }

    #[test]
    fn a_session_without_streams_is_refused() {
        let session = Session::exec(Wanted::default(), |_| async { Outcome::Success });
        assert!(matches!(
            Tokens::default().add(session),
            Err(RegisterError::NoStreams)
        ));
    }
}
