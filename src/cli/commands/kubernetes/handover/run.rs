//! Carries a handover out, one step at a time, from wherever the last one died.

use time::OffsetDateTime;
use tokio::sync::watch;

use super::super::Pace;
use super::super::change;
use super::super::change::Change;
use super::super::files::Set;
use super::super::helper;
use super::super::here;
use super::super::here::Applied;
use super::super::kubectl::Kubectl;
use super::super::kubectl::KubectlError;
use super::super::look::Places;
use super::reach;
use crate::backup::Directory;
use crate::backup::Progress;
use crate::backup::run::Wanted;
use crate::cli::args::DownFlags;
use crate::cli::args::HandoverFlags;
use crate::cli::commands::down;
use crate::cli::commands::stop;
use crate::cli::context::Context;
use crate::cli::handed_over;
use crate::cli::outcome::FAILED;
use crate::cli::outcome::Failure;
use crate::cli::outcome::Outcome;
use crate::cli::terminal::print;
use crate::daemon::back_up;
use crate::kubernetes::Seen;
use crate::kubernetes::handover;
use crate::kubernetes::handover::Handover;
use crate::kubernetes::handover::Stage;
use crate::kubernetes::handover::Step;
use crate::kubernetes::told;

/// The directory of the set in the project's state.
const SETS: &str = "handover";

/// A run of the command.
pub(super) struct Run<'a> {
    context: &'a Context,
    kubectl: &'a Kubectl,
    places: Places,
    pace: Pace,
    kept: Handover,
    helper_image: Option<&'a String>,
}

impl<'a> Run<'a> {
    pub(super) fn new(
        context: &'a Context,
        kubectl: &'a Kubectl,
        places: Places,
        own: &'a HandoverFlags,
        kept: Handover,
    ) -> Self {
        Self {
            context,
            kubectl,
            places,
            pace: Pace::new(own.patience.wait_timeout),
            kept,
            helper_image: own.helper_image.as_ref(),
        }
    }

    pub(super) async fn go_on(mut self) -> Outcome {
        loop {
            let looked = self.look().await;
            let (seen, has_helper) = match looked {
                Ok(looked) => looked,
                Err(error) => {
                    self.pace.outlast(error).await?;
                    continue;
                }
            };
            let here = here::here(self.context).await?;
            let failing = self.pace.failing(&seen);
            let step = handover::next(&self.kept, here, &seen, has_helper, failing);
            let step =
                step.map_err(|stuck| Failure::new(FAILED, print::plain(&stuck.to_string())))?;
            self.pace.tell(told::of_handover(&step, &self.kept));
            match &step {
                Step::Finish => return self.finished(&seen).await,
                Step::Forget => return handed_over::remove(&self.context.paths.handover()),
                Step::StopNodes => stop::stop(self.context, &["octopus-server".to_owned()]).await?,
                Step::BackUp => self.back_up().await?,
                Step::TakeDown => self.take_down().await?,
                Step::BeginAgain => self.keep(self.kept.again())?,
                Step::Keep(stage) => self.stage(*stage)?,
                Step::Wait(_) => self.pace.rest().await?,
                Step::RemoveOldNodes => {
                    reach::remove_old_nodes(self.context, self.kubectl, &self.kept, &seen).await?;
                    self.stage(Stage::Alone)?;
                }
                Step::Scale(_)
                | Step::End(_)
                | Step::Restore
                | Step::Copy(_)
                | Step::RemoveHelper
                | Step::Undrain(_) => {
                    if let Err(error) = self.take(&step, &seen).await {
                        self.pace.outlast(error).await?;
                    }
                }
            }
        }
    }

    async fn look(&self) -> Result<(Seen, bool), KubectlError> {
        let seen = self.places.seen(self.kubectl).await?;
        let helper = helper::seen(self.kubectl).await?;
        Ok((seen, helper.is_some()))
    }

    fn keep(&mut self, kept: Handover) -> Outcome {
        handed_over::write(&self.context.paths.handover(), &kept)?;
        self.kept = kept;
        Ok(())
    }

    fn stage(&mut self, stage: Stage) -> Outcome {
        self.keep(Handover {
            stage,
            ..self.kept.clone()
        })
    }

    fn sets(&self) -> Directory {
        Directory::at(self.context.paths.state.join(SETS))
    }

