//! Drivers in virtual time on a network in one struct: the same seed gives the same run.

use super::Now;
use super::driver::{DownReason, Driver, MemberEvent, Timing};
use super::identity::{Identity, Member};
use super::seal::Sealer;
use crate::ids::{Generation, NodeId, Role};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::time::Duration;
use uuid::Uuid;

const TIMING: Timing = Timing { period: Duration::from_millis(500), suspicion: Duration::from_millis(1500) };
const UNIX_MS: u64 = 1_800_000_000_000;
/// What a socket keeps while its process is paused.
const SOCKET_DATAGRAMS_MAX: usize = 200;

struct Node {
    driver: Driver,
    clock_off_ms: i64,
    alive: bool,
    paused: bool,
    socket: VecDeque<(SocketAddr, Vec<u8>)>,
    events: Vec<(Duration, MemberEvent)>,
}

/// Nodes, and what is on its way between them.
struct Network {
    now: Duration,
    rng: StdRng,
    loss: f64,
    /// Nodes on different sides don't hear each other.
    sides: Vec<u8>,
    nodes: Vec<Node>,
    wire: BTreeMap<(Duration, u64), (SocketAddr, usize, Vec<u8>)>,
    sent: u64,
    bytes: u64,
}

fn address(n: usize) -> SocketAddr {
    SocketAddr::from(([10, 0, (n / 250) as u8, (n % 250) as u8 + 1], 7400))
}

fn member(n: usize, generation: u64) -> Member {
    Member {
        identity: Identity {
            node_id: NodeId::try_from(format!("worker-{n}")).unwrap(),
            generation: Generation(generation),
            role: Role::Worker,
            rpc: None,
            http: None,
            slots: 4,
            zone: "zone-a".into(),
            version: "0.1.0".into(),
            boot_id: Uuid::from_u128((n as u128) << 64 | u128::from(generation)),
        },
        gossip: address(n),
    }
}

impl Network {
    /// `count` nodes; all are given the first `seeds` of them.
    fn new(seed: u64, count: usize, seeds: usize) -> Self {
        let mut network = Self {
            now: Duration::ZERO,
            rng: StdRng::seed_from_u64(seed),
            loss: 0.0,
            sides: vec![0; count],
            nodes: Vec::new(),
            wire: BTreeMap::new(),
            sent: 0,
            bytes: 0,
        };
        for n in 0..count {
            let driver = network.boot(n, 1, seeds, 0);
            network.nodes.push(Node {
                driver,
                clock_off_ms: 0,
                alive: true,
                paused: false,
                socket: VecDeque::new(),
                events: Vec::new(),
            });
        }
        for n in 0..count {
            network.drain(n);
        }
        network
    }

    fn boot(&mut self, n: usize, generation: u64, seeds: usize, clock_off_ms: i64) -> Driver {
        let sealer = Sealer::new(&[[7; 32]], self.rng.random());
        let now = Now { mono: self.now, unix_ms: self.unix_ms(clock_off_ms) };
        let mut driver = Driver::new(now, member(n, generation), TIMING, sealer, self.rng.random());
        driver.set_seeds(now, (0..seeds).map(address).collect());
        driver
    }

    fn restart(&mut self, n: usize, generation: u64, seeds: usize) {
        let off = self.nodes[n].clock_off_ms;
        self.nodes[n].driver = self.boot(n, generation, seeds, off);
        self.nodes[n].alive = true;
        self.nodes[n].socket.clear();
        self.drain(n);
    }

    fn unix_ms(&self, off_ms: i64) -> u64 {
        (UNIX_MS + self.now.as_millis() as u64).checked_add_signed(off_ms).unwrap()
    }

    fn now(&self, n: usize) -> Now {
        Now { mono: self.now, unix_ms: self.unix_ms(self.nodes[n].clock_off_ms) }
    }

    fn leave(&mut self, n: usize) {
        let now = self.now(n);
        self.nodes[n].driver.leave(now);
        self.drain(n);
        self.nodes[n].alive = false;
    }

    /// Wakes a paused node: timers first, which is the worst order, then what waits in the socket.
    fn resume(&mut self, n: usize) {
        self.nodes[n].paused = false;
        let now = self.now(n);
        self.nodes[n].driver.handle_timeout(now);
        while let Some((from, mut datagram)) = self.nodes[n].socket.pop_front() {
            self.nodes[n].driver.handle_datagram(now, from, &mut datagram);
        }
        self.drain(n);
    }

