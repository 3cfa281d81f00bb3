//! Text that must not be seen, and where it comes from.

use std::{fmt, time::Duration};

use async_trait::async_trait;
use zeroize::Zeroizing;

use crate::Error;

/// A password or token: wiped from memory on drop, never shown by `Debug` or `Display`, not serialisable.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Zeroizing<String>);

impl Secret {
    /// Wraps a secret.
    #[must_use]
    pub fn new(secret: impl Into<String>) -> Self {
        Self(Zeroizing::new(secret.into()))
    }

    /// The secret itself; the name makes each use easy to find in a review.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}

/// A user name with its secret, or a bare token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Credential {
    /// The user, where the registry knows users.
    pub user: Option<String>,
    /// The password or token.
    pub secret: Secret,
    /// How long it is valid from now; it is asked for again at 80 % of that, and whenever it is refused.
    pub expires_in: Option<Duration>,
}

impl Credential {
    /// What a longer life counts as, a year: a clock can't tell when one ends that never does.
    pub const LONGEST_LIFE: Duration = Duration::from_secs(365 * 24 * 60 * 60);

    /// How long from now the next one is to be asked for: 72 % to 88 % of its life, drawn anew each time, so that
    /// clients drift apart. `None` if it doesn't end.
    #[must_use]
    pub fn renew_after(&self) -> Option<Duration> {
        let share = 0.72 + 0.16 * fastrand::f64();
        self.expires_in.map(|life| life.min(Self::LONGEST_LIFE).mul_f64(share))
    }
}

/// Supplies the credential of a registry, for passwords and tokens that rotate.
///
/// Called at the start, at 80 % of the credential's life, and once after each refusal; never concurrently for one
/// registry, save with a dedicated keeper, whose connections have a credential of their own.
#[async_trait]
pub trait CredentialProvider: fmt::Debug + Send + Sync + 'static {
    /// The credential to use from now on.
    ///
    /// # Errors
    /// Any; the registry then counts as unreachable with this error and the call is repeated with backoff.
    async fn credential(&self) -> Result<Credential, Error>;
}

#[cfg(test)]
mod tests;
