//! The fs-verity ioctls of Linux: `include/uapi/linux/fsverity.h`,
//! `Documentation/filesystems/fsverity.rst`.
//!
//! What they give is as little proven as the file system below them.

#![allow(unsafe_code)]

use std::ffi::c_void;
use std::os::fd::BorrowedFd;

use rustix::io::Errno;
use rustix::ioctl::{Ioctl, IoctlOutput, Opcode, opcode};

/// The longest digest that [`measure_verity`] gives: SHA-512.
pub const DIGEST_MAX: usize = 64;
/// The longest salt that the kernel takes.
pub const SALT_MAX: usize = 32;

/// What of a sealed file can be read: `FS_VERITY_METADATA_TYPE_*`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MetadataKind {
    /// The Merkle tree, root level first.
    MerkleTree = 1,
    /// The 256 bytes of the descriptor, without the signature.
    Descriptor = 2,
    /// The built-in signature.
    Signature = 3,
}

/// `struct fsverity_enable_arg`.
#[repr(C)]
struct EnableArg {
    version: u32,
    hash_algorithm: u32,
    block_size: u32,
    salt_size: u32,
    salt_ptr: u64,
    sig_size: u32,
    reserved1: u32,
    sig_ptr: u64,
    reserved2: [u64; 11],
}

/// `struct fsverity_digest` with room behind it for the longest digest.
#[repr(C)]
struct MeasureArg {
    digest_algorithm: u16,
    digest_size: u16,
    digest: [u8; DIGEST_MAX],
}

/// `struct fsverity_read_metadata_arg`.
#[repr(C)]
struct ReadArg {
    metadata_type: u64,
    offset: u64,
    length: u64,
    buf_ptr: u64,
    reserved: u64,
}

/// `FS_IOC_ENABLE_VERITY`, `_IOW('f', 133, struct fsverity_enable_arg)`.
const ENABLE: Opcode = opcode::write::<EnableArg>(b'f', 133);
/// `FS_IOC_MEASURE_VERITY`, `_IOWR('f', 134, struct fsverity_digest)`: the four bytes before the digest.
const MEASURE: Opcode = opcode::read_write::<[u16; 2]>(b'f', 134);
/// `FS_IOC_READ_VERITY_METADATA`, `_IOWR('f', 135, struct fsverity_read_metadata_arg)`.
const READ: Opcode = opcode::read_write::<ReadArg>(b'f', 135);

/// An ioctl with a structure that the kernel reads and, of some, writes.
struct Call<'a, T> {
    opcode: Opcode,
    argument: &'a mut T,
}

// SAFETY: `as_ptr` points to a live structure of the layout that the opcode stands for (each opcode above
// is only used with its own structure), it is exclusively borrowed for the call, and the return value is
// passed on as it is. The pointers inside the structures are the callers' matter, and explained there.
unsafe impl<T> Ioctl for Call<'_, T> {
    type Output = usize;

    const IS_MUTATING: bool = true;

    fn opcode(&self) -> Opcode {
        self.opcode
    }

    fn as_ptr(&mut self) -> *mut c_void {
        std::ptr::from_mut::<T>(self.argument).cast()
    }

    unsafe fn output_from_ptr(out: IoctlOutput, _: *mut c_void) -> rustix::io::Result<usize> {
        usize::try_from(out).map_err(|_| Errno::INVAL)
    }
}

fn address<T>(pointer: *const T) -> u64 {
    pointer.expose_provenance() as u64
}

/// Seals the file for good: from now on it can only be read, and the kernel checks what is read. `fd` is
/// open for reading alone, and nobody has the file open for writing. An empty `signature` is none.
///
/// # Errors
/// The kernel's: EEXIST sealed already, ENOTTY or EOPNOTSUPP no fs-verity, ETXTBSY open for writing,
/// EKEYREJECTED, ENOKEY, EBADMSG or EPERM for the signature, EINVAL or EMSGSIZE for parameters.
pub fn enable_verity(
    fd: BorrowedFd<'_>,
    hash_id: u32,
    block_size: u32,
    salt: &[u8],
    signature: &[u8],
) -> Result<(), Errno> {
    if salt.len() > SALT_MAX {
        return Err(Errno::MSGSIZE);
    }
    let mut argument = EnableArg {
        version: 1,
        hash_algorithm: hash_id,
        block_size,
        salt_size: u32::try_from(salt.len()).map_err(|_| Errno::MSGSIZE)?,
        salt_ptr: if salt.is_empty() { 0 } else { address(salt.as_ptr()) },
        sig_size: u32::try_from(signature.len()).map_err(|_| Errno::MSGSIZE)?,
        reserved1: 0,
        sig_ptr: if signature.is_empty() { 0 } else { address(signature.as_ptr()) },
        reserved2: [0; 11],
    };
    // SAFETY: the kernel reads `salt_size` bytes at `salt_ptr` and `sig_size` at `sig_ptr`, which are the
    // lengths of two slices that outlive the call, and writes nothing.
    unsafe { rustix::ioctl::ioctl(fd, Call { opcode: ENABLE, argument: &mut argument }) }.map(drop)
}

