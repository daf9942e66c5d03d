//! Owns command mailboxes: what is asked of the firmware, and what it answers, as bytes. A mailbox is made by a function, and read as a
//! checked [`Command`], which is what the model of the card does.
//!
//! Layouts are those of `mlx5_ifc.h` (Linux 6.12) and libdpcp's `prm.h`, which agree. No header of rdma-core has them; the tests of
//! this file compare with bytes written by hand, those of `tests/layout.rs` with the headers for what these have.

use zeroize::Zeroizing;

use crate::bytes::{field, put_field, put_u16, put_u32, u16_at, u24_at, u32_at};

/// QUERY_HCA_CAP.
pub const QUERY_CAPS: u16 = 0x0100;
/// ALLOC_TRANSPORT_DOMAIN.
pub const ALLOC_DOMAIN: u16 = 0x0816;
/// CREATE_TIS.
pub const CREATE_TIS: u16 = 0x0912;
/// CREATE_GENERAL_OBJECT, of which we make encryption keys.
pub const CREATE_OBJECT: u16 = 0x0a00;

/// Bytes of an answer that only names an object.
pub const ANSWER_LEN: usize = 16;
/// Bytes of the question for capabilities.
pub const QUERY_LEN: usize = 16;
/// Bytes of its answer: a header and a page.
pub const CAPS_LEN: usize = 0x10 + PAGE_LEN;
/// Bytes of a page of capabilities.
pub const PAGE_LEN: usize = 4096;
/// Bytes of CREATE_TIS.
pub const TIS_LEN: usize = 192;
/// Bytes of CREATE_GENERAL_OBJECT for a key: the newer of two sizes, which the maker's own library uses.
pub const DEK_LEN: usize = 528;

/// Object type of an encryption key, and the bit of `general_obj_types` that says whether there are any.
const OBJECT_DEK: u16 = 0x000c;
/// What a key is for: TLS.
const PURPOSE_TLS: u8 = 1;
/// TIS context: TLS is on.
const TLS_ENABLED: u32 = 30;

/// A page of capabilities.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u16)]
pub enum Page {
    /// What every card has.
    General = 0x00,
    /// Ethernet offloads.
    Ethernet = 0x01,
    /// TLS.
    Tls = 0x11,
}

/// What the firmware can do, of all that it says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Caps {
    /// It seals TLS records as it sends.
    pub tls_tx: bool,
    /// Keys can be made as objects.
    pub dek_objects: bool,
    /// How many keys, as a power of two; 0: none.
    pub log_max_dek: u8,
    /// How many TIS, as a power of two.
    pub log_max_tis: u8,
    /// Largest descriptor, in bytes.
    pub descriptor_bytes_max: u16,
    /// Largest ring in building blocks, as a power of two.
    pub log_max_ring: u8,
    /// AES-128-GCM in the record format of TLS 1.2.
    pub tls12_gcm128: bool,
    /// AES-256-GCM in the record format of TLS 1.2.
    pub tls12_gcm256: bool,
    /// Largest payload that it cuts into packets itself, as a power of two; 0: it does not.
    pub log_max_lso: u8,
}

impl Caps {
    /// Reads the three pages, each [`PAGE_LEN`] bytes.
    pub fn from_pages(general: &[u8], ethernet: &[u8], tls: &[u8]) -> Self {
        let bit = |page: &[u8], at: usize, shift| field(page, at, shift, 1) == 1;
        Self {
            tls_tx: bit(general, 0x90, 30),
            dek_objects: u32_at(general, 0x84) >> OBJECT_DEK & 1 == 1,
            log_max_dek: field(general, 0xb4, 8, 5) as u8,
            log_max_tis: field(general, 0x6c, 0, 5) as u8,
            descriptor_bytes_max: field(general, 0x50, 0, 16) as u16,
            log_max_ring: field(general, 0x78, 0, 5) as u8,
            tls12_gcm128: bit(tls, 0, 31),
            tls12_gcm256: bit(tls, 0, 29),
            log_max_lso: if bit(general, 0x40, 3) { field(ethernet, 0, 16, 5) as u8 } else { 0 },
        }
    }

    /// Writes a page as firmware with these capabilities would.
    pub fn emit_page(&self, page: Page, out: &mut [u8]) {
        match page {
            Page::General => {
                put_field(out, 0x90, 30, 1, self.tls_tx.into());
                put_field(out, 0x84, OBJECT_DEK.into(), 1, self.dek_objects.into());
                put_field(out, 0xb4, 8, 5, self.log_max_dek.into());
                put_field(out, 0x6c, 0, 5, self.log_max_tis.into());
                put_field(out, 0x50, 0, 16, self.descriptor_bytes_max.into());
                put_field(out, 0x78, 0, 5, self.log_max_ring.into());
                put_field(out, 0x40, 3, 1, 1);
            }
            Page::Ethernet => put_field(out, 0, 16, 5, self.log_max_lso.into()),
            Page::Tls => {
                put_field(out, 0, 31, 1, self.tls12_gcm128.into());
                put_field(out, 0, 29, 1, self.tls12_gcm256.into());
            }
        }
    }

