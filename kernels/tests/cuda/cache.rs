//! The cache of compiled kernels.

use std::sync::Barrier;

use slimpipe_kernels::cuda::Version;
use slimpipe_kernels::cuda::compile::{Cache, Image, ImageKind, Key, Source, Variant, compile};

use crate::compile::{compiler, toy};

fn image(fill: u8) -> Image {
    let log = "Used 8 registers".to_owned();
    Image { kind: ImageKind::Cubin, bytes: vec![fill; 5000], log, compiler: Version(13, 0) }
}

fn key(variant: &Variant) -> Key {
    Key::new(variant, ImageKind::Cubin, Some(Version(13, 0))).unwrap()
}

#[test]
fn what_was_put_comes_back_and_other_keys_find_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let cache = Cache::new(folder.path().join("deep/down"));
    let toy = toy();
    assert_eq!(cache.get(&key(&toy)), None);
    cache.put(&key(&toy), &image(7)).unwrap();
    assert_eq!(cache.get(&key(&toy)), Some(image(7)));
    static OTHER: Source = Source { name: "sm90_float_toy.cu", text: "another text" };
    let others = [
        key(&toy.with("MORE", 1)),
        key(&Variant::new(&OTHER, "toy")),
        Key::new(&toy, ImageKind::Ptx, Some(Version(13, 0))).unwrap(),
        Key::new(&toy, ImageKind::Cubin, Some(Version(13, 1))).unwrap(),
        Key::new(&toy, ImageKind::Cubin, None).unwrap(),
    ];
    assert!(others.iter().all(|other| cache.get(other).is_none()));
}

#[test]
fn an_entry_that_was_changed_or_cut_counts_as_none() {
    let folder = tempfile::tempdir().unwrap();
    let cache = Cache::new(folder.path());
    let key = key(&toy());
    cache.put(&key, &image(7)).unwrap();
    let file = folder.path().join(key.file_name());
    let whole = std::fs::read(&file).unwrap();
    for at in [0, 8, 20, 40, 64, whole.len() - 1] {
        let mut changed = whole.clone();
        changed[at] ^= 1;
        std::fs::write(&file, changed).unwrap();
        assert_eq!(cache.get(&key), None, "byte {at}");
    }
    for len in [0, 7, 63, 64, 80, whole.len() - 1] {
        std::fs::write(&file, &whole[..len]).unwrap();
        assert_eq!(cache.get(&key), None, "{len} bytes");
    }
}

#[test]
fn concurrent_writers_and_readers_never_see_a_half_written_entry() {
    let folder = tempfile::tempdir().unwrap();
    let (cache, key) = (Cache::new(folder.path()), key(&toy()));
    let (writers, start) = (4u8, Barrier::new(8));
    std::thread::scope(|scope| {
        for writer in 0..writers {
            let (cache, key, start) = (&cache, &key, &start);
            scope.spawn(move || {
                start.wait();
                (0..20).for_each(|_| cache.put(key, &image(writer)).unwrap());
            });
            scope.spawn(move || {
                start.wait();
                while cache.get(key).is_none() {}
                for _ in 0..200 {
                    let found = cache.get(key).expect("an entry that was there is replaced whole");
                    assert!(found.bytes.iter().all(|&byte| byte == found.bytes[0]));
                }
            });
        }
    });
    let left = std::fs::read_dir(folder.path()).unwrap().count();
    assert_eq!(left, 1, "unfinished files are gone");
}

#[test]
fn a_corrupt_entry_is_compiled_again_and_a_folder_that_cannot_be_written_does_no_harm() {
    let Some(compiler) = compiler() else { return };
    let folder = tempfile::tempdir().unwrap();
    let cache = Cache::new(folder.path());
    let made = compile(&toy(), ImageKind::Cubin, compiler, Some(&cache)).unwrap();
    let key = Key::new(&toy(), ImageKind::Cubin, Some(compiler.version())).unwrap();
    let file = folder.path().join(key.file_name());
    std::fs::write(&file, b"not an image").unwrap();
    let again = compile(&toy(), ImageKind::Cubin, compiler, Some(&cache)).unwrap();
    assert_eq!(made, again);
    assert_eq!(cache.get(&key), Some(made.clone()));
    let impossible = Cache::new(file.join("below a file"));
    assert_eq!(compile(&toy(), ImageKind::Cubin, compiler, Some(&impossible)).unwrap(), made);
}
