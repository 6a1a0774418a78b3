//! Sealed datagrams: authentic, fresh, never seen before, and small enough for every path.
//!
//! ```text
//! 0  magic "qG" | 2 version | 3 key id | 4 session (16) | 20 counter (u64, little endian)    header: associated data
//! 28 XChaCha20-Poly1305( unix_ms u64 | message u32 | fragment u16 | fragments u16 | bytes ) | tag (16)
//! ```
//!
//! The nonce is session and counter, so a session must be random for every start of a process. Pure: the time, and the
//! session, come in as arguments. Nothing that comes from the network can grow a table beyond its constant.

use super::Now;
use chacha20poly1305::aead::{AeadInOut, KeyInit};
use chacha20poly1305::{Tag, XChaCha20Poly1305, XNonce};
use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

/// Largest datagram: IPv6's least MTU (1,280) without its header (40) and UDP's (8), so that no path splits or drops it.
pub const DATAGRAM_BYTES_MAX: usize = 1232;
/// Largest message. Twice what the driver sends, so that a newer driver may send more.
pub const MESSAGE_BYTES_MAX: usize = 16 * 1024;
/// What sealing adds to each datagram.
pub const OVERHEAD_BYTES: usize = HEADER_BYTES + INNER_BYTES + TAG_BYTES;
/// How far the sender's clock may be off. Within it the replay window must remember; beyond it datagrams are stale.
pub const CLOCK_SKEW_MAX: Duration = Duration::from_secs(60);
/// Sessions that are remembered against replay; about 300 bytes each. More nodes than this can't be heard at once.
pub const SESSIONS_MAX: usize = 8192;
/// Unfinished messages that are kept; with [`MESSAGE_BYTES_MAX`] this bounds reassembly at 4 MiB.
pub const PARTIALS_MAX: usize = 256;
/// Unfinished messages of one session, so that one sender can't push out all others.
pub const PARTIALS_PER_SESSION_MAX: usize = 16;
/// An unfinished message that is older than this has lost a fragment.
const PARTIAL_TTL: Duration = Duration::from_secs(3);
/// Datagrams of one session that may overtake each other.
const WINDOW: u64 = 2048;

const MAGIC: [u8; 2] = *b"qG";
const VERSION: u8 = 1;
const HEADER_BYTES: usize = 28;
const NONCE_AT: usize = 4;
const COUNTER_AT: usize = 20;
const INNER_BYTES: usize = 16;
const TAG_BYTES: usize = 16;
const CHUNK_BYTES: usize = DATAGRAM_BYTES_MAX - OVERHEAD_BYTES;
const FRAGMENTS_MAX: usize = MESSAGE_BYTES_MAX.div_ceil(CHUNK_BYTES);

/// Why a datagram was not opened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refused {
    /// Not one of ours: length, magic or version.
    Format,
    /// Sealed with a key that is not on the list (another cluster, or a rotation that has not reached this node).
    UnknownKey,
    /// Forged or damaged.
    Forged,
    /// Authentic, but its timestamp is more than [`CLOCK_SKEW_MAX`] from this clock: the sender's clock or ours is off,
    /// or somebody replays an old datagram.
    Stale {
        /// The sender's clock minus ours.
        skew_ms: i64,
        /// The first fragment's bytes, to name the sender by. Not to be acted upon otherwise.
        bytes: Vec<u8>,
    },
    /// Seen before, or too far behind its session's newest.
    Replayed,
    /// Sent by this very process.
    Own,
    /// Some table is at its limit.
    Full,
}

/// Counters of a [`Sealer`], in datagrams.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SealStats {
    /// Sealed.
    pub sealed: u64,
    /// Opened: authentic, fresh, new.
    pub opened: u64,
    /// Refused as not ours.
    pub bad_format: u64,
    /// Refused for an unknown key.
    pub unknown_key: u64,
    /// Refused as forged or damaged.
    pub forged: u64,
    /// Refused as stale.
    pub stale: u64,
    /// Refused as replayed.
    pub replayed: u64,
    /// Own datagrams that came back.
    pub own: u64,
    /// Refused at a table's limit.
    pub full: u64,
    /// Unfinished messages given up.
    pub partials_dropped: u64,
}

