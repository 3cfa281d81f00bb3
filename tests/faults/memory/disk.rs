//! Row 23: the disk view on real files. What is done to the files is real; so is the limit on the file's size, which
//! a child process runs under. A file system without space answers a write in the same way, with another number.
#![cfg(unix)]

use std::{
    fs,
    os::unix::fs::{MetadataExt, PermissionsExt, symlink},
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use registry_core::{Client, ErrorKind, MemoryRegistry, Registration, Upstream, ViewState};
use tempfile::TempDir;
use tokio::time::{Instant, sleep};

use super::support::{client_with, figure, instance, millis, secs};

/// Set in the child that writes under a limit.
const CHILD: &str = "FAULTS_FULL_DISK";

/// A host with a directory for views, and a registry that has some instances.
struct Host {
    root: TempDir,
    registry: MemoryRegistry,
    owner: Client,
    standing: Vec<Registration>,
}

impl Host {
    async fn new(instances: usize) -> Self {
        fastrand::seed(23);
        let registry = MemoryRegistry::new();
        let owner = client_with(registry.backend(), |builder| builder).await;
        let mut host = Self { root: tempfile::tempdir().unwrap(), registry, owner, standing: Vec::new() };
        host.add(instances).await;
        host
    }

    async fn add(&mut self, instances: usize) {
        for _ in 0..instances {
            let id = format!("i{}", self.standing.len());
            self.standing.push(self.owner.register(instance("orders", &id)).await.unwrap());
        }
    }

    fn views(&self) -> PathBuf {
        self.root.path().join("views")
    }

    async fn client(&self) -> Client {
        client_with(self.registry.backend(), |builder| builder.disk(self.views())).await
    }

    /// A host whose process has run once, and the file it has left.
    async fn saved(instances: usize) -> (Self, PathBuf) {
        let host = Self::new(instances).await;
        let client = host.client().await;
        let upstream = client.discover("orders").await.unwrap();
        upstream.ready(instances).await.unwrap();
        sleep(secs(3)).await;
        client.close().await;
        let file = host.file();
        (host, file)
    }

    fn file(&self) -> PathBuf {
        let files = fs::read_dir(self.views()).unwrap().map(|entry| entry.unwrap().path());
        files
            .filter(|path| path.extension().is_some_and(|end| end == "view"))
            .max()
            .expect("a view was saved")
    }

    /// A new process while the registry is away.
    async fn cold_start(&self) -> (Duration, Result<Upstream, ErrorKind>) {
        self.registry.faults().unavailable(true);
        let client = self.client().await;
        let begun = Instant::now();
        let found = client.discover("orders").await.map_err(|error| error.kind());
        let took = begun.elapsed();
        self.registry.faults().unavailable(false);
        (took, found)
    }

    /// The file is as good as none: a typed error in time, it is set aside, and the next life saves anew.
    async fn assert_set_aside(self, file: &Path, what: &str) {
        let (took, found) = self.cold_start().await;
        assert_eq!(found.map(|upstream| upstream.snapshot().len()), Err(ErrorKind::NotReady), "{what}");
        assert!(took <= secs(5) + millis(500), "{what}: {took:?}");
        let aside = PathBuf::from(format!("{}.bad", file.display()));
        assert!(fs::symlink_metadata(&aside).is_ok(), "{what}: not set aside");
        let client = self.client().await;
        let upstream = client.discover("orders").await.unwrap();
        upstream.ready(self.standing.len()).await.unwrap();
        sleep(secs(3)).await;
        client.close().await;
        let (_, found) = self.cold_start().await;
        let upstream = found.unwrap_or_else(|kind| panic!("{what}: the next life saved nothing: {kind:?}"));
        assert_eq!(upstream.snapshot().len(), self.standing.len(), "{what}");
    }
}

#[tokio::test(start_paused = true)]
async fn row_23_a_good_file_serves_a_cold_start_flagged_as_such() {
    let (host, _) = Host::saved(3).await;
    let (took, found) = host.cold_start().await;
    let upstream = found.unwrap();
    assert_eq!((upstream.snapshot().len(), upstream.freshness().state), (3, ViewState::Disk));
    assert!(upstream.pick().is_ok());
    figure(23, "cold start from disk after", took);
}

#[tokio::test(start_paused = true)]
async fn row_23_a_truncated_file_is_set_aside() {
    for share in [0, 1, 50, 99] {
        let (host, file) = Host::saved(3).await;
        let bytes = fs::read(&file).unwrap();
        fs::write(&file, &bytes[..bytes.len() * share / 100]).unwrap();
        host.assert_set_aside(&file, &format!("{share} % of it")).await;
    }
    figure(23, "truncated files set aside", 4_usize);
}

#[tokio::test(start_paused = true)]
async fn row_23_a_flipped_bit_anywhere_is_found() {
    let mut rng = fastrand::Rng::with_seed(23);
    let (host, file) = Host::saved(3).await;
    let good = fs::read(&file).unwrap();
    for _ in 0..60 {
        let mut bytes = good.clone();
        let at = rng.usize(..bytes.len());
        bytes[at] ^= 1 << rng.u8(..8);
        fs::write(&file, bytes).unwrap();
        let (_, found) = host.cold_start().await;
        assert!(found.is_err(), "a bit flipped at byte {at} is served");
    }
    fs::write(&file, &good).unwrap();
    host.cold_start().await.1.expect("only the bits were wrong");
    figure(23, "bit flips found", 60_usize);
}

#[tokio::test(start_paused = true)]
async fn row_23_a_file_of_another_version_or_too_old_is_set_aside() {
    let (host, file) = Host::saved(3).await;
    let text = fs::read_to_string(&file).unwrap();
    fs::write(&file, text.replacen("view 1", "view 2", 1)).unwrap();
    host.assert_set_aside(&file, "another version").await;
}

#[tokio::test(start_paused = true)]
async fn row_23_links_and_foreign_files_are_not_followed_and_what_they_name_is_left_alone() {
    let (host, file) = Host::saved(3).await;
    let elsewhere = host.root.path().join("elsewhere");
    fs::rename(&file, &elsewhere).unwrap();
    symlink(&elsewhere, &file).unwrap();
    let before = fs::read(&elsewhere).unwrap();
    let root = host.root.path().to_owned();
    host.assert_set_aside(&file, "a link").await;
    // The directory is gone with the host; what the link named was compared before.
    assert!(!before.is_empty() && !root.exists());

    let (host, file) = Host::saved(3).await;
    fs::hard_link(&file, host.root.path().join("elsewhere")).unwrap();
    host.assert_set_aside(&file, "a second name").await;

    let (host, file) = Host::saved(3).await;
    // Only root can give a file away; without it this part shows nothing and says so.
    match std::os::unix::fs::chown(&file, Some(65_534), None) {
        Ok(()) => {
            host.assert_set_aside(&file, "another owner").await;
            figure(23, "links and foreign files set aside", 3_usize);
        }
        Err(_) => figure(23, "links set aside (not root: no foreign owner)", 2_usize),
    }
}

#[tokio::test(start_paused = true)]
async fn row_23_where_nothing_can_be_written_views_are_served_and_the_old_file_stays() {
    let (mut host, file) = Host::saved(3).await;
    let before = fs::read(&file).unwrap();
    // Not even root can create a file under a name that a directory has.
    let blocker = PathBuf::from(format!("{}.tmp", file.display()));
    fs::create_dir(&blocker).unwrap();
    fs::write(blocker.join("full"), "").unwrap();
    fs::set_permissions(host.views(), fs::Permissions::from_mode(0o500)).unwrap();
    let client = host.client().await;
    let upstream = client.discover("orders").await.unwrap();
    upstream.ready(3).await.unwrap();
    host.add(2).await;
    upstream.ready(5).await.unwrap();
    sleep(secs(10)).await;
    assert_eq!(upstream.freshness().state, ViewState::Fresh, "never fatal");
    assert_eq!(fs::read(&file).unwrap(), before, "the old file is intact");
    fs::set_permissions(host.views(), fs::Permissions::from_mode(0o700)).unwrap();
    fs::remove_dir_all(&blocker).unwrap();
    // Tried again after the minute for which a failed write switches saving off.
    let mended = Instant::now();
    while fs::read(&file).unwrap() == before {
        sleep(secs(1)).await;
        assert!(mended.elapsed() <= secs(62), "never saved again");
    }
    let again = mended.elapsed();
    client.close().await;
    assert_eq!(host.cold_start().await.1.unwrap().snapshot().len(), 5);
    figure(23, "written again after", again);
}

#[tokio::test(start_paused = true)]
async fn row_23_a_directory_that_others_can_write_to_is_not_used() {
    let (host, file) = Host::saved(3).await;
    let before = fs::metadata(&file).unwrap().mtime();
    fs::set_permissions(host.views(), fs::Permissions::from_mode(0o777)).unwrap();
    let client = host.client().await;
    let upstream = client.discover("orders").await.unwrap();
    upstream.ready(3).await.unwrap();
    sleep(secs(10)).await;
    assert_eq!(fs::metadata(&file).unwrap().mtime(), before);
    assert!(upstream.pick().is_ok());
}

#[tokio::test(start_paused = true)]
async fn row_23_a_full_disk_is_never_fatal_and_leaves_the_old_file_intact() {
    if std::env::var_os(CHILD).is_some() {
        return beyond_the_limit().await;
    }
    let this = std::env::current_exe().unwrap();
    let test = std::thread::current().name().unwrap_or("main").to_owned();
    // A signal that is ignored stays so over `exec`, and the write fails instead: 8 blocks of 512 or 1024 bytes.
    let script = r#"trap "" XFSZ; ulimit -f 8; exec "$0" --exact "$1" --nocapture"#;
    let child =
        Command::new("sh").args(["-c", script]).arg(this).arg(&test).env(CHILD, "1").output().unwrap();
    let said = String::from_utf8_lossy(&child.stdout);
    assert!(child.status.success(), "{said}\n{}", String::from_utf8_lossy(&child.stderr));
    assert!(said.contains("the limit was met"), "the child never reached the limit: {said}");
    figure(
        23,
        "full disk (limit on the file's size): views served, old file intact; instances in it",
        3_usize,
    );
}

/// Runs in the child: a view of three fits, one of two hundred doesn't.
async fn beyond_the_limit() {
    let (mut host, file) = Host::saved(3).await;
    let before = fs::read(&file).unwrap();
    assert!(before.len() < 4_096, "{} bytes", before.len());
    let probe = fs::write(host.root.path().join("probe"), vec![0; 32 * 1024]);
    assert!(probe.is_err(), "there is no limit");
    let client = host.client().await;
    let upstream = client.discover("orders").await.unwrap();
    host.add(200).await;
    upstream.ready(203).await.unwrap();
    sleep(secs(200)).await;
    assert_eq!(upstream.freshness().state, ViewState::Fresh);
    assert!(upstream.pick().is_ok());
    assert_eq!(fs::read(&file).unwrap(), before, "the old file is intact");
    let left = fs::read_dir(host.views()).unwrap().count();
    assert!(left <= 3, "no temporary file is left over: {left} entries");
    client.close().await;
    let (_, found) = host.cold_start().await;
    assert_eq!(found.unwrap().snapshot().len(), 3);
    println!("the limit was met");
}
