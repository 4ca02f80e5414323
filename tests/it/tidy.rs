//! Whether the tree keeps its promises: each kind of target has its end-to-end test.

use std::path::Path;

use anyhow::{Result, ensure};

#[test]
fn each_kind_has_its_test() -> Result<()> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut kinds = Vec::new();
    for file in std::fs::read_dir(root.join("collector/src/probe"))? {
        let file = file?.path();
        let is_kind =
            file.is_file() && std::fs::read_to_string(&file)?.contains("pub const KIND: Kind");
        kinds.extend(is_kind.then_some(file));
    }
    // Whoever moves them has to be told here.
    ensure!(kinds.len() >= 11, "{kinds:?}");
    for kind in kinds {
        let test = root
            .join("tests/it")
            .join(kind.file_name().unwrap_or_default());
        ensure!(
            test.is_file(),
            "{} has no {}",
            kind.display(),
            test.display()
        );
    }
    Ok(())
}
