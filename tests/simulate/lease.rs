//! The lease on the engine, as the model has it: daemons of this host that are dead lose it at once,
//! and somebody on another host may have it for a while after one of them died.

use octo_local::daemon::message::Event as CoreEvent;
use octo_local::daemon::message::LeaseStep;
use octo_local::daemon::message::NoLease;

use super::sim::Event;
use super::sim::Sim;
use super::world::Ms;

/// Who has the lease.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Holder {
    #[default]
    Nobody,
    /// The daemon of this epoch.
    Daemon(u64),
    /// Somebody on another host, until then.
    Stranger(Ms),
}

/// How long somebody on another host keeps it at most.
const LONGEST: Ms = 20_000;

impl Sim {
    /// The core asks the engine about the lease.
    pub(super) fn lease(&mut self, step: LeaseStep) {
        let epoch = self.epoch;
        if self.world.down {
            let answer = Err(NoLease::Unknown("connection refused".to_owned()));
            return self.deliver_event(epoch, CoreEvent::Leased(answer));
        }
        let wait = self.chance.between(1, 40);
        self.later(wait, Event::Lease(epoch, step));
    }

    /// The engine gets to it.
    pub(super) fn on_lease(&mut self, epoch: u64, step: LeaseStep) {
        if matches!(self.world.lease, Holder::Stranger(until) if self.now >= until) {
            self.world.lease = Holder::Nobody;
        }
        let lives = self.lives(epoch);
        let answer = match (self.world.lease, step) {
            (_, LeaseStep::Release) => {
                if self.world.lease == Holder::Daemon(epoch) {
                    self.world.lease = Holder::Nobody;
                }
                Ok(())
            }
            (Holder::Stranger(_), LeaseStep::Take | LeaseStep::Renew) => {
                Err(NoLease::Held("process 7 on another host".to_owned()))
            }
            (Holder::Nobody | Holder::Daemon(_), LeaseStep::Take | LeaseStep::Renew) => {
                if lives {
                    self.world.lease = Holder::Daemon(epoch);
                }
                Ok(())
            }
        };
        self.deliver_event(epoch, CoreEvent::Leased(answer));
    }

    /// Somebody on another host takes the lease of a daemon that died.
    pub(super) fn stranger_takes_the_lease(&mut self) {
        if self.chaos && self.chance.percent(10) {
            let until = self.now + self.chance.between(100, LONGEST);
            self.trace(|| format!("somebody else has the lease until {until}"));
            self.world.lease = Holder::Stranger(until);
        }
    }

    /// Who acts has the lease.
    pub(super) fn check_lease(&mut self) {
        let has_it = self.world.lease == Holder::Daemon(self.epoch);
        self.must(has_it, || "it acts without the lease".to_owned());
    }
}
