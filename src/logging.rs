//! Log lines on standard error: plain text for people and the journal, or JSON lines. Filters are `level` or `target=level,…`.

use std::io::IsTerminal;
use std::sync::OnceLock;

use tracing_subscriber::Registry;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::reload;
use tracing_subscriber::util::SubscriberInitExt;

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Format {
    /// One line of text an event.
    #[default]
    Text,
    /// One JSON object an event.
    Json,
}

fn parse(filter: &str) -> Result<Targets, String> {
    filter.parse().map_err(|e| {
        format!(
            "the log filter {filter:?} cannot be read: {e}; write for example \"info\" or \"info,onyx::modem=debug\""
        )
    })
}

/// Whether [`start`] would take this filter.
///
/// # Errors
/// A sentence that says what is wrong.
pub fn check(filter: &str) -> Result<(), String> {
    parse(filter).map(|_| ())
}

/// Starts logging; once a process.
///
/// # Errors
/// A sentence when `filter` cannot be read or logging is already on.
pub fn start(filter: &str, format: Format) -> Result<(), String> {
    let targets = parse(filter)?;
    // Under systemd the journal stamps each line itself.
    let in_journal = std::env::var_os("JOURNAL_STREAM").is_some();
    let fmt = tracing_subscriber::fmt::layer()
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .with_target(false);
    let (filter, handle) = reload::Layer::new(targets);
    let registry = tracing_subscriber::registry().with(filter);
    match (format, in_journal) {
        (Format::Json, _) => registry.with(fmt.json()).try_init(),
        (Format::Text, true) => registry.with(fmt.without_time()).try_init(),
        (Format::Text, false) => registry.with(fmt).try_init(),
    }
    .map_err(|e| e.to_string())?;
    let _ = FILTER.set(handle);
    Ok(())
}

/// The filter in force.
static FILTER: OnceLock<reload::Handle<Targets, Registry>> = OnceLock::new();

/// Another filter from now on. Where logging was not started here (in a test), nothing changes.
///
/// # Errors
/// A sentence when `filter` cannot be read.
pub fn change(filter: &str) -> Result<(), String> {
    let targets = parse(filter)?;
    match FILTER.get() {
        Some(handle) => handle.reload(targets).map_err(|e| e.to_string()),
        None => Ok(()),
    }
}
