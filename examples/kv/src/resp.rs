//! Owns the bytes of the Redis protocol, versions 2 and 3: requests are parsed as they come in, replies are written, and replies are
//! measured by clients. Limits and texts of errors are Redis's own. It refuses to know any command.

/// Longest argument, as Redis's `proto-max-bulk-len`.
pub const BULK_BYTES_MAX: usize = 512 << 20;
/// Most arguments of one command.
pub const ARGS_MAX: usize = 1 << 20;
/// Longest line: of an inline command, or of a length.
pub const LINE_BYTES_MAX: usize = 64 << 10;
/// Longest head of a reply: its type, a number of 64 bits and its sign, the end of the line.
const HEAD_BYTES_MAX: usize = 24;
/// Deepest nesting of replies that a client reads.
const DEPTH_MAX: usize = 16;

/// Why no further request can be read from here. The text is Redis's, without `-ERR `.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Malformed(pub String);

impl Malformed {
    fn new(what: &str) -> Self {
        Self(format!("Protocol error: {what}"))
    }
}

/// Where an argument stands, from the first byte of its request on.
pub type Span = (usize, usize);

/// The arguments of one command, the name first, where they came in.
#[derive(Clone, Copy, Debug)]
pub struct Args<'a> {
    bytes: &'a [u8],
    spans: &'a [Span],
}

impl<'a> Args<'a> {
    /// The arguments at `spans` of `bytes`.
    pub fn new(bytes: &'a [u8], spans: &'a [Span]) -> Self {
        Self { bytes, spans }
    }

    /// How many, the command's name included.
    pub fn len(&self) -> usize {
        self.spans.len()
    }

    /// Whether there is not even a name.
    pub fn is_empty(&self) -> bool {
        self.spans.is_empty()
    }

    /// One of them; empty where there is none.
    pub fn at(&self, index: usize) -> &'a [u8] {
        self.spans.get(index).map_or(&[], |(from, to)| &self.bytes[*from..*to])
    }

    /// All from this one on.
    pub fn from(&self, index: usize) -> impl ExactSizeIterator<Item = &'a [u8]> + Clone + use<'a> {
        let bytes = self.bytes;
        self.spans[index.min(self.spans.len())..].iter().map(move |(from, to)| &bytes[*from..*to])
    }

    /// Whether the argument is this word, in either case.
    pub fn is(&self, index: usize, word: &str) -> bool {
        self.at(index).eq_ignore_ascii_case(word.as_bytes())
    }
}

/// What a look at the bytes gave.
#[derive(Debug, PartialEq, Eq)]
pub enum Parsed {
    /// A command of so many bytes; its arguments are at [`Parser::spans`]. None for an empty one, which is skipped.
    Command(usize),
    /// Not all of it is there yet.
    Incomplete,
}

/// Reads requests as they come in: what was looked at is not looked at again.
#[derive(Debug, Default)]
pub struct Parser {
    spans: Vec<Span>,
    /// How far it has read, from the request's first byte on.
    at: usize,
    /// Arguments still to come.
    left: usize,
    /// Bytes of the argument that is being read.
    bulk: Option<usize>,
    begun: bool,
}

impl Parser {
    /// Looks at the bytes from a request's first on; the same ones and more in the next call, until a command was found.
    ///
    /// # Errors
    /// When it is not the protocol: nothing more can be read from there.
    pub fn parse(&mut self, bytes: &[u8]) -> Result<Parsed, Malformed> {
        if !self.begun {
            let Some(first) = bytes.first() else { return Ok(Parsed::Incomplete) };
            self.spans.clear();
            if *first != b'*' {
                return self.inline(bytes);
            }
            let Some((count, end)) = line(bytes, 0, "too big mbulk count string")? else {
                return Ok(Parsed::Incomplete);
            };
            let count = integer(&bytes[1..count]).filter(|count| *count <= ARGS_MAX as i64);
            self.left = count.ok_or_else(|| Malformed::new("invalid multibulk length"))?.max(0) as usize;
            (self.at, self.bulk, self.begun) = (end, None, true);
        }
        while self.left > 0 {
            let length = match self.bulk {
                Some(length) => length,
                None => match self.bulk_length(bytes)? {
                    Some(length) => length,
                    None => return Ok(Parsed::Incomplete),
                },
            };
            if bytes.len() - self.at < length + 2 {
                return Ok(Parsed::Incomplete);
            }
            self.spans.push((self.at, self.at + length));
            self.at += length + 2;
            self.left -= 1;
            self.bulk = None;
        }
        self.begun = false;
        Ok(Parsed::Command(self.at))
    }

    fn bulk_length(&mut self, bytes: &[u8]) -> Result<Option<usize>, Malformed> {
        let Some(first) = bytes.get(self.at) else { return Ok(None) };
        if *first != b'$' {
            return Err(Malformed::new(&format!("expected '$', got '{}'", char::from(*first))));
        }
        let Some((end, next)) = line(bytes, self.at, "too big bulk count string")? else { return Ok(None) };
        let length = integer(&bytes[self.at + 1..end]).filter(|length| (0..=BULK_BYTES_MAX as i64).contains(length));
        let length = length.ok_or_else(|| Malformed::new("invalid bulk length"))? as usize;
        (self.at, self.bulk) = (next, Some(length));
        Ok(Some(length))
    }

