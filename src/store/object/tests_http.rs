//! What only a server of HTTP can do wrong.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};

use super::super::url::Url;
use super::*;

/// A bucket whose connections, the first of which is 0, are served by `answer`, for one request each.
fn bucket(answer: impl Fn(usize, &mut TcpStream) + Send + Sync + 'static) -> Bucket {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("s3://b/?endpoint=http://{}&anonymous=on&ttl=0", listener.local_addr().unwrap());
    let answer = Arc::new(answer);
    std::thread::spawn(move || {
        for (n, stream) in listener.incoming().enumerate() {
            let (answer, mut stream) = (answer.clone(), stream.unwrap());
            std::thread::spawn(move || {
                let lines = BufReader::new(stream.try_clone().unwrap()).lines();
                lines.map_while(|line| line.ok()).take_while(|line| !line.is_empty()).for_each(drop);
                answer(n, &mut stream);
                // Until the client has no use for it any more.
                let _ = stream.read(&mut [0]);
            });
        }
    });
    let address = Address::from_url(Url::parse(&url).unwrap()).unwrap();
    let _ = rustls::crypto::ring::default_provider().install_default();
    let timeout = Duration::from_secs(4);
    let (objects, pages) = credentials::connect(&address, timeout).unwrap();
    Bucket::new("b".into(), "", address.look, objects, pages, timeout)
}

#[tokio::test]
async fn of_the_words_of_an_error_only_the_beginning_is_read() {
    let bucket = bucket(|_, stream| {
        let _ = stream.write_all(b"HTTP/1.1 403 Forbidden\r\n\r\n<Code>No</Code><Message>not you</Message>");
        let _ = stream.write_all(&vec![b'x'; 1 << 20]);
    });
    let error = bucket.0.has_below("", &StorePath::root()).await.unwrap_err();
    assert_eq!(error.source.to_string(), "403 Forbidden: No: not you");
}

#[tokio::test]
async fn a_connection_without_an_answer_is_left_for_another_one() {
    let bucket = bucket(|n, stream| {
        if n > 0 {
            let body = "<ListBucketResult></ListBucketResult>";
            let _ = write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len());
        }
    });
    assert!(!bucket.0.has_below("", &StorePath::root()).await.unwrap());
}
