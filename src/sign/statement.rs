//! What is signed about a file: an in-toto Statement v1 whose subject names the path and the
//! fs-verity file digest. <https://github.com/in-toto/attestation/blob/main/spec/v1/statement.md>
//!
//! There is one byte string for each statement that we write. What we accept may have other white
//! space, another order of fields or other string escapes, for it is signed as it stands.

use super::json::{self, Json, Object};
use super::text::{Quoted, decode_name, decode_time, encode_name, encode_time, is_relative_path};
use super::{ENVELOPE_MAX, SignError};
use crate::verity::{BlockSize, FileDigest};

const TYPE: &str = "https://in-toto.io/Statement/v1";
const PREDICATE_TYPE: &str = "urn:nfs-verity:file:v1";

/// What a signer says about one file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Statement {
    /// Name of the tree, so that two trees signed with one key cannot be exchanged; may be empty.
    pub namespace: String,
    /// The file's path below the tree's root: not empty, relative, without `.`, `..`, empty parts and NUL.
    pub path: Vec<u8>,
    /// The fs-verity file digest.
    pub file_digest: FileDigest,
    /// The file's size in bytes, at most `i64::MAX`.
    pub size: u64,
    /// Size of the blocks of the Merkle tree.
    pub block_size: BlockSize,
    /// The signer's number for this version of the file, at most `i64::MAX`.
    pub version: u64,
    /// When the statement ceases to hold, in seconds since 1970 (years 0 to 9999).
    pub expires: Option<i64>,
    /// When the signer says that it was signed, in seconds since 1970 (years 0 to 9999).
    pub signed: Option<i64>,
}