    /// A command as a line of words, as people type them.
    fn inline(&mut self, bytes: &[u8]) -> Result<Parsed, Malformed> {
        let Some(end) = bytes.iter().take(LINE_BYTES_MAX).position(|byte| *byte == b'\n') else {
            let long = bytes.len() >= LINE_BYTES_MAX;
            return if long { Err(Malformed::new("too big inline request")) } else { Ok(Parsed::Incomplete) };
        };
        let mut at = 0;
        while at < end {
            if bytes[at].is_ascii_whitespace() {
                at += 1;
                continue;
            }
            let quote = bytes[at];
            let quoted = quote == b'"' || quote == b'\'';
            let from = if quoted { at + 1 } else { at };
            let ends = |byte: &u8| if quoted { *byte == quote } else { byte.is_ascii_whitespace() };
            let to = match bytes[from..end].iter().position(ends) {
                Some(length) => from + length,
                None if quoted => return Err(Malformed::new("unbalanced quotes in request")),
                None => end,
            };
            self.spans.push((from, to));
            at = to + usize::from(quoted);
            if quoted && at < end && !bytes[at].is_ascii_whitespace() {
                return Err(Malformed::new("unbalanced quotes in request"));
            }
        }
        Ok(Parsed::Command(end + 1))
    }

    /// Where the arguments of the command stand that [`Self::parse`] found.
    pub fn spans(&self) -> &[Span] {
        &self.spans
    }

    /// Bytes that the request under way is known to need, from its first on: what is worth making room for.
    pub fn wanted(&self) -> usize {
        if self.begun { self.at + self.bulk.map_or(0, |length| length + 2) } else { 0 }
    }
}

/// Where the line that begins at `from` ends, and where the next begins.
fn line(bytes: &[u8], from: usize, too_long: &str) -> Result<Option<(usize, usize)>, Malformed> {
    match bytes[from..].iter().take(LINE_BYTES_MAX).position(|byte| *byte == b'\r') {
        Some(length) if bytes.len() > from + length + 1 => Ok(Some((from + length, from + length + 2))),
        None if bytes.len() - from >= LINE_BYTES_MAX => Err(Malformed::new(too_long)),
        _ => Ok(None),
    }
}

/// A whole number as Redis reads it: digits, a minus at most, nothing else.
pub fn integer(text: &[u8]) -> Option<i64> {
    let plain = text.strip_prefix(b"-").unwrap_or(text);
    let leading_zero = plain.len() > 1 && plain[0] == b'0';
    if plain.is_empty() || plain.len() > 19 || leading_zero {
        return None;
    }
    let is_negative = text.len() > plain.len();
    if is_negative && plain == b"0" {
        return None;
    }
    // Nineteen digits do not overflow it.
    let mut number = 0u64;
    for digit in plain {
        let digit = digit.wrapping_sub(b'0');
        if digit > 9 {
            return None;
        }
        number = number * 10 + u64::from(digit);
    }
    if is_negative { 0i64.checked_sub_unsigned(number) } else { i64::try_from(number).ok() }
}

/// Writes replies, in the version of the protocol that the client asked for.
#[derive(Debug, Default)]
pub struct Out {
    /// What was written.
    pub bytes: Vec<u8>,
    /// Whether the client speaks version 3.
    pub is_v3: bool,
}

impl Out {
    /// A line: its type, and the text.
    pub fn line(&mut self, kind: u8, text: &[u8]) {
        self.bytes.push(kind);
        self.bytes.extend_from_slice(text);
        self.bytes.extend_from_slice(b"\r\n");
    }

    fn number(&mut self, kind: u8, number: i64) {
        // From the end on, so that it is appended as one piece.
        let mut head = [0; HEAD_BYTES_MAX];
        head[HEAD_BYTES_MAX - 2..].copy_from_slice(b"\r\n");
        let mut at = HEAD_BYTES_MAX - 2;
        let mut left = number.unsigned_abs();
        loop {
            at -= 1;
            head[at] = b'0' + (left % 10) as u8;
            left /= 10;
            if left == 0 {
                break;
            }
        }
        if number < 0 {
            at -= 1;
            head[at] = b'-';
        }
        at -= 1;
        head[at] = kind;
        self.bytes.extend_from_slice(&head[at..]);
    }

    /// `+OK`.
    pub fn ok(&mut self) {
        self.bytes.extend_from_slice(b"+OK\r\n");
    }

    /// A simple string.
    pub fn simple(&mut self, text: &str) {
        self.line(b'+', text.as_bytes());
    }

    /// An error; `text` begins with its code. What could end the line is replaced.
    pub fn error(&mut self, text: &str) {
        let clean: Vec<u8> = text.bytes().map(|byte| if matches!(byte, b'\r' | b'\n') { b' ' } else { byte }).collect();
        self.line(b'-', &clean);
    }

