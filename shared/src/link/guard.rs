//! The stream wrapper: what ractor_cluster reads from and writes to.
//!
//! It bounds what a peer may send before it is authenticated, in bytes and time; closes a link that is silent or takes
//! nothing; stops reading while the owner is behind; counts messages that are queued and not yet written; and can be
//! closed from outside. State that both halves and the hub share is in [`Gate`].

use super::config::LinkLimits;
use futures_util::task::AtomicWaker;
use ractor_cluster::{BoxRead, BoxWrite, ClusterBidiStream};
use std::collections::VecDeque;
use std::future::Future;
use std::io::{Error, ErrorKind, Result};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, BufReader, ReadBuf, ReadHalf, WriteHalf};
use tokio::sync::Notify;
use tokio::time::{Instant, Sleep};

/// Two TLS records: ractor_cluster reads in small pieces.
const READ_BUFFER_BYTES: usize = 32 * 1024;
/// Read at once before authentication; a handshake message is smaller.
const PREAUTH_READ_BYTES: usize = 1024;
/// The protobuf tag of a frame that carries an actor message.
const TAG_NODE: u8 = 0x12;
/// Bytes of a frame's length.
const HEADER_BYTES: usize = 8;

/// State of one stream, shared by its halves and the hub.
#[derive(Debug, Default)]
pub(super) struct Gate {
    authenticated: AtomicBool,
    closed: AtomicBool,
    reason: Mutex<Option<&'static str>>,
    reader: AtomicWaker,
    writer: AtomicWaker,
    inbound_bytes: AtomicUsize,
    inbound_bytes_max: usize,
    outbound: Mutex<VecDeque<usize>>,
    outbound_bytes: AtomicUsize,
    outbound_empty: Notify,
}

impl Gate {
    pub(super) fn new(limits: &LinkLimits) -> Self {
        Self { inbound_bytes_max: limits.inbound_bytes_max, ..Self::default() }
    }

    /// The peer may send as it likes from now on.
    pub(super) fn authenticate(&self) {
        self.authenticated.store(true, Ordering::Release);
        self.reader.wake();
    }

    /// Ends both halves; the first reason is kept.
    pub(super) fn close(&self, reason: &'static str) {
        self.reason.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(reason);
        self.closed.store(true, Ordering::Release);
        self.reader.wake();
        self.writer.wake();
        self.outbound_empty.notify_waiters();
    }

    /// Why the stream ended, where this end did it.
    pub(super) fn reason(&self) -> Option<&'static str> {
        *self.reason.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A message has arrived and waits for the owner.
    pub(super) fn add_inbound(&self, bytes: usize) {
        self.inbound_bytes.fetch_add(bytes, Ordering::AcqRel);
    }

    /// The owner has taken it.
    pub(super) fn take_inbound(&self, bytes: usize) {
        let before = self.inbound_bytes.fetch_sub(bytes, Ordering::AcqRel);
        if before > self.inbound_bytes_max && before - bytes <= self.inbound_bytes_max {
            self.reader.wake();
        }
    }

    /// Accounts for a message that is about to be queued, unless it would be too much; gives what is queued already.
    pub(super) fn add_outbound(&self, bytes: usize, max: usize) -> std::result::Result<(), usize> {
        let mut sizes = self.outbound.lock().unwrap_or_else(PoisonError::into_inner);
        let queued = self.outbound_bytes.load(Ordering::Acquire);
        if queued.saturating_add(bytes) > max {
            return Err(queued);
        }
        sizes.push_back(bytes);
        self.outbound_bytes.store(queued + bytes, Ordering::Release);
        Ok(())
    }

    /// The owner is behind.
    fn is_full(&self) -> bool {
        self.inbound_bytes.load(Ordering::Acquire) > self.inbound_bytes_max
    }

    /// The oldest queued messages are written.
    fn take_outbound(&self, messages: usize) {
        let mut sizes = self.outbound.lock().unwrap_or_else(PoisonError::into_inner);
        let known = messages.min(sizes.len());
        let bytes: usize = sizes.drain(..known).sum();
        self.outbound_bytes.fetch_sub(bytes, Ordering::AcqRel);
        if sizes.is_empty() {
            self.outbound_empty.notify_waiters();
        }
    }

    /// Bytes of messages that are queued and not yet written.
    pub(super) fn outbound_bytes(&self) -> usize {
        self.outbound_bytes.load(Ordering::Acquire)
    }

