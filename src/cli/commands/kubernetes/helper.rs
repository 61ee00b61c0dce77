//! The pod through which files get into the nodes' claim: the nodes' own volumes, user and rights,
//! and a shell that waits.

use std::time::Duration;

use serde_json::Value;
use serde_json::json;

use super::kubectl::Kubectl;
use super::kubectl::KubectlError;
use super::look::unreadable;
use crate::export::kubernetes::cluster::OCTOPUS;
use crate::kubernetes::handover::DIRECTORIES;
use crate::kubernetes::nodes;
use crate::kubernetes::refusal::Refusal;
use crate::kubernetes::seen::Life;
use crate::kubernetes::seen::Pod;
use crate::kubernetes::told;

/// Its name.
pub(super) const NAME: &str = "octo-local-handover";
/// Its container has the name that pods are looked at by.
pub(super) const CONTAINER: &str = OCTOPUS;
/// So long it lives when nobody takes it away: a day of copying.
const LIFE_S: u32 = 86_400;
/// What is taken over of the nodes' template, so that the claim, the registry and the machines are
/// the same.
const SAME: [&str; 4] = [
    "securityContext",
    "imagePullSecrets",
    "nodeSelector",
    "tolerations",
];
/// How long it gets to start: an image may be pulled, a volume attached.
const START: Duration = Duration::from_secs(600);
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// The pod as it is made. `template`: the `spec` of the nodes' pods.
pub(super) fn pod(template: &Value, image: &str) -> Value {
    let own = template["containers"].as_array().into_iter().flatten();
    let own = own
        .into_iter()
        .find(|container| container["name"] == OCTOPUS);
    let mounts: Vec<&Value> = own
        .and_then(|container| container["volumeMounts"].as_array())
        .into_iter()
        .flatten()
        .filter(|mount| DIRECTORIES.iter().any(|path| mount["mountPath"] == *path))
        .collect();
    let is_used = |volume: &&Value| mounts.iter().any(|mount| mount["name"] == volume["name"]);
    let volumes = template["volumes"].as_array().into_iter().flatten();
    let volumes: Vec<&Value> = volumes.filter(is_used).collect();
    // What Docker-in-Docker needs, files do not.
    let security = own.map(|container| container["securityContext"].clone());
    let security = security.filter(|security| security["privileged"] != true);
    let security = security.filter(Value::is_object);
    let wait = format!("trap 'exit 0' TERM; sleep {LIFE_S} & wait");
    let container = json!({
        "name": CONTAINER,
        "image": image,
        "imagePullPolicy": "IfNotPresent",
        "command": ["/bin/bash", "-c", wait],
        "securityContext": security.unwrap_or_else(|| json!({"allowPrivilegeEscalation": false})),
        "volumeMounts": mounts,
        "resources": {"requests": {"cpu": "50m", "memory": "64Mi"}, "limits": {"memory": "512Mi"}},
    });
    let mut spec = json!({
        "restartPolicy": "Never",
        "activeDeadlineSeconds": LIFE_S,
        "terminationGracePeriodSeconds": 5,
        "automountServiceAccountToken": false,
        "enableServiceLinks": false,
        "containers": [container],
        "volumes": volumes,
    });
    for key in SAME {
        if !template[key].is_null() {
            spec[key] = template[key].clone();
        }
    }
    json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": NAME,
            // Not the nodes' own labels: no Service sends visitors here.
            "labels": {
                "app.kubernetes.io/name": NAME,
                "app.kubernetes.io/part-of": "octopus-deploy",
                "app.kubernetes.io/managed-by": "octo-local",
            },
        },
        "spec": spec,
    })
}

/// The pod, if it is there.
pub(super) async fn seen(kubectl: &Kubectl) -> Result<Option<Pod>, KubectlError> {
    let what = format!("look for pod/{NAME}");
    let field = format!("metadata.name={NAME}");
    let words = ["get", "pods", "--field-selector", &field, "-o", "json"];
    let said = kubectl.call(&words, &what).await?;
    let pods = Pod::parse_list(&said).map_err(|error| unreadable(&what, error))?;
    Ok(pods.into_iter().find(|pod| pod.name == NAME))
}

