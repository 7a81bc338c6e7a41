//! What the fuzzers drive: one function a target, each with the properties that hold for any input.
//!
//! A function panics when a property is broken. The fuzz targets call them with what libFuzzer makes up,
//! and `tests/model/corpus.rs` with the corpora, so the same properties hold in every test run.

use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use nfs_verity::carrier::bundle::{BundleError, Head};
use nfs_verity::carrier::{CarrierKind, Footer};
use nfs_verity::config::{ConfigError, FileSettings, Overrides, Settings};
use nfs_verity::event::Silent;
use nfs_verity::export::{Export, ExportOptions, HandleKey, Identity, ProofDirectory, WholeFiles, Xattrs};
use nfs_verity::measure::{
    Banks, DigestKind, Entry, Fault, Mark, Quote, QuoteError, QuoteHash, QuoteSignature, Records, verify,
};
use nfs_verity::policy::ipe::SignerPattern;
use nfs_verity::policy::{DigestFact, Facts, Mode, Op, Policy, Property, Rule, RuleRef, SignerFact};
use nfs_verity::proto::nfs3::{Arguments, HANDLE_MAX};
use nfs_verity::proto::nfs4::state::{Journal, State, StateLimits, StateOptions};
use nfs_verity::proto::nfs4::{Nfs4, Nfs4Options};
use nfs_verity::proto::rpc::{BoxFuture, Call, CallContext, Credential, Outcome, Program};
use nfs_verity::proto::sideband::{
    GETPROOF1args, GETPROOF1res, GETXATTR1args, GETXATTR1res, LISTXATTRS1args, LISTXATTRS1res, Wire,
    WireError, decode, encode,
};
use nfs_verity::sign::{
    Certificate, Expected, HashName, ImaSignature, Keyring, MODSIG_TAIL, Modsig, PKCS7_APPENDED_MAX, Pkcs7,
    Statement, read_envelope, verify_envelope,
};
use nfs_verity::store::upstream::{Answer, Question};
use nfs_verity::store::{Memory, NAME_MAX, PATH_MAX};
use nfs_verity::verity::Descriptor;
use nfs_verity::wire::{Reader, XdrError};
use nfs_verity::wire::{RecordError, RecordReader};
use sha2::{Digest as _, Sha256};

