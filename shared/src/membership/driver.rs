//! SWIM without socket, clock and random source: bytes, time and seeds come in; bytes, timers and events go out.
//!
//! The crate foca does the protocol. Around it: sealing, joining through seeds, telling a leave from a failure and a new
//! incarnation from an old one, and caution after a pause of this process. A caller feeds `handle_*`, then drains
//! `poll_*`, and calls [`Driver::handle_timeout`] when [`Driver::next_timeout`] is due.

use super::Now;
use super::identity::{Member, Peer};
use super::seal::{Refused, SealStats, Sealer};
use crate::ids::{Generation, NodeId};
use foca::{
    AccumulatingRuntime, Codec, Foca, Incarnation, NoCustomBroadcast, OwnedNotification, PeriodicParams, PostcardCodec,
    State, Timer,
};
use rand::SeedableRng;
use rand::rngs::StdRng;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::num::{NonZeroU32, NonZeroUsize};
use std::time::Duration;

/// Largest message of the protocol: about a hundred members in one answer to a joining node. With one datagram's worth,
/// three hundred nodes took 50 s to learn of each other instead of under one.
const PACKET_BYTES_MAX: usize = 8 * 1024;
/// How often every seed is asked while this node knows nobody, or learns of many new ones.
const SEED_PERIOD_JOINING: Duration = Duration::from_secs(1);
/// How often every seed is asked later on: heals a split that outlived [`FORGET_DOWN_AFTER`].
const SEED_PERIOD_JOINED: Duration = Duration::from_secs(10);
/// Growth since the seeds were asked last, as a part of what was known, that counts as many: then each answer is too small
/// for all, or was given too early.
const GROWTH_PART: usize = 8;
/// How often a random member is asked for all that it knows, and two that are down whether they are back.
const SYNC_PERIOD: Duration = Duration::from_secs(5);
/// How long a member that is down is remembered, and so kept from returning under the same identity.
const FORGET_DOWN_AFTER: Duration = Duration::from_secs(600);
/// A gap of this many periods between two calls means that the process was paused, not that the others fell silent; and
/// for so many periods after it nobody is declared lost.
const PAUSE_PERIODS: u32 = 2;
/// At most one report of a sender's clock in this time.
const SKEW_REPORT_PERIOD: Duration = Duration::from_secs(10);
/// Senders whose last report is remembered.
const SKEW_SENDERS_MAX: usize = 256;
/// How often a suspect is told so directly before its time is up. With rumour alone, and one datagram in five lost, a third
/// of simulated runs evicted a live node within two minutes; with these, none.
const APPEALS: u32 = 4;
/// How often a goodbye is sent to three random members.
const GOODBYES: usize = 3;

/// What has changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MemberEvent {
    /// A node has come, or has come back.
    Up(Member),
    /// A node has gone.
    Down(Member, DownReason),
    /// A node was started again before anybody noticed that it was gone: what the previous one held is lost.
    NewGeneration {
        /// What runs now.
        member: Member,
        /// What ran before.
        previous: Member,
    },
    /// An authentic datagram was refused for its time: the sender's clock or ours is off (or an old one is replayed).
    ClockSkew {
        /// The sender's name, where the datagram tells it.
        node: Option<NodeId>,
        /// Where it came from.
        from: SocketAddr,
        /// The sender's clock minus ours.
        skew_ms: i64,
    },
}

/// Why a node has gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DownReason {
    /// It said so.
    Left,
    /// It no longer answers.
    Failed,
}

/// Counters of a driver.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DriverStats {
    /// Of the sealer.
    pub seal: SealStats,
    /// Authentic messages that made no sense to the protocol.
    pub refused_messages: u64,
    /// Times that this node came back after it was wrongly declared down.
    pub renewals: u64,
    /// Pauses of this process that were noticed.
    pub pauses: u64,
    /// Datagrams refused for their time.
    pub clock_skews: u64,
}

/// Members by what the protocol makes of them, without this node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MemberCounts {
    /// They answer.
    pub alive: u64,
    /// They are doubted, and may answer yet.
    pub suspect: u64,
    /// They have left or failed, and are remembered for a while.
    pub down: u64,
}

/// How fast the protocol runs.
#[derive(Clone, Copy, Debug)]
pub struct Timing {
    /// Time between two probes, each of another member.
    pub period: Duration,
    /// How long a suspect may answer before it is down.
    pub suspicion: Duration,
}

