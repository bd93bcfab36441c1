//! Descriptions of products, matrices and wishes, behind handles.

use std::ffi::c_void;
use std::sync::Mutex;

use slimpipe_mock_protocol::handles::Handles;

/// Why a call is refused.
pub type Refused = String;

/// A matrix, columns first: element (i, j) at i + j * pitch.
#[derive(Clone, Copy, Debug)]
pub struct Matrix {
    /// The number of its element type.
    pub kind: u32,
    /// Rows.
    pub rows: u64,
    /// Columns.
    pub columns: u64,
    /// Elements between columns.
    pub pitch: i64,
    /// Matrices.
    pub batch: i32,
    /// Elements between them.
    pub stride: i64,
}

/// A product: which sides are transposed.
#[derive(Clone, Copy, Debug, Default)]
pub struct Product {
    /// The numbers of the operations on the left and the right side.
    pub turned: [i32; 2],
}

/// What an algorithm may count on.
#[derive(Clone, Copy, Debug)]
pub struct Wishes {
    /// Bytes beside the operands.
    pub workspace: usize,
    /// Of A, B, C, D.
    pub alignments: [u32; 4],
}

/// Handles of matrices.
pub static MATRICES: Handles<Mutex<Matrix>> = Handles::new();
/// Handles of products.
pub static PRODUCTS: Handles<Mutex<Product>> = Handles::new();
/// Handles of wishes.
pub static WISHES: Handles<Mutex<Wishes>> = Handles::new();

/// What is behind a handle, now.
///
/// # Errors
/// Nothing is.
pub fn behind<T: Copy, P>(handles: &Handles<Mutex<T>>, handle: *mut P) -> Result<T, Refused> {
    let object = handles.get(handle).ok_or("a handle of nothing, or of something destroyed")?;
    Ok(*object.lock().unwrap_or_else(|e| e.into_inner()))
}

/// Changes what is behind a handle.
///
/// # Errors
/// Nothing is, or `change` refuses.
pub fn change<T, P>(
    handles: &Handles<Mutex<T>>,
    handle: *mut P,
    change: impl FnOnce(&mut T) -> Result<(), Refused>,
) -> Result<(), Refused> {
    let object = handles.get(handle).ok_or("a handle of nothing, or of something destroyed")?;
    change(&mut object.lock().unwrap_or_else(|e| e.into_inner()))
}

/// An attribute's value.
///
/// # Errors
/// It has another size.
///
/// # Safety
/// `bytes` bytes are readable at `from`.
pub unsafe fn value<T: Copy>(from: *const c_void, bytes: usize) -> Result<T, Refused> {
    if bytes != size_of::<T>() || from.is_null() {
        return Err(format!("an attribute of {bytes} bytes for one of {}", size_of::<T>()));
    }
    // SAFETY: as many bytes as the caller promises, and numbers take any.
    Ok(unsafe { from.cast::<T>().read_unaligned() })
}