/// A target: its name, which is also its folder's below `corpus`, and its function.
pub type Target = (&'static str, fn(&[u8]));

/// Every target.
pub const TARGETS: &[Target] = &[
    ("record", record),
    ("call", call),
    ("xdr", xdr),
    ("nfs3_args", nfs3_args),
    ("sideband", sideband),
    ("compound", compound),
    ("statement", statement),
    ("bundle", bundle),
    ("footer", footer),
    ("config", config),
    ("pkcs7", pkcs7),
    ("ima", ima),
    ("modsig", modsig),
    ("certificate", certificate),
    ("upstream", upstream),
    ("policy", policy),
    ("measured", measured),
    ("quote", quote),
];

/// Record marking. Bytes 0 and 1: the limit in units of 64 bytes, and how many bytes arrive at a time.
/// However a stream arrives, it holds the same records, and none is over the limit.
pub fn record(data: &[u8]) {
    let [units, step, stream @ ..] = data else { return };
    let limit = usize::from(*units) * 64;
    let whole = records(limit, stream, stream.len().max(1));
    let pieces = records(limit, stream, usize::from(*step).max(1));
    assert_eq!(whole, pieces, "the records depend on how their bytes arrive");
    assert!(whole.0.iter().all(|record| record.len() <= limit));
}

fn records(limit: usize, stream: &[u8], step: usize) -> (Vec<Bytes>, Option<RecordError>) {
    let mut reader = RecordReader::new(limit);
    let (mut input, mut found) = (BytesMut::new(), Vec::new());
    for piece in stream.chunks(step) {
        input.extend_from_slice(piece);
        loop {
            match reader.next(&mut input) {
                Ok(Some(record)) => found.push(record),
                Ok(None) => break,
                Err(error) => return (found, Some(error)),
            }
        }
        assert!(reader.gathered() <= limit);
        assert!(reader.missing(&input) >= 1);
    }
    (found, None)
}

/// An RPC call. What is parsed lies inside the record and within the bounds of RFC 5531, and a header that
/// is cut is none.
pub fn call(data: &[u8]) {
    let record = Bytes::copy_from_slice(data);
    let Ok(parsed) = Call::parse(&record) else { return };
    assert!(data.ends_with(&parsed.arguments));
    if let Credential::Sys(sys) = &parsed.credential {
        assert!(sys.gids.len() <= 16 && sys.machine.len() <= 255);
    }
    let header = data.len() - parsed.arguments.len();
    for end in 0..header {
        assert!(Call::parse(&record.slice(..end)).is_err(), "cut at {end} of {header}");
    }
    let bare = Call::parse(&record.slice(..header)).expect("the same header without arguments");
    assert_eq!((bare.xid, bare.procedure), (parsed.xid, parsed.procedure));
}

/// The XDR reader against a slow reading of RFC 4506. Byte 0: how many of the following bytes are
/// operations; the rest is what they read.
pub fn xdr(data: &[u8]) {
    let Some((&count, rest)) = data.split_first() else { return };
    let (script, bytes) = rest.split_at(rest.len().min(usize::from(count)));
    let mut reader = Reader::new(bytes);
    let mut at = 0;
    for &operation in script {
        let argument = usize::from(operation / 6);
        let limit = u32::from(operation / 6);
        let mut oracle = Oracle { bytes, at };
        let same = match operation % 6 {
            0 => reader.u32() == oracle.word(),
            1 => reader.u64() == oracle.number(8),
            2 => reader.bool() == oracle.boolean(),
            3 => reader.fixed(argument) == oracle.opaque(argument),
            4 => reader.opaque(limit) == oracle.count(limit).and_then(|n| oracle.opaque(n)),
            _ => reader.count(limit) == oracle.count(limit),
        };
        assert!(same, "operation {operation} at {at}");
        // Where a reader stands after an error is of no meaning: the call is refused.
        if reader.rest() != &bytes[oracle.at..] {
            return;
        }
        at = oracle.at;
    }
    assert_eq!(reader.clone().finish().is_ok(), at == bytes.len());
    assert_eq!(reader.remaining(), bytes.len() - at);
}

/// Reads byte by byte, with no arithmetic that could be clever.
struct Oracle<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Oracle<'a> {
    fn number(&mut self, length: usize) -> Result<u64, XdrError> {
        let bytes = self.bytes.get(self.at..self.at + length).ok_or(XdrError::Truncated)?;
        self.at += length;
        Ok(bytes.iter().fold(0, |n, byte| n * 256 + u64::from(*byte)))
    }

    fn word(&mut self) -> Result<u32, XdrError> {
        self.number(4).map(|n| u32::try_from(n).unwrap())
    }

    fn boolean(&mut self) -> Result<bool, XdrError> {
        match self.word()? {
            0 => Ok(false),
            1 => Ok(true),
            other => Err(XdrError::Undefined(other)),
        }
    }

    fn count(&mut self, limit: u32) -> Result<usize, XdrError> {
        let length = self.word()?;
        if length > limit { Err(XdrError::TooLong { length, limit }) } else { Ok(length as usize) }
    }

    fn opaque(&mut self, length: usize) -> Result<&'a [u8], XdrError> {
        let start = self.at;
        let mut padded = length;
        while !padded.is_multiple_of(4) {
            padded += 1;
        }
        if self.bytes.len() < start + padded {
            return Err(XdrError::Truncated);
        }
        self.at += padded;
        Ok(&self.bytes[start..start + length])
    }
}

/// Arguments of NFSv3. Byte 0: the procedure. Arguments take all their bytes: cut ones and longer ones are
/// refused.
pub fn nfs3_args(data: &[u8]) {
    let Some((&procedure, bytes)) = data.split_first() else { return };
    let procedure = u32::from(procedure % 24);
    let Ok(arguments) = Arguments::decode(procedure, bytes) else { return };
    if arguments == Arguments::Null {
        return;
    }
    assert!(procedure < 22, "procedure {procedure} does not exist");
    if let Arguments::GetAttr { object } | Arguments::Access { object, .. } = arguments {
        assert!(object.len() <= HANDLE_MAX as usize);
    }
    for end in bytes.len().saturating_sub(8)..bytes.len() {
        assert!(Arguments::decode(procedure, &bytes[..end]).is_err(), "cut at {end}");
    }
    let longer = [bytes, &[0; 4]].concat();
    assert!(Arguments::decode(procedure, &longer).is_err(), "trailing bytes");
}

