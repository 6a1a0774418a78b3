//! Random faults over a cluster of real processes while clients submit jobs of every kind: nothing that was
//! acknowledged is lost, nothing is done twice, every result has the right bits, whatever the schedule.
//!
//! `QUIPU_CHAOS_ROUNDS` says how many rounds to play, `QUIPU_CHAOS_SEED` with which schedule. Where network namespaces
//! can be made (root, iproute2) the faults are also partitions: the run then takes place in the master's namespace.

#![allow(clippy::print_stderr, reason = "a run shows its seed and what it did")]

#[path = "support/history/mod.rs"]
mod history;
mod support;

use history::plan::{Action, WORKERS, round};
use history::run::run;
use std::env;
use support::hosts::Hosts;

/// Rounds of a run that nobody has asked more of.
const ROUNDS: u64 = 6;
/// Its schedule has every kind of fault.
const SEED: u64 = 4;
/// Name of the master's host, for the run within it.
const INSIDE: &str = "CHAOS_HISTORY_HOST";

fn number(name: &str, default: u64) -> u64 {
    env::var(name).map_or(default, |text| text.parse().unwrap_or_else(|_| panic!("{name}={text} is no number")))
}

#[test]
fn random_faults_lose_nothing_that_was_acknowledged() {
    let (seed, rounds) = (number("QUIPU_CHAOS_SEED", SEED), number("QUIPU_CHAOS_ROUNDS", ROUNDS));
    if let Ok(host) = env::var(INSIDE) {
        return run(seed, rounds, Some(Hosts::of(&host, WORKERS)));
    }
    let hosts = match Hosts::new(WORKERS) {
        Ok(hosts) => hosts,
        Err(reason) => {
            eprintln!("no partitions: network namespaces can't be made here: {reason}");
            return run(seed, rounds, None);
        }
    };
    let mut inside = std::process::Command::new(env::current_exe().expect("this test"));
    inside.args(["--exact", "random_faults_lose_nothing_that_was_acknowledged", "--nocapture"]);
    inside.env(INSIDE, hosts.master());
    let status = hosts.on(&hosts.master(), &inside).status().expect("runs");
    assert!(status.success(), "the run in the master's namespace says why");
}

#[test]
fn a_seed_is_a_schedule() {
    let rounds: Vec<_> = (0..200).map(|number| round(SEED, number)).collect();
    assert!(rounds.iter().zip(0..).all(|(planned, number)| *planned == round(SEED, number)), "the same each time");
    assert!((0..200).any(|number| round(SEED, number) != round(SEED + 1, number)), "other seeds are other schedules");
    let jobs = rounds.iter().flat_map(|round| round.lanes.iter().flatten()).map(|submission| submission.jobs.len());
    assert!(jobs.sum::<usize>() >= 10_000, "as many jobs as the long run is to show");
    let actions: Vec<Action> =
        rounds[..ROUNDS as usize].iter().flat_map(|round| &round.actions).map(|(_, a)| *a).collect();
    let is_in = |wanted: fn(&Action) -> bool| actions.iter().any(wanted);
    assert!(is_in(|action| *action == Action::KillMaster), "{actions:?}");
    assert!(is_in(|action| *action == Action::StopMaster), "{actions:?}");
    assert!(is_in(|action| matches!(action, Action::KillWorker(_))), "{actions:?}");
    assert!(is_in(|action| matches!(action, Action::StopWorker(_))), "{actions:?}");
    assert!(is_in(|action| matches!(action, Action::Cut(_))), "{actions:?}");
}
