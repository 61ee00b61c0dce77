//! The functions and catalogue views of T-SQL that SQLite spells otherwise.

use super::error::SqlError;
use super::lexer::{Token, closing, item_end};
use super::statement::no_type;
use super::tokens::PRODUCT_VERSION;
use super::types::SqlType;
use super::views::databases;
use super::writer::Writer;

const NOW: &str = "strftime('%Y-%m-%d %H:%M:%f0000','now')";

impl Writer<'_> {
    pub(super) fn catalogue(&self, name: &[String]) -> Result<String, SqlError> {
        let user_tables =
            "FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite!_%' ESCAPE '!')";
        Ok(match name.join(".").as_str() {
            "sys.databases" => databases(&self.scope.databases),
            "sys.tables" | "sys.objects" => {
                format!(
                    "(SELECT name, rowid AS object_id, 'U' AS type, 1 AS schema_id {user_tables}"
                )
            }
            "information_schema.tables" => {
                let columns =
                    "'dbo' AS TABLE_SCHEMA, name AS TABLE_NAME, 'BASE TABLE' AS TABLE_TYPE";
                format!(
                    "(SELECT '{}' AS TABLE_CATALOG, {columns} {user_tables}",
                    self.scope.database.replace('\'', "''")
                )
            }
            other => {
                let view = self.scope.views.get(other).cloned();
                return view.ok_or_else(|| SqlError::no_object(other));
            }
        })
    }

    /// A function that SQLite spells otherwise. `false` leaves the word as it is.
    pub(super) fn function(&mut self, name: &str) -> Result<bool, SqlError> {
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
                format!("(CASE lower({wanted}) WHEN 'productversion' THEN '{PRODUCT_VERSION}' WHEN 'edition' THEN '{}' WHEN 'engineedition' THEN {} WHEN 'productmajorversion' THEN '16' WHEN 'machinename' THEN 'octo-local-standin' WHEN 'isclustered' THEN 0 WHEN 'instancedefaultdatapath' THEN '/var/opt/mssql/data/' WHEN 'instancedefaultlogpath' THEN '/var/opt/mssql/data/' WHEN 'instancedefaultbackuppath' THEN '/var/opt/mssql/data' WHEN 'productlevel' THEN 'RTM' WHEN 'servername' THEN 'octo-local-standin' WHEN 'collation' THEN 'SQL_Latin1_General_CP1_CI_AS' END)", self.scope.edition, self.scope.engine_edition)
            }
            "HAS_PERMS_BY_NAME" => i32::from(self.scope.sysadmin).to_string(),
            "IS_SRVROLEMEMBER" => {
                let role = self.nested(&inside[..item_end(inside, 0)])?;
                let member = i32::from(self.scope.sysadmin);
                format!("(CASE lower({role}) WHEN 'sysadmin' THEN {member} WHEN 'public' THEN 1 WHEN 'dbcreator' THEN 0 WHEN 'serveradmin' THEN 0 WHEN 'securityadmin' THEN 0 END)")
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
            let at = inside
                .iter()
                .rposition(|word| word.is("AS"))
                .ok_or_else(|| SqlError::syntax(")"))?;
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
}
