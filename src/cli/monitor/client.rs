//! A client of the monitor. What a server sends is bounded, and its words are shown on one line.

use std::error::Error;
use std::fs::File;
use std::io::Write;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use reqwest::header::{AUTHORIZATION, HeaderValue};
use reqwest::redirect::Policy;
use reqwest::{Certificate, Identity, Response, StatusCode, Url};
use serde_json::Value;
use zeroize::Zeroizing;

use crate::cli::Trouble;
use crate::cli::signer::{private_file, read_bounded};
use crate::cli::told::shown;

/// The longest answer, in bytes.
const ANSWER_MAX: usize = 16 << 20;
/// So much is read of what is said to an error.
const ERROR_MAX: usize = 4096;
/// The longest file of certificates or keys, in bytes.
const PEM_MAX: usize = 1 << 20;
/// The longest token, in bytes.
const TOKEN_MAX: usize = 4096;
/// How long one address may take to accept a connection.
const CONNECT: Duration = Duration::from_secs(5);

/// Where a gateway's monitor is.
#[derive(Debug, Args)]
pub(super) struct PlaceArgs {
    /// The gateway's monitor: a URL, or ADDR:PORT
    // Parsed later: the parser of the command line would tell a password that stands there by mistake.
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:9649")]
    monitor: String,
    /// Authorities in PEM, of which one has to vouch for an https monitor; the system's when absent
    #[arg(long, value_name = "FILE")]
    ca: Option<PathBuf>,
    /// The certificate to show to an https monitor, in PEM
    #[arg(long, value_name = "FILE", requires = "key")]
    cert: Option<PathBuf>,
    /// The certificate's private key in PEM, which nobody but its owner may read
    #[arg(long, value_name = "FILE", requires = "cert")]
    key: Option<PathBuf>,
}

/// Where it is, and the right to ask it.
#[derive(Debug, Args)]
pub(super) struct AccessArgs {
    #[command(flatten)]
    place: PlaceArgs,
    /// A file with the monitor's token, where it wants one
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
}

impl AccessArgs {
    /// What asks.
    pub(super) fn client(&self) -> Result<Client, Trouble> {
        Client::new(&self.place, self.token_file.as_deref())
    }
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum AskError {
    /// Nobody answers.
    #[error("{url}: {reason}; is the gateway running, and is this its monitor (--monitor)?{}", hint(*.anonymous))]
    Unreachable { url: Url, reason: String, anonymous: bool },
    /// An answer that has begun does not go on.
    #[error("{url}: {reason}")]
    Lost { url: Url, reason: String },
    /// Nothing, or no end, within the time that there is.
    #[error("{url}: no answer within {seconds} seconds")]
    Late { url: Url, seconds: u64 },
    /// It is not told without a token, or this is not the one.
    #[error("{url}: {status}; the monitor wants its token (--token-file) or a certificate (--cert){}", said(.words))]
    Denied { url: Url, status: StatusCode, words: String },
    /// There is no such page.
    #[error("{url}: {status}; this is no gateway's monitor, or an older one's")]
    Missing { url: Url, status: StatusCode },
    /// Another answer than the one that was asked for.
    #[error("{url}: {status}{}", said(.words))]
    Refused { url: Url, status: StatusCode, words: String },
    /// More than an answer has.
    #[error("{url}: the answer has more than {ANSWER_MAX} bytes")]
    TooLong { url: Url },
    /// It cannot be understood.
    #[error("{url}: {what}; is this a gateway's monitor?")]
    Malformed { url: Url, what: String },
}

impl AskError {
    /// Whether the same may succeed later.
    pub(super) fn passes(&self) -> bool {
        match self {
            Self::Unreachable { .. } | Self::Lost { .. } | Self::Late { .. } => true,
            Self::Refused { status, .. } => {
                status.is_server_error() || *status == StatusCode::TOO_MANY_REQUESTS
            }
            Self::Denied { .. } | Self::Missing { .. } | Self::TooLong { .. } | Self::Malformed { .. } => {
                false
            }
        }
    }
}

/// A monitor that wants a certificate hangs up, and the alert that says why may come behind that.
fn hint(anonymous: bool) -> &'static str {
    if anonymous { " It may want a certificate (--cert)." } else { "" }
}