/// Seals messages into datagrams and opens datagrams into messages.
pub struct Sealer {
    keys: Vec<Key>,
    session: [u8; 16],
    counter: u64,
    message: u32,
    sessions: BTreeMap<[u8; 16], Window>,
    partials: BTreeMap<PartialId, Partial>,
    partial_order: VecDeque<PartialId>,
    stats: SealStats,
}

type PartialId = ([u8; 16], u32);

struct Key {
    /// Tells a node which key to try; one byte of a one-way function of the key.
    id: u8,
    aead: XChaCha20Poly1305,
}

struct Partial {
    fragments: Vec<Option<Vec<u8>>>,
    missing: usize,
    born: Duration,
}

impl Sealer {
    /// The first key seals, all open. `session` must be random and new for every start of a process; `keys` must not be
    /// empty: without a key nothing is sealed and nothing opens.
    pub fn new(keys: &[[u8; 32]], session: [u8; 16]) -> Self {
        let keys = keys
            .iter()
            .map(|key| Key {
                id: blake3::derive_key("quipu/v1/gossip-key-id", key)[0],
                aead: XChaCha20Poly1305::new(key.into()),
            })
            .collect();
        Self {
            keys,
            session,
            counter: 0,
            message: 0,
            sessions: BTreeMap::new(),
            partials: BTreeMap::new(),
            partial_order: VecDeque::new(),
            stats: SealStats::default(),
        }
    }

    /// The counters so far.
    pub fn stats(&self) -> SealStats {
        self.stats
    }

    /// Seals a message into one or more datagrams; none if it is larger than [`MESSAGE_BYTES_MAX`].
    pub fn seal(&mut self, now: Now, message: &[u8]) -> Vec<Vec<u8>> {
        let (Some(key), true) = (self.keys.first(), message.len() <= MESSAGE_BYTES_MAX) else {
            self.stats.full += 1;
            return Vec::new();
        };
        self.message = self.message.wrapping_add(1);
        let fragments = message.len().div_ceil(CHUNK_BYTES).max(1) as u16;
        let mut datagrams = Vec::with_capacity(fragments.into());
        for fragment in 0..fragments {
            let start = usize::from(fragment) * CHUNK_BYTES;
            let chunk = &message[start..message.len().min(start + CHUNK_BYTES)];
            self.counter += 1;
            let mut datagram = Vec::with_capacity(chunk.len() + OVERHEAD_BYTES);
            datagram.extend_from_slice(&MAGIC);
            datagram.extend_from_slice(&[VERSION, key.id]);
            datagram.extend_from_slice(&self.session);
            datagram.extend_from_slice(&self.counter.to_le_bytes());
            datagram.extend_from_slice(&now.unix_ms.to_le_bytes());
            datagram.extend_from_slice(&self.message.to_le_bytes());
            datagram.extend_from_slice(&fragment.to_le_bytes());
            datagram.extend_from_slice(&fragments.to_le_bytes());
            datagram.extend_from_slice(chunk);
            let (header, body) = datagram.split_at_mut(HEADER_BYTES);
            let Some(nonce) = nonce(header) else { return Vec::new() };
            let Ok(tag) = key.aead.encrypt_inout_detached(&nonce, header, body.into()) else { return Vec::new() };
            datagram.extend_from_slice(&tag);
            datagrams.push(datagram);
        }
        self.stats.sealed += u64::from(fragments);
        datagrams
    }

    /// Opens a datagram in place. Gives the message that it completes, or `None` while fragments are missing.
    pub fn open(&mut self, now: Now, datagram: &mut [u8]) -> Result<Option<Vec<u8>>, Refused> {
        let opened = self.try_open(now, datagram);
        let counter = match &opened {
            Ok(_) => &mut self.stats.opened,
            Err(Refused::Format) => &mut self.stats.bad_format,
            Err(Refused::UnknownKey) => &mut self.stats.unknown_key,
            Err(Refused::Forged) => &mut self.stats.forged,
            Err(Refused::Stale { .. }) => &mut self.stats.stale,
            Err(Refused::Replayed) => &mut self.stats.replayed,
            Err(Refused::Own) => &mut self.stats.own,
            Err(Refused::Full) => &mut self.stats.full,
        };
        *counter += 1;
        opened
    }

