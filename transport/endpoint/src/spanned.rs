//! Owns slices that go out: the spanning record that was sealed last, whose slices become packets. [P-4.6]

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
use wire::slice::slice_header;

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

/// How long a buffer has to be in which a message is put together.
pub(crate) const fn buffer_len(geometry: Geometry) -> usize {
    if geometry.spans() { assembly_len(geometry) } else { geometry.length() as usize }
}
