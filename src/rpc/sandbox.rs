//! Takes a process's rights away before llama.cpp's server runs what clients send.
//!
//! On Linux, landlock and seccomp: no new privileges, no file but the cache and what drivers need, no program, no
//! socket of its own, no signal to others. Other systems have nothing like it that a program may use on itself.

use std::path::PathBuf;

/// What is left to the process.
#[derive(Debug, Clone, Default)]
pub struct Confinement {
    /// A folder to read and write.
    pub cache: Option<PathBuf>,
    /// Folders to read: libraries that are loaded later.
    pub libraries: Vec<PathBuf>,
    /// Whether drivers of GPUs must work: their devices, the system's libraries and what it says of its hardware.
    pub gpu: bool,
}

/// Confines this process for good. It must have one thread. The error says what this system lacks.
#[cfg(target_os = "linux")]
pub fn confine(to: &Confinement) -> Result<(), String> {
    let threads = std::fs::read_dir("/proc/self/task").map(Iterator::count);
    if !matches!(threads, Ok(1)) {
        return Err("the process has more than one thread".into());
    }
    linux::files(to).map_err(|error| format!("landlock: {error}"))?;
    linux::calls().map_err(|error| format!("seccomp: {error}"))
}

/// There is no such thing here.
#[cfg(not(target_os = "linux"))]
pub fn confine(_: &Confinement) -> Result<(), String> {
    Err("only Linux has landlock and seccomp".into())
}

#[cfg(target_os = "linux")]
mod linux {
    use std::path::Path;

    use landlock::{
        ABI, Access, AccessFs, AccessNet, BitFlags, CompatLevel, Compatible, PathBeneath, PathFd, Ruleset,
        RulesetAttr, RulesetCreated, RulesetCreatedAttr, RulesetError, Scope,
    };
    use nix::libc;
    use seccompiler::{BpfProgram, SeccompAction, SeccompFilter, apply_filter};

    use super::Confinement;

    /// What must be enforced, and the newest version that this file knows.
    const LEAST: ABI = ABI::V1;
    const NEWEST: ABI = ABI::V6;

    /// What a GPU's driver reads, and the devices that it opens.
    const SYSTEM: &[&str] = &["/usr", "/lib", "/lib64", "/opt", "/etc", "/sys", "/proc"];
    const DEVICES: &[&str] = &["/dev"];

    pub(super) fn files(to: &Confinement) -> Result<(), RulesetError> {
        let (read, all) = (AccessFs::from_read(NEWEST) & !AccessFs::Execute, AccessFs::from_all(NEWEST));
        let use_device = AccessFs::ReadFile | AccessFs::WriteFile | AccessFs::ReadDir | AccessFs::IoctlDev;
        let mut rules = Ruleset::default()
            .set_compatibility(CompatLevel::HardRequirement)
            .handle_access(AccessFs::from_all(LEAST))?
            .set_compatibility(CompatLevel::BestEffort)
            .handle_access(all)?
            .handle_access(AccessNet::from_all(NEWEST))?
            .scope(Scope::from_all(NEWEST))?
            .create()?;
        for folder in &to.libraries {
            rules = allowed(rules, folder, read)?;
        }
        // How many processors there are, for the threads.
        rules = allowed(rules, Path::new("/sys/devices/system"), read)?;
        if let Some(cache) = &to.cache {
            rules = allowed(rules, cache, all & !AccessFs::Execute)?;
        }
        let (system, devices) = if to.gpu { (SYSTEM, DEVICES) } else { (&[][..], &[][..]) };
        for folder in system {
            rules = allowed(rules, Path::new(folder), read)?;
        }
        for folder in devices {
            rules = allowed(rules, Path::new(folder), use_device)?;
        }
        rules.restrict_self().map(drop) // with no new privileges
    }

    /// Allows what is beneath a folder, if it is there.
    fn allowed(
        rules: RulesetCreated,
        folder: &Path,
        access: BitFlags<AccessFs>,
    ) -> Result<RulesetCreated, RulesetError> {
        match PathFd::new(folder) {
            Ok(folder) => rules.add_rule(PathBeneath::new(folder, access)),
            Err(_) => Ok(rules),
        }
    }

    /// The system calls that computing does not need, and an intruder would: programs, sockets, other processes,
    /// and ways around this list.
    const REFUSED: &[libc::c_long] = &[
        libc::SYS_execve,
        libc::SYS_execveat,
        libc::SYS_socket,
        libc::SYS_socketpair,
        libc::SYS_connect,
        libc::SYS_bind,
        libc::SYS_listen,
        libc::SYS_ptrace,
        libc::SYS_process_vm_readv,
        libc::SYS_process_vm_writev,
        libc::SYS_pidfd_open,
        libc::SYS_pidfd_getfd,
        libc::SYS_pidfd_send_signal,
        libc::SYS_kill,
        libc::SYS_unshare,
        libc::SYS_setns,
        libc::SYS_mount,
        libc::SYS_bpf,
        libc::SYS_perf_event_open,
        libc::SYS_userfaultfd,
        libc::SYS_keyctl,
        libc::SYS_add_key,
        libc::SYS_request_key,
        libc::SYS_open_by_handle_at,
        libc::SYS_io_uring_setup,
    ];

    pub(super) fn calls() -> Result<(), Box<dyn std::error::Error>> {
        let rules = REFUSED.iter().map(|call| (*call, Vec::new())).collect();
        let refuse = SeccompAction::Errno(libc::EPERM as u32);
        let filter =
            SeccompFilter::new(rules, SeccompAction::Allow, refuse, std::env::consts::ARCH.try_into()?)?;
        Ok(apply_filter(&BpfProgram::try_from(filter)?)?)
    }
}
