//! What `plan` says of a configuration, `up` does with it: configurations, worlds and flags drawn by
//! chance.

use octo_local::daemon::admit::Facts;
use octo_local::daemon::core::Duty;
use octo_local::daemon::message::Answer;
use octo_local::daemon::message::Event;
use octo_local::daemon::message::Request;
use octo_local::daemon::message::UpRequest;
use octo_local::daemon::store::Stored;
use octo_local::daemon::store::Wish;

use super::Bench;
use super::applied_with;
use super::known;
use super::odd_facts;
use super::up;
use crate::kit::chance::Chance;

/// How many worlds are drawn.
const WORLDS: u64 = 1_500;

type Variables = Vec<(&'static str, &'static str)>;

/// Variables with values that can be read, each of which may be there or not.
const VARIABLES: [(&str, &[&str]); 22] = [
    ("OCTOPUS_NODES", &["1", "2", "3"]),
    (
        "OCTOPUS_SERVER_TAG",
        &["2025.4.9", "2026.1.1", "2026.2.1", "latest"],
    ),
    ("TASK_CAP", &["3", "7"]),
    ("FRONT_DOOR", &["on", "off"]),
    ("OCTOPUS_PORT", &["8080", "9000"]),
    ("SQL_PORT", &["1401", "8090"]),
    ("OCTOPUS_NODE_PORT_BASE", &["9100"]),
    ("OCTOPUS_POLLING_PORT_BASE", &["10943"]),
    ("OCTOPUS_GRPC_PORT", &["8443"]),
    (
        "MASTER_KEY",
        &["AAAAAAAAAAAAAAAAAAAAAA==", "BBBBBBBBBBBBBBBBBBBBBA=="],
    ),
    ("ADMIN_API_KEY", &["API-TENTACLES0000000000000000"]),
    ("MSSQL_PID", &["Express", "Developer"]),
    ("OCTOPUS_MEMORY", &["2g", "64g"]),
    ("SQL_MEMORY", &["4g"]),
    ("OCTOPUS_CPUS", &["1.5", "64"]),
    ("EXTRA_HOSTS", &["git.example.com:10.0.0.7"]),
    ("DISABLE_DIND", &["Y"]),
    ("OCTOPUS_SERVER_NODE_NAME", &["Another"]),
    ("UPGRADE_ROLLBACK", &["auto"]),
    ("PULL_POLICY", &["always"]),
    (
        "SQL_IMAGE",
        &[
            "mcr.microsoft.com/mssql/server:2019-latest",
            "mcr.microsoft.com/mssql/server:2022-latest",
        ],
    ),
    ("DRAIN_TIMEOUT", &["0", "60s"]),
];

/// A database of somebody else, in the place of SQL Server.
const THEIRS: [(&str, &str); 3] = [
    ("SQL_IMAGE", ""),
    (
        "DB_CONNECTION_STRING",
        "Server=sql.example.com;Database=O;User Id=sa;Password=Str0ng-1x",
    ),
    ("MASTER_KEY", "AAAAAAAAAAAAAAAAAAAAAA=="),
];

fn drawn(chance: &mut Chance) -> Variables {
    let is_theirs = chance.percent(20);
    let mut drawn: Variables = Vec::new();
    for (key, values) in VARIABLES {
        let value = chance.pick(values).copied().unwrap_or_default();
        let has_own = is_theirs && (key == "SQL_IMAGE" || key.starts_with("SQL_"));
        if chance.percent(20) && !has_own {
            drawn.push((key, value));
        }
    }
    if is_theirs {
        drawn.retain(|(key, _)| *key != "MASTER_KEY" && !key.starts_with("MSSQL"));
        drawn.extend(THEIRS);
    }
    drawn
}

/// What is there before: nothing, or a stack of another configuration that runs, that was taken
/// down, or that is being taken down.
fn world(chance: &mut Chance) -> Bench {
    let before = drawn(chance);
    match chance.below(5) {
        0 => Bench::awake(Stored::default()),
        1 => {
            let mut stored = applied_with(&before).core.stored().clone();
            stored.wish = Wish::Rest;
            Bench::awake(stored)
        }
        2 => {
            let mut bench = known::running_with(&before);
            bench.on(Event::Terminated);
            bench
        }
        3 => Bench::new(applied_with(&before).core.stored().clone(), Duty::Supervise),
        _ => known::running_with(&before),
    }
}

fn asked(chance: &mut Chance) -> Box<UpRequest> {
    let request = up(&drawn(chance));
    Box::new(UpRequest {
        fresh: chance.percent(20),
        name_on_purpose: chance.percent(20),
        no_backup: chance.percent(30),
        ..*request
    })
}

#[test]
fn up_takes_what_plan_calls_fine_whatever_is_configured() {
    let (mut fine, mut refused) = (0, 0);
    for seed in 0..WORLDS {
        let mut chance = Chance::new(seed);
        let mut bench = world(&mut chance);
        let request = asked(&mut chance);
        let mut facts = Facts::default();
        for change in odd_facts() {
            if chance.percent(8) {
                change(&mut facts);
            }
        }
        let plan = bench.ask(Request::Plan(request.clone()));
        bench.found(plan, facts.clone());
        let up = bench.ask(Request::Up(request));
        bench.found(up, facts);
        match (bench.answers.get(&plan), bench.answers.get(&up)) {
            (Some(Answer::Plan(Ok(changes))), Some(Answer::Up(Ok(accepted)))) => {
                assert_eq!(*changes, accepted.changes, "seed {seed}");
                fine += 1;
            }
            (Some(Answer::Plan(Err(plan))), Some(Answer::Up(Err(up)))) => {
                assert_eq!(plan, up, "seed {seed}");
                refused += 1;
            }
            others => panic!("seed {seed}: {others:?}"),
        }
    }
    assert!(fine > 200 && refused > 400, "{fine} {refused}");
}
