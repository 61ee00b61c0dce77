//! What is admitted and what is refused, by facts and configurations.

use super::*;
use crate::config::Input;
use crate::config::project::ProjectName;
use crate::config::read;
use crate::config::read::Demo;
use crate::daemon::store::Ran;
use crate::daemon::store::SaPassword;
use crate::spec::build::BuildInput;
use crate::spec::build::build;

const KEY: &str = "AAAAAAAAAAAAAAAAAAAAAA==";
const OTHER: &str = "BBBBBBBBBBBBBBBBBBBBBA==";

fn config(more: &[(&str, &str)], demo: bool) -> Config {
    let good = [
        ("SA_PASSWORD", "Str0ng-enough"),
        ("ADMIN_PASSWORD", "Adm1n-enough"),
        ("ACCEPT_EULA", "Y"),
        ("ACCEPT_OCTOPUS_EULA", "Y"),
    ];
    let vars = good
        .iter()
        .chain(more)
        .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
        .collect();
    let demo = demo.then(|| Demo {
        sql_image: "s:1".into(),
        octopus_image: "o".into(),
        octopus_tag: "1".into(),
        tentacle_image: "tentacle:1".into(),
        sa_password: Secret::new("Generated-1"),
        admin_password: Secret::new("Generated-2"),
    });
    let input = Input {
        vars,
        demo,
        ..Input::default()
    };
    read(&input)
        .unwrap_or_else(|problems| panic!("{problems:?}"))
        .config
}

fn spec(config: &Config) -> StackSpec {
    let project = ProjectName::given("p").unwrap();
    let around = BuildInput {
        project: &project,
        working_dir: "/srv/p",
        master_key: &Secret::default(),
        may_be_privileged: true,
    };
    build(config, &around)
}

fn ask(
    config: &Config,
    stored: &Stored,
    facts: &Facts,
    fresh: bool,
) -> Result<Admitted, Vec<Problem>> {
    let spec = spec(config);
    let asked = Asked {
        config,
        spec: &spec,
        fresh,
        name_on_purpose: false,
        no_backup: false,
        today: Some(time::macros::date!(2026 - 06 - 01)),
    };
    admit(&asked, stored, facts)
}

fn key(config: &Config, stored: &Stored, facts: &Facts) -> MasterKey {
    let admitted = ask(config, stored, facts, false);
    admitted
        .unwrap_or_else(|problems| panic!("{problems:?}"))
        .key
}

/// What is wrong, by key, and all the words of it.
fn refused(result: Result<Admitted, Vec<Problem>>) -> (Vec<String>, String) {
    let problems = result.err().unwrap_or_default();
    let words = problems.iter().map(ToString::to_string).collect::<Vec<_>>();
    let keys = problems.into_iter().map(|problem| problem.key).collect();
    (keys, words.join("\n"))
}

fn keys(config: &Config, stored: &Stored, facts: &Facts) -> Vec<String> {
    refused(ask(config, stored, facts, false)).0
}

fn node_with(key: NodeKey) -> NodeFacts {
    NodeFacts {
        key: Some(key),
        ..NodeFacts::default()
    }
}

fn volume() -> Data {
    Data::Volume("p_sql-data".to_owned())
}

fn data() -> Facts {
    Facts {
        has_data: true,
        ..Facts::default()
    }
}

/// A stack whose key octo-local made; `proven`: a node came up with it.
fn made(proven: bool) -> Stored {
    kept(&volume(), true, proven)
}

fn kept(data: &Data, generated: bool, proven: bool) -> Stored {
    let mut stored = Stored::default();
    let key = Secret::new(KEY);
    stored.keys.set(&key, generated, data);
    if proven {
        stored.key_proven(&key, data);
    }
    stored
}

fn known(key: &str) -> MasterKey {
    MasterKey::Known(Secret::new(key))
}

const EXTERNAL: [(&str, &str); 2] = [
    ("SQL_IMAGE", ""),
    (
        "DB_CONNECTION_STRING",
        "Server=sql.example.com;Database=O;User Id=u;Password=p",
    ),
];

fn external(more: &[(&str, &str)]) -> (Config, Data) {
    let config = config(&[&EXTERNAL, more].concat(), false);
    let data = Data::of(&spec(&config));
    (config, data)
}