/// Arguments and results of the sideband. Byte 0: which of them. What is read takes memory by what came, is
/// written and read again as the same, and has no other length.
pub fn sideband(data: &[u8]) {
    let Some((&which, bytes)) = data.split_first() else { return };
    match which % 6 {
        0 => same_again::<GETXATTR1args>(bytes),
        1 => same_again::<LISTXATTRS1args>(bytes),
        2 => same_again::<GETPROOF1args>(bytes),
        3 => same_again::<GETXATTR1res>(bytes),
        4 => same_again::<LISTXATTRS1res>(bytes),
        _ => same_again::<GETPROOF1res>(bytes),
    }
}

fn same_again<T: Wire + PartialEq + std::fmt::Debug>(bytes: &[u8]) {
    let Ok(value) = decode::<T>(bytes) else { return };
    let again = encode(&value).expect("what was read is written");
    assert_eq!(again.len(), bytes.len());
    assert_eq!(decode::<T>(&again).as_ref(), Ok(&value));
    for end in bytes.len().saturating_sub(8)..bytes.len() {
        assert_eq!(decode::<T>(&bytes[..end]).err(), Some(WireError::Truncated), "cut at {end}");
    }
    let longer = [bytes, &[0; 4]].concat();
    assert_eq!(decode::<T>(&longer).err(), Some(WireError::Trailing(4)));
}

/// Keeps nothing.
struct Forgetful;

impl Journal for Forgetful {
    fn add(&self, _: [u8; 32]) -> BoxFuture<'_, std::io::Result<()>> {
        Box::pin(async { Ok(()) })
    }

    fn remove(&self, _: [u8; 32]) -> BoxFuture<'_, std::io::Result<()>> {
        Box::pin(async { Ok(()) })
    }
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    static RUNTIME: OnceLock<tokio::runtime::Runtime> = OnceLock::new();
    let runtime = || tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
    RUNTIME.get_or_init(|| runtime().expect("a runtime")).block_on(future)
}

/// A file, a link and a directory, as whoever asks may see them; made once.
fn export() -> Arc<Export> {
    static EXPORT: OnceLock<Arc<Export>> = OnceLock::new();
    let made = || {
        let store = Memory::new();
        store.put("hello", b"hello, verity").expect("a new file");
        store.put("dir/below", b"below").expect("a new file");
        store.put_symlink("link", b"hello").expect("a new link");
        let options = ExportOptions {
            store: Arc::new(store),
            replicas: Vec::new(),
            waits: false,
            repair: None,
            namespace: String::new(),
            carriers: vec![CarrierKind::Sidecar],
            keyring: Keyring::new(Vec::new()),
            whole_files: WholeFiles::default(),
            mode: Mode::Warn,
            identity: Identity::default(),
            cache_bytes: 1 << 20,
            disk_cache: None,
            xattrs: Xattrs::default(),
            proof_directory: ProofDirectory::default(),
            handle_key: HandleKey::new(&[7; 32]),
            sink: Arc::new(Silent),
        };
        Arc::new(block_on(Export::new(options)).expect("an export"))
    };
    EXPORT.get_or_init(made).clone()
}

/// A COMPOUND of NFSv4, decoded and executed by a client that has a session with all slots free. Byte 0: odd
/// puts the session's id where a SEQUENCE at the first place has its own, and the slot's sequence. The answer
/// is no longer than was announced, and its results are as many as its head says they are, at most as were asked
/// for. The server serves on.
pub fn compound(data: &[u8]) {
    let [how, bytes @ ..] = data else { return };
    let secret = [9; 32];
    let (journal, limits) = (Arc::new(Forgetful), StateLimits::default());
    let options =
        StateOptions { lease: Duration::from_secs(90), survivors: Vec::new(), journal, limits, secret };
    let state = State::new(options, Instant::now());
    let server =
        Arc::new(Nfs4::new(Nfs4Options { export: export(), state, owner: b"fuzz".to_vec(), ima: None }));
    let session = begin(&server);
    let mut bytes = bytes.to_vec();
    if how & 1 == 1 {
        // The tag's length leads to the first operation.
        let tag = bytes.get(..4).and_then(|b| b.try_into().ok()).map_or(u32::MAX, u32::from_be_bytes);
        let at = (tag as usize).saturating_add(3) / 4 * 4 + 16;
        if let Some(place) = bytes.get_mut(at..at.saturating_add(20)) {
            place[..16].copy_from_slice(&session);
            place[16..].copy_from_slice(&1u32.to_be_bytes());
        }
    }
    if let Some(results) = answer(&server, &bytes) {
        assert!(results.len() >= 12, "a status, a tag and a count");
    }
    // It serves on: a session is made as before.
    begin(&server);
}

