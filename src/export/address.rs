//! A connection string that names another server, or says how the connection is encrypted.

use crate::config::Secret;
use crate::config::ado::AdoError;
use crate::config::ado::ConnectionString;
use crate::config::ado::Encrypt;

/// The same login and database on another server.
pub fn at(text: &Secret, host: &str, port: u16) -> Result<Secret, AdoError> {
    let mut read = ConnectionString::parse(text.expose())?;
    host.clone_into(&mut read.host);
    read.port = port;
    Ok(read.render())
}

/// The same with an encrypted connection, to a server whose certificate is its own: SQL Server in a
/// container signs one itself, and clients since 2022 encrypt and check by default. What the
/// connection string says by itself stays.
pub fn encrypted(text: &Secret) -> Result<Secret, AdoError> {
    let mut read = ConnectionString::parse(text.expose())?;
    read.encrypt = read.encrypt.or(Some(Encrypt::Mandatory));
    read.trust_server_certificate = read.trust_server_certificate.or(Some(true));
    Ok(read.render())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn login_and_database_stay_and_what_is_said_of_encryption_too() {
        let text = Secret::new("Data Source=db,1401;Initial Catalog=O;UID=octo;PWD='a;b'");
        let moved = at(&text, "mssql", 1433).unwrap();
        let expected = "Server=mssql,1433;Database=O;User Id=octo;Password=\"a;b\"";
        assert_eq!(moved.expose(), expected);
        let safe = encrypted(&moved).unwrap();
        let expected = format!("{expected};Encrypt=True;TrustServerCertificate=True");
        assert_eq!(safe.expose(), expected);
        let strict = "Server=mssql,1433;Database=O;User Id=octo;Password=p;Encrypt=Strict;TrustServerCertificate=False";
        assert_eq!(encrypted(&Secret::new(strict)).unwrap().expose(), strict);
        assert!(at(&Secret::new("Server=x"), "mssql", 1433).is_err());
    }
}
