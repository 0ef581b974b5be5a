//! Kernel settings of a node. `/proc/sys/net` shows the namespace of the task that looks, so both
//! functions work on the node's own thread.

use std::fs;
use std::path::PathBuf;

use super::Node;
use crate::error::LabError;

impl Node {
    /// Sets a kernel setting of the namespace, named as `sysctl` does with slashes:
    /// `net/ipv4/ip_forward`.
    ///
    /// # Errors
    /// When there is no such setting or the value is refused.
    pub async fn set_sysctl(&self, key: &str, value: &str) -> Result<(), LabError> {
        let (path, value) = (path_of(key), value.to_owned());
        let what = format!("set {key}={value} on node {}", self.name());
        self.run(move || async move { fs::write(path, value) })
            .await?
            .map_err(LabError::io(what))
    }

    /// Reads a kernel setting of the namespace, without its line end.
    ///
    /// # Errors
    /// When there is no such setting.
    pub async fn sysctl(&self, key: &str) -> Result<String, LabError> {
        let path = path_of(key);
        let what = format!("read {key} on node {}", self.name());
        let text = self
            .run(move || async move { fs::read_to_string(path) })
            .await?
            .map_err(LabError::io(what))?;
        Ok(text.trim_end().to_owned())
    }
}

fn path_of(key: &str) -> PathBuf {
    PathBuf::from("/proc/sys").join(key)
}
