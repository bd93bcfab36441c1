//! Gives the library cuBLASLt's soname. The file keeps its own name: one called libcublasLt.so under
//! `target/` would be found by every program that cargo runs, in place of a real one.

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    if std::env::var("CARGO_CFG_TARGET_OS").is_ok_and(|os| os == "linux") {
        println!("cargo:rustc-cdylib-link-arg=-Wl,-soname,libcublasLt.so.13");
    }
}
