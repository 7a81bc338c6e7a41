//! Carriers in the order in which they are tried.

use std::sync::Arc;

use super::{Carrier, CarrierError, CarrierKind, OpenEvidence, Stamp};
use crate::store::StorePath;

/// An ordered list of carriers. A clone is the same list.
#[derive(Clone)]
pub struct Carriers {
    list: Arc<[Arc<dyn Carrier>]>,
}

impl Carriers {
    /// Tries `list` in its order.
    pub fn new(list: Vec<Arc<dyn Carrier>>) -> Self {
        Self { list: list.into() }
    }

    /// The first of a kind.
    pub fn get(&self, kind: CarrierKind) -> Option<&Arc<dyn Carrier>> {
        self.list.iter().find(|carrier| carrier.kind() == kind)
    }

    /// The kinds, in order.
    pub fn kinds(&self) -> impl Iterator<Item = CarrierKind> + '_ {
        self.list.iter().map(|carrier| carrier.kind())
    }

    /// The evidence of `path` in the first carrier that has any which is whole.
    ///
    /// # Errors
    /// [`CarrierError::Malformed`] of the first that is, where no other has evidence;
    /// [`CarrierError::Missing`] where none has; whatever else a carrier says on the way.
    pub async fn open(&self, path: &StorePath) -> Result<OpenEvidence, CarrierError> {
        let mut worst = None;
        for carrier in self.list.iter() {
            match carrier.open(path).await {
                Err(error @ CarrierError::Malformed { .. }) => match worst {
                    Some(CarrierError::Malformed { .. }) => {}
                    _ => worst = Some(error),
                },
                Err(error) if error.is_missing() => worst = worst.or(Some(error)),
                answer => return answer,
            }
        }
        Err(worst.unwrap_or_else(|| CarrierError::Missing(path.clone())))
    }

    /// The state of the evidence of `path` in the carrier of this kind.
    ///
    /// # Errors
    /// Those of [`Carrier::stamp`], and [`CarrierError::Missing`] where the list has no such carrier.
    pub async fn stamp_of(&self, kind: CarrierKind, path: &StorePath) -> Result<Stamp, CarrierError> {
        match self.get(kind) {
            Some(carrier) => carrier.stamp(path).await,
            None => Err(CarrierError::Missing(path.clone())),
        }
    }
}
