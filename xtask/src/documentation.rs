//! What the documentation says of the repository is so: its links lead somewhere, and the tests that it
//! names are there.

use std::collections::BTreeSet;
use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};

type Outcome = Result<(), Box<dyn Error>>;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// Every page of the documentation.
fn pages() -> Result<Vec<PathBuf>, Box<dyn Error>> {
    let mut pages = vec![root().join("README.md")];
    for entry in fs::read_dir(root().join("docs"))? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "md") {
            pages.push(path);
        }
    }
    Ok(pages)
}

/// The lines of a page that are no part of a block of code.
fn prose(page: &str) -> impl Iterator<Item = &str> {
    let mut code = false;
    page.lines().filter(move |line| {
        let fence = line.trim_start().starts_with("```");
        code ^= fence;
        !code && !fence
    })
}

/// What the links of a page point at.
fn links(page: &str) -> Vec<&str> {
    prose(page)
        .flat_map(|line| line.split("](").skip(1))
        .filter_map(|rest| Some(rest.split_once(')')?.0))
        .collect()
}

/// By what a heading is linked to.
fn anchor(heading: &str) -> String {
    let words = heading.trim_start_matches('#').trim().to_lowercase();
    words
        .chars()
        .filter_map(|sign| match sign {
            ' ' => Some('-'),
            '-' | '_' => Some(sign),
            _ => sign.is_alphanumeric().then_some(sign),
        })
        .collect()
}

fn anchors(page: &str) -> BTreeSet<String> {
    prose(page)
        .filter(|line| line.starts_with('#'))
        .map(anchor)
        .collect()
}

#[test]
fn links_lead_to_pages_and_headings_that_are_there() -> Outcome {
    let mut broken = Vec::new();
    for path in pages()? {
        let page = fs::read_to_string(&path)?;
        let folder = path.parent().ok_or("a page without a folder")?;
        for link in links(&page) {
            if link.starts_with("http") {
                continue;
            }
            let (file, heading) = link.split_once('#').unwrap_or((link, ""));
            let target = if file.is_empty() {
                path.clone()
            } else {
                folder.join(file)
            };
            let found = target.exists()
                && (heading.is_empty() || anchors(&fs::read_to_string(&target)?).contains(heading));
            if !found {
                broken.push(format!("{}: {link}", path.display()));
            }
        }
    }
    assert!(broken.is_empty(), "{broken:#?}");
    Ok(())
}

/// All sources in which tests are.
fn sources(folder: &Path, text: &mut String) -> Outcome {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            sources(&path, text)?;
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            text.push_str(&fs::read_to_string(&path)?);
        }
    }
    Ok(())
}

#[test]
fn each_feature_names_tests_that_are_there() -> Outcome {
    let page = fs::read_to_string(root().join("docs/features.md"))?;
    let mut text = String::new();
    for folder in ["failover", "tests", "xtask"] {
        sources(&root().join(folder), &mut text)?;
    }
    // A name stands in a table of tests, where the mode may be put before it, or is a function's.
    let is_there =
        |test: &str| text.contains(&format!("{test}\"")) || text.contains(&format!("fn {test}("));
    let mut rows = 0;
    let mut unproved = Vec::new();
    for row in prose(&page).filter(|line| line.starts_with("| ")) {
        let proof = row.trim_end_matches(['|', ' ']).rsplit('|').next();
        let proof = proof.unwrap_or_default().trim();
        if ["---", "proved by"].contains(&proof) {
            continue;
        }
        rows += 1;
        let mut tests = proof.split('`').skip(1).step_by(2).peekable();
        if tests.peek().is_none() || tests.any(|test| !is_there(test)) {
            unproved.push(row.to_owned());
        }
    }
    assert!(rows > 50, "only {rows} features");
    assert!(unproved.is_empty(), "{unproved:#?}");
    Ok(())
}
