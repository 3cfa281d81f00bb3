//! Programs that have to end in time.
//!
//! A program that hangs says nothing more, and whoever waits for it neither. It is given a time, killed after that with
//! everything it has started, and its last words are told.

use std::collections::VecDeque;
use std::io::{BufRead, BufReader, PipeReader};
#[cfg(unix)]
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::thread;
use std::time::Duration;

use super::{line_of, pipe_broken, piped};
use crate::failure::{Failure, Result};
use crate::output::Output;
use crate::stopwatch::Stopwatch;

/// How much of a killed program's output its failure repeats: what it waited for is at its end.
const LAST_LINES: usize = 20;
/// How many lines may wait to be shown; the program waits then.
const UNREAD: usize = 256;
/// How often an end is looked for that no output tells of.
const LOOK: Duration = Duration::from_millis(20);
/// How long the rest of the output is waited for, should something that the program has started hold on to it.
const REST: Duration = Duration::from_secs(1);

/// Runs a command for `limit` at most.
///
/// # Errors
///
/// If it can't be started, doesn't exit with 0, or is killed because its time was over; the message then names `what`
/// ran and says what it said last.
pub(crate) fn run_within(
    command: &mut Command,
    what: &str,
    limit: Duration,
    output: &mut Output,
) -> Result<()> {
    output.line(&format!("$ {}", line_of(command)));
    // A group of its own, which can be killed as a whole. Interrupted at the terminal we end and it does not, but only
    // until it ends by itself or finds that nobody reads.
    #[cfg(unix)]
    command.process_group(0);
    let watch = Stopwatch::start();
    let (mut child, reader) = piped(command)?;
    let lines = lines_of(reader);
    let mut last = VecDeque::with_capacity(LAST_LINES);
    let mut show = |line: String| {
        output.line(&line);
        if last.len() == LAST_LINES {
            last.pop_front();
        }
        last.push_back(line);
    };
    loop {
        let left = limit.saturating_sub(watch.elapsed());
        match lines.recv_timeout(left.min(LOOK)) {
            Ok(line) => show(line),
            // It may outlive its output, and its output it, where something that it has started holds on to that.
            Err(silent) => {
                if let Some(status) = child.try_wait().map_err(pipe_broken)? {
                    rest(&lines, &mut show);
                    return match status.success() {
                        true => Ok(()),
                        false => Err(Failure::new(format!("`{}`: {status}", line_of(command)))),
                    };
                }
                if silent == RecvTimeoutError::Disconnected {
                    thread::park_timeout(LOOK);
                }
            }
        }
        if limit <= watch.elapsed() {
            break;
        }
    }
    kill(&mut child)?;
    rest(&lines, &mut show);
    let last: Vec<_> = last.into_iter().map(|line| format!("  {line}")).collect();
    let seconds = limit.as_secs_f64();
    let words = if last.is_empty() { "  (nothing)".to_owned() } else { last.join("\n") };
    Err(Failure::new(format!(
        "{what} has not ended after {seconds} s and was killed; it said last:\n{words}"
    )))
}

/// The thread ends with the output or with whoever reads the lines. Nobody waits for it, as something that a killed
/// program has left behind may hold on to the output.
fn lines_of(reader: PipeReader) -> Receiver<String> {
    let (lines, read) = sync_channel(UNREAD);
    thread::spawn(move || {
        let mut reader = BufReader::new(reader);
        let mut line = Vec::new();
        while reader.read_until(b'\n', &mut line).is_ok_and(|count| count > 0) {
            let text = String::from_utf8_lossy(&line).trim_end_matches(['\r', '\n']).to_owned();
            if lines.send(text).is_err() {
                return;
            }
            line.clear();
        }
    });
    read
}

/// What was said before the end, and is on its way; no more of it than comes within [`REST`].
fn rest(lines: &Receiver<String>, mut show: impl FnMut(String)) {
    let watch = Stopwatch::start();
    // What waits is received in no time too, and there may always be more.
    while let Some(left) = REST.checked_sub(watch.elapsed())
        && let Ok(line) = lines.recv_timeout(left)
    {
        show(line);
    }
}