    /// Not encrypted: it is read again here. It stays with the keys, in the project's state.
    async fn back_up(&mut self) -> Outcome {
        let applied = Applied::of(self.context).await?;
        let engine = self.context.engine().await?;
        let wanted = Wanted {
            directory: self.sets(),
            name: None,
            is_pinned: true,
            recipients: Vec::new(),
            without_secrets: false,
            now: OffsetDateTime::now_utc(),
            drained: None,
        };
        let (sender, receiver) = watch::channel(Progress::default());
        let telling = tokio::spawn(crate::cli::commands::backup::create::tell(receiver));
        let made = back_up::make(
            &engine,
            &self.context.paths,
            &applied.stored,
            &wanted,
            &sender,
        )
        .await;
        telling.abort();
        let manifest = made?.manifest;
        if !manifest.quiesced {
            let line =
                "a node ran while the set was made, so it is not of one moment; call this again";
            return Err(Failure::new(FAILED, line));
        }
        print::tell(format_args!("set {} is made and checked", manifest.name));
        self.keep(Handover {
            set: Some(manifest.name.to_string()),
            ..self.kept.clone()
        })
    }

    async fn take_down(&self) -> Outcome {
        let flags = DownFlags {
            volumes: false,
            yes: false,
            timeout: None,
            remove_orphans: false,
        };
        down::down(self.context, &flags).await
    }

    fn set(&self) -> Result<Set, KubectlError> {
        let name = self.kept.set.as_deref().unwrap_or_default();
        Set::open(self.sets(), name).map_err(|failure| KubectlError::Io {
            what: "open the set".to_owned(),
            error: std::io::Error::other(failure.lines.join("; ")),
        })
    }

    async fn take(&mut self, step: &Step, seen: &Seen) -> Result<(), KubectlError> {
        let kubectl = self.kubectl;
        match step {
            Step::Scale(nodes) => Change::scale(*nodes).write(kubectl, &seen.set).await,
            Step::End(pods) => change::end(kubectl, pods).await,
            Step::Undrain(pod) => change::undrain(kubectl, pod).await,
            Step::RemoveHelper => {
                helper::remove(kubectl).await?;
                tokio::time::sleep(super::super::FIRST_PAUSE * 5).await;
                Ok(())
            }
            Step::Restore => {
                // Without SQL Server there the database stays on the server that both use.
                if self.places.has_sql {
                    let sql = self.places.must_have_sql(kubectl).await?;
                    self.set()?
                        .database(kubectl, &sql, &self.kept.database)
                        .await?;
                }
                self.kept_or_io(Handover {
                    stage: Stage::Restored,
                    ..self.kept.clone()
                })
            }
            Step::Copy(directory) => {
                let image = self.helper_image(seen).await?;
                helper::ensure(kubectl, &seen.set.name, &image).await?;
                let files = self.set()?.directory(kubectl, directory).await?;
                self.pace.tell(Some(format!(
                    "{directory}: {files} files are there, compared"
                )));
                let mut kept = self.kept.clone();
                kept.copied.insert(directory.clone());
                self.kept_or_io(kept)
            }
            Step::StopNodes
            | Step::BackUp
            | Step::BeginAgain
            | Step::TakeDown
            | Step::Keep(_)
            | Step::RemoveOldNodes
            | Step::Wait(_)
            | Step::Finish
            | Step::Forget => Ok(()),
        }
    }

    fn kept_or_io(&mut self, kept: Handover) -> Result<(), KubectlError> {
        self.keep(kept).map_err(|failure| KubectlError::Io {
            what: "keep how far it is".to_owned(),
            error: std::io::Error::other(failure.lines.join("; ")),
        })
    }

    /// The hardened image has neither shell nor tar; SQL Server's has.
    async fn helper_image(&self, seen: &Seen) -> Result<String, KubectlError> {
        if let Some(image) = self.helper_image {
            return Ok(image.clone());
        }
        let sql = self.places.sql(self.kubectl).await?;
        Ok(match sql {
            Some(sql) if seen.set.image.ends_with("-hardened") => sql.image,
            Some(_) | None => seen.set.image.clone(),
        })
    }

    async fn finished(&self, seen: &Seen) -> Outcome {
        print::tell(format_args!(
            "handed over: {} nodes serve in the namespace {}; the data here stays, and `octo-local up` here is refused",
            self.kept.nodes, self.kept.namespace
        ));
        if let Ok(addresses) = reach::addresses(self.kubectl, &seen.set.name).await {
            told::poll_lines(&addresses).iter().for_each(print::tell);
        }
        Ok(())
    }
}
