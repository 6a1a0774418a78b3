//! Tokens: made by an operator, shown once, kept as a digest in the job log and here in memory for every request.

use crate::jobs::opening::{error, store_error};
use crate::store::command::{Command, Outcome};
use crate::store::record::TokenRecord;
use crate::store::sequencer::unix_ms;
use crate::store::{Store, StoreError};
use governor::clock::{Clock, DefaultClock};
use governor::{DefaultDirectRateLimiter, Quota, RateLimiter};
use quipu_shared::access::{Caller, IssuedToken, NewToken, TOKEN_NAME_BYTES_MAX, TokenView};
use quipu_shared::ids::TokenId;
use quipu_shared::service::{ErrorKind, ServiceError};
use quipu_shared::trust::random_token;
use std::collections::HashMap;
use std::num::NonZeroU32;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

/// What the text of a token begins with, so that people and scanners for secrets know it when they see it.
pub const TOKEN_PREFIX: &str = "qp_";
/// Longest life of a token that has an end.
const EXPIRES_MAX_MS: u64 = 100 * 365 * 24 * 3_600_000;

/// A token as requests meet it.
pub struct Token {
    /// Who comes with it.
    pub caller: Caller,
    digest: [u8; 32],
    view: TokenView,
    limiter: DefaultDirectRateLimiter,
}

impl Token {
    fn new(id: TokenId, record: &TokenRecord, requests_per_s: u32) -> Self {
        let rate = record.requests_per_s.unwrap_or(requests_per_s);
        let quota = Quota::per_second(NonZeroU32::new(rate).unwrap_or(NonZeroU32::MIN));
        let caller = Caller {
            token: Some(id),
            name: record.name.as_str().into(),
            role: record.role,
            namespace: record.namespace.clone(),
        };
        let view = TokenView {
            id,
            name: record.name.clone(),
            role: record.role,
            namespace: record.namespace.clone(),
            created_at_ms: record.created_at_ms,
            expires_at_ms: record.expires_at_ms,
            requests_per_s: record.requests_per_s,
        };
        Self { caller, digest: record.digest, view, limiter: RateLimiter::direct(quota) }
    }

    /// Its id.
    pub fn id(&self) -> TokenId {
        self.view.id
    }

    /// Counts a request.
    ///
    /// # Errors
    /// How long to wait, where its rate is used up.
    pub fn count_request(&self) -> Result<(), Duration> {
        self.limiter.check().map_err(|until| until.wait_time_from(DefaultClock::default().now()))
    }

    fn has_expired(&self) -> bool {
        self.view.expires_at_ms.is_some_and(|at_ms| at_ms <= unix_ms())
    }
}

/// Every token.
#[derive(Default)]
pub struct TokenTable {
    inner: RwLock<Inner>,
    tokens_max: usize,
    /// Of a token that has no rate of its own.
    requests_per_s: u32,
}

#[derive(Default)]
struct Inner {
    by_id: std::collections::BTreeMap<TokenId, Arc<Token>>,
    by_digest: HashMap<[u8; 32], Arc<Token>>,
}

impl TokenTable {
    /// The tokens of a store.
    pub fn new(records: Vec<(TokenId, TokenRecord)>, tokens_max: usize, requests_per_s: u32) -> Self {
        let table = Self { inner: RwLock::default(), tokens_max, requests_per_s };
        for (id, record) in records {
            table.insert(id, &record);
        }
        table
    }

    fn insert(&self, id: TokenId, record: &TokenRecord) {
        let token = Arc::new(Token::new(id, record, self.requests_per_s));
        let mut inner = self.inner.write().unwrap_or_else(PoisonError::into_inner);
        inner.by_digest.insert(token.digest, Arc::clone(&token));
        inner.by_id.insert(id, token);
    }

    /// The token of this text, if it is one and has not expired. Looked up by digest: how long that takes says nothing
    /// about any token's text.
    pub fn find(&self, text: &str) -> Option<Arc<Token>> {
        if !text.starts_with(TOKEN_PREFIX) {
            return None;
        }
        let digest = digest_of(text);
        let inner = self.inner.read().unwrap_or_else(PoisonError::into_inner);
        inner.by_digest.get(&digest).filter(|token| !token.has_expired()).cloned()
    }