/// A session of a new client: EXCHANGE_ID and CREATE_SESSION.
fn begin(server: &Arc<Nfs4>) -> [u8; 16] {
    let words = |words: &[u32]| words.iter().flat_map(|n| n.to_be_bytes()).collect::<Vec<u8>>();
    let exchange = words(&[0, 2, 1, 42, 1, 2, 4, 0x66757a7a, 0, 0, 0]);
    let known = answer(server, &exchange).expect("an answer");
    // Status, tag, count, operation, status; then the client id and its sequence.
    let (client, sequence) = (&known[20..28], &known[28..32]);
    let channel = words(&[0, 1 << 20, 1 << 20, 8192, 64, 16, 0]);
    let create = [
        &words(&[0, 2, 1, 43])[..],
        client,
        sequence,
        &words(&[0]),
        &channel,
        &channel,
        &words(&[1 << 30, 0]),
    ];
    let created = answer(server, &create.concat()).expect("an answer");
    assert_eq!(created[..4], [0; 4], "a session");
    created[20..36].try_into().expect("16 bytes")
}

/// The results of a COMPOUND, which keep to what was announced; `None` when the arguments are garbage.
fn answer(server: &Arc<Nfs4>, arguments: &[u8]) -> Option<Vec<u8>> {
    let bound = server.reply_bound(1, arguments);
    let context =
        CallContext { peer: ([127, 0, 0, 1], 900).into(), connection: 1, credential: Credential::None };
    match block_on(server.clone().call(context, 1, Bytes::copy_from_slice(arguments))) {
        Outcome::Done { results, .. } => {
            assert!(results.len() <= bound, "{} bytes, announced {bound}", results.len());
            Some(results.finish().concat())
        }
        Outcome::GarbageArguments => None,
        other => panic!("{other:?}"),
    }
}

/// A statement, alone or in its envelope. What is read is written and read again as the same, and nothing
/// is proven where no key is trusted.
pub fn statement(data: &[u8]) {
    if let Ok(statement) = Statement::parse(data) {
        assert_eq!(Statement::parse(&statement.to_json()).ok().as_ref(), Some(&statement));
    }
    if let Ok(claim) = read_envelope(data) {
        assert!(!claim.key_ids.is_empty());
        assert_eq!(Statement::parse(&claim.statement.to_json()).ok().as_ref(), Some(&claim.statement));
        let mut raw = [0; Descriptor::SIZE];
        (raw[0], raw[1], raw[2]) = (1, 1, 12);
        let descriptor = Descriptor::parse(&raw).expect("the descriptor of an empty file");
        let expected = Expected {
            namespace: &claim.statement.namespace,
            path: &claim.statement.path,
            descriptor: &descriptor,
            file_hashes: &[],
            now: 0,
        };
        assert!(verify_envelope(data, &Keyring::new(Vec::new()), &expected).is_err());
    }
}

/// The head of a bundle. Byte 0: odd puts a right checksum where it belongs, so that what lies behind the
/// checksum is reached; the other bits add to the bundle's length. What is read is written and read again
/// as the same.
pub fn bundle(data: &[u8]) {
    let Some((&how, bytes)) = data.split_first() else { return };
    let mut bytes = bytes.to_vec();
    if how & 1 == 1 {
        seal(&mut bytes);
    }
    let total = bytes.len() as u64 + u64::from(how >> 1) * 2048;
    let Ok(extent) = Head::extent(&bytes, total) else { return };
    let Some(head) = bytes.get(..extent).map(Bytes::copy_from_slice) else { return };
    let Ok(parsed) = Head::parse(&head) else { return };
    let descriptor = parsed.evidence.descriptor.as_deref().expect("a bundle has a descriptor");
    let _ = Descriptor::parse(descriptor).map(|parsed| assert_eq!(parsed.encode()[..], *descriptor));
    match parsed.encode() {
        Ok(again) => {
            let again = Bytes::from(again);
            let read = Head::parse(&again).expect("what was written is read");
            assert_eq!((&read.evidence, read.tree_len), (&parsed.evidence, parsed.tree_len));
        }
        // Unknown sections are dropped, never added, so only the tree's place can be the matter.
        Err(BundleError::Bounds(_)) => assert!(parsed.tree_len > 0),
        Err(error) => panic!("{error}"),
    }
}

