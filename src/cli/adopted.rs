//! The file with what is kept of an adoption. It is `adopt`'s own: no daemon reads or writes it.

use std::fs::File;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use crate::adopt::Record;
use crate::adopt::variables::Variables as Told;
use crate::adopt::variables::missing;
use crate::cli::variables::Variables;

/// Where a variable of it was written, as messages show it.
const ORIGIN: &str = "adopted";
/// How the names of files begin that are being written.
const UNFINISHED_FILE: &str = ".adopted";

/// Reads it; none where nothing was adopted. It is never taken for nothing where it cannot be read:
/// it says where the data is.
pub fn read(path: &Path) -> Result<Option<Record>, String> {
    let failed = |why: &dyn std::fmt::Display| {
        format!(
            "{} says where this project's data is, and cannot be read: {why}",
            path.display()
        )
    };
    match std::fs::read(path) {
        Ok(text) => serde_json::from_slice(&text)
            .map(Some)
            .map_err(|error| failed(&error)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        // Others may not look into the state of root's projects; what they may do there says why.
        Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => Ok(None),
        Err(error) => Err(failed(&error)),
    }
}

/// Writes it: whole or not at all, also when the power goes. It holds secrets.
pub fn write(path: &Path, record: &impl serde::Serialize) -> std::io::Result<()> {
    let dir = path.parent().unwrap_or(Path::new("."));
    let mut file = tempfile::Builder::new()
        .prefix(UNFINISHED_FILE)
        .permissions(std::fs::Permissions::from_mode(0o600))
        .tempfile_in(dir)?;
    file.write_all(&serde_json::to_vec_pretty(record)?)?;
    file.as_file().sync_all()?;
    file.persist(path).map_err(|error| error.error)?;
    File::open(dir)?.sync_all()
}

/// Removes it.
pub fn remove(path: &Path) -> std::io::Result<()> {
    std::fs::remove_file(path)?;
    File::open(path.parent().unwrap_or(Path::new(".")))?.sync_all()
}

/// Adds what the person's own variables do not say.
pub fn fill_in(variables: &mut Variables, told: &Told) {
    for (key, value) in missing(told, &variables.vars) {
        variables
            .vars
            .insert(key.clone(), value.expose().to_owned());
        variables.origins.insert(key, ORIGIN.to_owned());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Secret;

    #[test]
    fn it_is_kept_whole_for_its_owner_and_a_damaged_one_is_no_none() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("adopted.json");
        assert_eq!(read(&path), Ok(None));
        let record = Record {
            from: "shop".to_owned(),
            variables: [("MASTER_KEY".to_owned(), Secret::new("k"))].into(),
            ..Record::default()
        };
        write(&path, &record).unwrap();
        assert_eq!(read(&path), Ok(Some(record)));
        let mode = std::fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        std::fs::write(&path, "{").unwrap();
        assert!(
            read(&path)
                .unwrap_err()
                .contains("where this project's data is")
        );
        remove(&path).unwrap();
        assert_eq!(read(&path), Ok(None));
    }

    #[test]
    fn the_persons_own_variables_count_before_what_was_adopted() {
        let vars = [("SQL_PORT", "1500"), ("ADMIN_EMAIL", "")]
            .map(|(key, value)| (key.to_owned(), value.to_owned()))
            .into_iter()
            .collect();
        let mut variables = Variables {
            vars,
            ..Variables::default()
        };
        let told = [
            ("SQL_PORT", "1401"),
            ("ADMIN_EMAIL", "a@b"),
            ("SQL_DATA", "v_1"),
        ]
        .map(|(key, value)| (key.to_owned(), Secret::new(value)));
        fill_in(&mut variables, &told.into());
        let value = |key: &str| variables.vars[key].clone();
        assert_eq!(
            [value("SQL_PORT"), value("ADMIN_EMAIL"), value("SQL_DATA")],
            ["1500", "a@b", "v_1"]
        );
        assert_eq!(variables.origins["SQL_DATA"], "adopted");
        assert!(!variables.origins.contains_key("SQL_PORT"));
    }
}
