//! Paths and queries, encoded.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

/// All but the unreserved characters of RFC 3986.
const RESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// A path with its query, to be built piece by piece.
#[derive(Clone, Debug)]
pub(crate) struct Path {
    text: String,
    has_query: bool,
}

impl Path {
    /// Begins with what needs no encoding, such as `/v1/health/service`.
    pub(crate) fn new(fixed: impl Into<String>) -> Self {
        Self { text: fixed.into(), has_query: false }
    }

    /// Adds a `/` and a segment. `.` and `..` would be resolved on the way, however they are encoded: whoever may be
    /// given them has to refuse them.
    #[cfg(any(test, feature = "consul", feature = "eureka"))]
    pub(crate) fn segment(mut self, segment: &str) -> Self {
        self.text.push('/');
        self.text.extend(utf8_percent_encode(segment, RESERVED));
        self
    }

    /// Adds what needs no encoding behind the segments, also after parameters were added.
    #[cfg(feature = "consul")]
    pub(crate) fn infix(mut self, fixed: &str) -> Self {
        let at = self.text.find('?').unwrap_or(self.text.len());
        self.text.insert_str(at, fixed);
        self
    }

    /// Adds a query parameter.
    pub(crate) fn query(mut self, key: &str, value: &str) -> Self {
        self.text.push(if std::mem::replace(&mut self.has_query, true) { '&' } else { '?' });
        self.text.extend(utf8_percent_encode(key, RESERVED));
        self.text.push('=');
        self.text.extend(utf8_percent_encode(value, RESERVED));
        self
    }

    /// Adds a query parameter if it has a value.
    pub(crate) fn maybe_query(self, key: &str, value: Option<&str>) -> Self {
        match value {
            Some(value) => self.query(key, value),
            None => self,
        }
    }

    /// Adds a parameter without a value, such as Consul's `stale`.
    #[cfg(any(test, feature = "consul"))]
    pub(crate) fn flag(mut self, key: &str) -> Self {
        self.text.push(if std::mem::replace(&mut self.has_query, true) { '&' } else { '?' });
        self.text.push_str(key);
        self
    }

    /// The pairs alone, without `?`, as the body of a form.
    #[cfg(any(test, feature = "nacos"))]
    pub(crate) fn form<'a>(pairs: impl IntoIterator<Item = (&'a str, &'a str)>) -> String {
        let path = pairs.into_iter().fold(Self::new(""), |path, (key, value)| path.query(key, value));
        path.text.trim_start_matches('?').to_owned()
    }
}

impl From<Path> for String {
    fn from(path: Path) -> Self {
        path.text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_reserved_is_encoded_everywhere() {
        let path = Path::new("/v1/health/service").segment("a/b c").flag("stale").query("ns", "x&y=ü");
        assert_eq!(String::from(path), "/v1/health/service/a%2Fb%20c?stale&ns=x%26y%3D%C3%BC");
        assert_eq!(Path::form([("a", "1"), ("b", "+")]), "a=1&b=%2B");
    }
}
