//! An event as a line of a table.

use serde::Serialize;
use slimpipe_allocator::{Phase, UnitId};

use super::super::{Event, NameId, Playback, What};

/// All that an event tells, by name. What does not apply is left out.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub(super) struct Row<'a> {
    pub rank: u32,
    /// Nanoseconds since 1970.
    pub time_ns: u64,
    pub event: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub region: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub offset: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bytes: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub requested: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub step: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub microbatch: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub slice: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub chunk: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub layer: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub phase: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub op: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub line: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unplanned: Option<bool>,
}

impl<'a> Row<'a> {
    /// The row of `event`, which `log` gave last.
    pub fn of(event: &Event, log: &'a Playback) -> Self {
        let time_ns = log.began().saturating_add(event.time);
        let row = Self { rank: log.rank(), time_ns, ..Self::default() };
        match event.what {
            What::Alloc(block) => Self {
                event: "alloc",
                region: Some(block.region.name()),
                offset: Some(block.offset),
                bytes: Some(block.bytes),
                requested: Some(block.requested),
                layer: block.layer,
                unplanned: Some(block.unplanned),
                ..row.named(log, block.name).unit(block.unit)
            },
            What::Free { region, offset, bytes } => {
                let (region, offset, bytes) = (Some(region.name()), Some(offset), Some(bytes));
                Self { event: "free", region, offset, bytes, ..row }
            }
            What::UnitOpened(unit) => Self { event: "unit_opened", ..row.unit(Some(unit)) },
            What::UnitClosed(unit) => Self { event: "unit_closed", ..row.unit(Some(unit)) },
            What::Phase(unit, phase) => {
                Self { event: "phase", phase: Some(phase_name(phase)), ..row.unit(Some(unit)) }
            }
            What::PhaseEnded(unit, phase) => {
                let phase = Some(phase_name(phase));
                Self { event: "phase_ended", phase, ..row.unit(Some(unit)) }
            }
            What::Offloaded(unit) => Self { event: "offloaded", ..row.unit(Some(unit)) },
            What::Restored(unit) => Self { event: "restored", ..row.unit(Some(unit)) },
            What::Committed { region, bytes } => {
                let (region, bytes) = (Some(region.name()), Some(bytes));
                Self { event: "committed", region, bytes, ..row }
            }
            What::Refused { bytes, name } => {
                Self { event: "refused", bytes: Some(bytes), ..row.named(log, name) }
            }
            What::Planned { chunk, slice, region, bytes } => Self {
                event: "planned",
                region: Some(region.name()),
                bytes: Some(bytes),
                chunk: Some(chunk),
                slice: Some(slice),
                ..row
            },
            What::Step(step) => Self { event: "step", step: Some(step), ..row },
            _ => Self { event: "other", ..row },
        }
    }

    fn unit(self, unit: Option<UnitId>) -> Self {
        let of = |part: fn(UnitId) -> u32| unit.map(part);
        let (microbatch, slice) = (of(|unit| unit.microbatch), of(|unit| unit.slice));
        Self { microbatch, slice, chunk: of(|unit| unit.chunk), ..self }
    }

    fn named(self, log: &'a Playback, name: NameId) -> Self {
        let name = log.name(name);
        let (file, line) = name.location();
        Self { op: Some(name.op()), file: Some(file), line: Some(line), ..self }
    }
}

/// A phase's name.
pub(super) fn phase_name(phase: Phase) -> &'static str {
    match phase {
        Phase::Forward => "forward",
        Phase::Backward => "backward",
        Phase::Weight => "weight",
    }
}
