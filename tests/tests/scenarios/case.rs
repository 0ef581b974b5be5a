//! A scenario and the axes that it is played along: ways of steering and address families.

use std::any::Any;
use std::cell::OnceCell;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;

use failover::family::Family;
use failover_tests::LabBuilder;
use libtest_mimic::{Failed, Trial};

use crate::Outcome;
use crate::scene::Scene;
use crate::steering::Steering;

type Played<'a> = Pin<Box<dyn Future<Output = Outcome> + 'a>>;
type Play = Box<dyn for<'a> Fn(&'a Case) -> Played<'a> + Send>;

/// A scenario: a name that says what users see, and what is played.
pub(crate) struct Scenario {
    name: &'static str,
    /// Whether it is always played without the fast path, too.
    of_programs: bool,
    /// For each way of steering and family: what stands for the family in the name, and what is played.
    plays: Vec<(Steering, &'static str, Play)>,
}

/// How much of the table is played.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Extent {
    /// All of it.
    Whole,
    /// What is about flows is played in classic mode and on the fast path, whose flows pass the stack
    /// too, before and after; what is about the programs also without it.
    Usual,
}

/// A scenario about one family, played for each.
pub(crate) fn each_family<F>(name: &'static str, play: F) -> Scenario
where
    F: AsyncFn(&Case, Family) -> Outcome + Copy + Send + 'static,
{
    in_families(name, Steering::ALL, &Family::ALL, play)
}

/// A scenario that makes sense in IPv6 only.
pub(crate) fn ipv6_only<F>(name: &'static str, play: F) -> Scenario
where
    F: AsyncFn(&Case, Family) -> Outcome + Copy + Send + 'static,
{
    in_families(name, Steering::ALL, &[Family::Ipv6], play)
}

/// A scenario that makes sense in IPv4 only.
pub(crate) fn ipv4_only<F>(name: &'static str, play: F) -> Scenario
where
    F: AsyncFn(&Case, Family) -> Outcome + Copy + Send + 'static,
{
    in_families(name, Steering::ALL, &[Family::Ipv4], play)
}

/// A scenario about the maps of the TC programs, which classic mode has none of, for each family.
pub(crate) fn ebpf_only<F>(name: &'static str, play: F) -> Scenario
where
    F: AsyncFn(&Case, Family) -> Outcome + Copy + Send + 'static,
{
    in_families(name, Steering::EBPF, &Family::ALL, play)
}

/// A scenario about the fast path, for each family.
pub(crate) fn fast_path<F>(name: &'static str, play: F) -> Scenario
where
    F: AsyncFn(&Case, Family) -> Outcome + Copy + Send + 'static,
{
    in_families(name, Steering::FAST, &Family::ALL, play)
}

fn in_families<F>(
    name: &'static str,
    steerings: &[Steering],
    families: &[Family],
    play: F,
) -> Scenario
where
    F: AsyncFn(&Case, Family) -> Outcome + Copy + Send + 'static,
{
    let mut plays: Vec<(Steering, &'static str, Play)> = Vec::new();
    for &steering in steerings {
        for &family in families {
            let label = match family {
                Family::Ipv4 => "ipv4",
                Family::Ipv6 => "ipv6",
            };
            let play: Play =
                Box::new(move |case| Box::pin(async move { play(case, family).await }));
            plays.push((steering, label, play));
        }
    }
    Scenario::new(name, plays)
}

/// A scenario about both families at once.
pub(crate) fn both_families<F>(name: &'static str, play: F) -> Scenario
where
    F: AsyncFn(&Case) -> Outcome + Copy + Send + 'static,
{
    at_once(name, Steering::ALL, play)
}

/// A scenario about the maps of the TC programs and both families at once.
pub(crate) fn ebpf_only_both<F>(name: &'static str, play: F) -> Scenario
where
    F: AsyncFn(&Case) -> Outcome + Copy + Send + 'static,
{
    at_once(name, Steering::EBPF, play)
}

/// A scenario about the fast path and both families at once.
pub(crate) fn fast_path_both<F>(name: &'static str, play: F) -> Scenario
where
    F: AsyncFn(&Case) -> Outcome + Copy + Send + 'static,
{
    at_once(name, Steering::FAST, play)
}

fn at_once<F>(name: &'static str, steerings: &[Steering], play: F) -> Scenario
where
    F: AsyncFn(&Case) -> Outcome + Copy + Send + 'static,
{
    let mut plays: Vec<(Steering, &'static str, Play)> = Vec::new();
    for &steering in steerings {
        let play: Play = Box::new(move |case| Box::pin(async move { play(case).await }));
        plays.push((steering, "both", play));
    }
    Scenario::new(name, plays)
}

impl Scenario {
    fn new(name: &'static str, plays: Vec<(Steering, &'static str, Play)>) -> Self {
        let classic = |(steering, ..): &(Steering, _, _)| *steering == Steering::Classic;
        Self {
            name,
            of_programs: !plays.iter().any(classic),
            plays,
        }
    }

    /// What it costs is much, and the fast path adds to it and takes nothing away: without it, it is
    /// played only with the whole table.
    pub(crate) fn once(self) -> Self {
        Self {
            of_programs: false,
            ..self
        }
    }

    /// One test for each way of steering and family, named as in `classic/ipv4/NAME`. All fail with
    /// `refusal`, if there is one.
    pub(crate) fn trials(
        self,
        extent: Extent,
        refusal: Option<&str>,
    ) -> impl Iterator<Item = Trial> {
        let (name, refusal) = (self.name, refusal.map(str::to_owned));
        let left_out =
            |steering| extent == Extent::Usual && !self.of_programs && steering == Steering::Ebpf;
        let plays = self.plays.into_iter();
        let plays: Vec<_> = plays
            .filter(|(steering, ..)| !left_out(*steering))
            .collect();
        plays.into_iter().map(move |(steering, family, play)| {
            let refusal = refusal.clone();
            Trial::test(
                format!("{steering}/{family}/{name}"),
                move || match refusal {
                    Some(refusal) => Err(refusal.into()),
                    None => run(steering, &play),
                },
            )
        })
    }
}

/// Plays a scenario. When it fails, what the daemon logged and what the gateway's kernel holds is
/// told too.
fn run(steering: Steering, play: &Play) -> Result<(), Failed> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let case = Case {
        steering,
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
    // Twice, since either end of a long text may be what a reader has before them.
    Err(format!("{reason}\n\n{report}\n--- why it failed\n{reason}").into())
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
    steering: Steering,
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
        let scene = Scene::new(lab.build().await?, self.steering);
        Ok(self.scene.get_or_init(|| scene))
    }
}
