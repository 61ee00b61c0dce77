//! Upgrades of Octopus Server and the way back, as far as what is kept is concerned.
//!
//! An upgrade applies another version to data that an older one has run on. The database is
//! migrated by that and cannot go back by itself, so a backup is made first, while no node runs;
//! it and what was applied are the way back, as a pair. Each step follows from what is kept and
//! what is seen: a daemon that comes after a killed one goes on with it.

use std::collections::BTreeMap;
use std::collections::BTreeSet;

use serde::Deserialize;
use serde::Serialize;

use super::Restored;
use super::Stored;
use super::Wish;
use crate::config::Config;
use crate::config::SqlConfig;
use crate::spec::ContainerSpec;
use crate::spec::StackSpec;
use crate::spec::UnitId;

/// A configuration that was applied, or is to be.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Applied {
    /// The configuration.
    pub config: Config,
    /// The desired state that was made from it.
    pub spec: StackSpec,
    /// The image, by ID, that each of its references stood for.
    pub images: BTreeMap<String, String>,
}

/// An upgrade: from what to what, and the way back.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Upgrade {
    /// The image of Octopus Server that ran before.
    pub from: String,
    /// The one that runs after it.
    pub to: String,
    /// The name of the backup set that holds the data as it was before.
    pub set: String,
    /// What was applied before.
    pub before: Box<Applied>,
}

/// An upgrade that is not done.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Upgrading {
    /// Which.
    pub upgrade: Upgrade,
    /// The images that are fetched before anything is out for them.
    pub needs: BTreeSet<String>,
    /// What is applied once the backup is made. None: it is applied, and its first node migrates the
    /// database.
    pub next: Option<Box<Applied>>,
}

/// A rollback that is not done. Once it has begun the data is neither what it was nor what it will
/// be, so no node may run.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct RollingBack {
    /// The upgrade that is taken back.
    pub upgrade: Upgrade,
    /// Nothing is out for it yet: first its set is read whole, and the image of before is there.
    pub waits: bool,
    /// Whether a node had served after it.
    pub was_done: bool,
    /// Whether data may be touched already: an earlier try came that far, or nobody knows how far.
    pub may_be_touched: bool,
    /// Why the last try failed; none while one goes on.
    pub failure: Option<String>,
}

/// A rollback that is done. The variables may still ask for what it took back.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct RolledBack {
    /// The tag that was applied before it.
    pub undone: String,
}

/// What is kept of upgrades.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Upgrades {
    /// One that is not done.
    pub upgrading: Option<Upgrading>,
    /// The last one that is done, which can be taken back.
    pub last: Option<Upgrade>,
    /// One that is taken back.
    pub rolling_back: Option<RollingBack>,
    /// The last one that was taken back, until a configuration is applied again.
    pub rolled_back: Option<RolledBack>,
    /// Why the last one, or its rollback, was not begun: what was before runs on. Kept until the next
    /// wish of its kind.
    pub failure: Option<String>,
}

impl Upgrades {
    /// The upgrade that waits for its backup, and what is applied then.
    pub fn waiting(&self) -> Option<(&Upgrade, &Applied)> {
        let upgrading = self.upgrading.as_ref()?;
        Some((&upgrading.upgrade, upgrading.next.as_deref()?))
    }

    /// The upgrade that is applied and that no node has served with yet.
    pub fn migrating(&self) -> Option<&Upgrade> {
        let upgrading = self.upgrading.as_ref()?;
        upgrading.next.is_none().then_some(&upgrading.upgrade)
    }

    /// The rollback that nothing is out for yet.
    pub fn waits_to_go_back(&self) -> Option<&Upgrade> {
        let waits = self.rolling_back.as_ref().filter(|back| back.waits);
        waits.map(|back| &back.upgrade)
    }

    /// The rollback that has begun: the data comes back, or did so in part.
    pub fn goes_back(&self) -> Option<&RollingBack> {
        self.rolling_back.as_ref().filter(|back| !back.waits)
    }

    /// The upgrade that `rollback` takes back: one whose first node came to no good end, else the
    /// last one that is done.
    pub fn way_back(&self) -> Option<&Upgrade> {
        let again = self.rolling_back.as_ref().map(|back| &back.upgrade);
        again.or_else(|| self.migrating()).or(self.last.as_ref())
    }
}

impl Upgrades {
    /// A rollback that did not come to touch data: the upgrade is where it was.
    fn keep_way_back(&mut self, back: RollingBack) {
        if back.was_done {
            self.last = Some(back.upgrade);
        } else {
            self.upgrading = Some(Upgrading {
                upgrade: back.upgrade,
                ..Upgrading::default()
            });
        }
    }
}

impl Stored {
    /// What is applied now.
    pub fn applied(&self) -> Option<Applied> {
        Some(Applied {
            config: self.config.clone()?,
            spec: self.spec.clone()?,
            images: self.images.clone(),
        })
    }

    /// The backup is made: what waited for it is applied.
    pub fn apply_what_waits(&mut self) {
        let Some(upgrading) = &mut self.backups.upgrades.upgrading else {
            return;
        };
        let Some(next) = upgrading.next.take() else {
            return;
        };
        self.config = Some(next.config);
        self.spec = Some(next.spec);
        self.images = next.images;
    }