/// Makes it where it is not there, and waits until it runs.
pub(super) async fn ensure(kubectl: &Kubectl, set: &str, image: &str) -> Result<(), KubectlError> {
    let what = format!("make pod/{NAME}");
    let began = tokio::time::Instant::now();
    loop {
        match seen(kubectl).await? {
            None => {
                let said = kubectl
                    .call(&["get", "statefulset", set, "-o", "json"], &what)
                    .await?;
                let found: Value =
                    serde_json::from_slice(&said).map_err(|error| unreadable(&what, error))?;
                let made = pod(&found["spec"]["template"]["spec"], image).to_string();
                let words = ["create", "-f", "-", "-o", "name"];
                kubectl.call_with(&words, made.into_bytes(), &what).await?;
            }
            Some(pod) if pod.is_ready && !pod.is_ending => return Ok(()),
            // An image without a shell, or one whose time was over: it goes, so that the next call
            // begins anew.
            Some(pod) if matches!(pod.life, Life::Ended(_)) && !pod.is_ending => {
                remove(kubectl).await?;
                let why = format!(
                    "{}; its image needs bash, tar and sha256sum: name another one with --helper-image",
                    told::of_life(&pod.life)
                );
                return Err(refused(what, why));
            }
            Some(pod) => {
                if let Some(why) = nodes::fault(&pod, began.elapsed()) {
                    return Err(refused(what, why));
                }
                if began.elapsed() > START {
                    return Err(refused(what, told::of_life(&pod.life)));
                }
            }
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

fn refused(what: String, why: String) -> KubectlError {
    KubectlError::Refused {
        what,
        refusal: Refusal::Other(why),
    }
}

/// Tells it to end.
pub(super) async fn remove(kubectl: &Kubectl) -> Result<(), KubectlError> {
    let words = ["delete", "pod", NAME, "--ignore-not-found", "--wait=false"];
    kubectl
        .call(&words, &format!("end pod/{NAME}"))
        .await
        .map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pod_has_the_nodes_files_user_and_rights_and_nothing_else_of_them() {
        let template = json!({
            "securityContext": {"runAsUser": 999, "fsGroup": 999},
            "containers": [{
                "name": OCTOPUS,
                "securityContext": {"allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}},
                "env": [{"name": "MASTER_KEY", "value": "never"}],
                "volumeMounts": [
                    {"name": "shared", "mountPath": "/repository", "subPath": "repository"},
                    {"name": "cache", "mountPath": "/cache"},
                ],
            }],
            "volumes": [
                {"name": "shared", "persistentVolumeClaim": {"claimName": "octopus-shared"}},
                {"name": "cache", "emptyDir": {}},
            ],
        });
        let made = pod(&template, "image:1");
        assert_eq!(made["spec"]["securityContext"], template["securityContext"]);
        let container = &made["spec"]["containers"][0];
        assert_eq!(
            container["securityContext"]["capabilities"]["drop"][0],
            "ALL"
        );
        assert_eq!(container["volumeMounts"].as_array().unwrap().len(), 1);
        assert_eq!(made["spec"]["volumes"].as_array().unwrap().len(), 1);
        assert!(!made.to_string().contains("never"), "{made}");
        // No field that the API does not know, and none in another form.
        let typed: k8s_openapi::api::core::v1::Pod = serde_json::from_value(made.clone()).unwrap();
        assert_eq!(serde_json::to_value(typed).unwrap(), made);
        let mut privileged = template;
        privileged["containers"][0]["securityContext"] = json!({"privileged": true});
        let made = pod(&privileged, "image:1");
        assert!(!made.to_string().contains("privileged"), "{made}");
    }
}
