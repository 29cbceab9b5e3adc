//! `onyx-gateway import`, `onyx-gateway export`.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::bail;
use serde_json::{Value, json};

use super::{Common, ConfigArg, file, reading, show, stdin, writing};
use crate::gateway::Config;
use crate::gateway::admin::transfer;
use crate::gateway::config::Source;
use crate::gateway::store::KeyPlace;
use crate::report::out;

/// `onyx-gateway import`
#[derive(Debug, clap::Args)]
pub(in super::super) struct Import {
    /// An export, or the gateway.toml of a gateway in files (its folder and tokens come along); - is an export on standard input.
    from: PathBuf,
    /// The key file that the export's secrets are sealed under.
    #[arg(long)]
    key_file: Option<PathBuf>,
    #[command(flatten)]
    common: Common,
}

/// `onyx-gateway export`
#[derive(Debug, clap::Args)]
pub(in super::super) struct Export {
    /// With secrets, sealed under --key-file.
    #[arg(long, requires = "key_file")]
    secrets: bool,
    /// The key file; made if it is not there. Carry it another way than the export.
    #[arg(long, requires = "secrets")]
    key_file: Option<PathBuf>,
    #[command(flatten)]
    config: ConfigArg,
}

pub(in super::super) fn import(command: &Import) -> anyhow::Result<ExitCode> {
    let from = command.from.as_path();
    let key = command.key_file.as_deref().map(|path| {
        let key = KeyPlace::File(path.to_owned()).read()?;
        key.ok_or_else(|| anyhow::anyhow!("there is no key file {}", path.display()))
    });
    let key = key.transpose()?;
    let standard_input = from == Path::new("-");
    let is_toml = from.extension().is_some_and(|e| e == "toml");
    let (count, remarks) = writing(&command.common.config, async |store, clock| {
        let goods = if is_toml {
            match Config::read(from)?.source {
                Source::Files(files) => transfer::Goods::of_files(&files, clock),
                Source::Store(_) => bail!(
                    "{} is the configuration of a store: 'export' it instead",
                    from.display()
                ),
            }
        } else {
            let text = if standard_input {
                stdin(transfer::EXPORT_MAX)?
            } else {
                file(from, transfer::EXPORT_MAX)?
            };
            transfer::Goods::of_export(&text, key.as_ref(), clock)
        };
        let mut goods = goods.map_err(|e| anyhow::anyhow!("{}: {e}\nnothing was imported", from.display()))?;
        let remarks = std::mem::take(&mut goods.remarks);
        Ok((goods.put(store).await?, remarks))
    })?;
    let mut line = format!(
        "imported {} subscribers, {} groups and {} credentials",
        count.subscribers, count.groups, count.credentials
    );
    for remark in &remarks {
        line += &format!("\nWARNING {remark}");
    }
    show(&command.common, &json!({"imported": count, "remarks": remarks}), &line)
}

pub(in super::super) fn export(command: &Export) -> anyhow::Result<ExitCode> {
    let key = command
        .key_file
        .as_ref()
        .map(|path| KeyPlace::File(path.clone()).make())
        .transpose()?;
    let value = reading(&command.config, async |store, _| {
        Ok(transfer::export(store, key.as_ref()).await?)
    })?;
    out(&format!("{}\n", serde_json::to_string_pretty(&value)?))?;
    let damaged = value.get("damaged").and_then(Value::as_array).map_or(0, Vec::len);
    if damaged > 0 {
        eprintln!(
            "onyx-gateway: {damaged} rows cannot be read and are not in the export, which names them in \"damaged\""
        );
        return Ok(ExitCode::FAILURE);
    }
    Ok(ExitCode::SUCCESS)
}