    /// The backup that an upgrade waits for cannot be made: what was applied goes on.
    pub fn give_up_upgrade(&mut self, why: &str) {
        self.backups.upgrades.upgrading = None;
        self.backups.upgrades.failure = Some(why.to_owned());
    }

    /// What waits for a backup is not applied any more.
    pub fn forget_upgrade_that_waits(&mut self) {
        if self.backups.upgrades.waiting().is_some() {
            self.backups.upgrades.upgrading = None;
        }
    }

    /// A node serves with what was upgraded to.
    pub fn upgraded(&mut self) {
        let done = self.backups.upgrades.upgrading.take();
        self.backups.upgrades.last = done.map(|upgrading| upgrading.upgrade);
    }

    /// The last upgrade is to be taken back, once its set was read and its image is there. One that
    /// failed halfway is tried again at once: nothing serves that could be spared.
    pub fn begin_rollback(&mut self) {
        let upgrades = &mut self.backups.upgrades;
        let Some(upgrade) = upgrades.way_back().cloned() else {
            return;
        };
        let begun = upgrades.rolling_back.take();
        let mut back = begun.unwrap_or_else(|| RollingBack {
            was_done: upgrades.migrating().is_none(),
            upgrade,
            waits: true,
            ..RollingBack::default()
        });
        back.failure = None;
        *upgrades = Upgrades {
            rolling_back: Some(back),
            ..Upgrades::default()
        };
        (self.wish, self.held) = (Wish::Up, false);
        self.bring_data_back();
    }

    /// All that a rollback waited for is there: no node runs from now on, and SQL Server does.
    pub fn end_wait_of_rollback(&mut self) {
        if let Some(back) = &mut self.backups.upgrades.rolling_back {
            back.waits = false;
        }
        self.bring_data_back();
    }

    fn bring_data_back(&mut self) {
        let Some(back) = self.backups.upgrades.goes_back() else {
            return;
        };
        let before = back.upgrade.before.clone();
        self.stopped.remove(&UnitId::Sql);
        self.take_settings_of_sql(&before);
    }

    /// SQL Server runs as it did before the upgrade, save for its image: it has to serve for the
    /// data to come back, and what came with the upgrade may be why it does not.
    fn take_settings_of_sql(&mut self, before: &Applied) {
        let (Some(config), Some(spec)) = (&mut self.config, &mut self.spec) else {
            return;
        };
        let configs = config.sql.as_mut().zip(before.config.sql.as_ref());
        let specs = spec.sql.as_mut().zip(before.spec.sql.as_ref());
        let (Some((config, config_before)), Some((sql, sql_before))) = (configs, specs) else {
            return;
        };
        let image = std::mem::take(&mut config.image);
        *config = SqlConfig {
            image,
            ..config_before.clone()
        };
        let image = std::mem::take(&mut sql.image);
        *sql = ContainerSpec {
            image,
            ..sql_before.clone()
        };
        spec.database = before.spec.database.clone();
    }

    /// The data is that of before the upgrade, and so is what is applied. SQL Server stays on its
    /// image: it may not be older than its files either, and any version of Octopus runs on it.
    pub fn end_rollback(&mut self, restored: &Restored) {
        let Some(back) = self.backups.upgrades.rolling_back.take() else {
            return;
        };
        let undone = self.config.as_ref().map(|config| &config.octopus.tag);
        self.backups.upgrades.rolled_back = undone.map(|tag| RolledBack {
            undone: tag.clone(),
        });
        let Applied {
            mut config,
            mut spec,
            mut images,
        } = *back.upgrade.before;
        if let (Some(now), Some(runs)) = (&self.config, &self.spec) {
            config.sql.clone_from(&now.sql);
            spec.sql.clone_from(&runs.sql);
            let image = runs.sql.as_ref().map(|sql| sql.image.clone());
            let pinned = image.and_then(|image| self.images.get_key_value(&image));
            images.extend(pinned.map(|(image, id)| (image.clone(), id.clone())));
        }
        self.config = Some(config);
        self.spec = Some(spec);
        self.images = images;
        self.take_data(restored);
    }

    /// Another daemon began the rollback: how far it came is not known.
    pub fn rollback_is_of_another_daemon(&mut self) {
        let back = self.backups.upgrades.rolling_back.as_mut();
        if let Some(back) = back.filter(|back| !back.waits) {
            back.may_be_touched = true;
        }
    }

    /// The rollback failed. Where data was touched, nothing is started before it is asked for again;
    /// else all is as it was.
    pub fn rollback_failed(&mut self, why: &str, is_touched: bool) {
        let upgrades = &mut self.backups.upgrades;
        let Some(mut back) = upgrades.rolling_back.take() else {
            return;
        };
        if is_touched || back.may_be_touched {
            (back.may_be_touched, back.failure) = (true, Some(why.to_owned()));
            upgrades.rolling_back = Some(back);
            return;
        }
        upgrades.failure = Some(why.to_owned());
        upgrades.keep_way_back(back);
    }

    /// A rollback that nothing is out for yet is not wished any more.
    pub fn forget_rollback_that_waits(&mut self) {
        let upgrades = &mut self.backups.upgrades;
        if let Some(back) = upgrades.rolling_back.take_if(|back| back.waits) {
            upgrades.keep_way_back(back);
        }
    }
}