fn said(words: &str) -> String {
    if words.is_empty() { String::new() } else { format!("; it says: {words}") }
}

/// Asks one monitor.
#[derive(Debug)]
pub(super) struct Client {
    http: reqwest::Client,
    /// Ends with a slash.
    base: Url,
    token: Option<HeaderValue>,
    /// It is asked over https without a certificate.
    anonymous: bool,
}

impl Client {
    /// A client that goes where it is told, without a proxy and without following the server elsewhere: the
    /// token is for the monitor alone.
    pub(super) fn new(place: &PlaceArgs, token_file: Option<&Path>) -> Result<Self, Trouble> {
        let base = address(&place.monitor)?;
        let token = token_file.map(token).transpose()?;
        let is_encrypted = base.scheme() == "https";
        if token.is_some() && !is_encrypted && !is_here(&base) {
            let host = base.host_str().unwrap_or_default();
            writeln!(std::io::stderr(), "nfs-verity: the token goes to {host} as it is; use https")?;
        }
        // It does not matter who was first.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let mut builder = reqwest::Client::builder()
            .no_proxy()
            .redirect(Policy::none())
            .referer(false)
            .http1_only()
            .connect_timeout(CONNECT);
        match &place.ca {
            Some(path) => {
                let pem = read_bounded(open(path)?, PEM_MAX).map_err(|e| Trouble::file("read", path, e))?;
                let wrong = |what: String| Trouble::usage(format!("{}: {what}", path.display()));
                let authorities = Certificate::from_pem_bundle(&pem).map_err(|e| wrong(reason(&e)))?;
                if authorities.is_empty() {
                    return Err(wrong("it has no certificates; give those of authorities, in PEM".into()));
                }
                builder = builder.tls_certs_only(authorities);
            }
            // Nobody is believed where nobody is asked, and a machine without authorities can ask.
            None if !is_encrypted => builder = builder.tls_certs_only([]),
            None => {}
        }
        if let (Some(certificate), Some(key)) = (&place.cert, &place.key) {
            builder = builder.identity(identity(certificate, key)?);
        }
        let http = builder.build().map_err(|error| {
            Trouble::usage(format!(
                "cannot make a client for {base}: {}; see --ca and --cert",
                reason(&error)
            ))
        })?;
        let anonymous = is_encrypted && place.cert.is_none();
        Ok(Self { http, base, token, anonymous })
    }

    /// Where it asks.
    pub(super) fn base(&self) -> &Url {
        &self.base
    }

    /// The answer to GET of `path`, in `patience` at most.
    pub(super) async fn get(
        &self,
        path: &str,
        query: &[(&str, &str)],
        patience: Duration,
    ) -> Result<Vec<u8>, AskError> {
        let url = self.url(path, query);
        let answer = async {
            let mut response = self.begin(&url).await?;
            let mut answer = Vec::new();
            while let Some(piece) = response.chunk().await.map_err(|error| lost(&url, &error))? {
                if answer.len() + piece.len() > ANSWER_MAX {
                    return Err(AskError::TooLong { url: url.clone() });
                }
                answer.extend_from_slice(&piece);
            }
            Ok(answer)
        };
        let late = |_| AskError::Late { url: url.clone(), seconds: patience.as_secs() };
        tokio::time::timeout(patience, answer).await.map_err(late)?
    }

    /// The same as a JSON object.
    pub(super) async fn object(
        &self,
        path: &str,
        query: &[(&str, &str)],
        patience: Duration,
    ) -> Result<Value, AskError> {
        let answer = self.get(path, query, patience).await?;
        let malformed = |what: String| AskError::Malformed { url: self.url(path, query), what };
        let value: Value = serde_json::from_slice(&answer).map_err(|error| malformed(error.to_string()))?;
        value.is_object().then_some(value).ok_or_else(|| malformed("the answer is no JSON object".into()))
    }