    fn try_open(&mut self, now: Now, datagram: &mut [u8]) -> Result<Option<Vec<u8>>, Refused> {
        let ours = (OVERHEAD_BYTES..=DATAGRAM_BYTES_MAX).contains(&datagram.len())
            && datagram[..2] == MAGIC
            && datagram[2] == VERSION;
        if !ours {
            return Err(Refused::Format);
        }
        let (header, sealed) = datagram.split_at_mut(HEADER_BYTES);
        let session: [u8; 16] = array(&header[NONCE_AT..COUNTER_AT]).ok_or(Refused::Format)?;
        let counter = u64::from_le_bytes(array(&header[COUNTER_AT..]).ok_or(Refused::Format)?);
        if session == self.session {
            return Err(Refused::Own);
        }
        let body = self.decrypt(header, sealed)?;

        // Authentic from here on.
        let sent_ms = u64::from_le_bytes(array(&body[..8]).ok_or(Refused::Format)?);
        let message = u32::from_le_bytes(array(&body[8..12]).ok_or(Refused::Format)?);
        let fragment = usize::from(u16::from_le_bytes(array(&body[12..14]).ok_or(Refused::Format)?));
        let fragments = usize::from(u16::from_le_bytes(array(&body[14..16]).ok_or(Refused::Format)?));
        let chunk = &body[INNER_BYTES..];
        if sent_ms.abs_diff(now.unix_ms) > CLOCK_SKEW_MAX.as_millis() as u64 {
            // What a known session has sent before is a replay; only what is new tells of a clock.
            if self.sessions.get(&session).is_some_and(|window| !window.is_new(counter)) {
                return Err(Refused::Replayed);
            }
            let skew_ms = i128::from(sent_ms) - i128::from(now.unix_ms);
            let skew_ms = skew_ms.clamp(i64::MIN.into(), i64::MAX.into()) as i64;
            return Err(Refused::Stale { skew_ms, bytes: if fragment == 0 { chunk.to_vec() } else { Vec::new() } });
        }
        self.window(now, session)?.accept(now, counter)?;
        match (fragment, fragments) {
            (0, 1) => Ok(Some(chunk.to_vec())),
            _ if fragment < fragments && fragments <= FRAGMENTS_MAX => {
                self.assemble(now, (session, message), fragment, fragments, chunk.to_vec())
            }
            _ => Err(Refused::Format),
        }
    }

