//! The groups of ranks that a rank belongs to.

use super::{Error, Result, routes};
use crate::comm::{Axis, Communicator, Mesh};
use crate::schedule::Schedule;

/// A rank's communicators: with all ranks, and with those along each axis of the mesh.
pub(super) struct Groups {
    world: Box<dyn Communicator>,
    /// `None` where it is the world.
    pipeline: Option<Box<dyn Communicator>>,
}

impl Groups {
    /// Those of the rank of `world`, and the group of the data ranks that run its program, if there
    /// are others. All ranks must call this.
    ///
    /// # Errors
    /// Another rank failed, or the world has not as many ranks as the schedule.
    pub(super) fn new(
        schedule: &Schedule,
        mut world: Box<dyn Communicator>,
    ) -> Result<(Self, Option<Box<dyn Communicator>>)> {
        let (data, pipeline) = (schedule.data_ranks(), schedule.ranks());
        let (got, mesh) = (world.size(), Mesh::new(data, pipeline));
        if got != mesh.size() {
            return Err(Error::WrongGroup { got, expected: mesh.size() });
        }
        let (mut groups, data) = if data == 1 {
            (Self { world, pipeline: None }, None)
        } else {
            let pipeline = Some(mesh.group(&mut *world, Axis::Pipeline)?);
            let data = mesh.group(&mut *world, Axis::Data)?;
            (Self { world, pipeline }, Some(data))
        };
        groups.pipeline().open(routes::of_stages(schedule))?;
        Ok((groups, data))
    }

    /// All ranks.
    pub(super) fn world(&mut self) -> &mut dyn Communicator {
        &mut *self.world
    }

    /// The ranks that run the same microbatches, one for each part of the model.
    pub(super) fn pipeline(&mut self) -> &mut dyn Communicator {
        &mut **self.pipeline.as_mut().unwrap_or(&mut self.world)
    }

    /// Waits until all messages in the pipeline were read, and frees this rank's, where the pipeline is
    /// not the world, whose collectives do so too.
    pub(super) fn settle(&mut self) -> Result<()> {
        match &mut self.pipeline {
            Some(pipeline) => Ok(pipeline.barrier()?),
            None => Ok(()),
        }
    }

    /// This rank's number in its pipeline.
    pub(super) fn rank(&self) -> u32 {
        self.pipeline.as_ref().unwrap_or(&self.world).rank()
    }

    /// Ends them, when all that they were given has been done.
    pub(super) fn finish(&mut self) -> Result<()> {
        if let Some(pipeline) = &mut self.pipeline {
            pipeline.finish()?;
        }
        Ok(self.world.finish()?)
    }
}
