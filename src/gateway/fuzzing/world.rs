//! What stands behind the API while it is fuzzed: a store in SQLite with two groups, two subscribers and a credential, whose secrets are made anew by
//! each process, so that no input can have them. What an input has changed is put back after it: nothing grows, and the next finds what
//! this one found.

use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::Arc;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use tokio::runtime::Runtime;
use zeroize::Zeroizing;

use super::asked::Marks;
use crate::clock::Clock;
use crate::gateway::admin::{credentials, groups, subscribers};
use crate::gateway::book::Book;
use crate::gateway::group::beam;
use crate::gateway::http::App;
use crate::gateway::http::auth::{Gate, Keys, SESSION};
use crate::gateway::listener::http::BODY_MAX;
use crate::gateway::store::{PAGE_MAX, Store};
use crate::gateway::{Config, Status, reload};

/// The configuration, in a folder of its own.
const CONFIG: &str = "[listen]\naddress = '127.0.0.1:0'\n[store]\nfile = 'store.db'\nkey_file = 'store.key'\n\
                      [api]\naddress = '127.0.0.1:0'\ntoken_file = 'api.token'\nhosts = ['gw.example']\n";

/// The API with what is behind it.
pub(super) struct World {
    pub(super) runtime: Runtime,
    pub(super) router: Router,
    pub(super) store: Arc<Store>,
    pub(super) book: Arc<Book>,
    pub(super) marks: Marks,
    /// What no answer has in it, whatever is asked.
    pub(super) secrets: Vec<Vec<u8>>,
    gate: Arc<Gate>,
    config: Config,
    base: Base,
}

/// What is put into the store at first, and again.
struct Base {
    beam: String,
    credential: String,
    subscriber: String,
}

fn random() -> String {
    format!("{:016x}{:016x}", fastrand::u64(..), fastrand::u64(..))
}

/// A certificate and its key.
fn pair() -> (String, String) {
    let key = rcgen::KeyPair::generate().unwrap();
    let params = rcgen::CertificateParams::new(vec!["295012345678901".to_owned()]).unwrap();
    (params.self_signed(&key).unwrap().pem(), key.serialize_pem())
}

/// As it stands within quotes in JSON.
fn quoted(text: &str) -> Vec<u8> {
    text.replace('\n', "\\n").into_bytes()
}

/// A line of a key that is nobody else's.
fn middle(pem: &str) -> Vec<u8> {
    pem.lines().nth(2).unwrap().as_bytes().to_vec()
}

impl World {
    /// In a folder that is there and empty.
    pub(super) fn new(folder: &Path) -> Self {
        let token = random();
        let mut options = std::fs::OpenOptions::new();
        let options = options.write(true).create_new(true).mode(0o600);
        let mut file = options.open(folder.join("api.token")).unwrap();
        file.write_all(token.as_bytes()).unwrap();
        let config = Config::from_text(&folder.join("gateway.toml"), CONFIG).unwrap();
        let clock = Clock::new();
        let mut builder = tokio::runtime::Builder::new_current_thread();
        let runtime = builder.enable_all().build().unwrap();
        let book = Arc::new(runtime.block_on(Book::open(&config, &clock)).unwrap());
        let gate = Arc::new(Gate::open(config.api.as_ref().unwrap(), &clock).unwrap());
        let listening = config.listen.address;
        let (ask, mut asked) = reload::channel();
        let app = Arc::new(App {
            book: book.clone(),
            status: Arc::new(Status::new(clock.clone(), listening, "fuzzed".to_owned(), 0)),
            reload: ask,
            clock,
        });
        // What a reload does to the book; there are no doors to change.
        let (read, again) = (book.clone(), config.clone());
        runtime.spawn(async move {
            while let Some(answer) = asked.next().await {
                let done = read.reload(&again).await;
                let _ = answer.send(done.map(|()| "read again".to_owned()).map_err(|e| e.to_string()));
            }
        });
        let ((cert, key), (other_cert, other_key)) = (pair(), pair());
        let (password, subscriber) = (random(), random());
        let base = Base {
            beam: serde_json::json!([{"key": beam::MQTT, "value": {
                "enabled": true, "destination": "mqtts://h.example:8883", "username": "u", "password": password,
                "useClientCert": true, "clientCerts": {"default": {"$credentialsId": "c"}},
            }}])
            .to_string(),
            credential: serde_json::json!({"type": "x509", "credentials": {"cert": cert, "key": key}}).to_string(),
            subscriber: serde_json::json!({"groupId": "g", "token": subscriber, "imei": "123456789011111"}).to_string(),
        };
        let session = gate.session(SESSION).unwrap();
        let world = Self {
            router: crate::gateway::http::router(app, gate.clone()).layer(DefaultBodyLimit::max(BODY_MAX)),
            store: book.store().unwrap().clone(),
            book,
            marks: Marks(vec![
                ("@TOKEN@", token.into_bytes()),
                ("@SESSION@", session.into_bytes()),
                ("@PASSWORD@", random().into_bytes()),
                ("@KEY@", quoted(&other_key)),
                ("@CERT@", quoted(&other_cert)),
                ("@KEY-LINE@", middle(&other_key)),
            ]),
            secrets: vec![password.into_bytes(), subscriber.into_bytes(), middle(&key)],
            runtime,
            gate,
            config,
            base,
        };
        world.runtime.block_on(world.fill());
        world
    }

    async fn fill(&self) {
        let (store, base) = (&self.store, &self.base);
        let draft = credentials::Draft::read(&base.credential, store.clock()).unwrap();
        draft.put(store, &"c".parse().unwrap(), true).await.unwrap();
        for group in ["g", "h"] {
            groups::make(store, &group.parse().unwrap(), "base").await.unwrap();
        }
        let g = "g".parse().unwrap();
        groups::put(store, &g, beam::NAMESPACE, &base.beam).await.unwrap();
        for (imsi, body) in [("295012345678901", base.subscriber.as_str()), ("295012345678902", "{}")] {
            let body = Zeroizing::new(body.to_owned());
            let imsi = imsi.parse().unwrap();
            subscribers::put_body(store, &imsi, body).await.unwrap();
        }
    }

    /// Puts back what an input has changed, once all of it has been read.
    pub(super) async fn put_back(&self) {
        let store = &self.store;
        let there = store.snapshot().await.unwrap();
        assert!(there.damaged.is_empty(), "{:?}", there.damaged);
        assert!(there.broken.is_empty(), "{:?}", there.broken);
        let view = self.book.view().await;
        assert_eq!(view.directory.len(), there.subscribers.len());
        for (subscriber, _) in &there.subscribers {
            store.delete_subscriber(&subscriber.imsi).await.unwrap();
        }
        for group in &there.groups {
            store.delete_group(&group.id).await.unwrap();
        }
        let credentials = store.proven_credentials(None, PAGE_MAX).await.unwrap();
        assert!(credentials.damaged.is_empty(), "{:?}", credentials.damaged);
        for credential in &credentials.items {
            store.delete_credential(&credential.id).await.unwrap();
        }
        self.fill().await;
    }

    /// Nobody has guessed yet.
    pub(super) fn forget_guesses(&self) {
        let keys = Keys::read(self.config.api.as_ref().unwrap());
        self.gate.change(keys.unwrap());
    }
}
