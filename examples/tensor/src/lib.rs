//! Tensors in messages: what a message says about its data (type, shape), and the data where they arrived.
//!
//! A message is eight bytes (`SLT1`, data type, number of dimensions, two zeros), each dimension as a little-endian u64, and the data, row by
//! row, little-endian, up to the end. So the data begin at a multiple of eight, and how long they are follows from the rest: a message in which
//! the two differ is refused. Decoding looks at the head only and copies nothing; a [`Tensor`] is a view of the message, and sharing it
//! is counting a reference.
#![forbid(unsafe_code)]
#![deny(missing_docs)]

use sealane::Payload;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Dimensions at most.
pub const RANK_MAX: usize = 32;
/// At which multiple the data begin in a message.
pub const ALIGNMENT: usize = 8;

/// What a message of this form begins with.
const MAGIC: [u8; 4] = *b"SLT1";
/// Bytes before the dimensions.
const HEAD_LEN: usize = 8;
/// Bytes of a dimension.
const DIMENSION_LEN: usize = 8;

const _: () = assert!(HEAD_LEN.is_multiple_of(ALIGNMENT) && DIMENSION_LEN.is_multiple_of(ALIGNMENT));

/// Why bytes are no tensor.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The head is cut off, or is another's.
    #[error("this is no tensor: {0} bytes that do not begin as one")]
    Head(usize),
    /// There is no such data type.
    #[error("there is no data type {0}")]
    Dtype(u8),
    /// Too many dimensions.
    #[error("{0} dimensions: at most {RANK_MAX}")]
    Rank(usize),
    /// So many elements cannot be.
    #[error("the shape {0:?} has more elements than can be counted")]
    Shape(Vec<u64>),
    /// The shape says another length than there is.
    #[error("{expected} bytes of data belong to this shape, and there are {found}")]
    Length {
        /// By shape and type.
        expected: u64,
        /// In fact.
        found: u64,
    },
    /// The elements are of another type.
    #[error("the elements are {found:?}, not {asked:?}")]
    Element {
        /// What was asked for.
        asked: Dtype,
        /// What they are.
        found: Dtype,
    },
    /// The data do not stand in memory as elements of this type must.
    #[error("the data stand at an address that {0:?} cannot be read from in place")]
    Alignment(Dtype),
}

