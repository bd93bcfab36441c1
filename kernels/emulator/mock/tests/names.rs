//! What cargo puts on the loader's path must not be taken for a driver.

use std::{
    env, fs,
    path::{Path, PathBuf},
};

/// Cargo's folder for what it builds: the one above this program that has a cache tag.
fn target() -> PathBuf {
    let program = env::current_exe().unwrap();
    let tagged = |folder: &&Path| folder.join("CACHEDIR.TAG").is_file();
    program.ancestors().skip(1).filter(tagged).last().expect("cargo's target folder").to_owned()
}

/// Whether a program that looks for the driver or NCCL could open a file of this name. `libcudarc`
/// and `libcudart` are other things.
fn shadows(name: &str) -> bool {
    ["libcuda", "libnvcuda", "libnccl"].iter().any(|library| {
        let rest = name.strip_prefix(library);
        rest.is_some_and(|rest| !rest.starts_with(|c: char| c.is_ascii_alphabetic()))
    })
}

fn search(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            search(&entry.path(), found);
        } else if shadows(&entry.file_name().to_string_lossy()) {
            found.push(entry.path());
        }
    }
}

#[test]
fn no_file_that_cargo_builds_is_called_like_the_driver_or_nccl() {
    assert!(shadows("libcuda.so") && shadows("libnccl.so.2") && !shadows("libcudarc-1.rlib"));
    let mut found = Vec::new();
    search(&target(), &mut found);
    assert!(found.is_empty(), "these would shadow real libraries: {found:?}");
}
