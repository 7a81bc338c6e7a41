//! Replies on their way out: small parts gathered, payloads linked, many replies in one vectored
//! write.

use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes, BytesMut};
use tokio::io::AsyncWrite;

use super::reply::Answer;

/// Segments from this length on are linked; shorter ones cost less to copy than to list.
const LINKED: usize = 512;
/// Parts of one vectored write.
const SLICES: usize = 64;
/// Bytes for gathered heads, allocated with the first reply.
const HEADS: usize = 4096;
/// Room in the queues above which they are given back when empty.
const KEPT: usize = 256;

/// The queue of replies of one connection.
#[derive(Debug, Default)]
pub(super) struct Output {
    segments: VecDeque<Bytes>,
    heads: BytesMut,
    /// Where each reply ends, counted from the first byte of the connection, and its charge.
    ends: VecDeque<(u64, usize)>,
    charges: usize,
    pushed: u64,
    written: u64,
}

/// What a write did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Written {
    /// Bytes sent.
    pub(super) bytes: usize,
    /// Sum of the charges of the replies that are now sent whole.
    pub(super) charges: usize,
}

impl Output {
    /// True when all is written.
    pub(super) fn is_empty(&self) -> bool {
        self.pushed == self.written
    }

    /// True when nothing was ever sent.
    pub(super) fn is_unused(&self) -> bool {
        self.pushed == 0
    }

    /// Sum of the charges of the replies that are not sent whole.
    pub(super) fn charges(&self) -> usize {
        self.charges
    }

    /// Queues the reply to `xid`, for which `charge` was taken from a budget.
    pub(super) fn push(&mut self, xid: u32, answer: Answer, charge: usize) {
        if self.heads.capacity() - self.heads.len() < 64 {
            self.heads.reserve(HEADS);
        }
        let before = self.heads.len();
        answer.put_head(xid, &mut self.heads);
        self.pushed += (self.heads.len() - before + answer.results_len()) as u64;
        if let Answer::Results { segments, .. } = answer {
            for segment in segments {
                if segment.len() < LINKED {
                    self.heads.extend_from_slice(&segment);
                } else {
                    self.seal();
                    self.segments.push_back(segment);
                }
            }
        }
        self.ends.push_back((self.pushed, charge));
        self.charges += charge;
    }

    fn seal(&mut self) {
        if !self.heads.is_empty() {
            self.segments.push_back(self.heads.split().freeze());
        }
    }

    /// Writes once, as much as `stream` takes. Not to be called when empty.
    pub(super) fn poll_write<S: AsyncWrite + Unpin>(
        &mut self,
        stream: &mut S,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<Written>> {
        self.seal();
        let mut slices = [IoSlice::new(&[]); SLICES];
        let mut count = 0;
        for (slot, segment) in slices.iter_mut().zip(&self.segments) {
            *slot = IoSlice::new(segment);
            count += 1;
        }
        let slices = slices.get(..count).unwrap_or_default();
        let bytes = ready!(Pin::new(stream).poll_write_vectored(cx, slices))?;
        if bytes == 0 {
            return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
        }
        Poll::Ready(Ok(Written { bytes, charges: self.advance(bytes) }))
    }

    fn advance(&mut self, bytes: usize) -> usize {
        let mut left = bytes;
        while let Some(first) = self.segments.front_mut() {
            if left < first.len() {
                first.advance(left);
                break;
            }
            left -= first.len();
            self.segments.pop_front();
        }
        self.written += bytes as u64;
        let mut charges = 0;
        while let Some((_, charge)) = self.ends.pop_front_if(|(end, _)| *end <= self.written) {
            charges += charge;
        }
        self.charges -= charges;
        if self.is_empty() && self.segments.capacity() > KEPT {
            self.segments = VecDeque::new();
        }
        charges
    }
}

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use super::*;
    use crate::proto::rpc::Outcome;
    use crate::wire::Writer;

    /// Takes at most `step` bytes a write and remembers where each slice was.
    struct Sink {
        step: usize,
        bytes: Vec<u8>,
        addresses: Vec<*const u8>,
        writes: usize,
    }

    impl AsyncWrite for Sink {
        fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, b: &[u8]) -> Poll<io::Result<usize>> {
            self.poll_write_vectored(cx, &[IoSlice::new(b)])
        }
        fn poll_write_vectored(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
            slices: &[IoSlice<'_>],
        ) -> Poll<io::Result<usize>> {
            assert!(slices.len() <= SLICES && slices.iter().all(|slice| !slice.is_empty()));
            let all: Vec<u8> = slices.iter().flat_map(|slice| slice.to_vec()).collect();
            let taken = all.len().min(self.step);
            self.bytes.extend_from_slice(&all[..taken]);
            self.addresses.extend(slices.iter().map(|slice| slice.as_ptr()));
            self.writes += 1;
            Poll::Ready(Ok(taken))
        }
        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    fn sink(step: usize) -> Sink {
        Sink { step, bytes: Vec::new(), addresses: Vec::new(), writes: 0 }
    }

    fn results(payload: &Bytes) -> Answer {
        let mut results = Writer::default();
        results.u32(0).payload([payload.clone()], u32::try_from(payload.len()).unwrap());
        Outcome::Done { results, ok: true }.into()
    }

    fn drain(output: &mut Output, sink: &mut Sink) -> Vec<usize> {
        let mut charges = Vec::new();
        let mut cx = Context::from_waker(Waker::noop());
        while !output.is_empty() {
            match output.poll_write(sink, &mut cx) {
                Poll::Ready(Ok(written)) if written.charges > 0 => charges.push(written.charges),
                Poll::Ready(Ok(_)) => {}
                other => panic!("{other:?}"),
            }
        }
        charges
    }

    #[test]
    fn replies_leave_in_one_write_and_payloads_from_where_they_are() {
        let payload = Bytes::from(vec![3; 4096]);
        let mut output = Output::default();
        for xid in 0..32 {
            output.push(xid, results(&payload), 10);
        }
        assert_eq!(output.charges(), 320);
        let mut sink = sink(usize::MAX);
        assert_eq!(drain(&mut output, &mut sink), [320]);
        assert_eq!(sink.writes, 1);
        assert_eq!(sink.addresses.iter().filter(|&&at| at == payload.as_ptr()).count(), 32);
        assert_eq!(sink.bytes.len(), 32 * (28 + 4 + 4 + 4096));
        assert_eq!(output.charges(), 0);
    }

    #[test]
    fn writes_cut_anywhere_send_the_same_bytes_and_free_whole_replies() {
        let payloads = [5, 600, 0, 1001].map(|len| Bytes::from(vec![7; len]));
        let fill = |output: &mut Output| {
            for (xid, payload) in (0..).zip(&payloads) {
                output.push(xid, results(payload), 1);
            }
        };
        let mut whole = sink(usize::MAX);
        let mut output = Output::default();
        fill(&mut output);
        assert_eq!(drain(&mut output, &mut whole), [4]);
        for step in [1, 3, 27, 28, 29, 600, 700] {
            let mut cut = sink(step);
            let mut output = Output::default();
            fill(&mut output);
            let charges = drain(&mut output, &mut cut);
            assert_eq!(charges.iter().sum::<usize>(), 4);
            assert!(step > 29 || charges.len() == 4, "{step}: {charges:?}");
            assert_eq!(cut.bytes, whole.bytes, "{step}");
        }
    }
}
