//! Requests as people, browsers and attackers send them.

use std::os::unix::fs::{MetadataExt, PermissionsExt};

use axum::Router;
use axum::http::header::AUTHORIZATION;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::super::http::Bounds;
use super::super::http::tests::Running;
use super::*;

const TOKEN: &str = "0123456789abcdef/+=";

pub(in crate::monitor) fn write(path: &Path, bytes: &[u8], mode: u32) {
    std::fs::write(path, bytes).unwrap();
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
}

/// Access for those who know the token `word`.
pub(in crate::monitor) fn with_token(folder: &Path, word: &str) -> Access {
    let file = folder.join("token");
    write(&file, word.as_bytes(), 0o600);
    load(AccessFiles { token: Some(file), tls: None }).unwrap()
}

fn load(files: AccessFiles) -> Result<Access, AccessError> {
    Access::load(&files, "127.0.0.1:9649".parse().unwrap())
}

fn closed() -> Access {
    with_token(tempfile::tempdir().unwrap().path(), TOKEN)
}

fn headers(lines: &[(HeaderName, &[u8])]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in lines {
        headers.append(name, HeaderValue::from_bytes(value).unwrap());
    }
    headers
}

fn basic(pair: &[u8]) -> Vec<u8> {
    format!("Basic {}", STANDARD.encode(pair)).into_bytes()
}

/// What becomes of a request to `/` by itself, with headers `Authorization`.
fn shows(access: &Access, method: &Method, values: &[&[u8]]) -> Result<(), Refusal> {
    let lines: Vec<_> = values.iter().map(|value| (AUTHORIZATION, *value)).collect();
    access.check(method, &Uri::from_static("/"), &headers(&lines), true)
}

#[test]
fn only_the_token_opens_and_only_as_bearer_or_password() {
    let access = closed();
    let none = Err(Refusal::Unauthorized { basic: true });
    let bearer = |token: &str| format!("Bearer {token}").into_bytes();
    for good in [bearer(TOKEN), format!("bEARER   {TOKEN}  ").into_bytes()] {
        assert_eq!(shows(&access, &Method::GET, &[&good]), Ok(()));
        assert_eq!(shows(&access, &Method::POST, &[&good]), Ok(()));
    }
    for user in ["", "admin", "Zoë"] {
        let good = basic(format!("{user}:{TOKEN}").as_bytes());
        assert_eq!(shows(&access, &Method::GET, &[&good]), Ok(()));
        assert_eq!(shows(&access, &Method::HEAD, &[&good]), Ok(()));
        assert_eq!(shows(&access, &Method::POST, &[&good]), Err(Refusal::Unauthorized { basic: false }));
    }
    let huge = vec![b'a'; 100_000];
    for bad in [
        b"".to_vec(),
        b"Bearer".to_vec(),
        b"Bearer ".to_vec(),
        b"Basic".to_vec(),
        b"Basic ".to_vec(),
        TOKEN.as_bytes().to_vec(),
        bearer(&TOKEN[1..]),
        bearer(&TOKEN[..TOKEN.len() - 1]),
        bearer(&format!("{TOKEN}0")),
        bearer(&TOKEN.to_ascii_uppercase()),
        bearer(&format!("{TOKEN}, Bearer {TOKEN}")),
        bearer(&format!("\"{TOKEN}\"")),
        format!("Bearer\t{TOKEN}").into_bytes(),
        format!("Token {TOKEN}").into_bytes(),
        format!("Digest username=\"x\", response=\"{TOKEN}\"").into_bytes(),
        b"Bearer \xff\xfe\x80".to_vec(),
        b"\xff \xff".to_vec(),
        b"Basic \xff\xff".to_vec(),
        b"Basic !!!!".to_vec(),
        b"Basic YQ".to_vec(),
        basic(TOKEN.as_bytes()),
        basic(format!("{TOKEN}:").as_bytes()),
        basic(format!("x:{TOKEN}:").as_bytes()),
        basic(format!("x:y:{TOKEN}").as_bytes()),
        basic(b":"),
        basic(b"\xff:\xff"),
        [b"Bearer ", &huge[..]].concat(),
        [b"Bearer ".to_vec(), vec![b' '; 100_000], TOKEN.into()].concat(),
        basic(&[&huge[..], b":", TOKEN.as_bytes()].concat()),
        huge,
    ] {
        let shown = String::from_utf8_lossy(&bad[..bad.len().min(80)]).into_owned();
        assert_eq!(shows(&access, &Method::GET, &[&bad]), none, "{shown}");
        assert!(shows(&access, &Method::POST, &[&bad]).is_err(), "{shown}");
    }
    assert_eq!(shows(&access, &Method::GET, &[]), none);
    // Of several it is not clear which one counts, for this program and for one before it.
    for more in [&b"Bearer x"[..], b"Basic eDp5", &bearer(TOKEN)] {
        assert_eq!(shows(&access, &Method::GET, &[&bearer(TOKEN), more]), none);
        assert_eq!(shows(&access, &Method::GET, &[more, &bearer(TOKEN)]), none);
    }
}

