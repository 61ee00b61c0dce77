//! An ADO.NET connection string, read as Microsoft's SqlClient reads it: all its spellings, the
//! last of two wins.
//!
//! Our own reader, because tiberius' silently falls back to localhost or an empty user for
//! spellings that SqlClient takes. No error shows a value: a connection string holds a password.

use super::Secret;

/// A connection string, taken apart.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ConnectionString {
    /// Host name or address, without protocol and port.
    pub host: String,
    /// TCP port; 1433 when none is given.
    pub port: u16,
    /// The login.
    pub user: String,
    /// Its password.
    pub password: Secret,
    /// The database; empty when none is given.
    pub database: String,
    /// What `Encrypt` says, if anything.
    pub encrypt: Option<Encrypt>,
    /// What `TrustServerCertificate` says, if anything.
    pub trust_server_certificate: Option<bool>,
    /// `Connect Timeout` in seconds, if given.
    pub connect_timeout_s: Option<u32>,
}

/// The values of `Encrypt`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encrypt {
    /// `Optional`, `False`, `No`.
    Optional,
    /// `Mandatory`, `True`, `Yes`.
    Mandatory,
    /// `Strict`: TLS before anything else.
    Strict,
}

/// Why a connection string cannot be used. Names parts by their number, or by the key that SqlClient
/// knows: whatever else stands before a `=` may be a piece of a password.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AdoError {
    /// A part has no `=`.
    #[error(
        "part {0} has no `=`; perhaps the value before it has a `;` in it and stands in no quotes"
    )]
    NoEquals(usize),
    /// A quote is not closed.
    #[error("the quoted value of {0} is not closed")]
    OpenQuote(String),
    /// Text follows a closing quote.
    #[error("text follows the closing quote of {0}")]
    AfterQuote(String),
    /// The value does not fit the key.
    #[error("the value of {0} is not {1}")]
    BadValue(String, &'static str),
    /// A key that must be there is not.
    #[error("it has no {0}")]
    Missing(&'static str),
    /// A way of logging in that containers do not have.
    #[error("{0} is Windows authentication, which a Linux container does not have")]
    Windows(String),
    /// A login that has no password.
    #[error(
        "Authentication names a login through Microsoft Entra, such as a managed identity, which is not possible: \
         octo-local watches the database with a user and a password"
    )]
    Entra,
    /// A named instance needs SQL Browser.
    #[error("the server names an instance; a container has one, on a port: `host,port`")]
    NamedInstance,
    /// A protocol other than TCP.
    #[error("the server names a protocol other than tcp")]
    Protocol,
}

/// What a key means; synonyms from SqlClient's `DbConnectionStringSynonyms`.
enum Key {
    Server,
    Database,
    User,
    Password,
    Encrypt,
    Trust,
    Timeout,
    Integrated,
    Authentication,
    Other,
}

fn key_of(name: &str) -> Key {
    let folded: String = name
        .split_whitespace()
        .collect::<Vec<_>>()
        .join(" ")
        .to_lowercase();
    match folded.as_str() {
        "server" | "data source" | "datasource" | "address" | "addr" | "network address" => {
            Key::Server
        }
        "database" | "initial catalog" => Key::Database,
        "user id" | "uid" | "user" | "user name" | "username" => Key::User,
        "password" | "pwd" => Key::Password,
        "encrypt" => Key::Encrypt,
        "trustservercertificate" | "trust server certificate" => Key::Trust,
        "connect timeout" | "connection timeout" | "timeout" | "connecttimeout" => Key::Timeout,
        "integrated security" | "trusted_connection" | "integratedsecurity" => Key::Integrated,
        "authentication" => Key::Authentication,
        _ => Key::Other,
    }
}

/// What a part is called in an error.
fn label(name: &str, number: usize) -> String {
    let known = match key_of(name) {
        Key::Server => "Server",
        Key::Database => "Database",
        Key::User => "User Id",
        Key::Password => "Password",
        Key::Encrypt => "Encrypt",
        Key::Trust => "TrustServerCertificate",
        Key::Timeout => "Connect Timeout",
        Key::Integrated => "Integrated Security",
        Key::Authentication => "Authentication",
        Key::Other => return format!("part {number}"),
    };
    known.to_owned()
}

