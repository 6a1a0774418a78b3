use super::{FrameWalk, Gate, Guard, TAG_NODE};
use crate::link::LinkLimits;
use ractor_cluster::{BoxRead, BoxWrite, ClusterBidiStream};
use std::io::ErrorKind;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::time::Instant;

fn limits() -> LinkLimits {
    LinkLimits {
        preauth_bytes_max: 100,
        preauth_timeout: Duration::from_secs(3),
        idle_timeout: Duration::from_secs(10),
        write_stall_timeout: Duration::from_secs(7),
        inbound_bytes_max: 1000,
        ..LinkLimits::default()
    }
}

fn guarded(pipe_bytes: usize) -> (DuplexStream, BoxRead, BoxWrite, Arc<Gate>) {
    let (near, far) = tokio::io::duplex(pipe_bytes);
    let gate = Arc::new(Gate::new(&limits()));
    let guard =
        Guard { stream: near, label: String::new(), gate: gate.clone(), limits: limits(), admission: Box::new(()) };
    let (read, write) = Box::new(guard).split();
    (far, read, write, gate)
}

fn frame(tag: u8, len: usize) -> Vec<u8> {
    let mut bytes = (len as u64).to_be_bytes().to_vec();
    bytes.extend(std::iter::repeat_n(tag, len));
    bytes
}

// Requirement 1: a byte budget before authentication, and no byte beyond it.
#[tokio::test(start_paused = true)]
async fn flood_before_authentication_is_read_up_to_the_budget() {
    let (mut far, mut read, _write, gate) = guarded(1 << 20);
    far.write_all(&[7; 5000]).await.unwrap();
    let mut seen = vec![0; 5000];
    read.read_exact(&mut seen[..100]).await.unwrap();
    let mut more = [0];
    let beyond = tokio::time::timeout(Duration::from_secs(1), read.read(&mut more)).await;
    assert!(beyond.is_err(), "read beyond the budget: {beyond:?}");
    gate.authenticate();
    read.read_exact(&mut seen[100..]).await.unwrap();
    assert!(seen.iter().all(|&byte| byte == 7));
}

// Requirement 1: a deadline before authentication, which bytes do not move.
#[tokio::test(start_paused = true)]
async fn trickle_before_authentication_ends_at_the_deadline() {
    let (mut far, mut read, _write, gate) = guarded(1 << 20);
    let start = Instant::now();
    tokio::spawn(async move {
        while far.write_all(b"x").await.is_ok() {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    });
    let mut bytes = Vec::new();
    let error = read.read_to_end(&mut bytes).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TimedOut);
    assert_eq!(start.elapsed().as_secs(), 3);
    assert_eq!(gate.reason(), Some("the peer did not authenticate in time"));
}

// Requirement 2: a silent peer.
#[tokio::test(start_paused = true)]
async fn silence_closes_and_bytes_postpone_it() {
    let (mut far, mut read, _write, gate) = guarded(1 << 20);
    gate.authenticate();
    let start = Instant::now();
    let mut byte = [0];
    for _ in 0..3 {
        far.write_all(b"x").await.unwrap();
        read.read_exact(&mut byte).await.unwrap();
        let quiet = tokio::time::timeout(Duration::from_secs(6), read.read_exact(&mut byte)).await;
        assert!(quiet.is_err(), "closed although the peer spoke 6 s ago");
    }
    let error = read.read_exact(&mut byte).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TimedOut);
    assert_eq!(start.elapsed().as_secs(), 6 + 6 + 10, "10 s after the last byte");
    assert_eq!(gate.reason(), Some("the peer is silent"));
}

// Requirement 2: a peer that takes nothing.
#[tokio::test(start_paused = true)]
async fn write_stall_closes_both_halves() {
    let (_far, mut read, mut write, gate) = guarded(64);
    gate.authenticate();
    let start = Instant::now();
    let error = write.write_all(&[0; 1000]).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TimedOut);
    assert_eq!(start.elapsed().as_secs(), 7);
    assert_eq!(gate.reason(), Some("the peer takes nothing"));
    assert_eq!(read.read_u8().await.unwrap_err().kind(), ErrorKind::ConnectionAborted);
}