fn with_database(exists: bool) -> Facts {
    Facts {
        external_database: Some(exists),
        external_login: Login::Accepted,
        ..Facts::default()
    }
}

#[test]
fn a_new_database_gets_a_new_key_and_an_old_one_keeps_its_own() {
    let plain = config(&[], false);
    assert_eq!(
        key(&plain, &Stored::default(), &Facts::default()),
        MasterKey::Generate
    );
    for proven in [true, false] {
        assert_eq!(key(&plain, &made(proven), &data()), known(KEY));
    }
    assert_eq!(keys(&plain, &Stored::default(), &data()), ["MASTER_KEY"]);
    let other = config(&[("MASTER_KEY", OTHER)], false);
    let (keys, words) = refused(ask(&other, &made(true), &data(), false));
    assert_eq!(keys, ["MASTER_KEY"]);
    assert!(
        words.contains("a node came up with another one on this database"),
        "{words}"
    );
}

#[test]
fn data_that_is_gone_is_told_and_its_key_is_used_again_when_a_new_database_is_meant() {
    let plain = config(&[], false);
    let (keys, words) = refused(ask(&plain, &made(true), &Facts::default(), false));
    assert_eq!(keys, ["p_sql-data"]);
    assert!(
        words.contains("--fresh") && words.contains("is gone"),
        "{words}"
    );
    let admitted = ask(&plain, &made(true), &Facts::default(), true).unwrap();
    assert_eq!(admitted.key, known(KEY), "backups need it");
    assert!(
        admitted
            .notes
            .iter()
            .any(|note| note.contains("new and empty"))
    );
    // Deleted because that was asked for: nothing is missed.
    assert_eq!(
        key(&plain, &made(true).data_deleted(), &Facts::default()),
        known(KEY)
    );
    let given = config(&[("MASTER_KEY", OTHER)], false);
    assert_eq!(
        key(&given, &made(true).data_deleted(), &Facts::default()),
        known(OTHER)
    );
}

#[test]
fn a_wrong_key_once_does_not_refuse_the_right_one() {
    let (given, data) = external(&[("MASTER_KEY", OTHER)]);
    let wrong = kept(&data, false, false);
    assert_eq!(key(&given, &wrong, &with_database(true)), known(OTHER));
    assert_eq!(key(&given, &wrong, &with_database(false)), known(OTHER));
    // Left out, a key that no node came up with is not used again: it may be the wrong one.
    let (left_out, _) = external(&[]);
    let asked = |stored: &Stored| keys(&left_out, stored, &with_database(true));
    assert_eq!(asked(&wrong), ["MASTER_KEY"]);
    assert_eq!(asked(&wrong.data_deleted()), ["MASTER_KEY"]);
    let node_has_it = Facts {
        node: node_with(NodeKey {
            key: Secret::new(KEY),
            serves: false,
        }),
        ..with_database(true)
    };
    assert_eq!(keys(&left_out, &wrong, &node_has_it), ["MASTER_KEY"]);
    assert_eq!(key(&left_out, &Stored::default(), &node_has_it), known(KEY));
    assert_eq!(
        key(&left_out, &wrong, &with_database(false)),
        MasterKey::Generate
    );
    assert_eq!(
        keys(&given, &kept(&data, false, true), &with_database(true)),
        ["MASTER_KEY"]
    );
}

#[test]
fn a_key_binds_only_the_data_that_a_node_came_up_on() {
    let (given, _) = external(&[("MASTER_KEY", OTHER)]);
    assert_eq!(key(&given, &made(true), &with_database(true)), known(OTHER));
    let own = config(&[("MASTER_KEY", OTHER)], false);
    let serving = Facts {
        node: node_with(NodeKey {
            key: Secret::new(KEY),
            serves: true,
        }),
        ..data()
    };
    assert_eq!(keys(&own, &Stored::default(), &serving), ["MASTER_KEY"]);
}

#[test]
fn a_key_made_for_a_node_that_failed_halfway_is_found_after_another_was_tried() {
    let mut stored = made(false);
    stored.keys.set(&Secret::new(OTHER), false, &volume());
    assert_eq!(key(&config(&[], false), &stored, &data()), known(KEY));
}

