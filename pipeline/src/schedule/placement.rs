//! Which rank holds which stage.

use super::{Dimensions, Result, ScheduleError};

/// The table between stages (parts of the model, in the order data flows through them) and
/// (rank, chunk) pairs.
///
/// Everything asks this table, nothing computes ranks from stages on its own; so a layout that
/// returns through the ranks (a "V") is just another table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Placement {
    chunks: u32,
    /// (rank, chunk) by stage.
    locations: Vec<(u32, u32)>,
    /// Stage by rank * chunks + chunk.
    stages: Vec<u32>,
}

impl Placement {
    /// Stages go round the ranks: stage = chunk * p + rank.
    pub(super) fn round_robin(dimensions: Dimensions) -> Self {
        let Dimensions { ranks, chunks, .. } = dimensions;
        let locations = (0..chunks).flat_map(|chunk| (0..ranks).map(move |rank| (rank, chunk)));
        let stages = (0..ranks).flat_map(|rank| (0..chunks).map(move |chunk| chunk * ranks + rank));
        Self { chunks, locations: locations.collect(), stages: stages.collect() }
    }

    /// Any table: `locations` gives (rank, chunk) for each stage in turn.
    ///
    /// # Errors
    /// [`ScheduleError::Placement`] unless every chunk 0..`chunks` of every rank 0..`ranks` occurs
    /// exactly once.
    pub fn from_table(ranks: u32, chunks: u32, locations: Vec<(u32, u32)>) -> Result<Self> {
        let wrong = |what: String| Err(ScheduleError::Placement { what });
        let count = u64::from(ranks) * u64::from(chunks);
        if locations.len() as u64 != count {
            let got = locations.len();
            return wrong(format!("{got} stages for {ranks} ranks of {chunks} chunks each"));
        }
        let mut stages = vec![u32::MAX; locations.len()];
        for (stage, &(rank, chunk)) in locations.iter().enumerate() {
            if rank >= ranks || chunk >= chunks {
                return wrong(format!("stage {stage} is on rank {rank}, chunk {chunk}, which does not exist"));
            }
            let entry = &mut stages[(rank * chunks + chunk) as usize];
            if *entry != u32::MAX {
                return wrong(format!("stages {entry} and {stage} share rank {rank}, chunk {chunk}"));
            }
            *entry = stage as u32;
        }
        Ok(Self { chunks, locations, stages })
    }

    /// How many stages there are.
    pub fn stages(&self) -> u32 {
        self.locations.len() as u32
    }

    /// The stage that is chunk `chunk` of rank `rank`.
    ///
    /// # Panics
    /// There is no such rank or chunk.
    pub fn stage(&self, rank: u32, chunk: u32) -> u32 {
        assert!(chunk < self.chunks, "chunk {chunk} of {}", self.chunks);
        self.stages[rank as usize * self.chunks as usize + chunk as usize]
    }

    /// The (rank, chunk) that holds `stage`.
    ///
    /// # Panics
    /// There is no such stage.
    pub fn locate(&self, stage: u32) -> (u32, u32) {
        self.locations[stage as usize]
    }

    /// The rank that feeds a chunk, unless the chunk is the first stage or its own rank feeds it.
    pub fn remote_previous(&self, rank: u32, chunk: u32) -> Option<u32> {
        let (peer, _) = self.locate(self.stage(rank, chunk).checked_sub(1)?);
        (peer != rank).then_some(peer)
    }

    /// The rank that a chunk feeds, unless the chunk is the last stage or feeds its own rank.
    pub fn remote_next(&self, rank: u32, chunk: u32) -> Option<u32> {
        let next = self.stage(rank, chunk) + 1;
        let (peer, _) = *self.locations.get(next as usize)?;
        (peer != rank).then_some(peer)
    }

    /// The other one of the ranks of the first and the last stage, if `rank` is one of them and
    /// they differ: who shares a tied embedding with it.
    pub fn tied_peer(&self, rank: u32) -> Option<u32> {
        let (first, last) = (self.locate(0).0, self.locate(self.stages() - 1).0);
        match (rank == first, rank == last) {
            (true, false) => Some(last),
            (false, true) => Some(first),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn round_robin(ranks: u32, chunks: u32) -> Placement {
        Placement::round_robin(Dimensions { ranks, slices: 1, microbatches: 1, chunks })
    }

    #[test]
    fn stages_go_round_the_ranks() {
        let placement = round_robin(3, 2);
        let stages: Vec<_> = (0..6).map(|stage| placement.locate(stage)).collect();
        assert_eq!(stages, [(0, 0), (1, 0), (2, 0), (0, 1), (1, 1), (2, 1)]);
        for stage in 0..6 {
            let (rank, chunk) = placement.locate(stage);
            assert_eq!(placement.stage(rank, chunk), stage);
        }
        assert_eq!((placement.remote_previous(0, 0), placement.remote_next(2, 1)), (None, None));
        assert_eq!((placement.remote_previous(0, 1), placement.remote_next(2, 0)), (Some(2), Some(0)));
        assert_eq!([0, 1, 2].map(|rank| placement.tied_peer(rank)), [Some(2), None, Some(0)]);
    }

    #[test]
    fn stages_of_one_rank_need_no_message() {
        let placement = round_robin(1, 3);
        for chunk in 0..3 {
            assert_eq!((placement.remote_previous(0, chunk), placement.remote_next(0, chunk)), (None, None));
        }
        assert_eq!(placement.tied_peer(0), None);
    }

    #[test]
    fn a_v_layout_is_just_another_table() {
        let table = vec![(0, 0), (1, 0), (1, 1), (0, 1)];
        let placement = Placement::from_table(2, 2, table).unwrap();
        assert_eq!(placement.stage(0, 1), 3);
        assert_eq!((placement.remote_next(1, 0), placement.remote_previous(1, 1)), (None, None));
        assert_eq!(placement.remote_next(1, 1), Some(0));
    }

    #[test]
    fn tables_with_holes_or_doubles_are_errors() {
        for table in [vec![(0, 0)], vec![(0, 0), (0, 0)], vec![(0, 0), (2, 0)], vec![(0, 0), (1, 1)]] {
            assert!(Placement::from_table(2, 1, table).is_err());
        }
    }
}
