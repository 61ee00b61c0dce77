//! The statements that keep, move and check whole databases, as their words are read: BACKUP,
//! RESTORE, ALTER DATABASE, DBCC, KILL.

use std::time::Duration;

use super::error::SqlError;
use super::instance::{Access, Recovery};
use super::lexer::Token;
use super::parser::Parser;
use super::statement::{Change, Medium, Opt, RestoreWhat, Statement, Termination};

/// What may stand behind WITH, and whether a value follows (learn.microsoft.com, "BACKUP" and
/// "RESTORE Statements - Arguments").
const OPTIONS: [(&str, bool); 34] = [
    ("COPY_ONLY", false),
    ("CHECKSUM", false),
    ("NO_CHECKSUM", false),
    ("COMPRESSION", false),
    ("NO_COMPRESSION", false),
    ("FORMAT", false),
    ("NOFORMAT", false),
    ("INIT", false),
    ("NOINIT", false),
    ("SKIP", false),
    ("NOSKIP", false),
    ("REWIND", false),
    ("NOREWIND", false),
    ("UNLOAD", false),
    ("NOUNLOAD", false),
    ("STOP_ON_ERROR", false),
    ("CONTINUE_AFTER_ERROR", false),
    ("REPLACE", false),
    ("RECOVERY", false),
    ("NORECOVERY", false),
    ("RESTART", false),
    ("LOADHISTORY", false),
    ("RESTRICTED_USER", false),
    ("STATS", false),
    ("MOVE", false),
    ("NAME", true),
    ("DESCRIPTION", true),
    ("MEDIANAME", true),
    ("MEDIADESCRIPTION", true),
    ("BUFFERCOUNT", true),
    ("MAXTRANSFERSIZE", true),
    ("BLOCKSIZE", true),
    ("FILE", true),
    ("RETAINDAYS", true),
];
/// Options of ALTER DATABASE .. SET that a client of this server cannot see.
const UNSEEN: [&str; 9] = [
    "ALLOW_SNAPSHOT_ISOLATION",
    "READ_COMMITTED_SNAPSHOT",
    "AUTO_CLOSE",
    "AUTO_SHRINK",
    "AUTO_CREATE_STATISTICS",
    "AUTO_UPDATE_STATISTICS",
    "PAGE_VERIFY",
    "COMPATIBILITY_LEVEL",
    "QUERY_STORE",
];

impl Parser {
    pub(super) fn backup(&mut self) -> Result<Statement, SqlError> {
        if !self.eat("DATABASE") {
            return self.wrong();
        }
        let database = self.named()?;
        self.expect("TO")?;
        let medium = self.medium("BACKUP")?;
        Ok(Statement::Backup { database, medium })
    }

    pub(super) fn restore(&mut self) -> Result<Statement, SqlError> {
        let what = if self.eat("VERIFYONLY") {
            RestoreWhat::Verify
        } else if self.eat("HEADERONLY") {
            RestoreWhat::Header
        } else if self.eat("FILELISTONLY") {
            RestoreWhat::FileList
        } else {
            self.expect("DATABASE")?;
            RestoreWhat::Database(self.named()?)
        };
        let medium = if self.eat("FROM") {
            self.medium("RESTORE")?
        } else if matches!(what, RestoreWhat::Database(_)) {
            Medium {
                disk: None,
                options: self.options("RESTORE")?,
            }
        } else {
            return self.wrong();
        };
        Ok(Statement::Restore { what, medium })
    }

    /// `DISK = 'path' [WITH ..]`. The stand-in knows one disk.
    fn medium(&mut self, statement: &str) -> Result<Medium, SqlError> {
        self.expect("DISK")?;
        self.equals()?;
        let disk = Some(self.said()?);
        let options = self.options(statement)?;
        Ok(Medium { disk, options })
    }

    fn options(&mut self, statement: &str) -> Result<Vec<Opt>, SqlError> {
        let mut options = Vec::new();
        if !self.eat("WITH") {
            return Ok(options);
        }
        loop {
            options.push(self.option(statement)?);
            if !self.eat_symbol(",") {
                return Ok(options);
            }
        }
    }

    fn option(&mut self, statement: &str) -> Result<Opt, SqlError> {
        let word = self.name()?;
        let name = word.to_ascii_uppercase();
        let known = OPTIONS.iter().find(|(known, _)| *known == name);
        let Some((name, valued)) = known.copied() else {
            let text = format!("'{word}' is not a recognized {statement} option.");
            return Err(SqlError::new(155, 15, text));
        };
        let (mut value, mut to) = (None, None);
        if name == "MOVE" {
            value = Some(self.said()?);
            self.expect("TO")?;
            to = Some(self.said()?);
        } else if valued {
            self.equals()?;
            value = Some(self.said()?);
        } else if self.eat_symbol("=") {
            value = Some(self.said()?);
        }
        Ok(Opt { name, value, to })
    }

    fn equals(&mut self) -> Result<(), SqlError> {
        if self.eat_symbol("=") {
            Ok(())
        } else {
            self.wrong()
        }
    }

    /// A database's name, bare, in brackets or in a variable.
    fn named(&mut self) -> Result<Token, SqlError> {
        match self.next_token() {
            Some(token @ (Token::Word(_) | Token::Name(_) | Token::Variable(_))) => Ok(token),
            _ => self.wrong(),
        }
    }

    /// A string, a number or a variable: expressions are not taken here, as with the vendor.
    fn said(&mut self) -> Result<Token, SqlError> {
        match self.next_token() {
            Some(token @ (Token::Text(_) | Token::Number(_) | Token::Variable(_))) => Ok(token),
            _ => self.wrong(),
        }
    }

