//! Which rank this process is, as its launcher says.

use std::fmt;

use super::CommError;

/// What started the processes of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Launcher {
    /// `torchrun --no-python`.
    Torchrun,
    /// Open MPI's `mpirun`.
    OpenMpi,
    /// `mpirun` or `mpiexec` of MPICH and its relatives.
    Mpich,
    /// Slurm's `srun`.
    Slurm,
}

impl Launcher {
    /// In the order in which they are asked: each may run inside those behind it, whose variables are
    /// then set too.
    const ALL: [Self; 4] = [Self::Torchrun, Self::OpenMpi, Self::Mpich, Self::Slurm];

    /// The variables of rank, number of ranks, and rank among those of the host.
    fn variables(self) -> [&'static str; 3] {
        match self {
            Self::Torchrun => ["RANK", "WORLD_SIZE", "LOCAL_RANK"],
            Self::OpenMpi => {
                ["OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_LOCAL_RANK"]
            }
            Self::Mpich => ["PMI_RANK", "PMI_SIZE", "MPI_LOCALRANKID"],
            // The number of tasks of a step: a batch script alone has none, and is no rank.
            Self::Slurm => ["SLURM_PROCID", "SLURM_STEP_NUM_TASKS", "SLURM_LOCALID"],
        }
    }
}

impl fmt::Display for Launcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Torchrun => "torchrun",
            Self::OpenMpi => "Open MPI",
            Self::Mpich => "MPICH",
            Self::Slurm => "Slurm",
        })
    }
}

/// This process among those that a launcher started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// Its rank.
    pub rank: u32,
    /// How many there are.
    pub size: u32,
    /// Its rank among those of its host: the GPU to take.
    pub local_rank: u32,
    /// Who says so.
    pub launcher: Launcher,
}

impl Place {
    /// What the environment says; `None` if no launcher started this process.
    ///
    /// # Errors
    /// A launcher's variables are incomplete or no numbers, or do not fit together.
    pub fn of_process() -> Result<Option<Self>, CommError> {
        Self::read(|name| std::env::var(name).ok())
    }

    /// As [`Place::of_process`], of variables that `value` gives.
    ///
    /// # Errors
    /// As [`Place::of_process`].
    pub fn read(value: impl Fn(&str) -> Option<String>) -> Result<Option<Self>, CommError> {
        for launcher in Launcher::ALL {
            let [rank, size, local] = launcher.variables();
            let (Some(rank_text), Some(size_text)) = (value(rank), value(size)) else { continue };
            let wrong = |what: String| CommError::Environment { launcher, what };
            let number = |name: &str, text: &str| {
                text.trim().parse::<u32>().map_err(|_| wrong(format!("{name} is `{text}`")))
            };
            let local_text =
                value(local).ok_or_else(|| wrong(format!("{local} is not set, {rank} is")))?;
            let (at, of) = (number(rank, &rank_text)?, number(size, &size_text)?);
            let local_rank = number(local, &local_text)?;
            if at >= of || local_rank > at {
                let what = format!("{rank} is {at}, {size} {of} and {local} {local_rank}");
                return Err(wrong(what));
            }
            return Ok(Some(Self { rank: at, size: of, local_rank, launcher }));
        }
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(set: &[(&str, &str)]) -> Result<Option<Place>, CommError> {
        Place::read(|name| {
            set.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned())
        })
    }

    #[test]
    fn each_launcher_is_understood_and_the_innermost_counts() {
        let slurm = [("SLURM_PROCID", "5"), ("SLURM_STEP_NUM_TASKS", "8"), ("SLURM_LOCALID", "1")];
        let expected = Place { rank: 5, size: 8, local_rank: 1, launcher: Launcher::Slurm };
        assert_eq!(read(&slurm), Ok(Some(expected)));
        let torchrun = [("RANK", "9"), ("WORLD_SIZE", "16"), ("LOCAL_RANK", "1")];
        let place = read(&[&slurm[..], &torchrun].concat()).unwrap().unwrap();
        assert_eq!((place.rank, place.launcher), (9, Launcher::Torchrun));
        let mpi = ["RANK", "SIZE", "LOCAL_RANK"].map(|name| format!("OMPI_COMM_WORLD_{name}"));
        let mpi = [(&*mpi[0], "0"), (&*mpi[1], "2"), (&*mpi[2], "0")];
        let place = read(&[&slurm[..], &mpi].concat()).unwrap().unwrap();
        assert_eq!((place.rank, place.launcher), (0, Launcher::OpenMpi));
    }

    #[test]
    fn a_process_that_nobody_launched_has_no_place() {
        assert_eq!(read(&[]), Ok(None));
        // As in a batch script, outside any step.
        assert_eq!(read(&[("SLURM_PROCID", "0"), ("SLURM_NTASKS", "8")]), Ok(None));
    }

    #[test]
    fn variables_that_make_no_sense_are_named() {
        let with = |rank, size, local| {
            let error = read(&[("RANK", rank), ("WORLD_SIZE", size), ("LOCAL_RANK", local)]);
            error.unwrap_err().to_string()
        };
        for (text, expected) in [
            (with("x", "2", "0"), "RANK is `x`"),
            (with("2", "2", "0"), "RANK is 2, WORLD_SIZE 2"),
            (with("1", "2", "-1"), "LOCAL_RANK is `-1`"),
            (read(&[("RANK", "0"), ("WORLD_SIZE", "1")]).unwrap_err().to_string(), "LOCAL_RANK"),
        ] {
            assert!(text.contains(expected) && text.contains("torchrun"), "{text}");
        }
    }
}
