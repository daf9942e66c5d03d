//! Gives the shared library its name, with the number that changes when programs have to be built again.

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rustc-cdylib-link-arg=-Wl,-soname,libsealane.so.0");
}