/// Messages between drivers. The protocol itself needs the receiver's identity; joining begins with an address alone.
#[derive(Serialize, Deserialize)]
enum Envelope<'a> {
    /// A message of foca.
    Protocol(&'a [u8]),
    /// "I am this one, who are you?"
    Knock(Peer),
    /// "I suspect you": a chance to prove the opposite.
    Suspicion { of: Peer, incarnation: Incarnation, by: Peer },
    /// The answer to a knock, with the generation under which the asking address was known before, if that was later.
    Answer { me: Peer, newer: Option<Generation> },
}

/// What a timer is for.
enum Task {
    /// Of foca.
    Protocol(Timer<Peer>),
    /// Tell the suspect; `left` more times.
    Appeal { suspect: Peer, incarnation: Incarnation, left: u32 },
}

type Protocol = Foca<Peer, PostcardCodec, StdRng, NoCustomBroadcast>;

/// The state machine of one node.
pub struct Driver {
    timing: Timing,
    protocol: Protocol,
    runtime: AccumulatingRuntime<Peer>,
    sealer: Sealer,
    /// By time due, then by order of their making.
    timers: BTreeMap<(Duration, u64), Task>,
    timers_made: u64,
    seeds: Vec<SocketAddr>,
    seeds_due: Duration,
    joining: bool,
    known_before: usize,
    tick_due: Duration,
    seen: Duration,
    /// Until then nobody is reported as failed.
    cautious_until: Option<Duration>,
    reported: BTreeMap<NodeId, Member>,
    skews: BTreeMap<SocketAddr, Duration>,
    cluster_size: u32,
    left: bool,
    outbox: VecDeque<(SocketAddr, Vec<u8>)>,
    events: VecDeque<MemberEvent>,
    stats: DriverStats,
}

impl Driver {
    /// A node that knows nobody yet. `sealer` must have a fresh session; `seed` is for the choice of whom to probe.
    pub fn new(now: Now, me: Member, timing: Timing, sealer: Sealer, seed: u64) -> Self {
        let protocol = Foca::new(Peer::new(me), foca_config(timing, 1), StdRng::seed_from_u64(seed), PostcardCodec);
        Self {
            timing,
            protocol,
            runtime: AccumulatingRuntime::new(),
            sealer,
            timers: BTreeMap::new(),
            timers_made: 0,
            seeds: Vec::new(),
            seeds_due: now.mono,
            joining: true,
            known_before: 0,
            tick_due: now.mono + timing.period,
            seen: now.mono,
            cautious_until: None,
            reported: BTreeMap::new(),
            skews: BTreeMap::new(),
            cluster_size: 1,
            left: false,
            outbox: VecDeque::new(),
            events: VecDeque::new(),
            stats: DriverStats::default(),
        }
    }

    /// This node as others see it. Its generation is raised where the cluster knew a later one.
    pub fn me(&self) -> &Member {
        &self.protocol.identity().member
    }

    /// Everybody else, by name.
    pub fn members(&self) -> impl Iterator<Item = &Member> {
        self.reported.values()
    }

    /// The counters so far.
    pub fn stats(&self) -> DriverStats {
        DriverStats { seal: self.sealer.stats(), ..self.stats }
    }

    /// The members by state; looks at each of them.
    pub fn member_counts(&self) -> MemberCounts {
        let mut counts = MemberCounts::default();
        for member in self.protocol.iter_membership_state() {
            match member.state() {
                State::Alive => counts.alive += 1,
                State::Suspect => counts.suspect += 1,
                State::Down => counts.down += 1,
            }
        }
        counts
    }

    /// Replaces the addresses that this node joins through, and asks them at once.
    pub fn set_seeds(&mut self, now: Now, seeds: Vec<SocketAddr>) {
        self.notice_pause(now);
        self.seeds = seeds;
        self.seeds_due = now.mono;
        self.handle_timeout(now);
    }

    /// Takes a datagram from the network, whatever it is.
    pub fn handle_datagram(&mut self, now: Now, from: SocketAddr, datagram: &mut [u8]) {
        self.notice_pause(now);
        if self.left {
            return;
        }
        match self.sealer.open(now, datagram) {
            Ok(Some(message)) => self.handle_message(now, from, &message),
            Err(Refused::Stale { skew_ms, bytes }) => self.report_skew(now, from, skew_ms, &bytes),
            Ok(None) | Err(_) => {}
        }
    }

