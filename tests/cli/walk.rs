//! `docs/memory-traces.md`: its commands print what it says, of the logs that are shipped.

use std::fs;
use std::path::Path;

use crate::support::Scene;

/// What the walk shows of a line that it leaves out, with all that follow.
const REST: &str = "...";

fn read(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(name);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{name}: {error}"))
}

#[test]
fn the_walk_through_a_trace_shows_what_its_commands_print() {
    let (scene, text) = (Scene::new(), read("docs/memory-traces.md"));
    let shipped = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/traces/kept_slices");
    for run in ["kept", "mended"] {
        for log in fs::read_dir(shipped.join(run).join("memory.events")).unwrap() {
            let log = log.unwrap();
            let name = log.file_name().into_string().unwrap();
            scene.write(&format!("{run}/memory.events/{name}"), fs::read(log.path()).unwrap());
        }
    }
    let blocks = text.split("```text\n").skip(1).map(|rest| rest.split("```").next().unwrap());
    let mut count = 0;
    for shown in blocks.flat_map(|block| block.split("$ ")).filter(|shown| !shown.is_empty()) {
        let (command, expected) = shown.split_once('\n').unwrap();
        let Some(words) = command.strip_prefix("slimpipe ") else { continue };
        let outcome = scene.run(words);
        let code = if words.starts_with("trace diff") { 1 } else { 0 };
        assert_eq!((outcome.code, &outcome.err[..]), (Some(code), ""), "{command}");
        match expected.trim_end().strip_suffix(REST) {
            Some(begin) => assert!(outcome.out.starts_with(begin), "{command}\n{}", outcome.out),
            None => assert_eq!(outcome.out.trim_end(), expected.trim_end(), "{command}"),
        }
        count += 1;
    }
    assert_eq!(count, 8);
}

#[test]
fn the_line_that_the_walk_finds_is_that_of_the_example() {
    let (text, example) = (read("docs/memory-traces.md"), read("examples/kept_slices.rs"));
    let site = text.lines().find(|line| line.ends_with("  swiglu")).unwrap();
    let (_, number) = site.split_once("examples/kept_slices.rs:").unwrap();
    let number: usize = number.split(' ').next().unwrap().parse().unwrap();
    let line = example.lines().nth(number - 1).unwrap().trim();
    assert!(line.contains(".swiglu(") && text.contains(line), "{line}");
    for name in ["trace-all", "trace-search", "trace-unit", "trace-compared"] {
        let picture = format!("pictures/{name}.png");
        assert!(text.contains(&format!("({picture})")));
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs").join(picture);
        assert!(path.is_file(), "{}", path.display());
    }
}
