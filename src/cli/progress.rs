//! How far it is: a bar on a terminal, plain lines now and then when piped.

use std::io::IsTerminal;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use tokio::time::Instant;

use super::Failure;
use super::table::print;
use super::words::{count, many, percent, span, state};
use crate::engine::{CampaignState, CampaignView};

/// Between two plain lines.
const PLAIN_EVERY: Duration = Duration::from_secs(5);

const TEMPLATE: &str = "{prefix:.bold} {bar:32.green/dim} {msg}";
const BAR: &str = "━╸─";

/// Shows progress on standard output, or nothing at all.
pub(crate) struct Progress {
    bar: Option<ProgressBar>,
    quiet: bool,
    told: Option<(Instant, String)>,
}

impl Progress {
    /// A bar named `title` when standard output is a terminal, else plain lines; nothing when `quiet`.
    pub(crate) fn new(title: &str, quiet: bool) -> Self {
        let bar = (!quiet && std::io::stdout().is_terminal()).then(|| {
            let style = ProgressStyle::with_template(TEMPLATE).unwrap_or_else(|_| ProgressStyle::default_bar());
            let bar = ProgressBar::with_draw_target(Some(0), ProgressDrawTarget::stdout()).with_style(style.progress_chars(BAR));
            bar.with_prefix(title.to_owned())
        });
        Self { bar, quiet, told: None }
    }

    /// `done` of `whole`, with words about it.
    pub(crate) fn show(&mut self, done: u64, whole: u64, words: &str) -> Result<(), Failure> {
        if let Some(bar) = &self.bar {
            bar.set_length(whole);
            bar.set_position(done);
            bar.set_message(words.to_owned());
            return Ok(());
        }
        let due = self.told.as_ref().is_none_or(|(at, last)| at.elapsed() >= PLAIN_EVERY && last != words);
        if due && !self.quiet {
            self.told = Some((Instant::now(), words.to_owned()));
            print(words)?;
        }
        Ok(())
    }

    /// A campaign as it stands.
    pub(crate) fn campaign(&mut self, view: &CampaignView) -> Result<(), Failure> {
        let words = sentence(view);
        let words = if self.bar.is_some() { words } else { format!("{}: {words}", view.id) };
        self.show(settled(view), view.enqueued, &words)
    }

    /// A line above the bar, at once.
    pub(crate) fn line(&self, text: &str) -> Result<(), Failure> {
        match &self.bar {
            Some(bar) => {
                bar.println(text);
                Ok(())
            }
            None if self.quiet => Ok(()),
            None => print(text),
        }
    }

    /// Leaves the last state on the screen.
    pub(crate) fn end(&self) {
        if let Some(bar) = &self.bar {
            bar.abandon();
        }
    }
}

/// Jobs that nothing more is done for.
pub(crate) const fn settled(view: &CampaignView) -> u64 {
    view.sent + view.dead + view.cancelled + view.expired
}

fn sentence(view: &CampaignView) -> String {
    let mut words = vec![format!("{}  {} sent", percent(settled(view), view.enqueued), count(view.sent))];
    let mut some = |number: u64, thing: &str| {
        if number > 0 {
            words.push(format!("{} {thing}", count(number)));
        }
    };
    some(view.dead, "failed");
    some(view.expired, "expired");
    some(view.cancelled, "cancelled");
    some(view.delayed, "to be retried");
    some(view.waiting + view.in_flight, "waiting");
    match view.state {
        CampaignState::Running => {
            words.push(format!("{:.1}/s", view.rate_per_second));
            words.extend(view.left.map(|left| format!("{} left", span(left))));
        }
        _ => words.push(state(view)),
    }
    words.join(" · ")
}

/// A spinner for something whose end is not known; nothing when standard error is no terminal.
pub(crate) fn spinner(title: &'static str) -> impl FnMut(u64) {
    let bar = std::io::stderr().is_terminal().then(ProgressBar::new_spinner);
    let guard = bar.map(Cleared);
    move |rows| {
        if let Some(Cleared(bar)) = &guard {
            bar.set_message(format!("{title} {}", many(rows, "row")));
            bar.tick();
        }
    }
}

/// Takes the spinner off the screen when it is dropped.
struct Cleared(ProgressBar);

impl Drop for Cleared {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}
