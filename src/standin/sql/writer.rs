//! Writes one statement's words in SQLite's dialect: names, literals, row limits, and what T-SQL
//! leaves out.

use std::fmt::Write as _;

use super::error::SqlError;
use super::lexer::{Token, closing};
use super::scope::Scope;
use super::tokens::PRODUCT_VERSION;
use super::types::SqlType;

pub(super) struct Writer<'a> {
    pub(super) words: &'a [Token],
    pub(super) at: usize,
    pub(super) out: String,
    pub(super) scope: &'a Scope,
    /// For each open parenthesis the row limit of the SELECT inside it.
    pub(super) limits: Vec<Option<String>>,
    pub(super) creates: bool,
    /// The columns of an OUTPUT clause.
    pub(super) output: Option<String>,
}

/// Words of SQLite that are no T-SQL: they must not pass as if a real server took them.
const FOREIGN: [&str; 14] = [
    "LIMIT",
    "PRAGMA",
    "AUTOINCREMENT",
    "RETURNING",
    "GLOB",
    "ISNULL",
    "NOTNULL",
    "REGEXP",
    "CONFLICT",
    "ATTACH",
    "DETACH",
    "VACUUM",
    "INDEXED",
    "ROWID",
];
const TABLE_HINTS: [&str; 10] = [
    "NOLOCK",
    "UPDLOCK",
    "HOLDLOCK",
    "ROWLOCK",
    "TABLOCK",
    "TABLOCKX",
    "XLOCK",
    "READPAST",
    "SERIALIZABLE",
    "READCOMMITTED",
];
impl Writer<'_> {
    pub(super) fn peek(&self, ahead: usize) -> Option<&Token> {
        self.words.get(self.at + ahead)
    }

    pub(super) fn next_is(&self, ahead: usize, keyword: &str) -> bool {
        self.peek(ahead).is_some_and(|word| word.is(keyword))
    }

    pub(super) fn push(&mut self, text: &str) {
        self.out.push_str(text);
        self.out.push(' ');
    }

    /// The first words, where T-SQL leaves out what SQLite wants: `INSERT t`, `DELETE t`, `TRUNCATE
    /// TABLE t`.
    pub(super) fn leading(&mut self) -> Result<(), SqlError> {
        if self.next_is(0, "INSERT") {
            self.at += 1 + usize::from(self.next_is(1, "INTO"));
            self.push("INSERT INTO");
            return self.name();
        }
        if self.next_is(0, "DELETE") {
            self.at += 1 + usize::from(self.next_is(1, "FROM"));
            self.push("DELETE FROM");
            return self.name();
        }
        if self.next_is(0, "TRUNCATE") && self.next_is(1, "TABLE") {
            self.at += 2;
            self.push("DELETE FROM");
            return self.name();
        }
        if self.next_is(0, "ALTER") {
            return self.alter();
        }
        self.definition()
    }

    fn definition(&mut self) -> Result<(), SqlError> {
        if !(self.next_is(0, "CREATE") || self.next_is(0, "DROP")) {
            return Ok(());
        }
        if self.next_is(0, "CREATE") && self.next_is(2, "IF") {
            return Err(SqlError::keyword("IF"));
        }
        while let Some(word) = self
            .peek(0)
            .filter(|word| !word.is("TABLE") && !word.is("INDEX"))
            .cloned()
        {
            if !["CREATE", "DROP", "UNIQUE", "NONCLUSTERED", "CLUSTERED"]
                .iter()
                .any(|known| word.is(known))
            {
                return Err(SqlError::syntax(word.shown()));
            }
            self.at += 1;
            if !word.shown().to_ascii_uppercase().ends_with("CLUSTERED") {
                self.push(word.shown());
            }
        }
        Ok(())
    }

    /// `ALTER TABLE t ADD column ..` only.
    fn alter(&mut self) -> Result<(), SqlError> {
        if !self.next_is(1, "TABLE") {
            return Err(SqlError::syntax(self.peek(1).map_or("ALTER", Token::shown)));
        }
        self.at += 2;
        self.push("ALTER TABLE");
        self.name()?;
        if !self.next_is(0, "ADD") || self.next_is(1, "CONSTRAINT") {
            return Err(SqlError::syntax(self.peek(0).map_or("TABLE", Token::shown)));
        }
        self.at += 1;
        self.creates = true;
        self.push("ADD COLUMN");
        Ok(())
    }

    pub(super) fn rest(&mut self) -> Result<(), SqlError> {
        while let Some(word) = self.peek(0) {
            match word {
                Token::Text(text) => {
                    let quoted = format!("'{}'", text.replace('\'', "''"));
                    self.at += 1;
                    self.push(&quoted);
                }
                Token::Number(text) => {
                    let text = text.clone();
                    self.at += 1;
                    self.push(&text);
                }
                Token::Hex(digits) => {
                    let odd = if digits.len() % 2 == 1 { "0" } else { "" };
                    let blob = format!("x'{odd}{digits}'");
                    self.at += 1;
                    self.push(&blob);
                }
                Token::Variable(name) => {
                    let text = self.variable(name)?;
                    self.at += 1;
                    self.push(&text);
                }
                Token::Symbol(symbol) => {
                    let symbol = symbol.clone();
                    self.at += 1;
                    self.symbol(&symbol)?;
                }
                Token::Name(_) => self.name()?,
                Token::Word(_) => self.word()?,
            }
        }
        Ok(())
    }

    pub(super) fn finish(mut self) -> String {
        if let Some(limit) = self.limits.pop().flatten() {
            let _ = write!(self.out, "LIMIT {limit} ");
        }
        if let Some(output) = self.output {
            let _ = write!(self.out, "RETURNING {output}");
        }
        self.out.trim_end().to_owned()
    }

    pub(super) fn variable(&self, name: &str) -> Result<String, SqlError> {
        Ok(match name {
            "@@version" => format!("'{}'", version()),
            "@@servername" => "'octo-local-standin'".to_owned(),
            "@@trancount" => self.scope.transactions.to_string(),
            "@@rowcount" => self.scope.rows.to_string(),
            "@@spid" => self.scope.spid.to_string(),
            "@@identity" => "last_insert_rowid()".to_owned(),
            "@@lock_timeout" => "-1".to_owned(),
            _ if self.scope.variables.contains_key(name) => name.to_owned(),
            _ => return Err(SqlError::undeclared(name)),
        })
    }

    fn symbol(&mut self, symbol: &str) -> Result<(), SqlError> {
        match symbol {
            "(" => self.limits.push(None),
            ")" => {
                if let Some(limit) = self.limits.pop().flatten() {
                    let _ = write!(self.out, "LIMIT {limit} ");
                }
                if self.limits.is_empty() {
                    return Err(SqlError::syntax(")"));
                }
            }
            "+" if self.joins_text() => {
                self.push("||");
                return Ok(());
            }
            "||" | "==" | ";" | "?" | ":" | "$" | "`" => return Err(SqlError::syntax(symbol)),
            _ => {}
        }
        self.push(symbol);
        Ok(())
    }

    /// Whether the `+` just read has text on either side.
    fn joins_text(&self) -> bool {
        let is_text = |word: Option<&Token>| match word {
            Some(Token::Text(_)) => true,
            Some(Token::Variable(name)) => {
                matches!(self.scope.variables.get(name), Some(SqlType::Text { .. }))
            }
            _ => false,
        };
        is_text(
            self.at
                .checked_sub(2)
                .and_then(|before| self.words.get(before)),
        ) || is_text(self.peek(0))
    }

    /// A name of one to four parts: the schema is dropped, catalogue views become queries, other
    /// databases are refused.
    pub(super) fn name(&mut self) -> Result<(), SqlError> {
        let mut parts = Vec::new();
        loop {
            match self.peek(0) {
                Some(word) if word.name().is_some() => parts.push(word.shown().to_owned()),
                Some(word) if word.is_symbol("*") => parts.push("*".to_owned()),
                Some(word) if word.is_symbol(".") => {
                    parts.push(String::new());
                    self.at += 1;
                    continue;
                }
                other => return Err(SqlError::syntax(other.map_or("", Token::shown))),
            }
            self.at += 1;
            if !self.peek(0).is_some_and(|word| word.is_symbol(".")) {
                break;
            }
            self.at += 1;
        }
        let text = self.resolved(parts)?;
        self.push(&text);
        Ok(())
    }

    fn resolved(&self, mut parts: Vec<String>) -> Result<String, SqlError> {
        let lower: Vec<String> = parts.iter().map(|part| part.to_lowercase()).collect();
        let view = lower.len() >= 2
            && matches!(
                lower[lower.len() - 2].as_str(),
                "sys" | "information_schema"
            );
        if view {
            return self.catalogue(&lower[lower.len() - 2..]);
        }
        let last = lower.last().map(String::as_str).unwrap_or_default();
        let history = format!("msdb.{last}");
        let inside =
            lower.first().is_some_and(|part| part == "msdb") || self.scope.database == "msdb";
        if inside && let Some(view) = self.scope.views.get(&history) {
            return Ok(view.clone());
        }
        if let Some(schema) = lower
            .iter()
            .position(|part| part == "dbo" || part.is_empty())
        {
            let whole = parts.join(".");
            if schema > 0 && !parts[schema - 1].eq_ignore_ascii_case(&self.scope.database) {
                return Err(SqlError::no_object(&whole));
            }
            parts.drain(..=schema);
        }
        let quoted = |part: &String| {
            if part == "*" {
                part.clone()
            } else {
                format!("\"{}\"", part.replace('"', "\"\""))
            }
        };
        Ok(parts.iter().map(quoted).collect::<Vec<_>>().join("."))
    }

    fn word(&mut self) -> Result<(), SqlError> {
        let Some(Token::Word(word)) = self.peek(0) else {
            return Ok(());
        };
        let (word, upper) = (word.clone(), word.to_ascii_uppercase());
        if self.peek(1).is_some_and(|next| next.is_symbol(".")) {
            return self.name();
        }
        if self.peek(1).is_some_and(|next| next.is_symbol("(")) && self.function(&upper)? {
            return Ok(());
        }
        match upper.as_str() {
            "TOP" => return self.top(),
            "OUTPUT" => return self.output(),
            "WITH"
                if self.peek(1).is_some_and(|next| next.is_symbol("("))
                    && self.peek(2).is_some_and(is_table_hint) =>
            {
                self.at = closing(self.words, self.at + 1) + 1;
                return Ok(());
            }
            "CLUSTERED" | "NONCLUSTERED" => {
                self.at += 1;
                return Ok(());
            }
            "OR" if self.at == 1 => return Err(SqlError::keyword("OR")),
            _ if FOREIGN.contains(&upper.as_str()) => return Err(SqlError::syntax(&word)),
            _ => {}
        }
        if self.creates && self.column_type()? {
            return Ok(());
        }
        self.at += 1;
        self.push(&word);
        Ok(())
    }

    /// `TOP n`, `TOP (n)`: kept until the SELECT ends.
    fn top(&mut self) -> Result<(), SqlError> {
        self.at += 1;
        let start = self.at;
        let end = if self.peek(0).is_some_and(|word| word.is_symbol("(")) {
            closing(self.words, self.at)
        } else {
            start
        };
        let mark = self.out.len();
        let words = self
            .words
            .get(start..=end)
            .ok_or_else(|| SqlError::syntax("TOP"))?;
        for word in words {
            match word {
                Token::Number(text) => self.push(text),
                Token::Variable(name) => {
                    let text = self.variable(name)?;
                    self.push(&text);
                }
                word if word.is_symbol("(") || word.is_symbol(")") => {}
                word => return Err(SqlError::syntax(word.shown())),
            }
        }
        let limit = self.out.split_off(mark);
        if let Some(open) = self.limits.last_mut() {
            *open = Some(limit.trim().to_owned());
        }
        self.at = end + 1;
        Ok(())
    }

    /// `OUTPUT INSERTED.a, DELETED.b` becomes RETURNING at the end.
    fn output(&mut self) -> Result<(), SqlError> {
        self.at += 1;
        let mut columns = String::new();
        while let Some(word) = self.peek(0).cloned() {
            if ["VALUES", "SELECT", "WHERE", "FROM", "DEFAULT"]
                .iter()
                .any(|keyword| word.is(keyword))
            {
                break;
            }
            self.at += 1;
            match &word {
                word if word.is("INTO") => return Err(SqlError::keyword("INTO")),
                word if (word.is("INSERTED") || word.is("DELETED"))
                    && self.peek(0).is_some_and(|next| next.is_symbol(".")) =>
                {
                    self.at += 1;
                }
                Token::Word(name) | Token::Name(name) => {
                    let _ = write!(columns, "\"{}\"", name.replace('"', "\"\""));
                }
                word if word.is_symbol(",") || word.is_symbol("*") => {
                    columns.push_str(word.shown());
                }
                word => return Err(SqlError::syntax(word.shown())),
            }
        }
        self.output = Some(columns);
        Ok(())
    }
}

fn is_table_hint(word: &Token) -> bool {
    TABLE_HINTS.iter().any(|hint| word.is(hint))
}
/// What `@@VERSION` says. It begins as the vendor's does, for clients that parse it, and says what
/// it is.
pub(super) fn version() -> String {
    format!(
        "Microsoft SQL Server 2022 (octo-local STAND-IN, not a Microsoft product) - {PRODUCT_VERSION} (X64) on Linux"
    )
}