#[test]
fn a_new_stack_elsewhere_does_not_take_the_place_of_a_key() {
    let plain = config(&[], false);
    let elsewhere = Some(("unix:///a".to_owned(), "unix:///b".to_owned()));
    let nothing = Facts {
        elsewhere: elsewhere.clone(),
        ..Facts::default()
    };
    assert_eq!(keys(&plain, &made(true), &nothing), ["DOCKER_HOST"]);
    assert_eq!(
        key(&plain, &Stored::default(), &nothing),
        MasterKey::Generate
    );
    let one_engine = Facts {
        elsewhere,
        ..data()
    };
    assert_eq!(key(&plain, &made(true), &one_engine), known(KEY));
}

#[test]
fn a_password_that_the_data_does_not_know_is_refused_and_nothing_is_said_that_was_not_tried() {
    let plain = config(&[], false);
    let stored = Stored {
        sa: SaPassword {
            known: Some(Secret::new("0ld-password")),
            ..SaPassword::default()
        },
        ..made(false)
    };
    let asked = |login| Facts {
        sa_login: login,
        ..data()
    };
    let words = |login| refused(ask(&plain, &stored, &asked(login), false)).1;
    assert!(words(Login::Unknown).contains("last accepted"));
    assert!(words(Login::Refused).contains("running SQL Server refuses it"));
    assert_eq!(words(Login::Accepted), "");
    assert!(keys(&plain, &stored, &Facts::default()).is_empty());
}

#[test]
fn a_login_that_an_external_server_refuses_is_told_before_a_node_is_touched() {
    let (given, data) = external(&[("MASTER_KEY", KEY)]);
    let stored = kept(&data, false, true);
    let asked = |login| Facts {
        external_login: login,
        external_database: None,
        ..Facts::default()
    };
    let (keys, words) = refused(ask(&given, &stored, &asked(Login::Refused), false));
    assert_eq!(keys, ["DB_CONNECTION_STRING"]);
    assert!(
        words.contains("sql.example.com:1433") && !words.contains("start db"),
        "{words}"
    );
    assert_eq!(key(&given, &stored, &asked(Login::Unknown)), known(KEY));
}

#[test]
fn a_demo_and_a_real_stack_never_share_data() {
    for (demo, there) in [(true, false), (false, true)] {
        let facts = Facts {
            is_demo: Some(there),
            ..Facts::default()
        };
        assert_eq!(
            keys(&config(&[], demo), &Stored::default(), &facts),
            ["--demo"]
        );
    }
}

#[test]
fn an_older_version_is_refused_whatever_the_tag_says() {
    // What ran (version as reported, tag), what is wanted (tag, what the image says), refused.
    let cases = [
        ("2026.2.1", "2026.2.1", "2026.1.9", None, true),
        ("", "2026.2.1", "2026.1.9", None, true),
        ("2026.2.7", "2026.2", "2026.2.1", None, true),
        ("2026.2.8", "latest", "2025.4.1", None, true),
        ("2026.2.8", "2026.2.8", "latest", Some("2025.4.1"), true),
        ("2026.2.8", "2026.2.8", "2025", Some("2025.4.1"), true),
        ("2026.2.8", "2026.2.8", "latest", Some("2026.3.1"), false),
        ("2026.2.7", "2026.2.7", "2026.2", None, false),
        ("2026.2.7", "2026.2.7", "2026.2.10", None, false),
        ("", "latest", "2026.2.10", None, false),
    ];
    for (reported, before, wanted, label, is_refused) in cases {
        let mut stored = made(true);
        stored.version_ran(Ran {
            version: reported.to_owned(),
            image: format!("octopusdeploy/octopusdeploy:{before}"),
            data: Some(volume()),
            ..Ran::default()
        });
        let facts = Facts {
            versions: Versions {
                image: label.map(str::to_owned),
                ..Versions::default()
            },
            ..data()
        };
        let config = config(&[("OCTOPUS_SERVER_TAG", wanted)], false);
        let refused = keys(&config, &stored, &facts);
        assert_eq!(
            refused == ["OCTOPUS_SERVER_TAG"],
            is_refused,
            "{before} to {wanted}"
        );
    }
}

