//! Damaged files put right by an export that has the stores beside each other.

use std::sync::Arc;

use super::{Mend, Mended};
use crate::export::{self, Export};
use crate::store::{BoxFuture, StorePath};

/// Puts good copies in the place of damaged files, wherever those are.
pub struct Copies {
    /// Its stores are those that are scrubbed.
    pub export: Arc<Export>,
}

impl Mend for Copies {
    fn restores(&self) -> bool {
        self.export.restores()
    }

    fn mend<'a>(&'a self, path: &'a StorePath, stores: &'a [usize]) -> BoxFuture<'a, Vec<Mended>> {
        let mended = |mended| match mended {
            export::Mended::Repaired { what, .. } => Mended::Repaired(format!("{what} written anew")),
            export::Mended::Left { reason } => Mended::Left(reason),
            // Others were faster, or it was never the store.
            export::Mended::Well => Mended::Repaired("it is well by now".to_owned()),
        };
        Box::pin(async move { self.export.repair_on(path, stores).await.into_iter().map(mended).collect() })
    }
}
