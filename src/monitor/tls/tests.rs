//! Handshakes with certificates that `openssl` makes.

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use axum::Router;
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, SupportedProtocolVersion};
use rustls_pki_types::ServerName;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::super::access::tests::write;
use super::super::http::Bounds;
use super::super::http::tests::Running;
use super::super::{Access, AccessFiles};
use super::*;

/// A place with an authority `ca`, its certificates `monitor` and `client`, and those of an authority `other`.
struct Place(TempDir);

impl Place {
    fn new() -> Self {
        let place = Self(tempfile::tempdir().unwrap());
        write(&place.path("plain.cnf"), b"[req]\ndistinguished_name = name\n[name]\n", 0o644);
        for (name, issuer) in [
            ("ca", None),
            ("monitor", Some("ca")),
            ("client", Some("ca")),
            ("other", None),
            ("stranger", Some("other")),
        ] {
            place.issue(name, issuer);
        }
        place
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// The certificate `name`.pem of the new key `name`.key.
    fn issue(&self, name: &str, issuer: Option<&str>) {
        let (key, out, subject) = (format!("{name}.key"), format!("{name}.pem"), format!("/CN={name}"));
        let mut openssl = Command::new("openssl");
        openssl.args(["req", "-x509", "-config", "plain.cnf", "-nodes", "-days", "2", "-newkey", "ec"]);
        openssl.args([
            "-pkeyopt",
            "ec_paramgen_curve:P-256",
            "-subj",
            &subject,
            "-keyout",
            &key,
            "-out",
            &out,
        ]);
        match issuer {
            None => openssl.args(["-addext", "basicConstraints=critical,CA:TRUE"]),
            Some(issuer) => openssl
                .args(["-CA", &format!("{issuer}.pem"), "-CAkey", &format!("{issuer}.key")])
                .args(["-addext", "basicConstraints=critical,CA:FALSE"])
                .args(["-addext", "subjectAltName=IP:127.0.0.1"]),
        };
        let made = openssl.current_dir(self.0.path()).output().unwrap();
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        write(&self.path(&key), &std::fs::read(self.path(&key)).unwrap(), 0o600);
    }

    fn files(&self, client_ca: Option<&str>) -> TlsFiles {
        TlsFiles {
            certificate: self.path("monitor.pem"),
            key: self.path("monitor.key"),
            client_ca: client_ca.map(|name| self.path(name)),
        }
    }

    fn load(&self, files: TlsFiles) -> Result<Access, AccessError> {
        let files = AccessFiles { token: None, tls: Some(files) };
        Access::load(&files, "127.0.0.1:9649".parse().unwrap())
    }

    async fn serve(&self, client_ca: Option<&str>, bounds: Bounds) -> Running {
        Running::start(self.load(self.files(client_ca)).unwrap(), bounds, Router::new()).await
    }

    /// A client that knows the authority `ca`, and may show the certificate `shown`.
    fn client(&self, shown: Option<&str>, version: &'static SupportedProtocolVersion) -> TlsConnector {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(self.path("ca.pem")).unwrap()).unwrap();
        let config = ClientConfig::builder_with_provider(Arc::new(default_provider()));
        let config = config.with_protocol_versions(&[version]).unwrap().with_root_certificates(roots);
        let config = match shown {
            None => config.with_no_client_auth(),
            Some(name) => {
                let chain = vec![CertificateDer::from_pem_file(self.path(&format!("{name}.pem"))).unwrap()];
                let key = PrivateKeyDer::from_pem_file(self.path(&format!("{name}.key"))).unwrap();
                config.with_client_auth_cert(chain, key).unwrap()
            }
        };
        Arc::new(config).into()
    }
}

/// What is answered to `request` over TLS; nothing where the handshake or what follows it fails.
async fn ask(server: &Running, client: TlsConnector, request: &str) -> String {
    let stream = TcpStream::connect(server.address).await.unwrap();
    let name = ServerName::try_from("127.0.0.1").unwrap();
    let mut answer = Vec::new();
    if let Ok(mut stream) = client.connect(name, stream).await
        && stream.write_all(format!("{request} HTTP/1.1\r\nHost: localhost\r\n\r\n").as_bytes()).await.is_ok()
    {
        let _ = stream.read_to_end(&mut answer).await;
    }
    String::from_utf8(answer).unwrap()
}

#[tokio::test]
async fn pages_come_over_tls_and_no_longer_without() {
    let place = Place::new();
    let server = place.serve(None, Bounds::default()).await;
    for version in [&TLS12, &TLS13] {
        let answer = ask(&server, place.client(None, version), "GET /healthz").await;
        assert!(answer.starts_with("HTTP/1.1 200 ") && answer.ends_with("ok\n"), "{answer}");
        let answer = ask(&server, place.client(None, version), "POST /").await;
        assert!(answer.starts_with("HTTP/1.1 403 "), "{answer}");
    }
    let mut plain = TcpStream::connect(server.address).await.unwrap();
    plain.write_all(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n").await.unwrap();
    let mut answer = Vec::new();
    let _ = plain.read_to_end(&mut answer).await;
    assert!(!answer.starts_with(b"HTTP"), "{answer:?}");
}

#[tokio::test]
async fn certificates_of_the_right_authority_are_needed_and_are_enough_to_look() {
    let place = Place::new();
    let server = place.serve(Some("ca.pem"), Bounds::default()).await;
    for version in [&TLS12, &TLS13] {
        for shown in [None, Some("stranger"), Some("other")] {
            for path in ["/", "/healthz"] {
                let answer = ask(&server, place.client(shown, version), &format!("GET {path}")).await;
                assert_eq!(answer, "", "{shown:?}");
            }
        }
        for path in ["/", "/metrics", "/healthz"] {
            let answer = ask(&server, place.client(Some("client"), version), &format!("GET {path}")).await;
            assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
        }
        let answer = ask(&server, place.client(Some("client"), version), "POST /").await;
        assert!(answer.starts_with("HTTP/1.1 403 ") && answer.contains("monitor_token"), "{answer}");
    }
}

#[tokio::test]
async fn handshakes_that_go_nowhere_keep_nobody_out_for_longer_than_others_live() {
    let place = Place::new();
    let bounds = Bounds { connections: 3, lifetime: Duration::from_millis(300), ..Bounds::default() };
    let server = place.serve(Some("ca.pem"), bounds).await;
    let client = || place.client(Some("client"), &TLS13);
    let mut silent = TcpStream::connect(server.address).await.unwrap();
    let mut half = TcpStream::connect(server.address).await.unwrap();
    // The head of a ClientHello of 512 bytes.
    half.write_all(&[22, 3, 1, 2, 0, 1, 0, 1, 252]).await.unwrap();
    let answer = ask(&server, client(), "GET /healthz").await;
    assert!(answer.starts_with("HTTP/1.1 200 "), "the third connection is free: {answer}");
    let more = TcpStream::connect(server.address).await.unwrap();
    let answer = ask(&server, client(), "GET /healthz").await;
    assert!(answer.starts_with("HTTP/1.1 200 "), "and the others are soon: {answer}");
    let mut rest = Vec::new();
    for stream in [&mut silent, &mut half] {
        let _ = stream.read_to_end(&mut rest).await;
    }
    assert!(rest.is_empty());
    drop(more);
}

#[tokio::test]
async fn new_certificates_hold_for_the_next_connection() {
    let place = Place::new();
    let server = place.serve(Some("ca.pem"), Bounds::default()).await;
    let (client, stranger) = (place.client(Some("client"), &TLS13), place.client(Some("stranger"), &TLS13));
    assert!(ask(&server, client.clone(), "GET /").await.starts_with("HTTP/1.1 200 "));
    server.monitor.set_access(place.load(place.files(Some("other.pem"))).unwrap());
    // Its session is not taken up again, either.
    assert_eq!(ask(&server, client, "GET /").await, "");
    assert!(ask(&server, stranger, "GET /").await.starts_with("HTTP/1.1 200 "));
}

#[test]
fn files_that_are_not_what_they_should_be_are_refused_with_their_names() {
    let place = Place::new();
    let refused = |files: TlsFiles| place.load(files).unwrap_err().to_string();
    let files = || place.files(Some("ca.pem"));
    write(&place.path("empty"), b"", 0o600);
    write(&place.path("text"), b"-----BEGIN CERTIFICATE-----\n!!\n-----END CERTIFICATE-----\n", 0o600);
    let whole = std::fs::read(place.path("monitor.pem")).unwrap();
    write(&place.path("cut"), &whole[..whole.len() / 2], 0o600);
    for name in ["missing", "empty", "text", "cut", "monitor.key"] {
        let error = refused(TlsFiles { certificate: place.path(name), ..files() });
        assert!(error.contains(name) && error.contains("cert has the monitor's"), "{error}");
        let error = refused(TlsFiles { client_ca: Some(place.path(name)), ..files() });
        assert!(error.contains(name) && error.contains("client_ca has"), "{error}");
    }
    for name in ["missing", "empty", "text", "cut", "client.key"] {
        let error = refused(TlsFiles { key: place.path(name), ..files() });
        assert!(error.contains(name) && error.contains("key has the certificate's"), "{error}");
    }
    let key = std::fs::read(place.path("monitor.key")).unwrap();
    write(&place.path("open.key"), &key, 0o644);
    let error = refused(TlsFiles { key: place.path("open.key"), ..files() });
    assert!(error.contains("open.key: its mode 0644") && error.contains("chmod 600"), "{error}");
    assert!(place.load(files()).is_ok());
}
