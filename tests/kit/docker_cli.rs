//! What a person does to containers and networks with the docker command, behind the product's
//! back.

use bollard::models::ContainerUpdateBody;
use bollard::models::ExecConfig;
use bollard::models::NetworkDisconnectRequest;
use bollard::models::RestartPolicy;
use bollard::models::RestartPolicyNameEnum;
use bollard::query_parameters as query;
use futures_util::StreamExt as _;

use super::docker::Witness;

impl Witness {
    /// `docker stop`.
    pub(crate) fn stop(&self, name: &str) {
        self.wait(self.docker().stop_container(name, None)).unwrap();
    }

    /// `docker start`.
    pub(crate) fn start(&self, name: &str) {
        self.wait(self.docker().start_container(name, None))
            .unwrap();
    }

    /// `docker pause`.
    pub(crate) fn pause(&self, name: &str) {
        self.wait(self.docker().pause_container(name)).unwrap();
    }

    /// `docker unpause`.
    pub(crate) fn unpause(&self, name: &str) {
        self.wait(self.docker().unpause_container(name)).unwrap();
    }

    /// `docker rename`.
    pub(crate) fn rename(&self, name: &str, to: &str) {
        let options = query::RenameContainerOptionsBuilder::default()
            .name(to)
            .build();
        self.wait(self.docker().rename_container(name, options))
            .unwrap();
    }

    /// `docker update --restart always`.
    pub(crate) fn restart_always(&self, name: &str) {
        let policy = RestartPolicy {
            name: Some(RestartPolicyNameEnum::ALWAYS),
            maximum_retry_count: None,
        };
        let body = ContainerUpdateBody {
            restart_policy: Some(policy),
            ..ContainerUpdateBody::default()
        };
        self.wait(self.docker().update_container(name, body))
            .unwrap();
    }

    /// `docker network disconnect -f`.
    pub(crate) fn disconnect(&self, network: &str, name: &str) {
        let request = NetworkDisconnectRequest {
            container: name.to_owned(),
            force: Some(true),
        };
        self.wait(self.docker().disconnect_network(network, request))
            .unwrap();
    }

    /// `docker network rm`.
    pub(crate) fn remove_network(&self, network: &str) {
        self.wait(self.docker().remove_network(network)).unwrap();
    }

    /// `docker exec`, to its end: the exit code and what it wrote.
    pub(crate) fn exec(&self, name: &str, words: &[&str]) -> (i64, String) {
        let config = ExecConfig {
            cmd: Some(words.iter().map(|word| (*word).to_owned()).collect()),
            attach_stdout: Some(true),
            attach_stderr: Some(true),
            ..ExecConfig::default()
        };
        self.wait(async {
            let id = self.docker().create_exec(name, config).await.unwrap().id;
            let mut written = String::new();
            if let bollard::exec::StartExecResults::Attached { mut output, .. } =
                self.docker().start_exec(&id, None).await.unwrap()
            {
                while let Some(Ok(piece)) = output.next().await {
                    written.push_str(&String::from_utf8_lossy(piece.as_ref()));
                }
            }
            (
                self.docker()
                    .inspect_exec(&id)
                    .await
                    .unwrap()
                    .exit_code
                    .unwrap_or(-1),
                written,
            )
        })
    }

    /// How many commands run in a container beside its process.
    pub(crate) fn commands(&self, name: &str) -> usize {
        let container = self.inspect(name).expect("the container is there");
        let runs = |id: &String| {
            let shown = self.wait(self.docker().inspect_exec(id));
            shown.is_ok_and(|shown| shown.running == Some(true))
        };
        let ids = container.exec_ids.unwrap_or_default();
        ids.iter().filter(|id| runs(id)).count()
    }

    /// `docker logs -t`: each line with its time in nanoseconds since 1970, from the last start on;
    /// none without a container.
    pub(crate) fn log(&self, name: &str) -> Vec<(i64, String)> {
        let Some(container) = self.inspect(name) else {
            return Vec::new();
        };
        let began = nanos(&container.state.unwrap().started_at.unwrap());
        let options = query::LogsOptionsBuilder::default()
            .stdout(true)
            .stderr(true)
            .timestamps(true)
            .build();
        let pieces: Vec<String> = self.wait(
            self.docker()
                .logs(name, Some(options))
                .filter_map(|piece| async {
                    Some(String::from_utf8_lossy(piece.ok()?.as_ref()).into_owned())
                })
                .collect(),
        );
        let lines = pieces.iter().flat_map(|piece| piece.lines());
        let timed = lines
            .filter_map(|line| line.split_once(' '))
            .map(|(at, line)| (nanos(at), line.to_owned()));
        timed.filter(|(at, _)| *at >= began).collect()
    }

    /// When a container first logged these words in its last run, in nanoseconds since 1970.
    pub(crate) fn said_at(&self, name: &str, words: &str) -> Option<i64> {
        self.log(name)
            .into_iter()
            .find(|(_, line)| line.contains(words))
            .map(|(at, _)| at)
    }
}

/// A time as the engine writes it, in nanoseconds since 1970; 0 where it is none, or that of a
/// container never started.
fn nanos(text: &str) -> i64 {
    let format = &time::format_description::well_known::Rfc3339;
    let time = time::OffsetDateTime::parse(text, format)
        .map_or(0, time::OffsetDateTime::unix_timestamp_nanos);
    i64::try_from(time).unwrap_or(0)
}
