//! The commands that work on a store: they open it as a gateway would, whether one is running or not, and do what the API does. A
//! running gateway sees the change at its next look, which is the next connect.

use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, bail};
use serde_json::{Value, json};
use zeroize::Zeroizing;

use super::ConfigArg;
use crate::clock::Clock;
use crate::gateway::Config;
use crate::gateway::admin::{BODY_MAX, PAGE_MAX, credentials, groups, subscribers, transfer};
use crate::gateway::config::{Source, StoreConfig};
use crate::gateway::credential::CredentialId;
use crate::gateway::group::GroupId;
use crate::gateway::store::{self, KeyPlace, Store, TokenChange};
use crate::gateway::subscriber::{Prefix, fingerprint};
use crate::identity::{Iccid, Imei, Imsi};
use crate::report::out;

/// What every one of these commands takes.
#[derive(Debug, clap::Args)]
pub(super) struct Common {
    #[command(flatten)]
    config: ConfigArg,
    /// JSON, as the API answers.
    #[arg(long)]
    json: bool,
}

/// What a subscriber is.
#[derive(Debug, clap::Args)]
pub(super) struct Facts {
    /// The modem; names may need it.
    #[arg(long)]
    imei: Option<Imei>,
    /// Only that modem may use the SIM: client ids must end in the IMEI.
    #[arg(long, num_args = 0..=1, default_missing_value = "true", value_name = "BOOL")]
    imei_lock: Option<bool>,
    /// The card, which SORACOM calls SIM id.
    #[arg(long, visible_alias = "sim-id")]
    iccid: Option<Iccid>,
    /// Its group; without one it cannot connect.
    #[arg(long, visible_alias = "group-id")]
    group: Option<GroupId>,
    /// The address or prefix it calls from.
    #[arg(long)]
    source: Option<Prefix>,
    /// SHA-256 of its certificate on the TLS listener.
    #[arg(long, value_name = "HEX")]
    certificate: Option<String>,
    /// For people.
    #[arg(long)]
    name: Option<String>,
    /// Whether it may connect.
    #[arg(long, value_name = "BOOL")]
    enabled: Option<bool>,
}

/// `onyx-gateway subscriber …`
#[derive(Debug, clap::Subcommand)]
pub(super) enum Subscriber {
    /// Add one.
    Add {
        /// Its SIM.
        imsi: Imsi,
        #[command(flatten)]
        facts: Facts,
        #[command(flatten)]
        common: Common,
    },
    /// Change one: what is not named stays.
    Set {
        /// Its SIM.
        imsi: Imsi,
        #[command(flatten)]
        facts: Facts,
        /// Take these away: imei, iccid, group, source, certificate, token.
        #[arg(long, value_delimiter = ',', value_name = "WHAT")]
        without: Vec<String>,
        #[command(flatten)]
        common: Common,
    },
    /// Show one.
    Show {
        /// Its SIM.
        imsi: Imsi,
        #[command(flatten)]
        common: Common,
    },
    /// List all, or those of a group.
    List {
        /// Of this group alone.
        #[arg(long)]
        group: Option<GroupId>,
        #[command(flatten)]
        common: Common,
    },
    /// Remove one.
    Remove {
        /// Its SIM.
        imsi: Imsi,
        #[command(flatten)]
        common: Common,
    },
}

