//! What the daemon tells about itself: the document that scripts read, and the table for people.

mod document;
mod table;

pub use document::{
    BrokenSet, ChannelStatus, ConnectionsStatus, FamilyStatus, FlowTableStatus, State,
    StatusDocument, UplinkStatus, round_share,
};
pub use table::{colour_of, render, size};