#[test]
fn what_cannot_be_compared_is_said() {
    let mut stored = made(true);
    stored.version_ran(Ran {
        version: "2026.2.8".to_owned(),
        data: Some(volume()),
        ..Ran::default()
    });
    let latest = config(&[("OCTOPUS_SERVER_TAG", "latest")], false);
    let notes = ask(&latest, &stored, &data(), false).unwrap().notes;
    assert!(
        notes[0].contains("nobody can say whether latest is older than 2026.2.8"),
        "{notes:?}"
    );
    // What a node's image says counts where nothing is kept.
    let facts = Facts {
        versions: Versions {
            node: Some("2026.2.8".to_owned()),
            ..Versions::default()
        },
        ..data()
    };
    let older = config(&[("OCTOPUS_SERVER_TAG", "2026.1.1")], false);
    assert_eq!(keys(&older, &made(true), &facts), ["OCTOPUS_SERVER_TAG"]);
}

#[test]
fn what_the_database_tells_of_its_versions_counts_where_nothing_or_less_is_kept() {
    let (elsewhere, there) = external(&[("MASTER_KEY", KEY), ("OCTOPUS_SERVER_TAG", "2026.1.1")]);
    let here = config(
        &[("MASTER_KEY", KEY), ("OCTOPUS_SERVER_TAG", "2026.1.1")],
        false,
    );
    for (config, facts, data) in [
        (elsewhere, with_database(true), there),
        (here, data(), volume()),
    ] {
        let mut kept = Stored::default();
        kept.version_ran(Ran {
            version: "2026.1.1".to_owned(),
            image: "octopusdeploy/octopusdeploy:2026.1.1".to_owned(),
            data: Some(data),
            ..Ran::default()
        });
        for stored in [&Stored::default(), &kept] {
            for (told, is_refused) in [
                (&["2026.2.7", "2025.4.1"][..], true),
                (&["2025.4.1", "2026.2.7+build.1"], true),
                (&["2026.1.1"], false),
                (&["2025.4.1"], false),
                (&["nonsense"], false),
            ] {
                let versions = Versions {
                    database: told.iter().map(|&version| version.to_owned()).collect(),
                    ..Versions::default()
                };
                let facts = Facts {
                    versions,
                    ..facts.clone()
                };
                let refused = keys(&config, stored, &facts);
                assert_eq!(
                    refused == ["OCTOPUS_SERVER_TAG"],
                    is_refused,
                    "{told:?}: {refused:?}"
                );
            }
        }
    }
}

/// An image of somebody's own may have a version of its own in its tag.
#[test]
fn the_same_image_goes_on_whatever_version_the_database_tells_of_it() {
    for (tag, version, newest, is_refused) in [
        ("1.0.5", "2026.2.7", "2026.2.7", false),
        ("1.0.5", "", "2026.2.7", false),
        ("2026.2.1", "2026.2.7", "2026.2.7", false),
        ("2026.2.1", "2026.2.1", "2026.2.7", true),
    ] {
        let mut stored = made(true);
        stored.version_ran(Ran {
            version: version.to_owned(),
            image: format!("octopusdeploy/octopusdeploy:{tag}"),
            data: Some(volume()),
            ..Ran::default()
        });
        let facts = Facts {
            versions: Versions {
                database: vec![newest.to_owned()],
                ..Versions::default()
            },
            ..data()
        };
        let refused = keys(
            &config(&[("OCTOPUS_SERVER_TAG", tag)], false),
            &stored,
            &facts,
        );
        assert_eq!(
            refused == ["OCTOPUS_SERVER_TAG"],
            is_refused,
            "{tag}: {refused:?}"
        );
    }
}

#[test]
fn what_is_kept_counts_where_the_database_tells_of_an_older_one() {
    let mut stored = made(true);
    stored.version_ran(Ran {
        version: "2026.2.8".to_owned(),
        data: Some(volume()),
        ..Ran::default()
    });
    let facts = Facts {
        versions: Versions {
            database: vec!["2026.1.1".to_owned()],
            ..Versions::default()
        },
        ..data()
    };
    let older = config(&[("OCTOPUS_SERVER_TAG", "2026.2.1")], false);
    assert_eq!(keys(&older, &stored, &facts), ["OCTOPUS_SERVER_TAG"]);
}

