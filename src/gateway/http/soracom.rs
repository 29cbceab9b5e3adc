//! SORACOM's API for groups, credentials and subscribers, over the [store](crate::gateway::store): the requests of the guides' curl
//! commands and of `soracom` work with `--endpoint` (or the host) changed.
//!
//! | request | SORACOM's operation |
//! |---|---|
//! | `GET /v1/credentials`, `GET POST PUT DELETE /v1/credentials/{id}` | `listCredentials`, `createCredential` (201), `updateCredential`, `deleteCredential` (204); GET of one is ours |
//! | `GET POST /v1/groups`, `GET DELETE /v1/groups/{id}` | `listGroups`, `createGroup` (201), `getGroup`, `deleteGroup` (204) |
//! | `PUT /v1/groups/{id}/tags` | `putGroupTags`; the tag `name` alone |
//! | `GET /v1/groups/{id}/subscribers` | `listSubscribersInGroup` |
//! | `PUT DELETE /v1/groups/{id}/configuration/{namespace}` | `putConfigurationParameters`, `deleteConfigurationNamespace` (204) |
//! | `DELETE /v1/groups/{id}/configuration/{namespace}/{key}` | `deleteConfigurationParameter` (204) |
//! | `GET /v1/subscribers`, `GET /v1/subscribers/{imsi}` | `listSubscribers`, `getSubscriber` |
//! | `PUT DELETE /v1/subscribers/{imsi}` | ours: makes or changes one; removes one (204) |
//! | `POST /v1/subscribers/{imsi}/activate`, `deactivate`, `set_group`, `unset_group`, `set_imei_lock`, `unset_imei_lock` | the same |
//! | `POST DELETE /v1/subscribers/{imsi}/token` | ours: a new token, shown once; none from now on (204) |
//! | `POST /v1/gateway/reload` | ours: as SIGHUP |
//!
//! Lists come in pages: `limit` and `last_evaluated_key`, the next key in the header `x-soracom-next-key`, as at SORACOM. A row of
//! the database that cannot be read hides no other: it stands in the list as `{"imsi" (or "groupId", "credentialsId"): …, "damaged": why}`,
//! behind the others of its page, and the header `x-onyx-damaged` counts them.

use std::collections::HashMap;
use std::sync::Arc;

use axum::extract::{Path, Query, Request, State};
use axum::http::{HeaderName, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post, put};
use axum::{Json, Router};
use serde_json::{Value, json};
use zeroize::Zeroizing;

use super::App;
use super::error::ApiError;
use crate::gateway::admin::{self, BODY_MAX, PAGE_MAX, credentials, groups, subscribers};
use crate::gateway::credential::CredentialId;
use crate::gateway::group::GroupId;
use crate::gateway::json::Notes;
use crate::gateway::store::{Filter, GroupRecord, Named, Page, Store, SubscriberRecord, TokenChange};
use crate::identity::{Imei, Imsi, redact_digits};

/// Where the next page begins (SORACOM's API).
const NEXT_KEY: HeaderName = HeaderName::from_static("x-soracom-next-key");

/// How many rows of the page cannot be read (ours).
const DAMAGED: HeaderName = HeaderName::from_static("x-onyx-damaged");

type Answer = Result<Response, ApiError>;
type TheApp = State<Arc<App>>;
type Asked = Query<HashMap<String, String>>;

/// All of it; the token is looked at before.
pub(super) fn routes() -> Router<Arc<App>> {
    Router::new()
        .route("/v1/credentials", get(list_credentials))
        .route(
            "/v1/credentials/{id}",
            get(get_credential)
                .post(create_credential)
                .put(update_credential)
                .delete(delete_credential),
        )
        .route("/v1/groups", get(list_groups).post(create_group))
        .route("/v1/groups/{id}", get(get_group).delete(delete_group))
        .route("/v1/groups/{id}/tags", put(put_tags))
        .route("/v1/groups/{id}/subscribers", get(group_subscribers))
        .route(
            "/v1/groups/{id}/configuration/{namespace}",
            put(put_configuration).delete(delete_namespace),
        )
        .route(
            "/v1/groups/{id}/configuration/{namespace}/{key}",
            axum::routing::delete(delete_configuration),
        )
        .route("/v1/subscribers", get(list_subscribers))
        .route(
            "/v1/subscribers/{imsi}",
            get(get_subscriber).put(put_subscriber).delete(delete_subscriber),
        )
        .route("/v1/subscribers/{imsi}/{action}", post(act).delete(remove_token))
        .route("/v1/gateway/reload", post(reload))
}

