//! What the command says of GPUs and of NVIDIA's libraries, on the mock driver and on impostors.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::support::Scene;

/// What `doctor` says after `name`.
fn doctor(scene: &Scene, name: &str, furnish: impl FnOnce(&mut Command)) -> String {
    let mut command = scene.command("doctor");
    furnish(&mut command);
    let out = command.output().unwrap();
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    let out = String::from_utf8(out.stdout).unwrap();
    let line = out.lines().find_map(|line| line.strip_prefix(name));
    line.unwrap_or_else(|| panic!("no {name} in: {out}")).trim().to_owned()
}

/// The mock driver with one setting.
fn mock(setting: &str, value: &str) -> impl FnOnce(&mut Command) {
    move |command| {
        slimpipe_mock::preload(command).env(format!("SLIMPIPE_MOCK_CUDA_{setting}"), value);
    }
}

/// A shared library made of C, under another library's name.
fn library(scene: &Scene, soname: &str, text: &str) -> PathBuf {
    let (source, library) = (scene.path("impostor.c"), scene.path(soname));
    std::fs::write(&source, text).unwrap();
    let mut cc = Command::new("cc"); // there is one, for Rust's programs are linked with it
    cc.args(["-shared", "-fPIC", &format!("-Wl,-soname,{soname}"), "-o"]);
    assert!(cc.arg(&library).arg(&source).status().unwrap().success());
    library
}

#[test]
fn doctor_lists_the_gpus_and_says_which_cannot_be_used() {
    let scene = Scene::new();
    let says = doctor(&scene, "GPU 1", mock("DEVICES", "2"));
    assert!(says.contains("compute capability 9.0") && says.contains("GiB"), "{says}");
    assert_eq!(doctor(&scene, "driver", mock("DEVICES", "2")), "CUDA 13.0");
    let says = doctor(&scene, "GPU 0", mock("CAPABILITY", "8.0"));
    assert!(says.contains("the kernels need 9.0 (H100, H200)"), "{says}");
}

#[test]
fn a_driver_that_will_not_do_is_one_line_that_says_why() {
    let scene = Scene::new();
    let says = doctor(&scene, "GPU", mock("DEVICES", "0"));
    assert!(says.starts_with("none: the NVIDIA driver sees no GPU"), "{says}");
    let says = doctor(&scene, "GPU", mock("DRIVER_VERSION", "11040"));
    assert_eq!(
        says,
        "none: the NVIDIA driver supports CUDA 11.4, and CUDA 12.1 is needed; install a newer driver"
    );
    let empty = library(&scene, "libcuda.so", "int cuInit(unsigned flags) { return 0; }");
    let says = doctor(&scene, "GPU", |command| {
        command.env("LD_PRELOAD", &empty);
    });
    assert!(says.starts_with("none: the library libcuda has no function cuCtx"), "{says}");
}

/// A library that looks like NVRTC of that version.
fn nvrtc(scene: &Scene, major: u32, minor: u32) -> PathBuf {
    let functions = ["CreateProgram", "CompileProgram", "DestroyProgram", "GetErrorString"];
    let results = ["CUBIN", "PTX", "ProgramLog"].map(|what| {
        format!("int nvrtcGet{what}Size() {{ return 1; }}\nint nvrtcGet{what}() {{ return 1; }}\n")
    });
    let text: String = functions
        .map(|name| format!("int nvrtc{name}() {{ return 1; }}\n"))
        .into_iter()
        .chain(results)
        .collect();
    let version =
        format!("int nvrtcVersion(int* a, int* b) {{ *a = {major}; *b = {minor}; return 0; }}\n");
    library(scene, "libnvrtc.so.13", &(version + &text))
}

fn with_nvrtc(path: &Path) -> impl FnOnce(&mut Command) {
    move |command| {
        command.env("SLIMPIPE_NVRTC", path);
    }
}

