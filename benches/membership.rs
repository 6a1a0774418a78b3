//! How fast real processes find each other, and miss each other, at the default settings of gossip.
//!
//! `cargo bench --bench membership` starts five processes on loopback, kills one with SIGKILL in each round, and prints
//! how long the first and the last survivor took to say so. Timing never fails it.
#![allow(clippy::print_stdout, reason = "figures go to stdout")]

use anyhow::{Context, bail};
use quipu_shared::config::GossipSettings;
use quipu_shared::ids::{Generation, NodeId, Role};
use quipu_shared::membership::{DownReason, Gossip, GossipConfig, Identity, MemberEvent, Membership};
use std::io::{BufRead, BufReader, Write};
use std::net::{Ipv4Addr, SocketAddr};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

const NODES: usize = 5;
const ROUNDS: usize = 5;
/// What the design promises for a kill to be noticed by all.
const DOWN_GOAL: Duration = Duration::from_millis(3500);
/// After this something is broken, not slow.
const PATIENCE: Duration = Duration::from_secs(60);
/// Makes this program a node: its name and its seed.
const NODE_VARIABLE: &str = "QUIPU_BENCH_NODE";

fn main() -> anyhow::Result<()> {
    if let Ok(node) = std::env::var(NODE_VARIABLE) {
        return run_node(&node);
    }
    if !std::env::args().any(|argument| argument == "--bench") {
        return Ok(()); // Built and listed along with tests.
    }
    measure()
}

/// A node: says its address, then each change, and leaves when its stdin ends.
#[tokio::main(flavor = "current_thread")]
async fn run_node(node: &str) -> anyhow::Result<()> {
    let (name, seed) = node.split_once(' ').context("name and seed")?;
    let settings = GossipSettings::default();
    let started = SystemTime::now().duration_since(UNIX_EPOCH)?;
    let handle = Gossip::start(GossipConfig {
        bind: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
        advertise: None,
        seeds: seed.split(',').filter(|seed| !seed.is_empty()).map(str::to_owned).collect(),
        keys: vec![[7; 32]],
        identity: Identity {
            node_id: NodeId::try_from(name.to_owned())?,
            generation: Generation(u64::try_from(started.as_millis())?),
            role: Role::Worker,
            rpc: None,
            http: None,
            slots: 1,
            zone: String::new(),
            version: String::new(),
            boot_id: uuid::Uuid::new_v4(),
        },
        period_ms: settings.period_ms,
        suspicion_ms: settings.suspicion_ms,
    })
    .await?;
    let say = |line: String| -> anyhow::Result<()> {
        let mut out = std::io::stdout().lock();
        writeln!(out, "{line}")?;
        Ok(out.flush()?)
    };
    say(format!("at {}", handle.local_addr()))?;
    let mut end = tokio::task::spawn_blocking(|| std::io::stdin().read_line(&mut String::new()));
    let mut events = handle.events();
    loop {
        tokio::select! {
            _ = &mut end => break,
            event = events.recv() => match event.context("gossip ended")? {
                MemberEvent::Up(member) => say(format!("up {}", member.id()))?,
                MemberEvent::Down(member, DownReason::Failed) => say(format!("down {}", member.id()))?,
                MemberEvent::Down(member, DownReason::Left) => say(format!("left {}", member.id()))?,
                MemberEvent::NewGeneration { .. } | MemberEvent::ClockSkew { .. } => {}
            }
        }
    }
    handle.leave().await;
    Ok(())
}

/// A line that a node said, and when it was read.
type Said = (String, String, Instant);

struct Node {
    name: String,
    address: String,
    process: Child,
}

