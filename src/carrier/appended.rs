//! Evidence behind the data of the file itself; see [`Footer`]. Programs that know their own end, such
//! as executables and archives, run and open from the store as before.
//!
//! A file gets or loses its trailer by being written anew beside the old one and put in its place, with
//! its owner, mode, times and extended attributes. It is a new file then: see
//! [`super::Observed::matches`].

use std::sync::Arc;

use super::bundle::{self, Head};
use super::error::missing_or;
use super::footer::Footer;
use super::sidecar::read_head;
use super::tree::{FileTree, Runs, copy_tree, read_at};
use super::{
    Carrier, CarrierError, CarrierKind, Evidence, EvidenceWriter, OpenEvidence, Refusal, Sidecar, Stamp,
};
use crate::store::{Attr, Attributes, BoxFuture, Store, StoreFile, StorePath, StoreWriter};

const KIND: CarrierKind = CarrierKind::Appended;

/// Bytes of data copied at once.
const STEP: u64 = 1024 * 1024;

/// The files of one store that carry their evidence themselves.
#[derive(Clone)]
pub struct Appended {
    store: Arc<dyn Store>,
}

/// A file, and where its data end.
struct Source {
    file: Arc<dyn StoreFile>,
    attr: Attr,
    footer: Option<Footer>,
}

impl Source {
    fn data_size(&self) -> u64 {
        self.footer.map_or(self.attr.size, |footer| footer.data_size)
    }
}

impl Appended {
    /// The files of `store`.
    pub fn new(store: Arc<dyn Store>) -> Self {
        Self { store }
    }

    async fn source(&self, path: &StorePath) -> Result<Source, CarrierError> {
        let file = self.store.open(path).await.map_err(|error| missing_or(error, path.clone()))?;
        let attr = file.stat().await?;
        let footer = match attr.size.checked_sub(Footer::SIZE as u64) {
            Some(at) => {
                let tail = read_at(&*file, at, Footer::SIZE).await?;
                Footer::parse(&tail, attr.size)
                    .map_err(|source| CarrierError::Malformed { path: path.clone(), source })?
            }
            None => None,
        };
        Ok(Source { file, attr, footer })
    }

    /// What is going to be written anew: its trailer, whole or damaged, will be gone.
    async fn rewritable(&self, path: &StorePath) -> Result<Source, CarrierError> {
        let source = self.source(path).await?;
        match source.attr.nlink {
            0 | 1 => Ok(source),
            links => Err(CarrierError::refused(path, Refusal::HardLinks(links))),
        }
    }

    /// Puts the data of `path` without the trailer in its place, byte for byte what was signed.
    ///
    /// # Errors
    /// [`Refusal::NoTrailer`], [`Refusal::HardLinks`], [`Refusal::Changed`], and the store's.
    pub async fn strip(&self, path: &StorePath) -> Result<(), CarrierError> {
        let source = self.rewritable(path).await?;
        if source.footer.is_none() {
            return Err(CarrierError::refused(path, Refusal::NoTrailer));
        }
        let mut writer = self.store.create(path, &Sidecar::scratch()).await?;
        copy(&source, &mut *writer, path).await?;
        self.replace(path, &source, writer).await
    }

    /// The file `path` and the size of its data, for a copy of them.
    ///
    /// # Errors
    /// [`Refusal::NoTrailer`], and the store's.
    pub async fn stripped(&self, path: &StorePath) -> Result<(Arc<dyn StoreFile>, u64), CarrierError> {
        let source = self.source(path).await?;
        match source.footer {
            Some(footer) => Ok((source.file, footer.data_size)),
            None => Err(CarrierError::refused(path, Refusal::NoTrailer)),
        }
    }

    /// The file `path` and the size of its data, with a trailer or without.
    ///
    /// # Errors
    /// For a trailer that is damaged, and the store's.
    pub async fn data(&self, path: &StorePath) -> Result<(Arc<dyn StoreFile>, u64), CarrierError> {
        let source = self.source(path).await?;
        let size = source.data_size();
        Ok((source.file, size))
    }

