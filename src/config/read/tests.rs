//! How each variable is read, and what is said of those that cannot be.

use super::*;

fn input(pairs: &[(&str, &str)]) -> Input {
    let owned = |text: &&str| (*text).to_owned();
    Input {
        vars: pairs
            .iter()
            .map(|(key, value)| (owned(key), owned(value)))
            .collect(),
        origins: pairs
            .iter()
            .enumerate()
            .map(|(at, (key, _))| (owned(key), format!(".env:{}", at + 1)))
            .collect(),
        ..Input::default()
    }
}

const GOOD: &[(&str, &str)] = &[
    ("SA_PASSWORD", "Str0ng-enough"),
    ("ADMIN_PASSWORD", "whatever-1"),
    ("ACCEPT_EULA", "Y"),
    ("ACCEPT_OCTOPUS_EULA", "Y"),
];

pub(super) fn with(more: &[(&str, &str)]) -> Input {
    let mut all: Vec<(&str, &str)> = GOOD.to_vec();
    all.extend_from_slice(more);
    input(&all)
}

pub(super) fn keys_of(result: Result<Read, Vec<Problem>>) -> Vec<String> {
    result
        .err()
        .unwrap_or_default()
        .into_iter()
        .map(|problem| problem.key)
        .collect()
}

#[test]
fn the_least_that_works_gets_the_articles_defaults() {
    let config = read(&input(GOOD)).unwrap().config;
    let sql = config.sql.as_ref().unwrap();
    assert_eq!(
        (sql.image.as_str(), sql.port),
        ("mcr.microsoft.com/mssql/server:latest", 1401)
    );
    assert_eq!(
        (
            config.octopus.nodes,
            config.octopus.port,
            config.octopus.tag.as_str()
        ),
        (1, 8080, "latest")
    );
    assert!(
        config
            .database
            .connection_string
            .expose()
            .contains("TrustServerCertificate=True")
    );
}

#[test]
fn all_problems_come_at_once_and_show_no_secret() {
    let bad = input(&[
        ("SA_PASSWORD", "weak-marker"),
        ("OCTOPUS_NODES", "many"),
        ("SQL_PORT", "99999"),
        ("PULL", "often"),
        ("UPGRADE_ROLLBACK", "maybe"),
        ("ACEPT_EULA", "Y"),
    ]);
    let problems = read(&bad).unwrap_err();
    let keys: Vec<&str> = problems
        .iter()
        .map(|problem| problem.key.as_str())
        .collect();
    assert!(
        keys.contains(&"ACEPT_EULA"),
        "a mistyped name is told beside what is missing"
    );
    for key in [
        "ACCEPT_EULA",
        "ACCEPT_OCTOPUS_EULA",
        "SA_PASSWORD",
        "OCTOPUS_NODES",
        "SQL_PORT",
        "PULL",
        "UPGRADE_ROLLBACK",
        "ADMIN_PASSWORD",
    ] {
        assert!(keys.contains(&key), "{key} in {keys:?}");
    }
    assert!(
        problems
            .iter()
            .all(|problem| !problem.to_string().contains("weak-marker"))
    );
}

#[test]
fn a_connection_string_must_point_at_the_server_that_runs() {
    let good = "Server=mssql,1433;Database=Octopus;User Id=SA;Password=Str0ng-enough";
    assert_eq!(
        read(&with(&[("DB_CONNECTION_STRING", good)]))
            .unwrap()
            .config
            .database
            .host,
        "mssql"
    );
    for server in [
        "localhost",
        "10.0.0.1",
        "sql.example.com",
        "mssql,1435",
        "127.0.0.1,1433",
    ] {
        let text = format!("Server={server};Database=O;User=sa;Password=Str0ng-enough");
        assert_eq!(
            keys_of(read(&with(&[("DB_CONNECTION_STRING", &text)]))),
            ["DB_CONNECTION_STRING"],
            "{server}"
        );
    }
    let other = "Server=db;Database=O;User=sa;Password=Other-pass1";
    assert_eq!(
        keys_of(read(&with(&[("DB_CONNECTION_STRING", other)]))),
        ["DB_CONNECTION_STRING"]
    );
}

