//! Privileged containers where this machine's own capabilities are not complete: a runtime that
//! asks for no more than there is.
//!
//! The engine gives a privileged container every capability that the kernel knows. Where one is
//! missing from the bounding set, as in many sandboxes, runc then answers `unable to apply caps`.
//! Leaving out just what is missing is enough.

use std::fs;

/// The kernel's capabilities by number (linux/capability.h).
const NAMES: [&str; 41] = [
    "CHOWN",
    "DAC_OVERRIDE",
    "DAC_READ_SEARCH",
    "FOWNER",
    "FSETID",
    "KILL",
    "SETGID",
    "SETUID",
    "SETPCAP",
    "LINUX_IMMUTABLE",
    "NET_BIND_SERVICE",
    "NET_BROADCAST",
    "NET_ADMIN",
    "NET_RAW",
    "IPC_LOCK",
    "IPC_OWNER",
    "SYS_MODULE",
    "SYS_RAWIO",
    "SYS_CHROOT",
    "SYS_PTRACE",
    "SYS_PACCT",
    "SYS_ADMIN",
    "SYS_BOOT",
    "SYS_NICE",
    "SYS_RESOURCE",
    "SYS_TIME",
    "SYS_TTY_CONFIG",
    "MKNOD",
    "LEASE",
    "AUDIT_WRITE",
    "AUDIT_CONTROL",
    "SETFCAP",
    "MAC_OVERRIDE",
    "MAC_ADMIN",
    "SYSLOG",
    "WAKE_ALARM",
    "BLOCK_SUSPEND",
    "AUDIT_READ",
    "PERFMON",
    "BPF",
    "CHECKPOINT_RESTORE",
];

/// The capabilities that the kernel knows and this process could never have.
pub(super) fn missing() -> Vec<&'static str> {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let last = fs::read_to_string("/proc/sys/kernel/cap_last_cap").unwrap();
    absent(&status, last.trim().parse().unwrap())
}

fn absent(status: &str, last: usize) -> Vec<&'static str> {
    let hex = status
        .lines()
        .find_map(|line| line.strip_prefix("CapBnd:"))
        .unwrap()
        .trim();
    let bounding = u64::from_str_radix(hex, 16).unwrap();
    NAMES
        .into_iter()
        .enumerate()
        .take(last + 1)
        .filter(|(bit, _)| bounding >> bit & 1 == 0)
        .map(|(_, name)| name)
        .collect()
}

/// A script in runc's place that takes these capabilities out of what `create` and `exec` are
/// given, and is runc otherwise.
pub(super) fn runtime(missing: &[&str]) -> String {
    let edits: String = missing
        .iter()
        .map(|name| format!(r#" -e 's/"CAP_{name}",//g; s/,"CAP_{name}"//g; s/"CAP_{name}"//g'"#))
        .collect();
    if edits.is_empty() {
        return "#!/bin/sh\nexec runc \"$@\"\n".to_owned();
    }
    format!(
        r#"#!/bin/sh
before= file=
for word; do
  case $before in
    --bundle) file=$word/config.json ;;
    --process) file=$word ;;
  esac
  before=$word
done
[ -z "$file" ] || sed -i{edits} "$file" || exit
exec runc "$@"
"#
    )
}

#[test]
fn what_is_missing_is_named_and_only_that_is_taken_out() {
    let status = "CapEff:\t0\nCapBnd:\t000001fffeffffff\n";
    assert_eq!(absent(status, 40), ["SYS_RESOURCE"]);
    assert_eq!(
        absent("CapBnd:\t000001ffffffffff\n", 40),
        Vec::<&str>::new()
    );
    assert_eq!(
        absent("CapBnd:\t0000007fffffffff\n", 40),
        ["BPF", "CHECKPOINT_RESTORE"]
    );
    assert!(!runtime(&[]).contains("sed"));
}

#[test]
fn the_runtime_edits_what_create_and_exec_are_given() {
    use std::os::unix::fs::PermissionsExt as _;
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    let script = runtime(&["SYS_RESOURCE", "BPF"]).replace("exec runc", "exec echo");
    fs::write(at("runtime"), script).unwrap();
    fs::set_permissions(at("runtime"), fs::Permissions::from_mode(0o755)).unwrap();
    let given = r#"{"bounding":["CAP_SYS_RESOURCE","CAP_KILL","CAP_BPF"],"ambient":["CAP_BPF"]}"#;
    for (name, words) in [
        ("config.json", ["create", "--bundle", "."]),
        ("process", ["exec", "--process", "process"]),
    ] {
        fs::write(at(name), given).unwrap();
        let said = std::process::Command::new(at("runtime"))
            .args(words)
            .current_dir(dir.path())
            .output()
            .unwrap();
        assert_eq!(
            String::from_utf8(said.stdout).unwrap().trim(),
            words.join(" "),
            "runc is given the same words"
        );
        assert_eq!(
            fs::read_to_string(at(name)).unwrap(),
            r#"{"bounding":["CAP_KILL"],"ambient":[]}"#
        );
    }
}