/// Writes the head's checksum behind the length that the head claims.
fn seal(bytes: &mut [u8]) {
    let Some(length) = bytes.get(12..16).and_then(|b| b.try_into().ok()).map(u32::from_le_bytes) else {
        return;
    };
    let Some(head) = bytes.get_mut(..length as usize) else { return };
    let Some((body, checksum)) = head.split_last_chunk_mut::<32>() else { return };
    checksum.copy_from_slice(&Sha256::digest(body));
}

/// The last bytes of a file that is as long as the first eight say. A footer that is read makes up the file
/// together with what it speaks of, and is written as it was read.
pub fn footer(data: &[u8]) {
    let Some((total, tail)) = data.split_first_chunk::<8>() else { return };
    let total = u64::from_le_bytes(*total);
    if let Ok(Some(footer)) = Footer::parse(tail, total) {
        assert_eq!(footer.total(), Some(total));
        assert_eq!(footer.encode()[..], *tail);
    }
}

/// A configuration file. What is wrong is told in one line of text that names a line of the file; a comment
/// at the end changes nothing; whatever is accepted can be resolved or is refused.
pub fn config(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    match FileSettings::parse(text, "fuzz.toml") {
        Ok(settings) => {
            let commented = FileSettings::parse(&format!("{text}\n# the end\n"), "fuzz.toml");
            assert_eq!(commented.as_ref().ok(), Some(&settings));
            let _ = Settings::resolve(settings, Overrides::default());
        }
        Err(error) => {
            let told = error.to_string();
            assert!(!told.contains(['\n', '\r']), "{told:?}");
            let ConfigError::Invalid { line, .. } = error else { panic!("{told}") };
            assert!((1..=text.matches('\n').count() + 1).contains(&line), "{told}");
        }
    }
}

/// Certificates that have signed things among the inputs, and never what the fuzzers ask for.
fn known() -> [Certificate; 2] {
    [
        &include_bytes!("../../vectors/keys/rsa2048.crt.der")[..],
        &include_bytes!("../../vectors/keys/ecp256.crt.der")[..],
    ]
    .map(|der| Certificate::from_der(der).expect("a certificate of the vectors"))
}

/// Text for people is one line of bounded length.
fn one_line(text: &str) {
    assert!(text.len() < 1200 && !text.chars().any(char::is_control), "{text:?}");
}

/// A PKCS#7 message. It has a signer, its bytes are all its own, and nothing signs what nobody signed.
pub fn pkcs7(data: &[u8]) {
    let Ok(parsed) = Pkcs7::parse(data) else { return };
    assert!(!parsed.signers().is_empty() && parsed.signers().len() + parsed.unsupported().len() <= 16);
    assert!(parsed.certificates().len() <= 16);
    parsed.unsupported().iter().for_each(|told| one_line(told));
    for signer in parsed.signers() {
        one_line(&signer.describe());
        for certificate in known() {
            let digest = signer.hash().digest(b"what nobody signed");
            assert!(!signer.verify(&digest, certificate.key()));
            assert!(!signer.verify(&digest[1..], certificate.key()));
        }
    }
    assert!(Pkcs7::parse_appended(data).is_ok());
    assert!(Pkcs7::parse(&[data, &[0]].concat()).is_err(), "trailing bytes");
    assert!(Pkcs7::parse(&data[..data.len() - 1]).is_err(), "cut");
}