    /// Puts what `writer` has written in the place of `source`, which must still be as it was.
    async fn replace(
        &self,
        path: &StorePath,
        source: &Source,
        mut writer: Box<dyn StoreWriter>,
    ) -> Result<(), CarrierError> {
        writer.set_attributes(&Attributes::of(&*source.file).await?).await?;
        writer.prepare().await?;
        // What a store remembers would hide what has come meanwhile, which it would then put this in the place of.
        self.store.forget(path);
        let before = Stamp::of(KIND, &source.attr);
        let (held, named) = (source.file.stat().await?, self.store.stat(path).await?);
        if [held, named].iter().any(|attr| Stamp::of(KIND, attr) != before) {
            return Err(CarrierError::refused(path, Refusal::Changed));
        }
        Ok(writer.commit().await?)
    }
}

/// Copies the data of `source`, and leaves holes where they are known to be.
async fn copy(source: &Source, writer: &mut dyn StoreWriter, path: &StorePath) -> Result<(), CarrierError> {
    let size = source.data_size();
    let mut at = 0;
    while at < size {
        let data = source.file.data_range(at, size).await?;
        let data = data.filter(|range| range.start >= at && range.start < range.end).unwrap_or(size..size);
        let end = data.end.min(size);
        at = data.start.min(size);
        while at < end {
            let len = usize::try_from((end - at).min(STEP)).unwrap_or(0);
            let bytes = read_at(&*source.file, at, len).await?;
            if bytes.len() != len {
                return Err(CarrierError::refused(path, Refusal::Changed));
            }
            writer.write_at(at, &bytes).await?;
            at += len as u64;
        }
    }
    // A hole at the end has its length from a byte behind it.
    if size > 0 && source.file.data_range(size - 1, size).await?.is_none() {
        writer.write_at(size - 1, &[0]).await?;
    }
    Ok(())
}

impl Carrier for Appended {
    fn kind(&self) -> CarrierKind {
        KIND
    }

    fn open<'a>(&'a self, path: &'a StorePath) -> BoxFuture<'a, Result<OpenEvidence, CarrierError>> {
        Box::pin(async move {
            let Source { file, attr, footer } = self.source(path).await?;
            let Some(footer) = footer else { return Err(CarrierError::Missing(path.clone())) };
            let head = read_head(&file, path, footer.data_size, footer.bundle_len).await?;
            if !head.evidence.is_signed() {
                return Err(CarrierError::Missing(path.clone()));
            }
            Ok(OpenEvidence {
                evidence: head.evidence,
                carrier: KIND,
                trailer: footer.trailer(),
                stamp: Stamp::of(KIND, &attr),
                head_bytes: footer.trailer().saturating_sub(head.tree_len),
                place: path.clone(),
                tree: Some(Arc::new(FileTree {
                    file,
                    place: path.clone(),
                    start: footer.data_size.saturating_add(head.tree_offset),
                    size: head.tree_len,
                })),
            })
        })
    }

    fn stamp<'a>(&'a self, path: &'a StorePath) -> BoxFuture<'a, Result<Stamp, CarrierError>> {
        Box::pin(async move {
            let attr = self.store.stat(path).await.map_err(|error| missing_or(error, path.clone()))?;
            Ok(Stamp::of(KIND, &attr))
        })
    }

