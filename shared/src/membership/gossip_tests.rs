use super::*;
use crate::ids::{Generation, NodeId, Role};
use crate::membership::seal::OVERHEAD_BYTES;
use std::net::Ipv4Addr;
use uuid::Uuid;

const KEY: [u8; 32] = [7; 32];
const DEADLINE: Duration = Duration::from_secs(30);

fn config(name: &str, seeds: &[SocketAddr]) -> GossipConfig {
    GossipConfig {
        bind: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
        advertise: None,
        seeds: seeds.iter().map(ToString::to_string).collect(),
        keys: vec![KEY],
        identity: Identity {
            node_id: NodeId::try_from(name.to_owned()).unwrap(),
            generation: Generation(1),
            role: Role::Worker,
            rpc: None,
            http: None,
            slots: 2,
            zone: String::new(),
            version: "0.1.0".into(),
            boot_id: Uuid::new_v4(),
        },
        period_ms: 100,
        suspicion_ms: 300,
    }
}

async fn start(name: &str, seeds: &[SocketAddr]) -> GossipHandle {
    Gossip::start(config(name, seeds)).await.unwrap()
}

async fn next(events: &mut MemberEvents) -> MemberEvent {
    tokio::time::timeout(DEADLINE, events.recv()).await.unwrap().unwrap()
}

fn up_name(event: MemberEvent) -> String {
    match event {
        MemberEvent::Up(member) => member.id().to_string(),
        other => panic!("expected an up, got {other:?}"),
    }
}

fn names(handle: &GossipHandle) -> Vec<String> {
    handle.members().iter().map(|member| member.id().to_string()).collect()
}

#[tokio::test]
async fn three_nodes_join_through_a_worker_and_leave() {
    let a = start("a", &[]).await;
    let b = start("b", &[a.local_addr()]).await;
    let mut events = a.events();
    assert_eq!(up_name(next(&mut events).await), "b");
    let c = start("c", &[b.local_addr()]).await;
    assert_eq!(up_name(next(&mut events).await), "c");
    assert_eq!(names(&a), ["b", "c"]);
    let late: Vec<String> = {
        let mut events = a.events();
        vec![up_name(next(&mut events).await), up_name(next(&mut events).await)]
    };
    assert_eq!(late, ["b", "c"], "a late subscriber first hears who is there");

    let member = c.me();
    c.leave().await;
    assert_eq!(next(&mut events).await, MemberEvent::Down(member, DownReason::Left));
    b.leave().await;
    a.leave().await;
    let ended = async { while events.recv().await.is_some() {} };
    tokio::time::timeout(DEADLINE, ended).await.unwrap();
    assert_eq!(a.events().recv().await, None, "a stream that is asked for after the end ends too");
}

#[tokio::test]
async fn dropped_handle_ends_without_goodbye_and_is_found_dead() {
    let a = start("a", &[]).await;
    let b = start("b", &[a.local_addr()]).await;
    let mut events = a.events();
    assert_eq!(up_name(next(&mut events).await), "b");
    let member = b.me();
    drop(b);
    assert_eq!(next(&mut events).await, MemberEvent::Down(member, DownReason::Failed));
}

#[tokio::test]
async fn quick_restart_is_seen_as_a_new_generation() {
    let a = start("a", &[]).await;
    let b = start("b", &[a.local_addr()]).await;
    let mut events = a.events();
    assert_eq!(up_name(next(&mut events).await), "b");
    let (previous, address) = (b.me(), b.local_addr());
    drop(b);
    let mut again = config("b", &[a.local_addr()]);
    again.bind = address;
    again.identity.generation = Generation(2);
    let bound = async {
        loop {
            // The old task gives its port back a moment after its handle was dropped.
            match Gossip::start(again.clone()).await {
                Ok(handle) => break handle,
                Err(GossipError::Bind { .. }) => tokio::task::yield_now().await,
                Err(error) => panic!("{error}"),
            }
        }
    };
    let b = tokio::time::timeout(DEADLINE, bound).await.unwrap();
    assert_eq!(next(&mut events).await, MemberEvent::NewGeneration { member: b.me(), previous });
}

