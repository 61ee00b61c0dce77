//! The T-SQL subset to SQLite's dialect, word by word. Pure: what it must know of the session comes
//! in `Scope`.

use super::create::without_table_key;
use super::error::SqlError;
use super::lexer::{Token, closing, item_end};
use super::scope::Scope;
use super::types::SqlType;
use super::views::column_type;
use super::writer::Writer;

/// What a column of a top-level SELECT says about itself, where it is not simply a column of a
/// table.
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

/// Translates one SELECT, INSERT, UPDATE, DELETE, or CREATE, ALTER, DROP of a table or index.
pub(super) fn query(words: &[Token], scope: &Scope) -> Result<Translated, SqlError> {
    let selects = words.first().is_some_and(|word| word.is("SELECT"));
    let creates = words.first().is_some_and(|word| word.is("CREATE"))
        && words.get(1).is_some_and(|word| word.is("TABLE"));
    let (hints, assigned, stripped) = if selects {
        select_list(words, scope)
    } else {
        (Vec::new(), Vec::new(), words.to_vec())
    };
    let stripped = if creates {
        without_table_key(&stripped)
    } else {
        stripped
    };
    let mut writer = Writer {
        words: &stripped,
        at: 0,
        out: String::new(),
        scope,
        limits: vec![None],
        creates,
        output: None,
    };
    writer.leading()?;
    writer.rest()?;
    let sql = writer.finish();
    Ok(Translated {
        sql,
        hints,
        assigned,
        writes: !selects && !reads_only(words),
    })
}

/// An expression, as the only column of a SELECT.
pub(super) fn scalar(words: &[Token], scope: &Scope) -> Result<Translated, SqlError> {
    let mut select = vec![Token::Word("SELECT".to_owned())];
    select.extend_from_slice(words);
    query(&select, scope)
}

/// A condition, as the only column of a SELECT: 1 or 0.
pub(super) fn condition(words: &[Token], scope: &Scope) -> Result<Translated, SqlError> {
    let mut select: Vec<Token> = ["SELECT", "CASE", "WHEN"]
        .map(|word| Token::Word(word.to_owned()))
        .to_vec();
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
        && !words.iter().any(|word| {
            ["INSERT", "UPDATE", "DELETE"]
                .iter()
                .any(|keyword| word.is(keyword))
        })
}

