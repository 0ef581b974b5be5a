//! Every broken configuration is refused in the words of the table.

use std::fs;
use std::path::PathBuf;

use failover::config::{ConfigError, load};

use crate::broken::{Broken, TABLE, generated};

/// A folder of its own for each test, gone at its end.
struct Folder(PathBuf);

impl Folder {
    fn new(test: &str) -> Self {
        let name = format!("failover-config-{}-{test}", std::process::id());
        let path = std::env::temp_dir().join(name);
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn load(&self, broken: &Broken) -> (String, ConfigError) {
        let path = self.0.join(format!("{}.yaml", broken.name));
        fs::write(&path, &broken.bytes).unwrap();
        let error = load(&path).expect_err(&broken.name);
        (path.display().to_string(), error)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.0).unwrap();
    }
}

#[test]
fn every_broken_configuration_is_refused_with_place_found_and_allowed() {
    let folder = Folder::new("table");
    let mut wrong = String::new();
    for broken in TABLE.iter().map(Broken::from).chain(generated()) {
        let (file, error) = folder.load(&broken);
        let message = error.to_string();
        let printed: Vec<&str> = message
            .lines()
            .filter(|line| line.starts_with(&file))
            .collect();
        let expected: Vec<String> = broken
            .problems
            .iter()
            .map(|problem| format!("{file}:{problem}"))
            .collect();
        if printed != expected {
            wrong += &format!(
                "{}: expected\n{}\nprinted\n{message}\n\n",
                broken.name,
                expected.join("\n")
            );
        }
    }
    assert!(wrong.is_empty(), "\n{wrong}");
}

#[test]
fn the_table_is_as_large_as_it_says_and_its_names_differ() {
    let mut names: Vec<String> = TABLE
        .iter()
        .map(Broken::from)
        .chain(generated())
        .map(|broken| broken.name)
        .collect();
    assert!(names.len() >= 25, "{}", names.len());
    let all = names.len();
    names.sort();
    names.dedup();
    assert_eq!(names.len(), all);
}

#[test]
fn the_message_shows_the_line_and_marks_the_place() {
    let text = "uplinks:\n  fiber:\n    interface: eth1\n    weight: 0\n";
    assert_eq!(
        failover::config::parse(text).unwrap_err().to_string(),
        "4:13: key `uplinks.fiber.weight`: found `0`, allowed: 1 to 256\n\
         \x20       weight: 0\n\
         \x20               ^"
    );
}

#[test]
fn a_near_miss_is_offered() {
    let text = "uplinks: {fiber: {interface: eth1, wieght: 3}}\n";
    let message = failover::config::parse(text).unwrap_err().to_string();
    assert!(message.contains("; did you mean `weight`?\n"), "{message}");
}

#[test]
fn two_equal_keys_name_both_places() {
    let text = "uplinks:\n  fiber: {interface: eth1}\n  fiber: {interface: eth2}\n";
    let message = failover::config::parse(text).unwrap_err().to_string();
    assert!(message.starts_with("3:3: "), "{message}");
    assert!(message.contains("; the first stands at 2:3\n"), "{message}");
}

#[test]
fn two_equal_ids_name_both_places() {
    let text = "uplinks:\n  a: {interface: eth1, id: 5}\n  b: {interface: eth2, id: 5}\n";
    let message = failover::config::parse(text).unwrap_err().to_string();
    assert!(message.starts_with("3:28: "), "{message}");
    assert!(message.contains("; `a` has it at 2:28\n"), "{message}");
}

#[test]
fn a_file_that_is_not_there_is_named() {
    let folder = Folder::new("absent");
    let path = folder.0.join("absent.yaml");
    let message = load(&path).unwrap_err().to_string();
    let expected = format!("{}: cannot read the configuration: ", path.display());
    assert!(message.starts_with(&expected), "{message}");
    assert!(message.contains("--config"), "{message}");
}

#[test]
fn a_device_that_never_ends_is_refused() {
    let message = load("/dev/zero".as_ref()).unwrap_err().to_string();
    assert!(
        message.starts_with("/dev/zero: found more than 1048576 bytes"),
        "{message}"
    );
}
