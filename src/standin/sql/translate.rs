//! The T-SQL subset to SQLite's dialect, word by word. Pure: what it must know of the session comes in `Scope`.

use std::collections::HashMap;
use std::fmt::Write as _;

use super::error::SqlError;
use super::lexer::Token;
use super::statement::no_type;
use super::tokens::PRODUCT_VERSION;
use super::types::SqlType;

/// One row of `sys.databases`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Listed {
    pub(super) id: i64,
    pub(super) name: String,
    pub(super) state: i64,
    pub(super) state_desc: &'static str,
}

/// What a statement can see of its session.
#[derive(Debug, Default)]
pub(super) struct Scope {
    pub(super) database: String,
    pub(super) databases: Vec<Listed>,
    pub(super) variables: HashMap<String, SqlType>,
    pub(super) spid: u16,
    pub(super) transactions: u32,
    pub(super) rows: u64,
}

/// What a column of a top-level SELECT says about itself, where it is not simply a column of a table.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Hint {
    pub(super) sql_type: Option<SqlType>,
    /// An expression without an alias: its column has no name.
    pub(super) unnamed: bool,
}

/// A statement in SQLite's words.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Translated {
    pub(super) sql: String,
    /// One for each column, empty when the select list holds a `*`.
    pub(super) hints: Vec<Hint>,
    /// The variables of `SELECT @a = .., @b = ..`.
    pub(super) assigned: Vec<String>,
    pub(super) writes: bool,
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
const NOW: &str = "strftime('%Y-%m-%d %H:%M:%f0000','now')";

/// Translates one SELECT, INSERT, UPDATE, DELETE, or CREATE, ALTER, DROP of a table or index.
pub(super) fn query(words: &[Token], scope: &Scope) -> Result<Translated, SqlError> {
    let selects = words.first().is_some_and(|word| word.is("SELECT"));
    let creates =
        words.first().is_some_and(|word| word.is("CREATE")) && words.get(1).is_some_and(|word| word.is("TABLE"));
    let (hints, assigned, stripped) =
        if selects { select_list(words, scope) } else { (Vec::new(), Vec::new(), words.to_vec()) };
    let stripped = if creates { without_table_key(&stripped) } else { stripped };
    let mut writer =
        Writer { words: &stripped, at: 0, out: String::new(), scope, limits: vec![None], creates, output: None };
    writer.leading()?;
    writer.rest()?;
    let sql = writer.finish();
    Ok(Translated { sql, hints, assigned, writes: !selects && !reads_only(words) })
}

/// An expression, as the only column of a SELECT.
pub(super) fn scalar(words: &[Token], scope: &Scope) -> Result<Translated, SqlError> {
    let mut select = vec![Token::Word("SELECT".to_owned())];
    select.extend_from_slice(words);
    query(&select, scope)
}

/// A condition, as the only column of a SELECT: 1 or 0.
pub(super) fn condition(words: &[Token], scope: &Scope) -> Result<Translated, SqlError> {
    let mut select: Vec<Token> = ["SELECT", "CASE", "WHEN"].map(|word| Token::Word(word.to_owned())).to_vec();
    select.extend_from_slice(words);
    select.extend(["THEN"].map(|word| Token::Word(word.to_owned())));
    select.push(Token::Number("1".to_owned()));
    select.extend(["ELSE"].map(|word| Token::Word(word.to_owned())));
    select.push(Token::Number("0".to_owned()));
    select.push(Token::Word("END".to_owned()));
    query(&select, scope)
}

fn reads_only(words: &[Token]) -> bool {
    words.first().is_some_and(|word| word.is("WITH"))
        && !words.iter().any(|word| ["INSERT", "UPDATE", "DELETE"].iter().any(|keyword| word.is(keyword)))
}

/// Hints for the columns of a SELECT, the variables it assigns, and its words without `@x =`.
fn select_list(words: &[Token], scope: &Scope) -> (Vec<Hint>, Vec<String>, Vec<Token>) {
    let mut start = 1;
    while words.get(start).is_some_and(|word| word.is("DISTINCT") || word.is("ALL")) {
        start += 1;
    }
    if words.get(start).is_some_and(|word| word.is("TOP")) {
        start = if words.get(start + 1).is_some_and(|word| word.is_symbol("(")) {
            closing(words, start + 1) + 1
        } else {
            start + 2
        };
    }
    let start = start.min(words.len());
    let (mut hints, mut assigned, mut kept) = (Vec::new(), Vec::new(), words[..start].to_vec());
    let mut star = false;
    let mut at = start;
    loop {
        let end = item_end(words, at);
        let mut item = &words[at..end];
        if let [Token::Variable(name), equals, ..] = item
            && equals.is_symbol("=")
        {
            assigned.push(name.clone());
            item = &item[2..];
        }
        star |= item.last().is_some_and(|word| word.is_symbol("*"));
        hints.push(hint(item, scope));
        kept.extend_from_slice(item);
        if !words.get(end).is_some_and(|word| word.is_symbol(",")) {
            kept.extend_from_slice(&words[end..]);
            return (if star { Vec::new() } else { hints }, assigned, kept);
        }
        kept.push(words[end].clone());
        at = end + 1;
    }
}

