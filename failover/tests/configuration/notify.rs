//! What is refused of `notify`, and that no refusal shows a secret.

use failover::config::parse;

const UPLINKS: &str = "uplinks: {one: {interface: wan1}}\n";

#[test]
fn what_is_wrong_is_told_without_secrets() {
    for (channel, parts) in [
        (
            "{mail: {server: smtps://m.example, user: gw, password: tell-no-1, from: a@b.example, to: [c]}}",
            [
                "notify.x.mail.password",
                "a secret in the configuration itself",
                "{file: /PATH}",
            ],
        ),
        (
            "{mqtt: {server: \"mqtt://gw:tell-no-1@m.example\"}}",
            [
                "notify.x.mqtt.server",
                "a user in the address",
                "user and password",
            ],
        ),
        (
            "{webhook: {url: \"https://h.example/\", headers: {Authorization: Bearer tell-no-1}}}",
            [
                "headers.Authorization",
                "a secret in the configuration itself",
                "chmod 600",
            ],
        ),
        (
            "{webhook: {url: \"https://h.example/\", body: \"{{uplnk}} is {{state}}\"}}",
            [
                "notify.x.webhook.body",
                "the unknown placeholder {{uplnk}}",
                "did you mean `uplink`?",
            ],
        ),
        (
            "{webhook: {url: \"https://h.example/\", body: \"{{uplink is\"}}",
            [
                "notify.x.webhook.body",
                "a placeholder without its end",
                "3:",
            ],
        ),
        (
            "{mail: {server: smtp://m.example, user: gw, password: {env: P}, from: a@b.example, to: c@d.example}}",
            [
                "notify.x.mail.password",
                "everybody can read",
                "only over TLS",
            ],
        ),
        (
            "{program: {run: [hook.sh]}, uplinks: [two], at_most: 6}",
            [
                "notify.x.program.run",
                "absolute path",
                "the name of an uplink: one",
            ],
        ),
    ] {
        let text = format!("{UPLINKS}notify:\n  x: {channel}\n");
        let told = parse(&text).unwrap_err().to_string();
        for part in parts {
            assert!(told.contains(part), "{part}: {told}");
        }
        assert!(!told.contains("tell-no-1"), "{told}");
    }
}
