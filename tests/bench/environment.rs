//! Numbers that a person sets in the environment.

/// The number of a variable, from 1; the default where it is not set.
pub(crate) fn number(name: &str, default: u32) -> u32 {
    let Some(value) = std::env::var_os(name) else {
        return default;
    };
    let number = value
        .to_str()
        .and_then(|text| text.parse().ok())
        .filter(|number| *number > 0);
    number.unwrap_or_else(|| panic!("{name} is not a number from 1"))
}
