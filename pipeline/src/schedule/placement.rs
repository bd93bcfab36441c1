/// Which rank runs which stage of the model, so that no layout is a special case to anyone else.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Placement {
    ranks: u32,
    chunks: u32,
}

impl Placement {
    /// Stages go around the ranks: stage = chunk * ranks + rank.
    pub fn around(ranks: u32, chunks: u32) -> Self {
        Self { ranks, chunks }
    }

    /// Number of stages.
    pub fn stages(&self) -> u32 {
        self.ranks * self.chunks
    }

    /// The stage that chunk `chunk` of `rank` is.
    ///
    /// # Panics
    /// No such rank or chunk.
    pub fn stage(&self, rank: u32, chunk: u32) -> u32 {
        assert!(rank < self.ranks && chunk < self.chunks, "no chunk {chunk} on a rank {rank}");
        chunk * self.ranks + rank
    }

    /// The (rank, chunk) that runs `stage`.
    ///
    /// # Panics
    /// No such stage.
    pub fn locate(&self, stage: u32) -> (u32, u32) {
        assert!(stage < self.stages(), "no stage {stage}");
        (stage % self.ranks, stage / self.ranks)
    }

    /// Where the input of chunk `chunk` of `rank` comes from; `None` for the first stage.
    pub fn before(&self, rank: u32, chunk: u32) -> Option<(u32, u32)> {
        self.stage(rank, chunk).checked_sub(1).map(|stage| self.locate(stage))
    }

    /// Where the output of chunk `chunk` of `rank` goes; `None` for the last stage.
    pub fn after(&self, rank: u32, chunk: u32) -> Option<(u32, u32)> {
        let stage = self.stage(rank, chunk) + 1;
        (stage < self.stages()).then(|| self.locate(stage))
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
