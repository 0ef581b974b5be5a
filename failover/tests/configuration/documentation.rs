//! The examples of `docs/configuration.md` and `docs/notifications.md` are configurations, and they name
//! every key.

use failover::config::parse;

const DOCUMENT: &str = include_str!("../../../docs/configuration.md");

const NOTIFICATIONS: &str = include_str!("../../../docs/notifications.md");

/// The YAML blocks, each with its first line in the document.
fn examples(document: &str) -> Vec<(usize, String)> {
    let mut examples = Vec::new();
    let mut open: Option<(usize, String)> = None;
    for (index, line) in document.lines().enumerate() {
        match (&mut open, line.trim()) {
            (None, "```yaml") => open = Some((index + 2, String::new())),
            (Some(_), "```") => examples.extend(open.take()),
            (Some((_, text)), _) => {
                text.push_str(line);
                text.push('\n');
            }
            (None, _) => {}
        }
    }
    assert!(open.is_none(), "a block is left open");
    examples
}

/// Pieces show a few keys of a file: what they leave out is put in.
fn whole(piece: &str) -> String {
    if piece.lines().any(|line| line.starts_with("uplinks:")) {
        piece.to_owned()
    } else {
        format!("{piece}\nuplinks: {{fiber: {{interface: eth1}}}}\n")
    }
}

#[test]
fn every_example_is_a_configuration() {
    for (document, name, least) in [
        (DOCUMENT, "configuration.md", 5),
        (NOTIFICATIONS, "notifications.md", 2),
    ] {
        let examples = examples(document);
        assert!(examples.len() >= least, "{name}: {}", examples.len());
        for (line, text) in examples {
            if let Err(error) = parse(&whole(&text)) {
                panic!("docs/{name}, block at line {line}:\n{error}");
            }
        }
    }
}

/// The keys that a message lists as allowed at the place of a key that cannot be.
fn allowed_keys(text: &str) -> Vec<String> {
    let error = parse(text).unwrap_err();
    let problem = error
        .problems()
        .iter()
        .find(|problem| problem.found() == "an unknown key")
        .unwrap();
    problem
        .allowed()
        .trim_start_matches("the key")
        .trim_start_matches("s ")
        .split(", ")
        .map(|key| key.trim().to_owned())
        .collect()
}

#[test]
fn every_key_has_its_row() {
    for (prefix, text) in [
        ("", "nothing: 1"),
        ("uplinks.NAME.", "uplinks: {a: {nothing: 1}}"),
        ("rules[].", "rules: [{nothing: 1}]"),
        ("probe.", "probe: {nothing: 1}"),
        ("flows.", "flows: {nothing: 1}"),
        ("marks.", "marks: {nothing: 1}"),
        ("tables.", "tables: {nothing: 1}"),
    ] {
        let keys = allowed_keys(text);
        assert!(!keys.is_empty());
        for key in keys {
            let row = format!("| `{prefix}{key}` |");
            let has_parts = DOCUMENT.contains(&format!("| `{key}."));
            assert!(
                DOCUMENT.contains(&row) || (prefix.is_empty() && has_parts),
                "docs/configuration.md has no row {row}"
            );
        }
    }
}

#[test]
fn every_key_of_notifications_has_its_row() {
    for (prefix, text) in [
        ("notify.NAME.", "notify: {a: {nothing: 1}}"),
        ("mail.", "notify: {a: {mail: {nothing: 1}}}"),
        ("mqtt.", "notify: {a: {mqtt: {nothing: 1}}}"),
        ("webhook.", "notify: {a: {webhook: {nothing: 1}}}"),
        ("program.", "notify: {a: {program: {nothing: 1}}}"),
    ] {
        for key in allowed_keys(text) {
            let name = format!("`{prefix}{key}`");
            let section = format!("| `{key}.");
            assert!(
                NOTIFICATIONS.contains(&name) || NOTIFICATIONS.contains(&section),
                "docs/notifications.md has no row {name}"
            );
        }
    }
}

#[test]
fn the_packaged_example_is_a_configuration() {
    if let Err(error) = parse(include_str!("../../../packaging/failover.yaml")) {
        panic!("packaging/failover.yaml:\n{error}");
    }
}
