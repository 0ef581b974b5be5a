//! One connection with a broker (MQTT 3.1.1).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use bytes::BytesMut;
use rumqttc::mqttbytes::v4::{
    Connect, ConnectReturnCode, LastWill, Packet, PubAck, Publish, Subscribe, SubscribeFilter,
    Unsubscribe,
};
use rumqttc::mqttbytes::{self, QoS};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::sync::watch;

use super::topics::Topics;
use crate::causes::in_one_line;
use crate::notify::channel::{ChannelState, Closing, News};
use crate::notify::failure::NotSent;
use crate::notify::message::Message;
use crate::notify::reach::{self, Stream};
use crate::notify::settings::MqttConfig;

/// The longest packet, in bytes.
const LONGEST: usize = 64 * 1024;
/// How many messages may be unacknowledged.
const WINDOW: usize = 32;
/// How often the broker is asked whether it is there, and how long its answer may take.
const PING: Duration = Duration::from_secs(10);
const PONG: Duration = Duration::from_secs(10);
/// The same after another selection: the connection may be over a dead uplink.
const PONG_AFTER_CHANGE: Duration = Duration::from_secs(3);
/// After how long without a word from us the broker tells the last will, in seconds.
const KEEP_ALIVE: u16 = 30;
/// At least so long is from one look at the status to the next: a storm is as many messages as that.
const PACE: Duration = Duration::from_millis(500);
/// How long the last words may take.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// A connection that a broker has accepted.
pub(super) struct Session {
    stream: Box<dyn Stream>,
    read: BytesMut,
    /// What the broker has been sent, by topic.
    sent: BTreeMap<String, String>,
    unacknowledged: BTreeSet<u16>,
    last_id: u16,
    /// Until when an answer must come.
    awaited: Option<Instant>,
    /// Whether what is retained in our own topics is still being told.
    looking: bool,
}

impl Session {
    /// Connects, logs in and says that we are there.
    pub(super) async fn open(
        config: &MqttConfig,
        topics: &Topics,
        host: &str,
        suffix: &str,
    ) -> Result<Self, NotSent> {
        let mut connect = Connect::new(format!("failover-{host}-{}{suffix}", config.topic));
        connect.keep_alive = KEEP_ALIVE;
        if suffix.is_empty() {
            let topic = topics.availability();
            connect.last_will = Some(LastWill::new(topic, "offline", QoS::AtLeastOnce, true));
        }
        if let Some(login) = &config.login {
            let secret = login.password.read_beside().await;
            let secret = secret.map_err(|error| NotSent::refused(in_one_line(&error)))?;
            connect.set_login(login.user.clone(), secret.reveal());
        }
        let stream =
            reach::connect_securely(&config.server, &config.security, config.identity.as_ref())
                .await?;
        let mut session = Self {
            stream,
            read: BytesMut::new(),
            sent: BTreeMap::new(),
            unacknowledged: BTreeSet::new(),
            last_id: 0,
            awaited: None,
            looking: false,
        };
        session.write(Packet::Connect(connect)).await?;
        match session.next().await? {
            Packet::ConnAck(ack) => match ack.code {
                ConnectReturnCode::Success => Ok(session),
                ConnectReturnCode::ServiceUnavailable => {
                    Err(NotSent::yet(format!("{} is not available", config.server)))
                }
                ConnectReturnCode::BadUserNamePassword | ConnectReturnCode::NotAuthorized => {
                    Err(NotSent::refused(format!(
                        "{} does not let us in: wrong user or password, or the user may not",
                        config.server
                    )))
                }
                code => Err(NotSent::refused(format!(
                    "{} says no: {code:?}",
                    config.server
                ))),
            },
            _ => Err(NotSent::yet("what the broker speaks is not MQTT")),
        }
    }

