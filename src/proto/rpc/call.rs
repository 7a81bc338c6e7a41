//! Calls: the header of a call message and its credential, RFC 5531 sections 9 and 10 and
//! appendix A. Every length is bounded before it is used.

use bytes::Bytes;

use crate::wire::{Reader, XdrError};

/// The RPC version spoken here.
pub(super) const RPC_VERSION: u32 = 2;
/// `msg_type` CALL.
const CALL: u32 = 0;
/// Longest body of a credential or verifier, RFC 5531 section 8.2.
const MAX_AUTH: u32 = 400;
/// Longest machine name of AUTH_SYS, RFC 5531 appendix A.
const MAX_MACHINE: u32 = 255;
/// Most supplementary groups of AUTH_SYS, RFC 5531 appendix A.
const MAX_GIDS: u32 = 16;
const AUTH_NONE: u32 = 0;
const AUTH_SYS: u32 = 1;

/// Who the caller claims to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Credential {
    /// AUTH_NONE: nobody.
    None,
    /// AUTH_SYS: ids that are claimed, not proven.
    Sys(AuthSys),
}

/// The ids of an AUTH_SYS credential.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuthSys {
    /// The user.
    pub uid: u32,
    /// The group.
    pub gid: u32,
    /// Supplementary groups, at most 16.
    pub gids: Vec<u32>,
    /// The machine name as sent, at most 255 bytes; not always UTF-8.
    pub machine: Bytes,
}

/// Why a credential or verifier is refused: `auth_stat` of RFC 5531.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum AuthStatus {
    /// AUTH_BADCRED: the credential is malformed.
    BadCredential = 1,
    /// AUTH_REJECTEDCRED: the credential's flavour is not accepted here.
    RejectedCredential = 2,
    /// AUTH_BADVERF: the verifier is malformed or of a flavour that does not go with the credential.
    BadVerifier = 3,
}

/// Why a record is not a call that can be executed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CallError {
    /// Not a call message, or cut before its credential. No answer is due; the peer does not
    /// speak RPC.
    #[error("not an RPC call")]
    NotACall,
    /// Another RPC version; RPC_MISMATCH is due.
    #[error("RPC version {version} is not spoken")]
    RpcMismatch {
        /// The call's id.
        xid: u32,
        /// The version asked for.
        version: u32,
    },
    /// A credential or verifier that is not accepted; AUTH_ERROR is due.
    #[error("credential refused: {status:?}")]
    Auth {
        /// The call's id.
        xid: u32,
        /// What is wrong.
        status: AuthStatus,
    },
}

/// The parsed header of a call, with its arguments still raw.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call {
    /// The id that the reply repeats.
    pub xid: u32,
    /// The program.
    pub program: u32,
    /// The program's version.
    pub version: u32,
    /// The procedure.
    pub procedure: u32,
    /// Who calls.
    pub credential: Credential,
    /// The procedure's arguments: a slice of the record.
    pub arguments: Bytes,
}

impl Call {
    /// Parses a record. Copies nothing but the supplementary groups.
    ///
    /// # Errors
    /// [`CallError`], which tells the reply that is due.
    pub fn parse(record: &Bytes) -> Result<Self, CallError> {
        let mut reader = Reader::new(record);
        let mut word = || reader.u32().map_err(|_| CallError::NotACall);
        let xid = word()?;
        if word()? != CALL {
            return Err(CallError::NotACall);
        }
        let version = word()?;
        if version != RPC_VERSION {
            return Err(CallError::RpcMismatch { xid, version });
        }
        let (program, version, procedure) = (word()?, word()?, word()?);
        let auth = |status| CallError::Auth { xid, status };
        let (flavour, body) = opaque_auth(&mut reader).map_err(|_| auth(AuthStatus::BadCredential))?;
        let credential = match flavour {
            AUTH_NONE => Credential::None,
            AUTH_SYS => Credential::Sys(auth_sys(record, body).map_err(|_| auth(AuthStatus::BadCredential))?),
            _ => return Err(auth(AuthStatus::RejectedCredential)),
        };
        // Both flavours go with an AUTH_NONE verifier.
        match opaque_auth(&mut reader) {
            Ok((AUTH_NONE, _)) => {}
            _ => return Err(auth(AuthStatus::BadVerifier)),
        }
        let arguments = record.slice_ref(reader.rest());
        Ok(Self { xid, program, version, procedure, credential, arguments })
    }
}

fn opaque_auth<'a>(reader: &mut Reader<'a>) -> Result<(u32, &'a [u8]), XdrError> {
    Ok((reader.u32()?, reader.opaque(MAX_AUTH)?))
}

