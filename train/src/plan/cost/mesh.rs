//! Where ranks are, and what it takes them to talk.

use crate::hardware::{Hardware, Wire};
use crate::plan::Layout;

/// A layout on machines: ranks are numbered so that tensor parallel ones are neighbours, then context,
/// data and pipeline, and fill one machine after the other.
#[derive(Clone, Copy, Debug)]
pub struct Mesh<'a> {
    layout: Layout,
    hardware: &'a Hardware,
}

/// Ranks that talk to each other.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Group {
    /// How many.
    pub size: f64,
    /// How many of them are in one machine.
    pub near: f64,
}

impl<'a> Mesh<'a> {
    /// `layout` on `hardware`.
    pub fn new(layout: Layout, hardware: &'a Hardware) -> Self {
        Self { layout, hardware }
    }

    /// Groups of `size` ranks that are `stride` apart.
    fn group(&self, size: u32, stride: u32) -> Group {
        let near = (self.hardware.node.gpus / stride).clamp(1, size);
        Group { size: f64::from(size), near: f64::from(near) }
    }

    /// Tensor parallel ranks.
    pub fn tensor(&self) -> Group {
        self.group(self.layout.tensor, 1)
    }

    /// Context parallel ranks.
    pub fn context(&self) -> Group {
        self.group(self.layout.context, self.layout.tensor)
    }

    /// Ranks that share the experts of a layer.
    pub fn expert(&self) -> Group {
        self.group(self.layout.expert, self.layout.tensor)
    }

    /// Ranks with the same weights, other than experts'.
    pub fn copies(&self) -> Group {
        self.group(self.layout.context * self.layout.data, self.layout.tensor)
    }

    /// Ranks with the same experts.
    pub fn expert_copies(&self) -> Group {
        let Layout { tensor, context, expert, data, .. } = self.layout;
        self.group(context * data / expert, tensor * expert)
    }

    /// The link from a pipeline rank to another one.
    pub fn pipeline(&self) -> Wire {
        let Layout { tensor, context, pipeline, data, .. } = self.layout;
        let everything = tensor * context * data * pipeline;
        if everything <= self.hardware.node.gpus {
            self.hardware.node.wire()
        } else {
            self.hardware.network
        }
    }

    /// Seconds until every rank of a group has all of `bytes`, of which each has an equal part; or
    /// until each has its part of the sum. What comes from other machines is fetched once for all
    /// ranks of one, each of them its share, while they hand on what they have.
    pub fn all_gather(&self, group: Group, bytes: f64) -> f64 {
        let nodes = group.size / group.near;
        let far = bytes * (1.0 - 1.0 / nodes) / group.near;
        let near = bytes * (1.0 - 1.0 / group.size) - far;
        self.seconds(group, near, far)
    }

    /// Seconds until every rank of a group has sent `bytes`, to each an equal part.
    pub fn all_to_all(&self, group: Group, bytes: f64) -> f64 {
        let far = bytes * (group.size - group.near) / group.size;
        let near = bytes * (group.near - 1.0) / group.size;
        self.seconds(group, near, far)
    }

    /// Seconds until every rank of a group has handed `bytes` to the next one.
    pub fn ring(&self, group: Group, bytes: f64) -> f64 {
        // The hop to the next machine is the slow one.
        let (near, far) = if group.near < group.size { (0.0, bytes) } else { (bytes, 0.0) };
        self.seconds(group, near, far)
    }

    fn seconds(&self, group: Group, near: f64, far: f64) -> f64 {
        if group.size <= 1.0 {
            return 0.0;
        }
        let (node, network) = (self.hardware.node.wire(), self.hardware.network);
        let latency = if group.near < group.size { network.latency() } else { node.latency() };
        node.seconds(near).max(network.seconds(far)) + latency
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_leave_a_machine_where_their_ranks_do() {
        let hardware = Hardware::open("h800-80g").unwrap();
        let layout: Layout = "t=4,c=4,p=2,d=2".parse().unwrap();
        let mesh = Mesh::new(layout, &hardware);
        assert_eq!(mesh.tensor(), Group { size: 4.0, near: 4.0 });
        assert_eq!(mesh.context(), Group { size: 4.0, near: 2.0 });
        assert_eq!(mesh.copies(), Group { size: 8.0, near: 2.0 });
        assert_eq!(mesh.pipeline(), hardware.network);
        // 160 GB/s within: three quarters of 1 GB. Between machines 45 GB/s for each of two ranks.
        let all = |group| mesh.all_gather(group, 1e9);
        assert!((all(mesh.tensor()) - 0.75 / 160.0 - 10e-6).abs() < 1e-9);
        assert!((all(mesh.context()) - 0.25 / 45.0 - 20e-6).abs() < 1e-9);
        assert!((mesh.all_to_all(mesh.context(), 1e9) - 0.5 / 45.0 - 20e-6).abs() < 1e-9);
        assert_eq!(mesh.all_gather(Group { size: 1.0, near: 1.0 }, 1e9), 0.0);
    }
}
