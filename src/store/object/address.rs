//! What a bucket's URL says: `s3://BUCKET/PREFIX?OPTION=VALUE&...`, and nothing secret.

use std::fmt;
use std::time::Duration;

use super::super::StorePath;
use super::super::url::{AddressError, Url};

/// How long what was learned by HEAD and by listing counts as true, when nothing else is said.
const TTL: Duration = Duration::from_secs(5);
/// The longest that it may count.
const TTL_MAX: u64 = 24 * 60 * 60;

/// Whose bucket it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Provider {
    S3,
    Google,
    Azure,
}

/// The address of a bucket, or of what has one prefix in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    url: Url,
    pub(super) provider: Provider,
    pub(super) bucket: String,
    /// What keys start with: empty, or names with slashes between them and behind the last.
    pub(super) prefix: String,
    pub(super) endpoint: Option<String>,
    pub(super) region: Option<String>,
    pub(super) virtual_hosted: bool,
    /// Requests carry no signature, as public buckets take them.
    pub(super) anonymous: bool,
    pub(super) look: Look,
}

/// How objects look as files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Look {
    pub(super) uid: u32,
    pub(super) gid: u32,
    /// Of files.
    pub(super) mode: u32,
    /// Of directories.
    pub(super) dir_mode: u32,
    /// Mode, owner and time of a file come from the object's metadata, where it has them.
    pub(super) metadata: bool,
    pub(super) ttl: Duration,
}

impl Default for Look {
    fn default() -> Self {
        Self { uid: 0, gid: 0, mode: 0o644, dir_mode: 0o755, metadata: false, ttl: TTL }
    }
}

impl Address {
    pub(in crate::store) fn from_url(url: Url) -> Result<Self, AddressError> {
        let text = url.to_string();
        let wrong = |what: &str| AddressError::new(&text, what);
        let provider = match url.scheme.as_str() {
            "s3" => Provider::S3,
            "gs" => Provider::Google,
            "az" => Provider::Azure,
            _ => return Err(wrong("no bucket has this scheme; there are s3, gs and az")),
        };
        if url.port.is_some() {
            return Err(wrong("a bucket has no port; endpoint=URL names a server"));
        }
        let path = url.path.strip_suffix(b"/").unwrap_or(&url.path);
        let path = StorePath::parse(path).map_err(|error| wrong(&format!("the prefix: {error}")))?;
        let prefix = String::from_utf8(path.as_bytes().to_vec());
        let mut prefix = prefix.map_err(|_| wrong("the prefix is no UTF-8, as all keys are"))?;
        if !prefix.is_empty() {
            prefix.push('/');
        }
        let mut address = Self {
            provider,
            bucket: url.host.clone(),
            prefix,
            endpoint: None,
            region: None,
            virtual_hosted: false,
            anonymous: false,
            look: Look::default(),
            url: url.clone(),
        };
        for (key, value) in &url.query {
            address.set(key, value).map_err(|what| wrong(&format!("{key}: {what}")))?;
        }
        Ok(address)
    }

    fn set(&mut self, key: &str, value: &str) -> Result<(), &'static str> {
        let number = || value.parse().map_err(|_| "it wants a number below 4294967296");
        let octal = || {
            let mode = u32::from_str_radix(value, 8).ok().filter(|mode| *mode <= 0o7777);
            mode.ok_or("it wants permission bits in octal, as in 644")
        };
        let switch = || match value {
            "on" => Ok(true),
            "off" => Ok(false),
            _ => Err("it wants on or off"),
        };
        match key {
            "endpoint" if ["http://", "https://"].iter().any(|scheme| value.starts_with(scheme)) => {
                if value.contains(['?', '#']) {
                    return Err("a query is no part of an endpoint, and nothing secret belongs into a URL");
                }
                if value.contains('@') {
                    return Err("user and password do not belong into a URL");
                }
                self.endpoint = Some(value.to_owned());
            }
            "endpoint" => return Err("it wants a URL of http or https"),
            "region" => self.region = Some(value.to_owned()),
            "uid" => self.look.uid = number()?,
            "gid" => self.look.gid = number()?,
            "mode" => self.look.mode = octal()?,
            "dir_mode" => self.look.dir_mode = octal()?,
            "metadata" => self.look.metadata = switch()?,
            "path_style" => self.virtual_hosted = !switch()?,
            "virtual_hosted" => self.virtual_hosted = switch()?,
            "anonymous" => self.anonymous = switch()?,
            "ttl" => {
                let seconds = value.parse().ok().filter(|seconds| *seconds <= TTL_MAX);
                self.look.ttl = Duration::from_secs(seconds.ok_or("it wants seconds, at most a day")?);
            }
            _ if is_secret(key) => {
                return Err("secrets do not belong into a URL; give credentials by the environment, by \
                            ~/.aws/credentials or by the instance's role");
            }
            _ => {
                return Err(
                    "there is no such option; there are endpoint, region, uid, gid, mode, dir_mode, \
                            metadata, ttl, path_style, virtual_hosted and anonymous",
                );
            }
        }
        Ok(())
    }
}

fn is_secret(key: &str) -> bool {
    let key = key.to_ascii_lowercase();
    ["key", "secret", "token", "password", "credential", "sig"].iter().any(|word| key.contains(word))
}

/// As it is given: it holds no secret.
impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.url.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> Result<Address, AddressError> {
        Address::from_url(Url::parse(text).unwrap())
    }

    #[test]
    fn options_are_what_was_given() {
        let text =
            "s3://b/p/q/?endpoint=http://127.0.0.1:9000&uid=3&gid=4&mode=640&dir_mode=750&metadata=on&ttl=0";
        let a = address(text).unwrap();
        assert_eq!((a.bucket.as_str(), a.prefix.as_str()), ("b", "p/q/"));
        assert_eq!(a.endpoint.as_deref(), Some("http://127.0.0.1:9000"));
        let look = Look { uid: 3, gid: 4, mode: 0o640, dir_mode: 0o750, metadata: true, ttl: Duration::ZERO };
        assert_eq!(a.look, look);
        assert_eq!(address("gs://b").unwrap().prefix, "");
        assert_eq!(address("az://b").unwrap().provider, Provider::Azure);
    }

    #[test]
    fn secrets_and_what_nobody_understands_are_refused() {
        for text in [
            "s3://b:1/p",
            "s3://b/p//q",
            "s3://b/..",
            "s3://b/%ff",
            "s3://b/?mode=888",
            "s3://b/?mode=10000",
            "s3://b/?uid=-1",
            "s3://b/?ttl=86401",
            "s3://b/?metadata=yes",
            "s3://b/?endpoint=ftp://h",
            "s3://b/?endpoint=http://u:p@h",
            "s3://b/?endpoint=http://h/%3Fsig=hush",
            "s3://b/?nothing=1",
        ] {
            assert!(address(text).is_err(), "{text}");
        }
        for key in ["secret_access_key", "AWS_SESSION_TOKEN", "sig", "access_key_id", "password"] {
            let error = address(&format!("s3://b/?{key}=hush")).unwrap_err().to_string();
            assert!(error.contains("environment") && !error.contains("hush"), "{error}");
        }
    }
}
