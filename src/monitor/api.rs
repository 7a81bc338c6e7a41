//! The JSON API below `/api/v1`; `openapi.json` has its shapes.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{ConnectInfo, RawQuery, State};
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderMap, StatusCode};
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures_util::stream::{self, Stream};
use jiff::Timestamp;
use serde::Serialize;
use serde_json::json;
use serde_json::value::RawValue;

use super::Monitor;
use super::fact::json_path;
use super::failures::Checked;
use super::feed::{Chapter, Told};
use super::http::Peer;
use super::map::{Run, blocks};
use super::page::Known;
use super::query::{Misasked, Query};
use super::timeline::{MINUTES, Minute};
use crate::event::KINDS;

/// Events in one answer, where nothing is said, and at most.
const LIMIT: usize = 100;
const LIMIT_MAX: usize = 1000;
/// Events that a stream takes at a time.
const BATCH: usize = 64;
/// So often a stream that has nothing to say shows that it is there.
const HEARTBEAT: Duration = Duration::from_secs(15);
/// So long a client waits before it asks again for a stream that was cut.
const RETRY: Duration = Duration::from_secs(2);
/// The longest path that is looked for.
const PATH_MAX: usize = 16 * 1024;

/// The description of the API.
const OPENAPI: &str = include_str!("openapi.json");
const JSON: &str = "application/json";

/// An answer that is an error.
pub(super) struct Refused(StatusCode, String);

impl From<Misasked> for Refused {
    fn from(misasked: Misasked) -> Self {
        Self(StatusCode::BAD_REQUEST, misasked.0)
    }
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        told_as_json(self.0, &json!({ "error": self.1 }))
    }
}