/// With its group, on systems that have groups.
fn kill(child: &mut Child) -> Result<()> {
    if cfg!(unix) {
        let group = child.id().to_string();
        let mut command = Command::new("sh");
        command.args(["-c", "kill -s KILL -- \"-$0\"", &group]);
        // What was there to be killed may just have ended.
        let _ = command.stdin(Stdio::null()).stderr(Stdio::null()).status();
    }
    let _ = child.kill();
    child.wait().map(drop).map_err(pipe_broken)
}

#[cfg(all(test, unix))]
mod tests {
    use std::process::Command;
    use std::sync::mpsc::sync_channel;
    use std::thread;
    use std::time::Duration;

    use super::{UNREAD, rest, run_within};
    use crate::failure::Result;
    use crate::output::Output;
    use crate::process::capture;
    use crate::stopwatch::Stopwatch;

    const LONG: Duration = Duration::from_secs(60);
    /// Enough for a few words, also on a machine that has no time.
    const ENOUGH: Duration = Duration::from_secs(5);
    /// For what has no words.
    const SHORT: Duration = Duration::from_millis(500);

    fn told(script: &str, limit: Duration) -> (Result<()>, String) {
        let mut output = Output::held();
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        let ended = run_within(&mut command, "the story", limit, &mut output);
        let Output::Held(text) = output else { unreachable!("it was held") };
        (ended, text)
    }

    #[test]
    fn a_program_that_ends_in_time_is_judged_by_its_exit_code() {
        let (ended, text) = told("echo a; echo b >&2; printf c", LONG);
        assert!(ended.is_ok(), "{ended:?}");
        assert!(text.ends_with("\na\nb\nc\n"), "{text}");
        let (ended, _) = told("exit 3", LONG);
        assert!(ended.is_err_and(|failure| failure.to_string().contains("exit status: 3")));
    }

    #[test]
    fn a_program_that_takes_too_long_is_killed_and_its_last_words_are_told() {
        let watch = Stopwatch::start();
        let script = "for i in 1 2 3 4 5; do printf \"a$i\\nb$i\\nc$i\\nd$i\\ne$i\\n\"; done; sleep 60";
        let (ended, text) = told(script, ENOUGH);
        let failure = ended.expect_err("it sleeps for longer").to_string();
        assert!(failure.starts_with("the story has not ended after 5 s and was killed"), "{failure}");
        assert!(failure.ends_with("\n  d5\n  e5"), "{failure}");
        assert!(!failure.contains("e1"), "the beginning is in the output: {failure}");
        assert!(text.contains("\na1\n"), "{text}");
        assert!(watch.elapsed() < LONG / 2);
    }

    #[test]
    fn what_it_has_started_is_killed_with_it() {
        let (ended, text) = told("sleep 61 & echo $!; wait", ENOUGH);
        assert!(ended.is_err());
        let child = text.lines().nth(1).expect("its number");
        let watch = Stopwatch::start();
        // Whoever inherits it takes a moment to bury it.
        let lives = || {
            let state = capture(Command::new("ps").args(["-o", "stat=", "-p", child]));
            state.is_ok_and(|state| !state.trim_start().starts_with('Z'))
        };
        while lives() {
            assert!(watch.elapsed() < LONG, "{child} still lives");
        }
    }

    #[test]
    fn a_program_that_closes_its_output_and_stays_is_killed_too() {
        let (ended, _) = told("exec >&- 2>&-; sleep 62", SHORT);
        assert!(ended.is_err_and(|failure| failure.to_string().ends_with("(nothing)")));
    }

    #[test]
    fn an_end_counts_although_somebody_holds_the_output() {
        let watch = Stopwatch::start();
        let (ended, text) = told("sleep 2 & echo done", LONG);
        assert!(ended.is_ok() && text.ends_with("done\n"), "{ended:?} {text}");
        assert!(watch.elapsed() < LONG / 2);
    }

    #[test]
    fn nobody_waits_for_the_rest_of_an_output_that_has_no_end() {
        let watch = Stopwatch::start();
        let (said, lines) = sync_channel(UNREAD);
        thread::spawn(move || while watch.elapsed() < LONG && said.send("on".to_owned()).is_ok() {});
        let watch = Stopwatch::start();
        // Slower than it is said, so that there is always more.
        rest(&lines, |_| thread::park_timeout(Duration::from_millis(1)));
        assert!(watch.elapsed() < LONG / 2);
    }
}