#[test]
fn an_empty_sql_image_makes_the_database_external() {
    let text = "Server=sql.example.com,14330;Database=O;User=octo;Password=x";
    let way = ("DB_CONNECTION_STRING", text);
    let blank = with(&[("SQL_IMAGE", " "), ("ACCEPT_EULA", ""), way]);
    let config = read(&blank).unwrap().config;
    assert!(config.sql.is_none());
    assert_eq!(
        (config.database.host.as_str(), config.database.port),
        ("sql.example.com", 14330)
    );
    assert_eq!(
        keys_of(read(&with(&[("SQL_IMAGE", "")]))),
        ["DB_CONNECTION_STRING"]
    );
}

#[test]
fn vendor_variables_are_handed_on_only_from_a_file() {
    let mut given = with(&[
        ("ENABLE_USAGE", "N"),
        ("MSSQL_COLLATION", "Latin1_General_CI_AS"),
    ]);
    given
        .vars
        .insert("HTTP_PROXY".into(), "http://elsewhere".into());
    let config = read(&given).unwrap().config;
    assert_eq!(
        config.octopus.extra.keys().collect::<Vec<_>>(),
        ["ENABLE_USAGE"]
    );
    assert!(config.sql.unwrap().extra.contains_key("MSSQL_COLLATION"));
}

#[test]
fn warnings_are_given_and_do_not_refuse() {
    let given = with(&[
        ("OCTOPUS_NODES", "2"),
        ("MASTER_KEY", "6EdU6IWsCtMEwk0kPKflQQ=="),
        ("OCTOPUS_NODE", "3"),
        ("OCTOPUS_SERVER_TAG", "2026.2"),
    ]);
    let warnings: Vec<String> = read(&given)
        .unwrap()
        .warnings
        .into_iter()
        .map(|warning| warning.key)
        .collect();
    assert_eq!(warnings, ["OCTOPUS_NODE", "OCTOPUS_NODES"]);
}

#[test]
fn what_is_wrong_with_backups_is_told_at_once_and_a_secret_key_is_not_repeated() {
    let bad = with(&[
        ("BACKUP_KEEP", "0"),
        ("BACKUP_SCHEDULE", "often"),
        ("BACKUP_RECIPIENT", "AGE-SECRET-KEY-1MARKER"),
    ]);
    let problems = read(&bad).unwrap_err();
    let told: Vec<String> = problems.iter().map(ToString::to_string).collect();
    let all = told.join("\n");
    assert_eq!(told.len(), 3, "{all}");
    assert!(!all.contains("MARKER"), "{all}");
    let bad = with(&[("BACKUP_RECIPIENT", "age1nobody")]);
    assert_eq!(keys_of(read(&bad)), ["BACKUP_RECIPIENT"]);
}

fn problem_of(more: &[(&str, &str)]) -> Problem {
    let mut problems = read(&with(more)).unwrap_err();
    assert_eq!(problems.len(), 1, "{problems:?}");
    problems.remove(0)
}

fn config_of(more: &[(&str, &str)]) -> Config {
    read(&with(more)).unwrap().config
}

fn warnings_of(input: &Input) -> Vec<String> {
    let warnings = read(input).unwrap().warnings;
    warnings.iter().map(ToString::to_string).collect()
}

/// The given variables without the one of this name.
fn without(key: &str, more: &[(&str, &str)]) -> Input {
    let mut input = with(more);
    input.vars.remove(key);
    input.origins.remove(key);
    input
}

fn digest() -> String {
    format!("sha256:{}", "0123456789abcdef".repeat(4))
}

