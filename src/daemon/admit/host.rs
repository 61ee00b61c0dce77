//! What the host must have: ports, addresses, memory, the right processor.

use super::Facts;
use super::problem;
use crate::config::Config;
use crate::config::Problem;
use crate::engine::Host;

/// SQL Server ends below this much memory (learn.microsoft.com, "SQL Server on Linux, system
/// requirements").
const SQL_MEMORY: u64 = 2_000_000_000;

pub(super) fn judge(
    config: &Config,
    facts: &Facts,
    problems: &mut Vec<Problem>,
    notes: &mut Vec<String>,
) {
    for taken in &facts.ports.taken {
        problems.push(problem(
            &taken.key,
            format!(
                "port {} of {} is taken by {}",
                taken.port, taken.ip, taken.holder
            ),
            "stop that, or choose another port",
        ));
    }
    for (key, ip) in &facts.ports.no_such_address {
        let mut told = problem(
            key,
            "no network interface of this host has this address",
            "use 127.0.0.1, an address of this host, or 0.0.0.0 for all of them",
        );
        told.value = Some(ip.to_string());
        problems.push(told);
    }
    problems.extend(facts.ports.certificate.iter().map(|(key, why)| {
        let fix = "give PEM files that belong together and that the daemon's user may read; paths are relative to the project directory";
        problem(key, why.as_str(), fix)
    }));
    problems.extend(facts.ports.places.iter().cloned());
    let Some(host) = &facts.host else {
        return;
    };
    processors(config, host.processors, problems);
    unbound(config, host, notes);
    if config.demo {
        return;
    }
    let (memory, architecture) = (&host.memory, &host.architecture);
    if config.sql.is_some() && *memory < SQL_MEMORY {
        let megabytes = memory / 1_000_000;
        problems.push(problem(
            "memory",
            format!("the Docker host has {megabytes} MB; SQL Server needs 2000 MB"),
            "give it more memory",
        ));
    }
    if !architecture.is_empty() && architecture != "x86_64" && architecture != "amd64" {
        problems.push(problem(
            "processor",
            format!("the Docker host is {architecture}; both images are for x86-64 only"),
            "use an x86-64 host",
        ));
    }
}

/// An engine makes no container that may have more than there are.
fn processors(config: &Config, there: u64, problems: &mut Vec<Problem>) {
    let of_sql = config.sql.as_ref().and_then(|sql| sql.limits.processors);
    let wanted = [
        ("OCTOPUS_CPUS", config.octopus.limits.processors),
        ("SQL_CPUS", of_sql),
    ];
    for (key, wanted) in wanted {
        let Some(wanted) = wanted.filter(|wanted| wanted.is_more_than(there)) else {
            continue;
        };
        let mut told = problem(
            key,
            format!("the Docker host has {there} processors"),
            format!("set it to {there} or less, or leave it out"),
        );
        told.value = Some(wanted.to_string());
        problems.push(told);
    }
}

/// An engine without the right control groups takes limits, and holds nobody to them.
fn unbound(config: &Config, host: &Host, notes: &mut Vec<String>) {
    let of_nodes = config.octopus.limits;
    let of_sql = config
        .sql
        .as_ref()
        .map(|sql| sql.limits)
        .unwrap_or_default();
    let (memory, processors) = (host.bounds_memory, host.bounds_processors);
    let limits = [
        ("OCTOPUS_MEMORY", of_nodes.memory.is_some(), memory),
        ("OCTOPUS_CPUS", of_nodes.processors.is_some(), processors),
        ("SQL_MEMORY", of_sql.memory.is_some(), memory),
        ("SQL_CPUS", of_sql.processors.is_some(), processors),
    ];
    let without_effect = limits
        .iter()
        .filter(|(_, is_set, is_held)| *is_set && !is_held);
    let keys: Vec<&str> = without_effect.map(|(key, ..)| *key).collect();
    if !keys.is_empty() {
        notes.push(format!(
            "this Docker Engine holds no container to such limits (a rootless one needs control groups of version 2): \
             {} without effect",
            keys.join(", ")
        ));
    }
}