impl Statement {
    /// The statement in JSON, always the same bytes for the same statement. A statement that breaks
    /// the bounds of its fields gives JSON that [`Statement::parse`] refuses.
    pub fn to_json(&self) -> Vec<u8> {
        let algorithm = self.file_digest.algorithm.name();
        let time = |name: &str, time: Option<i64>| {
            time.map_or_else(String::new, |seconds| {
                let time = encode_time(seconds).unwrap_or_else(|| format!("second {seconds}"));
                format!(r#","{name}":"{time}""#)
            })
        };
        format!(
            concat!(
                r#"{{"_type":"{}","subject":[{{"name":{},"digest":{{"fsverity-{}":"{}"}}}}],"predicateType":"{}","#,
                r#""predicate":{{"namespace":{},"size":{},"hashAlgorithm":"{}","blockSize":{},"version":{}{}{}}}}}"#,
            ),
            TYPE,
            json::string(&encode_name(&self.path)),
            algorithm,
            self.file_digest.digest,
            PREDICATE_TYPE,
            json::string(&self.namespace),
            self.size,
            algorithm,
            self.block_size.get(),
            self.version,
            time("expires", self.expires),
            time("signed", self.signed),
        )
        .into_bytes()
    }

    /// Reads a statement strictly: every field once, no other field, one subject with one digest,
    /// names, digests and times in their canonical form, nothing behind the end.
    pub fn parse(bytes: &[u8]) -> Result<Self, SignError> {
        if bytes.len() > ENVELOPE_MAX {
            return Err(SignError::TooLong { what: "statement", found: bytes.len(), max: ENVELOPE_MAX });
        }
        let mut statement = Object::parse(bytes, "statement")?;
        statement.constant("_type", TYPE)?;
        statement.constant("predicateType", PREDICATE_TYPE)?;
        let mut predicate = statement.object("predicate", "predicate")?;
        let subjects = <[Json; 1]>::try_from(statement.list("subject")?);
        let [subject] = subjects.map_err(|_| statement.refuse("subject", "a list of one subject"))?;
        let mut subject = Object::from_json(subject, "subject")
            .ok_or_else(|| statement.refuse("subject", "a list of one object"))?;
        statement.finish()?;

        let path = decode_name(&subject.text("name")?)
            .ok_or_else(|| subject.refuse("name", "the canonical name of a path below the root"))?;
        let digests = subject.object("digest", "digest")?.into_fields();
        let file_digest = parse_digest(digests)
            .ok_or_else(|| subject.refuse("digest", "one fsverity digest in lower-case hexadecimal"))?;
        subject.finish()?;

        let namespace = predicate.text("namespace")?;
        let size = predicate.number("size")?;
        if predicate.text("hashAlgorithm")? != file_digest.algorithm.name() {
            return Err(predicate.refuse("hashAlgorithm", "the algorithm of the subject's digest"));
        }
        let block_size = u32::try_from(predicate.number("blockSize")?)
            .ok()
            .and_then(|size| BlockSize::new(size).ok())
            .ok_or_else(|| predicate.refuse("blockSize", "a power of two from 1024 to 65536"))?;
        let version = predicate.number("version")?;
        let (expires, signed) = (time(&mut predicate, "expires")?, time(&mut predicate, "signed")?);
        predicate.finish()?;
        Ok(Self { namespace, path, file_digest, size, block_size, version, expires, signed })
    }

    /// The bytes to sign; refused when they would not be read back as this very statement.
    pub(super) fn to_signable(&self) -> Result<Vec<u8>, SignError> {
        let refuse = |reason: String| SignError::Unsignable { reason };
        if !is_relative_path(&self.path) {
            return Err(refuse(format!("{} is no path below the root", Quoted(&self.path))));
        }
        let json = self.to_json();
        match Self::parse(&json) {
            Ok(read) if read == *self => Ok(json),
            Ok(_) => Err(refuse("it would be read as another one".to_owned())),
            Err(error) => Err(refuse(error.to_string())),
        }
    }
}

/// A time that may be absent.
fn time(predicate: &mut Object, name: &'static str) -> Result<Option<i64>, SignError> {
    let Some(time) = predicate.optional_text(name)? else { return Ok(None) };
    let seconds = decode_time(&time);
    seconds.map(Some).ok_or_else(|| predicate.refuse(name, "a time in the form 2027-01-01T00:00:00Z"))
}

/// The file digest in a DigestSet, which must hold that one alone.
fn parse_digest(fields: Vec<(String, Json)>) -> Option<FileDigest> {
    let [(name, value)] = <[(String, Json); 1]>::try_from(fields).ok()?;
    let algorithm = name.strip_prefix("fsverity-")?;
    let Json::Text(hex) = value else { return None };
    format!("{algorithm}:{hex}").parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sign::fixture;
    use crate::verity::Digest;

    #[test]
    fn the_json_is_the_documented_one() {
        let statement = fixture::statement();
        let expected = format!(
            concat!(
                r#"{{"_type":"https://in-toto.io/Statement/v1","subject":[{{"name":"bin/ls","digest":"#,
                r#"{{"fsverity-sha256":"{}"}}}}],"predicateType":"urn:nfs-verity:file:v1","predicate":"#,
                r#"{{"namespace":"tree","size":5000,"hashAlgorithm":"sha256","blockSize":4096,"version":1,"#,
                r#""expires":"2027-01-01T00:00:00Z"}}}}"#,
            ),
            statement.file_digest.digest
        );
        assert_eq!(String::from_utf8(statement.to_json()).unwrap(), expected);
    }

    #[test]
    fn statements_come_back_unchanged() {
        let base = fixture::statement();
        let mut all = vec![base.clone()];
        for path in [&b"a\nb"[..], b"\xff\xfe", b"100%/\"quoted\\\"", "\u{1f980}".as_bytes()] {
            all.push(Statement { path: path.to_vec(), ..base.clone() });
        }
        for namespace in ["", "a \"b\"\n\u{0}\u{1f980}"] {
            all.push(Statement { namespace: namespace.to_owned(), ..base.clone() });
        }
        for size in [0, 1, i64::MAX.cast_unsigned()] {
            all.push(Statement { size, version: size, expires: None, ..base.clone() });
            all.push(Statement { signed: i64::try_from(size.min(1 << 32)).ok(), ..base.clone() });
        }
        for size in [1024, 65536] {
            all.push(Statement { block_size: BlockSize::new(size).unwrap(), ..base.clone() });
        }
        let digest = Digest::new(&[0xab; 64]).unwrap();
        let file_digest = FileDigest { algorithm: "sha512".parse().unwrap(), digest };
        all.push(Statement { file_digest, ..base });
        for statement in all {
            let json = statement.to_signable().unwrap();
            assert_eq!(Statement::parse(&json).unwrap(), statement);
            assert_eq!(statement.to_json(), json);
        }
    }

    #[test]
    fn statements_out_of_bounds_are_not_signed() {
        let base = fixture::statement();
        let paths = [&b""[..], b"/etc", b"a/../b", b"a\0", b"a/"];
        let bad = paths.iter().map(|path| Statement { path: path.to_vec(), ..base.clone() }).chain([
            Statement { size: 1 << 63, ..base.clone() },
            Statement { version: u64::MAX, ..base.clone() },
            Statement { expires: Some(i64::MAX), ..base.clone() },
            Statement { expires: Some(i64::MIN), ..base.clone() },
            Statement { signed: Some(i64::MIN), ..base.clone() },
            Statement { path: vec![0xff; ENVELOPE_MAX / 3], ..base.clone() },
            Statement {
                file_digest: FileDigest { digest: Digest::new(&[1; 64]).unwrap(), ..base.file_digest },
                ..base.clone()
            },
        ]);
        for statement in bad {
            assert!(matches!(statement.to_signable(), Err(SignError::Unsignable { .. })), "{statement:?}");
            assert!(Statement::parse(&statement.to_json()).is_err());
        }
    }

    #[test]
    fn cut_at_every_length_or_extended_is_refused() {
        let json = fixture::statement().to_json();
        for cut in 0..json.len() {
            assert!(Statement::parse(&json[..cut]).is_err(), "cut at {cut}");
        }
        for tail in [&b" "[..], b"\n", b"\0", b"}", b"{}"] {
            assert!(Statement::parse(&[&json[..], tail].concat()).is_err(), "{tail:?}");
        }
    }

    #[test]
    fn white_space_inside_and_the_order_of_fields_are_free() {
        let statement = fixture::statement();
        let json = String::from_utf8(statement.to_json()).unwrap();
        let spaced = json.replace("\":", "\" : ").replace(',', " ,\n ");
        assert_eq!(Statement::parse(spaced.as_bytes()).unwrap(), statement);
        let swapped =
            json.replace(r#""size":5000,"#, "").replace(r#""version":1"#, r#""version":1,"size":5000"#);
        assert_ne!(swapped, json);
        assert_eq!(Statement::parse(swapped.as_bytes()).unwrap(), statement);
    }

    #[test]
    fn every_deviation_is_refused() {
        let json = String::from_utf8(fixture::statement().to_json()).unwrap();
        let hex = fixture::statement().file_digest.digest.to_string();
        let digest = format!(r#""fsverity-sha256":"{hex}""#);
        let subject = format!(r#"{{"name":"bin/ls","digest":{{{digest}}}}}"#);
        assert!(json.contains(&subject));
        let changes: Vec<(&str, String)> = vec![
            ("Statement/v1", "Statement/v0.1".to_owned()),
            ("file:v1", "file:v2".to_owned()),
            // Fields: missing, unknown, twice, at every level.
            (r#""_type":"https://in-toto.io/Statement/v1","#, String::new()),
            (r#""version":1,"#, String::new()),
            (r#""namespace":"tree","#, String::new()),
            (r#""size":5000,"#, String::new()),
            (r#""name":"bin/ls","#, String::new()),
            (r#""version":1,"#, r#""version":1,"note":"x","#.to_owned()),
            (r#""name":"#, r#""uri":"x","name":"#.to_owned()),
            (r#"{"_type""#, r#"{"extra":1,"_type""#.to_owned()),
            (r#""size":5000"#, r#""size":5000,"size":5000"#.to_owned()),
            (r#""name":"bin/ls""#, r#""name":"bin/ls","name":"bin/ls""#.to_owned()),
            (&digest, format!("{digest},{digest}")),
            (r#""_type":"#, r#""_type":"https://in-toto.io/Statement/v1","_type":"#.to_owned()),
            // Subjects and digests.
            (&subject, format!("{subject},{subject}")),
            (&subject, String::new()),
            (&subject, "\"bin/ls\"".to_owned()),
            (&digest, String::new()),
            (&digest, format!(r#"{digest},"sha256":"{hex}""#)),
            ("fsverity-sha256", "sha256".to_owned()),
            ("fsverity-sha256", "fsverity-sha512".to_owned()),
            ("fsverity-sha256", "fsverity-sha1".to_owned()),
            (&hex, hex.to_uppercase()),
            (&hex, hex[2..].to_owned()),
            (&hex, format!("{hex}00")),
            (&hex, format!("zz{}", &hex[2..])),
            // Names.
            ("bin/ls", "/bin/ls".to_owned()),
            ("bin/ls", "bin//ls".to_owned()),
            ("bin/ls", "bin/../ls".to_owned()),
            ("bin/ls", "bin/%6Cs".to_owned()),
            ("bin/ls", "bin/%".to_owned()),
            ("bin/ls", "bin/%ff".to_owned()),
            ("bin/ls", r"bin\u0000ls".to_owned()),
            ("bin/ls", r"bin\nls".to_owned()),
            ("bin/ls", String::new()),
            // Values of the predicate.
            (r#""hashAlgorithm":"sha256""#, r#""hashAlgorithm":"sha512""#.to_owned()),
            ("4096", "4095".to_owned()),
            ("4096", "512".to_owned()),
            ("4096", "131072".to_owned()),
            ("4096", "4294971392".to_owned()),
            ("4096", "4096.0".to_owned()),
            ("4096", "\"4096\"".to_owned()),
            ("5000", "9223372036854775808".to_owned()),
            ("5000", "-5000".to_owned()),
            ("5000", "5e3".to_owned()),
            ("5000", "05000".to_owned()),
            (r#""version":1"#, r#""version":null"#.to_owned()),
            ("\"tree\"", "null".to_owned()),
            ("\"2027-01-01T00:00:00Z\"", "null".to_owned()),
            ("\"2027-01-01T00:00:00Z\"", "1798761600".to_owned()),
            ("00:00:00Z", "00:00:00+00:00".to_owned()),
            ("00:00:00Z", "00:00:00.000Z".to_owned()),
            ("01-01T", "02-30T".to_owned()),
        ];
        for (from, to) in changes {
            let changed = json.replacen(from, &to, 1);
            assert_ne!(changed, json, "{from} is not in the statement");
            assert!(Statement::parse(changed.as_bytes()).is_err(), "{from} -> {to}");
        }
    }

    #[test]
    fn a_list_in_place_of_an_object_is_refused() {
        let json = String::from_utf8(fixture::statement().to_json()).unwrap();
        let at = json.find(r#""predicate":{"#).unwrap();
        let listed = format!("{}\"predicate\":[\"tree\",5000,\"sha256\",4096,1]}}", &json[..at]);
        assert!(matches!(
            Statement::parse(listed.as_bytes()),
            Err(SignError::Field { field: "predicate", .. })
        ));
    }
}
