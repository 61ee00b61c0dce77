//! The master key of a node that is not octo-local's: by the vendor's command where the node runs,
//! else from the file that its installer keeps it in.

use super::drain::INSTANCE;
use super::drain::PROGRAMS;
use crate::config::Secret;

/// Where the installer of the Linux image keeps its settings, by whom the node runs as
/// (OctopusDeploy/octopus-helm, `statefulset.yaml`; octopus.com/docs, Octopus in Kubernetes).
pub const FILES: [&str; 2] = [
    "/root/.octopus/OctopusServer/Server/Server.linux.config",
    "/home/octopus/.octopus/OctopusServer/Server/Server.linux.config",
];
/// What stands before the key in such a file, and after it.
const BEFORE: &str = "key=\"Octopus.Storage.MasterKey\"";

/// The commands that show it, the usual one first (octopus.com/docs, `show-master-key`).
pub fn commands() -> Vec<Vec<String>> {
    let of = |program: &&[&str]| {
        let program = program.iter().map(|word| (*word).to_owned());
        let rest = [
            "show-master-key".to_owned(),
            format!("--instance={INSTANCE}"),
            "--format=json".to_owned(),
        ];
        program.chain(rest).collect()
    };
    PROGRAMS.iter().map(of).collect()
}

/// The key in what the command said, among whatever else.
pub fn in_answer(said: &str) -> Option<Secret> {
    let (start, end) = (said.find('{')?, said.rfind('}')?);
    let value: serde_json::Value = serde_json::from_str(said.get(start..=end)?).ok()?;
    let key = value.get("MasterKey")?.as_str()?.trim();
    (!key.is_empty()).then(|| Secret::new(key))
}

/// The key in the text of a file of settings.
pub fn in_file(text: &str) -> Option<Secret> {
    let (_, rest) = text.split_once(BEFORE)?;
    let (_, rest) = rest.split_once('>')?;
    let (key, _) = rest.split_once('<')?;
    let key = key.trim();
    (!key.is_empty()).then(|| Secret::new(key))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_key_is_found_in_the_commands_answer_and_in_the_file() {
        let key = Some(Secret::new("MDEyMzQ1Njc4OWFiY2RlZg=="));
        for said in [
            "{\"MasterKey\":\"MDEyMzQ1Njc4OWFiY2RlZg==\"}",
            "Octopus Server version 2026.2\n{\n  \"MasterKey\": \"MDEyMzQ1Njc4OWFiY2RlZg==\"\n}\n",
        ] {
            assert_eq!(in_answer(said), key, "{said}");
        }
        for said in ["", "{}", "no such command", "}{", "{\"MasterKey\":\"\"}"] {
            assert_eq!(in_answer(said), None, "{said}");
        }
        let file = "<octopus-settings>\n  <set key=\"Octopus.Home\">/x</set>\n  <set \
                    key=\"Octopus.Storage.MasterKey\">MDEyMzQ1Njc4OWFiY2RlZg==</set>\n</octopus-settings>";
        assert_eq!(in_file(file), key);
        assert_eq!(in_file("<set key=\"Octopus.Home\">/x</set>"), None);
    }
}
