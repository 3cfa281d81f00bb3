//! Real files in real directories: what is written is read, and nothing else is believed.

use std::{
    fs,
    path::{Path, PathBuf},
};

use proptest::prelude::*;
use tempfile::TempDir;

use super::*;
use crate::model::ServiceName;

const NOW: Duration = Duration::from_secs(1_700_000_000);

struct Place {
    root: TempDir,
    view: DiskView,
}

impl Place {
    fn new() -> Self {
        let root = tempfile::tempdir().unwrap();
        let view = DiskView::new(root.path().join("views"), "etcd/services");
        Self { root, view }
    }

    fn slot(&self) -> Arc<Slot> {
        self.view.file(&target()).0
    }

    /// A place with a saved view of three instances, and the path of its file.
    fn saved() -> (Self, PathBuf) {
        let place = Self::new();
        let slot = place.slot();
        slot.save(&stored(3)).unwrap();
        let path = slot.path.clone();
        (place, path)
    }

    /// What a process that starts now would read.
    fn load(&self) -> Option<Stored> {
        self.slot().load(NOW)
    }

    #[track_caller]
    fn assert_set_aside(&self, path: &Path) {
        assert!(self.load().is_none(), "it was believed");
        assert_eq!(self.view.set_aside(), 1);
        assert!(!path.exists() && fs::symlink_metadata(aside(path)).is_ok(), "it was moved");
        self.slot().save(&stored(2)).unwrap();
        assert_eq!(self.load().map(|s| s.instances.len()), Some(2), "saving works again");
    }
}

fn aside(path: &Path) -> PathBuf {
    PathBuf::from(format!("{}.bad", path.display()))
}

fn target() -> Target {
    Target::new(ServiceName::new("orders").unwrap())
}

fn stored(count: usize) -> Stored {
    let instances = (0..count)
        .map(|n| {
            let builder = Instance::builder("orders").id(format!("i{n}")).endpoint("http://10.0.0.7:80");
            Arc::new(builder.metadata("text", "line\nbreak").build().unwrap())
        })
        .collect();
    Stored { instances, source: Some(SourceId::new("cluster 7")), revision: Some(42), written_at: NOW }
}

/// Rewrites the part after the seal and seals it again.
fn reseal(path: &Path, edit: impl FnOnce(String) -> String) {
    let text = fs::read_to_string(path).unwrap();
    let (_, body) = text.split_once('\n').unwrap();
    let body = edit(body.to_owned());
    fs::write(
        path,
        format!("service-registry view 1 crc32={:08x}\n{body}", crc32fast::hash(body.as_bytes())),
    )
    .unwrap();
}

#[test]
fn what_was_saved_is_loaded() {
    let (place, path) = Place::saved();
    let loaded = place.load().unwrap();
    assert_eq!(loaded.instances, stored(3).instances);
    assert_eq!((loaded.source, loaded.revision), (stored(3).source, Some(42)));
    assert_eq!(loaded.written_at, NOW);
    place.slot().save(&stored(2)).unwrap();
    assert_eq!(place.load().unwrap().instances.len(), 2);
    let names: Vec<_> =
        fs::read_dir(path.parent().unwrap()).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert!(names.iter().all(|name| !name.to_string_lossy().ends_with("tmp")), "{names:?}");
}

#[test]
fn nothing_saved_is_nothing_loaded_and_no_fault() {
    let place = Place::new();
    assert!(place.load().is_none());
    assert_eq!(place.view.set_aside(), 0);
}

