//! Histories that no master may make, each of which the checker must catch, and good ones that look like them.

use super::check::{End, Expected, check};
use super::events::{Event, FailedRows, Moment, Sight};
use quipu_shared::service::JobState::{self, Cancelled, Failed, Queued, Running, Scheduled, Succeeded, Waiting};
use std::collections::BTreeMap;

fn submitted(key: &str) -> Event {
    Event::Submitted { key: key.to_owned() }
}

fn acknowledged(key: &str, id: u64) -> Event {
    Event::Acknowledged { key: key.to_owned(), id }
}

/// Row 7, and no other.
fn seventh() -> FailedRows {
    FailedRows { count: 1, first: Some(7), digest: 7 }
}

fn sight(key: &str, state: JobState) -> Sight {
    let code = match state {
        Failed => Some("division_by_zero".to_owned()),
        Cancelled => Some("cancelled".to_owned()),
        _ => None,
    };
    Sight { key: key.to_owned(), state, failed: if state == Failed { seventh() } else { FailedRows::default() }, code }
}

/// A look that was asked for at a moment.
fn seen_since(asked: Moment, id: u64, sight: Sight) -> Event {
    Event::Seen { asked, id, sight }
}

fn result(id: u64, bytes: &[u8]) -> Event {
    Event::Result { id, bytes: bytes.into() }
}

/// The events, with looks that were asked for right before their answer.
fn history(events: &[Event]) -> Vec<Event> {
    let mut events = events.to_vec();
    for (at, event) in events.iter_mut().enumerate() {
        if let Event::Seen { asked, .. } | Event::Missing { asked, .. } | Event::Listed { asked, .. } = event
            && *asked == Moment::MAX
        {
            *asked = at;
        }
    }
    events
}

fn seen(id: u64, key: &str, state: JobState) -> Event {
    seen_since(Moment::MAX, id, sight(key, state))
}

fn plain(end: End) -> Expected {
    Expected { end, may_be_cancelled: false, after: None, retried: false }
}

/// `a` succeeds with "5", `b` may be cancelled, `c` fails at row 7, `d` waits for the success of `a`, `e` for that of
/// `c`, `f` may be tried again.
fn expected() -> BTreeMap<String, Expected> {
    let good = End::Succeeded { result: b"5"[..].into(), failed: FailedRows::default() };
    let bad = End::Failed { code: "division_by_zero".into(), failed: Some(seventh()) };
    let good = plain(good);
    [
        ("a", good.clone()),
        ("b", Expected { may_be_cancelled: true, ..good.clone() }),
        ("c", plain(bad)),
        ("d", Expected { after: Some(("a".into(), true)), ..good.clone() }),
        ("e", Expected { after: Some(("c".into(), true)), ..good.clone() }),
        ("f", Expected { retried: true, ..good }),
    ]
    .map(|(key, expected)| (key.to_owned(), expected))
    .into()
}

fn wrong(events: &[Event]) -> Vec<String> {
    check(&history(events), &expected())
}

