//! One server's process with its ports and its data, through kills and restarts.

use std::fs;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::eventually::eventually;
use crate::server::{Port, Process, ProcessBuilder, Scratch, ServerError};

/// What every launcher holds. The server's addresses stay the same for life.
#[derive(Debug)]
pub(crate) struct Host {
    // First, so that the process is gone before its data is.
    process: Mutex<Option<Arc<Process>>>,
    name: String,
    ports: Vec<Port>,
    /// A start, an end or a wipe at a time.
    turn: tokio::sync::Mutex<()>,
    scratch: Scratch,
}

impl Host {
    /// A place for a server that does not run yet. `name` is for errors, `kind` for its directory.
    pub(crate) fn new(name: String, kind: &str, ports: Vec<Port>) -> Result<Self, ServerError> {
        let scratch = Scratch::new(kind)
            .map_err(|error| ServerError::new(format!("preparation of {name}")).with_source(error))?;
        Ok(Self { process: Mutex::new(None), name, ports, turn: tokio::sync::Mutex::new(()), scratch })
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Its ports, in the order they were given.
    pub(crate) fn port(&self, index: usize) -> &Port {
        &self.ports[index]
    }

    /// What a wipe removes.
    pub(crate) fn data(&self) -> PathBuf {
        self.scratch.path().join("data")
    }

    /// Writes a file beside the data, which a wipe spares.
    pub(crate) fn write(&self, name: &str, contents: &str) -> Result<PathBuf, ServerError> {
        let path = self.scratch.path().join(name);
        fs::write(&path, contents).map_err(|error| self.error("configuration").with_source(error))?;
        Ok(path)
    }

    pub(crate) fn is_running(&self) -> bool {
        self.process().is_some_and(|process| process.is_running())
    }

    pub(crate) fn output(&self) -> String {
        self.process().map(|process| process.output()).unwrap_or_default()
    }

    pub(crate) async fn kill(&self) -> Result<(), ServerError> {
        let _turn = self.turn.lock().await;
        if let Some(process) = self.process() {
            process.kill().await?;
        }
        self.hold();
        Ok(())
    }

    pub(crate) async fn terminate(&self, within: Duration) -> Result<(), ServerError> {
        let _turn = self.turn.lock().await;
        if let Some(process) = self.process() {
            process.terminate(within).await?;
        }
        self.hold();
        Ok(())
    }

    pub(crate) async fn freeze(&self) -> Result<(), ServerError> {
        self.process().ok_or_else(|| self.not_running("freeze"))?.freeze().await
    }

    pub(crate) fn thaw(&self) -> Result<(), ServerError> {
        self.process().ok_or_else(|| self.not_running("thaw"))?.thaw()
    }

    /// Starts the process if it does not run.
    pub(crate) async fn launch(&self, command: ProcessBuilder) -> Result<(), ServerError> {
        let _turn = self.turn.lock().await;
        if self.is_running() {
            return Ok(());
        }
        fs::create_dir_all(self.data())
            .map_err(|error| self.error("preparation of data").with_source(error))?;
        for port in &self.ports {
            port.release();
        }
        let process = command.spawn().await?;
        *self.process.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(process));
        Ok(())
    }

    /// Waits until `serves`, or until the process has ended.
    pub(crate) async fn ready(
        &self,
        within: Duration,
        mut serves: impl AsyncFnMut() -> bool,
    ) -> Result<(), ServerError> {
        let failed = |why: &str| self.error(&format!("start ({why})")).with_output(self.output());
        let served = eventually("readiness", within, async || {
            if !self.is_running() {
                return Some(false);
            }
            serves().await.then_some(true)
        });
        match served.await {
            Ok(true) => Ok(()),
            Ok(false) => {
                let error = failed("it has ended");
                self.hold();
                Err(error)
            }
            Err(timeout) => Err(failed("not ready").with_source(timeout)),
        }
    }

    pub(crate) async fn wipe(&self) -> Result<(), ServerError> {
        let _turn = self.turn.lock().await;
        if self.is_running() {
            return Err(self.error("wipe while it runs"));
        }
        if self.data().exists() {
            fs::remove_dir_all(self.data()).map_err(|error| self.error("wipe").with_source(error))?;
        }
        Ok(())
    }

    /// Keeps the ports. A failure leaves them unguarded, which a restart can cope with.
    fn hold(&self) {
        for port in &self.ports {
            let _ = port.hold();
        }
    }

    fn process(&self) -> Option<Arc<Process>> {
        self.process.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn not_running(&self, attempted: &str) -> ServerError {
        self.error(&format!("{attempted}, but it does not run"))
    }

    fn error(&self, attempted: &str) -> ServerError {
        ServerError::new(format!("{}: {attempted}", self.name))
    }
}

/// How often a start is repeated when somebody else was faster with a port.
pub(crate) const PORT_ATTEMPTS: u32 = 3;

/// Gives a launcher the methods that all have. It has a field `host`, and methods `command` and `serving`; `$end` is
/// how long it may take to end in order.
macro_rules! controls {
    ($server:ty, ready: $ready:expr, end: $end:expr) => {
        impl $server {
            /// Whether its process has not ended; a frozen one runs.
            pub fn is_running(&self) -> bool {
                self.host.is_running()
            }

            /// The last 64 KiB of what the latest process printed.
            pub fn output(&self) -> String {
                self.host.output()
            }

            /// Ends it with SIGKILL; its data stays. Its ports refuse connections from then on.
            ///
            /// # Errors
            ///
            /// When the process does not end.
            pub async fn kill(&self) -> Result<(), crate::server::ServerError> {
                self.host.kill().await
            }

            /// Ends it in order (SIGTERM); its data stays.
            ///
            /// # Errors
            ///
            /// When the process does not end in time.
            pub async fn terminate(&self) -> Result<(), crate::server::ServerError> {
                self.host.terminate($end).await
            }

            /// Stops it with SIGSTOP: connections stay open and nothing is answered.
            ///
            /// # Errors
            ///
            /// When it does not run.
            pub async fn freeze(&self) -> Result<(), crate::server::ServerError> {
                self.host.freeze().await
            }

            /// Lets it go on after [`freeze`](Self::freeze).
            ///
            /// # Errors
            ///
            /// When it does not run.
            pub fn thaw(&self) -> Result<(), crate::server::ServerError> {
                self.host.thaw()
            }

            /// Starts it again on the same addresses, ending it in order first if it runs, and waits until it serves.
            ///
            /// # Errors
            ///
            /// When it is not ready in time, with the end of its output.
            pub async fn restart(&self) -> Result<(), crate::server::ServerError> {
                self.terminate().await?;
                let mut attempt = 1;
                loop {
                    let started = async {
                        self.launch().await?;
                        self.ready().await
                    };
                    match started.await {
                        Err(error) if error.passes() && attempt < crate::server::host::PORT_ATTEMPTS => {
                            attempt += 1;
                        }
                        started => return started,
                    }
                }
            }

            /// Starts the process if it does not run and does not wait until it serves.
            ///
            /// # Errors
            ///
            /// When the program can't be run.
            pub async fn launch(&self) -> Result<(), crate::server::ServerError> {
                let command = self.command()?;
                self.host.launch(command).await
            }

            /// Waits until it serves.
            ///
            /// # Errors
            ///
            /// When it has ended or is not ready in time, with the end of its output.
            ///
            /// # Cancel safety
            ///
            /// Cancel safe; it only asks.
            pub async fn ready(&self) -> Result<(), crate::server::ServerError> {
                self.host.ready($ready, async || self.serving().await).await
            }
        }
    };
}

pub(crate) use controls;