/// A body of at most [`BODY_MAX`] bytes; UTF-8.
pub(super) async fn body(request: Request) -> Result<Zeroizing<String>, ApiError> {
    let bytes = axum::body::to_bytes(request.into_body(), BODY_MAX).await.map_err(|_| {
        let why = format!("the body cannot be read, or has more than {BODY_MAX} bytes");
        ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, "too_large", why)
    })?;
    let text = std::str::from_utf8(&bytes).map_err(|_| ApiError::bad_request("the body is not UTF-8"))?;
    Ok(Zeroizing::new(text.to_owned()))
}

fn store(app: &App) -> Result<&Arc<Store>, ApiError> {
    app.book.store().ok_or_else(|| {
        let why = "this gateway's subscribers, groups and credentials stand in gateway.toml and its folder: change them there and \
                   POST /v1/gateway/reload, or move them into a store with 'onyx-gateway import'";
        ApiError::new(StatusCode::CONFLICT, "in_files", why.to_owned())
    })
}

fn parsed<T: std::str::FromStr>(text: &str) -> Result<T, ApiError>
where
    T::Err: std::fmt::Display,
{
    text.parse().map_err(|e: T::Err| ApiError::bad_request(&e.to_string()))
}

/// A line for whoever asks later who did it.
fn did(what: &str, whom: &str) {
    tracing::info!("API: {what} {}", redact_digits(&crate::gateway::json::short(whom)));
}

fn page_size(asked: &HashMap<String, String>) -> Result<usize, ApiError> {
    match asked.get("limit").map(|l| l.parse::<usize>()) {
        None => Ok(PAGE_MAX),
        Some(Ok(n)) if (1..=PAGE_MAX).contains(&n) => Ok(n),
        Some(_) => Err(ApiError::bad_request(&format!("limit must be 1 to {PAGE_MAX}"))),
    }
}

/// Where the page begins. It is a key that a page gave, and may be a damaged row's: it is compared, and never read as what it should be.
fn last_key(asked: &HashMap<String, String>) -> Option<&str> {
    asked.get("last_evaluated_key").map(String::as_str)
}

/// A page. Rows that cannot be read stand behind the others, each with its key and why, and the header [`DAMAGED`] counts them.
fn page<T>(list: Page<T>, shown: impl Fn(&T) -> Value) -> Answer {
    let items = list.items.iter().map(shown);
    let all: Vec<Value> = items.chain(list.damaged.iter().map(admin::damaged)).collect();
    let mut answer = Json(all).into_response();
    if let Some(next) = list.next.and_then(|n| HeaderValue::from_str(&n).ok()) {
        answer.headers_mut().insert(NEXT_KEY, next);
    }
    if !list.damaged.is_empty() {
        answer.headers_mut().insert(DAMAGED, list.damaged.len().into());
    }
    Ok(answer)
}

async fn list_credentials(State(app): TheApp, Query(asked): Asked) -> Answer {
    let list = store(&app)?.proven_credentials(last_key(&asked), page_size(&asked)?);
    page(list.await?, credentials::shown)
}

async fn get_credential(State(app): TheApp, Path(id): Path<String>) -> Answer {
    let id: CredentialId = parsed(&id)?;
    let found = store(&app)?.credential(&id).await?;
    let found = found.ok_or_else(|| ApiError::missing(format!("credential {}", id.as_str())))?;
    Ok(Json(credentials::shown(&found.summary)).into_response())
}

