//! What one delivery holds.

use bytes::Bytes;
use jiff::Timestamp;
use ring::rand::{SecureRandom, SystemRandom};
use serde::Serialize;

use crate::monitor::feed::{Chapter, Told};

/// Events in one delivery at most.
pub(super) const EVENTS_MAX: usize = 50;
/// Bytes of its body at most.
pub(super) const BODY_MAX: usize = 256 * 1024;

/// One delivery.
#[derive(Clone, Debug)]
pub(super) struct Batch {
    /// Its number, the same each time that it is tried.
    pub(super) id: String,
    /// A JSON object.
    pub(super) body: Bytes,
    /// How many events it tells of.
    pub(super) events: usize,
}

/// Who sends.
#[derive(Debug)]
pub(super) struct Sender {
    host: String,
    namespace: String,
}

/// The body without its events.
#[derive(Serialize)]
struct Head<'a> {
    gateway: &'a str,
    namespace: &'a str,
    version: &'static str,
    sent: String,
    missed: u64,
}

/// What stands for an event that finds no room even alone. The audit log has it.
#[derive(Serialize)]
struct Stub {
    id: u64,
    time: String,
    event: &'static str,
    cut: bool,
}

impl Sender {
    /// The gateway on this host.
    pub(super) fn new(namespace: String) -> Self {
        let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
        Self { host, namespace }
    }

    /// As many of the first events of `chapter` as find room, and the number to go on behind.
    pub(super) fn batch(&self, chapter: &Chapter, missed: u64, now: Timestamp) -> (Batch, u64) {
        let head = Head {
            gateway: &self.host,
            namespace: &self.namespace,
            version: env!("CARGO_PKG_VERSION"),
            sent: format!("{now:.3}"),
            missed,
        };
        // Strings and numbers have no reason not to be JSON.
        let mut body = serde_json::to_string(&head).unwrap_or_default();
        body.pop();
        body.push_str(",\"events\":[");
        let (mut events, mut last) = (0, chapter.last);
        for told in &chapter.events {
            let stub;
            let mut json = &*told.json;
            if events == 0 && body.len() + json.len() + 2 > BODY_MAX {
                stub = Stub::of(told);
                json = &stub;
            } else if body.len() + json.len() + 3 > BODY_MAX {
                // The rest is for the next one.
                break;
            }
            if events > 0 {
                body.push(',');
            }
            body.push_str(json);
            events += 1;
            last = if events < chapter.events.len() { told.id } else { chapter.last };
        }
        body.push_str("]}");
        (Batch { id: random(), body: body.into(), events }, last)
    }
}

impl Stub {
    fn of(told: &Told) -> String {
        let stub = Self { id: told.id, time: format!("{:.3}", told.time), event: told.kind, cut: true };
        serde_json::to_string(&stub).unwrap_or_default()
    }
}

/// 128 bits, in hex.
fn random() -> String {
    let mut id = [0_u8; 16];
    // Without randomness deliveries have one number; the events have their own.
    let _ = SystemRandom::new().fill(&mut id);
    hex::encode(id)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn told(id: u64, json: &str) -> Told {
        let time = Timestamp::UNIX_EPOCH;
        Told { id, time, kind: "refused", failure: true, json: json.into() }
    }

    fn batch(chapter: &Chapter, missed: u64) -> (Value, usize, u64) {
        let sender = Sender { host: "host \"1\"".into(), namespace: "releases".into() };
        let (batch, last) = sender.batch(chapter, missed, Timestamp::UNIX_EPOCH);
        assert!(batch.body.len() <= BODY_MAX);
        assert_eq!(batch.id.len(), 32);
        let body: Value = serde_json::from_slice(&batch.body).unwrap();
        assert_eq!(body["events"].as_array().unwrap().len(), batch.events);
        (body, batch.events, last)
    }

    #[test]
    fn a_body_says_who_sends_what_and_what_is_missing() {
        let events = vec![told(3, "{\"id\":3}"), told(5, "{\"id\":5}")];
        let (body, _, last) = batch(&Chapter { events, missed: 0, last: 9 }, 7);
        let wanted = json!({
            "gateway": "host \"1\"", "namespace": "releases", "version": env!("CARGO_PKG_VERSION"),
            "sent": "1970-01-01T00:00:00.000Z", "missed": 7, "events": [{"id": 3}, {"id": 5}],
        });
        assert_eq!((body, last), (wanted, 9));
        let (body, events, last) = batch(&Chapter { last: 4, ..Chapter::default() }, 0);
        assert_eq!((&body["events"], events, last), (&json!([]), 0, 4));
    }

    #[test]
    fn what_finds_no_room_is_for_the_next_one() {
        let long = format!("\"{}\"", "x".repeat(100_000));
        let events: Vec<_> = (1..=5).map(|id| told(id, &long)).collect();
        let mut rest = Chapter { events, missed: 0, last: 8 };
        let mut ends = Vec::new();
        while !rest.events.is_empty() {
            let (_, taken, last) = batch(&rest, 0);
            rest.events.drain(..taken);
            ends.push(last);
        }
        assert_eq!(ends, [2, 4, 8]);
    }

    #[test]
    fn an_event_that_is_too_long_alone_is_named_and_not_held_back() {
        let long = format!("\"{}\"", "x".repeat(BODY_MAX));
        let events = vec![told(1, "{}"), told(2, &long), told(3, "{}")];
        let mut rest = Chapter { events, missed: 0, last: 3 };
        assert_eq!((batch(&rest, 0).1, batch(&rest, 0).2), (1, 1));
        rest.events.remove(0);
        let (body, taken, last) = batch(&rest, 0);
        assert_eq!((taken, last), (2, 3));
        let stub = json!({"id": 2, "time": "1970-01-01T00:00:00.000Z", "event": "refused", "cut": true});
        assert_eq!(body["events"], json!([stub, {}]));
    }

    #[test]
    fn a_body_is_never_larger_than_its_limit() {
        for more in 0..200 {
            let long = format!("\"{}\"", "x".repeat(BODY_MAX / 2 - 150 + more));
            let events = vec![told(1, &long), told(2, &long)];
            assert!(batch(&Chapter { events, missed: 0, last: 2 }, 0).1 > 0);
        }
    }
}
