//! Licence expressions (SPDX) against a list of accepted licences.

use std::collections::BTreeSet;

/// Whether the expression can be satisfied with accepted licences alone.
///
/// # Errors
///
/// If the expression is malformed; the text says at what.
pub(crate) fn is_satisfied(expression: &str, accepted: &BTreeSet<String>) -> Result<bool, String> {
    // Older manifests separate alternatives by a slash.
    let spaced = expression.replace('/', " OR ").replace('(', " ( ").replace(')', " ) ");
    let mut parser = Parser { words: spaced.split_whitespace().collect(), next: 0, accepted };
    let satisfied = parser.alternatives()?;
    match parser.peek() {
        None => Ok(satisfied),
        Some(word) => Err(format!("unexpected `{word}`")),
    }
}

struct Parser<'a> {
    words: Vec<&'a str>,
    next: usize,
    accepted: &'a BTreeSet<String>,
}

impl<'a> Parser<'a> {
    /// `a OR b OR …`
    fn alternatives(&mut self) -> Result<bool, String> {
        let mut satisfied = self.conjunction()?;
        while self.take("OR") {
            // Not short-circuited: the rest has to be well-formed too.
            satisfied |= self.conjunction()?;
        }
        Ok(satisfied)
    }

    /// `a AND b AND …`, which binds tighter
    fn conjunction(&mut self) -> Result<bool, String> {
        let mut satisfied = self.term()?;
        while self.take("AND") {
            satisfied &= self.term()?;
        }
        Ok(satisfied)
    }

    fn term(&mut self) -> Result<bool, String> {
        if self.take("(") {
            let satisfied = self.alternatives()?;
            return if self.take(")") {
                Ok(satisfied)
            } else {
                Err("a parenthesis is not closed".to_owned())
            };
        }
        let licence = self.identifier()?;
        if self.take("WITH") {
            let exception = self.identifier()?;
            return Ok(self.accepted.contains(&format!("{licence} WITH {exception}")));
        }
        Ok(self.accepted.contains(licence))
    }

    fn identifier(&mut self) -> Result<&'a str, String> {
        match self.peek() {
            None => Err("it ends where a licence should stand".to_owned()),
            Some(word @ ("AND" | "OR" | "WITH" | "(" | ")")) => {
                Err(format!("`{word}` where a licence should stand"))
            }
            Some(word) => {
                self.next += 1;
                Ok(word)
            }
        }
    }

    fn peek(&self) -> Option<&'a str> {
        self.words.get(self.next).copied()
    }

    fn take(&mut self, word: &str) -> bool {
        let found = self.peek() == Some(word);
        self.next += usize::from(found);
        found
    }
}

#[cfg(test)]
mod tests {
    use super::is_satisfied;

    fn check(expression: &str) -> Result<bool, String> {
        let accepted = ["MIT", "Apache-2.0", "ISC", "Apache-2.0 WITH LLVM-exception"];
        is_satisfied(expression, &accepted.into_iter().map(str::to_owned).collect())
    }

    #[test]
    fn expressions_of_accepted_licences_are_satisfied() {
        for expression in [
            "MIT",
            "MIT OR Apache-2.0",
            "MIT/Apache-2.0",
            "Apache-2.0 / MIT",
            "GPL-3.0 OR MIT",
            "ISC AND (Apache-2.0 OR GPL-3.0)",
            "Apache-2.0 WITH LLVM-exception",
            "GPL-2.0 AND GPL-3.0 OR MIT",
        ] {
            assert_eq!(check(expression), Ok(true), "{expression}");
        }
    }

    #[test]
    fn one_licence_that_is_not_accepted_spoils_a_conjunction() {
        for expression in
            ["GPL-3.0", "MIT AND GPL-3.0", "(MIT OR ISC) AND GPL-3.0", "MIT WITH LLVM-exception"]
        {
            assert_eq!(check(expression), Ok(false), "{expression}");
        }
    }

    #[test]
    fn malformed_expressions_are_refused() {
        for expression in ["", "MIT OR", "(MIT", "MIT)", "AND MIT", "MIT ISC", "Apache-2.0 WITH"] {
            assert!(check(expression).is_err(), "{expression:?}");
        }
    }
}
