//! Strided views of matrices.

/// A matrix somewhere in a slice: element (i, j) at `i * row_stride + j * col_stride`.
#[derive(Clone, Copy)]
pub struct MatRef<'a, T> {
    data: &'a [T],
    rows: usize,
    cols: usize,
    row_stride: usize,
    col_stride: usize,
}

impl<'a, T: 'static> MatRef<'a, T> {
    /// A view of `rows` x `cols` elements.
    ///
    /// # Panics
    /// The last element lies outside `data`.
    pub fn new(
        data: &'a [T],
        rows: usize,
        cols: usize,
        row_stride: usize,
        col_stride: usize,
    ) -> Self {
        if rows > 0 && cols > 0 {
            let last = (rows - 1) * row_stride + (cols - 1) * col_stride;
            assert!(
                last < data.len(),
                "a {rows}x{cols} view with strides {row_stride}, {col_stride} leaves its {} elements",
                data.len()
            );
        }
        Self { data, rows, cols, row_stride, col_stride }
    }

    /// Rows.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Columns.
    pub fn cols(&self) -> usize {
        self.cols
    }

    /// Elements between neighbouring rows, and between neighbouring columns.
    pub fn strides(&self) -> (usize, usize) {
        (self.row_stride, self.col_stride)
    }

    /// The transpose, read in place.
    pub fn t(self) -> Self {
        let Self { data, rows, cols, row_stride, col_stride } = self;
        Self { data, rows: cols, cols: rows, row_stride: col_stride, col_stride: row_stride }
    }

    /// Rows `start..start + len`.
    ///
    /// # Panics
    /// They leave the matrix.
    pub fn narrow_rows(self, start: usize, len: usize) -> Self {
        assert!(start + len <= self.rows, "rows {start}..{} of {}", start + len, self.rows);
        let skip = (start * self.row_stride).min(self.data.len());
        Self { data: &self.data[skip..], rows: len, ..self }
    }

    pub(super) fn as_ptr(&self) -> *const T {
        self.data.as_ptr()
    }

    /// The elements from the first on.
    pub(super) fn data(&self) -> &'a [T] {
        self.data
    }

    /// The same view, if the elements are f32.
    pub(super) fn as_f32(&self) -> Option<MatRef<'a, f32>> {
        let data: &dyn std::any::Any = &std::marker::PhantomData::<T>;
        data.is::<std::marker::PhantomData<f32>>().then(|| MatRef {
            // SAFETY: T is f32, just checked.
            data: unsafe { std::slice::from_raw_parts(self.data.as_ptr().cast(), self.data.len()) },
            rows: self.rows,
            cols: self.cols,
            row_stride: self.row_stride,
            col_stride: self.col_stride,
        })
    }
}

/// A dense row-major matrix to be written.
pub struct MatMut<'a, T> {
    data: &'a mut [T],
    rows: usize,
    cols: usize,
}

impl<'a, T> MatMut<'a, T> {
    /// A view of `rows` x `cols` elements.
    ///
    /// # Panics
    /// `data` has another size.
    pub fn new(data: &'a mut [T], rows: usize, cols: usize) -> Self {
        assert_eq!(data.len(), rows * cols, "{} elements are not {rows}x{cols}", data.len());
        Self { data, rows, cols }
    }

    /// Rows.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Columns.
    pub fn cols(&self) -> usize {
        self.cols
    }

    pub(super) fn into_data(self) -> &'a mut [T] {
        self.data
    }
}
