//! `onyx-gateway credential`.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::bail;
use serde_json::{Value, json};

use super::{Common, all_of, file, reading, show, show_all, text, word, writing};
use crate::clock::Clock;
use crate::gateway::admin::{BODY_MAX, PAGE_MAX, credentials};
use crate::gateway::credential::CredentialId;

/// What a credential is made from.
#[derive(Debug, clap::Args)]
pub(in super::super) struct Papers {
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
pub(in super::super) enum Credential {
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

fn time(value: &Value, key: &str) -> String {
    let millis = value.get(key).and_then(Value::as_u64).filter(|m| *m > 0);
    millis.map_or("-".to_owned(), |m| {
        crate::clock::rfc3339(std::time::Duration::from_millis(m))
    })
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
        let (summary, warnings) = writing(&common.config, async |store, clock| {
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

pub(in super::super) fn credential(command: Credential) -> anyhow::Result<ExitCode> {
    match command {
        Credential::Create { papers, common } => papers.put(&common, true),
        Credential::Update { papers, common } => papers.put(&common, false),
        Credential::List { common } => {
            let list = reading(&common.config, async |store, _| {
                Ok(all_of(async |after| store.proven_credentials(after.as_deref(), PAGE_MAX).await).await?)
            })?;
            show_all(&common, list.map(|c| credentials::shown(&c)), credential_line)
        }
        Credential::Show { id, common } => {
            let found = reading(&common.config, async |store, _| Ok(store.credential(&id).await?))?;
            let found = found.ok_or_else(|| anyhow::anyhow!("there is no credential {}", id.as_str()))?;
            let shown = credentials::shown(&found.summary);
            show(&common, &shown, &credential_line(&shown))
        }
        Credential::Remove { id, common } => {
            writing(&common.config, async |store, _| {
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