/// `onyx-gateway group …`
#[derive(Debug, clap::Subcommand)]
pub(super) enum Group {
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

/// What a credential is made from.
#[derive(Debug, clap::Args)]
pub(super) struct Papers {
    /// Its id.
    #[arg(long, visible_alias = "id")]
    credentials_id: CredentialId,
    /// SORACOM's type; x509 is the one that is of use here.
    #[arg(long = "type", default_value = credentials::X509)]
    kind: String,
    /// SORACOM's body, {"type", "description", "credentials": {"key", "cert", "ca"}}: the text itself, @FILE, or @- for standard input.
    #[arg(long, conflicts_with_all = ["cert", "key", "ca", "description"], required_unless_present = "cert")]
    body: Option<String>,
    /// The certificate, then any intermediates: a PEM file.
    #[arg(long, requires = "key")]
    cert: Option<PathBuf>,
    /// Its private key: a PEM file.
    #[arg(long, requires = "cert")]
    key: Option<PathBuf>,
    /// Authorities of upstream, if they are private: a PEM file.
    #[arg(long, requires = "cert")]
    ca: Option<PathBuf>,
    /// For people.
    #[arg(long, default_value = "")]
    description: String,
}

/// `onyx-gateway credential …`
#[derive(Debug, clap::Subcommand)]
pub(super) enum Credential {
    /// Keep a new one.
    Create {
        #[command(flatten)]
        papers: Papers,
        #[command(flatten)]
        common: Common,
    },
    /// Put another in the place of one: used at each device's next connect.
    Update {
        #[command(flatten)]
        papers: Papers,
        #[command(flatten)]
        common: Common,
    },
    /// List all. Secrets are never shown.
    List {
        #[command(flatten)]
        common: Common,
    },
    /// Show one, without its secret.
    Show {
        /// Which.
        id: CredentialId,
        #[command(flatten)]
        common: Common,
    },
    /// Remove one.
    Remove {
        /// Which.
        id: CredentialId,
        #[command(flatten)]
        common: Common,
    },
}

/// `onyx-gateway token …`
#[derive(Debug, clap::Subcommand)]
pub(super) enum Token {
    /// Make a new token for a subscriber; it is shown once, and the old one ends.
    New {
        /// Its SIM.
        imsi: Imsi,
        #[command(flatten)]
        common: Common,
    },
}

/// `onyx-gateway import`
#[derive(Debug, clap::Args)]
pub(super) struct Import {
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
pub(super) struct Export {
    /// With secrets, sealed under --key-file.
    #[arg(long, requires = "key_file")]
    secrets: bool,
    /// The key file; made if it is not there. Carry it another way than the export.
    #[arg(long, requires = "secrets")]
    key_file: Option<PathBuf>,
    #[command(flatten)]
    config: ConfigArg,
}

/// `onyx-gateway store …`
#[derive(Debug, clap::Subcommand)]
pub(super) enum StoreCommand {
    /// Say which store it is and what is in it.
    Info {
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

/// Opens the store and does something with it.
fn with<T>(config: &ConfigArg, what: impl AsyncFnOnce(&Store, &Clock) -> anyhow::Result<T>) -> anyhow::Result<T> {
    let settings = settings(config)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let clock = Clock::new();
    let result = runtime.block_on(async {
        let store = Store::open(&settings, &clock).await?;
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

fn show_all(common: &Common, list: Vec<Value>, line: impl Fn(&Value) -> String) -> anyhow::Result<ExitCode> {
    let lines: Vec<String> = list.iter().map(line).collect();
    let lines = if lines.is_empty() {
        "there are none".to_owned()
    } else {
        lines.join("\n")
    };
    show(common, &Value::from(list), &lines)
}

fn word(value: &Value, key: &str) -> String {
    match value.get(key) {
        None | Some(Value::Null) => "-".to_owned(),
        Some(Value::String(text)) => text.clone(),
        Some(other) => other.to_string(),
    }
}

fn time(value: &Value, key: &str) -> String {
    let millis = value.get(key).and_then(Value::as_u64).filter(|m| *m > 0);
    millis.map_or("-".to_owned(), |m| {
        crate::clock::rfc3339(std::time::Duration::from_millis(m))
    })
}

fn subscriber_line(s: &Value) -> String {
    let name = s.get("tags").map(|t| word(t, "name")).unwrap_or_default();
    let known = match (word(s, "source"), s["hasToken"] == true) {
        (source, true) if source == "-" => "by token".to_owned(),
        (source, true) => format!("from {source} with token"),
        (source, false) => format!("from {source}"),
    };
    format!(
        "{} {} group {} {known} {name}",
        word(s, "imsi"),
        word(s, "status"),
        word(s, "groupId")
    )
    .trim_end()
    .to_owned()
}

fn group_line(g: &Value) -> String {
    let name = g.get("tags").map(|t| word(t, "name")).unwrap_or_default();
    format!("{} {name}", word(g, "groupId")).trim_end().to_owned()
}

fn credential_line(c: &Value) -> String {
    let (until, used) = (time(c, "notAfterDateTime"), time(c, "lastUsedDateTime"));
    let line = format!(
        "{} {} until {until} last used {used} {}",
        word(c, "credentialsId"),
        word(c, "type"),
        word(c, "description")
    );
    line.trim_end().to_owned()
}

impl Facts {
    fn into(self, record: &mut store::SubscriberRecord) -> anyhow::Result<()> {
        fn put<T>(slot: &mut Option<T>, value: Option<T>) {
            if value.is_some() {
                *slot = value;
            }
        }
        put(&mut record.imei, self.imei);
        put(&mut record.iccid, self.iccid);
        put(&mut record.group, self.group);
        put(&mut record.source, self.source);
        if let Some(hex) = self.certificate {
            let pin = fingerprint(&hex).map_err(|why| anyhow::anyhow!("--certificate {why}"))?;
            record.certificate = Some(pin);
        }
        record.imei_lock = self.imei_lock.unwrap_or(record.imei_lock);
        record.enabled = self.enabled.unwrap_or(record.enabled);
        if let Some(name) = self.name {
            record.name = name;
        }
        Ok(())
    }
}

pub(super) fn subscriber(command: Subscriber) -> anyhow::Result<ExitCode> {
    match command {
        Subscriber::Add { imsi, facts, common } => {
            let record = with(&common.config, async |store, _| {
                if store.subscriber(&imsi).await?.is_some() {
                    bail!("there is a subscriber {imsi} already: 'onyx-gateway subscriber set {imsi}' changes it");
                }
                let mut record = subscribers::blank(imsi.clone());
                facts.into(&mut record)?;
                subscribers::put(store, &record, TokenChange::Keep).await?;
                Ok(record)
            })?;
            let shown = subscribers::shown(&record);
            let mut line = format!("added {}", subscriber_line(&shown));
            if record.source.is_none() && record.certificate.is_none() {
                line += &format!(
                    "\nhow is it known? give it a --source, or 'onyx-gateway token new {}'",
                    record.imsi
                );
            }
            show(&common, &shown, &line)
        }
        Subscriber::Set {
            imsi,
            facts,
            without,
            common,
        } => {
            let record = with(&common.config, async |store, _| {
                let mut record = subscribers::get(store, &imsi).await?;
                let mut token = TokenChange::Keep;
                for what in &without {
                    match what.as_str() {
                        "imei" => record.imei = None,
                        "iccid" => record.iccid = None,
                        "group" => record.group = None,
                        "source" => record.source = None,
                        "certificate" => record.certificate = None,
                        "token" => token = TokenChange::Remove,
                        _ => bail!("--without takes imei, iccid, group, source, certificate and token, not {what:?}"),
                    }
                }
                facts.into(&mut record)?;
                subscribers::put(store, &record, token).await?;
                Ok(subscribers::get(store, &imsi).await?)
            })?;
            let shown = subscribers::shown(&record);
            show(&common, &shown, &format!("set {}", subscriber_line(&shown)))
        }
        Subscriber::Show { imsi, common } => {
            let record = with(&common.config, async |store, _| {
                Ok(subscribers::get(store, &imsi).await?)
            })?;
            let shown = subscribers::shown(&record);
            show(&common, &shown, &serde_json::to_string_pretty(&shown)?)
        }
        Subscriber::List { group, common } => {
            let list = with(&common.config, async |store, _| {
                let (mut all, mut after) = (Vec::new(), None);
                loop {
                    let list = store.subscribers(after.as_ref(), PAGE_MAX).await?;
                    after = list.last().map(|s| s.imsi.clone());
                    let fits = list.iter().filter(|s| group.is_none() || s.group == group);
                    all.extend(fits.map(subscribers::shown));
                    if list.len() < PAGE_MAX {
                        return Ok(all);
                    }
                }
            })?;
            show_all(&common, list, subscriber_line)
        }
        Subscriber::Remove { imsi, common } => {
            with(&common.config, async |store, _| {
                Ok(store.delete_subscriber(&imsi).await?)
            })?;
            show(
                &common,
                &json!({"removed": imsi.as_str()}),
                &format!("removed subscriber {imsi}"),
            )
        }
    }
}

pub(super) fn group(command: Group) -> anyhow::Result<ExitCode> {
    match command {
        Group::Create { id, name, common } => {
            let record = with(&common.config, async |store, _| {
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
            let list = with(&common.config, async |store, _| Ok(store.groups().await?))?;
            show_all(&common, list.iter().map(groups::shown).collect(), group_line)
        }
        Group::Show { id, common } => {
            let record = with(&common.config, async |store, _| Ok(store.group(&id).await?))?;
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
            let put = with(&common.config, async |store, _| {
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
            let record = with(&common.config, async |store, _| {
                Ok(store.delete_configuration(&group_id, &namespace, &key).await?)
            })?;
            show(
                &common,
                &groups::shown(&record),
                &format!("removed {namespace} {key:?} of group {group_id}"),
            )
        }
        Group::Remove { id, common } => {
            with(&common.config, async |store, _| Ok(store.delete_group(&id).await?))?;
            show(
                &common,
                &json!({"removed": id.as_str()}),
                &format!("removed group {id}"),
            )
        }
    }
}

impl Papers {
    fn draft(&self, clock: &Clock) -> anyhow::Result<credentials::Draft> {
        if self.kind != credentials::X509 {
            bail!(
                "--type {:?} is of no use to this gateway: it takes {:?}",
                self.kind,
                credentials::X509
            );
        }
        if let Some(body) = &self.body {
            let from = body.strip_prefix('@').filter(|b| *b != "-").unwrap_or("--body");
            return credentials::Draft::read(&text(body)?, clock).map_err(|e| anyhow::anyhow!("{from}: {e}"));
        }
        let pem = |path: &Option<PathBuf>| path.as_deref().map(|p| file(p, BODY_MAX as u64)).transpose();
        let (Some(cert), Some(key)) = (pem(&self.cert)?, pem(&self.key)?) else {
            bail!("give --body, or --cert and --key");
        };
        let ca = pem(&self.ca)?;
        let ca = ca.as_ref().map(|c| c.as_str());
        Ok(credentials::Draft::of(
            self.description.clone(),
            &cert,
            &key,
            ca,
            clock,
        )?)
    }

    fn put(self, common: &Common, new: bool) -> anyhow::Result<ExitCode> {
        let (summary, warnings) = with(&common.config, async |store, clock| {
            let draft = self.draft(clock)?;
            if !new && store.credential_version(&self.credentials_id).await?.is_none() {
                bail!(
                    "there is no credential {}: 'credential create' makes it",
                    self.credentials_id.as_str()
                );
            }
            let warnings: String = draft.warnings.iter().map(|w| format!("\nWARNING {w}")).collect();
            Ok((draft.put(store, &self.credentials_id, new).await?, warnings))
        })?;
        let shown = credentials::shown(&summary);
        let verb = if new { "created" } else { "updated" };
        show(common, &shown, &format!("{verb} {}{warnings}", credential_line(&shown)))
    }
}

pub(super) fn credential(command: Credential) -> anyhow::Result<ExitCode> {
    match command {
        Credential::Create { papers, common } => papers.put(&common, true),
        Credential::Update { papers, common } => papers.put(&common, false),
        Credential::List { common } => {
            let list = with(&common.config, async |store, _| {
                let (mut all, mut after) = (Vec::new(), None);
                loop {
                    let list = store.credentials(after.as_ref(), PAGE_MAX).await?;
                    after = list.last().map(|c| c.id.clone());
                    all.extend(list.iter().map(credentials::shown));
                    if list.len() < PAGE_MAX {
                        return Ok(all);
                    }
                }
            })?;
            show_all(&common, list, credential_line)
        }
        Credential::Show { id, common } => {
            let found = with(&common.config, async |store, _| Ok(store.credential(&id).await?))?;
            let found = found.ok_or_else(|| anyhow::anyhow!("there is no credential {}", id.as_str()))?;
            let shown = credentials::shown(&found.summary);
            show(&common, &shown, &credential_line(&shown))
        }
        Credential::Remove { id, common } => {
            with(&common.config, async |store, _| {
                Ok(store.delete_credential(&id).await?)
            })?;
            show(
                &common,
                &json!({"removed": id.as_str()}),
                &format!("removed credential {}", id.as_str()),
            )
        }
    }
}

pub(super) fn token(command: Token) -> anyhow::Result<ExitCode> {
    let Token::New { imsi, common } = command;
    let token = with(&common.config, async |store, _| {
        Ok(subscribers::new_token(store, &imsi).await?)
    })?;
    let line = format!(
        "{}\n(the MQTT password of {imsi}, with any user name; it is not shown again)",
        token.as_str()
    );
    show(&common, &json!({"imsi": imsi.as_str(), "token": token.as_str()}), &line)
}

pub(super) fn import(command: &Import) -> anyhow::Result<ExitCode> {
    let from = command.from.as_path();
    let key = command.key_file.as_deref().map(|path| {
        let key = KeyPlace::File(path.to_owned()).read()?;
        key.ok_or_else(|| anyhow::anyhow!("there is no key file {}", path.display()))
    });
    let key = key.transpose()?;
    let standard_input = from == Path::new("-");
    let is_toml = from.extension().is_some_and(|e| e == "toml");
    let (count, remarks) = with(&command.common.config, async |store, clock| {
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

pub(super) fn export(command: &Export) -> anyhow::Result<ExitCode> {
    let key = command
        .key_file
        .as_ref()
        .map(|path| KeyPlace::File(path.clone()).make())
        .transpose()?;
    let value = with(&command.config, async |store, _| {
        Ok(transfer::export(store, key.as_ref()).await?)
    })?;
    out(&format!("{}\n", serde_json::to_string_pretty(&value)?))?;
    Ok(ExitCode::SUCCESS)
}

pub(super) fn the_store(command: StoreCommand) -> anyhow::Result<ExitCode> {
    match command {
        StoreCommand::Info { common } => {
            let settings = settings(&common.config)?;
            let value = with(&common.config, async |store, _| {
                let snapshot = store.snapshot().await?;
                let mut credentials = 0;
                let mut after = None;
                loop {
                    let list = store.credentials(after.as_ref(), PAGE_MAX).await?;
                    after = list.last().map(|c| c.id.clone());
                    credentials += list.len();
                    if list.len() < PAGE_MAX {
                        break;
                    }
                }
                Ok(json!({
                    "database": format!("{:?}", settings.database),
                    "generation": snapshot.generation,
                    "subscribers": snapshot.subscribers.len(),
                    "groups": snapshot.groups.len(),
                    "credentials": credentials,
                    "broken": snapshot.broken.iter().map(|(id, why)| format!("group {id}: {why}")).chain(snapshot.damaged).collect::<Vec<_>>(),
                }))
            })?;
            let line = format!(
                "{}: {} subscribers, {} groups, {} credentials, change number {}",
                word(&value, "database"),
                value["subscribers"],
                value["groups"],
                value["credentials"],
                value["generation"]
            );
            show(&common, &value, &line)
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
