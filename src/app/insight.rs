//! What the monitor can ask: the export and its settings, in plain words.

use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use jiff::Timestamp;
use parking_lot::Mutex;

use super::stores::Stores;
use crate::carrier::CarrierKind;
use crate::config::Settings;
use crate::event::{Examined, FailedBlock, Insight, Overview, RulingPolicy, Survey, TrustedKey};
use crate::export::{BadBlock, Examination, Export};
use crate::sign::Listed;
use crate::store::StorePath;

/// The export that is watched.
pub(super) struct Watched {
    export: Arc<Export>,
    /// Without what the export is asked for each time.
    overview: Mutex<Overview>,
}

impl Watched {
    /// `export` as `settings` have it, over `stores`.
    pub(super) fn new(export: Arc<Export>, settings: &Settings, stores: &Stores) -> Self {
        let replicas = stores.replicas.iter().map(|store| store.describe());
        let carriers: Vec<_> = settings.carrier.iter().map(CarrierKind::to_string).collect();
        let overview = Overview {
            namespace: settings.namespace.clone(),
            stores: std::iter::once(stores.first.describe()).chain(replicas).collect(),
            accept: settings.accept.to_string(),
            carriers: carriers.join(", "),
            trust: settings.trust.display().to_string(),
            scrub_every: settings.scrub.0,
            repairs: settings.repair,
            measure: settings.measure.as_ref().map(|list| list.directory.display().to_string()),
            ..Overview::default()
        };
        Self { export, overview: Mutex::new(overview) }
    }

    /// Keys are taken from elsewhere now.
    pub(super) fn set_trust(&self, trust: &Path) {
        self.overview.lock().trust = trust.display().to_string();
    }
}

#[async_trait]
impl Insight for Watched {
    fn overview(&self) -> Overview {
        let keyring = self.export.keyring();
        let rules = self.export.rules();
        let now = Timestamp::now().as_second();
        Overview {
            keys: keyring.listed().into_iter().map(|listed| told(listed, now)).collect(),
            revoked: keyring.revoked().len(),
            policy: rules.map(|rules| RulingPolicy {
                title: rules.title(),
                permissive: rules.is_permissive(),
                rules: rules.policy().statements().len(),
            }),
            ..self.overview.lock().clone()
        }
    }

    async fn survey(&self, path: &[u8]) -> Option<Survey> {
        self.export.survey(path).await
    }

    async fn examine(&self, path: &[u8]) -> Result<Examined, String> {
        let path = StorePath::parse(path).map_err(|error| error.to_string())?;
        let examined = self.export.examine(&path, |_| ()).await.map_err(|error| error.to_string())?;
        Ok(match examined {
            Examination::Good { .. } => Examined::Blocks { failed: Vec::new(), count: 0 },
            Examination::Refused { cause, detail } => Examined::Refused { cause, detail },
            Examination::Damaged { blocks, count } => {
                let failed = blocks.into_iter().map(|BadBlock { cause, block, level, detail }| FailedBlock {
                    cause,
                    block,
                    level,
                    detail,
                });
                Examined::Blocks { failed: failed.collect(), count }
            }
        })
    }
}

fn told(listed: Listed<'_>, now: i64) -> TrustedKey {
    TrustedKey {
        standing: listed.standing(now).as_str(),
        id: listed.key.key_id().to_string(),
        name: listed.name.to_owned(),
        kind: listed.kind,
        formats: listed.formats.to_string(),
        paths: listed.limits.paths.as_ref().map(|paths| paths.texts().to_vec()).unwrap_or_default(),
        first: listed.window.0,
        last: listed.window.1,
        revoked_by: listed.revoked_by.map(str::to_owned),
    }
}