/// The value of `security.ima`. What is read is written as it was, and nothing signs what nobody signed.
pub fn ima(data: &[u8]) {
    let Ok(parsed) = ImaSignature::parse(data) else { return };
    assert_eq!(parsed.encode().expect("what was read is written"), data);
    for hash in HashName::ALL {
        let digest = hash.digest(b"what nobody signed");
        assert!(known().iter().all(|certificate| !parsed.verify(&digest, certificate.key())));
    }
    assert!(ImaSignature::parse(&[data, &[0]].concat()).is_err(), "trailing bytes");
    assert!(ImaSignature::parse(&data[..data.len() - 1]).is_err(), "cut");
}

/// A measurement list, in the kernel's binary form. The records lie in it one behind the other, and a true one is
/// what is written of its fields; a list that verifies does so in two parts, and no record of it can be cut.
pub fn measured(data: &[u8]) {
    let mut end = 0;
    for (number, record) in (1..).zip(Records::new(data)) {
        let record = match record {
            Ok(record) => record,
            Err(error) => {
                assert_eq!((error.record, error.offset), (number, end as u64));
                assert!(verify(data, &Banks::ZERO).is_err());
                return;
            }
        };
        assert_eq!((record.number, record.offset), (number, end as u64));
        let start = end;
        end += 32 + record.template.name().len() + record.data.len();
        let bytes = &data[start..end];
        assert!(bytes.ends_with(record.data) && record.ascii().ends_with(b"\n"));
        let fields = record.fields;
        let entry = if record.is_violation() {
            Entry::violation(record.template, fields.hash, fields.name)
        } else {
            let digest = (fields.kind, fields.hash, fields.digest);
            Entry::new(record.template, digest, fields.name, fields.third)
        };
        let entry = entry.expect("what was read can be written");
        // Violations of other programs may have a digest of another kind or length, and a third field.
        let ours = !record.is_violation()
            || (fields.kind, fields.digest.len(), fields.third) == (DigestKind::Ima, fields.hash.size(), b"");
        if record.is_true() && ours {
            assert_eq!((entry.binary(), entry.ascii()), (bytes.to_vec(), record.ascii()));
        }
        let cut = verify(&bytes[..bytes.len() - 1], &Banks::ZERO).expect_err("a cut record");
        assert_eq!(cut.fault, Fault::Cut);
        if let Ok(before) = verify(&data[..start], &Banks::ZERO) {
            assert_eq!(before.records, number - 1);
            let one = verify(bytes, &before.end).map(|one| one.end).ok();
            assert_eq!(one, verify(&data[..end], &Banks::ZERO).map(|all| all.end).ok());
        }
    }
    assert_eq!(end, data.len());
}

/// A TPM's quote, the signature of one, or where its register began: byte 0 says which. Each ends where it ends; what
/// a signature and a mark say has one spelling; a quote is of one register, and of what it says that it is of.
pub fn quote(data: &[u8]) {
    let Some((&what, bytes)) = data.split_first() else { return };
    let longer = [bytes, &[0]].concat();
    let shorter = bytes.get(..bytes.len().saturating_sub(1)).unwrap_or_default();
    match what % 3 {
        0 => {
            let Ok(quote) = Quote::parse(bytes) else { return };
            assert_eq!(Quote::parse(&longer), Err(QuoteError::Trailing));
            assert_eq!(Quote::parse(shorter), Err(QuoteError::Cut));
            assert!(bytes.ends_with(quote.digest) && quote.pcr < 32 && quote.banks.len() <= 3);
            let held = Banks::of(b"held");
            for hash in QuoteHash::ALL {
                let values: Vec<u8> = quote.banks.iter().flat_map(|bank| held.get(*bank)).copied().collect();
                let digest = hash.digest(&values);
                assert_eq!(quote.is_of(hash, &held), digest == quote.digest);
                let other = [&bytes[..bytes.len() - quote.digest.len() - 2], &sized(&digest)].concat();
                assert!(Quote::parse(&other).is_ok_and(|other| other.is_of(hash, &held)));
            }
        }
        1 => {
            let Ok(signature) = QuoteSignature::parse(bytes) else { return };
            assert_eq!(QuoteSignature::parse(&longer), Err(QuoteError::Trailing));
            assert_eq!(QuoteSignature::parse(shorter), Err(QuoteError::Cut));
            let parts = match signature {
                QuoteSignature::Rsa { signature, .. } => sized(signature),
                QuoteSignature::Ecdsa { r, s, .. } => [sized(r), sized(s)].concat(),
            };
            assert_eq!(&bytes[4..], parts);
        }
        _ => {
            let Ok(mark) = Mark::open(bytes, &|_, _| true) else { return };
            assert!(Mark::open(bytes, &|_, _| false).is_err());
            assert!(bytes.starts_with(mark.encode().as_bytes()));
            assert_eq!(Mark::parse(mark.encode().as_bytes()), Ok(mark));
        }
    }
}

