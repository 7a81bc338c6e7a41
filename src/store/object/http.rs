//! HTTP whose answers end: a server may send what it wants, and no more of it is kept than it could have to say.

use async_trait::async_trait;
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

/// Makes clients that take bounded answers alone.
#[derive(Debug, Default)]
pub(super) struct Bounded(ReqwestConnector);

impl HttpConnector for Bounded {
    fn connect(&self, options: &ClientOptions) -> object_store::Result<HttpClient> {
        Ok(HttpClient::new(Service(self.0.connect(options)?)))
    }
}

#[derive(Debug)]
struct Service(HttpClient);

#[async_trait]
impl HttpService for Service {
    async fn call(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        let (mut parts, body) = self.0.execute(request).await?.into_parts();
        // So rclone says it. Whether it is the range that was asked for is looked at in any case.
        if parts.status == StatusCode::OK && parts.headers.contains_key(CONTENT_RANGE) {
            parts.status = StatusCode::PARTIAL_CONTENT;
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
