//! Who may look at the monitor, and who may change something through it.
//!
//! On a loopback address everybody may look, as long as the browser means this address and not a name that
//! somebody else made lead here. With a token or client certificates those who show one may. Whatever is more
//! than looking needs the token, given in a way that no browser does by itself. `/healthz` and `/readyz` are
//! everybody's: they tell nothing.

use std::fs::File;
use std::io::{self, Read};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arc_swap::ArcSwap;
use axum::extract::{Request, State};
use axum::http::header::{HOST, ORIGIN, WWW_AUTHENTICATE};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use rustls::ServerConfig;
use sha2::{Digest, Sha256};
use tokio::sync::watch;
use zeroize::Zeroizing;

use super::routes::HEADERS;
use super::tls;
use super::token::{Shown, Token};
use crate::sys::secret::{SecretError, read_secret};

/// What is told to everybody.
const OPEN: [&str; 2] = ["/healthz", "/readyz"];
/// The largest file that is read, in bytes.
const FILE_MAX: usize = 1024 * 1024;

/// Why nobody can be let in as the settings want it.
#[derive(Debug, thiserror::Error)]
pub enum AccessError {
    /// A file of `monitor_tls` cannot be used.
    #[error("{}: {reason}; monitor_tls names PEM files: {wanted}", file.display())]
    Tls {
        /// The file.
        file: PathBuf,
        /// What is wrong.
        reason: String,
        /// What belongs there.
        wanted: &'static str,
    },
    /// A secret is no secret.
    #[error(
        "{}: its mode {mode:04o} lets others at a secret; run: chmod 600 {} (or 640, where it is root's and the \
         gateway is of its group)",
        file.display(), file.display()
    )]
    Exposed {
        /// The file.
        file: PathBuf,
        /// Its permissions.
        mode: u32,
    },
    /// The token cannot be used.
    #[error(
        "{}: {reason}; make a token with: (umask 077; head -c 32 /dev/urandom | base64 >{})",
        file.display(), file.display()
    )]
    Token {
        /// The file.
        file: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// Everybody would be let in, from everywhere.
    #[error(
        "the monitor listens on {0}, which is no loopback address; leave monitor_token, or monitor_tls with \
         client_ca, as long as it does"
    )]
    Open(SocketAddr),
}

/// The files that say who is let in.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AccessFiles {
    /// The token, on a line.
    pub token: Option<PathBuf>,
    /// For TLS.
    pub tls: Option<TlsFiles>,
}

/// PEM files for TLS.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsFiles {
    /// The monitor's certificate, and those between it and an authority.
    pub certificate: PathBuf,
    /// Its private key.
    pub key: PathBuf,
    /// Who issues certificates to clients; `None` where these show none.
    pub client_ca: Option<PathBuf>,
}

/// Who is let in. By default everybody, which is for loopback addresses alone.
#[derive(Clone, Default)]
pub struct Access {
    token: Option<Token>,
    tls: Option<Arc<ServerConfig>>,
    /// Whether clients show a certificate when they connect.
    certifies: bool,
    /// A hash of all that was read.
    stamp: [u8; 32],
}

impl Access {
    /// Reads `files`, for a monitor that listens on `address`.
    ///
    /// # Errors
    /// A file cannot be read, is not what it should be, or is a secret that others may read; or everybody would be
    /// let in on an address that is no loopback address.
    pub fn load(files: &AccessFiles, address: SocketAddr) -> Result<Self, AccessError> {
        let mut hash = Sha256::new();
        let token = files.token.as_deref().map(|file| {
            let wrong = |reason| AccessError::Token { file: file.to_owned(), reason };
            let text = secret(file, wrong)?;
            hash.update(Sha256::digest(&text));
            Token::read(&text).map_err(wrong)
        });
        let token = token.transpose()?;
        let tls = files.tls.as_ref().map(|files| tls::load(files, &mut hash)).transpose()?;
        let certifies = files.tls.as_ref().is_some_and(|files| files.client_ca.is_some());
        hash.update([u8::from(token.is_some()), u8::from(tls.is_some()), u8::from(certifies)]);
        let access = Self { token, tls, certifies, stamp: hash.finalize().into() };
        match access.is_open() && !address.ip().to_canonical().is_loopback() {
            true => Err(AccessError::Open(address)),
            false => Ok(access),
        }
    }

