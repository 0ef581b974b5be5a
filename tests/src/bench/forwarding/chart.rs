//! The result as a chart: bars that can be read on light and on dark pages.

use std::fmt::Write as _;

use super::report::{cases, title};
use super::{Measured, Variant};

/// Lengths in pixels.
const WIDTH: f64 = 760.0;
const NAMES: f64 = 200.0;
const BARS: f64 = 430.0;
const HEAD: f64 = 56.0;
const ROW: f64 = 26.0;
const BAR: f64 = 16.0;
const FOOT: f64 = 30.0;

/// Greys that stand out from white as from black, and one colour for what is ours.
const STYLE: &str = "text{font:13px system-ui,sans-serif;fill:#7d8590}\
                     .head{font-weight:600;font-size:15px}.small{font-size:11px}\
                     .bar{fill:#8b949e}.ours{fill:#2f81f7}.limit{fill:#8b949e;opacity:.5}\
                     .spread{stroke:#7d8590;stroke-width:1.5}";

/// The chart of the first case that was measured; `None` if nothing was.
#[must_use]
pub fn svg(measured: &Measured) -> Option<String> {
    let case = *cases(measured).first()?;
    let rows: Vec<_> = measured
        .series
        .iter()
        .filter(|series| series.case == case && series.variant != Variant::Generator)
        .filter_map(|series| Some((series.variant, series.cost()?)))
        .collect();
    let most = rows.iter().map(|(_, cost)| cost.max).fold(0.0, f64::max);
    if most <= 0.0 {
        return None;
    }
    let scale = BARS / most;
    let mut text = String::new();
    let mut y = HEAD;
    for (variant, cost) in &rows {
        let class = match variant {
            variant if variant.is_limit() => "limit",
            variant if variant.is_ours() => "ours",
            _ => "bar",
        };
        let bar = cost.median.max(0.0) * scale;
        let (low, high) = (
            NAMES + cost.min.max(0.0) * scale,
            NAMES + cost.max.max(0.0) * scale,
        );
        let (base, middle) = (y + BAR - 3.5, y + BAR / 2.0);
        let name = escaped(&variant.to_string());
        let (name_end, figure) = (NAMES - 8.0, NAMES + cost.max.max(cost.median) * scale + 8.0);
        // Writing to a string does not fail.
        writeln!(
            text,
            "<text x=\"{name_end}\" y=\"{base}\" text-anchor=\"end\">{name}</text>\
             <rect class=\"{class}\" x=\"{NAMES}\" y=\"{y}\" width=\"{bar:.1}\" height=\"{BAR}\" rx=\"2\"/>\
             <line class=\"spread\" x1=\"{low:.1}\" y1=\"{middle}\" x2=\"{high:.1}\" y2=\"{middle}\"/>\
             <text x=\"{figure:.1}\" y=\"{base}\">{:.0} ns</text>",
            cost.median
        )
        .ok();
        y += ROW;
    }
    let (height, foot) = (y + FOOT, y + 16.0);
    let head = "What one forwarded packet costs";
    let below = escaped(&format!(
        "{}; median, least and most of the rounds",
        title(case)
    ));
    let machine = escaped(&measured.machine.to_string());
    Some(format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{WIDTH}\" height=\"{height}\" \
         viewBox=\"0 0 {WIDTH} {height}\" role=\"img\" aria-label=\"{head}\">\n\
         <style>{STYLE}</style>\n\
         <text class=\"head\" x=\"8\" y=\"20\">{head}</text>\n\
         <text class=\"small\" x=\"8\" y=\"38\">{below}</text>\n\
         {text}<text class=\"small\" x=\"8\" y=\"{foot}\">{machine}</text>\n</svg>\n"
    ))
}

/// Text as it stands in XML.
fn escaped(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use failover::family::Family;

    use super::*;
    use crate::bench::Machine;
    use crate::bench::forwarding::{Case, Protocol, Series};

    fn measured(costs: &[(Variant, f64)]) -> Measured {
        let case = Case {
            new: false,
            flows: 1000,
            size: 60,
            family: Family::Ipv4,
            protocol: Protocol::Udp,
        };
        let series = costs.iter().map(|(variant, cost)| Series {
            variant: *variant,
            case,
            gross: vec![*cost],
            net: vec![*cost],
            void: None,
        });
        let mut machine = Machine::this();
        machine.cpu = "A & B <C>".to_owned();
        Measured {
            machine,
            skipped: Vec::new(),
            series: series.collect(),
            bulk: Vec::new(),
            memory: Vec::new(),
        }
    }

    #[test]
    fn bars_are_as_long_as_costs() {
        let chart = svg(&measured(&[
            (Variant::Generator, 700.0),
            (Variant::Masquerade, 2000.0),
            (Variant::Ebpf, 1000.0),
        ]));
        let chart = chart.expect("something was measured");
        assert!(chart.contains("width=\"430.0\" height=\"16\""));
        assert!(chart.contains("width=\"215.0\" height=\"16\""));
        assert!(!chart.contains("generator"));
        assert!(chart.contains("A &amp; B &lt;C&gt;"));
    }

    #[test]
    fn there_is_no_chart_of_nothing() {
        assert_eq!(svg(&measured(&[])), None);
    }
}
