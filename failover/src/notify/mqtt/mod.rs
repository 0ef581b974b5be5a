//! MQTT: a retained state for each uplink, an availability with a last will, and Home Assistant's
//! discovery.
//!
//! There is no queue: what the broker is to hold follows from the status (`topics`), what it was sent
//! is remembered as long as a connection lasts (`session`), and the difference is sent. After a storm,
//! a restart of the broker and a changed configuration the broker holds what is true.

mod session;
mod topics;

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tokio::sync::watch;
use tracing::{info, warn};

use crate::notify::channel::{ChannelState, Closing, News, chance};
use crate::notify::failure::NotSent;
use crate::notify::message::Message;
use crate::notify::settings::{ChannelName, MqttConfig, Told};
use session::Session;
use topics::Topics;

/// How long a connection may take to be made.
const CONNECTING: Duration = Duration::from_secs(15);
/// The first and the longest wait before another one is tried.
const RETRY: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));
/// The same where the broker says no.
const REFUSED: (Duration, Duration) = (Duration::from_secs(30), Duration::from_secs(600));

/// Keeps a broker up to date until told to end.
pub(super) async fn keep(
    name: ChannelName,
    config: MqttConfig,
    told: Told,
    host: Arc<str>,
    mut news: watch::Receiver<News>,
    mut closing: Closing,
    state: Arc<Mutex<ChannelState>>,
) {
    let topics = Topics::new(&config, told, &host);
    let mut failures = 0_u32;
    while !closing.is_closing() {
        news.mark_unchanged();
        let selection = news.borrow().selection.clone();
        let begun = Instant::now();
        let session = {
            let opening =
                tokio::time::timeout(CONNECTING, Session::open(&config, &topics, &host, ""));
            tokio::select! {
                opened = opening => opened.unwrap_or_else(|_| Err(NotSent::yet(format!(
                    "{} does not answer within {CONNECTING:?}", config.server
                )))),
                () = another(&mut news, &selection, begun) => continue,
                () = closing.begun() => return,
            }
        };
        let ended = match session {
            Err(error) => error,
            Ok(mut session) => {
                let since = Instant::now();
                if ChannelState::of(&state).connected() {
                    info!(channel = %name, broker = %config.server, "MQTT: connected, and states are kept there");
                }
                let kept = session.keep(&topics, &mut news, &mut closing, &state).await;
                // One that is broken off soon, as by another client of the same name, is no success.
                if since.elapsed() > RETRY.1 {
                    failures = 0;
                }
                match kept {
                    Ok(()) => return,
                    Err(error) => error,
                }
            }
        };
        if ChannelState::of(&state).failed(&ended) {
            warn!(channel = %name, "MQTT: {ended}; trying again");
        }
        let (first, longest) = if ended.is_refused() { REFUSED } else { RETRY };
        let wait = first.saturating_mul(1 << failures.min(10)).min(longest);
        failures = failures.saturating_add(1);
        let selection = news.borrow().selection.clone();
        tokio::select! {
            () = tokio::time::sleep(wait.mul_f64(0.75 + 0.5 * chance())) => {}
            () = another(&mut news, &selection, Instant::now()), if !ended.is_refused() => {
                failures = 0;
            }
            () = closing.begun() => return,
        }
    }
}

/// Another selection, but not sooner than a second after `begun`: a storm must let an attempt be made.
async fn another(
    news: &mut watch::Receiver<News>,
    selection: &crate::notify::channel::Selection,
    begun: Instant,
) {
    tokio::time::sleep_until((begun + Duration::from_secs(1)).into()).await;
    if news
        .wait_for(|news| news.selection != *selection)
        .await
        .is_err()
    {
        std::future::pending::<()>().await;
    }
}

/// Connects as another client and leaves a message that is not retained.
pub(super) async fn test(config: &MqttConfig, message: &Message) -> Result<(), NotSent> {
    let told = Told {
        on: std::collections::BTreeSet::new(),
        uplinks: None,
    };
    let topics = Topics::new(config, told, &message.host);
    let mut session = Session::open(config, &topics, &message.host, "-test").await?;
    session.test(&topics, message).await
}
