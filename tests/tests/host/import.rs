//! `import` as scripts meet it: the configuration on standard output, remarks on standard error.

use failover_tests::{Failover, Lab, ProgramSpec};

use crate::{CONFIG, SystemTest, TestResult};

/// A file of each program, and a remark on it.
const FILES: [(&str, &str, &str); 3] = [
    (
        "fault-tolerant-router",
        "uplinks:\n- interface: wan1\n  type: static\n  ip: 198.18.11.2\n  gateway: 198.18.11.1\n  \
         description: First\n- interface: wan2\n  type: static\n  ip: 198.18.12.2\n  gateway: \
         198.18.12.1\n  description: Second\ndownlinks:\n  lan: lan0\ntests:\n  ips: [203.0.113.1, \
         203.0.113.2]\n  required_successful: 1\n  ping_retries: 1\n  interval: 2\nlog:\n  file: /x\n",
        ":19: `log`",
    ),
    (
        "mwan3",
        "config interface 'wan'\n\toption enabled '1'\n\tlist track_ip '203.0.113.1'\n\nconfig member \
         'm'\n\toption interface 'wan'\n\nconfig policy 'p'\n\tlist use_member 'm'\n\nconfig rule \
         'all'\n\toption dest_ip '0.0.0.0/0'\n\toption use_policy 'p'\n",
        ":1: the device of `wan`",
    ),
    (
        "haip",
        "haip --wait=2 --toggle /bin/true --route 1/203.0.113.1/wan1 --route 2/203.0.113.1/wan2\n",
        ":1: `--toggle /bin/true`",
    ),
];

pub(crate) fn tests() -> Vec<SystemTest> {
    vec![SystemTest::new("import/a_file_of_each_program", each)]
}

async fn each() -> TestResult {
    let lab = Lab::builder().build().await?;
    let failover = Failover::new(&lab, CONFIG)?;
    let file = lab.files().join("theirs");
    for (program, text, remark) in FILES {
        std::fs::write(&file, text)?;
        let import = |from: &str| {
            let spec = ProgramSpec::new(failover.binary())
                .arguments(["import", "--from", from])
                .arguments([&file]);
            lab.gateway().node().output(spec)
        };
        let output = import(program).await?;
        assert!(output.status.success(), "{program}: {output:?}");
        let said = format!("{}{remark}", file.display());
        assert!(output.stderr.contains(&said), "{said}: {}", output.stderr);
        failover.rewrite(&output.stdout)?;
        let checked = failover.command("check").await?;
        assert_eq!(checked.stdout, "ok\n", "{checked:?}\n{}", output.stdout);
        for (other, ..) in FILES.iter().filter(|(other, ..)| *other != program) {
            let output = import(other).await?;
            assert_eq!(output.status.code(), Some(1), "{output:?}");
            assert!(output.stdout.is_empty(), "{output:?}");
            let wrong = format!("this is no configuration of {other}");
            assert!(output.stderr.contains(&wrong), "{wrong}: {}", output.stderr);
        }
    }
    Ok(())
}
