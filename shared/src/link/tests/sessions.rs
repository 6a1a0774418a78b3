use super::support::{Cluster, WorkerProcess, bulk, lease, ping, ran_as_worker, trust_of, until, within};
use crate::ids::{NodeId, Role};
use crate::link::{LinkConfig, LinkError, LinkEvent, LinkLimits, MasterLink, SendError};
use crate::trust::{ClusterSecret, node_name};
use crate::wire::{WorkerCommand, WorkerEvent};
use nix::sys::signal::Signal;
use ractor::message::SerializedMessage;
use std::time::{Duration, Instant};
use uuid::Uuid;

// The first line makes this test the main function of worker processes.
#[test]
fn limits_that_make_no_sense_are_refused() {
    if ran_as_worker() {
        return;
    }
    assert!(LinkLimits::default().check().is_ok());
    let bad = [
        LinkLimits { message_bytes_max: 16 << 20, ..LinkLimits::default() },
        LinkLimits { outbound_bytes_max: 1 << 20, ..LinkLimits::default() },
        LinkLimits { handshakes_max: 0, ..LinkLimits::default() },
        LinkLimits { redial_pause_min: Duration::from_secs(60), ..LinkLimits::default() },
    ];
    for limits in bad {
        assert!(matches!(limits.check(), Err(LinkError::Limit { .. })), "{limits:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn frames_arrive_in_order_after_the_connect_of_a_certified_name() {
    let cluster = Cluster::start(LinkLimits::default()).await;
    let boot = Uuid::new_v4();
    let _worker = WorkerProcess::start(&cluster, "worker-a", boot);
    let (peer, name) = cluster.connected().await;
    assert_eq!(name.as_str(), format!("worker-a-{boot}"));
    for attempt in 0..10_000 {
        cluster.master.send(peer, ping(attempt)).unwrap();
    }
    for attempt in 0..10_000 {
        cluster.accepted(peer, attempt).await;
    }
    assert!(within("flush", cluster.master.flush(peer)).await);
    let stats = cluster.master.stats();
    assert_eq!((stats.peers, stats.frames_received, stats.outbound_bytes), (1, 10_000, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_worker_is_seen_at_once() {
    let cluster = Cluster::start(LinkLimits::default()).await;
    let worker = WorkerProcess::start(&cluster, "worker-a", Uuid::new_v4());
    let (peer, _) = cluster.connected().await;
    cluster.round_trip(peer, 1).await;
    let start = Instant::now();
    worker.signal(Signal::SIGKILL);
    cluster.disconnected(peer).await;
    assert!(start.elapsed() < Duration::from_secs(3), "{:?}", start.elapsed());
    assert_eq!(cluster.master.send(peer, ping(2)), Err(SendError::NotConnected(peer)));
    assert!(!within("flush", cluster.master.flush(peer)).await);
}

// Requirement 2, read-idle; requirements 5 and 6: redialed, and the new port is found.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn silent_worker_is_closed_and_comes_back() {
    // Above the longest pause between two pings, which is 5 s.
    let limits = LinkLimits { idle_timeout: Duration::from_millis(5500), ..LinkLimits::default() };
    let cluster = Cluster::start(limits).await;
    let worker = WorkerProcess::start(&cluster, "worker-a", Uuid::new_v4());
    let (old, name) = cluster.connected().await;
    cluster.round_trip(old, 1).await;
    worker.signal(Signal::SIGSTOP);
    cluster.disconnected(old).await;
    worker.signal(Signal::SIGCONT);
    let (new, again) = cluster.connected().await;
    assert!(new > old);
    assert_eq!(again, name);
    cluster.round_trip(new, 2).await;
    assert_eq!(cluster.master.send(old, ping(3)), Err(SendError::NotConnected(old)));
}

// Requirement 2, write stall; requirement 3: what waits for a peer is bounded.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stalled_worker_fills_a_bounded_queue_and_is_closed() {
    let limits = LinkLimits {
        write_stall_timeout: Duration::from_millis(500),
        outbound_bytes_max: 20 << 20,
        ..LinkLimits::default()
    };
    let cluster = Cluster::start(limits).await;
    let worker = WorkerProcess::start(&cluster, "worker-a", Uuid::new_v4());
    let (peer, _) = cluster.connected().await;
    worker.signal(Signal::SIGSTOP);
    let mut sent = 0;
    let refused = loop {
        match cluster.master.send(peer, bulk(1 << 20)) {
            Ok(()) => sent += 1,
            Err(error) => break error,
        }
        assert!(sent < 100, "the queue has no bound");
    };
    assert!(matches!(refused, SendError::QueueFull { queued_bytes, .. } if queued_bytes <= 20 << 20), "{refused}");
    cluster.disconnected(peer).await;
    worker.signal(Signal::SIGCONT);
    let (peer, _) = cluster.connected().await;
    cluster.round_trip(peer, 1).await;
}

// Requirements 3 and 7: an owner that is busy for long neither loses its link nor gathers messages without bound.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn owner_that_does_not_receive_is_not_flooded() {
    let limits = LinkLimits {
        message_bytes_max: 1 << 20,
        inbound_bytes_max: 2 << 20,
        idle_timeout: Duration::from_secs(6),
        ..LinkLimits::default()
    };
    let cluster = Cluster::start(limits).await;
    let _worker = WorkerProcess::start(&cluster, "worker-a", Uuid::new_v4());
    let (peer, _) = cluster.connected().await;
    // 60 MiB are asked for at once, which is more than sockets buffer.
    for _ in 0..240 {
        cluster.master.send(peer, WorkerCommand::FetchOutput { lease: lease(0), offset: 256 << 10 }).unwrap();
    }
    until("the budget to be full", || cluster.master.stats().frames_received >= 8).await;
    // Were the socket read on, all of it would be here in this time.
    let flood = until("more than the budget", || cluster.master.stats().frames_received > 40);
    assert!(tokio::time::timeout(Duration::from_secs(2), flood).await.is_err(), "messages gather without bound");
    for taken in 0..240_u64 {
        let stats = cluster.master.stats();
        // Those within the budget, and those that were read with the last one and had no chance to be stopped.
        assert!(stats.frames_received <= taken + 32, "{} came while {taken} were taken", stats.frames_received);
        match cluster.event().await {
            LinkEvent::Frame { message: WorkerEvent::OutputDelivered { bytes, .. }, .. } => {
                assert_eq!(bytes.len(), 256 << 10);
            }
            other => panic!("{other:?}"),
        }
    }
    cluster.round_trip(peer, 1).await;
}

// Requirement 5: a link that either end closes is dialed again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn link_closed_by_either_end_comes_back() {
    let cluster = Cluster::start(LinkLimits::default()).await;
    let _worker = WorkerProcess::start(&cluster, "worker-a", Uuid::new_v4());
    let (first, _) = cluster.connected().await;
    cluster.round_trip(first, 1).await;
    cluster.master.close(first);
    cluster.disconnected(first).await;
    let (second, _) = cluster.connected().await;
    cluster.round_trip(second, 2).await;
    cluster.master.send(second, WorkerCommand::CancelAttempt { lease: lease(0) }).unwrap();
    cluster.disconnected(second).await;
    let (third, _) = cluster.connected().await;
    cluster.round_trip(third, 3).await;
}

// Requirement 5: the old process is half open here (stopped), and the new one does not wait for that to be noticed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn restart_under_the_same_id_works_while_the_old_session_is_half_open() {
    let cluster = Cluster::start(LinkLimits::default()).await;
    let old_process = WorkerProcess::start(&cluster, "worker-a", Uuid::new_v4());
    let (old, old_name) = cluster.connected().await;
    old_process.signal(Signal::SIGSTOP);
    let start = Instant::now();
    let _new_process = WorkerProcess::start(&cluster, "worker-a", Uuid::new_v4());
    let (new, new_name) = cluster.connected().await;
    assert!(start.elapsed() < LinkLimits::default().idle_timeout, "{:?}", start.elapsed());
    assert_eq!(old_name.without_boot(), new_name.without_boot());
    assert_ne!(old_name, new_name);
    cluster.round_trip(new, 1).await;
    drop(old_process);
    cluster.disconnected(old).await;
    cluster.round_trip(new, 2).await;
}

