//! Each policy as a function of its candidates.

use super::{Candidate, consistent_hash, least_loaded, round_robin, stride, weighted, zone_spread};
use quipu_shared::ids::WorkerId;
use std::collections::{BTreeMap, BTreeSet};

fn candidate(worker: u64) -> Candidate<'static> {
    Candidate {
        worker: WorkerId(worker),
        node: worker * 7919,
        zone: "",
        load_permille: 0,
        slots: 2,
        held: 0,
        rate: None,
        turn: 0,
        pass: 0,
    }
}

#[test]
fn least_loaded_takes_the_fastest_of_those_with_the_least_load() {
    let at = |worker, load_permille, rate| Candidate { load_permille, rate, ..candidate(worker) };
    let choose = |of: &[Candidate<'static>]| least_loaded::choose(of.iter().copied()).map(|worker| worker.0);
    assert_eq!(choose(&[]), None);
    assert_eq!(
        choose(&[at(1, 0, Some(1.0)), at(2, 0, Some(3.0)), at(3, 0, Some(2.0)), at(4, 500, Some(9.0))]),
        Some(2)
    );
    // What is not measured yet is tried first, and equals go by their number.
    assert_eq!(choose(&[at(1, 0, Some(9.0)), at(2, 0, None), at(3, 0, None)]), Some(2));
    assert_eq!(choose(&[at(1, 0, Some(2.0)), at(2, 0, Some(2.0))]), Some(1));
}

#[test]
fn round_robin_takes_whoever_waited_longest_whatever_the_load() {
    let at = |worker, turn, load_permille| Candidate { turn, load_permille, ..candidate(worker) };
    let choose = |of: &[Candidate<'static>]| round_robin::choose(of.iter().copied()).map(|worker| worker.0);
    assert_eq!(choose(&[at(1, 9, 0), at(2, 7, 900), at(3, 8, 0)]), Some(2));
    assert_eq!(choose(&[at(1, 9, 0), at(2, 7, 900), at(3, 0, 500)]), Some(3));
}

#[test]
fn weighted_gives_shards_in_proportion() {
    let weights = [1, 3, 6];
    let (mut passes, mut counts) = ([0_u64; 3], [0; 3]);
    for _ in 0..1_000 {
        let all = passes.iter().zip(0..).map(|(&pass, worker)| Candidate { pass, ..candidate(worker) });
        let chosen = weighted::choose(all).unwrap().0 as usize;
        passes[chosen] += stride(weights[chosen]);
        counts[chosen] += 1;
    }
    assert!(counts.iter().zip([100_i32, 300, 600]).all(|(count, share)| (share - count).abs() <= 2), "{counts:?}");
}

#[test]
fn consistent_hash_keeps_a_formula_where_it_is() {
    let home = |affinity, workers: &[u64]| {
        let all = workers.iter().map(|&worker| candidate(worker));
        consistent_hash::choose(all, affinity, 0, 2 * workers.len() as u64).unwrap().0
    };
    let all = [1, 2, 3, 4, 5];
    let homes: BTreeMap<u64, u64> = (0..1_000).map(|affinity| (affinity, home(affinity, &all))).collect();
    // A node that goes moves its own formulas and no others.
    for (&affinity, &before) in &homes {
        let after = home(affinity, &[1, 2, 4, 5]);
        assert_eq!(before == 3, before != after, "{affinity}");
    }
    // And each node has about its share.
    for worker in all {
        let share = homes.values().filter(|&&of| of == worker).count();
        assert!((150..250).contains(&share), "{worker} has {share} of 1000");
    }
}

#[test]
fn consistent_hash_lets_nobody_idle_and_nobody_drown() {
    // Everybody's load as the shards of one formula come in: idle slots fill first, and nobody has more than a quarter
    // above the mean.
    let slots = 3;
    let mut held = [0_u64; 4];
    for placed in 0..40 {
        let all = held.iter().zip(1..).map(|(&held, worker)| Candidate { held, slots, ..candidate(worker) });
        let chosen = consistent_hash::choose(all, 42, placed, 12).unwrap().0 as usize - 1;
        let someone_idles = held.iter().any(|&held| held < slots);
        assert!(!someone_idles || held[chosen] < slots, "{held:?}");
        held[chosen] += 1;
        let mean = (placed + 1).div_ceil(4);
        assert!(held[chosen] <= slots.max(mean * 5 / 4 + 1), "{held:?}");
    }
    assert!(held.iter().all(|&held| held >= slots), "{held:?}");
}

#[test]
fn zone_spread_evens_out_the_zones_before_the_load() {
    let at = |worker, zone, load_permille| Candidate { zone, load_permille, ..candidate(worker) };
    let all = [at(1, "a", 0), at(2, "a", 0), at(3, "b", 900), at(4, "b", 500)];
    let choose = |leased: &[(&'static str, u64)]| {
        zone_spread::choose(all.iter().copied(), &leased.iter().copied().collect()).map(|worker| worker.0)
    };
    assert_eq!(choose(&[]), Some(1));
    assert_eq!(choose(&[("a", 1)]), Some(4));
    assert_eq!(choose(&[("a", 3), ("b", 3)]), Some(1));
}

#[test]
fn every_policy_is_the_same_function_each_time_and_gives_one_of_the_candidates() {
    let all: Vec<Candidate<'static>> = (1..=20)
        .map(|worker| Candidate {
            zone: ["a", "b", "c"][worker as usize % 3],
            load_permille: worker * 37 % 5 * 100,
            held: worker % 3,
            rate: (worker % 4 > 0).then_some(worker as f64),
            turn: worker * 31 % 17,
            pass: worker * 29 % 13,
            ..candidate(worker)
        })
        .collect();
    let leased = BTreeMap::from([("a", 3), ("b", 1)]);
    let choose = || {
        [
            least_loaded::choose(all.iter().copied()),
            round_robin::choose(all.iter().copied()),
            weighted::choose(all.iter().copied()),
            consistent_hash::choose(all.iter().copied(), 9, 20, 40),
            zone_spread::choose(all.iter().copied(), &leased),
        ]
    };
    assert_eq!(choose(), choose());
    let workers: BTreeSet<u64> = choose().into_iter().map(|chosen| chosen.unwrap().0).collect();
    assert!(workers.iter().all(|worker| (1..=20).contains(worker)) && workers.len() > 1, "{workers:?}");
}
