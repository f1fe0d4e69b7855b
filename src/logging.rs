//! Log lines: readable on a terminal, JSON for collectors, fields for journald. Text and JSON go to standard error.
//!
//! A line reads well alone and carries fields to search by, everywhere under the same names:
//!
//! | field | what | type |
//! |---|---|---|
//! | `campaign` | campaign id | [`CampaignId`](crate::job::CampaignId) |
//! | `job` | job id | [`JobId`](crate::job::JobId) |
//! | `attempt` | which attempt of the job, from 1 | number |
//! | `account` | account name | [`AccountName`](crate::job::AccountName) |
//! | `rule` | policy rule, or the daemon's own reason | text |
//! | `error` | what went wrong, once, where it is handled | text |
//!
//! Every line about a send has the first four. A recipient only appears as [`Recipient`](crate::job::Recipient), which masks itself;
//! message bodies, keys and addresses with a login never appear. In the journal the names are `CAMPAIGND_CAMPAIGN` and so on:
//! `journalctl -u campaignd CAMPAIGND_CAMPAIGN=spring-sale`. Durations are fields with the unit in their name (`wait_ms`).

use std::io::{IsTerminal, stderr};
use std::os::unix::fs::MetadataExt;

use tracing::Subscriber;
use tracing_subscriber::filter::{EnvFilter, FilterExt, filter_fn};
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::{Filter, Layer, SubscriberExt};
use tracing_subscriber::registry::{LookupSpan, Registry};
use tracing_subscriber::util::SubscriberInitExt;

use crate::config::{Log, LogFormat, process_env};
use crate::exit::{Exit, Failure};

/// Goes before `[log] level`.
pub const LEVEL_VARIABLE: &str = "CAMPAIGND_LOG";

/// Whether text says what to log. A bare word that is no level would be taken for a module's name and silence everything else.
#[must_use]
pub fn is_level(text: &str) -> bool {
    let names_a_level = |part: &str| part.parse::<tracing_subscriber::filter::LevelFilter>().is_ok();
    let parts = || text.split(',').map(str::trim).filter(|part| !part.is_empty());
    EnvFilter::builder().parse(text).is_ok() && parts().all(|part| part.contains(['=', '[']) || names_a_level(part))
}

/// Starts logging for this process. Once per process.
///
/// # Errors
/// When `CAMPAIGND_LOG` is no level, or the journal was asked for and is not there.
pub fn start(log: &Log) -> Result<(), Failure> {
    let level = process_env(LEVEL_VARIABLE);
    let text = level.as_deref().unwrap_or(&log.level);
    let parsed = EnvFilter::builder().parse(text).ok().filter(|_| is_level(text));
    let filter = parsed.ok_or_else(|| {
        let whence = if level.is_some() { format!("${LEVEL_VARIABLE}") } else { "[log] level".into() };
        Failure::new(
            Exit::Config,
            format_args!("{whence} is no log level: write error, warn, info, debug, trace, or module=level pairs"),
        )
    })?;
    let layer = match chosen(log.format, stderr_is_journal()) {
        LogFormat::Journal => journal_layer()?,
        LogFormat::Json => json_layer(stderr),
        LogFormat::Text | LogFormat::Auto => text_layer(stderr, stderr().is_terminal()),
    };
    // Fails only when logging had been started before, and then it runs.
    let _ = tracing_subscriber::registry().with(layer.with_filter(without_bodies(filter))).try_init();
    Ok(())
}

/// lapin logs whole messages (returned ones at `warn`, frames at `trace`), recipients included, whatever the filter asks for. What
/// matters of it is in our own errors.
fn without_bodies<S: Subscriber>(filter: EnvFilter) -> impl Filter<S> {
    filter.and(filter_fn(|line| !line.target().starts_with("lapin")))
}

type BoxedLayer<S> = Box<dyn Layer<S> + Send + Sync>;

const fn chosen(format: LogFormat, journal: bool) -> LogFormat {
    match format {
        LogFormat::Auto if journal => LogFormat::Journal,
        LogFormat::Auto => LogFormat::Text,
        other => other,
    }
}