impl ConnectionString {
    /// Reads one.
    pub fn parse(text: &str) -> Result<Self, AdoError> {
        let mut read = Self {
            port: 1433,
            ..Self::default()
        };
        let mut is_entra = false;
        for (name, value) in pairs(text)? {
            is_entra = match key_of(&name) {
                Key::Authentication => is_without_password(&value),
                _ => is_entra,
            };
            read.set(&name, &value)?;
        }
        if is_entra {
            return Err(AdoError::Entra);
        }
        if read.host.is_empty() {
            return Err(AdoError::Missing("server"));
        }
        if read.user.is_empty() {
            return Err(AdoError::Missing("user"));
        }
        Ok(read)
    }

    fn set(&mut self, name: &str, value: &str) -> Result<(), AdoError> {
        let key = key_of(name);
        let name = &label(name, 0);
        match key {
            Key::Server => (self.host, self.port) = server(name, value)?,
            Key::Database => value.clone_into(&mut self.database),
            Key::User => value.clone_into(&mut self.user),
            Key::Password => self.password = Secret::new(value),
            Key::Encrypt => self.encrypt = Some(encrypt(name, value)?),
            Key::Trust => self.trust_server_certificate = Some(boolean(name, value)?),
            Key::Timeout => {
                let bad = |_| AdoError::BadValue(name.to_owned(), "a number of seconds");
                self.connect_timeout_s = Some(value.trim().parse().map_err(bad)?);
            }
            Key::Integrated if value.eq_ignore_ascii_case("sspi") || boolean(name, value)? => {
                return Err(AdoError::Windows(name.to_owned()));
            }
            Key::Integrated | Key::Authentication | Key::Other => {}
        }
        Ok(())
    }

    /// Writes one that says the same, with the password in it.
    pub fn render(&self) -> Secret {
        let mut text = format!(
            "Server={};Database={};User Id={};Password={}",
            quote(&format!("{},{}", self.host, self.port)),
            quote(&self.database),
            quote(&self.user),
            quote(self.password.expose()),
        );
        if let Some(encrypt) = self.encrypt {
            text.push_str(match encrypt {
                Encrypt::Optional => ";Encrypt=False",
                Encrypt::Mandatory => ";Encrypt=True",
                Encrypt::Strict => ";Encrypt=Strict",
            });
        }
        if let Some(trust) = self.trust_server_certificate {
            text.push_str(if trust {
                ";TrustServerCertificate=True"
            } else {
                ";TrustServerCertificate=False"
            });
        }
        if let Some(seconds) = self.connect_timeout_s {
            text.push_str(&format!(";Connect Timeout={seconds}"));
        }
        Secret::new(text)
    }
}

/// The same string with another password, in the quotes that the one before stood in if they will do:
/// every other byte stays. None where it cannot be read.
pub fn with_password(text: &str, password: &str) -> Option<Secret> {
    let mut written = String::with_capacity(text.len());
    let mut rest = text;
    loop {
        let begin = rest.trim_start_matches(|letter: char| letter.is_whitespace() || letter == ';');
        written.push_str(&rest[..rest.len() - begin.len()]);
        if begin.is_empty() {
            return Some(Secret::new(written));
        }
        let (name, at_value) = key(begin)?;
        let (_, after) = value(&name, at_value).ok()?;
        let Key::Password = key_of(&name) else {
            written.push_str(&begin[..begin.len() - after.len()]);
            rest = after;
            continue;
        };
        written.push_str(&begin[..begin.len() - at_value.len()]);
        let first = at_value.trim_start().chars().next();
        written.push_str(&match first.filter(|first| matches!(first, '"' | '\'')) {
            Some(mark) => format!(
                "{mark}{}{mark}",
                password.replace(mark, &format!("{mark}{mark}"))
            ),
            None => quote(password),
        });
        rest = after;
    }
}

/// Quotes a value where SqlClient would otherwise read it differently.
fn quote(value: &str) -> String {
    let plain = !value.starts_with(char::is_whitespace)
        && !value.ends_with(char::is_whitespace)
        && !value.contains([';', '"', '\'', '=', '\0'])
        && !value.starts_with('{');
    if plain {
        value.to_owned()
    } else {
        format!("\"{}\"", value.replace('"', "\"\""))
    }
}

/// Whether `Authentication` names another login than user and password.
fn is_without_password(value: &str) -> bool {
    let folded: String = value.to_lowercase().split_whitespace().collect();
    !matches!(folded.as_str(), "" | "sqlpassword" | "notspecified")
}

