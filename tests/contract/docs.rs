//! What the documentation names is there.

use std::fs;
use std::path::Path;

/// All Rust code below a folder.
fn code(folder: &Path) -> String {
    let mut all = String::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            all += &code(&path);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            all += &fs::read_to_string(path).unwrap();
        }
    }
    all
}

#[test]
fn every_test_that_the_page_of_faults_names_exists() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let page = fs::read_to_string(root.join("docs/faults.md")).unwrap();
    let code = code(&root.join("tests")) + &code(&root.join("src"));
    let mut names = 0;
    for word in page.split('`').skip(1).step_by(2).filter(|word| word.contains("::")) {
        let last = word.trim_end_matches("::").rsplit("::").next().unwrap();
        let there = [format!("fn {last}("), format!("mod {last};"), format!("mod {last} {{")];
        assert!(there.iter().any(|definition| code.contains(definition)), "{word} is not there");
        names += 1;
    }
    assert!(names > 40, "the page names {names} tests");
}
