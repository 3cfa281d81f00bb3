//! Which services there are: only where the registry can tell.

use std::{fmt, pin::Pin};

use async_trait::async_trait;
use futures_core::Stream;

use crate::{Error, model::ServiceName};

/// A registry that can list its services.
#[async_trait]
pub trait Catalogue: fmt::Debug + Send + Sync + 'static {
    /// The names of the services that have at least one instance, sorted.
    ///
    /// # Errors
    /// What kept the registry from answering.
    async fn services(&self) -> Result<Vec<ServiceName>, Error>;

    /// Opens one session that yields the complete sorted list at first and after each change. Like a watch of
    /// instances it ends on its first failure.
    fn watch_services(&self) -> CatalogueStream;
}

/// One session of complete lists of service names.
pub type CatalogueStream = Pin<Box<dyn Stream<Item = Result<Vec<ServiceName>, Error>> + Send>>;
