//! Where the output of commands goes.

/// Shown as it comes, or held until it is shown in one piece: of two steps that run at the same time each keeps its
/// output together.
#[derive(Debug)]
pub(crate) enum Output {
    /// On the terminal at once.
    Shown,
    /// Here, for later.
    Held(String),
}

impl Output {
    /// Nothing yet, for later.
    pub(crate) const fn held() -> Self {
        Self::Held(String::new())
    }

    /// One more line.
    pub(crate) fn line(&mut self, line: &str) {
        match self {
            Self::Shown => println!("{line}"),
            Self::Held(text) => {
                text.push_str(line);
                text.push('\n');
            }
        }
    }

    /// Shows what was held.
    pub(crate) fn show(self) {
        if let Self::Held(text) = self {
            print!("{text}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Output;

    #[test]
    fn what_is_held_is_kept_line_by_line() {
        let mut output = Output::held();
        output.line("$ one");
        output.line("two");
        assert!(matches!(output, Output::Held(text) if text == "$ one\ntwo\n"));
    }
}
