//! Printing tensors: values in nested brackets, long dimensions shortened, then shape and dtype.

use std::fmt;

use crate::{DType, Element, RawTensor};

/// Elements shown at either end of a dimension that is longer than twice this.
const EDGE: usize = 3;

impl fmt::Display for RawTensor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.dtype() {
            DType::F32 => values::<f32>(self, f)?,
            DType::BF16 => values::<half::bf16>(self, f)?,
            DType::F16 => values::<half::f16>(self, f)?,
            DType::I32 => values::<i32>(self, f)?,
            DType::U32 => values::<u32>(self, f)?,
            DType::I64 => values::<i64>(self, f)?,
            DType::U8 => values::<u8>(self, f)?,
        }
        write!(f, "\nTensor[{}, {}, {}]", self.shape(), self.dtype(), self.device())
    }
}

fn values<T: Element>(tensor: &RawTensor, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    // Only what is shown is read: a large tensor prints as fast as a small one.
    if tensor.rank() == 0 {
        return match tensor.to_vec::<T>() {
            Ok(value) => write_value(value[0], f),
            Err(error) => write!(f, "<{error}>"),
        };
    }
    let len = tensor.dims()[0];
    f.write_str("[")?;
    for i in 0..len {
        if len > 2 * EDGE && i == EDGE {
            f.write_str(", ...")?;
        }
        if len > 2 * EDGE && (EDGE..len - EDGE).contains(&i) {
            continue;
        }
        if i > 0 {
            f.write_str(if tensor.rank() > 1 { ",\n " } else { ", " })?;
        }
        match tensor.narrow(0, i, 1).and_then(|row| row.squeeze(0)) {
            Ok(row) => values::<T>(&row, f)?,
            Err(error) => write!(f, "<{error}>")?,
        }
    }
    f.write_str("]")
}

fn write_value<T: Element>(value: T, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    if T::DTYPE.is_float() { write!(f, "{value:.4}") } else { write!(f, "{value}") }
}

#[cfg(test)]
mod tests {
    use crate::{Device, RawTensor};

    #[test]
    fn long_dimensions_are_shortened() {
        let x = RawTensor::from_slice(&(0..10).collect::<Vec<i32>>(), 10, Device::Cpu).unwrap();
        assert_eq!(x.to_string(), "[0, 1, 2, ..., 7, 8, 9]\nTensor[[10], i32, cpu]");
        let y = RawTensor::from_slice(&[1f32, 2.5], (2, 1), Device::Cpu).unwrap();
        assert_eq!(y.to_string(), "[[1.0000],\n [2.5000]]\nTensor[[2, 1], f32, cpu]");
    }
}
