//! Words of a command line as a shell or a unit file writes it: quotes, comments, continued lines,
//! and variables that are set to a text.

use std::collections::BTreeMap;

/// A word and the line it begins in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Word {
    pub(super) text: String,
    pub(super) line: u64,
}

/// The commands of a file, each with its words; and what variables hold in the end.
#[derive(Debug, Default)]
pub(super) struct Script {
    pub(super) commands: Vec<Vec<Word>>,
    pub(super) variables: BTreeMap<String, Word>,
}

/// Reads what can be read without running it.
pub(super) fn read(text: &str) -> Script {
    let mut script = Script::default();
    let mut words: Vec<Word> = Vec::new();
    for (number, content) in (1..).zip(text.lines()) {
        let (content, continued) = content
            .trim_end()
            .strip_suffix('\\')
            .map_or((content, false), |content| (content, true));
        words.extend(split(content, number, &script.variables));
        if !continued {
            script.take(std::mem::take(&mut words));
        }
    }
    script.take(words);
    script
}

impl Script {
    fn take(&mut self, words: Vec<Word>) {
        let mut words = words.into_iter().peekable();
        while let Some((name, value)) = words.peek().and_then(assignment) {
            // A unit's `ExecStart=` is a command, not a variable.
            if name.starts_with("Exec") {
                let line = words.next().map_or(1, |word| word.line);
                let text = value
                    .trim_start_matches(['@', '-', ':', '+', '!'])
                    .to_owned();
                self.commands
                    .push([Word { text, line }].into_iter().chain(words).collect());
                return;
            }
            let line = words.next().map_or(1, |word| word.line);
            self.variables.insert(name, Word { text: value, line });
        }
        let command: Vec<Word> = words.collect();
        if !command.is_empty() {
            self.commands.push(command);
        }
    }
}

fn assignment(word: &Word) -> Option<(String, String)> {
    let (name, value) = word.text.split_once('=')?;
    let is_name = !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
    is_name.then(|| (name.to_owned(), value.to_owned()))
}

/// The words of a line. Variables are put in; one outside of quotes may be several words.
pub(super) fn split(line: &str, number: u64, variables: &BTreeMap<String, Word>) -> Vec<Word> {
    let mut words: Vec<String> = Vec::new();
    let mut word: Option<String> = None;
    let mut quote = None;
    let mut rest = line.chars().peekable();
    while let Some(c) = rest.next() {
        match (c, quote) {
            ('\'' | '"', None) => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            (c, Some(open)) if c == open => quote = None,
            ('#', None) if word.is_none() => break,
            ('\\', None | Some('"')) => word.get_or_insert_default().extend(rest.next()),
            ('$', None | Some('"')) => {
                let mut name = String::new();
                let braced = rest.next_if_eq(&'{').is_some();
                while let Some(c) = rest.next_if(|c| c.is_ascii_alphanumeric() || *c == '_') {
                    name.push(c);
                }
                if braced {
                    rest.next_if_eq(&'}');
                }
                let value = variables.get(&name).map_or("", |word| word.text.as_str());
                if quote.is_some() {
                    word.get_or_insert_default().push_str(value);
                } else {
                    for (position, part) in value.split_whitespace().enumerate() {
                        if position > 0 {
                            words.extend(word.take());
                        }
                        word.get_or_insert_default().push_str(part);
                    }
                }
            }
            (c, None) if c.is_whitespace() || c == ';' || c == '&' => words.extend(word.take()),
            (c, _) => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    words
        .into_iter()
        .map(|text| Word { text, line: number })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(words: &[Word]) -> Vec<&str> {
        words.iter().map(|word| word.text.as_str()).collect()
    }

    #[test]
    fn quotes_comments_continued_lines_and_variables() {
        let script = read(
            "# a comment\nROUTES=\"--route 1/192.0.2.1/wan1\"\nROUTES=\"$ROUTES --route 2/192.0.2.1/wan2\"\n\
             haip --wait 2 \\\n  $ROUTES # the end\n",
        );
        assert_eq!(script.commands.len(), 1);
        assert_eq!(
            texts(&script.commands[0]),
            [
                "haip",
                "--wait",
                "2",
                "--route",
                "1/192.0.2.1/wan1",
                "--route",
                "2/192.0.2.1/wan2"
            ]
        );
        assert_eq!(script.variables["ROUTES"].line, 3);
    }

    #[test]
    fn a_unit_starts_a_command() {
        let script = read("[Service]\nExecStart=-/usr/bin/haip --route '1/192.0.2.1/wan 1'\n");
        assert_eq!(
            texts(script.commands.last().unwrap()),
            ["/usr/bin/haip", "--route", "1/192.0.2.1/wan 1"]
        );
    }
}
