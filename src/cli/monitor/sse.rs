//! Server-sent events, as the HTML standard reads an event stream (section 9.2.6): bytes in, messages out.
//!
//! Knows nothing of HTTP. What a server sends is bounded before it is kept.

/// The most bytes of one line, and of the data of one message: more than the monitor's longest event has.
pub(super) const MESSAGE_MAX: usize = 2 << 20;

/// One message.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Message {
    /// The number to go on behind, if the stream has told one so far.
    pub(super) id: Option<String>,
    /// Its kind; empty where none is told.
    pub(super) kind: String,
    /// Its lines, without the end of the last one.
    pub(super) data: String,
}

/// A line or a message that is longer than any that a monitor sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("an event of more than {MESSAGE_MAX} bytes")]
pub(super) struct TooLong;

/// Reads a stream that comes in pieces.
#[derive(Debug, Default)]
pub(super) struct Parser {
    /// The line so far.
    line: Vec<u8>,
    /// The last byte was a carriage return, which a line feed may follow that ends nothing.
    returned: bool,
    /// A line has ended: a byte order mark is one no more.
    begun: bool,
    id: Option<String>,
    kind: String,
    /// Lines, each with its end.
    data: Vec<u8>,
}

impl Parser {
    /// Takes the next bytes; gives the messages that end in them.
    ///
    /// # Errors
    /// Something is too long. The stream cannot be read on.
    pub(super) fn push(&mut self, bytes: &[u8]) -> Result<Vec<Message>, TooLong> {
        let (mut messages, mut rest) = (Vec::new(), bytes);
        while let Some(first) = rest.first() {
            if std::mem::take(&mut self.returned) && *first == b'\n' {
                rest = rest.get(1..).unwrap_or_default();
                continue;
            }
            let end = rest.iter().position(|byte| matches!(byte, b'\n' | b'\r'));
            let (part, after) = rest.split_at(end.unwrap_or(rest.len()));
            if self.line.len() + part.len() > MESSAGE_MAX {
                return Err(TooLong);
            }
            self.line.extend_from_slice(part);
            let Some((ending, after)) = after.split_first() else { break };
            self.returned = *ending == b'\r';
            rest = after;
            let mut line = std::mem::take(&mut self.line);
            if !std::mem::replace(&mut self.begun, true) && line.starts_with(b"\xef\xbb\xbf") {
                line.drain(..3);
            }
            messages.extend(self.take(&line)?);
            // Its room is used again, unless it was large.
            line.clear();
            line.shrink_to(4096);
            self.line = line;
        }
        Ok(messages)
    }

