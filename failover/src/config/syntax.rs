//! What the YAML parser refuses, in the words of a [`Problem`].

use serde_yaml::MessageFormatter as _;
use serde_yaml::budget::BudgetBreach;
use serde_yaml::{Error, UserMessageFormatter};

use super::problem::{Problem, shown};
use super::section::path_of;
use super::tree::{self, MAX_DEPTH, MAX_VALUES, Place};

/// The problem behind a parser's error.
pub(super) fn problem(text: &str, error: &Error) -> Problem {
    let error = error.without_snippet();
    let place = error.location().and_then(Place::of);
    let mut path = tree::path_to_failure(text);
    let problem = match error {
        Error::DuplicateMappingKey { key: Some(key), .. } => {
            let first = tree::first_of(text, &path, key)
                .map(|place| format!("the first stands at {place}"));
            path.push(key.clone());
            Problem::new("the same key again", "each key once in its map").hint(first)
        }
        Error::DuplicateMappingKey { key: None, .. } => {
            Problem::new("the same key again", "each key once in its map")
        }
        Error::NullIntoString { .. }
        | Error::Unexpected {
            expected: "string scalar",
            ..
        } => Problem::new("a key that is no word", "the name of a key"),
        Error::Budget { breach, .. } => too_much(breach),
        Error::AliasReplayLimitExceeded { .. }
        | Error::AliasExpansionLimitExceeded { .. }
        | Error::AliasReplayStackDepthExceeded { .. }
        | Error::AliasReplayCounterOverflow { .. } => Problem::new(
            "aliases that stand for too many values",
            format!("{MAX_VALUES} values in all"),
        ),
        Error::AliasError { error, .. } => return problem_within_alias(text, error, place),
        Error::UnknownAnchor { .. } => Problem::new(
            "an alias of something that is not there",
            "`*name` below a value that was given `&name`",
        ),
        Error::RecursiveReferencesRequireWeakTypes { .. } => Problem::new(
            "an alias of what it stands in",
            "`*name` below the end of the value that was given `&name`",
        ),
        Error::MultipleDocuments { .. } => Problem::new(
            "a second document",
            "one document, without `---` in its middle",
        ),
        Error::MergeKeyNotAllowed { .. } => Problem::new(
            "a merge key `<<`",
            "keys written where they belong; `key: *name` can repeat a value",
        ),
        Error::UnsupportedTag { tag, .. } => Problem::new(
            format!("the tag `{}`", shown(tag)),
            "values without a tag of their own",
        ),
        other => {
            let message = UserMessageFormatter.format_message(other);
            if message
                .split(' ')
                .any(|word| matches!(word, "tab" | "tabs"))
            {
                Problem::new("a tab as indentation", "spaces")
            } else if message.contains("recursion limit") {
                too_deep()
            } else {
                let found = format!("what is no YAML ({})", shown(&message));
                Problem::new(found, "YAML 1.2")
            }
        }
    };
    problem.at(place).key(path_of(&path))
}

fn problem_within_alias(text: &str, error: &Error, place: Option<Place>) -> Problem {
    problem(text, error).at(place)
}

fn too_deep() -> Problem {
    Problem::new(
        "lists and maps nested too deeply",
        format!("{MAX_DEPTH} in each other"),
    )
}

fn too_much(breach: &BudgetBreach) -> Problem {
    match breach {
        BudgetBreach::Depth { .. } => too_deep(),
        BudgetBreach::AliasAnchorRatio { aliases, .. } | BudgetBreach::Aliases { aliases } => {
            Problem::new(
                format!("{aliases} aliases"),
                "at most 100, or 10 for each anchor",
            )
        }
        BudgetBreach::Nodes { .. } | BudgetBreach::Events { .. } => {
            Problem::new("too many values", format!("{MAX_VALUES} values in all"))
        }
        other => Problem::new(
            format!("more than is read ({})", shown(&format!("{other:?}"))),
            "a configuration of ordinary size",
        ),
    }
}