fn boolean(name: &str, value: &str) -> Result<bool, AdoError> {
    match value.trim().to_lowercase().as_str() {
        "true" | "yes" => Ok(true),
        "false" | "no" => Ok(false),
        _ => Err(AdoError::BadValue(name.to_owned(), "True or False")),
    }
}

fn encrypt(name: &str, value: &str) -> Result<Encrypt, AdoError> {
    match value.trim().to_lowercase().as_str() {
        "true" | "yes" | "mandatory" => Ok(Encrypt::Mandatory),
        "false" | "no" | "optional" => Ok(Encrypt::Optional),
        "strict" => Ok(Encrypt::Strict),
        _ => Err(AdoError::BadValue(
            name.to_owned(),
            "Mandatory, Optional or Strict",
        )),
    }
}

fn server(name: &str, value: &str) -> Result<(String, u16), AdoError> {
    let value = value.trim();
    let lower = value.to_lowercase();
    let rest = if lower.starts_with("tcp:") {
        &value[4..]
    } else {
        value
    };
    if ["np:", "lpc:", "admin:"]
        .iter()
        .any(|protocol| lower.starts_with(protocol))
        || rest.starts_with("\\\\")
    {
        return Err(AdoError::Protocol);
    }
    let (host, port) = match rest.rsplit_once(',') {
        Some((host, port)) => {
            let bad =
                |_| AdoError::BadValue(name.to_owned(), "`host,port` with a port from 1 to 65535");
            (
                host,
                port.trim()
                    .parse::<std::num::NonZeroU16>()
                    .map_err(bad)?
                    .get(),
            )
        }
        None => (rest, 1433),
    };
    if host.contains('\\') {
        return Err(AdoError::NamedInstance);
    }
    let host = match host.trim() {
        "." | "(local)" => "localhost",
        host => host,
    };
    Ok((host.to_owned(), port))
}

/// Splits `key=value;…`. A doubled `=` belongs to the key, a doubled quote inside quotes is one, as
/// ADO.NET has it.
fn pairs(text: &str) -> Result<Vec<(String, String)>, AdoError> {
    let mut pairs = Vec::new();
    let mut rest = text;
    loop {
        rest = rest.trim_start_matches(|letter: char| letter.is_whitespace() || letter == ';');
        if rest.is_empty() {
            return Ok(pairs);
        }
        let (key, after) = key(rest).ok_or(AdoError::NoEquals(pairs.len() + 1))?;
        let (value, after) = value(&label(&key, pairs.len() + 1), after)?;
        pairs.push((key, value));
        rest = after;
    }
}

fn key(text: &str) -> Option<(String, &str)> {
    let mut key = String::new();
    let mut letters = text.char_indices().peekable();
    while let Some((at, letter)) = letters.next() {
        match letter {
            '=' if letters.peek().is_some_and(|(_, next)| *next == '=') => {
                letters.next();
                key.push('=');
            }
            '=' => return Some((key.trim().to_owned(), &text[at + 1..])),
            ';' => return None,
            _ => key.push(letter),
        }
    }
    None
}