    fn decrypt<'a>(&self, header: &[u8], sealed: &'a mut [u8]) -> Result<&'a [u8], Refused> {
        let at = sealed.len().checked_sub(TAG_BYTES).ok_or(Refused::Format)?;
        let (body, tag) = sealed.split_at_mut(at);
        let tag = Tag::from(array::<TAG_BYTES>(tag).ok_or(Refused::Format)?);
        let nonce = nonce(header).ok_or(Refused::Format)?;
        let mut refused = Refused::UnknownKey;
        for key in self.keys.iter().filter(|key| key.id == header[3]) {
            // A failed attempt leaves the body as it was: the tag is checked first.
            if key.aead.decrypt_inout_detached(&nonce, header, (&mut *body).into(), &tag).is_ok() {
                return Ok(body);
            }
            refused = Refused::Forged;
        }
        Err(refused)
    }

    /// The replay window of a session, a new one if there is room.
    fn window(&mut self, now: Now, session: [u8; 16]) -> Result<&mut Window, Refused> {
        if self.sessions.len() >= SESSIONS_MAX && !self.sessions.contains_key(&session) {
            // What a session sent longer ago than this is stale, so nothing is forgotten that could be replayed.
            self.sessions.retain(|_, window| now.mono.saturating_sub(window.seen) <= CLOCK_SKEW_MAX * 2);
            if self.sessions.len() >= SESSIONS_MAX {
                return Err(Refused::Full);
            }
        }
        Ok(self.sessions.entry(session).or_insert_with(Window::new))
    }

    fn assemble(
        &mut self,
        now: Now,
        id: PartialId,
        fragment: usize,
        fragments: usize,
        chunk: Vec<u8>,
    ) -> Result<Option<Vec<u8>>, Refused> {
        if !self.partials.contains_key(&id) {
            self.make_room(now, id.0);
            self.partial_order.push_back(id);
            let partial = Partial { fragments: vec![None; fragments], missing: fragments, born: now.mono };
            self.partials.insert(id, partial);
        }
        let partial = self.partials.get_mut(&id).ok_or(Refused::Full)?;
        if partial.fragments.len() != fragments || partial.fragments[fragment].is_some() {
            return Err(Refused::Format);
        }
        partial.fragments[fragment] = Some(chunk);
        partial.missing -= 1;
        if partial.missing > 0 {
            return Ok(None);
        }
        self.partial_order.retain(|known| *known != id);
        Ok(self.partials.remove(&id).map(|done| done.fragments.into_iter().flatten().flatten().collect()))
    }

    /// Drops what has waited too long, and the oldest where a limit is reached.
    fn make_room(&mut self, now: Now, session: [u8; 16]) {
        let oldest = now.mono.saturating_sub(PARTIAL_TTL);
        let expired = |id| self.partials.get(id).is_none_or(|partial: &Partial| partial.born < oldest);
        for _ in 0..self.partial_order.iter().take_while(|id| expired(id)).count() {
            self.drop_partial(0);
        }
        if self.partial_order.iter().filter(|id| id.0 == session).count() >= PARTIALS_PER_SESSION_MAX
            && let Some(at) = self.partial_order.iter().position(|id| id.0 == session)
        {
            self.drop_partial(at);
        }
        while self.partial_order.len() >= PARTIALS_MAX {
            self.drop_partial(0);
        }
    }

    fn drop_partial(&mut self, at: usize) {
        if let Some(id) = self.partial_order.remove(at) {
            self.partials.remove(&id);
            self.stats.partials_dropped += 1;
        }
    }
}

/// Which of a session's last [`WINDOW`] counters were seen.
struct Window {
    newest: u64,
    bits: [u64; (WINDOW / 64) as usize],
    seen: Duration,
}

impl Window {
    fn new() -> Self {
        Self { newest: 0, bits: [0; (WINDOW / 64) as usize], seen: Duration::ZERO }
    }

    fn is_new(&self, counter: u64) -> bool {
        let (word, bit) = Self::place(counter);
        counter > self.newest || (self.newest - counter < WINDOW && self.bits[word] & bit == 0)
    }

    fn accept(&mut self, now: Now, counter: u64) -> Result<(), Refused> {
        if !self.is_new(counter) {
            return Err(Refused::Replayed);
        }
        self.seen = now.mono;
        if counter > self.newest {
            if counter - self.newest >= WINDOW {
                self.bits.fill(0);
            } else {
                for skipped in self.newest + 1..=counter {
                    let (word, bit) = Self::place(skipped);
                    self.bits[word] &= !bit;
                }
            }
            self.newest = counter;
        }
        let (word, bit) = Self::place(counter);
        self.bits[word] |= bit;
        Ok(())
    }

    fn place(counter: u64) -> (usize, u64) {
        (((counter % WINDOW) / 64) as usize, 1 << (counter % 64))
    }
}

fn nonce(header: &[u8]) -> Option<XNonce> {
    array::<24>(header.get(NONCE_AT..HEADER_BYTES)?).map(XNonce::from)
}

fn array<const N: usize>(bytes: &[u8]) -> Option<[u8; N]> {
    bytes.try_into().ok()
}

#[cfg(test)]
#[path = "seal_tests.rs"]
mod tests;
