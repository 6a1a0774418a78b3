//! Nodes on processes of `sh`: what is done about deaths, and how processes are ended.

use super::*;
use crate::up::logs::{Form, SharedStderr};
use std::path::Path;

/// Ten times what any of this takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);
/// `sh` that says that it is ready.
const READY: &str = r#"echo '{"event":"ready","role":"worker","node_id":"w","gossip":"127.0.0.1:1","pid":'$$'}';"#;

struct Tended {
    orders: watch::Sender<Order>,
    events: mpsc::Receiver<Event>,
    task: JoinHandle<()>,
    log: Arc<NodeLog>,
}

fn tend(script: &str, over_ssh: bool, policy: RestartPolicy, stop_patience: Duration) -> Tended {
    let log = Arc::new(NodeLog::to_stderr("w", SharedStderr::new(), Form::Text { width: 1 }));
    let invocation = Invocation { program: "sh".into(), args: vec!["-c".into(), script.into()] };
    let node = Node {
        number: 3,
        name: "w".into(),
        launch: Launch::Worker { invocation, over_ssh },
        log: Arc::clone(&log),
        secret: Arc::new(Zeroizing::new("one\ntwo\n".to_owned())),
        policy,
        stop_patience,
        ever_ready: false,
    };
    let (orders, receiver) = watch::channel(Order::Run);
    let (sender, events) = mpsc::channel(16);
    Tended { orders, events, task: tokio::spawn(node.tend(receiver, sender)), log }
}

fn quick(restarts_max: u32) -> RestartPolicy {
    let delay = Duration::from_millis(1);
    RestartPolicy { delay_min: delay, delay_max: delay, restarts_max, ..RestartPolicy::default() }
}

impl Tended {
    async fn event(&mut self) -> Event {
        timeout(PATIENCE, self.events.recv()).await.expect("an event in time").expect("a node")
    }

    async fn pid(&mut self) -> u32 {
        match self.event().await {
            Event::Ready { node: 3, ready } => ready.pid,
            other => panic!("{other:?}"),
        }
    }

    async fn ended(self) {
        timeout(PATIENCE, self.task).await.expect("an end in time").expect("no panic");
    }
}

fn lives(pid: u32) -> bool {
    Path::new(&format!("/proc/{pid}")).exists()
}

fn kill_9(pid: u32) {
    kill(Pid::from_raw(i32::try_from(pid).unwrap()), Signal::SIGKILL).unwrap();
}

#[tokio::test]
async fn killed_process_is_started_again_until_it_is_too_often() {
    let mut node = tend(&format!("{READY} exec cat >&2"), false, quick(2), PATIENCE);
    let mut pids = Vec::new();
    for _ in 0..2 {
        pids.push(node.pid().await);
        kill_9(pids[pids.len() - 1]);
        assert!(matches!(node.event().await, Event::Died { node: 3, how } if how == "signal 9 (SIGKILL)"));
    }
    pids.push(node.pid().await);
    kill_9(pids[2]);
    let Event::GaveUp { node: 3, why } = node.event().await else { panic!("not given up") };
    assert_eq!(why, "died again after 2 restarts within 60s, this time with signal 9 (SIGKILL)");
    pids.dedup();
    assert_eq!(pids.len(), 3, "each start is a process of its own");
    node.ended().await;
}

#[tokio::test]
async fn secret_comes_through_standard_input_up_to_a_blank_line() {
    let script = "while read line; do echo \"got [$line]\" >&2; test -n \"$line\" || exit 70; done";
    let mut node = tend(script, false, quick(0), PATIENCE);
    assert!(matches!(node.event().await, Event::GaveUp { why, .. } if why.contains("exit code 70")));
    assert_eq!(node.log.tail(), ["got [one]", "got [two]", "got []"]);
    node.ended().await;
}

#[tokio::test]
async fn last_words_are_heard_and_hopeless_starts_not_repeated() {
    let mut node = tend("echo no such option >&2; exit 2", false, quick(10), PATIENCE);
    assert!(matches!(node.event().await, Event::GaveUp { why, .. } if why.starts_with("ended with exit code 2")));
    assert_eq!(node.log.tail(), ["no such option"]);
    node.ended().await;
}