#[test]
fn a_browser_without_a_token_reaches_this_machine_by_its_address_alone() {
    for (host, is_known) in [
        ("127.0.0.1", true),
        ("127.0.0.1:9649", true),
        ("192.0.2.7:1", true),
        ("[::1]", true),
        ("[::1]:9649", true),
        ("localhost", true),
        ("LocalHost:65535", true),
        ("", false),
        (":9649", false),
        ("attacker.example", false),
        ("attacker.example:9649", false),
        ("localhost.attacker.example", false),
        ("localhost.:9649", false),
        ("127.0.0.1.attacker.example", false),
        ("127.0.0.1:9649:9649", false),
        ("127.0.0.1:", false),
        ("127.0.0.1:+80", false),
        ("127.0.0.1:65536", false),
        ("127.0.0.1:x", false),
        ("user@127.0.0.1", false),
        ("127.0.0.1, attacker.example", false),
        ("127.1", false),
        ("0x7f000001", false),
        ("::1", false),
        ("[::1", false),
        ("[::1]x", false),
        ("[::1%lo]", false),
        ("[127.0.0.1]", false),
        ("[localhost]", false),
    ] {
        let wanted = if is_known { Ok(()) } else { Err(Refusal::Misdirected) };
        let asked = headers(&[(HOST, host.as_bytes())]);
        let check = |access: &Access, uri: &'static str| {
            access.check(&Method::GET, &Uri::from_static(uri), &asked, true)
        };
        assert_eq!(check(&Access::default(), "/"), wanted, "{host}");
        assert_eq!(
            check(&Access::default(), "http://attacker.example/"),
            Err(Refusal::Misdirected),
            "{host}"
        );
        assert_eq!(check(&Access::default(), "http://localhost:1/"), wanted, "{host}");
        assert_eq!(check(&Access::default(), "/readyz"), Ok(()), "it tells nothing");
        assert_eq!(check(&closed(), "/"), Err(Refusal::Unauthorized { basic: true }), "whatever the name");
    }
    let good = &b"localhost"[..];
    for lines in [&[][..], &[(HOST, good), (HOST, good)], &[(HOST, b"\xff")]] {
        let asked = headers(lines);
        let refused = Access::default().check(&Method::GET, &Uri::from_static("/"), &asked, true);
        assert_eq!(refused, Err(Refusal::Misdirected));
    }
}

#[test]
fn without_a_token_nothing_can_be_changed() {
    let mut certified = closed();
    (certified.token, certified.certifies) = (None, true);
    for access in [Access::default(), certified] {
        for method in [Method::POST, Method::PUT, Method::DELETE, Method::PATCH, Method::OPTIONS] {
            for path in ["/", "/healthz", "/api/v1/files/check"] {
                let asked = headers(&[(HOST, b"127.0.0.1"), (AUTHORIZATION, b"Bearer ")]);
                match access.check(&method, &Uri::from_static(path), &asked, true) {
                    Err(Refusal::Forbidden(words)) => assert!(words.contains("monitor_token"), "{words}"),
                    other => panic!("{method} {path}: {other:?}"),
                }
            }
        }
    }
}

