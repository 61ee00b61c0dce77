//! SQL Server's errors as clients see them: number, state, class and the vendor's words.

/// One error of the server, as an ERROR token carries it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("error {number}, level {class}, state {state}: {message}")]
pub(super) struct SqlError {
    pub(super) number: i32,
    pub(super) state: u8,
    pub(super) class: u8,
    pub(super) message: String,
    /// What the server says behind it, such as which statement ended.
    pub(super) next: Option<Box<SqlError>>,
}

impl SqlError {
    pub(super) fn new(number: i32, class: u8, message: impl Into<String>) -> Self {
        Self {
            number,
            state: 1,
            class,
            message: message.into(),
            next: None,
        }
    }

    /// The same error, with another one behind all that it has.
    pub(super) fn then(mut self, number: i32, message: &str) -> Self {
        let mut last = &mut self.next;
        while let Some(error) = last {
            last = &mut error.next;
        }
        *last = Some(Box::new(Self::new(number, 16, message)));
        self
    }

    /// What every refused login looks like from outside, whatever the reason.
    pub(super) fn login_failed(user: &str) -> Self {
        Self::new(18456, 14, format!("Login failed for user '{user}'."))
    }

    pub(super) fn cannot_open(database: &str) -> Self {
        Self::new(
            4060,
            11,
            format!(
                "Cannot open database \"{database}\" requested by the login. The login failed."
            ),
        )
    }

    pub(super) fn upgrading(user: &str) -> Self {
        let why = "Reason: Server is in script upgrade mode. Only administrator can connect at this time.";
        Self::new(18401, 14, format!("Login failed for user '{user}'. {why}"))
    }

    pub(super) fn shutting_down() -> Self {
        Self::new(
            6005,
            14,
            "SHUTDOWN is in progress. Login failed for user 'sa'.",
        )
    }

    /// Words that are no T-SQL, or T-SQL that the stand-in does not know: never a success.
    pub(super) fn syntax(near: &str) -> Self {
        if near.is_empty() {
            return Self::new(102, 15, "Incorrect syntax near the end of the batch.");
        }
        Self::new(102, 15, format!("Incorrect syntax near '{near}'."))
    }

    pub(super) fn keyword(near: &str) -> Self {
        Self::new(
            156,
            15,
            format!("Incorrect syntax near the keyword '{near}'."),
        )
    }

    pub(super) fn undeclared(variable: &str) -> Self {
        Self::new(
            137,
            15,
            format!("Must declare the scalar variable \"{variable}\"."),
        )
    }

    pub(super) fn no_database(name: &str) -> Self {
        Self::new(
            911,
            16,
            format!(
                "Database '{name}' does not exist. Make sure that the name is entered correctly."
            ),
        )
    }

    pub(super) fn no_object(name: &str) -> Self {
        Self::new(208, 16, format!("Invalid object name '{name}'."))
    }

    pub(super) fn conversion(value: &str, wanted: &str) -> Self {
        let value: String = value.chars().take(100).collect();
        Self::new(
            245,
            16,
            format!("Conversion failed when converting the value '{value}' to data type {wanted}."),
        )
    }

    pub(super) fn cancelled() -> Self {
        Self::new(3617, 11, "Operation cancelled by user.")
    }

    pub(super) fn malformed() -> Self {
        Self::new(
            8009,
            16,
            "The incoming tabular data stream (TDS) remote procedure call (RPC) protocol stream is incorrect.",
        )
    }

    /// SQLite's answer in SQL Server's numbers.
    pub(super) fn of_sqlite(error: &rusqlite::Error) -> Self {
        let text = match error {
            rusqlite::Error::SqliteFailure(_, Some(message)) => message.clone(),
            rusqlite::Error::SqlInputError { msg, .. } => msg.clone(),
            other => other.to_string(),
        };
        let rest = |prefix: &str| rest(&text, prefix);
        if let Some(name) = rest("no such table: ") {
            return Self::no_object(name.trim_start_matches("main."));
        }
        if let Some(name) = rest("no such column: ") {
            return Self::new(
                207,
                16,
                format!("Invalid column name '{}'.", name.trim_matches('"')),
            );
        }
        if let Some(column) = rest("has no column named ") {
            return Self::new(207, 16, format!("Invalid column name '{column}'."));
        }
        if let Some(name) = rest("no such function: ") {
            return Self::new(
                195,
                15,
                format!("'{name}' is not a recognized built-in function name."),
            );
        }
        if text.contains("constraint failed") {
            return Self::of_constraint(&text);
        }
        if text.contains("already exists") {
            let name = text
                .split(['"', ' '])
                .filter(|word| !word.is_empty())
                .nth(1)
                .unwrap_or_default()
                .to_owned();
            return Self::new(
                2714,
                16,
                format!("There is already an object named '{name}' in the database."),
            );
        }
        if let Some(near) =
            rest("near \"").and_then(|rest| Some(rest.split('"').next()?.to_owned()))
        {
            return Self::syntax(&near);
        }
        Self::of_code(error, &text)
    }

    fn of_constraint(text: &str) -> Self {
        if let Some(name) = rest(text, "UNIQUE constraint failed: ") {
            return Self::new(
                2627,
                14,
                format!(
                    "Violation of UNIQUE KEY or PRIMARY KEY constraint. Cannot insert duplicate key in '{name}'."
                ),
            );
        }
        if let Some(name) = rest(text, "NOT NULL constraint failed: ") {
            return Self::new(
                515,
                16,
                format!(
                    "Cannot insert the value NULL into column '{name}'; column does not allow nulls."
                ),
            );
        }
        Self::new(
            547,
            16,
            format!("The statement conflicted with a constraint: {text}."),
        )
    }

    fn of_code(error: &rusqlite::Error, text: &str) -> Self {
        use rusqlite::ErrorCode;
        match error.sqlite_error_code() {
            Some(ErrorCode::OperationInterrupted) => Self::cancelled(),
            Some(ErrorCode::DiskFull) => Self::new(
                1105,
                17,
                "Could not allocate space for object: there is not enough space on the disk.",
            ),
            Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => {
                Self::new(1222, 16, "Lock request time out period exceeded.")
            }
            Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => Self::new(
                824,
                24,
                format!("SQL Server detected a logical consistency-based I/O error: {text}."),
            ),
            _ => Self::new(
                102,
                15,
                format!("Incorrect syntax or unsupported by the stand-in: {text}."),
            ),
        }
    }
}

/// What follows these words of SQLite, up to where it begins to quote the statement.
fn rest(text: &str, prefix: &str) -> Option<String> {
    let rest = text.split(prefix).nth(1)?;
    Some(rest.split(" in \"").next().unwrap_or(rest).to_owned())
}
