//! The log in a file.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::time::Duration;

use failover_tests::daemon::{State, Status};
use failover_tests::{Failover, Lab, eventually};

use crate::{CONFIG, SystemTest, TestResult, VERDICT};

const LIMIT: Duration = Duration::from_secs(20);

pub(crate) fn tests() -> Vec<SystemTest> {
    vec![SystemTest::new(
        "a_log_file_is_written_and_its_loss_stops_nothing",
        file,
    )]
}

async fn file() -> TestResult {
    let lab = Lab::builder().build().await?;
    let folder = lab.files().join("log");
    let log = folder.join("failover.log");
    fs::create_dir(&folder)?;
    let config = format!("{CONFIG}\nlog: {{to: {{file: {}}}}}\n", log.display());
    let failover = Failover::new(&lab, &config)?;
    let daemon = failover.run().await?;
    let up = |status: &Status| status.all(State::Up);
    daemon.wait_until("both are up", VERDICT, up).await?;
    let says = |text: &'static str| {
        let log = log.clone();
        move || {
            let said = fs::read_to_string(&log).unwrap_or_default();
            async move { Ok(said.contains(text).then_some(said)) }
        }
    };
    let state = "uplink changed its state uplink=two";
    let text = eventually("the file says that an uplink is up", LIMIT, says(state)).await?;
    assert!(text.contains(" INFO "), "{text}");
    assert!(!text.contains('\u{1b}'), "colours in a file: {text}");
    let mode = fs::metadata(&log)?.permissions().mode();
    assert_eq!(mode & 0o007, 0, "all may read it: {mode:o}");
    assert_eq!(daemon.log(), "", "the log goes to one place");

    fs::remove_dir_all(&folder)?;
    lab.uplink(2)?.carrier_loss().await?;
    let down = |status: &Status| status.is("two", State::Down);
    daemon.wait_until("two is down", VERDICT, down).await?;
    eventually("standard error has what the file cannot", LIMIT, || async {
        Ok(daemon.log().contains(state).then_some(()))
    })
    .await?;
    let told = daemon.log().matches("cannot open").count();
    assert_eq!(told, 1, "{}", daemon.log());

    fs::create_dir(&folder)?;
    lab.uplink(2)?.heal().await?;
    let missing = "what is missing here went to standard error";
    eventually("the file goes on", LIMIT, says(missing)).await?;
    daemon.terminate().await?;
    let text = fs::read_to_string(&log)?;
    assert!(text.contains("stopped; the last selection"), "{text}");
    Ok(())
}
