//! The client of a bucket, with credentials from where they are kept: the environment, the files of the AWS tools,
//! or the role of the machine. Never from the address.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey};
use object_store::azure::{AzureConfigKey, MicrosoftAzureBuilder};
use object_store::gcp::{GoogleCloudStorageBuilder, GoogleConfigKey};
use object_store::list::PaginatedListStore;
use object_store::{BackoffConfig, ClientConfigKey, ObjectStore, RetryConfig};

use super::address::{Address, Provider};
use super::fail::word;
use super::http::Bounded;

/// The largest file of credentials.
const FILE_MAX: u64 = 1024 * 1024;

type Client = (Arc<dyn ObjectStore>, Arc<dyn PaginatedListStore>);

/// The client for the bucket at `address`. What is asked in vain is asked again within `timeout`; how long an answer
/// may take is for who asks.
pub(super) fn connect(address: &Address, timeout: Duration) -> Result<Client, String> {
    let plain = address.endpoint.as_deref().is_some_and(|url| url.starts_with("http://"));
    // Set one by one: the environment may say more, such as a proxy. Who asks watches the time, and the connector.
    let mut options = vec![(ClientConfigKey::Timeout, "1day"), (ClientConfigKey::ConnectTimeout, "5s")];
    if plain {
        options.push((ClientConfigKey::AllowHttp, "true"));
    }
    let http = Bounded::new(timeout);
    let backoff = BackoffConfig {
        init_backoff: Duration::from_millis(50),
        max_backoff: Duration::from_secs(1),
        ..BackoffConfig::default()
    };
    let retry = RetryConfig { backoff, max_retries: 3, retry_timeout: timeout };
    let bucket = &address.bucket;
    match address.provider {
        Provider::S3 => {
            let mut builder = AmazonS3Builder::from_env();
            if !address.anonymous
                && let Some(profile) = profile()?
            {
                builder = builder.with_access_key_id(profile.key_id).with_secret_access_key(profile.secret);
                if let Some(token) = profile.token {
                    builder = builder.with_token(token);
                }
            }
            if let Some(endpoint) = &address.endpoint {
                builder = builder.with_endpoint(endpoint);
            }
            if let Some(region) = &address.region {
                builder = builder.with_region(region);
            }
            let set = |builder: AmazonS3Builder, (key, value): (_, &str)| {
                builder.with_config(AmazonS3ConfigKey::Client(key), value)
            };
            let builder = (options.into_iter().fold(builder, set))
                .with_bucket_name(bucket)
                .with_virtual_hosted_style_request(address.virtual_hosted)
                .with_http_connector(http)
                .with_retry(retry);
            both(if address.anonymous { builder.with_skip_signature(true) } else { builder }.build())
        }
        Provider::Google => {
            let mut builder = GoogleCloudStorageBuilder::from_env().with_bucket_name(bucket);
            if let Some(endpoint) = &address.endpoint {
                builder = builder.with_base_url(endpoint);
            }
            let set = |builder: GoogleCloudStorageBuilder, (key, value): (_, &str)| {
                builder.with_config(GoogleConfigKey::Client(key), value)
            };
            let builder =
                (options.into_iter().fold(builder, set)).with_http_connector(http).with_retry(retry);
            both(if address.anonymous { builder.with_skip_signature(true) } else { builder }.build())
        }
        Provider::Azure => {
            let mut builder = MicrosoftAzureBuilder::from_env().with_container_name(bucket);
            if let Some(endpoint) = &address.endpoint {
                builder = builder.with_endpoint(endpoint.clone());
            }
            let set = |builder: MicrosoftAzureBuilder, (key, value): (_, &str)| {
                builder.with_config(AzureConfigKey::Client(key), value)
            };
            let builder =
                (options.into_iter().fold(builder, set)).with_http_connector(http).with_retry(retry);
            both(if address.anonymous { builder.with_skip_signature(true) } else { builder }.build())
        }
    }
}

fn both(built: object_store::Result<impl ObjectStore + PaginatedListStore>) -> Result<Client, String> {
    let store = Arc::new(built.map_err(|error| word(&error))?);
    Ok((store.clone(), store))
}

/// Keys as they stand in a profile.
#[derive(PartialEq, Eq)]
struct Profile {
    key_id: String,
    secret: String,
    token: Option<String>,
}

/// No secret gets into a log.
impl fmt::Debug for Profile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Profile").finish_non_exhaustive()
    }
}

