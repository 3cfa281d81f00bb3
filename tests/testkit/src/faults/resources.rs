//! What a process holds: the measure of leaks.

use std::time::Duration;

use tokio::{runtime::Handle, time::sleep};

/// What a process held at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Resources {
    /// Tasks of the runtime that asked.
    pub tasks: usize,
    /// Open file descriptors of the process; 0 where `/proc` is missing.
    pub descriptors: usize,
    /// Resident memory of the process, in bytes; 0 where `/proc` is missing.
    pub resident: u64,
}

impl Resources {
    /// What is held now.
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime.
    #[must_use]
    pub fn now() -> Self {
        Self {
            tasks: Handle::current().metrics().num_alive_tasks(),
            descriptors: std::fs::read_dir("/proc/self/fd").map(Iterator::count).unwrap_or_default(),
            resident: resident().unwrap_or_default(),
        }
    }

    /// Waits until tasks and descriptors have stopped falling, at most `within`: what was just dropped ends soon,
    /// not at once.
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe; it only looks.
    pub async fn settled(within: Duration) -> Self {
        const LOOKS: u32 = 10;
        let mut least = Self::now();
        let mut unchanged = 0;
        let every = within / 100;
        for _ in 0..100 {
            sleep(every).await;
            let now = Self::now();
            if now.tasks < least.tasks || now.descriptors < least.descriptors {
                least = now;
                unchanged = 0;
            } else {
                unchanged += 1;
            }
            if unchanged >= LOOKS {
                break;
            }
        }
        least
    }
}

/// `VmRSS` of `/proc/self/status`, in bytes.
fn resident() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: u64 = line.split_whitespace().next()?.parse().ok()?;
    Some(kib * 1024)
}
