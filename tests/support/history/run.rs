//! A run: rounds of jobs and faults of a seed, then peace, then the judgement.

use super::arena::Arena;
use super::catalogue::Catalogue;
use super::check::{Expected, check};
use super::clients::{Clients, wait_until};
use super::events::Recorder;
use super::plan::{self, Round};
use crate::support::hosts::Hosts;
use crate::support::wait_for;
use quipu_shared::api::NODES_PATH;
use quipu_shared::service::JobState;
use std::collections::BTreeMap;
use std::thread;
use std::time::{Duration, Instant};

/// Threads that look at jobs.
const OBSERVERS: usize = 2;
/// With more open jobs a round waits before it ends, so that a slow machine does not fall behind for ever.
const OPEN_MAX: usize = 150;
/// Ten times what the jobs that are open take on a busy machine.
const END_PATIENCE: Duration = Duration::from_secs(200);
/// Wrong things that are shown.
const SHOWN_MAX: usize = 40;

/// Ends observers, also where the run fails: threads are joined before a panic goes on.
struct Stop<'a>(&'a Clients<'a>);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.stop();
    }
}

/// Runs so many rounds of a seed; panics with everything that is wrong.
pub fn run(seed: u64, rounds: u64, hosts: Option<Hosts>) {
    let begun = Instant::now();
    let recorder = Recorder::default();
    let mut arena = Arena::start(hosts, &recorder);
    let mut catalogue = Catalogue::make(arena.folder.path());
    let (http, token) = (arena.http(), arena.token.clone());
    let digest = Clients::upload(http, &token, &catalogue.table);
    catalogue.use_upload(&digest);
    let mut expected = BTreeMap::new();
    let clients = Clients::new(http, &token, &catalogue, &recorder);
    let mut wrong = Vec::new();
    let result = thread::scope(|scope| {
        let stop = Stop(&clients);
        for number in 0..OBSERVERS {
            let clients = &clients;
            scope.spawn(move || clients.observe(number));
        }
        for number in 0..rounds {
            let round = plan::round(seed, number);
            expect(&round, &catalogue, &mut expected);
            play(&round, &mut arena, &clients, &recorder);
            wrong.extend(arena.dead());
            if !wrong.is_empty() {
                break;
            }
            clients.list();
            wait_for("open jobs to become fewer", END_PATIENCE, || (clients.open().len() < OPEN_MAX).then_some(()));
            let seconds = begun.elapsed().as_secs();
            eprintln!(
                "round {number} ended at {seconds} s: {} acknowledged, {} open",
                clients.ids().len(),
                clients.open().len()
            );
        }
        let ended = settle(&clients);
        drop(stop);
        ended
    });
    wrong.extend(result.err());
    let all = clients.list();
    if let Some(all) = &all {
        // Results of old jobs too, after all those restarts.
        let mut client = clients.client();
        for (&id, _) in all.iter().filter(|(_, state)| **state == JobState::Succeeded) {
            clients.read_result(&mut client, id);
        }
        if all.len() != expected.len() {
            wrong.push(format!("{} keys were chosen, and there are {} jobs", expected.len(), all.len()));
        }
    }
    let events = recorder.events();
    wrong.extend(check(&events, &expected));
    wrong.extend(arena.defects());
    eprintln!(
        "seed {seed}: {rounds} rounds, {} jobs acknowledged, {} events, {} s; {:?}",
        clients.ids().len(),
        events.len(),
        begun.elapsed().as_secs(),
        arena.done
    );
    if let Some(all) = all {
        let mut ends: BTreeMap<&str, u64> = BTreeMap::new();
        all.values().for_each(|state| *ends.entry(state.name()).or_default() += 1);
        eprintln!("{ends:?}");
    }
    if wrong.is_empty() {
        arena.verify_store();
        return;
    }
    arena.folder.disable_cleanup(true);
    let shown: Vec<String> = wrong.iter().take(SHOWN_MAX).cloned().collect();
    panic!(
        "seed {seed}: {} things are wrong (logs are in {}):\n{}\nto play the same schedule again:\n\
         QUIPU_CHAOS_SEED={seed} QUIPU_CHAOS_ROUNDS={rounds} cargo nextest run --release -p quipu --test chaos_history \
         --no-capture random_faults",
        wrong.len(),
        arena.folder.path().display(),
        shown.join("\n")
    );
}

/// Notes what is to become of a round's jobs.
fn expect(round: &Round, catalogue: &Catalogue, expected: &mut BTreeMap<String, Expected>) {
    for plan in round.lanes.iter().flatten().flat_map(|submission| &submission.jobs) {
        let job = Expected {
            end: catalogue.job(plan).end.clone(),
            may_be_cancelled: plan.cancel_after.is_some(),
            after: plan.after.clone(),
            retried: plan.retries > 0,
        };
        expected.insert(plan.key.clone(), job);
    }
}

/// One round: jobs and faults side by side; in the end everything is up.
fn play(round: &Round, arena: &mut Arena, clients: &Clients<'_>, recorder: &Recorder) {
    let begun = Instant::now();
    thread::scope(|scope| {
        for lane in &round.lanes {
            scope.spawn(move || clients.submit_all(begun, lane));
        }
        for (at, action) in &round.actions {
            wait_until(begun + *at);
            arena.act(*action, recorder);
        }
        arena.heal(recorder);
    });
    arena.wait_for_workers(|| {
        let answer = clients.client().get(NODES_PATH).ok()?.json();
        let nodes = answer["nodes"].as_array()?;
        Some(nodes.iter().filter(|node| node["role"] == "worker" && node["state"] == "up").count())
    });
}

/// Waits for the end of every job.
fn settle(clients: &Clients<'_>) -> Result<(), String> {
    let deadline = Instant::now() + END_PATIENCE;
    while !clients.open().is_empty() {
        if Instant::now() > deadline {
            let mut client = clients.client();
            let open = clients.open();
            let why = open.iter().take(5).map(|id| {
                let why = client.get(&format!("/v1/jobs/{id}/explain")).map(|answer| answer.json().to_string());
                let job = client.get(&format!("/v1/jobs/{id}")).map(|answer| answer.json().to_string());
                format!("job {id}: {why:?} {job:?}")
            });
            return Err(format!("{} jobs have not ended: {}", open.len(), why.collect::<Vec<_>>().join("\n")));
        }
        thread::park_timeout(Duration::from_millis(50));
    }
    Ok(())
}
