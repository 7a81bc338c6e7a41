//! Numbers that cannot be guessed, so that knowing one is having been told.

use std::net::IpAddr;

use ring::hmac;

use super::account::Place;
use super::core::{Key, Other};
use super::{ClientId, SessionId};

/// Where they come from: a keyed hash over a counter.
pub(super) struct Ids {
    key: hmac::Key,
    counter: u64,
}

impl Ids {
    pub(super) fn new(secret: &[u8; 32]) -> Self {
        Self { key: hmac::Key::new(hmac::HMAC_SHA256, secret), counter: 0 }
    }

    fn next<const N: usize>(&mut self, kind: u8) -> [u8; N] {
        self.counter = self.counter.wrapping_add(1);
        let mut message = [kind; 9];
        if let Some((_, counter)) = message.split_first_mut() {
            counter.copy_from_slice(&self.counter.to_be_bytes());
        }
        let tag = hmac::sign(&self.key, &message);
        let mut id = [0; N];
        for (to, from) in id.iter_mut().zip(tag.as_ref()) {
            *to = *from;
        }
        id
    }

    pub(super) fn client(&mut self) -> ClientId {
        u64::from_be_bytes(self.next(1))
    }

    pub(super) fn session(&mut self) -> SessionId {
        self.next(2)
    }

    /// The `other` of a stateid; with 96 bits of a hash it is none of the special ones.
    pub(super) fn other(&mut self) -> Other {
        self.next(3)
    }
}

/// What the table of clients is searched by: an owner of one place. The same owner from elsewhere is
/// another client, so that nobody takes, or by asking first occupies, a name that is not his to use.
pub(super) fn name(owner: &[u8], place: Place) -> Key {
    match place.address() {
        IpAddr::V4(address) => digest(&[&[4], &address.octets(), owner]),
        IpAddr::V6(address) => digest(&[&[6], &address.octets(), owner]),
    }
}

/// What the journal knows a client by: after a restart, too, it is the same principal's alone.
pub(super) fn journal_key(name: &Key, uid: Option<u32>) -> Key {
    match uid {
        Some(uid) => digest(&[name, &[1], &uid.to_be_bytes()]),
        None => digest(&[name, &[0]]),
    }
}

fn digest(parts: &[&[u8]]) -> Key {
    let mut context = ring::digest::Context::new(&ring::digest::SHA256);
    for part in parts {
        context.update(part);
    }
    let mut key = [0; 32];
    for (to, from) in key.iter_mut().zip(context.finish().as_ref()) {
        *to = *from;
    }
    key
}
