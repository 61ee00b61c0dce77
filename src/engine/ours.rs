//! What is ours. A label alone proves nothing: anybody can set it, and `docker commit` hands ours on
//! to every container made from the image. So what is ours carries our label *and* has the name that
//! we would give it, or is known to have had it.

use std::collections::BTreeMap;

use super::shown::Listed;
use crate::config::project::ProjectName;
use crate::spec::UnitId;
use crate::spec::labels;

/// The label that compose and we keep a volume's key in.
const VOLUME_KEY: &str = "com.docker.compose.volume";
/// The label with the project that a lease is for.
pub(super) const LEASE_LABEL: &str = "octo-local.lease";
/// What follows the project in the name of a lease.
const LEASE: &str = "_octo-local-lease-";

/// The name of our network.
pub(super) fn network_name(project: &ProjectName) -> String {
    format!("{project}_default")
}

fn container_name(project: &ProjectName, unit: UnitId) -> String {
    match unit {
        UnitId::Sql => format!("{project}-{unit}-{}", unit.number()),
        UnitId::Node(_) | UnitId::Tentacle(_) => format!("{project}-{unit}"),
    }
}

/// Whether a container of ours has this name.
pub(super) fn has_our_name(project: &ProjectName, name: &str) -> bool {
    let unit = name
        .strip_prefix(project.as_str())
        .and_then(|rest| rest.strip_prefix('-'))
        .and_then(|unit| unit.parse().ok());
    unit.is_some_and(|unit| container_name(project, unit) == name)
}

/// Whether these labels name the project.
pub(super) fn carries_label(project: &ProjectName, found: &BTreeMap<String, String>) -> bool {
    found.get(labels::PROJECT).map(String::as_str) == Some(project.as_str())
}

/// Whether a container is ours.
pub(super) fn is_container(project: &ProjectName, listed: &Listed) -> bool {
    let unit = listed
        .labels
        .get(labels::UNIT)
        .and_then(|unit| unit.parse().ok());
    carries_label(project, &listed.labels)
        && unit.is_some_and(|unit| container_name(project, unit) == listed.name())
}

/// Whether a volume of this name and with these labels is ours: it is named for the key in its label.
pub fn is_volume(project: &ProjectName, name: &str, labels: &BTreeMap<String, String>) -> bool {
    let key = labels.get(VOLUME_KEY);
    carries_label(project, labels) && key.is_some_and(|key| format!("{project}_{key}") == name)
}

/// Whether a network of this name and with these labels is ours.
pub fn is_network(project: &ProjectName, name: &str, labels: &BTreeMap<String, String>) -> bool {
    carries_label(project, labels) && name == network_name(project)
}

/// The name of the lease of this number.
pub(super) fn lease_name(project: &ProjectName, number: u64) -> String {
    format!("{project}{LEASE}{number}")
}

/// The number of a lease, by its volume's name.
pub(super) fn lease_number(project: &ProjectName, name: &str) -> Option<u64> {
    let number = name.strip_prefix(project.as_str())?.strip_prefix(LEASE)?;
    number
        .parse()
        .ok()
        .filter(|number| lease_name(project, *number) == name)
}

/// Whether a volume is a lease of some project: by its label and its name.
pub(super) fn is_any_lease<'a>(name: &str, labels: impl Iterator<Item = &'a String>) -> bool {
    let number = name.rsplit_once(LEASE).map(|(_, number)| number);
    let is_named = number.is_some_and(|number| number.parse::<u64>().is_ok());
    is_named && labels.into_iter().any(|label| label == LEASE_LABEL)
}

/// Whether a volume is a lease, which is no data.
pub(super) fn is_lease(project: &ProjectName, name: &str) -> bool {
    lease_number(project, name).is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn project() -> ProjectName {
        crate::config::project::normalise("shop").unwrap()
    }

    fn labelled(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs
            .iter()
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
            .collect()
    }

    #[test]
    fn a_container_is_ours_by_label_and_name_together() {
        let is_ours = |name: &str, project_label: &str, unit: &str| {
            let listed = Listed {
                names: vec![format!("/{name}")],
                labels: labelled(&[(labels::PROJECT, project_label), (labels::UNIT, unit)]),
                ..Listed::default()
            };
            is_container(&project(), &listed)
        };
        assert!(is_ours("shop-db-1", "shop", "db"));
        assert!(is_ours("shop-octopus-server-2", "shop", "octopus-server-2"));
        let others = [
            ("shop-db-1", "other", "db"),
            ("from-a-commit", "shop", "octopus-server-2"),
            ("shop-octopus-server-1", "shop", "octopus-server-2"),
            ("shop-octopus-server-02", "shop", "octopus-server-2"),
            ("shop-db-1", "shop", "nonsense"),
        ];
        for (name, project, unit) in others {
            assert!(!is_ours(name, project, unit), "{name} {project} {unit}");
        }
        assert!(has_our_name(&project(), "shop-octopus-server-12"));
        assert!(has_our_name(&project(), "shop-db-1") && !has_our_name(&project(), "shop-db"));
        assert!(
            !has_our_name(&project(), "shop-web-1") && !has_our_name(&project(), "workshop-db-1")
        );
    }

    #[test]
    fn a_volume_is_ours_by_label_and_name_together_and_a_lease_is_no_data() {
        let is_ours = |name: &str, key: &str| {
            let labels = labelled(&[(labels::PROJECT, "shop"), (VOLUME_KEY, key)]);
            is_volume(&project(), name, &labels)
        };
        assert!(is_ours("shop_sql-data", "sql-data"));
        assert!(!is_ours("somebody-s_sql-data", "sql-data"));
        assert!(!is_ours("shop_sql-data-copy", "sql-data"));
        let labels = labelled(&[(labels::PROJECT, "shop")]);
        assert!(!is_volume(&project(), "shop_sql-data", &labels), "no key");
        assert!(is_network(&project(), "shop_default", &labels));
        assert!(!is_network(&project(), "shop_other", &labels));
        assert_eq!(
            lease_number(&project(), &lease_name(&project(), 17)),
            Some(17)
        );
        assert!(!is_lease(&project(), "shop_octo-local-lease-017"));
        assert!(!is_lease(&project(), "shop_sql-data"));
        let label = [LEASE_LABEL.to_owned()];
        let is_any =
            |name: &str, labelled: bool| is_any_lease(name, label.iter().filter(|_| labelled));
        assert!(is_any("other_octo-local-lease-3", true));
        assert!(!is_any("other_octo-local-lease-3", false) && !is_any("other_sql-data", true));
    }
}
