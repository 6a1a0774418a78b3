//! Keys in, orders and pictures out: no terminal, no cluster, no clock.

use super::app::{App, Input, Key, Order, Overlay, Pane, Seen};
use super::view;
use quipu_shared::block::RowError;
use quipu_shared::ids::{JobId, NodeId, Role};
use quipu_shared::service::{ErrorKind, JobState, JobView, NodeState, NodeView, ServiceError, ShardCounts};
use ratatui::Terminal;
use ratatui::backend::TestBackend;
use ratatui::style::{Color, Modifier};
use std::time::Duration;

fn node(id: &str, role: Role, state: NodeState, slots: u32, leased: u32) -> NodeView {
    NodeView {
        id: NodeId::try_from(id.to_owned()).expect("a node id"),
        role,
        state,
        slots,
        leased,
        zone: "rack-1".into(),
        version: "0.1.0".into(),
        gossip: Some("127.0.0.1:7400".into()),
        rows_per_s: if role == Role::Worker { 12.5e6 } else { 0.0 },
        shards_done: 42,
        note: None,
        breaker: Default::default(),
        cpu_pressure: (role == Role::Worker).then_some(7),
        memory_pressure: None,
        memory_available_bytes: None,
    }
}

fn job(id: u64, name: &str, state: JobState, done: u64, total: Option<u64>) -> JobView {
    JobView {
        id: JobId(id),
        kind: "sweep".into(),
        name: (!name.is_empty()).then(|| name.to_owned()),
        namespace: Default::default(),
        format: quipu_shared::spec::ResultFormat::Ndjson,
        state,
        submitted_at_ms: 1_700_000_000_000,
        elapsed_ms: 12_345,
        rows_total: total,
        rows_done: done,
        rows_failed: 0,
        row_errors: Vec::new(),
        shards: ShardCounts { queued: 0, leased: 2, done: 7, retried: 1, speculative: 0 },
        error: None,
        traceparent: None,
        labels: Default::default(),
        priority: 0,
        after: Vec::new(),
        not_before_ms: None,
        ended_at_ms: None,
        retries: 0,
        retry_of: None,
        schedule: None,
    }
}

fn seen() -> Seen {
    let mut failed = job(2, "risk", JobState::Failed, 10, Some(40));
    failed.rows_failed = 1;
    failed.row_errors = vec![RowError { row: 9, code: "division_by_zero".into(), message: "1 / 0".into() }];
    failed.error = Some(ServiceError {
        kind: ErrorKind::Evaluation,
        code: "division_by_zero".into(),
        message: "row 9: division by zero".into(),
        place: None,
        retry_after_s: None,
    });
    Seen {
        nodes: vec![
            node("master-1", Role::Master, NodeState::Up, 0, 0),
            node("worker-1", Role::Worker, NodeState::Up, 4, 2),
            node("worker-2", Role::Worker, NodeState::Down, 4, 0),
        ],
        jobs: vec![
            job(4, "", JobState::Queued, 0, None),
            job(3, "pricing", JobState::Running, 500_000, Some(1_000_000)),
            failed,
            job(1, "old", JobState::Succeeded, 40, Some(40)),
        ],
    }
}

/// A user in front of the screen.
struct User {
    app: App,
    now: Duration,
    terminal: Terminal<TestBackend>,
}

impl User {
    fn at(width: u16, height: u16) -> Self {
        let mut app = App::new("http://127.0.0.1:7402".into(), true);
        app.step(Duration::ZERO, Input::Seen(Box::new(seen())));
        let terminal = Terminal::new(TestBackend::new(width, height)).expect("a terminal");
        Self { app, now: Duration::ZERO, terminal }
    }

    fn press(&mut self, key: Key) -> Option<Order> {
        self.app.step(self.now, Input::Key(key))
    }

    fn type_text(&mut self, text: &str) {
        for letter in text.chars() {
            assert_eq!(self.press(Key::Char(letter)), None, "{text}");
        }
    }

    /// A second later.
    fn later(&mut self, input: Input) -> Option<Order> {
        self.now += Duration::from_secs(1);
        self.app.step(self.now, input)
    }

    fn screen(&mut self) -> Vec<String> {
        let app = &self.app;
        self.terminal.draw(|frame| view::draw(frame, app)).expect("drawn");
        let buffer = self.terminal.backend().buffer();
        let lines = buffer.content().chunks(buffer.area.width.into());
        let text = |line: &[ratatui::buffer::Cell]| line.iter().map(ratatui::buffer::Cell::symbol).collect::<String>();
        lines.map(|line| text(line).trim_end().to_owned()).collect()
    }

    fn sees(&mut self, text: &str) -> bool {
        self.screen().iter().any(|line| line.contains(text))
    }
}