    /// Puts on the wire what node `n` has to say, and keeps what it has seen.
    fn drain(&mut self, n: usize) {
        while let Some((to, datagram)) = self.nodes[n].driver.poll_datagram() {
            self.sent += 1;
            self.bytes += datagram.len() as u64;
            let Some(to) = (0..self.nodes.len()).find(|n| address(*n) == to) else { continue };
            let lost = self.rng.random::<f64>() < self.loss || self.sides[n] != self.sides[to];
            if !lost {
                let due = self.now + Duration::from_micros(self.rng.random_range(200..1500));
                self.wire.insert((due, self.sent), (address(n), to, datagram));
            }
        }
        while let Some(event) = self.nodes[n].driver.poll_event() {
            self.nodes[n].events.push((self.now, event));
        }
    }

    /// Does the next thing, or gives false when it is after `end`.
    fn step(&mut self, end: Duration) -> bool {
        let timeout = self.nodes.iter().enumerate().filter(|(_, node)| node.alive && !node.paused);
        let timeout = timeout.map(|(n, node)| (node.driver.next_timeout().max(self.now), n)).min();
        let arrival = self.wire.first_key_value().map(|(key, _)| *key);
        match (timeout, arrival) {
            (timeout, Some(key)) if key.0 <= end && timeout.is_none_or(|(due, _)| key.0 <= due) => {
                self.now = key.0;
                let Some((from, n, mut datagram)) = self.wire.remove(&key) else { return true };
                let now = self.now(n);
                let node = &mut self.nodes[n];
                if node.paused && node.socket.len() < SOCKET_DATAGRAMS_MAX {
                    node.socket.push_back((from, datagram));
                } else if node.alive && !node.paused {
                    node.driver.handle_datagram(now, from, &mut datagram);
                    self.drain(n);
                }
            }
            (Some((due, n)), _) if due <= end => {
                self.now = due;
                let now = self.now(n);
                self.nodes[n].driver.handle_timeout(now);
                self.drain(n);
            }
            _ => {
                self.now = end;
                return false;
            }
        }
        true
    }

    fn run_for(&mut self, time: Duration) {
        let end = self.now + time;
        while self.step(end) {}
    }

    /// Runs until `done`; gives how long it took.
    fn run_until(&mut self, limit: Duration, what: &str, done: impl Fn(&Self) -> bool) -> Duration {
        let (start, end) = (self.now, self.now + limit);
        while !done(self) {
            assert!(self.step(end), "not within {limit:?}: {what}");
        }
        self.now - start
    }

    /// Whether every living node sees just the living others of its side.
    fn agrees(&self) -> bool {
        (0..self.nodes.len()).filter(|n| self.nodes[*n].alive).all(|n| {
            let seen = self.nodes[n].driver.members().map(|member| member.gossip);
            let mut expected: Vec<SocketAddr> = (0..self.nodes.len())
                .filter(|other| *other != n && self.nodes[*other].alive && self.sides[*other] == self.sides[n])
                .map(address)
                .collect();
            let mut seen: Vec<SocketAddr> = seen.collect();
            seen.sort_unstable();
            expected.sort_unstable();
            seen == expected
        })
    }

    fn events(&self, n: usize, since: Duration) -> impl Iterator<Item = &MemberEvent> {
        self.nodes[n].events.iter().filter(move |(at, _)| *at >= since).map(|(_, event)| event)
    }

    fn downs(&self, since: Duration) -> Vec<(usize, NodeId, DownReason)> {
        let nodes = 0..self.nodes.len();
        nodes
            .flat_map(|n| {
                self.events(n, since).filter_map(move |event| match event {
                    MemberEvent::Down(member, reason) => Some((n, member.id().clone(), *reason)),
                    _ => None,
                })
            })
            .collect()
    }
}

fn seconds(s: u64) -> Duration {
    Duration::from_secs(s)
}

/// A network whose nodes all know each other.
fn joined(seed: u64, count: usize) -> Network {
    let mut network = Network::new(seed, count, 2);
    network.run_until(seconds(10), "join", Network::agrees);
    network
}

#[test]
fn all_join_through_seeds_that_are_workers() {
    for seed in 0..20 {
        let mut network = Network::new(seed, 8, 1);
        let took = network.run_until(seconds(5), "join", Network::agrees);
        assert!(took < seconds(3), "seed {seed}: {took:?}");
        network.run_for(seconds(30));
        assert_eq!(network.downs(Duration::ZERO), [], "seed {seed}");
    }
}

