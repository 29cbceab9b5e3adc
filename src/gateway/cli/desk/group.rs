//! `onyx-gateway group`.

use std::process::ExitCode;

use serde_json::{Value, json};

use super::{Common, reading, show, show_all, text, word, writing};
use crate::gateway::admin::groups;
use crate::gateway::group::GroupId;

/// `onyx-gateway group …`
#[derive(Debug, clap::Subcommand)]
pub(in super::super) enum Group {
    /// Make one.
    Create {
        /// Its id; made up in the shape of SORACOM's if not given.
        #[arg(long, visible_alias = "group-id")]
        id: Option<GroupId>,
        /// For people.
        #[arg(long, default_value = "")]
        name: String,
        #[command(flatten)]
        common: Common,
    },
    /// List all.
    List {
        #[command(flatten)]
        common: Common,
    },
    /// Show one with its configuration (secrets masked) and what is wrong with it.
    Show {
        /// Which.
        id: GroupId,
        #[command(flatten)]
        common: Common,
    },
    /// Put keys of a namespace; the others stay. 'soracom groups put-config' has the same arguments.
    PutConfig {
        /// Which.
        #[arg(long, visible_alias = "id")]
        group_id: GroupId,
        /// SoracomBeam, OnyxGateway or SoracomKrypton.
        #[arg(long)]
        namespace: String,
        /// The list of {"key", "value"}: the text itself, @FILE, or @- for standard input.
        #[arg(long)]
        body: String,
        #[command(flatten)]
        common: Common,
    },
    /// Remove a key of a namespace.
    DeleteConfig {
        /// Which.
        #[arg(long, visible_alias = "id")]
        group_id: GroupId,
        /// Of which namespace.
        #[arg(long)]
        namespace: String,
        /// The key, as it is.
        #[arg(long, visible_alias = "name")]
        key: String,
        #[command(flatten)]
        common: Common,
    },
    /// Remove one that no subscriber is in.
    Remove {
        /// Which.
        id: GroupId,
        #[command(flatten)]
        common: Common,
    },
}

fn group_line(g: &Value) -> String {
    let name = g.get("tags").map(|t| word(t, "name")).unwrap_or_default();
    format!("{} {name}", word(g, "groupId")).trim_end().to_owned()
}

pub(in super::super) fn group(command: Group) -> anyhow::Result<ExitCode> {
    match command {
        Group::Create { id, name, common } => {
            let record = writing(&common.config, async |store, _| {
                let id = match id {
                    Some(id) => id,
                    None => groups::new_id()?,
                };
                Ok(groups::make(store, &id, &name).await?)
            })?;
            show(
                &common,
                &groups::shown(&record),
                &format!("created group {}", record.id),
            )
        }
        Group::List { common } => {
            let list = reading(&common.config, async |store, _| Ok(store.groups().await?))?;
            show_all(&common, list.map(|g| groups::shown(&g)), group_line)
        }
        Group::Show { id, common } => {
            let record = reading(&common.config, async |store, _| Ok(store.group(&id).await?))?;
            let record = record.ok_or_else(|| anyhow::anyhow!("there is no group {id}"))?;
            let shown = groups::shown(&record);
            show(&common, &shown, &serde_json::to_string_pretty(&shown)?)
        }
        Group::PutConfig {
            group_id,
            namespace,
            body,
            common,
        } => {
            let from = body
                .strip_prefix('@')
                .filter(|b| *b != "-")
                .unwrap_or("--body")
                .to_owned();
            let body = text(&body)?;
            let put = writing(&common.config, async |store, _| {
                Ok(groups::put(store, &group_id, &namespace, &body).await?)
            });
            let record = put.map_err(|e| anyhow::anyhow!("{from}: {}", crate::report::sentence(&e)))?;
            let shown = groups::shown(&record);
            let remarks = shown["remarks"].as_array().cloned().unwrap_or_default();
            let remarks: String = remarks
                .iter()
                .filter_map(Value::as_str)
                .map(|r| format!("\nWARNING {r}"))
                .collect();
            show(&common, &shown, &format!("configured group {group_id}{remarks}"))
        }
        Group::DeleteConfig {
            group_id,
            namespace,
            key,
            common,
        } => {
            let record = writing(&common.config, async |store, _| {
                Ok(store.delete_configuration(&group_id, &namespace, &key).await?)
            })?;
            show(
                &common,
                &groups::shown(&record),
                &format!("removed {namespace} {key:?} of group {group_id}"),
            )
        }
        Group::Remove { id, common } => {
            writing(&common.config, async |store, _| Ok(store.delete_group(&id).await?))?;
            show(
                &common,
                &json!({"removed": id.as_str()}),
                &format!("removed group {id}"),
            )
        }
    }
}
