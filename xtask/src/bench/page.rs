//! The table in `docs/performance.md`, between two marks, and the chart beside it.

use std::fs;
use std::path::Path;

use super::chart;
use super::ledger::{Ledger, cells};
use crate::failure::{Failure, Result};

/// Writes both.
///
/// # Errors
///
/// If the page can't be read or written, or lacks its marks.
pub(super) fn write(root: &Path, ledger: &Ledger, machine: &str) -> Result<()> {
    let chart = root.join("docs").join("performance.svg");
    fs::write(&chart, chart::draw(ledger.lines())).map_err(|error| Failure::file("write", &chart, &error))?;
    replace_section(root, "bench", &section(ledger, machine))
}

/// Replaces what stands between `<!-- NAME: begin -->` and `<!-- NAME: end -->` in the page.
///
/// # Errors
///
/// If the page can't be read or written, or lacks these marks.
pub(crate) fn replace_section(root: &Path, name: &str, content: &str) -> Result<()> {
    let page = root.join("docs").join("performance.md");
    let text = fs::read_to_string(&page).map_err(|error| Failure::file("read", &page, &error))?;
    let replaced = replace(&text, name, content)
        .ok_or_else(|| Failure::new(format!("{} has no marks `{name}: begin` and `end`", page.display())))?;
    fs::write(&page, replaced).map_err(|error| Failure::file("write", &page, &error))?;
    println!("wrote the section `{name}` of {}", page.display());
    Ok(())
}

fn replace(text: &str, name: &str, content: &str) -> Option<String> {
    let [begin, end] = ["begin", "end"].map(|which| format!("<!-- {name}: {which} -->"));
    let (before, rest) = text.split_once(&begin)?;
    let (_, after) = rest.split_once(&end)?;
    Some(format!("{before}{begin}\n{}\n{end}{after}", content.trim_end()))
}

fn section(ledger: &Ledger, machine: &str) -> String {
    let mut text = format!("\nMeasured on {machine}. {}.\n\n", ledger.summary());
    text += "| id | what | measured | bound | gate | verdict |\n|---|---|---:|---|---|---|\n";
    for line in ledger.lines() {
        text += &format!("| {} |\n", cells(line).map(|cell| cell.replace('|', "\\|")).join(" | "));
    }
    for finding in ledger.missing() {
        text += &format!("| {finding} | not measured | | | | |\n");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::super::ledger::tests::complete;
    use super::{replace, section};

    #[test]
    fn a_section_is_replaced_and_the_rest_of_the_page_stays() {
        let page = "# Page\n<!-- bench: begin -->\nold\n<!-- bench: end -->\ntail <!-- other: begin -->\n";
        let written = replace(page, "bench", "new\n\n").expect("the marks are there");
        assert_eq!(
            written,
            "# Page\n<!-- bench: begin -->\nnew\n<!-- bench: end -->\ntail <!-- other: begin -->\n"
        );
        assert_eq!(replace(&written, "bench", "new").as_deref(), Some(written.as_str()));
        assert!(replace(page, "other", "x").is_none(), "it has no end");
    }

    #[test]
    fn the_section_has_a_row_for_every_bound() {
        let text = section(&complete(true), "a machine");
        assert!(text.contains("Measured on a machine. 28 hold"), "{text}");
        assert_eq!(text.lines().filter(|line| line.contains("| holds |")).count(), 28);
    }
}
