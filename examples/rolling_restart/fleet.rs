//! Where the instances run.

use service_registry::Client;

use crate::{Result, instance::Left};

/// A registry and the instances around it.
pub(crate) trait Fleet: Send + Sync {
    /// The registry, for the headline.
    fn registry(&self) -> String;

    /// A client for the callers.
    fn client(&self) -> impl Future<Output = Result<Client>> + Send;

    /// Starts an instance; done when it serves and is registered.
    fn start(&mut self, name: &str) -> impl Future<Output = Result<()>> + Send;

    /// Lets instances leave, all at once; done when they have left.
    fn leave(&mut self, names: &[String]) -> impl Future<Output = Result<Vec<Left>>> + Send;
}
