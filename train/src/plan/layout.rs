//! How a model is dealt to GPUs.

use std::fmt;
use std::str::FromStr;

use super::{Model, Workload};
use crate::{Error, Result};

/// The sizes of a mesh's axes, and how sequences and the model are cut along the pipeline. Ranks are
/// numbered so that tensor parallel ones are neighbours, then context, data and pipeline.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Layout {
    /// Tensor parallel ranks, t.
    pub tensor: u32,
    /// Context parallel ranks, c: they share each slice's tokens.
    pub context: u32,
    /// Pipeline ranks, p.
    pub pipeline: u32,
    /// Expert parallel ranks, e, out of those of the context and data axes.
    pub expert: u32,
    /// Data parallel ranks, d.
    pub data: u32,
    /// Slices per sequence, n.
    pub slices: u32,
    /// Model chunks per rank, v.
    pub chunks: u32,
}

/// Where `--layout` is wrong.
fn wrong(what: impl Into<String>) -> Error {
    Error::setting("--layout", what)
}

impl Layout {
    /// The GPUs it takes, t c p d.
    pub fn gpus(&self) -> u64 {
        [self.tensor, self.context, self.pipeline, self.data].map(u64::from).iter().product()
    }

    /// Stages, p v.
    pub fn stages(&self) -> u64 {
        u64::from(self.pipeline) * u64::from(self.chunks)
    }

    /// Checks that the model of `work` can be dealt so, to exactly its GPUs.
    ///
    /// # Errors
    /// The first size that does not fit, and which do.
    pub fn check(&self, work: &Workload) -> Result<()> {
        let Workload { model, context, gpus, .. } = work;
        let Self { tensor: t, context: c, pipeline: p, expert: e, data: d, .. } = *self;
        if self.gpus() != u64::from(*gpus) {
            return Err(wrong(format!(
                "t {t} x c {c} x p {p} x d {d} = {} GPUs, not the {gpus} of --gpus (experts are dealt to ranks of c and d)",
                self.gpus()
            )));
        }
        let dense = &model.dense;
        let (heads, kv_heads) = (dense.num_attention_heads, dense.num_key_value_heads);
        if !kv_heads.is_multiple_of(t as usize) || !heads.is_multiple_of(t as usize) {
            let what = format!(
                "t={t} does not divide the model's {heads} heads and {kv_heads} key/value heads"
            );
            return Err(wrong(what));
        }
        if !dense.intermediate_size.is_multiple_of(t as usize) {
            let what = format!(
                "t={t} does not divide the model's intermediate size {}",
                dense.intermediate_size
            );
            return Err(wrong(what));
        }
        match model.experts {
            None if e > 1 => {
                return Err(wrong(format!("e={e}, but {} has no experts; set e=1", model.name)));
            }
            Some(experts) if !experts.count.is_multiple_of(e) => {
                let what =
                    format!("e={e} does not divide the {} experts of a layer", experts.count);
                return Err(wrong(what));
            }
            _ => {}
        }
        if !(u64::from(c) * u64::from(d)).is_multiple_of(u64::from(e)) {
            let what =
                format!("e={e} does not divide the c x d = {} ranks that share the experts", c * d);
            return Err(wrong(what));
        }
        self.check_layers(model)?;
        let shards =
            u64::from(self.slices) * u64::from(t) * if c > 1 { 2 * u64::from(c) } else { 1 };
        if !context.is_multiple_of(shards) {
            let why = if c > 1 {
                format!(
                    "n={} slices of 2 x c = {} pieces, each shared by t={t} ranks",
                    self.slices,
                    2 * c
                )
            } else {
                format!("n={} slices, each shared by t={t} ranks", self.slices)
            };
            let what = format!("{context} tokens do not make {why}; a multiple of {shards} does");
            return Err(wrong(what));
        }
        Ok(())
    }

    /// Whether stages get equal numbers of layers is the schedule's affair; here only that each gets
    /// one.
    fn check_layers(&self, model: &Model) -> Result<()> {
        let layers = model.dense.num_hidden_layers as u64;
        if self.stages() > layers {
            let what = format!(
                "p={} ranks of v={} chunks are {} stages for {layers} layers; every stage needs a layer",
                self.pipeline,
                self.chunks,
                self.stages()
            );
            return Err(wrong(what));
        }
        Ok(())
    }
}

/// The axes by their letters, in the order they are written.
const LETTERS: [char; 7] = ['t', 'c', 'p', 'e', 'd', 'n', 'v'];

impl FromStr for Layout {
    type Err = Error;

    /// Reads `t=2,c=4,p=8,e=1,d=4,n=8,v=10`, in any order; what is left out is 1.
    fn from_str(text: &str) -> Result<Self> {
        let form = "write it as t=2,c=4,p=8,e=1,d=4,n=8,v=10";
        let mut sizes = [None; 7];
        for part in text.split(',') {
            let pair = part.split_once('=').map(|(axis, size)| (axis.trim(), size.trim()));
            let (axis, size) =
                pair.ok_or_else(|| wrong(format!("`{part}` is not an axis; {form}")))?;
            let at = LETTERS.iter().position(|letter| axis.chars().eq([*letter]));
            let at = at.ok_or_else(|| wrong(format!("there is no axis `{axis}`; {form}")))?;
            let size: u32 =
                size.parse().ok().filter(|size| (1..=65_535).contains(size)).ok_or_else(|| {
                    wrong(format!("{axis} is `{size}`; it must be between 1 and 65535"))
                })?;
            if sizes[at].replace(size).is_some() {
                return Err(wrong(format!("{axis} is given twice")));
            }
        }
        let [tensor, context, pipeline, expert, data, slices, chunks] =
            sizes.map(|size| size.unwrap_or(1));
        Ok(Self { tensor, context, pipeline, expert, data, slices, chunks })
    }
}

impl fmt::Display for Layout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { tensor, context, pipeline, expert, data, slices, chunks } = self;
        write!(f, "t={tensor},c={context},p={pipeline},e={expert},d={data},n={slices},v={chunks}")
    }
}
