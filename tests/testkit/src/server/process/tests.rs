//! Processes of the system's own tools.

use std::time::Duration;

use super::ProcessBuilder;
use crate::eventually::eventually;

const LONG: Duration = Duration::from_secs(10);

fn shell(script: &str) -> ProcessBuilder {
    ProcessBuilder::new("shell", "sh").args(["-c", script])
}

#[tokio::test]
async fn output_is_kept_to_its_bounded_end() {
    let process =
        shell("head -c 200000 /dev/zero | tr '\\0' x; echo; echo last words >&2").spawn().await.unwrap();
    eventually("end", LONG, async || (!process.is_running()).then_some(())).await.unwrap();
    let output = process.output();
    assert_eq!(output.len(), 64 * 1024);
    assert!(output.ends_with("x\nlast words\n"));
}

#[tokio::test]
async fn a_program_that_is_missing_is_reported() {
    // With setpriv in between the start succeeds and the output tells.
    let report = match ProcessBuilder::new("ghost", "/no/such/program").spawn().await {
        Ok(process) => {
            eventually("end", LONG, async || (!process.is_running()).then_some(())).await.unwrap();
            process.output()
        }
        Err(error) => format!("{error:?}"),
    };
    assert!(report.contains("No such file"), "{report}");
}

#[tokio::test]
async fn a_frozen_process_stands_still_until_thawed_and_can_be_terminated() {
    let process = shell("while :; do echo tick; sleep 0.01; done").spawn().await.unwrap();
    eventually("a tick", LONG, async || process.output().contains("tick").then_some(())).await.unwrap();
    process.freeze().await.unwrap();
    process.freeze().await.unwrap();
    assert!(process.is_running());
    process.thaw().unwrap();
    let before = process.output().len();
    eventually("a tick", LONG, async || (process.output().len() > before).then_some(())).await.unwrap();
    process.freeze().await.unwrap();
    process.terminate(LONG).await.unwrap();
    assert!(!process.is_running());
    assert!(process.freeze().await.is_err());
    assert!(process.thaw().is_err());
}

#[tokio::test]
async fn a_dropped_process_takes_its_children_along() {
    let process = shell("sleep 1000 & echo $!; wait").spawn().await.unwrap();
    let id = eventually("a process id", LONG, async || process.output().trim().parse::<i32>().ok());
    let id = rustix::process::Pid::from_raw(id.await.unwrap()).unwrap();
    drop(process);
    // The orphan is a zombie until init has taken it, where there is an init that does.
    eventually("the child's end", LONG, async || {
        let state =
            std::fs::read_to_string(format!("/proc/{}/stat", id.as_raw_nonzero())).unwrap_or_default();
        let gone = rustix::process::test_kill_process(id).is_err();
        (gone || state.contains(") Z ")).then_some(())
    })
    .await
    .unwrap();
}

#[test]
fn a_process_survives_the_thread_and_the_runtime_that_started_it() {
    let process = std::thread::spawn(|| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(shell("echo up; exec sleep 1000").spawn()).unwrap()
    });
    let process = process.join().unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        eventually("output", LONG, async || process.output().contains("up").then_some(())).await.unwrap();
        assert!(process.is_running());
        process.kill().await.unwrap();
    });
    assert!(!process.is_running());
}
