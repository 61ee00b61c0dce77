//! Column types and identity columns of CREATE TABLE.

use super::error::SqlError;
use super::lexer::{Token, closing};
use super::statement::no_type;
use super::types::SqlType;
use super::writer::Writer;

impl Writer<'_> {
    /// The type of a column behind its name in CREATE TABLE, with what SQLite wants to hear about
    /// it.
    pub(super) fn column_type(&mut self) -> Result<bool, SqlError> {
        let behind_name = self
            .at
            .checked_sub(1)
            .and_then(|before| self.words.get(before))
            .is_some_and(|before| before.name().is_some());
        let Some(Token::Word(word)) = self.peek(0) else {
            return Ok(false);
        };
        let keyword = [
            "PRIMARY",
            "NOT",
            "NULL",
            "DEFAULT",
            "UNIQUE",
            "CONSTRAINT",
            "REFERENCES",
            "KEY",
            "CHECK",
            "FOREIGN",
        ];
        let Some(sql_type) = SqlType::declared(word).filter(|_| behind_name) else {
            let second = self
                .at
                .checked_sub(2)
                .and_then(|before| self.words.get(before));
            let fresh = second.is_some_and(|before| before.is_symbol(",") || before.is_symbol("("))
                && self.limits.len() == 2;
            let first_word = self
                .at
                .checked_sub(1)
                .and_then(|before| self.words.get(before));
            let constraint =
                first_word.is_some_and(|before| keyword.iter().any(|known| before.is(known)));
            if behind_name
                && fresh
                && !constraint
                && !keyword.iter().any(|known| word.eq_ignore_ascii_case(known))
            {
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

    /// An identity column becomes the primary key that SQLite numbers; the words that say so again
    /// are dropped.
    ///
    /// SQLite keeps no other type for such a column than the one that says INT here.
    fn identity(&mut self, sql_type: SqlType) -> Result<(), SqlError> {
        if sql_type != SqlType::Int {
            return Err(SqlError::new(
                2749,
                16,
                "The stand-in knows IDENTITY for columns of type INT only.",
            ));
        }
        self.at += 1;
        if self.peek(0).is_some_and(|next| next.is_symbol("(")) {
            self.at = closing(self.words, self.at) + 1;
        }
        while let Some(word) = self.peek(0) {
            match word {
                word if word.is_symbol(",") || word.is_symbol(")") => break,
                word if ["NOT", "NULL", "PRIMARY", "KEY", "CLUSTERED"]
                    .iter()
                    .any(|known| word.is(known)) =>
                {
                    self.at += 1;
                }
                word if word.is("CONSTRAINT") => self.at += 2,
                word => return Err(SqlError::syntax(word.shown())),
            }
        }
        self.push("INTEGER PRIMARY KEY AUTOINCREMENT");
        Ok(())
    }
}

/// The words without the table constraint that names the identity column as the primary key again:
/// SQLite has it already.
pub(super) fn without_table_key(words: &[Token]) -> Vec<Token> {
    let column = words
        .iter()
        .position(|word| word.is("IDENTITY"))
        .and_then(|at| {
            let start = words[..at]
                .iter()
                .rposition(|word| word.is_symbol(",") || word.is_symbol("("))?;
            Some(words[start + 1].shown().to_lowercase())
        });
    let Some(column) = column else {
        return words.to_vec();
    };
    let mut kept = words.to_vec();
    for at in 0..words.len() {
        let start = if words[at].is("CONSTRAINT") {
            at + 2
        } else {
            at
        };
        let key = words.get(start).is_some_and(|word| word.is("PRIMARY"));
        if at == 0 || !words[at - 1].is_symbol(",") || !key {
            continue;
        }
        let Some(open) = words[start..]
            .iter()
            .position(|word| word.is_symbol("("))
            .map(|offset| start + offset)
        else {
            continue;
        };
        let close = closing(words, open);
        let names: Vec<&Token> = words[open + 1..close]
            .iter()
            .filter(|word| !word.is("ASC"))
            .collect();
        if names.len() == 1 && names[0].shown().to_lowercase() == column {
            kept.drain(at - 1..=close);
            return kept;
        }
    }
    kept
}