    /// Whether nothing is asked of those who look.
    fn is_open(&self) -> bool {
        self.token.is_none() && !self.certifies
    }

    /// What a handshake goes by, where there is one.
    pub(super) fn tls(&self) -> Option<Arc<ServerConfig>> {
        self.tls.clone()
    }

    /// Whether a request is answered. `handshake` is whether its connection was made under these very settings.
    fn check(&self, method: &Method, uri: &Uri, headers: &HeaderMap, handshake: bool) -> Result<(), Refusal> {
        let looks = *method == Method::GET || *method == Method::HEAD;
        if looks && OPEN.contains(&uri.path()) {
            return Ok(());
        }
        if self.is_open() && !names_an_address(uri, headers) {
            return Err(Refusal::Misdirected);
        }
        if !looks {
            return self.check_change(headers);
        }
        match &self.token {
            _ if self.is_open() || (self.certifies && handshake) => Ok(()),
            Some(token) => match Shown::of(headers) {
                Some(Shown::Bearer(shown) | Shown::Basic(shown)) if token.is(&shown) => Ok(()),
                Some(_) | None => Err(Refusal::Unauthorized { basic: true }),
            },
            None => Err(Refusal::Forbidden("other certificates are asked for now; connect again\n")),
        }
    }

    /// Browsers send the password of Basic by themselves, also for pages of others.
    fn check_change(&self, headers: &HeaderMap) -> Result<(), Refusal> {
        if !is_of_own_origin(headers) {
            return Err(Refusal::Forbidden("this comes from another page than the gateway's\n"));
        }
        let Some(token) = &self.token else {
            let words = "nothing can be changed here without a token; set monitor_token = \"FILE\" and send it \
                         as Authorization: Bearer TOKEN\n";
            return Err(Refusal::Forbidden(words));
        };
        match Shown::of(headers) {
            Some(Shown::Bearer(shown)) if token.is(&shown) => Ok(()),
            Some(_) | None => Err(Refusal::Unauthorized { basic: false }),
        }
    }
}

impl std::fmt::Debug for Access {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (token, tls) = (self.token.is_some(), self.tls.is_some());
        let mut shown = f.debug_struct("Access");
        shown.field("token", &token).field("tls", &tls).field("certifies", &self.certifies).finish()
    }
}

/// The access that holds now, and who wants to know when it is another.
pub(super) struct Gate {
    access: ArcSwap<Access>,
    changed: watch::Sender<()>,
}

impl Default for Gate {
    fn default() -> Self {
        Self { access: ArcSwap::default(), changed: watch::Sender::new(()) }
    }
}

impl Gate {
    /// Lets in whom `access` does, from now on. Where nothing was changed nothing happens.
    pub(super) fn set(&self, access: Access) {
        if access.stamp != self.access.load().stamp {
            self.access.store(Arc::new(access));
            self.changed.send_replace(());
        }
    }

    pub(super) fn access(&self) -> Arc<Access> {
        self.access.load_full()
    }

    /// Sees every change from now on.
    pub(super) fn changes(&self) -> watch::Receiver<()> {
        self.changed.subscribe()
    }
}

/// Of a request: what held when its connection was accepted.
#[derive(Clone)]
pub(super) struct Accepted(pub(super) Arc<Access>);

/// Answers what may be answered.
pub(super) async fn guard(State(gate): State<Arc<Gate>>, request: Request, next: Next) -> Response {
    let access = gate.access();
    let accepted = request.extensions().get::<Accepted>();
    let handshake = accepted.is_some_and(|Accepted(then)| Arc::ptr_eq(then, &access));
    match access.check(request.method(), request.uri(), request.headers(), handshake) {
        Ok(()) => next.run(request).await,
        Err(refusal) => refusal.into_response(),
    }
}