    fn create<'a>(
        &'a self,
        path: &'a StorePath,
        tree_offset: u64,
    ) -> BoxFuture<'a, Result<Box<dyn EvidenceWriter>, CarrierError>> {
        Box::pin(async move {
            let source = self.rewritable(path).await?;
            let writer = self.store.create(path, &Sidecar::scratch()).await?;
            let trailer = Trailer::new(path, source.data_size(), tree_offset);
            let writer: Box<dyn EvidenceWriter> =
                Box::new(AppendedWriter { appended: self.clone(), source, writer, trailer });
            Ok(writer)
        })
    }

    fn update<'a>(
        &'a self,
        path: &'a StorePath,
        open: &'a OpenEvidence,
        evidence: &'a Evidence,
    ) -> BoxFuture<'a, Result<(), CarrierError>> {
        Box::pin(async move {
            let tree = open.tree.as_ref().ok_or_else(|| CarrierError::refused(path, Refusal::NoTree))?;
            let mut writer = self.create(path, bundle::tree_offset(evidence, 0)).await?;
            copy_tree(&**tree, &mut *writer).await?;
            writer.commit(evidence).await
        })
    }

    fn remove<'a>(&'a self, path: &'a StorePath) -> BoxFuture<'a, Result<(), CarrierError>> {
        Box::pin(self.strip(path))
    }
}

/// The trailer of a file that is being written, data and all.
pub struct Trailer {
    path: StorePath,
    data_size: u64,
    tree_offset: u64,
    runs: Runs,
}

impl Trailer {
    /// Behind `data_size` bytes of data of `path`; for `tree_offset` see [`bundle::tree_offset`].
    pub fn new(path: &StorePath, data_size: u64, tree_offset: u64) -> Self {
        Self { path: path.clone(), data_size, tree_offset, runs: Runs::default() }
    }

    fn base(&self) -> u64 {
        self.data_size.saturating_add(self.tree_offset)
    }

    /// [`EvidenceWriter::push`].
    pub fn push(&mut self, offset: u64, block: &[u8]) {
        self.runs.push(offset, block);
    }

    /// [`EvidenceWriter::flush`] into the file.
    ///
    /// # Errors
    /// The store's.
    pub async fn flush(&mut self, writer: &mut dyn StoreWriter) -> Result<(), CarrierError> {
        let base = self.base();
        Ok(self.runs.flush(writer, base).await?)
    }

    /// Writes all that is left, and the rest of the trailer.
    ///
    /// # Errors
    /// [`CarrierError::Malformed`] for evidence that no bundle can hold, and the store's.
    pub async fn finish(
        mut self,
        writer: &mut dyn StoreWriter,
        evidence: &Evidence,
    ) -> Result<(), CarrierError> {
        let (data_size, base, tree_len) = (self.data_size, self.base(), self.runs.size());
        let head = Head { evidence: evidence.clone(), tree_offset: self.tree_offset, tree_len };
        let encoded = head.encode().map_err(|source| CarrierError::Malformed { path: self.path, source })?;
        self.runs.finish(writer, base).await?;
        writer.write_at(data_size, &encoded).await?;
        let bundle_len = (encoded.len() as u64).saturating_add(tree_len);
        let footer = Footer { data_size, bundle_len };
        Ok(writer.write_at(data_size.saturating_add(bundle_len), &footer.encode()).await?)
    }
}

struct AppendedWriter {
    appended: Appended,
    source: Source,
    writer: Box<dyn StoreWriter>,
    trailer: Trailer,
}

impl AppendedWriter {
    async fn commit(self, evidence: &Evidence) -> Result<(), CarrierError> {
        let Self { appended, source, mut writer, trailer } = self;
        let path = trailer.path.clone();
        copy(&source, &mut *writer, &path).await?;
        trailer.finish(&mut *writer, evidence).await?;
        appended.replace(&path, &source, writer).await
    }
}

impl EvidenceWriter for AppendedWriter {
    fn push(&mut self, offset: u64, block: &[u8]) {
        self.trailer.push(offset, block);
    }

    fn flush(&mut self) -> BoxFuture<'_, Result<(), CarrierError>> {
        Box::pin(self.trailer.flush(&mut *self.writer))
    }

    fn commit<'a>(self: Box<Self>, evidence: &'a Evidence) -> BoxFuture<'a, Result<(), CarrierError>> {
        Box::pin((*self).commit(evidence))
    }
}