async fn put_credential(app: &App, id: &str, request: Request, new: bool) -> Answer {
    let id: CredentialId = parsed(id)?;
    let store = store(app)?;
    let text = body(request).await?;
    if !new && store.credential_version(&id).await?.is_none() {
        return Err(ApiError::missing(format!(
            "credential {}: create it with POST",
            id.as_str()
        )));
    }
    let draft = credentials::Draft::read(&text, &app.clock)?;
    let warnings = draft.warnings.clone();
    let kept = draft.put(store, &id, new).await?;
    did(
        if new {
            "created credential"
        } else {
            "updated credential"
        },
        id.as_str(),
    );
    let mut value = credentials::shown(&kept);
    if let Some(map) = value.as_object_mut().filter(|_| !warnings.is_empty()) {
        map.insert("remarks".to_owned(), json!(warnings));
    }
    let status = if new { StatusCode::CREATED } else { StatusCode::OK };
    Ok((status, Json(value)).into_response())
}

async fn create_credential(State(app): TheApp, Path(id): Path<String>, request: Request) -> Answer {
    put_credential(&app, &id, request, true).await
}

async fn update_credential(State(app): TheApp, Path(id): Path<String>, request: Request) -> Answer {
    put_credential(&app, &id, request, false).await
}

async fn delete_credential(State(app): TheApp, Path(id): Path<String>) -> Answer {
    store(&app)?.delete_credential(&parsed(&id)?).await?;
    did("removed credential", &id);
    Ok(StatusCode::NO_CONTENT.into_response())
}

async fn list_groups(State(app): TheApp, Query(asked): Asked) -> Answer {
    let size = page_size(&asked)?;
    let after = last_key(&asked);
    let prefix = asked.get("tag_value_match_mode").is_some_and(|m| m == "prefix");
    let wanted = match (asked.get("tag_name").map(String::as_str), asked.get("tag_value")) {
        (None, _) => None,
        (Some(tag), Some(value)) => Some((tag, value)),
        (Some(_), None) => return Err(ApiError::bad_request("tag_name needs tag_value")),
    };
    let fits = |g: &GroupRecord| match wanted {
        None => true,
        Some(("name", value)) => g.name == *value || (prefix && g.name.starts_with(value.as_str())),
        Some(_) => false,
    };
    // There are a thousand at most, and their names are in no index.
    let mut list = store(&app)?.groups().await?;
    list.items
        .retain(|g| fits(g) && after.is_none_or(|a| g.id.as_str() > a));
    if after.is_some() || wanted.is_some() {
        // They stand on the first page of all groups.
        list.damaged.clear();
    }
    let more = list.items.len() > size;
    list.items.truncate(size);
    list.next = list.items.last().filter(|_| more).map(|g| g.id.as_str().to_owned());
    page(list, groups::shown)
}

async fn create_group(State(app): TheApp, request: Request) -> Answer {
    let store = store(&app)?;
    let record = groups::create(store, &body(request).await?).await?;
    did("created group", record.id.as_str());
    Ok((StatusCode::CREATED, Json(groups::shown(&record))).into_response())
}

async fn one_group(app: &App, id: &str) -> Result<GroupRecord, ApiError> {
    let id: GroupId = parsed(id)?;
    let found = store(app)?.group(&id).await?;
    found.ok_or_else(|| ApiError::missing(format!("group {id}")))
}

async fn get_group(State(app): TheApp, Path(id): Path<String>) -> Answer {
    Ok(Json(groups::shown(&one_group(&app, &id).await?)).into_response())
}

async fn delete_group(State(app): TheApp, Path(id): Path<String>) -> Answer {
    store(&app)?.delete_group(&parsed(&id)?).await?;
    did("removed group", &id);
    Ok(StatusCode::NO_CONTENT.into_response())
}

