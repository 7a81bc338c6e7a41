//! Tells a webhook of events: a reader of the feed that sends what it has not sent yet.
//!
//! In order, one batch at a time, each until it is taken or refused; so some may come twice, and then under one
//! number of delivery. Who receives them checks the signature: HMAC-SHA-256 over the header with the time, a dot and
//! the body. While nothing happens there is no timer, no thread and no connection. What goes wrong here is said in
//! the log and counted, and is no event: it would call for itself.

mod backoff;
mod batch;

use std::error::Error;
use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;
use reqwest::header::{CONTENT_TYPE, RETRY_AFTER};
use reqwest::{Client, Response, StatusCode, Url, redirect};
use ring::hmac;
use zeroize::Zeroizing;

use super::feed::{Feed, Told};
use super::metrics::fresh;
use super::text::printable;
use backoff::{Backoff, retry_after};
use batch::{Batch, Sender};

/// The header with the time of an attempt, in seconds since 1970.
const TIMESTAMP: &str = "X-Nfs-Verity-Timestamp";
/// The header with the signature over that time, a dot and the body.
const SIGNATURE: &str = "X-Nfs-Verity-Signature";
/// The header with the number of the delivery, the same each time that it is tried.
const DELIVERY: &str = "X-Nfs-Verity-Delivery";
const USER_AGENT: &str = concat!("nfs-verity/", env!("CARGO_PKG_VERSION"));
/// Bytes that are read of what is said to an error; it is known without them.
const WORDS_MAX: usize = 4 * 1024;
/// Characters of it that are told.
const WORDS_TOLD: usize = 200;

/// What a webhook is told, and where.
#[derive(Clone)]
pub struct WebhookOptions {
    /// Where it is; never shown as a whole, for it may hold a token.
    pub url: String,
    /// What both sides know.
    pub secret: Zeroizing<Vec<u8>>,
    /// The kinds of events that it is told of; `None` for failures.
    pub events: Option<Vec<&'static str>>,
    /// The tree's name, as it was signed.
    pub namespace: String,
}

impl fmt::Debug for WebhookOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WebhookOptions").field("events", &self.events).finish_non_exhaustive()
    }
}

/// How long things take.
#[derive(Clone, Copy, Debug)]
struct Bounds {
    /// One attempt.
    attempt: Duration,
    /// From a first failure to the next attempt, at least.
    first: Duration,
    /// The same after many, at most.
    longest: Duration,
    /// What a server may ask for instead, at most.
    asked: Duration,
    /// The last attempt, at the end.
    grace: Duration,
}

impl Default for Bounds {
    fn default() -> Self {
        Self {
            attempt: Duration::from_secs(10),
            first: Duration::from_secs(1),
            longest: Duration::from_secs(300),
            asked: Duration::from_secs(3600),
            grace: Duration::from_secs(2),
        }
    }
}

/// What became of attempts.
#[derive(Clone, Debug)]
pub(super) struct Deliveries {
    ok: Counter,
    failed: Counter,
    dropped: Counter,
}

impl Deliveries {
    /// All at zero.
    pub(super) fn new(r: &mut Registry) -> Self {
        let family: Family<[(&'static str, &'static str); 1], Counter> = fresh(r, "nfs_verity_webhook_total");
        let result = |result| family.get_or_create_owned(&[("result", result)]);
        Self { ok: result("ok"), failed: result("failed"), dropped: result("dropped") }
    }
}

/// What a server makes of a batch.
enum Answer {
    Taken,
    /// It may take it another time.
    Later {
        why: String,
        after: Option<Duration>,
    },
    /// It never will.
    Refused(String),
}

/// Reads the feed and sends it.
pub struct Webhook {
    feed: Arc<Feed>,
    deliveries: Deliveries,
    client: Client,
    url: Url,
    key: hmac::Key,
    events: Option<Vec<&'static str>>,
    sender: Sender,
    bounds: Bounds,
    /// All up to this event is done with, or on its way.
    after: u64,
    /// Events that the feed had lost before they could be sent.
    missed: u64,
    /// What is on its way.
    pending: Option<Batch>,
    /// What was last said to be wrong.
    trouble: Option<String>,
}

impl fmt::Debug for Webhook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Webhook").field("after", &self.after).finish_non_exhaustive()
    }
}

impl Webhook {
    /// Sends all of `feed` that is wanted, from its beginning, once it runs.
    ///
    /// # Errors
    /// What is wrong, in words: no HTTP client can be made, or `url` is none.
    pub(super) fn new(
        options: WebhookOptions,
        feed: Arc<Feed>,
        deliveries: Deliveries,
    ) -> Result<Self, String> {
        Self::with_bounds(options, feed, deliveries, Bounds::default())
    }

    fn with_bounds(
        options: WebhookOptions,
        feed: Arc<Feed>,
        deliveries: Deliveries,
        bounds: Bounds,
    ) -> Result<Self, String> {
        // Another part of the program may have done so; either is right.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let client = Client::builder()
            .user_agent(USER_AGENT)
            .timeout(bounds.attempt)
            // A signed body is for who was named, and for nobody else.
            .redirect(redirect::Policy::none())
            .pool_max_idle_per_host(0)
            .build();
        Ok(Self {
            feed,
            deliveries,
            client: client.map_err(in_words)?,
            url: options.url.parse().map_err(|_| "its url is none".to_owned())?,
            key: hmac::Key::new(hmac::HMAC_SHA256, &options.secret),
            events: options.events,
            sender: Sender::new(options.namespace),
            bounds,
            after: 0,
            missed: 0,
            pending: None,
            trouble: None,
        })
    }

