//! What goes with the manifests for a person: the way of the data, and the upgrade.

use super::cluster::Cluster;
use super::cluster::OCTOPUS;
use super::cluster::SECRET;
use super::options::Flavour;
use super::options::Format;
use crate::export::file::File;

const UPGRADE: &str = include_str!("../../../compose/kubernetes/upgrade.sh");
const UNDRAIN: &str = include_str!("../../../compose/kubernetes/undrain.sh");
const HANDOVER: &str = include_str!("../../../compose/kubernetes/HANDOVER.md");

/// The scripts and the manual.
pub fn files(cluster: &Cluster<'_>) -> Vec<File> {
    let is_hardened = cluster.options.image_flavour == Flavour::Hardened;
    let undrain = is_hardened.then(|| File::program("undrain.sh", filled(cluster, UNDRAIN)));
    [
        File::open("HANDOVER.md", filled(cluster, HANDOVER)),
        File::program("upgrade.sh", filled(cluster, UPGRADE)),
    ]
    .into_iter()
    .chain(undrain)
    .collect()
}

/// The names of this export in the place of `@NAME@`. Blocks between `@if WORD@` and `@end@` stay
/// where the word is true.
fn filled(cluster: &Cluster<'_>, template: &str) -> String {
    let options = cluster.options;
    let words = [
        ("internal", cluster.sql.is_some()),
        ("external", cluster.sql.is_none()),
        ("hardened", options.image_flavour == Flavour::Hardened),
        ("kustomize", options.format == Format::Kustomize),
        ("yaml", options.format == Format::Yaml),
        ("helm", options.format == Format::HelmValues),
        ("manifests", options.format != Format::HelmValues),
    ];
    let mut kept = String::new();
    let mut keep = true;
    for line in template.lines() {
        match line
            .strip_prefix("@if ")
            .and_then(|rest| rest.strip_suffix('@'))
        {
            Some(word) => keep = words.contains(&(word, true)),
            None if line == "@end@" => keep = true,
            None if keep => kept.extend([line, "\n"]),
            None => {}
        }
    }
    let selector: Vec<String> = cluster
        .selector(OCTOPUS)
        .iter()
        .map(|(key, value)| format!("{key}={value}"))
        .collect();
    kept.replace("@NAMESPACE@", &cluster.namespace)
        .replace("@SELECTOR@", &selector.join(","))
        .replace("@SET@", &cluster.set_name())
        .replace("@SECRET@", SECRET)
        .replace("@NODES@", &cluster.nodes.to_string())
        .replace("@GRACE@", &cluster.grace_s.to_string())
        .replace("@START@", &cluster.start_limit_s.to_string())
}
