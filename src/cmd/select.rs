//! Which jobs a command means: `17`, `3-9`, `last`, `last:5`, `all`, lists of these, and what they are narrowed by.

use crate::cmd::{Session, parse};
use crate::failure::{Exit, Failure};
use clap::Args;
use quipu_shared::ids::JobId;
use quipu_shared::service::{JobQuery, JobState, JobView};
use std::collections::{BTreeMap, HashSet};
use std::fmt;
use std::sync::Arc;

/// Jobs that are asked for at once.
const PAGE: usize = 1_000;
/// How selectors are written.
const FORM: &str = "write a job's number, a range such as 3-9, last, last:5 or all, or a list of these such as 3,7-9";

/// One word of a selection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Selector {
    /// `17`.
    One(u64),
    /// `3-9`: those of them that there are.
    Range(u64, u64),
    /// `last` or `last:5`: the newest.
    Last(u32),
    /// `all`.
    All,
}

/// A list of selectors, as one value for clap.
pub(crate) type Selectors = Arc<[Selector]>;

/// `17,3-9,last:5`.
pub(crate) fn selectors(text: &str) -> Result<Selectors, String> {
    let parts = text.split(',').map(|part| selector(part.trim()).ok_or_else(|| format!("{part:?} is no job; {FORM}")));
    parts.collect()
}

fn selector(text: &str) -> Option<Selector> {
    // `parse` alone would take a plus sign.
    let number = |text: &str| text.bytes().all(|b| b.is_ascii_digit()).then(|| text.parse::<u64>().ok()).flatten();
    match text {
        "all" => return Some(Selector::All),
        "last" => return Some(Selector::Last(1)),
        _ => {}
    }
    if let Some(count) = text.strip_prefix("last:") {
        let count = u32::try_from(number(count)?).ok()?;
        return (count > 0).then_some(Selector::Last(count));
    }
    match text.split_once('-') {
        Some((first, last)) => {
            let (first, last) = (number(first)?, number(last)?);
            (first <= last).then_some(Selector::Range(first, last))
        }
        None => number(text).map(Selector::One),
    }
}

impl fmt::Display for Selector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::One(job) => write!(f, "{job}"),
            Self::Range(first, last) => write!(f, "{first}-{last}"),
            Self::Last(1) => f.write_str("last"),
            Self::Last(count) => write!(f, "last:{count}"),
            Self::All => f.write_str("all"),
        }
    }
}

/// A state of a job on the command line.
fn state(text: &str) -> Result<JobState, String> {
    JobState::ALL
        .into_iter()
        .find(|state| state.name() == text)
        .ok_or_else(|| format!("{text:?} is no state; there are {}", JobState::ALL.map(JobState::name).join(", ")))
}

/// What narrows a selection.
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "Selection")]
pub(crate) struct FilterArgs {
    /// Only jobs in these states; a list, or repeats
    ///
    /// scheduled waiting queued running succeeded failed cancelled
    #[arg(long = "state", value_name = "STATE,..", value_delimiter = ',', value_parser = state)]
    pub(crate) states: Vec<JobState>,
    /// Only jobs with this label; repeats, and then all of them count
    #[arg(long = "label", value_name = "KEY=VALUE", value_parser = parse::label)]
    labels: Vec<(String, String)>,
    /// Only jobs of this name
    #[arg(long, value_name = "TEXT")]
    name: Option<String>,
}

impl FilterArgs {
    /// The query for the first `limit` jobs that fit.
    pub(crate) fn query(&self, limit: usize) -> Result<JobQuery, Failure> {
        Ok(JobQuery {
            limit,
            states: self.states.clone(),
            labels: parse::labels(&self.labels)?,
            name: self.name.clone(),
            ..JobQuery::default()
        })
    }

    /// The same, in these states where none is asked for.
    pub(crate) fn or_states(mut self, states: &[JobState]) -> Self {
        if self.states.is_empty() {
            self.states = states.to_vec();
        }
        self
    }
}

