//! One server for the tests of a process that run at the same time.

use std::sync::{Arc, Weak};

use tokio::sync::Mutex;

/// A place for a server that several tests use, each under names of its own.
///
/// It starts with the first test that asks and ends with the last one that holds it, so that nothing outlives the tests
/// (what stands in a `static` is never dropped). A test that hurts its server needs one of its own.
#[derive(Debug)]
pub struct Shared<T> {
    running: Mutex<Weak<T>>,
}

impl<T: Send + Sync> Shared<T> {
    /// Nothing runs yet; for a `static`.
    pub const fn new() -> Self {
        Self { running: Mutex::const_new(Weak::new()) }
    }

    /// The server, started by awaiting `start` if none runs. Others wait meanwhile.
    ///
    /// # Errors
    ///
    /// Those of `start`; the next test tries again.
    ///
    /// # Cancel safety
    ///
    /// A start that is cancelled is lost, and the next one begins anew.
    pub async fn get<E>(&self, start: impl Future<Output = Result<T, E>>) -> Result<Arc<T>, E> {
        let mut running = self.running.lock().await;
        if let Some(server) = running.upgrade() {
            return Ok(server);
        }
        let server = Arc::new(start.await?);
        *running = Arc::downgrade(&server);
        Ok(server)
    }
}

impl<T: Send + Sync> Default for Shared<T> {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::Shared;

    #[tokio::test]
    async fn a_server_lives_as_long_as_somebody_holds_it() {
        static PLACE: Shared<u32> = Shared::new();
        PLACE.get(async { Err::<u32, _>("no server") }).await.unwrap_err();
        let first = PLACE.get(async { Ok::<_, ()>(1) }).await.unwrap();
        let second = PLACE.get(async { Ok::<_, ()>(2) }).await.unwrap();
        assert_eq!((*first, *second), (1, 1));
        drop((first, second));
        assert_eq!(*PLACE.get(async { Ok::<_, ()>(3) }).await.unwrap(), 3);
    }
}