    /// Does what is due.
    pub fn handle_timeout(&mut self, now: Now) {
        self.notice_pause(now);
        if self.left {
            return;
        }
        while let Some(due) = self.timers.first_entry().filter(|timer| timer.key().0 <= now.mono) {
            match due.remove() {
                // foca 2.0 tells a member that it is down even if it has refuted the suspicion: it would renew itself.
                Task::Protocol(Timer::ChangeSuspectToDown { member_id, incarnation, .. })
                    if !self.is_suspect(&member_id, incarnation) => {}
                Task::Protocol(timer) => {
                    let result = self.protocol.handle_timer(timer, &mut self.runtime);
                    self.settle(now, result);
                }
                Task::Appeal { suspect, incarnation, left } => self.appeal(now, suspect, incarnation, left),
            }
        }
        if self.cautious_until.is_some_and(|until| until <= now.mono) {
            self.cautious_until = None;
            self.compare(now);
        }
        if self.seeds_due <= now.mono {
            self.knock(now);
        }
        if self.tick_due <= now.mono {
            self.tick_due = now.mono + self.timing.period;
        }
    }

    /// When to call [`Self::handle_timeout`]; at most a period away, so that a pause of the process is noticed.
    pub fn next_timeout(&self) -> Duration {
        let protocol = self.timers.first_key_value().map(|(key, _)| key.0);
        [protocol, self.cautious_until, Some(self.seeds_due)].into_iter().flatten().fold(self.tick_due, Duration::min)
    }

    /// Says goodbye. Afterwards the driver is deaf and silent; send what [`Self::poll_datagram`] still has.
    pub fn leave(&mut self, now: Now) {
        if self.left {
            return;
        }
        let goodbye = Peer {
            leaving: true,
            renewal: self.protocol.identity().renewal.saturating_add(1),
            ..self.protocol.identity().clone()
        };
        let result = self.protocol.change_identity(goodbye, &mut self.runtime);
        self.settle(now, result);
        for _ in 1..GOODBYES {
            let result = self.protocol.gossip(&mut self.runtime);
            self.settle(now, result);
        }
        let result = self.protocol.leave_cluster(&mut self.runtime);
        self.settle(now, result);
        self.left = true;
        self.timers.clear();
    }

    /// The next datagram to send, and where to.
    pub fn poll_datagram(&mut self) -> Option<(SocketAddr, Vec<u8>)> {
        self.outbox.pop_front()
    }

    /// The next change.
    pub fn poll_event(&mut self) -> Option<MemberEvent> {
        self.events.pop_front()
    }

    fn handle_message(&mut self, now: Now, from: SocketAddr, message: &[u8]) {
        match postcard::from_bytes(message) {
            Ok(Envelope::Protocol(bytes)) => {
                let result = self.protocol.handle_data(bytes, &mut self.runtime);
                self.settle(now, result);
            }
            Ok(Envelope::Knock(peer)) => self.answer(now, from, &peer),
            Ok(Envelope::Suspicion { of, incarnation, by }) => {
                if of == *self.protocol.identity() && by.member.gossip != of.member.gossip {
                    self.refute(now, incarnation, by);
                }
            }
            Ok(Envelope::Answer { me: peer, newer }) => {
                if let Some(newer) = newer {
                    self.raise_generation(now, newer);
                }
                let known = self.protocol.iter_members().any(|member| *member.id() == peer);
                if (self.joining || !known) && peer.member.gossip != self.me().gossip {
                    let result = self.protocol.announce(peer, &mut self.runtime);
                    self.settle(now, result);
                }
            }
            Err(_) => self.stats.refused_messages += 1,
        }
    }

    /// Asks all seeds who they are.
    fn knock(&mut self, now: Now) {
        let known = self.protocol.num_members();
        self.joining = known == 0 || known > self.known_before + self.known_before / GROWTH_PART;
        self.known_before = known;
        self.seeds_due = now.mono + if self.joining { SEED_PERIOD_JOINING } else { SEED_PERIOD_JOINED };
        let me = self.protocol.identity().clone();
        for seed in self.seeds.clone() {
            if seed != me.member.gossip {
                self.send(now, seed, &Envelope::Knock(me.clone()));
            }
        }
    }

    fn answer(&mut self, now: Now, to: SocketAddr, peer: &Peer) {
        // A clock that was set back makes a restarted node look older than the one before it.
        let newer = self
            .protocol
            .iter_membership_state()
            .map(|known| &known.id().member)
            .find(|known| known.gossip == peer.member.gossip && known.identity.boot_id != peer.member.identity.boot_id)
            .map(|known| known.identity.generation)
            .filter(|generation| *generation >= peer.member.identity.generation);
        let me = self.protocol.identity().clone();
        self.send(now, to, &Envelope::Answer { me, newer });
    }

