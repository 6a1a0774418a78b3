//! Nodes, links and gossip, asked at each scrape.

use super::collect::{counter, counters, gauge, gauges};
use crate::nodes::NodeTable;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::DescriptorEncoder;
use quipu_shared::ids::Role;
use quipu_shared::link::MasterLink;
use quipu_shared::membership::{GossipHandle, GossipStats};
use quipu_shared::service::{BreakerState, NodeState, NodeView};
use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Weak};

/// Workers with figures of their own at most: each is ten lines. The others are in the sums.
pub const NODES_EXPORTED_MAX: usize = 1_000;

/// The table of nodes. A worker that is gone has no figures of its own any more.
#[derive(Debug)]
pub struct NodesCollector {
    /// The nodes.
    pub nodes: Arc<NodeTable>,
}

impl Collector for NodesCollector {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let encoder = &mut encoder;
        let nodes = self.nodes.all();
        let mut by_state: BTreeMap<(&str, &str), i64> = BTreeMap::new();
        for role in [Role::Master, Role::Worker] {
            for state in [NodeState::Known, NodeState::Up, NodeState::Draining, NodeState::Down] {
                by_state.insert((role_name(role), state_name(state)), 0);
            }
        }
        for node in &nodes {
            *by_state.entry((role_name(node.role), state_name(node.state))).or_default() += 1;
        }
        let by_state = by_state.into_iter().map(|((role, state), count)| ([("role", role), ("state", state)], count));
        gauges(encoder, "quipu_nodes", "Nodes by role and state", by_state)?;
        let workers: Vec<&NodeView> = nodes
            .iter()
            .filter(|node| node.role == Role::Worker && matches!(node.state, NodeState::Up | NodeState::Draining))
            .take(NODES_EXPORTED_MAX)
            .collect();
        let info = workers.iter().map(|node| {
            let state = state_name(node.state);
            let labels = [
                ("node_id", node.id.as_str()),
                ("zone", node.zone.as_str()),
                ("version", node.version.as_str()),
                ("state", state),
            ];
            (labels, 1_i64)
        });
        gauges(encoder, "quipu_node_info", "A worker that is linked", info)?;
        let each = |value: fn(&NodeView) -> f64| {
            workers.iter().map(move |node| ([("node_id", node.id.as_str())], value(node))).collect::<Vec<_>>()
        };
        gauges(encoder, "quipu_node_slots", "Executors of a worker", each(|node| f64::from(node.slots)))?;
        gauges(
            encoder,
            "quipu_node_leased",
            "Attempts that a worker runs or has queued",
            each(|node| f64::from(node.leased)),
        )?;
        gauges(
            encoder,
            "quipu_node_rows_per_second",
            "Rows a second that a worker makes when all its executors are busy, measured over its last shards",
            each(|node| node.rows_per_s),
        )?;
        let known = |value: fn(&NodeView) -> Option<f64>| {
            let known = workers.iter().filter_map(move |node| Some(([("node_id", node.id.as_str())], value(node)?)));
            known.collect::<Vec<_>>()
        };
        gauges(
            encoder,
            "quipu_node_cpu_pressure_ratio",
            "Part of the time in which something on a worker's host waited for a processor",
            known(|node| node.cpu_pressure.map(|percent| f64::from(percent) / 100.0)),
        )?;
        gauges(
            encoder,
            "quipu_node_memory_pressure_ratio",
            "Part of the time in which something on a worker's host waited for memory",
            known(|node| node.memory_pressure.map(|percent| f64::from(percent) / 100.0)),
        )?;
        gauges(
            encoder,
            "quipu_node_memory_available_bytes",
            "Memory that is to be had on a worker's host",
            known(|node| node.memory_available_bytes.map(|bytes| bytes as f64)),
        )?;
        gauges(
            encoder,
            "quipu_node_quarantined",
            "1 for a worker that gets nothing, or one shard at a time, because its attempts kept failing",
            each(|node| f64::from(u8::from(node.breaker != BreakerState::Closed))),
        )?;
        counters(
            encoder,
            "quipu_node_shards_completed",
            "Shards that a worker has completed",
            workers.iter().map(|node| ([("node_id", node.id.as_str())], node.shards_done)),
        )
    }
}

