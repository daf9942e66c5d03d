//! Owns what is known of slices from one to the next: the spanning record that was sealed last, whose slices become packets; and where the
//! slice belongs that is likely to come. [P-4.6]

use core::ops::Range;

use record::epochs::Outbound;
use record::open::assembly_len;
use record::seal::Message;
use wire::bytes::{Writer, copy};
use wire::data::emit_header;
use wire::geometry::Geometry;
use wire::header::Header;
use wire::ids::{RecordNumber, SessionId};
use wire::limits::{DATA_HEADER_LEN, RECORD_PLAINTEXT_MAX, SLICE_HEADER_LEN, TAG_LEN};
use wire::slice::{SliceView, slice_header};

/// The spanning record that was sealed last: its slices may leave in several segments, or again.
#[derive(Debug, Default)]
pub(crate) struct Spanned {
    /// Whose it is: the session, the epoch, the number. These tell what was sealed.
    of: Option<(SessionId, u64, RecordNumber)>,
    sealed_len: usize,
    bytes: Vec<u8>,
}

impl Spanned {
    /// One packet: the header, and slice `index` of `message` behind it, whose record's slices are `span`. Its length, and whether that
    /// record had to be sealed for it.
    pub(crate) fn packet<B: AsRef<[u8]>>(
        &mut self,
        (session, keys): (SessionId, &Outbound),
        message: &Message<B>,
        header: &Header,
        (span, index): (&Range<u32>, u16),
        out: &mut [u8],
    ) -> (usize, bool) {
        let geometry = message.geometry();
        let number = RecordNumber::new(message.id(), span.start as u16);
        let of = message.epoch().map(|epoch| (session, epoch, number));
        let new = self.of != of;
        if new {
            self.bytes.resize(RECORD_PLAINTEXT_MAX + TAG_LEN, 0);
            // Whatever comes of it, what stood there is gone.
            self.of = None;
            self.sealed_len = geometry.span_sealed_len(span);
            message.seal_span(keys, index, &mut self.bytes[..self.sealed_len]);
            self.of = of;
        }
        let slice = geometry.slice(span, index);
        let bytes_at = DATA_HEADER_LEN + SLICE_HEADER_LEN;
        let len = bytes_at + slice.len();
        let (clear, bytes) = out[..len].split_at_mut(bytes_at);
        emit_header(&mut Writer::new(&mut clear[..DATA_HEADER_LEN]), header, geometry.length());
        clear[DATA_HEADER_LEN..].copy_from_slice(&slice_header(number, &slice, self.sealed_len));
        copy(bytes, &self.bytes[slice]);
        (len, new)
    }
}

/// The slice that follows the one that came last, as it most often does: where it belongs is known then, and need not be found.
#[derive(Debug)]
struct Follows {
    /// The number of their record, the cut of their message, and the length of the record: these say where each slice belongs.
    of: (RecordNumber, Geometry, usize),
    span: Range<u32>,
    index: u16,
    slice: Range<usize>,
}

/// [`Follows`], if anything came.
#[derive(Debug, Default)]
pub(crate) struct Following(Option<Follows>);

impl Following {
    /// As [`SliceView::place`].
    pub(crate) fn place(&mut self, view: &SliceView, geometry: Geometry) -> Option<(u16, Range<u32>)> {
        let of = (view.number, geometry, view.sealed_len);
        let (index, span) = match self.0.take() {
            Some(next) if next.of == of && next.slice == view.slice => (next.index, next.span),
            _ => view.place(geometry)?,
        };
        if u32::from(index) + 1 < span.end {
            let slice = geometry.slice(&span, index + 1);
            self.0 = Some(Follows { of, span: span.clone(), index: index + 1, slice });
        }
        Some((index, span))
    }
}

/// How long a buffer has to be in which a message is put together.
pub(crate) const fn buffer_len(geometry: Geometry) -> usize {
    if geometry.spans() { assembly_len(geometry) } else { geometry.length() as usize }
}