    fn raise_generation(&mut self, now: Now, newer: Generation) {
        let mut me = self.protocol.identity().clone();
        if newer >= me.member.identity.generation {
            me.member.identity.generation = Generation(newer.0.saturating_add(1));
            let result = self.protocol.change_identity(me, &mut self.runtime);
            self.settle(now, result);
        }
    }

    /// Whether a suspicion still stands: to refute it, the member raises its incarnation.
    fn is_suspect(&self, peer: &Peer, incarnation: Incarnation) -> bool {
        self.protocol
            .iter_members()
            .any(|known| known.id() == peer && known.state() == State::Suspect && known.incarnation() == incarnation)
    }

    /// Tells a suspect so, unless it has answered.
    fn appeal(&mut self, now: Now, suspect: Peer, incarnation: Incarnation, left: u32) {
        if left == 0 || !self.is_suspect(&suspect, incarnation) {
            return;
        }
        let by = self.protocol.identity().clone();
        self.send(now, suspect.member.gossip, &Envelope::Suspicion { of: suspect.clone(), incarnation, by });
        let due = now.mono + self.timing.suspicion / (APPEALS + 1);
        self.schedule(due, Task::Appeal { suspect, incarnation, left: left - 1 });
    }

    /// Refutes a suspicion: to those that gossip picks, and to who has it.
    fn refute(&mut self, now: Now, incarnation: Incarnation, by: Peer) {
        let suspicion = foca::Member::new(self.protocol.identity().clone(), incarnation, State::Suspect);
        let result = self.protocol.apply_many(std::iter::once(suspicion), false, &mut self.runtime);
        self.settle(now, result);
        let result = self.protocol.announce(by, &mut self.runtime);
        self.settle(now, result);
    }

    /// Carries out what foca asked for.
    fn settle(&mut self, now: Now, result: Result<(), foca::Error>) {
        if result.is_err() {
            self.stats.refused_messages += 1;
        }
        while let Some((to, bytes)) = self.runtime.to_send() {
            self.send(now, to.member.gossip, &Envelope::Protocol(&bytes));
        }
        while let Some((after, timer)) = self.runtime.to_schedule() {
            if let Timer::ChangeSuspectToDown { member_id, incarnation, .. } = &timer {
                let (suspect, incarnation) = (member_id.clone(), *incarnation);
                self.schedule(now.mono, Task::Appeal { suspect, incarnation, left: APPEALS });
            }
            self.schedule(now.mono + after, Task::Protocol(timer));
        }
        let mut changed = false;
        while let Some(notification) = self.runtime.to_notify() {
            changed = true;
            match notification {
                OwnedNotification::Rejoin(_) => {
                    self.stats.renewals += 1;
                    self.known_before = 0;
                    self.seeds_due = self.seeds_due.min(now.mono + self.timing.period / 2);
                }
                OwnedNotification::Idle => self.seeds_due = self.seeds_due.min(now.mono + self.timing.period / 2),
                _ => {}
            }
        }
        if changed {
            self.resize();
            self.compare(now);
        }
    }

    fn schedule(&mut self, due: Duration, task: Task) {
        self.timers_made += 1;
        self.timers.insert((due, self.timers_made), task);
    }

    fn send(&mut self, now: Now, to: SocketAddr, envelope: &Envelope<'_>) {
        if let Ok(message) = postcard::to_stdvec(envelope) {
            self.outbox.extend(self.sealer.seal(now, &message).into_iter().map(|datagram| (to, datagram)));
        }
    }

    /// Larger clusters repeat each piece of news more often.
    fn resize(&mut self) {
        let size = u32::try_from(self.protocol.num_members()).unwrap_or(u32::MAX).saturating_add(1);
        if size > self.cluster_size.saturating_mul(2) || size < self.cluster_size / 2 {
            self.cluster_size = size;
            if self.protocol.set_config(foca_config(self.timing, size)).is_err() {
                self.stats.refused_messages += 1;
            }
        }
    }