fn auth_sys(record: &Bytes, body: &[u8]) -> Result<AuthSys, XdrError> {
    let mut reader = Reader::new(body);
    let _stamp = reader.u32()?;
    let machine = record.slice_ref(reader.opaque(MAX_MACHINE)?);
    let (uid, gid) = (reader.u32()?, reader.u32()?);
    let count = reader.count(MAX_GIDS)?;
    let gids = (0..count).map(|_| reader.u32()).collect::<Result<_, _>>()?;
    reader.finish()?;
    Ok(AuthSys { uid, gid, gids, machine })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::Writer;

    fn sys_body(machine: &[u8], gids: u32, claimed: u32) -> Vec<u8> {
        let mut w = Writer::default();
        w.u32(77).opaque(machine).u32(1000).u32(100).u32(claimed);
        for gid in 0..gids {
            w.u32(gid);
        }
        w.finish().concat()
    }

    fn call(flavour: u32, body: &[u8], verifier: (u32, &[u8]), arguments: &[u8]) -> Bytes {
        let mut w = Writer::default();
        w.u32(9).u32(0).u32(2).u32(100_003).u32(3).u32(6);
        w.u32(flavour).opaque(body).u32(verifier.0).opaque(verifier.1);
        let mut bytes = w.finish().concat();
        bytes.extend_from_slice(arguments);
        bytes.into()
    }

    fn auth(status: AuthStatus) -> Result<Call, CallError> {
        Err(CallError::Auth { xid: 9, status })
    }

    #[test]
    fn a_call_with_auth_sys_is_parsed_without_copying_its_arguments() {
        let record = call(1, &sys_body(b"host\xff", 16, 16), (0, b""), &[5; 8]);
        let parsed = Call::parse(&record).unwrap();
        assert_eq!((parsed.xid, parsed.program, parsed.version, parsed.procedure), (9, 100_003, 3, 6));
        assert_eq!(
            parsed.credential,
            Credential::Sys(AuthSys {
                uid: 1000,
                gid: 100,
                gids: (0..16).collect(),
                machine: Bytes::from_static(b"host\xff"),
            })
        );
        assert_eq!(parsed.arguments, [5; 8][..]);
        assert_eq!(parsed.arguments.as_ptr(), record[record.len() - 8..].as_ptr());
    }

    #[test]
    fn a_call_cut_at_any_length_is_refused_in_kind() {
        let body = sys_body(b"host", 2, 2);
        let whole = call(1, &body, (0, b""), b"");
        let credential_end = 24 + 8 + body.len();
        for n in 0..whole.len() {
            let wanted = match n {
                n if n < 24 => Err(CallError::NotACall),
                n if n < credential_end => auth(AuthStatus::BadCredential),
                _ => auth(AuthStatus::BadVerifier),
            };
            assert_eq!(Call::parse(&whole.slice(..n)), wanted, "{n}");
        }
        assert!(Call::parse(&whole).unwrap().arguments.is_empty());
    }

    #[test]
    fn a_reply_is_not_a_call() {
        let mut bytes = call(0, b"", (0, b""), b"").to_vec();
        bytes[7] = 1;
        assert_eq!(Call::parse(&bytes.into()), Err(CallError::NotACall));
    }

    #[test]
    fn other_rpc_versions_are_told_apart() {
        for version in [0, 1, 3, u8::MAX] {
            let mut bytes = call(0, b"", (0, b""), b"").to_vec();
            bytes[11] = version;
            let wanted = CallError::RpcMismatch { xid: 9, version: version.into() };
            assert_eq!(Call::parse(&bytes.into()), Err(wanted));
        }
    }

    #[test]
    fn auth_sys_beyond_its_bounds_is_a_bad_credential() {
        let parse = |body: &[u8]| Call::parse(&call(1, body, (0, b""), b""));
        assert!(parse(&sys_body(&[b'm'; 255], 16, 16)).is_ok());
        assert_eq!(parse(&sys_body(&[b'm'; 256], 0, 0)), auth(AuthStatus::BadCredential));
        assert_eq!(parse(&sys_body(b"m", 17, 17)), auth(AuthStatus::BadCredential));
        assert_eq!(parse(&sys_body(b"m", 16, u32::MAX)), auth(AuthStatus::BadCredential));
        assert_eq!(parse(&sys_body(b"m", 1, 2)), auth(AuthStatus::BadCredential));
        assert_eq!(parse(&sys_body(b"m", 2, 1)), auth(AuthStatus::BadCredential), "bytes follow inside");
        assert_eq!(parse(&[sys_body(b"m", 1, 1), vec![0]].concat()), auth(AuthStatus::BadCredential));
        assert_eq!(parse(&[]), auth(AuthStatus::BadCredential));
    }

    #[test]
    fn bodies_over_400_bytes_are_refused() {
        assert!(Call::parse(&call(0, &[0; 400], (0, &[0; 400]), b"")).is_ok());
        assert_eq!(Call::parse(&call(0, &[0; 401], (0, b""), b"")), auth(AuthStatus::BadCredential));
        assert_eq!(Call::parse(&call(1, &[0; 401], (0, b""), b"")), auth(AuthStatus::BadCredential));
        assert_eq!(Call::parse(&call(0, b"", (0, &[0; 401]), b"")), auth(AuthStatus::BadVerifier));
    }

    #[test]
    fn unknown_flavours_are_rejected() {
        for flavour in [2, 3, 6, 7, u32::MAX] {
            let record = call(flavour, b"", (0, b""), b"");
            assert_eq!(Call::parse(&record), auth(AuthStatus::RejectedCredential), "{flavour}");
        }
        assert_eq!(Call::parse(&call(0, b"", (1, b""), b"")), auth(AuthStatus::BadVerifier));
    }
}
