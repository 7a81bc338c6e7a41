//! Files as somebody signed them: in every format, with the evidence in the file's attributes or behind
//! its data, put there by the carriers themselves.

use std::process::Command;

use bytes::Bytes;
use nfs_verity::carrier::bundle::tree_offset;
use nfs_verity::carrier::{
    Appended, BUNDLE_XATTR, Carrier, Evidence, SECURITY_IMA, Sidecar, USER_IMA, Xattr,
};
use nfs_verity::sign::{
    Certificate, Format, FormatSet, HashName, ImaKind, SigningKey, Statement, TrustedKey, make_pkcs7,
    sign_ima, sign_statement,
};
use nfs_verity::store::{Memory, Store, StorePath, XATTR_MAX};
use nfs_verity::verity::{Descriptor, HashAlgorithm, Params, reference};

use super::scene::{evidence, params, shared};

/// Files below are never touched.
pub const STILL: &str = "still/";

/// How evidence goes with a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum How {
    Xattr,
    /// An IMA signature alone, where `evmctl` puts it.
    Bare,
    Appended,
}

/// What the store has of one file: its bytes, those beside it in the sidecar, and its attributes.
pub type State = [Option<Vec<u8>>; 5];
pub const ATTRIBUTES: [&[u8]; 3] = [BUNDLE_XATTR, USER_IMA, SECURITY_IMA];

/// A file as somebody signed it.
pub struct Version {
    pub path: String,
    pub content: Vec<u8>,
    pub formats: FormatSet,
    pub descriptor: Descriptor,
    pub evidence: Evidence,
    pub tree: Vec<u8>,
    pub state: State,
}

impl Version {
    /// Whether who accepts these formats may be given this at `path`.
    pub fn is_for(&self, path: &str, accepted: FormatSet) -> bool {
        let counts = |format: Format| accepted.contains(format) && self.formats.contains(format);
        Format::ALL
            .into_iter()
            .any(|format| counts(format) && (format != Format::Native || self.path == path))
    }
}

/// Somebody with a key and a certificate of it.
pub struct Signer {
    pub key: SigningKey,
    pub certificate: Certificate,
}

impl Signer {
    pub fn new(name: &str) -> Self {
        Self::with_comment(name, 0)
    }

    /// With a certificate that is longer by about `bytes`.
    pub fn with_comment(name: &str, bytes: usize) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let args =
            "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 30 -keyout key -out cert";
        let mut command = Command::new("openssl");
        command.args(args.split(' ')).args(["-subj", &format!("/CN={name}")]).current_dir(&dir);
        if bytes > 0 {
            command.args(["-addext", &format!("1.2.3.4=ASN1:UTF8String:{}", "x".repeat(bytes))]);
        }
        let output = command.output().unwrap();
        assert!(output.status.success(), "{output:?}");
        let read = |name: &str| std::fs::read(dir.path().join(name)).unwrap();
        let key = SigningKey::from_pkcs8_pem(&read("key")).unwrap();
        Self { key, certificate: Certificate::from_pem(&read("cert")).unwrap() }
    }

    pub fn trusted(&self, name: &str) -> TrustedKey {
        let certificate = Some(self.certificate.clone());
        TrustedKey { certificate, ..TrustedKey::new(self.key.public_key().clone(), name) }
    }

    pub async fn sign(&self, plan: &Plan, content: Vec<u8>, expires: Option<i64>) -> Version {
        let Plan { path, how, formats, params } = plan;
        let (root_hash, tree) = reference::root_and_tree(&content, params);
        let descriptor = Descriptor { params: *params, size: content.len() as u64, root_hash };
        let statement = Statement {
            namespace: String::new(),
            path: path.as_bytes().to_vec(),
            file_digest: descriptor.file_digest(),
            size: descriptor.size,
            block_size: params.block_size,
            version: 1,
            expires,
            signed: None,
        };
        let hash = HashName::from(params.algorithm);
        let ima = |kind, digest: &[u8]| {
            sign_ima(kind, hash, digest, &self.key, self.certificate.ima_key_id()).unwrap().into()
        };
        let encoded = Bytes::copy_from_slice(&descriptor.encode());
        let mut evidence = Evidence { descriptor: Some(encoded), ..Evidence::default() };
        for format in formats.iter() {
            match format {
                Format::Native => {
                    evidence.statement = Some(sign_statement(&statement, &[&self.key]).unwrap().into());
                }
                Format::FsVerity => {
                    let digest = descriptor.formatted_digest();
                    let der = make_pkcs7(&digest, hash, &self.key, &self.certificate).unwrap();
                    evidence.pkcs7.push(der.into());
                }
                Format::ImaV3 => {
                    evidence.ima.push(ima(ImaKind::Verity, descriptor.file_digest().digest.as_bytes()));
                }
                Format::ImaV2 => evidence.ima.push(ima(ImaKind::File, &hash.digest(&content))),
                Format::Modsig => panic!("not served"),
            }
        }
        let state = placed(*how, path, &content, &evidence, &tree).await;
        Version { path: path.clone(), content, formats: *formats, descriptor, evidence, tree, state }
    }
}