#[test]
fn pages_of_others_change_nothing_even_with_the_token() {
    let access = closed();
    let bearer = format!("Bearer {TOKEN}").into_bytes();
    let post = |origins: &[&[u8]]| {
        let mut lines = vec![(HOST, &b"Gate.example:9649"[..]), (AUTHORIZATION, &bearer)];
        lines.extend(origins.iter().map(|origin| (ORIGIN, *origin)));
        access.check(&Method::POST, &Uri::from_static("/"), &headers(&lines), true)
    };
    for own in [&[][..], &[&b"http://gate.example:9649"[..]], &[b"https://gate.example:9649"]] {
        assert_eq!(post(own), Ok(()));
    }
    let own = &b"http://gate.example:9649"[..];
    for foreign in [
        &[&b"null"[..]][..],
        &[b""],
        &[b"http://gate.example"],
        &[b"http://gate.example:9650"],
        &[b"http://gate.example:9649/"],
        &[b"http://attacker.example"],
        &[b"ftp://gate.example:9649"],
        &[b"gate.example:9649"],
        &[b"\xff"],
        &[own, own],
    ] {
        assert!(matches!(post(foreign), Err(Refusal::Forbidden(_))), "{foreign:?}");
    }
}

#[test]
fn a_certificate_is_enough_to_look_under_the_settings_that_asked_for_it() {
    let mut access = closed();
    access.certifies = true;
    let look = |access: &Access, handshake| {
        access.check(&Method::GET, &Uri::from_static("/metrics"), &HeaderMap::new(), handshake)
    };
    assert_eq!(look(&access, true), Ok(()));
    assert_eq!(look(&access, false), Err(Refusal::Unauthorized { basic: true }));
    assert_eq!(shows(&access, &Method::POST, &[]), Err(Refusal::Unauthorized { basic: false }));
    access.token = None;
    assert_eq!(look(&access, true), Ok(()));
    assert!(matches!(look(&access, false), Err(Refusal::Forbidden(_))));
}

#[test]
fn a_token_is_a_line_that_others_cannot_read_or_guess() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("token");
    let token = |text: &[u8], mode| {
        write(&file, text, mode);
        load(AccessFiles { token: Some(file.clone()), tls: None }).map_err(|error| error.to_string())
    };
    let sixteen = b"0123456789abcdef";
    for end in [&b""[..], b"\n", b"\r\n"] {
        let access = token(&[&sixteen[..], end].concat(), 0o400).unwrap();
        assert!(access.token.unwrap().is(sixteen));
    }
    assert!(token(&[b'~'; 512], 0o600).is_ok());
    let name = file.display();
    let how = format!("; make a token with: (umask 077; head -c 32 /dev/urandom | base64 >{name})");
    for (text, what) in [
        (&b""[..], "a token has 16 to 512 characters, not 0"),
        (b"\n", "a token has 16 to 512 characters, not 0"),
        (b"0123456789abcde\n", "a token has 16 to 512 characters, not 15"),
        (&[b'a'; 513], "a token has 16 to 512 characters, not 513"),
        (b"0123456789abcdef\n\n", "a token is one line of printable ASCII characters without spaces"),
        (b"0123456789 abcdef", "a token is one line of printable ASCII characters without spaces"),
        (b"0123456789abcdef\xc3\xa9", "a token is one line of printable ASCII characters without spaces"),
        (b"0123456789abcdef\0", "a token is one line of printable ASCII characters without spaces"),
        (&vec![b'a'; FILE_MAX + 1], "cannot be read: it has more than 1048576 bytes"),
    ] {
        assert_eq!(token(text, 0o600).unwrap_err(), format!("{name}: {what}{how}"));
    }
    for mode in [0o644, 0o604, 0o620, 0o660, 0o602, 0o777] {
        let error = token(sixteen, mode).unwrap_err();
        assert!(error.starts_with(&format!("{name}: its mode {mode:04o} lets others")), "{error}");
        assert!(error.contains(&format!("chmod 600 {name}")), "{error}");
    }
    // As secrets are given to a service's user: root's, and readable by a group of it.
    write(&file, sixteen, 0o640);
    let roots = std::fs::metadata(&file).unwrap().uid() == 0;
    assert_eq!(token(sixteen, 0o640).is_ok(), roots);
    std::fs::remove_file(&file).unwrap();
    let error = load(AccessFiles { token: Some(file.clone()), tls: None }).unwrap_err().to_string();
    assert!(error.starts_with(&format!("{name}: cannot be read: ")) && error.ends_with(&how), "{error}");
}