fn role_name(role: Role) -> &'static str {
    match role {
        Role::Master => "master",
        Role::Worker => "worker",
    }
}

fn state_name(state: NodeState) -> &'static str {
    match state {
        NodeState::Known => "known",
        NodeState::Up => "up",
        NodeState::Draining => "draining",
        NodeState::Down => "down",
    }
}

/// The links to all workers.
pub struct LinkCollector {
    /// A link that has been stopped is exported no more.
    pub link: Weak<MasterLink>,
}

impl fmt::Debug for LinkCollector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LinkCollector").finish_non_exhaustive()
    }
}

impl Collector for LinkCollector {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let encoder = &mut encoder;
        let Some(link) = self.link.upgrade() else { return Ok(()) };
        let stats = link.stats();
        gauge(encoder, "quipu_link_peers", "Workers that are linked", stats.peers as i64)?;
        let queued = stats.outbound_bytes as f64;
        gauge(encoder, "quipu_link_queued_bytes", "Bytes of messages that are not yet written to a worker", queued)?;
        let by_direction = |sent, received| [([("direction", "sent")], sent), ([("direction", "received")], received)];
        counters(
            encoder,
            "quipu_link_messages",
            "Messages over all links",
            by_direction(stats.frames_sent, stats.frames_received),
        )?;
        counters(
            encoder,
            "quipu_link_bytes",
            "Bytes of these messages, before TLS and framing",
            by_direction(stats.bytes_sent, stats.bytes_received),
        )?;
        let rejected = [
            ("undecodable", stats.frames_undecodable),
            ("stale", stats.frames_stale),
            ("queue_full", stats.frames_refused),
            ("handshake_failed", stats.handshakes_failed),
            ("handshake_evicted", stats.handshakes_evicted),
            ("impostor", stats.impostors),
        ];
        let rejected = rejected.map(|(reason, count)| ([("reason", reason)], count));
        counters(encoder, "quipu_link_rejected", "Messages and connections that were not taken, by reason", rejected)
    }
}

/// Gossip as this master takes part in it.
pub struct GossipCollector {
    /// Its handle.
    pub gossip: GossipHandle,
}

impl fmt::Debug for GossipCollector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GossipCollector").finish_non_exhaustive()
    }
}

impl Collector for GossipCollector {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let encoder = &mut encoder;
        let GossipStats { driver, members, sent, sent_bytes, send_errors, received, receive_errors } =
            self.gossip.stats();
        let by_state = [("alive", members.alive), ("suspect", members.suspect), ("down", members.down)];
        let by_state = by_state.map(|(state, count)| ([("state", state)], count as i64));
        gauges(encoder, "quipu_gossip_members", "Other nodes as gossip sees them, by state", by_state)?;
        let by_direction = [([("direction", "sent")], sent), ([("direction", "received")], received)];
        counters(encoder, "quipu_gossip_datagrams", "Datagrams of gossip, good and bad", by_direction)?;
        counter(
            encoder,
            "quipu_gossip_sent_bytes",
            "Bytes of datagrams sent, without headers of UDP and IP",
            sent_bytes,
        )?;
        let errors = [([("direction", "sent")], send_errors), ([("direction", "received")], receive_errors)];
        counters(encoder, "quipu_gossip_socket_errors", "Times that the system did not send or receive", errors)?;
        let seal = driver.seal;
        let rejected = [
            ("bad_format", seal.bad_format),
            ("unknown_key", seal.unknown_key),
            ("forged", seal.forged),
            ("stale", seal.stale),
            ("replayed", seal.replayed),
            ("own", seal.own),
            ("full", seal.full),
            ("malformed", driver.refused_messages),
        ];
        let rejected = rejected.map(|(reason, count)| ([("reason", reason)], count));
        counters(encoder, "quipu_gossip_rejected", "Datagrams that were received and dropped, by reason", rejected)?;
        counter(
            encoder,
            "quipu_gossip_renewals",
            "Times that this node came back after others had declared it down",
            driver.renewals,
        )?;
        counter(encoder, "quipu_gossip_pauses", "Pauses of this process that were noticed", driver.pauses)
    }
}
