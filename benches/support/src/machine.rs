//! The machine: pinned threads, and whether others disturb.
#![expect(clippy::disallowed_types, reason = "a benchmark measures the time that passes")]

use std::time::Instant;

/// Cores that others may keep busy, on average, before a comparison of one thread with two says nothing.
const MOST_FOREIGN: f64 = 0.2;
/// Ticks of the kernel's accounting per second (`USER_HZ`, 100 on every Linux).
const TICKS: f64 = 100.0;

/// The value at a quantile from 0 to 1; not a number if there are no values.
#[must_use]
pub fn quantile(values: &[f64], at: f64) -> f64 {
    let mut values = values.to_vec();
    values.sort_by(f64::total_cmp);
    let at = (values.len().saturating_sub(1) as f64 * at).round() as usize;
    values.get(at).copied().unwrap_or(f64::NAN)
}

/// Runs on a thread of its own, pinned to a core where the system allows it.
///
/// # Panics
/// If `f` does.
pub fn on_thread<R: Send>(core: usize, f: impl FnOnce() -> R + Send) -> R {
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            pin(core);
            f()
        });
        thread.join().expect("a measured thread doesn't panic")
    })
}

/// Watches how busy *others* keep the machine. The load average would count this process too, and for minutes
/// whatever was compiled before it started.
#[derive(Debug)]
pub struct Watch {
    start: Instant,
    busy: Option<f64>,
}

impl Watch {
    /// Begins to watch.
    #[must_use]
    pub fn start() -> Self {
        Self { start: Instant::now(), busy: foreign() }
    }

    /// Why two threads can't be compared with one, if they can't: one core only, or others were at work meanwhile.
    #[must_use]
    pub fn disturbed(&self) -> Option<String> {
        if std::thread::available_parallelism().map_or(1, usize::from) < 2 {
            return Some("there is one core only".to_owned());
        }
        let (Some(before), Some(now)) = (self.busy, foreign()) else {
            return Some("can't tell whether others use the machine".to_owned());
        };
        let cores = (now - before) / self.start.elapsed().as_secs_f64();
        (cores > MOST_FOREIGN).then(|| format!("other processes kept {cores:.1} cores busy"))
    }
}

/// Seconds of processor time that other processes have used since the machine started.
fn foreign() -> Option<f64> {
    let stat = std::fs::read_to_string("/proc/stat").ok()?;
    // user nice system idle iowait irq softirq steal: all but the two that are idle.
    let ticks = stat.lines().next()?.split_whitespace().skip(1).take(8).map(str::parse::<f64>);
    let all: f64 = ticks.enumerate().filter(|(at, _)| !matches!(at, 3 | 4)).filter_map(|(_, t)| t.ok()).sum();
    let own = std::fs::read_to_string("/proc/self/stat").ok()?;
    // The fields after the name, which is in brackets and may hold spaces: utime and stime are the 12th and 13th.
    let own =
        own.rsplit_once(')')?.1.split_whitespace().skip(11).take(2).filter_map(|t| t.parse::<f64>().ok());
    Some((all - own.sum::<f64>()) / TICKS)
}

#[cfg(target_os = "linux")]
pub(crate) fn pin(core: usize) {
    let mut set = rustix::thread::CpuSet::new();
    set.set(core);
    // Without the right to pin, the figures are only noisier.
    let _ = rustix::thread::sched_setaffinity(None, &set);
}

#[cfg(not(target_os = "linux"))]
pub(crate) fn pin(_: usize) {}
