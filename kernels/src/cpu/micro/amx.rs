//! Tiles on Intel's advanced matrix extensions.
//!
//! Eight tile registers hold 16 rows of 64 bytes each. `tdpbf16ps` multiplies a tile of A (16 rows of
//! 16 words) with one of B (16 words of 16 columns) into 16 x 16 f32 sums in 16 cycles. A tile of C is
//! 32 x 32: four registers of sums, two of A, two of B, so that four products share four loads.
//!
//! Rust has no stable intrinsics for them, so a whole tile is one `asm!` block: the compiler never
//! sees a tile register, and none is live outside.

use std::arch::asm;
use std::sync::OnceLock;

use super::Operands;

/// Whether the processor has AMX for bf16 and the operating system lets this process use it.
pub(super) fn available() -> bool {
    static AVAILABLE: OnceLock<bool> = OnceLock::new();
    *AVAILABLE.get_or_init(|| detected() && permitted())
}

fn detected() -> bool {
    // CPUID leaf 7: bit 22 of EDX is AMX-BF16, bit 24 AMX-TILE.
    let edx = std::arch::x86_64::__cpuid_count(7, 0).edx;
    edx >> 22 & 1 == 1 && edx >> 24 & 1 == 1 && super::has_avx512_bf16()
}

/// Asks Linux for the tile registers' state, which grows every thread's context by 8 KiB.
#[cfg(target_os = "linux")]
fn permitted() -> bool {
    const ARCH_REQ_XCOMP_PERM: libc::c_ulong = 0x1023;
    const XFEATURE_XTILEDATA: libc::c_ulong = 18;
    // SAFETY: a request that changes nothing but this process's permission.
    unsafe { libc::syscall(libc::SYS_arch_prctl, ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA) == 0 }
}

#[cfg(not(target_os = "linux"))]
fn permitted() -> bool {
    false
}

/// Eight tiles of 16 rows and 64 bytes, configured on this thread until dropped.
pub(super) struct Tiles {
    /// The configuration is the thread's own.
    _not_send: std::marker::PhantomData<*const ()>,
}

#[repr(C, align(64))]
struct Config([u8; 64]);

const CONFIG: Config = {
    let mut bytes = [0; 64];
    bytes[0] = 1; // the palette
    let mut tile = 0;
    while tile < 8 {
        bytes[16 + 2 * tile] = 64; // bytes of a row
        bytes[48 + tile] = 16; // rows
        tile += 1;
    }
    Config(bytes)
};

impl Tiles {
    /// # Panics
    /// The machine has no AMX.
    pub(super) fn configure() -> Self {
        assert!(available(), "this machine has no AMX");
        // SAFETY: the machine has AMX; the configuration is valid; no tile register is in use.
        unsafe {
            asm!("ldtilecfg [{}]", in(reg) &CONFIG, options(nostack, preserves_flags, readonly));
        }
        Self { _not_send: std::marker::PhantomData }
    }
}

impl Drop for Tiles {
    fn drop(&mut self) {
        // SAFETY: `self` was made on this thread, on a machine with AMX.
        unsafe { asm!("tilerelease", options(nostack, preserves_flags, nomem)) }
    }
}

/// # Safety
/// As [`super::tile`], with bf16 words dense along the steps.
#[inline]
pub(super) unsafe fn tile(operands: Operands, rows: usize, c: *mut f32, ldc: usize, add: bool) {
    debug_assert!(rows == 32 && operands.steps.is_multiple_of(16) && operands.strides.step == 1);
    let Operands { steps, a, strides, b, ldb } = operands;
    // SAFETY: the caller promises that the tiles may be read and written and that this thread's tiles
    // are configured. The block uses only the registers it names; flags are clobbered by default.
    unsafe {
        asm!(
            "test {add}, {add}",
            "jnz 3f",
            "tilezero tmm0",
            "tilezero tmm1",
            "tilezero tmm2",
            "tilezero tmm3",
            "jmp 2f",
            "3:",
            "tileloadd tmm0, [{c0} + {ldc}]",
            "tileloadd tmm1, [{c0} + {ldc} + 64]",
            "tileloadd tmm2, [{c1} + {ldc}]",
            "tileloadd tmm3, [{c1} + {ldc} + 64]",
            "2:",
            "tileloadd tmm4, [{a0} + {lda}]",
            "tileloadd tmm6, [{b} + {ldb}]",
            "tdpbf16ps tmm0, tmm4, tmm6",
            "tileloadd tmm7, [{b} + {ldb} + 64]",
            "tdpbf16ps tmm1, tmm4, tmm7",
            "tileloadd tmm5, [{a1} + {lda}]",
            "tdpbf16ps tmm2, tmm5, tmm6",
            "tdpbf16ps tmm3, tmm5, tmm7",
            "add {a0}, 64",
            "add {a1}, 64",
            "add {b}, {b_step}",
            "dec {steps}",
            "jnz 2b",
            "tilestored [{c0} + {ldc}], tmm0",
            "tilestored [{c0} + {ldc} + 64], tmm1",
            "tilestored [{c1} + {ldc}], tmm2",
            "tilestored [{c1} + {ldc} + 64], tmm3",
            steps = inout(reg) steps / 16 => _,
            a0 = inout(reg) a => _,
            a1 = inout(reg) a.wrapping_add(16 * strides.row) => _,
            lda = in(reg) 4 * strides.row,
            b = inout(reg) b => _,
            ldb = in(reg) 4 * ldb,
            b_step = in(reg) 64 * ldb,
            c0 = in(reg) c,
            c1 = in(reg) c.wrapping_add(16 * ldc),
            ldc = in(reg) 4 * ldc,
            add = in(reg) usize::from(add),
            out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
            out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
            options(nostack),
        );
    }
}