#[test]
fn the_version_may_stand_in_the_image_or_in_the_tag_or_in_both_alike() {
    let (digest, at_digest) = (digest(), format!("@{}", digest()));
    let in_image = format!("octo{at_digest}");
    let tagged = format!("2026.2{at_digest}");
    for (image, tag, reference) in [
        ("octo:2026.2", None, "octo:2026.2".to_owned()),
        ("octo:2026.2", Some("2026.2"), "octo:2026.2".to_owned()),
        ("octo", Some("2026.2"), "octo:2026.2".to_owned()),
        ("octo", None, "octo:latest".to_owned()),
        (
            "host:5000/octo",
            Some("2026.2"),
            "host:5000/octo:2026.2".to_owned(),
        ),
        ("octo", Some(&at_digest), in_image.clone()),
        ("octo", Some(&digest), in_image.clone()),
        ("octo", Some(&tagged), format!("octo:{tagged}")),
        (&in_image, None, in_image.clone()),
        (&in_image, Some("2026.2"), format!("octo:{tagged}")),
    ] {
        let mut given = vec![("OCTOPUS_IMAGE", image)];
        given.extend(tag.map(|tag| ("OCTOPUS_SERVER_TAG", tag)));
        assert_eq!(
            config_of(&given).octopus.reference(),
            reference,
            "{image} {tag:?}"
        );
    }
    let differ = [
        ("OCTOPUS_IMAGE", "octo:2026.1"),
        ("OCTOPUS_SERVER_TAG", "2026.2"),
    ];
    let problem = problem_of(&differ);
    assert_eq!(problem.key, "OCTOPUS_IMAGE");
    assert!(problem.why.contains("another version"));
}

#[test]
fn what_is_no_reference_is_refused_before_any_engine_sees_it() {
    for (key, value) in [
        ("OCTOPUS_IMAGE", "OctopusDeploy/octopusdeploy"),
        ("OCTOPUS_IMAGE", "https://hub.docker.com/octopusdeploy"),
        ("OCTOPUS_IMAGE", "octo:"),
        ("OCTOPUS_IMAGE", "a__-b"),
        ("OCTOPUS_SERVER_TAG", "2026.2 "),
        ("OCTOPUS_SERVER_TAG", ":2026.2"),
        ("OCTOPUS_SERVER_TAG", "2026.2@sha256:12"),
        ("SQL_IMAGE", "MCR/mssql/Server"),
        ("SQL_IMAGE", "mssql:2022:1"),
    ] {
        assert_eq!(problem_of(&[(key, value)]).key, key, "{value}");
    }
    let by_digest = format!("mssql@{}", digest());
    let sql = config_of(&[("SQL_IMAGE", &by_digest)]).sql.unwrap();
    assert_eq!(sql.image, by_digest);
}

#[test]
fn a_master_key_that_octopus_would_read_otherwise_is_refused() {
    for key in [
        "q83vEjRWeJCrze8SNFZ4kA==",
        "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=",
    ] {
        assert!(
            config_of(&[("MASTER_KEY", key)])
                .octopus
                .master_key
                .is_some()
        );
    }
    for (key, word) in [
        ("q83vEjRWeJCrze8SNFZ4kA==\n", "around"),
        (" q83vEjRWeJCrze8SNFZ4kA==", "around"),
        ("q83vEjRW\neJCrze8SNFZ4kA==", "inside"),
        ("q83vEjRWeJCrze8SNFZ4kA", "base64"),
        ("q83vEjRWeJCrze8SNFY=", "base64"),
        ("0123456789abcdef", "base64"),
    ] {
        let problem = problem_of(&[("MASTER_KEY", key)]).to_string();
        assert!(problem.contains(word), "{problem}");
        assert!(
            !problem.contains("q83v") && !problem.contains("0123"),
            "{problem}"
        );
    }
}

#[test]
fn what_nobody_filled_in_is_named_once() {
    for (key, value) in [
        ("MASTER_KEY", "CHANGE_ME"),
        ("MASTER_KEY", "<your key>"),
        ("ADMIN_PASSWORD", "REPLACE ME!"),
        ("ADMIN_EMAIL", "changeme"),
        (
            "OCTOPUS_SERVER_BASE64_LICENSE",
            "CONVERT YOUR LICENSE TO BASE 64",
        ),
        ("OCTOPUS_SERVER_BASE64_LICENSE", "License goes here"),
        (
            "DB_CONNECTION_STRING",
            "Server=db;Database=O;User=octo;Password=REPLACE ME!",
        ),
    ] {
        let problem = problem_of(&[(key, value)]);
        assert_eq!(problem.key, key);
        assert!(
            problem.why.contains("placeholder") || problem.why.contains("base64"),
            "{problem}"
        );
    }
    let config = config_of(&[("ADMIN_PASSWORD", "Changeme!")]);
    assert_eq!(config.octopus.admin_password.expose(), "Changeme!");
}

