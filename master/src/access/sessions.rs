//! Browsers that are logged in. A session stands for the token that it was opened with, and ends with it; sessions do
//! not outlive the master.

use quipu_shared::ids::TokenId;
use quipu_shared::trust::{SecretError, random_token};
use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use zeroize::Zeroizing;

/// What a session was opened with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Credential {
    /// The cluster's own token.
    Cluster,
    /// A token of the table.
    Token(TokenId),
}

/// Every session, by the digest of its id.
pub struct Sessions {
    inner: Mutex<HashMap<[u8; 32], Session>>,
    sessions_max: usize,
    idle: Duration,
}

struct Session {
    credential: Credential,
    used_at: Instant,
}

impl Sessions {
    /// At most `sessions_max`, each of which ends `idle` after its last request.
    pub fn new(sessions_max: usize, idle: Duration) -> Self {
        Self { inner: Mutex::default(), sessions_max, idle }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<[u8; 32], Session>> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Opens a session; gives its id, which only the browser keeps. Where there are too many, the one that was used
    /// least recently ends.
    ///
    /// # Errors
    /// Where there are no random bytes.
    pub fn open(&self, credential: Credential, now: Instant) -> Result<Zeroizing<String>, SecretError> {
        let id = random_token("")?;
        let mut sessions = self.lock();
        sessions.retain(|_, session| now.duration_since(session.used_at) < self.idle);
        if sessions.len() >= self.sessions_max
            && let Some(oldest) = sessions.iter().min_by_key(|(_, session)| session.used_at).map(|(key, _)| *key)
        {
            sessions.remove(&oldest);
        }
        sessions.insert(digest_of(&id), Session { credential, used_at: now });
        Ok(id)
    }

    /// What a session was opened with, if it is one still.
    pub fn find(&self, id: &str, now: Instant) -> Option<Credential> {
        let mut sessions = self.lock();
        let session = sessions.get_mut(&digest_of(id))?;
        if now.duration_since(session.used_at) >= self.idle {
            return None;
        }
        session.used_at = now;
        Some(session.credential)
    }

    /// Ends a session.
    pub fn close(&self, id: &str) {
        self.lock().remove(&digest_of(id));
    }
}

fn digest_of(id: &str) -> [u8; 32] {
    *blake3::hash(id.as_bytes()).as_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    const IDLE: Duration = Duration::from_secs(60);

    #[test]
    fn sessions_end_when_they_are_closed_and_when_nobody_uses_them() {
        let sessions = Sessions::new(2, IDLE);
        let now = Instant::now();
        let id = sessions.open(Credential::Token(TokenId(7)), now).unwrap();
        assert_eq!(sessions.find(&id, now + IDLE / 2), Some(Credential::Token(TokenId(7))));
        assert_eq!(sessions.find(&id, now + IDLE), Some(Credential::Token(TokenId(7))), "it was used in between");
        assert_eq!(sessions.find(&id, now + IDLE * 2), None);
        let id = sessions.open(Credential::Cluster, now).unwrap();
        sessions.close(&id);
        assert_eq!((sessions.find(&id, now), sessions.find("", now)), (None, None));
    }

    #[test]
    fn the_least_recently_used_makes_room() {
        let sessions = Sessions::new(2, IDLE);
        let now = Instant::now();
        let later = |seconds| now + Duration::from_secs(seconds);
        let first = sessions.open(Credential::Cluster, now).unwrap();
        let second = sessions.open(Credential::Cluster, later(1)).unwrap();
        assert!(sessions.find(&first, later(2)).is_some());
        let third = sessions.open(Credential::Cluster, later(3)).unwrap();
        assert!(sessions.find(&second, later(4)).is_none());
        assert!(sessions.find(&first, later(4)).is_some() && sessions.find(&third, later(4)).is_some());
    }
}
