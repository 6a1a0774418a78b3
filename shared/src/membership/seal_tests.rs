use super::*;

const KEY: [u8; 32] = [7; 32];
const OTHER_KEY: [u8; 32] = [8; 32];
const UNIX_MS: u64 = 1_800_000_000_000;

fn at(ms: u64) -> Now {
    Now { mono: Duration::from_millis(ms), unix_ms: UNIX_MS + ms }
}

fn sealer(session: u8) -> Sealer {
    Sealer::new(&[KEY], [session; 16])
}

fn open(sealer: &mut Sealer, now: Now, datagram: &[u8]) -> Result<Option<Vec<u8>>, Refused> {
    sealer.open(now, &mut datagram.to_vec())
}

fn one(sealer: &mut Sealer, now: Now, message: &[u8]) -> Vec<u8> {
    let mut datagrams = sealer.seal(now, message);
    assert_eq!(datagrams.len(), 1);
    datagrams.remove(0)
}

#[test]
fn sealed_message_opens_once() {
    let (mut a, mut b) = (sealer(1), sealer(2));
    let datagram = one(&mut a, at(0), b"hello");
    assert_eq!(datagram.len(), 5 + OVERHEAD_BYTES);
    assert_eq!(open(&mut b, at(1), &datagram), Ok(Some(b"hello".to_vec())));
    assert_eq!(open(&mut b, at(2), &datagram), Err(Refused::Replayed));
    assert_eq!((b.stats().opened, b.stats().replayed), (1, 1));
}

#[test]
fn plaintext_does_not_show() {
    let datagram = one(&mut sealer(1), at(0), b"worker-secret-name");
    assert!(!datagram.windows(6).any(|part| part == b"secret"));
}

#[test]
fn own_datagrams_are_dropped() {
    let mut a = sealer(1);
    let datagram = one(&mut a, at(0), b"hello");
    assert_eq!(open(&mut a, at(0), &datagram), Err(Refused::Own));
}

#[test]
fn every_damaged_byte_is_noticed() {
    let (mut a, mut b) = (sealer(1), sealer(2));
    let datagram = one(&mut a, at(0), b"payload");
    for byte in 0..datagram.len() {
        for bit in 0..8 {
            let mut damaged = datagram.clone();
            damaged[byte] ^= 1 << bit;
            assert!(open(&mut b, at(0), &damaged).is_err(), "byte {byte}, bit {bit}");
        }
    }
    for len in 0..datagram.len() {
        assert!(open(&mut b, at(0), &datagram[..len]).is_err(), "cut to {len}");
    }
    assert_eq!(b.stats().opened, 0);
    assert!(open(&mut b, at(0), &datagram).is_ok(), "damaged copies must not use up the counter");
}

#[test]
fn wrong_key_is_refused() {
    let mut stranger = Sealer::new(&[OTHER_KEY], [1; 16]);
    let datagram = one(&mut stranger, at(0), b"hello");
    let mut b = sealer(2);
    assert_eq!(open(&mut b, at(0), &datagram), Err(Refused::UnknownKey));
    let mut keyless = Sealer::new(&[], [3; 16]);
    assert_eq!(open(&mut keyless, at(0), &datagram), Err(Refused::UnknownKey));
    assert_eq!(keyless.seal(at(0), b"hello"), Vec::<Vec<u8>>::new());
}

#[test]
fn rotation_opens_all_keys_and_seals_with_the_first() {
    let mut old = Sealer::new(&[KEY], [1; 16]);
    let mut both = Sealer::new(&[OTHER_KEY, KEY], [2; 16]);
    let mut new = Sealer::new(&[OTHER_KEY], [3; 16]);
    let from_old = one(&mut old, at(0), b"old");
    let from_both = one(&mut both, at(0), b"both");
    assert_eq!(open(&mut both, at(0), &from_old), Ok(Some(b"old".to_vec())));
    assert_eq!(open(&mut new, at(0), &from_both), Ok(Some(b"both".to_vec())));
    assert_eq!(open(&mut old, at(0), &from_both), Err(Refused::UnknownKey));
}

#[test]
fn clock_off_by_more_than_a_minute_is_stale_in_both_directions() {
    let mut b = sealer(2);
    for (sent, heard, skew_ms) in [(0, 60_001, -60_001), (120_001, 60_000, 60_001)] {
        let mut a = Sealer::new(&[KEY], [sent as u8; 16]);
        let datagram = one(&mut a, at(sent), b"who");
        assert_eq!(open(&mut b, at(heard), &datagram), Err(Refused::Stale { skew_ms, bytes: b"who".to_vec() }));
    }
    let datagram = one(&mut sealer(3), at(0), b"just in time");
    assert!(open(&mut b, at(60_000), &datagram).is_ok());
    assert_eq!(b.stats().stale, 2);
}

#[test]
fn old_datagram_of_a_known_session_is_a_replay_not_a_clock() {
    let (mut a, mut b) = (sealer(1), sealer(2));
    let datagram = one(&mut a, at(0), b"hello");
    assert!(open(&mut b, at(0), &datagram).is_ok());
    assert_eq!(open(&mut b, at(100_000), &datagram), Err(Refused::Replayed));
}

#[test]
fn stale_datagrams_open_no_session() {
    let mut b = sealer(2);
    for session in 10..20 {
        let datagram = one(&mut sealer(session), at(0), b"old");
        assert!(open(&mut b, at(200_000), &datagram).is_err());
    }
    assert!(b.sessions.is_empty());
}

