//! `docs/clouds.md` tells for every rule of the stand-ins which tests break it. The tables are made from the code: the rules from the rule
//! books, the tests by looking for a rule's id within them. A rule that no test names fails here, and so does a table that is out of
//! date; `ONYX_WRITE_DOCS=1 cargo test --test clouds rule_table` writes it anew.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use onyx::bench::clouds::policy::{self, Rule};

/// What encloses the tables in the document.
const BEGIN: &str = "<!-- rules: written by tests/clouds/rule_table.rs -->\n";
const END: &str = "<!-- end of rules -->\n";

fn sources(directory: &Path, into: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, into);
        } else if path.extension().is_some_and(|e| e == "rs") && !path.ends_with("rule_table.rs") {
            into.push(path);
        }
    }
}

/// The quoted ids within test functions, as (id, "file: function").
fn mentions(file: &str, text: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let mut attribute = false;
    // The function and the indentation at which it ends.
    let mut inside: Option<(String, usize)> = None;
    for line in text.lines() {
        let indent = line.len() - line.trim_start().len();
        let code = line.trim_start();
        if let Some((name, at)) = &inside {
            for (i, quoted) in line.split('"').enumerate() {
                if i % 2 == 1 && quoted.contains('/') {
                    found.push((quoted.to_owned(), format!("`{file}` {name}")));
                }
            }
            if code.starts_with('}') && indent == *at {
                inside = None;
            }
        } else if code.starts_with("#[test]") || code.starts_with("#[tokio::test") {
            attribute = true;
        } else if attribute && (code.starts_with("fn ") || code.starts_with("async fn ")) {
            attribute = false;
            let name = code.split("fn ").nth(1).unwrap().split('(').next().unwrap();
            inside = Some((name.to_owned(), indent));
        }
    }
    found
}

fn tables(books: &[(&str, &[&Rule])], tests: &BTreeMap<String, Vec<String>>, untested: &mut Vec<String>) -> String {
    let mut text = String::new();
    for (title, rules) in books {
        let _ = write!(
            text,
            "\n### {title}\n\n| rule | what is demanded | source | test |\n|---|---|---|---|\n"
        );
        for rule in *rules {
            let shown = match tests.get(rule.id) {
                Some(list) => list.join("<br>"),
                None => {
                    untested.push(rule.id.to_owned());
                    String::new()
                }
            };
            let cell = |t: &str| t.replace('|', "\\|");
            let _ = writeln!(
                text,
                "| `{}` | {} | {} | {shown} |",
                rule.id,
                cell(rule.says),
                cell(rule.source)
            );
        }
    }
    text.push('\n');
    text
}

#[test]
fn every_rule_has_a_test_and_the_document_says_which() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files = Vec::new();
    sources(&root.join("src/bench"), &mut files);
    sources(&root.join("tests"), &mut files);
    files.sort();
    let mut tests: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for path in files {
        let name = path.strip_prefix(root).unwrap().display().to_string();
        for (id, test) in mentions(&name, &std::fs::read_to_string(&path).unwrap()) {
            let list = tests.entry(id).or_default();
            if !list.contains(&test) {
                list.push(test);
            }
        }
    }
    let mut untested = Vec::new();
    let made = tables(&policy::rule_books(), &tests, &mut untested);
    assert!(untested.is_empty(), "no test names these rules: {untested:?}");
    let path = root.join("docs/clouds.md");
    let document = std::fs::read_to_string(&path).unwrap();
    let (before, rest) = document.split_once(BEGIN).unwrap();
    let (written, after) = rest.split_once(END).unwrap();
    if std::env::var_os("ONYX_WRITE_DOCS").is_some() {
        std::fs::write(&path, format!("{before}{BEGIN}{made}{END}{after}")).unwrap();
    } else {
        assert!(
            written == made,
            "docs/clouds.md is out of date: ONYX_WRITE_DOCS=1 cargo test --test clouds rule_table"
        );
    }
}

#[test]
fn ids_are_told_apart_by_their_function() {
    let text = "#[test]\nfn one() {\n    check(\"a/b\");\n}\nfn helper() {\n    x(\"a/c\");\n}\n    #[tokio::test]\n    async fn two() {\n        (\"a/b\", \"n\");\n    }\n";
    let want = [
        ("a/b".to_owned(), "`f` one".to_owned()),
        ("a/b".to_owned(), "`f` two".to_owned()),
    ];
    assert_eq!(mentions("f", text), want);
}