    /// Keeps the broker up to date, until told to end (`Ok`) or until the connection breaks.
    pub(super) async fn keep(
        &mut self,
        topics: &Topics,
        news: &mut watch::Receiver<News>,
        closing: &mut Closing,
        state: &Mutex<ChannelState>,
    ) -> Result<(), NotSent> {
        self.retain(&topics.availability(), "online").await?;
        self.look(topics).await?;
        let mut selection = news.borrow().selection.clone();
        let mut wanted = topics.wanted(&news.borrow_and_update().status);
        let mut looked = Instant::now();
        let mut ping_at = Instant::now() + PING;
        loop {
            let up_to_date = self.send_difference(&wanted).await?;
            if up_to_date {
                ChannelState::of(state).up_to_date();
            }
            let deadline = self.awaited.map_or(ping_at, |awaited| awaited.min(ping_at));
            tokio::select! {
                packet = self.next() => self.heard(packet?, topics, &wanted).await?,
                changed = changed(news, looked + PACE) => {
                    if !changed {
                        return Err(NotSent::yet("the daemon ended"));
                    }
                    looked = Instant::now();
                    let another = {
                        let news = news.borrow_and_update();
                        wanted = topics.wanted(&news.status);
                        std::mem::replace(&mut selection, news.selection.clone())
                            != news.selection
                    };
                    if another {
                        self.ping(PONG_AFTER_CHANGE).await?;
                    }
                }
                () = tokio::time::sleep_until(deadline.into()) => {
                    if self.awaited.is_some_and(|awaited| awaited <= Instant::now()) {
                        return Err(NotSent::yet("the broker does not answer any more"));
                    }
                    ping_at = Instant::now() + PING;
                    self.ping(PONG).await?;
                }
                () = closing.begun() => {
                    wanted = topics.wanted(&news.borrow().status);
                    tokio::time::timeout(LAST_WORDS, self.end(topics, &wanted)).await.ok();
                    return Ok(());
                }
            }
        }
    }

    /// Says what is so at the end, and that nobody sees to it from now on.
    async fn end(
        &mut self,
        topics: &Topics,
        wanted: &BTreeMap<String, String>,
    ) -> Result<(), NotSent> {
        while !self.send_difference(wanted).await? {
            let packet = self.next().await?;
            self.heard(packet, topics, wanted).await?;
        }
        self.retain(&topics.availability(), "offline").await?;
        while !self.unacknowledged.is_empty() {
            let packet = self.next().await?;
            self.heard(packet, topics, wanted).await?;
        }
        self.write(Packet::Disconnect).await
    }

    /// Leaves a message that nobody keeps.
    pub(super) async fn test(&mut self, topics: &Topics, message: &Message) -> Result<(), NotSent> {
        let text = serde_json::to_string(message).map_err(|error| NotSent::of(&error))?;
        let id = self.publish(&topics.test(), &text, false).await?;
        loop {
            match self.next().await? {
                Packet::PubAck(ack) if ack.pkid == id => {
                    return self.write(Packet::Disconnect).await;
                }
                _ => {}
            }
        }
    }

    /// Sends what the broker has not, as far as it keeps up; returns whether it has all.
    async fn send_difference(
        &mut self,
        wanted: &BTreeMap<String, String>,
    ) -> Result<bool, NotSent> {
        while self.unacknowledged.len() < WINDOW {
            let gone = self
                .sent
                .keys()
                .find(|topic| !wanted.contains_key(*topic))
                .cloned();
            let changed = || {
                wanted
                    .iter()
                    .find(|(topic, payload)| self.sent.get(*topic) != Some(payload))
            };
            if let Some(topic) = gone {
                self.retain(&topic, "").await?;
                self.sent.remove(&topic);
            } else if let Some((topic, payload)) = changed() {
                self.retain(topic, payload).await?;
                self.sent.insert(topic.clone(), payload.clone());
            } else {
                return Ok(self.unacknowledged.is_empty());
            }
        }
        Ok(false)
    }

