//! `master-key show|verify`: the key that the database is encrypted with, and whether it is the one.
//! Octopus Server has no command that holds a key against data; it does not come up with a wrong one,
//! so a node that serves proves the key that it has.

use serde::Serialize;

use crate::cli::args::Format;
use crate::cli::args::MasterKeyCommand;
use crate::cli::commands::backup::create;
use crate::cli::context::Context;
use crate::cli::daemon_client::fetch_status;
use crate::cli::known;
use crate::cli::node_key;
use crate::cli::outcome::FAILED;
use crate::cli::outcome::Failure;
use crate::cli::outcome::Outcome;
use crate::cli::outcome::interruptible;
use crate::cli::terminal::print;
use crate::config::Secret;
use crate::daemon::bring_back;
use crate::daemon::store::Data;
use crate::daemon::store::Stored;
use crate::reconcile::status::PhaseWord;
use crate::spec::StackSpec;
use crate::spec::UnitId;

/// The form of what machines read.
const SCHEMA: u32 = 1;

/// Runs one of them.
pub async fn master_key(context: &Context, command: &MasterKeyCommand) -> Outcome {
    let stored = context.applied().await.unwrap_or_default();
    let Some(key) = stored.master_key().filter(|key| !key.is_empty()) else {
        let line = format!(
            "no master key is kept of {}: `octo-local up` makes one, or takes the one in .env",
            context.project
        );
        let mut failure = Failure::new(FAILED, line);
        failure.lines.extend(known::others(context));
        return Err(failure);
    };
    match command {
        MasterKeyCommand::Show { format } => {
            show(context, &stored, key, *format);
            Ok(())
        }
        MasterKeyCommand::Verify { format } => {
            interruptible("", Box::pin(verify(context, &stored, key, *format))).await
        }
    }
}

fn show(context: &Context, stored: &Stored, key: &Secret, format: Format) {
    let current = stored.keys.current.as_ref();
    let data = current.and_then(|current| current.data.as_ref());
    match format {
        Format::Json => print::json(&serde_json::json!({
            "schema": SCHEMA,
            "project": context.project.as_str(),
            "master_key": key.expose(),
            "made_here": current.is_some_and(|current| current.generated),
            "data": data.map(ToString::to_string),
        })),
        Format::Table => {
            let of = data.map(|data| format!(" ({data})")).unwrap_or_default();
            print::tell(format_args!(
                "the master key of {}'s database{of}: without it its backups are useless, with it they can be read",
                context.project
            ));
            print::line(key.expose());
        }
    }
}

/// What a node that serves told of its key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
enum Told {
    /// It is the one that is kept.
    Same,
    /// It is another one.
    Another,
    /// It did not tell.
    Nothing,
}

/// What shows that the key fits the data.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
enum Proof {
    /// A node serves with it now.
    Serves,
    /// A node came up with it on this data before.
    Kept,
}

/// Why nothing does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum NoProof {
    /// A node serves with another one.
    AnotherServes,
    /// A node came up with another one on this data before.
    AnotherKept,
    /// No node came up on this data, as far as is known.
    Unknown,
}

/// Whether the key fits, by what the nodes that serve told, and by what is kept: whether a node came
/// up with it on this data, or with another one.
fn judge(told: impl IntoIterator<Item = Told>, kept: Option<bool>) -> Result<Proof, NoProof> {
    let told: Vec<Told> = told.into_iter().collect();
    if told.contains(&Told::Another) {
        Err(NoProof::AnotherServes)
    } else if told.contains(&Told::Same) {
        Ok(Proof::Serves)
    } else {
        match kept {
            Some(true) => Ok(Proof::Kept),
            Some(false) => Err(NoProof::AnotherKept),
            None => Err(NoProof::Unknown),
        }
    }
}

#[derive(Serialize)]
struct Verified {
    schema: u32,
    project: String,
    fits: bool,
    proof: Option<Proof>,
    nodes: Vec<Node>,
}

#[derive(Serialize)]
struct Node {
    unit: UnitId,
    told: Told,
}

