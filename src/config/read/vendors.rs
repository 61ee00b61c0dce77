//! Hands the vendors' variables on, or refuses what cannot work here.

use std::collections::BTreeMap;

use super::Reader;
use crate::config::Secret;
use crate::config::vendor;
use crate::config::vendor::Rule;
use crate::config::vendor::Vendor;

impl Reader<'_> {
    /// Vendor variables that a file names, and the stand-ins' switches.
    pub(super) fn extra(&mut self, rows: &[Vendor], standin: &str) -> BTreeMap<String, Secret> {
        let is_demo = self.input.demo.is_some();
        let mut extra = BTreeMap::new();
        for (key, value) in &self.input.vars {
            let in_a_file = self.input.origins.contains_key(key);
            let row = rows.iter().find(|row| row.name == key && in_a_file);
            let is_switch = key.starts_with(standin) && (in_a_file || is_demo);
            let is_taken = row.is_some_and(|row| self.takes(row, value));
            if is_taken || is_switch {
                extra.insert(key.clone(), Secret::new(value));
            }
        }
        extra
    }

    /// Whether a value is handed on. One that is refused is a problem; an empty one is as good as
    /// none where values are judged.
    fn takes(&mut self, row: &Vendor, value: &str) -> bool {
        if matches!(row.rule, Rule::Any) {
            return true;
        }
        let is_empty = value.trim().is_empty();
        let refusal = row.rule.refusal(value).filter(|_| !is_empty);
        if let Some((why, fix)) = refusal {
            self.problem(row.name, why, fix);
        }
        refusal.is_none() && !is_empty
    }

    /// The nodes' queue for polling Tentacles needs a directory that they share (octopus.com/docs,
    /// `multi-node-polling-tentacles`).
    pub(super) fn redis(&mut self, extra: &BTreeMap<String, Secret>) {
        let has_queue = self.given(vendor::REDIS).is_some() && extra.contains_key(vendor::REDIS);
        if has_queue && !vendor::has_cluster_shared(extra) {
            self.problem(
                vendor::REDIS,
                "the nodes' queue needs a directory that they share, and CLUSTER_SHARED_MODE names none",
                "set CLUSTER_SHARED_MODE=SEPARATE_VOLUMES_WITH_CLUSTER_SHARED, or leave this out",
            );
        }
    }
}