/// systemd.exec(5): `$JOURNAL_STREAM` is "device:inode" of the journal's stream; a child with another standard error inherits it too.
fn stderr_is_journal() -> bool {
    let Some(stream) = process_env("JOURNAL_STREAM") else { return false };
    std::fs::metadata("/proc/self/fd/2").is_ok_and(|meta| is_stream(&stream, meta.dev(), meta.ino()))
}

fn is_stream(journal_stream: &str, device: u64, inode: u64) -> bool {
    journal_stream.split_once(':').is_some_and(|(d, i)| d.parse() == Ok(device) && i.parse() == Ok(inode))
}

fn journal_layer() -> Result<BoxedLayer<Registry>, Failure> {
    let layer = tracing_journald::layer().map_err(|error| {
        let what = format!("[log] format: the journal cannot be reached: {error}; use format = \"text\"");
        Failure::new(Exit::Unavailable, what)
    })?;
    Ok(layer.with_field_prefix(Some("CAMPAIGND".into())).with_syslog_identifier("campaignd".into()).boxed())
}

fn json_layer<S, W>(writer: W) -> BoxedLayer<S>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    W: for<'w> MakeWriter<'w> + Send + Sync + 'static,
{
    tracing_subscriber::fmt::layer().json().flatten_event(true).with_current_span(false).with_writer(writer).boxed()
}

fn text_layer<S, W>(writer: W, color: bool) -> BoxedLayer<S>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    W: for<'w> MakeWriter<'w> + Send + Sync + 'static,
{
    tracing_subscriber::fmt::layer().with_target(false).with_ansi(color).with_writer(writer).boxed()
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::sync::{Arc, Mutex};

    use super::*;
    use crate::job::Recipient;

    #[derive(Clone, Default)]
    struct Page(Arc<Mutex<Vec<u8>>>);

    impl Write for Page {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().extend(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    fn logged(layer: impl FnOnce(Page) -> BoxedLayer<Registry>) -> String {
        let page = Page::default();
        let to: Recipient = "905321234567".parse().unwrap();
        tracing::subscriber::with_default(tracing_subscriber::registry().with(layer(page.clone())), || {
            tracing::info!(campaign = "spring", job = "j1", attempt = 1, account = "main", %to, "sent");
        });
        let bytes = page.0.lock().unwrap().clone();
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn json_has_the_fields_at_the_top_and_the_recipient_masked() {
        let line = logged(|page| json_layer(move || page.clone()));
        let value: serde_json::Value = serde_json::from_str(&line).unwrap();
        for (field, is) in [("campaign", "spring"), ("job", "j1"), ("account", "main"), ("message", "sent"), ("to", "9053…67")]
        {
            assert_eq!(value[field], is, "{line}");
        }
        assert_eq!(value["attempt"], 1);
        assert!(!line.contains("905321234567"));
    }

    #[test]
    fn text_reads_well_without_colour() {
        let line = logged(|page| text_layer(move || page.clone(), false));
        assert!(line.contains("sent campaign=\"spring\" job=\"j1\" attempt=1 account=\"main\" to=9053…67"), "{line}");
        assert!(!line.contains('\u{1b}'), "{line}");
    }

    #[test]
    fn the_journal_is_taken_only_when_it_is_standard_error() {
        assert!(is_stream("8:1234", 8, 1234));
        assert!(!is_stream("8:1234", 8, 1235));
        assert!(!is_stream("nonsense", 8, 1234));
        assert_eq!(chosen(LogFormat::Auto, true), LogFormat::Journal);
        assert_eq!(chosen(LogFormat::Auto, false), LogFormat::Text);
        assert_eq!(chosen(LogFormat::Json, true), LogFormat::Json);
    }

    #[test]
    fn at_no_level_does_lapin_log_messages() {
        let page = Page::default();
        let to = page.clone();
        let layer = tracing_subscriber::fmt::layer()
            .with_writer(move || to.clone())
            .with_filter(without_bodies(EnvFilter::new("trace,lapin::returned_messages=trace")));
        tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), || {
            tracing::warn!(target: "lapin::returned_messages", "905321234567");
            tracing::debug!("ours");
        });
        let text = String::from_utf8(page.0.lock().unwrap().clone()).unwrap();
        assert!(text.contains("ours") && !text.contains("905321234567"), "{text}");
    }
}
