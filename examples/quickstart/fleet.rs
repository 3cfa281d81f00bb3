//! What the story asks of the place it is told in.

use std::time::Duration;

use service_registry::Client;

use crate::Result;

/// The service of the story.
pub(crate) const SERVICE: &str = "orders";

/// A registry and the instances around it.
pub(crate) trait Fleet: Send + Sync {
    /// The registry, for the headline.
    fn registry(&self) -> String;

    /// How long anything may take to come true that the registry has to notice.
    fn soon(&self) -> Duration;

    /// A client for the callers.
    fn client(&self) -> impl Future<Output = Result<Client>> + Send;

    /// Starts an instance; done when it is registered.
    fn start(&mut self, name: &str) -> impl Future<Output = Result<()>> + Send;

    /// Ends an instance without a word to anybody.
    fn crash(&mut self, name: &str) -> impl Future<Output = Result<()>> + Send;

    /// Lets an instance leave cleanly; done when it has left.
    fn drain(&mut self, name: &str) -> impl Future<Output = Result<()>> + Send;

    /// Takes the registry away from the callers.
    fn registry_goes_away(&mut self) -> impl Future<Output = Result<()>> + Send;

    /// Throws away what the registry holds of this story.
    fn registry_forgets(&mut self) -> impl Future<Output = Result<()>> + Send;

    /// Gives the registry back.
    fn registry_comes_back(&mut self) -> impl Future<Output = Result<()>> + Send;

    /// How many instances the registry itself holds, beside any client's view.
    fn registered(&self) -> impl Future<Output = Result<usize>> + Send;
}
