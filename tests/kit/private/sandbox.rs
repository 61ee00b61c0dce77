//! What a private engine lives in: a directory, a network namespace and a control group. Whatever
//! it leaves behind however it ends (processes, mounts, control groups, sockets) is found through
//! these three and taken away.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;

use rustix::process::Pid;
use rustix::process::Signal;

use crate::kit::process::wait_until;

/// How the directories' names begin; the process that made one follows.
const PREFIX: &str = "octo-engine-";
/// Where control groups are: one tree, or one for each controller.
const CGROUPS: &str = "/sys/fs/cgroup";
/// The programs that would tidy up behind the others, and must be gone before.
const ENGINE: [&str; 2] = ["dockerd", "containerd"];

/// One of them. Dropping it takes it away.
pub(super) struct Sandbox {
    dir: PathBuf,
}

impl Sandbox {
    /// Makes one, after taking away those whose tests were killed.
    pub(super) fn begin() -> Self {
        abandoned().for_each(|dir| drop(Self { dir }));
        let prefix = format!("{PREFIX}{}-", std::process::id());
        let sandbox = Self {
            dir: tempfile::Builder::new()
                .prefix(&prefix)
                .tempdir()
                .unwrap()
                .keep(),
        };
        sandbox.restart();
        sandbox
    }

    /// Makes its network anew: loopback, and nothing else.
    pub(super) fn restart(&self) {
        fs::write(self.netns(), "").unwrap();
        let share = format!("--net={}", self.netns().display());
        run(Command::new("unshare").args([&share, "ip", "link", "set", "lo", "up"]));
    }

    /// The directory.
    pub(super) fn dir(&self) -> &Path {
        &self.dir
    }

    /// The file that holds the network namespace.
    pub(super) fn netns(&self) -> PathBuf {
        self.dir.join("net")
    }

    /// Its name, which is the control group's too.
    pub(super) fn name(&self) -> &str {
        self.dir.file_name().unwrap().to_str().unwrap()
    }

    /// Ends whatever runs in it, and takes away mounts, control groups and sockets. The directory
    /// stays.
    pub(super) fn end(&self) {
        wait_until("the engine ended", || {
            self.kill(|name| ENGINE.contains(&name))
        });
        let sockets = self.shims();
        wait_until("everything ended", || self.kill(|_| true));
        for socket in sockets {
            let _ = fs::remove_file(socket);
        }
        self.unmount();
        self.cgroups().into_iter().for_each(remove_groups);
    }

    /// Kills what has such a name; some when nothing has.
    fn kill(&self, which: impl Fn(&str) -> bool) -> Option<()> {
        let mut none = Some(());
        for pid in self.processes() {
            let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
            if which(name.trim()) {
                none = None;
                let _ = rustix::process::kill_process(Pid::from_raw(pid).unwrap(), Signal::KILL);
            }
        }
        none
    }

    /// What runs in the network namespace, and in the containers. A zombie is neither.
    fn processes(&self) -> Vec<i32> {
        let mut found: Vec<i32> = self
            .cgroups()
            .iter()
            .flat_map(|group| members(group))
            .collect();
        let place = |path: &Path| fs::metadata(path).ok().map(|file| (file.dev(), file.ino()));
        let ours = place(&self.netns());
        let all = fs::read_dir("/proc")
            .unwrap()
            .flatten()
            .filter_map(|entry| entry.file_name().to_str()?.parse().ok());
        found.extend(all.filter(|pid: &i32| {
            ours.is_some() && place(Path::new(&format!("/proc/{pid}/ns/net"))) == ours
        }));
        found
    }

    /// Sockets that containerd's shims leave outside the directory when they are killed.
    pub(super) fn shims(&self) -> Vec<PathBuf> {
        let tasks = self
            .dir
            .join("exec/containerd/daemon/io.containerd.runtime.v2.task/moby");
        let addresses = fs::read_dir(tasks)
            .into_iter()
            .flatten()
            .flatten()
            .map(|task| task.path().join("address"));
        let socket = |address: PathBuf| {
            Some(
                fs::read_to_string(address)
                    .ok()?
                    .strip_prefix("unix://")?
                    .trim()
                    .into(),
            )
        };
        addresses.filter_map(socket).collect()
    }

    /// Unmounts everything in the directory, the newest first.
    fn unmount(&self) {
        let mounts = fs::read_to_string("/proc/self/mounts").unwrap();
        let points = mounts
            .lines()
            .rev()
            .filter_map(|line| line.split(' ').nth(1));
        for point in points.filter(|point| Path::new(point).starts_with(&self.dir)) {
            // One that is gone by itself is as good.
            let _ = Command::new("umount").args(["--lazy", point]).output();
        }
    }

    fn cgroups(&self) -> Vec<PathBuf> {
        let trees = fs::read_dir(CGROUPS)
            .into_iter()
            .flatten()
            .flatten()
            .map(|tree| tree.path());
        let groups = trees
            .chain([CGROUPS.into()])
            .map(|tree| tree.join(self.name()));
        groups.filter(|group| group.is_dir()).collect()
    }
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        self.end();
        let _ = fs::remove_dir_all(&self.dir);
    }
}

/// The directories of test processes that are gone.
fn abandoned() -> impl Iterator<Item = PathBuf> {
    let is_abandoned = |path: &PathBuf| {
        let name = path
            .file_name()
            .and_then(|name| name.to_str()?.strip_prefix(PREFIX));
        let owner = name
            .and_then(|name| name.split_once('-'))
            .map(|(pid, _)| Path::new("/proc").join(pid));
        owner.is_some_and(|owner| !owner.exists())
    };
    fs::read_dir(std::env::temp_dir())
        .unwrap()
        .flatten()
        .map(|entry| entry.path())
        .filter(is_abandoned)
}

/// The processes of a control group and of those below it.
fn members(group: &Path) -> Vec<i32> {
    let own = fs::read_to_string(group.join("cgroup.procs")).unwrap_or_default();
    let below = below(group).into_iter().flat_map(|group| members(&group));
    own.lines()
        .filter_map(|line| line.parse().ok())
        .chain(below)
        .collect()
}

/// A control group is removed as a directory without its files, once nothing is below it.
fn remove_groups(group: PathBuf) {
    below(&group).into_iter().for_each(remove_groups);
    let _ = fs::remove_dir(group);
}

fn below(group: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(group)
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path());
    entries.filter(|path| path.is_dir()).collect()
}

fn run(command: &mut Command) {
    let output = command.output().unwrap();
    assert!(
        output.status.success(),
        "{command:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
}
