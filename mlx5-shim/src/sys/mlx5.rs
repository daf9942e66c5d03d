//! Owns the functions of libmlx5 that we use, as the headers of rdma-core 44 have them. Written by
//! mlx5-shim/bindings.sh; not to be changed by hand. Nothing is linked: functions are looked up at run time.
use super::*;
pub struct Mlx5 {
    __library: ::libloading::Library,
    pub mlx5dv_init_obj: unsafe extern "C" fn(obj: *mut mlx5dv_obj, obj_type: u64) -> ::core::ffi::c_int,
    pub mlx5dv_is_supported: unsafe extern "C" fn(device: *mut ibv_device) -> bool,
    pub mlx5dv_open_device:
        unsafe extern "C" fn(device: *mut ibv_device, attr: *mut mlx5dv_context_attr) -> *mut ibv_context,
    pub mlx5dv_devx_obj_create: unsafe extern "C" fn(
        context: *mut ibv_context,
        in_: *const ::core::ffi::c_void,
        inlen: usize,
        out: *mut ::core::ffi::c_void,
        outlen: usize,
    ) -> *mut mlx5dv_devx_obj,
    pub mlx5dv_devx_obj_destroy: unsafe extern "C" fn(obj: *mut mlx5dv_devx_obj) -> ::core::ffi::c_int,
    pub mlx5dv_devx_general_cmd: unsafe extern "C" fn(
        context: *mut ibv_context,
        in_: *const ::core::ffi::c_void,
        inlen: usize,
        out: *mut ::core::ffi::c_void,
        outlen: usize,
    ) -> ::core::ffi::c_int,
}
impl Mlx5 {
    pub unsafe fn new<P>(path: P) -> Result<Self, ::libloading::Error>
    where
        P: AsRef<::std::ffi::OsStr>,
    {
        let path = path.as_ref();
        let library = ::libloading::Library::new(path)?;
        Self::from_library(library)
    }
    pub unsafe fn from_library<L>(library: L) -> Result<Self, ::libloading::Error>
    where
        L: Into<::libloading::Library>,
    {
        let __library = library.into();
        let mlx5dv_init_obj = __library.get(b"mlx5dv_init_obj\0").map(|sym| *sym)?;
        let mlx5dv_is_supported = __library.get(b"mlx5dv_is_supported\0").map(|sym| *sym)?;
        let mlx5dv_open_device = __library.get(b"mlx5dv_open_device\0").map(|sym| *sym)?;
        let mlx5dv_devx_obj_create = __library.get(b"mlx5dv_devx_obj_create\0").map(|sym| *sym)?;
        let mlx5dv_devx_obj_destroy = __library.get(b"mlx5dv_devx_obj_destroy\0").map(|sym| *sym)?;
        let mlx5dv_devx_general_cmd = __library.get(b"mlx5dv_devx_general_cmd\0").map(|sym| *sym)?;
        Ok(Mlx5 {
            __library,
            mlx5dv_init_obj,
            mlx5dv_is_supported,
            mlx5dv_open_device,
            mlx5dv_devx_obj_create,
            mlx5dv_devx_obj_destroy,
            mlx5dv_devx_general_cmd,
        })
    }
    pub unsafe fn mlx5dv_init_obj(&self, obj: *mut mlx5dv_obj, obj_type: u64) -> ::core::ffi::c_int {
        (self.mlx5dv_init_obj)(obj, obj_type)
    }
    pub unsafe fn mlx5dv_is_supported(&self, device: *mut ibv_device) -> bool {
        (self.mlx5dv_is_supported)(device)
    }
    pub unsafe fn mlx5dv_open_device(
        &self,
        device: *mut ibv_device,
        attr: *mut mlx5dv_context_attr,
    ) -> *mut ibv_context {
        (self.mlx5dv_open_device)(device, attr)
    }
    pub unsafe fn mlx5dv_devx_obj_create(
        &self,
        context: *mut ibv_context,
        in_: *const ::core::ffi::c_void,
        inlen: usize,
        out: *mut ::core::ffi::c_void,
        outlen: usize,
    ) -> *mut mlx5dv_devx_obj {
        (self.mlx5dv_devx_obj_create)(context, in_, inlen, out, outlen)
    }
    pub unsafe fn mlx5dv_devx_obj_destroy(&self, obj: *mut mlx5dv_devx_obj) -> ::core::ffi::c_int {
        (self.mlx5dv_devx_obj_destroy)(obj)
    }
    pub unsafe fn mlx5dv_devx_general_cmd(
        &self,
        context: *mut ibv_context,
        in_: *const ::core::ffi::c_void,
        inlen: usize,
        out: *mut ::core::ffi::c_void,
        outlen: usize,
    ) -> ::core::ffi::c_int {
        (self.mlx5dv_devx_general_cmd)(context, in_, inlen, out, outlen)
    }
}
