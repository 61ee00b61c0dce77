//! Too few file descriptors: the daemon says nothing about units that it cannot ask.

use rustix::process::Resource;
use rustix::process::Rlimit;
use rustix::process::Signal;
use rustix::process::prlimit;

use super::attended;
use crate::kit::process::wait_until;

#[test]
fn f70_without_free_file_descriptors_nothing_is_restarted_and_it_recovers() {
    let (stack, daemon) = attended("no-files", 2);
    let before = stack.started();
    let pid = stack.daemon();
    let kept = rustix::process::getrlimit(Resource::Nofile);
    prlimit(
        pid,
        Resource::Nofile,
        Rlimit {
            current: Some(4),
            ..kept
        },
    )
    .unwrap();
    // As long as a hung node would need to be found out.
    std::thread::sleep(std::time::Duration::from_secs(16));
    prlimit(pid, Resource::Nofile, kept).unwrap();
    wait_until("it answers again", || {
        (stack.run(&["status"]).code == 0).then_some(())
    });
    stack.wait_for("ready");
    assert_eq!(stack.started(), before);
    assert_eq!(stack.daemon(), pid);
    daemon.signal(Signal::QUIT);
    stack.end(daemon).ok();
}
