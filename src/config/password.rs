//! SQL Server's password policy, so that a password it would refuse is refused before anything is
//! created.

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
    if !login.is_empty() && password.to_lowercase().contains(&login.to_lowercase()) {
        faults.push("it contains the login's name");
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
        for bad in ["", "Ab1!", "alllowercase1", "MySa-Password1"] {
            assert!(!faults(bad, "sa").is_empty(), "{bad}");
        }
    }
}
