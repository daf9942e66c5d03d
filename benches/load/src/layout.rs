//! Owns how messages become datagrams and trains, for the peers over raw UDP. Refuses: sockets.

use crate::udp_ideal::Cut;

/// Payload of a datagram: what fits an MTU of 1,500 with 60 bytes to spare, as the baselines had.
const SEGMENT_BYTES_MAX: usize = 1440;

/// Bytes of the headers of IP and UDP, when an MTU is asked for.
const MTU_OVERHEAD: usize = 28;

/// Most bytes that the kernel takes in one train.
const TRAIN_BYTES_MAX: usize = 65_507;

/// How messages of one size travel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Layout {
    /// Bytes of each datagram.
    pub(crate) segment: usize,
    /// Bytes of a message on the wire: a multiple of `segment`, and at least its size.
    pub(crate) stride: usize,
    /// Bytes of a full train: whole messages, or whole datagrams of a message that is larger.
    pub(crate) train: usize,
}

impl Layout {
    pub(crate) fn new(size: usize, mtu: Option<u32>, segments_max: usize, packs: bool) -> Self {
        let limit = mtu.map_or(SEGMENT_BYTES_MAX, |mtu| mtu as usize - MTU_OVERHEAD);
        let limit = limit.min(TRAIN_BYTES_MAX);
        let count = size.div_ceil(limit);
        let segment = size.div_ceil(count);
        let stride = segment * count;
        let fitting = (TRAIN_BYTES_MAX / segment).min(segments_max).max(1);
        let train = if fitting >= count {
            if packs || count == 1 { fitting / count * stride } else { stride }
        } else {
            // Equal trains, so that the other side takes one in while the next is made.
            count.div_ceil(count.div_ceil(fitting)) * segment
        };
        Self { segment, stride, train }
    }

    /// Of messages that are records: each is whole datagrams, and a train whole records.
    pub(crate) fn of_records(cut: Cut, mtu: Option<u32>, segments_max: usize) -> Self {
        let one = Self::new(cut.record(), mtu, segments_max, true);
        let fitting = (one.train / one.stride).max(1);
        let train = cut.count.div_ceil(cut.count.div_ceil(fitting)) * one.stride;
        Self { stride: cut.count * one.stride, train, ..one }
    }
}

/// Bytes past its end that a message is padded with at most.
pub(crate) fn padding_bytes_max(size: usize) -> usize {
    size.div_ceil(512)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_become_equal_datagrams_with_little_padding() {
        for size in (1..5000).chain([8192, 65_536, 1 << 20, 64 << 20]) {
            let layout = Layout::new(size, None, 64, true);
            assert_eq!(layout.stride % layout.segment, 0);
            assert!(layout.segment <= SEGMENT_BYTES_MAX);
            assert!(layout.stride >= size && layout.stride - size <= padding_bytes_max(size));
            assert!(layout.train <= TRAIN_BYTES_MAX && layout.train / layout.segment <= 64);
            assert!(layout.train.is_multiple_of(layout.stride) || layout.train < layout.stride);
        }
        let small = Layout::new(64, None, 128, false);
        assert_eq!(small, Layout { segment: 64, stride: 64, train: 128 * 64 });
        assert_eq!(Layout::new(4000, Some(9000), 128, false).segment, 4000);
        assert_eq!(Layout::new(4000, None, 128, false).train, 4002);
        assert_eq!(Layout::new(4000, None, 128, true).train, 16 * 4002);
    }

    #[test]
    fn trains_are_whole_records() {
        for size in (1..5000).chain([16_000, 16_384, 65_536, 100_000, 1 << 20]) {
            for (mtu, segments_max) in [(None, 64), (Some(1500), 64), (Some(65_535), 64), (None, 1)] {
                let cut = Cut::new(size);
                let layout = Layout::of_records(cut, mtu, segments_max);
                let record = layout.stride / cut.count;
                assert_eq!((layout.stride % cut.count, record % layout.segment, layout.train % record), (0, 0, 0));
                assert!(record >= cut.record() && record - cut.record() <= padding_bytes_max(cut.record()));
                let fits = layout.train <= TRAIN_BYTES_MAX && layout.train / layout.segment <= segments_max;
                assert!(fits || layout.train == record, "{size}");
            }
        }
        assert_eq!(Layout::of_records(Cut::new(65_536), None, 64).train / 13_173, 3, "five records in two trains");
    }
}
