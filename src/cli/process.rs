//! What the operating system says about this process.

/// A field of the process's status, in MiB; 0 where the system does not tell.
fn status_mib(field: &str) -> u64 {
    let text = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix(field));
    let kib =
        line.and_then(|line| line.trim_start_matches(':').split_whitespace().next()?.parse().ok());
    kib.unwrap_or(0u64) / 1024
}

/// The most resident memory so far, in MiB.
pub fn peak_rss_mib() -> u64 {
    status_mib("VmHWM")
}

/// Resident memory now, in MiB.
pub fn rss_mib() -> u64 {
    status_mib("VmRSS")
}