    /// The answer to GET of `path` that has no end; it begins in `patience` at most.
    pub(super) async fn stream(
        &self,
        path: &str,
        query: &[(&str, &str)],
        patience: Duration,
    ) -> Result<Response, AskError> {
        let url = self.url(path, query);
        let late = |_| AskError::Late { url: url.clone(), seconds: patience.as_secs() };
        tokio::time::timeout(patience, self.begin(&url)).await.map_err(late)?
    }

    fn url(&self, path: &str, query: &[(&str, &str)]) -> Url {
        let mut url = self.base.clone();
        url.set_path(&format!("{}{path}", self.base.path()));
        if !query.is_empty() {
            url.query_pairs_mut().extend_pairs(query);
        }
        url
    }

    /// An answer that is the right one, before its body.
    async fn begin(&self, url: &Url) -> Result<Response, AskError> {
        let mut request = self.http.get(url.clone());
        if let Some(token) = &self.token {
            request = request.header(AUTHORIZATION, token.clone());
        }
        let unreachable = |error| AskError::Unreachable {
            url: url.clone(),
            reason: reason(&error),
            anonymous: self.anonymous,
        };
        let mut response = request.send().await.map_err(unreachable)?;
        let (url, status) = (url.clone(), response.status());
        if status == StatusCode::OK {
            return Ok(response);
        }
        let mut words = Vec::new();
        while words.len() < ERROR_MAX
            && let Ok(Some(piece)) = response.chunk().await
        {
            words.extend_from_slice(piece.get(..ERROR_MAX - words.len()).unwrap_or(&piece));
        }
        let words = shown(words.trim_ascii());
        Err(match status {
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => AskError::Denied { url, status, words },
            StatusCode::NOT_FOUND => AskError::Missing { url, status },
            status => AskError::Refused { url, status, words },
        })
    }
}

/// What went wrong with an answer on the way.
pub(super) fn lost(url: &Url, error: &reqwest::Error) -> AskError {
    AskError::Lost { url: url.clone(), reason: reason(error) }
}

/// The innermost cause: what is around it says that a request failed.
fn reason(error: &reqwest::Error) -> String {
    let mut innermost: &dyn Error = error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    shown(innermost.to_string().as_bytes())
}

/// The address of a monitor, which ends with a slash: names of pages follow.
fn address(text: &str) -> Result<Url, Trouble> {
    let wrong = |what: &str| {
        let shown = if text.contains('@') { String::new() } else { format!(" {}", shown(text.as_bytes())) };
        Trouble::usage(format!(
            "--monitor{shown}: {what}; give http://HOST:PORT, https://HOST:PORT or ADDR:PORT"
        ))
    };
    let is_bare = !text.contains("://");
    if is_bare && (text.contains('/') || !text.rsplit(']').next().is_some_and(|behind| behind.contains(':')))
    {
        return Err(wrong("it is no address with a port"));
    }
    let url = if is_bare { Url::parse(&format!("http://{text}")) } else { Url::parse(text) };
    let mut url = url.map_err(|error| wrong(&error.to_string()))?;
    if !url.username().is_empty() || url.password().is_some() {
        return Err(wrong("user and password do not belong there; a token has a file (--token-file)"));
    }
    if !matches!(url.scheme(), "http" | "https") || url.query().is_some() || url.fragment().is_some() {
        return Err(wrong("it is no address of a monitor"));
    }
    if !url.path().ends_with('/') {
        url.set_path(&format!("{}/", url.path()));
    }
    Ok(url)
}

/// Whether what goes there stays on this machine.
fn is_here(url: &Url) -> bool {
    let host = url.host_str().unwrap_or_default();
    let host = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost" || host.parse().is_ok_and(|address: IpAddr| address.is_loopback())
}

fn open(path: &Path) -> Result<File, Trouble> {
    File::open(path).map_err(|source| Trouble::file("read", path, source))
}