#[test]
fn a_comment_that_became_a_value_is_warned_about_and_not_shown() {
    let warnings = warnings_of(&with(&[("SA_PASSWORD", "# N0ne yet")]));
    assert!(
        warnings
            .iter()
            .any(|warning| warning.starts_with("SA_PASSWORD ("))
    );
    let problems = read(&with(&[("ADMIN_API_KEY", "# none yet")])).unwrap_err();
    assert!(
        problems
            .iter()
            .all(|problem| !problem.to_string().contains("none yet"))
    );
}

#[test]
fn an_administrator_needs_a_password_only_where_nothing_else_makes_one() {
    let alone = without(
        "ADMIN_PASSWORD",
        &[("ADMIN_API_KEY", "API-FIELDTEST000000000000000")],
    );
    assert!(
        read(&alone)
            .unwrap()
            .config
            .octopus
            .admin_password
            .is_empty()
    );
    let oidc = [
        ("ADMIN_EXTERNAL_ID", "x"),
        ("ADMIN_OIDCIDENTITY_NAME", "x"),
        ("ADMIN_OIDCIDENTITY_ISSUER", "https://issuer"),
        ("ADMIN_OIDCIDENTITY_SUBJECT", "x"),
        ("ADMIN_OIDCIDENTITY_AUDIENCE", "x"),
    ];
    assert!(read(&without("ADMIN_PASSWORD", &oidc)).is_ok());
    let problems = read(&without("ADMIN_PASSWORD", &oidc[..4])).unwrap_err();
    assert!(
        problems[0].why.contains("ADMIN_OIDCIDENTITY_AUDIENCE"),
        "{problems:?}"
    );
    assert_eq!(
        keys_of(read(&without("ADMIN_PASSWORD", &[]))),
        ["ADMIN_PASSWORD"]
    );
    assert_eq!(
        problem_of(&[("ADMIN_PASSWORD", "abc")]).key,
        "ADMIN_PASSWORD"
    );
    for key in ["key", "API-", "API-lower", "API-ABC DEF"] {
        assert_eq!(problem_of(&[("ADMIN_API_KEY", key)]).key, "ADMIN_API_KEY");
    }
}

#[test]
fn a_licence_is_told_when_it_is_cut_off_has_ended_or_ends_soon() {
    let xml = |from: &str, to: &str| {
        format!(
            "<License Signature=\"abcdefghijklmnopqrstuvwxyz\"><ValidFrom>{from}</ValidFrom><ValidTo>{to}</ValidTo></License>"
        )
    };
    let told = |from: &str, to: &str| {
        let licence = xml(from, to);
        let mut input = with(&[("OCTOPUS_SERVER_BASE64_LICENSE", licence.as_str())]);
        input.today = Some(time::macros::date!(2026 - 06 - 15));
        let warnings = warnings_of(&input);
        warnings
            .into_iter()
            .filter(|warning| warning.contains("licence"))
            .collect::<String>()
    };
    assert!(told("2026-01-01", "2026-06-14").contains("ended on 2026-06-14"));
    assert!(told("2026-06-16", "2027-01-01").contains("not hold before 2026-06-16"));
    assert!(told("2026-01-01", "2026-06-15").contains("in 0 days"));
    assert!(told("2026-01-01", "2026-07-15").contains("in 30 days"));
    assert_eq!(told("2026-01-01", "2026-07-16"), "");
    let whole = xml("2026-01-01", "2027-01-01");
    let cut = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, &whole);
    let problem = problem_of(&[("OCTOPUS_SERVER_BASE64_LICENSE", &cut[..76])]);
    assert!(problem.why.contains("first line"), "{problem}");
    let licence = config_of(&[("OCTOPUS_SERVER_BASE64_LICENSE", &whole)])
        .octopus
        .licence;
    assert_eq!(licence.unwrap().expose(), cut);
}

#[test]
fn what_the_images_honour_and_cannot_work_here_is_refused() {
    for (key, value) in [
        ("MSSQL_DATA_DIR", "/data"),
        ("MSSQL_TCP_PORT", "1444"),
        ("SSL_CERTIFICATE_FILE", "/c.pfx"),
        ("WEB_FORCE_SSL", "True"),
        ("MSSQL_COLLATION", "Latin1_General_CS_AS"),
        (
            "OCTOPUS_MULTI_NODE_POLLING_TENTACLES_REDIS_CONNECTION_STRING",
            "redis:6379",
        ),
    ] {
        assert_eq!(problem_of(&[(key, value)]).key, key);
    }
    let off = ("FRONT_DOOR", "off");
    let config = config_of(&[off, ("TZ", "Europe/Berlin"), ("HTTPS_PORT", "8443")]);
    assert!(
        config.octopus.extra.contains_key("TZ") && config.sql.unwrap().extra.contains_key("TZ")
    );
    assert!(!config.octopus.extra.contains_key("HTTPS_PORT"));
}