#[test]
fn a_compiler_that_will_not_do_is_one_line_that_says_why() {
    let scene = Scene::new();
    let says = doctor(&scene, "NVRTC", with_nvrtc(&nvrtc(&scene, 12, 1)));
    assert!(says.ends_with("libnvrtc.so.13: version 12.1 is older than 12.8"), "{says}");
    let newer = nvrtc(&scene, 13, 2);
    let says = doctor(&scene, "NVRTC", with_nvrtc(scene.path("").as_path()));
    assert!(says.starts_with("13.2, ") && says.ends_with("libnvrtc.so.13"), "{says}");
    let says = doctor(&scene, "NVRTC", |command| {
        mock("DRIVER_VERSION", "12040")(command);
        command.env("SLIMPIPE_NVRTC", &newer);
    });
    assert!(says.contains("13.2 makes code that a driver for CUDA 12.4 does not load"), "{says}");
    let empty = library(&scene, "libnvrtc.so.13", "int nothing;");
    let says = doctor(&scene, "NVRTC", with_nvrtc(&empty));
    assert!(says.ends_with("it has no function nvrtcVersion"), "{says}");
    let says = doctor(&scene, "NVRTC", with_nvrtc(Path::new("/nowhere")));
    assert_eq!(says, "none: SLIMPIPE_NVRTC names /nowhere, where it is not");
}

#[test]
fn other_libraries_are_found_where_variables_name_them_and_asked_for_their_version() {
    let scene = Scene::new();
    let nccl = "int ncclGetVersion(int* version) { *version = 23007; return 0; }";
    let nccl = library(&scene, "libnccl.so.2", nccl);
    let says = doctor(&scene, "NCCL", |command| {
        command.env("SLIMPIPE_NCCL", scene.path(""));
    });
    assert_eq!(says, format!("2.30.7, {}", nccl.display()));
    let cublas = "unsigned long cublasLtGetVersion() { return 130001; }";
    let cublas = library(&scene, "libcublasLt.so.13", cublas);
    let says = doctor(&scene, "cuBLASLt", |command| {
        command.env("SLIMPIPE_CUBLASLT", &cublas);
    });
    assert_eq!(says, format!("13.0.1, {}", cublas.display()));
    let wheel = scene.path("venv/lib/python3.12/site-packages/nvidia/nccl/lib");
    std::fs::create_dir_all(&wheel).unwrap();
    std::fs::copy(&nccl, wheel.join("libnccl.so.2")).unwrap();
    let says = doctor(&scene, "NCCL", |command| {
        command.env("VIRTUAL_ENV", scene.path("venv"));
    });
    assert!(!says.starts_with("none"), "{says}");
}

#[test]
fn all_kernels_are_built_shown_and_packed() {
    let scene = Scene::new();
    // Assembly, which tests of the kernels themselves have in the cache.
    let mut command = scene.command("kernels build --pack pack");
    let out = command.env("SLIMPIPE_KERNEL_IMAGE", "ptx").output().unwrap();
    let (told, shown) =
        (String::from_utf8(out.stderr).unwrap(), String::from_utf8(out.stdout).unwrap());
    if told.contains("NVRTC, which compiles the kernels, was not found") {
        eprintln!("skipped: {told}");
        return;
    }
    assert!(out.status.success(), "{told}");
    let rows: Vec<Vec<&str>> =
        shown.lines().map(|line| line.split_whitespace().collect()).collect();
    let [heading, kernels @ .., last] = &rows[..] else { panic!("{shown}") };
    assert_eq!(heading[..], ["registers", "spills", "shared", "bytes", "kernel"]);
    assert_eq!(last[..4], [&kernels.len().to_string(), "kernels", "by", "NVRTC"]);
    for kernel in kernels {
        let registers: u32 = kernel[0].parse().unwrap();
        assert!((1..=255).contains(&registers) && kernel[1] == "0", "{kernel:?}");
    }
    assert!(kernels.iter().any(|kernel| kernel[4].starts_with("rms_norm<")), "{shown}");
    let packed = std::fs::read_dir(scene.path("pack")).unwrap().count();
    assert!((1..=kernels.len()).contains(&packed), "{packed}");
    let says = doctor(&scene, "kernel pack", |command| {
        command.env("SLIMPIPE_KERNEL_PACK", "pack");
    });
    assert!(says.starts_with(&format!("pack, {packed} images, ")), "{says}");
}

#[test]
fn kernels_cannot_be_built_without_a_compiler() {
    let scene = Scene::new();
    let mut command = scene.command("kernels build");
    let out = command.env("SLIMPIPE_NVRTC", "/nowhere").output().unwrap();
    assert_eq!(out.status.code(), Some(2));
    let told = String::from_utf8(out.stderr).unwrap();
    assert!(told.starts_with("error: NVRTC, which compiles the kernels, was not found"), "{told}");
    assert!(told.contains("pip install nvidia-cuda-nvrtc"), "{told}");
}
