//! What the machine code of all kernels is made of, by NVIDIA's disassembler: the program that `SLIMPIPE_NVDISASM`
//! names (pip install nvidia-cuda-nvdisasm). It takes two minutes; without one this says so and ends.

use std::collections::{BTreeSet, HashMap};
use std::process::Command;

use slimpipe_kernels::cuda::compile::{Cache, Compiler, Image, ImageKind, compile_all};
use slimpipe_kernels::cuda::variants;

/// Names of the instructions of an image, without what follows their first dot.
fn instructions(disassembler: &str, image: &Image) -> BTreeSet<String> {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), &image.bytes).unwrap();
    let run = Command::new(disassembler).arg("-c").arg(file.path()).output().unwrap();
    assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
    let text = String::from_utf8(run.stdout).unwrap();
    // "        /*0a10*/                   @!P0 HGMMA.64x64x16.F32.BF16 R24, ... ;"
    let name = |line: &str| {
        let code = line.trim_start().strip_prefix("/*")?.split_once("*/")?.1.trim_start();
        let name = code.split_whitespace().find(|word| !word.starts_with(['@', '{']))?;
        Some(name.split(['.', ';']).next()?.to_owned())
    };
    text.lines().filter_map(name).collect()
}

#[test]
fn kernels_on_tensor_cores_have_their_instructions_and_none_has_local_memory() {
    let Ok(disassembler) = std::env::var("SLIMPIPE_NVDISASM") else {
        eprintln!("skipped: SLIMPIPE_NVDISASM names no disassembler");
        return;
    };
    let Ok(compiler) = Compiler::find() else {
        eprintln!("skipped: no NVRTC here; scripts/nvrtc.sh fetches it");
        return;
    };
    let (variants, cache) = (variants(), Cache::of_user());
    let images = compile_all(&variants, ImageKind::Cubin, compiler, cache.as_ref()).unwrap();
    let (mut known, mut wrong) = (HashMap::<&[u8], _>::new(), Vec::new());
    for (variant, image) in variants.iter().zip(&images) {
        // Kernels of one text share an image.
        let found = known.entry(&image.bytes);
        let found = found.or_insert_with(|| instructions(&disassembler, image));
        assert!(found.contains("EXIT"), "{variant}: {found:?}");
        let wanted = [("HGMMA", variant.expects.wgmma), ("UTMALDG", variant.expects.tma)];
        let missing = wanted.into_iter().filter(|(name, wanted)| *wanted && !found.contains(*name));
        wrong.extend(missing.map(|(name, _)| format!("{variant}: it has no {name}")));
        let local = ["LDL", "STL"].into_iter().filter(|name| found.contains(*name));
        wrong.extend(local.map(|name| format!("{variant}: it has {name}")));
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
