//! Versions as tools print them.

use std::fmt;

/// `major.minor.patch`, all that the checks compare.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Version {
    major: u32,
    minor: u32,
    patch: u32,
}

impl Version {
    /// A version from its parts.
    pub(crate) const fn new(major: u32, minor: u32, patch: u32) -> Self {
        Self { major, minor, patch }
    }

    /// The first `x.y` or `x.y.z` in a text such as `go1.26.8` or `etcd Version: 3.6.16`.
    pub(crate) fn find(text: &str) -> Option<Self> {
        text.split(|c: char| !c.is_ascii_digit() && c != '.').find_map(Self::parse)
    }

    fn parse(word: &str) -> Option<Self> {
        // A version at the end of a sentence carries the sentence's full stop.
        let mut parts = word.trim_matches('.').split('.');
        let major = parts.next()?.parse().ok()?;
        let minor = parts.next()?.parse().ok()?;
        let patch = match parts.next() {
            Some(patch) => patch.parse().ok()?,
            None => 0,
        };
        Some(Self { major, minor, patch })
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.major, self.minor, self.patch)
    }
}

#[cfg(test)]
mod tests {
    use super::Version;

    #[test]
    fn the_version_is_found_in_what_tools_print() {
        for (text, expected) in [
            ("go1.26.8", Version::new(1, 26, 8)),
            ("go1.27rc1", Version::new(1, 27, 0)),
            ("go version go1.26 linux/amd64", Version::new(1, 26, 0)),
            ("etcd Version: 3.6.16\nGit SHA: Not provided\nGo Version: go1.26.8", Version::new(3, 6, 16)),
            ("libprotoc 3.21.12", Version::new(3, 21, 12)),
            ("\tgo.etcd.io/etcd/server/v3 v3.5.35", Version::new(3, 5, 35)),
            ("needs Rust 1.88.", Version::new(1, 88, 0)),
        ] {
            assert_eq!(Version::find(text), Some(expected), "{text:?}");
        }
    }

    #[test]
    fn a_text_without_a_version_has_none() {
        for text in ["", "go", "devel", "v3", "...", "1..2"] {
            assert_eq!(Version::find(text), None, "{text:?}");
        }
    }

    #[test]
    fn versions_order_by_number_not_by_text() {
        assert!(Version::new(1, 9, 0) < Version::new(1, 26, 0));
        assert!(Version::new(1, 26, 0) <= Version::new(1, 26, 0));
    }
}
