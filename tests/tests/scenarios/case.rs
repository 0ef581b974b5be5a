//! A scenario and the axes that it is played along: modes and address families.

use std::any::Any;
use std::cell::OnceCell;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;

use failover::family::Family;
use failover_tests::LabBuilder;
use failover_tests::daemon::Mode;
use libtest_mimic::{Failed, Trial};

use crate::Outcome;
use crate::scene::Scene;

type Played<'a> = Pin<Box<dyn Future<Output = Outcome> + 'a>>;
type Play = Box<dyn for<'a> Fn(&'a Case) -> Played<'a> + Send>;

/// A scenario: a name that says what users see, and what is played.
pub(crate) struct Scenario {
    name: &'static str,
    /// For each mode and family: what stands for the family in the name, and what is played.
    plays: Vec<(Mode, &'static str, Play)>,
}

/// A scenario about one family, played for each.
pub(crate) fn each_family<F>(name: &'static str, play: F) -> Scenario
where
    F: AsyncFn(&Case, Family) -> Outcome + Copy + Send + 'static,
{
    in_families(name, &Family::ALL, play)
}

/// A scenario that makes sense in IPv6 only.
pub(crate) fn ipv6_only<F>(name: &'static str, play: F) -> Scenario
where
    F: AsyncFn(&Case, Family) -> Outcome + Copy + Send + 'static,
{
    in_families(name, &[Family::Ipv6], play)
}

/// A scenario that makes sense in IPv4 only.
pub(crate) fn ipv4_only<F>(name: &'static str, play: F) -> Scenario
where
    F: AsyncFn(&Case, Family) -> Outcome + Copy + Send + 'static,
{
    in_families(name, &[Family::Ipv4], play)
}

/// A scenario about the maps of the TC programs, which classic mode has none of, for each family.
pub(crate) fn ebpf_only<F>(name: &'static str, play: F) -> Scenario
where
    F: AsyncFn(&Case, Family) -> Outcome + Copy + Send + 'static,
{
    in_modes(name, &[Mode::Ebpf], &Family::ALL, play)
}

fn in_families<F>(name: &'static str, families: &[Family], play: F) -> Scenario
where
    F: AsyncFn(&Case, Family) -> Outcome + Copy + Send + 'static,
{
    in_modes(name, &Mode::ALL, families, play)
}

fn in_modes<F>(name: &'static str, modes: &[Mode], families: &[Family], play: F) -> Scenario
where
    F: AsyncFn(&Case, Family) -> Outcome + Copy + Send + 'static,
{
    let mut plays: Vec<(Mode, &'static str, Play)> = Vec::new();
    for &mode in modes {
        for &family in families {
            let label = match family {
                Family::Ipv4 => "ipv4",
                Family::Ipv6 => "ipv6",
            };
            let play: Play =
                Box::new(move |case| Box::pin(async move { play(case, family).await }));
            plays.push((mode, label, play));
        }
    }
    Scenario { name, plays }
}

/// A scenario about both families at once.
pub(crate) fn both_families<F>(name: &'static str, play: F) -> Scenario
where
    F: AsyncFn(&Case) -> Outcome + Copy + Send + 'static,
{
    at_once(name, &Mode::ALL, play)
}

/// A scenario about the maps of the TC programs and both families at once.
pub(crate) fn ebpf_only_both<F>(name: &'static str, play: F) -> Scenario
where
    F: AsyncFn(&Case) -> Outcome + Copy + Send + 'static,
{
    at_once(name, &[Mode::Ebpf], play)
}

fn at_once<F>(name: &'static str, modes: &[Mode], play: F) -> Scenario
where
    F: AsyncFn(&Case) -> Outcome + Copy + Send + 'static,
{
    let mut plays: Vec<(Mode, &'static str, Play)> = Vec::new();
    for &mode in modes {
        let play: Play = Box::new(move |case| Box::pin(async move { play(case).await }));
        plays.push((mode, "both", play));
    }
    Scenario { name, plays }
}

impl Scenario {
    /// One test for each mode and family, named as in `classic/ipv4/NAME`. All fail with `refusal`,
    /// if there is one.
    pub(crate) fn trials(self, refusal: Option<&str>) -> impl Iterator<Item = Trial> {
        let (name, refusal) = (self.name, refusal.map(str::to_owned));
        self.plays.into_iter().map(move |(mode, family, play)| {
            let refusal = refusal.clone();
            Trial::test(format!("{mode}/{family}/{name}"), move || match refusal {
                Some(refusal) => Err(refusal.into()),
                None => run(mode, &play),
            })
        })
    }
}

/// Plays a scenario. When it fails, what the daemon logged and what the gateway's kernel holds is
/// told too.
fn run(mode: Mode, play: &Play) -> Result<(), Failed> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let case = Case {
        mode,
        scene: OnceCell::new(),
    };
    let played = catch_unwind(AssertUnwindSafe(|| runtime.block_on(play(&case))));
    let reason = match played {
        Ok(Ok(())) => return Ok(()),
        Ok(Err(error)) => error.to_string(),
        Err(panic) => message(panic.as_ref()),
    };
    let report = match case.scene.get() {
        Some(scene) => runtime.block_on(scene.report()),
        None => "the lab was not built".to_owned(),
    };
    Err(format!("{reason}\n\n{report}").into())
}

fn message(panic: &(dyn Any + Send)) -> String {
    let text = panic
        .downcast_ref::<String>()
        .map(String::as_str)
        .or_else(|| panic.downcast_ref::<&str>().copied());
    text.unwrap_or("panicked").to_owned()
}

/// One run of a scenario.
pub(crate) struct Case {
    mode: Mode,
    scene: OnceCell<Scene>,
}

impl Case {
    /// Builds the lab, starts the daemon with a configuration and waits until every uplink is up
    /// that can be. To the configuration the mode and the lab's probe targets are added.
    pub(crate) async fn open(
        &self,
        lab: LabBuilder,
        config: &str,
    ) -> Result<&Scene, Box<dyn std::error::Error>> {
        let scene = self.prepare(lab).await?;
        scene.run_daemon(config).await?;
        scene.until_all_up().await?;
        Ok(scene)
    }

    /// Builds the lab and starts no daemon yet.
    pub(crate) async fn prepare(
        &self,
        lab: LabBuilder,
    ) -> Result<&Scene, Box<dyn std::error::Error>> {
        let scene = Scene::new(lab.build().await?, self.mode);
        Ok(self.scene.get_or_init(|| scene))
    }
}