fn told_as_json(status: StatusCode, value: &impl Serialize) -> Response {
    match serde_json::to_string(value) {
        Ok(json) => (status, [(CONTENT_TYPE, JSON)], json).into_response(),
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}

/// `GET /api/v1/openapi.json`.
pub(super) async fn openapi() -> Response {
    ([(CONTENT_TYPE, JSON)], OPENAPI).into_response()
}

/// `GET /api/v1/status`.
pub(super) async fn status(State(monitor): State<Arc<Monitor>>) -> Response {
    told_as_json(StatusCode::OK, &monitor.snapshot())
}

/// Which events are asked for.
struct Wanted {
    after: Option<u64>,
    since: Option<Timestamp>,
    kinds: Option<Vec<String>>,
}

impl Wanted {
    fn of(query: &Query) -> Result<Self, Misasked> {
        let kinds = query.text("kind")?.map(|text| {
            text.split(',').map(|kind| match KINDS.contains(&kind) {
                true => Ok(kind.to_owned()),
                false => Err(Misasked(format!("kind must be of {}", KINDS.join(", ")))),
            })
        });
        Ok(Self {
            after: query.read("after", "the number of an event")?,
            since: query.read("since", "a time such as 2026-01-31T12:00:00Z")?,
            kinds: kinds.map(Iterator::collect).transpose()?,
        })
    }

    fn takes(&self, told: &Told) -> bool {
        self.since.is_none_or(|since| since <= told.time)
            && self.kinds.as_ref().is_none_or(|kinds| kinds.iter().any(|kind| kind == told.kind))
    }
}

#[derive(Serialize)]
struct Events {
    events: Vec<Box<RawValue>>,
    last: u64,
    missed: u64,
}

/// `GET /api/v1/events`.
pub(super) async fn events(
    State(monitor): State<Arc<Monitor>>,
    RawQuery(query): RawQuery,
) -> Result<Response, Refused> {
    let query = Query::parse(query.as_deref());
    let wanted = Wanted::of(&query)?;
    let limit = query.read("limit", format_args!("from 1 to {LIMIT_MAX}"))?.unwrap_or(LIMIT);
    if !(1..=LIMIT_MAX).contains(&limit) {
        return Err(Misasked(format!("limit must be from 1 to {LIMIT_MAX}")).into());
    }
    let Chapter { events, missed, last } =
        monitor.feed.after(wanted.after.unwrap_or(0), limit, |told| wanted.takes(told));
    let events = events.iter().filter_map(|told| RawValue::from_string(told.json.to_string()).ok()).collect();
    Ok(told_as_json(StatusCode::OK, &Events { events, last, missed }))
}

/// `GET /api/v1/events/stream`: server-sent events, the first of them behind `after` or `Last-Event-ID`, or those
/// since `since`, or else what happens from now on.
pub(super) async fn follow(
    State(monitor): State<Arc<Monitor>>,
    ConnectInfo(peer): ConnectInfo<Peer>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Result<Response, Refused> {
    let mut wanted = Wanted::of(&Query::parse(query.as_deref()))?;
    // What a client says when it comes again counts for more than where it began.
    let id = headers.get("last-event-id").and_then(|id| id.to_str().ok()).and_then(|id| id.parse().ok());
    let behind = id.or(wanted.after).or(wanted.since.map(|_| 0));
    wanted.after = Some(behind.unwrap_or_else(|| monitor.feed.last()));
    if !peer.stay() {
        let why = "as many streams as can be are followed already; end one, or ask for /api/v1/events";
        return Err(Refused(StatusCode::SERVICE_UNAVAILABLE, why.to_owned()));
    }
    let answer = Sse::new(told(monitor, wanted)).keep_alive(KeepAlive::new().interval(HEARTBEAT));
    Ok(answer.into_response())
}

fn told(monitor: Arc<Monitor>, wanted: Wanted) -> impl Stream<Item = Result<Event, Infallible>> {
    let follower = monitor.feed.follow();
    let first = Some(Event::default().retry(RETRY).comment("what happens from here on"));
    let start = (monitor, wanted, follower, Vec::new().into_iter(), first);
    stream::unfold(start, |(monitor, mut wanted, mut follower, mut waiting, first)| async move {
        let mut next = first;
        while next.is_none() {
            next = waiting.next();
            if next.is_some() {
                break;
            }
            // Looked at first, so that nothing that comes from here on goes unnoticed.
            follower.mark_unchanged();
            let chapter = monitor.feed.after(wanted.after.unwrap_or(0), BATCH, |told| wanted.takes(told));
            wanted.after = Some(chapter.last);
            let Chapter { events, missed, .. } = chapter;
            if events.is_empty() && missed == 0 {
                // It ends with the monitor.
                follower.changed().await.ok()?;
                continue;
            }
            let lost = Event::default().event("missed").data(json!({ "missed": missed }).to_string());
            let told = events
                .iter()
                .map(|told| Event::default().id(told.id.to_string()).event(told.kind).data(&*told.json));
            waiting = (missed > 0).then_some(lost).into_iter().chain(told).collect::<Vec<_>>().into_iter();
        }
        Some((Ok(next?), (monitor, wanted, follower, waiting, None)))
    })
}

#[derive(Serialize)]
struct Times {
    step_seconds: u32,
    points: Vec<Minute>,
}

/// `GET /api/v1/timeline`.
pub(super) async fn timeline(
    State(monitor): State<Arc<Monitor>>,
    RawQuery(query): RawQuery,
) -> Result<Response, Refused> {
    let query = Query::parse(query.as_deref());
    let wanted = || format!("from 1 to {MINUTES}");
    let minutes = query.read("minutes", wanted())?.unwrap_or(60);
    if !(1..=MINUTES).contains(&minutes) {
        return Err(Misasked(format!("minutes must be {}", wanted())).into());
    }
    Ok(told_as_json(StatusCode::OK, &Times { step_seconds: 60, points: monitor.minutes(minutes) }))
}

#[derive(Serialize)]
struct FileTold {
    path: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    path_hex: Option<String>,
    /// `null` where the evidence is not accepted, or there is no such file now.
    size: Option<u64>,
    block_size: Option<u32>,
    blocks: Option<u64>,
    map: Vec<Run>,
    bad: Vec<BadTold>,
    /// Those that fail and are not listed.
    more: u64,
    checked: Option<CheckTold>,
}

#[derive(Serialize)]
struct BadTold {
    block: u64,
    level: Option<u8>,
    cause: &'static str,
    detail: String,
    expected: Option<String>,
    found: Option<String>,
    times: u64,
    last: Timestamp,
    remedy: &'static str,
}

#[derive(Serialize)]
struct CheckTold {
    time: Timestamp,
    running: bool,
    /// How many blocks fail, where that is known.
    failing_blocks: Option<u64>,
    /// Why nothing is known of them.
    refused: Option<String>,
}

impl From<&(Timestamp, Checked)> for CheckTold {
    fn from((time, checked): &(Timestamp, Checked)) -> Self {
        let (failing_blocks, refused) = match checked {
            Checked::Running => (None, None),
            Checked::Blocks(count) => (Some(*count), None),
            Checked::Refused(why) => (None, Some(why.clone())),
        };
        Self { time: *time, running: *checked == Checked::Running, failing_blocks, refused }
    }
}

impl From<Known> for FileTold {
    fn from(known: Known) -> Self {
        let (path, path_hex) = json_path(&known.path);
        let file = known.file.unwrap_or_default();
        let bad = file.bad.iter().map(|((level, block), bad)| BadTold {
            block: *block,
            level: *level,
            cause: bad.cause.as_str(),
            detail: bad.detail.clone(),
            expected: bad.expected.clone(),
            found: bad.found.clone(),
            times: bad.times,
            last: bad.last,
            remedy: bad.cause.remedy(),
        });
        Self {
            path,
            path_hex,
            size: known.survey.as_ref().map(|survey| survey.size),
            block_size: known.survey.as_ref().map(|survey| survey.block_size),
            blocks: known.survey.as_ref().map(blocks),
            map: known.runs,
            bad: bad.collect(),
            more: file.more,
            checked: file.checked.as_ref().map(CheckTold::from),
        }
    }
}

/// The path that is asked for.
pub(super) fn path_of(query: Option<&str>) -> Result<Vec<u8>, Misasked> {
    let query = Query::parse(query);
    match query.bytes("path")? {
        Some(path) if (1..=PATH_MAX).contains(&path.len()) => Ok(path.to_vec()),
        Some(_) => Err(Misasked(format!("path must be from 1 to {PATH_MAX} bytes long"))),
        None => Err(Misasked("path is missing: ?path=DIR/FILE, below the export's root".to_owned())),
    }
}

/// `GET /api/v1/files`.
pub(super) async fn file(
    State(monitor): State<Arc<Monitor>>,
    RawQuery(query): RawQuery,
) -> Result<Response, Refused> {
    let path = path_of(query.as_deref())?;
    match monitor.known(path).await {
        Some(known) => Ok(told_as_json(StatusCode::OK, &FileTold::from(known))),
        None => Err(nothing_known()),
    }
}

fn nothing_known() -> Refused {
    let why = "nothing is known of it: it did not fail, and there is no such file with accepted evidence";
    Refused(StatusCode::NOT_FOUND, why.to_owned())
}

/// `POST /api/v1/files/check`: all of the file is read and proven; it goes on behind the answer.
pub(super) async fn check(
    State(monitor): State<Arc<Monitor>>,
    RawQuery(query): RawQuery,
) -> Result<Response, Refused> {
    let path = path_of(query.as_deref())?;
    let Some(known) = monitor.known(path.clone()).await else { return Err(nothing_known()) };
    match monitor.check(path, known.survey.map(|survey| survey.version)) {
        true => Ok(told_as_json(StatusCode::ACCEPTED, &json!({ "checking": true }))),
        false => {
            let why = "as many files as can be are being checked, or this one is; ask again later";
            Err(Refused(StatusCode::TOO_MANY_REQUESTS, why.to_owned()))
        }
    }
}

#[cfg(test)]
mod tests;
