//! Changes what a person's own files of variables say, and nothing else in them: each file whole or
//! not at all.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::path::PathBuf;

use crate::cli::unfinished;
use crate::cli::variables::Files;
use crate::dotenv::edit;

/// A file and what it is to say.
#[derive(Clone, PartialEq, Eq)]
pub struct Edit {
    /// The file, under the name by which it is read.
    pub path: PathBuf,
    /// Its text.
    pub text: String,
}

/// Why a value cannot be written where the variables are. Names files and variables only.
#[derive(Debug, thiserror::Error)]
pub enum CannotWrite {
    /// The process environment has the last word.
    #[error("the environment sets {0}, and not a file")]
    Environment(String),
    /// There is no file.
    #[error("there is no .env to write {0} into")]
    NoFile(String),
    /// A file cannot be read, or written beside.
    #[error("{}: {source}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// The system's error.
        #[source]
        source: std::io::Error,
    },
    /// Other variables are made of it, or the file cannot be read as variables.
    #[error("{} cannot say it without changing another variable", .0.display())]
    Text(PathBuf),
}

/// What the files are to say for these variables to have these values: each where it is set last, else
/// in the last file. Nothing is written, and it is known that it can be.
pub fn edits(
    files: &Files,
    env: &BTreeMap<String, String>,
    values: &[(&str, String)],
) -> Result<Vec<Edit>, CannotWrite> {
    let mut texts = Vec::new();
    for path in files.regular(env) {
        let text = std::fs::read_to_string(&path).map_err(|source| CannotWrite::File {
            path: path.clone(),
            source,
        })?;
        texts.push((path, text));
    }
    let mut of_files: BTreeMap<usize, Vec<(&str, &str)>> = BTreeMap::new();
    for (name, value) in values {
        if env.contains_key(*name) {
            return Err(CannotWrite::Environment((*name).to_owned()));
        }
        let sets = |(_, text): &(PathBuf, String)| edit::sets(text, name);
        let last = texts.len().checked_sub(1);
        let file = texts.iter().rposition(sets).or(last);
        let file = file.ok_or_else(|| CannotWrite::NoFile((*name).to_owned()))?;
        of_files.entry(file).or_default().push((*name, value));
    }
    let edited = |(file, values): (usize, Vec<(&str, &str)>)| {
        let (path, text) = &texts[file];
        let text = edit::with_values(text, &values);
        let text = text.ok_or_else(|| CannotWrite::Text(path.clone()))?;
        can_be_replaced(path)?;
        Ok(Edit {
            path: path.clone(),
            text,
        })
    };
    of_files.into_iter().map(edited).collect()
}

fn can_be_replaced(path: &Path) -> Result<(), CannotWrite> {
    let made = target(path).and_then(|target| unfinished::beside(&target));
    made.map(|_| ()).map_err(|source| CannotWrite::File {
        path: path.to_owned(),
        source,
    })
}

/// Puts a text in the place of a file's, whole or not at all, for whoever could read and write the
/// file before.
pub fn replace(path: &Path, text: &str) -> std::io::Result<()> {
    let path = target(path)?;
    let before = std::fs::metadata(&path)?;
    let mut file = unfinished::beside(&path)?;
    file.write_all(text.as_bytes())?;
    file.as_file().set_permissions(before.permissions())?;
    // One's own file needs no other owner, and nobody but root can give it one.
    let made = file.as_file().metadata()?;
    if (made.uid(), made.gid()) != (before.uid(), before.gid()) {
        std::os::unix::fs::fchown(file.as_file(), Some(before.uid()), Some(before.gid()))?;
    }
    file.as_file().sync_all()?;
    file.persist(&path)?;
    std::fs::File::open(path.parent().unwrap_or(Path::new(".")))?.sync_all()
}

/// The file itself, where a link has its name.
fn target(path: &Path) -> std::io::Result<PathBuf> {
    std::fs::canonicalize(path)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn each_value_goes_to_the_file_that_has_the_last_word_on_it() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        std::fs::write(at("a"), "# a\nP=old # p\nC=x\n").unwrap();
        std::fs::write(at("real"), "D=1\n").unwrap();
        std::os::unix::fs::symlink(at("real"), at("b")).unwrap();
        std::fs::set_permissions(at("real"), std::fs::Permissions::from_mode(0o640)).unwrap();
        let mut files = Files::at(dir.path());
        files.given = vec![at("a"), at("b")];
        let none = BTreeMap::new();
        let values = [("P", "n w".to_owned()), ("Q", "2".to_owned())];
        let wanted = edits(&files, &none, &values).unwrap();
        assert_eq!(
            std::fs::read_to_string(at("a")).unwrap(),
            "# a\nP=old # p\nC=x\n"
        );
        for edit in &wanted {
            replace(&edit.path, &edit.text).unwrap();
        }
        let read = |name: &str| std::fs::read_to_string(at(name)).unwrap();
        assert_eq!(
            (read("a").as_str(), read("b").as_str()),
            ("# a\nP='n w' # p\nC=x\n", "D=1\nQ=2\n")
        );
        let kept = std::fs::symlink_metadata(at("b")).unwrap();
        assert!(kept.is_symlink());
        let mode = std::fs::metadata(at("b")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o640);
        let set = [("P".to_owned(), "x".to_owned())].into();
        assert!(
            matches!(edits(&files, &set, &values), Err(CannotWrite::Environment(name)) if name == "P")
        );
        assert!(matches!(
            edits(&Files::at(&at("none")), &none, &values),
            Err(CannotWrite::NoFile(_))
        ));
    }
}
