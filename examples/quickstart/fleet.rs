//! What the story asks of the place it is told in.

use service_registry::Client;

use crate::Result;

/// The service of the story.
pub(crate) const SERVICE: &str = "orders";

/// A registry and the instances around it.
pub(crate) trait Fleet {
    /// The registry, for the headline.
    fn registry(&self) -> String;

    /// A client for the callers.
    async fn client(&self) -> Result<Client>;

    /// Starts an instance; done when it is registered.
    async fn start(&mut self, name: &str) -> Result<()>;

    /// Ends an instance without a word to anybody.
    async fn crash(&mut self, name: &str) -> Result<()>;

    /// Lets an instance leave cleanly; done when it has left.
    async fn drain(&mut self, name: &str) -> Result<()>;

    /// Takes the registry away from the callers.
    async fn registry_goes_away(&mut self) -> Result<()>;

    /// Throws away what the registry holds of this story.
    async fn registry_forgets(&mut self) -> Result<()>;

    /// Gives the registry back.
    async fn registry_comes_back(&mut self) -> Result<()>;

    /// How many instances the registry itself holds, beside any client's view.
    async fn registered(&self) -> Result<usize>;
}