async fn put_tags(State(app): TheApp, Path(id): Path<String>, request: Request) -> Answer {
    let (store, id) = (store(&app)?, parsed(&id)?);
    let text = body(request).await?;
    let notes = Notes::of_text(&text);
    let mut name = None;
    for item in notes.top("").and_then(|top| top.list()).unwrap_or_default() {
        let Some(mut tag) = item.object() else { continue };
        match (tag.text("tagName"), tag.text("tagValue")) {
            (Some((tag, _)), Some((value, _))) if tag == "name" => name = Some(value),
            (Some((_, node)), _) => node.mistake("the tag \"name\" is kept, and no other"),
            _ => tag.mistake("write {\"tagName\": \"name\", \"tagValue\": \"…\"}"),
        }
        tag.finish();
    }
    admin::mistakes(&notes.done())?;
    let name = name.ok_or_else(|| ApiError::bad_request("write [{\"tagName\": \"name\", \"tagValue\": \"…\"}]"))?;
    let record = store.rename_group(&id, &name).await?;
    did("renamed group", record.id.as_str());
    Ok(Json(groups::shown(&record)).into_response())
}

async fn put_configuration(
    State(app): TheApp,
    Path((id, namespace)): Path<(String, String)>,
    request: Request,
) -> Answer {
    let id: GroupId = parsed(&id)?;
    let store = store(&app)?;
    let text = body(request).await?;
    let record = groups::put(store, &id, &namespace, &text).await?;
    did("configured group", id.as_str());
    Ok(Json(groups::shown(&record)).into_response())
}

async fn delete_namespace(State(app): TheApp, Path((id, namespace)): Path<(String, String)>) -> Answer {
    let id: GroupId = parsed(&id)?;
    store(&app)?.delete_namespace(&id, &namespace).await?;
    did("unconfigured group", id.as_str());
    Ok(StatusCode::NO_CONTENT.into_response())
}

async fn delete_configuration(
    State(app): TheApp,
    Path((id, namespace, key)): Path<(String, String, String)>,
) -> Answer {
    let id: GroupId = parsed(&id)?;
    store(&app)?.delete_configuration(&id, &namespace, &key).await?;
    did("unconfigured group", id.as_str());
    Ok(StatusCode::NO_CONTENT.into_response())
}

async fn group_subscribers(State(app): TheApp, Path(id): Path<String>, Query(asked): Asked) -> Answer {
    let wanted = Filter {
        group: Some(one_group(&app, &id).await?.id),
        ..Filter::default()
    };
    let list = store(&app)?.find_subscribers(&wanted, last_key(&asked), page_size(&asked)?);
    page(list.await?, subscribers::shown)
}

/// The states of SORACOM's `status_filter` that a subscriber here can be in: wanted or not, each.
fn states(filter: &str) -> (bool, bool) {
    let has = |word| filter.split('|').any(|w| w == word);
    (has("active"), has("inactive"))
}

async fn list_subscribers(State(app): TheApp, Query(asked): Asked) -> Answer {
    let (store, size) = (store(&app)?, page_size(&asked)?);
    let mut wanted = Filter::default();
    match asked.get("status_filter").map(|f| states(f)) {
        None | Some((true, true)) => {}
        Some((false, false)) => return page(Page::default(), subscribers::shown),
        Some((active, _)) => wanted.enabled = Some(active),
    }
    let begins = asked.get("tag_value_match_mode").is_some_and(|m| m == "prefix");
    wanted.name = match (asked.get("tag_name").map(String::as_str), asked.get("tag_value")) {
        (None, _) | (Some("name"), None) => None,
        (Some("name"), Some(value)) if begins => Some(Named::Begins(value.clone())),
        (Some("name"), Some(value)) => Some(Named::Is(value.clone())),
        (Some(_), _) => return page(Page::default(), subscribers::shown),
    };
    page(
        store.find_subscribers(&wanted, last_key(&asked), size).await?,
        subscribers::shown,
    )
}

async fn get_subscriber(State(app): TheApp, Path(imsi): Path<String>) -> Answer {
    let record = subscribers::get(store(&app)?, &parsed(&imsi)?).await?;
    Ok(Json(subscribers::shown(&record)).into_response())
}

