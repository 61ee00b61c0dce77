//! A file that an export writes.

use crate::config::Secret;

/// A file, by its path below the export's directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct File {
    /// Where it is written, relative and with `/`.
    pub path: String,
    /// Who may do what with it.
    pub access: Access,
    /// What it says. Every file may quote a value of a `.env`, so none can be formatted.
    pub contents: Secret,
}

/// Who may do what with a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Everybody may read it.
    Everybody,
    /// As [`Self::Everybody`], and it is a program.
    Program,
    /// Only its owner may read it: there are secrets in it.
    Owner,
}

impl Access {
    /// The permission bits.
    pub fn mode(self) -> u32 {
        match self {
            Self::Everybody => 0o644,
            Self::Program => 0o755,
            Self::Owner => 0o600,
        }
    }
}

impl File {
    /// A file that everybody may read.
    pub fn open(path: impl Into<String>, contents: impl Into<String>) -> Self {
        Self::with(Access::Everybody, path, contents)
    }

    /// A file with secrets in it.
    pub fn secret(path: impl Into<String>, contents: impl Into<String>) -> Self {
        Self::with(Access::Owner, path, contents)
    }

    /// A program.
    pub fn program(path: impl Into<String>, contents: impl Into<String>) -> Self {
        Self::with(Access::Program, path, contents)
    }

    fn with(access: Access, path: impl Into<String>, contents: impl Into<String>) -> Self {
        Self {
            path: path.into(),
            access,
            contents: Secret::new(contents),
        }
    }
}
