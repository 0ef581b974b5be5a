use super::*;

fn reach(ipv4: Reach, ipv6: Reach) -> PerFamily<Reach> {
    PerFamily { ipv4, ipv6 }
}

#[test]
fn the_number_is_that_of_the_families_that_are_lost() {
    use Reach::{Absent, Lost, Usable};
    for (ipv4, ipv6, number) in [
        (Usable, Usable, 0),
        (Usable, Absent, 0),
        (Usable, Lost, 1),
        (Lost, Usable, 1),
        (Absent, Usable, 0),
        (Lost, Lost, 2),
        // An office without IPv6 has lost everything then, and so it says.
        (Lost, Absent, 2),
        (Absent, Absent, 2),
    ] {
        assert_eq!(value(reach(ipv4, ipv6)), number, "{ipv4:?} {ipv6:?}");
    }
}

/// A folder that is not there yet.
fn folder(name: &str) -> PathBuf {
    let folder = std::env::temp_dir().join(format!("failover-track-{name}-{}", std::process::id()));
    fs::remove_dir_all(&folder).ok();
    folder
}

#[test]
fn a_file_that_somebody_takes_away_comes_back() {
    let folder = folder("mended");
    let path = folder.join("track");
    let says = || fs::read_to_string(&path).ok();
    let mut file = TrackFile::default();
    file.keep(Some(&path), 2);
    assert_eq!(says().as_deref(), Some("2\n"));
    file.keep(Some(&path), 0);
    assert_eq!(says().as_deref(), Some("0\n"));

    fs::remove_dir_all(&folder).unwrap();
    file.inspect();
    file.keep(Some(&path), 0);
    assert_eq!(says().as_deref(), Some("0\n"));
    fs::write(&path, "7\n").unwrap();
    file.inspect();
    file.keep(Some(&path), 0);
    assert_eq!(says().as_deref(), Some("0\n"));
    // Nothing half written is left beside it.
    assert_eq!(fs::read_dir(&folder).unwrap().count(), 1);
    fs::remove_dir_all(&folder).unwrap();
}

#[test]
fn a_folder_that_refuses_is_tried_again() {
    let folder = folder("refuses");
    fs::write(&folder, "no folder").unwrap();
    let path = folder.join("track");
    let mut file = TrackFile::default();
    file.keep(Some(&path), 1);
    assert!(file.failed);
    fs::remove_file(&folder).unwrap();
    file.keep(Some(&path), 1);
    assert!(!file.failed);
    assert_eq!(fs::read_to_string(&path).unwrap(), "1\n");
    fs::remove_dir_all(&folder).unwrap();
}

#[test]
fn another_path_leaves_no_outdated_file_behind() {
    let folder = folder("moved");
    let (old, new) = (folder.join("old"), folder.join("new"));
    let mut file = TrackFile::default();
    file.keep(Some(&old), 0);
    file.keep(Some(&new), 1);
    assert!(!old.exists());
    assert_eq!(fs::read_to_string(&new).unwrap(), "1\n");
    file.keep(None, 1);
    assert!(!new.exists());
    fs::remove_dir_all(&folder).unwrap();
}
