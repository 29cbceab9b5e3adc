//! Subscribers, in the spirit of SORACOM's `Subscriber`: the same words where it has them.
//!
//! | key | meaning | SORACOM's |
//! |---|---|---|
//! | `imsi`, `iccid`, `groupId`, `tags.name` | as they say | yes |
//! | `status` | `active` or `inactive` | yes |
//! | `imeiLock` | `{"imei": …}`: only that modem may use the SIM | yes |
//! | `imei` | the modem, for names, without a lock | no |
//! | `source` | the address or prefix it calls from | no (`ipAddress` is given by SORACOM) |
//! | `hasToken` | whether it has a token; the token itself is shown once, when it is made | no |
//! | `certificate` | SHA-256 of its certificate on the TLS listener | no |
//! | `lastSeen` | `{"time", "gateway"}` | no (`sessionStatus`) |

use serde_json::{Value, json};
use zeroize::Zeroizing;

use super::{AdminError, millis, mistakes};
use crate::gateway::group::GroupId;
use crate::gateway::json::{Node, Notes, Object};
use crate::gateway::store::{Store, StoreError, SubscriberRecord, TokenChange};
use crate::gateway::subscriber::fingerprint;
use crate::identity::Imsi;

/// Random bytes in a token: 128 bits cannot be guessed.
const TOKEN_BYTES: usize = 16;

/// Random lower-case hexadecimal digits.
pub(super) fn random_hex<const BYTES: usize>() -> Result<Zeroizing<String>, AdminError> {
    use ring::rand::SecureRandom as _;
    let mut bytes = Zeroizing::new([0_u8; BYTES]);
    let got = ring::rand::SystemRandom::new().fill(bytes.as_mut());
    got.map_err(|_| AdminError::wrong("the operating system gives no random numbers"))?;
    Ok(Zeroizing::new(crate::digest::hex(bytes.as_ref()).to_ascii_lowercase()))
}

/// A subscriber of whom only the number is known.
#[must_use]
pub fn blank(imsi: Imsi) -> SubscriberRecord {
    SubscriberRecord {
        imsi,
        imei: None,
        imei_lock: false,
        iccid: None,
        group: None,
        enabled: true,
        source: None,
        has_token: false,
        certificate: None,
        name: String::new(),
        last_seen: None,
    }
}

/// One that is there.
///
/// # Errors
/// [`StoreError::Missing`] and its kin.
pub async fn get(store: &Store, imsi: &Imsi) -> Result<SubscriberRecord, AdminError> {
    let found = store.subscriber(imsi).await?;
    found.ok_or_else(|| StoreError::Missing(format!("subscriber {imsi}")).into())
}

/// Changes one that is there, in one transaction: nothing that another changes meanwhile is undone.
///
/// # Errors
/// What `how` says; those of [`put`].
pub async fn change(
    store: &Store,
    imsi: &Imsi,
    how: impl Fn(&mut SubscriberRecord) -> Result<TokenChange, AdminError> + Send + Sync + 'static,
) -> Result<SubscriberRecord, AdminError> {
    let changed = store.change_subscriber(imsi, move |record| {
        let token = how(record)?;
        sound(record)?;
        Ok(token)
    });
    changed.await.map_err(of_group)
}

/// Adds one that is not there yet.
///
/// # Errors
/// [`StoreError::Conflict`] when it is; those of [`put`].
pub async fn add(store: &Store, record: SubscriberRecord) -> Result<SubscriberRecord, AdminError> {
    sound(&record)?;
    let imsi = record.imsi.clone();
    let added = store.edit_subscriber(&imsi, move |old| match old {
        None => Ok((record.clone(), TokenChange::Keep)),
        Some(_) => Err(StoreError::Conflict(format!(
            "there is a subscriber {} already: 'onyx-gateway subscriber set {}' changes it",
            record.imsi, record.imsi
        ))),
    });
    Ok(added.await.map_err(of_group)?.0)
}

/// Makes one of a body, or changes it (see [`read_into`]). The answer is the subscriber, and whether it is new.
///
/// # Errors
/// Every mistake, with its place in the text; those of [`put`].
pub async fn put_body(
    store: &Store,
    imsi: &Imsi,
    body: Zeroizing<String>,
) -> Result<(SubscriberRecord, bool), AdminError> {
    let who = imsi.clone();
    let put = store.edit_subscriber(imsi, move |old| {
        let mut record = old.unwrap_or_else(|| blank(who.clone()));
        let token = read_into(&mut record, &body)?;
        sound(&record)?;
        Ok((record, token))
    });
    put.await.map_err(of_group)
}

/// What nobody but the operator can see is wrong.
fn sound(record: &SubscriberRecord) -> Result<(), AdminError> {
    if record.imei_lock && record.imei.is_none() {
        return Err(AdminError::wrong("imeiLock: which modem? give its IMEI"));
    }
    Ok(())
}

/// A group that is not there is a mistake in what was written, and not in what was asked for.
fn of_group(e: StoreError) -> AdminError {
    match e {
        StoreError::Missing(what) if what.starts_with("group ") => {
            AdminError::wrong(format!("groupId: there is no {what}"))
        }
        StoreError::Refused(why) => AdminError::Wrong(why),
        other => other.into(),
    }
}