    /// What it lacks to seal for us, if anything. The kernel asks for less, and then finds out later.
    pub const fn lacks(&self) -> Option<&'static str> {
        if !self.tls_tx {
            Some("TLS transmit offload")
        } else if !self.dek_objects || self.log_max_dek == 0 {
            Some("keys as objects")
        } else if !self.tls12_gcm128 && !self.tls12_gcm256 {
            Some("AES-GCM in the record format of TLS 1.2")
        } else {
            None
        }
    }
}

/// Asks for a page, as it is set now.
pub fn query_caps(page: Page) -> [u8; QUERY_LEN] {
    let mut mailbox = [0; QUERY_LEN];
    put_u16(&mut mailbox, 0, QUERY_CAPS);
    // The lowest bit: what is set, not what could be.
    put_u16(&mut mailbox, 6, (page as u16) << 1 | 1);
    mailbox
}

/// Asks for a transport domain.
pub fn alloc_domain() -> [u8; ANSWER_LEN] {
    let mut mailbox = [0; ANSWER_LEN];
    put_u16(&mut mailbox, 0, ALLOC_DOMAIN);
    mailbox
}

/// Asks for a TIS that seals. Domain and protection domain are numbers of 24 bits.
pub fn create_tis(domain: u32, pd: u32) -> [u8; TIS_LEN] {
    let mut mailbox = [0; TIS_LEN];
    put_u16(&mut mailbox, 0, CREATE_TIS);
    put_field(&mut mailbox, 0x20, TLS_ENABLED, 1, 1);
    put_field(&mut mailbox, 0x44, 0, 24, domain);
    put_field(&mut mailbox, 0x4c, 0, 24, pd);
    mailbox
}

/// Asks for a key: 16 or 32 bytes of it. Wiped when dropped.
///
/// # Panics
/// When the key has another length: the caller's bug.
pub fn create_dek(key: &[u8], pd: u32) -> Zeroizing<[u8; DEK_LEN]> {
    assert!(matches!(key.len(), 16 | 32), "AES-GCM keys have 16 or 32 bytes");
    let mut mailbox = Zeroizing::new([0; DEK_LEN]);
    put_u16(&mut mailbox[..], 0, CREATE_OBJECT);
    put_u16(&mut mailbox[..], 6, OBJECT_DEK);
    mailbox[0x1a] = u8::from(key.len() == 32);
    mailbox[0x1b] = PURPOSE_TLS;
    put_field(&mut mailbox[..], 0x1c, 0, 24, pd);
    // Keys stand at the end of their place.
    mailbox[0x70 - key.len()..0x70].copy_from_slice(key);
    mailbox
}

/// The number of the object that an answer names. [`ANSWER_LEN`] bytes or more.
pub const fn created(answer: &[u8]) -> u32 {
    u24_at(answer, 8)
}

/// Status and syndrome of an answer.
pub const fn status(answer: &[u8]) -> (u8, u32) {
    (answer[0], u32_at(answer, 4))
}

/// An answer.
pub fn answer(status: u8, syndrome: u32, object: u32) -> [u8; ANSWER_LEN] {
    let mut answer = [0; ANSWER_LEN];
    answer[0] = status;
    put_u32(&mut answer, 4, syndrome);
    put_u32(&mut answer, 8, object);
    answer
}

/// What a mailbox asks for.
#[derive(Debug)]
pub enum Command {
    /// A page of capabilities.
    QueryCaps(Page),
    /// A transport domain.
    AllocDomain,
    /// A TIS.
    CreateTis {
        /// TLS is on.
        tls: bool,
        /// Its transport domain.
        domain: u32,
        /// Its protection domain.
        pd: u32,
    },
    /// A key for TLS.
    CreateDek {
        /// The key.
        key: Zeroizing<Vec<u8>>,
        /// Its protection domain.
        pd: u32,
    },
}

/// Why a mailbox is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BadMailbox {
    /// It has another length than its command.
    Length,
    /// An opcode that we do not use.
    Opcode(u16),
    /// A field has a value that makes no sense.
    Field(&'static str),
}