fn sized(bytes: &[u8]) -> Vec<u8> {
    let len = u16::try_from(bytes.len()).expect("it is within its limit");
    [&len.to_be_bytes()[..], bytes].concat()
}

/// A file with an appended signature. Byte 0: odd appends the magic. The parts lie in the file one behind
/// the other, and the tail alone tells the same.
pub fn modsig(data: &[u8]) {
    let Some((&how, rest)) = data.split_first() else { return };
    let mut file = rest.to_vec();
    if how & 1 == 1 {
        file.extend_from_slice(b"~Module signature appended~\n");
    }
    let total = file.len() as u64;
    let found = Modsig::find(&file, total);
    if let Some(start) = file.len().checked_sub(MODSIG_TAIL) {
        let alone = Modsig::find(&file[start..], total);
        assert_eq!(alone.as_ref().ok(), found.as_ref().ok(), "the tail alone tells another thing");
    }
    let Ok(Some(found)) = found else { return };
    assert!(found.content > 0 && found.content == found.pkcs7.start && found.pkcs7.start < found.pkcs7.end);
    assert_eq!(found.pkcs7.end + MODSIG_TAIL as u64, total);
    let length = usize::try_from(found.pkcs7.end - found.pkcs7.start).expect("less than the file's");
    assert!(length <= PKCS7_APPENDED_MAX);
    let end = file.len() - MODSIG_TAIL;
    let _ = Pkcs7::parse_appended(&file[end - length..end]);
}

/// An X.509 certificate. Its encoding is its only one, and what it says for people is one line.
pub fn certificate(data: &[u8]) {
    let Ok(parsed) = Certificate::from_der(data) else { return };
    assert_eq!(parsed.der(), data);
    assert_eq!(parsed.fingerprint()[..], Sha256::digest(data)[..]);
    one_line(&parsed.subject());
    if let Some(tail) = parsed.subject_key_id().and_then(|id| id.last_chunk::<4>()) {
        assert_eq!(parsed.ima_key_id(), *tail);
    }
    assert!(Certificate::from_der(&[data, &[0]].concat()).is_err(), "trailing bytes");
    assert!(Certificate::from_der(&data[..data.len() - 1]).is_err(), "cut");
}

/// A reply of an upstream server. Bytes 0 and 1: what it answers, and the count of a READ or WRITE in units
/// of 256. What is taken of it is within bounds and within the reply, no reply that is cut tells another
/// thing, and nothing behind the end is looked at.
pub fn upstream(data: &[u8]) {
    let [which, units, rest @ ..] = data else { return };
    let count = u32::from(*units) * 256;
    let questions = Question::all(count);
    let question = questions[usize::from(*which) % questions.len()];
    let record = Bytes::copy_from_slice(rest);
    let answer = match Answer::read(question, &record) {
        Ok(answer) => answer,
        Err(told) => return one_line(&told),
    };
    assert!(answer.handles.iter().all(|handle| handle.len() <= HANDLE_MAX as usize));
    assert!(answer.names.iter().all(|name| name.len() <= NAME_MAX) && answer.target.len() <= PATH_MAX);
    let parts = [&answer.handles, &answer.names, &vec![answer.target.clone(), answer.data.to_vec()]];
    for part in parts.into_iter().flatten().filter(|part| !part.is_empty()) {
        assert!(rest.windows(part.len()).any(|window| window == part), "{question:?} makes bytes up");
    }
    assert!(parts.into_iter().flatten().map(Vec::len).sum::<usize>() <= rest.len());
    let record_at = record.as_ptr_range();
    let data_at = answer.data.as_ptr_range();
    assert!(answer.data.is_empty() || (record_at.start <= data_at.start && data_at.end <= record_at.end));
    assert!(answer.data.len() <= count as usize);
    let longer = Bytes::from([rest, b"more"].concat());
    assert_eq!(Answer::read(question, &longer).as_ref(), Ok(&answer));
    let mut before = true;
    for end in (0..=rest.len()).rev().step_by(rest.len() / 64 + 1) {
        match Answer::read(question, &record.slice(..end)) {
            Ok(cut) => assert!(before && cut == answer, "cut at {end}"),
            Err(_) => before = false,
        }
    }
}