#[test]
fn everybody_is_let_in_on_loopback_alone() {
    let at = |address: &str| Access::load(&AccessFiles::default(), address.parse().unwrap());
    for loopback in ["127.0.0.1:1", "127.0.0.2:1", "[::1]:1", "[::ffff:127.0.0.1]:1"] {
        assert!(at(loopback).unwrap().is_open());
    }
    for beyond in ["0.0.0.0:1", "[::]:1", "192.0.2.1:1"] {
        let error = at(beyond).unwrap_err().to_string();
        assert!(error.contains(beyond) && error.contains("monitor_token"), "{error}");
    }
}

#[tokio::test]
async fn requests_are_answered_as_the_token_has_it() {
    let server = Running::start(closed(), Bounds::default(), Router::new()).await;
    let basic = String::from_utf8(basic(format!("any:{TOKEN}").as_bytes())).unwrap();
    let bearer = format!("Bearer {TOKEN}");
    for (request, authorization, status) in [
        ("GET /", "", 401),
        ("GET /metrics", "Bearer wrong", 401),
        ("GET /nowhere", "", 401),
        ("GET //healthz", "", 401),
        ("GET /healthz/", "", 401),
        ("GET /%68ealthz", "", 401),
        ("GET /metrics?/healthz", "", 401),
        ("GET /healthz", "", 200),
        ("HEAD /healthz", "", 200),
        ("GET /readyz?x", "", 503),
        ("GET /", &bearer, 200),
        ("GET /", &basic, 200),
        ("GET /metrics", &bearer, 200),
        ("GET /metrics", &basic, 200),
        ("GET /nowhere", &bearer, 404),
        ("POST /", "", 401),
        ("POST /healthz", "", 401),
        ("POST /", &basic, 401),
        ("POST /", &bearer, 405),
        ("BREW /", &basic, 401),
        ("OPTIONS /", "", 401),
    ] {
        let authorization = if authorization.is_empty() {
            String::new()
        } else {
            format!("Authorization: {authorization}\r\n")
        };
        let answer =
            server.raw(&format!("{request} HTTP/1.1\r\nHost: gate.example\r\n{authorization}\r\n")).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{request} {authorization}: {answer}");
        let answer = answer.to_ascii_lowercase();
        for (name, value) in HEADERS {
            assert!(answer.contains(&format!("\r\n{name}: {value}\r\n")), "{request} {name}: {answer}");
        }
        let asks = |scheme: &str| answer.contains(&format!("\r\nwww-authenticate: {scheme} realm="));
        assert_eq!(asks("bearer"), status == 401, "{answer}");
        let looks = request.starts_with("GET") || request.starts_with("HEAD");
        assert_eq!(asks("basic"), status == 401 && looks, "{answer}");
    }
}

#[tokio::test]
async fn requests_are_answered_as_the_name_has_it_where_there_is_no_token() {
    let server = Running::start(Access::default(), Bounds::default(), Router::new()).await;
    for (request, host, status) in [
        ("GET /", "localhost", 200),
        ("GET /metrics", "127.0.0.1:9649", 200),
        ("GET /", "attacker.example", 421),
        ("GET /healthz", "attacker.example", 200),
        ("POST /", "localhost", 403),
        ("POST /", "attacker.example", 421),
    ] {
        let answer = server.raw(&format!("{request} HTTP/1.1\r\nHost: {host}\r\n\r\n")).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{request} {host}: {answer}");
    }
    let answer = server.raw("POST / HTTP/1.1\r\nHost: localhost\r\n\r\n").await;
    assert!(answer.contains("set monitor_token"), "{answer}");
}
