use std::sync::Arc;

/// Which rank runs which stage of the model: a table, so that no layout is a special case to anyone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Placement {
    chunks: u32,
    /// The stage of each chunk, rank by rank.
    stages: Arc<[u32]>,
    /// The (rank, chunk) of each stage.
    places: Arc<[(u32, u32)]>,
}

impl Placement {
    /// Stages go around the ranks: stage = chunk * ranks + rank.
    pub fn around(ranks: u32, chunks: u32) -> Self {
        let places = (0..chunks).flat_map(|chunk| (0..ranks).map(move |rank| (rank, chunk)));
        Self::from_places(ranks, chunks, places.collect())
    }

    /// Two chunks per rank: stages go down the ranks and come back up, so that the first and the
    /// last are both on rank 0.
    pub fn vee(ranks: u32) -> Self {
        let (down, up) = ((0..ranks).map(|rank| (rank, 0)), (0..ranks).rev().map(|rank| (rank, 1)));
        Self::from_places(ranks, 2, down.chain(up).collect())
    }

    fn from_places(ranks: u32, chunks: u32, places: Arc<[(u32, u32)]>) -> Self {
        let mut stages = vec![0; places.len()];
        for (stage, &(rank, chunk)) in places.iter().enumerate() {
            stages[(rank * chunks + chunk) as usize] = stage as u32;
        }
        debug_assert_eq!(places.len(), (ranks * chunks) as usize);
        Self { chunks, stages: stages.into(), places }
    }

    /// Number of stages.
    pub fn stages(&self) -> u32 {
        self.places.len() as u32
    }

    /// The stage that chunk `chunk` of `rank` is.
    ///
    /// # Panics
    /// No such rank or chunk.
    pub fn stage(&self, rank: u32, chunk: u32) -> u32 {
        let index = u64::from(rank) * u64::from(self.chunks) + u64::from(chunk);
        let exists = chunk < self.chunks && index < self.stages.len() as u64;
        assert!(exists, "no chunk {chunk} on a rank {rank}");
        self.stages[index as usize]
    }

    /// The (rank, chunk) that runs `stage`.
    ///
    /// # Panics
    /// No such stage.
    pub fn locate(&self, stage: u32) -> (u32, u32) {
        self.places[stage as usize]
    }

    /// Where the input of chunk `chunk` of `rank` comes from; `None` for the first stage.
    pub fn before(&self, rank: u32, chunk: u32) -> Option<(u32, u32)> {
        self.stage(rank, chunk).checked_sub(1).map(|stage| self.locate(stage))
    }

    /// Where the output of chunk `chunk` of `rank` goes; `None` for the last stage.
    pub fn after(&self, rank: u32, chunk: u32) -> Option<(u32, u32)> {
        self.places.get(self.stage(rank, chunk) as usize + 1).copied()
    }

    /// The rank with the stage at the other end of the model, if `rank` has the first or the last
    /// stage and they are on two ranks: the two may share a parameter.
    pub fn other_end(&self, rank: u32) -> Option<u32> {
        let ends = (self.locate(0).0, self.locate(self.stages() - 1).0);
        match ends {
            (first, last) if first == last => None,
            (first, last) if rank == first => Some(last),
            (first, last) if rank == last => Some(first),
            _ => None,
        }
    }
}
