//! The environment of a container, parted in what a manifest may say and what only a Secret may
//! hold.

use std::collections::BTreeMap;

use super::object::EnvVar;
use crate::config::Secret;
use crate::config::keys;

/// Variables that hold what a line of `secrets.env` cannot: a line ends there, and one carriage
/// return at its end is dropped (Go's `bufio.ScanLines`, by which kubectl and kustomize read it).
const BREAKS: [(char, &str, &str); 2] =
    [('\n', "LINE_FEED", "\n"), ('\r', "CARRIAGE_RETURN", "\r")];

/// A container's environment, and what it takes from the Secret.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Environment {
    /// The variables, each after those that it is put together from.
    pub variables: Vec<EnvVar>,
    /// The values in the Secret, by key.
    pub secrets: BTreeMap<String, Secret>,
}

impl Environment {
    /// Adds a variable: its value where everybody may see it, else a reference into the Secret.
    pub fn add(&mut self, secret_name: &str, name: &str, value: &Secret) {
        if is_open(name, value) {
            self.variables
                .push(EnvVar::literal(name, literal(value.expose())));
        } else {
            self.add_secret(secret_name, name, value);
        }
    }

    /// Adds a variable whose value is kept in the Secret, under the variable's name.
    pub fn add_secret(&mut self, secret_name: &str, name: &str, value: &Secret) {
        let text = value.expose();
        if !text.contains(['\n', '\r']) {
            self.secrets.insert(name.to_owned(), value.clone());
            self.variables
                .push(EnvVar::of_secret(name, secret_name, name));
            return;
        }
        let mut whole = String::new();
        for (number, (part, end)) in parts(text).enumerate() {
            let part_key = format!("{name}_PART_{}", number + 1);
            self.secrets.insert(part_key.clone(), Secret::new(part));
            self.variables
                .push(EnvVar::of_secret(&part_key, secret_name, &part_key));
            whole.push_str(&format!("$({part_key})"));
            for (_, letter, value) in BREAKS.iter().filter(|(letter, ..)| end == Some(*letter)) {
                if !self.variables.iter().any(|known| known.name == *letter) {
                    self.variables.push(EnvVar::literal(letter, *value));
                }
                whole.push_str(&format!("$({letter})"));
            }
        }
        self.variables.push(EnvVar::literal(name, whole));
    }
}

/// Whether everybody may see a value.
fn is_open(name: &str, value: &Secret) -> bool {
    keys::shown(name, value.expose()) == value.expose() && !keys::is_secret(name)
}

/// A value as a manifest has it: Kubernetes puts other variables in the place of `$(NAME)`, and
/// takes `$$` for one dollar (kubernetes.io, `define-interdependent-environment-variables`).
pub fn literal(value: &str) -> String {
    value.replace('$', "$$")
}

/// The lines of a text, each with the letter that ends it.
fn parts(text: &str) -> impl Iterator<Item = (&str, Option<char>)> {
    text.split_inclusive(['\n', '\r'])
        .chain(text.ends_with(['\n', '\r']).then_some(""))
        .map(|part| match part.chars().last() {
            Some(end @ ('\n' | '\r')) => (&part[..part.len() - 1], Some(end)),
            Some(_) | None => (part, None),
        })
}

/// `secrets.env`, as kustomize's `envs` and kubectl's `--from-env-file` read it: all after the first
/// `=` is the value, quotes and all.
pub fn env_file(heading: &str, secrets: &BTreeMap<String, Secret>) -> String {
    let lines = secrets
        .iter()
        .map(|(key, value)| format!("{key}={}\n", value.expose()));
    lines.fold(heading.to_owned(), |text, line| text + &line)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn added(name: &str, value: &str) -> Environment {
        let mut environment = Environment::default();
        environment.add("all", name, &Secret::new(value));
        environment
    }

    #[test]
    fn what_is_open_is_written_out_and_what_is_not_is_referred_to() {
        let open = added("ADMIN_USERNAME", "a$(B)$");
        assert_eq!(
            open.variables,
            [EnvVar::literal("ADMIN_USERNAME", "a$$(B)$$")]
        );
        assert!(open.secrets.is_empty());
        for (name, value) in [("ADMIN_PASSWORD", "p"), ("HTTP_PROXY", "http://me:p@proxy")] {
            let secret = added(name, value);
            assert_eq!(secret.variables, [EnvVar::of_secret(name, "all", name)]);
            assert_eq!(secret.secrets[name].expose(), value);
        }
    }

    #[test]
    fn lines_are_kept_apart_and_put_together_in_the_pod() {
        let whole = added("TOKEN", "a\n\nb\r");
        let names: Vec<&str> = whole.variables.iter().map(|it| it.name.as_str()).collect();
        let expected = [
            "TOKEN_PART_1",
            "LINE_FEED",
            "TOKEN_PART_2",
            "TOKEN_PART_3",
            "CARRIAGE_RETURN",
            "TOKEN_PART_4",
            "TOKEN",
        ];
        assert_eq!(names, expected);
        assert_eq!(
            whole.variables[6].value.as_deref(),
            Some(
                "$(TOKEN_PART_1)$(LINE_FEED)$(TOKEN_PART_2)$(LINE_FEED)$(TOKEN_PART_3)$(CARRIAGE_RETURN)$(TOKEN_PART_4)"
            )
        );
        let text = env_file("# heading\n", &whole.secrets);
        assert_eq!(
            text,
            "# heading\nTOKEN_PART_1=a\nTOKEN_PART_2=\nTOKEN_PART_3=b\nTOKEN_PART_4=\n"
        );
    }
}