    /// Reports how foca's list differs from what was reported before.
    fn compare(&mut self, now: Now) {
        if self.left {
            return;
        }
        let mut current: BTreeMap<&NodeId, &Peer> = BTreeMap::new();
        let mine = self.me().id();
        for peer in self.protocol.iter_members().map(foca::Member::id) {
            let id = peer.member.id();
            if !peer.leaving && id != mine && current.get(id).is_none_or(|other| other.age() < peer.age()) {
                current.insert(id, peer);
            }
        }
        let cautious = self.cautious_until.is_some_and(|until| now.mono < until);
        let mut gone = Vec::new();
        for member in self.reported.values().filter(|member| !current.contains_key(member.id())) {
            let left = self.protocol.iter_membership_state().any(|known| {
                let known = known.id();
                known.leaving && known.member.is_same_incarnation(member) && known.member.gossip == member.gossip
            });
            match (left, cautious) {
                (true, _) => gone.push((member.clone(), DownReason::Left)),
                (false, false) => gone.push((member.clone(), DownReason::Failed)),
                (false, true) => {}
            }
        }
        let here: Vec<Member> = current.into_values().map(|peer| peer.member.clone()).collect();
        for (member, reason) in gone {
            self.reported.remove(member.id());
            self.events.push_back(MemberEvent::Down(member, reason));
        }
        for member in here {
            match self.reported.insert(member.id().clone(), member.clone()) {
                None => self.events.push_back(MemberEvent::Up(member)),
                Some(previous) if !previous.is_same_incarnation(&member) => {
                    self.events.push_back(MemberEvent::NewGeneration { member, previous });
                }
                Some(_) => {}
            }
        }
    }

    /// Time in which this process did not run counts for nobody: all timers move by it, and nobody is declared lost
    /// before what waits in the socket was read and every suspect had time to answer.
    fn notice_pause(&mut self, now: Now) {
        let gap = now.mono.saturating_sub(self.seen);
        self.seen = self.seen.max(now.mono);
        let caution = self.timing.period * PAUSE_PERIODS;
        if gap <= caution {
            return;
        }
        self.stats.pauses += 1;
        let until = now.mono + caution;
        self.cautious_until = Some(until);
        for ((due, order), task) in std::mem::take(&mut self.timers) {
            let due = match task {
                Task::Protocol(Timer::ChangeSuspectToDown { .. }) => (due + gap).max(until),
                _ => due + gap,
            };
            self.timers.insert((due, order), task);
        }
        // What this node knows is old: ask for everything.
        self.known_before = 0;
        self.seeds_due = now.mono;
    }

    fn report_skew(&mut self, now: Now, from: SocketAddr, skew_ms: i64, bytes: &[u8]) {
        self.stats.clock_skews += 1;
        let recent = |reported: &Duration| now.mono.saturating_sub(*reported) < SKEW_REPORT_PERIOD;
        if self.skews.get(&from).is_some_and(recent) {
            return;
        }
        if self.skews.len() >= SKEW_SENDERS_MAX {
            self.skews.retain(|_, reported| recent(reported));
            if self.skews.len() >= SKEW_SENDERS_MAX {
                return;
            }
        }
        self.skews.insert(from, now.mono);
        let sender = match postcard::from_bytes(bytes) {
            Ok(Envelope::Knock(peer)) => {
                // It will find this as stale as we found its own, and so learns of the trouble too.
                self.answer(now, from, &peer);
                Some(peer)
            }
            Ok(Envelope::Answer { me, .. } | Envelope::Suspicion { by: me, .. }) => Some(me),
            Ok(Envelope::Protocol(bytes)) => PostcardCodec.decode_header(bytes).ok().map(|header| header.src),
            Err(_) => None,
        };
        let node = sender.map(|peer: Peer| peer.member.identity.node_id);
        self.events.push_back(MemberEvent::ClockSkew { node, from, skew_ms });
    }
}

fn foca_config(timing: Timing, cluster_size: u32) -> foca::Config {
    // Below a hundred nodes the formula gives too few repetitions to survive a lossy network.
    let size = NonZeroU32::new(cluster_size.max(100)).unwrap_or(NonZeroU32::MIN);
    let every =
        |frequency, members| NonZeroUsize::new(members).map(|num_members| PeriodicParams { frequency, num_members });
    foca::Config {
        probe_period: timing.period,
        probe_rtt: timing.period / 3,
        suspect_to_down_after: timing.suspicion,
        remove_down_after: Some(FORGET_DOWN_AFTER),
        max_packet_size: NonZeroUsize::new(PACKET_BYTES_MAX).unwrap_or(NonZeroUsize::MIN),
        notify_down_members: true,
        periodic_announce: every(SYNC_PERIOD, 1),
        periodic_announce_to_down_members: every(SYNC_PERIOD, 2),
        periodic_gossip: every(timing.period * 2 / 5, 3),
        ..foca::Config::new_lan(size)
    }
}