#[test]
fn sixty_nodes_join_within_seconds() {
    let mut network = Network::new(1, 60, 3);
    let took = network.run_until(seconds(20), "join", Network::agrees);
    assert!(took < seconds(5), "{took:?}");
    assert_eq!(network.downs(Duration::ZERO), []);
}

#[test]
fn dead_node_is_reported_as_failed_by_all() {
    for seed in 0..20 {
        let mut network = joined(seed, 6);
        let start = network.now;
        network.nodes[3].alive = false;
        let took = network.run_until(seconds(30), "failure", Network::agrees);
        assert!(took < seconds(8), "seed {seed}: {took:?}");
        let downs = network.downs(start);
        assert_eq!(downs.len(), 5, "seed {seed}: {downs:?}");
        assert!(downs.iter().all(|(_, id, reason)| id.as_str() == "worker-3" && *reason == DownReason::Failed));
    }
}

#[test]
fn goodbye_is_reported_at_once_as_left() {
    for seed in 0..20 {
        let mut network = joined(seed, 6);
        let start = network.now;
        network.leave(0);
        let took = network.run_until(seconds(5), "goodbye", Network::agrees);
        assert!(took < seconds(1), "seed {seed}: {took:?}");
        let downs = network.downs(start);
        assert_eq!(downs.len(), 5, "seed {seed}: {downs:?}");
        assert!(downs.iter().all(|(_, id, reason)| id.as_str() == "worker-0" && *reason == DownReason::Left));
        network.run_for(seconds(20));
        assert!(network.agrees(), "seed {seed}: one that left came back");
    }
}

#[test]
fn node_that_left_can_come_back() {
    let mut network = joined(1, 4);
    network.leave(2);
    network.run_for(seconds(2));
    network.restart(2, 2, 2);
    network.run_until(seconds(5), "return", Network::agrees);
}

#[test]
fn quick_restart_is_a_new_generation_and_no_failure() {
    for seed in 0..20 {
        let mut network = joined(seed, 5);
        network.run_for(seconds(3));
        let start = network.now;
        network.restart(4, 2, 2);
        network.run_for(seconds(6));
        assert!(network.agrees(), "seed {seed}");
        assert_eq!(network.downs(start), [], "seed {seed}");
        for n in 0..4 {
            let events: Vec<_> = network.events(n, start).collect();
            let expected = MemberEvent::NewGeneration { member: member(4, 2), previous: member(4, 1) };
            assert_eq!(events, [&expected], "seed {seed}, node {n}");
        }
    }
}

#[test]
fn restart_with_a_clock_set_back_still_wins() {
    let mut network = Network::new(1, 4, 2);
    network.restart(3, 1_000_000, 2);
    network.run_until(seconds(10), "join", Network::agrees);
    let start = network.now;
    network.restart(3, 5, 2);
    network.run_for(seconds(10));
    assert!(network.agrees());
    assert_eq!(network.nodes[3].driver.me().identity.generation, Generation(1_000_001));
    for n in 0..3 {
        let seen = network.events(n, start).find_map(|event| match event {
            MemberEvent::NewGeneration { member, .. } => Some(member.identity.generation),
            _ => None,
        });
        assert_eq!(seen, Some(Generation(1_000_001)), "node {n}");
    }
}

#[test]
fn restart_on_another_port_replaces_the_old_address() {
    let mut network = joined(1, 5);
    let start = network.now;
    network.nodes[4].alive = false;
    network.nodes[4].driver = {
        let mut moved = member(3, 9);
        moved.gossip = address(4);
        let sealer = Sealer::new(&[[7; 32]], [99; 16]);
        let mut driver = Driver::new(network.now(4), moved, TIMING, sealer, 5);
        driver.set_seeds(network.now(4), vec![address(0)]);
        driver
    };
    // The process of worker-3 is gone, and a new one of that name runs at the address of worker-4.
    network.nodes[3].alive = false;
    network.nodes[4].alive = true;
    network.drain(4);
    network.run_for(seconds(10));
    let names: Vec<&str> = network.nodes[0].driver.members().map(|member| member.id().as_str()).collect();
    assert_eq!(names, ["worker-1", "worker-2", "worker-3"]);
    let found = network.nodes[0].driver.members().find(|member| member.id().as_str() == "worker-3").unwrap();
    assert_eq!(found.gossip, address(4));
    assert!(network.downs(start).iter().all(|(_, id, _)| id.as_str() == "worker-4"));
}

