//! Notifications: what happens is told by mail, over MQTT, to web servers and to programs.
//!
//! Events of the journal become notices ([`happening`]). Each channel is a task of its own: it puts
//! down what it has not told yet ([`outbox`], which decides when to try), makes a message of it
//! ([`message`], `wording`, [`template`]) and sends it. MQTT has no queue but a picture of how uplinks stand,
//! which is brought up to date (`mqtt`). The daemon's loop waits for none of this: it hands events to
//! a channel of bounded length and its status to one that holds the last alone.
//!
//! Connections are this host's own traffic, and so take the way that the selection leaves: a message
//! about a dead uplink goes out by another one. What was begun over the dead one is begun anew when
//! the selection changes.

mod channel;
mod failure;
pub mod happening;
mod mail;
pub mod message;
mod mqtt;
mod notifier;
pub mod outbox;
mod program;
mod reach;
pub mod secret;
pub mod settings;
pub mod template;
mod webhook;
mod wording;

pub use channel::test;
pub use failure::NotSent;
pub use notifier::Notifier;
