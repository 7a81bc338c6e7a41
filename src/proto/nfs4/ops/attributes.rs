//! GETATTR, VERIFY, NVERIFY, ACCESS.

use bytes::Bytes;

use super::{Current, NAME_MAX};
use crate::export::{Access, Attr, ExportError, FsStat, Item, Kind};
use crate::proto::nfs4::args::Attributes;
use crate::proto::nfs4::attr::{self, Object, Server};
use crate::proto::nfs4::bitmap::Bitmap;
use crate::proto::nfs4::compound::Compound;
use crate::proto::nfs4::op;
use crate::proto::nfs4::status::Status;
use crate::wire::Writer;

/// ACCESS4_READ, RFC 8881 section 18.1.
const READ: u32 = 0x01;
/// ACCESS4_LOOKUP.
const LOOKUP: u32 = 0x02;
/// ACCESS4_MODIFY, EXTEND and DELETE, which nobody gets.
const CHANGES: u32 = 0x04 | 0x08 | 0x10;
/// ACCESS4_DELETE.
const DELETE: u32 = 0x10;
/// ACCESS4_EXECUTE.
const EXECUTE: u32 = 0x20;
/// ACCESS4_XAREAD and XALIST, RFC 8276 section 8.4.1.
const XATTRS: u32 = 0x40 | 0x100;
/// ACCESS4_XAWRITE, which nobody gets.
const XAWRITE: u32 = 0x80;

/// The longest value of FATTR4_IMA.
const IMA_MAX: usize = 4096;

/// What was found out of an object before its attributes are written.
struct Known {
    attr: Attr,
    file_system: Option<FsStat>,
    ima: Bytes,
}

impl Compound<'_> {
    /// What holds for all attributes.
    pub(super) fn server_attributes(&self) -> Server {
        let ima = self.server.ima.map(|ima| ima.attribute);
        let supported = attr::supported(self.minor);
        let supported = ima.map_or(supported, |number| supported.or(Bitmap::of(&[number])));
        let lease = u32::try_from(self.server.state.lease().as_secs()).unwrap_or(u32::MAX);
        Server { supported, fsid: self.server.export.fsid(), lease, ima }
    }

    /// Looks at the current object as far as `wanted` takes it.
    async fn look(&mut self, current: &Current, wanted: Bitmap) -> Result<Known, Status> {
        let export = &self.server.export;
        let (attr, file_system) = if wanted.intersects(attr::OF_FILE_SYSTEM) {
            let found = export.stat_fs(current.handle(), &self.caller).await;
            let (stat, attr) = found.map_err(|error| self.refused(error))?;
            (attr, Some(stat))
        } else {
            let found = export.attributes(current.handle(), &self.caller).await;
            (found.map_err(|error| self.refused(error))?, None)
        };
        let ima = match self.server.ima {
            Some(ima) if wanted.contains(ima.attribute) => self.ima(current, &attr).await?,
            _ => Bytes::new(),
        };
        Ok(Known { attr, file_system, ima })
    }

    /// Who asks for FATTR4_IMA itself may be told of failures in its words. Who asks for the supported
    /// attributes alone may not: every client does, also those that know nothing of it.
    fn participates(&self, wanted: Bitmap) {
        if self.server.ima.is_some_and(|ima| wanted.contains(ima.attribute))
            && let Ok(client) = self.client()
        {
            self.server.participants.insert(client, ());
        }
    }

    /// The value of FATTR4_IMA: empty where there is none.
    async fn ima(&mut self, current: &Current, attr: &Attr) -> Result<Bytes, Status> {
        if attr.kind != Kind::Regular {
            return Err(Status::WrongType);
        }
        let name = Item::Ima.xattr_name().as_bytes();
        match self.server.export.get_xattr(current.handle(), name, &self.caller).await {
            Ok(value) if value.len() <= IMA_MAX => Ok(value),
            Ok(_) | Err(ExportError::NoXattr) => Ok(Bytes::new()),
            Err(error) => Err(self.refused(error)),
        }
    }
}

/// GETATTR, section 18.7.
pub(super) async fn get(c: &mut Compound<'_>, wanted: Bitmap) -> Result<(), Status> {
    let current = c.current()?;
    if wanted.intersects(attr::WRITE_ONLY) {
        return Err(Status::Inval);
    }
    c.participates(wanted);
    let known = c.look(&current, wanted).await?;
    encode(&c.server_attributes(), &mut c.results, wanted, &current, &known);
    Ok(())
}

