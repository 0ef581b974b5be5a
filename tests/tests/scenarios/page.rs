//! What is shown in a page of the documentation, to be tried as it stands there.

/// A page in Markdown.
pub(crate) struct Page(pub(crate) &'static str);

impl Page {
    /// A block of a language below a heading of the second level, counted from 0.
    pub(crate) fn block(
        &self,
        heading: &str,
        language: &str,
        which: usize,
    ) -> Result<String, Box<dyn std::error::Error>> {
        let (_, section) = self
            .0
            .split_once(&format!("\n## {heading}\n"))
            .ok_or_else(|| format!("the page has no section `{heading}`"))?;
        let section = section.split("\n## ").next().unwrap_or(section);
        let block = section.split(&format!("```{language}\n")).nth(which + 1);
        let (block, _) = block
            .and_then(|block| block.split_once("```"))
            .ok_or_else(|| format!("`{heading}` has no block {which} of {language}"))?;
        Ok(block.to_owned())
    }
}
