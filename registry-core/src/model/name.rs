//! Service names and namespaces: strict when created here, tolerant when read.

use std::{fmt, str::FromStr, sync::Arc};

use crate::{Error, ErrorKind};

/// Longest name that we create, in bytes.
const STRICT_MAX: usize = 255;
/// Longest name that is accepted from a registry or a dialect, in bytes.
const FOREIGN_MAX: usize = 512;

/// The logical name under which the instances of one service are published and found.
///
/// Strict names match `[A-Za-z0-9][A-Za-z0-9._-]*` without `..` and have at most 255 bytes, so that every
/// registry can carry them unescaped. Names that others wrote are read with [`ServiceName::foreign`].
///
/// ```
/// use registry_core::ServiceName;
///
/// let name: ServiceName = "orders".parse()?;
/// assert_eq!(name.as_str(), "orders");
/// assert!("orders/eu".parse::<ServiceName>().is_err());
/// # Ok::<(), registry_core::Error>(())
/// ```
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ServiceName(Arc<str>);

/// A scope inside one registry: two namespaces never see each other's services.
///
/// One or more strict names joined by `/`, at most 255 bytes; the default is `services`. A namespace becomes a
/// key prefix, a Consul namespace or a Nacos tenant, as the backend has it.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Namespace(Arc<str>);

impl ServiceName {
    /// Parses a name that we create.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidArgument`] if the name is empty, longer than 255 bytes, or holds anything but
    /// letters, digits, `.`, `_` and `-` after a leading letter or digit.
    pub fn new(name: impl AsRef<str>) -> Result<Self, Error> {
        let name = name.as_ref();
        strict("service name", name)?;
        Ok(Self(name.into()))
    }

    /// Accepts a name that a registry or a dialect uses: any UTF-8 of at most 512 bytes without control or
    /// bidirectional formatting characters.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidArgument`] if it is empty, too long, or holds a forbidden character.
    pub fn foreign(name: impl AsRef<str>) -> Result<Self, Error> {
        let name = name.as_ref();
        foreign("service name", name)?;
        Ok(Self(name.into()))
    }

    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

#[cfg(feature = "metrics")]
impl ServiceName {
    /// The name as shared text, for labels.
    pub(crate) fn to_shared(&self) -> Arc<str> {
        Arc::clone(&self.0)
    }
}

impl Namespace {
    /// Parses a namespace; leading and trailing slashes are ignored.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidArgument`] if a segment is not a strict name or the whole has more than 255 bytes.
    pub fn new(namespace: impl AsRef<str>) -> Result<Self, Error> {
        let namespace = namespace.as_ref().trim_matches('/');
        if namespace.len() > STRICT_MAX {
            return Err(invalid("namespace", namespace, "is longer than 255 bytes"));
        }
        for segment in namespace.split('/') {
            strict("namespace", segment)?;
        }
        Ok(Self(namespace.into()))
    }

    /// The namespace as text, without leading or trailing slash.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Default for Namespace {
    fn default() -> Self {
        Self("services".into())
    }
}

/// Checks the strict form shared by names, ids and namespace segments.
pub(super) fn strict(what: &str, text: &str) -> Result<(), Error> {
    if text.is_empty() {
        return Err(invalid(what, text, "is empty"));
    }
    if text.len() > STRICT_MAX {
        return Err(invalid(what, text, "is longer than 255 bytes"));
    }
    if !text.starts_with(|c: char| c.is_ascii_alphanumeric()) {
        return Err(invalid(what, text, "must start with a letter or a digit"));
    }
    if let Some(bad) = text.chars().find(|c| !c.is_ascii_alphanumeric() && !matches!(c, '.' | '_' | '-')) {
        return Err(invalid(
            what,
            text,
            &format!("holds {bad:?}; allowed are letters, digits, '.', '_' and '-'"),
        ));
    }
    if text.contains("..") {
        return Err(invalid(what, text, "holds '..'"));
    }
    Ok(())
}

/// Checks the tolerant form of names and ids that somebody else wrote.
pub(super) fn foreign(what: &str, text: &str) -> Result<(), Error> {
    if text.is_empty() {
        return Err(invalid(what, text, "is empty"));
    }
    if text.len() > FOREIGN_MAX {
        return Err(invalid(what, text, "is longer than 512 bytes"));
    }
    if let Some(bad) = deceptive(text) {
        return Err(invalid(what, text, &format!("holds the control character {bad:?}")));
    }
    Ok(())
}

/// Control characters, and the bidirectional ones that make a log line or a terminal lie (Unicode TR 9, TR 36).
pub(crate) fn is_deceptive(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{061C}' | '\u{200E}' | '\u{200F}' | '\u{202A}'..='\u{202E}' | '\u{2066}'..='\u{2069}')
}

/// The first deceptive character of a text. Nearly all that registries hold is printable ASCII, which has none.
pub(super) fn deceptive(text: &str) -> Option<char> {
    if text.bytes().all(|byte| matches!(byte, b' '..=b'~')) {
        return None;
    }
    text.chars().find(|c| is_deceptive(*c))
}

pub(super) fn invalid(what: &str, text: &str, why: &str) -> Error {
    // A hostile name must not fill the log of whoever prints the error.
    let shown: String = text.chars().take(64).collect();
    Error::new(ErrorKind::InvalidArgument, format!("{what} {shown:?} {why}"))
}

// === text conversions, the same for both ===

macro_rules! text {
    ($type:ident) => {
        impl FromStr for $type {
            type Err = Error;

            fn from_str(text: &str) -> Result<Self, Error> {
                Self::new(text)
            }
        }

        impl TryFrom<&str> for $type {
            type Error = Error;

            fn try_from(text: &str) -> Result<Self, Error> {
                Self::new(text)
            }
        }

        impl TryFrom<String> for $type {
            type Error = Error;

            fn try_from(text: String) -> Result<Self, Error> {
                Self::new(text)
            }
        }

        impl TryFrom<&String> for $type {
            type Error = Error;

            fn try_from(text: &String) -> Result<Self, Error> {
                Self::new(text)
            }
        }

        impl From<&$type> for $type {
            fn from(name: &$type) -> Self {
                name.clone()
            }
        }

        impl AsRef<str> for $type {
            fn as_ref(&self) -> &str {
                self.as_str()
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.as_str())
            }
        }

        impl fmt::Debug for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(self.as_str(), f)
            }
        }
    };
}
pub(super) use text;

text!(ServiceName);
text!(Namespace);
