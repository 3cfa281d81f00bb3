//! What servers in Java have in common.

use std::env;
use std::path::{Path, PathBuf};

use tokio::sync::{Mutex, MutexGuard};

use crate::server::ProcessBuilder;

/// The class data that `cargo xtask servers` prepares where it pays, beside the jar.
const ARCHIVE: &str = "app.jsa";

/// Starts of this process take turns: each keeps two cores busy for seconds, and two at once would take more than
/// twice as long and run into their bounds.
static TURN: Mutex<()> = Mutex::const_new(());

/// Waits for the others.
pub(crate) async fn turn() -> MutexGuard<'static, ()> {
    TURN.lock().await
}

/// A Java machine that is quick to start and small, with everything it writes below `scratch`.
///
/// Options of the machine can be added; the server begins with [`run`].
pub(crate) fn machine(name: &str, jar: &Path, heap: &str, scratch: &Path) -> ProcessBuilder {
    let home = |variable: &str| env::var_os(variable).filter(|home| !home.is_empty()).map(PathBuf::from);
    let java = home("JAVA_HOME").map_or("java".into(), |home| home.join("bin").join("java"));
    let directory = jar.parent().unwrap_or(Path::new("."));
    let mut command = ProcessBuilder::new(name, java)
        // From here, as class data only serve the class path they were made with, to the letter.
        .directory(directory)
        .args(["-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC"])
        .arg(format!("-Xmx{heap}"))
        .arg(format!("-Duser.home={}", scratch.display()))
        .arg(format!("-Djava.io.tmpdir={}", scratch.display()));
    if directory.join(ARCHIVE).is_file() {
        command = command.arg(format!("-XX:SharedArchiveFile={ARCHIVE}"));
    }
    command
}

/// Runs the jar.
pub(crate) fn run(machine: ProcessBuilder, jar: &Path) -> ProcessBuilder {
    machine.arg("-jar").arg(jar.file_name().unwrap_or_default())
}
