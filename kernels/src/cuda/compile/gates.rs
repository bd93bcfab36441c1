//! What can be known about a kernel without running it.

use super::Variant;

/// What the compiler says about one kernel of an image.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Resources {
    /// The kernel.
    pub entry: String,
    /// Registers per thread.
    pub registers: u32,
    /// Bytes of a thread's stack in local memory.
    pub stack: u32,
    /// Bytes of registers that are stored there and loaded again for want of room.
    pub spills: u32,
    /// Bytes of static shared memory of a block.
    pub shared: u32,
}

/// Reads a compiler's log: all kernels it names.
pub fn resources(log: &str) -> Vec<Resources> {
    let mut found: Vec<Resources> = Vec::new();
    for line in log.lines() {
        if let Some(rest) = line.split_once("Compiling entry function '") {
            let entry = rest.1.split('\'').next().unwrap_or_default().to_owned();
            found.push(Resources { entry, ..Resources::default() });
        }
        let Some(kernel) = found.last_mut() else { continue };
        let before = |what| number_before(line, what);
        if let Some(stack) = before(" bytes stack frame") {
            kernel.stack = stack;
            let spills = [" bytes spill stores", " bytes spill loads"].map(before);
            kernel.spills = spills.into_iter().flatten().sum();
        }
        if let Some(registers) = before(" registers") {
            kernel.registers = registers;
            kernel.shared = before(" bytes smem").unwrap_or(0);
        }
    }
    found
}

/// The number that ends where `what` begins.
fn number_before(line: &str, what: &str) -> Option<u32> {
    let (before, _) = line.split_once(what)?;
    let digits = before.rfind(|c: char| !c.is_ascii_digit()).map_or(0, |at| at + 1);
    before[digits..].parse().ok()
}

/// What in the compiler's log a variant must not have, one line each; none if all is well.
pub fn log_violations(variant: &Variant, log: &str) -> Vec<String> {
    let mut found = Vec::new();
    for line in log.lines().filter(|line| line.contains("(C75") || line.contains("(C76")) {
        found.push(format!("the compiler warns: {}", line.trim()));
    }
    let Some(kernel) = resources(log).into_iter().find(|kernel| kernel.entry == variant.entry)
    else {
        found.push("the compiler's log does not name it".to_owned());
        return found;
    };
    if kernel.spills > 0 {
        found.push(format!("{} bytes of registers are spilled", kernel.spills));
    }
    if kernel.stack > 0 {
        found.push(format!("{} bytes of stack lie in local memory", kernel.stack));
    }
    let most = variant.expects.registers;
    if most > 0 && kernel.registers > most {
        found.push(format!("{} registers, and {most} are expected at most", kernel.registers));
    }
    if variant.expects.wgmma && kernel.registers < most {
        // `setmaxnreg` deals out what the block was given: for more it waits for ever.
        let what = format!("{} registers, and its warpgroups share out {most}", kernel.registers);
        found.push(what);
    }
    found
}

/// What in the assembly text of a variant must not be, or is not there, one line each.
pub fn ptx_violations(variant: &Variant, ptx: &str) -> Vec<String> {
    let Some(body) = body(ptx, variant.entry) else {
        return vec!["the assembly has no such kernel".to_owned()];
    };
    let has = |instruction: &str| {
        body.lines().any(|line| {
            let line = line.trim_start();
            // A guard, as in "@%p1 wgmma...", may come first.
            let line =
                if line.starts_with('@') { line.split_once(' ').map_or("", |l| l.1) } else { line };
            line.trim_start().starts_with(instruction)
        })
    };
    let mut found = Vec::new();
    for local in ["ld.local", "st.local", ".local"] {
        if has(local) {
            found.push(format!("it uses local memory ({local})"));
        }
    }
    if has("call") {
        found.push("it calls a function that was not inlined".to_owned());
    }
    for (expected, instruction) in
        [(variant.expects.wgmma, "wgmma.mma_async"), (variant.expects.tma, "cp.async.bulk.tensor")]
    {
        if expected && !has(instruction) {
            found.push(format!("it has no {instruction}"));
        }
    }
    found
}

/// The text of one kernel.
fn body<'a>(ptx: &'a str, entry: &str) -> Option<&'a str> {
    let start = ptx.find(&format!(".entry {entry}("))?;
    let rest = &ptx[start..];
    Some(&rest[..rest[1..].find(".entry ").map_or(rest.len(), |end| end + 1)])
}
