//! Good copies on other stores, by an export that has those stores as replicas.

use std::sync::Arc;

use super::{Mend, Mended};
use crate::export::{self, Examination, Export};
use crate::store::{BoxFuture, StorePath};

/// Finds good copies, and puts them in the place of damaged files where it may.
pub struct Copies {
    /// Its first store is the one that is scrubbed.
    pub export: Arc<Export>,
    /// Whether anything is written.
    pub repair: bool,
}

impl Copies {
    async fn repair(&self, path: &StorePath) -> Mended {
        match self.export.repair(path).await.into_iter().next() {
            Some(export::Mended::Repaired { what, .. }) => Mended::Repaired(format!("{what} written anew")),
            Some(export::Mended::Left { reason }) => Mended::Left(reason),
            // Others were faster, or it was never the store.
            Some(export::Mended::Well) => Mended::Left("it is well by now".to_owned()),
            None => Mended::Left(String::new()),
        }
    }

    async fn find(&self, path: &StorePath) -> Mended {
        for (number, name) in self.export.stores().into_iter().enumerate().skip(1) {
            if let Ok(Examination::Good { .. }) = self.export.examine_on(number, path, |_| ()).await {
                return Mended::Left(format!("a good copy is on {name}"));
            }
        }
        Mended::Left("no replica has a good copy".to_owned())
    }
}

impl Mend for Copies {
    fn mend<'a>(&'a self, path: &'a StorePath) -> BoxFuture<'a, Mended> {
        Box::pin(async move { if self.repair { self.repair(path).await } else { self.find(path).await } })
    }
}