#[test]
fn partition_splits_and_heals() {
    for seed in 0..10 {
        let mut network = joined(seed, 6);
        network.sides = vec![0, 0, 0, 1, 1, 1];
        let split = network.run_until(seconds(60), "split", Network::agrees);
        assert!(split < seconds(20), "seed {seed}: {split:?}");
        network.sides = vec![0; 6];
        let healed = network.run_until(seconds(120), "heal", Network::agrees);
        assert!(healed < seconds(40), "seed {seed}: {healed:?}");
        let start = network.now;
        network.run_for(seconds(30));
        assert_eq!(network.downs(start), [], "seed {seed}");
    }
}

#[test]
fn partition_longer_than_memory_heals_through_seeds() {
    let mut network = joined(3, 4);
    network.sides = vec![0, 0, 1, 1];
    network.run_for(seconds(700));
    assert!(network.agrees());
    network.sides = vec![0; 4];
    network.run_until(seconds(60), "heal", Network::agrees);
}

#[test]
fn paused_node_wakes_without_evicting_anybody() {
    for seed in 0..10 {
        for pause in [2, 10, 60] {
            let mut network = joined(seed, 6);
            network.run_for(seconds(2));
            network.nodes[0].paused = true;
            network.run_for(seconds(pause));
            let woke = network.now;
            network.resume(0);
            network.run_until(seconds(30), "the paused node is back", Network::agrees);
            network.run_for(seconds(20));
            let mine: Vec<_> = network.downs(woke).into_iter().filter(|(n, ..)| *n == 0).collect();
            assert_eq!(mine, [], "seed {seed}, {pause} s");
            let others: Vec<_> =
                network.downs(woke).into_iter().filter(|(_, id, _)| id.as_str() != "worker-0").collect();
            assert_eq!(others, [], "seed {seed}, {pause} s");
            assert!(network.agrees(), "seed {seed}, {pause} s");
        }
    }
}

#[test]
fn suspicions_from_before_a_pause_evict_nobody() {
    for seed in 0..20 {
        for before_ms in [1_200, 1_500, 1_900] {
            let mut network = joined(seed, 6);
            // Cut off for so long that it suspects others, but has not given them up yet; then paused.
            network.sides[0] = 1;
            network.run_for(Duration::from_millis(before_ms));
            network.sides[0] = 0;
            network.nodes[0].paused = true;
            network.run_for(seconds(20));
            let woke = network.now;
            // What was sent to it in the meantime did not fit its socket.
            network.nodes[0].socket.clear();
            network.resume(0);
            network.run_for(seconds(30));
            let mine: Vec<_> = network.downs(woke).into_iter().filter(|(n, ..)| *n == 0).collect();
            assert_eq!(mine, [], "seed {seed}, {before_ms} ms");
            assert!(network.agrees(), "seed {seed}, {before_ms} ms");
            let renewals: u64 = network.nodes[1..].iter().map(|node| node.driver.stats().renewals).sum();
            assert_eq!(renewals, 0, "seed {seed}, {before_ms} ms: somebody was told that it is down");
        }
    }
}

#[test]
fn old_news_in_the_socket_of_a_paused_node_evicts_nobody() {
    let mut delivered = 0;
    for seed in 0..20 {
        let mut network = joined(seed, 6);
        network.sides[4] = 1;
        network.run_until(seconds(20), "somebody gives the cut off node up", |network| {
            (1..6).any(|n| n != 4 && network.nodes[n].driver.members().count() == 4)
        });
        if network.nodes[0].driver.members().count() < 5 {
            continue; // It has heard of it already.
        }
        network.nodes[0].paused = true;
        network.run_for(seconds(5));
        network.sides[4] = 0;
        network.run_for(seconds(30));
        let woke = network.now;
        network.resume(0);
        network.run_for(seconds(20));
        delivered += 1;
        let mine: Vec<_> = network.downs(woke).into_iter().filter(|(n, ..)| *n == 0).collect();
        assert_eq!(mine, [], "seed {seed}");
        assert!(network.agrees(), "seed {seed}");
    }
    assert!(delivered > 5, "the scenario came about only {delivered} times");
}

