//! The extended attributes that hold evidence: `user.nfs-verity` a bundle without a tree, `security.ima`
//! and `user.ima` one IMA signature each.

use std::sync::Arc;

use bytes::Bytes;
use sha2::{Digest as _, Sha256};

use super::bundle::{BundleError, Head, IMA_MAX, REPEATED_MAX};
use super::{CarrierError, CarrierKind, Evidence, Refusal, Stamp};
use crate::store::{StoreError, StoreErrorKind, StoreFile, StorePath, XATTR_MAX};

/// Where descriptor and signatures stand.
pub const BUNDLE_XATTR: &[u8] = b"user.nfs-verity";
/// Where the kernel looks for an IMA signature. Only an administrator may set it.
pub const SECURITY_IMA: &[u8] = b"security.ima";
/// Where `evmctl --xattr-user` puts an IMA signature.
pub const USER_IMA: &[u8] = b"user.ima";

/// `EVM_IMA_XATTR_DIGSIG`: a signature of the file's hash.
const IMA_FILE: u8 = 3;
/// `IMA_VERITY_DIGSIG`: a signature of the fs-verity digest.
const IMA_VERITY: u8 = 6;

/// What the extended attributes of one file say.
pub(super) struct Values {
    /// Of the bundle, if there is one, and every IMA signature once.
    pub(super) evidence: Evidence,
    /// All bytes.
    pub(super) bytes: u64,
    digest: [u8; 32],
}

impl Values {
    /// Reads those of `file`. What in the IMA attributes is no signature, such as a plain hash, is
    /// passed over.
    pub(super) async fn read(file: &dyn StoreFile, path: &StorePath) -> Result<Self, CarrierError> {
        let malformed = |source| CarrierError::Malformed { path: path.clone(), source };
        let get = async |name: &'static [u8], max| match file.get_xattr(name, max).await {
            Err(error) if error.kind == StoreErrorKind::TooLarge => {
                Err(malformed(BundleError::Bounds("an extended attribute")))
            }
            answer => Ok(answer?),
        };
        let bundle = get(BUNDLE_XATTR, XATTR_MAX).await?;
        let ima = [get(SECURITY_IMA, IMA_MAX).await?, get(USER_IMA, IMA_MAX).await?];

        let (mut digest, mut bytes) = (Sha256::new(), 0);
        for value in [&bundle, &ima[0], &ima[1]].into_iter() {
            let length = value.as_ref().map_or(u64::MAX, |value| value.len() as u64);
            digest.update(length.to_le_bytes());
            digest.update(value.as_deref().unwrap_or_default());
            bytes += value.as_ref().map_or(0, |value| value.len() as u64);
        }
        let mut evidence = match &bundle {
            Some(bundle) => whole(bundle).map_err(malformed)?,
            None => Evidence::default(),
        };
        for value in ima.into_iter().flatten() {
            let signature = matches!(value.first(), Some(&(IMA_FILE | IMA_VERITY)));
            if signature && !evidence.ima.contains(&value) && evidence.ima.len() < REPEATED_MAX {
                evidence.ima.push(value);
            }
        }
        Ok(Self { evidence, bytes, digest: digest.finalize().into() })
    }

    /// `stamp`, of the file as it was before the values were read, and of the values.
    pub(super) fn stamp(&self, stamp: Stamp) -> Stamp {
        Stamp { digest: self.digest, ..stamp }
    }
}

/// A head without a tree, and nothing behind it.
fn whole(bytes: &Bytes) -> Result<Evidence, BundleError> {
    let extent = Head::extent(bytes, bytes.len() as u64)?;
    if extent != bytes.len() {
        return Err(BundleError::Cut { have: bytes.len() as u64, need: extent as u64 });
    }
    Ok(Head::parse(bytes)?.evidence)
}

/// What will be written, encoded before anything is changed.
pub(super) fn encode(path: &StorePath, evidence: &Evidence) -> Result<Vec<u8>, CarrierError> {
    let head = Head { evidence: evidence.clone(), tree_offset: 0, tree_len: 0 };
    let bytes = head.encode().map_err(|source| CarrierError::Malformed { path: path.clone(), source })?;
    Ok(bytes)
}

