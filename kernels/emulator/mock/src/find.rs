//! Where cargo puts the mocks' libraries.

use std::{
    env,
    path::{Path, PathBuf},
};

/// The path of a library that was built beside the running program: in the program's folder (tests
/// lie in `deps` as libraries do), in `deps` under it (programs), or beside it (examples, benches).
///
/// # Panics
/// If it is in none of them.
pub fn library(file: &str) -> PathBuf {
    let program = env::current_exe().expect("the path of the running program");
    let folder = program.parent().unwrap_or(Path::new("."));
    let places =
        [folder.join(file), folder.join("deps").join(file), folder.join("../deps").join(file)];
    places.iter().find(|place| place.is_file()).cloned().unwrap_or_else(|| {
        panic!(
            "{file} is not beside the running program (looked for {places:?}); a crate that uses \
             slimpipe-mock must depend on it, so that cargo builds it"
        )
    })
}
