//! What can be planned and written down, but does not run yet.

use super::Config;
use crate::{Error, Result};

impl Config {
    /// Whether everything that the settings ask for is built.
    ///
    /// # Errors
    /// An axis, or a kind of model, that is not; it is named.
    pub fn check_built(&self) -> Result<()> {
        let parallel = &self.parallel;
        for (setting, what, size) in [
            ("parallel.tensor", "tensor parallelism", parallel.tensor),
            ("parallel.context", "context parallelism", parallel.context),
            ("parallel.expert", "expert parallelism", parallel.expert),
        ] {
            if size != 1 {
                let what = format!("is {size}, but {what} is not built yet; set it to 1");
                return Err(Error::setting(setting, what));
            }
        }
        if self.model.num_local_experts > 0 {
            let what = format!(
                "is {}, but mixtures of experts are not built yet; set it to 0",
                self.model.num_local_experts
            );
            return Err(Error::setting("model.num_local_experts", what));
        }
        Ok(())
    }
}