#[tokio::test(start_paused = true)]
async fn slow_peer_that_takes_something_is_kept() {
    let (mut far, _read, mut write, gate) = guarded(64);
    gate.authenticate();
    let taker = tokio::spawn(async move {
        let mut taken = 0;
        let mut bytes = [0; 64];
        while taken < 640 {
            tokio::time::sleep(Duration::from_secs(5)).await;
            taken += far.read(&mut bytes).await.unwrap();
        }
        taken
    });
    write.write_all(&[0; 640]).await.unwrap();
    assert_eq!(taker.await.unwrap(), 640);
}

// Requirement 3: what the owner does not take is not read, and that is not the peer's silence.
#[tokio::test(start_paused = true)]
async fn unread_messages_stop_the_reader_without_closing() {
    let (mut far, mut read, _write, gate) = guarded(1 << 20);
    gate.authenticate();
    far.write_all(b"ab").await.unwrap();
    // One byte through a buffered reader takes both; so a new one is needed to see the gate.
    assert_eq!(read.read_u16().await.unwrap(), u16::from_be_bytes(*b"ab"));
    gate.add_inbound(600);
    gate.add_inbound(600);
    far.write_all(b"c").await.unwrap();
    let paused = tokio::time::timeout(Duration::from_secs(60), read.read_u8()).await;
    assert!(paused.is_err(), "read on, or gave up: {paused:?}");
    gate.take_inbound(600);
    assert_eq!(read.read_u8().await.unwrap(), b'c');
    let start = Instant::now();
    assert_eq!(read.read_u8().await.unwrap_err().kind(), ErrorKind::TimedOut);
    assert_eq!(start.elapsed().as_secs(), 10, "silence counts anew after the pause");
}

// Requirement 3: the outbound queue is bounded and counted.
#[tokio::test(start_paused = true)]
async fn queued_messages_are_counted_until_they_are_flushed() {
    let (mut far, _read, mut write, gate) = guarded(1 << 20);
    gate.authenticate();
    for bytes in [10, 20, 30] {
        gate.add_outbound(bytes, 60).unwrap();
    }
    assert_eq!(gate.add_outbound(1, 60), Err(60));
    // A ping in between is no message.
    write.write_all(&[frame(TAG_NODE, 12), frame(0x1a, 5), frame(TAG_NODE, 25)].concat()).await.unwrap();
    assert_eq!(gate.outbound_bytes(), 60, "written is not flushed");
    write.flush().await.unwrap();
    assert_eq!(gate.outbound_bytes(), 30);
    let flushed = tokio::spawn({
        let gate = gate.clone();
        async move { gate.flushed().await }
    });
    write.write_all(&frame(TAG_NODE, 35)).await.unwrap();
    write.flush().await.unwrap();
    assert!(flushed.await.unwrap());
    far.read_exact(&mut [0; 20 + 13 + 33 + 43]).await.unwrap();

    gate.add_outbound(5, 60).unwrap();
    gate.close("test");
    assert!(!gate.flushed().await);
    assert_eq!(write.write_all(b"x").await.unwrap_err().kind(), ErrorKind::ConnectionAborted);
}

#[test]
fn frames_are_found_however_they_are_cut() {
    let bytes = [frame(TAG_NODE, 3), frame(0x0a, 300), frame(TAG_NODE, 0), frame(TAG_NODE, 9), frame(0x1a, 1)].concat();
    for step in 1..=bytes.len() {
        let mut walk = FrameWalk::default();
        let ended: usize = bytes.chunks(step).map(|piece| walk.advance(piece)).sum();
        assert_eq!(ended, 2, "in pieces of {step}");
    }
}

#[tokio::test(start_paused = true)]
async fn dropped_reader_ends_the_admission_and_the_writer() {
    struct Admission(Arc<std::sync::atomic::AtomicBool>);
    impl Drop for Admission {
        fn drop(&mut self) {
            self.0.store(true, std::sync::atomic::Ordering::Release);
        }
    }
    let ended = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let (near, _far) = tokio::io::duplex(64);
    let gate = Arc::new(Gate::new(&limits()));
    let admission = Box::new(Admission(ended.clone()));
    let guard = Guard { stream: near, label: String::new(), gate, limits: limits(), admission };
    let (read, mut write) = Box::new(guard).split();
    drop(read);
    assert!(ended.load(std::sync::atomic::Ordering::Acquire));
    assert!(write.write_all(b"x").await.is_err());
}