async fn verify(context: &Context, stored: &Stored, key: &Secret, format: Format) -> Outcome {
    let spec = stored.spec.as_ref();
    let data = spec.map(Data::of);
    let kept = data.as_ref().and_then(|data| stored.keys.proven_for(data));
    let nodes = match spec {
        Some(spec) => ask(context, stored, spec, key).await,
        None => Vec::new(),
    };
    let judged = judge(
        nodes.iter().map(|node| node.told),
        kept.map(|known| known.key == *key),
    );
    let serving = nodes.iter().filter(|node| node.told != Told::Nothing);
    let names = serving
        .map(|node| node.unit.to_string())
        .collect::<Vec<_>>();
    let verified = Verified {
        schema: SCHEMA,
        project: context.project.to_string(),
        fits: judged.is_ok(),
        proof: judged.ok(),
        nodes,
    };
    match format {
        Format::Json => print::json(&verified),
        Format::Table => {}
    }
    let on = data.map(|data| data.to_string()).unwrap_or_default();
    match judged {
        Ok(Proof::Serves) => print::tell(format_args!(
            "the master key fits the data on {on}: it is that of {}, which came up with it",
            names.join(", ")
        )),
        Ok(Proof::Kept) => print::tell(format_args!(
            "the master key fits the data on {on}: a node came up with it there before; none serves now that could be asked"
        )),
        Err(why) => return Err(Failure::new(FAILED, words(why, &on))),
    }
    Ok(())
}

fn words(why: NoProof, on: &str) -> String {
    match why {
        NoProof::AnotherServes => format!(
            "a node serves on {on} with another master key than the one that is kept: ask it for its own \
             (`Octopus.Server show-master-key`), and do not rely on backups made since"
        ),
        NoProof::AnotherKept => format!(
            "the master key that is kept is not the one of {on}: a node came up with another one there, which is kept too; \
             `octo-local up` without MASTER_KEY in .env uses it"
        ),
        NoProof::Unknown => format!(
            "nothing shows whether the master key fits the data{}: no node came up with it yet; bring the stack up and ask again",
            if on.is_empty() {
                String::new()
            } else {
                format!(" on {on}")
            }
        ),
    }
}

/// What the nodes that serve tell of their key. An engine or a daemon that does not answer tells of
/// none.
async fn ask(context: &Context, stored: &Stored, spec: &StackSpec, key: &Secret) -> Vec<Node> {
    let Ok(engine) = create::engine(context, stored).await else {
        return Vec::new();
    };
    let status = fetch_status::fetch(context).await;
    let observed = bring_back::observe(&engine, spec).await;
    let (Ok(status), Ok(observed)) = (status, observed) else {
        return Vec::new();
    };
    let mut nodes = Vec::new();
    for unit in status.units.iter().filter(|unit| serves(unit.phase)) {
        let container = observed.container(unit.unit);
        let Some(container) = container.filter(|_| unit.unit.is_server()) else {
            continue;
        };
        let told = match node_key::of(&engine, &container.id).await {
            Ok(Some(told)) if told == *key => Told::Same,
            Ok(Some(_)) => Told::Another,
            Ok(None) | Err(_) => Told::Nothing,
        };
        nodes.push(Node {
            unit: unit.unit,
            told,
        });
    }
    nodes
}

/// Whether a unit came up, so that its key is the right one.
fn serves(phase: PhaseWord) -> bool {
    match phase {
        PhaseWord::Ready | PhaseWord::Draining | PhaseWord::Drained => true,
        PhaseWord::Absent
        | PhaseWord::Created
        | PhaseWord::Starting
        | PhaseWord::Unready
        | PhaseWord::Paused
        | PhaseWord::Dead
        | PhaseWord::Stopping
        | PhaseWord::BackingOff
        | PhaseWord::CrashLoop
        | PhaseWord::Failed
        | PhaseWord::Running
        | PhaseWord::Stopped => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_that_serves_counts_before_what_is_kept() {
        use Told::Another;
        use Told::Nothing;
        use Told::Same;
        for (told, kept, judged) in [
            (vec![Same], None, Ok(Proof::Serves)),
            (vec![Nothing, Same], Some(false), Ok(Proof::Serves)),
            (vec![Same, Another], Some(true), Err(NoProof::AnotherServes)),
            (vec![Nothing], Some(true), Ok(Proof::Kept)),
            (vec![], Some(true), Ok(Proof::Kept)),
            (vec![], Some(false), Err(NoProof::AnotherKept)),
            (vec![Nothing], None, Err(NoProof::Unknown)),
        ] {
            assert_eq!(judge(told.clone(), kept), judged, "{told:?} {kept:?}");
        }
    }
}
