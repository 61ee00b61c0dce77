//! Backups before upgrades and rollbacks: what the tasks of the daemon do to the model's data, and
//! what must be true of it meanwhile.

use std::collections::BTreeMap;

use octo_local::config::Secret;
use octo_local::daemon::message::BackedUp;
use octo_local::daemon::message::BackupFor;
use octo_local::daemon::message::Event as CoreEvent;
use octo_local::daemon::message::NotBroughtBack;
use octo_local::daemon::store::Ran;
use octo_local::daemon::store::Restored;
use octo_local::daemon::store::Stored;
use octo_local::spec::UnitId;

use super::sim::Event;
use super::sim::Sim;
use super::world::DATA;
use super::world::Data;

/// The sets on the disk, and what is under way with the data.
#[derive(Debug, Default)]
pub(super) struct Sets {
    made: BTreeMap<String, Data>,
    /// The data is neither what it was nor what a set is.
    half: bool,
    /// The daemon whose task reads or writes the data now.
    at_work: Option<u64>,
}

impl Sets {
    /// The names of the sets.
    pub(super) fn names(&self) -> impl Iterator<Item = &String> {
        self.made.keys()
    }
}

impl Sim {
    /// The daemon begins to back up. What it was to do before may still be in the way.
    pub(super) fn begin_backup(&mut self, of: BackupFor, stored: Box<Stored>) {
        let epoch = self.epoch;
        self.must(of == BackupFor::Upgrade, || {
            "no schedule was set".to_owned()
        });
        self.data_is_at_rest("is backed up");
        self.world.sets.at_work = Some(epoch);
        let wait = self.chance.between(200, 5_000);
        self.later(wait, Event::BackedUp(epoch, stored));
    }

    pub(super) fn backed_up(&mut self, epoch: u64, stored: &Stored) {
        if !self.is_at_work(epoch) {
            return;
        }
        self.world.sets.at_work = None;
        let Some((upgrade, _)) = stored.backups.upgrades.waiting() else {
            return self.must(false, || "a backup that nobody waits for".to_owned());
        };
        let set = upgrade.set.clone();
        let fails = self.chaos && self.chance.percent(15);
        let data = self.data_that_serves();
        let result = match data {
            _ if self.world.sets.made.contains_key(&set) => Ok(()),
            _ if fails || self.world.disk_full => Err("no space left".to_owned()),
            None => Err("SQL Server does not run".to_owned()),
            Some(data) => {
                self.world.sets.made.insert(set.clone(), data);
                Ok(())
            }
        };
        self.trace(|| format!("backup {set}: {result:?}"));
        if result.is_ok() {
            self.forgave();
        }
        let result = result.map(|()| BackedUp {
            name: set,
            removed: Vec::new(),
        });
        self.deliver_event(epoch, CoreEvent::BackedUp(BackupFor::Upgrade, result));
    }

    /// The daemon reads a set that is to be brought back, before anything is out for it.
    pub(super) fn begin_to_read(&mut self, set: String) {
        let fails = self.chaos && self.chance.percent(10);
        let fault = "a byte is another".to_owned();
        let result = fails.then_some(fault).map_or(Ok(()), Err);
        let wait = self.chance.between(50, 1_000);
        self.deliver_later(wait, CoreEvent::SetRead(set, result));
    }

    /// The daemon begins to bring data back.
    pub(super) fn begin_to_bring_back(&mut self, stored: Box<Stored>) {
        let epoch = self.epoch;
        self.data_is_at_rest("is brought back");
        self.world.sets.at_work = Some(epoch);
        // Reading the set comes first.
        if self.chaos && self.chance.percent(10) {
            return self.later(100, Event::BroughtBack(epoch, stored, Err(false)));
        }
        let wait = self.chance.between(100, 1_500);
        self.later(wait, Event::BroughtBack(epoch, stored, Ok(())));
    }