// Requirement 5: one session a master, under however many addresses it is known.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn master_with_two_addresses_is_linked_once() {
    let cluster = Cluster::start_at("0.0.0.0:0", LinkLimits::default()).await;
    let port = cluster.address().port();
    let addresses = [([127, 0, 0, 1], port).into(), ([127, 0, 0, 2], port).into()];
    let _worker = WorkerProcess::start_with(&cluster, "worker-a", Uuid::new_v4(), &addresses);
    let (first, name) = cluster.connected().await;
    until("the second dial to be given up", || cluster.master.stats().handshakes_failed == 1).await;
    cluster.round_trip(first, 1).await;
    assert_eq!(cluster.master.stats().peers, 1);
    cluster.master.close(first);
    cluster.disconnected(first).await;
    let (second, again) = cluster.connected().await;
    assert_eq!(again, name);
    cluster.round_trip(second, 2).await;
}

// Requirement 3: a message too large is the sender's error and harms nothing else.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn oversized_message_is_refused_before_it_is_sent() {
    let limits = LinkLimits { message_bytes_max: 1 << 20, ..LinkLimits::default() };
    let cluster = Cluster::start(limits).await;
    let _worker = WorkerProcess::start(&cluster, "worker-a", Uuid::new_v4());
    let (peer, _) = cluster.connected().await;
    let refused = cluster.master.send(peer, bulk(1 << 20)).unwrap_err();
    assert!(matches!(refused, SendError::TooLarge { bytes, max } if bytes > max && max == 1 << 20), "{refused}");
    cluster.master.send(peer, bulk((1 << 20) - 100)).unwrap();
    cluster.round_trip(peer, 1).await;
}

