//! HTTP whose answers end: a server may send what it wants, and no more of it is kept than it could have to say.

use std::time::Duration;

use async_trait::async_trait;
use bytes::BytesMut;
use http_body_util::{BodyExt, Limited};
use object_store::ClientOptions;
use object_store::client::{
    HttpClient, HttpConnector, HttpError, HttpErrorKind, HttpRequest, HttpResponse, HttpResponseBody,
    HttpService, ReqwestConnector,
};

use reqwest::StatusCode;
use reqwest::header::CONTENT_RANGE;

use super::super::READ_MAX;

/// The longest answer: a read, or a page of a thousand of the longest keys.
const ANSWER_MAX: usize = READ_MAX + 1024 * 1024;
/// So much is read of what is said to an error; the rest is left out.
const ERROR_MAX: usize = 64 * 1024;

/// Makes clients that take bounded answers alone.
#[derive(Debug)]
pub(super) struct Bounded {
    patience: Duration,
}

impl Bounded {
    /// Of the `timeout` of a call, half is for one request to be answered: then there is time for another one, on
    /// another connection. What is sent may take longer than that, and is not sent twice.
    pub(super) fn new(timeout: Duration) -> Self {
        Self { patience: timeout / 2 }
    }
}

impl HttpConnector for Bounded {
    fn connect(&self, options: &ClientOptions) -> object_store::Result<HttpClient> {
        let client = ReqwestConnector::default().connect(options)?;
        Ok(HttpClient::new(Service { client, patience: self.patience }))
    }
}

#[derive(Debug)]
struct Service {
    client: HttpClient,
    patience: Duration,
}

#[async_trait]
impl HttpService for Service {
    async fn call(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        let is_safe = request.method().is_safe();
        let answer = self.client.execute(request);
        let answer = match is_safe {
            true => tokio::time::timeout(self.patience, answer)
                .await
                .map_err(|late| HttpError::new(HttpErrorKind::Timeout, late))?,
            false => answer.await,
        };
        let (mut parts, body) = answer?.into_parts();
        // So rclone says it. Whether it is the range that was asked for is looked at in any case.
        if parts.status == StatusCode::OK && parts.headers.contains_key(CONTENT_RANGE) {
            parts.status = StatusCode::PARTIAL_CONTENT;
        }
        if !parts.status.is_success() {
            return Ok(HttpResponse::from_parts(parts, beginning(body).await.into()));
        }
        let body = Limited::new(body, ANSWER_MAX);
        // An error of the connection stays what it is; the rest says that there is too much.
        let body = body.map_err(|error| match error.downcast::<HttpError>() {
            Ok(error) => *error,
            Err(error) => HttpError::new_boxed(HttpErrorKind::Decode, error),
        });
        Ok(HttpResponse::from_parts(parts, HttpResponseBody::new(body)))
    }
}

/// How the words of an error begin. That they break off changes nothing: the status is known.
async fn beginning(mut body: HttpResponseBody) -> String {
    let mut words = BytesMut::new();
    while words.len() < ERROR_MAX
        && let Some(Ok(frame)) = body.frame().await
    {
        let data = frame.into_data().unwrap_or_default();
        words.extend_from_slice(data.get(..ERROR_MAX - words.len()).unwrap_or(&data));
    }
    String::from_utf8_lossy(&words).into_owned()
}
