//! The values of what is told of a file.

use std::fmt::Write as _;

use bytes::Bytes;

use super::damage::Damage;
use super::evidence::Item;
use super::trust::{Finding, Outcome};
use crate::carrier::Evidence;
use crate::event::Cause;
use crate::sign::{Certificate, Format, ImaSignature, Pkcs7, Signer, certificate_to_pem, read_envelope};
use crate::store::XATTR_MAX;
use crate::verity::Descriptor;

/// A set of items.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Items(u16);

impl Items {
    /// Those that have a value: with this outcome (`None`: only hashing all of the file can tell, and what
    /// it can tell counts) and evidence (`None`: it cannot be read).
    pub(super) fn of(outcome: Option<&Outcome>, evidence: Option<&Evidence>) -> Self {
        let mut all = Self::default();
        for item in Item::ALL {
            let there = match (item, outcome) {
                (Item::Status, _) => true,
                (Item::Digest | Item::Descriptor | Item::Tree | Item::Signer, None | Some(Ok(_))) => true,
                (Item::Signer, Some(Err(_))) => false,
                (Item::Digest | Item::Descriptor | Item::Tree, Some(Err(_))) => {
                    evidence.and_then(claimed).is_some()
                }
                (Item::Statement | Item::Signature | Item::Ima | Item::Certificates, _) => {
                    evidence.and_then(|evidence| part(item, outcome, evidence)).is_some()
                }
            };
            if there {
                all.0 |= 1 << item as u16;
            }
        }
        all
    }

    /// The items, in the order of listings.
    pub(super) fn iter(self) -> impl Iterator<Item = Item> {
        Item::ALL.into_iter().filter(move |item| self.0 & (1 << *item as u16) != 0)
    }
}

/// The descriptor that evidence claims.
pub(super) fn claimed(evidence: &Evidence) -> Option<Descriptor> {
    evidence.descriptor.as_deref().and_then(|bytes| Descriptor::parse(bytes).ok())
}

/// What a descriptor says, in the form of `item`; `None` for what it does not say.
pub(super) fn of_descriptor(item: Item, descriptor: &Descriptor) -> Option<Bytes> {
    match item {
        Item::Digest => Some(descriptor.file_digest().to_string().into()),
        Item::Descriptor => Some(Bytes::copy_from_slice(&descriptor.encode())),
        Item::Tree => {
            let (params, geometry) = (&descriptor.params, descriptor.geometry().ok()?);
            let line = format!(
                "algorithm={} block_size={} salt={} levels={} tree_bytes={} data_bytes={} data_blocks={} root_hash={}",
                params.algorithm,
                params.block_size.get(),
                hex::encode(params.salt.as_bytes()),
                geometry.levels(),
                geometry.tree_size(),
                descriptor.size,
                geometry.data_blocks(),
                descriptor.root_hash,
            );
            Some(line.into())
        }
        Item::Statement | Item::Signature | Item::Signer | Item::Status | Item::Ima | Item::Certificates => {
            None
        }
    }
}

/// A part of the evidence as it stands there: of several the one that counted, or else the first. `None`
/// where there is none that reads as what it is named after, or none that fits into an extended attribute.
///
/// Whether it was accepted is not asked, so it may be the store's word; that it reads keeps other bytes from
/// being given out under its name. It is a copy: parts of evidence keep all of it in memory.
pub(super) fn part(item: Item, outcome: Option<&Outcome>, evidence: &Evidence) -> Option<Bytes> {
    let accepted = outcome.and_then(|outcome| outcome.as_ref().ok());
    let value = match item {
        Item::Statement => {
            // What counted was read.
            let counts = |signer: &Signer| signer.format == Format::Native;
            let is_read = accepted.is_some_and(|proven| proven.signers.iter().any(counts));
            evidence.statement.as_ref().filter(|value| is_read || read_envelope(value).is_ok())
        }
        Item::Signature => {
            let reads = |value: &[u8]| Pkcs7::parse(value).is_ok();
            pick(&evidence.pkcs7, accepted.and_then(|proven| proven.pkcs7), reads)
        }
        Item::Ima => {
            let reads = |value: &[u8]| ImaSignature::parse(value).is_ok();
            pick(&evidence.ima, accepted.and_then(|proven| proven.ima), reads)
        }
        Item::Certificates => return certificates(evidence),
        Item::Digest | Item::Descriptor | Item::Signer | Item::Status | Item::Tree => None,
    };
    value.filter(|value| value.len() <= XATTR_MAX).map(|value| Bytes::copy_from_slice(value))
}

fn pick(all: &[Bytes], accepted: Option<usize>, reads: impl Fn(&[u8]) -> bool) -> Option<&Bytes> {
    match accepted {
        Some(accepted) => all.get(accepted),
        None => all.iter().find(|value| reads(value)),
    }
}

fn certificates(evidence: &Evidence) -> Option<Bytes> {
    let mut pem = String::new();
    for der in evidence.certificates.iter().filter(|der| Certificate::from_der(der).is_ok()) {
        pem.push_str(&certificate_to_pem(der).ok()?);
        if pem.len() > XATTR_MAX {
            return None;
        }
    }
    (!pem.is_empty()).then(|| pem.into())
}

/// Who signed, one a line: key id, format, name.
pub(super) fn signers(outcome: &Outcome) -> Option<Bytes> {
    let proven = outcome.as_ref().ok()?;
    let mut lines = String::new();
    for signer in &*proven.signers {
        let _ = writeln!(lines, "{} {} {}", signer.key_id, signer.format, line(&signer.name));
        if lines.len() > XATTR_MAX {
            return None;
        }
    }
    Some(lines.into())
}

/// `verified`, or the cause why not with hyphens for spaces, and what else is known of it behind a colon.
pub(super) fn status(finding: Option<&Finding>, damage: Option<&Damage>) -> Bytes {
    let told = |cause: Cause, detail: &str| {
        let word = cause.as_str().replace(' ', "-");
        if detail.is_empty() { word } else { format!("{word}: {}", line(detail)) }
    };
    let status = match (finding, damage) {
        (Some(finding), _) => told(finding.cause, &finding.detail),
        (None, Some(damage)) => told(damage.cause, &damage.to_string()),
        (None, None) => "verified".to_owned(),
    };
    status.into()
}

/// `text` on one line.
fn line(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { char::REPLACEMENT_CHARACTER } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_that_is_told_does_not_keep_the_head_that_it_was_cut_from() {
        let head = Bytes::from([&[3, 2, 4, 0, 0, 0, 0, 0, 1, 7][..], &[0; 8192]].concat());
        let evidence = Evidence { ima: vec![head.slice(..10)], ..Evidence::default() };
        let told = part(Item::Ima, None, &evidence).unwrap();
        assert_eq!(told, head[..10]);
        assert!(!head.as_ptr_range().contains(&told.as_ptr()));
    }
}
