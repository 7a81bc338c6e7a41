//! The texts of audit records, as `security/ipe/audit.c` writes them; `ipe.rst` has examples.
//!
//! Behind `type=NUMBER audit(TIME:SERIAL): ` in a log of the audit daemon stands what these functions
//! make. Who writes it where is not known here.

use super::rule::RuleRef;
use super::text::{hex_upper, untrusted};
use super::{Op, Version};

/// The number of [`access`] records, `AUDIT_IPE_ACCESS`.
pub const ACCESS: u16 = 1420;
/// The number of [`config_change`] records, `AUDIT_IPE_CONFIG_CHANGE`.
pub const CONFIG_CHANGE: u16 = 1421;
/// The number of [`policy_load`] records, `AUDIT_IPE_POLICY_LOAD`.
pub const POLICY_LOAD: u16 = 1422;

/// The number of [`enforcing`] records, `AUDIT_MAC_STATUS`.
pub const STATUS: u16 = 1404;

/// Where in the gateway a decision was asked for. The kernel's are `BPRM_CHECK`, `MMAP`, `MPROTECT`,
/// `KERNEL_READ` and `KERNEL_LOAD`; none of these happens here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hook {
    /// ACCESS of NFSv3 and NFSv4.
    NfsAccess,
    /// READ and what reads likewise, as OPEN of NFSv4 does.
    NfsRead,
    /// READDIR and READDIRPLUS.
    NfsReaddir,
    /// GETXATTR and LISTXATTRS, of NFSv4 and of the sideband program.
    NfsXattr,
}

impl Hook {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::NfsAccess, Self::NfsRead, Self::NfsReaddir, Self::NfsXattr];

    /// The word behind `ipe_hook=`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::NfsAccess => "NFS_ACCESS",
            Self::NfsRead => "NFS_READ",
            Self::NfsReaddir => "NFS_READDIR",
            Self::NfsXattr => "NFS_XATTR",
        }
    }
}

/// What was decided on.
#[derive(Clone, Copy, Debug)]
pub struct Access<'a> {
    /// The operation.
    pub op: Op,
    /// Where it was asked for.
    pub hook: Hook,
    /// False when what the policy denies happens all the same.
    pub enforcing: bool,
    /// The process.
    pub pid: u32,
    /// The process's name.
    pub comm: &'a [u8],
    /// The file, if there is one.
    pub file: Option<File<'a>>,
    /// What decided.
    pub rule: RuleRef<'a>,
}

/// A file in a record.
#[derive(Clone, Copy, Debug)]
pub struct File<'a> {
    /// Its absolute path.
    pub path: &'a [u8],
    /// The name of its device and its number there, if it was found.
    pub inode: Option<(&'a [u8], u64)>,
}

/// A policy in a record.
#[derive(Clone, Copy, Debug)]
pub struct Identity<'a> {
    /// Its name.
    pub name: &'a [u8],
    /// Its version.
    pub version: Version,
    /// The SHA-256 digest of the policy as it was signed, its signature included.
    pub digest: &'a [u8; 32],
}

/// Who did it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Session {
    /// The user who logged in.
    pub auid: u32,
    /// The number of the session.
    pub ses: u32,
}

impl Session {
    /// Nobody who logged in.
    pub const NONE: Self = Self { auid: u32::MAX, ses: u32::MAX };
}

/// A decision ([`ACCESS`]). The kernel records what it denies, and what it allows only when asked to.
pub fn access(access: &Access<'_>) -> String {
    let Access { op, hook, enforcing, pid, comm, file, rule } = access;
    let enforcing = u8::from(*enforcing);
    let mut out = format!("ipe_op={op} ipe_hook={} enforcing={enforcing} pid={pid} comm=", hook.as_str());
    string(comm, &mut out);
    match file {
        Some(File { path, inode }) => {
            out.push_str(" path=");
            string(path, &mut out);
            match inode {
                Some((device, number)) => {
                    out.push_str(" dev=");
                    string(device, &mut out);
                    out.push_str(&format!(" ino={number}"));
                }
                None => out.push_str(" dev=? ino=?"),
            }
        }
        None => out.push_str(" path=? dev=? ino=?"),
    }
    out + &format!(" rule=\"{}\"", rule.audit_text())
}

/// A policy takes the place of another, or of none; or none rules any more ([`CONFIG_CHANGE`]).
pub fn config_change(old: Option<&Identity<'_>>, new: Option<&Identity<'_>>, by: Session) -> String {
    let mut out = String::new();
    match old {
        Some(old) => {
            policy(old, ["old_active_pol_name", "old_active_pol_version", "old_policy_digest"], &mut out)
        }
        None => out.push_str("old_active_pol_name=? old_active_pol_version=? old_policy_digest=?"),
    }
    out.push(' ');
    match new {
        Some(new) => {
            policy(new, ["new_active_pol_name", "new_active_pol_version", "new_policy_digest"], &mut out)
        }
        // Which the kernel knows no way to.
        None => out.push_str("new_active_pol_name=? new_active_pol_version=? new_policy_digest=?"),
    }
    let Session { auid, ses } = by;
    out + &format!(" auid={auid} ses={ses} lsm=ipe res=1")
}

/// What is denied is refused from now on, or happens all the same ([`STATUS`]).
pub fn enforcing(now: bool, before: bool, by: Session) -> String {
    let (now, before, Session { auid, ses }) = (u8::from(now), u8::from(before), by);
    format!(
        "enforcing={now} old_enforcing={before} auid={auid} ses={ses} enabled=1 old-enabled=1 lsm=ipe res=1"
    )
}

/// A policy is loaded, or refused with an errno, which is positive here ([`POLICY_LOAD`]).
pub fn policy_load(loaded: Result<&Identity<'_>, i32>, by: Session) -> String {
    let mut out = String::new();
    match loaded {
        Ok(new) => policy(new, ["policy_name", "policy_version", "policy_digest"], &mut out),
        Err(_) => out.push_str("policy_name=? policy_version=? policy_digest=?"),
    }
    let Session { auid, ses } = by;
    let (res, errno) = (u8::from(loaded.is_ok()), loaded.err().map_or(0, i32::saturating_neg));
    out + &format!(" auid={auid} ses={ses} lsm=ipe res={res} errno={errno}")
}

/// The kernel puts the name in quotes as it is. Here one with a quote or a control character in it is
/// written in hexadecimal, so that a name cannot forge fields.
fn policy(identity: &Identity<'_>, [name, version, digest]: [&str; 3], out: &mut String) {
    out.push_str(&format!("{name}="));
    string(identity.name, out);
    let mut digits = Vec::new();
    hex_upper(identity.digest, &mut digits);
    let digits = String::from_utf8_lossy(&digits);
    out.push_str(&format!(" {version}={} {digest}=sha256:{digits}", identity.version));
}

fn string(bytes: &[u8], out: &mut String) {
    let mut text = Vec::new();
    untrusted(bytes, &mut text);
    out.push_str(&String::from_utf8_lossy(&text));
}