    /// A token that has been neither revoked nor outlived.
    pub fn get(&self, id: TokenId) -> Option<Arc<Token>> {
        let inner = self.inner.read().unwrap_or_else(PoisonError::into_inner);
        inner.by_id.get(&id).filter(|token| !token.has_expired()).cloned()
    }

    /// Every token, by id; expired ones too, until they are revoked.
    pub fn all(&self) -> Vec<TokenView> {
        let inner = self.inner.read().unwrap_or_else(PoisonError::into_inner);
        inner.by_id.values().map(|token| token.view.clone()).collect()
    }

    /// Makes a token; it is good once it is durable.
    pub(crate) async fn issue(&self, store: &Store, new: NewToken) -> Result<IssuedToken, ServiceError> {
        let usage = |code, message| Err(error(ErrorKind::Usage, code, message));
        if !store.is_durable() {
            return usage("no_tokens", "an embedded cluster takes no tokens; give --cluster".into());
        }
        if new.name.is_empty() || new.name.len() > TOKEN_NAME_BYTES_MAX || new.name.chars().any(char::is_control) {
            let message = format!("a token's name has 1 to {TOKEN_NAME_BYTES_MAX} bytes and no control characters");
            return usage("bad_token_name", message);
        }
        if new.requests_per_s == Some(0) {
            return usage("bad_token_rate", "a token that is good for 0 requests a second is good for nothing".into());
        }
        if new.expires_in_ms.is_some_and(|ms| ms == 0 || ms > EXPIRES_MAX_MS) {
            return usage("bad_token_expiry", format!("a token expires after 1 to {EXPIRES_MAX_MS} ms, or never"));
        }
        let count = self.inner.read().unwrap_or_else(PoisonError::into_inner).by_id.len();
        if count >= self.tokens_max {
            let message = format!("there are {count} tokens already (limits.tokens_max); revoke some");
            return Err(error(ErrorKind::TooLarge, "too_many_tokens", message));
        }
        let secret = random_token(TOKEN_PREFIX)
            .map_err(|cause| error(ErrorKind::Internal, "no_random", format!("make a token: {cause}")))?;
        let now_ms = unix_ms();
        let record = TokenRecord {
            name: new.name,
            role: new.role,
            namespace: new.namespace,
            digest: digest_of(&secret),
            created_at_ms: now_ms,
            expires_at_ms: new.expires_in_ms.map(|ms| now_ms.saturating_add(ms)),
            requests_per_s: new.requests_per_s,
        };
        let outcome = store.decide(vec![Command::AddToken(Box::new(record.clone()))]).await.map_err(store_error)?;
        let [Outcome::TokenAdded(id)] = outcome[..] else {
            return Err(error(ErrorKind::Internal, "store", format!("the store answered {outcome:?}")));
        };
        self.insert(id, &record);
        let token = Token::new(id, &record, self.requests_per_s).view;
        Ok(IssuedToken { token, secret: secret.as_str().to_owned() })
    }

    /// Makes a token worth nothing: from the next request on, whether or not that is durable yet.
    pub(crate) async fn revoke(&self, store: &Store, id: TokenId) -> Result<(), ServiceError> {
        let gone = {
            let mut inner = self.inner.write().unwrap_or_else(PoisonError::into_inner);
            let gone = inner.by_id.remove(&id);
            if let Some(token) = &gone {
                inner.by_digest.remove(&token.digest);
            }
            gone
        };
        let outcome = store.decide(vec![Command::RevokeToken(id)]).await.map_err(store_error)?;
        match (gone, &outcome[..]) {
            (None, [Outcome::Unknown]) => {
                let message = format!("there is no token {id}; `quipu token list` shows those there are");
                Err(error(ErrorKind::NotFound, "unknown_token", message))
            }
            _ => Ok(()),
        }
    }
}

/// Reads the tokens of a store.
///
/// # Errors
/// Where they can't be read.
pub fn of_store(
    store: &impl crate::store::reads::Reads,
    tokens_max: usize,
    requests_per_s: u32,
) -> Result<TokenTable, StoreError> {
    Ok(TokenTable::new(store.tokens()?, tokens_max, requests_per_s))
}

pub(crate) fn digest_of(text: &str) -> [u8; 32] {
    *blake3::hash(text.as_bytes()).as_bytes()
}