#[test]
fn the_nodes_user_is_honoured_where_nothing_needs_root() {
    let of = |user: &str| {
        config_of(&[("CONTAINER_USER", user), ("DISABLE_DIND", "Y")])
            .octopus
            .user
    };
    assert_eq!(of("octopus").as_deref(), Some("octopus"));
    assert_eq!(of("999:0").as_deref(), Some("999:0"));
    assert_eq!(of("root"), None);
    assert_eq!(
        problem_of(&[("CONTAINER_USER", "octopus")]).key,
        "CONTAINER_USER"
    );
    let bad = [("CONTAINER_USER", "a b"), ("DISABLE_DIND", "Y")];
    assert_eq!(problem_of(&bad).key, "CONTAINER_USER");
    assert!(read(&with(&[("CONTAINER_USER", "root")])).is_ok());
}

#[test]
fn other_networks_are_named_in_a_list() {
    let networks = config_of(&[("EXTRA_NETWORKS", "b_default, a,,b_default")])
        .octopus
        .networks;
    assert_eq!(networks, ["a", "b_default"]);
    for bad in ["host", "-a", "a;b"] {
        assert_eq!(problem_of(&[("EXTRA_NETWORKS", bad)]).key, "EXTRA_NETWORKS");
    }
}

#[test]
fn values_with_a_form_are_refused_in_another_form() {
    for (key, value) in [
        ("MSSQL_PID", "Expres"),
        ("BIND_ADDRESS", "localhost"),
        ("SQL_BIND_ADDRESS", "[::1]"),
        ("SQL_PORT", "0"),
        ("OCTOPUS_PORT", "0"),
        ("TASK_CAP", "-1"),
        ("OCTOPUS_NODE_1_TASK_CAP", "-1"),
        ("OCTOPUS_NODE_0_TASK_CAP", "1"),
        ("OCTOPUS_NODE_17_TASK_CAP", "1"),
        ("OCTOPUS_NODE_01_TASK_CAP", "1"),
        ("PROBE_INTERVAL", "0"),
        ("NODE_START_LIMIT", "9999999999h"),
        ("FRONT_DOOR", "open"),
        ("HOLD_TIMEOUT", "x"),
    ] {
        assert_eq!(problem_of(&[(key, value)]).key, key, "{value}");
    }
    let https = ("HTTPS_PORT", "0");
    assert_eq!(problem_of(&[("FRONT_DOOR", "off"), https]).key, https.0);
    for (key, value) in [
        ("MSSQL_PID", "developer"),
        ("MSSQL_PID", "ABCDE-12345-ABCDE-12345-ABCDE"),
        ("TASK_CAP", "0"),
        ("NODE_STOP_GRACE", "0"),
        ("SQL_BIND_ADDRESS", "::1"),
    ] {
        assert!(read(&with(&[(key, value)])).is_ok(), "{key}={value}");
    }
}

#[test]
fn an_unquoted_semicolon_and_a_checked_certificate_are_named() {
    let string = "Server=db;Database=O;User Id=sa;Password=Str0ng;-enough";
    let given = with(&[
        ("SA_PASSWORD", "Str0ng;-enough"),
        ("DB_CONNECTION_STRING", string),
    ]);
    let problem = read(&given).unwrap_err().remove(0).to_string();
    assert!(
        problem.contains("quotes") && !problem.contains("enough"),
        "{problem}"
    );
    let string = "Server=db;Database=O;User Id=sa;Password='Str0ng;-enough';X=1";
    let (key, certificate) = ("DB_CONNECTION_STRING", ";TrustServerCertificate=False");
    let given = [("SA_PASSWORD", "Str0ng;-enough"), (key, string)];
    assert!(
        !warnings_of(&with(&given))
            .iter()
            .any(|warning| warning.contains("certificate"))
    );
    for (more, is_told) in [
        (certificate, true),
        (";Encrypt=Strict", true),
        (";Encrypt=False;TrustServerCertificate=False", false),
        (";Encrypt=True", false),
    ] {
        let string = format!("{string}{more}");
        let given = [("SA_PASSWORD", "Str0ng;-enough"), (key, string.as_str())];
        let warnings = warnings_of(&with(&given));
        let found = warnings
            .iter()
            .any(|warning| warning.contains("certificate"));
        assert_eq!(found, is_told, "{more}");
    }
}