    /// Waits until everything queued is written, or the stream is closed; says which.
    pub(super) async fn flushed(&self) -> bool {
        loop {
            let changed = self.outbound_empty.notified();
            let mut changed = std::pin::pin!(changed);
            changed.as_mut().enable();
            if self.is_closed() {
                return false;
            }
            if self.outbound_bytes() == 0 {
                return true;
            }
            changed.await;
        }
    }

    fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }

    fn fail<T>(&self, reason: &'static str) -> Poll<Result<T>> {
        self.close(reason);
        Poll::Ready(Err(Error::new(ErrorKind::TimedOut, reason)))
    }
}

/// A stream with its bounds. The label tells the node server's events which stream they are about.
pub(super) struct Guard<S> {
    pub(super) stream: S,
    pub(super) label: String,
    pub(super) gate: Arc<Gate>,
    pub(super) limits: LinkLimits,
    /// Dropped with the stream, wherever that happens.
    pub(super) admission: Box<dyn Send + Sync>,
}

impl<S: AsyncRead + AsyncWrite + Send + Unpin + 'static> ClusterBidiStream for Guard<S> {
    fn split(self: Box<Self>) -> (BoxRead, BoxWrite) {
        let guard = *self;
        let (read, write) = tokio::io::split(guard.stream);
        let read = GuardedRead {
            stream: read,
            gate: guard.gate.clone(),
            alarm: Box::pin(tokio::time::sleep(guard.limits.preauth_timeout)),
            preauth: Some(guard.limits.preauth_bytes_max),
            last: Instant::now(),
            idle: guard.limits.idle_timeout,
            paused: false,
            _admission: guard.admission,
        };
        let stall = guard.limits.write_stall_timeout;
        let write = GuardedWrite {
            stream: write,
            gate: guard.gate,
            alarm: Box::pin(tokio::time::sleep(stall)),
            stall,
            stalled: false,
            frames: FrameWalk::default(),
            unflushed: 0,
        };
        (Box::new(BufReader::with_capacity(READ_BUFFER_BYTES, read)), Box::new(write))
    }

    fn peer_label(&self) -> Option<String> {
        Some(self.label.clone())
    }
}

struct GuardedRead<S> {
    stream: ReadHalf<S>,
    gate: Arc<Gate>,
    alarm: Pin<Box<Sleep>>,
    /// Bytes that may still be read before authentication; none after it.
    preauth: Option<usize>,
    last: Instant,
    idle: Duration,
    /// Not reading since the owner is behind.
    paused: bool,
    _admission: Box<dyn Send + Sync>,
}

