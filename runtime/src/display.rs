//! Printing tensors: values in nested brackets, long dimensions shortened, then shape and dtype.

use std::fmt;

use crate::{DType, Element, RawTensor};

/// Elements shown at either end of a dimension that is longer than twice this.
const EDGE: usize = 3;

impl fmt::Display for RawTensor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.dtype() {
            DType::F32 => values::<f32>(self, 1, f)?,
            DType::BF16 => values::<half::bf16>(self, 1, f)?,
            DType::F16 => values::<half::f16>(self, 1, f)?,
            DType::I32 => values::<i32>(self, 1, f)?,
            DType::U32 => values::<u32>(self, 1, f)?,
            DType::I64 => values::<i64>(self, 1, f)?,
            DType::U8 => values::<u8>(self, 1, f)?,
        }
        write!(f, "\nTensor[{}, {}, {}]", self.shape(), self.dtype(), self.device())
    }
}

/// Writes the values of a tensor that lies `depth` brackets deep. Only what is shown is read: a
/// large tensor prints as fast as a small one.
fn values<T: Element>(tensor: &RawTensor, depth: usize, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let Some(&len) = tensor.dims().first() else {
        return match tensor.to_vec::<T>().as_deref() {
            Ok([value, ..]) => write_value(*value, f),
            Ok([]) => Ok(()),
            Err(_) if tensor.is_meta() => f.write_str("-"),
            Err(error) => write!(f, "<{error}>"),
        };
    };
    f.write_str("[")?;
    for i in (0..len).filter(|i| len <= 2 * EDGE || *i < EDGE || len - EDGE <= *i) {
        if len > 2 * EDGE && i == len - EDGE {
            f.write_str(", ...")?;
        }
        if i > 0 {
            f.write_str(",")?;
            match tensor.rank() {
                1 => f.write_str(" ")?,
                _ => write!(f, "\n{:depth$}", "")?,
            }
        }
        match tensor.narrow(0, i, 1).and_then(|row| row.squeeze(0)) {
            Ok(row) => values::<T>(&row, depth + 1, f)?,
            Err(error) => write!(f, "<{error}>")?,
        }
    }
    f.write_str("]")
}

/// Floats get four digits after the point, and an exponent where that would hide or drown them.
fn write_value<T: Element>(value: T, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    if !T::DTYPE.is_float() {
        return write!(f, "{value}");
    }
    let exponent = format!("{value:e}").split_once('e').and_then(|(_, e)| e.parse::<i32>().ok());
    if exponent.is_none_or(|e| (-3..6).contains(&e)) {
        write!(f, "{value:.4}")
    } else {
        write!(f, "{value:.4e}")
    }
}

#[cfg(test)]
mod tests {
    use crate::{DType, Device, RawTensor};

    #[test]
    fn long_dimensions_are_shortened() {
        let x = RawTensor::from_slice(&(0..10).collect::<Vec<i32>>(), 10, Device::Cpu).unwrap();
        assert_eq!(x.to_string(), "[0, 1, 2, ..., 7, 8, 9]\nTensor[[10], i32, cpu]");
    }

    #[test]
    fn brackets_line_up() {
        let x =
            RawTensor::from_slice(&(0..8).collect::<Vec<u8>>(), (2, 2, 2), Device::Cpu).unwrap();
        let text = "[[[0, 1],\n  [2, 3]],\n [[4, 5],\n  [6, 7]]]\nTensor[[2, 2, 2], u8, cpu]";
        assert_eq!(x.to_string(), text);
    }

    #[test]
    fn floats_show_their_digits_whatever_their_size() {
        let values = [0f32, -2.5, 3e-5, 4e9, f32::NAN, f32::INFINITY];
        let x = RawTensor::from_slice(&values, 6, Device::Cpu).unwrap();
        let text = "[0.0000, -2.5000, 3.0000e-5, 4.0000e9, NaN, inf]\nTensor[[6], f32, cpu]";
        assert_eq!(x.to_string(), text);
        let half = RawTensor::from_slice(&[half::bf16::from_f32(1.5)], (), Device::Cpu).unwrap();
        assert_eq!(half.to_string(), "1.5000\nTensor[[], bf16, cpu]");
    }

    #[test]
    fn tensors_without_elements_print_their_shape() {
        let empty = RawTensor::zeros((2, 0), DType::F32, Device::Cpu).unwrap();
        assert_eq!(empty.to_string(), "[[],\n []]\nTensor[[2, 0], f32, cpu]");
        let meta = RawTensor::zeros(2, DType::F32, Device::Meta).unwrap();
        assert_eq!(meta.to_string(), "[-, -]\nTensor[[2], f32, meta]");
    }
}
