//! `onyx-gateway store`.

use std::path::PathBuf;
use std::process::ExitCode;

use serde_json::{Value, json};

use super::{Common, all_of, reading, settings, show, word, writing};
use crate::clock::Clock;
use crate::gateway::store::{self, Damaged, KeyPlace};

/// Rows that are proved at a time: some MiB of secrets at most.
const PAGE: usize = 100;

/// `onyx-gateway store …`
#[derive(Debug, clap::Subcommand)]
pub(in super::super) enum StoreCommand {
    /// Say which store it is, what is in it, and what of that cannot be read (then the status is 1).
    Info {
        #[command(flatten)]
        common: Common,
    },
    /// Make the database, or bring its schema to the version of this program; gateways do it when they start.
    Migrate {
        #[command(flatten)]
        common: Common,
    },
    /// Seal everything anew under a new key. Running gateways must be restarted afterwards.
    Rekey {
        /// The new key, where the old one is a systemd credential.
        #[arg(long)]
        new_key: Option<PathBuf>,
        #[command(flatten)]
        common: Common,
    },
}

/// What is in the store, and what cannot be read.
fn info(common: &Common) -> anyhow::Result<(Value, Vec<Damaged>)> {
    let settings = settings(&common.config)?;
    reading(&common.config, async |store, _| {
        let snapshot = store.snapshot().await?;
        let credentials = all_of(async |after| {
            let page = store.proven_credentials(after.as_deref(), PAGE).await?;
            // Only the number is wanted, and not a hundred thousand of them in memory.
            Ok(page.map(|_| ()))
        });
        let credentials = credentials.await?;
        let mut damaged = snapshot.damaged;
        damaged.extend(snapshot.broken.into_iter().map(|(id, why)| Damaged {
            what: "group",
            id: id.to_string(),
            why,
        }));
        damaged.extend(credentials.damaged);
        let value = json!({
            "database": format!("{:?}", settings.database),
            "schema": store::SCHEMA,
            "generation": snapshot.edition.generation,
            "subscribers": snapshot.subscribers.len(),
            "groups": snapshot.groups.len(),
            "credentials": credentials.items.len(),
            "broken": damaged.iter().map(ToString::to_string).collect::<Vec<_>>(),
        });
        Ok((value, damaged))
    })
}

pub(in super::super) fn the_store(command: StoreCommand) -> anyhow::Result<ExitCode> {
    match command {
        StoreCommand::Info { common } => {
            let (value, damaged) = info(&common)?;
            let mut line = format!(
                "{}: {} subscribers, {} groups, {} credentials, change number {}, schema version {}",
                word(&value, "database"),
                value["subscribers"],
                value["groups"],
                value["credentials"],
                value["generation"],
                value["schema"],
            );
            for row in &damaged {
                line += &format!("\nDAMAGED {row}");
            }
            if !damaged.is_empty() {
                line += &format!("\n{} damaged", damaged.len());
            }
            let shown = show(&common, &value, &line)?;
            Ok(if damaged.is_empty() { shown } else { ExitCode::FAILURE })
        }
        StoreCommand::Migrate { common } => {
            let generation = writing(&common.config, async |store, _| Ok(store.generation().await?))?;
            let line = format!("the schema is version {}, and the key is the right one", store::SCHEMA);
            show(
                &common,
                &json!({"schema": store::SCHEMA, "generation": generation}),
                &line,
            )
        }
        StoreCommand::Rekey { new_key, common } => {
            let settings = settings(&common.config)?;
            let key = new_key.map(|path| {
                let key = KeyPlace::Credential(path.clone()).read()?;
                key.ok_or_else(|| anyhow::anyhow!("there is no key file {}", path.display()))
            });
            let key = key.transpose()?;
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            let count = runtime.block_on(store::rekey(&settings, &Clock::new(), key))?;
            let line = format!("sealed {count} credentials and all groups under a new key: restart running gateways");
            show(&common, &json!({"credentials": count}), &line)
        }
    }
}