/// Whether a job is one that the query means, its place in the list apart.
fn fits(query: &JobQuery, job: &JobView) -> bool {
    let has =
        |labels: &BTreeMap<String, String>| query.labels.iter().all(|(key, value)| labels.get(key) == Some(value));
    (query.states.is_empty() || query.states.contains(&job.state))
        && (query.name.is_none() || query.name == job.name)
        && has(&job.labels)
}

/// Jobs that are selected, each once, in the order in which they are named. A job that is named by its number is taken
/// without a look where `filter` does not ask for anything: what is wrong with it, what is done with it tells.
pub(crate) async fn resolve(
    session: &Session,
    selections: &[Selectors],
    filter: &FilterArgs,
) -> Result<Vec<JobId>, Failure> {
    let plain = filter.states.is_empty() && filter.labels.is_empty() && filter.name.is_none();
    let mut found = Vec::new();
    for selector in selections.iter().flat_map(|selectors| selectors.iter()) {
        match *selector {
            Selector::One(job) if plain => found.push(JobId(job)),
            Selector::One(job) => {
                let view = session.service.job(JobId(job)).await?;
                found.extend(fits(&filter.query(1)?, &view).then_some(view.id));
            }
            Selector::Range(first, last) => {
                let mut query = filter.query(usize::MAX)?;
                query.after = first.checked_sub(1).map(JobId);
                found.extend(list(session, query, |job| job.id.0 <= last).await?.iter().map(|job| job.id));
            }
            Selector::Last(count) => {
                let query = JobQuery { newest_first: true, ..filter.query(count as usize)? };
                found.extend(list(session, query, |_| true).await?.iter().rev().map(|job| job.id));
            }
            Selector::All => {
                found.extend(list(session, filter.query(usize::MAX)?, |_| true).await?.iter().map(|job| job.id));
            }
        }
    }
    let mut seen = HashSet::new();
    found.retain(|job| seen.insert(*job));
    let all = selections.iter().flat_map(|selectors| selectors.iter()).any(|selector| *selector == Selector::All);
    if found.is_empty() && !all {
        let names: Vec<String> = selections.iter().flat_map(|s| s.iter()).map(ToString::to_string).collect();
        let problem = format!("there is no job {}{}", names.join(","), if plain { "" } else { " that fits" });
        return Err(Failure::new(Exit::NoInput, problem).hint("quipu job list names them"));
    }
    Ok(found)
}

/// The one job that is selected.
pub(crate) async fn resolve_one(session: &Session, selectors: &Selectors) -> Result<JobId, Failure> {
    let found = resolve(session, std::slice::from_ref(selectors), &FilterArgs::default()).await?;
    match found[..] {
        [job] => Ok(job),
        [] => Err(Failure::new(Exit::NoInput, "there is no job yet")),
        _ => Err(Failure::usage(format!("{} jobs are named; this command takes one", found.len()))),
    }
}