#[test]
fn a_database_of_which_nothing_is_known_is_no_reason_to_be_silent() {
    let given = ("MASTER_KEY", KEY);
    let (elsewhere, _) = external(&[given]);
    let here = config(&[given], false);
    for (config, facts) in [(elsewhere, with_database(true)), (here.clone(), data())] {
        let notes = ask(&config, &Stored::default(), &facts, false)
            .unwrap()
            .notes;
        let is_told = |note: &String| note.contains("nothing is known of the Octopus Server");
        assert!(notes.iter().any(is_told), "{notes:?}");
    }
    // The project's own first start, which never came to a node.
    let mut begun = made(false);
    begun.spec = Some(spec(&here));
    let notes = ask(&here, &begun, &data(), false).unwrap().notes;
    assert_eq!(notes, Vec::<String>::new());
}

#[test]
fn an_external_database_that_cannot_be_asked_needs_a_key() {
    let (config, _) = external(&[]);
    assert_eq!(
        keys(&config, &Stored::default(), &Facts::default()),
        ["MASTER_KEY"]
    );
    assert_eq!(
        key(&config, &Stored::default(), &with_database(false)),
        MasterKey::Generate
    );
}

#[test]
fn nobody_ends_up_with_an_empty_database_beside_their_data() {
    let plain = config(&[], false);
    let nothing = Stored::default();
    let compose = Facts {
        claims: Claims(vec![
            "volume p_sqlvolume of the compose project p".to_owned(),
        ]),
        ..Facts::default()
    };
    let (found, words) = refused(ask(&plain, &nothing, &compose, false));
    assert_eq!(found, ["project name"]);
    for word in [
        "p_sqlvolume",
        "`octo-local adopt`",
        "adopt --plan",
        "-p NEW",
        "--fresh",
    ] {
        assert!(words.contains(word), "{word}: {words}");
    }
    assert_eq!(
        ask(&plain, &nothing, &compose, true).unwrap().key,
        MasterKey::Generate
    );
    let known_stack = Facts {
        has_data: true,
        ..compose
    };
    assert_eq!(
        key(&plain, &made(true), &known_stack),
        known(KEY),
        "it has its data already"
    );
    let sibling = |kinship| Facts {
        siblings: vec![Sibling {
            project: "old".to_owned(),
            working_dir: "/srv/old".to_owned(),
            kinship,
        }],
        ..Facts::default()
    };
    for kinship in [Kinship::Moved, Kinship::SameDirectory] {
        let (found, words) = refused(ask(&plain, &nothing, &sibling(kinship), false));
        assert_eq!(found, ["project name"]);
        assert!(
            words.contains("-p old") && words.contains("/srv/old"),
            "{words}"
        );
        let notes = ask(&plain, &nothing, &sibling(kinship), true)
            .unwrap()
            .notes;
        assert!(
            notes.iter().any(|note| note.contains("it stays as it is")),
            "{notes:?}"
        );
    }
    let (shared, _) = external(&[("MASTER_KEY", KEY)]);
    let facts = Facts {
        external_database: Some(true),
        ..sibling(Kinship::SameDatabase)
    };
    assert_eq!(keys(&shared, &nothing, &facts), ["DB_CONNECTION_STRING"]);
}

#[test]
fn a_first_up_says_that_the_database_is_new_and_empty() {
    let notes = ask(
        &config(&[], false),
        &Stored::default(),
        &Facts::default(),
        false,
    );
    assert!(notes.unwrap().notes[0].contains("new and empty"));
    let notes = ask(&config(&[], false), &made(true), &data(), false);
    assert_eq!(notes.unwrap().notes, Vec::<String>::new());
}

#[test]
fn all_problems_of_the_host_come_at_once_and_none_advises_to_remove() {
    let foreign = |kind, name: &str| Foreign {
        kind,
        name: name.to_owned(),
        owner: "the compose project p".to_owned(),
    };
    let facts = Facts {
        foreign: vec![
            foreign("container", "p-db-1"),
            foreign("volume", "p_repository"),
            foreign("network", "p_default"),
        ],
        volume_users: vec!["other".to_owned()],
        ports: Ports {
            taken: vec![Taken {
                key: "SQL_PORT".into(),
                ip: "127.0.0.1".parse().unwrap(),
                port: 1401,
                holder: "container other".into(),
            }],
            no_such_address: vec![("BIND_ADDRESS".into(), "192.0.2.7".parse().unwrap())],
            certificate: Some(("TLS_KEY".into(), "it is another's".into())),
            places: vec![problem("SQL_DATA", "it is gone", "bring it back")],
        },
        host: Some(Host {
            memory: 1_000_000_000,
            architecture: "aarch64".into(),
            processors: 2,
            ..Host::default()
        }),
        ..Facts::default()
    };
    let (keys, words) = refused(ask(&config(&[], false), &Stored::default(), &facts, false));
    let expected = [
        "p-db-1",
        "p_repository",
        "p_default",
        "other",
        "SQL_PORT",
        "BIND_ADDRESS",
        "TLS_KEY",
        "SQL_DATA",
        "memory",
        "processor",
    ];
    assert_eq!(keys, expected);
    assert!(words.contains("the compose project p") && words.contains("do not remove it"));
    for advice in ["or remove", "remove it first", "rename"] {
        assert!(!words.contains(advice), "{words}");
    }
}

