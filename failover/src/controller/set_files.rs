//! Sets of addresses that come from files: read beside the loop whenever they change. A file that
//! becomes broken leaves its set as it was.

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::task::spawn_blocking;

use crate::config::Config;
use crate::policy::loading::{files, keep};
use crate::policy::{AddressSet, SetFileError, SetName, set_file};
use crate::state::Store;

/// How often files are looked at. One that changes is read when it has stayed the same for as long:
/// whoever writes it may not have come to its end.
const LOOK: Duration = Duration::from_secs(1);
/// Sets that were read and are not taken in yet.
const NEWS: usize = 4;

/// What became of a set whose file changed.
#[derive(Debug)]
pub struct SetNews {
    /// The set.
    pub name: SetName,
    /// Its file.
    pub file: PathBuf,
    /// Its addresses now.
    pub read: Result<Arc<AddressSet>, SetFileError>,
}

/// Looks at the files of sets.
#[derive(Debug)]
pub struct SetFiles {
    files: watch::Sender<BTreeMap<SetName, PathBuf>>,
    news: mpsc::Receiver<SetNews>,
}

impl SetFiles {
    /// Looks at none.
    #[must_use]
    pub fn nowhere() -> Self {
        let (files, _) = watch::channel(BTreeMap::new());
        let (_, news) = mpsc::channel(1);
        Self { files, news }
    }

    /// Looks at none yet.
    #[must_use]
    pub fn start(store: Store) -> Self {
        let (files, watched) = watch::channel(BTreeMap::new());
        let (sender, news) = mpsc::channel(NEWS);
        tokio::spawn(look(watched, sender, store));
        Self { files, news }
    }

    /// Looks at the files of this configuration from now on. They are read once more at the beginning:
    /// one may have changed since.
    pub fn follow(&self, config: &Config) {
        let files = files(config);
        self.files.send_if_modified(|watched| {
            let differs = *watched != files;
            *watched = files;
            differs
        });
    }

    /// What became of a set. Safe to be cancelled.
    pub async fn read(&mut self) -> Option<SetNews> {
        self.news.recv().await
    }
}

/// What tells a file from what it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Version {
    device: u64,
    inode: u64,
    length: u64,
    changed: (i64, i64),
    written: (i64, i64),
}

/// What is known of a set's file. `None` where there is none.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Seen {
    file: PathBuf,
    /// When it was looked at last.
    last: Option<Version>,
    /// When it was read last; nothing before the first time.
    read: Option<Option<Version>>,
}

async fn look(
    mut watched: watch::Receiver<BTreeMap<SetName, PathBuf>>,
    sender: mpsc::Sender<SetNews>,
    store: Store,
) {
    let mut seen: BTreeMap<SetName, Seen> = BTreeMap::new();
    loop {
        let files = watched.borrow_and_update().clone();
        seen.retain(|name, known| files.get(name) == Some(&known.file));
        if files.is_empty() {
            // The daemon has ended when nobody can tell of files any more.
            if watched.changed().await.is_err() {
                return;
            }
            continue;
        }
        let store = store.clone();
        let looked = spawn_blocking(move || {
            let news = look_once(&files, &mut seen, &store);
            (news, seen)
        });
        let Ok((news, after)) = looked.await else {
            return;
        };
        seen = after;
        for news in news {
            if sender.send(news).await.is_err() {
                return;
            }
        }
        tokio::time::sleep(LOOK).await;
    }
}

fn look_once(
    files: &BTreeMap<SetName, PathBuf>,
    seen: &mut BTreeMap<SetName, Seen>,
    store: &Store,
) -> Vec<SetNews> {
    let mut news = Vec::new();
    for (name, file) in files {
        let version = version(file);
        let known = seen.entry(name.clone()).or_insert_with(|| Seen {
            file: file.clone(),
            last: version,
            read: None,
        });
        let settled = std::mem::replace(&mut known.last, version) == version;
        if !settled || known.read == Some(version) {
            continue;
        }
        known.read = Some(version);
        let read = set_file::read(file);
        if let Ok(set) = &read {
            keep(store, name, set);
        }
        news.push(SetNews {
            name: name.clone(),
            file: file.clone(),
            read: read.map(Arc::new),
        });
    }
    news
}

fn version(file: &Path) -> Option<Version> {
    let found = std::fs::metadata(file).ok()?;
    Some(Version {
        device: found.dev(),
        inode: found.ino(),
        length: found.len(),
        changed: (found.ctime(), found.ctime_nsec()),
        written: (found.mtime(), found.mtime_nsec()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder(name: &str) -> PathBuf {
        let folder = std::env::temp_dir().join(format!("failover-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        folder
    }

    #[test]
    fn a_file_is_read_again_when_it_has_changed_and_stays_so() {
        let folder = folder("set-files");
        let store = Store::new(&folder);
        let file = folder.join("list.txt");
        let name: SetName = "list".parse().unwrap();
        let files = BTreeMap::from([(name.clone(), file.clone())]);
        let mut seen = BTreeMap::new();
        let mut sizes = |text: Option<&str>| -> Vec<Result<usize, String>> {
            if let Some(text) = text {
                std::fs::write(&file, text).unwrap();
            }
            let news = look_once(&files, &mut seen, &store);
            news.into_iter()
                .map(|news| {
                    news.read
                        .map(|set| set.len())
                        .map_err(|error| error.to_string())
                })
                .collect()
        };
        assert_eq!(sizes(Some("192.0.2.1\n")), [Ok(1)]);
        assert_eq!(sizes(None), []);
        assert_eq!(sizes(Some("192.0.2.1\n192.0.2.5\n")), []);
        assert_eq!(sizes(None), [Ok(2)]);
        assert_eq!(sizes(Some("192.0.2.1\nnonsense\n")), []);
        let broken = sizes(None);
        let [Err(told)] = broken.as_slice() else {
            panic!("{broken:?}");
        };
        assert!(told.contains("list.txt:2: found `nonsense`"), "{told}");
        assert_eq!(store.set(&name).unwrap().map(|kept| kept.len()), Some(2));
        std::fs::remove_dir_all(folder).unwrap();
    }
}