/// Where an item of a select list ends: at a comma or a clause outside of parentheses.
fn item_end(words: &[Token], start: usize) -> usize {
    let mut at = start;
    while at < words.len() {
        if words[at].is_symbol("(") {
            at = closing(words, at);
        } else if words[at].is_symbol(",")
            || ["FROM", "WHERE", "UNION", "ORDER", "EXCEPT", "INTERSECT", "INTO"].iter().any(|word| words[at].is(word))
        {
            break;
        }
        at += 1;
    }
    at.min(words.len())
}

/// The parenthesis that closes the one at `open`, or the last word.
fn closing(words: &[Token], open: usize) -> usize {
    let mut depth = 0_usize;
    for (at, word) in words.iter().enumerate().skip(open) {
        depth += usize::from(word.is_symbol("("));
        depth -= usize::from(word.is_symbol(")"));
        if depth == 0 {
            return at;
        }
    }
    words.len().saturating_sub(1)
}

fn hint(item: &[Token], scope: &Scope) -> Hint {
    let named = match item {
        [.., last] if item.len() > 1 && last.name().is_some() && !last.is("END") && !last.is("NULL") => true,
        [single] => single.name().is_some() && !single.is("NULL"),
        _ => false,
    };
    Hint { sql_type: item_type(item, scope), unnamed: !named }
}

fn item_type(item: &[Token], scope: &Scope) -> Option<SqlType> {
    let body = match item {
        [body @ .., alias, _] if alias.is("AS") => body,
        _ => item,
    };
    match body {
        [Token::Variable(name)] => match name.as_str() {
            "@@version" | "@@servername" => Some(SqlType::Text { max: false }),
            _ => scope.variables.get(name).copied(),
        },
        [Token::Text(_)] => Some(SqlType::Text { max: false }),
        [function, open, ..] if open.is_symbol("(") && closing(body, 1) + 1 == body.len() => {
            function_type(function, body)
        }
        _ => None,
    }
}

fn function_type(function: &Token, body: &[Token]) -> Option<SqlType> {
    let inside = &body[2..body.len() - 1];
    match function.shown().to_ascii_uppercase().as_str() {
        "CAST" => {
            let at = inside.iter().rposition(|word| word.is("AS"))?;
            declared(&inside[at + 1..])
        }
        "CONVERT" => declared(&inside[..item_end(inside, 0)]),
        "COUNT_BIG" => Some(SqlType::BigInt),
        "GETUTCDATE" | "SYSUTCDATETIME" | "GETDATE" | "SYSDATETIME" => Some(SqlType::DateTime2),
        "DB_NAME" | "SERVERPROPERTY" | "SUSER_SNAME" | "SUSER_NAME" | "ORIGINAL_LOGIN" => {
            Some(SqlType::Text { max: false })
        }
        "NEWID" => Some(SqlType::Guid),
        _ => None,
    }
}

fn declared(words: &[Token]) -> Option<SqlType> {
    SqlType::declared(&words.iter().map(Token::shown).collect::<String>())
}

struct Writer<'a> {
    words: &'a [Token],
    at: usize,
    out: String,
    scope: &'a Scope,
    /// For each open parenthesis the row limit of the SELECT inside it.
    limits: Vec<Option<String>>,
    creates: bool,
    /// The columns of an OUTPUT clause.
    output: Option<String>,
}

