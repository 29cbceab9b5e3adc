//! A whole store as one JSON text, and gateways in files on their way into a store.
//!
//! ```json
//! {"format": "onyx-gateway", "version": 1, "subscribers": [], "groups": [], "credentials": [], "sealed": "base64"}
//! ```
//!
//! Subscribers, groups and credentials are written as the API shows them: without secrets. With a key file, all secrets (credentials, and
//! the configurations of groups as they are) stand in `sealed`, under that key; only with the same file can they come in again. Tokens
//! are not in a store, only digests of them under the store's own key: they do not travel, and subscribers with a token need a new one.
//! Rows that cannot be read are named in `damaged`, and do not come along.
//!
//! An import is read and judged whole before anything is written; what is there under the same name is replaced.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use zeroize::Zeroizing;

use super::{AdminError, PAGE_MAX, credentials, groups, mistakes, subscribers};
use crate::clock::Clock;
use crate::gateway::book::Paths;
use crate::gateway::config::{FilesConfig, Rule};
use crate::gateway::credential::CredentialId;
use crate::gateway::group::{self, Group, GroupFile, GroupId, beam, own};
use crate::gateway::json::{Node, Notes};
use crate::gateway::store::{GroupRecord, Store, StoreKey, SubscriberRecord, TokenChange, parcel};
use crate::gateway::subscriber::Token;

/// What `format` says.
const FORMAT: &str = "onyx-gateway";
/// Largest export that is read, in bytes: some hundred thousand subscribers.
pub const EXPORT_MAX: u64 = 256 << 20;

type Configuration = BTreeMap<String, BTreeMap<String, Value>>;

/// What is to be written into a store.
#[derive(Debug, Default)]
pub struct Goods {
    subscribers: Vec<(SubscriberRecord, TokenChange)>,
    groups: Vec<GroupRecord>,
    credentials: Vec<(CredentialId, credentials::Draft)>,
    /// What did not come along, and other things worth knowing.
    pub remarks: Vec<String>,
}

/// How many came in.
#[derive(Debug, Clone, Copy, serde::Serialize)]
pub struct Count {
    /// Subscribers.
    pub subscribers: usize,
    /// Groups.
    pub groups: usize,
    /// Credentials.
    pub credentials: usize,
}

