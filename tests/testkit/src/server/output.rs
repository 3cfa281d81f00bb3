//! The end of what a process prints, in bounded memory.

use std::collections::VecDeque;
use std::io::{PipeReader, Read};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

/// Enough for a Go panic with its stacks.
const TAIL: usize = 64 * 1024;

/// Keeps the last 64 KiB of a pipe.
#[derive(Debug, Default)]
pub(crate) struct Output {
    state: Mutex<State>,
    ended: Condvar,
}

#[derive(Debug, Default)]
struct State {
    tail: VecDeque<u8>,
    ended: bool,
}

impl Output {
    /// Reads `pipe` on a thread of its own, which ends with the last process that holds the other end.
    ///
    /// A thread, as a server can outlive the runtime of the test that started it, and one whose output nobody
    /// reads stops at the first full pipe.
    pub(crate) fn collect(mut pipe: PipeReader) -> Arc<Self> {
        let output = Arc::new(Self::default());
        let shared = Arc::clone(&output);
        thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(count @ 1..) = pipe.read(&mut buffer) {
                let tail = &mut shared.lock().tail;
                tail.extend(&buffer[..count]);
                let excess = tail.len().saturating_sub(TAIL);
                tail.drain(..excess);
            }
            shared.lock().ended = true;
            shared.ended.notify_all();
        });
        output
    }

    /// What was printed last.
    pub(crate) fn tail(&self) -> String {
        String::from_utf8_lossy(self.lock().tail.make_contiguous()).into_owned()
    }

    /// The tail of a process that has ended: gives the reading thread a moment for the last words.
    pub(crate) fn final_tail(&self) -> String {
        // A grandchild may hold the pipe open, so the wait has a bound.
        drop(self.ended.wait_timeout_while(self.lock(), Duration::from_millis(200), |state| !state.ended));
        self.tail()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