    pub(super) fn brought_back(&mut self, epoch: u64, stored: Box<Stored>, step: Result<(), bool>) {
        if !self.is_at_work(epoch) {
            return;
        }
        let Some(back) = &stored.backups.upgrades.rolling_back else {
            return self.must(false, || "data that nobody wants back".to_owned());
        };
        let set = back.upgrade.set.clone();
        let Some(saved) = self.world.sets.made.get(&set).cloned() else {
            return self.must(false, || {
                format!("set {set} is brought back and was never made")
            });
        };
        if step.is_ok() && !self.world.sets.half {
            self.world.sets.half = true;
            let fails = self.chaos && self.chance.percent(15);
            let wait = self.chance.between(100, 4_000);
            let next = if fails { Err(true) } else { Ok(()) };
            return self.later(wait, Event::BroughtBack(epoch, stored, next));
        }
        self.world.sets.at_work = None;
        let step = step.and_then(|()| self.data_that_serves().map(|_| ()).ok_or(true));
        self.trace(|| format!("data of {set} is back: {step:?}"));
        let result = match step {
            Err(is_touched) => Err(NotBroughtBack {
                why: "it broke off".to_owned(),
                is_touched,
            }),
            Ok(()) => {
                self.world.sets.half = false;
                self.forgave();
                let version = saved.schema.unwrap_or_default() / 100;
                let restored = Restored {
                    master_key: Some(Secret::new(saved.key.clone())),
                    key_is_ours: true,
                    ran: Ran {
                        image: format!("octopus:2026.{version}.1"),
                        ..Ran::default()
                    },
                };
                if let Some(volume) = self.world.volumes.get_mut(DATA) {
                    // The server's own database is none of the set's.
                    let password = volume.data.take().unwrap_or_default().password;
                    volume.data = Some(Data {
                        dirty: true,
                        password,
                        ..saved
                    });
                }
                Ok(Box::new(restored))
            }
        };
        self.deliver_event(epoch, CoreEvent::BroughtBack(result));
    }

    /// A task ends with its daemon.
    fn is_at_work(&self, epoch: u64) -> bool {
        self.lives(epoch) && self.world.sets.at_work == Some(epoch)
    }

    /// What of the data a server that runs can tell.
    fn data_that_serves(&self) -> Option<Data> {
        let data = self.world.data().filter(|_| self.world.sql_is_up());
        data.cloned()
    }

    /// No node that the daemon started runs while the data is read or written as a whole.
    fn data_is_at_rest(&mut self, what: &str) {
        let running = self.world.node_by_us().map(|(id, ..)| id.clone());
        self.must(running.is_none(), || {
            format!("the data {what} while {running:?} runs")
        });
    }

    /// A node was started by the daemon: not on data that is being saved or brought back.
    pub(super) fn judge_start_on_data(&mut self, unit: UnitId) {
        if !unit.is_server() {
            return;
        }
        let at_work = self.world.sets.at_work;
        let at_work = at_work.is_some_and(|epoch| self.is_at_work(epoch));
        let half = self.has_half_data();
        self.must_of(unit, !half, "is started on half of the data");
        self.must_of(
            unit,
            !at_work,
            "is started while the data is read or written",
        );
    }

    /// Whether what was brought back is a part of the data only.
    pub(super) fn has_half_data(&self) -> bool {
        self.world.sets.half
    }

    /// A volume is gone; with that of the data goes what was half of it.
    pub(super) fn forget_half_data(&mut self, volume: &str) {
        self.world.sets.half &= volume != DATA;
    }

    /// After the storm a rollback that broke off is asked for again, until it is done.
    pub(super) fn finish_rollback(&mut self) {
        for _ in 0..4 {
            let is_half = self.kept().backups.upgrades.rolling_back.is_some();
            if !is_half || self.is_over() {
                return;
            }
            if self.daemon.is_none() {
                self.begin_daemon(true, true);
            }
            self.command(super::operator::Wish::RollBack);
            // One that failed goes on only once the wish is taken.
            self.run_until(self.now + 1_000);
            let limit = self.now + 120_000;
            while self.now < limit && self.is_rolling_back() && self.advance() {}
        }
        let kept = self.disk.file.backups.upgrades.rolling_back.clone();
        self.must(kept.is_none(), || {
            format!("a rollback never ends: {kept:?}")
        });
    }

    /// Where nothing could be backed up since SQL Server does not serve, the `up` that mends it does
    /// without.
    pub(super) fn insists_without_a_backup(&mut self) -> bool {
        let failure = &self.kept().backups.upgrades.failure;
        let insists = failure.is_some() && self.env.mistake.is_none();
        if insists {
            let env = super::operator::Env {
                no_backup: true,
                ..self.good_env()
            };
            self.command(super::operator::Wish::Up(env));
        }
        insists
    }

    fn is_rolling_back(&self) -> bool {
        let back = &self.kept().backups.upgrades.rolling_back;
        let goes_on = back.as_ref().is_some_and(|back| back.failure.is_none());
        self.daemon.is_some() && goes_on
    }
}
