//! All channels of the daemon: begun, changed by a reload, and ended.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::{broadcast, watch};
use tokio::task::JoinHandle;

use crate::family::Family;
use crate::journal::{Journal, Noted};
use crate::notify::channel::{Channel, ChannelState, Closing, News, Selection};
use crate::notify::reach;
use crate::notify::settings::{ChannelConfig, ChannelName, Channels};
use crate::status::{ChannelStatus, StatusDocument};

/// How long a changed channel waits for what it was before.
const LEAVING: Duration = Duration::from_secs(3);

/// The channels. Hands out what happens without waiting for anything.
#[derive(Debug)]
pub struct Notifier {
    journal: Journal,
    /// What happened before the first channels were begun.
    early: Option<broadcast::Receiver<Noted>>,
    host: Arc<str>,
    news: Option<watch::Sender<News>>,
    running: BTreeMap<ChannelName, Running>,
}

#[derive(Debug)]
struct Running {
    config: ChannelConfig,
    state: Arc<Mutex<ChannelState>>,
    /// Its own end, before that of the daemon.
    ending: watch::Sender<bool>,
    task: JoinHandle<()>,
}

impl Notifier {
    /// No channels yet. They hear what the journal is told.
    #[must_use]
    pub fn new(journal: Journal) -> Self {
        Self {
            early: Some(journal.listen()),
            journal,
            host: reach::host_name(),
            news: None,
            running: BTreeMap::new(),
        }
    }

    /// Says how things stand: what changed about that is told over MQTT, and what was begun over
    /// another selection is begun anew.
    pub fn present(&mut self, status: StatusDocument) {
        let selection = selection(&status);
        let news = News {
            status: Arc::new(status),
            selection,
        };
        match &self.news {
            Some(sender) => {
                sender.send_replace(news);
            }
            None => self.news = Some(watch::Sender::new(news)),
        }
    }

    /// Has these channels from now on. Those that are as before go on undisturbed. Nothing is done
    /// before it is known how things stand.
    pub fn follow(&mut self, channels: &Channels) {
        let Some(news) = &self.news else { return };
        let mut before = Vec::new();
        if let Some(mut early) = self.early.take() {
            while let Ok(noted) = early.try_recv() {
                before.push(noted);
            }
        }
        let running = std::mem::take(&mut self.running);
        let (stay, mut leaving): (BTreeMap<_, _>, BTreeMap<_, _>) = running
            .into_iter()
            .partition(|(name, running)| channels.get(name) == Some(&running.config));
        self.running = stay;
        for running in leaving.values() {
            running.ending.send_replace(true);
        }
        for (name, config) in channels {
            if self.running.contains_key(name) {
                continue;
            }
            let state = Arc::new(Mutex::new(ChannelState::default()));
            let ending = watch::Sender::new(false);
            let channel = Channel {
                name: name.clone(),
                config: config.clone(),
                host: Arc::clone(&self.host),
                before: before.clone(),
                happened: self.journal.listen(),
                news: news.subscribe(),
                closing: Closing::new(ending.subscribe()),
                state: Arc::clone(&state),
                journal: self.journal.clone(),
            };
            // So that its last words come before the first ones of this.
            let predecessor = leaving.remove(name).map(|running| running.task);
            let task = tokio::spawn(async move {
                if let Some(predecessor) = predecessor {
                    tokio::time::timeout(LEAVING, predecessor).await.ok();
                }
                channel.work().await;
            });
            let running = Running {
                config: config.clone(),
                state,
                ending,
                task,
            };
            self.running.insert(name.clone(), running);
        }
    }

    /// How the channels fare.
    #[must_use]
    pub fn status(&self) -> Vec<ChannelStatus> {
        self.running
            .iter()
            .map(|(name, running)| {
                ChannelState::of(&running.state).status(name, running.config.carrier.kind())
            })
            .collect()
    }

    /// Has each channel say its last, and waits for that, but no longer than `patience`.
    pub async fn finish(self, patience: Duration) {
        for running in self.running.values() {
            running.ending.send_replace(true);
        }
        let all = async {
            for running in self.running.into_values() {
                // One that broke off has nothing to say.
                running.task.await.ok();
            }
        };
        tokio::time::timeout(patience, all).await.ok();
    }
}

fn selection(status: &StatusDocument) -> Selection {
    let mut selection = Selection::new();
    for uplink in &status.uplinks {
        selection.insert((uplink.id, Family::Ipv4), uplink.ipv4.share.to_bits());
        selection.insert((uplink.id, Family::Ipv6), uplink.ipv6.share.to_bits());
    }
    selection
}
