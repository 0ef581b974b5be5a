//! Whether an uplink is good.

/// The verdict about an uplink in one family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Health {
    /// No verdict yet.
    Unknown,
    /// It answers.
    Up,
    /// It does not.
    Down,
}
