//! What a field means where a file that an older octo-local wrote does not have it.
//!
//! Everything that is kept has such a default for each of its fields, so that a new field costs
//! nobody the state file. A field that is added gets here what the program did before it existed: the
//! default of its key, from the one table of those, as a test compares with what an empty `.env`
//! means now.

use std::collections::BTreeMap;

use super::AfterFailedUpgrade;
use super::Config;
use super::DatabaseConfig;
use super::OctopusConfig;
use super::Pull;
use super::Secret;
use super::SqlConfig;
use super::Timing;
use super::backup::BackupConfig;
use super::front_door::FrontDoorConfig;
use super::keys;
use super::limits::Limits;
use super::ports::PortsConfig;
use super::storage::Places;
use super::versioned;

impl Default for Config {
    fn default() -> Self {
        Self {
            demo: false,
            sql: None,
            database: DatabaseConfig::default(),
            octopus: OctopusConfig::default(),
            pull: Pull::default(),
            timing: Timing::default(),
            log_max_size: keys::default_as("LOG_MAX_SIZE"),
            log_max_files: keys::default_as("LOG_MAX_FILES"),
            backup: BackupConfig::default(),
            front_door: FrontDoorConfig::default(),
            ports: PortsConfig::default(),
            storage: Places::new(),
            tentacle_image: versioned(
                keys::TENTACLE_IMAGE,
                keys::default_of("TENTACLE_TAG").unwrap_or_default(),
            ),
        }
    }
}

impl Default for SqlConfig {
    fn default() -> Self {
        Self {
            image: String::new(),
            sa_password: Secret::default(),
            port: keys::default_as("SQL_PORT"),
            bind: keys::default_as("SQL_BIND_ADDRESS"),
            memory_limit_mb: keys::default_as("SQL_MEMORY_LIMIT_MB"),
            edition: keys::default_as("MSSQL_PID"),
            limits: Limits::default(),
            extra: BTreeMap::new(),
        }
    }
}

impl Default for DatabaseConfig {
    fn default() -> Self {
        Self {
            host: "db".to_owned(),
            port: 1433,
            user: "sa".to_owned(),
            password: Secret::default(),
            name: String::new(),
            connection_string: Secret::default(),
        }
    }
}

impl Default for OctopusConfig {
    fn default() -> Self {
        Self {
            networks: Vec::new(),
            extra_mounts: Vec::new(),
            extra_hosts: Vec::new(),
            limits: Limits::default(),
            user: None,
            image: keys::default_as("OCTOPUS_IMAGE"),
            tag: keys::default_as("OCTOPUS_SERVER_TAG"),
            nodes: keys::default_as("OCTOPUS_NODES"),
            node_name: keys::default_as("OCTOPUS_SERVER_NODE_NAME"),
            port: keys::default_as("OCTOPUS_PORT"),
            bind: keys::default_as("BIND_ADDRESS"),
            admin_username: keys::default_as("ADMIN_USERNAME"),
            admin_password: Secret::default(),
            admin_email: keys::default_as("ADMIN_EMAIL"),
            admin_api_key: None,
            licence: None,
            master_key: None,
            disable_dind: false,
            after_failed_upgrade: AfterFailedUpgrade::Ask,
            task_cap: None,
            node_task_caps: BTreeMap::new(),
            extra: BTreeMap::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Input;
    use crate::config::read;

    #[test]
    fn a_field_that_is_missing_means_what_an_empty_env_means() {
        let vars = [
            ("SA_PASSWORD", "Str0ng-enough"),
            ("ADMIN_PASSWORD", "Adm1n-enough"),
            ("ACCEPT_EULA", "Y"),
            ("ACCEPT_OCTOPUS_EULA", "Y"),
        ]
        .map(|(key, value)| (key.to_owned(), value.to_owned()));
        let mut read = read(&Input {
            vars: vars.into(),
            ..Input::default()
        })
        .unwrap()
        .config;
        // What no file of any release lacks: it has no meaning of its own.
        let sql = read.sql.as_mut().unwrap();
        (sql.image, sql.sa_password) = (String::new(), Secret::default());
        assert_eq!(read.sql.take(), Some(SqlConfig::default()));
        // What was kept before there was a front door ran without one, and goes on so until `up`.
        assert!(read.front_door.on && !FrontDoorConfig::default().on);
        read.front_door.on = false;
        read.octopus.admin_password = Secret::default();
        read.database = DatabaseConfig {
            name: String::new(),
            password: Secret::default(),
            connection_string: Secret::default(),
            ..read.database
        };
        assert_eq!(read, Config::default());
    }
}
