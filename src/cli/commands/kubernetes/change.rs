//! Changes the cluster: each is one call, written onto the very thing that was looked at.

use std::time::Duration;

use serde_json::Value;
use serde_json::json;

use super::kubectl::Kubectl;
use super::kubectl::KubectlError;
use super::kubectl::Right;
use crate::export::kubernetes::cluster::OCTOPUS;
use crate::export::kubernetes::octopus::SERVER;
use crate::kubernetes::Record;
use crate::kubernetes::record::ANNOTATION;
use crate::kubernetes::refusal::Refusal;
use crate::kubernetes::seen::Pod;
use crate::kubernetes::seen::Set;

/// How long a node gets to take a word about its drain.
const DRAIN: Duration = Duration::from_secs(60);

/// What all of this needs.
pub(super) const RIGHTS: [Right; 7] = [
    right("list", "statefulsets.apps", None),
    right("get", "statefulsets.apps", None),
    right("patch", "statefulsets.apps", None),
    right("list", "pods", None),
    right("get", "pods", None),
    right("delete", "pods", None),
    right("create", "pods", Some("exec")),
];

pub(super) const fn right(
    verb: &'static str,
    resource: &'static str,
    part: Option<&'static str>,
) -> Right {
    Right {
        verb,
        resource,
        part,
    }
}

/// A change of the StatefulSet.
#[derive(Clone, Debug, Default)]
pub(super) struct Change {
    /// How many nodes are wished.
    pub(super) nodes: Option<u32>,
    /// The image.
    pub(super) image: Option<String>,
    /// What is kept of an upgrade.
    pub(super) note: Note,
}

/// What becomes of what is kept of an upgrade.
#[derive(Clone, Debug, Default)]
pub(super) enum Note {
    /// It stays.
    #[default]
    Same,
    /// This takes its place.
    Is(Box<Record>),
    /// It goes.
    Gone,
}

impl Change {
    /// Only so many nodes.
    pub(super) fn scale(nodes: u32) -> Self {
        Self {
            nodes: Some(nodes),
            ..Self::default()
        }
    }

    /// Only what is kept.
    pub(super) fn keep(record: &Record) -> Self {
        Self {
            note: Note::Is(Box::new(record.clone())),
            ..Self::default()
        }
    }

    /// The image, and what is kept with it.
    pub(super) fn image(image: &str, record: &Record) -> Self {
        Self {
            image: Some(image.to_owned()),
            ..Self::keep(record)
        }
    }

    /// Nothing is kept any more.
    pub(super) fn forget() -> Self {
        Self {
            note: Note::Gone,
            ..Self::default()
        }
    }

    /// A strategic merge patch, which is refused where the object is not the one that was looked at
    /// (kubernetes.io, API concepts: updates to existing resources).
    fn patch(&self, set: &Set) -> Value {
        let mut patch = json!({"metadata": {"resourceVersion": set.resource_version}});
        if let Some(nodes) = self.nodes {
            patch["spec"]["replicas"] = json!(nodes);
        }
        if let Some(image) = &self.image {
            let container = json!({"name": OCTOPUS, "image": image});
            patch["spec"]["template"] = json!({"spec": {"containers": [container]}});
        }
        match &self.note {
            Note::Same => {}
            Note::Is(record) => {
                patch["metadata"]["annotations"] = json!({ANNOTATION: record.to_text()});
            }
            Note::Gone => patch["metadata"]["annotations"] = json!({ANNOTATION: null}),
        }
        patch
    }

    /// Writes it.
    pub(super) async fn write(&self, kubectl: &Kubectl, set: &Set) -> Result<(), KubectlError> {
        let patch = self.patch(set).to_string();
        let what = format!("change statefulset/{}", set.name);
        let words = [
            "patch",
            "statefulset",
            &set.name,
            "--type=strategic",
            "-p",
            &patch,
            "-o",
            "name",
        ];
        kubectl.call(&words, &what).await.map(drop)
    }
}

/// Tells these very pods to end. One that is gone, or another one by now, is not touched.
pub(super) async fn end(kubectl: &Kubectl, pods: &[Pod]) -> Result<(), KubectlError> {
    for pod in pods {
        let what = format!("end pod/{}", pod.name);
        let path = format!("/api/v1/namespaces/{}/pods/{}", kubectl.namespace, pod.name);
        let options = json!({
            "apiVersion": "v1",
            "kind": "DeleteOptions",
            "preconditions": {"uid": pod.uid},
        });
        let words = ["delete", "--raw", &path, "-f", "-"];
        let ended = kubectl
            .call_with(&words, options.to_string().into_bytes(), &what)
            .await;
        match ended {
            Ok(_) => {}
            Err(KubectlError::Refused {
                refusal: Refusal::NotFound(_) | Refusal::Conflict(_),
                ..
            }) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Lets a node take tasks again.
pub(super) async fn undrain(kubectl: &Kubectl, pod: &str) -> Result<(), KubectlError> {
    let command = [SERVER, "node", "--instance=OctopusServer", "--drain=false"];
    let what = format!("let {pod} take tasks again");
    kubectl
        .exec((pod, OCTOPUS), &command, &what, DRAIN)
        .await
        .map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_is_written_onto_what_was_looked_at_and_has_nothing_else() {
        let set = Set {
            resource_version: "77".to_owned(),
            ..Set::default()
        };
        assert_eq!(
            Change::scale(0).patch(&set),
            json!({"metadata": {"resourceVersion": "77"}, "spec": {"replicas": 0}})
        );
        let change = Change {
            image: Some("o:2".to_owned()),
            note: Note::Gone,
            ..Change::default()
        };
        assert_eq!(
            change.patch(&set),
            json!({
                "metadata": {"resourceVersion": "77", "annotations": {"octo-local/upgrade": null}},
                "spec": {"template": {"spec": {"containers": [{"name": "octopus", "image": "o:2"}]}}},
            })
        );
    }

    /// A patch has the fields of the object: none that the API does not know.
    #[test]
    fn a_change_has_the_objects_own_fields() {
        let record = Record {
            form: 1,
            from: "o:1".to_owned(),
            to: "o:2".to_owned(),
            nodes: 2,
            database: None,
            stage: crate::kubernetes::Stage::Ending,
        };
        let change = Change {
            nodes: Some(2),
            ..Change::image("o:2", &record)
        };
        let mut patch = change.patch(&Set::default());
        // What a whole one needs beside it.
        patch["spec"]["serviceName"] = json!("octopus-nodes");
        patch["spec"]["selector"] = json!({});
        patch["spec"]["template"]["metadata"] = json!({});
        let mut whole = json!({"apiVersion": "apps/v1", "kind": "StatefulSet"});
        whole["metadata"] = patch["metadata"].take();
        whole["spec"] = patch["spec"].take();
        let typed: k8s_openapi::api::apps::v1::StatefulSet =
            serde_json::from_value(whole.clone()).unwrap();
        assert_eq!(serde_json::to_value(typed).unwrap(), whole);
    }
}
