//! Why a container is recreated: the differences between two definitions, told without a value that
//! may be secret.

use super::ContainerSpec;

/// One fragment a difference, such as `image a:1 -> a:2` or `ADMIN_EMAIL changed`; empty when
/// nothing differs.
pub fn reasons(old: &ContainerSpec, new: &ContainerSpec) -> Vec<String> {
    let mut reasons = Vec::new();
    if old.image != new.image {
        reasons.push(format!("image {} -> {}", old.image, new.image));
    }
    environment(old, new, &mut reasons);
    let plain = [
        ("name", old.name != new.name),
        ("host name", old.hostname != new.hostname),
        ("published ports", old.ports != new.ports),
        ("volumes", old.mounts != new.mounts),
        ("extra host names", old.extra_hosts != new.extra_hosts),
        ("extra mounts", old.extra_mounts != new.extra_mounts),
        ("extra networks", old.networks != new.networks),
        ("network aliases", old.aliases != new.aliases),
        ("open standard input", old.open_stdin != new.open_stdin),
        ("stop timeout", old.stop_timeout_s != new.stop_timeout_s),
        (
            "log limits",
            (&old.log_max_size, old.log_max_files) != (&new.log_max_size, new.log_max_files),
        ),
    ];
    reasons.extend(
        plain
            .iter()
            .filter(|(_, differs)| *differs)
            .map(|(what, _)| format!("{what} changed")),
    );
    if old.user != new.user {
        let of = |user: &Option<String>| user.clone().unwrap_or_else(|| "the image's".to_owned());
        reasons.push(format!(
            "user {} -> {} (what is in its volumes must belong to that user)",
            of(&old.user),
            of(&new.user)
        ));
    }
    limit(
        "memory limit",
        old.limits.memory,
        new.limits.memory,
        &mut reasons,
    );
    let processors = (old.limits.processors, new.limits.processors);
    limit("processor limit", processors.0, processors.1, &mut reasons);
    if old.privileged != new.privileged {
        reasons.push(format!(
            "privileged {} -> {}",
            old.privileged, new.privileged
        ));
    }
    reasons
}

fn limit<T: PartialEq + ToString>(
    what: &str,
    old: Option<T>,
    new: Option<T>,
    reasons: &mut Vec<String>,
) {
    if old != new {
        let of = |limit: Option<T>| limit.map_or_else(|| "none".to_owned(), |one| one.to_string());
        reasons.push(format!("{what} {} -> {}", of(old), of(new)));
    }
}

fn environment(old: &ContainerSpec, new: &ContainerSpec, reasons: &mut Vec<String>) {
    for (key, value) in &new.env {
        match old.env.get(key) {
            None => reasons.push(format!("{key} added")),
            Some(before) if before != value => reasons.push(format!("{key} changed")),
            Some(_) => {}
        }
    }
    let gone = old.env.keys().filter(|key| !new.env.contains_key(*key));
    reasons.extend(gone.map(|key| format!("{key} removed")));
}