/// The header that shows the token in `path`. Several who watch may share that file: its mode is not looked at.
fn token(path: &Path) -> Result<HeaderValue, Trouble> {
    let text = read_bounded(open(path)?, TOKEN_MAX).map_err(|source| Trouble::file("read", path, source))?;
    let token = text.trim_ascii();
    if text.len() > TOKEN_MAX || token.is_empty() || !token.iter().all(u8::is_ascii_graphic) {
        let path = path.display();
        return Err(Trouble::usage(format!(
            "{path}: a token is one line of at most {TOKEN_MAX} printable characters without spaces"
        )));
    }
    let line = Zeroizing::new([b"Bearer ", token].concat());
    let mut header = HeaderValue::from_bytes(&line).map_err(Trouble::usage)?;
    header.set_sensitive(true);
    Ok(header)
}

/// A certificate, and the key that it is of.
fn identity(certificate: &Path, key: &Path) -> Result<Identity, Trouble> {
    let read = |file, path: &Path| {
        let text = read_bounded(file, PEM_MAX).map_err(|source| Trouble::file("read", path, source))?;
        match text.len() > PEM_MAX {
            true => Err(Trouble::usage(format!("{}: more than {PEM_MAX} bytes are no PEM", path.display()))),
            false => Ok(text),
        }
    };
    let (certificates, secret) = (read(open(certificate)?, certificate)?, read(private_file(key)?, key)?);
    let both = Zeroizing::new([&certificates[..], b"\n", &secret].concat());
    Identity::from_pem(&both).map_err(|error| {
        let (certificate, key) = (certificate.display(), key.display());
        Trouble::usage(format!("{certificate} and {key}: {}; both have to be PEM", reason(&error)))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_urls_or_an_address_and_a_port() {
        for (text, url) in [
            ("http://127.0.0.1:9649", "http://127.0.0.1:9649/"),
            ("127.0.0.1:9649", "http://127.0.0.1:9649/"),
            ("gateway:80", "http://gateway/"),
            ("[::1]:9649", "http://[::1]:9649/"),
            ("https://gateway:9649/", "https://gateway:9649/"),
            ("https://proxy/nfs", "https://proxy/nfs/"),
        ] {
            assert_eq!(address(text).unwrap().as_str(), url);
        }
        for text in [
            "",
            "gateway",
            "[::1]",
            "::1",
            "ftp://gateway:1",
            "nfs://gateway/",
            "http://",
            "http://gateway:1/?a=b",
            "http://gateway:1/#a",
            "gateway:99999",
            "unix:/run/x",
        ] {
            assert!(matches!(address(text), Err(Trouble::Usage(_))), "{text}");
        }
        for secret in ["http://me:hunter2@gateway:1", "me:hunter2@gateway:1", "https://hunter2@gateway"] {
            let error = address(secret).unwrap_err().to_string();
            assert!(!error.contains("hunter2") && error.contains("--token-file"), "{error}");
        }
    }

    #[test]
    fn the_way_to_this_machine_is_known() {
        for (url, here) in [
            ("http://127.0.0.1:1", true),
            ("http://[::1]:1", true),
            ("http://localhost:1", true),
            ("http://192.0.2.1:1", false),
            ("http://localhost.example:1", false),
        ] {
            assert_eq!(is_here(&address(url).unwrap()), here, "{url}");
        }
    }

    #[test]
    fn a_token_is_one_word_and_not_shown() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("token");
        for (text, good) in [
            ("word", true),
            ("word\n", true),
            (" word\r\n", true),
            ("", false),
            ("\n", false),
            ("two words", false),
            ("two\nlines", false),
            ("wörd", false),
            (&"x".repeat(TOKEN_MAX), true),
            (&"x".repeat(TOKEN_MAX + 1), false),
        ] {
            std::fs::write(&path, text).unwrap();
            match token(&path) {
                Ok(header) => {
                    assert!(good && header.is_sensitive(), "{text:?}");
                    assert_eq!(header.as_bytes(), format!("Bearer {}", text.trim()).as_bytes());
                }
                Err(error) => {
                    let error = error.to_string();
                    assert!(!good && error.contains("token:") && !error.contains("word"), "{error}");
                }
            }
        }
    }
}
