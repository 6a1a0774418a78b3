//! The pages as they are written, from views that a test makes up.

use super::{grid, job_parts, jobs, overview, timeline};
use quipu_shared::detail::{AttemptList, AttemptOutcome, AttemptView, ClusterView, JobDetail, RunningJob, ShardMap};
use quipu_shared::ids::{AttemptId, JobId, NodeId, Role, ShardId};
use quipu_shared::service::{JobState, JobView, NodeState, NodeView, ShardCounts};
use quipu_shared::spec::{JobSpec, ResultFormat};

const HOSTILE: &str = "<script>alert(1)</script>\"'&";

fn job(name: &str) -> JobView {
    JobView {
        id: JobId(7),
        kind: "sweep".into(),
        name: Some(name.into()),
        namespace: Default::default(),
        format: ResultFormat::Csv,
        state: JobState::Running,
        submitted_at_ms: 1_700_000_000_000,
        elapsed_ms: 5_000,
        rows_total: Some(1_000),
        rows_done: 250,
        rows_failed: 1,
        row_errors: Vec::new(),
        shards: ShardCounts { leased: 2, done: 3, ..ShardCounts::default() },
        error: None,
        traceparent: None,
        labels: [(name.to_owned(), name.to_owned())].into(),
        priority: 0,
        after: Vec::new(),
        not_before_ms: None,
        ended_at_ms: None,
        retries: 0,
        retry_of: None,
        schedule: None,
    }
}

fn node(id: &str, role: Role, state: NodeState, note: Option<&str>) -> NodeView {
    NodeView {
        id: NodeId::try_from(id.to_owned()).unwrap(),
        role,
        state,
        slots: 4,
        leased: 5,
        zone: HOSTILE.into(),
        version: "1".into(),
        gossip: None,
        rows_per_s: 1e6,
        shards_done: 9,
        note: note.map(Into::into),
        breaker: Default::default(),
        cpu_pressure: None,
        memory_pressure: None,
        memory_available_bytes: None,
    }
}

fn cluster() -> ClusterView {
    ClusterView {
        nodes: vec![
            node("master-1", Role::Master, NodeState::Up, None),
            node("worker-1", Role::Worker, NodeState::Up, None),
            node("worker-2", Role::Worker, NodeState::Draining, None),
            node("worker-3", Role::Worker, NodeState::Down, None),
            node("worker-4", Role::Worker, NodeState::Down, Some(crate::nodes::LEFT_NOTE)),
            node("worker-5", Role::Worker, NodeState::Known, Some(HOSTILE)),
        ],
        nodes_total: 6,
        jobs: vec![RunningJob { view: job(HOSTILE), rows_per_s: 1234.0 }],
        jobs_running: 1,
        jobs_pending: 3,
    }
}

fn written(view: &ClusterView) -> String {
    overview::parts(view).into_iter().map(|(_, markup)| markup.into_string()).collect()
}

fn assert_harmless(html: &str) {
    assert!(html.contains("&lt;script&gt;alert(1)&lt;/script&gt;&quot;"), "{html}");
    assert!(!html.contains("<script") && !html.contains("style=") && !html.contains("onclick"), "{html}");
}

#[test]
fn what_users_wrote_is_text_on_the_overview_and_in_lists() {
    assert_harmless(&written(&cluster()));
    assert_harmless(&jobs::table(&[job(HOSTILE)]).into_string());
}

#[test]
fn what_users_wrote_is_text_on_the_page_of_their_job() {
    let scalar = serde_json::json!({ "string": HOSTILE });
    for kind in [
        serde_json::json!({ "eval": { "formulas": [HOSTILE, HOSTILE] } }),
        serde_json::json!({ "sweep": { "formula": HOSTILE, "name": HOSTILE, "axes": [{ "name": HOSTILE, "values": { "list": [scalar] } }] } }),
        serde_json::json!({ "sample": { "formula": HOSTILE, "name": HOSTILE, "rows": 1, "seed": 1,
            "draws": [{ "name": HOSTILE, "distribution": { "choice": [scalar] } }] } }),
        serde_json::json!({ "map": { "formula": HOSTILE, "condition": HOSTILE, "name": HOSTILE,
            "schema": { "format": "csv", "delimiter": 44, "columns": [{ "name": HOSTILE, "variable": HOSTILE, "ty": "int" }] },
            "input": { "shared": { "path": HOSTILE } } } }),
    ] {
        let spec: JobSpec =
            serde_json::from_value(serde_json::json!({ "kind": kind, "bindings": [[HOSTILE, scalar]] })).unwrap();
        let detail = JobDetail { spec, formulas: 2, form: None };
        assert_harmless(&job_parts::detail(&job(HOSTILE), &detail).into_string());
    }
    let attempt = AttemptView {
        attempt: AttemptId(1),
        shard: ShardId(1),
        node: NodeId::try_from("worker-1".to_owned()).unwrap(),
        first_row: 0,
        rows: 10,
        rows_done: 0,
        speculative: true,
        started_at_ms: 1_700_000_000_500,
        ended_at_ms: Some(1_700_000_001_000),
        outcome: AttemptOutcome::Failed,
        note: Some(HOSTILE.into()),
    };
    let list = AttemptList { total: 1, attempts: vec![attempt] };
    assert_harmless(&timeline::timeline(&list, 1_700_000_000_000, 1_700_000_002_000).into_string());
}

#[test]
fn nodes_say_in_words_how_they_are() {
    let html = written(&cluster());
    for (class, word) in
        [("node up", "up"), ("node draining", "draining"), ("node down", "down"), ("node left", "left")]
    {
        assert!(html.contains(class) && html.contains(&format!("{word}</span>")), "{word}: {html}");
    }
    assert!(html.contains("1 of 4 workers up, 1 draining, down: worker-3; 1 jobs run."), "{html}");
    assert!(html.contains("4 of 4 slots busy, 1 waiting"), "{html}");
    assert!(html.contains("2 waiting"), "jobs that wait: {html}");
}

#[test]
fn an_empty_cluster_says_what_to_do_next() {
    let html = written(&ClusterView::default());
    assert!(html.contains("No worker has joined yet") && html.contains("quipu worker --seed"), "{html}");
    assert!(html.contains("Nothing runs at this moment.") && html.contains("href=\"/try\""), "{html}");
}

#[test]
fn many_nodes_that_are_down_are_counted_rather_than_shown() {
    let nodes: Vec<NodeView> =
        (0..40).map(|at| node(&format!("worker-{at}"), Role::Worker, NodeState::Down, None)).collect();
    let html = written(&ClusterView { nodes, nodes_total: 100, ..ClusterView::default() });
    assert!(html.contains("88 more nodes are down and not shown."), "{html}");
}

#[test]
fn grid_says_in_words_what_it_shows() {
    let mut map = ShardMap::new(1_000, 1);
    map.count(0, 250, |cell| &mut cell.done);
    let html = grid::grid(&job("a"), &map).into_string();
    assert!(
        html.contains("aria-label=\"250 of 1000 rows done; 2 shards leased, 0 queued again, 0 further attempts\""),
        "{html}"
    );
    let unknown = grid::grid(&job("a"), &ShardMap { rows: 9, ..ShardMap::default() }).into_string();
    assert!(unknown.contains("is not kept"), "{unknown}");
}
