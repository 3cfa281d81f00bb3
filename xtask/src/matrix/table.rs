//! The matrix as text: for the terminal and for the documentation.

use std::fs;
use std::path::Path;

use super::measured::{Backend, Cell, Measured};
use super::rows::{FAULTS, Fault};
use crate::failure::{Failure, Result};

const BEGIN: &str = "<!-- matrix: written by `cargo xtask matrix --write` -->";
const END: &str = "<!-- matrix: end -->";

/// For the terminal: one line per field that ran, so that long figures need no columns.
pub(crate) fn print(measured: &Measured) -> String {
    let width = FAULTS.iter().map(|fault| fault.fault.chars().count()).max().unwrap_or(0);
    let mut text = format!("row  {:<width$}  backend  result\n", "fault");
    for fault in FAULTS {
        for backend in Backend::ALL {
            if let Some(result) = shown(&measured.cell(fault, backend)) {
                let line = format!(
                    "{:>3}  {:<width$}  {:<7}  {result}\n",
                    fault.number,
                    fault.fault,
                    backend.name()
                );
                text.push_str(&line);
            }
        }
    }
    text
}

/// Replaces the table between the marks of a document.
///
/// # Errors
///
/// If the file can't be read or written, or lacks the marks.
pub(crate) fn write(document: &Path, measured: &Measured) -> Result<()> {
    let text = fs::read_to_string(document).map_err(|error| Failure::file("read", document, &error))?;
    let replaced = replace(&text, &markdown(measured))
        .ok_or_else(|| Failure::new(format!("{} lacks the marks of the matrix", document.display())))?;
    fs::write(document, replaced).map_err(|error| Failure::file("write", document, &error))
}

fn replace(text: &str, table: &str) -> Option<String> {
    let (before, rest) = text.split_once(BEGIN)?;
    let (_, after) = rest.split_once(END)?;
    Some(format!("{before}{BEGIN}\n{table}{END}{after}"))
}

fn markdown(measured: &Measured) -> String {
    let names = Backend::ALL.map(Backend::name).join(" | ");
    let lines = "--|".repeat(Backend::ALL.len());
    let mut text = format!("| # | fault | must hold | made by | {names} |\n|--|--|--|--|{lines}\n");
    for fault in FAULTS {
        let cells = Backend::ALL.map(|backend| {
            let result = shown(&measured.cell(fault, backend)).unwrap_or_else(|| "–".to_owned());
            result.replace('|', "/")
        });
        let line = format!(
            "| {} | {} | {} | {} | {} |\n",
            fault.number,
            fault.fault,
            fault.holds,
            made_by(fault),
            cells.join(" | ")
        );
        text.push_str(&line);
    }
    text
}

fn made_by(fault: &Fault) -> String {
    match (fault.memory, fault.etcd) {
        (Some(memory), Some(etcd)) if memory != etcd => format!("{memory}; etcd: {etcd}"),
        (Some(how), _) | (None, Some(how)) => how.to_owned(),
        (None, None) => fault.consul.unwrap_or("–").to_owned(),
    }
}

fn shown(cell: &Cell) -> Option<String> {
    let with = |verdict: &str, details: &[String]| match details {
        [] => verdict.to_owned(),
        details => format!("{verdict}: {}", details.join("; ")),
    };
    match cell {
        Cell::Passed(figures) => Some(with("pass", figures)),
        Cell::Failed(tests) => Some(with("FAIL", tests)),
        Cell::Told(figures) => Some(figures.join("; ")),
        Cell::Missing => Some("NO TEST".to_owned()),
        Cell::NotMade | Cell::NotRun => None,
    }
}

#[cfg(test)]
mod tests {
    use super::{BEGIN, END, markdown, print, replace};
    use crate::matrix::measured::{Backend, Measured};
    use crate::tally::Tally;

    fn measured() -> Measured {
        let mut tally = Tally::default();
        tally.read("test memory::row_01_a ... ok");
        tally.read("test memory::row_02_a ... FAILED");
        let mut measured = Measured::default();
        measured.add_tests(&[Backend::Memory], &tally);
        measured
    }

    #[test]
    fn the_table_says_what_passed_what_failed_and_what_is_missing() {
        let text = print(&measured());
        let line = |start: &str| text.lines().find(|line| line.starts_with(start)).expect("the row is there");
        assert!(line("  1  killed").ends_with("memory   pass"), "{text}");
        assert!(line("  2  back").ends_with("memory   FAIL: memory::row_02_a"), "{text}");
        assert!(line("  3  frozen").ends_with("memory   NO TEST"), "{text}");
        assert!(!text.contains("  etcd  "), "it did not run: {text}");
    }

    #[test]
    fn only_what_is_between_the_marks_is_replaced() {
        let text = format!("before\n{BEGIN}\nold\n{END}\nafter");
        let new = replace(&text, "new\n").expect("the marks are there");
        assert_eq!(new, format!("before\n{BEGIN}\nnew\n{END}\nafter"));
        assert_eq!(replace("no marks", "new"), None);
    }

    #[test]
    fn the_document_has_one_line_per_row() {
        let table = markdown(&measured());
        let first = table.lines().nth(2).expect("a row");
        assert!(first.starts_with("| 1 | killed, back with its data |"), "{first}");
        assert!(first.ends_with("| pass | – | – | – | – | – | – |"), "{first}");
    }

    #[test]
    fn the_project_s_document_has_the_marks() {
        let document = include_str!("../../../docs/faults.md");
        assert!(replace(document, "").is_some());
    }
}