#[test]
fn a_truncated_file_is_set_aside() {
    for share in [0, 1, 10, 50, 99] {
        let (place, path) = Place::saved();
        let bytes = fs::read(&path).unwrap();
        fs::write(&path, &bytes[..bytes.len() * share / 100]).unwrap();
        place.assert_set_aside(&path);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_file_with_any_bit_flipped_is_set_aside(at in any::<prop::sample::Index>(), bit in 0..8u8) {
        let (place, path) = Place::saved();
        let mut bytes = fs::read(&path).unwrap();
        let at = at.index(bytes.len());
        bytes[at] ^= 1 << bit;
        fs::write(&path, bytes).unwrap();
        prop_assert!(place.load().is_none());
        prop_assert_eq!(place.view.set_aside(), 1);
    }

    #[test]
    fn no_bytes_make_the_decoder_panic(bytes in prop::collection::vec(any::<u8>(), 0..2048), sealed: bool) {
        let bytes = if sealed {
            let mut file = format!("service-registry view 1 crc32={:08x}\n", crc32fast::hash(&bytes)).into_bytes();
            file.extend(bytes);
            file
        } else {
            bytes
        };
        prop_assert!(format::decode(&bytes, &Title::new("etcd/services", &target())).is_err());
    }
}

#[test]
fn a_file_of_another_version_is_set_aside() {
    let (place, path) = Place::saved();
    let text = fs::read_to_string(&path).unwrap();
    fs::write(&path, text.replacen("view 1", "view 2", 1)).unwrap();
    place.assert_set_aside(&path);
}

#[test]
fn a_file_of_another_target_is_set_aside() {
    let (place, path) = Place::saved();
    reseal(&path, |body| body.replacen("etcd/services", "etcd/other", 1));
    place.assert_set_aside(&path);
}

#[test]
fn a_file_that_does_not_hold_what_it_says_is_set_aside() {
    let (place, path) = Place::saved();
    reseal(&path, |body| body.replacen("\"count\":3", "\"count\":4", 1));
    place.assert_set_aside(&path);
}

#[test]
fn a_file_older_than_a_day_is_set_aside() {
    let (place, path) = Place::saved();
    let day = Duration::from_secs(24 * 3600);
    assert!(place.slot().load(NOW + day).is_some());
    assert!(place.slot().load(NOW + day + Duration::from_secs(1)).is_none());
    assert!(!path.exists());
}

#[test]
fn a_file_from_the_future_is_loaded_as_only_the_clock_is_wrong() {
    let (place, _) = Place::saved();
    assert!(place.slot().load(Duration::from_secs(1)).is_some());
}

#[test]
fn one_bad_record_in_a_sound_file_does_not_hide_the_others() {
    let (place, path) = Place::saved();
    reseal(&path, |body| body.replacen("http://10.0.0.7:80", "not an endpoint", 1));
    assert_eq!(place.load().unwrap().instances.len(), 2);
    assert_eq!(place.view.set_aside(), 0);
}

#[test]
fn an_oversized_file_is_set_aside() {
    let (place, path) = Place::saved();
    fs::File::options().write(true).open(&path).unwrap().set_len(17 * 1024 * 1024).unwrap();
    place.assert_set_aside(&path);
}

#[test]
fn a_view_that_is_too_large_is_not_saved_and_the_old_file_stays() {
    let (place, _) = Place::saved();
    let text = "x".repeat(4096);
    let large = |n| {
        let mut builder = Instance::builder("orders").id(format!("i{n}")).endpoint("http://10.0.0.7:80");
        for key in 0..15 {
            builder = builder.metadata(format!("k{key}"), &text);
        }
        Arc::new(builder.build().unwrap())
    };
    let stored = Stored { instances: (0..300).map(large).collect(), ..stored(0) };
    assert!(place.slot().save(&stored).is_err());
    assert_eq!(place.load().unwrap().instances.len(), 3);
}

#[test]
fn only_the_last_bad_file_is_kept() {
    let (place, path) = Place::saved();
    for text in ["one", "two"] {
        fs::write(&path, text).unwrap();
        assert!(place.load().is_none());
    }
    assert_eq!(fs::read_to_string(aside(&path)).unwrap(), "two");
    assert_eq!(place.view.set_aside(), 2);
}

#[cfg(unix)]
mod unix {
    use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

    use super::*;

    #[test]
    fn the_directory_and_the_file_are_for_their_owner_only() {
        let (_place, path) = Place::saved();
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        assert_eq!(fs::metadata(path.parent().unwrap()).unwrap().mode() & 0o777, 0o700);
    }

    #[test]
    fn a_link_is_set_aside_and_what_it_points_to_is_left_alone() {
        let (place, path) = Place::saved();
        let elsewhere = place.root.path().join("elsewhere");
        fs::rename(&path, &elsewhere).unwrap();
        symlink(&elsewhere, &path).unwrap();
        place.assert_set_aside(&path);
        assert!(elsewhere.exists());
    }

    #[test]
    fn a_hard_link_is_set_aside() {
        let (place, path) = Place::saved();
        fs::hard_link(&path, place.root.path().join("elsewhere")).unwrap();
        place.assert_set_aside(&path);
    }

    #[test]
    fn saving_replaces_a_link_and_does_not_follow_it() {
        let place = Place::new();
        let slot = place.slot();
        let victim = place.root.path().join("victim");
        fs::write(&victim, "precious").unwrap();
        file::prepare(slot.path.parent().unwrap()).unwrap();
        for suffix in ["", ".tmp"] {
            symlink(&victim, format!("{}{suffix}", slot.path.display())).unwrap();
        }
        slot.save(&stored(1)).unwrap();
        assert_eq!(fs::read_to_string(&victim).unwrap(), "precious");
        assert_eq!(place.load().unwrap().instances.len(), 1);
    }

    #[test]
    fn a_fifo_in_its_place_blocks_nobody_and_is_set_aside() {
        let (place, path) = Place::saved();
        fs::remove_file(&path).unwrap();
        rustix::fs::mknodat(rustix::fs::CWD, &path, rustix::fs::FileType::Fifo, 0o600.into(), 0).unwrap();
        assert!(place.load().is_none());
        assert_eq!(place.view.set_aside(), 1);
    }

    #[test]
    fn a_directory_that_others_can_write_to_is_refused() {
        let (place, path) = Place::saved();
        fs::set_permissions(path.parent().unwrap(), fs::Permissions::from_mode(0o777)).unwrap();
        assert!(place.slot().save(&stored(1)).is_err());
    }

    #[test]
    fn a_directory_that_cannot_be_written_leaves_the_old_file_intact() {
        let (place, path) = Place::saved();
        let directory = path.parent().unwrap();
        // Not even root can create a file under a name that a directory has.
        fs::create_dir(format!("{}.tmp", path.display())).unwrap();
        assert!(place.slot().save(&stored(1)).is_err());
        assert_eq!(place.load().unwrap().instances.len(), 3);
        fs::set_permissions(directory, fs::Permissions::from_mode(0o500)).unwrap();
        assert!(place.slot().save(&stored(1)).is_err());
        assert_eq!(place.load().unwrap().instances.len(), 3);
        fs::set_permissions(directory, fs::Permissions::from_mode(0o700)).unwrap();
    }

    #[test]
    fn a_file_of_another_user_is_set_aside() {
        let (place, path) = Place::saved();
        let other = Some(rustix::fs::Uid::from_raw(65_534));
        // Only root can give a file away; elsewhere the check can't be shown.
        if rustix::fs::chown(&path, other, None).is_ok() {
            place.assert_set_aside(&path);
        }
    }

    #[test]
    fn of_two_writers_the_second_only_reads_until_the_first_is_gone() {
        let place = Place::new();
        let (first, second) = (place.slot(), place.slot());
        first.save(&stored(1)).unwrap();
        second.save(&stored(3)).unwrap();
        assert_eq!(second.load(NOW).unwrap().instances.len(), 1);
        drop(first);
        second.save(&stored(3)).unwrap();
        assert_eq!(second.load(NOW).unwrap().instances.len(), 3);
    }
}