/// Why a request is not answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Refusal {
    /// It is meant for somebody of another name.
    Misdirected,
    /// It shows no token, or a wrong one. Whether a password would do.
    Unauthorized { basic: bool },
    /// No token would help.
    Forbidden(&'static str),
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        const BEARER: HeaderValue = HeaderValue::from_static("Bearer realm=\"nfs-verity\"");
        const BASIC: HeaderValue = HeaderValue::from_static("Basic realm=\"nfs-verity\", charset=\"UTF-8\"");
        let mut response = match self {
            Self::Misdirected => {
                let words = "this name is not known to be the gateway's; open it by its address or as \
                             localhost, or set monitor_token\n";
                (StatusCode::MISDIRECTED_REQUEST, words).into_response()
            }
            Self::Unauthorized { .. } => {
                let words = "show the token: Authorization: Bearer TOKEN; or to look, any user with the token \
                             as password\n";
                (StatusCode::UNAUTHORIZED, words).into_response()
            }
            Self::Forbidden(words) => (StatusCode::FORBIDDEN, words).into_response(),
        };
        let headers = response.headers_mut();
        for (name, value) in HEADERS {
            headers.insert(name, HeaderValue::from_static(value));
        }
        if let Self::Unauthorized { basic } = self {
            headers.append(WWW_AUTHENTICATE, BEARER);
            if basic {
                headers.append(WWW_AUTHENTICATE, BASIC);
            }
        }
        response
    }
}

/// The value of a header that stands there once.
pub(super) fn only(headers: &HeaderMap, name: HeaderName) -> Option<&[u8]> {
    let mut values = headers.get_all(name).into_iter();
    let first = values.next()?;
    values.next().is_none().then(|| first.as_bytes())
}

/// Whether a request is for an IP address or `localhost`. Any other name may be one that somebody made lead here,
/// so that a browser takes the gateway for a part of that one's page.
fn names_an_address(uri: &Uri, headers: &HeaderMap) -> bool {
    let host = only(headers, HOST).and_then(|host| str::from_utf8(host).ok());
    let named = uri.authority().is_none_or(|authority| is_address(authority.as_str()));
    named && host.is_some_and(is_address)
}

/// Whether `host` is an IP address or `localhost`, with or without a port.
fn is_address(host: &str) -> bool {
    let (name, port) = match host.rsplit_once(':') {
        // Else the colon is one of an address in brackets.
        Some((name, port)) if !port.ends_with(']') => (name, Some(port)),
        Some(_) | None => (host, None),
    };
    let known = match name.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        Some(address) => address.parse::<Ipv6Addr>().is_ok(),
        None => name.eq_ignore_ascii_case("localhost") || name.parse::<Ipv4Addr>().is_ok(),
    };
    let digits = |port: &str| port.bytes().all(|byte| byte.is_ascii_digit()) && port.parse::<u16>().is_ok();
    known && port.is_none_or(digits)
}

/// Whether no browser sends this for a page of somebody else.
fn is_of_own_origin(headers: &HeaderMap) -> bool {
    if !headers.contains_key(ORIGIN) {
        return true;
    }
    let (Some(origin), Some(host)) = (only(headers, ORIGIN), only(headers, HOST)) else { return false };
    let page = [&b"http://"[..], b"https://"].iter().find_map(|scheme| origin.strip_prefix(*scheme));
    page.is_some_and(|page| page.eq_ignore_ascii_case(host))
}

/// All of a file that is not too large to be one of those that are named here.
pub(super) fn read(file: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(file)?.take(FILE_MAX as u64 + 1).read_to_end(&mut bytes)?;
    match bytes.len() > FILE_MAX {
        true => Err(io::Error::other(format!("it has more than {FILE_MAX} bytes"))),
        false => Ok(bytes),
    }
}

/// The same of a secret.
pub(super) fn secret(
    file: &Path,
    wrong: impl Fn(String) -> AccessError,
) -> Result<Zeroizing<Vec<u8>>, AccessError> {
    read_secret(file, FILE_MAX).map_err(|error| match error {
        SecretError::Exposed(mode) => AccessError::Exposed { file: file.to_owned(), mode },
        other => wrong(other.to_string()),
    })
}

#[cfg(test)]
pub(super) mod tests;
