//! Owns the boundary: how pointers become references, how a result becomes a status, and that a panic ends here.

use std::any::Any;
use std::ffi::{CStr, CString, c_char};
use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::status::{Error, Failure, SEALANE_PANIC};

/// Does the work of one function. What went wrong is written to `error`, unless that is null; a panic becomes `SEALANE_PANIC`.
///
/// # Safety
/// `error` is null, or may be written to.
pub(crate) unsafe fn run(error: *mut Error, work: impl FnOnce() -> Result<i32, Failure>) -> i32 {
    let result = caught(work);
    if !error.is_null() {
        // SAFETY: the caller's promise. It may never have been written before, so nothing is read or dropped.
        unsafe { error.write(Error::of(&result)) };
    }
    result.unwrap_or_else(|failure| failure.status)
}

/// Does work that nobody hears of: freeing. A panic in it ends here, too.
pub(crate) fn quietly(work: impl FnOnce()) {
    _ = caught(|| {
        work();
        Ok(0)
    });
}

fn caught(work: impl FnOnce() -> Result<i32, Failure>) -> Result<i32, Failure> {
    // Whatever a panic left half done belongs to a socket that its owner is told to free.
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|cause| Err(panicked(cause)))
}

fn panicked(cause: Box<dyn Any + Send>) -> Failure {
    let text = match (cause.downcast_ref::<&str>(), cause.downcast_ref::<String>()) {
        (Some(text), _) => (*text).to_owned(),
        (_, Some(text)) => text.clone(),
        _ => "something that is no text".to_owned(),
    };
    // Dropping what was thrown could panic once more.
    std::mem::forget(cause);
    Failure::new(SEALANE_PANIC, format!("the library panicked: {text}"))
}

/// What a handle points to.
///
/// # Safety
/// `handle` is null, or came from this library, is of this type, and is not freed before the reference is gone.
pub(crate) unsafe fn handle<'a, T>(handle: *const T, what: &'static str) -> Result<&'a T, Failure> {
    // SAFETY: the caller's promise; null gives `None`.
    unsafe { handle.as_ref() }.ok_or_else(|| Failure::invalid(format!("{what} is null")))
}

/// The same, for what one thread has to itself.
///
/// # Safety
/// As [`handle`], and nobody else uses it meanwhile.
pub(crate) unsafe fn handle_mut<'a, T>(handle: *mut T, what: &'static str) -> Result<&'a mut T, Failure> {
    // SAFETY: the caller's promise; null gives `None`.
    unsafe { handle.as_mut() }.ok_or_else(|| Failure::invalid(format!("{what} is null")))
}

/// Bytes of the caller. Null is the empty message, if the length agrees.
///
/// # Safety
/// `data` is null, or `length` bytes are readable there and do not change before the slice is gone.
pub(crate) unsafe fn bytes<'a>(data: *const u8, length: usize, what: &'static str) -> Result<&'a [u8], Failure> {
    match (data.is_null(), length) {
        (true, 0) => Ok(&[]),
        (true, _) => Err(Failure::invalid(format!("{what} is null, and its length is not 0"))),
        (false, _) if length > isize::MAX as usize => {
            Err(Failure::invalid(format!("the length of {what} is negative")))
        }
        // SAFETY: the caller's promise, and the length is one that a slice can have.
        (false, _) => Ok(unsafe { std::slice::from_raw_parts(data, length) }),
    }
}

/// Text of the caller, ended by a zero.
///
/// # Safety
/// `text` is null, or a string that is ended by a zero and does not change before the reference is gone.
pub(crate) unsafe fn text<'a>(text: *const c_char, what: &'static str) -> Result<&'a str, Failure> {
    if text.is_null() {
        return Err(Failure::invalid(format!("{what} is null")));
    }
    // SAFETY: not null, and the caller's promise.
    let text = unsafe { CStr::from_ptr(text) };
    text.to_str().map_err(|_| Failure::invalid(format!("{what} is not UTF-8")))
}

/// Where a result goes. It is null until the result is there, so that whoever frees it without looking frees nothing.
///
/// # Safety
/// `out` is null, or a pointer may be written there before the reference is gone.
pub(crate) unsafe fn out<'a, T>(out: *mut *mut T, what: &'static str) -> Result<&'a mut *mut T, Failure> {
    // SAFETY: the caller's promise. It is written before anything reads it: it may hold anything now.
    unsafe {
        if !out.is_null() {
            out.write(std::ptr::null_mut());
        }
        handle_mut(out, what)
    }
}

