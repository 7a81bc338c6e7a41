//! Stateids: what they stand for, RFC 8881 section 8.2.

use bytes::Bytes;

use super::core::{Core, Entry, Held, LockState, OpenState, Other};
use super::{ClientId, FileId, Stateid};
use crate::proto::nfs4::status::Status;

impl Core {
    /// Takes an open out of the tables, with the locks under it. The client and the accounts are the
    /// caller's to bring up to date.
    pub(super) fn release(&mut self, other: Other) -> Released {
        let mut released = Released::default();
        let Some(entry) = self.stateids.remove(&other) else { return released };
        let Held::Open(open) = entry.held else { return released };
        let Some(file) = self.files.get_mut(&entry.file) else { return released };
        released.weight = entry.weight;
        file.opens.remove(&other);
        file.count(open.access, open.deny, |count| *count -= 1);
        for (owner, lock) in open.locks {
            released.ranges += file.locks.forget(owner);
            if let Some(Entry { held: Held::Lock(state), weight, .. }) = self.stateids.remove(&lock) {
                released.owners.push(state.owner);
                released.locks.push((lock, weight));
            }
        }
        if file.opens.is_empty() {
            self.files.remove(&entry.file);
        }
        released
    }

    /// What a stateid stands for, by the rules of section 8.2.4. One of another client is as good as
    /// none. Of an earlier instance there are none: its sessions are gone, and NFS4ERR_STALE_STATEID is
    /// obsolete (section 15.1.16).
    pub(super) fn check(&self, client: ClientId, stateid: Stateid) -> Result<&Entry, Status> {
        let entry = self.stateids.get(&stateid.other).filter(|entry| entry.client == client);
        let entry = entry.ok_or(Status::BadStateid)?;
        if matches!(entry.held, Held::Revoked(_)) {
            return Err(Status::Expired);
        }
        match stateid.seqid {
            0 => Ok(entry),
            seqid if seqid == entry.seqid => Ok(entry),
            // The numbers wrap.
            seqid if seqid.wrapping_sub(entry.seqid) < 1 << 31 => Err(Status::BadStateid),
            _ => Err(Status::OldStateid),
        }
    }

    /// The same, of an open of this file.
    pub(super) fn check_open(
        &self,
        client: ClientId,
        file: FileId,
        stateid: Stateid,
    ) -> Result<&OpenState, Status> {
        match self.check(client, stateid)? {
            Entry { file: of, held: Held::Open(open), .. } if *of == file => Ok(open),
            _ => Err(Status::BadStateid),
        }
    }

    /// The same, of locks in this file.
    pub(super) fn check_lock(
        &self,
        client: ClientId,
        file: FileId,
        stateid: Stateid,
    ) -> Result<&LockState, Status> {
        match self.check(client, stateid)? {
            Entry { file: of, held: Held::Lock(lock), .. } if *of == file => Ok(lock),
            _ => Err(Status::BadStateid),
        }
    }

    /// The next `seqid` of a stateid; 0 is left out, it stands for the newest (section 8.2.2).
    pub(super) fn advance(&mut self, other: Other) -> Stateid {
        let seqid = self.stateids.get_mut(&other).map_or(1, |entry| {
            entry.seqid = entry.seqid.checked_add(1).unwrap_or(1);
            entry.seqid
        });
        Stateid { seqid, other }
    }
}

/// What went with an open.
#[derive(Default)]
pub(super) struct Released {
    /// What the open counted for.
    pub(super) weight: usize,
    /// Lock stateids, and what each counted for.
    pub(super) locks: Vec<(Other, usize)>,
    /// Whose they were.
    pub(super) owners: Vec<Bytes>,
    /// How many ranges were locked.
    pub(super) ranges: usize,
}
