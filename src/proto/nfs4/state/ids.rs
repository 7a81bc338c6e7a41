//! Numbers that cannot be guessed, so that knowing one is having been told.

use ring::hmac;

use super::core::{Key, Other};
use super::{ClientId, Principal, SessionId};

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

/// What the table of clients is searched by.
pub(super) fn name(owner: &[u8]) -> Key {
    digest(&[owner])
}

/// What the journal knows a client by. The principal is part of it, so that after a restart nobody
/// elsewhere reclaims in its name.
pub(super) fn journal_key(owner: &[u8], principal: Principal) -> Key {
    let uid = principal.uid.map_or([0; 5], |uid| {
        let [a, b, c, d] = uid.to_be_bytes();
        [1, a, b, c, d]
    });
    match principal.address.to_canonical() {
        std::net::IpAddr::V4(address) => digest(&[&uid, &[4], &address.octets(), owner]),
        std::net::IpAddr::V6(address) => digest(&[&uid, &[6], &address.octets(), owner]),
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
