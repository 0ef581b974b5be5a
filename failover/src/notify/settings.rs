//! What the configuration says about notifications.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::config::{Endpoint, Identity, Security};
use crate::notify::happening::Happening;
use crate::notify::secret::{self, SecretSource};
use crate::notify::template::Template;
use crate::uplink::UplinkName;

/// The name of a channel, of the characters of an uplink's.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ChannelName(String);

/// A text that is no channel's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InvalidChannelName;

impl FromStr for ChannelName {
    type Err = InvalidChannelName;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let named: UplinkName = text.parse().map_err(|_| InvalidChannelName)?;
        Ok(Self(named.as_str().to_owned()))
    }
}

impl fmt::Display for ChannelName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// All channels.
pub type Channels = BTreeMap<ChannelName, ChannelConfig>;

/// One channel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChannelConfig {
    /// What is told by it.
    pub told: Told,
    /// How many messages it carries at most.
    pub at_most: Rate,
    /// How they are carried.
    pub carrier: Carrier,
}

/// What is told by a channel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Told {
    /// Which happenings.
    pub on: BTreeSet<Happening>,
    /// Only those of these uplinks, and those that are about none; `None`: all.
    pub uplinks: Option<BTreeSet<UplinkName>>,
}

impl Told {
    /// Whether an uplink counts.
    #[must_use]
    pub fn concerns(&self, uplink: &UplinkName) -> bool {
        self.uplinks
            .as_ref()
            .is_none_or(|uplinks| uplinks.contains(uplink))
    }
}

/// A number of messages within a time; so many may come at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// How many, at least 1.
    pub count: u32,
    /// Within which time.
    pub per: Per,
}

/// A time that messages are counted in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Per {
    /// A minute.
    Minute,
    /// An hour.
    Hour,
    /// A day.
    Day,
}

impl Per {
    /// How long it is.
    #[must_use]
    pub const fn time(self) -> Duration {
        match self {
            Self::Minute => Duration::from_secs(60),
            Self::Hour => Duration::from_secs(3600),
            Self::Day => Duration::from_secs(24 * 3600),
        }
    }
}

impl FromStr for Rate {
    type Err = ();

    /// As in `6/h`.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (count, per) = text.split_once('/').ok_or(())?;
        let per = match per {
            "m" => Per::Minute,
            "h" => Per::Hour,
            "d" => Per::Day,
            _ => return Err(()),
        };
        let digits = count.bytes().all(|byte| byte.is_ascii_digit());
        let count: u32 = count.parse().map_err(|_| ())?;
        if digits && (1..=1000).contains(&count) {
            Ok(Self { count, per })
        } else {
            Err(())
        }
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let per = match self.per {
            Per::Minute => 'm',
            Per::Hour => 'h',
            Per::Day => 'd',
        };
        write!(f, "{}/{per}", self.count)
    }
}

/// How messages are carried.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Carrier {
    /// By mail.
    Mail(MailConfig),
    /// As retained states at an MQTT broker.
    Mqtt(MqttConfig),
    /// As requests to a web server.
    Webhook(WebhookConfig),
    /// As calls of a program.
    Program(ProgramConfig),
}

impl Carrier {
    /// The word of the configuration.
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Mail(_) => "mail",
            Self::Mqtt(_) => "mqtt",
            Self::Webhook(_) => "webhook",
            Self::Program(_) => "program",
        }
    }

    /// All secrets that it needs.
    #[must_use]
    pub fn secrets(&self) -> Vec<&SecretSource> {
        match self {
            Self::Mail(mail) => mail.login.iter().map(|login| &login.password).collect(),
            Self::Mqtt(mqtt) => mqtt.login.iter().map(|login| &login.password).collect(),
            Self::Webhook(hook) => {
                let values = hook.headers.iter().map(|(_, value)| value);
                let mut secrets: Vec<_> = values.filter_map(HeaderText::secret).collect();
                if let Address::Secret(source) = &hook.address {
                    secrets.push(source);
                }
                secrets
            }
            Self::Program(_) => Vec::new(),
        }
    }

    /// What is to be said of secrets that are not as secret as they should be.
    #[must_use]
    pub fn warnings(&self) -> Vec<String> {
        let mut warnings: Vec<String> = self
            .secrets()
            .into_iter()
            .filter_map(SecretSource::warning)
            .collect();
        if let Self::Mqtt(mqtt) = self {
            let key = mqtt.identity.as_ref().map(|identity| &identity.key);
            warnings.extend(key.and_then(|key| secret::open_to_all(key)));
            if mqtt.login.is_some() && mqtt.security == Security::None {
                warnings.push(format!(
                    "the password for {} goes unencrypted: mqtts:// encrypts it",
                    mqtt.server
                ));
            }
        }
        warnings
    }
}