impl Command {
    /// Reads a mailbox.
    ///
    /// # Errors
    /// Why it is none.
    pub fn parse(mailbox: &[u8]) -> Result<Self, BadMailbox> {
        let exact = |len: usize| if mailbox.len() == len { Ok(()) } else { Err(BadMailbox::Length) };
        if mailbox.len() < QUERY_LEN {
            return Err(BadMailbox::Length);
        }
        let op_mod = u16_at(mailbox, 6);
        match u16_at(mailbox, 0) {
            QUERY_CAPS => {
                exact(QUERY_LEN)?;
                let page = [Page::General, Page::Ethernet, Page::Tls].into_iter().find(|p| *p as u16 == op_mod >> 1);
                page.map(Self::QueryCaps).ok_or(BadMailbox::Field("page of capabilities"))
            }
            ALLOC_DOMAIN => exact(ANSWER_LEN).map(|()| Self::AllocDomain),
            CREATE_TIS => {
                exact(TIS_LEN)?;
                let tls = field(mailbox, 0x20, TLS_ENABLED, 1) == 1;
                Ok(Self::CreateTis { tls, domain: u24_at(mailbox, 0x44), pd: u24_at(mailbox, 0x4c) })
            }
            CREATE_OBJECT => {
                exact(DEK_LEN)?;
                if op_mod != OBJECT_DEK {
                    return Err(BadMailbox::Field("type of object"));
                }
                if mailbox[0x1b] & 0xf != PURPOSE_TLS {
                    return Err(BadMailbox::Field("purpose of key"));
                }
                let len = match mailbox[0x1a] & 0xf {
                    0 => 16,
                    1 => 32,
                    _ => return Err(BadMailbox::Field("size of key")),
                };
                let key = Zeroizing::new(mailbox[0x70 - len..0x70].to_vec());
                Ok(Self::CreateDek { key, pd: u24_at(mailbox, 0x1c) })
            }
            other => Err(BadMailbox::Opcode(other)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Bytes as the manuals have them, written by hand.
    #[test]
    fn mailboxes_byte_for_byte() {
        assert_eq!(query_caps(Page::Tls), [1, 0, 0, 0, 0, 0, 0, 0x23, 0, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(query_caps(Page::General)[7], 0x01);
        assert_eq!(query_caps(Page::Ethernet)[7], 0x03);
        let tis = create_tis(0x010203, 0x040506);
        assert_eq!(tis[..2], [0x09, 0x12]);
        assert_eq!(tis[0x20..0x24], [0x40, 0, 0, 0]);
        assert_eq!((&tis[0x44..0x48], &tis[0x4c..0x50]), (&[0, 1, 2, 3][..], &[0, 4, 5, 6][..]));
        assert_eq!(tis.iter().filter(|byte| **byte != 0).count(), 2 + 1 + 6);
        let key: Vec<u8> = (1..=32).collect();
        let dek = create_dek(&key, 0x0a0b0c);
        assert_eq!(dek[..8], [0x0a, 0, 0, 0, 0, 0, 0, 0x0c]);
        assert_eq!(dek[0x1a..0x20], [1, 1, 0, 0x0a, 0x0b, 0x0c]);
        assert_eq!(dek[0x50..0x70], key);
        let dek = create_dek(&key[..16], 1);
        assert_eq!((dek[0x1a], &dek[0x50..0x60], &dek[0x60..0x70]), (0, &[0; 16][..], &key[..16]));
    }

    #[test]
    fn what_was_asked_is_read() {
        let key = [7; 16];
        assert!(
            matches!(Command::parse(&create_dek(&key, 5)[..]), Ok(Command::CreateDek { key, pd: 5 }) if key[..] == [7; 16])
        );
        let tis = Command::parse(&create_tis(3, 4));
        assert!(matches!(tis, Ok(Command::CreateTis { tls: true, domain: 3, pd: 4 })));
        assert!(matches!(Command::parse(&alloc_domain()), Ok(Command::AllocDomain)));
        assert!(matches!(Command::parse(&query_caps(Page::Ethernet)), Ok(Command::QueryCaps(Page::Ethernet))));
        let mut wrong = create_dek(&key, 5);
        wrong[0x1b] = 3;
        assert_eq!(Command::parse(&wrong[..]).unwrap_err(), BadMailbox::Field("purpose of key"));
        assert_eq!(Command::parse(&wrong[..272]).unwrap_err(), BadMailbox::Length);
        assert_eq!(Command::parse(&[0xff; 16]).unwrap_err(), BadMailbox::Opcode(0xffff));
        assert_eq!(created(&answer(0, 0, 0x123456)), 0x123456);
        assert_eq!(status(&answer(3, 9, 0)), (3, 9));
    }

    #[test]
    fn capabilities_survive_their_pages() {
        let caps = Caps {
            tls_tx: true,
            dek_objects: true,
            log_max_dek: 18,
            log_max_tis: 20,
            descriptor_bytes_max: 1024,
            log_max_ring: 15,
            tls12_gcm128: true,
            tls12_gcm256: false,
            log_max_lso: 18,
        };
        let page = |which| {
            let mut page = vec![0; PAGE_LEN];
            caps.emit_page(which, &mut page);
            page
        };
        let [general, ethernet, tls] = [Page::General, Page::Ethernet, Page::Tls].map(page);
        assert_eq!(Caps::from_pages(&general, &ethernet, &tls), caps);
        assert_eq!(
            (general[0x90], tls[0], general[0x86]),
            (0x40, 0x80, 0x10),
            "the bits stand where the kernel reads them"
        );
        assert_eq!(caps.lacks(), None);
        assert_eq!(Caps::default().lacks(), Some("TLS transmit offload"));
        assert!(Caps { tls12_gcm128: false, ..caps }.lacks().is_some_and(|what| what.contains("AES-GCM")));
        assert!(Caps { log_max_dek: 0, ..caps }.lacks().is_some_and(|what| what.contains("keys")));
    }
}
