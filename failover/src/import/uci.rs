//! `OpenWrt`'s UCI: sections of a type, with options and lists.

use crate::config::Place;

/// One section.
#[derive(Debug)]
pub(super) struct Section<'a> {
    pub(super) kind: &'a str,
    /// What it is called; sections may have no name.
    pub(super) name: Option<&'a str>,
    pub(super) line: u64,
    pub(super) options: Vec<Setting<'a>>,
}

/// An `option`, or an item of a `list`.
#[derive(Debug)]
pub(super) struct Setting<'a> {
    pub(super) key: &'a str,
    pub(super) value: &'a str,
    pub(super) line: u64,
}

impl<'a> Section<'a> {
    /// The last option of this name, which is the one that counts.
    pub(super) fn option(&self, key: &str) -> Option<&Setting<'a>> {
        self.options.iter().rev().find(|option| option.key == key)
    }

    /// All items of a list; an option is a list of one.
    pub(super) fn list(&self, key: &str) -> impl Iterator<Item = &Setting<'a>> {
        self.options.iter().filter(move |option| option.key == key)
    }
}

/// Why a text is no UCI.
#[derive(Debug)]
pub(super) struct NotUci {
    pub(super) place: Place,
    pub(super) why: String,
}

/// Reads the sections of a file.
pub(super) fn read(text: &str) -> Result<Vec<Section<'_>>, NotUci> {
    let mut sections: Vec<Section<'_>> = Vec::new();
    for (number, content) in (1..).zip(text.lines()) {
        let words = words(content).map_err(|(column, why)| NotUci {
            place: Place {
                line: number,
                column,
            },
            why: why.to_owned(),
        })?;
        let wrong = |why: &str| NotUci {
            place: Place {
                line: number,
                column: 1,
            },
            why: why.to_owned(),
        };
        match words.as_slice() {
            [] | ["package", _] => {}
            ["config", kind] => sections.push(section(kind, None, number)),
            ["config", kind, name] => sections.push(section(kind, Some(name), number)),
            ["option" | "list", key, value] => sections
                .last_mut()
                .ok_or_else(|| wrong("an option before the first `config` line"))?
                .options
                .push(Setting {
                    key,
                    value,
                    line: number,
                }),
            ["config" | "option" | "list", ..] => {
                return Err(wrong(
                    "written are `config TYPE 'NAME'`, `option KEY 'VALUE'` and `list KEY 'VALUE'`",
                ));
            }
            [other, ..] => {
                return Err(wrong(&format!(
                    "a line begins with `config`, `option` or `list`, this one with `{other}`"
                )));
            }
        }
    }
    Ok(sections)
}

const fn section<'a>(kind: &'a str, name: Option<&'a str>, line: u64) -> Section<'a> {
    Section {
        kind,
        name,
        line,
        options: Vec::new(),
    }
}

/// The words of a line; quoted ones may hold white space.
fn words(line: &str) -> Result<Vec<&str>, (u64, &'static str)> {
    let mut words = Vec::new();
    let mut rest = line.trim_start();
    while let Some(first) = rest.chars().next() {
        if first == '#' {
            break;
        }
        let (word, behind) = if matches!(first, '\'' | '"') {
            let inside = rest.get(1..).unwrap_or_default();
            inside.split_once(first).ok_or_else(|| {
                let before = line.len().saturating_sub(rest.len());
                (
                    u64::try_from(before + 1).unwrap_or(1),
                    "a quote is not closed in its line",
                )
            })?
        } else {
            let end = rest.find(char::is_whitespace).unwrap_or(rest.len());
            rest.split_at(end)
        };
        words.push(word);
        rest = behind.trim_start();
    }
    Ok(words)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sections_options_lists_quotes_and_comments() {
        let text = "package mwan3\n\nconfig interface 'wan one'\n\toption enabled 1 # on\n\
                    \tlist track_ip \"192.0.2.1\"\n\tlist track_ip '192.0.2.2'\nconfig rule\n";
        let sections = read(text).unwrap();
        assert_eq!(sections.len(), 2);
        assert_eq!(sections[0].name, Some("wan one"));
        assert_eq!(sections[0].option("enabled").unwrap().value, "1");
        assert_eq!(sections[0].list("track_ip").count(), 2);
        assert_eq!(sections[1].line, 7);
    }

    #[test]
    fn what_is_no_uci_is_told_with_its_place() {
        for (text, line, column) in [
            ("config rule\n\toption a 'b\n", 2, 11),
            ("option a b\n", 1, 1),
            ("uplinks:\n", 1, 1),
            ("config\n", 1, 1),
        ] {
            let error = read(text).unwrap_err();
            assert_eq!(error.place, Place { line, column }, "{text}: {}", error.why);
        }
    }
}