impl fmt::Display for ChannelConfig {
    /// In a few words, as a reload tells it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.carrier {
            Carrier::Mail(mail) => write!(f, "mail to {}", mail.to.join(", ")),
            Carrier::Mqtt(mqtt) => write!(f, "mqtt at {}", mqtt.server),
            Carrier::Webhook(_) => f.write_str("webhook"),
            Carrier::Program(program) => write!(f, "program {}", program.program.display()),
        }
    }
}

/// A user and where the password is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Login {
    /// The user.
    pub user: String,
    /// The password.
    pub password: SecretSource,
}

/// When a connection to a mail server is encrypted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encryption {
    /// From the beginning on (`smtps`).
    Always,
    /// After the greeting, and never without (`smtp+starttls`).
    StartTls,
    /// Never (`smtp`).
    Never,
}

/// A mail server, and who writes to whom.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MailConfig {
    /// The server.
    pub server: Endpoint,
    /// Whether and when it is encrypted.
    pub encryption: Encryption,
    /// Whose certificates are trusted.
    pub security: Security,
    /// Who is let in.
    pub login: Option<Login>,
    /// The sender's address.
    pub from: String,
    /// The receivers' addresses; at least one.
    pub to: Vec<String>,
}

/// A broker, and what is told there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MqttConfig {
    /// The broker.
    pub server: Endpoint,
    /// Whether it is encrypted, and whose certificates are trusted.
    pub security: Security,
    /// By what it knows us.
    pub identity: Option<Identity>,
    /// Who is let in.
    pub login: Option<Login>,
    /// What all topics begin with.
    pub topic: String,
    /// What topics of discovery begin with; `None`: nothing is said about discovery.
    pub discovery: Option<String>,
}

/// A web server, and what it is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WebhookConfig {
    /// Where.
    pub address: Address,
    /// Whose certificates are trusted, where not those that this host trusts.
    pub ca: Option<PathBuf>,
    /// How it is asked.
    pub method: Method,
    /// Headers, by their names.
    pub headers: Vec<(String, HeaderText)>,
    /// What is sent; `None`: all facts as JSON.
    pub body: Option<Template>,
}

/// How a web server is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// POST.
    Post,
    /// PUT.
    Put,
    /// GET, without a body.
    Get,
}

/// Where a web server is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// At a page of the configuration.
    Page(Page),
    /// At an address that nobody is to know.
    Secret(SecretSource),
}

/// A page of a web server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page {
    /// The server.
    pub server: Endpoint,
    /// Its path.
    pub path: String,
    /// Whether it is encrypted.
    pub encrypted: bool,
}

/// What a header says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HeaderText {
    /// A text with facts in it.
    Template(Template),
    /// What nobody is to know.
    Secret(SecretSource),
}

impl HeaderText {
    const fn secret(&self) -> Option<&SecretSource> {
        match self {
            Self::Template(_) => None,
            Self::Secret(source) => Some(source),
        }
    }
}

/// A program of the user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProgramConfig {
    /// Its path.
    pub program: PathBuf,
    /// Its arguments.
    pub arguments: Vec<String>,
    /// How long it may take.
    pub timeout: Duration,
}