#[test]
fn one_external_database_is_one_however_it_is_spelled() {
    let data = |server: &str, database: &str| {
        let string =
            format!("Server={server};Database={database};User Id=o;Password=Str0ng-enough");
        let vars = [("SQL_IMAGE", ""), ("DB_CONNECTION_STRING", string.as_str())];
        Data::of(&spec(&config(&vars, false)))
    };
    let plain = data("sql.example.com", "Octopus");
    assert_eq!(data("tcp:SQL.example.com.,1433", "OCTOPUS"), plain);
    assert_ne!(data("sql.example.com,1434", "Octopus"), plain);
    assert_ne!(data("sql.example.com", "Octopus2"), plain);
}

#[test]
fn a_password_of_data_elsewhere_binds_nobody_and_a_chosen_place_that_lost_its_data_is_told() {
    let chosen = config(&[("SQL_DATA", "/srv/sql"), ("MASTER_KEY", KEY)], false);
    let own = config(&[], false);
    let stored = Stored {
        sa: SaPassword {
            known: Some(Secret::new("0ld-password")),
            ..SaPassword::default()
        },
        spec: Some(spec(&own)),
        ..Stored::default()
    };
    let facts = Facts {
        has_data: true,
        ..Facts::default()
    };
    assert!(ask(&chosen, &stored, &facts, false).is_ok());
    let (keys, _) = refused(ask(&own, &stored, &facts, false));
    assert!(keys.contains(&"SA_PASSWORD".to_owned()), "{keys:?}");

    let mut stored = Stored {
        spec: Some(spec(&chosen)),
        ..Stored::default()
    };
    let data = Data::of(&spec(&chosen));
    assert_eq!(data, Data::Directory("/srv/sql".to_owned()));
    stored.keys.set(&Secret::new(KEY), false, &data);
    stored.key_proven(&Secret::new(KEY), &data);
    let (keys, words) = refused(ask(&chosen, &stored, &Facts::default(), false));
    assert_eq!(keys, ["/srv/sql"]);
    assert!(words.contains("is the disk mounted?"), "{words}");
    assert!(ask(&chosen, &stored, &Facts::default(), true).is_ok());
    // It is not octo-local's, so it does not go with `down --volumes`, nor does what is known of it.
    let left = stored.data_deleted();
    assert!(left.had_data(&data));
}

#[test]
fn a_user_that_may_not_write_what_is_there_is_told_before_a_node_is_replaced() {
    let owned = |uid, mode| Facts {
        node: NodeFacts {
            key: None,
            owners: Owners {
                directories: vec![Directory {
                    path: "/repository".to_owned(),
                    uid,
                    gid: 0,
                    mode,
                }],
                passwd: "octopus:x:999:999::/:/bin/sh".to_owned(),
            },
        },
        ..data()
    };
    let asked = |user: &str| {
        config(
            &[
                ("CONTAINER_USER", user),
                ("DISABLE_DIND", "Y"),
                ("MASTER_KEY", KEY),
            ],
            false,
        )
    };
    let (found, words) = refused(ask(&asked("octopus"), &made(true), &owned(0, 0o755), false));
    assert_eq!(found, ["CONTAINER_USER"]);
    for part in ["octopus, uid 999,", "/repository", "chown -R 999"] {
        assert!(words.contains(part), "{part}: {words}");
    }
    for (user, facts) in [
        ("octopus", owned(999, 0o755)),
        ("octopus", owned(0, 0o777)),
        ("root", owned(0, 0o755)),
        ("somebody", owned(0, 0o755)),
    ] {
        assert_eq!(
            keys(&asked(user), &made(true), &facts),
            Vec::<String>::new(),
            "{user}"
        );
    }
}