    /// A whole number.
    pub fn integer(&mut self, number: i64) {
        self.number(b':', number);
    }

    /// A string of bytes.
    pub fn bulk(&mut self, bytes: &[u8]) {
        self.bytes.reserve(bytes.len() + HEAD_BYTES_MAX + 2);
        self.number(b'$', bytes.len() as i64);
        self.bytes.extend_from_slice(bytes);
        self.bytes.extend_from_slice(b"\r\n");
    }

    /// A string of bytes, or nothing.
    pub fn bulk_or_null(&mut self, bytes: Option<&[u8]>) {
        match bytes {
            Some(bytes) => self.bulk(bytes),
            None => self.null(),
        }
    }

    /// Nothing.
    pub fn null(&mut self) {
        self.bytes.extend_from_slice(if self.is_v3 { b"_\r\n" } else { b"$-1\r\n" });
    }

    /// No array.
    pub fn null_array(&mut self) {
        self.bytes.extend_from_slice(if self.is_v3 { b"_\r\n" } else { b"*-1\r\n" });
    }

    /// The head of an array.
    pub fn array(&mut self, count: usize) {
        self.number(b'*', count as i64);
    }

    /// The head of a map; version 2 has arrays of twice the length.
    pub fn map(&mut self, pairs: usize) {
        if self.is_v3 { self.number(b'%', pairs as i64) } else { self.number(b'*', 2 * pairs as i64) }
    }

    /// The head of a set.
    pub fn set(&mut self, count: usize) {
        self.number(if self.is_v3 { b'~' } else { b'*' }, count as i64);
    }

    /// The head of something that was not asked for.
    pub fn push(&mut self, count: usize) {
        self.number(if self.is_v3 { b'>' } else { b'*' }, count as i64);
    }

    /// A number with a fraction, as text where the version has no other form.
    pub fn double(&mut self, text: &str) {
        if self.is_v3 { self.line(b',', text.as_bytes()) } else { self.bulk(text.as_bytes()) }
    }
}

/// Appends a command as clients send it.
pub fn command(out: &mut Vec<u8>, args: &[&[u8]]) {
    let mut writer = Out { bytes: std::mem::take(out), is_v3: false };
    writer.array(args.len());
    for arg in args {
        writer.bulk(arg);
    }
    *out = writer.bytes;
}

/// Bytes of the whole reply at the front; `None` when not all of it is there.
///
/// # Errors
/// When it is no reply.
pub fn reply_bytes(bytes: &[u8]) -> Result<Option<usize>, Malformed> {
    reply_at(bytes, 0, 0)
}

fn reply_at(bytes: &[u8], from: usize, depth: usize) -> Result<Option<usize>, Malformed> {
    let Some(kind) = bytes.get(from) else { return Ok(None) };
    if depth > DEPTH_MAX {
        return Err(Malformed::new("nested too deeply"));
    }
    let Some((end, next)) = line(bytes, from, "too long a line")? else { return Ok(None) };
    let count = || integer(&bytes[from + 1..end]).ok_or_else(|| Malformed::new("invalid length"));
    let of_each = match kind {
        b'+' | b'-' | b':' | b'_' | b'#' | b',' | b'(' => return Ok(Some(next)),
        b'$' | b'=' | b'!' => {
            let length = count()?;
            if length > BULK_BYTES_MAX as i64 {
                return Err(Malformed::new("invalid bulk length"));
            }
            let whole = if length < 0 { next } else { next + length as usize + 2 };
            return Ok((bytes.len() >= whole).then_some(whole));
        }
        b'*' | b'~' | b'>' => 1,
        b'%' => 2,
        other => return Err(Malformed::new(&format!("unexpected '{}'", char::from(*other)))),
    };
    let mut at = next;
    for _ in 0..count()?.max(0).saturating_mul(of_each) {
        match reply_at(bytes, at, depth + 1)? {
            Some(after) => at = after,
            None => return Ok(None),
        }
    }
    Ok(Some(at))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Numbers are read and written as the standard library does, to the ends of what 64 bits hold; and nothing else is read.
    #[test]
    fn whole_numbers() {
        for number in [0, 1, -1, 9, 10, -10, i64::MAX - 1, i64::MAX, i64::MIN + 1, i64::MIN] {
            let text = number.to_string();
            assert_eq!(integer(text.as_bytes()), Some(number));
            let mut out = Out::default();
            out.integer(number);
            assert_eq!(out.bytes, format!(":{number}\r\n").into_bytes());
        }
        let wrong =
            ["", "-", "-0", "00", "01", "+1", " 1", "1 ", "1a", "--1", "9223372036854775808", "-9223372036854775809"];
        let longer = ["9999999999999999999", "-9999999999999999999", "18446744073709551616", "10000000000000000000"];
        for text in wrong.into_iter().chain(longer) {
            assert_eq!(integer(text.as_bytes()), None, "{text}");
        }
    }
}
