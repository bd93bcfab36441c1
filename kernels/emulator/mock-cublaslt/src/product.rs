//! Products of matrices in device memory.

use half::bf16;
use slimpipe_mock_protocol::door::{Driver, Refusal};

use crate::describe::{Matrix, Refused};

/// Number of the element type bf16.
pub const BF16: u32 = 14;
/// Number of the element type f32.
pub const F32: u32 = 0;

/// D = alpha op(A) op(B) + beta C, checked.
#[derive(Clone, Copy, Debug)]
pub struct Call {
    /// A, B, and C and D, which are described alike.
    pub matrices: [Matrix; 3],
    /// Addresses of A, B, C, D.
    pub addresses: [u64; 4],
    /// Whether A and B are transposed.
    pub turned: [bool; 2],
    /// alpha, beta.
    pub scales: [f32; 2],
}

impl Matrix {
    fn size(&self) -> Result<u64, Refused> {
        match self.kind {
            BF16 => Ok(2),
            F32 => Ok(4),
            kind => Err(format!("element type {kind}")),
        }
    }

    /// Elements from the first to the last of a matrix.
    fn span(&self) -> u64 {
        (self.columns - 1) * self.pitch as u64 + self.rows
    }

    /// Elements of matrix `number`.
    fn read(&self, driver: &Driver, address: u64, number: u64) -> Result<Vec<f32>, Refusal> {
        let size = self.size().map_err(Refusal)?;
        let start = address + number * self.stride as u64 * size;
        let bytes = driver.read(start, (self.span() * size) as usize)?;
        Ok(match self.kind {
            BF16 => {
                (bytes.as_chunks().0.iter()).map(|&b| bf16::from_le_bytes(b).to_f32()).collect()
            }
            _ => bytes.as_chunks().0.iter().map(|&b| f32::from_le_bytes(b)).collect(),
        })
    }
}

impl Call {
    /// Whether the library would take it.
    ///
    /// # Errors
    /// It would not; the text says why.
    pub fn check(&self) -> Result<(), Refused> {
        let [a, b, c] = self.matrices;
        for (of, name) in self.matrices.iter().zip(["A", "B", "C"]) {
            of.size().map_err(|what| format!("{name}: {what}"))?;
            if of.rows == 0 || of.columns == 0 || of.batch < 1 || of.pitch < of.rows as i64 {
                return Err(format!("{name} cannot be: {of:?}"));
            }
        }
        if [a.kind, b.kind] != [BF16; 2] {
            return Err("A and B are to be bf16 here".to_owned());
        }
        let op =
            |of: Matrix, turned| if turned { (of.columns, of.rows) } else { (of.rows, of.columns) };
        let ((m, k), (also_k, n)) = (op(a, self.turned[0]), op(b, self.turned[1]));
        if (m, n) != (c.rows, c.columns) || k != also_k {
            return Err(format!(
                "[{m}, {k}] times [{also_k}, {n}] for [{}, {}]",
                c.rows, c.columns
            ));
        }
        if a.batch != b.batch || a.batch != c.batch {
            return Err("batches of different sizes".to_owned());
        }
        Ok(())
    }

    /// Computes it.
    ///
    /// # Errors
    /// An operand leaves the device's memory.
    pub fn run(&self, driver: &Driver) -> Result<(), Refusal> {
        let [a, b, c] = self.matrices;
        let [alpha, beta] = self.scales;
        for number in 0..c.batch as u64 {
            let left = a.read(driver, self.addresses[0], number)?;
            let right = b.read(driver, self.addresses[1], number)?;
            // Read only where it counts: it may hold anything otherwise.
            let old = match beta == 0.0 {
                true => None,
                false => Some(c.read(driver, self.addresses[2], number)?),
            };
            let at = |of: Matrix, turned: bool, i: u64, j: u64| {
                let (i, j) = if turned { (j, i) } else { (i, j) };
                (i + j * of.pitch as u64) as usize
            };
            let k = if self.turned[0] { a.rows } else { a.columns };
            let size = c.size().map_err(Refusal)?;
            for column in 0..c.columns {
                let mut bytes = Vec::with_capacity((c.rows * size) as usize);
                for row in 0..c.rows {
                    let products = (0..k).map(|x| {
                        let left = left[at(a, self.turned[0], row, x)];
                        f64::from(left) * f64::from(right[at(b, self.turned[1], x, column)])
                    });
                    let sum = products.sum::<f64>() as f32;
                    let old = old.as_ref().map_or(0.0, |old| beta * old[at(c, false, row, column)]);
                    let value = alpha * sum + old;
                    match c.kind {
                        BF16 => bytes.extend(bf16::from_f32(value).to_le_bytes()),
                        _ => bytes.extend(value.to_le_bytes()),
                    }
                }
                let first = number * c.stride as u64 + column * c.pitch as u64;
                driver.write(self.addresses[3] + first * size, &bytes)?;
            }
        }
        Ok(())
    }
}
