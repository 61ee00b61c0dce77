//! Words that other tools have and octo-local has not: each gets the way that leads there.

/// What somebody may type, and what they are told.
const TIPS: [(&str, &str); 21] = [
    (
        "exec",
        "`docker exec -it CONTAINER sh`; `octo-local status --format json` names the containers",
    ),
    (
        "run",
        "`docker exec -it CONTAINER sh`; octo-local runs no containers beside the stack",
    ),
    ("attach", "`octo-local logs -f UNIT`"),
    (
        "pull",
        "`octo-local up --pull always`, which fetches and then applies",
    ),
    ("push", "octo-local builds and pushes no images"),
    ("build", "octo-local builds no images; name one in `.env`"),
    ("create", "`octo-local up`"),
    ("rm", "`octo-local down`; the data stays"),
    ("kill", "`octo-local stop UNIT`"),
    ("pause", "`octo-local stop UNIT`"),
    ("unpause", "`octo-local start UNIT`"),
    ("top", "`octo-local status`, or `docker top CONTAINER`"),
    ("stats", "`docker stats`"),
    ("port", "`octo-local status`, which has the ports"),
    (
        "images",
        "`octo-local status --format json`, which has them",
    ),
    (
        "scale",
        "`octo-local up --nodes N`, or OCTOPUS_NODES in `.env`",
    ),
    (
        "update",
        "`octo-local upgrade TAG`, or OCTOPUS_SERVER_TAG in `.env` and `octo-local up`",
    ),
    (
        "reload",
        "`octo-local up` applies the `.env`; `octo-local restart` restarts",
    ),
    (
        "wait",
        "`octo-local up`, which returns when everything serves",
    ),
    ("watch", "`octo-local events -f`, or `octo-local status`"),
    ("list", "`octo-local ls`"),
];

/// What is said of a command that there is not, if it is a known one of other tools.
pub fn tip(word: &str) -> Option<String> {
    let (_, tip) = TIPS.iter().find(|(known, _)| *known == word)?;
    Some(format!("octo-local has no `{word}`: {tip}"))
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;
    use crate::cli::Args;

    #[test]
    fn a_tip_is_only_given_for_what_is_no_command() {
        let command = Args::command();
        for (word, _) in TIPS {
            assert!(command.find_subcommand(word).is_none(), "{word}");
        }
        assert!(tip("exec").unwrap().contains("docker exec"));
        assert_eq!(tip("statsu"), None);
    }
}