fn value<'a>(key: &str, text: &'a str) -> Result<(String, &'a str), AdoError> {
    let text = text.trim_start();
    let Some(quote) = text
        .chars()
        .next()
        .filter(|first| matches!(first, '"' | '\''))
    else {
        let end = text.find(';').unwrap_or(text.len());
        return Ok((text[..end].trim_end().to_owned(), &text[end..]));
    };
    let mut value = String::new();
    let mut letters = text.char_indices().skip(1).peekable();
    while let Some((at, letter)) = letters.next() {
        if letter != quote {
            value.push(letter);
        } else if letters.peek().is_some_and(|(_, next)| *next == quote) {
            letters.next();
            value.push(quote);
        } else {
            let after = text[at + 1..].trim_start();
            let ends = after.is_empty() || after.starts_with(';');
            return if ends {
                Ok((value, after))
            } else {
                Err(AdoError::AfterQuote(key.to_owned()))
            };
        }
    }
    Err(AdoError::OpenQuote(key.to_owned()))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parse(text: &str) -> ConnectionString {
        ConnectionString::parse(text).unwrap()
    }

    #[test]
    fn all_spellings_of_sqlclient_are_read() {
        for server in [
            "Server",
            "Data Source",
            "ADDRESS",
            "Addr",
            "Network Address",
        ] {
            for user in ["User", "User Id", "UID", "User Name", "User  ID"] {
                for password in ["Password", "PWD"] {
                    let read = parse(&format!(
                        "{server}=db , 1499;{user}=sa;{password}=p=w;Initial Catalog=O"
                    ));
                    assert_eq!(
                        (read.host.as_str(), read.port, read.user.as_str()),
                        ("db", 1499, "sa")
                    );
                    assert_eq!(
                        (read.password.expose(), read.database.as_str()),
                        ("p=w", "O")
                    );
                }
            }
        }
    }

    #[test]
    fn the_articles_strings_are_read() {
        let read = parse("Server=mssql,1433;Database=Octopus;User Id=SA;Password=Password01!");
        assert_eq!(
            (
                read.host.as_str(),
                read.user.as_str(),
                read.password.expose()
            ),
            ("mssql", "SA", "Password01!")
        );
        let read = parse(
            "Server=TCP:db;User=sa;Password='a;b''c';Trust Server Certificate=yes;Connect Timeout=300;;",
        );
        assert_eq!(
            (read.host.as_str(), read.port, read.password.expose()),
            ("db", 1433, "a;b'c")
        );
        assert_eq!(
            (read.trust_server_certificate, read.connect_timeout_s),
            (Some(true), Some(300))
        );
    }

    #[test]
    fn another_password_changes_nothing_else() {
        for (before, password, after) in [
            (
                "Server=db;User Id=sa;Password=old;Database=O",
                "new",
                "Server=db;User Id=sa;Password=new;Database=O",
            ),
            (
                " Server = db ; pwd = 'o;ld' ;UID=sa;;",
                "n'ew",
                " Server = db ; pwd ='n''ew';UID=sa;;",
            ),
            (
                "PWD=a;Password=\"b\";User=sa;Server=db",
                "c",
                "PWD=c;Password=\"c\";User=sa;Server=db",
            ),
            (
                "Server=db;Password=;User=sa",
                "a;b",
                "Server=db;Password=\"a;b\";User=sa",
            ),
        ] {
            let changed = with_password(before, password).unwrap();
            assert_eq!(changed.expose(), after);
            let meant = ConnectionString {
                password: Secret::new(password),
                ..parse(before)
            };
            assert_eq!(parse(changed.expose()), meant);
        }
        assert_eq!(with_password("Server", "x"), None);
    }

    #[test]
    fn the_last_of_two_wins() {
        assert_eq!(
            parse("Server=a;Data Source=b;User=x;UID=y;Pwd=1;Password=2").host,
            "b"
        );
        assert_eq!(parse("Server=a;User=x;UID=y;Pwd=1;Password=2").user, "y");
    }

    #[test]
    fn what_cannot_work_is_said_without_values() {
        let secret = "S3cr3tMarker";
        for text in [
            format!("Server=db;Password={secret}"),
            format!("Server=db;User=sa;Password='{secret}"),
            format!("Server=db;User=sa;Password='{secret}'x"),
            format!("Server=db;{secret}"),
            format!("Server=db,{secret};User=sa"),
            format!("Server=db\\{secret};User=sa"),
            format!("Server=db;User=sa;Encrypt={secret}"),
            format!("Server=db;User=sa;Password=a;{secret}='b"),
            format!("Server=db;User=sa;Password=a;{secret}='b'c"),
            format!("Server=db;Integrated Security={secret}"),
            "Server=db;Authentication=Active Directory Managed Identity".to_owned(),
            "Server=db;Integrated Security=SSPI".to_owned(),
            "Server=np:db;User=sa".to_owned(),
        ] {
            let error = ConnectionString::parse(&text).unwrap_err();
            assert!(!error.to_string().contains(secret), "{error}");
        }
    }

    proptest! {
        #[test]
        fn rendering_and_reading_agree(password in "\\PC{0,20}", database in "[a-zA-Z0-9 ;=']{0,12}", user in "[a-z]{1,8}") {
            let string = ConnectionString {
                host: "db".into(), port: 1433, user, password: Secret::new(password), database,
                ..ConnectionString::default()
            };
            prop_assert_eq!(ConnectionString::parse(string.render().expose()), Ok(string));
        }

        #[test]
        fn nothing_panics(text in "\\PC{0,60}") {
            let _ = ConnectionString::parse(&text);
        }
    }
}