#[test]
fn node_that_wakes_reports_who_died_meanwhile_after_two_periods() {
    let mut network = joined(5, 5);
    network.nodes[0].paused = true;
    network.run_for(seconds(1));
    network.nodes[4].alive = false;
    network.run_for(seconds(20));
    let woke = network.now;
    network.resume(0);
    network.run_until(seconds(20), "the dead one is seen", Network::agrees);
    let first =
        network.nodes[0].events.iter().find(|(at, event)| *at >= woke && matches!(event, MemberEvent::Down(..)));
    let (at, _) = first.unwrap();
    assert!(*at - woke >= TIMING.period * 2, "reported {:?} after waking", *at - woke);
}

#[test]
fn node_declared_down_while_alive_comes_back_by_itself() {
    let mut network = joined(2, 5);
    let start = network.now;
    network.sides[4] = 1;
    network.run_until(seconds(30), "cut off", Network::agrees);
    network.sides[4] = 0;
    network.run_until(seconds(60), "back", Network::agrees);
    assert!(network.nodes[4].driver.stats().renewals > 0);
    let back = network
        .events(0, start)
        .filter(|event| matches!(event, MemberEvent::Up(member) if *member == self::member(4, 1)));
    assert_eq!(back.count(), 1, "same start of the same process, once");
}

#[test]
fn lost_datagrams_evict_nobody() {
    for (seed, loss) in (0..4).flat_map(|seed| [(seed, 0.1), (seed, 0.2)]) {
        let mut network = Network::new(seed, 10, 2);
        network.loss = loss;
        network.run_until(seconds(30), "join", Network::agrees);
        let start = network.now;
        network.run_for(seconds(120));
        assert_eq!(network.downs(start), [], "seed {seed}");
        let renewals: u64 = network.nodes.iter().map(|node| node.driver.stats().renewals).sum();
        assert_eq!(renewals, 0, "seed {seed}: a member that refuted a suspicion was told that it is down");
        network.nodes[7].alive = false;
        network.run_until(seconds(30), "failure", Network::agrees);
    }
}

#[test]
fn wrong_clock_is_reported_by_name_on_both_sides() {
    for off_ms in [-3_600_000, 90_000] {
        let mut network = Network::new(1, 3, 1);
        network.nodes[2].clock_off_ms = off_ms;
        network.restart(2, 2, 1);
        network.run_for(seconds(65));
        let reports: Vec<_> = network
            .events(0, Duration::ZERO)
            .filter_map(|event| match event {
                MemberEvent::ClockSkew { node, skew_ms, .. } => Some((node.clone(), *skew_ms)),
                _ => None,
            })
            .collect();
        assert!((2..=8).contains(&reports.len()), "reported {} times in a minute", reports.len());
        for (node, skew_ms) in reports {
            assert_eq!(node.unwrap().as_str(), "worker-2");
            assert!((skew_ms - off_ms).abs() < 100, "{skew_ms}");
        }
        let told = network.events(2, Duration::ZERO).any(
            |event| matches!(event, MemberEvent::ClockSkew { node: Some(node), .. } if node.as_str() == "worker-0"),
        );
        assert!(told, "the node with the wrong clock was not told");
        assert_eq!(network.nodes[0].driver.members().count(), 1);
    }
}

#[test]
fn junk_and_replays_change_nothing() {
    let mut network = joined(1, 3);
    let start = network.now;
    let mut rng = StdRng::seed_from_u64(9);
    let genuine: Vec<_> = std::iter::from_fn(|| {
        while network.wire.is_empty() {
            let end = network.now + seconds(1);
            network.step(end);
        }
        let copy = network.wire.first_key_value().map(|(_, sent)| sent.clone());
        let end = network.now + seconds(1);
        network.step(end);
        copy
    })
    .take(50)
    .collect();
    network.run_for(seconds(2));
    let members: Vec<_> = network.nodes[0].driver.members().cloned().collect();
    for (from, _, datagram) in genuine {
        for n in 0..3 {
            let now = network.now(n);
            network.nodes[n].driver.handle_datagram(now, from, &mut datagram.clone());
            let mut junk: Vec<u8> = (0..rng.random_range(0..1400)).map(|_| rng.random()).collect();
            network.nodes[n].driver.handle_datagram(now, from, &mut junk);
        }
    }
    network.run_for(seconds(10));
    assert!(network.agrees());
    assert_eq!(network.downs(start), []);
    assert_eq!(network.nodes[0].driver.members().cloned().collect::<Vec<_>>(), members);
}
