//! The kinds of probes, behind one question: [`Questions::ask`].

mod dns;
mod exec;
mod gateway;
mod http;
mod icmp;
mod message;
mod names;
mod tcp;
pub(crate) mod tls;
mod trouble;

use std::collections::BTreeMap;
use std::future::Future;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use super::ProbePlan;
use super::way::Way;
use crate::config::{ExecTarget, Target};
use crate::health::{Failure, Outcome};
use exec::Program;
use gateway::Gateway;
use icmp::{IcmpSocket, IcmpSockets};
use names::Names;
use trouble::Troubles;

/// How long an answer took, or why there is none.
type Answer = Result<Duration, Failure>;

/// Asks the targets of one plan, and holds what serves more than one question: sockets, resolved
/// names, running programs. All of it ends with this value and the questions that are open.
pub(super) struct Questions {
    way: Arc<Way>,
    icmp: IcmpSockets,
    names: Arc<Names>,
    gateway: Gateway,
    programs: BTreeMap<ExecTarget, Arc<Program>>,
    troubles: Troubles,
}

/// A question that is about to be asked.
enum Question {
    /// Apart from the others, since it is by far the most frequent: it takes no more than it needs.
    Icmp {
        socket: IcmpSocket,
        address: IpAddr,
        sequence: u16,
    },
    Unsendable(Failure),
    Other(Pin<Box<dyn Future<Output = Answer> + Send>>),
}

impl Questions {
    pub(super) fn new(plan: &ProbePlan) -> Self {
        let way = Arc::new(Way::of(plan));
        Self {
            icmp: IcmpSockets::default(),
            names: Arc::new(Names::new(Arc::clone(&way))),
            gateway: Gateway::default(),
            programs: BTreeMap::new(),
            troubles: Troubles::new(Arc::clone(&way)),
            way,
        }
    }

    /// Asks a target once. What comes of it is known after `timeout` at the latest; dropped, the
    /// question is taken back.
    ///
    /// Must be called within a tokio runtime.
    pub(super) fn ask(
        &mut self,
        target: &Target,
        timeout: Duration,
    ) -> impl Future<Output = Outcome> + Send + use<> {
        let question = self.question(target, timeout);
        async move {
            match question {
                Question::Icmp {
                    socket,
                    address,
                    sequence,
                } => socket.echo(address, sequence, timeout).await,
                Question::Unsendable(failure) => Outcome::Failed(failure),
                Question::Other(asked) => match asked.await {
                    Ok(rtt) => Outcome::Answered { rtt },
                    Err(failure) => Outcome::Failed(failure),
                },
            }
        }
    }

    fn question(&mut self, target: &Target, timeout: Duration) -> Question {
        let (way, names) = (Arc::clone(&self.way), Arc::clone(&self.names));
        match target {
            Target::Icmp(address) => match self.icmp.next(&self.way) {
                Ok((socket, sequence)) => Question::Icmp {
                    socket,
                    address: *address,
                    sequence,
                },
                Err(why) => Question::Unsendable(Failure::NotSent(why)),
            },
            Target::Tcp(to) => {
                let to = to.clone();
                self.within(target, timeout, async move {
                    tcp::ask(&way, &names, &to, timeout).await
                })
            }
            Target::Http(page) => {
                let page = page.clone();
                self.within(target, timeout, async move {
                    http::ask(&way, &names, &page, timeout).await
                })
            }
            Target::Dns(to) => {
                let to = to.clone();
                self.within(target, timeout, async move {
                    dns::ask(&way, &names, &to, timeout).await
                })
            }
            Target::Gateway => {
                let socket = self.gateway.socket(&way);
                self.within(target, timeout, async move { socket?.ask().await })
            }
            Target::Exec(program) => {
                let program = self
                    .programs
                    .entry(program.clone())
                    .or_insert_with(|| Arc::new(Program::new(way, program.clone())));
                let program = Arc::clone(program);
                // It keeps time itself, since what it tells others who ask must not end with this.
                let troubles = self.troubles.clone();
                let target = target.clone();
                Question::Other(Box::pin(async move {
                    let answer = program.ask(timeout).await;
                    troubles.note(&target, &answer);
                    answer
                }))
            }
        }
    }

    fn within(
        &self,
        target: &Target,
        timeout: Duration,
        asked: impl Future<Output = Answer> + Send + 'static,
    ) -> Question {
        let (troubles, target) = (self.troubles.clone(), target.clone());
        Question::Other(Box::pin(async move {
            let answer = tokio::time::timeout(timeout, asked)
                .await
                .unwrap_or(Err(Failure::Timeout));
            troubles.note(&target, &answer);
            answer
        }))
    }
}
