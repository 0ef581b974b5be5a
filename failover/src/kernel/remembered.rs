//! What packets noted in the own table's sets of sources and pairs.

use std::time::Duration;

use super::nftables::{Nft, NftError, TABLE, is_none_there, refusal, run};

impl Nft {
    /// For how long an element stays in a set; `None` where it is not there.
    ///
    /// # Errors
    /// When `nft` cannot be run or refuses.
    pub async fn time_left(&self, set: &str, element: &str) -> Result<Option<Duration>, NftError> {
        let what = "look up what is remembered";
        let element = format!("{{ {element} }}");
        let arguments = ["get", "element", "inet", TABLE, set, &element];
        let output = run(self.program(), what, &arguments, None).await?;
        if output.status.success() {
            return Ok(expires(&String::from_utf8_lossy(&output.stdout)));
        }
        if is_none_there(&output) {
            return Ok(None);
        }
        Err(refusal(what, &output, ""))
    }
}

/// When an element of a listing expires, as in `expires 9m59s780ms`.
fn expires(listing: &str) -> Option<Duration> {
    let mut words = listing.split_whitespace();
    words.find(|word| *word == "expires")?;
    let mut left = Duration::ZERO;
    let mut rest = words.next()?;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit())?;
        let (number, behind) = rest.split_at_checked(digits)?;
        let letters = behind.find(|c: char| !c.is_ascii_alphabetic());
        let (unit, next) = behind.split_at_checked(letters.unwrap_or(behind.len()))?;
        let milliseconds = match unit {
            "ms" => 1,
            "s" => 1_000,
            "m" => 60_000,
            "h" => 3_600_000,
            "d" => 86_400_000,
            _ => return None,
        };
        let number: u64 = number.parse().ok()?;
        left += Duration::from_millis(number.checked_mul(milliseconds)?);
        rest = next;
    }
    Some(left)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_that_is_left_is_read_as_nft_writes_it() {
        let of = |time: &str| {
            expires(&format!(
                "\t\telements = {{ 198.18.0.10 timeout 10m expires {time} }}\n"
            ))
        };
        assert_eq!(of("9m59s780ms"), Some(Duration::from_millis(599_780)));
        assert_eq!(of("1d2h"), Some(Duration::from_hours(26)));
        assert_eq!(of("4ms"), Some(Duration::from_millis(4)));
        assert_eq!(of("soon"), None);
        assert_eq!(expires("elements = { 198.18.0.10 }"), None);
    }
}
