//! One instruction on 32 lanes.

use super::{Buffers, launch, text};
use slimpipe_emulator::Policy;

/// A source: its bits and its values.
pub type Source<'a> = (u32, &'a [u64; 32]);

/// Executes `instructions`, which read `%a`, `%b`, `%c`, `%e` and write `%r` of `bits` bits.
pub fn evaluate(instructions: &str, sources: &[Source<'_>], bits: u32) -> [u64; 32] {
    let names = ["a", "b", "c", "e"];
    let mut body =
        String::from(".reg .pred %p<8>; .reg .b64 %x<8>; .reg .b32 %i; mov.u32 %i, %tid.x;\n");
    for (i, (bits, _)) in sources.iter().enumerate() {
        let name = names[i];
        body += &format!(
            ".reg .b{bits} %{name}; ld.param.u64 %x0, [p{}]; mul.wide.u32 %x1, %i, 8;
             add.s64 %x0, %x0, %x1; ld.global.b{bits} %{name}, [%x0];\n",
            i + 1
        );
    }
    body += &format!(
        ".reg .b{bits} %r;\n{instructions}\nld.param.u64 %x0, [p0]; mul.wide.u32 %x1, %i, 8;
         add.s64 %x0, %x0, %x1; st.global.b{bits} [%x0], %r; ret;\n"
    );
    let mut contents = vec![vec![0; 256]];
    contents.extend(sources.iter().map(|(_, v)| v.iter().flat_map(|x| x.to_le_bytes()).collect()));
    let buffers = Buffers::new(&contents);
    let text = text(1 + sources.len(), &body);
    launch(&text, [1, 1, 1], [32, 1, 1], 0, &buffers, Policy::Eager)
        .unwrap_or_else(|fault| panic!("{fault}"));
    let bytes = buffers.bytes(0);
    std::array::from_fn(|l| u64::from_le_bytes(bytes[l * 8..l * 8 + 8].try_into().unwrap()))
}
