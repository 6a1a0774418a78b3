//! What a running node takes on when its configuration changes, and what has to wait for a restart.

use super::Config;
use super::layers::leaves;
use crate::ids::Role;
use std::collections::BTreeSet;

/// Keys that take effect at once; `SECTION.*` stands for all keys of a section. Every other one needs a restart.
pub const LIVE_KEYS: [&str; 12] = [
    "log.level",
    "limits.jobs_pending_max",
    "limits.pending_bytes_max",
    "limits.dependents_max",
    "limits.namespaces_max",
    "limits.formulas_per_job_max",
    "limits.rows_max",
    "limits.request_bytes_max",
    "limits.requests_per_client_max",
    "limits.batch_jobs_max",
    "scheduler.*",
    "namespaces.*",
];

/// Sections that mean nothing to a master, and to a worker.
const OTHERS: [(Role, &[&str]); 2] =
    [(Role::Master, &["client", "worker"]), (Role::Worker, &["client", "master", "limits", "scheduler", "namespaces"])];

/// A key that has another value than before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// Such as `limits.rows_max`.
    pub key: String,
    /// As TOML would have it; empty where it was not set. (A secret is never a value: keys name files.)
    pub before: String,
    /// The same, from now on.
    pub after: String,
    /// Whether it takes effect without a restart.
    pub is_live: bool,
}

/// Whether a key takes effect without a restart.
pub fn is_live(key: &str) -> bool {
    LIVE_KEYS.iter().any(|live| match live.strip_suffix('*') {
        Some(section) => key.starts_with(section),
        None => key == *live,
    })
}

/// What a node of this role has to do with, of all that is different.
pub fn changes(role: Role, before: &Config, after: &Config) -> Vec<Change> {
    let (before, after) = (leaves(before), leaves(after));
    let others = OTHERS.iter().find(|(of, _)| *of == role).map_or(&[][..], |(_, sections)| *sections);
    let keys: BTreeSet<&String> = before.keys().chain(after.keys()).collect();
    let text = |value: Option<&serde_json::Value>| match value {
        None | Some(serde_json::Value::Null) => String::new(),
        Some(value) => value.to_string(),
    };
    keys.into_iter()
        .filter(|key| before.get(*key) != after.get(*key))
        .filter(|key| !others.iter().any(|section| key.split('.').next() == Some(*section)))
        .map(|key| Change {
            key: key.clone(),
            before: text(before.get(key)),
            after: text(after.get(key)),
            is_live: is_live(key),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{NamespaceQuota, PlacementPolicy};

    #[test]
    fn every_live_key_exists() {
        let known = leaves(&Config::default());
        for live in LIVE_KEYS.iter().filter(|live| **live != "namespaces.*") {
            let exists = match live.strip_suffix('*') {
                Some(section) => known.keys().any(|key| key.starts_with(section)),
                None => known.contains_key(*live),
            };
            assert!(exists, "{live}");
        }
    }

    #[test]
    fn changes_are_told_with_both_values_and_by_whom_they_concern() {
        let before = Config::default();
        let mut after = before.clone();
        after.scheduler.placement = PlacementPolicy::RoundRobin;
        after.limits.tokens_max += 1;
        after.worker.slots = 3;
        after.cluster.id = "other".into();
        let quota = NamespaceQuota { rows_per_s_max: Some(9), ..NamespaceQuota::default() };
        after.namespaces.insert("ci".parse().unwrap(), quota);
        let of = |role| changes(role, &before, &after);
        let keys = |role| of(role).into_iter().map(|change| (change.key, change.is_live)).collect::<Vec<_>>();
        let master = keys(Role::Master);
        for expected in [
            ("cluster.id", false),
            ("limits.tokens_max", false),
            ("scheduler.placement", true),
            ("namespaces.ci.rows_per_s_max", true),
        ] {
            assert!(master.contains(&(expected.0.to_owned(), expected.1)), "{expected:?} in {master:?}");
        }
        assert!(!master.iter().any(|(key, _)| key.starts_with("worker.")), "{master:?}");
        assert_eq!(keys(Role::Worker), [("cluster.id".to_owned(), false), ("worker.slots".to_owned(), false)]);
        let placement = of(Role::Master).into_iter().find(|change| change.key == "scheduler.placement").unwrap();
        assert_eq!((placement.before.as_str(), placement.after.as_str()), ("\"least-loaded\"", "\"round-robin\""));
        assert_eq!(changes(Role::Master, &before, &before), []);
    }
}
