//! The history checker: what clients saw, against what a job log promises. A pure function.
//!
//! It knows of a job only what answers have said. Two answers have an order only where one was there before the other
//! was asked for, so nothing is held against the master that a slow client could have caused.

use super::events::{Event, FailedRows, Moment, Sight};
use quipu_shared::service::JobState;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// How a job may end.
#[derive(Clone, Debug, PartialEq)]
pub enum End {
    /// With this result, in spite of these rows.
    Succeeded { result: Arc<[u8]>, failed: FailedRows },
    /// With this code; where a row is to blame, with the lowest.
    Failed { code: String, failed: Option<FailedRows> },
}

/// What is expected of a job, by its key.
#[derive(Clone, Debug)]
pub struct Expected {
    /// How it ends if it may run.
    pub end: End,
    /// Whether it was (or may have been) cancelled.
    pub may_be_cancelled: bool,
    /// The key of the job that it waits for, and whether only for its success.
    pub after: Option<(String, bool)>,
    /// Whether it may be tried again.
    pub retried: bool,
}

/// An answer about a job.
struct Look<'a> {
    asked: Moment,
    at: Moment,
    sight: &'a Sight,
}

/// Everything about one job.
#[derive(Default)]
struct Story<'a> {
    acknowledged_at: Option<Moment>,
    looks: Vec<Look<'a>>,
    results: Vec<(Moment, &'a Arc<[u8]>)>,
}

impl<'a> Story<'a> {
    fn last(&self) -> Option<&'a Sight> {
        self.looks.iter().map(|look| look.sight).find(|sight| sight.state.is_final())
    }
}

/// Says what is wrong with a history; nothing, if the master kept its promises.
pub fn check(events: &[Event], expected: &BTreeMap<String, Expected>) -> Vec<String> {
    let mut wrong = Vec::new();
    let mut names = Names::default();
    let mut stories: BTreeMap<u64, Story<'_>> = BTreeMap::new();
    let mut kills = Vec::new();
    for (at, event) in events.iter().enumerate() {
        match event {
            Event::Submitted { key } => names.submitted(key, &mut wrong),
            Event::Acknowledged { key, id } => {
                names.pair(key, *id, at, &mut wrong);
                stories.entry(*id).or_default().acknowledged_at.get_or_insert(at);
            }
            Event::Seen { asked, id, sight } => {
                names.pair(&sight.key, *id, at, &mut wrong);
                stories.entry(*id).or_default().looks.push(Look { asked: *asked, at, sight });
            }
            Event::Missing { asked, id } => {
                if stories.get(id).is_some_and(|story| story.acknowledged_at.is_some_and(|then| then < *asked)) {
                    wrong.push(format!("event {at}: job {id} was acknowledged and is not there"));
                }
            }
            Event::Listed { asked, ids } => {
                for (id, story) in &stories {
                    if story.acknowledged_at.is_some_and(|then| then < *asked) && !ids.contains(id) {
                        wrong.push(format!("event {at}: job {id} was acknowledged and is in no list of all jobs"));
                    }
                }
            }
            Event::Result { id, bytes } => stories.entry(*id).or_default().results.push((at, bytes)),
            Event::MasterKilled => kills.push(at),
            Event::Odd { what } => wrong.push(format!("event {at}: {what}")),
        }
    }
    for key in &names.submitted {
        if names.ids.get(key).is_none_or(|id| stories[id].acknowledged_at.is_none()) {
            wrong.push(format!("{key} was submitted again and again and never acknowledged"));
        }
    }
    for (id, story) in &stories {
        let Some(key) = names.keys.get(id) else {
            wrong.push(format!("job {id} has a result, and was neither acknowledged nor seen"));
            continue;
        };
        let Some(expected) = expected.get(key) else {
            wrong.push(format!("job {id} has the key {key}, which nobody chose"));
            continue;
        };
        check_states(*id, story, expected, &kills, &mut wrong);
        check_end(*id, key, story, expected, &names, &stories, &mut wrong);
        check_order(*id, key, story, expected, &names, &stories, &mut wrong);
    }
    wrong
}

/// Which key is which job.
#[derive(Default)]
struct Names {
    submitted: BTreeSet<String>,
    ids: BTreeMap<String, u64>,
    keys: BTreeMap<u64, String>,
}

impl Names {
    fn submitted(&mut self, key: &str, wrong: &mut Vec<String>) {
        if !self.submitted.insert(key.to_owned()) {
            wrong.push(format!("the harness chose {key} twice"));
        }
    }

    fn pair(&mut self, key: &str, id: u64, at: Moment, wrong: &mut Vec<String>) {
        if !self.submitted.contains(key) {
            wrong.push(format!("event {at}: job {id} has the key {key} before that was submitted"));
        }
        let known = *self.ids.entry(key.to_owned()).or_insert(id);
        if known != id {
            wrong.push(format!("event {at}: {key} is job {id}, and was job {known}"));
        }
        let known = self.keys.entry(id).or_insert_with(|| key.to_owned());
        if known != key {
            wrong.push(format!("event {at}: job {id} has the key {key}, and had {known}"));
        }
    }
}

/// Whether a job that was seen in one state may be seen in the other later: along the legal arrows, of which only a job
/// that may be tried again has the one back to its beginning.
fn may_become(from: JobState, to: JobState, retried: bool) -> bool {
    let mut seen = vec![from];
    let mut next = 0;
    while let Some(&state) = seen.get(next) {
        next += 1;
        for reached in JobState::ALL {
            let backwards = matches!(state, JobState::Queued | JobState::Running) && reached == JobState::Scheduled;
            if state.may_become(reached) && (retried || !backwards) && !seen.contains(&reached) {
                seen.push(reached);
            }
        }
    }
    seen.contains(&to)
}

