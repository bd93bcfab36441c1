//! Ranks in a grid: who shares which axis with whom.

use std::fmt;

use super::{CommError, Communicator};

/// A way to divide the work among ranks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Axis {
    /// Ranks with the same stages and other microbatches.
    Data,
    /// Ranks with the same microbatches and other stages.
    Pipeline,
}

impl fmt::Display for Axis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Data => "data",
            Self::Pipeline => "pipeline",
        })
    }
}

/// A grid of ranks. Neighbours along the first axis have neighbouring numbers, as in Megatron-LM:
/// rank = data + d pipeline for d data ranks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mesh {
    axes: [(Axis, u32); 2],
}

impl Mesh {
    /// The mesh of `data` times `pipeline` ranks.
    pub fn new(data: u32, pipeline: u32) -> Self {
        Self { axes: [(Axis::Data, data), (Axis::Pipeline, pipeline)] }
    }

    /// Number of ranks.
    pub fn size(&self) -> u32 {
        self.axes.iter().map(|(_, extent)| extent).product()
    }

    /// Ranks along `axis`.
    pub fn extent(&self, axis: Axis) -> u32 {
        self.axes.iter().find(|(own, _)| *own == axis).map_or(1, |(_, extent)| *extent)
    }

    /// How many ranks further the next one along `axis` is.
    fn stride(&self, axis: Axis) -> u32 {
        self.axes.iter().take_while(|(own, _)| *own != axis).map(|(_, extent)| extent).product()
    }

    /// Where `rank` is along `axis`.
    pub fn coordinate(&self, rank: u32, axis: Axis) -> u32 {
        rank / self.stride(axis) % self.extent(axis)
    }

    /// The rank at `coordinate` along `axis` that differs from `rank` in nothing else.
    pub fn beside(&self, rank: u32, axis: Axis, coordinate: u32) -> u32 {
        rank - self.coordinate(rank, axis) * self.stride(axis) + coordinate * self.stride(axis)
    }

    /// What `rank` is called: with its coordinates where there are several axes.
    pub fn name(&self, rank: u32) -> String {
        let axes: Vec<String> = (self.axes.iter().filter(|(_, extent)| *extent > 1))
            .map(|(axis, _)| format!("{axis} {}", self.coordinate(rank, *axis)))
            .collect();
        match axes.len() {
            0 | 1 => format!("rank {rank}"),
            _ => format!("rank {rank} ({})", axes.join(", ")),
        }
    }

    /// The group along `axis` that the rank of `comm` belongs to, by coordinate. `comm` is of all
    /// ranks, and all must call this.
    ///
    /// # Errors
    /// Another rank failed, or does something else; a communicator of another size.
    pub fn group(
        &self,
        comm: &mut dyn Communicator,
        axis: Axis,
    ) -> Result<Box<dyn Communicator>, CommError> {
        let (rank, size) = (comm.rank(), comm.size());
        if size != self.size() {
            return Err(CommError::WrongSize { size, expected: self.size() });
        }
        // Those that differ in nothing else have the same first one.
        comm.split(self.beside(rank, axis, 0), self.coordinate(rank, axis))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn data_ranks_are_neighbours() {
        let mesh = Mesh::new(2, 3);
        let at = |rank| (mesh.coordinate(rank, Axis::Data), mesh.coordinate(rank, Axis::Pipeline));
        assert_eq!(
            (0..6).map(at).collect::<Vec<_>>(),
            [(0, 0), (1, 0), (0, 1), (1, 1), (0, 2), (1, 2)]
        );
        assert_eq!(mesh.name(3), "rank 3 (data 1, pipeline 1)");
        assert_eq!(Mesh::new(1, 4).name(3), "rank 3");
        assert_eq!(Mesh::new(1, 4).coordinate(3, Axis::Pipeline), 3);
    }
}
