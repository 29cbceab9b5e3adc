//! The commands that work on a store, whether a gateway is running or not; they do what the API does. A running gateway sees the change at
//! its next look, which is the next connect.
//!
//! | file | commands |
//! |---|---|
//! | `subscriber`, `group`, `credential` | of the same name; `token` stands with subscribers |
//! | `transfer` | `import`, `export` |
//! | `database` | `store` |
//!
//! Commands that change something open the store as a gateway does, making or migrating its schema ([`writing`]); those that only show
//! something leave it as it is ([`reading`]).

mod credential;
mod database;
mod group;
mod subscriber;
mod transfer;

use std::io::Read as _;
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context as _, bail};
use serde_json::Value;
use zeroize::Zeroizing;

use super::ConfigArg;
use crate::clock::Clock;
use crate::gateway::Config;
use crate::gateway::admin::{self, BODY_MAX};
use crate::gateway::config::{Source, StoreConfig};
use crate::gateway::store::{Page, Store, StoreError};
use crate::report::out;

pub(super) use credential::{Credential, credential};
pub(super) use database::{StoreCommand, the_store};
pub(super) use group::{Group, group};
pub(super) use subscriber::{Subscriber, Token, subscriber, token};
pub(super) use transfer::{Export, Import, export, import};

/// How commands get the key where it is a systemd credential.
pub(super) const KEY_HELP: &str = "\
Commands that show something (list, show, export, store info, check) need a database that is there and of this program's version; those that \
change something, 'import', 'run' and 'store migrate' make it so.

Where the key is a systemd credential ([store] key_credential = \"store.key\"), systemd hands it to commands as well:
  systemd-run --quiet --pipe --wait --collect -p User=onyx-gateway -p UMask=0077 \\
    -p LoadCredentialEncrypted=store.key:/etc/onyx/private/store.key.cred \\
    onyx-gateway store info --config /etc/onyx/gateway.toml";

/// What every one of these commands takes.
#[derive(Debug, clap::Args)]
pub(super) struct Common {
    #[command(flatten)]
    config: ConfigArg,
    /// JSON, as the API answers.
    #[arg(long)]
    json: bool,
}

/// A text argument: itself, `@FILE`, or `@-`.
fn text(argument: &str) -> anyhow::Result<Zeroizing<String>> {
    let Some(path) = argument.strip_prefix('@') else {
        return Ok(Zeroizing::new(argument.to_owned()));
    };
    if path == "-" {
        stdin(BODY_MAX as u64)
    } else {
        file(Path::new(path), BODY_MAX as u64)
    }
}

fn stdin(limit: u64) -> anyhow::Result<Zeroizing<String>> {
    let mut text = Zeroizing::new(String::new());
    std::io::stdin()
        .take(limit + 1)
        .read_to_string(&mut text)
        .context("standard input")?;
    if text.len() as u64 > limit {
        bail!("standard input has more than {limit} bytes");
    }
    Ok(text)
}

fn file(path: &Path, limit: u64) -> anyhow::Result<Zeroizing<String>> {
    let bytes = crate::files::read_small(path, limit).map(Zeroizing::new);
    let bytes = bytes.map_err(|e| anyhow::anyhow!("cannot read {}: {e}", path.display()))?;
    let text = std::str::from_utf8(&bytes).map_err(|e| anyhow::anyhow!("{} is not UTF-8: {e}", path.display()))?;
    Ok(Zeroizing::new(text.to_owned()))
}

fn settings(config: &ConfigArg) -> anyhow::Result<StoreConfig> {
    match Config::read(&config.config)?.source {
        Source::Store(settings) => Ok(settings),
        Source::Files(_) => bail!(
            "this gateway's subscribers, groups and credentials stand in {path} and its folder: change them there, then \
             'systemctl reload'; for a store, write a configuration with [store] and run 'onyx-gateway import {path}' with it",
            path = config.config.display()
        ),
    }
}

/// Opens the store to change something, and does it.
fn writing<T>(config: &ConfigArg, what: impl AsyncFnOnce(&Store, &Clock) -> anyhow::Result<T>) -> anyhow::Result<T> {
    with(config, Store::open, what)
}

/// Opens the store as it is, and reads something.
fn reading<T>(config: &ConfigArg, what: impl AsyncFnOnce(&Store, &Clock) -> anyhow::Result<T>) -> anyhow::Result<T> {
    with(config, Store::open_to_read, what)
}

fn with<T>(
    config: &ConfigArg,
    open: impl AsyncFnOnce(&StoreConfig, &Clock) -> Result<Store, StoreError>,
    what: impl AsyncFnOnce(&Store, &Clock) -> anyhow::Result<T>,
) -> anyhow::Result<T> {
    let settings = settings(config)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let clock = Clock::new();
    let result = runtime.block_on(async {
        let store = open(&settings, &clock).await?;
        what(&store, &clock).await
    });
    runtime.shutdown_background();
    result
}

fn show(common: &Common, value: &Value, line: &str) -> anyhow::Result<ExitCode> {
    if common.json {
        out(&format!("{}\n", serde_json::to_string_pretty(value)?))?;
    } else {
        out(&format!("{line}\n"))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// A list; what cannot be read stands behind the others, and makes the command fail, so that a script hears of it.
fn show_all(common: &Common, list: Page<Value>, line: impl Fn(&Value) -> String) -> anyhow::Result<ExitCode> {
    let mut lines: Vec<String> = list.items.iter().map(line).collect();
    if list.items.is_empty() {
        lines.push("there are none".to_owned());
    }
    lines.extend(list.damaged.iter().map(|d| format!("DAMAGED {d}")));
    if !list.damaged.is_empty() {
        lines.push(format!("{} damaged", list.damaged.len()));
    }
    let good = list.damaged.is_empty();
    let damaged = list.damaged.iter().map(admin::damaged);
    let all: Vec<Value> = list.items.into_iter().chain(damaged).collect();
    let shown = show(common, &Value::from(all), &lines.join("\n"))?;
    Ok(if good { shown } else { ExitCode::FAILURE })
}

/// All pages of a list.
async fn all_of<T>(
    mut page: impl AsyncFnMut(Option<String>) -> Result<Page<T>, StoreError>,
) -> Result<Page<T>, StoreError> {
    let mut all = Page::default();
    let mut after = None;
    loop {
        let next = page(after).await?;
        all.items.extend(next.items);
        all.damaged.extend(next.damaged);
        after = next.next;
        if after.is_none() {
            return Ok(all);
        }
    }
}

fn word(value: &Value, key: &str) -> String {
    match value.get(key) {
        None | Some(Value::Null) => "-".to_owned(),
        Some(Value::String(text)) => text.clone(),
        Some(other) => other.to_string(),
    }
}