#[test]
fn picture_at_80_by_24() {
    let mut user = User::at(80, 24);
    let mut later = seen();
    later.jobs[1].rows_done = 750_000;
    user.later(Input::Seen(Box::new(later)));
    let expected = [
        "quipu top  http://127.0.0.1:7402  workers 1 up, 1 down  2/4 slots busy",
        "250.0 k rows/s  1 running  1 waiting  1 failed",
        "█",
        "█",
        "  nodes (3)",
        "NODE                  STATE    SLOTS          ROWS/S   SHARDS   ZONE     VERSION",
        "master-1              up       master                           rack-1   0.1.0",
        "worker-1              up       ███░░░ 2/4     12.50 M  42       rack-1   0.1.0",
        "worker-2              down     ░░░░░░ 0/4     12.50 M  42       rack-1   0.1.0",
        "> jobs (4)",
        "JOB     NAME           STATE     PROGRESS           ROWS/S   SHARDS      TIME",
        "4       sweep          queued    0 rows             0        7+2         12.3s",
        "3       pricing        running   █████████░░░  75%  250.0 k  7+2         12.3s",
        "2       risk           failed    ███░░░░░░░░░  25%           7+2         12.3s",
        "1       old            succeeded ████████████ 100%           7+2         12.3s",
    ];
    let screen = user.screen();
    assert_eq!(screen[..expected.len()], expected, "{}", screen.join("\n"));
    assert_eq!(screen[23], "q quit  tab pane  j/k move  enter details  c cancel  d drain  / filter  ? help");
}

#[test]
fn picture_on_a_small_screen_has_what_matters() {
    let mut user = User::at(44, 10);
    let expected = [
        "quipu top  http://127.0.0.1:7402  workers 1",
        "0 rows/s  1 running  1 waiting  1 failed",
        "> jobs (4)",
        "JOB   NAME    STATE     PROGRESS     ROWS/S",
        "4     sweep   queued    0 rows",
        "3     pricing running   ███░░░  50%",
        "2     risk    failed    █░░░░░  25%",
        "1     old     succeeded ██████ 100%",
        "",
        "q quit  tab pane  j/k move  enter details  c",
    ];
    let screen = user.screen();
    assert_eq!(screen, expected, "{}", screen.join("\n"));
    user.press(Key::Tab);
    assert!(user.sees("worker-2") && !user.sees("pricing"), "the other pane takes its place");
    for (width, height) in [(1, 1), (3, 2), (20, 4), (300, 100)] {
        User::at(width, height).screen();
    }
}

#[test]
fn what_is_chosen_stays_chosen_while_others_come_and_go() {
    let mut user = User::at(80, 24);
    user.press(Key::Down);
    assert_eq!(user.app.chosen_job().map(|job| job.id), Some(JobId(3)));
    let mut more = seen();
    more.jobs.insert(0, job(9, "new", JobState::Running, 0, None));
    user.later(Input::Seen(Box::new(more)));
    assert_eq!(user.app.chosen_job().map(|job| job.id), Some(JobId(3)));
    let mut gone = seen();
    gone.jobs.retain(|job| job.id != JobId(3));
    user.later(Input::Seen(Box::new(gone)));
    assert_eq!(user.app.chosen_job().map(|job| job.id), Some(JobId(4)), "the first one, where it has gone");
    for (key, expected) in [(Key::End, 1), (Key::Char('k'), 2), (Key::Home, 4), (Key::Up, 4), (Key::PageDown, 1)] {
        user.press(key);
        assert_eq!(user.app.chosen_job().map(|job| job.id), Some(JobId(expected)), "{key:?}");
    }
}

#[test]
fn a_job_is_cancelled_only_after_a_yes() {
    let mut user = User::at(80, 24);
    user.press(Key::Down);
    assert_eq!(user.press(Key::Char('c')), None);
    assert!(user.sees("cancel job 3? y does it"));
    assert_eq!(user.press(Key::Char('n')), None);
    assert!(!user.sees("cancel job 3?"));
    user.press(Key::Char('c'));
    assert_eq!(user.press(Key::Char('y')), Some(Order::Cancel(JobId(3))));
    user.later(Input::Notice("job 3 is asked to end".into()));
    assert!(user.sees("job 3 is asked to end"));
    for _ in 0..6 {
        user.later(Input::Seen(Box::new(seen())));
    }
    assert!(!user.sees("job 3 is asked to end"), "a notice goes by itself");
    user.press(Key::End);
    assert_eq!(user.press(Key::Char('c')), None);
    assert!(user.sees("job 1 has ended: succeeded"), "an ended job can't be cancelled");
    assert_eq!(user.press(Key::Char('d')), None);
    assert!(user.sees("choose a worker to drain"));
}

