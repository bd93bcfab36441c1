//! What cargo puts on the loader's path must not be taken for a driver.

use std::{
    env, fs,
    path::{Path, PathBuf},
};

/// Cargo's folder for what it builds: this program is in its `release/deps`, or one like it.
fn target() -> PathBuf {
    let program = env::current_exe().unwrap();
    program.ancestors().nth(3).expect("cargo's target folder").to_owned()
}

/// Whether a program that looks for the driver or NCCL could open a file of this name: a shared
/// library called `libcuda.so`, `libcuda64_13.so`, `libnccl.so.2` and so on. `libcudarc` is another
/// thing, and `.rmeta` and `.rlib` files of tests called `cuda` are no shared libraries.
fn shadows(name: &str) -> bool {
    let is_shared = name.ends_with(".so") || name.contains(".so.");
    is_shared
        && ["libcuda", "libnvcuda", "libnccl"].iter().any(|library| {
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
    assert!(
        ["libcuda.so", "libcuda.so.1", "libnccl.so.2", "libcuda64_13.so"].map(shadows) == [true; 4]
    );
    assert!(["libcudarc-1.rlib", "libcudart.so.13", "libnccl-1.rmeta"].map(shadows) == [false; 3]);
    let mut found = Vec::new();
    search(&target(), &mut found);
    assert!(found.is_empty(), "these would shadow real libraries: {found:?}");
}
