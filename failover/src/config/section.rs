//! Reading maps and lists: every key is known or a problem, and every problem is collected.

use super::problem::{Problem, shown};
use super::tree::{self, Content, Entry, Node, Place};

/// What reading gives: a value, or everything that is wrong with it.
pub(super) type Read<T> = Result<T, Problems>;

/// One or more problems.
#[derive(Debug, Default)]
pub(super) struct Problems(pub(super) Vec<Problem>);

impl From<Problem> for Problems {
    fn from(problem: Problem) -> Self {
        Self(vec![problem])
    }
}

/// The keys of a path as people write it: `uplinks.fiber.probe.targets[0]`.
pub(super) fn path_of(steps: &[String]) -> String {
    steps
        .iter()
        .fold(String::new(), |path, step| join(&path, step))
}

fn join(path: &str, step: &str) -> String {
    if path.is_empty() || step.starts_with('[') {
        format!("{path}{step}")
    } else {
        format!("{path}.{step}")
    }
}

/// A value in its file: what it is, where it is, and the key it stands under.
#[derive(Clone, Debug)]
pub(super) struct Value<'a> {
    pub(super) node: &'a Node,
    key: String,
    text: &'a str,
}

impl<'a> Value<'a> {
    /// The whole document.
    pub(super) fn root(node: &'a Node, text: &'a str) -> Self {
        Self {
            node,
            key: String::new(),
            text,
        }
    }

    fn child(&self, step: &str, node: &'a Node) -> Self {
        Self {
            node,
            key: join(&self.key, step),
            text: self.text,
        }
    }

    pub(super) const fn place(&self) -> Place {
        self.node.place
    }

    /// What was found here is not what is allowed.
    pub(super) fn problem(&self, allowed: impl Into<String>) -> Problem {
        self.problem_with(self.found(), allowed)
    }

    /// A problem here that says in other words than the file's what was found.
    pub(super) fn problem_with(
        &self,
        found: impl Into<String>,
        allowed: impl Into<String>,
    ) -> Problem {
        Problem::new(found, allowed).at(self.place()).key(&self.key)
    }

    /// The file's own words, or the kind of value.
    pub(super) fn found(&self) -> String {
        match &self.node.content {
            Content::Null => "nothing".to_owned(),
            Content::List(items) if items.is_empty() => "an empty list".to_owned(),
            Content::Map(entries) if entries.is_empty() => "an empty map".to_owned(),
            Content::List(_) => "a list".to_owned(),
            Content::Map(_) => "a map".to_owned(),
            Content::Text(text) if text.is_empty() => "an empty text".to_owned(),
            Content::Text(text) => format!("`{}`", shown(self.written().unwrap_or(text))),
            Content::Bool(_) | Content::Integer(_) | Content::Float => {
                format!("`{}`", shown(self.written().unwrap_or("?")))
            }
        }
    }

    /// The text of a scalar as it is written, quotes included.
    fn written(&self) -> Option<&'a str> {
        self.text
            .get(self.node.bytes.clone())
            .filter(|text| !text.is_empty())
    }

    /// A scalar as text: a name may be `1` or `true` without quotes.
    pub(super) fn spelled(&self) -> Option<&'a str> {
        match &self.node.content {
            Content::Text(text) => Some(text),
            Content::Bool(_) | Content::Integer(_) | Content::Float => self.written(),
            Content::Null | Content::List(_) | Content::Map(_) => None,
        }
    }

    /// The items of a list, each read by `read`.
    pub(super) fn list<T>(
        &self,
        allowed: &str,
        mut read: impl FnMut(&Value<'a>) -> Read<T>,
    ) -> Read<Vec<(T, Value<'a>)>> {
        let Content::List(items) = &self.node.content else {
            return Err(self.problem(allowed).into());
        };
        let mut good = Vec::new();
        let mut problems = Problems::default();
        for (position, node) in items.iter().enumerate() {
            let value = self.child(&tree::list_step(position), node);
            match read(&value) {
                Ok(item) => good.push((item, value)),
                Err(more) => problems.0.extend(more.0),
            }
        }
        if problems.0.is_empty() {
            Ok(good)
        } else {
            Err(problems)
        }
    }

    /// The entries of a map whose keys are names that the user gives.
    pub(super) fn named(&self, allowed: &str) -> Read<Vec<(&'a str, Place, Value<'a>)>> {
        let Content::Map(entries) = &self.node.content else {
            return Err(self.problem(allowed).into());
        };
        Ok(entries
            .iter()
            .map(|entry| {
                let value = self.child(&entry.key, &entry.node);
                (entry.key.as_str(), entry.place, value)
            })
            .collect())
    }
}

/// The keys of a map.
pub(super) struct Keys {
    /// Those that mean something.
    pub(super) known: &'static [&'static str],
    /// Those that will, in another version.
    pub(super) later: &'static [&'static str],
}

impl Keys {
    fn names(&self) -> String {
        match self.known {
            [only] => format!("the key {only}"),
            known => format!("the keys {}", known.join(", ")),
        }
    }
}

/// What became of one key.
#[derive(Debug)]
pub(super) enum Given<'a, T> {
    /// It is not there.
    Absent,
    /// It is there and its problems are collected.
    Bad,
    /// It is there and good.
    Good(T, Value<'a>),
}

impl<'a, T> Given<'a, T> {
    pub(super) fn or(self, default: T) -> T {
        self.ok().unwrap_or(default)
    }

