//! Stateids: which a client may mean, section 8.2.3, and FREE_STATEID and TEST_STATEID.

use crate::proto::nfs4::args::stateids;
use crate::proto::nfs4::compound::Compound;
use crate::proto::nfs4::state::Stateid;
use crate::proto::nfs4::status::Status;

/// What a stateid stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Meant {
    /// Nothing: all zeros.
    Anonymous,
    /// Nothing, past mandatory locks: all ones.
    Bypass,
    /// Some open or lock.
    State(Stateid),
}

impl Compound<'_> {
    /// What `stateid` stands for. `newest`: the current stateid is taken in its newest form.
    fn meant(&self, stateid: Stateid, newest: bool) -> Result<Meant, Status> {
        const ZEROS: [u8; 12] = [0; 12];
        const ONES: [u8; 12] = [0xff; 12];
        match (stateid.seqid, stateid.other) {
            (0, ZEROS) => Ok(Meant::Anonymous),
            (u32::MAX, ONES) => Ok(Meant::Bypass),
            (1, ZEROS) => {
                let current = self.stateid.ok_or(Status::BadStateid)?;
                Ok(Meant::State(if newest { Stateid { seqid: 0, ..current } } else { current }))
            }
            (_, ZEROS | ONES) => Err(Status::BadStateid),
            _ => Ok(Meant::State(stateid)),
        }
    }

    /// A stateid of an operation that only one of an open or a lock will do for.
    pub(super) fn real(&self, stateid: Stateid, newest: bool) -> Result<Stateid, Status> {
        match self.meant(stateid, newest)? {
            Meant::State(stateid) => Ok(stateid),
            Meant::Anonymous | Meant::Bypass => Err(Status::BadStateid),
        }
    }

    /// Whether the current file may be read under `stateid`.
    pub(super) fn may_read(&self, stateid: Stateid) -> Result<(), Status> {
        let (client, file) = (self.client()?, self.current()?.fileid);
        let state = &self.server.state;
        match self.meant(stateid, true)? {
            Meant::Anonymous => state.may_read_anonymously(file, false),
            Meant::Bypass => state.may_read_anonymously(file, true),
            Meant::State(stateid) => state.may_read(client, file, stateid),
        }
    }

    /// Answers with a stateid, which is the current one from now on.
    pub(super) fn answer(&mut self, stateid: Stateid) {
        self.stateid = Some(stateid);
        self.results.u32(stateid.seqid).fixed(&stateid.other);
    }
}

/// FREE_STATEID, section 18.38.
pub(super) fn free(c: &mut Compound<'_>, stateid: Stateid) -> Result<(), Status> {
    let client = c.client()?;
    let stateid = c.real(stateid, true)?;
    c.server.state.free_stateid(client, stateid)
}

/// TEST_STATEID, section 18.48.
pub(super) fn test(c: &mut Compound<'_>, bytes: &[u8]) -> Result<(), Status> {
    let client = c.client()?;
    let all = stateids(bytes);
    c.fits(4 + 4 * all.len())?;
    c.results.u32(u32::try_from(all.len()).unwrap_or(u32::MAX));
    for stateid in all {
        let status = match c.real(stateid, true) {
            Ok(stateid) => c.server.state.test_stateid(client, stateid),
            Err(status) => status,
        };
        c.results.u32(status.number());
    }
    Ok(())
}