/// Another version of Octopus Server than the one that ran on this data.
fn upgrade(more: &[(&str, &str)]) -> (Config, Stored) {
    let before = config(&[("OCTOPUS_SERVER_TAG", "2026.1.1")], false);
    let spec = spec(&before);
    let mut stored = made(true);
    stored.version_ran(Ran {
        version: "2026.1.1".to_owned(),
        image: spec.nodes[0].image.clone(),
        image_id: String::new(),
        data: Some(Data::of(&spec)),
    });
    stored.spec = Some(spec);
    let vars = [&[("OCTOPUS_SERVER_TAG", "2026.2.1")], more].concat();
    (config(&vars, false), stored)
}

#[test]
fn an_upgrade_whose_backup_or_licence_will_not_do_is_refused_with_all_the_reasons() {
    let licence = "<License><ValidTo>2026-05-31</ValidTo><NodeLimit>1</NodeLimit></License>";
    let more = [
        ("OCTOPUS_SERVER_BASE64_LICENSE", licence),
        ("OCTOPUS_NODES", "2"),
    ];
    let full = Facts {
        sa_login: Login::Accepted,
        versions: Versions {
            saving: Some(Saving {
                place: "/s/upgrades".to_owned(),
                free: Some(1),
                database: Some(1 << 30),
                ..Saving::default()
            }),
            ..Versions::default()
        },
        ..data()
    };
    let (next, stored) = upgrade(&more);
    let (keys, words) = refused(ask(&next, &stored, &full, false));
    let licence = "OCTOPUS_SERVER_BASE64_LICENSE";
    assert_eq!(keys, [licence, licence, "backup"], "{words}");
    assert!(
        words.contains("ended on 2026-05-31") && words.contains("1 of the 2 nodes"),
        "{words}"
    );
    // What ran already is not held against it.
    let same = config(
        &[&[("OCTOPUS_SERVER_TAG", "2026.1.1")], &more[..]].concat(),
        false,
    );
    assert!(ask(&same, &stored, &full, false).is_ok());
    let (plain, stored) = upgrade(&[]);
    assert!(
        ask(&plain, &stored, &data(), false).is_ok(),
        "nothing could be found out"
    );
}

#[test]
fn nodes_that_run_elsewhere_are_named_before_an_upgrade() {
    let (next, stored) = upgrade(&[]);
    let online = ["octopus", "ghost"].map(|name| Online {
        name: name.to_owned(),
    });
    let facts = Facts {
        versions: Versions {
            online: online.into(),
            ..Versions::default()
        },
        ..data()
    };
    let notes = ask(&next, &stored, &facts, false).unwrap().notes;
    let named = notes
        .iter()
        .filter(|note| note.contains("none of this stack's"));
    assert_eq!(named.count(), 1, "{notes:?}");
    assert!(
        notes.iter().any(|note| note.contains("node ghost")),
        "{notes:?}"
    );
}

#[test]
fn limits_that_nobody_is_held_to_are_told_and_more_processors_than_there_are_refused() {
    let host = |processors, bounds| Facts {
        host: Some(Host {
            memory: 8_000_000_000,
            architecture: "x86_64".into(),
            processors,
            bounds_memory: bounds,
            bounds_processors: bounds,
            ..Host::default()
        }),
        ..Facts::default()
    };
    let limited = config(&[("OCTOPUS_MEMORY", "4g"), ("SQL_CPUS", "1.5")], false);
    let notes = |facts: &Facts| {
        let admitted = ask(&limited, &Stored::default(), facts, false).unwrap();
        admitted.notes.join("\n")
    };
    assert!(!notes(&host(2, true)).contains("limits"));
    let told = notes(&host(2, false));
    assert!(
        told.contains("OCTOPUS_MEMORY, SQL_CPUS without effect"),
        "{told}"
    );
    let (keys, words) = refused(ask(&limited, &Stored::default(), &host(1, true), false));
    assert_eq!(keys, ["SQL_CPUS"]);
    assert!(
        words.contains("the Docker host has 1 processors"),
        "{words}"
    );
}