/// How a file is to be signed.
pub struct Plan {
    pub path: String,
    pub how: How,
    pub formats: FormatSet,
    pub params: Params,
}

pub fn parsed(path: &str) -> StorePath {
    StorePath::parse(path.as_bytes()).unwrap()
}

/// What a store has of a file with this evidence, which the carrier itself puts there.
pub async fn placed(how: How, path: &str, content: &[u8], evidence: &Evidence, tree: &[u8]) -> State {
    let memory = Memory::new();
    memory.put(path, content).unwrap();
    let (store, at) = (shared(&memory), parsed(path));
    let carrier: Box<dyn Carrier> = match how {
        How::Xattr => Box::new(Xattr::new(Sidecar::new(store))),
        How::Appended => Box::new(Appended::new(store)),
        How::Bare => {
            let mut state = state(&memory, path).await;
            state[3] = evidence.ima.first().map(|value| value.to_vec());
            return state;
        }
    };
    let mut writer = carrier.create(&at, tree_offset(evidence, 0)).await.unwrap();
    writer.push(0, tree);
    writer.commit(evidence).await.unwrap();
    state(&memory, path).await
}

pub async fn state(memory: &Memory, path: &str) -> State {
    let mut state = State::default();
    (state[0], state[1]) = (memory.bytes(path), memory.bytes(evidence(path)));
    if let Ok(file) = memory.open(&parsed(path)).await {
        for (value, name) in state[2..].iter_mut().zip(ATTRIBUTES) {
            *value = file.get_xattr(name, XATTR_MAX).await.unwrap().map(|value| value.to_vec());
        }
    }
    state
}

/// Every way to carry evidence with every mixture of formats, in trees of all shapes.
pub fn plans() -> Vec<Plan> {
    use HashAlgorithm::{Sha256, Sha512};
    let shapes = [
        params(Sha256, 1024, b""),
        params(Sha512, 1024, b"salt"),
        params(Sha256, 4096, b""),
        params(Sha256, 1024, &[7; 32]),
        params(Sha512, 4096, b""),
    ];
    let mixtures = [
        "native",
        "fsverity",
        "ima-v3",
        "ima-v2",
        "native,fsverity,ima-v3",
        "fsverity,ima-v2",
        "native,ima-v2",
    ];
    let mut plans = Vec::new();
    for (how, mixtures) in
        [(How::Xattr, &mixtures[..]), (How::Appended, &mixtures), (How::Bare, &["ima-v2", "ima-v3"])]
    {
        for mixture in mixtures {
            let n = plans.len();
            // A bare signature says nothing of a tree.
            let params = if how == How::Bare { Params::default() } else { shapes[n % shapes.len()] };
            let path = format!("{}{n:02}", ["", "d/"][n % 2]);
            plans.push(Plan { path, how, formats: mixture.parse().unwrap(), params });
        }
    }
    let still = plans.iter().map(|plan| Plan { path: format!("{STILL}{}", plan.path), ..*plan });
    let still: Vec<Plan> = still.step_by(3).collect();
    plans.extend(still);
    plans
}