    /// Takes in what the broker says.
    async fn heard(
        &mut self,
        packet: Packet,
        topics: &Topics,
        wanted: &BTreeMap<String, String>,
    ) -> Result<(), NotSent> {
        self.awaited = None;
        match packet {
            Packet::PubAck(ack) => {
                self.unacknowledged.remove(&ack.pkid);
                if !self.unacknowledged.is_empty() {
                    self.awaited = Some(Instant::now() + PONG);
                }
            }
            Packet::Publish(publish) => {
                let stale = publish.retain
                    && !publish.payload.is_empty()
                    && topics.is_own(&publish.topic)
                    && !wanted.contains_key(&publish.topic);
                if publish.qos == QoS::AtLeastOnce {
                    self.write(Packet::PubAck(PubAck::new(publish.pkid)))
                        .await?;
                }
                if stale {
                    self.retain(&publish.topic, "").await?;
                }
            }
            // All that was retained came before it.
            Packet::PingResp if self.looking => {
                self.looking = false;
                let mut unsubscribe = Unsubscribe::new("");
                unsubscribe.topics = topics.own();
                unsubscribe.pkid = self.next_id();
                self.write(Packet::Unsubscribe(unsubscribe)).await?;
            }
            _ => {}
        }
        Ok(())
    }

    /// Asks for what is retained in our topics: some of it may be of uplinks that are no more.
    async fn look(&mut self, topics: &Topics) -> Result<(), NotSent> {
        let filters = topics
            .own()
            .into_iter()
            .map(|topic| SubscribeFilter::new(topic, QoS::AtMostOnce));
        let mut subscribe = Subscribe::new_many(filters);
        subscribe.pkid = self.next_id();
        self.write(Packet::Subscribe(subscribe)).await?;
        self.looking = true;
        self.ping(PONG).await
    }

    async fn ping(&mut self, patience: Duration) -> Result<(), NotSent> {
        let until = Instant::now() + patience;
        self.awaited = Some(self.awaited.map_or(until, |awaited| awaited.min(until)));
        self.write(Packet::PingReq).await
    }

    async fn retain(&mut self, topic: &str, payload: &str) -> Result<(), NotSent> {
        self.publish(topic, payload, true).await.map(drop)
    }

    async fn publish(&mut self, topic: &str, payload: &str, retain: bool) -> Result<u16, NotSent> {
        let mut publish = Publish::new(topic, QoS::AtLeastOnce, payload);
        publish.retain = retain;
        publish.pkid = self.next_id();
        let id = publish.pkid;
        self.unacknowledged.insert(id);
        self.awaited.get_or_insert_with(|| Instant::now() + PONG);
        self.write(Packet::Publish(publish)).await?;
        Ok(id)
    }

    fn next_id(&mut self) -> u16 {
        loop {
            self.last_id = self.last_id.checked_add(1).unwrap_or(1);
            if !self.unacknowledged.contains(&self.last_id) {
                return self.last_id;
            }
        }
    }

    /// A broker that does not read breaks the connection, too.
    async fn write(&mut self, packet: Packet) -> Result<(), NotSent> {
        let mut bytes = BytesMut::new();
        packet
            .write(&mut bytes, LONGEST)
            .map_err(|error| NotSent::refused(format!("cannot be told over MQTT: {error}")))?;
        let written = async {
            self.stream.write_all(&bytes).await?;
            self.stream.flush().await
        };
        match tokio::time::timeout(PONG, written).await {
            Ok(written) => written.map_err(|error| broken(&error)),
            Err(_) => Err(NotSent::yet("the broker does not read")),
        }
    }

    /// The next packet. Safe to be cancelled.
    async fn next(&mut self) -> Result<Packet, NotSent> {
        loop {
            match Packet::read(&mut self.read, LONGEST) {
                Ok(packet) => return Ok(packet),
                Err(mqttbytes::Error::InsufficientBytes(_)) => {}
                Err(error) => {
                    return Err(NotSent::yet(format!(
                        "the broker does not speak MQTT: {error}"
                    )));
                }
            }
            let read = self.stream.read_buf(&mut self.read).await;
            if read.map_err(|error| broken(&error))? == 0 {
                return Err(NotSent::yet("the broker closed the connection"));
            }
        }
    }
}

fn broken(error: &std::io::Error) -> NotSent {
    NotSent::yet(format!("the connection with the broker broke: {error}"))
}

/// Waits for news, but not sooner than `earliest`; false when there will be none.
async fn changed(news: &mut watch::Receiver<News>, earliest: Instant) -> bool {
    tokio::time::sleep_until(earliest.into()).await;
    news.changed().await.is_ok()
}
