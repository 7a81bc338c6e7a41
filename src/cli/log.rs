//! Where the log goes: standard error, the journal of systemd, or syslog.
//!
//! Journal and syslog are datagrams to a socket that is looked up each time, so that a daemon that was started anew
//! gets the next one. Nothing waits for a daemon: a line that finds no room is lost and counted, and the count is
//! told before the next one that does. Each event is one line, whatever it is about. The journal gets its facts as
//! fields too, by the protocol of <https://systemd.io/JOURNAL_NATIVE_PROTOCOL/>.

use std::fmt::{Debug, Write};
use std::io::{self, IsTerminal, stderr};
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use jiff::Timestamp;
use jiff::tz::TimeZone;
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Registry};

use super::Trouble;
use crate::config::LogOutput;
use crate::monitor::one_line;

/// Where the journal listens.
const JOURNAL: &str = "/run/systemd/journal/socket";
/// Where syslog listens.
const SYSLOG: &str = "/dev/log";
/// What lines are named after.
const NAME: &str = "nfs-verity";
/// Before each of our fields, so that none is taken for another one of the journal's.
const PREFIX: &str = "NFS_VERITY_";
/// The longest name of a field that the journal takes, in bytes.
const FIELD_NAME_MAX: usize = 64;
/// Facility "daemon", as a syslog daemon counts.
const DAEMON: u8 = 3;
/// Bytes of a line of syslog, which daemons cut where they like.
const LINE_MAX: usize = 8 * 1024;
/// Bytes of one value in the journal.
const VALUE_MAX: usize = 16 * 1024;
/// Bytes of all of an entry, which one datagram must be able to take.
const ENTRY_MAX: usize = 128 * 1024;

/// Sends what is said from here on where it is to go. `RUST_LOG` sets what that is.
pub(super) fn start(to: LogOutput) -> Result<(), Trouble> {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    let outlet = match to {
        LogOutput::Stderr => {
            let logging = tracing_subscriber::fmt().with_env_filter(filter).with_writer(stderr);
            // A subscriber that is there already is as good.
            let _ = logging.with_ansi(stderr().is_terminal()).try_init();
            return Ok(());
        }
        LogOutput::Journald => Outlet::open(Form::Journal, Path::new(JOURNAL)),
        LogOutput::Syslog => Outlet::open(Form::syslog(), Path::new(SYSLOG)),
    };
    let _ = Registry::default().with(filter).with(outlet?).try_init();
    Ok(())
}

/// What a datagram looks like.
#[derive(Debug)]
enum Form {
    /// An entry of the journal.
    Journal,
    /// `<PRIORITY>Mmm dd hh:mm:ss NAME[PID]: TEXT`, as the C library sends it, in the time of this zone.
    Syslog(TimeZone),
}

impl Form {
    fn syslog() -> Self {
        Self::Syslog(TimeZone::try_system().unwrap_or(TimeZone::UTC))
    }

    fn name(&self) -> &'static str {
        match self {
            Self::Journal => "journald",
            Self::Syslog(_) => "syslog",
        }
    }

    fn encode(&self, level: Level, target: &str, said: &Said) -> Vec<u8> {
        match self {
            Self::Journal => journal_entry(level, target, said),
            Self::Syslog(zone) => syslog_line(level, said, Timestamp::now(), zone),
        }
    }
}

/// Takes events to a daemon's socket.
#[derive(Debug)]
struct Outlet {
    form: Form,
    socket: UnixDatagram,
    path: PathBuf,
    /// Lines that found no room since the last one that did.
    lost: AtomicU64,
}

impl Outlet {
    /// Looks whether somebody listens at `path`.
    fn open(form: Form, path: &Path) -> Result<Self, Trouble> {
        let open = || {
            UnixDatagram::unbound()?.connect(path)?;
            let socket = UnixDatagram::unbound()?;
            socket.set_nonblocking(true)?;
            Ok(socket)
        };
        let socket = open().map_err(|error: io::Error| {
            let (name, path) = (form.name(), path.display());
            Trouble::other(format!(
                "log = \"{name}\": nobody listens at {path}: {error}; start the daemon, mount the socket here, or \
                 leave log out for standard error"
            ))
        })?;
        Ok(Self { form, socket, path: path.to_owned(), lost: AtomicU64::new(0) })
    }

