//! The hub alone, without a node server.

use crate::ids::{NodeId, Role};
use crate::link::handshake::HandshakeError;
use crate::link::hub::{Hub, PeerId};
use crate::link::port::Inbox;
use crate::link::{LinkLimits, SendError};
use crate::trust::{NodeName, node_name};
use std::sync::Arc;
use uuid::Uuid;

type TestHub = Hub<u64, u64>;

fn name() -> NodeName {
    node_name(Role::Worker, &NodeId::random(Role::Worker), Uuid::new_v4())
}

fn hub(peers_max: usize) -> Arc<TestHub> {
    TestHub::new(LinkLimits { peers_max, ..LinkLimits::default() }).0
}

// Requirement 4: what a closed session had under way is dropped, so the layer above acknowledges and sends again.
#[test]
fn frames_without_an_authenticated_session_are_stale() {
    let hub = hub(8);
    hub.frame([1; 16], vec![5]);
    let admission = hub.admit(&name(), [1; 16]).ok().unwrap();
    hub.frame([1; 16], vec![5]);
    drop(admission);
    hub.frame([1; 16], vec![5]);
    let stats = hub.stats();
    assert_eq!((stats.frames_stale, stats.frames_received, stats.peers), (3, 0, 0));
}

#[test]
fn name_is_admitted_once_at_a_time() {
    let hub = hub(8);
    let name = name();
    let first = hub.admit(&name, [1; 16]).ok().unwrap();
    assert!(matches!(hub.admit(&name, [2; 16]), Err(HandshakeError::Duplicate(taken)) if taken == name));
    assert_eq!(hub.send(first.peer, 1), Err(SendError::NotConnected(first.peer)), "admitted is not connected");
    let peer = first.peer;
    drop(first);
    let second = hub.admit(&name, [2; 16]).ok().unwrap();
    assert!(second.peer > peer, "numbers are not used twice");
}

#[test]
fn peers_are_capped() {
    let hub = hub(2);
    let one = hub.admit(&name(), [1; 16]).ok().unwrap();
    let _two = hub.admit(&name(), [2; 16]).ok().unwrap();
    assert!(matches!(hub.admit(&name(), [3; 16]), Err(HandshakeError::Full(2))));
    drop(one);
    assert!(hub.admit(&name(), [3; 16]).is_ok());
    hub.stop();
    assert!(matches!(hub.admit(&name(), [4; 16]), Err(HandshakeError::Full(_))), "a stopped link admits nobody");
}

#[tokio::test]
async fn waiting_for_the_end_of_a_session_does_not_miss_it() {
    let hub = hub(8);
    let name = name();
    let admission = hub.admit(&name, [1; 16]).ok().unwrap();
    let waiting = tokio::spawn({
        let (hub, name, peer) = (hub.clone(), name.clone(), admission.peer);
        async move {
            hub.gone(&name).await;
            hub.ended(peer).await
        }
    });
    tokio::task::yield_now().await;
    assert!(!waiting.is_finished());
    drop(admission);
    assert!(!super::support::within("the end", waiting).await.unwrap(), "it never was connected");
    assert!(!hub.ended(PeerId(99)).await);
}