    pub(super) fn ok(self) -> Option<T> {
        match self {
            Self::Good(value, _) => Some(value),
            Self::Absent | Self::Bad => None,
        }
    }

    /// The value and its place, when it is good.
    pub(super) const fn good(&self) -> Option<(&T, &Value<'a>)> {
        match self {
            Self::Good(value, at) => Some((value, at)),
            Self::Absent | Self::Bad => None,
        }
    }

    pub(super) const fn is_bad(&self) -> bool {
        matches!(self, Self::Bad)
    }

    pub(super) const fn is_absent(&self) -> bool {
        matches!(self, Self::Absent)
    }
}

/// A map with fixed keys that is being read.
pub(super) struct Section<'a> {
    value: Value<'a>,
    entries: &'a [Entry],
    problems: Problems,
}

impl<'a> Section<'a> {
    /// Opens a map; unknown keys are collected at once.
    pub(super) fn open(value: &Value<'a>, keys: &Keys) -> Read<Self> {
        let Content::Map(entries) = &value.node.content else {
            let allowed = format!("a map with {}", keys.names());
            return Err(value.problem(allowed).into());
        };
        let unknown = entries
            .iter()
            .filter(|entry| !keys.known.contains(&entry.key.as_str()))
            .map(|entry| unknown_key(value, entry, keys))
            .collect();
        Ok(Self {
            value: value.clone(),
            entries,
            problems: Problems(unknown),
        })
    }

    /// Reads the value of a key.
    pub(super) fn read<T>(
        &mut self,
        key: &str,
        read: impl FnOnce(&Value<'a>) -> Read<T>,
    ) -> Given<'a, T> {
        let Some(entry) = self.entries.iter().find(|entry| entry.key == key) else {
            return Given::Absent;
        };
        let value = self.value.child(key, &entry.node);
        match read(&value) {
            Ok(good) => Given::Good(good, value),
            Err(more) => {
                self.problems.0.extend(more.0);
                Given::Bad
            }
        }
    }

    /// Says that a key must be there, when it is not.
    pub(super) fn require<T>(&mut self, given: &Given<'a, T>, key: &str, allowed: &str) {
        if given.is_absent() {
            self.problem(
                Problem::new("nothing", allowed)
                    .at(self.value.place())
                    .key(join(&self.value.key, key)),
            );
        }
    }

    /// Adds a problem.
    pub(super) fn problem(&mut self, problem: Problem) {
        self.problems.0.push(problem);
    }

    /// The result, if nothing is wrong.
    pub(super) fn finish<T>(self, result: Option<T>) -> Read<T> {
        match result {
            Some(result) if self.problems.0.is_empty() => Ok(result),
            _ => Err(self.problems),
        }
    }
}

fn unknown_key(map: &Value<'_>, entry: &Entry, keys: &Keys) -> Problem {
    let found = if keys.later.contains(&entry.key.as_str()) {
        "a key that is not supported by this version"
    } else {
        "an unknown key"
    };
    Problem::new(found, keys.names())
        .at(entry.place)
        .key(join(&map.key, &entry.key))
        .hint(did_you_mean(&entry.key, keys.known))
}

/// What to say to somebody who made a typing error or two.
pub(super) fn did_you_mean(found: &str, words: &[&str]) -> Option<String> {
    nearest(found, words).map(|word| format!("did you mean `{word}`?"))
}

/// The word that a typing error or two lead away from.
fn nearest<'w>(found: &str, words: &[&'w str]) -> Option<&'w str> {
    let found = found.to_ascii_lowercase().replace('-', "_");
    words
        .iter()
        .map(|word| (typing_errors(&found, word), *word))
        .filter(|(errors, word)| *errors <= 2 && *errors < word.len())
        .min_by_key(|(errors, _)| *errors)
        .map(|(_, word)| word)
}

/// How many letters have to be put in, left out or changed to get from one word to the other
/// (Levenshtein's distance); words that differ by more than 2 letters in length are far apart.
fn typing_errors(from: &str, to: &str) -> usize {
    if from.len().abs_diff(to.len()) > 2 {
        return usize::MAX;
    }
    let mut row: Vec<usize> = (0..=to.chars().count()).collect();
    for (line, a) in from.chars().enumerate() {
        let mut left = line + 1;
        let mut next = vec![left];
        for (b, pair) in to.chars().zip(row.windows(2)) {
            if let [diagonal, above] = pair {
                left = (diagonal + usize::from(a != b))
                    .min(above + 1)
                    .min(left + 1);
                next.push(left);
            }
        }
        row = next;
    }
    row.last().copied().unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_key_is_offered_and_nothing_far_fetched() {
        let keys = ["interface", "weight", "priority", "nat", "id"];
        assert_eq!(nearest("wieght", &keys), Some("weight"));
        assert_eq!(nearest("Interfaces", &keys), Some("interface"));
        assert_eq!(nearest("prio", &keys), None);
        assert_eq!(nearest("xy", &keys), None);
        assert_eq!(nearest("new-flows", &["new_flows"]), Some("new_flows"));
    }

    #[test]
    fn paths_read_as_people_write_them() {
        let steps = ["uplinks", "fiber", "probe", "targets", "[1]"].map(str::to_owned);
        assert_eq!(path_of(&steps), "uplinks.fiber.probe.targets[1]");
    }
}