#[tokio::test]
async fn missing_program_is_a_death_like_any_other() {
    let log = Arc::new(NodeLog::to_stderr("w", SharedStderr::new(), Form::Text { width: 1 }));
    let invocation = Invocation { program: "/nowhere/ssh".into(), args: Vec::new() };
    let launch = Launch::Worker { invocation, over_ssh: true };
    let secret = Arc::new(Zeroizing::new(String::new()));
    let (policy, stop_patience) = (quick(0), PATIENCE);
    let node = Node { number: 0, name: "w".into(), launch, log, secret, policy, stop_patience, ever_ready: false };
    let (_orders, receiver) = watch::channel(Order::Run);
    let (sender, mut events) = mpsc::channel(16);
    node.tend(receiver, sender).await;
    let Some(Event::GaveUp { why, .. }) = events.recv().await else { panic!("not given up") };
    assert!(why.contains("not started: /nowhere/ssh: No such file"), "{why}");
}

#[tokio::test]
async fn drained_worker_is_left_alone() {
    let mut node = tend(&format!("{READY} exit 0"), false, quick(10), PATIENCE);
    node.pid().await;
    assert!(matches!(node.event().await, Event::Left { node: 3 }));
    node.ended().await;
}

#[tokio::test]
async fn greetings_before_the_ready_line_go_to_the_log() {
    let mut node = tend(&format!("echo welcome; {READY} exec cat >&2"), false, quick(0), PATIENCE);
    let pid = node.pid().await;
    assert!(node.log.tail().contains(&"welcome".to_owned()));
    node.orders.send_replace(Order::Kill);
    node.ended().await;
    assert!(!lives(pid));
}

#[tokio::test]
async fn order_to_drain_is_a_signal_and_the_end_is_waited_for() {
    let script = format!("trap 'echo draining >&2; exit 0' TERM; {READY} while :; do read line || exit 9; done");
    let mut node = tend(&script, false, quick(0), PATIENCE);
    let pid = node.pid().await;
    node.orders.send_replace(Order::Drain);
    let log = Arc::clone(&node.log);
    node.ended().await;
    assert!(!lives(pid));
    assert_eq!(log.tail(), ["draining"]);
}

#[tokio::test]
async fn order_to_drain_over_ssh_is_the_end_of_the_lifeline() {
    let script = format!("trap 'echo signal >&2' TERM; {READY} cat >&2; echo drained >&2");
    let mut node = tend(&script, true, quick(0), PATIENCE);
    node.pid().await;
    node.orders.send_replace(Order::Drain);
    let log = Arc::clone(&node.log);
    node.ended().await;
    assert_eq!(log.tail(), ["one", "two", "", "drained"]);
}

#[tokio::test]
async fn process_that_does_not_leave_is_killed_in_the_end() {
    let script = format!("trap '' TERM; {READY} while :; do sleep 0.01; done");
    let mut node = tend(&script, false, quick(0), Duration::from_millis(50));
    let pid = node.pid().await;
    node.orders.send_replace(Order::Drain);
    node.ended().await;
    assert!(!lives(pid));
}

#[tokio::test]
async fn order_to_kill_does_not_wait_for_a_draining_process() {
    let script = format!("trap '' TERM; {READY} while :; do sleep 0.01; done");
    let mut node = tend(&script, false, quick(0), Duration::from_secs(3600));
    let pid = node.pid().await;
    node.orders.send_replace(Order::Drain);
    node.orders.send_replace(Order::Kill);
    node.ended().await;
    assert!(!lives(pid));
}

#[tokio::test]
async fn node_without_a_fleet_ends() {
    let mut node = tend(&format!("{READY} exec cat >&2"), false, quick(10), PATIENCE);
    let pid = node.pid().await;
    let Tended { orders, task, .. } = node;
    drop(orders);
    timeout(PATIENCE, task).await.expect("an end in time").expect("no panic");
    assert!(!lives(pid));
}
