//! Webhooks, to busybox's web server.

use failover_tests::daemon::Mode;
use failover_tests::{Lab, eventually};
use serde_json::Value;

use crate::servers::{ADDRESS, PASSWORD, Place};
use crate::{DELIVERY, MODES, SystemTest, TestResult, gateway, start, text};

pub(crate) fn tests() -> Vec<SystemTest> {
    MODES
        .into_iter()
        .map(|mode| {
            let name = format!("{mode}_a_webhook_about_a_dead_uplink_goes_by_the_other_one");
            SystemTest::new(name, move || by_the_other(mode))
        })
        .collect()
}

async fn by_the_other(mode: Mode) -> TestResult {
    let lab = Lab::builder().build().await?;
    let place = Place::new(&lab, "web")?;
    let _httpd = place.httpd().await?;
    let key = place.path("password");
    let channels = format!(
        r#"  phone:
    webhook:
      url: "http://{ADDRESS}/cgi-bin/hook"
      headers: {{Title: "{{{{uplink}}}} is {{{{state}}}}", X-Key: {{file: {}}}}}
      body: '{{"text": "{{{{title}}}}: {{{{reason}}}}", "how": "{{{{severity}}}}"}}'
  facts: {{webhook: {{url: "http://{ADDRESS}/cgi-bin/hook"}}, uplinks: [one]}}
  shut: {{webhook: {{url: "http://{ADDRESS}/cgi-bin/no", body: "{{{{title}}}}"}}, on: [by_hand]}}"#,
        key.display()
    );
    let daemon = start(&lab, &gateway(mode, &channels)).await?;
    lab.uplink(1)?.black_hole().await?;
    let (templated, facts) = eventually("both hooks are called", DELIVERY, || async {
        let requests = place.requests().unwrap_or_default();
        let find = |part: &str| {
            requests
                .iter()
                .find(|request| request.contains(part))
                .cloned()
        };
        Ok(find("\"how\"").zip(find("\"changes\"")))
    })
    .await
    .map_err(|error| format!("{error}\n{}", daemon.log()))?;
    let (head, body) = templated.split_once('\n').ok_or("a head and a body")?;
    assert_eq!(
        head,
        format!("POST application/json title=one is down key={PASSWORD}")
    );
    let body: Value = serde_json::from_str(body)?;
    assert_eq!(text(&body, "/how"), "warning");
    assert!(text(&body, "/text").contains("targets"), "{body}");
    let facts: Value = serde_json::from_str(facts.split_once('\n').ok_or("a body")?.1)?;
    assert_eq!(
        (text(&facts, "/event"), text(&facts, "/uplink")),
        ("down", "one")
    );
    assert_eq!(text(&facts, "/uplinks/1/state"), "up", "{facts}");

    let output = daemon.failover().command("notify test shut").await?;
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let told = "shut (webhook): not delivered: the server says 403 Forbidden: said so\n";
    assert_eq!(output.stdout, told);
    let log = daemon.terminate().await?;
    assert!(!log.contains(PASSWORD), "{log}");
    Ok(())
}
