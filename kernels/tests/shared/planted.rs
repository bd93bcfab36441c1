//! Bugs planted in kernels' texts, each of which a test must catch: by a wrong result, a fault of the emulator, or
//! results that depend on the schedule. A mutant runs in a process of its own, which reads the changed file in
//! place of the embedded one.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use slimpipe_kernels::cuda::compile::Compiler;

/// Names the folder that a mutant's process reads texts from.
const SOURCES: &str = "SLIMPIPE_KERNEL_SOURCES";

pub struct Mutant {
    /// What is wrong with it.
    bug: &'static str,
    /// The file below `kernels/cuda`, and what is changed in it.
    file: &'static str,
    from: &'static str,
    to: &'static str,
    /// The test that must fail.
    test: &'static str,
}

pub const fn mutant(
    bug: &'static str,
    file: &'static str,
    from: &'static str,
    to: &'static str,
    test: &'static str,
) -> Mutant {
    Mutant { bug, file, from, to, test }
}

impl Mutant {
    /// The changed text. What is changed must be there, once.
    fn text(&self) -> Result<String, String> {
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("cuda").join(self.file);
        let text = std::fs::read_to_string(file).map_err(|error| error.to_string())?;
        match text.matches(self.from).count() {
            1 => Ok(text.replace(self.from, self.to)),
            found => Err(format!("{:?} is {found} times in {}", self.from, self.file)),
        }
    }

    /// Runs the mutant's test: how it was caught, or why not.
    fn caught(&self) -> Result<&'static str, String> {
        let folder = tempfile::tempdir().unwrap();
        let file: PathBuf = folder.path().join(self.file);
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(&file, self.text()?).unwrap();
        let run = Command::new(std::env::current_exe().unwrap())
            .args([self.test, "--exact", "--test-threads=1"])
            .env(SOURCES, folder.path())
            // The same cases each time: a race that some sizes show is caught always or never.
            .env("PROPTEST_RNG_SEED", "5")
            .output()
            .unwrap();
        let said = [run.stdout, run.stderr].map(|text| String::from_utf8_lossy(&text).into_owned());
        let said = said.concat();
        if said.contains("does not compile") || !said.contains("running 1 test") {
            return Err(said);
        }
        let says = |words: &[&str]| words.iter().any(|words| said.contains(words));
        match () {
            () if run.status.success() => Err("it was not caught".into()),
            () if says(&["gives another result", "gives other bits"]) => {
                Ok("results depend on the schedule")
            }
            () if says(&["an error of", "element ", "left: "]) => Ok("wrong results"),
            () => Ok("a fault"),
        }
    }
}

/// Fails unless each is caught by its test.
pub fn assert_caught(mutants: &[Mutant]) {
    if std::env::var_os(SOURCES).is_some() {
        return; // this is a mutant
    }
    let stale: Vec<_> = mutants.iter().filter_map(|mutant| mutant.text().err()).collect();
    assert!(stale.is_empty(), "planted bugs that are in no kernel any more:\n{}", stale.join("\n"));
    if let Err(why) = Compiler::find() {
        eprintln!("skipped: no NVRTC to compile planted bugs ({why}); scripts/nvrtc.sh fetches it");
        return;
    }
    let (next, wrong) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    let work = || {
        while let Some(mutant) = mutants.get(next.fetch_add(1, Ordering::Relaxed)) {
            match mutant.caught() {
                Ok(how) => eprintln!("{}: {how}", mutant.bug),
                Err(why) => wrong.lock().unwrap().push(format!("{}: {why}", mutant.bug)),
            }
        }
    };
    std::thread::scope(|scope| {
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        (0..threads).for_each(|_| drop(scope.spawn(work)));
    });
    let wrong = wrong.into_inner().unwrap();
    assert!(wrong.is_empty(), "of {} planted bugs:\n{}", mutants.len(), wrong.join("\n"));
}
