//! What NVRTC makes of a text, where NVRTC is there; without it these tests say so and end.

use slimpipe_kernels::cuda::compile::{Compiler, Source, Variant};
use slimpipe_kernels::cuda::{CudaError, Float};

/// Adds a constant; what a launcher's text looks like.
pub static TOY: Source = Source {
    name: "sm90_float_toy.cu",
    text: r#"
typedef unsigned short bf16;
extern "C" __global__ void __launch_bounds__(128) toy(FLOAT* x, int n) {
  int i = blockIdx.x * 128 + threadIdx.x;
  if (i < n) x[i] += ADDED;
}
"#,
};

pub fn toy() -> Variant {
    Variant::new(&TOY, "toy").with("FLOAT", Float::F32).with("ADDED", 3)
}

/// The compiler, or a line that says why the test is skipped.
pub fn compiler() -> Option<&'static Compiler> {
    match Compiler::find() {
        Ok(compiler) => Some(compiler),
        Err(why) => {
            eprintln!("skipped: no NVRTC here ({why}); scripts/nvrtc.sh fetches it");
            None
        }
    }
}

#[test]
fn a_variant_becomes_machine_code_and_assembly_with_its_constants() {
    let Some(compiler) = compiler() else { return };
    let made = compiler.compile(&toy()).unwrap();
    assert!(made.cubin.starts_with(b"\x7fELF"), "a CUBIN is an ELF file");
    let ptx = String::from_utf8(made.ptx).unwrap();
    assert!(ptx.contains(".entry toy(") && ptx.contains(".target sm_90a"), "{ptx}");
    assert!(made.log.contains("0 bytes spill stores"), "{}", made.log);
}

#[test]
fn an_error_in_a_text_names_the_variant_the_file_and_the_line() {
    let Some(compiler) = compiler() else { return };
    static WRONG: Source = Source { name: "wrong.cu", text: "\nint f() { return oops; }" };
    let error = compiler.compile(&Variant::new(&WRONG, "f").with("HEAD", 64)).err().unwrap();
    assert!(matches!(&error, CudaError::Compile { .. }), "{error}");
    let text = error.to_string();
    assert!(text.contains("f<HEAD=64>") && text.contains("wrong.cu(2)"), "{text}");
}
