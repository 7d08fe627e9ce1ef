//! Lent machines and llama.cpp: the workers to use → devices of llama.cpp; and, on a worker, llama.cpp's RPC server.
//!
//! llama.cpp never forgets a device that was registered: lent.rs hides those of workers that are no longer used.

use std::ffi::{CString, c_char, c_void};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::ptr::null;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use llama_cpp_sys_2 as sys;
use nix::sys::stat::{Mode, umask};

use super::devices::{backend, gpus, handle};
use super::lent::select;
use super::log::{abort, contained};
use crate::engine::memory;
use crate::rpc::{self, Confinement, Link, Token, confine, control};

/// Main memory that a server needs for itself besides what it has at its start, in bytes: in all, and for each
/// thread.
const OWN_MEMORY: u64 = 32 << 20;
const OWN_MEMORY_PER_THREAD: u64 = 10 << 20;

/// All workers that some model may still use.
static KNOWN: Mutex<Vec<Weak<Link>>> = Mutex::new(Vec::new());

/// Makes the devices of these workers, and of no others, ones that models loaded from now on may use. Asks each
/// worker that is new or was lost what it has, and waits for each answer for `patience` at most. On failure all
/// stays as it was.
pub fn select_workers(
    addresses: &[String],
    token: impl Fn(&str) -> Result<Token, rpc::Error>,
    patience: Duration,
) -> Result<(), rpc::Error> {
    let links = addresses.iter().map(|address| match known(address) {
        Some(link) => Ok(link),
        None => registered(Link::open(address, token(address)?, patience)?),
    });
    let links = links.collect::<Result<Vec<_>, _>>()?;
    select(links);
    Ok(())
}

/// A worker that is in use and not lost.
fn known(address: &str) -> Option<Arc<Link>> {
    let mut known = lock(&KNOWN);
    known.retain(|link| link.strong_count() > 0);
    known.iter().filter_map(Weak::upgrade).find(|link| link.address == address && link.lost().is_none())
}

fn registered(link: Link) -> Result<Arc<Link>, rpc::Error> {
    let endpoint = CString::new(link.endpoint.clone()).expect("it is a host and numbers");
    let link = Arc::new(link);
    // SAFETY: the function of this name has this type (ggml-rpc.h).
    let add: extern "C" fn(*const c_char) -> sys::ggml_backend_reg_t =
        unsafe { std::mem::transmute(function(c"ggml_backend_rpc_add_server")) };
    let registry = contained(|| add(endpoint.as_ptr()));
    if let Some(lost) = link.lost() {
        return Err(lost);
    }
    if !registry.is_null() {
        // SAFETY: the registry lives to the end of the process. No model is being loaded that looks at the
        // list of devices: fireside names the devices of each load.
        unsafe { sys::ggml_backend_register(registry) };
    }
    lock(&KNOWN).push(Arc::downgrade(&link));
    Ok(link)
}

/// A function of ggml's RPC backend, which may have been loaded at run time.
fn function(name: &std::ffi::CStr) -> *mut c_void {
    backend();
    // SAFETY: both only look up.
    let function = unsafe {
        sys::ggml_backend_reg_get_proc_address(sys::ggml_backend_reg_by_name(c"RPC".as_ptr()), name.as_ptr())
    };
    if function.is_null() {
        abort("its RPC backend is missing: unpack or install the package again, as a whole");
    }
    function
}

/// What a server process lends.
#[derive(Debug, Clone)]
pub struct Lending<'a> {
    /// The names of its devices.
    pub devices: Vec<String>,
    /// For the CPU.
    pub threads: u32,
    /// The most bytes of main memory.
    pub memory: u64,
    /// The folder for large tensors.
    pub cache: Option<&'a Path>,
}

/// The names of the devices that a worker lends: those that are named, or else the GPUs, or else the CPU.
pub fn lendable(named: &[String]) -> Vec<String> {
    match named {
        [] => {
            let gpus: Vec<String> = gpus().into_iter().map(|gpu| gpu.name).collect();
            if gpus.is_empty() { vec![CPU.into()] } else { gpus }
        }
        [none] if none == "none" => vec![CPU.into()],
        names => names.to_vec(),
    }
}

const CPU: &str = "CPU";

impl Lending<'_> {
    /// Whether only the CPU is lent.
    pub fn is_cpu(&self) -> bool {
        self.devices == [CPU]
    }
}

/// Runs llama.cpp's RPC server for the clients that come over [`control`], until that is closed. `confinement`: what is
/// left to this process; without one it keeps its rights. The error says why it could not start.
pub fn serve(lending: &Lending, confinement: Option<&Confinement>) -> Result<(), String> {
    #[cfg(target_os = "linux")]
    let _ = nix::sys::prctl::set_pdeathsig(nix::sys::signal::Signal::SIGKILL); // elsewhere it ends once it is idle
    umask(Mode::from_bits_truncate(0o077)); // for the tensors that it keeps
    let own = OWN_MEMORY + u64::from(lending.threads) * OWN_MEMORY_PER_THREAD + memory::used().unwrap_or(0);
    if lending.is_cpu() {
        memory::limit(lending.memory.saturating_add(own)); // GPU drivers have memory needs of their own
    }
    if let Some(confinement) = confinement {
        confine(confinement)?;
    }
    let named = |name: &String| handle(name).ok_or_else(|| format!("there is no device '{name}'"));
    let mut devices = lending.devices.iter().map(named).collect::<Result<Vec<_>, _>>()?;
    let endpoint = CString::new(format!("gate:{}", control())).expect("it is a word and a number");
    let cache = lending.cache.map(|folder| CString::new(folder.as_os_str().as_bytes()));
    let cache = cache.transpose().map_err(|_| "the cache's folder has no valid name")?;
    type Start = extern "C" fn(*const c_char, *const c_char, usize, usize, *mut sys::ggml_backend_dev_t);
    // SAFETY: the function of this name has this type (ggml-rpc.h).
    let start: Start = unsafe { std::mem::transmute(function(c"ggml_backend_rpc_start_server")) };
    let cache = cache.as_ref().map_or(null(), |folder| folder.as_ptr());
    contained(|| {
        start(endpoint.as_ptr(), cache, lending.threads as usize, devices.len(), devices.as_mut_ptr())
    });
    Ok(())
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
