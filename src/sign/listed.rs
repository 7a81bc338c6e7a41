//! A keyring as it is shown: keys and authorities in one list, each with the time for which it counts.

use super::{Certificate, FormatSet, Keyring, Limits, PublicKey};

/// What a trusted key or authority is at some moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Its signatures count.
    Trusted,
    /// An entry revokes it.
    Revoked,
    /// Its time is over.
    Expired,
    /// Its time has not come.
    NotYetValid,
}

impl Standing {
    /// The wording used everywhere.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Trusted => "trusted",
            Self::Revoked => "revoked",
            Self::Expired => "expired",
            Self::NotYetValid => "not yet valid",
        }
    }
}

/// A key or an authority of a keyring.
#[derive(Clone, Debug)]
pub struct Listed<'a> {
    /// `key` or `authority`.
    pub kind: &'static str,
    /// Its name for people.
    pub name: &'a str,
    /// The key.
    pub key: &'a PublicKey,
    /// The certificate that it came with.
    pub certificate: Option<&'a Certificate>,
    /// For what it counts.
    pub limits: &'a Limits,
    /// The formats in which it counts.
    pub formats: FormatSet,
    /// The first and the last second, since 1970, at which it counts.
    pub window: (Option<i64>, Option<i64>),
    /// The entry that revokes it.
    pub revoked_by: Option<&'a str>,
}

impl Listed<'_> {
    /// What it is at `now`, in seconds since 1970.
    pub fn standing(&self, now: i64) -> Standing {
        match (self.revoked_by, self.window) {
            (Some(_), _) => Standing::Revoked,
            (None, (_, Some(last))) if now > last => Standing::Expired,
            (None, (Some(first), _)) if now < first => Standing::NotYetValid,
            (None, _) => Standing::Trusted,
        }
    }
}

impl Keyring {
    /// Keys by name, and behind them authorities.
    pub fn listed(&self) -> Vec<Listed<'_>> {
        let revoked = self.revoked();
        let keys = self.iter().map(|trusted| {
            let (certificate, limits) = (trusted.certificate.as_ref(), &trusted.limits);
            Listed {
                kind: "key",
                name: &trusted.name,
                key: &trusted.key,
                certificate,
                limits,
                formats: limits.formats.unwrap_or(self.formats()),
                window: (limits.not_before, limits.not_after),
                revoked_by: revoked.key(&trusted.key.key_id()).or_else(|| revoked.names(certificate?)),
            }
        });
        let authorities = self.authorities().iter().map(|authority| {
            let (certificate, limits) = (&authority.certificate, &authority.limits);
            let first = limits.not_before.unwrap_or(i64::MIN).max(certificate.not_before());
            let last = limits.not_after.unwrap_or(i64::MAX).min(certificate.not_after());
            Listed {
                kind: "authority",
                name: &authority.name,
                key: certificate.key(),
                certificate: Some(certificate),
                limits,
                formats: limits.formats.unwrap_or(self.formats()),
                window: (Some(first), Some(last)),
                revoked_by: revoked.names(certificate),
            }
        });
        let mut listed: Vec<_> = keys.chain(authorities).collect();
        listed.sort_by(|a, b| (a.kind == "authority", a.name).cmp(&(b.kind == "authority", b.name)));
        listed
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sign::{KeyAlgorithm, TrustedKey, generate};

    #[test]
    fn keys_stand_by_name_and_count_in_their_time() {
        let key = |name: &str, not_before, not_after| {
            let pem = generate(KeyAlgorithm::Ed25519).unwrap().public_pem;
            let key = PublicKey::from_spki_pem(pem.as_bytes()).unwrap();
            let limits = Limits { not_before, not_after, ..Limits::default() };
            TrustedKey { limits, ..TrustedKey::new(key, name) }
        };
        let keyring = Keyring::new(vec![key("b", Some(10), Some(20)), key("a", None, None)]);
        let listed = keyring.listed();
        assert_eq!(
            listed.iter().map(|key| (key.kind, key.name)).collect::<Vec<_>>(),
            [("key", "a"), ("key", "b")]
        );
        let standing: Vec<_> = [9, 10, 20, 21].map(|now| listed[1].standing(now).as_str()).to_vec();
        assert_eq!(standing, ["not yet valid", "trusted", "trusted", "expired"]);
        assert_eq!(listed[0].standing(i64::MAX), Standing::Trusted);
        let revoked = Listed { revoked_by: Some("x"), ..listed[1].clone() };
        assert_eq!(revoked.standing(21), Standing::Revoked);
    }
}