fn assert_good(events: &[Event]) {
    let wrong = wrong(events);
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// One thing is wrong, and it is this.
fn assert_caught(events: &[Event], what: &str) {
    let wrong = wrong(events);
    assert!(matches!(&wrong[..], [one] if one.contains(what)), "{what:?} in {wrong:#?}");
}

/// `a` as it should go.
fn good() -> Vec<Event> {
    vec![submitted("a"), acknowledged("a", 1), seen(1, "a", Queued), seen(1, "a", Succeeded), result(1, b"5")]
}

fn and(mut events: Vec<Event>, more: &[Event]) -> Vec<Event> {
    events.extend_from_slice(more);
    events
}

#[test]
fn good_histories_pass() {
    assert_good(&good());
    let killed = [
        submitted("a"),
        submitted("c"),
        acknowledged("a", 1),
        acknowledged("c", 2),
        seen(1, "a", Running),
        Event::MasterKilled,
        seen(1, "a", Queued),
        acknowledged("a", 1),
        seen(1, "a", Succeeded),
        seen(2, "c", Failed),
        result(1, b"5"),
        Event::Listed { asked: Moment::MAX, ids: [1, 2].into() },
        seen(1, "a", Succeeded),
        result(1, b"5"),
    ];
    assert_good(&killed);
    // Nobody knows of a job whose answer was lost but those who look.
    assert_good(&[submitted("a"), seen(1, "a", Succeeded), result(1, b"5"), acknowledged("a", 1)]);
    // An answer that was asked for before another one came may be older than that.
    let late = [seen(1, "a", Succeeded), seen_since(2, 1, sight("a", Running)), result(1, b"5")];
    assert_good(&and(vec![submitted("a"), acknowledged("a", 1)], &late));
    let cancelled = [submitted("b"), acknowledged("b", 1), seen(1, "b", Running), seen(1, "b", Cancelled)];
    assert_good(&cancelled);
    let too_late = [submitted("b"), acknowledged("b", 1), seen(1, "b", Succeeded), result(1, b"5")];
    assert_good(&too_late);
}

#[test]
fn lost_jobs_are_caught() {
    assert_caught(&and(good(), &[Event::Missing { asked: Moment::MAX, id: 1 }]), "is not there");
    assert_caught(&and(good(), &[Event::Listed { asked: Moment::MAX, ids: [2].into() }]), "no list");
    assert_caught(&[submitted("a")], "never acknowledged");
    assert_caught(&[submitted("a"), acknowledged("a", 1), seen(1, "a", Running)], "never ended");
    // Before the acknowledgement nothing is promised.
    let early = [submitted("a"), Event::Missing { asked: Moment::MAX, id: 1 }];
    assert_good(&and(early.to_vec(), &good()[1..]));
}

#[test]
fn keys_and_numbers_that_are_not_pairs_are_caught() {
    let twice = and(good(), &[acknowledged("a", 2), seen(2, "a", Succeeded), result(2, b"5")]);
    assert!(wrong(&twice).iter().any(|what| what.contains("a is job 2, and was job 1")));
    // The second job need not be acknowledged to anyone.
    let phantom = and(good(), &[seen(2, "a", Succeeded), result(2, b"5")]);
    assert!(wrong(&phantom).iter().any(|what| what.contains("a is job 2, and was job 1")));
    let shared = and(good(), &[submitted("b"), acknowledged("b", 1)]);
    assert!(wrong(&shared).iter().any(|what| what.contains("job 1 has the key b, and had a")));
    let stranger = and(good(), &[seen(2, "x", Succeeded)]);
    assert!(wrong(&stranger).iter().any(|what| what.contains("nobody chose")));
    let early = [seen(1, "a", Queued)];
    assert_caught(&and(early.to_vec(), &good()), "before that was submitted");
}

#[test]
fn arrows_that_do_not_exist_are_caught() {
    let after = |more: &[Event]| and(vec![submitted("a"), acknowledged("a", 1)], more);
    let end = [seen(1, "a", Succeeded), result(1, b"5")];
    let steps = |states: &[JobState]| and(after(&states.iter().map(|s| seen(1, "a", *s)).collect::<Vec<_>>()), &end);
    assert_good(&steps(&[Scheduled, Waiting, Queued, Running]));
    assert_caught(&steps(&[Queued, Scheduled]), "was queued at event 2 and scheduled at event 3");
    assert_caught(&steps(&[Waiting, Scheduled]), "was waiting at event 2 and scheduled");
    assert_caught(&steps(&[Running, Queued]), "with one master");
    let again = [submitted("f"), acknowledged("f", 1), seen(1, "f", Running), seen(1, "f", Scheduled)];
    assert_good(&and(again.to_vec(), &[seen(1, "f", Succeeded), result(1, b"5")]));
}

#[test]
fn ends_that_change_are_caught() {
    assert!(wrong(&and(good(), &[seen(1, "a", Running)])).iter().any(|what| what.contains("was succeeded")));
    assert!(wrong(&and(good(), &[seen(1, "a", Failed)])).iter().any(|what| what.contains("ended twice")));
    let fails = vec![submitted("c"), acknowledged("c", 1), seen(1, "c", Failed)];
    assert_good(&fails);
    let other = Sight { failed: FailedRows { first: Some(8), ..seventh() }, ..sight("c", Failed) };
    assert_caught(&and(fails, &[seen_since(Moment::MAX, 1, other)]), "ended twice");
}

#[test]
fn wrong_ends_are_caught() {
    let ends = |key: &str, sight: Sight| vec![submitted(key), acknowledged(key, 1), seen_since(Moment::MAX, 1, sight)];
    assert_caught(&ends("a", sight("a", Cancelled)), "nobody asked");
    assert_caught(&ends("a", sight("a", Failed)), "should have succeeded");
    assert_caught(&ends("a", sight("a", Succeeded)), "never read");
    let skipped = Sight { failed: seventh(), ..sight("a", Succeeded) };
    assert_caught(&and(ends("a", skipped), &[result(1, b"5")]), "should have succeeded");
    for told in [
        Sight { failed: FailedRows { first: Some(8), ..seventh() }, ..sight("c", Failed) },
        Sight { failed: FailedRows { digest: 8, ..seventh() }, ..sight("c", Failed) },
        Sight { failed: FailedRows::default(), ..sight("c", Failed) },
        Sight { code: Some("internal".into()), ..sight("c", Failed) },
    ] {
        assert_caught(&ends("c", told), "should have failed");
    }
    assert_caught(&ends("c", sight("c", Succeeded)), "should have failed");
}

#[test]
fn wrong_and_changing_results_are_caught() {
    assert_caught(&and(good()[..4].to_vec(), &[result(1, b"6")]), "wrong result");
    let both = wrong(&and(good(), &[result(1, b"6")]));
    assert!(both.iter().any(|what| what.contains("different results")), "{both:#?}");
    let cancelled = [submitted("b"), acknowledged("b", 1), result(1, b"5"), seen(1, "b", Cancelled)];
    assert_caught(&cancelled, "gave a result and is cancelled");
    assert_caught(&and(good(), &[Event::Odd { what: "500".into() }]), "500");
}

#[test]
fn jobs_that_do_not_wait_are_caught() {
    let both = [submitted("a"), acknowledged("a", 1), submitted("d"), acknowledged("d", 2)];
    let ends = [seen(1, "a", Succeeded), result(1, b"5"), seen(2, "d", Succeeded), result(2, b"5")];
    assert_good(&and(and(both.to_vec(), &[seen(2, "d", Waiting)]), &ends));
    let early = [seen(2, "d", Running), seen(1, "a", Queued)];
    assert_caught(&and(and(both.to_vec(), &early), &ends), "which it waits for, was queued");
    let broken = [submitted("c"), acknowledged("c", 1), submitted("e"), acknowledged("e", 2), seen(1, "c", Failed)];
    let told = Sight { code: Some("dependency_failed".into()), failed: FailedRows::default(), ..sight("e", Failed) };
    assert_good(&and(broken.to_vec(), &[seen_since(Moment::MAX, 2, told.clone())]));
    assert_caught(&and(broken.to_vec(), &[seen(2, "e", Succeeded), result(2, b"5")]), "should have failed");
    let told = seen_since(Moment::MAX, 2, Sight { key: "d".into(), ..told });
    assert_caught(&and(and(both.to_vec(), &ends[..2]), &[told]), "should have succeeded");
}
