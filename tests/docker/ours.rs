//! What carries our label and is not ours; and who may look after a project on an engine.

use std::collections::HashMap;
use std::time::Duration;

use bollard::models::ContainerCreateBody;
use bollard::models::VolumeCreateRequest;
use bollard::query_parameters::CreateContainerOptionsBuilder;
use octo_local::config::project::ProjectName;
use octo_local::engine::Endpoint;
use octo_local::engine::Engine;
use octo_local::engine::lease::NoLease;
use octo_local::engine::lease::Owner;

use super::running;
use crate::fake::FakeEngine;
use crate::fake::Nodes;
use crate::kit::docker::machine;
use crate::kit::images::Images;
use crate::kit::images::TAGS;

/// A container made of an image that somebody made of one of ours inherits its labels.
#[test]
fn what_only_carries_our_label_is_left_alone_even_by_down_volumes() {
    let stack = running("label-alone", 1);
    let labels: HashMap<String, String> = [
        ("octo-local.project", stack.name.as_str()),
        ("octo-local.unit", "octopus-server-1"),
        ("com.docker.compose.volume", "sql-data"),
    ]
    .map(|(key, value)| (key.to_owned(), value.to_owned()))
    .into();
    let (docker, name) = (stack.witness.docker(), format!("{}-copy", stack.name));
    let volume = VolumeCreateRequest {
        name: Some(name.clone()),
        labels: Some(labels.clone()),
        ..VolumeCreateRequest::default()
    };
    stack.witness.wait(docker.create_volume(volume)).unwrap();
    let options = CreateContainerOptionsBuilder::default().name(&name).build();
    let body = ContainerCreateBody {
        image: Some(format!("{}:{}", Images::octopus(), TAGS[0])),
        labels: Some(labels),
        ..ContainerCreateBody::default()
    };
    let call = docker.create_container(Some(options), body);
    stack.witness.wait(call).unwrap();
    stack.run(&["plan"]).with(0);
    stack.run(&["down", "--volumes", "--yes"]).ok();
    assert_eq!(stack.witness.containers(&stack.label()), [name.as_str()]);
    assert_eq!(stack.witness.volumes(&stack.label()), [name.as_str()]);
}

/// A process of another host, as far as anybody can tell.
fn stranger(me: &Owner) -> Owner {
    Owner {
        host: "another".to_owned(),
        host_name: "elsewhere".to_owned(),
        ..me.clone()
    }
}

async fn one_lease_for_two(url: &str, project: &ProjectName) {
    let engine = Engine::connect(Endpoint::at(url)).await.unwrap();
    let me = Owner::this_process().await;
    let other = stranger(&me);
    let (mine, theirs) = tokio::join!(
        engine.take_lease(project, &me),
        engine.take_lease(project, &other)
    );
    let (mut held, winner, loser) = match (mine, theirs) {
        (Ok(held), Err(NoLease::Held { by })) if by == me => (held, &me, &other),
        (Err(NoLease::Held { by }), Ok(held)) if by == other => (held, &other, &me),
        outcome => panic!("one has it, and the other is told who: {outcome:?}"),
    };
    for _ in 0..3 {
        engine.renew(&mut held).await.unwrap();
        let refused = engine.take_lease(project, loser).await;
        assert!(matches!(refused, Err(NoLease::Held { by }) if by == *winner));
    }
    assert_eq!(engine.take_lease(project, winner).await.unwrap(), held);
    engine.release(project, winner).await.unwrap();
    // A process of this host that is dead keeps nobody waiting: its number is another's now.
    let dead = Owner {
        started: me.started + 1,
        ..me.clone()
    };
    let mut left = engine.take_lease(project, &dead).await.unwrap();
    engine.take_lease(project, &me).await.unwrap();
    assert!(matches!(
        engine.renew(&mut left).await,
        Err(NoLease::Held { by }) if by == me
    ));
    engine.release(project, &me).await.unwrap();
    engine.take_lease(project, &other).await.unwrap();
    engine.release(project, &other).await.unwrap();
}

fn within_time(work: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime
        .block_on(async { tokio::time::timeout(Duration::from_secs(120), work).await })
        .expect("no engine takes this long");
}

#[test]
fn two_daemons_on_one_engine_have_one_lease() {
    let name = format!("octo-test-lease-{}", std::process::id());
    let project = octo_local::config::project::normalise(&name).unwrap();
    within_time(one_lease_for_two(&machine(), &project));
}

#[test]
fn two_daemons_on_a_fake_engine_have_one_lease() {
    let dir = tempfile::tempdir().unwrap();
    let engine = FakeEngine::new(dir.path(), Nodes::Inside);
    let project = octo_local::config::project::normalise("lease").unwrap();
    let url = engine.url();
    within_time(one_lease_for_two(&url, &project));
    assert!(engine.world().volumes.is_empty(), "nothing of it is left");
}