    fn take(&mut self, line: &[u8]) -> Result<Option<Message>, TooLong> {
        if line.is_empty() {
            let (kind, mut data) = (std::mem::take(&mut self.kind), std::mem::take(&mut self.data));
            if data.pop().is_none() {
                return Ok(None);
            }
            let data = String::from_utf8_lossy(&data).into_owned();
            return Ok(Some(Message { id: self.id.clone(), kind, data }));
        }
        let (name, value) = match line.iter().position(|byte| *byte == b':') {
            Some(colon) => line.split_at(colon),
            None => (line, &b""[..]),
        };
        let value = value.strip_prefix(b":").unwrap_or(value);
        let value = value.strip_prefix(b" ").unwrap_or(value);
        match name {
            b"data" => {
                if self.data.len() + value.len() >= MESSAGE_MAX {
                    return Err(TooLong);
                }
                self.data.extend_from_slice(value);
                self.data.push(b'\n');
            }
            b"event" => self.kind = String::from_utf8_lossy(value).into_owned(),
            b"id" if !value.contains(&0) => self.id = Some(String::from_utf8_lossy(value).into_owned()),
            // Comments, among them the heartbeat, and what is not known.
            _ => {}
        }
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn message(id: Option<&str>, kind: &str, data: &str) -> Message {
        Message { id: id.map(str::to_owned), kind: kind.to_owned(), data: data.to_owned() }
    }

    /// All messages of a stream that comes in one piece.
    fn read(stream: &[u8]) -> Vec<Message> {
        Parser::default().push(stream).unwrap()
    }

    const STREAM: &str = "\u{feff}: hello\n\nid: 7\nevent: refused\ndata: {\"a\":1}\n\n\
                          : heartbeat\r\n\r\nid:8\r\nevent:started\r\ndata:{}\r\n\r\n\
                          data: two\rdata\rdata:  lines\r\rdata: after\n\nid\nretry: 5\nnonsense\ndata\n\ndata: cut";

    fn wanted() -> Vec<Message> {
        vec![
            message(Some("7"), "refused", "{\"a\":1}"),
            message(Some("8"), "started", "{}"),
            message(Some("8"), "", "two\n\n lines"),
            message(Some("8"), "", "after"),
            message(Some(""), "", ""),
        ]
    }

    #[test]
    fn messages_are_told_by_any_end_of_line() {
        assert_eq!(read(STREAM.as_bytes()), wanted());
        for (stream, data) in [
            ("data: a\n\n", Some("a")),
            ("data:a\n\n", Some("a")),
            ("data:  a\n\n", Some(" a")),
            ("data\n\n", Some("")),
            ("data: a:b\n\n", Some("a:b")),
            ("Data: a\n\n", None),
            (" data: a\n\n", None),
            ("event: only\n\n", None),
            ("data: not ended\n", None),
            ("\n\n\n", None),
        ] {
            let first = read(stream.as_bytes()).into_iter().next();
            assert_eq!(first.map(|message| message.data).as_deref(), data, "{stream:?}");
        }
    }

    #[test]
    fn an_event_without_data_leaves_no_kind_behind() {
        assert_eq!(read(b"event: a\n\ndata: x\n\n"), [message(None, "", "x")]);
        assert_eq!(read(b"id: 1\0\ndata: x\n\n"), [message(None, "", "x")]);
        assert_eq!(read(b"data: \xff\n\n"), [message(None, "", "\u{fffd}")]);
    }

    #[test]
    fn it_may_be_split_anywhere() {
        let stream = STREAM.as_bytes();
        for cut in 0..=stream.len() {
            let mut parser = Parser::default();
            let (head, tail) = stream.split_at(cut);
            let messages = [parser.push(head).unwrap(), parser.push(tail).unwrap()].concat();
            assert_eq!(messages, wanted(), "{cut}");
        }
        let mut parser = Parser::default();
        let messages: Vec<_> = stream.iter().flat_map(|byte| parser.push(&[*byte]).unwrap()).collect();
        assert_eq!(messages, wanted());
    }

    #[test]
    fn what_is_too_long_is_refused_before_it_is_kept() {
        let piece = vec![b'x'; 64 * 1024];
        let mut parser = Parser::default();
        let pushed = std::iter::repeat_with(|| parser.push(&piece)).take_while(Result::is_ok).count();
        assert_eq!(pushed, MESSAGE_MAX / piece.len());
        let mut parser = Parser::default();
        let line = [b"data: ", &piece[..], b"\n"].concat();
        let pushed = std::iter::repeat_with(|| parser.push(&line)).take_while(Result::is_ok).count();
        assert_eq!(pushed, MESSAGE_MAX / piece.len() - 1);
        assert!(parser.data.len() <= MESSAGE_MAX && parser.line.capacity() <= MESSAGE_MAX);
        // What is passed over is kept no longer than its line.
        let mut parser = Parser::default();
        let comment = [b":", &piece[..], b"\n"].concat();
        for _ in 0..1000 {
            assert_eq!(parser.push(&comment), Ok(Vec::new()));
        }
    }

    proptest! {
        #[test]
        fn pieces_make_no_difference(
            stream in prop::collection::vec(prop::sample::select(b"\r\n: didatevn\0\xef\xbb\xbf".to_vec()), 0..200),
            size in 1_usize..20,
        ) {
            let mut parser = Parser::default();
            let pieces: Vec<_> = stream.chunks(size).flat_map(|piece| parser.push(piece).unwrap()).collect();
            prop_assert_eq!(pieces, read(&stream));
        }
    }
}
