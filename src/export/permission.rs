//! Who may do what, by owner, group and mode: what a local file system would say.

use std::fmt;
use std::str::FromStr;

use crate::event::Client;
use crate::store::{self, Attr, Kind};

/// Who asks.
#[derive(Clone, Debug)]
pub struct Caller {
    /// Address and claimed identity.
    pub client: Client,
    /// Further groups that the caller claims, at most 16.
    pub gids: Vec<u32>,
}

/// Whose claimed identity is replaced by the anonymous one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Squash {
    /// User and group 0.
    #[default]
    Root,
    /// Everybody.
    All,
    /// Nobody.
    None,
}

impl fmt::Display for Squash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Root => "root",
            Self::All => "all",
            Self::None => "none",
        })
    }
}

/// A word that is none of the three.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("squash must be \"root\", \"all\" or \"none\", not \"{0}\"")]
pub struct UnknownSquash(String);

impl FromStr for Squash {
    type Err = UnknownSquash;

    fn from_str(word: &str) -> Result<Self, UnknownSquash> {
        match word {
            "root" => Ok(Self::Root),
            "all" => Ok(Self::All),
            "none" => Ok(Self::None),
            other => Err(UnknownSquash(other.to_owned())),
        }
    }
}

/// How claimed identities are taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    /// Who is replaced.
    pub squash: Squash,
    /// The user that replaces, and that AUTH_NONE gets.
    pub anonymous_uid: u32,
    /// The group that replaces, and that AUTH_NONE gets.
    pub anonymous_gid: u32,
}

impl Default for Identity {
    fn default() -> Self {
        Self { squash: Squash::Root, anonymous_uid: 65534, anonymous_gid: 65534 }
    }
}

/// What a caller may do with an object. A read-only export never grants changes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Access {
    /// Read the file, list the directory.
    pub read: bool,
    /// Look names up in the directory.
    pub lookup: bool,
    /// Run the file.
    pub execute: bool,
    /// Read and list extended attributes; also where policy denies the file, so that they tell why.
    pub xattrs: bool,
}

impl Identity {
    /// What mode, owner and group of `attr` grant to `caller`.
    pub fn access(&self, attr: &Attr, caller: &Caller) -> Access {
        let (uid, gid) = self.taken(caller);
        let all = self.squash == Squash::All;
        let member = |group: u32| {
            let root = group == 0 && self.squash == Squash::Root;
            group == gid || (!all && !root && caller.gids.contains(&group))
        };
        let directory = attr.kind == Kind::Directory;
        let (read, execute) = match () {
            () if uid == 0 => (true, directory || attr.mode & 0o111 != 0),
            () if uid == attr.uid => (attr.mode & 0o400 != 0, attr.mode & 0o100 != 0),
            () if member(attr.gid) => (attr.mode & 0o040 != 0, attr.mode & 0o010 != 0),
            () => (attr.mode & 0o004 != 0, attr.mode & 0o001 != 0),
        };
        Access { read, lookup: directory && execute, execute: !directory && execute, xattrs: read || execute }
    }

    /// As whom a store is asked that asks in the name of `caller`.
    pub(super) fn acting(&self, caller: &Caller) -> store::Identity {
        let (uid, gid) = self.taken(caller);
        let gids = match self.squash {
            Squash::All => Vec::new(),
            Squash::Root => caller.gids.iter().copied().filter(|group| *group != 0).collect(),
            Squash::None => caller.gids.clone(),
        };
        store::Identity { uid, gid, gids }
    }

    /// The user and group that a caller is taken for.
    pub(super) fn taken(&self, caller: &Caller) -> (u32, u32) {
        let uid = caller.client.uid.unwrap_or(self.anonymous_uid);
        let gid = caller.client.gid.unwrap_or(self.anonymous_gid);
        match self.squash {
            Squash::None => (uid, gid),
            Squash::All => (self.anonymous_uid, self.anonymous_gid),
            Squash::Root => (
                if uid == 0 { self.anonymous_uid } else { uid },
                if gid == 0 { self.anonymous_gid } else { gid },
            ),
        }
    }

    /// Whether READ is granted: to who may read, who may run (a client reads to run), and the owner,
    /// who could change the mode anyway and whose open files stay readable then.
    pub(super) fn may_read_data(&self, attr: &Attr, caller: &Caller) -> bool {
        let access = self.access(attr, caller);
        access.read || access.execute || self.taken(caller).0 == attr.uid
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Time;

    fn attr(mode: u32, uid: u32, gid: u32) -> Attr {
        let time = Time::default();
        Attr {
            kind: Kind::Regular,
            mode,
            nlink: 1,
            uid,
            gid,
            size: 0,
            used: 0,
            rdev: (0, 0),
            fileid: 1,
            atime: time,
            mtime: time,
            ctime: time,
            change: 0,
        }
    }

    fn caller(uid: Option<u32>, gid: u32, gids: &[u32]) -> Caller {
        let address = ([127, 0, 0, 1], 1).into();
        Caller { client: Client { address, uid, gid: uid.map(|_| gid) }, gids: gids.to_vec() }
    }

    #[test]
    fn the_first_class_that_fits_decides() {
        let identity = Identity::default();
        let reads = |mode, who: &Caller| identity.access(&attr(mode, 1000, 100), who).read;
        assert!(reads(0o400, &caller(Some(1000), 1, &[])));
        assert!(!reads(0o044, &caller(Some(1000), 100, &[])), "the owner is not of the group");
        assert!(reads(0o040, &caller(Some(1), 100, &[])));
        assert!(reads(0o040, &caller(Some(1), 1, &[5, 100])));
        assert!(!reads(0o004, &caller(Some(1), 100, &[])), "the group is not the others");
        assert!(reads(0o004, &caller(Some(1), 1, &[])));
        assert!(!reads(0o440, &caller(None, 0, &[])));
    }

    #[test]
    fn root_is_nobody_unless_the_configuration_says_otherwise() {
        let mine = attr(0o600, 0, 0);
        let root = caller(Some(0), 0, &[0]);
        let squash = |squash| Identity { squash, ..Identity::default() };
        assert!(!squash(Squash::Root).access(&mine, &root).read);
        assert!(squash(Squash::None).access(&mine, &root).read);
        assert!(!squash(Squash::None).access(&mine, &root).execute, "nobody may run it, not even root");
        assert!(!squash(Squash::All).access(&attr(0o600, 7, 7), &caller(Some(7), 7, &[7])).read);
        let group = attr(0o040, 7, 0);
        assert!(!squash(Squash::Root).access(&group, &caller(Some(8), 8, &[0])).read);
    }

    #[test]
    fn who_may_run_a_file_may_read_its_data() {
        let identity = Identity::default();
        assert!(identity.may_read_data(&attr(0o001, 1, 1), &caller(Some(9), 9, &[])));
        assert!(!identity.may_read_data(&attr(0o000, 1, 1), &caller(Some(9), 9, &[])));
        assert!(identity.may_read_data(&attr(0o000, 9, 1), &caller(Some(9), 9, &[])));
    }
}
