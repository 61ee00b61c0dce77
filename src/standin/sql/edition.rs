//! What `MSSQL_PID` chooses: the edition's names, and what it lacks.

/// An edition (learn.microsoft.com, "SERVERPROPERTY" and "Editions and supported features").
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Edition {
    /// `SERVERPROPERTY('Edition')`.
    pub(super) name: &'static str,
    /// `SERVERPROPERTY('EngineEdition')`.
    pub(super) engine: i64,
    /// Whether `BACKUP .. WITH COMPRESSION` is taken.
    pub(super) compresses: bool,
}

const fn edition(name: &'static str, engine: i64, compresses: bool) -> Edition {
    Edition {
        name,
        engine,
        compresses,
    }
}

/// The edition of a `MSSQL_PID`; a product key is taken for Enterprise.
pub(super) fn of(pid: &str) -> Edition {
    match pid.to_ascii_lowercase().as_str() {
        "" | "developer" | "developerenterprise" | "enterprisedeveloper" => {
            edition("Developer Edition (64-bit)", 3, true)
        }
        "express" => edition("Express Edition (64-bit)", 4, false),
        "web" => edition("Web Edition (64-bit)", 2, false),
        "standard" | "developerstandard" | "standarddeveloper" => {
            edition("Standard Edition (64-bit)", 2, true)
        }
        "evaluation" => edition("Enterprise Evaluation Edition (64-bit)", 3, true),
        "enterprisecore" => edition("Enterprise Edition: Core-based Licensing (64-bit)", 3, true),
        _ => edition("Enterprise Edition (64-bit)", 3, true),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_editions_do_not_compress() {
        let compresses = [
            "Express",
            "Web",
            "Standard",
            "",
            "Evaluation",
            "AAAAA-BBBBB",
        ]
        .map(|pid| of(pid).compresses);
        assert_eq!(compresses, [false, false, true, true, true, true]);
    }
}