    fn send(&self, datagram: &[u8]) -> bool {
        self.socket.send_to(datagram, &self.path).is_ok()
    }

    fn say(&self, level: Level, target: &str, said: &Said) {
        let lost = self.lost.swap(0, Ordering::Relaxed);
        let told = lost == 0 || {
            let said = Said::lost(lost);
            self.send(&self.form.encode(Level::WARN, module_path!(), &said))
        };
        let more = match told {
            true => u64::from(!self.send(&self.form.encode(level, target, said))),
            false => lost + 1,
        };
        self.lost.fetch_add(more, Ordering::Relaxed);
    }
}

impl<S: Subscriber> Layer<S> for Outlet {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let mut said = Said::default();
        event.record(&mut said);
        let metadata = event.metadata();
        self.say(*metadata.level(), metadata.target(), &said);
    }
}

/// What an event says, each part on one line.
#[derive(Debug, Default)]
struct Said {
    message: String,
    /// The facts as they follow the message: ` name=value`.
    rest: String,
    fields: Vec<(&'static str, String)>,
}

impl Said {
    fn lost(count: u64) -> Self {
        let message = "lines are missing from the log, for nobody took them".to_owned();
        Self { message, rest: format!(" count={count}"), fields: vec![("count", count.to_string())] }
    }

    fn text(&self) -> String {
        format!("{}{}", self.message, self.rest)
    }

    /// Takes `value`, which stands as `shown` in the text.
    fn add(&mut self, field: &Field, value: &str, shown: &str) {
        if field.name() == "message" {
            self.message = one_line(value);
        } else {
            // Writing to a String cannot fail.
            let _ = write!(self.rest, " {}={}", field.name(), one_line(shown));
            self.fields.push((field.name(), one_line(value)));
        }
    }
}

impl Visit for Said {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.add(field, value, &format!("{value:?}"));
    }

    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        let value = format!("{value:?}");
        self.add(field, &value, &value);
    }
}

/// The severity by the numbers of syslog, which the journal has too.
fn severity(level: Level) -> u8 {
    match level {
        Level::ERROR => 3,
        Level::WARN => 4,
        Level::INFO => 6,
        _ => 7,
    }
}

/// The beginning of `text`, with an ellipsis where more than `max` bytes were cut.
fn cut(text: &str, max: usize) -> String {
    match text.len() > max {
        true => format!("{}…", text.get(..text.floor_char_boundary(max)).unwrap_or_default()),
        false => text.to_owned(),
    }
}

fn syslog_line(level: Level, said: &Said, now: Timestamp, zone: &TimeZone) -> Vec<u8> {
    let (priority, time) = (DAEMON << 3 | severity(level), zone.to_datetime(now));
    let (time, pid) = (time.strftime("%b %e %H:%M:%S"), std::process::id());
    format!("<{priority}>{time} {NAME}[{pid}]: {}", cut(&said.text(), LINE_MAX)).into_bytes()
}

fn journal_entry(level: Level, target: &str, said: &Said) -> Vec<u8> {
    let mut entry = Vec::new();
    put(&mut entry, "MESSAGE", &said.text());
    put(&mut entry, "PRIORITY", &severity(level).to_string());
    put(&mut entry, "SYSLOG_FACILITY", &DAEMON.to_string());
    put(&mut entry, "SYSLOG_IDENTIFIER", NAME);
    put(&mut entry, &format!("{PREFIX}TARGET"), target);
    for (name, value) in &said.fields {
        put(&mut entry, &field_name(name), value);
    }
    entry
}

/// A field with its length, so that its value cannot begin another one; left out where the entry is full.
fn put(entry: &mut Vec<u8>, name: &str, value: &str) {
    let value = cut(value, VALUE_MAX);
    if entry.len() + name.len() + value.len() <= ENTRY_MAX {
        entry.extend_from_slice(name.as_bytes());
        entry.push(b'\n');
        entry.extend_from_slice(&(value.len() as u64).to_le_bytes());
        entry.extend_from_slice(value.as_bytes());
        entry.push(b'\n');
    }
}

/// A name that the journal takes: capitals, digits and underscores.
fn field_name(name: &str) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_uppercase() } else { '_' };
    PREFIX.chars().chain(name.chars().map(plain)).take(FIELD_NAME_MAX).collect()
}

#[cfg(test)]
mod tests;