fn check_states(id: u64, story: &Story<'_>, expected: &Expected, kills: &[Moment], wrong: &mut Vec<String>) {
    let mut ended: Option<&Look<'_>> = None;
    for (number, look) in story.looks.iter().enumerate() {
        // Sights of the same state follow each other without end; their last one is enough.
        let mut before: BTreeMap<&str, &Look<'_>> = BTreeMap::new();
        if !look.sight.state.is_final() || ended.is_none() {
            for earlier in story.looks[..number].iter().filter(|earlier| earlier.at < look.asked) {
                before.insert(earlier.sight.state.name(), earlier);
            }
        } else if let Some(end) = ended {
            before.insert(end.sight.state.name(), end);
        }
        for earlier in before.values() {
            let (from, to) = (earlier.sight.state, look.sight.state);
            if from != to && !may_become(from, to, expected.retried) {
                wrong.push(format!(
                    "job {id} was {} at event {} and {} at event {}",
                    from.name(),
                    earlier.at,
                    to.name(),
                    look.at
                ));
            }
            let killed = || kills.iter().any(|kill| (earlier.asked..=look.at).contains(kill));
            if (from, to) == (JobState::Running, JobState::Queued) && !expected.retried && !killed() {
                wrong.push(format!(
                    "job {id} was running at event {} and queued at event {}, with one master",
                    earlier.at, look.at
                ));
            }
        }
        if look.sight.state.is_final() {
            match ended {
                None => ended = Some(look),
                Some(end) if end.sight != look.sight => wrong.push(format!(
                    "job {id} has ended twice: {:?} at event {}, {:?} at event {}",
                    end.sight, end.at, look.sight, look.at
                )),
                Some(_) => {}
            }
        }
    }
}

fn check_end(
    id: u64,
    key: &str,
    story: &Story<'_>,
    expected: &Expected,
    names: &Names,
    stories: &BTreeMap<u64, Story<'_>>,
    wrong: &mut Vec<String>,
) {
    let results: BTreeSet<&[u8]> = story.results.iter().map(|(_, bytes)| &***bytes).collect();
    if results.len() > 1 {
        wrong.push(format!("job {id} ({key}) has {} different results", results.len()));
    }
    let Some(last) = story.last() else {
        wrong.push(format!("job {id} ({key}) never ended"));
        return;
    };
    if last.state != JobState::Succeeded && !results.is_empty() {
        wrong.push(format!("job {id} ({key}) gave a result and is {}", last.state.name()));
    }
    if last.state == JobState::Cancelled {
        if !expected.may_be_cancelled {
            wrong.push(format!("job {id} ({key}) is cancelled, and nobody asked for that"));
        }
        return;
    }
    let broken = expected.after.as_ref().filter(|(_, success)| *success).is_some_and(|(other, _)| {
        let other = names.ids.get(other).and_then(|id| stories[id].last());
        other.is_some_and(|other| other.state != JobState::Succeeded)
    });
    let dependency_failed = End::Failed { code: "dependency_failed".into(), failed: None };
    let end = if broken { &dependency_failed } else { &expected.end };
    match end {
        End::Succeeded { result, failed } => {
            if last.state != JobState::Succeeded || last.failed != *failed {
                wrong.push(format!("job {id} ({key}) should have succeeded with {failed:?}: {last:?}"));
            } else if results.is_empty() {
                wrong.push(format!("job {id} ({key}) succeeded, and its result was never read"));
            }
            if let Some(other) = results.iter().find(|bytes| ***bytes != **result) {
                wrong.push(format!("job {id} ({key}) has a wrong result: {}", difference(other, result)));
            }
        }
        End::Failed { code, failed } => {
            let told = last.code.as_ref() == Some(code) && failed.as_ref().is_none_or(|failed| last.failed == *failed);
            if last.state != JobState::Failed || !told {
                wrong.push(format!("job {id} ({key}) should have failed with {code} and {failed:?}: {last:?}"));
            }
        }
    }
}

/// A job that waits for another one runs after that one has ended.
fn check_order(
    id: u64,
    key: &str,
    story: &Story<'_>,
    expected: &Expected,
    names: &Names,
    stories: &BTreeMap<u64, Story<'_>>,
    wrong: &mut Vec<String>,
) {
    let Some((other, _)) = &expected.after else { return };
    let runs = |look: &&Look<'_>| matches!(look.sight.state, JobState::Running | JobState::Succeeded);
    let (Some(other), Some(ran)) = (names.ids.get(other), story.looks.iter().find(runs)) else { return };
    for look in &stories[other].looks {
        if look.asked > ran.at && !look.sight.state.is_final() {
            wrong.push(format!(
                "job {id} ({key}) ran at event {}, and job {other}, which it waits for, was {} at event {}",
                ran.at,
                look.sight.state.name(),
                look.at
            ));
        }
    }
}

/// Where two results differ first.
fn difference(found: &[u8], expected: &[u8]) -> String {
    let at = found.iter().zip(expected).take_while(|(a, b)| a == b).count();
    let around = |bytes: &[u8]| {
        let (from, to) = (at.saturating_sub(20).min(bytes.len()), (at + 40).min(bytes.len()));
        String::from_utf8_lossy(&bytes[from..to]).into_owned()
    };
    format!("{} bytes for {}, at byte {at} {:?} for {:?}", found.len(), expected.len(), around(found), around(expected))
}
