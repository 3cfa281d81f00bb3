//! White space, which is less to JSON than to others: a form feed, say, is none.

const SPACE: [char; 4] = [' ', '\t', '\n', '\r'];

/// What is left of a text behind white space.
#[inline]
pub(crate) fn trim_start(text: &str) -> &str {
    text.trim_start_matches(SPACE)
}

/// What stands between white space.
#[cfg(any(feature = "consul", feature = "eureka"))]
pub(crate) fn trim(bytes: &[u8]) -> &[u8] {
    let is_solid = |byte: &u8| !matches!(byte, b' ' | b'\t' | b'\n' | b'\r');
    let from = bytes.iter().position(is_solid).unwrap_or(bytes.len());
    let to = bytes.iter().rposition(is_solid).map_or(from, |last| last + 1);
    &bytes[from..to]
}

#[cfg(all(test, any(feature = "consul", feature = "eureka")))]
mod tests {
    use super::*;

    #[test]
    fn what_json_calls_white_space_is_trimmed_and_nothing_else() {
        for (text, left, between) in [
            ("", "", ""),
            (" \t\n\r", "", ""),
            (" \t\n\r[ ]\r\n\t ", "[ ]\r\n\t ", "[ ]"),
            ("\u{c} [] \u{c}", "\u{c} [] \u{c}", "\u{c} [] \u{c}"),
            (" \u{b}\u{a0} ", "\u{b}\u{a0} ", "\u{b}\u{a0}"),
        ] {
            assert_eq!((trim_start(text), trim(text.as_bytes())), (left, between.as_bytes()), "{text:?}");
        }
    }
}
