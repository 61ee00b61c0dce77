//! The house's order: modules import only those before them in `lib.rs`, the pure half stays pure,
//! files say what they are for.

use std::fs;
use std::path::Path;
use std::path::PathBuf;

const ROOT: &str = env!("CARGO_MANIFEST_DIR");
/// The modules that must not touch the world.
const PURE: [&str; 4] = ["dotenv", "config", "spec", "reconcile"];
/// What would touch it. `include_str!` is fine: it happens at build time.
const IMPURE: [&str; 7] = [
    "tokio",
    "std::fs",
    "std::env",
    "std::net::Tcp",
    "Instant",
    "SystemTime",
    "getrandom",
];
/// Pairs that point against the order, each with its reason.
const ALLOWED: [(&str, &str); 1] = [
    // The driver's queue carries requests, and the daemon's process serves the API: they are two
    // halves of one thing.
    ("daemon", "api"),
];

fn sources(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(sources(&path));
        } else if path.extension().is_some_and(|ending| ending == "rs") {
            found.push(path);
        }
    }
    found
}

fn modules() -> Vec<String> {
    let lib = fs::read_to_string(Path::new(ROOT).join("src/lib.rs")).unwrap();
    lib.lines()
        .filter_map(|line| {
            Some(
                line.strip_prefix("pub mod ")?
                    .trim_end_matches(';')
                    .to_owned(),
            )
        })
        .collect()
}

/// The lines of a file that are code of the product: no comments, and nothing from the tests at its
/// end.
fn code(path: &Path) -> Vec<String> {
    let text = fs::read_to_string(path).unwrap();
    let product = text.split("#[cfg(test)]").next().unwrap();
    product
        .lines()
        .filter(|line| !line.trim_start().starts_with("//"))
        .map(str::to_owned)
        .collect()
}

#[test]
fn modules_import_only_what_comes_before_them() {
    let modules = modules();
    let mut wrong = Vec::new();
    for (place, module) in modules.iter().enumerate() {
        for path in sources(&Path::new(ROOT).join("src").join(module)) {
            for line in code(&path) {
                for later in &modules[place + 1..] {
                    let allowed = ALLOWED.contains(&(module.as_str(), later.as_str()));
                    if line.contains(&format!("crate::{later}")) && !allowed {
                        wrong.push(format!("{}: {}", path.display(), line.trim()));
                    }
                }
            }
        }
    }
    assert!(modules.len() > 8, "lib.rs was read: {modules:?}");
    assert!(
        wrong.is_empty(),
        "against the reading order:\n{}",
        wrong.join("\n")
    );
}

#[test]
fn the_pure_half_touches_nothing() {
    let mut wrong = Vec::new();
    for module in PURE {
        for path in sources(&Path::new(ROOT).join("src").join(module)) {
            let lines = code(&path);
            let impure = lines
                .iter()
                .filter(|line| IMPURE.iter().any(|word| line.contains(word)));
            wrong.extend(impure.map(|line| format!("{}: {}", path.display(), line.trim())));
        }
    }
    assert!(
        wrong.is_empty(),
        "the pure half touches the world:\n{}",
        wrong.join("\n")
    );
}

#[test]
fn every_file_says_what_it_is_for() {
    let all = [
        sources(&Path::new(ROOT).join("src")),
        sources(&Path::new(ROOT).join("tests")),
    ]
    .concat();
    let silent: Vec<&PathBuf> = all
        .iter()
        .filter(|path| !fs::read_to_string(path).unwrap().starts_with("//!"))
        .collect();
    assert!(silent.is_empty(), "no opening line: {silent:?}");
}

/// How many faults the table had when it began to be counted: rows are added, never taken away.
const FAULTS: usize = 72;

/// Every test that the table of faults names exists, and its numbers have no gap.
#[test]
fn the_tables_faults_are_tried_by_tests_that_exist() {
    let table = fs::read_to_string(Path::new(ROOT).join("tests/FAULTS.md")).unwrap();
    let number = |line: &str| {
        line.strip_prefix("| ")?
            .split_once(" | ")?
            .0
            .parse::<usize>()
            .ok()
    };
    let rows = table.lines().filter_map(number).count();
    assert!(rows >= FAULTS, "{rows} rows");
    let all = [
        sources(&Path::new(ROOT).join("src")),
        sources(&Path::new(ROOT).join("tests")),
    ]
    .concat();
    let text: String = all
        .iter()
        .map(|path| fs::read_to_string(path).unwrap())
        .collect();
    let mut missing = Vec::new();
    for number in 1..=rows {
        let row = table
            .lines()
            .find(|line| line.starts_with(&format!("| {number} | ")));
        let cells: Vec<&str> = row
            .unwrap_or_else(|| panic!("fault {number} has no row"))
            .split(" | ")
            .collect();
        let named: Vec<&str> = cells[3].split('`').skip(1).step_by(2).collect();
        assert!(
            !named.is_empty() || cells[2].contains("not tried"),
            "fault {number} names no test and no reason"
        );
        missing.extend(
            named
                .into_iter()
                .filter(|name| !text.contains(&format!("fn {name}"))),
        );
    }
    assert!(missing.is_empty(), "no such tests: {missing:?}");
}