#[test]
fn a_worker_is_drained_only_after_a_yes() {
    let mut user = User::at(80, 24);
    user.press(Key::Tab);
    assert_eq!(user.app.pane, Pane::Nodes);
    user.press(Key::Char('d'));
    assert!(user.sees("master-1 is no worker that could be drained now"));
    user.press(Key::Char('j'));
    user.press(Key::Char('d'));
    assert!(user.sees("drain worker-1?"));
    let worker = NodeId::try_from("worker-1".to_owned()).expect("a node id");
    assert_eq!(user.press(Key::Char('Y')), Some(Order::Drain(worker)));
    user.press(Key::Char('c'));
    assert!(user.sees("choose a job to cancel"));
}

#[test]
fn filter_shows_what_has_all_its_words() {
    let mut user = User::at(80, 24);
    user.press(Key::Char('/'));
    user.type_text("q FAIL");
    user.press(Key::Backspace);
    assert!(user.sees("filter: q FAI_"));
    assert!(user.sees("jobs (0 of 4)"));
    user.press(Key::Esc);
    assert!(user.sees("jobs (4)"), "esc clears it");
    user.press(Key::Char('/'));
    user.type_text("FAILED risk");
    user.press(Key::Enter);
    assert_eq!(user.app.overlay, Overlay::None);
    assert!(user.sees("jobs (1 of 4)") && user.sees("only \"FAILED risk\""));
    assert_eq!(user.app.chosen_job().map(|job| job.id), Some(JobId(2)), "what is shown is chosen");
    user.press(Key::Esc);
    assert!(user.sees("jobs (4)"));
}

#[test]
fn details_show_errors_and_why_a_job_waits() {
    let mut user = User::at(80, 24);
    user.press(Key::Char('j'));
    user.press(Key::Char('j'));
    assert_eq!(user.press(Key::Enter), Some(Order::Explain(JobId(2))));
    user.later(Input::Explained(JobId(2), vec!["it has ended: failed".into()]));
    for text in ["> job 2", "10 of 40, 1 failed", "row 9: division by zero", "row 9: 1 / 0", "it has ended: failed"] {
        assert!(user.sees(text), "{text}: {}", user.screen().join("\n"));
    }
    assert_eq!(user.later(Input::Seen(Box::new(seen()))), Some(Order::Explain(JobId(2))), "while it is looked at");
    assert_eq!(user.press(Key::Up), Some(Order::Explain(JobId(3))));
    assert!(user.sees("> job 3"));
    user.press(Key::Esc);
    assert!(user.sees("jobs (4)"));
    user.press(Key::Tab);
    user.press(Key::Enter);
    assert!(user.sees("> node master-1") && user.sees("127.0.0.1:7400"));
    user.press(Key::Down);
    assert!(user.sees("> node worker-1") && user.sees("7 % waits for a processor"));
}

#[test]
fn a_master_that_is_away_shows_and_comes_back() {
    let mut user = User::at(80, 24);
    user.later(Input::Trouble("connection refused".into()));
    assert!(user.sees("reconnecting to http://127.0.0.1:7402: connection refused"));
    assert!(user.sees("pricing"), "the last picture stays");
    user.later(Input::Seen(Box::new(seen())));
    assert!(!user.sees("reconnecting"));
    for _ in 0..3 {
        user.later(Input::Tick);
    }
    assert!(user.sees("reconnecting"), "silence is no news");
}

#[test]
fn help_names_the_keys_and_quit_quits_from_everywhere() {
    let mut user = User::at(80, 24);
    user.press(Key::Char('?'));
    assert!(user.sees("drain the chosen worker"));
    assert_eq!(user.press(Key::Char('x')), None);
    assert!(!user.sees("drain the chosen worker"), "any key closes it");
    assert_eq!(user.press(Key::Char('q')), Some(Order::Quit));
    for opening in [Key::Char('/'), Key::Char('c'), Key::Char('?'), Key::Enter] {
        let mut user = User::at(80, 24);
        user.press(opening);
        assert_eq!(user.press(Key::Interrupt), Some(Order::Quit), "{opening:?}");
    }
}

#[test]
fn without_colour_there_is_none_and_the_choice_still_shows() {
    let mut user = User::at(80, 24);
    user.screen();
    let has_colour =
        |user: &User| user.terminal.backend().buffer().content().iter().any(|cell| cell.fg != Color::Reset);
    assert!(has_colour(&user));
    user.app.colour = false;
    user.screen();
    assert!(!has_colour(&user));
    let chosen = user.terminal.backend().buffer().content().iter();
    assert!(chosen.filter(|cell| cell.modifier.contains(Modifier::REVERSED)).count() >= 40);
}

#[test]
fn names_from_elsewhere_can_not_write_on_the_terminal() {
    let mut user = User::at(80, 24);
    let mut evil = seen();
    evil.jobs[0].name = Some("a\u{1b}[2Jb".into());
    user.later(Input::Seen(Box::new(evil)));
    assert!(user.screen().iter().all(|line| !line.contains('\u{1b}')));
}
