//! The published description of the API against its golden file: a change of the API shows up as a diff to review.

use std::path::Path;

/// `UPDATE_GOLDEN=1 cargo test --test openapi_golden` rewrites the file.
#[test]
fn the_openapi_document_is_as_published() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/openapi.json");
    let now = netd::faces::http::description().to_pretty_json().unwrap() + "\n";
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(&path, &now).unwrap();
    }
    let published = std::fs::read_to_string(&path).unwrap();
    assert!(now == published, "the API changed: look at `git diff` after UPDATE_GOLDEN=1 cargo test");
}
