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

/// A function of a source file.
struct Function {
    name: String,
    is_test: bool,
    /// What is quoted in it and looks like an id.
    ids: Vec<String>,
    body: String,
}

/// The functions of a file, tests and others.
fn functions(text: &str) -> Vec<Function> {
    let mut found = Vec::new();
    let mut attribute = false;
    // The function and the indentation at which it ends.
    let mut inside: Option<(Function, usize)> = None;
    for line in text.lines() {
        let indent = line.len() - line.trim_start().len();
        let code = line.trim_start();
        if let Some((mut function, at)) = inside.take() {
            let quoted = line.split('"').enumerate().filter(|(i, _)| i % 2 == 1);
            let ids = quoted.map(|(_, q)| q.to_owned()).filter(|q| q.contains('/'));
            function.ids.extend(ids);
            function.body.push_str(line);
            if code.starts_with('}') && indent == at {
                found.push(function);
            } else {
                inside = Some((function, at));
            }
        } else if code.starts_with("#[test]") || code.starts_with("#[tokio::test") {
            attribute = true;
        } else if let Some((_, rest)) = code.split_once("fn ").filter(|_| code.ends_with('{')) {
            let function = Function {
                name: rest.split(['(', '<']).next().unwrap_or_default().to_owned(),
                is_test: std::mem::take(&mut attribute),
                ids: Vec::new(),
                body: String::new(),
            };
            inside = Some((function, indent));
        }
    }
    found
}

/// The ids that tests name, themselves or in a function of the same file that they call, as (id, "file: function").
fn mentions(file: &str, text: &str) -> Vec<(String, String)> {
    let all = functions(text);
    let mut found = Vec::new();
    for test in all.iter().filter(|f| f.is_test) {
        let called = all
            .iter()
            .filter(|f| !f.is_test && test.body.contains(&format!("{}(", f.name)));
        for id in called.flat_map(|f| &f.ids).chain(&test.ids) {
            found.push((id.clone(), format!("`{file}` {}", test.name)));
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
    let text = "#[test]\nfn one() {\n    check(\"a/b\");\n}\nfn helper() {\n    x(\"a/c\");\n}\nfn other() {\n    x(\"a/d\");\n}\n    \
                #[tokio::test]\n    async fn two() {\n        (\"a/b\", \"n\", helper());\n    }\n";
    let want = [("a/b", "one"), ("a/c", "two"), ("a/b", "two")];
    let want: Vec<_> = want.map(|(id, f)| (id.to_owned(), format!("`f` {f}"))).into();
    assert_eq!(mentions("f", text), want);
}
