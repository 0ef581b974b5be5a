//! That a benchmark measures what it says. Its figures are no matter of a test.

use std::path::Path;
use std::time::Duration;

use failover_tests::{Node, ProgramSpec};
use serde_json::Value;

use super::{LabTest, TestResult};

pub(super) fn trials() -> Vec<LabTest> {
    vec![LabTest::new(
        "the_benchmark_of_forwarding_has_all_packets_forwarded",
        forwarding,
    )]
}

async fn forwarding() -> TestResult {
    let file = Path::new(env!("CARGO_TARGET_TMPDIR")).join("forwarding.json");
    let line = "bench forwarding --quick --part known --flows 20 --rounds 1 --protocol udp \
                --variant masquerade --variant ebpf --variant minimal --json";
    let spec = ProgramSpec::new(env!("CARGO_BIN_EXE_failover-lab"))
        .arguments(line.split_whitespace())
        .arguments([&file])
        .limit(Duration::from_secs(60));
    // How it ends depends on the figures.
    let ended = Node::new("shell").await?.output(spec).await?;
    let text = std::fs::read_to_string(&file).map_err(|error| format!("{error}: {ended:?}"))?;
    let found: Value = serde_json::from_str(&text)?;
    let series = found.get("series").and_then(Value::as_array);
    let series = series.ok_or("no series")?;
    assert_eq!(series.len(), 8, "{text}");
    for one in series {
        assert_eq!(one.get("void"), Some(&Value::Null), "{one}");
    }
    Ok(())
}
