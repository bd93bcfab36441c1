/// Which rank runs which stage of the model: a table, so that other layouts are no special case.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Placement {
    /// (rank, chunk) of each stage.
    stages: Vec<(u32, u32)>,
    /// Stage by rank * chunks + chunk.
    by_rank: Vec<u32>,
    chunks: u32,
}

impl Placement {
    /// Stages go around the ranks: stage = chunk * ranks + rank.
    pub fn around(ranks: u32, chunks: u32) -> Self {
        let stages: Vec<(u32, u32)> =
            (0..chunks).flat_map(|chunk| (0..ranks).map(move |rank| (rank, chunk))).collect();
        let mut by_rank = vec![0; stages.len()];
        for (stage, &(rank, chunk)) in stages.iter().enumerate() {
            by_rank[(rank * chunks + chunk) as usize] = stage as u32;
        }
        Self { stages, by_rank, chunks }
    }

    /// The stage that chunk `chunk` of `rank` is.
    ///
    /// # Panics
    /// No such rank or chunk.
    pub fn stage(&self, rank: u32, chunk: u32) -> u32 {
        self.by_rank[(rank * self.chunks + chunk) as usize]
    }

    /// The (rank, chunk) that runs `stage`.
    ///
    /// # Panics
    /// No such stage.
    pub fn locate(&self, stage: u32) -> (u32, u32) {
        self.stages[stage as usize]
    }

    /// Number of stages.
    pub fn stages(&self) -> u32 {
        self.stages.len() as u32
    }
}
