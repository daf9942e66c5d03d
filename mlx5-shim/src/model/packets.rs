//! Owns how the model makes frames: one header in front of each slice of the payload, with what the card changes in it from one packet to
//! the next, and what it leaves as it was told.

/// Where the IP header begins, and whether it is IPv6. `None` for a frame without IP.
fn ip(frame: &[u8]) -> Option<(usize, bool)> {
    let kind = |at: usize| frame.get(at..at + 2).map(|kind| u16::from_be_bytes([kind[0], kind[1]]));
    let at = if kind(12)? == 0x8100 { 18 } else { 14 };
    match kind(at - 2)? {
        0x0800 => Some((at, false)),
        0x86dd => Some((at, true)),
        _ => None,
    }
}

/// The sum that IP and UDP use (RFC 1071), not complemented.
fn sum(bytes: &[u8], mut start: u32) -> u16 {
    for pair in bytes.chunks(2) {
        start += u32::from(u16::from_be_bytes([pair[0], pair.get(1).copied().unwrap_or(0)]));
        start = (start & 0xffff) + (start >> 16);
    }
    start as u16
}

/// Frame number `i` of a descriptor: `header` in front of `payload`. `cut` says that it is one of several.
pub(super) fn frame(header: &[u8], payload: &[u8], i: u16, cut: bool, checksums: bool) -> Vec<u8> {
    let mut frame = [header, payload].concat();
    let Some((at, v6)) = ip(&frame).filter(|(at, v6)| frame.len() >= at + if *v6 { 40 } else { 20 } + 8) else {
        return frame;
    };
    let len = frame.len() - at;
    if cut && v6 {
        frame[at + 4..at + 6].copy_from_slice(&((len - 40) as u16).to_be_bytes());
    } else if cut {
        frame[at + 2..at + 4].copy_from_slice(&(len as u16).to_be_bytes());
        let id = u16::from_be_bytes([frame[at + 4], frame[at + 5]]).wrapping_add(i);
        frame[at + 4..at + 6].copy_from_slice(&id.to_be_bytes());
    }
    if checksums {
        write_checksums(&mut frame[at..], v6);
    }
    frame
}

fn write_checksums(packet: &mut [u8], v6: bool) {
    let (header_len, protocol, addresses) = if v6 { (40, packet[6], 8..40) } else { (20, packet[9], 12..20) };
    if !v6 {
        packet[10..12].fill(0);
        let checksum = !sum(&packet[..header_len], 0);
        packet[10..12].copy_from_slice(&checksum.to_be_bytes());
    }
    if protocol != 17 {
        return;
    }
    let udp = header_len;
    packet[udp + 6..udp + 8].fill(0);
    // As the header states it: that is not changed, so it must be right for each packet.
    let stated = u32::from(u16::from_be_bytes([packet[udp + 4], packet[udp + 5]]));
    let pseudo = sum(&packet[addresses], stated + u32::from(protocol));
    let checksum = match !sum(&packet[udp..], pseudo.into()) {
        0 => 0xffff,
        other => other,
    };
    packet[udp + 6..udp + 8].copy_from_slice(&checksum.to_be_bytes());
}