    pub(super) fn alter_database(&mut self) -> Result<Statement, SqlError> {
        let database = if self.eat("CURRENT") {
            None
        } else {
            Some(self.name()?)
        };
        if self.eat("MODIFY") {
            self.expect("NAME")?;
            self.equals()?;
            let change = Change::Name(self.name()?);
            let termination = Termination::Wait;
            return Ok(Statement::AlterDatabase {
                database,
                change,
                termination,
            });
        }
        self.expect("SET")?;
        let word = self.name()?.to_ascii_uppercase();
        let change = match word.as_str() {
            "SINGLE_USER" => Change::Access(Access::Single),
            "RESTRICTED_USER" => Change::Access(Access::Restricted),
            "MULTI_USER" => Change::Access(Access::Multi),
            "OFFLINE" => Change::Offline(true),
            "ONLINE" => Change::Offline(false),
            "RECOVERY" if self.eat("SIMPLE") => Change::Recovery(Recovery::Simple),
            "RECOVERY" if self.eat("FULL") => Change::Recovery(Recovery::Full),
            "RECOVERY" if self.eat("BULK_LOGGED") => Change::Recovery(Recovery::BulkLogged),
            other if UNSEEN.contains(&other) => {
                self.eat_symbol("=");
                self.next_token();
                Change::Nothing
            }
            _ => {
                self.step_back();
                return self.wrong();
            }
        };
        Ok(Statement::AlterDatabase {
            database,
            change,
            termination: self.termination()?,
        })
    }

    fn termination(&mut self) -> Result<Termination, SqlError> {
        if !self.eat("WITH") {
            return Ok(Termination::Wait);
        }
        if self.eat("NO_WAIT") {
            return Ok(Termination::NoWait);
        }
        self.expect("ROLLBACK")?;
        if self.eat("IMMEDIATE") {
            return Ok(Termination::Rollback(Duration::ZERO));
        }
        self.expect("AFTER")?;
        let seconds = match self.next_token() {
            Some(Token::Number(text)) => text.parse().ok(),
            _ => None,
        };
        let Some(seconds) = seconds else {
            return self.wrong();
        };
        self.eat("SECONDS");
        Ok(Termination::Rollback(Duration::from_secs(seconds)))
    }

    /// DBCC CHECKDB only.
    pub(super) fn dbcc(&mut self) -> Result<Statement, SqlError> {
        if !self.eat("CHECKDB") {
            return Err(SqlError::new(
                2526,
                16,
                "Incorrect DBCC statement. Check the documentation for the correct DBCC syntax and options.",
            ));
        }
        let mut database = None;
        if self.eat_symbol("(") {
            database = self.next_token();
            while !self.eat_symbol(")") {
                if self.next_token().is_none() {
                    return self.wrong();
                }
            }
        }
        if self.eat("WITH") {
            self.name()?;
            while self.eat_symbol(",") {
                self.name()?;
            }
        }
        Ok(Statement::CheckDatabase(database))
    }

    pub(super) fn kill(&mut self) -> Result<Statement, SqlError> {
        let number = match self.next_token() {
            Some(Token::Number(text)) => text.parse().ok(),
            _ => None,
        };
        match number {
            Some(spid) => Ok(Statement::Kill(spid)),
            None => self.wrong(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::lexer::tokens;
    use super::super::parser::statements;
    use super::*;

    fn parsed(text: &str) -> Result<Vec<Statement>, SqlError> {
        statements(tokens(text)?)
    }

    #[test]
    fn backups_and_restores_are_read() {
        let text = "BACKUP DATABASE [a b] TO DISK = N'/x' WITH COPY_ONLY, CHECKSUM, STATS = 10, NAME = @n \
                    RESTORE VERIFYONLY FROM DISK = @p WITH CHECKSUM, STATS; \
                    RESTORE DATABASE x FROM DISK = N'/x' WITH REPLACE, MOVE N'a' TO N'/b', MOVE N'c' TO N'/d'";
        let found = parsed(text).unwrap();
        assert_eq!(found.len(), 3, "{found:?}");
        let Statement::Backup { medium, .. } = &found[0] else {
            panic!("{found:?}")
        };
        assert_eq!(medium.options.len(), 4);
        let Statement::Restore { medium, .. } = &found[2] else {
            panic!("{found:?}")
        };
        assert_eq!(
            medium
                .options
                .iter()
                .filter(|option| option.to.is_some())
                .count(),
            2
        );
    }

    #[test]
    fn what_the_vendor_refuses_is_refused() {
        for (text, number) in [
            ("BACKUP DATABASE x TO DISK = N'/x' WITH FROB", 155),
            ("BACKUP DATABASE x TO DISK = N'/x' + N'y'", 102),
            ("RESTORE VERIFYONLY", 102),
            ("ALTER DATABASE x SET FROB", 102),
            ("DBCC FROB", 2526),
            ("KILL x", 102),
        ] {
            assert_eq!(parsed(text).unwrap_err().number, number, "{text}");
        }
    }

    #[test]
    fn databases_are_altered() {
        let text = "ALTER DATABASE x SET SINGLE_USER WITH ROLLBACK IMMEDIATE; ALTER DATABASE CURRENT SET RECOVERY SIMPLE; \
                    ALTER DATABASE x SET READ_COMMITTED_SNAPSHOT ON; ALTER DATABASE x MODIFY NAME = y; DBCC CHECKDB (x) WITH NO_INFOMSGS";
        assert_eq!(parsed(text).unwrap().len(), 5);
    }
}
