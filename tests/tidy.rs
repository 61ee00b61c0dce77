//! The house's order: modules import only those before them in `lib.rs`, files of a folder import
//! each other in one direction, the pure half stays pure, files say what they are for.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::path::PathBuf;

const ROOT: &str = env!("CARGO_MANIFEST_DIR");
/// The modules that must not touch the world.
const PURE: [&str; 8] = [
    "dotenv",
    "config",
    "spec",
    "export",
    "adopt",
    "kubernetes",
    "reconcile",
    "daemon/core",
];
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

/// Every file of the product with its module's path, such as `standin::sql::store`.
fn files_by_module() -> BTreeMap<Vec<String>, PathBuf> {
    let src = Path::new(ROOT).join("src");
    let path_of = |file: &PathBuf| {
        let inside = file.strip_prefix(&src).unwrap().with_extension("");
        let parts = inside
            .iter()
            .map(|part| part.to_string_lossy().into_owned());
        parts.filter(|part| part != "mod").collect()
    };
    sources(&src)
        .into_iter()
        .map(|file| (path_of(&file), file))
        .collect()
}

/// What the paths in a file's code begin with (`super::a`, `crate::x::y`), as paths from the root.
fn imports(module: &[String], code: &str) -> Vec<Vec<String>> {
    let mut found = Vec::new();
    for start in ["super::", "crate::"] {
        for (at, _) in code.match_indices(start) {
            if code[..at].ends_with("::") || code[..at].ends_with(char::is_alphanumeric) {
                continue;
            }
            let mut base = if start == "crate::" {
                Vec::new()
            } else {
                module[..module.len().saturating_sub(1)].to_vec()
            };
            let mut rest = &code[at + start.len()..];
            while let Some(further) = rest.strip_prefix("super::") {
                base.pop();
                rest = further;
            }
            expand(&base, rest, &mut found);
        }
    }
    found
}

/// Follows `a::b`, `{self, a::b, c}` from `base`.
fn expand(base: &[String], rest: &str, found: &mut Vec<Vec<String>>) {
    if let Some(inside) = rest.strip_prefix('{') {
        let (mut depth, mut item) = (0, String::new());
        for letter in inside.chars() {
            match letter {
                '{' => depth += 1,
                '}' if depth == 0 => break,
                '}' => depth -= 1,
                ',' if depth == 0 => {
                    expand(base, item.trim(), found);
                    item.clear();
                    continue;
                }
                _ => {}
            }
            item.push(letter);
        }
        return expand(base, item.trim(), found);
    }
    let end = rest
        .find(|letter: char| !letter.is_alphanumeric() && letter != '_')
        .unwrap_or(rest.len());
    let path = [base, &[rest[..end].to_owned()]].concat();
    match rest[end..].strip_prefix("::") {
        Some(further) if end > 0 => expand(&path, further, found),
        _ => found.push(path),
    }
}

/// The files and folders of each folder, and which of them imports which.
fn imports_by_folder() -> BTreeMap<Vec<String>, BTreeMap<String, BTreeSet<String>>> {
    let files = files_by_module();
    let mut folders = BTreeMap::<_, BTreeMap<_, BTreeSet<_>>>::new();
    for (module, file) in &files {
        let text = code(file).join("\n");
        for path in imports(module, &text) {
            let known = (1..=path.len()).rev().map(|end| &path[..end]);
            let Some(target) = known.into_iter().find(|path| files.contains_key(*path)) else {
                continue;
            };
            let same = module
                .iter()
                .zip(target)
                .take_while(|(a, b)| a == b)
                .count();
            if let (Some(from), Some(to)) = (module.get(same), target.get(same)) {
                let folder = folders.entry(module[..same].to_vec()).or_default();
                folder.entry(from.clone()).or_default().insert(to.clone());
            }
        }
    }
    folders
}

/// The files that reach themselves.
fn circle(imports: &BTreeMap<String, BTreeSet<String>>) -> Vec<&String> {
    let reaches_itself = |start: &&String| {
        let (mut seen, mut next) = (BTreeSet::new(), vec![*start]);
        while let Some(file) = next.pop() {
            for further in imports.get(file).into_iter().flatten() {
                if further == *start {
                    return true;
                }
                if seen.insert(further) {
                    next.push(further);
                }
            }
        }
        false
    };
    imports.keys().filter(reaches_itself).collect()
}

#[test]
fn files_of_a_folder_import_each_other_in_one_direction() {
    let folders = imports_by_folder();
    let sql = ["standin", "sql"].map(str::to_owned).to_vec();
    assert!(folders[&sql]["session"].contains("engine"), "{folders:?}");
    let mut wrong = Vec::new();
    for (folder, imports) in folders.iter().filter(|(folder, _)| !folder.is_empty()) {
        let files = circle(imports);
        if !files.is_empty() {
            wrong.push(format!("{}: {files:?}", folder.join("/")));
        }
    }
    assert!(wrong.is_empty(), "in a circle:\n{}", wrong.join("\n"));
}

#[test]
fn imports_are_read_in_every_form() {
    let module = ["a", "b"].map(str::to_owned);
    let text =
        "use super::c::{self, D};\nuse super::{e, f::G};\nsuper::super::h::i();\ncrate::j::k";
    let found: Vec<String> = imports(&module, text)
        .iter()
        .map(|path| path.join("::"))
        .collect();
    for path in ["a::c::self", "a::c::D", "a::e", "a::f::G", "h::i", "j::k"] {
        assert!(found.iter().any(|known| known == path), "{path}: {found:?}");
    }
    let edges = |pairs: &[(&str, &str)]| {
        let mut map = BTreeMap::<String, BTreeSet<String>>::new();
        for (from, to) in pairs {
            map.entry((*from).to_owned())
                .or_default()
                .insert((*to).to_owned());
        }
        map
    };
    assert!(circle(&edges(&[("a", "b"), ("b", "c"), ("a", "c")])).is_empty());
    assert_eq!(
        circle(&edges(&[("a", "b"), ("b", "c"), ("c", "b")])),
        ["b", "c"]
    );
}

/// So many fields a struct of the daemon may have: what has more is several things.
const FIELDS: usize = 15;

#[test]
fn no_struct_of_the_daemon_has_too_many_fields() {
    let (mut found, mut wrong) = (0, Vec::new());
    for file in sources(&Path::new(ROOT).join("src/daemon")) {
        let text = std::fs::read_to_string(&file).unwrap();
        for (name, body) in structs(&text) {
            found += 1;
            let is_field = |line: &&str| {
                let line = line.trim_start().trim_start_matches("pub ");
                let line = line.rsplit(") ").next().unwrap_or(line);
                let name = line.split(':').next().unwrap_or_default();
                line.contains(':') && name.chars().all(|c| c.is_alphanumeric() || c == '_')
            };
            let count = body.lines().filter(is_field).count();
            if count > FIELDS {
                wrong.push(format!("{name}: {count}"));
            }
        }
    }
    assert!(found > 30, "{found}");
    assert!(wrong.is_empty(), "too many fields: {wrong:?}");
}

/// The structs with named fields of a file: the name, and what is between the braces.
fn structs(text: &str) -> impl Iterator<Item = (&str, &str)> {
    text.match_indices("struct ").filter_map(|(at, _)| {
        let rest = &text[at + "struct ".len()..];
        let (head, body) = rest.split_once(" {\n")?;
        let is_name = head
            .chars()
            .all(|letter| letter.is_alphanumeric() || "<>'_ ".contains(letter));
        is_name.then(|| (head, body.split("\n}").next().unwrap_or_default()))
    })
}