/// Ends what was started, on errors too.
impl Drop for Node {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn start(name: String, seeds: &str, said: &Sender<Said>) -> anyhow::Result<Node> {
    let mut process = Command::new(std::env::current_exe()?)
        .env(NODE_VARIABLE, format!("{name} {seeds}"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?;
    let mut lines = BufReader::new(process.stdout.take().context("stdout")?).lines();
    let first = lines.next().context("the node said nothing")??;
    let address = first.strip_prefix("at ").context("the node did not say its address")?.to_owned();
    let (said, speaker) = (said.clone(), name.clone());
    std::thread::spawn(move || {
        for line in lines.map_while(Result::ok) {
            if said.send((speaker.clone(), line, Instant::now())).is_err() {
                break;
            }
        }
    });
    Ok(Node { name, address, process })
}

/// Waits until `wanted` lines were said, in any order; gives the times of the first and the last.
fn hear(
    heard: &Receiver<Said>,
    mut wanted: Vec<(String, String)>,
    since: Instant,
) -> anyhow::Result<(Duration, Duration)> {
    let mut first = None;
    loop {
        let left = PATIENCE.saturating_sub(since.elapsed());
        let Ok((speaker, line, at)) = heard.recv_timeout(left) else { bail!("not heard in {PATIENCE:?}: {wanted:?}") };
        if let Some(found) = wanted.iter().position(|(name, text)| *name == speaker && *text == line) {
            wanted.swap_remove(found);
            let took = at.saturating_duration_since(since);
            first.get_or_insert(took);
            if wanted.is_empty() {
                return Ok((first.unwrap_or(took), took));
            }
        }
    }
}

fn measure() -> anyhow::Result<()> {
    let (said, heard) = channel();
    let since = Instant::now();
    let mut nodes: Vec<Node> = Vec::new();
    for n in 0..NODES {
        let seeds = nodes.first().map_or(String::new(), |seed| seed.address.clone());
        nodes.push(start(format!("node-{n}"), &seeds, &said)?);
    }
    let pairs = |nodes: &[Node], text: &dyn Fn(&Node) -> String| -> Vec<(String, String)> {
        let others = |node: &Node| {
            let name = node.name.clone();
            nodes.iter().filter(move |other| other.name != name)
        };
        nodes.iter().flat_map(|node| others(node).map(|other| (node.name.clone(), text(other)))).collect()
    };
    let (_, joined) = hear(&heard, pairs(&nodes, &|other| format!("up {}", other.name)), since)?;
    println!("membership/join/{NODES}: {:.2} s from the first start to all knowing all", joined.as_secs_f64());

    let mut worst = Duration::ZERO;
    for round in 0..ROUNDS {
        // Never the first: the later ones join through it.
        let mut victim = nodes.remove(1 + round % (NODES - 1));
        let since = Instant::now();
        victim.process.kill()?;
        let wanted = nodes.iter().map(|node| (node.name.clone(), format!("down {}", victim.name))).collect();
        let (first, last) = hear(&heard, wanted, since)?;
        worst = worst.max(last);
        let (first, last) = (first.as_secs_f64(), last.as_secs_f64());
        println!("membership/kill_to_down/{NODES}: first {first:.2} s, all {last:.2} s");

        let since = Instant::now();
        let again = start(victim.name.clone(), &nodes[0].address, &said)?;
        let wanted = nodes.iter().map(|node| (node.name.clone(), format!("up {}", again.name))).collect();
        let (_, last) = hear(&heard, wanted, since)?;
        println!("membership/rejoin/{NODES}: {:.2} s", last.as_secs_f64());
        nodes.push(again);
    }
    let verdict = if worst <= DOWN_GOAL { "within" } else { "over" };
    println!(
        "membership/kill_to_down/{NODES}: worst {:.2} s, {verdict} the goal of {DOWN_GOAL:?}",
        worst.as_secs_f64()
    );

    let mut goes = nodes.remove(1);
    let since = Instant::now();
    drop(goes.process.stdin.take());
    let wanted = nodes.iter().map(|node| (node.name.clone(), format!("left {}", goes.name))).collect();
    let (_, last) = hear(&heard, wanted, since)?;
    println!("membership/leave/{NODES}: {:.3} s", last.as_secs_f64());
    Ok(())
}
