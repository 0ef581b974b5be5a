//! Texts with facts in them: `{{uplink}} is {{state}}`.

use std::fmt::Write as _;

use thiserror::Error;

use crate::notify::message::Message;

/// A text with placeholders.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Template {
    pieces: Vec<Piece>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Piece {
    Text(String),
    Fact(&'static str, Option<Escape>),
}

/// How a fact is written so that it does not break what is around it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Escape {
    /// As it is.
    None,
    /// As the inside of a text of JSON.
    Json,
    /// As part of a URL.
    Url,
}

/// Why a text is no template.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum TemplateError {
    /// A placeholder has no end.
    #[error("a placeholder without its end: {{{{{begun}")]
    Open {
        /// How it begins.
        begun: String,
    },
    /// There is no such fact.
    #[error("the unknown placeholder {{{{{name}}}}}")]
    Unknown {
        /// What it says.
        name: String,
    },
    /// There is no such filter.
    #[error("the unknown filter `{name}`: json or url are known")]
    Filter {
        /// What it says.
        name: String,
    },
}

impl Template {
    /// Reads a text. What stands between `{{` and `}}` is a placeholder, maybe with a filter, as in
    /// `{{reason|json}}`.
    ///
    /// # Errors
    /// When a placeholder has no end or is unknown.
    pub fn parse(text: &str) -> Result<Self, TemplateError> {
        let mut pieces = Vec::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once("{{") {
            let Some((inside, behind)) = after.split_once("}}") else {
                let begun = after.chars().take(20).collect();
                return Err(TemplateError::Open { begun });
            };
            if !before.is_empty() {
                pieces.push(Piece::Text(before.to_owned()));
            }
            pieces.push(placeholder(inside)?);
            rest = behind;
        }
        if !rest.is_empty() {
            pieces.push(Piece::Text(rest.to_owned()));
        }
        Ok(Self { pieces })
    }

    /// The text with the facts of a message; `usual` is how those are written that say nothing else.
    #[must_use]
    pub fn fill_in(&self, message: &Message, usual: Escape) -> String {
        let mut text = String::new();
        for piece in &self.pieces {
            match piece {
                Piece::Text(piece) => text.push_str(piece),
                Piece::Fact(name, escape) => {
                    let fact = message.fact(name);
                    push_escaped(&mut text, &fact, escape.unwrap_or(usual));
                }
            }
        }
        text
    }

    /// Whether it is meant as JSON, by how it begins.
    #[must_use]
    pub fn looks_like_json(&self) -> bool {
        matches!(self.pieces.first(), Some(Piece::Text(text))
            if text.trim_start().starts_with(['{', '[']))
    }
}

fn placeholder(inside: &str) -> Result<Piece, TemplateError> {
    let (name, filter) = match inside.split_once('|') {
        Some((name, filter)) => (name.trim(), Some(filter.trim())),
        None => (inside.trim(), None),
    };
    let shown = |text: &str| text.chars().take(40).collect();
    let mut facts = Message::FACTS.iter();
    let Some(name) = facts.find(|fact| **fact == name) else {
        return Err(TemplateError::Unknown { name: shown(name) });
    };
    let escape = match filter {
        None => None,
        Some("json") => Some(Escape::Json),
        Some("url") => Some(Escape::Url),
        Some(other) => return Err(TemplateError::Filter { name: shown(other) }),
    };
    Ok(Piece::Fact(name, escape))
}

fn push_escaped(text: &mut String, fact: &str, escape: Escape) {
    match escape {
        Escape::None => text.push_str(fact),
        Escape::Json => {
            let quoted = serde_json::Value::from(fact).to_string();
            let inside = quoted
                .strip_prefix('"')
                .and_then(|text| text.strip_suffix('"'));
            text.push_str(inside.unwrap_or_default());
        }
        Escape::Url => {
            for byte in fact.bytes() {
                if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
                    text.push(char::from(byte));
                } else {
                    // Writing to a text cannot fail.
                    write!(text, "%{byte:02X}").ok();
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::notify::message::Message;

    fn filled(text: &str, escape: Escape) -> String {
        let message = Message::test("gw \"1\"\n");
        Template::parse(text).unwrap().fill_in(&message, escape)
    }

    #[test]
    fn facts_are_filled_in_and_escaped() {
        assert_eq!(filled("at {{ host }}!", Escape::None), "at gw \"1\"\n!");
        assert_eq!(
            filled("{\"at\": \"{{host}}\"}", Escape::Json),
            r#"{"at": "gw \"1\"\n"}"#
        );
        assert_eq!(filled("{{host|url}}", Escape::Json), "gw%20%221%22%0A");
        assert_eq!(filled("{ {} }", Escape::Json), "{ {} }");
    }

    #[test]
    fn what_is_no_template_is_told() {
        let told = |text| Template::parse(text).unwrap_err().to_string();
        assert_eq!(
            told("a {{uplink"),
            "a placeholder without its end: {{uplink"
        );
        assert_eq!(told("{{uplnk}}"), "the unknown placeholder {{uplnk}}");
        assert_eq!(
            told("{{uplink|xml}}"),
            "the unknown filter `xml`: json or url are known"
        );
    }

    proptest! {
        #[test]
        fn json_stays_json_whatever_a_fact_says(host in ".*") {
            let message = Message::test(&host);
            let template = Template::parse(r#"{"host": "{{host}}"}"#).unwrap();
            prop_assert!(template.looks_like_json());
            let text = template.fill_in(&message, Escape::Json);
            let value: serde_json::Value = serde_json::from_str(&text).unwrap();
            prop_assert_eq!(value["host"].as_str(), Some(host.as_str()));
        }

        #[test]
        fn no_text_makes_the_parser_fall_over(text in ".*") {
            Template::parse(&text).ok();
        }
    }
}
