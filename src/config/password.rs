//! SQL Server's and Octopus Server's password policies, so that a password that one of them would
//! refuse is refused before anything is created.

/// The shortest name that SQL Server looks for in a password (learn.microsoft.com,
/// `password-policy`: the check is skipped for names under three characters). So `sa` may stand in
/// one.
const SHORTEST_NAME: usize = 3;

/// What is wrong with a password for this login, as fragments; empty when it will do
/// (learn.microsoft.com, `password-policy`: 8 to 128 characters, three of four kinds, not the
/// account's name).
pub fn faults(password: &str, login: &str) -> Vec<&'static str> {
    let mut faults = Vec::new();
    let length = password.chars().count();
    if length < 8 {
        faults.push("it has fewer than 8 characters");
    }
    if length > 128 {
        faults.push("it has more than 128 characters");
    }
    let kinds: [fn(char) -> bool; 4] = [
        char::is_uppercase,
        char::is_lowercase,
        |letter| letter.is_ascii_digit(),
        |letter| !letter.is_alphanumeric(),
    ];
    if kinds
        .iter()
        .filter(|kind| password.chars().any(kind))
        .count()
        < 3
    {
        faults.push("it has fewer than three of upper case, lower case, digits and symbols");
    }
    let is_looked_for = login.chars().count() >= SHORTEST_NAME;
    if is_looked_for && password.to_lowercase().contains(&login.to_lowercase()) {
        faults.push("it contains the login's name");
    }
    faults
}

/// What is wrong with a password for a user of Octopus Server, as fragments; empty when it will do
/// (octopus.com/docs, resetting passwords: 8 characters, and three of seven criteria).
pub fn octopus_faults(password: &str) -> Vec<&'static str> {
    let mut faults = Vec::new();
    let length = password.chars().count();
    if length < 8 {
        faults.push("it has fewer than 8 characters");
    }
    let kinds: [fn(char) -> bool; 5] = [
        char::is_numeric,
        char::is_whitespace,
        char::is_uppercase,
        char::is_lowercase,
        |letter| !letter.is_alphanumeric() && !letter.is_whitespace(),
    ];
    let has = |kind: &&fn(char) -> bool| password.chars().any(**kind);
    let score =
        kinds.iter().filter(has).count() + usize::from(length >= 12) + usize::from(length >= 16);
    if score < 3 {
        faults.push(
            "it meets fewer than three of: a digit, a space, an upper-case letter, a lower-case letter, a symbol, \
             12 characters, 16 characters",
        );
    }
    faults
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_policy_is_sql_servers() {
        assert!(faults("N0tS3cr3t!", "sa").is_empty());
        assert!(faults("Abcdefg1", "sa").is_empty());
        for bad in ["", "Ab1!", "alllowercase1"] {
            assert!(!faults(bad, "sa").is_empty(), "{bad}");
        }
    }

    #[test]
    fn only_a_name_of_three_letters_may_not_stand_in_the_password() {
        for good in ["Sa4f9c07b1d2!", "Versailles-1789", "MySa-Password1"] {
            assert!(faults(good, "sa").is_empty(), "{good}");
        }
        assert!(!faults("My-oCto-Password1", "octo").is_empty());
        assert!(!faults("Tom-Password1", "tom").is_empty());
    }

    #[test]
    fn the_first_users_password_is_judged_by_octopus_own_rules() {
        for good in [
            "Passw0rd",
            "whatever-1",
            "long lower words",
            "REPLACE ME!",
            "lower-case-only-16",
        ] {
            assert!(octopus_faults(good).is_empty(), "{good}");
        }
        for bad in ["", "abc", "Ab1!", "password", "password1", "lowerlowerlow"] {
            assert!(!octopus_faults(bad).is_empty(), "{bad}");
        }
    }
}
