//! What a rule is about: the kernel's operations and what an NFS server adds.

use std::fmt;
use std::str::FromStr;

/// An operation that is decided on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Op {
    /// A file is run or mapped to be run.
    Execute,
    /// Firmware is loaded.
    Firmware,
    /// A kernel module is loaded.
    KernelModule,
    /// A kernel is loaded for kexec.
    KexecImage,
    /// An initial file system is loaded for kexec.
    KexecInitramfs,
    /// A policy of IMA is loaded.
    Policy,
    /// A certificate is loaded.
    X509Cert,
    /// A file is read. An addition: the kernel does not know it.
    Read,
    /// A directory is listed. An addition: the kernel does not know it.
    List,
    /// An extended attribute is read. An addition: the kernel does not know it.
    Xattr,
}

impl Op {
    /// All of them: the kernel's, in its order, and then the additions.
    pub const ALL: [Self; 10] = [
        Self::Execute,
        Self::Firmware,
        Self::KernelModule,
        Self::KexecImage,
        Self::KexecInitramfs,
        Self::Policy,
        Self::X509Cert,
        Self::Read,
        Self::List,
        Self::Xattr,
    ];

    /// The word behind `op=`, also in the audit log.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Execute => "EXECUTE",
            Self::Firmware => "FIRMWARE",
            Self::KernelModule => "KMODULE",
            Self::KexecImage => "KEXEC_IMAGE",
            Self::KexecInitramfs => "KEXEC_INITRAMFS",
            Self::Policy => "POLICY",
            Self::X509Cert => "X509_CERT",
            Self::Read => "READ",
            Self::List => "LIST",
            Self::Xattr => "XATTR",
        }
    }

    /// True for what the kernel does not know: it refuses a policy that names it.
    pub const fn is_addition(self) -> bool {
        matches!(self, Self::Read | Self::List | Self::Xattr)
    }

    /// The operation that `word` names, in capitals as the kernel wants it.
    pub(super) fn of(word: &[u8]) -> Option<Self> {
        Self::ALL.into_iter().find(|op| op.as_str().as_bytes() == word)
    }
}

/// A word that is no operation.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "\"{0}\" is no operation; there are EXECUTE, FIRMWARE, KMODULE, KEXEC_IMAGE, KEXEC_INITRAMFS, POLICY, X509_CERT, READ, LIST and XATTR"
)]
pub struct UnknownOp(String);

impl FromStr for Op {
    type Err = UnknownOp;

    fn from_str(word: &str) -> Result<Self, UnknownOp> {
        Self::of(word.as_bytes()).ok_or_else(|| UnknownOp(word.to_owned()))
    }
}

impl fmt::Display for Op {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// One of something for each operation.
#[derive(Debug, Default)]
pub(super) struct ByOp<T>([T; Op::ALL.len()]);

impl<T> ByOp<T> {
    pub(super) fn of(&self, op: Op) -> &T {
        let [execute, firmware, module, image, initramfs, policy, x509, read, list, xattr] = &self.0;
        match op {
            Op::Execute => execute,
            Op::Firmware => firmware,
            Op::KernelModule => module,
            Op::KexecImage => image,
            Op::KexecInitramfs => initramfs,
            Op::Policy => policy,
            Op::X509Cert => x509,
            Op::Read => read,
            Op::List => list,
            Op::Xattr => xattr,
        }
    }

    pub(super) fn of_mut(&mut self, op: Op) -> &mut T {
        let [execute, firmware, module, image, initramfs, policy, x509, read, list, xattr] = &mut self.0;
        match op {
            Op::Execute => execute,
            Op::Firmware => firmware,
            Op::KernelModule => module,
            Op::KexecImage => image,
            Op::KexecInitramfs => initramfs,
            Op::Policy => policy,
            Op::X509Cert => x509,
            Op::Read => read,
            Op::List => list,
            Op::Xattr => xattr,
        }
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut T> {
        self.0.iter_mut()
    }
}