macro_rules! dtypes {
    ($($(#[doc = $doc:literal])+ $name:ident = $code:literal, $text:literal, $bytes:literal;)+) => {
        /// The type of elements.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[repr(u8)]
        pub enum Dtype {
            $($(#[doc = $doc])+ $name = $code,)+
        }

        impl Dtype {
            /// All of them.
            pub const ALL: &'static [Self] = &[$(Self::$name),+];

            /// Bytes of an element.
            pub const fn bytes(self) -> usize {
                match self { $(Self::$name => $bytes,)+ }
            }

            /// What it is called: `f32`.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$name => $text,)+ }
            }
        }
    };
}

dtypes! {
    /// 32-bit floating point.
    F32 = 0, "f32", 4;
    /// 64-bit floating point.
    F64 = 1, "f64", 8;
    /// 16-bit floating point, IEEE 754.
    F16 = 2, "f16", 2;
    /// The upper half of an [`Self::F32`].
    Bf16 = 3, "bf16", 2;
    /// Signed, 32 bits.
    I32 = 4, "i32", 4;
    /// Signed, 64 bits.
    I64 = 5, "i64", 8;
    /// Unsigned, 8 bits.
    U8 = 6, "u8", 1;
    /// One byte each, 0 or 1.
    Bool = 7, "bool", 1;
}

impl Dtype {
    /// The one of that name.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|dtype| dtype.name() == name)
    }

    fn of_code(code: u8) -> Option<Self> {
        Self::ALL.iter().copied().find(|dtype| *dtype as u8 == code)
    }

    /// Bytes of a tensor of this shape.
    ///
    /// # Errors
    /// [`Error::Rank`] and [`Error::Shape`].
    pub fn data_len(self, shape: &[u64]) -> Result<u64, Error> {
        if shape.len() > RANK_MAX {
            return Err(Error::Rank(shape.len()));
        }
        let len = shape.iter().try_fold(self.bytes() as u64, |len, dimension| len.checked_mul(*dimension));
        len.ok_or_else(|| Error::Shape(shape.to_vec()))
    }
}

/// Elements that can be read in place.
pub trait Element: FromBytes + IntoBytes + KnownLayout + Immutable {
    /// Which they are.
    const DTYPE: Dtype;
}

macro_rules! elements {
    ($($element:ty => $dtype:ident),+) => { $(impl Element for $element { const DTYPE: Dtype = Dtype::$dtype; })+ };
}

elements!(f32 => F32, f64 => F64, i32 => I32, i64 => I64, u8 => U8);

/// A message that is yet to be filled: the head, and room for the data, which follow by `extend_from_slice`. So data that come from
/// elsewhere are copied once.
///
/// # Errors
/// [`Error::Rank`] and [`Error::Shape`].
pub fn head(dtype: Dtype, shape: &[u64]) -> Result<Vec<u8>, Error> {
    let len = dtype.data_len(shape)?;
    let len = usize::try_from(len).map_err(|_| Error::Shape(shape.to_vec()))?;
    let mut message = Vec::with_capacity(HEAD_LEN + shape.len() * DIMENSION_LEN + len);
    message.extend_from_slice(&MAGIC);
    message.extend_from_slice(&[dtype as u8, shape.len() as u8, 0, 0]);
    shape.iter().for_each(|dimension| message.extend_from_slice(&dimension.to_le_bytes()));
    Ok(message)
}

/// A message of these bytes.
///
/// # Errors
/// As [`Tensor::decode`].
pub fn encode(dtype: Dtype, shape: &[u64], data: &[u8]) -> Result<Vec<u8>, Error> {
    check(dtype.data_len(shape)?, data.len())?;
    let mut message = head(dtype, shape)?;
    message.extend_from_slice(data);
    Ok(message)
}

/// A message of these elements.
///
/// # Errors
/// As [`Tensor::decode`].
#[cfg(target_endian = "little")]
pub fn encode_elements<T: Element>(shape: &[u64], elements: &[T]) -> Result<Vec<u8>, Error> {
    encode(T::DTYPE, shape, elements.as_bytes())
}

const fn check(expected: u64, found: usize) -> Result<(), Error> {
    let found = found as u64;
    if expected == found { Ok(()) } else { Err(Error::Length { expected, found }) }
}

/// A tensor in the message that it came in.
#[derive(Clone, Debug)]
pub struct Tensor {
    message: Payload,
    dtype: Dtype,
    rank: usize,
}

impl Tensor {
    /// Takes a message for a tensor. It looks at the head: how long that takes does not depend on the data.
    ///
    /// # Errors
    /// [`Error`], saying what is wrong.
    pub fn decode(message: Payload) -> Result<Self, Error> {
        let foreign = || Error::Head(message.len());
        let (head, rest) = message.split_first_chunk::<HEAD_LEN>().ok_or_else(foreign)?;
        let [m0, m1, m2, m3, code, rank, 0, 0] = *head else { return Err(foreign()) };
        if [m0, m1, m2, m3] != MAGIC {
            return Err(foreign());
        }
        let (dtype, rank) = (Dtype::of_code(code).ok_or(Error::Dtype(code))?, usize::from(rank));
        if rank > RANK_MAX {
            return Err(Error::Rank(rank));
        }
        let shape = rest.get(..rank * DIMENSION_LEN).ok_or_else(foreign)?;
        let mut dimensions = [0; RANK_MAX];
        for (dimension, bytes) in dimensions.iter_mut().zip(shape.chunks_exact(DIMENSION_LEN)) {
            *dimension = u64::from_le_bytes(bytes.try_into().map_err(|_| foreign())?);
        }
        check(dtype.data_len(&dimensions[..rank])?, rest.len() - shape.len())?;
        Ok(Self { message, dtype, rank })
    }

    /// The type of its elements.
    pub const fn dtype(&self) -> Dtype {
        self.dtype
    }

    /// Its dimensions, the slowest first. None: one element.
    pub fn shape(&self) -> impl ExactSizeIterator<Item = u64> + '_ {
        let dimensions = self.message[HEAD_LEN..self.start()].chunks_exact(DIMENSION_LEN);
        dimensions.map(|bytes| u64::from_le_bytes(bytes.try_into().expect("eight bytes")))
    }

    const fn start(&self) -> usize {
        HEAD_LEN + self.rank * DIMENSION_LEN
    }

    /// Its data, in the message.
    pub fn data(&self) -> &[u8] {
        &self.message[self.start()..]
    }

    /// Its data as elements, in the message.
    ///
    /// # Errors
    /// [`Error::Element`]; [`Error::Alignment`] where they stand at an odd address, which messages of one packet may, because they are read
    /// out of the buffer that they were received in: [`Self::iter`] reads those too.
    #[cfg(target_endian = "little")]
    pub fn elements<T: Element>(&self) -> Result<&[T], Error> {
        self.is_of::<T>()?;
        <[T]>::ref_from_bytes(self.data()).map_err(|_| Error::Alignment(self.dtype))
    }

    /// Its elements one by one, wherever they stand.
    ///
    /// # Errors
    /// [`Error::Element`].
    #[cfg(target_endian = "little")]
    pub fn iter<T: Element>(&self) -> Result<impl ExactSizeIterator<Item = T> + '_, Error> {
        self.is_of::<T>()?;
        let each = self.data().chunks_exact(size_of::<T>());
        Ok(each.map(|bytes| T::read_from_bytes(bytes).expect("as long as an element")))
    }

    fn is_of<T: Element>(&self) -> Result<(), Error> {
        let (asked, found) = (T::DTYPE, self.dtype);
        if asked == found { Ok(()) } else { Err(Error::Element { asked, found }) }
    }

    /// The message, to be sent on without a copy.
    pub fn into_message(self) -> Payload {
        self.message
    }
}
