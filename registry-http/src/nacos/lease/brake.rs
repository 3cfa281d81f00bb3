//! The end of a batch whose server asks for less.

use std::sync::{Mutex, MutexGuard, PoisonError};

use registry_core::{Error, ErrorKind};

/// Ends a batch when a server asks for less: what hasn't begun would only be refused, and keep it busy.
#[derive(Debug, Default)]
pub(super) struct Brake(Mutex<Option<Error>>);

impl Brake {
    pub(super) fn feel(&self, error: &Error) {
        if error.kind() == ErrorKind::RateLimited {
            self.lock().get_or_insert_with(|| error.clone());
        }
    }

    pub(super) fn is_on(&self) -> Option<Error> {
        self.lock().clone()
    }

    fn lock(&self) -> MutexGuard<'_, Option<Error>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