impl Writer<'_> {
    fn peek(&self, ahead: usize) -> Option<&Token> {
        self.words.get(self.at + ahead)
    }

    fn next_is(&self, ahead: usize, keyword: &str) -> bool {
        self.peek(ahead).is_some_and(|word| word.is(keyword))
    }

    fn push(&mut self, text: &str) {
        self.out.push_str(text);
        self.out.push(' ');
    }

    /// The first words, where T-SQL leaves out what SQLite wants: `INSERT t`, `DELETE t`, `TRUNCATE TABLE t`.
    fn leading(&mut self) -> Result<(), SqlError> {
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
        while let Some(word) = self.peek(0).filter(|word| !word.is("TABLE") && !word.is("INDEX")).cloned() {
            if !["CREATE", "DROP", "UNIQUE", "NONCLUSTERED", "CLUSTERED"].iter().any(|known| word.is(known)) {
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

    fn rest(&mut self) -> Result<(), SqlError> {
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

    fn finish(mut self) -> String {
        if let Some(limit) = self.limits.pop().flatten() {
            let _ = write!(self.out, "LIMIT {limit} ");
        }
        if let Some(output) = self.output {
            let _ = write!(self.out, "RETURNING {output}");
        }
        self.out.trim_end().to_owned()
    }

    fn variable(&self, name: &str) -> Result<String, SqlError> {
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
            Some(Token::Variable(name)) => matches!(self.scope.variables.get(name), Some(SqlType::Text { .. })),
            _ => false,
        };
        is_text(self.at.checked_sub(2).and_then(|before| self.words.get(before))) || is_text(self.peek(0))
    }

    /// A name of one to four parts: the schema is dropped, catalogue views become queries, other databases are refused.
    fn name(&mut self) -> Result<(), SqlError> {
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
        let view = lower.len() >= 2 && matches!(lower[lower.len() - 2].as_str(), "sys" | "information_schema");
        if view {
            return self.catalogue(&lower[lower.len() - 2..]);
        }
        if let Some(schema) = lower.iter().position(|part| part == "dbo" || part.is_empty()) {
            let whole = parts.join(".");
            if schema > 0 && !parts[schema - 1].eq_ignore_ascii_case(&self.scope.database) {
                return Err(SqlError::no_object(&whole));
            }
            parts.drain(..=schema);
        }
        let quoted =
            |part: &String| if part == "*" { part.clone() } else { format!("\"{}\"", part.replace('"', "\"\"")) };
        Ok(parts.iter().map(quoted).collect::<Vec<_>>().join("."))
    }

    fn catalogue(&self, name: &[String]) -> Result<String, SqlError> {
        let user_tables = "FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite!_%' ESCAPE '!')";
        Ok(match name.join(".").as_str() {
            "sys.databases" => databases(&self.scope.databases),
            "sys.tables" | "sys.objects" => {
                format!("(SELECT name, rowid AS object_id, 'U' AS type, 1 AS schema_id {user_tables}")
            }
            "information_schema.tables" => {
                let columns = "'dbo' AS TABLE_SCHEMA, name AS TABLE_NAME, 'BASE TABLE' AS TABLE_TYPE";
                format!(
                    "(SELECT '{}' AS TABLE_CATALOG, {columns} {user_tables}",
                    self.scope.database.replace('\'', "''")
                )
            }
            other => return Err(SqlError::no_object(other)),
        })
    }

    fn word(&mut self) -> Result<(), SqlError> {
        let Some(Token::Word(word)) = self.peek(0) else { return Ok(()) };
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
                if self.peek(1).is_some_and(|next| next.is_symbol("(")) && self.peek(2).is_some_and(is_table_hint) =>
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
        let end =
            if self.peek(0).is_some_and(|word| word.is_symbol("(")) { closing(self.words, self.at) } else { start };
        let mark = self.out.len();
        let words = self.words.get(start..=end).ok_or_else(|| SqlError::syntax("TOP"))?;
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
            if ["VALUES", "SELECT", "WHERE", "FROM", "DEFAULT"].iter().any(|keyword| word.is(keyword)) {
                break;
            }
            self.at += 1;
            match &word {
                word if word.is("INTO") => return Err(SqlError::keyword("INTO")),
                word if (word.is("INSERTED") || word.is("DELETED"))
                    && self.peek(0).is_some_and(|next| next.is_symbol(".")) =>
                {
                    self.at += 1
                }
                Token::Word(name) | Token::Name(name) => {
                    let _ = write!(columns, "\"{}\"", name.replace('"', "\"\""));
                }
                word if word.is_symbol(",") || word.is_symbol("*") => columns.push_str(word.shown()),
                word => return Err(SqlError::syntax(word.shown())),
            }
        }
        self.output = Some(columns);
        Ok(())
    }

    /// A function that SQLite spells otherwise. `false` leaves the word as it is.
    fn function(&mut self, name: &str) -> Result<bool, SqlError> {
        let open = self.at + 1;
        let close = closing(self.words, open);
        let inside = &self.words[open + 1..close.max(open + 1)];
        let text = match name {
            "GETUTCDATE" | "SYSUTCDATETIME" | "GETDATE" | "SYSDATETIME" => format!("({NOW})"),
            "SCOPE_IDENTITY" => "last_insert_rowid()".to_owned(),
            "SUSER_SNAME" | "SUSER_NAME" | "ORIGINAL_LOGIN" => "'sa'".to_owned(),
            "NEWID" => "(substr(hex(randomblob(4)),1) || '-' || hex(randomblob(2)) || '-' || hex(randomblob(2)) || '-' || hex(randomblob(2)) || '-' || hex(randomblob(6)))".to_owned(),
            "DB_NAME" if inside.is_empty() => format!("'{}'", self.scope.database.replace('\'', "''")),
            "DB_ID" if inside.is_empty() => format!("(SELECT database_id FROM {} WHERE name = '{}')", databases(&self.scope.databases), self.scope.database.replace('\'', "''")),
            "DB_ID" | "DB_NAME" | "DATABASEPROPERTYEX" => self.of_database(name, inside)?,
            "OBJECT_ID" => {
                let wanted = self.nested(&inside[..item_end(inside, 0)])?;
                format!("(SELECT rowid FROM sqlite_master WHERE name = replace(replace(replace({wanted},'[',''),']',''),'dbo.','') COLLATE NOCASE)")
            }
            "SERVERPROPERTY" => {
                let wanted = self.nested(inside)?;
                format!("(CASE lower({wanted}) WHEN 'productversion' THEN '{PRODUCT_VERSION}' WHEN 'edition' THEN 'octo-local stand-in' WHEN 'productlevel' THEN 'RTM' WHEN 'servername' THEN 'octo-local-standin' WHEN 'collation' THEN 'SQL_Latin1_General_CP1_CI_AS' END)")
            }
            "ISNULL" => format!("ifnull({})", self.nested(inside)?),
            "LEN" => format!("length(rtrim({}))", self.nested(inside)?),
            "COUNT_BIG" => format!("count({})", self.nested(inside)?),
            "CAST" | "CONVERT" => self.cast(name, inside)?,
            _ => return Ok(false),
        };
        self.at = close + 1;
        self.push(&text);
        Ok(true)
    }

    fn of_database(&self, function: &str, inside: &[Token]) -> Result<String, SqlError> {
        let wanted = self.nested(&inside[..item_end(inside, 0)])?;
        let list = databases(&self.scope.databases);
        Ok(match function {
            "DB_NAME" => format!("(SELECT name FROM {list} WHERE database_id = {wanted})"),
            "DB_ID" => format!("(SELECT database_id FROM {list} WHERE name = {wanted})"),
            _ => format!("(SELECT state_desc FROM {list} WHERE name = {wanted})"),
        })
    }

    fn cast(&self, function: &str, inside: &[Token]) -> Result<String, SqlError> {
        let (value, type_words) = if function == "CAST" {
            let at = inside.iter().rposition(|word| word.is("AS")).ok_or_else(|| SqlError::syntax(")"))?;
            (&inside[..at], &inside[at + 1..])
        } else {
            let at = item_end(inside, 0);
            let value = inside.get(at + 1..).ok_or_else(|| SqlError::syntax(")"))?;
            (&value[..item_end(value, 0)], &inside[..at])
        };
        let name: String = type_words.iter().map(Token::shown).collect();
        let sql_type = SqlType::declared(&name).ok_or_else(|| no_type(&name))?;
        let value = self.nested(value)?;
        Ok(match sql_type.affinity() {
            Some(affinity) => format!("CAST({value} AS {affinity})"),
            None => format!("({value})"),
        })
    }

    /// The words inside a function, translated on their own.
    fn nested(&self, words: &[Token]) -> Result<String, SqlError> {
        let mut inner = Writer {
            words,
            at: 0,
            out: String::new(),
            scope: self.scope,
            limits: vec![None],
            creates: false,
            output: None,
        };
        inner.rest()?;
        if inner.limits.len() != 1 {
            return Err(SqlError::syntax(")"));
        }
        Ok(inner.finish())
    }

    /// The type of a column behind its name in CREATE TABLE, with what SQLite wants to hear about it.
    fn column_type(&mut self) -> Result<bool, SqlError> {
        let behind_name = self
            .at
            .checked_sub(1)
            .and_then(|before| self.words.get(before))
            .is_some_and(|before| before.name().is_some());
        let Some(Token::Word(word)) = self.peek(0) else { return Ok(false) };
        let keyword =
            ["PRIMARY", "NOT", "NULL", "DEFAULT", "UNIQUE", "CONSTRAINT", "REFERENCES", "KEY", "CHECK", "FOREIGN"];
        let Some(sql_type) = SqlType::declared(word).filter(|_| behind_name) else {
            let second = self.at.checked_sub(2).and_then(|before| self.words.get(before));
            let fresh =
                second.is_some_and(|before| before.is_symbol(",") || before.is_symbol("(")) && self.limits.len() == 2;
            let first_word = self.at.checked_sub(1).and_then(|before| self.words.get(before));
            let constraint = first_word.is_some_and(|before| keyword.iter().any(|known| before.is(known)));
            if behind_name && fresh && !constraint && !keyword.iter().any(|known| word.eq_ignore_ascii_case(known)) {
                return Err(no_type(word));
            }
            return Ok(false);
        };
        let word = word.clone();
        self.at += 1;
        let mut size = String::new();
        if self.peek(0).is_some_and(|next| next.is_symbol("(")) {
            let close = closing(self.words, self.at);
            size = self.words[self.at..=close]
                .iter()
                .map(Token::shown)
                .collect::<String>()
                .to_ascii_uppercase()
                .replace("MAX", "-1");
            self.at = close + 1;
        }
        if self.next_is(0, "IDENTITY") {
            return self.identity(sql_type).map(|()| true);
        }
        self.push(&format!("{}{size}", word.to_ascii_uppercase()));
        if matches!(sql_type, SqlType::Text { .. } | SqlType::Guid) {
            self.push("COLLATE NOCASE");
        }
        Ok(true)
    }

    /// An identity column becomes the primary key that SQLite numbers; the words that say so again are dropped.
    fn identity(&mut self, sql_type: SqlType) -> Result<(), SqlError> {
        self.at += 1;
        if self.peek(0).is_some_and(|next| next.is_symbol("(")) {
            self.at = closing(self.words, self.at) + 1;
        }
        while let Some(word) = self.peek(0) {
            match word {
                word if word.is_symbol(",") || word.is_symbol(")") => break,
                word if ["NOT", "NULL", "PRIMARY", "KEY", "CLUSTERED"].iter().any(|known| word.is(known)) => {
                    self.at += 1
                }
                word if word.is("CONSTRAINT") => self.at += 2,
                word => return Err(SqlError::syntax(word.shown())),
            }
        }
        let name = if sql_type == SqlType::BigInt { "integer" } else { "INTEGER" };
        self.push(&format!("{name} PRIMARY KEY AUTOINCREMENT"));
        Ok(())
    }
}

/// The words without the table constraint that names the identity column as the primary key again: SQLite has it already.
fn without_table_key(words: &[Token]) -> Vec<Token> {
    let column = words.iter().position(|word| word.is("IDENTITY")).and_then(|at| {
        let start = words[..at].iter().rposition(|word| word.is_symbol(",") || word.is_symbol("("))?;
        Some(words[start + 1].shown().to_lowercase())
    });
    let Some(column) = column else { return words.to_vec() };
    let mut kept = words.to_vec();
    for at in 0..words.len() {
        let start = if words[at].is("CONSTRAINT") { at + 2 } else { at };
        let key = words.get(start).is_some_and(|word| word.is("PRIMARY"));
        if at == 0 || !words[at - 1].is_symbol(",") || !key {
            continue;
        }
        let Some(open) = words[start..].iter().position(|word| word.is_symbol("(")).map(|offset| start + offset) else {
            continue;
        };
        let close = closing(words, open);
        let names: Vec<&Token> = words[open + 1..close].iter().filter(|word| !word.is("ASC")).collect();
        if names.len() == 1 && names[0].shown().to_lowercase() == column {
            kept.drain(at - 1..=close);
            return kept;
        }
    }
    kept
}

fn is_table_hint(word: &Token) -> bool {
    TABLE_HINTS.iter().any(|hint| word.is(hint))
}

/// What `@@VERSION` says. It begins as the vendor's does, for clients that parse it, and says what it is.
pub(super) fn version() -> String {
    format!("Microsoft SQL Server 2022 (octo-local STAND-IN, not Microsoft's) - {PRODUCT_VERSION} (X64) on Linux")
}

/// `sys.databases` as a table of constants.
fn databases(list: &[Listed]) -> String {
    let rows = list.iter().map(|row| {
        format!(
            "SELECT {} AS database_id, '{}' COLLATE NOCASE AS name, {} AS state, '{}' AS state_desc, 0 AS is_read_only, 3 AS recovery_model",
            row.id,
            row.name.replace('\'', "''"),
            row.state,
            row.state_desc
        )
    });
    format!("(SELECT * FROM ({}))", rows.collect::<Vec<_>>().join(" UNION ALL "))
}
