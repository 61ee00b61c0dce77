//! `export`: the stack as files for another tool. What they say is decided by [`crate::export`];
//! here they are written.

use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Component;
use std::path::Path;

use crate::cli::args::ExportCommand;
use crate::cli::args::ExportFlags;
use crate::cli::context::Context;
use crate::cli::daemon_client::request;
use crate::cli::daemon_client::request::Wish;
use crate::cli::exported;
use crate::cli::outcome::CONFIGURATION;
use crate::cli::outcome::Failure;
use crate::cli::outcome::Outcome;
use crate::cli::terminal::print;
use crate::cli::unfinished;
use crate::config::Config;
use crate::config::Problem;
use crate::config::Secret;
use crate::config::values::differences;
use crate::daemon::store::Data;
use crate::daemon::store::Stored;
use crate::export::File;
use crate::export::compose;
use crate::export::kubernetes;

/// The list of what an export wrote: by it a later one knows its own directory.
const WRITTEN: &str = ".octo-local-export";

/// Writes the files.
pub async fn export(context: &Context, flags: &ExportFlags) -> Outcome {
    let nodes = match &flags.command {
        ExportCommand::Kubernetes { nodes, .. } => *nodes,
        ExportCommand::Compose { .. } => None,
    };
    let wish = Wish {
        nodes,
        ..Wish::default()
    };
    let resolved = request::resolve(context, &wish).await?;
    request::tell_warnings(&resolved);
    let config = &resolved.config;
    let stored = context.applied().await.unwrap_or_default();
    must_be_this_stack(context, &stored).await?;
    tell_drift(&stored, config);
    let working_dir = context.files.directory.display().to_string();
    let no_key = Secret::default();
    let mut source = exported::source(context, config, &stored, &working_dir, &no_key);
    let data = Data::of(&source.stack());
    let key = master_key(&stored, config.octopus.master_key.as_ref(), &data)
        .map_err(|problem| Failure::problems(&[problem]))?;
    source.master_key = &key;
    match &flags.command {
        ExportCommand::Compose { out: None } => {
            show(&compose::export(&source));
            Ok(())
        }
        ExportCommand::Compose { out: Some(out) } => write(out, &compose::export(&source)),
        ExportCommand::Kubernetes { out, options, .. } => {
            let export = kubernetes::export(&source, options)
                .map_err(|problems| Failure::problems(&problems))?;
            for warning in &export.warnings {
                print::tell(format_args!("warning: {warning}"));
            }
            write(out, &export.files)?;
            let manual = out.join("HANDOVER.md");
            print::tell(format_args!("next: read {}", manual.display()));
            Ok(())
        }
    }
}

/// What is kept under this name is of this directory and no demo: else its key and its volumes would
/// be taken for another stack's.
async fn must_be_this_stack(context: &Context, stored: &Stored) -> Outcome {
    let Some(spec) = &stored.spec else {
        return Ok(());
    };
    if spec.demo {
        let line =
            "this project is a demo, whose data only stand-ins can open; use another name with -p";
        return Err(Failure::new(CONFIGURATION, line));
    }
    context.must_be_from_here().await
}

/// An edited `.env` is exported as it is, and said to be another one than what runs.
fn tell_drift(stored: &Stored, config: &Config) {
    let applied = stored.config.as_ref();
    let names = applied.map_or_else(Vec::new, |applied| differences(applied, config));
    if !names.is_empty() {
        let names = names.join(", ");
        print::tell(format_args!(
            "warning: the export is of what .env says now; what is applied has otherwise: {names}"
        ));
    }
}

/// Shows the compose file, in which no secret is.
fn show(files: &[File]) {
    let file = files.iter().find(|file| file.path == compose::FILE);
    let file = file.expect("a compose file is always among them");
    print::bytes(file.contents.expose().as_bytes());
    print::tell("its secrets are in a .env that --out DIR writes beside it");
}

/// The key of the data: the one that a node came up with on it, else the given one, else the one
/// that was made for it.
fn master_key(stored: &Stored, given: Option<&Secret>, data: &Data) -> Result<Secret, Problem> {
    let proven = stored.keys.proven_for(data).map(|known| &known.key);
    let made = stored.keys.made_for(data).map(|known| &known.key);
    let problem = |why: &str, fix: &str| Problem {
        key: "MASTER_KEY".to_owned(),
        value: None,
        why: why.to_owned(),
        fix: fix.to_owned(),
        origin: None,
    };
    match (proven, given) {
        (Some(proven), Some(given)) if proven != given => Err(problem(
            "a node came up with another one on this database, so this one cannot decrypt it",
            "set it back or leave it out: octo-local keeps the right one",
        )),
        (Some(key), _) | (None, Some(key)) => Ok(key.clone()),
        (None, None) => made.cloned().ok_or_else(|| {
            problem(
                "nothing knows the key that the database is or will be encrypted with",
                "set it; a new one is made with `openssl rand 16 | base64`, that of a running server is shown by its `show-master-key`",
            )
        }),
    }
}

