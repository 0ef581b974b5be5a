//! Mail, over TLS and with a password, to exim.

use failover_tests::daemon::{Mode, State};
use failover_tests::{Lab, eventually};

use crate::servers::{ADDRESS, PASSWORD, Place, USER};
use crate::{DELIVERY, MODES, SystemTest, TestResult, gateway, start};

pub(crate) fn tests() -> Vec<SystemTest> {
    let mut tests: Vec<SystemTest> = MODES
        .into_iter()
        .map(|mode| {
            let name = format!("{mode}_mail_of_a_dead_uplink_goes_by_the_other_one");
            SystemTest::new(name, move || by_the_other(mode))
        })
        .collect();
    tests.push(SystemTest::new(
        "a_wrong_password_is_told_and_nothing_else_suffers",
        wrong_password,
    ));
    tests
}

fn channel(place: &Place, server: &str, password: &str) -> String {
    format!(
        "  admin: {{mail: {{server: \"{server}\", user: {USER}, password: {{file: {}}}, ca: {}, from: gw@example.net, to: [admin@example.net]}}}}",
        place.path(password).display(),
        place.path("ca.pem").display(),
    )
}

async fn by_the_other(mode: Mode) -> TestResult {
    let lab = Lab::builder().build().await?;
    let place = Place::new(&lab, "mail")?;
    let _exim = place.exim().await?;
    // One way to encrypt in each mode.
    let server = match mode {
        Mode::Ebpf => format!("smtps://{ADDRESS}"),
        Mode::Classic => format!("smtp+starttls://{ADDRESS}"),
    };
    let daemon = start(&lab, &gateway(mode, &channel(&place, &server, "password"))).await?;
    lab.uplink(1)?.black_hole().await?;
    let mail = eventually("a mail about the dead uplink", DELIVERY, || async {
        let mails = place.mails().unwrap_or_default();
        Ok(mails
            .into_iter()
            .find(|mail| mail.contains("one (Provider 1) is down")))
    })
    .await
    .map_err(|error| format!("{error}\n{}", daemon.log()))?;
    for part in [
        "admin@example.net",
        "Subject: [",
        "auto-generated",
        "two is up",
        "IPv4",
        "IPv6",
    ] {
        assert!(mail.contains(part), "{part}: {mail}");
    }
    assert!(mail.contains("esmtpsa"), "encrypted and logged in: {mail}");
    let status = daemon.failover().command("notify status").await?;
    assert!(
        status.stdout.starts_with("admin (mail): last delivery 2"),
        "{status:?}"
    );
    let log = daemon.terminate().await?;
    assert!(!log.contains(PASSWORD), "{log}");
    Ok(())
}

async fn wrong_password() -> TestResult {
    let lab = Lab::builder().build().await?;
    let place = Place::new(&lab, "mail")?;
    let _exim = place.exim().await?;
    const WRONG: &str = "not-the-password";
    place.write("wrong", WRONG)?;
    let channel = channel(&place, &format!("smtps://{ADDRESS}"), "wrong");
    let daemon = start(&lab, &gateway(Mode::Classic, &channel)).await?;
    let failover = daemon.failover();
    let output = failover.command("notify test").await?;
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let told = "admin (mail): not delivered: cannot log in: ";
    assert!(
        output.stdout.starts_with(told) && output.stdout.contains("535"),
        "{output:?}"
    );
    assert!(
        output.stderr.contains("1 of 1 channels did not deliver"),
        "{output:?}"
    );

    lab.uplink(1)?.black_hole().await?;
    let status = eventually("the refusal is told", DELIVERY, || async {
        let status = failover.command("status").await?;
        Ok(status
            .stdout
            .contains("cannot log in")
            .then_some(status.stdout))
    })
    .await?;
    assert!(
        status.contains("PROBLEM: nothing is told by admin"),
        "{status}"
    );
    assert_eq!(
        daemon
            .log()
            .matches("a notification is not delivered")
            .count(),
        1
    );
    daemon
        .wait_until("one is down", DELIVERY, |status| {
            status.is("one", State::Down)
        })
        .await?;
    // The right one counts with the next attempt, which a test does not wait for.
    place.write("wrong", PASSWORD)?;
    let output = failover.command("notify test admin").await?;
    assert_eq!(output.stdout, "admin (mail): delivered\n", "{output:?}");

    let mut said = vec![output.stdout, output.stderr, status];
    for command in ["status --json", "check", "reload", "events"] {
        let output = failover.command(command).await?;
        said.extend([output.stdout, output.stderr]);
    }
    said.push(daemon.terminate().await?);
    for entry in std::fs::read_dir(lab.files().join("state"))? {
        let path = entry?.path();
        if path.is_file() {
            said.push(String::from_utf8_lossy(&std::fs::read(path)?).into_owned());
        }
    }
    for text in said {
        assert!(!text.contains(WRONG) && !text.contains(PASSWORD), "{text}");
    }
    Ok(())
}