/// Writes one as it is told, whatever was there: for imports.
///
/// # Errors
/// [`AdminError::Wrong`] when its group is not there, or its lock has no IMEI.
pub async fn put(store: &Store, record: &SubscriberRecord, token: TokenChange) -> Result<(), AdminError> {
    sound(record)?;
    store.put_subscriber(record, token).await.map_err(of_group)
}

/// Gives a subscriber a new token and returns it, for the only time.
///
/// # Errors
/// [`AdminError`].
pub async fn new_token(store: &Store, imsi: &Imsi) -> Result<Zeroizing<String>, AdminError> {
    let token = random_hex::<TOKEN_BYTES>()?;
    let bytes = Zeroizing::new(token.as_bytes().to_vec());
    change(store, imsi, move |_| Ok(TokenChange::Set(bytes.clone()))).await?;
    Ok(token)
}

/// A subscriber as JSON.
#[must_use]
pub fn shown(s: &SubscriberRecord) -> Value {
    let lock = s.imei.as_ref().filter(|_| s.imei_lock);
    json!({
        "imsi": s.imsi.as_str(),
        "iccid": s.iccid.as_ref().map(crate::identity::Iccid::as_str),
        "groupId": s.group.as_ref().map(GroupId::as_str),
        "status": if s.enabled { "active" } else { "inactive" },
        "imeiLock": lock.map(|imei| json!({"imei": imei.as_str()})),
        "imei": s.imei.as_ref().map(crate::identity::Imei::as_str),
        "source": s.source.map(|p| p.to_string()),
        "hasToken": s.has_token,
        "certificate": s.certificate.map(|f| crate::digest::hex(&f.0)),
        "tags": {"name": s.name},
        "lastSeen": s.last_seen.as_ref().map(|(at, gateway)| json!({"time": millis(*at), "gateway": gateway})),
    })
}

/// Reads a body into a record: keys that are not there stay as they are, `null` takes away.
///
/// # Errors
/// Every mistake, with its place in the text.
pub fn read_into(record: &mut SubscriberRecord, body: &str) -> Result<TokenChange, AdminError> {
    let notes = Notes::of_text(body);
    let mut token = TokenChange::Keep;
    if let Some(o) = notes.top("").and_then(|top| top.object()) {
        token = fill(record, o);
    }
    mistakes(&notes.done())?;
    Ok(token)
}

fn parsed<T>(o: &mut Object<'_, '_>, key: &'static str, slot: &mut Option<T>)
where
    T: std::str::FromStr,
    T::Err: std::fmt::Display,
{
    let Some(node) = o.get(key) else { return };
    if node.is_null() {
        *slot = None;
    } else if let Some(text) = node.text() {
        match text.parse() {
            Ok(value) => *slot = Some(value),
            Err(e) => node.mistake(format!("{e}")),
        }
    }
}

pub(super) fn fill(record: &mut SubscriberRecord, mut o: Object<'_, '_>) -> TokenChange {
    if let Some((text, node)) = o.text("imsi") {
        if text != record.imsi.as_str() {
            node.mistake("is not the IMSI of the path, and a subscriber's IMSI does not change");
        }
    }
    parsed(&mut o, "imei", &mut record.imei);
    parsed(&mut o, "iccid", &mut record.iccid);
    parsed(&mut o, "groupId", &mut record.group);
    parsed(&mut o, "source", &mut record.source);
    if let Some(node) = o.get("imeiLock") {
        lock(record, &node);
    }
    if let Some((status, node)) = o.text("status") {
        match status.as_str() {
            "active" => record.enabled = true,
            "inactive" => record.enabled = false,
            _ => node.mistake("is neither \"active\" nor \"inactive\""),
        }
    }
    match o.get("certificate") {
        Some(node) if node.is_null() => record.certificate = None,
        Some(node) => {
            if let Some(text) = node.text() {
                match fingerprint(&text) {
                    Ok(pin) => record.certificate = Some(pin),
                    Err(why) => node.mistake(why),
                }
            }
        }
        None => {}
    }
    if let Some(mut tags) = o.some("tags").and_then(|n| n.object()) {
        if let Some((name, _)) = tags.text("name") {
            record.name = name;
        }
        tags.finish();
    }
    let token = token(&mut o);
    // What a shown subscriber has and nobody can set.
    o.get("hasToken");
    o.get("lastSeen");
    o.finish();
    token
}

fn lock(record: &mut SubscriberRecord, node: &Node<'_, '_>) {
    if node.is_null() {
        record.imei_lock = false;
        return;
    }
    let Some(mut o) = node.object() else { return };
    record.imei_lock = true;
    parsed(&mut o, "imei", &mut record.imei);
    o.finish();
}

fn token(o: &mut Object<'_, '_>) -> TokenChange {
    use crate::gateway::subscriber::{TOKEN_MAX, TOKEN_MIN};
    match o.get("token") {
        None => TokenChange::Keep,
        Some(node) if node.is_null() => TokenChange::Remove,
        Some(node) => match node.text().map(|t| Zeroizing::new(t.into_bytes())) {
            Some(text) if (TOKEN_MIN..=TOKEN_MAX).contains(&text.len()) => TokenChange::Set(text),
            Some(_) => {
                node.mistake(format!("must have {TOKEN_MIN} to {TOKEN_MAX} bytes"));
                TokenChange::Keep
            }
            None => TokenChange::Keep,
        },
    }
}
