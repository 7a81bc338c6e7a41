//! `nfs-verity events`: what happened in a gateway, and what happens.

use std::io::{Write, stderr};
use std::str::FromStr;
use std::time::Duration;

use clap::Args;
use jiff::Timestamp;
use serde_json::Value;

use super::client::{AccessArgs, AskError, Client, lost};
use super::sse::{Message, Parser};
use super::words::{block, member, number, path, time, words};
use crate::app::interruption;
use crate::cli::pool::runtime;
use crate::cli::{Outcome, Trouble};
use crate::config::Interval;
use crate::monitor::json_line;

/// How long the gateway may take for one page, and to begin a stream.
const PATIENCE: Duration = Duration::from_secs(20);
/// Events that are asked for at a time.
const PAGE: usize = 1000;
/// A stream that is alive is heard of more often: its heartbeat comes every 15 seconds.
const QUIET: Duration = Duration::from_secs(50);
/// Between two attempts to find a gateway again: the first time, and the longest.
const AGAIN: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(15));

/// Show what happened in a running gateway: what its audit log has, as far back as it remembers
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  nfs-verity events --since 10m
  nfs-verity events --follow --kind refused,healed,store-down --json

One line for each event. A gateway remembers the last 2000 or so; its audit log has all. With
--follow it goes on with what happens, also after the gateway was away, until Ctrl-C; what was
missed is told on standard error.")]
pub(in crate::cli) struct EventsArgs {
    #[command(flatten)]
    access: AccessArgs,
    /// Then go on with what happens
    #[arg(long, short)]
    follow: bool,
    /// Only those after a time (2026-11-29T10:00:00Z), or of the last so long (10m; units s, m, h, d)
    #[arg(long, value_name = "TIME")]
    since: Option<Since>,
    /// Only events of these kinds, with commas between them, as in refused,relaxed,scrub-finding
    #[arg(long, value_name = "KINDS", value_delimiter = ',')]
    kind: Vec<String>,
    /// Print the JSON object of each, one a line
    #[arg(long)]
    json: bool,
}

/// The time behind which events are wanted, by this machine's clock.
#[derive(Clone, Copy, Debug)]
struct Since(Timestamp);

impl FromStr for Since {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Ok(Interval(Some(ago))) = text.parse() {
            let time = Timestamp::now().checked_sub(ago);
            return time.map(Self).map_err(|error| error.to_string());
        }
        let wrong = |_| "write a time such as 2026-11-29T10:00:00Z, or how long ago, as in 10m".to_owned();
        text.parse().map(Self).map_err(wrong)
    }
}

pub(in crate::cli) fn run(args: &EventsArgs, out: &mut (impl Write + Send)) -> Result<Outcome, Trouble> {
    let client = args.access.client()?;
    let told = runtime(1)?.block_on(async {
        let interrupted = interruption()
            .map_err(|source| Trouble::Io { context: "cannot wait for signals".into(), source })?;
        let mut telling = Telling::new(&client, args, out);
        let telling = async {
            match args.follow {
                true => telling.follow().await,
                false => telling.page().await.map_err(Stop::into_trouble),
            }
        };
        tokio::select! {
            told = telling => told,
            () = interrupted => Ok(()),
        }
    });
    match told {
        // Somebody has seen enough.
        Err(trouble) if trouble.is_closed_pipe() => Ok(Outcome::Good),
        told => told.map(|()| Outcome::Good),
    }
}

/// What ends telling.
enum Stop {
    /// There is nothing to be had from the gateway, for now or for good.
    Asking(AskError),
    /// This side cannot go on.
    Here(Trouble),
}

impl Stop {
    fn into_trouble(self) -> Trouble {
        match self {
            Self::Asking(error) => Trouble::other(error),
            Self::Here(trouble) => trouble,
        }
    }
}

impl From<AskError> for Stop {
    fn from(error: AskError) -> Self {
        Self::Asking(error)
    }
}

impl From<std::io::Error> for Stop {
    fn from(error: std::io::Error) -> Self {
        Self::Here(error.into())
    }
}

/// Events from one gateway to one output.
struct Telling<'a, W> {
    client: &'a Client,
    out: &'a mut W,
    json: bool,
    since: Option<String>,
    kinds: String,
    /// The number of the last event that is known; numbers grow over restarts of the gateway, too.
    after: u64,
    /// The gateway has been heard since it was last lost.
    heard: bool,
}

impl<'a, W: Write> Telling<'a, W> {
    fn new(client: &'a Client, args: &EventsArgs, out: &'a mut W) -> Self {
        Self {
            client,
            out,
            json: args.json,
            since: args.since.map(|since| since.0.to_string()),
            kinds: args.kind.join(","),
            after: 0,
            heard: false,
        }
    }

    /// Tells what is remembered and then what happens, until this side cannot go on.
    async fn follow(&mut self) -> Result<(), Trouble> {
        let mut pause = AGAIN.0;
        // A gateway that is not there at the first time is rather another address.
        let mut found = false;
        loop {
            let error = match self.session().await {
                Ok(never) => match never {},
                Err(Stop::Asking(error)) if error.passes() && (found || self.heard) => error,
                Err(stop) => return Err(stop.into_trouble()),
            };
            found = true;
            if std::mem::take(&mut self.heard) {
                pause = AGAIN.0;
                writeln!(stderr(), "nfs-verity: {error}; asking again")?;
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(AGAIN.1);
        }
    }

    /// Finds the gateway, and tells what it tells until it is lost.
    async fn session(&mut self) -> Result<std::convert::Infallible, Stop> {
        self.page().await?;
        self.heard = true;
        self.stream().await
    }

    fn query<'q>(&'q self, after: &'q str) -> Vec<(&'q str, &'q str)> {
        let mut query = vec![("after", after)];
        query.extend(self.since.as_deref().map(|since| ("since", since)));
        if !self.kinds.is_empty() {
            query.push(("kind", &self.kinds));
        }
        query
    }

