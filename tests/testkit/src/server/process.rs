//! A child process that ends with its owner.

#[cfg(test)]
mod tests;

use std::ffi::OsString;
use std::fmt;
use std::path::PathBuf;
use std::process::Child;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process, kill_process_group, waitid};
use tokio::time::{Instant, sleep};

use super::error::ServerError;
use super::output::Output;
use super::spawner::{self, Program};

/// How often an end or a stop is looked for.
const POLL: Duration = Duration::from_millis(2);
/// How long a signal may take to show; beyond that the machine is in trouble, not the process.
const SIGNAL_BOUND: Duration = Duration::from_secs(10);

/// What to start and how.
#[derive(Clone, Debug)]
pub struct ProcessBuilder {
    name: String,
    program: Program,
}

impl ProcessBuilder {
    /// `program`, called `name` in errors.
    pub fn new(name: impl Into<String>, program: impl Into<PathBuf>) -> Self {
        let program = Program {
            path: program.into(),
            args: Vec::new(),
            set_env: Vec::new(),
            directory: None,
            hidden_env: None,
        };
        Self { name: name.into(), program }
    }

    /// Adds an argument.
    #[must_use]
    pub fn arg(mut self, arg: impl Into<OsString>) -> Self {
        self.program.args.push(arg.into());
        self
    }

    /// Adds arguments.
    #[must_use]
    pub fn args<A: Into<OsString>>(mut self, args: impl IntoIterator<Item = A>) -> Self {
        self.program.args.extend(args.into_iter().map(Into::into));
        self
    }

    /// Sets an environment variable.
    #[must_use]
    pub fn env(mut self, name: impl Into<OsString>, value: impl Into<OsString>) -> Self {
        self.program.set_env.push((name.into(), value.into()));
        self
    }

    /// Runs it in `directory`. Paths among its arguments are taken from there.
    #[must_use]
    pub fn directory(mut self, directory: impl Into<PathBuf>) -> Self {
        self.program.directory = Some(directory.into());
        self
    }

    /// Keeps variables whose names start with `prefix` from the process: many servers take them as options.
    #[must_use]
    pub fn hide_env(mut self, prefix: &'static str) -> Self {
        self.program.hidden_env = Some(prefix);
        self
    }

    /// Starts the process.
    ///
    /// # Errors
    ///
    /// When the program can't be run.
    ///
    /// # Cancel safety
    ///
    /// A process whose start is no longer awaited is killed.
    pub async fn spawn(self) -> Result<Process, ServerError> {
        let path = self.program.path.display().to_string();
        let failed = |error| ServerError::new(format!("start of {} ({path})", self.name)).with_source(error);
        let (child, pipe) = spawner::spawn(self.program).await.map_err(failed)?;
        let raw = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
        let pid = raw.expect("a child's process id is positive");
        Ok(Process { name: self.name, pid, child: Mutex::new(child), output: Output::collect(pipe) })
    }
}

/// A running or ended child process, in a process group of its own.
///
/// Dropping it kills the group. On Linux with `setpriv` the kernel does so too when the test process dies.
pub struct Process {
    name: String,
    pid: Pid,
    /// Locked around every signal: a process id is only ours until the child has been waited for.
    child: Mutex<Child>,
    output: Arc<Output>,
}

impl Process {
    /// Its process id.
    pub fn id(&self) -> u32 {
        self.pid.as_raw_nonzero().get().unsigned_abs()
    }

    /// Whether it has not ended; a frozen process runs.
    pub fn is_running(&self) -> bool {
        is_running(&mut self.child())
    }

    /// The last 64 KiB of what it printed, stdout and stderr together.
    pub fn output(&self) -> String {
        if self.is_running() { self.output.tail() } else { self.output.final_tail() }
    }

    /// Ends it as `kill -9` does and waits for its end. Nothing happens when it has ended already.
    ///
    /// # Errors
    ///
    /// When it is still there after 10 s.
    ///
    /// # Cancel safety
    ///
    /// The signal is sent in any case.
    pub async fn kill(&self) -> Result<(), ServerError> {
        self.signal(Signal::KILL);
        self.ended(SIGNAL_BOUND).await
    }

    /// Asks it to end (SIGTERM, thawed if need be) and waits for its end.
    ///
    /// # Errors
    ///
    /// When it is still there after `within`; it runs on then.
    ///
    /// # Cancel safety
    ///
    /// The signal is sent in any case.
    pub async fn terminate(&self, within: Duration) -> Result<(), ServerError> {
        self.signal(Signal::TERM);
        self.signal(Signal::CONT);
        self.ended(within).await
    }

    /// Stops it in its tracks (SIGSTOP): connections stay open, nothing is answered.
    ///
    /// # Errors
    ///
    /// When it has ended, or has not stopped after 10 s.
    ///
    /// # Cancel safety
    ///
    /// The process is stopped in any case, its children may not be.
    pub async fn freeze(&self) -> Result<(), ServerError> {
        let failed = |why: &str| {
            ServerError::new(format!("freeze of {}: {why}", self.name)).with_output(self.output.tail())
        };
        // The leader first: one that is just starting a child by vfork waits for the child's exec, and would
        // never come to stop if the whole group got the signal while the child is on the way there.
        if !self.signal_with(Signal::STOP, kill_process) {
            return Err(failed("it has ended"));
        }
        // Without EXITED and with NOWAIT this takes nothing away from the child's own waiting.
        let options = WaitIdOptions::STOPPED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
        let deadline = Instant::now() + SIGNAL_BOUND;
        while !matches!(waitid(WaitId::Pid(self.pid), options), Ok(Some(_))) {
            if !self.is_running() {
                return Err(failed("it has ended"));
            }
            if Instant::now() > deadline {
                return Err(failed("still going"));
            }
            sleep(POLL).await;
        }
        self.signal(Signal::STOP);
        Ok(())
    }

    /// Lets a frozen process go on (SIGCONT).
    ///
    /// # Errors
    ///
    /// When it has ended.
    pub fn thaw(&self) -> Result<(), ServerError> {
        if self.signal(Signal::CONT) {
            Ok(())
        } else {
            Err(ServerError::new(format!("thaw of {}: it has ended", self.name))
                .with_output(self.output.final_tail()))
        }
    }

    /// Signals the whole group and says whether that could be done.
    fn signal(&self, signal: Signal) -> bool {
        self.signal_with(signal, kill_process_group)
    }

    fn signal_with(&self, signal: Signal, send: fn(Pid, Signal) -> rustix::io::Result<()>) -> bool {
        let mut child = self.child();
        is_running(&mut child) && send(self.pid, signal).is_ok()
    }

    async fn ended(&self, within: Duration) -> Result<(), ServerError> {
        let deadline = Instant::now() + within;
        while self.is_running() {
            if Instant::now() > deadline {
                return Err(ServerError::new(format!("end of {}: still there after {within:?}", self.name))
                    .with_output(self.output.tail()));
            }
            sleep(POLL).await;
        }
        Ok(())
    }

    fn child(&self) -> MutexGuard<'_, Child> {
        self.child.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn is_running(child: &mut Child) -> bool {
    matches!(child.try_wait(), Ok(None))
}

impl fmt::Debug for Process {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Process").field("name", &self.name).field("id", &self.id()).finish_non_exhaustive()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if self.signal(Signal::KILL) {
            // A killed process ends in milliseconds, frozen or not; without the wait it would stay a zombie.
            let _ = self.child().wait();
        }
    }
}
