//! What kubectl says is understood, and what it does not say in time is not waited for.

use std::os::unix::fs::PermissionsExt as _;

use futures_util::stream;

use super::*;

/// A kubectl that does this.
fn kubectl(script: &str) -> (tempfile::TempDir, Kubectl) {
    let dir = tempfile::tempdir().unwrap();
    let program = dir.path().join("kubectl");
    std::fs::write(&program, format!("#!/bin/bash\n{script}\n")).unwrap();
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
    let kubectl = Kubectl {
        program,
        context: Some("mine".to_owned()),
        namespace: "octo".to_owned(),
    };
    (dir, kubectl)
}

const SHORT: Duration = Duration::from_millis(300);

#[tokio::test]
async fn one_that_hangs_is_given_up_and_may_be_tried_again() {
    let (dir, kubectl) = kubectl("echo $$ >\"${0%/*}/pid\"; exec sleep 1000");
    let error = kubectl
        .run(&["get", "pods"], "look", SHORT)
        .await
        .unwrap_err();
    assert!(
        matches!(error, KubectlError::TimedOut { .. }) && error.passes(),
        "{error}"
    );
    must_be_gone(&dir).await;
}

/// Its process ended.
async fn must_be_gone(dir: &tempfile::TempDir) {
    let pid = std::fs::read_to_string(dir.path().join("pid")).unwrap();
    let process = format!("/proc/{}", pid.trim());
    for _ in 0..200 {
        if !Path::new(&process).exists() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("it still runs");
}

#[tokio::test]
async fn a_stream_that_nobody_reads_ends_in_time_and_a_broken_one_is_no_success() {
    let (dir, deaf) = kubectl("echo $$ >\"${0%/*}/pid\"; exec sleep 1000");
    let endless = stream::repeat_with(|| Ok(Bytes::from(vec![0; 65_536])));
    let error = deaf
        .exec_with(("p", "c"), &["cat"], endless, "copy", SHORT)
        .await
        .unwrap_err();
    assert!(matches!(error, KubectlError::TimedOut { .. }), "{error}");
    must_be_gone(&dir).await;
    let (_dir, reading) = kubectl("cat >/dev/null");
    let broken = stream::iter([Ok(Bytes::from("a")), Err(std::io::Error::other("damaged"))]);
    let error = reading
        .exec_with(("p", "c"), &["cat"], broken, "copy", SHORT)
        .await
        .unwrap_err();
    assert!(error.to_string().contains("damaged"), "{error}");
}

#[tokio::test]
async fn context_and_namespace_go_with_every_call_and_input_is_no_argument() {
    let (_dir, kubectl) = kubectl("echo \"$*\"; cat");
    let said = kubectl
        .call_with(&["create", "-f", "-"], b"a secret".to_vec(), "make")
        .await;
    let said = String::from_utf8(said.unwrap()).unwrap();
    assert_eq!(
        said,
        "--context=mine --namespace=octo --request-timeout=20s create -f -\na secret"
    );
    let (_dir, refusing) = self::kubectl(
        "echo 'Msg 3201, Cannot open'; echo 'command terminated with exit code 1' >&2; exit 1",
    );
    let error = refusing
        .exec(("p", "c"), &["sql"], "back up", SHORT)
        .await
        .unwrap_err();
    assert!(
        error.to_string().contains("Msg 3201") && !error.passes(),
        "{error}"
    );
}
