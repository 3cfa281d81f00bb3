//! From a target to a file name that is legal, readable and distinct everywhere.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use super::format::Title;

/// Upper case is encoded too: some file systems don't tell cases apart.
const ENCODED: &AsciiSet = &{
    let mut set = NON_ALPHANUMERIC.remove(b'-').remove(b'_');
    let mut letter = b'A';
    while letter <= b'Z' {
        set = set.add(letter);
        letter += 1;
    }
    set
};

/// File systems allow 255 bytes; what is added for temporary and set-aside files needs room.
const LONGEST: usize = 200;

/// The file name of a target.
pub(super) fn of(title: &Title) -> String {
    let full = utf8_percent_encode(&title.text(), ENCODED).to_string();
    if full.len() <= LONGEST {
        return format!("{full}.view");
    }
    // Cut ones are told apart by a hash, and by the full title in the file. All of it is ASCII.
    format!("{}~{:016x}.view", &full[..LONGEST], fnv1a(full.as_bytes()))
}

/// The 64-bit FNV-1a hash (Fowler, Noll, Vo; RFC 9923): stable over releases, unlike the standard library's.
fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{ServiceName, Target};

    fn name(service: &str, qualifiers: &[(&str, &str)]) -> String {
        let target = qualifiers
            .iter()
            .fold(Target::new(ServiceName::foreign(service).unwrap()), |target, (key, value)| {
                target.with_qualifier(key, value).unwrap()
            });
        of(&Title::new("etcd/services", &target))
    }

    #[test]
    fn a_hostile_service_name_stays_one_harmless_file_name() {
        let name = name("../../etc/passwd", &[]);
        assert!(!name.contains('/') && !name.starts_with('.'), "{name}");
    }

    #[test]
    fn services_that_differ_in_case_or_qualifiers_have_different_files_everywhere() {
        let names = [
            name("orders", &[]),
            name("Orders", &[]),
            name("orders", &[("dc", "a")]),
            name("orders", &[("dc", "b")]),
            name("orders&dc=a", &[]),
        ];
        let distinct: std::collections::HashSet<String> = names.iter().map(|n| n.to_lowercase()).collect();
        assert_eq!(distinct.len(), names.len(), "{names:?}");
    }

    #[test]
    fn long_names_are_cut_and_told_apart() {
        let (one, other) = (name(&"x".repeat(500), &[]), name(&format!("{}y", "x".repeat(499)), &[]));
        assert!(one.len() <= 230 && one != other);
    }
}