    /// Sends what comes, until `ending` is done; then all that is left has one attempt, in a moment.
    pub async fn run(mut self, ending: impl Future<Output = ()> + Send) {
        tokio::select! {
            biased;
            () = ending => {}
            () = self.deliver() => {}
        }
        // What was under way may have arrived: its number is the same the second time.
        let _ = tokio::time::timeout(self.bounds.grace, self.deliver_rest()).await;
        let left = self.feed.after(self.after, usize::MAX, |told| self.wants(told)).events.len();
        let left = left + self.pending.as_ref().map_or(0, |batch| batch.events);
        if left > 0 {
            tracing::warn!(left, "events did not reach the webhook before the end");
        }
    }

    /// Sends without end.
    async fn deliver(&mut self) {
        let mut follower = self.feed.follow();
        let mut backoff = Backoff::new(self.bounds.first, self.bounds.longest);
        loop {
            // Noted first: what comes from here on wakes it again.
            follower.borrow_and_update();
            let Some(batch) = self.next() else {
                if follower.changed().await.is_err() {
                    return;
                }
                continue;
            };
            match self.attempt(&batch).await {
                Some(after) => {
                    let after = after.map(|after| after.min(self.bounds.asked));
                    tokio::time::sleep(backoff.next().max(after.unwrap_or_default())).await;
                }
                None => backoff = Backoff::new(self.bounds.first, self.bounds.longest),
            }
        }
    }

    /// Sends what is left, as long as it is taken at once.
    async fn deliver_rest(&mut self) {
        while let Some(batch) = self.next() {
            if self.attempt(&batch).await.is_some() {
                return;
            }
        }
    }

    fn wants(&self, told: &Told) -> bool {
        self.events.as_ref().map_or(told.failure, |kinds| kinds.contains(&told.kind))
    }

    /// The batch that is on its way, or a new one.
    fn next(&mut self) -> Option<Batch> {
        if self.pending.is_none() {
            self.pending = self.gather();
        }
        self.pending.clone()
    }

    fn gather(&mut self) -> Option<Batch> {
        let chapter = self.feed.after(self.after, batch::EVENTS_MAX, |told| self.wants(told));
        self.missed += chapter.missed;
        let (batch, last) = self.sender.batch(&chapter, self.missed, Timestamp::now());
        self.after = last;
        if batch.events == 0 && self.missed == 0 {
            return None;
        }
        self.missed = 0;
        Some(batch)
    }

    /// One attempt, and what follows from it. `Some` when there is to be another one, after that long if the server
    /// says so.
    async fn attempt(&mut self, batch: &Batch) -> Option<Option<Duration>> {
        match self.send(batch).await {
            Answer::Taken => {
                self.deliveries.ok.inc();
                self.pending = None;
                if self.trouble.take().is_some() {
                    tracing::info!("the webhook takes events again");
                }
                None
            }
            Answer::Refused(why) => {
                self.deliveries.dropped.inc();
                self.pending = None;
                self.say(why, "the webhook refused events; they are dropped");
                None
            }
            Answer::Later { why, after } => {
                self.deliveries.failed.inc();
                self.say(why, "the webhook does not take events; they are kept, and sent again");
                Some(after)
            }
        }
    }

    /// Says once what is wrong.
    fn say(&mut self, why: String, message: &str) {
        if self.trouble.as_ref() != Some(&why) {
            let webhook = self.url.origin().ascii_serialization();
            tracing::warn!(%webhook, %why, "{message}");
            self.trouble = Some(why);
        }
    }

    async fn send(&self, batch: &Batch) -> Answer {
        let time = Timestamp::now().as_second().to_string();
        let answer = self
            .client
            .post(self.url.clone())
            .header(CONTENT_TYPE, "application/json")
            .header(SIGNATURE, self.signature(&time, &batch.body))
            .header(TIMESTAMP, time)
            .header(DELIVERY, &batch.id)
            .body(batch.body.clone())
            .send()
            .await;
        let answer = match answer {
            Ok(answer) => answer,
            Err(error) => return Answer::Later { why: in_words(error), after: None },
        };
        let status = answer.status();
        // What else it says is left unread.
        if status.is_success() {
            return Answer::Taken;
        }
        let asked = answer.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok());
        let after = asked.and_then(|value| retry_after(value, Timestamp::now()));
        let why = format!("{status}{}", words(answer).await);
        match status.is_server_error() || is_passing(status) {
            true => Answer::Later { why, after },
            false => Answer::Refused(why),
        }
    }

    fn signature(&self, time: &str, body: &[u8]) -> String {
        let mut context = hmac::Context::with_key(&self.key);
        [time.as_bytes(), b".", body].into_iter().for_each(|part| context.update(part));
        format!("sha256={}", hex::encode(context.sign()))
    }
}

/// What may be otherwise another time, below 500.
fn is_passing(status: StatusCode) -> bool {
    matches!(status, StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_EARLY | StatusCode::TOO_MANY_REQUESTS)
}

/// How the words of an error begin, on one line.
async fn words(mut answer: Response) -> String {
    let mut words = Vec::new();
    while words.len() < WORDS_MAX
        && let Ok(Some(chunk)) = answer.chunk().await
    {
        words.extend_from_slice(chunk.get(..WORDS_MAX - words.len()).unwrap_or(&chunk));
    }
    let text: String = String::from_utf8_lossy(&words).trim().chars().take(WORDS_TOLD).collect();
    if text.is_empty() { text } else { format!(": {}", printable(text.as_bytes())) }
}

/// An error with its causes, and without the address, which may hold a token.
fn in_words(error: reqwest::Error) -> String {
    let error = error.without_url();
    let mut words = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        words.push_str(": ");
        words.push_str(&cause.to_string());
        source = cause.source();
    }
    printable(words.as_bytes())
}

#[cfg(test)]
mod tests;
