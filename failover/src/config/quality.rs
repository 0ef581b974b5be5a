//! The keys `window`, `max_loss`, `max_latency` and `max_jitter` of `probe`.

use std::time::Duration;

use super::model::{Band, Percent, QualityLimits};
use super::section::{Given, Keys, Read, Section, Value};
use super::tree::Content;
use super::value::duration;
use super::written::written;

const WINDOW: Duration = Duration::from_secs(30);
const WINDOWS: [Duration; 2] = [Duration::from_secs(1), Duration::from_secs(3600)];
const TIMES: [Duration; 2] = [Duration::from_millis(1), Duration::from_secs(60)];

const KEYS: Keys = Keys {
    known: &["above", "back_at"],
    later: &[],
};

impl Default for QualityLimits {
    /// Nothing is too bad.
    fn default() -> Self {
        Self {
            window: WINDOW,
            max_loss: None,
            max_latency: None,
            max_jitter: None,
        }
    }
}

/// The limits as a section says them.
pub(super) struct Limits<'v> {
    window: Given<'v, Duration>,
    loss: Given<'v, Band<Percent>>,
    latency: Given<'v, Band<Duration>>,
    jitter: Given<'v, Band<Duration>>,
}

impl<'v> Limits<'v> {
    /// Reads them from `probe`.
    pub(super) fn read(section: &mut Section<'v>) -> Self {
        let time = |value: &Value<'_>| duration(value, TIMES[0]..=TIMES[1]);
        Self {
            window: section.read("window", |v| duration(v, WINDOWS[0]..=WINDOWS[1])),
            loss: section.read("max_loss", |v| band(v, percent, three_quarters_of_share)),
            latency: section.read("max_latency", |v| band(v, time, |time| time * 3 / 4)),
            jitter: section.read("max_jitter", |v| band(v, time, |time| time * 3 / 4)),
        }
    }

    /// What they say, else what `base` does.
    pub(super) fn or(self, base: QualityLimits) -> QualityLimits {
        QualityLimits {
            window: self.window.or(base.window),
            max_loss: self.loss.ok().or(base.max_loss),
            max_latency: self.latency.ok().or(base.max_latency),
            max_jitter: self.jitter.ok().or(base.max_jitter),
        }
    }
}

/// A limit alone, which is back at three quarters, or both.
fn band<T: Copy + PartialOrd + Written>(
    value: &Value<'_>,
    read: impl Fn(&Value<'_>) -> Read<T>,
    back: impl Fn(T) -> T,
) -> Read<Band<T>> {
    if !matches!(value.node.content, Content::Map(_)) {
        let above = read(value)?;
        return Ok(Band {
            above,
            back_at: back(above),
        });
    }
    let mut section = Section::open(value, &KEYS)?;
    let above = section.read("above", &read);
    section.require(&above, "above", "the limit");
    let back_at = section.read("back_at", &read);
    if let (Some((above, _)), Some((back_at, at))) = (above.good(), back_at.good())
        && back_at > above
    {
        section.problem(at.problem(format!("at most {}, as `above`", above.written())));
    }
    let above = above.ok();
    section.finish(above.map(|above| Band {
        above,
        back_at: back_at.or(back(above)),
    }))
}

/// A share, `25%` or `2.5%`.
pub(super) fn percent(value: &Value<'_>) -> Read<Percent> {
    let parsed = value.spelled().and_then(|text| {
        let number = text.strip_suffix('%')?;
        let (whole, tenths) = number.split_once('.').unwrap_or((number, "0"));
        let digits = |text: &str| text.chars().all(|c| c.is_ascii_digit());
        if tenths.len() != 1 || !digits(tenths) || !digits(whole) {
            return None;
        }
        let whole: u16 = whole.parse().ok()?;
        let tenths: u16 = tenths.parse().ok()?;
        Percent::from_tenths(whole.checked_mul(10)?.checked_add(tenths)?)
    });
    let hint = matches!(value.node.content, Content::Integer(_) | Content::Float)
        .then(|| "a share is written with its sign: 25%".to_owned());
    parsed.ok_or_else(|| {
        value
            .problem("0% to 100%, written such as 25% or 2.5%")
            .hint(hint)
            .into()
    })
}

fn three_quarters_of_share(share: Percent) -> Percent {
    Percent::from_tenths(share.tenths() * 3 / 4).unwrap_or(share)
}

/// As it stands in the file.
trait Written {
    fn written(&self) -> String;
}

impl Written for Duration {
    fn written(&self) -> String {
        written(*self)
    }
}

impl Written for Percent {
    fn written(&self) -> String {
        ToString::to_string(self)
    }
}