/// Where up to `most` results go. They are null until the results are there, as in [`out`].
///
/// # Safety
/// `out` is null, or `most` pointers may be written there before the slice is gone.
pub(crate) unsafe fn out_many<'a, T>(
    out: *mut *mut T,
    most: usize,
    what: &'static str,
) -> Result<&'a mut [*mut T], Failure> {
    match (out.is_null(), most) {
        (true, _) => Err(Failure::invalid(format!("{what} is null"))),
        (false, 0) => Err(Failure::invalid(format!("{what} has room for nothing"))),
        (false, _) if most > isize::MAX as usize / size_of::<*mut T>() => {
            Err(Failure::invalid(format!("no array is as long as {what}")))
        }
        // SAFETY: the caller's promise, and the length is one that a slice can have. All is written before anything reads it: it may
        // hold anything now.
        (false, _) => unsafe {
            (0..most).for_each(|at| out.add(at).write(std::ptr::null_mut()));
            Ok(std::slice::from_raw_parts_mut(out, most))
        },
    }
}

/// Text for the caller, to be given back to `sealane_string_free`. Zeros in it become question marks.
pub(crate) fn given(text: String) -> *mut c_char {
    CString::new(text.replace('\0', "?")).expect("no zero is left").into_raw()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::status::{SEALANE_ERROR_TEXT_BYTES, SEALANE_INVALID, SEALANE_NOTHING};

    fn said(work: impl FnOnce() -> Result<i32, Failure>) -> (i32, Error) {
        let mut error = Error::of(&Err(Failure::invalid("left from before")));
        // SAFETY: it points to a value on this stack.
        let status = unsafe { run(&raw mut error, work) };
        assert_eq!(status, error.status);
        (status, error)
    }

    fn text_of(error: &Error) -> &str {
        // SAFETY: `Error::of` ends every text with a zero.
        unsafe { CStr::from_ptr(error.text.as_ptr()) }.to_str().unwrap()
    }

    #[test]
    fn no_panic_crosses() {
        let (status, error) = said(|| panic!("number {}", 7));
        assert_eq!((status, text_of(&error)), (SEALANE_PANIC, "the library panicked: number 7"));
        let (status, _) = said(|| std::panic::panic_any(7));
        assert_eq!(status, SEALANE_PANIC);
        quietly(|| panic!("nobody hears of it"));
        // SAFETY: null is allowed.
        assert_eq!(unsafe { run(std::ptr::null_mut(), || panic!("nobody asked for the text")) }, SEALANE_PANIC);
    }

    #[test]
    fn what_was_said_before_is_gone() {
        let (status, error) = said(|| Ok(SEALANE_NOTHING));
        assert_eq!((status, text_of(&error)), (SEALANE_NOTHING, ""));
    }

    #[test]
    fn long_texts_are_cut_between_characters() {
        let (status, error) = said(|| Err(Failure::invalid("\u{e4}".repeat(SEALANE_ERROR_TEXT_BYTES))));
        assert_eq!(status, SEALANE_INVALID);
        assert_eq!(text_of(&error), "\u{e4}".repeat((SEALANE_ERROR_TEXT_BYTES - 1) / 2));
    }

    #[test]
    fn nulls_and_lengths_are_checked() {
        // SAFETY: only null and a dangling pointer of length 0 or of an impossible length, which are not read.
        unsafe {
            assert_eq!(bytes(std::ptr::null(), 0, "x").unwrap(), b"");
            assert_eq!(bytes(std::ptr::null(), 1, "x").unwrap_err().status, SEALANE_INVALID);
            assert_eq!(bytes(std::ptr::dangling(), usize::MAX, "x").unwrap_err().status, SEALANE_INVALID);
            assert_eq!(out_many::<u8>(std::ptr::null_mut(), 1, "x").unwrap_err().text, "x is null");
            assert_eq!(out_many::<u8>(std::ptr::dangling_mut(), 0, "x").unwrap_err().status, SEALANE_INVALID);
            assert_eq!(
                out_many::<u8>(std::ptr::dangling_mut(), usize::MAX / 8, "x").unwrap_err().status,
                SEALANE_INVALID
            );
            assert_eq!(text(std::ptr::null(), "x").unwrap_err().text, "x is null");
            assert_eq!(text(c"\xff".as_ptr(), "x").unwrap_err().text, "x is not UTF-8");
        }
    }
}