#[test]
fn fragments_come_in_any_order() {
    let (mut a, mut b) = (sealer(1), sealer(2));
    let message: Vec<u8> = (0..MESSAGE_BYTES_MAX).map(|i| (i * 7) as u8).collect();
    let mut datagrams = a.seal(at(0), &message);
    assert_eq!(datagrams.len(), FRAGMENTS_MAX);
    assert!(datagrams.iter().all(|datagram| datagram.len() <= DATAGRAM_BYTES_MAX));
    datagrams.reverse();
    datagrams.swap(1, 5);
    let last = datagrams.pop().unwrap();
    for datagram in &datagrams {
        assert_eq!(open(&mut b, at(1), datagram), Ok(None));
    }
    assert_eq!(open(&mut b, at(1), &last), Ok(Some(message)));
    assert!(b.partials.is_empty() && b.partial_order.is_empty());
}

#[test]
fn message_over_the_limit_is_not_sealed() {
    let mut a = sealer(1);
    assert_eq!(a.seal(at(0), &vec![0; MESSAGE_BYTES_MAX + 1]), Vec::<Vec<u8>>::new());
    assert_eq!(a.stats().full, 1);
}

#[test]
fn lone_fragments_are_bounded_and_do_not_starve_others() {
    let (mut flood, mut honest, mut b) = (sealer(1), sealer(2), sealer(3));
    let message = vec![1; 2 * CHUNK_BYTES];
    let begun = honest.seal(at(0), &message);
    assert_eq!(open(&mut b, at(0), &begun[0]), Ok(None));
    for _ in 0..10 * PARTIALS_MAX {
        let datagrams = flood.seal(at(1), &message);
        assert_eq!(open(&mut b, at(1), &datagrams[0]), Ok(None));
        assert!(b.partials.len() <= PARTIALS_PER_SESSION_MAX + 1);
    }
    assert_eq!(open(&mut b, at(2), &begun[1]), Ok(Some(message)), "one sender pushed out another's message");
    for session in 0..2 * PARTIALS_MAX {
        let mut id = [9; 16];
        id[..8].copy_from_slice(&(session as u64).to_le_bytes());
        let datagrams = Sealer::new(&[KEY], id).seal(at(3), &vec![1; 2 * CHUNK_BYTES]);
        assert_eq!(open(&mut b, at(3), &datagrams[0]), Ok(None));
        assert!(b.partials.len() <= PARTIALS_MAX && b.partial_order.len() <= PARTIALS_MAX);
    }
    assert!(b.stats().partials_dropped > 0);
}

#[test]
fn message_that_lost_a_fragment_is_given_up() {
    let (mut a, mut b) = (sealer(1), sealer(2));
    let message = vec![1; 2 * CHUNK_BYTES];
    let lost = a.seal(at(0), &message);
    assert_eq!(open(&mut b, at(0), &lost[0]), Ok(None));
    let next = a.seal(at(4_000), &message);
    assert_eq!(open(&mut b, at(4_000), &next[0]), Ok(None));
    assert_eq!(b.partials.len(), 1);
    assert_eq!(open(&mut b, at(4_000), &next[1]), Ok(Some(message)));
}

#[test]
fn sessions_are_bounded_and_the_idle_make_room() {
    let mut b = sealer(255);
    let session = |n: usize| {
        let mut id = [0; 16];
        id[..8].copy_from_slice(&(n as u64).to_le_bytes());
        id
    };
    for n in 0..SESSIONS_MAX {
        let datagram = one(&mut Sealer::new(&[KEY], session(n)), at(0), b"x");
        assert!(open(&mut b, at(0), &datagram).is_ok());
    }
    let late = one(&mut Sealer::new(&[KEY], session(SESSIONS_MAX)), at(1_000), b"x");
    assert_eq!(open(&mut b, at(1_000), &late), Err(Refused::Full));
    assert_eq!(b.sessions.len(), SESSIONS_MAX);
    let later = one(&mut Sealer::new(&[KEY], session(SESSIONS_MAX)), at(121_000), b"x");
    assert!(open(&mut b, at(121_000), &later).is_ok());
    assert_eq!(b.sessions.len(), 1);
}

#[test]
fn junk_is_refused_and_leaves_nothing_behind() {
    let mut b = sealer(2);
    let mut junk = vec![0_u8; 1200];
    junk[..2].copy_from_slice(&MAGIC);
    junk[2] = VERSION;
    for key_id in 0..=255 {
        junk[3] = key_id;
        assert!(matches!(open(&mut b, at(0), &junk), Err(Refused::UnknownKey | Refused::Forged)));
    }
    assert_eq!(open(&mut b, at(0), &vec![b'q'; 70_000]), Err(Refused::Format));
    assert!(b.sessions.is_empty() && b.partials.is_empty());
}

#[test]
fn window_takes_each_counter_once_within_its_reach() {
    let mut window = Window::new();
    for counter in [1, 3, 2, 2000, 2048, 2049] {
        assert_eq!(window.accept(at(0), counter), Ok(()), "{counter}");
    }
    for counter in [1, 3, 2, 2000, 2048, 2049] {
        assert_eq!(window.accept(at(0), counter), Err(Refused::Replayed), "{counter}");
    }
    assert_eq!(window.accept(at(0), 10_000), Ok(()));
    assert_eq!(window.accept(at(0), 10_000 - WINDOW), Err(Refused::Replayed));
    assert_eq!(window.accept(at(0), 10_000 - WINDOW + 1), Ok(()));
    assert_eq!(window.accept(at(0), 10_000 - WINDOW + 1), Err(Refused::Replayed));
    assert_eq!(window.accept(at(0), u64::MAX), Ok(()));
    assert_eq!(window.accept(at(0), u64::MAX), Err(Refused::Replayed));
}