fn encode(server: &Server, w: &mut Writer, wanted: Bitmap, current: &Current, known: &Known) {
    let object = Object {
        attr: Some(&known.attr),
        fileid: known.attr.fileid,
        handle: current.handle(),
        file_system: known.file_system.as_ref(),
        ima: &known.ima,
        error: Status::Ok,
    };
    server.encode(w, wanted, &object);
}

/// VERIFY and NVERIFY, sections 18.30 and 18.15: compared as they are encoded.
pub(super) async fn verify(
    c: &mut Compound<'_>,
    same: bool,
    attributes: &Attributes<'_>,
) -> Result<(), Status> {
    let current = c.current()?;
    let unfit = attr::WRITE_ONLY.or(Bitmap::of(&[attr::RDATTR_ERROR]));
    if attributes.mask.intersects(unfit) {
        return Err(Status::Inval);
    }
    let server = c.server_attributes();
    if !attributes.mask.without(server.supported).is_empty() {
        return Err(Status::AttrNotSupp);
    }
    c.participates(attributes.mask);
    let known = c.look(&current, attributes.mask).await?;
    let mut ours = Writer::with_capacity(NAME_MAX);
    encode(&server, &mut ours, attributes.mask, &current, &known);
    let mut theirs = Writer::with_capacity(NAME_MAX);
    attributes.mask.encode(&mut theirs);
    theirs.opaque(attributes.values);
    match (ours.to_vec() == theirs.to_vec(), same) {
        (true, true) | (false, false) => Ok(()),
        (true, false) => Err(Status::Same),
        (false, true) => Err(Status::NotSame),
    }
}

/// ACCESS, section 18.1.
pub(super) async fn access(c: &mut Compound<'_>, wanted: u32) -> Result<(), Status> {
    let current = c.current()?;
    let known = READ | LOOKUP | CHANGES | EXECUTE;
    let known = if c.minor >= op::MINOR_OF_XATTRS { known | XATTRS | XAWRITE } else { known };
    if wanted & !known != 0 {
        return Err(Status::Inval);
    }
    let found = c.server.export.access(current.handle(), &c.caller).await;
    let (access, attr) = found.map_err(|error| c.refused(error))?;
    let granted = if c.minor >= op::MINOR_OF_XATTRS { granted_with_xattrs(access) } else { granted(access) };
    c.results.u32(wanted & meaningful(attr.kind)).u32(wanted & granted);
    Ok(())
}

/// Linux asks for ACCESS4_READ before it reads an extended attribute, so who may read those gets it where
/// policy alone denies the file. Its data stay closed: OPEN and READ refuse them.
fn granted_with_xattrs(access: Access) -> u32 {
    let refused = access.xattrs && !access.read && !access.lookup && !access.execute;
    granted(access) | if refused { READ } else { 0 }
}

/// The bits that say something of an object of this kind.
fn meaningful(kind: Kind) -> u32 {
    let common = READ | XATTRS | XAWRITE;
    match kind {
        Kind::Directory => common | LOOKUP | CHANGES,
        Kind::Regular => common | EXECUTE | (CHANGES & !DELETE),
        Kind::Symlink | Kind::BlockDevice | Kind::CharDevice | Kind::Socket | Kind::Fifo => {
            common | (CHANGES & !DELETE)
        }
    }
}

fn granted(access: Access) -> u32 {
    let bit = |given, bits| if given { bits } else { 0 };
    bit(access.read, READ)
        | bit(access.lookup, LOOKUP)
        | bit(access.execute, EXECUTE)
        | bit(access.xattrs, XATTRS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn access_bits_are_those_of_the_rfcs_and_never_change_anything() {
        let all = Access { read: true, lookup: true, execute: true, xattrs: true };
        assert_eq!(granted(all), 0x163);
        let refused = Access { xattrs: true, ..Access::default() };
        assert_eq!((granted(refused), granted_with_xattrs(refused)), (0x140, 0x141));
        let runs = Access { execute: true, xattrs: true, ..Access::default() };
        assert_eq!(granted_with_xattrs(runs), 0x160);
        assert_eq!(granted_with_xattrs(Access::default()), 0);
        assert_eq!(meaningful(Kind::Directory), 0x1df);
        assert_eq!(meaningful(Kind::Regular), 0x1ed);
    }
}