#[tokio::test]
async fn forged_and_replayed_datagrams_are_counted_and_change_nothing() {
    // a is reached through a relay, which sees what b says to it, and repeats it later.
    let relay = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let relay_address = relay.local_addr().unwrap();
    let mut behind_relay = config("a", &[]);
    behind_relay.advertise = Some(relay_address);
    let a = Gossip::start(behind_relay).await.unwrap();
    let mut events = a.events();
    let b = start("b", &[relay_address]).await;
    let (from_a, from_b) = (a.local_addr(), b.local_addr());
    let mut seen = Vec::new();
    let mut buffer = [0; 2048];
    let joined = async {
        while names(&a).is_empty() || names(&b).is_empty() {
            let (len, from) = relay.recv_from(&mut buffer).await.unwrap();
            let to = if from == from_b { from_a } else { from_b };
            relay.send_to(&buffer[..len], to).await.unwrap();
            seen.push((to, buffer[..len].to_vec()));
        }
    };
    tokio::time::timeout(DEADLINE, joined).await.unwrap();
    assert_eq!(up_name(next(&mut events).await), "b");

    let attack = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let forged = vec![0x51; OVERHEAD_BYTES + 10];
    for (_, datagram) in seen.iter().filter(|(to, _)| *to == from_a) {
        attack.send_to(datagram, from_a).await.unwrap();
        let mut damaged = datagram.clone();
        let last = damaged.len() - 1;
        damaged[last] ^= 1;
        attack.send_to(&damaged, from_a).await.unwrap();
    }
    attack.send_to(&forged, from_a).await.unwrap();
    attack.send_to(&[], from_a).await.unwrap();
    attack.send_to(&[0; 9_000], from_a).await.unwrap();
    let counted = async {
        loop {
            let seal = a.stats().driver.seal;
            if seal.replayed > 0 && seal.forged > 0 && seal.bad_format >= 3 {
                break;
            }
            let (len, from) = relay.recv_from(&mut buffer).await.unwrap();
            relay.send_to(&buffer[..len], if from == from_b { from_a } else { from_b }).await.unwrap();
        }
    };
    tokio::time::timeout(DEADLINE, counted).await.unwrap();
    assert_eq!(names(&a), ["b"]);
    assert!(events.try_recv().is_err(), "bad datagrams changed the membership");
}

#[tokio::test]
async fn nodes_of_another_key_never_meet() {
    let a = start("a", &[]).await;
    let mut stranger = config("b", &[a.local_addr()]);
    stranger.keys = vec![[8; 32]];
    let b = Gossip::start(stranger).await.unwrap();
    let refused = async {
        while a.stats().driver.seal.unknown_key + a.stats().driver.seal.forged == 0 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(DEADLINE, refused).await.unwrap();
    assert!(a.members().is_empty() && b.members().is_empty());
}

#[tokio::test]
async fn all_addresses_need_an_advertised_one() {
    let mut everywhere = config("a", &[]);
    everywhere.bind = SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0));
    let error = Gossip::start(everywhere.clone()).await.err().unwrap();
    assert!(error.to_string().contains("gossip.advertise"), "{error}");

    everywhere.advertise = Some(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)));
    everywhere.identity.rpc = Some(SocketAddr::from((Ipv4Addr::UNSPECIFIED, 7401)));
    let handle = Gossip::start(everywhere).await.unwrap();
    let me = handle.me();
    assert_eq!(me.gossip, SocketAddr::from((Ipv4Addr::LOCALHOST, handle.local_addr().port())));
    assert_eq!(me.identity.rpc, Some(SocketAddr::from((Ipv4Addr::LOCALHOST, 7401))));
}

#[tokio::test]
async fn bad_configuration_is_refused_by_name() {
    for bad in ["worker-1", ":7400", "worker-1:", "worker-1:0", "worker-1:99999"] {
        let mut config = config("a", &[]);
        config.seeds = vec![bad.into()];
        let error = Gossip::start(config).await.err().unwrap().to_string();
        assert!(error.contains(bad), "{error}");
    }
    let mut keyless = config("a", &[]);
    keyless.keys.clear();
    assert!(matches!(Gossip::start(keyless).await, Err(GossipError::NoKey)));
    let mut long = config("a", &[]);
    long.identity.zone = "z".repeat(LABEL_BYTES_MAX + 1);
    assert!(matches!(Gossip::start(long).await, Err(GossipError::LabelTooLong { field: "zone", .. })));
    let mut hasty = config("a", &[]);
    hasty.period_ms = 400;
    assert!(matches!(Gossip::start(hasty).await, Err(GossipError::BadTiming { .. })));
    let taken = start("a", &[]).await;
    let mut same = config("b", &[]);
    same.bind = taken.local_addr();
    assert!(matches!(Gossip::start(same).await, Err(GossipError::Bind { .. })));
}

#[tokio::test]
async fn seed_that_does_not_resolve_does_not_stop_the_others() {
    let a = start("a", &[]).await;
    let mut named = config("b", &[a.local_addr()]);
    named.seeds.insert(0, "no-such-host.invalid:7400".into());
    let b = Gossip::start(named).await.unwrap();
    assert_eq!(up_name(next(&mut b.events()).await), "a");
}
