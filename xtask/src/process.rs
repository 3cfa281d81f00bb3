//! Running other programs.
//!
//! Every command is printed before it runs, so that a failed step can be repeated by hand, and none gets a standard
//! input: nothing may wait for a terminal.

mod within;

use std::env;
use std::ffi::OsStr;
use std::io::{self, BufRead, BufReader, PipeReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

pub(crate) use self::within::run_within;
use crate::failure::{Failure, Result};
use crate::output::Output;

/// The cargo that runs us, so that a toolchain chosen on the command line is kept.
pub(crate) fn cargo(root: &Path) -> Command {
    let program = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    in_workspace(Command::new(program), root)
}

/// The cargo of another toolchain, which has to be installed.
pub(crate) fn cargo_of(toolchain: &str, root: &Path) -> Command {
    let mut command = in_workspace(Command::new("rustup"), root);
    command.args(["run", toolchain, "cargo"]);
    command
}

/// Takes away the variables that `cargo run` set for this program's own package: build scripts watch some of them, and
/// would run again each time cargo is called alternately from here and from a shell.
fn in_workspace(mut command: Command, root: &Path) -> Command {
    command.current_dir(root);
    for (name, _) in env::vars_os() {
        let of_our_package = name
            .to_str()
            .is_some_and(|name| name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_"));
        if of_our_package {
            command.env_remove(name);
        }
    }
    command
}

/// Runs a command whose output goes straight to the terminal.
///
/// # Errors
///
/// If it cannot be started or does not exit with 0.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    println!("$ {}", line_of(command));
    let status = command.stdin(Stdio::null()).status().map_err(|error| unstartable(command, &error))?;
    if status.success() { Ok(()) } else { Err(Failure::new(format!("`{}`: {status}", line_of(command)))) }
}

/// Runs a command quietly and returns its standard output.
///
/// # Errors
///
/// If it cannot be started or does not exit with 0; its standard error is in the message then.
pub(crate) fn capture(command: &mut Command) -> Result<String> {
    let output = command.stdin(Stdio::null()).output().map_err(|error| unstartable(command, &error))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        return Err(Failure::new(format!("`{}`: {}\n{}", line_of(command), output.status, said.trim())));
    }
    String::from_utf8(output.stdout)
        .map_err(|_| Failure::new(format!("`{}` printed something that is not UTF-8", line_of(command))))
}

/// Runs a command, passes each line of its output on and shows it to `read`; returns whether it exited with 0.
///
/// # Errors
///
/// If it cannot be started or waited for.
pub(crate) fn stream(command: &mut Command, output: &mut Output, mut read: impl FnMut(&str)) -> Result<bool> {
    output.line(&format!("$ {}", line_of(command)));
    let (mut child, reader) = piped(command)?;
    let mut reader = BufReader::new(reader);
    let mut line = Vec::new();
    while reader.read_until(b'\n', &mut line).map_err(pipe_broken)? > 0 {
        let text = String::from_utf8_lossy(&line);
        let text = text.trim_end_matches(['\r', '\n']);
        output.line(text);
        read(text);
        line.clear();
    }
    Ok(child.wait().map_err(pipe_broken)?.success())
}

/// Starts a command whose outputs share one pipe: which test belongs to which binary is told by the order of cargo's
/// lines (standard error) and the tests' (standard output).
fn piped(command: &mut Command) -> Result<(Child, PipeReader)> {
    let (reader, writer) = io::pipe().map_err(pipe_broken)?;
    let other = writer.try_clone().map_err(pipe_broken)?;
    let child = command
        .stdin(Stdio::null())
        .stdout(writer)
        .stderr(other)
        .spawn()
        .map_err(|error| unstartable(command, &error))?;
    // The command keeps our ends of the pipe; without this the reader would never see the end.
    command.stdout(Stdio::null()).stderr(Stdio::null());
    Ok((child, reader))
}

#[expect(clippy::needless_pass_by_value, reason = "as `map_err` gives it")]
fn pipe_broken(error: io::Error) -> Failure {
    Failure::new(format!("output of a child process: {error}"))
}

/// Where a program is found on the `PATH`.
pub(crate) fn find_program(name: &str) -> Option<PathBuf> {
    let file = format!("{name}{}", env::consts::EXE_SUFFIX);
    let path = env::var_os("PATH")?;
    env::split_paths(&path).map(|directory| directory.join(&file)).find(|candidate| candidate.is_file())
}

/// The command as one would type it, as far as one would want to read it.
fn line_of(command: &Command) -> String {
    const WORDS: usize = 40;
    let program = Path::new(command.get_program()).file_name().unwrap_or(command.get_program());
    let words = std::iter::once(program).chain(command.get_args()).map(OsStr::to_string_lossy);
    let words: Vec<_> = words.collect();
    match words.len().checked_sub(WORDS) {
        None | Some(0) => words.join(" "),
        Some(more) => format!("{} … ({more} more)", words[..WORDS].join(" ")),
    }
}

fn unstartable(command: &Command, error: &io::Error) -> Failure {
    Failure::new(format!("`{}` does not start: {error}", line_of(command)))
}

#[cfg(all(test, unix))]
mod tests {
    use std::process::Command;

    use super::{capture, find_program, line_of, run, stream};
    use crate::output::Output;

    fn shell(script: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        command
    }

    #[test]
    fn an_exit_code_other_than_zero_is_a_failure() {
        assert!(run(&mut shell("exit 0")).is_ok());
        assert!(run(&mut shell("exit 3")).is_err());
        assert!(run(&mut Command::new("no-such-program-at-all")).is_err());
    }

    #[test]
    fn what_a_failed_command_said_is_in_the_message() {
        let failure = capture(&mut shell("echo the reason >&2; exit 1")).expect_err("it exits with 1");
        assert!(failure.to_string().contains("the reason"), "{failure}");
    }

    #[test]
    fn both_outputs_are_read_in_the_order_they_were_written() {
        let mut lines = Vec::new();
        let script = "echo a; echo b >&2; echo c; printf d; exit 1";
        let mut output = Output::held();
        let read = |line: &str| lines.push(line.to_owned());
        let succeeded = stream(&mut shell(script), &mut output, read).expect("sh starts");
        assert_eq!(lines, ["a", "b", "c", "d"]);
        assert!(matches!(output, Output::Held(text) if text.ends_with("\na\nb\nc\nd\n")));
        assert!(!succeeded);
    }

    #[test]
    fn programs_have_no_standard_input() {
        assert_eq!(capture(&mut shell("cat; echo end")).expect("cat sees the end at once"), "end\n");
    }

    #[test]
    fn programs_are_looked_up_on_the_path() {
        assert!(find_program("sh").is_some());
        assert!(find_program("no-such-program-at-all").is_none());
    }

    #[test]
    fn a_command_is_shown_without_its_directory() {
        let mut command = Command::new("/somewhere/bin/cargo");
        command.args(["test", "--workspace"]);
        assert_eq!(line_of(&command), "cargo test --workspace");
    }
}
