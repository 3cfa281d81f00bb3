//! The thread that starts every server of this process.
//!
//! `PR_SET_PDEATHSIG` fires when the *thread* that made the child ends, not the process. A test's thread ends
//! before the server it shares with other tests should, so children are made by one thread that lives as long
//! as the process.

use std::ffi::OsString;
use std::io::{self, PipeReader};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::thread;

use tokio::sync::{mpsc, oneshot};

/// A program to start.
#[derive(Clone, Debug)]
pub(crate) struct Program {
    pub(crate) path: PathBuf,
    pub(crate) args: Vec<OsString>,
    pub(crate) set_env: Vec<(OsString, OsString)>,
    /// Where it runs; the test's own directory by default.
    pub(crate) directory: Option<PathBuf>,
    /// Variables whose names start so are not inherited.
    pub(crate) hidden_env: Option<&'static str>,
}

type Started = io::Result<(Child, PipeReader)>;

struct Request {
    program: Program,
    reply: oneshot::Sender<Started>,
}

/// Starts `program` in a process group of its own, stdout and stderr in one pipe.
///
/// # Cancel safety
///
/// A child that nobody waits for any more is killed at once.
pub(crate) async fn spawn(program: Program) -> Started {
    let (reply, started) = oneshot::channel();
    let gone = || io::Error::other("the thread that starts servers has ended");
    spawner().send(Request { program, reply }).await.map_err(|_| gone())?;
    started.await.map_err(|_| gone())?
}

fn spawner() -> &'static mpsc::Sender<Request> {
    static SPAWNER: OnceLock<mpsc::Sender<Request>> = OnceLock::new();
    SPAWNER.get_or_init(|| {
        let (requests, mut inbox) = mpsc::channel::<Request>(8);
        thread::spawn(move || {
            let tie = can_tie();
            while let Some(Request { program, reply }) = inbox.blocking_recv() {
                if let Err(Ok((mut child, _))) = reply.send(start(&program, tie)) {
                    // Only fails for a child that is gone already.
                    let _ = child.kill();
                    let _ = child.wait();
                }
            }
        });
        requests
    })
}

fn start(program: &Program, tie: bool) -> Started {
    let (output, printed) = io::pipe()?;
    let mut command = if tie {
        // It replaces itself by the program: the process id is the server's.
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", "--"]).arg(&program.path);
        command
    } else {
        Command::new(&program.path)
    };
    if let Some(prefix) = program.hidden_env {
        for (name, _) in std::env::vars_os() {
            if name.as_encoded_bytes().starts_with(prefix.as_bytes()) {
                command.env_remove(name);
            }
        }
    }
    if let Some(directory) = &program.directory {
        command.current_dir(directory);
    }
    command
        .args(&program.args)
        .envs(program.set_env.iter().map(|(name, value)| (name, value)))
        .stdin(Stdio::null())
        .stdout(printed.try_clone()?)
        .stderr(printed)
        .process_group(0);
    // The command drops its ends of the pipe here, so that the server's death is the pipe's end.
    Ok((command.spawn()?, output))
}

/// Whether `setpriv` (util-linux 2.33 or later) is there. Without it only the guards' drops end the servers.
fn can_tie() -> bool {
    cfg!(target_os = "linux")
        && Command::new("setpriv")
            .args(["--pdeathsig", "KILL", "--", "true"])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .is_ok_and(|status| status.success())
}
