//! Our nftables table, put in place by `nft`.

use std::collections::BTreeMap;
use std::fs::File;
use std::hash::{BuildHasher as _, BuildHasherDefault, DefaultHasher};
use std::io::{self, Seek as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use nix::sys::memfd::{MFdFlags, memfd_create};
use thiserror::Error;
use tokio::process::Command;
use tokio::task::JoinHandle;
use tracing::{debug, warn};

use super::Firewall;
use super::replacement::{self, Kept};
use super::watch::TableListener;
use crate::state::{Store, TableFacts};
use crate::uplink::UplinkId;
use crate::wanted::ruleset::counted_uplink;

/// The name of our table, which is of the family `inet`.
pub const TABLE: &str = "failover";

/// How long `nft` may take; it takes 10 to 50 ms, and with the largest sets some seconds.
const PATIENCE: Duration = Duration::from_secs(30);

/// A batch of this many bytes or more is put in place without telling those of us who listen.
const LARGE: usize = 256 << 10;

/// The table that answers packets of lost connections, for a while after a failover, likewise.
pub const RESETS_TABLE: &str = "failover_resets";

/// Our table.
#[derive(Debug)]
pub struct Nft {
    program: PathBuf,
    table: Table,
    /// Where what is in place is kept for the next daemon.
    store: Option<Arc<Mutex<Store>>>,
    listener: Option<TableListener>,
}

/// What is known of the table, as long as nobody changes it.
#[derive(Debug)]
enum Table {
    /// There is none, or nobody could tell.
    Unknown,
    /// It was put in place, and is being listed beside whatever follows: that is not to wait for it.
    /// `None` when it is gone, or not what was put there.
    Asked(JoinHandle<Result<Option<Listed>, NftError>>),
    Known(Listed),
}

/// The table as it was last listed.
#[derive(Debug)]
struct Listed {
    listing: String,
    /// What made it so, by this daemon or the one before; `None` where nobody knows.
    ruleset: Option<String>,
}

/// Why the table could not be read or changed.
#[derive(Debug, Error)]
pub enum NftError {
    /// There is no `nft`.
    #[error("`nft` is not installed: get it by `apt-get install nftables` (looked in {searched})")]
    Missing {
        /// Where.
        searched: String,
    },
    /// It does not run.
    #[error("cannot run `{program}`: {source}")]
    Run {
        /// The program.
        program: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It does not end.
    #[error("`nft` did not {what} within {} s", PATIENCE.as_secs())]
    TimedOut {
        /// What it was to do.
        what: &'static str,
    },
    /// It refused.
    #[error("`nft` refused to {what}: {message}{}", line.as_ref().map(|l| format!("\nin this line: {l}")).unwrap_or_default())]
    Refused {
        /// What it was to do.
        what: &'static str,
        /// Its own words.
        message: String,
        /// The line that they are about.
        line: Option<String>,
    },
}

impl Nft {
    /// Looks for `nft` in `PATH` and where distributions put it: a user's `PATH` often lacks
    /// `/usr/sbin`.
    ///
    /// # Errors
    /// When it is in none of them.
    pub fn find() -> Result<Self, NftError> {
        let path = std::env::var_os("PATH").unwrap_or_default();
        Self::find_in(
            std::env::split_paths(&path)
                .chain(["/usr/sbin", "/sbin", "/usr/local/sbin"].map(PathBuf::from)),
        )
    }

    fn find_in(folders: impl Iterator<Item = PathBuf>) -> Result<Self, NftError> {
        let mut searched = Vec::new();
        for folder in folders {
            let program = folder.join("nft");
            if program.is_file() {
                return Ok(Self::new(program));
            }
            let folder = folder.display().to_string();
            if !searched.contains(&folder) {
                searched.push(folder);
            }
        }
        Err(NftError::Missing {
            searched: searched.join(", "),
        })
    }

    const fn new(program: PathBuf) -> Self {
        Self {
            program,
            table: Table::Unknown,
            store: None,
            listener: None,
        }
    }

    pub(super) fn program(&self) -> &Path {
        &self.program
    }

    /// The same program, to be used beside this one.
    #[must_use]
    pub fn beside(&self) -> Self {
        Self::new(self.program.clone())
    }

    /// Keeps what is in place, so that the next daemon need not write it anew.
    pub fn remember_in(&mut self, store: Store) {
        self.store = Some(Arc::new(Mutex::new(store)));
    }

    /// Has the kernel not tell this listener of large changes of ours.
    pub fn spare(&mut self, listener: TableListener) {
        self.listener = Some(listener);
    }

    /// Waits for the listing, if one is being made.
    async fn take_answer(&mut self) -> Result<(), NftError> {
        if let Table::Asked(listing) = &mut self.table {
            let answer = listing.await;
            // What nobody has seen in place is not taken to be there.
            self.table = Table::Unknown;
            // The task fails only when the runtime ends.
            if let Some(listed) = answer.unwrap_or(Ok(None))? {
                self.table = Table::Known(listed);
            }
        }
        Ok(())
    }

    /// The table as far as it has to be known to become another; it is not known any more then.
    /// Where something is to be written it is not listed again: a failover does not wait for that,
    /// and what others changed meanwhile shows afterwards.
    async fn take_table(&mut self, ruleset: &str) -> Result<Option<Listed>, NftError> {
        self.take_answer().await?;
        let known = match std::mem::replace(&mut self.table, Table::Unknown) {
            Table::Known(listed) => Some(listed),
            Table::Unknown | Table::Asked(_) => None,
        };
        if known
            .as_ref()
            .is_some_and(|known| known.ruleset.as_deref() != Some(ruleset))
        {
            return Ok(known);
        }
        let Some(listing) = list(&self.program).await? else {
            return Ok(None);
        };
        Ok(Some(match known {
            Some(known) if known.listing == listing => known,
            _ => Listed {
                ruleset: self.remembered(&listing),
                listing,
            },
        }))
    }

    /// What an earlier daemon put in place, if the table is still listed as it was then.
    fn remembered(&self, listing: &str) -> Option<String> {
        let store = self.store.as_ref()?;
        let table = store.lock().unwrap_or_else(PoisonError::into_inner).table();
        let table = table
            .inspect_err(|error| warn!(%error, "our table is written anew"))
            .ok()?;
        let is_its = table.listing == number_of(listing) && !table.ruleset.is_empty();
        is_its.then_some(table.ruleset)
    }

    /// Writes anew what differs, and keeps what packets noted; false where that cannot be done and
    /// the table is as it was.
    async fn refill(&mut self, ruleset: &str) -> Result<bool, NftError> {
        let present = match self.take_table(ruleset).await {
            Ok(Some(present)) => present,
            Ok(None) => return Ok(false),
            Err(error) => {
                debug!(%error, "cannot list our table before it is replaced");
                return Ok(false);
            }
        };
        if present.ruleset.as_deref() == Some(ruleset) {
            debug!("our table is in place already");
            self.table = Table::Known(present);
            return Ok(true);
        }
        let Listed {
            listing,
            ruleset: in_place,
        } = &present;
        let Some(refill) = replacement::refill(listing, in_place.as_deref(), ruleset) else {
            return Ok(false);
        };
        match self.execute("refill our table", &refill.batch).await {
            Ok(()) => {
                self.is_in_place(ruleset, Some(refill.kept));
                Ok(true)
            }
            Err(NftError::Refused { message, .. }) => {
                debug!(message, "our table is made anew as a whole");
                Ok(false)
            }
            Err(other) => Err(other),
        }
    }

    /// Has listed what is in place now. `kept` was not written, and must be as it was.
    fn is_in_place(&mut self, ruleset: &str, kept: Option<Kept>) {
        let program = self.program.clone();
        let store = self.store.clone();
        let ruleset = ruleset.to_owned();
        self.table = Table::Asked(tokio::spawn(async move {
            let Some(listing) = list(&program).await? else {
                return Ok(None);
            };
            if !kept.is_none_or(|kept| kept.is_in(&listing)) {
                return Ok(None);
            }
            if let Some(store) = store {
                let facts = TableFacts {
                    ruleset: ruleset.clone(),
                    listing: number_of(&listing),
                };
                // Nobody waits for it: a slow disk holds up no failover.
                tokio::task::spawn_blocking(move || {
                    let store = store.lock().unwrap_or_else(PoisonError::into_inner);
                    if let Err(error) = store.keep_table(&facts) {
                        warn!(%error, "the next daemon will write our table anew");
                    }
                });
            }
            Ok(Some(Listed {
                listing,
                ruleset: Some(ruleset),
            }))
        }));
    }

    /// What the probes of each uplink took since its counter was made, in bytes; of none where there is
    /// no table.
    ///
    /// # Errors
    /// When `nft` cannot be run or refuses.
    pub async fn probe_bytes(&self) -> Result<BTreeMap<UplinkId, u64>, NftError> {
        let what = "list our counters";
        let arguments = ["list", "counters", "table", "inet", TABLE];
        let output = run(&self.program, what, &arguments, None).await?;
        if output.status.success() {
            return Ok(counted(&String::from_utf8_lossy(&output.stdout)));
        }
        if is_none_there(&output) {
            return Ok(BTreeMap::new());
        }
        Err(refusal(what, &output, ""))
    }

    /// All tables of everybody, without counters.
    ///
    /// # Errors
    /// When `nft` cannot be run or refuses.
    pub async fn everything(&self) -> Result<String, NftError> {
        let what = "list all tables";
        let output = run(
            &self.program,
            what,
            &["--stateless", "list", "ruleset"],
            None,
        )
        .await?;
        if output.status.success() {
            Ok(String::from_utf8_lossy(&output.stdout).into_owned())
        } else {
            Err(refusal(what, &output, ""))
        }
    }

    /// Whether the kernel would take a batch; nothing is changed.
    ///
    /// # Errors
    /// When it would not, or `nft` cannot be run.
    pub async fn check(&self, batch: &str) -> Result<(), NftError> {
        let what = "check a table";
        let output = run(&self.program, what, &["--check", "-f", "-"], Some(batch)).await?;
        if output.status.success() {
            Ok(())
        } else {
            Err(refusal(what, &output, batch))
        }
    }

    /// Has a batch carried out, as a whole or not at all. `what` says in an error what it was for.
    ///
    /// # Errors
    /// When `nft` cannot be run or refuses.
    pub async fn execute(&self, what: &'static str, batch: &str) -> Result<(), NftError> {
        let large = self.listener.as_ref().filter(|_| batch.len() >= LARGE);
        let pause = large.map(TableListener::pause);
        let output = run(&self.program, what, &["-f", "-"], Some(batch)).await?;
        drop(pause);
        if output.status.success() {
            Ok(())
        } else {
            Err(refusal(what, &output, batch))
        }
    }
}

impl Firewall for Nft {
    type Error = NftError;

    async fn replace(&mut self, ruleset: &str) -> Result<(), NftError> {
        if !self.refill(ruleset).await? {
            let batch = format!("{}{ruleset}\n", removal(TABLE));
            self.execute("replace our table", &batch).await?;
            self.is_in_place(ruleset, None);
        }
        Ok(())
    }

    async fn intact(&mut self) -> Result<bool, NftError> {
        self.take_answer().await?;
        let Table::Known(known) = &self.table else {
            return Ok(false);
        };
        let intact = list(&self.program).await?.as_ref() == Some(&known.listing);
        if !intact {
            self.table = Table::Unknown;
        }
        Ok(intact)
    }

    async fn remove(&mut self) -> Result<(), NftError> {
        self.table = Table::Unknown;
        let both = removal(TABLE) + &removal(RESETS_TABLE);
        self.execute("remove our tables", &both).await
    }
}

/// Removes a table whether or not it is there.
#[must_use]
pub fn removal(table: &str) -> String {
    format!("add table inet {table}\ndelete table inet {table}\n")
}

/// The table as `nft` lists it without counters, and without what packets and timeouts change.
async fn list(program: &Path) -> Result<Option<String>, NftError> {
    let what = "list our table";
    let arguments = ["--stateless", "list", "table", "inet", TABLE];
    let output = run(program, what, &arguments, None).await?;
    if output.status.success() {
        return Ok(Some(without_dynamic_elements(&String::from_utf8_lossy(
            &output.stdout,
        ))));
    }
    if is_none_there(&output) {
        return Ok(None);
    }
    Err(refusal(what, &output, ""))
}

pub(super) fn is_none_there(output: &Output) -> bool {
    String::from_utf8_lossy(&output.stderr).contains("No such file or directory")
}

/// The bytes of each uplink's counter in a listing: a line with its name, and one with its values.
fn counted(listing: &str) -> BTreeMap<UplinkId, u64> {
    let mut counted = BTreeMap::new();
    let mut uplink = None;
    for line in listing.lines() {
        let words: Vec<&str> = line.split_whitespace().collect();
        match words.as_slice() {
            ["counter", name, "{"] => uplink = counted_uplink(name),
            ["packets", _, "bytes", bytes] => {
                if let (Some(uplink), Ok(bytes)) = (uplink.take(), bytes.parse()) {
                    counted.insert(uplink, bytes);
                }
            }
            _ => {}
        }
    }
    counted
}

pub(super) async fn run(
    program: &Path,
    what: &'static str,
    arguments: &[&str],
    input: Option<&str>,
) -> Result<Output, NftError> {
    let failed = |source| NftError::Run {
        program: program.to_owned(),
        source,
    };
    // As a file that is complete, not as a pipe: when the daemon is killed while it writes, `nft`
    // must not take half of a batch for the whole.
    let input = match input {
        Some(text) => Stdio::from(in_memory(text).map_err(failed)?),
        None => Stdio::null(),
    };
    let child = Command::new(program)
        .args(arguments)
        .env("LC_ALL", "C")
        .stdin(input)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .map_err(failed)?;
    match tokio::time::timeout(PATIENCE, child.wait_with_output()).await {
        Ok(output) => output.map_err(failed),
        Err(_) => Err(NftError::TimedOut { what }),
    }
}

/// The standard library's hasher with its default keys gives the same number in each process.
fn number_of(listing: &str) -> u64 {
    BuildHasherDefault::<DefaultHasher>::default().hash_one(listing)
}

/// A file that nobody else sees, to be read from its beginning.
fn in_memory(text: &str) -> io::Result<File> {
    let mut file = File::from(memfd_create(c"nft", MFdFlags::MFD_CLOEXEC)?);
    file.write_all(text.as_bytes())?;
    file.rewind()?;
    Ok(file)
}

pub(super) fn refusal(what: &'static str, output: &Output, input: &str) -> NftError {
    let message = String::from_utf8_lossy(&output.stderr);
    // Such as `/dev/stdin:12:5-9: Error: syntax error`.
    let line = message
        .lines()
        .next()
        .and_then(|first| first.split(':').nth(1)?.parse::<usize>().ok())
        .and_then(|number| input.lines().nth(number.checked_sub(1)?))
        .map(|line| line.trim().to_owned());
    NftError::Refused {
        what,
        message: message.trim_end().to_owned(),
        line,
    }
}

/// Takes out of a listing the elements of sets and maps that packets or timeouts change.
#[must_use]
pub fn without_dynamic_elements(listing: &str) -> String {
    let mut kept = String::with_capacity(listing.len());
    let mut dynamic = false;
    let mut within_elements = false;
    for line in listing.lines() {
        let words = line.trim_start();
        if words.ends_with('{') {
            // A set, map or chain begins; `elements = {` always has an element behind it.
            dynamic = false;
        } else if let Some(flags) = words.strip_prefix("flags ") {
            dynamic = flags
                .split(',')
                .any(|flag| matches!(flag.trim(), "dynamic" | "timeout"));
        }
        if dynamic && words.starts_with("elements = {") {
            within_elements = true;
        }
        if !within_elements {
            kept.push_str(line);
            kept.push('\n');
        } else if words.ends_with('}') {
            within_elements = false;
        }
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_packets_add_to_sets_is_no_change() {
        let with = |dynamic: &str, fixed: &str| {
            format!(
                "table inet failover {{
\tset asked {{
\t\ttypeof ip saddr . udp sport
\t\tsize 65535
\t\tflags dynamic,timeout
\t\ttimeout 1m
{dynamic}\t}}

\tset own {{
\t\ttype ipv4_addr
\t\tflags interval
\t\telements = {{ {fixed} }}
\t}}

\tchain c {{
\t\ttcp dport {{ 1, 2 }} accept
\t}}
}}
"
            )
        };
        let bare = with("", "192.0.2.1");
        let full = with(
            "\t\telements = { 192.0.2.7 . 9, 192.0.2.8 . 9,\n\t\t\t     192.0.2.9 . 9 }\n",
            "192.0.2.1",
        );
        assert_eq!(without_dynamic_elements(&full), bare);
        assert_eq!(without_dynamic_elements(&bare), bare);
        assert_ne!(
            without_dynamic_elements(&with("", "192.0.2.1, 192.0.2.2")),
            bare
        );
    }

    #[test]
    fn counters_are_told_by_their_names() {
        let listing = "table inet failover {
\tcounter probes_1 {
\t\tpackets 12 bytes 1008
\t}
\tcounter mine {
\t\tpackets 3 bytes 300
\t}
\tcounter probes_127 {
\t\tpackets 0 bytes 0
\t}
}
";
        let counted: Vec<(u8, u64)> = counted(listing)
            .into_iter()
            .map(|(id, bytes)| (id.get(), bytes))
            .collect();
        assert_eq!(counted, [(1, 1008), (127, 0)]);
    }

    #[test]
    fn a_missing_program_says_how_to_get_it() {
        let error = Nft::find_in([PathBuf::from("/nonexistent")].into_iter()).unwrap_err();
        assert_eq!(
            error.to_string(),
            "`nft` is not installed: get it by `apt-get install nftables` (looked in /nonexistent)"
        );
    }
}