/// Writes all files, each whole or not at all, and takes away what an earlier export wrote and this
/// one has not.
fn write(out: &Path, files: &[File]) -> Outcome {
    let cannot = |what: &Path, error: std::io::Error| {
        Failure::new(CONFIGURATION, format!("write {}: {error}", what.display()))
    };
    let before = earlier(out)?;
    std::fs::create_dir_all(out).map_err(|error| cannot(out, error))?;
    // First, so that a directory that was begun is known as our own.
    let paths: Vec<&str> = files.iter().map(|file| file.path.as_str()).collect();
    let known = before
        .iter()
        .map(String::as_str)
        .chain(paths.iter().copied());
    let known: std::collections::BTreeSet<&str> = known.collect();
    write_list(out, known).map_err(|error| cannot(&out.join(WRITTEN), error))?;
    for file in files {
        let path = out.join(&file.path);
        write_file(&path, file).map_err(|error| cannot(&path, error))?;
        print::line(path.display());
    }
    for path in before.iter().filter(|path| !paths.contains(&path.as_str())) {
        let path = out.join(path);
        match std::fs::remove_file(&path) {
            Ok(()) => print::tell(format_args!("removed {}", path.display())),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => return Err(cannot(&path, error)),
        }
    }
    write_list(out, paths).map_err(|error| cannot(&out.join(WRITTEN), error))
}

/// What an earlier export wrote there; nothing where there is nothing. A directory with anything
/// else in it is left alone.
fn earlier(out: &Path) -> Result<Vec<String>, Failure> {
    let is_empty = match std::fs::read_dir(out) {
        Ok(mut entries) => entries.next().is_none(),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => true,
        Err(error) => {
            let line = format!("read {}: {error}", out.display());
            return Err(Failure::new(CONFIGURATION, line));
        }
    };
    if is_empty {
        return Ok(Vec::new());
    }
    let list = std::fs::read_to_string(out.join(WRITTEN)).map_err(|_| {
        let line = format!(
            "{} is not empty and no export made it; it is left as it is: name another directory",
            out.display()
        );
        Failure::new(CONFIGURATION, line)
    })?;
    let is_inside = |path: &&str| {
        Path::new(path)
            .components()
            .all(|part| matches!(part, Component::Normal(_)))
    };
    Ok(list.lines().filter(is_inside).map(str::to_owned).collect())
}

fn write_list<'a>(out: &Path, paths: impl IntoIterator<Item = &'a str>) -> std::io::Result<()> {
    let list: String = paths.into_iter().map(|path| format!("{path}\n")).collect();
    write_file(&out.join(WRITTEN), &File::open(WRITTEN, list))
}

fn write_file(path: &Path, file: &File) -> std::io::Result<()> {
    let parent = path.parent().unwrap_or(Path::new("."));
    std::fs::create_dir_all(parent)?;
    // Made for its owner only; the name changes when everything is in it.
    let mut file_beside = unfinished::beside(path)?;
    file_beside.write_all(file.contents.expose().as_bytes())?;
    let permissions = std::fs::Permissions::from_mode(file.access.mode());
    file_beside.as_file().set_permissions(permissions)?;
    file_beside.as_file().sync_all()?;
    file_beside.persist(path)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kept(keys: &[(&str, &str)]) -> Stored {
        let mut stored = Stored::default();
        for (key, volume) in keys {
            let data = Data::Volume((*volume).to_owned());
            stored.keys.prove(&Secret::new(*key), &data);
        }
        stored
    }

    #[test]
    fn the_key_that_the_data_knows_is_exported_and_no_other() {
        let data = Data::Volume("shop_sql-data".to_owned());
        let (one, other) = (Secret::new("one"), Secret::new("other"));
        let stored = kept(&[("one", "shop_sql-data"), ("other", "another")]);
        assert_eq!(master_key(&stored, None, &data), Ok(one.clone()));
        assert_eq!(master_key(&stored, Some(&one), &data), Ok(one));
        let refused = master_key(&stored, Some(&other), &data).unwrap_err();
        assert!(refused.why.contains("another one"), "{refused}");
        let nothing = Stored::default();
        assert_eq!(master_key(&nothing, Some(&other), &data), Ok(other));
        assert!(master_key(&nothing, None, &data).is_err());
        let mut made = Stored::default();
        made.keys.set(&Secret::new("made"), true, &data);
        assert_eq!(master_key(&made, None, &data), Ok(Secret::new("made")));
    }
}