    /// Tells what the gateway remembers behind the last number.
    async fn page(&mut self) -> Result<(), Stop> {
        let limit = PAGE.to_string();
        loop {
            let after = self.after.to_string();
            let query = [&self.query(&after)[..], &[("limit", &limit)]].concat();
            let page = self.client.object("api/v1/events", &query, PATIENCE).await?;
            let (Some(events), Some(last)) =
                (page.get("events").and_then(Value::as_array), page.get("last").and_then(Value::as_u64))
            else {
                let url = self.client.base().clone();
                return Err(
                    AskError::Malformed { url, what: "there are no events in the answer".into() }.into()
                );
            };
            // What happened before the time that was asked for is not missed.
            if self.after > 0 || self.since.is_none() {
                missed(number(&page, "missed"))?;
            }
            events.iter().try_for_each(|event| self.tell(event))?;
            self.out.flush()?;
            self.after = last;
            if events.len() < PAGE {
                return Ok(());
            }
        }
    }

    /// Tells what happens until the gateway is lost.
    async fn stream(&mut self) -> Result<std::convert::Infallible, Stop> {
        let after = self.after.to_string();
        let mut response = self.client.stream("api/v1/events/stream", &self.query(&after), PATIENCE).await?;
        let url = self.client.base().clone();
        let ended = |reason: &str| AskError::Lost { url: url.clone(), reason: reason.to_owned() };
        let mut parser = Parser::default();
        loop {
            let piece = match tokio::time::timeout(QUIET, response.chunk()).await {
                Err(_) => return Err(ended("nothing was heard of it any more").into()),
                Ok(Ok(None)) => return Err(ended("it ended the stream").into()),
                Ok(Err(error)) => return Err(lost(&url, &error).into()),
                Ok(Ok(Some(piece))) => piece,
            };
            let malformed = |what: String| AskError::Malformed { url: url.clone(), what };
            for message in parser.push(&piece).map_err(|error| malformed(error.to_string()))? {
                let event = serde_json::from_str(&message.data)
                    .map_err(|error| malformed(format!("an event that is no JSON: {error}")))?;
                self.next(&message, &event)?;
            }
            self.out.flush()?;
        }
    }

    /// Tells an event of the stream, or that some are gone.
    fn next(&mut self, message: &Message, event: &Value) -> Result<(), Stop> {
        if message.kind == "missed" {
            return Ok(missed(number(event, "missed"))?);
        }
        let id = message.id.as_deref().and_then(|id| id.parse().ok());
        self.after = id.or_else(|| event.get("id").and_then(Value::as_u64)).unwrap_or(self.after);
        self.tell(event)
    }

    fn tell(&mut self, event: &Value) -> Result<(), Stop> {
        match self.json {
            true => writeln!(self.out, "{}", json_line(&event.to_string()))?,
            false => writeln!(self.out, "{}", for_people(event))?,
        }
        Ok(())
    }
}

fn missed(count: u64) -> std::io::Result<()> {
    match count {
        0 => Ok(()),
        _ => writeln!(
            stderr(),
            "nfs-verity: {count} events are not remembered any more; the audit log has them (audit_log)"
        ),
    }
}

/// What an event is about: the first of these that it has.
const SUBJECTS: [&str; 8] = ["path", "setting", "name", "what", "file", "directory", "store", "version"];
/// What speaks for itself; in this order, and before the rest.
const PLAIN: [&str; 6] = ["cause", "finding", "result", "detail", "error", "reason"];
/// What is told already, and what is for programs.
const SILENT: [&str; 14] = [
    "id",
    "time",
    "event",
    "complete",
    "path_hex",
    "after_hex",
    "class",
    "expected",
    "found",
    "gid",
    "record",
    "remedy",
    "block",
    "level",
];

/// One line: when, what kind, about what, and the facts.
pub(super) fn for_people(event: &Value) -> String {
    let kind = member(event, "event").unwrap_or_default();
    let when = time(event, "time").unwrap_or_default();
    let subject = SUBJECTS.into_iter().find(|name| event.get(*name).is_some());
    let about = match subject {
        Some("path") => Some(path(event).unwrap_or_else(|| "(many files)".to_owned())),
        Some(name) => member(event, name),
        None => None,
    };
    let mut facts: Vec<String> = PLAIN.into_iter().filter_map(|name| member(event, name)).collect();
    facts.extend(block(event));
    let rest = event.as_object().into_iter().flatten();
    let rest = rest.filter(|(name, _)| {
        let name = name.as_str();
        Some(name) != subject && !PLAIN.contains(&name) && !SILENT.contains(&name)
    });
    for (name, value) in rest {
        let Some(text) = words(Some(value)) else { continue };
        let name = crate::cli::told::shown(name.as_bytes()).replace('_', " ");
        facts.push(match value {
            Value::Bool(_) if name == "served" => "SERVED all the same".to_owned(),
            Value::Bool(_) => name,
            Value::String(_) if value.as_str().is_some_and(|text| text.contains(' ')) => {
                format!("{name} \"{text}\"")
            }
            _ => format!("{name} {text}"),
        });
    }
    let parts = [about, (!facts.is_empty()).then(|| facts.join(", "))];
    let said = parts.into_iter().flatten().collect::<Vec<_>>().join(": ");
    format!("{when}  {kind:<15} {said}").trim_end().to_owned()
}
