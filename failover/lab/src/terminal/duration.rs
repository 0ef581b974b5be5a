//! Durations as people read them.

use std::fmt;
use std::time::Duration;

/// Shows a duration in milliseconds below a second and in seconds above, to three digits or less.
#[derive(Clone, Copy, Debug)]
pub struct Short(pub Duration);

impl fmt::Display for Short {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = match self.0.as_secs_f64() {
            short if short < 0.01 => format!("{:.1} ms", short * 1e3),
            short if short < 0.9995 => format!("{:.0} ms", short * 1e3),
            long if long < 10.0 => format!("{long:.2} s"),
            long => format!("{long:.0} s"),
        };
        f.pad(&text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_unit_fits_the_size() {
        let short = |micros| Short(Duration::from_micros(micros)).to_string();
        assert_eq!(short(412), "0.4 ms");
        assert_eq!(short(31_400), "31 ms");
        assert_eq!(short(2_314_000), "2.31 s");
        assert_eq!(short(42_700_000), "43 s");
        assert_eq!(
            format!("{:>8}", Short(Duration::from_millis(31))),
            "   31 ms"
        );
    }
}