/// Everything as one JSON value.
///
/// # Errors
/// [`AdminError`].
pub async fn export(store: &Store, seal: Option<&StoreKey>) -> Result<Value, AdminError> {
    let mut damaged = Vec::new();
    let (mut all, mut after) = (Vec::new(), None);
    loop {
        let page = store.subscribers(after.as_deref(), PAGE_MAX).await?;
        all.extend(page.items.iter().map(subscribers::shown));
        damaged.extend(page.damaged);
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    let all_groups = store.groups().await?;
    damaged.extend(all_groups.damaged);
    let records = all_groups.items;
    let (mut shown, mut secrets) = (Vec::new(), serde_json::Map::new());
    loop {
        let page = store.proven_credentials(after.as_deref(), PAGE_MAX).await?;
        for c in &page.items {
            if seal.is_some() {
                if let Some(with) = store.credential(&c.id).await? {
                    secrets.insert(c.id.as_str().to_owned(), Value::from(with.secret.as_str()));
                }
            }
            shown.push(credentials::shown(c));
        }
        damaged.extend(page.damaged);
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    let mut out = json!({
        "format": FORMAT,
        "version": 1,
        "subscribers": all,
        "groups": records.iter().map(groups::shown).collect::<Vec<_>>(),
        "credentials": shown,
    });
    if let Some(map) = out.as_object_mut().filter(|_| !damaged.is_empty()) {
        map.insert("damaged".to_owned(), damaged.iter().map(super::damaged).collect());
    }
    if let (Some(key), Some(map)) = (seal, out.as_object_mut()) {
        let whole: BTreeMap<_, _> = records.iter().map(|g| (g.id.as_str(), &g.configuration)).collect();
        let plain = serde_json::to_vec(&json!({"groups": whole, "credentials": secrets}));
        let plain = Zeroizing::new(plain.map_err(|e| AdminError::wrong(e.to_string()))?);
        map.insert(
            "sealed".to_owned(),
            Value::from(STANDARD.encode(parcel::seal(key, &plain)?)),
        );
    }
    Ok(out)
}

#[derive(serde::Deserialize, Default)]
struct Secrets {
    groups: BTreeMap<String, Configuration>,
    credentials: BTreeMap<String, Zeroizing<String>>,
}

impl Goods {
    /// Reads an export.
    ///
    /// # Errors
    /// Every mistake, with its place; a `sealed` that does not open.
    pub fn of_export(text: &str, key: Option<&StoreKey>, clock: &Clock) -> Result<Self, AdminError> {
        let notes = Notes::of_text(text);
        let mut goods = Self::default();
        let mut described = BTreeMap::new();
        let mut sealed = None;
        if let Some(mut o) = notes.top("").and_then(|top| top.object()) {
            if o.text("format").is_none_or(|(text, _)| text != FORMAT) {
                o.mistake(format!(
                    "this is no export of a gateway: \"format\" is not \"{FORMAT}\""
                ));
            }
            if let Some(node) = o.some("version") {
                node.number(1..=1);
            }
            for item in o.some("subscribers").and_then(|n| n.list()).unwrap_or_default() {
                goods.subscribers.extend(subscriber(&item, &mut goods.remarks));
            }
            for item in o.some("groups").and_then(|n| n.list()).unwrap_or_default() {
                goods.groups.extend(group_of(&item));
            }
            for item in o.some("credentials").and_then(|n| n.list()).unwrap_or_default() {
                let Some(mut c) = item.object() else { continue };
                let text =
                    |o: &mut crate::gateway::json::Object<'_, '_>, key| o.text(key).map(|(t, _)| t).unwrap_or_default();
                described.insert(text(&mut c, "credentialsId"), text(&mut c, "description"));
            }
            for item in o.some("damaged").and_then(|n| n.list()).unwrap_or_default() {
                let id = item.value().map(|v| v.to_string()).unwrap_or_default();
                goods
                    .remarks
                    .push(format!("was damaged when it was exported, and is not here: {id}"));
            }
            sealed = o.text("sealed").map(|(text, _)| text);
            o.finish();
        }
        mistakes(&notes.done())?;
        let secrets = match (sealed, key) {
            (Some(text), Some(key)) => {
                let bytes = STANDARD
                    .decode(text)
                    .map_err(|e| AdminError::wrong(format!("sealed: {e}")))?;
                let plain = parcel::open(key, &bytes)?;
                serde_json::from_slice(&plain).map_err(|e| AdminError::wrong(format!("sealed: line {}", e.line())))?
            }
            (None, _) => Secrets::default(),
            (Some(_), None) => {
                let why = "the secrets are not read: they are sealed, give --key-file".to_owned();
                goods.remarks.push(why);
                Secrets::default()
            }
        };
        goods.add_secrets(secrets, &described, clock)?;
        goods.judge()?;
        Ok(goods)
    }

    fn add_secrets(
        &mut self,
        secrets: Secrets,
        described: &BTreeMap<String, String>,
        clock: &Clock,
    ) -> Result<(), AdminError> {
        for group in &mut self.groups {
            if let Some(whole) = secrets.groups.get(group.id.as_str()) {
                group.configuration.clone_from(whole);
            }
        }
        for (id, description) in described {
            let Some(secret) = secrets.credentials.get(id) else {
                self.remarks
                    .push(format!("credential {id} has no secret here: put it again"));
                continue;
            };
            let body = Zeroizing::new(format!(
                "{{\"type\":\"x509\",\"description\":{},\"credentials\":{}}}",
                Value::from(description.as_str()),
                secret.as_str()
            ));
            let draft = credentials::Draft::read(&body, clock);
            let draft = draft.map_err(|e| AdminError::wrong(format!("credential {id}: {e}")))?;
            self.credentials.push((id.parse().map_err(AdminError::Wrong)?, draft));
        }
        Ok(())
    }

    /// Every group's mistakes, and masks that stand where a secret was.
    fn judge(&mut self) -> Result<(), AdminError> {
        let mut why = Vec::new();
        for group in &mut self.groups {
            let masked: Vec<String> = group
                .configuration
                .iter_mut()
                .flat_map(|(namespace, keys)| {
                    let gone: Vec<String> = keys
                        .iter()
                        .filter(|(k, v)| k.contains(groups::MASK) || groups::has_mask(v))
                        .map(|(k, _)| k.clone())
                        .collect();
                    gone.iter().for_each(|k| {
                        keys.remove(k);
                    });
                    gone.into_iter()
                        .map(|k| format!("{namespace} {k:?}"))
                        .collect::<Vec<_>>()
                })
                .collect();
            for key in masked {
                let remark = format!("group {}: {key} has secrets that are not here: put it again", group.id);
                self.remarks.push(remark);
            }
            if let Err(e) = group::may_be_put(group) {
                why.push(format!("group {}:\n{e}", group.id));
            }
        }
        if why.is_empty() {
            Ok(())
        } else {
            Err(AdminError::Wrong(why.join("\n")))
        }
    }

    /// Reads a gateway in files: its groups, subscribers with their tokens, and its folder.
    ///
    /// # Errors
    /// Every mistake in any of them.
    pub fn of_files(files: &FilesConfig, clock: &Clock) -> Result<Self, AdminError> {
        let mut goods = Self::default();
        let mut why = Vec::new();
        for group in &files.groups {
            match of_group(group) {
                Ok(configuration) => goods.groups.push(record(&group.id, configuration)),
                Err(e) => why.push(format!("group {}: {e}", group.id)),
            }
        }
        for file in &files.group_files {
            match of_group_file(file) {
                Ok(configuration) => goods.groups.push(record(&file.id, configuration)),
                Err(e) => why.push(e),
            }
        }
        for rule in &files.subscribers {
            match of_rule(rule) {
                Ok(pair) => goods.subscribers.push(pair),
                Err(e) => why.push(e),
            }
        }
        match folder(files, clock) {
            Ok(list) => goods.credentials = list,
            Err(e) => why.extend(e),
        }
        if let Err(e) = goods.judge() {
            why.push(e.to_string());
        }
        if why.is_empty() {
            Ok(goods)
        } else {
            Err(AdminError::Wrong(why.join("\n")))
        }
    }

    /// Writes everything: groups first, because subscribers are in them.
    ///
    /// # Errors
    /// [`AdminError::Store`]; what was written before stays, and the import can be run again.
    pub async fn put(self, store: &Store) -> Result<Count, AdminError> {
        let count = Count {
            subscribers: self.subscribers.len(),
            groups: self.groups.len(),
            credentials: self.credentials.len(),
        };
        for group in self.groups {
            store.put_group(&group.id, &group.name).await?;
            for (namespace, keys) in group.configuration {
                let pairs: Vec<_> = keys.into_iter().collect();
                if !pairs.is_empty() {
                    let judge = std::sync::Arc::new(group::may_be_put);
                    store.put_configuration(&group.id, &namespace, pairs, judge).await?;
                }
            }
        }
        for (id, draft) in self.credentials {
            draft.put(store, &id, false).await?;
        }
        for (record, token) in self.subscribers {
            subscribers::put(store, &record, token).await?;
        }
        Ok(count)
    }
}

fn subscriber(item: &Node<'_, '_>, remarks: &mut Vec<String>) -> Option<(SubscriberRecord, TokenChange)> {
    let mut o = item.object()?;
    let (text, node) = o.text("imsi")?;
    let imsi = text.parse().map_err(|e| node.mistake(format!("{e}"))).ok()?;
    let mut record = subscribers::blank(imsi);
    if o.some("hasToken").is_some_and(|n| !n.is_off()) {
        remarks.push(format!(
            "subscriber {text} had a token, which does not travel: 'onyx-gateway token new {text}' makes one"
        ));
    }
    let token = subscribers::fill(&mut record, o);
    Some((record, token))
}

fn group_of(item: &Node<'_, '_>) -> Option<GroupRecord> {
    let mut o = item.object()?;
    let (text, node) = o.text("groupId")?;
    let id: GroupId = text.parse().map_err(|e: String| node.mistake(e)).ok()?;
    let name = o
        .some("tags")
        .and_then(|n| n.object()?.text("name"))
        .map(|(name, _)| name)
        .unwrap_or_default();
    let configuration = match o.some("configuration") {
        Some(node) => serde_json::from_value(node.value()?)
            .map_err(|_| node.mistake("must hold namespaces, each with keys and values"))
            .ok()?,
        None => Configuration::new(),
    };
    let mut made = record(&id, configuration);
    made.name = name;
    Some(made)
}

fn record(id: &GroupId, configuration: Configuration) -> GroupRecord {
    GroupRecord {
        id: id.clone(),
        name: id.as_str().to_owned(),
        configuration,
        created: std::time::Duration::ZERO,
        updated: std::time::Duration::ZERO,
    }
}

/// `[upstream]` and `[device]` in Beam's words and ours.
fn of_group(group: &Group) -> Result<Configuration, String> {
    let mut out = Configuration::new();
    let entry = beam::written(group);
    out.insert(
        beam::NAMESPACE.to_owned(),
        BTreeMap::from([(beam::MQTT.to_owned(), entry)]),
    );
    out.insert(own::NAMESPACE.to_owned(), own::written(&own::Own::of(group))?);
    Ok(out)
}

fn of_group_file(file: &GroupFile) -> Result<Configuration, String> {
    file.read()?;
    let text = std::fs::read_to_string(&file.path).map(Zeroizing::new);
    let text = text.map_err(|e| format!("{}: {e}", file.path.display()))?;
    let pairs = groups::pairs(beam::NAMESPACE, &text).map_err(|e| format!("{}: {e}", file.path.display()))?;
    let mut out = Configuration::from([(beam::NAMESPACE.to_owned(), pairs.into_iter().collect())]);
    let own = own::written(&file.own)?;
    if !own.is_empty() {
        out.insert(own::NAMESPACE.to_owned(), own);
    }
    Ok(out)
}

fn of_rule(rule: &Rule) -> Result<(SubscriberRecord, TokenChange), String> {
    let mut record = subscribers::blank(rule.subscriber.imsi.clone());
    record.imei.clone_from(&rule.subscriber.imei);
    record.iccid.clone_from(&rule.subscriber.iccid);
    record.group = Some(rule.group.clone());
    record.source = rule.source;
    record.enabled = rule.enabled;
    record.imei_lock = rule.imei_lock;
    record.certificate = rule.certificate;
    let token = match &rule.token_file {
        None => TokenChange::Keep,
        Some(path) => {
            let token = Token::read(path).map_err(|e| e.to_string())?;
            TokenChange::Set(Zeroizing::new(token.secret().to_vec()))
        }
    };
    Ok((record, token))
}

/// Every `<id>.key` of the folder with its certificate.
fn folder(files: &FilesConfig, clock: &Clock) -> Result<Vec<(CredentialId, credentials::Draft)>, Vec<String>> {
    let (mut list, mut why) = (Vec::new(), Vec::new());
    let names = match std::fs::read_dir(&files.folder) {
        Ok(names) => names,
        Err(_) if files.folder.as_os_str().is_empty() => return Ok(list),
        Err(e) => return Err(vec![format!("cannot read {}: {e}", files.folder.display())]),
    };
    for name in names.flatten().map(|e| e.file_name().to_string_lossy().into_owned()) {
        let Some(id) = name.strip_suffix(".key").and_then(|id| id.parse::<CredentialId>().ok()) else {
            continue;
        };
        let paths = Paths::of(&files.folder, &id);
        let read = |path: &std::path::Path| {
            let text = std::fs::read_to_string(path).map(Zeroizing::new);
            text.map_err(|e| format!("cannot read {}: {e}", path.display()))
        };
        let draft = (|| {
            let ca = paths.ca.exists().then(|| read(&paths.ca)).transpose()?;
            let (cert, key) = (read(&paths.certificate)?, read(&paths.key)?);
            let ca = ca.as_ref().map(|c| c.as_str());
            credentials::Draft::of(String::new(), &cert, &key, ca, clock)
                .map_err(|e| format!("credential {}: {e}", id.as_str()))
        })();
        match draft {
            Ok(draft) => list.push((id, draft)),
            Err(e) => why.push(e),
        }
    }
    list.sort_by(|a, b| a.0.cmp(&b.0));
    if why.is_empty() { Ok(list) } else { Err(why) }
}
