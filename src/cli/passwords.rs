//! Passwords that are made for somebody who gave none.

use crate::config::Secret;

/// A password of 24 letters and digits with every kind in it, free of characters that files and
/// connection strings quote.
pub fn strong_password() -> Secret {
    const LETTERS: &[u8] = b"ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrtuvwxyz23456789";
    loop {
        let mut bytes = [0u8; 24];
        getrandom::fill(&mut bytes).expect("the kernel has random numbers");
        // 56 letters divide 224: a byte beyond that would favour the first ones.
        let letters = bytes
            .iter()
            .filter(|byte| **byte < 224)
            .map(|byte| char::from(LETTERS[usize::from(*byte) % LETTERS.len()]));
        let password = format!("{}-9", letters.collect::<String>());
        if password.len() >= 18 && crate::config::password::faults(&password, "sa").is_empty() {
            return Secret::new(password);
        }
    }
}

/// An API key of the vendor's form: `API-` and 32 capital letters and digits.
pub fn api_key() -> Secret {
    const LETTERS: &[u8; 32] = b"ABCDEFGHJKLMNPQRSTUVWXYZ23456789";
    let mut bytes = [0u8; 32];
    getrandom::fill(&mut bytes).expect("the kernel has random numbers");
    let letters = bytes.map(|byte| char::from(LETTERS[usize::from(byte) % LETTERS.len()]));
    Secret::new(format!("API-{}", letters.iter().collect::<String>()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn generated_passwords_satisfy_the_policy_and_differ() {
        let passwords: std::collections::BTreeSet<String> = (0..200)
            .map(|_| strong_password().expose().to_owned())
            .collect();
        assert_eq!(passwords.len(), 200);
        assert!(
            passwords
                .iter()
                .all(|password| crate::config::password::faults(password, "sa").is_empty())
        );
    }
}