#[test]
fn what_data_is_bound_to_is_advised_about_apart() {
    let given = with(&[
        ("SA_PASSWORD", "N0tS3cr3t!"),
        ("MASTER_KEY", "6EdU6IWsCtMEwk0kPKflQQ=="),
        ("ADMIN_PASSWORD", "Passw0rd123"),
    ]);
    let read = read(&given).unwrap();
    let keys = |list: &[Problem]| list.iter().map(|it| it.key.clone()).collect::<Vec<_>>();
    assert_eq!(keys(&read.warnings_if_new), ["SA_PASSWORD", "MASTER_KEY"]);
    assert!(keys(&read.warnings).contains(&"ADMIN_PASSWORD".to_owned()));
}

#[test]
fn names_that_others_give_are_known() {
    let given = with(&[
        ("OCTOPUS_VERSION", "2026.2"),
        ("OCTOPUS_ADMIN_PASSWORD", "secret-marker"),
        ("OCTOPUS_ACCEPT_EULA", "Y"),
        ("OCTOPUS_SERVER_NODE", "HANode01"),
    ]);
    let warnings = warnings_of(&given).join("\n");
    for meant in [
        "OCTOPUS_SERVER_TAG?",
        "ADMIN_PASSWORD?",
        "ACCEPT_OCTOPUS_EULA?",
        "OCTOPUS_SERVER_NODE_NAME?",
    ] {
        assert!(warnings.contains(meant), "{meant}: {warnings}");
    }
    assert!(!warnings.contains("secret-marker"));
}

proptest::proptest! {
    /// Whatever the variables are, no message shows the value of a secret one.
    #[test]
    fn no_message_shows_a_part_of_a_secret(
        at in 0..SECRETS.len(),
        before in "[ #<{;='\"a-zA-Z0-9@:/+-]{0,12}",
        after in "[ #>};='\"a-zA-Z0-9@:/+-]{0,12}",
    ) {
        let marker = "Zq7MARKERq7Z";
        let value = format!("{before}{marker}{after}");
        let given = with(&[(SECRETS[at], value.as_str())]);
        let told = match read(&given) {
            Ok(read) => [read.warnings, read.warnings_if_new].concat(),
            Err(problems) => problems,
        };
        for problem in told {
            proptest::prop_assert!(!problem.to_string().contains(marker), "{}", problem);
        }
    }
}

const SECRETS: &[&str] = &[
    "SA_PASSWORD",
    "ADMIN_PASSWORD",
    "ADMIN_API_KEY",
    "MASTER_KEY",
    "DB_CONNECTION_STRING",
    "OCTOPUS_SERVER_BASE64_LICENSE",
    "SA_PASWORD",
];

#[test]
fn a_nodes_own_task_cap_is_its_alone_and_somebody_must_take_tasks() {
    let config = config_of(&[("OCTOPUS_NODE_2_TASK_CAP", "0"), ("TASK_CAP", "4")]);
    assert_eq!(config.octopus.node_task_caps, [(2, 0)].into());
    let warned = |more: &[(&str, &str)]| {
        let read = read(&with(more)).unwrap();
        let keys = read.warnings.into_iter().map(|warning| warning.key);
        keys.filter(|key| key.ends_with("TASK_CAP"))
            .collect::<Vec<_>>()
    };
    let portal = ("OCTOPUS_NODE_1_TASK_CAP", "0");
    assert_eq!(warned(&[portal]), ["OCTOPUS_NODE_1_TASK_CAP"]);
    assert_eq!(warned(&[portal, ("OCTOPUS_NODES", "2")]), [""; 0]);
    assert_eq!(warned(&[("TASK_CAP", "0")]), ["TASK_CAP"]);
}
