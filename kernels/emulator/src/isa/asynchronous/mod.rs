//! Instructions whose work is done while the thread goes on, and what it waits for.

mod bulk;
mod copy;
mod mbarrier;

pub(crate) use bulk::{Bulk, Direction, Reduction};
pub(crate) use copy::CopyAsync;
pub(crate) use mbarrier::Mbarrier;

use super::decoder::Decoder;
use super::opcode::Opcode;
use crate::parse::Operand;

/// Decodes the instruction if it is one of these.
pub(super) fn decode<'a>(
    d: &mut Decoder<'a>,
    op: &mut Opcode<'_>,
    o: &[Operand<'a>],
) -> Result<bool, String> {
    match op.name {
        "mbarrier" => mbarrier::decode(d, op, o)?,
        "cp" => copy::decode(d, op, o)?,
        _ => return Ok(false),
    }
    Ok(true)
}