/// The profile of the files of the AWS tools, unless the environment has other credentials.
fn profile() -> Result<Option<Profile>, String> {
    let set = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
    let others = [
        "AWS_ACCESS_KEY_ID",
        "AWS_WEB_IDENTITY_TOKEN_FILE",
        "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
        "AWS_CONTAINER_CREDENTIALS_FULL_URI",
    ];
    if others.iter().any(|name| set(name).is_some()) {
        return Ok(None);
    }
    let chosen = match set("AWS_PROFILE").map(std::ffi::OsString::into_string).transpose() {
        Ok(name) => name,
        Err(_) => return Err("AWS_PROFILE is no UTF-8".into()),
    };
    let home = || set("HOME").map(|home| PathBuf::from(home).join(".aws/credentials"));
    let file = set("AWS_SHARED_CREDENTIALS_FILE").map(PathBuf::from);
    let wanted = file.is_some() || chosen.is_some();
    let Some(path) = file.or_else(home) else { return Ok(None) };
    let failed = |error: std::io::Error| format!("{}: {error}", path.display());
    match std::fs::metadata(&path) {
        Ok(metadata) if metadata.len() > FILE_MAX || !metadata.is_file() => {
            return Err(format!("{}: it is no file of credentials", path.display()));
        }
        Ok(_) => {}
        Err(error) if error.kind() == std::io::ErrorKind::NotFound && !wanted => return Ok(None),
        Err(error) => return Err(failed(error)),
    }
    let text = std::fs::read_to_string(&path).map_err(failed)?;
    let name = chosen.as_deref().unwrap_or("default");
    match parse(&text, name).map_err(|what| format!("{}: {what}", path.display()))? {
        None if chosen.is_some() => Err(format!("{}: there is no profile {name:?}", path.display())),
        profile => Ok(profile),
    }
}

/// The profile `wanted` of a file of credentials; no error ever holds a line of it.
fn parse(text: &str, wanted: &str) -> Result<Option<Profile>, String> {
    let (mut inside, mut found) = (false, false);
    let (mut key_id, mut secret, mut token) = (None, None, None);
    for (n, line) in text.lines().enumerate() {
        let (n, line) = (n + 1, line.trim());
        if line.is_empty() || line.starts_with(['#', ';']) {
            continue;
        }
        if let Some(rest) = line.strip_prefix('[') {
            let name = rest.strip_suffix(']').ok_or_else(|| format!("line {n}: a [ is not closed"))?;
            inside = name.trim() == wanted;
            found |= inside;
            continue;
        }
        let (key, value) = line.split_once('=').ok_or_else(|| format!("line {n}: it has no ="))?;
        let slot = match key.trim() {
            "aws_access_key_id" => &mut key_id,
            "aws_secret_access_key" => &mut secret,
            "aws_session_token" => &mut token,
            _ => continue,
        };
        if inside && slot.replace(value.trim().to_owned()).is_some() {
            return Err(format!("line {n}: {} stands there twice", key.trim()));
        }
    }
    match (key_id, secret) {
        (Some(key_id), Some(secret)) => Ok(Some(Profile { key_id, secret, token })),
        _ if found => Err(format!("the profile {wanted:?} lacks aws_access_key_id or aws_secret_access_key")),
        _ => Ok(None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "# c\n[default]\naws_access_key_id = A\naws_secret_access_key=b=c\n\n[other]\nregion = x\n\
                        aws_access_key_id=O\naws_secret_access_key = s\naws_session_token = t\n[empty]\n";

    #[test]
    fn the_wanted_profile_is_read() {
        let profile = |key_id: &str, secret: &str, token: Option<&str>| Profile {
            key_id: key_id.into(),
            secret: secret.into(),
            token: token.map(Into::into),
        };
        assert_eq!(parse(TEXT, "default").unwrap(), Some(profile("A", "b=c", None)));
        assert_eq!(parse(TEXT, "other").unwrap(), Some(profile("O", "s", Some("t"))));
        assert_eq!(parse(TEXT, "none").unwrap(), None);
        parse(TEXT, "empty").unwrap_err();
        assert_eq!(format!("{:?}", profile("A", "hush", Some("hush"))), "Profile { .. }");
    }

    #[test]
    fn what_is_no_file_of_credentials_is_refused_without_telling_a_secret() {
        for text in [
            "[default\nx=y",
            "[default]\nhushhush",
            "[default]\naws_secret_access_key=hush\naws_secret_access_key=hush",
        ] {
            let error = parse(text, "default").unwrap_err();
            assert!(error.contains("line") && !error.contains("hush"), "{error}");
        }
    }
}
