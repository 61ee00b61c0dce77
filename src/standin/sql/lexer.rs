//! T-SQL text to words.

use super::error::SqlError;

/// One word of T-SQL.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Token {
    /// A keyword or a bare name, as written.
    Word(String),
    /// A name in brackets or double quotes.
    Name(String),
    /// A string, with or without `N`.
    Text(String),
    Number(String),
    /// The digits behind `0x`.
    Hex(String),
    /// `@name` or `@@name`, lower case.
    Variable(String),
    Symbol(String),
}

impl Token {
    /// Whether it is this keyword, which is given in upper case.
    pub(super) fn is(&self, keyword: &str) -> bool {
        matches!(self, Self::Word(word) if word.eq_ignore_ascii_case(keyword))
    }

    pub(super) fn is_symbol(&self, symbol: &str) -> bool {
        matches!(self, Self::Symbol(text) if text == symbol)
    }

    /// The name it is, bare or in brackets.
    pub(super) fn name(&self) -> Option<&str> {
        match self {
            Self::Word(name) | Self::Name(name) => Some(name),
            Self::Text(_)
            | Self::Number(_)
            | Self::Hex(_)
            | Self::Variable(_)
            | Self::Symbol(_) => None,
        }
    }

    /// For error messages.
    pub(super) fn shown(&self) -> &str {
        let (Self::Word(text)
        | Self::Name(text)
        | Self::Text(text)
        | Self::Number(text)
        | Self::Hex(text)
        | Self::Variable(text)
        | Self::Symbol(text)) = self;
        text
    }
}

/// The words of a batch, comments left out.
pub(super) fn tokens(text: &str) -> Result<Vec<Token>, SqlError> {
    let mut lexer = Lexer {
        chars: text.chars().collect(),
        at: 0,
    };
    let mut found = Vec::new();
    while let Some(token) = lexer.next()? {
        found.push(token);
    }
    Ok(found)
}

/// Where an item of a select list ends: at a comma or a clause outside of parentheses.
pub(super) fn item_end(words: &[Token], start: usize) -> usize {
    let mut at = start;
    while at < words.len() {
        if words[at].is_symbol("(") {
            at = closing(words, at);
        } else if words[at].is_symbol(",")
            || [
                "FROM",
                "WHERE",
                "UNION",
                "ORDER",
                "EXCEPT",
                "INTERSECT",
                "INTO",
            ]
            .iter()
            .any(|word| words[at].is(word))
        {
            break;
        }
        at += 1;
    }
    at.min(words.len())
}

/// The parenthesis that closes the one at `open`, or the last word.
pub(super) fn closing(words: &[Token], open: usize) -> usize {
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

struct Lexer {
    chars: Vec<char>,
    at: usize,
}

impl Lexer {
    fn peek(&self, ahead: usize) -> char {
        self.chars.get(self.at + ahead).copied().unwrap_or('\0')
    }

    fn next(&mut self) -> Result<Option<Token>, SqlError> {
        self.skip_blanks()?;
        if self.at >= self.chars.len() {
            return Ok(None);
        }
        let first = self.peek(0);
        let token = match first {
            'N' | 'n' if self.peek(1) == '\'' => {
                self.at += 1;
                Token::Text(self.quoted('\'')?)
            }
            '\'' => Token::Text(self.quoted('\'')?),
            '[' => Token::Name(self.quoted(']')?),
            '"' => Token::Name(self.quoted('"')?),
            '@' => Token::Variable(self.while_word().to_lowercase()),
            '0' if matches!(self.peek(1), 'x' | 'X') => {
                self.at += 2;
                Token::Hex(self.take_while(|c| c.is_ascii_hexdigit()))
            }
            _ if first.is_ascii_digit() => {
                Token::Number(self.take_while(|c| c.is_ascii_digit() || c == '.'))
            }
            _ if first.is_alphabetic() || first == '_' || first == '#' => {
                Token::Word(self.while_word())
            }
            _ => Token::Symbol(self.symbol()),
        };
        Ok(Some(token))
    }

    fn skip_blanks(&mut self) -> Result<(), SqlError> {
        loop {
            match (self.peek(0), self.peek(1)) {
                ('-', '-') => {
                    self.take_while(|c| c != '\n');
                }
                ('/', '*') => self.skip_comment()?,
                (c, _) if self.at < self.chars.len() && (c.is_whitespace() || c == '\u{feff}') => {
                    self.at += 1;
                }
                _ => return Ok(()),
            }
        }
    }

    fn skip_comment(&mut self) -> Result<(), SqlError> {
        self.at += 2;
        while self.at < self.chars.len() {
            if self.peek(0) == '*' && self.peek(1) == '/' {
                self.at += 2;
                return Ok(());
            }
            self.at += 1;
        }
        Err(SqlError::new(113, 15, "Missing end comment mark '*/'."))
    }

    fn take_while(&mut self, wanted: impl Fn(char) -> bool) -> String {
        let start = self.at;
        while self.at < self.chars.len() && wanted(self.chars[self.at]) {
            self.at += 1;
        }
        self.chars[start..self.at].iter().collect()
    }

    fn while_word(&mut self) -> String {
        self.take_while(|c| c.is_alphanumeric() || matches!(c, '_' | '@' | '#' | '$'))
    }

    fn quoted(&mut self, close: char) -> Result<String, SqlError> {
        self.at += 1;
        let mut text = String::new();
        while self.at < self.chars.len() {
            let c = self.chars[self.at];
            self.at += 1;
            if c != close {
                text.push(c);
            } else if self.peek(0) == close {
                text.push(close);
                self.at += 1;
            } else {
                return Ok(text);
            }
        }
        Err(SqlError::new(
            105,
            15,
            "Unclosed quotation mark after the character string.",
        ))
    }

    fn symbol(&mut self) -> String {
        let pair: String = [self.peek(0), self.peek(1)].iter().collect();
        let length = if ["<>", "<=", ">=", "!=", "||", "=="].contains(&pair.as_str()) {
            2
        } else {
            1
        };
        self.at += length;
        self.chars[self.at - length..self.at].iter().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_strings_names_and_comments() {
        let found = tokens("SELECT N'it''s', [a]]b] -- x\n, @P1 /* y */ <> 0xAF, 12").unwrap();
        let comma = Token::Symbol(",".into());
        let expected = [
            Token::Word("SELECT".into()),
            Token::Text("it's".into()),
            comma.clone(),
            Token::Name("a]b".into()),
            comma.clone(),
            Token::Variable("@p1".into()),
            Token::Symbol("<>".into()),
            Token::Hex("AF".into()),
            comma,
            Token::Number("12".into()),
        ];
        assert_eq!(found, expected);
        assert_eq!(tokens("'open").unwrap_err().number, 105);
    }
}