// Requirement 6: whatever is remotable can be called by every peer. Requirement 8: garbage is a value.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_the_port_is_remotable_and_it_survives_garbage() {
    let cluster = Cluster::start(LinkLimits::default()).await;
    let _worker = WorkerProcess::start(&cluster, "worker-a", Uuid::new_v4());
    let (peer, _) = cluster.connected().await;
    let remotable: Vec<_> = ractor::registry::pid_registry::get_all_pids()
        .into_iter()
        .filter(|cell| cell.get_id().is_local() && cell.supports_remoting())
        .collect();
    assert_eq!(remotable.len(), 1, "{remotable:?}");
    let cast = |variant: &str, metadata: Option<Vec<u8>>| SerializedMessage::Cast {
        variant: variant.to_owned(),
        args: vec![0xff; 100],
        metadata,
    };
    let (reply, _) = ractor::concurrency::oneshot();
    let garbage = [
        cast("frame", None),
        cast("frame", Some(vec![1, 2, 3])),
        cast("other", Some(vec![0; 16])),
        SerializedMessage::Call { variant: "frame".to_owned(), args: vec![], reply: reply.into(), metadata: None },
        SerializedMessage::CallReply(7, vec![]),
        // Well formed, of no session.
        cast("frame", Some(vec![0; 16])),
    ];
    for message in garbage {
        remotable[0].send_serialized(message).unwrap();
    }
    until("the count", || cluster.master.stats().frames_stale == 1).await;
    assert_eq!(cluster.master.stats().frames_undecodable, 5);
    cluster.round_trip(peer, 1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn process_has_one_link_and_can_start_another_after_it() {
    let cluster = Cluster::start(LinkLimits::default()).await;
    let _worker = WorkerProcess::start(&cluster, "worker-a", Uuid::new_v4());
    let (peer, _) = cluster.connected().await;
    let config = LinkConfig::new(trust_of(&cluster.secret, cluster.name.clone()));
    let second = MasterLink::start("127.0.0.1:0".parse().unwrap(), config.clone()).await;
    assert!(matches!(second, Err(LinkError::AlreadyRunning)));
    cluster.round_trip(peer, 1).await;

    within("the stop", cluster.master.stop()).await;
    assert!(matches!(cluster.master.recv().await, Some(LinkEvent::Disconnected { peer: last }) if last == peer));
    assert!(cluster.master.recv().await.is_none());
    // At the same address, where the worker finds it again.
    let second = MasterLink::start(cluster.address(), config).await.unwrap();
    let event = within("the worker", second.recv()).await;
    assert!(matches!(event, Some(LinkEvent::Connected { .. })), "{event:?}");
    second.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn taken_address_is_an_error_that_names_it() {
    let cluster = Cluster::start(LinkLimits::default()).await;
    let name = node_name(Role::Master, &NodeId::random(Role::Master), Uuid::new_v4());
    let config = LinkConfig::new(trust_of(&ClusterSecret::generate().unwrap(), name));
    let taken = MasterLink::start(cluster.address(), config).await.err().unwrap();
    assert!(taken.to_string().contains(&cluster.address().to_string()), "{taken}");
}
