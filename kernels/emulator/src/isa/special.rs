//! Special registers with one value per warp and launch.

/// What a special register tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Special {
    Tid(u8),
    Ntid(u8),
    Ctaid(u8),
    Nctaid(u8),
    ClusterId(u8),
    NclusterId(u8),
    ClusterCtaid(u8),
    ClusterNctaid(u8),
    ClusterCtarank,
    ClusterNctarank,
    ExplicitCluster,
    LaneId,
    WarpId,
    Nwarpid,
    SmId,
    Nsmid,
    GridId,
    LanemaskEq,
    LanemaskLe,
    LanemaskLt,
    LanemaskGe,
    LanemaskGt,
    DynamicSmemSize,
    TotalSmemSize,
}

impl Special {
    /// The register of that name, without its percent sign.
    pub(crate) fn parse(name: &str) -> Option<Self> {
        let (base, axis) = match name.rsplit_once('.') {
            Some((base, "x")) => (base, 0),
            Some((base, "y")) => (base, 1),
            Some((base, "z")) => (base, 2),
            Some(_) => return None,
            None => return Self::scalar(name),
        };
        Some(match base {
            "tid" => Self::Tid(axis),
            "ntid" => Self::Ntid(axis),
            "ctaid" => Self::Ctaid(axis),
            "nctaid" => Self::Nctaid(axis),
            "clusterid" => Self::ClusterId(axis),
            "nclusterid" => Self::NclusterId(axis),
            "cluster_ctaid" => Self::ClusterCtaid(axis),
            "cluster_nctaid" => Self::ClusterNctaid(axis),
            _ => return None,
        })
    }

    fn scalar(name: &str) -> Option<Self> {
        Some(match name {
            "cluster_ctarank" => Self::ClusterCtarank,
            "cluster_nctarank" => Self::ClusterNctarank,
            "laneid" => Self::LaneId,
            "warpid" => Self::WarpId,
            "nwarpid" => Self::Nwarpid,
            "smid" => Self::SmId,
            "nsmid" => Self::Nsmid,
            "gridid" => Self::GridId,
            "lanemask_eq" => Self::LanemaskEq,
            "lanemask_le" => Self::LanemaskLe,
            "lanemask_lt" => Self::LanemaskLt,
            "lanemask_ge" => Self::LanemaskGe,
            "lanemask_gt" => Self::LanemaskGt,
            "dynamic_smem_size" => Self::DynamicSmemSize,
            "total_smem_size" => Self::TotalSmemSize,
            "is_explicit_cluster" => Self::ExplicitCluster,
            _ => return None,
        })
    }

    /// Whether it is a predicate.
    pub(crate) fn predicate(self) -> bool {
        self == Self::ExplicitCluster
    }
}
