//! Extended attributes, RFC 8276: GETXATTR, LISTXATTRS, and what would set or remove them.

use crate::export::Item;
use crate::proto::nfs4::compound::Compound;
use crate::proto::nfs4::status::Status;

/// The longest name, without the `user.` that clients put before it.
const NAME_MAX: usize = 250;
/// Bytes of `LISTXATTRS4resok` without names.
const EMPTY: usize = 8 + 4 + 4;

fn name(name: &[u8]) -> Result<(), Status> {
    match name {
        b"" => Err(Status::Inval),
        _ if name.contains(&0) => Err(Status::Inval),
        _ if name.len() > NAME_MAX => Err(Status::NameTooLong),
        _ => Ok(()),
    }
}

/// Whether the name is one under which the gateway speaks, or could once.
fn is_reserved(name: &[u8]) -> bool {
    name.starts_with(b"verity.")
        || name.starts_with(b"nfs-verity")
        || Item::ALL.iter().any(|item| item.xattr_name().as_bytes() == name)
}

/// GETXATTR, section 8.4.1.
pub(super) async fn get(c: &mut Compound<'_>, wanted: &[u8]) -> Result<(), Status> {
    let current = c.current()?;
    name(wanted)?;
    let found = c.server.export.get_xattr(current.handle(), wanted, &c.caller).await;
    let value = found.map_err(|error| c.refused(error))?;
    let len = u32::try_from(value.len()).map_err(|_| Status::Xattr2Big)?;
    c.fits(4 + value.len().next_multiple_of(4))?;
    c.results.payload([value], len);
    Ok(())
}

/// LISTXATTRS, section 8.4.3. Cookies count names; `lxa_maxcount` is of all of `LISTXATTRS4resok`.
pub(super) async fn list(c: &mut Compound<'_>, cookie: u64, count: u32) -> Result<(), Status> {
    let current = c.current()?;
    let found = c.server.export.list_xattrs(current.handle(), &c.caller).await;
    let names = found.map_err(|error| c.refused(error))?;
    let begin = usize::try_from(cookie).map_err(|_| Status::BadCookie)?;
    let rest = names.get(begin..).ok_or(Status::BadCookie)?;
    let room = usize::try_from(count).unwrap_or(usize::MAX).min(c.room());
    let mut room = room.checked_sub(EMPTY).ok_or(Status::TooSmall)?;
    let fits = |name: &&Vec<u8>| match room.checked_sub(4 + name.len().next_multiple_of(4)) {
        Some(left) => {
            room = left;
            true
        }
        None => false,
    };
    let fitting = rest.iter().take_while(fits).count();
    if fitting == 0 && !rest.is_empty() {
        return Err(Status::TooSmall);
    }
    let next = u64::try_from(begin + fitting).unwrap_or(u64::MAX);
    c.results.u64(next).u32(u32::try_from(fitting).unwrap_or(u32::MAX));
    for name in rest.iter().take(fitting) {
        c.results.opaque(name);
    }
    c.results.bool(fitting == rest.len());
    Ok(())
}

/// SETXATTR and REMOVEXATTR, sections 8.4.2 and 8.4.4: nobody may touch the gateway's own names, and
/// nothing can be changed of the others.
pub(super) async fn refuse(c: &mut Compound<'_>, wanted: &[u8]) -> Result<(), Status> {
    c.kind().await?;
    name(wanted)?;
    Err(if is_reserved(wanted) { Status::Access } else { Status::RoFs })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_gateways_names_are_reserved_and_no_others() {
        for name in
            [&b"verity.digest"[..], b"verity.", b"verity.anything", b"ima", b"nfs-verity", b"nfs-verity.2"]
        {
            assert!(is_reserved(name), "{name:?}");
        }
        for name in [&b"verity"[..], b"imago", b"mime_type", b"nfs"] {
            assert!(!is_reserved(name), "{name:?}");
        }
        assert_eq!(name(b""), Err(Status::Inval));
        assert_eq!(name(&[b'x'; 251]), Err(Status::NameTooLong));
        assert_eq!(name(&[b'x'; 250]), Ok(()));
    }
}