/// The attribute that holds `evidence`, for a file that is about to be put in place.
///
/// # Errors
/// [`CarrierError::Malformed`] for evidence that no bundle can hold.
pub fn bundle_xattr(path: &StorePath, evidence: &Evidence) -> Result<(Vec<u8>, Bytes), CarrierError> {
    Ok((BUNDLE_XATTR.to_vec(), encode(path, evidence)?.into()))
}

/// Sets `user.nfs-verity` to `bundle`, which [`encode`] made of `evidence`, and `user.ima` and
/// `security.ima` to the first signature that `evmctl` and the kernel can check.
pub(super) async fn write(
    file: &Arc<dyn StoreFile>,
    path: &StorePath,
    carrier: CarrierKind,
    bundle: &[u8],
    evidence: &Evidence,
) -> Result<(), CarrierError> {
    let old = existing(&**file, path).await?;
    // An old bundle has its IMA signatures within: taking them out of their places first, nobody meets
    // the old ones beside the new bundle. Without one they are all there is, and stay until it is there.
    if file.get_xattr(BUNDLE_XATTR, XATTR_MAX).await.is_ok_and(|value| value.is_some()) {
        forget(&**file, &old, evidence).await?;
    }
    set(&**file, path, carrier, BUNDLE_XATTR, bundle).await?;
    forget(&**file, &old, evidence).await?;
    let first = |kind| evidence.ima.iter().find(|value| value.first() == Some(&kind));
    if let Some(value) = first(IMA_FILE) {
        set(&**file, path, carrier, USER_IMA, value).await?;
    }
    // For the kernel's sake, where we may; what counts here stands in the bundle too. Of a file that is
    // sealed the kernel takes a signature of the fs-verity digest as well, and need not read it for that.
    let sealed = if carrier == CarrierKind::Kernel { first(IMA_VERITY) } else { None };
    if let Some(value) = sealed.or(first(IMA_FILE)) {
        let _ = file.set_xattr(SECURITY_IMA, value).await;
    }
    Ok(())
}

/// What the attributes say before they change; nothing where they are damaged.
async fn existing(file: &dyn StoreFile, path: &StorePath) -> Result<Evidence, CarrierError> {
    match Values::read(file, path).await {
        Ok(values) => Ok(values.evidence),
        Err(CarrierError::Malformed { .. }) => Ok(Evidence::default()),
        Err(error) => Err(error),
    }
}

async fn set(
    file: &dyn StoreFile,
    path: &StorePath,
    carrier: CarrierKind,
    name: &[u8],
    value: &[u8],
) -> Result<(), CarrierError> {
    file.set_xattr(name, value).await.map_err(|error| match error.kind {
        StoreErrorKind::NoSpace => CarrierError::refused(path, Refusal::NoRoom(carrier)),
        StoreErrorKind::Unsupported => CarrierError::refused(path, Refusal::Unsupported(carrier)),
        _ => CarrierError::Store(error),
    })
}

/// Removes what [`write`] has set.
pub(super) async fn remove(file: &dyn StoreFile, path: &StorePath) -> Result<(), CarrierError> {
    let old = existing(file, path).await?;
    // The IMA signatures first: while the bundle is there, they can be found again.
    forget(file, &old, &Evidence::default()).await?;
    Ok(file.remove_xattr(BUNDLE_XATTR).await?)
}

/// Takes signatures of `old` that `new` has not out of the places of IMA.
async fn forget(file: &dyn StoreFile, old: &Evidence, new: &Evidence) -> Result<(), StoreError> {
    for name in [SECURITY_IMA, USER_IMA] {
        let value = match file.get_xattr(name, IMA_MAX).await {
            Ok(value) => value,
            Err(error) if error.kind == StoreErrorKind::TooLarge => None,
            Err(error) => return Err(error),
        };
        if value.is_some_and(|value| old.ima.contains(&value) && !new.ima.contains(&value)) {
            match file.remove_xattr(name).await {
                // Not ours to remove: it stays, and is found again.
                Err(error) if name == SECURITY_IMA && error.kind == StoreErrorKind::Access => {}
                removed => removed?,
            }
        }
    }
    Ok(())
}
