//! `init`: a commented `.env` with strong passwords. The licences are asked for; nothing is
//! overwritten.

use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;

use crate::cli::context::Context;
use crate::cli::outcome::CONFIGURATION;
use crate::cli::outcome::Failure;
use crate::cli::outcome::Outcome;
use crate::cli::outcome::USAGE;
use crate::cli::passwords::strong_password;
use crate::cli::terminal::print;
use crate::config::ENV_EXAMPLE;
use crate::config::Secret;
use crate::config::project::ProjectName;

/// Writes `.env` into the project directory, or what one `--env-file` names.
pub fn init(context: &Context) -> Outcome {
    let path = match context.files.given.as_slice() {
        [] => context.files.usual(),
        [one] => one.clone(),
        _ => {
            return Err(Failure::new(
                USAGE,
                "init writes one file: give --env-file once",
            ));
        }
    };
    if path.symlink_metadata().is_ok() {
        let line = format!(
            "{} exists and is left as it is; move it away to begin anew",
            path.display()
        );
        return Err(Failure::new(CONFIGURATION, line));
    }
    let sql = accepted(
        context,
        "ACCEPT_EULA",
        "SQL Server",
        "https://go.microsoft.com/fwlink/?linkid=857698",
    );
    let octopus = accepted(
        context,
        "ACCEPT_OCTOPUS_EULA",
        "Octopus Server",
        "https://octopus.com/legal/customer-agreement",
    );
    let answers = Answers {
        project: &context.project,
        sql,
        octopus,
    };
    let text = fill(
        ENV_EXAMPLE,
        &answers,
        &strong_password(),
        &strong_password(),
    );
    let write = || -> std::io::Result<()> {
        let mut file = std::fs::File::options()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&path)?;
        file.write_all(text.as_bytes())
    };
    write().map_err(|error| {
        Failure::new(CONFIGURATION, format!("write {}: {error}", path.display()))
    })?;
    print::tell(format_args!(
        "wrote {} (only you may read it), with new passwords",
        path.display()
    ));
    let missing = [(sql, "ACCEPT_EULA"), (octopus, "ACCEPT_OCTOPUS_EULA")]
        .into_iter()
        .filter_map(|(accepted, key)| (!accepted).then_some(key));
    let missing = missing.collect::<Vec<_>>().join(" and ");
    if missing.is_empty() {
        print::tell("next: `octo-local up`");
    } else {
        print::tell(format_args!(
            "next: set {missing} to Y in it once you have read the licences, then `octo-local up`"
        ));
    }
    Ok(())
}

/// Whether a licence is accepted: already, in the process environment, or by a person here.
fn accepted(context: &Context, key: &str, product: &str, link: &str) -> bool {
    let given = context.env.get(key);
    if given.is_some_and(|value| value.eq_ignore_ascii_case("y")) {
        return true;
    }
    let question = format!("Do you accept the licence of {product} ({link})? [y/N]");
    while print::can_ask() {
        let Some(answer) = print::ask(&question) else {
            return false;
        };
        match answer.to_lowercase().as_str() {
            "y" | "yes" => return true,
            "" | "n" | "no" => return false,
            _ => print::tell("answer y or n"),
        }
    }
    false
}

/// What the file says besides passwords.
struct Answers<'a> {
    /// With its name in the file, a directory that is renamed or moved keeps its stack.
    project: &'a ProjectName,
    sql: bool,
    octopus: bool,
}

fn fill(example: &str, answers: &Answers<'_>, sa: &Secret, admin: &Secret) -> String {
    let yes = |yes: bool| if yes { "Y" } else { "" };
    let lines = example.lines().map(|line| match line {
        "# COMPOSE_PROJECT_NAME=" => format!("COMPOSE_PROJECT_NAME={}", answers.project),
        "ACCEPT_EULA=" => format!("{line}{}", yes(answers.sql)),
        "ACCEPT_OCTOPUS_EULA=" => format!("{line}{}", yes(answers.octopus)),
        "SA_PASSWORD=" => format!("{line}{}", sa.expose()),
        "ADMIN_PASSWORD=" => format!("{line}{}", admin.expose()),
        other => other.to_owned(),
    });
    lines.collect::<Vec<_>>().join("\n") + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_filled_file_lacks_nothing() {
        let answers = Answers {
            project: &ProjectName::given("shop").unwrap(),
            sql: true,
            octopus: true,
        };
        let text = fill(
            ENV_EXAMPLE,
            &answers,
            &strong_password(),
            &strong_password(),
        );
        let source = crate::dotenv::Source {
            name: ".env",
            bytes: text.as_bytes(),
        };
        let parsed = crate::dotenv::parse(&[source], &crate::dotenv::Vars::new()).unwrap();
        assert_eq!(parsed.vars["COMPOSE_PROJECT_NAME"], "shop");
        let input = crate::config::Input {
            vars: parsed.vars,
            ..crate::config::Input::default()
        };
        assert!(crate::config::read(&input).is_ok());
    }
}