/// The number of the hash algorithm and the file digest of a sealed file.
///
/// # Errors
/// The kernel's: ENODATA not sealed, ENOTTY or EOPNOTSUPP no fs-verity.
pub fn measure_verity(fd: BorrowedFd<'_>) -> Result<(u16, Vec<u8>), Errno> {
    let mut argument = MeasureArg { digest_algorithm: 0, digest_size: 64, digest: [0; DIGEST_MAX] };
    // SAFETY: the kernel writes at most `digest_size` bytes behind the first four, which is the room that
    // `digest` has, and puts the number of bytes written into `digest_size`.
    unsafe { rustix::ioctl::ioctl(fd, Call { opcode: MEASURE, argument: &mut argument }) }?;
    let digest = argument.digest.get(..usize::from(argument.digest_size)).ok_or(Errno::OVERFLOW)?;
    Ok((argument.digest_algorithm, digest.to_vec()))
}

/// Up to `len` bytes of metadata from `offset`; none behind its end. As much is allocated at once.
///
/// # Errors
/// The kernel's: ENODATA not sealed or no signature, ENOTTY or EOPNOTSUPP no fs-verity.
pub fn read_verity_metadata(
    fd: BorrowedFd<'_>,
    kind: MetadataKind,
    offset: u64,
    len: usize,
) -> Result<Vec<u8>, Errno> {
    let mut buffer = vec![0_u8; len];
    let mut argument = ReadArg {
        metadata_type: kind as u64,
        offset,
        length: len as u64,
        buf_ptr: address(buffer.as_mut_ptr()),
        reserved: 0,
    };
    // SAFETY: the kernel writes at most `length` bytes to `buf_ptr`: to `buffer`, which has that length, is
    // initialised, and is neither moved nor used until the call returns.
    let read = unsafe { rustix::ioctl::ioctl(fd, Call { opcode: READ, argument: &mut argument }) }?;
    buffer.truncate(read);
    Ok(buffer)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsFd;

    /// As `<linux/fsverity.h>` has them on x86-64 and every architecture with the generic encoding.
    #[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
    #[test]
    fn the_numbers_are_those_of_the_header() {
        assert_eq!((ENABLE, MEASURE, READ), (0x4080_6685, 0xc004_6686, 0xc028_6687));
        assert_eq!(size_of::<EnableArg>(), 128);
    }

    /// Whatever the kernel knows of fs-verity, a file that is not sealed has nothing to show.
    #[test]
    fn a_file_that_is_not_sealed_answers_with_an_error() {
        let file = tempfile::tempfile().unwrap();
        let none = [Errno::NOTTY, Errno::OPNOTSUPP, Errno::NODATA, Errno::INVAL];
        for kind in [MetadataKind::MerkleTree, MetadataKind::Descriptor, MetadataKind::Signature] {
            for len in [0, 1, 4096] {
                let errno = read_verity_metadata(file.as_fd(), kind, 0, len).unwrap_err();
                assert!(none.contains(&errno), "{errno:?}");
            }
        }
        let errno = measure_verity(file.as_fd()).unwrap_err();
        assert!(none.contains(&errno), "{errno:?}");
    }

    #[test]
    fn a_file_that_is_open_for_writing_is_not_sealed() {
        let file = tempfile::tempfile().unwrap();
        for (salt, signature) in [(&b""[..], &b""[..]), (b"salt", b"no signature"), (&[1; 33], b"")] {
            enable_verity(file.as_fd(), 1, 4096, salt, signature).unwrap_err();
        }
        assert_eq!(measure_verity(file.as_fd()).err(), measure_verity(file.as_fd()).err());
    }
}
