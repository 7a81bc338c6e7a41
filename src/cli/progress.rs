//! A progress bar on a terminal, nothing elsewhere.

use std::io::{IsTerminal, stderr};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// Files and bytes done, with the rate.
pub(super) struct Progress {
    bar: ProgressBar,
}

impl Progress {
    /// A bar on standard error, if that is a terminal.
    pub(super) fn new() -> Self {
        let bar = ProgressBar::no_length();
        if stderr().is_terminal() {
            let style = "{spinner} {msg} files, {bytes} ({bytes_per_sec}) in {elapsed}";
            bar.set_style(
                ProgressStyle::with_template(style).unwrap_or_else(|_| ProgressStyle::default_bar()),
            );
            bar.enable_steady_tick(Duration::from_millis(120));
        } else {
            bar.set_draw_target(ProgressDrawTarget::hidden());
        }
        bar.set_message("0");
        Self { bar }
    }

    /// More bytes are done.
    pub(super) fn bytes(&self, count: u64) {
        self.bar.inc(count);
    }

    /// So many files are done.
    pub(super) fn files(&self, done: u64) {
        self.bar.set_message(done.to_string());
    }

    /// Lets `print` write lines without mixing them with the bar.
    pub(super) fn around<T>(&self, print: impl FnOnce() -> T) -> T {
        self.bar.suspend(print)
    }

    /// Bytes done and bytes a second.
    pub(super) fn finish(&self) -> (u64, f64) {
        let (bytes, elapsed) = (self.bar.position(), self.bar.elapsed().as_secs_f64());
        self.bar.finish_and_clear();
        #[expect(clippy::cast_precision_loss, reason = "a rate for people")]
        let rate = bytes as f64 / elapsed.max(1e-9);
        (bytes, rate)
    }
}