async fn put_subscriber(State(app): TheApp, Path(imsi): Path<String>, request: Request) -> Answer {
    let imsi: Imsi = parsed(&imsi)?;
    let store = store(&app)?;
    let text = body(request).await?;
    let (record, new) = subscribers::put_body(store, &imsi, text).await?;
    did("put subscriber", imsi.as_str());
    let status = if new { StatusCode::CREATED } else { StatusCode::OK };
    Ok((status, Json(subscribers::shown(&record))).into_response())
}

async fn delete_subscriber(State(app): TheApp, Path(imsi): Path<String>) -> Answer {
    store(&app)?.delete_subscriber(&parsed(&imsi)?).await?;
    did("removed subscriber", &imsi);
    Ok(StatusCode::NO_CONTENT.into_response())
}

async fn act(State(app): TheApp, Path((imsi, action)): Path<(String, String)>, request: Request) -> Answer {
    let imsi: Imsi = parsed(&imsi)?;
    let store = store(&app)?;
    let text = body(request).await?;
    if action == "token" {
        let token = subscribers::new_token(store, &imsi).await?;
        did("made a token for", imsi.as_str());
        return Ok((
            StatusCode::CREATED,
            Json(json!({"imsi": imsi.as_str(), "token": token.as_str()})),
        )
            .into_response());
    }
    let change = Change::read(&action, &text)?;
    let changed = subscribers::change(store, &imsi, move |record| {
        change.make(record);
        Ok(TokenChange::Keep)
    });
    let record = changed.await?;
    did(&action, imsi.as_str());
    Ok(Json(subscribers::shown(&record)).into_response())
}

/// What an action does to a subscriber.
enum Change {
    Enabled(bool),
    Group(Option<GroupId>),
    Lock(Option<Imei>),
}

impl Change {
    fn read(action: &str, text: &str) -> Result<Self, ApiError> {
        Ok(match action {
            "activate" => Self::Enabled(true),
            "deactivate" => Self::Enabled(false),
            "unset_group" => Self::Group(None),
            "unset_imei_lock" => Self::Lock(None),
            "set_group" => Self::Group(Some(parsed(&field(text, "groupId")?)?)),
            "set_imei_lock" => Self::Lock(Some(parsed(&field(text, "imei")?)?)),
            _ => {
                let action = crate::gateway::json::short(action);
                return Err(ApiError::missing(format!("action {action:?}")));
            }
        })
    }

    fn make(&self, record: &mut SubscriberRecord) {
        match self {
            Self::Enabled(enabled) => record.enabled = *enabled,
            Self::Group(group) => record.group.clone_from(group),
            Self::Lock(imei) => {
                record.imei_lock = imei.is_some();
                if imei.is_some() {
                    record.imei.clone_from(imei);
                }
            }
        }
    }
}

/// The one text in a small body.
fn field(text: &str, key: &'static str) -> Result<String, ApiError> {
    let notes = Notes::of_text(text);
    let mut found = None;
    if let Some(mut o) = notes.top("").and_then(|top| top.object()) {
        found = o.text(key).map(|(text, _)| text);
        // SORACOM's clients may send the whole thing back.
        o.get("operatorId");
        o.finish();
    }
    admin::mistakes(&notes.done())?;
    found.ok_or_else(|| ApiError::bad_request(&format!("{key} is missing")))
}

async fn remove_token(State(app): TheApp, Path((imsi, action)): Path<(String, String)>) -> Answer {
    if action != "token" {
        return Err(ApiError::missing(format!(
            "{:?} to remove",
            crate::gateway::json::short(&action)
        )));
    }
    subscribers::change(store(&app)?, &parsed(&imsi)?, |_| Ok(TokenChange::Remove)).await?;
    did("removed the token of", &imsi);
    Ok(StatusCode::NO_CONTENT.into_response())
}

async fn reload(State(app): TheApp) -> Answer {
    match app.reload.now().await {
        Ok(message) => Ok(Json(json!({"message": message})).into_response()),
        Err(why) => Err(ApiError::new(StatusCode::CONFLICT, "reload_failed", why)),
    }
}
