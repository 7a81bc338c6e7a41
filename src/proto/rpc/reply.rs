//! Replies, RFC 5531 section 9: what a call is answered with, and its bytes.

use bytes::{BufMut, BytesMut};

use super::Outcome;
use super::call::{AuthStatus, RPC_VERSION};
use crate::wire::Segments;

/// The longest reply that fits one fragment with its header.
const MAX_RESULTS: usize = 0x7fff_ffff - 64;

/// What a call is answered with.
#[derive(Clone, Debug)]
pub(super) enum Answer {
    /// Executed.
    Results {
        segments: Segments,
        length: usize,
        ok: bool,
    },
    ProgramUnavailable,
    /// The versions served lie between these.
    ProgramMismatch {
        low: u32,
        high: u32,
    },
    ProcedureUnavailable,
    GarbageArguments,
    SystemError,
    RpcMismatch,
    AuthError(AuthStatus),
}

impl From<Outcome> for Answer {
    fn from(outcome: Outcome) -> Self {
        match outcome {
            Outcome::Done { results, .. } if results.len() > MAX_RESULTS => Self::SystemError,
            Outcome::Done { results, ok } => {
                Self::Results { length: results.len(), segments: results.finish(), ok }
            }
            Outcome::ProcedureUnavailable => Self::ProcedureUnavailable,
            Outcome::GarbageArguments => Self::GarbageArguments,
        }
    }
}

impl Answer {
    /// False when the caller got an error of any kind.
    pub(super) fn is_ok(&self) -> bool {
        matches!(self, Self::Results { ok: true, .. })
    }

    /// Bytes of results that follow the header.
    pub(super) fn results_len(&self) -> usize {
        match self {
            Self::Results { length, .. } => *length,
            _ => 0,
        }
    }

    /// Appends the record mark and the reply's header to `out`.
    pub(super) fn put_head(&self, xid: u32, out: &mut BytesMut) {
        const ACCEPTED: u32 = 0;
        const DENIED: u32 = 1;
        const REPLY: u32 = 1;
        // After the status of an accepted reply comes its verifier: AUTH_NONE, no bytes.
        let (words, count) = match *self {
            Self::Results { .. } => ([ACCEPTED, 0, 0, 0, 0, 0], 4),
            Self::ProgramUnavailable => ([ACCEPTED, 0, 0, 1, 0, 0], 4),
            Self::ProgramMismatch { low, high } => ([ACCEPTED, 0, 0, 2, low, high], 6),
            Self::ProcedureUnavailable => ([ACCEPTED, 0, 0, 3, 0, 0], 4),
            Self::GarbageArguments => ([ACCEPTED, 0, 0, 4, 0, 0], 4),
            Self::SystemError => ([ACCEPTED, 0, 0, 5, 0, 0], 4),
            Self::RpcMismatch => ([DENIED, 0, RPC_VERSION, RPC_VERSION, 0, 0], 4),
            Self::AuthError(status) => ([DENIED, 1, status as u32, 0, 0, 0], 3),
        };
        let length = 8 + 4 * count + self.results_len();
        // `MAX_RESULTS` keeps this in range.
        let mark = 0x8000_0000 | u32::try_from(length).unwrap_or(0x7fff_ffff);
        out.reserve(4 + 8 + 4 * count);
        out.put_u32(mark);
        out.put_u32(xid);
        out.put_u32(REPLY);
        words.iter().take(count).for_each(|&word| out.put_u32(word));
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::wire::Writer;

    fn head(answer: &Answer) -> Vec<u8> {
        let mut out = BytesMut::new();
        answer.put_head(0x0a0b_0c0d, &mut out);
        out.to_vec()
    }

    fn accepted(status: u8, tail: &[u8]) -> Vec<u8> {
        let length = u8::try_from(24 + tail.len()).unwrap();
        let head = [
            &[0x80, 0, 0, length, 0x0a, 0x0b, 0x0c, 0x0d][..],
            &[0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, status],
        ]
        .concat();
        [&head, tail].concat()
    }

    #[test]
    fn accepted_replies_are_those_of_the_rfc() {
        assert_eq!(head(&Answer::ProgramUnavailable), accepted(1, b""));
        assert_eq!(
            head(&Answer::ProgramMismatch { low: 3, high: 4 }),
            accepted(2, &[0, 0, 0, 3, 0, 0, 0, 4])
        );
        assert_eq!(head(&Answer::ProcedureUnavailable), accepted(3, b""));
        assert_eq!(head(&Answer::GarbageArguments), accepted(4, b""));
        assert_eq!(head(&Answer::SystemError), accepted(5, b""));
        let mut results = Writer::default();
        results.u32(7).payload([Bytes::from_static(b"12345")], 5);
        let done = Answer::from(Outcome::Done { results, ok: true });
        let Answer::Results { segments, .. } = &done else { panic!("{done:?}") };
        let tail = [0, 0, 0, 7, 0, 0, 0, 5, b'1', b'2', b'3', b'4', b'5', 0, 0, 0];
        assert_eq!([head(&done), segments.concat()].concat(), accepted(0, &tail));
    }

    #[test]
    fn denied_replies_are_those_of_the_rfc() {
        assert_eq!(
            head(&Answer::RpcMismatch),
            [
                &[0x80, 0, 0, 24, 0x0a, 0x0b, 0x0c, 0x0d, 0, 0, 0, 1, 0, 0, 0, 1][..],
                &[0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 2]
            ]
            .concat()
        );
        for (status, number) in [
            (AuthStatus::BadCredential, 1),
            (AuthStatus::RejectedCredential, 2),
            (AuthStatus::BadVerifier, 3),
        ] {
            assert_eq!(
                head(&Answer::AuthError(status)),
                [
                    &[0x80, 0, 0, 20, 0x0a, 0x0b, 0x0c, 0x0d, 0, 0, 0, 1, 0, 0, 0, 1][..],
                    &[0, 0, 0, 1, 0, 0, 0, number]
                ]
                .concat()
            );
        }
    }
}
