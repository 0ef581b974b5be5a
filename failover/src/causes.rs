//! Errors with their causes, for people.

use std::error::Error;

/// An error and its causes in one line, each said once: some errors say their cause themselves.
pub(crate) fn in_one_line(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let words = error.to_string();
        if !text.contains(&words) {
            text = format!("{text}: {words}");
        }
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use std::io;

    use thiserror::Error;

    use super::*;

    #[derive(Debug, Error)]
    enum Example {
        #[error("cannot go")]
        Silent(#[source] io::Error),
        #[error("cannot go: {0}; try another way")]
        Telling(#[source] io::Error),
        #[error(transparent)]
        Passing(#[from] io::Error),
    }

    #[test]
    fn each_cause_is_said_once() {
        let cause = || io::Error::other("the bridge is up");
        let said = [
            Example::Silent(cause()),
            Example::Telling(cause()),
            Example::Passing(cause()),
        ]
        .map(|error| in_one_line(&error));
        assert_eq!(
            said,
            [
                "cannot go: the bridge is up",
                "cannot go: the bridge is up; try another way",
                "the bridge is up",
            ]
        );
    }
}