impl<S> Drop for GuardedRead<S> {
    fn drop(&mut self) {
        self.gate.close("the stream is gone");
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> GuardedRead<S> {
    /// Reads a little within the budget; the deadline stands from the start and is not moved by bytes.
    fn poll_preauth(&mut self, cx: &mut Context<'_>, out: &mut ReadBuf<'_>, budget: usize) -> Poll<Result<()>> {
        if self.alarm.as_mut().poll(cx).is_ready() {
            return self.gate.fail("the peer did not authenticate in time");
        }
        let mut bytes = [0; PREAUTH_READ_BYTES];
        let room = budget.min(out.remaining()).min(PREAUTH_READ_BYTES);
        if room == 0 {
            // What is beyond the budget waits for `authenticate`, `close` or the deadline.
            return Poll::Pending;
        }
        let mut small = ReadBuf::new(&mut bytes[..room]);
        match Pin::new(&mut self.stream).poll_read(cx, &mut small) {
            Poll::Ready(Ok(())) => {
                out.put_slice(small.filled());
                self.preauth = Some(budget - small.filled().len());
                Poll::Ready(Ok(()))
            }
            other => other,
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for GuardedRead<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, out: &mut ReadBuf<'_>) -> Poll<Result<()>> {
        let me = &mut *self;
        me.gate.reader.register(cx.waker());
        if me.gate.is_closed() {
            return Poll::Ready(Err(Error::new(ErrorKind::ConnectionAborted, "the link is closed")));
        }
        if let Some(budget) = me.preauth {
            if !me.gate.authenticated.load(Ordering::Acquire) {
                return me.poll_preauth(cx, out, budget);
            }
            me.preauth = None;
            me.last = Instant::now();
            me.alarm.as_mut().reset(me.last + me.idle);
        }
        if me.gate.is_full() {
            me.paused = true;
            return Poll::Pending;
        }
        if std::mem::take(&mut me.paused) {
            // The peer was not silent, it was not listened to.
            me.last = Instant::now();
        }
        if let Poll::Ready(read) = Pin::new(&mut me.stream).poll_read(cx, out) {
            me.last = Instant::now();
            return Poll::Ready(read);
        }
        // Moving the timer at every read would cost more than the read; so it is moved when it fires.
        while me.alarm.as_mut().poll(cx).is_ready() {
            let deadline = me.last + me.idle;
            if Instant::now() >= deadline {
                return me.gate.fail("the peer is silent");
            }
            me.alarm.as_mut().reset(deadline);
        }
        Poll::Pending
    }
}

struct GuardedWrite<S> {
    stream: WriteHalf<S>,
    gate: Arc<Gate>,
    alarm: Pin<Box<Sleep>>,
    stall: Duration,
    stalled: bool,
    frames: FrameWalk,
    /// Messages that are in the TLS library's buffer at least in part.
    unflushed: usize,
}

impl<S> Drop for GuardedWrite<S> {
    fn drop(&mut self) {
        self.gate.close("the stream is gone");
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> GuardedWrite<S> {
    fn watch<T>(&mut self, cx: &mut Context<'_>, polled: Poll<Result<T>>) -> Poll<Result<T>> {
        if polled.is_ready() {
            self.stalled = false;
            return polled;
        }
        if !self.stalled {
            self.stalled = true;
            self.alarm.as_mut().reset(Instant::now() + self.stall);
        }
        if self.alarm.as_mut().poll(cx).is_ready() { self.gate.fail("the peer takes nothing") } else { Poll::Pending }
    }

    fn poll_open(&self, cx: &Context<'_>) -> Result<()> {
        self.gate.writer.register(cx.waker());
        if self.gate.is_closed() {
            return Err(Error::new(ErrorKind::ConnectionAborted, "the link is closed"));
        }
        Ok(())
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for GuardedWrite<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<Result<usize>> {
        let me = &mut *self;
        me.poll_open(cx)?;
        let polled = Pin::new(&mut me.stream).poll_write(cx, bytes);
        if let Poll::Ready(Ok(written)) = polled {
            me.unflushed += me.frames.advance(&bytes[..written]);
        }
        me.watch(cx, polled)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<()>> {
        let me = &mut *self;
        me.poll_open(cx)?;
        let polled = Pin::new(&mut me.stream).poll_flush(cx);
        if let Poll::Ready(Ok(())) = polled {
            me.gate.take_outbound(std::mem::take(&mut me.unflushed));
        }
        me.watch(cx, polled)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

/// Finds the ends of actor messages in the outgoing bytes: frames are a length (8 bytes, big endian) and a protobuf
/// message whose first byte tells what it is.
#[derive(Debug, Default)]
struct FrameWalk {
    header: [u8; HEADER_BYTES],
    header_len: usize,
    /// Bytes of the body still to come; meaningful once the header is whole.
    body_left: u64,
    tag: Option<u8>,
}

impl FrameWalk {
    /// How many actor messages end within these bytes.
    fn advance(&mut self, mut bytes: &[u8]) -> usize {
        let mut ended = 0;
        while !bytes.is_empty() {
            if self.header_len < HEADER_BYTES {
                let take = bytes.len().min(HEADER_BYTES - self.header_len);
                self.header[self.header_len..self.header_len + take].copy_from_slice(&bytes[..take]);
                self.header_len += take;
                bytes = &bytes[take..];
                if self.header_len < HEADER_BYTES {
                    break;
                }
                self.body_left = u64::from_be_bytes(self.header);
                self.tag = None;
            } else {
                let take = usize::try_from(self.body_left).map_or(bytes.len(), |left| left.min(bytes.len()));
                self.tag = self.tag.or(bytes.first().copied());
                self.body_left -= take as u64;
                bytes = &bytes[take..];
            }
            if self.header_len == HEADER_BYTES && self.body_left == 0 {
                ended += usize::from(self.tag == Some(TAG_NODE));
                self.header_len = 0;
            }
        }
        ended
    }
}

#[cfg(test)]
mod tests;
