//! What the monitor answers to which request.

use std::sync::Arc;

use axum::Router;
use axum::extract::{RawQuery, State};
use axum::http::header::{
    CACHE_CONTROL, CONNECTION, CONTENT_SECURITY_POLICY, CONTENT_TYPE, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS,
};
use axum::http::{HeaderName, HeaderValue, StatusCode};
use axum::middleware::map_response;
use axum::response::{Html, IntoResponse, Response};
use axum::routing::{get, post};

use super::page::{SCRIPT, STYLE, render_file};
use super::{Monitor, api, metrics};

/// What each answer carries. A connection serves one request, so that idle clients hold none.
pub(super) const HEADERS: [(HeaderName, &str); 7] = [
    (
        CONTENT_SECURITY_POLICY,
        "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; img-src data:; \
         base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    ),
    (X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
    (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
    (REFERRER_POLICY, "no-referrer"),
    (CACHE_CONTROL, "no-store"),
    (CONNECTION, "close"),
];

/// Everything that is answered.
pub(super) fn router(monitor: Arc<Monitor>) -> Router {
    let dressing = monitor.clone();
    Router::new()
        .route("/", get(|State(monitor): State<Arc<Monitor>>| async move { Html(monitor.page()) }))
        .route("/files", get(file))
        .route("/monitor.css", get(|| async { ([(CONTENT_TYPE, "text/css; charset=utf-8")], STYLE) }))
        .route("/monitor.js", get(|| async { ([(CONTENT_TYPE, "text/javascript; charset=utf-8")], SCRIPT) }))
        .route("/metrics", get(scrape))
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(readiness))
        .route("/api/v1/openapi.json", get(api::openapi))
        .route("/api/v1/status", get(api::status))
        .route("/api/v1/events", get(api::events))
        .route("/api/v1/events/stream", get(api::follow))
        .route("/api/v1/timeline", get(api::timeline))
        .route("/api/v1/files", get(api::file))
        .route("/api/v1/files/check", post(api::check))
        .fallback(|| async { (StatusCode::NOT_FOUND, "nothing here; see /\n") })
        .layer(map_response(move |response: Response| dress(dressing.clone(), response)))
        .with_state(monitor)
}

async fn file(State(monitor): State<Arc<Monitor>>, RawQuery(query): RawQuery) -> Response {
    let path = match api::path_of(query.as_deref()) {
        Ok(path) => path,
        Err(misasked) => return (StatusCode::BAD_REQUEST, format!("{}\n", misasked.0)).into_response(),
    };
    match monitor.known(path).await {
        Some(known) => Html(render_file(&monitor.snapshot(), &known)).into_response(),
        None => (StatusCode::NOT_FOUND, "nothing is known of this file; see /\n").into_response(),
    }
}

async fn dress(monitor: Arc<Monitor>, mut response: Response) -> Response {
    monitor.metrics.http_requests.inc();
    for (name, value) in HEADERS {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    response
}

async fn scrape(State(monitor): State<Arc<Monitor>>) -> Response {
    match monitor.metrics_text() {
        Ok(text) => ([(CONTENT_TYPE, metrics::CONTENT_TYPE)], text).into_response(),
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}

async fn readiness(State(monitor): State<Arc<Monitor>>) -> Response {
    match monitor.is_ready() {
        true => "ready\n".into_response(),
        false => (StatusCode::SERVICE_UNAVAILABLE, "not serving\n").into_response(),
    }
}