/// The jobs of a query, page by page, as long as they are wanted.
pub(crate) async fn list(
    session: &Session,
    mut query: JobQuery,
    is_wanted: impl Fn(&JobView) -> bool,
) -> Result<Vec<JobView>, Failure> {
    let limit = query.limit;
    let mut jobs = Vec::new();
    while jobs.len() < limit {
        query.limit = PAGE.min(limit - jobs.len());
        let asked = query.limit;
        let page = session.service.jobs(query.clone()).await?;
        let (came, before) = (page.len(), jobs.len());
        query.after = page.last().map(|job| job.id);
        jobs.extend(page.into_iter().take_while(|job| is_wanted(job)));
        if came < asked || jobs.len() - before < came {
            break;
        }
    }
    Ok(jobs)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cmd::fake::{FakeCluster, session};
    use proptest::prelude::{prop_assert_eq, proptest};

    #[test]
    fn selectors_are_read() {
        for (text, expected) in [
            ("17", &[Selector::One(17)][..]),
            ("3-9", &[Selector::Range(3, 9)]),
            ("4-4", &[Selector::Range(4, 4)]),
            ("last", &[Selector::Last(1)]),
            ("last:5", &[Selector::Last(5)]),
            ("all", &[Selector::All]),
            ("1, 3-4,last", &[Selector::One(1), Selector::Range(3, 4), Selector::Last(1)]),
        ] {
            assert_eq!(&selectors(text).unwrap()[..], expected, "{text}");
        }
        for text in [
            "",
            ",",
            "1,",
            "-3",
            "3-",
            "9-3",
            "last-5",
            "last:0",
            "last:",
            "last:x",
            "ALL",
            "+1",
            "1.5",
            "18446744073709551616",
        ] {
            assert!(selectors(text).unwrap_err().contains("3-9"), "{text}");
        }
    }

    proptest! {
        #[test]
        fn no_text_panics_and_what_is_read_is_written_the_same(text in "[0-9a-z:,-]{0,12}") {
            if let Ok(read) = selectors(&text) {
                let written: Vec<String> = read.iter().map(ToString::to_string).collect();
                prop_assert_eq!(selectors(&written.join(",")).unwrap(), read);
            }
        }
    }

    fn parsed(texts: &[&str]) -> Vec<Selectors> {
        texts.iter().map(|text| selectors(text).unwrap()).collect()
    }

    #[tokio::test]
    async fn selections_are_resolved_in_their_order_and_once() {
        let cluster = Arc::new(FakeCluster::with_jobs(2_500));
        cluster.change(7, |job| job.state = JobState::Failed);
        cluster.change(9, |job| job.labels = [("k".into(), "v".into())].into());
        let (_interrupt, session) = session(Arc::clone(&cluster));
        let ids = async |texts: &[&str], filter: FilterArgs| {
            let found = resolve(&session, &parsed(texts), &filter).await;
            found.map(|jobs| jobs.iter().map(|job| job.0).collect::<Vec<_>>()).map_err(|failure| failure.exit)
        };
        let plain = FilterArgs::default;
        assert_eq!(ids(&["9,3-5", "4"], plain()).await, Ok(vec![9, 3, 4, 5]));
        assert_eq!(ids(&["last"], plain()).await, Ok(vec![2_500]));
        assert_eq!(ids(&["last:3"], plain()).await, Ok(vec![2_498, 2_499, 2_500]));
        assert_eq!(ids(&["0-2"], plain()).await, Ok(vec![1, 2]));
        assert_eq!(ids(&["2499-9999999"], plain()).await, Ok(vec![2_499, 2_500]));
        assert_eq!(ids(&["all"], plain()).await.unwrap().len(), 2_500);
        // One that is named is taken without a look.
        assert_eq!(ids(&["99999"], plain()).await, Ok(vec![99_999]));
        assert_eq!(ids(&["9000-9999"], plain()).await, Err(Exit::NoInput));
        let failed = FilterArgs { states: vec![JobState::Failed], ..plain() };
        assert_eq!(ids(&["all"], failed.clone()).await, Ok(vec![7]));
        assert_eq!(ids(&["6,7"], failed.clone()).await, Ok(vec![7]));
        assert_eq!(ids(&["6"], failed.clone()).await, Err(Exit::NoInput));
        assert_eq!(ids(&["99999"], failed).await, Err(Exit::NoInput));
        let labelled = FilterArgs { labels: vec![("k".into(), "v".into())], ..plain() };
        assert_eq!(ids(&["last:2"], labelled.clone()).await, Ok(vec![9]));
        let none = FilterArgs { name: Some("nobody".into()), ..labelled };
        assert_eq!(ids(&["all"], none).await, Ok(vec![]));
    }

    #[tokio::test]
    async fn one_job_is_one() {
        let (_interrupt, session) = session(Arc::new(FakeCluster::with_jobs(3)));
        let one = async |text: &str| resolve_one(&session, &selectors(text).unwrap()).await.map_err(|f| f.exit);
        assert_eq!(one("last").await, Ok(JobId(3)));
        assert_eq!(one("2").await, Ok(JobId(2)));
        assert_eq!(one("1-2").await, Err(Exit::Usage));
    }
}