/// Hints for the columns of a SELECT, the variables it assigns, and its words without `@x =`.
fn select_list(words: &[Token], scope: &Scope) -> (Vec<Hint>, Vec<String>, Vec<Token>) {
    let mut start = 1;
    while words
        .get(start)
        .is_some_and(|word| word.is("DISTINCT") || word.is("ALL"))
    {
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

fn hint(item: &[Token], scope: &Scope) -> Hint {
    let named = match item {
        [.., last]
            if item.len() > 1 && last.name().is_some() && !last.is("END") && !last.is("NULL") =>
        {
            true
        }
        [single] => single.name().is_some() && !single.is("NULL"),
        _ => false,
    };
    Hint {
        sql_type: item_type(item, scope),
        unnamed: !named,
    }
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
        [.., last] if !scope.views.is_empty() => last.name().and_then(column_type),
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

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::super::lexer::tokens;
    use super::super::scope::Listed;
    use super::*;

    fn scope() -> Scope {
        let variables = HashMap::from([
            ("@p1".to_owned(), SqlType::BigInt),
            ("@name".to_owned(), SqlType::Text { max: false }),
        ]);
        let octo = Listed {
            id: 5,
            name: "Octo".to_owned(),
            state: 0,
            state_desc: "ONLINE",
            ..Listed::default()
        };
        Scope {
            database: "Octo".to_owned(),
            databases: vec![octo],
            variables,
            ..Scope::default()
        }
    }

    fn sql(text: &str) -> Result<String, SqlError> {
        query(&tokens(text)?, &scope()).map(|translated| translated.sql)
    }

    #[test]
    fn statements_in_sqlites_words() {
        for (text, expected) in [
            (
                "SELECT TOP (2) [a b], N'it''s' FROM dbo.T",
                "SELECT \"a b\" , 'it''s' FROM \"T\" LIMIT 2",
            ),
            (
                "SELECT * FROM (SELECT TOP 1 a FROM T) x",
                "SELECT * FROM ( SELECT a FROM T LIMIT 1 ) x",
            ),
            (
                "DELETE T WITH (UPDLOCK, HOLDLOCK) WHERE a = 0xAF",
                "DELETE FROM \"T\" WHERE a = x'AF'",
            ),
            (
                "INSERT Octo.dbo.T (a) OUTPUT INSERTED.Id VALUES (@P1)",
                "INSERT INTO \"T\" ( a ) VALUES ( @p1 ) RETURNING \"Id\"",
            ),
            (
                "SELECT ISNULL(a, 'x' + @name) FROM T",
                "SELECT ifnull(a , 'x' || @name) FROM T",
            ),
            (
                "SELECT CAST(a AS NVARCHAR(60)) FROM T",
                "SELECT CAST(a AS TEXT) FROM T",
            ),
            (
                "SELECT COUNT_BIG(*) FROM T WITH (NOLOCK)",
                "SELECT count(*) FROM T",
            ),
            ("TRUNCATE TABLE T", "DELETE FROM \"T\""),
            (
                "ALTER TABLE T ADD b BIT NULL",
                "ALTER TABLE \"T\" ADD COLUMN b BIT NULL",
            ),
        ] {
            assert_eq!(sql(text).as_deref(), Ok(expected), "{text}");
        }
    }

    #[test]
    fn tables_keep_their_types_and_number_their_rows() {
        let text = "CREATE TABLE [dbo].[T] ([Id] INT IDENTITY(1,1) NOT NULL, Name NVARCHAR(MAX) NULL, CONSTRAINT PK_T PRIMARY KEY CLUSTERED (Id ASC))";
        let expected = "CREATE TABLE \"T\" ( \"Id\" INTEGER PRIMARY KEY AUTOINCREMENT , Name NVARCHAR(-1) COLLATE NOCASE NULL )";
        assert_eq!(sql(text).as_deref(), Ok(expected));
    }

    #[test]
    fn what_is_sqlite_and_not_tsql_is_refused() {
        for (text, number) in [
            ("SELECT a FROM T LIMIT 1", 102),
            ("SELECT a || b FROM T", 102),
            ("SELECT a == b FROM T", 102),
            ("CREATE TABLE IF NOT EXISTS T (a INT)", 156),
            ("CREATE TRIGGER x", 102),
            ("SELECT @p2", 137),
            ("SELECT 1)", 102),
            ("SELECT * FROM other.dbo.T", 208),
            ("SELECT * FROM sys.nothing", 208),
        ] {
            assert_eq!(
                sql(text).map_err(|error| error.number),
                Err(number),
                "{text}"
            );
        }
    }

    #[test]
    fn select_lists_tell_types_names_and_assignments() {
        let translated = query(
            &tokens("SELECT @p1, CAST(a AS BIT) AS b, c, 1 + 1 FROM T").unwrap(),
            &scope(),
        )
        .unwrap();
        let types: Vec<_> = translated
            .hints
            .iter()
            .map(|hint| (hint.sql_type, hint.unnamed))
            .collect();
        assert_eq!(
            types,
            [
                (Some(SqlType::BigInt), true),
                (Some(SqlType::Bit), false),
                (None, false),
                (None, true)
            ]
        );
        let assigning = query(&tokens("SELECT @p1 = COUNT(*) FROM T").unwrap(), &scope()).unwrap();
        assert_eq!(
            (assigning.assigned, assigning.sql.as_str()),
            (vec!["@p1".to_owned()], "SELECT COUNT ( * ) FROM T")
        );
    }
}
