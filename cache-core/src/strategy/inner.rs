use std::sync::Arc;

use super::{CacheAside, ReadThrough, StaleWhileRevalidate};
use crate::engine::Engine;
use crate::{CacheStore, Observer};

/// A reading strategy, which a writing one can be built around: [`CacheAside`], [`ReadThrough`],
/// [`StaleWhileRevalidate`]. Nobody else implements it.
///
/// ```
/// use cache_core::{CacheStore, ReadStrategy, WriteThrough};
///
/// fn doubtful<R: ReadStrategy, W>(cache: &WriteThrough<R, W>) -> bool {
///     cache.doubted() > 0
/// }
/// ```
pub trait ReadStrategy: sealed::Inner + Send + Sync + 'static {}

impl<R: sealed::Inner + Send + Sync + 'static> ReadStrategy for R {}

pub(crate) mod sealed {
    use super::{Arc, CacheStore, Engine, Observer};

    /// What is inside of a reading strategy.
    pub trait Inner {
        type Value: Clone + Send + Sync + 'static;
        type Store: CacheStore<Value = Self::Value>;
        type Observer: Observer;

        fn engine(&self) -> EngineOf<'_, Self::Store, Self::Observer>;
    }

    /// An engine, whose type is nobody's business.
    #[allow(missing_debug_implementations, reason = "it can't be named")]
    pub struct EngineOf<'a, S: CacheStore, O>(pub(crate) &'a Arc<Engine<S, O>>);
}

impl<S: CacheStore, O: Observer> sealed::Inner for CacheAside<S, O> {
    type Value = S::Value;
    type Store = S;
    type Observer = O;

    fn engine(&self) -> sealed::EngineOf<'_, S, O> {
        sealed::EngineOf(&self.engine)
    }
}

impl<S: CacheStore, L: Send + Sync + 'static, O: Observer> sealed::Inner for ReadThrough<S, L, O> {
    type Value = S::Value;
    type Store = S;
    type Observer = O;

    fn engine(&self) -> sealed::EngineOf<'_, S, O> {
        sealed::EngineOf(&self.engine)
    }
}

impl<S: CacheStore, L: Send + Sync + 'static, O: Observer> sealed::Inner
    for StaleWhileRevalidate<S, L, O>
{
    type Value = S::Value;
    type Store = S;
    type Observer = O;

    fn engine(&self) -> sealed::EngineOf<'_, S, O> {
        self.inner.engine()
    }
}
