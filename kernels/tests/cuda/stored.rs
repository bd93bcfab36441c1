//! The assembly in `kernels/cuda/stored`, for machines without NVRTC: it must be that of the sources.

use std::collections::BTreeSet;

use slimpipe_kernels::cuda::attention::variants_of;
use slimpipe_kernels::cuda::compile::{Cache, Image, ImageKind, Key, Variant, compile_all, pack};
use slimpipe_kernels::cuda::variants;

use crate::compile::compiler;

/// Tells this test to store what the sources give now.
const STORE: &str = "SLIMPIPE_STORE_PTX";

/// Sizes of heads that no model has and tests do.
const TESTED: [usize; 8] = [2, 4, 6, 8, 10, 16, 20, 136];

fn folder() -> Cache {
    pack().expect("cargo names the folder (.cargo/config.toml)")
}

fn key(variant: &Variant) -> Key {
    Key::new(variant, ImageKind::Ptx, None).unwrap()
}

/// The stored assembly of a variant, if it is that of the source as it is now.
pub fn stored(variant: &Variant) -> Option<Image> {
    folder().get(&key(variant))
}

/// The names of the files in the folder.
fn files() -> BTreeSet<String> {
    let entries = std::fs::read_dir(folder().folder()).into_iter().flatten().flatten();
    entries.map(|entry| entry.file_name().into_string().unwrap()).collect()
}

#[test]
fn the_stored_assembly_is_that_of_the_sources() {
    let tested = TESTED.into_iter().flat_map(variants_of);
    let variants: Vec<_> = variants().into_iter().chain(tested).collect();
    let wanted: BTreeSet<String> =
        variants.iter().map(|variant| key(variant).file_name()).collect();
    if std::env::var_os(STORE).is_some() {
        let compiler = compiler().expect("NVRTC is needed to store assembly");
        let cache = Cache::of_user();
        let made = compile_all(&variants, ImageKind::Ptx, compiler, cache.as_ref()).unwrap();
        for (variant, image) in variants.iter().zip(&made) {
            folder().put(&key(variant), image).unwrap();
        }
        for stale in files().difference(&wanted) {
            std::fs::remove_file(folder().folder().join(stale)).unwrap();
        }
    }
    let files = files();
    if files.is_empty() {
        eprintln!("skipped: no assembly is stored in {}", folder().folder().display());
        return;
    }
    let missing: Vec<_> = wanted.difference(&files).collect();
    let stale: Vec<_> = files.difference(&wanted).collect();
    assert!(
        missing.is_empty() && stale.is_empty(),
        "kernels changed and their stored assembly did not: run {STORE}=1 cargo test -p slimpipe-kernels --test cuda stored\n{} are missing: {missing:?}\n{} belong to no kernel: {stale:?}",
        missing.len(),
        stale.len()
    );
    let Some(compiler) = compiler() else { return };
    let cache = Cache::of_user();
    let made = compile_all(&variants, ImageKind::Ptx, compiler, cache.as_ref()).unwrap();
    for (variant, made) in variants.iter().zip(made) {
        let stored = stored(variant).unwrap_or_else(|| panic!("{variant}: the file is damaged"));
        // Another compiler may give other assembly for the same source.
        assert!(
            stored.compiler != made.compiler || stored == made,
            "{variant}: not what was compiled"
        );
    }
}