/// A policy of an export. What is written of it is the same policy, its rulings and their explanations
/// agree, and a rule matches what it asks for unless one before it does.
pub fn policy(data: &[u8]) {
    let parsed = match Policy::parse(data) {
        Ok(parsed) => parsed,
        Err(error) => {
            one_line(&error.to_string());
            assert!((1..=data.len() + 1).contains(&error.line()) && error.token().len() <= 64 * 4 + 3);
            assert!(error.errno().number() > 0);
            return;
        }
    };
    let written = parsed.render();
    let again = Policy::parse(&written).expect("what was written is read");
    assert_eq!(again.render(), written);
    assert_eq!(again.has_additions(), parsed.has_additions());
    let (told, told_again) = (parsed.statements(), again.statements());
    assert!(told.iter().map(RuleRef::to_string).eq(told_again.iter().map(RuleRef::to_string)));
    assert!(told.iter().all(|statement| statement.audit_text().bytes().all(|b| (0x20..0x7f).contains(&b))));
    let rules = told.iter().filter_map(|statement| match statement {
        RuleRef::Rule(rule) => Some(*rule),
        _ => None,
    });
    for rule in rules.take(64) {
        asking(rule, |facts| {
            let ruling = parsed.evaluate(facts);
            let explained = parsed.explain(facts);
            assert_eq!(ruling, explained.ruling);
            assert_eq!(again.evaluate(facts).rule.to_string(), ruling.rule.to_string());
            assert!(explained.misses.iter().all(|miss| miss.rule.op() == facts.op));
            assert!(ruling.rule.line().is_none_or(|line| {
                explained
                    .misses
                    .iter()
                    .all(|miss| !matches!(ruling.rule, RuleRef::Rule(_)) || miss.rule.line() < line)
            }));
        });
    }
    for op in Op::ALL {
        let nothing = Facts::of(op);
        assert_eq!(parsed.evaluate(&nothing), parsed.explain(&nothing).ruling);
    }
}

/// Facts that fulfil what `rule` asks for, as far as this is easily made.
fn asking(rule: &Rule, look: impl FnOnce(&Facts<'_>)) {
    let mut facts = Facts::of(rule.op());
    let mut signers = Vec::new();
    for property in rule.properties() {
        match property {
            Property::BootVerified(value) => facts.boot_verified = *value,
            Property::DmveritySignature(value) => facts.dmverity_signature = *value,
            Property::FsveritySignature(value) => facts.fsverity_signature = *value,
            Property::DmverityRoothash(digest) | Property::FsverityDigest(digest) => {
                let algorithm = std::str::from_utf8(digest.algorithm()).unwrap_or("sha256");
                let fact = Some(DigestFact { algorithm, bytes: digest.bytes() });
                (facts.fsverity_digest, facts.dmverity_roothash) = (fact, fact);
            }
            Property::Path(pattern) => facts.path = Some(pattern.text().as_bytes()),
            Property::Signer(SignerPattern::Key(key_id)) => {
                signers.push(SignerFact { key_id: *key_id, name: "", format: "native" });
            }
            Property::Signer(SignerPattern::Name(name)) => {
                let name = std::str::from_utf8(name).unwrap_or_default();
                signers.push(SignerFact { key_id: [1; 32], name, format: "native" });
            }
            Property::Format(word) => {
                let format = std::str::from_utf8(word).unwrap_or_default();
                signers.push(SignerFact { key_id: [2; 32], name: "", format });
            }
            Property::Client(network) => {
                facts.client = network.to_string().split('/').next().and_then(|first| first.parse().ok());
                assert!(facts.client.is_some_and(|client| network.contains(client)));
            }
            Property::Uid(uid) => facts.uid = Some(*uid),
            Property::SignedAfter(time) => facts.signed_at = time.as_second().checked_add(1),
            Property::Quorum(number) => {
                signers.extend((0..*number).map(|id| SignerFact { key_id: [id; 32], name: "", format: "" }));
            }
        }
    }
    facts.signers = &signers;
    look(&facts);
}
