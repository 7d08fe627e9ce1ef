//! This machine → the number of threads that compute a model fastest, and why.
//!
//! llama.cpp's threads wait for each other after every operation, by spinning: a thread that a slow core runs,
//! or one that the system has paused, holds up all others. So there is one per fast core, and no more than the
//! processors whose time a container may use. Prefill shares out its work in smaller pieces and waits less for
//! memory: there slow cores and second threads of a core may help, which is measured once. Everything is read
//! from `/proc` and `/sys` below a root folder, so that tests can give the files of other machines.

use std::collections::BTreeSet;
use std::fmt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::LazyLock;

use crate::chat::Settings;
use crate::engine::llama::fastest_prefill;
use crate::model_state::ModelState;
use crate::units::count;

/// A number of threads, at least one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Threads {
    pub count: u32,
    pub why: Why,
}

/// What decides the number of threads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Why {
    /// The setting.
    Given,
    /// The physical cores.
    Cores,
    /// The performance cores; others are slower.
    PerformanceCores,
    /// The cores on which the process may run, of more (`taskset`, a container's `cpuset`).
    Affinity,
    /// The processor time that the process may use (a container's `--cpus`).
    Quota,
}

/// This machine's.
static HERE: LazyLock<Here> = LazyLock::new(|| on_linux(Path::new("/")).unwrap_or_else(elsewhere));

#[derive(Debug, PartialEq)]
struct Here {
    threads: Threads,
    /// Larger numbers, in ascending order, that may prefill faster: with the slower cores, and with every
    /// processor of each core.
    more: Vec<u32>,
}

/// The threads for a model with these settings.
pub fn threads(settings: &Settings) -> Threads {
    settings.threads.map_or_else(|| HERE.threads, |count| Threads { count, why: Why::Given })
}

/// The number of threads for prefill, if another one than [`threads`] was measured to be faster on this
/// `machine`. `now`: it may be measured.
pub(super) fn prefill_threads(
    settings: &Settings,
    state: &ModelState,
    machine: &str,
    now: bool,
) -> Option<u32> {
    let given = settings.threads.is_some() || settings.threads_batch.is_some();
    Some(&*HERE).filter(|_| !given)?.prefill(state, machine, now, fastest_prefill)
}

impl Here {
    fn prefill(
        &self,
        state: &ModelState,
        machine: &str,
        now: bool,
        measure: impl FnOnce(&[u32]) -> Option<u32>,
    ) -> Option<u32> {
        if self.more.is_empty() {
            return None;
        }
        let counts = [&[self.threads.count], &self.more[..]].concat();
        let conditions = format!("{machine}, {counts:?}");
        let known = state.prefill_threads(&conditions);
        let measured = if known.is_none() && now { measure(&counts) } else { None };
        if let Some(count) = measured {
            state.remember_prefill_threads(&conditions, count);
        }
        known.or(measured).filter(|count| *count != self.threads.count && counts.contains(count))
    }
}

impl fmt::Display for Threads {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(&count(self.count, "thread"))?;
        match self.why {
            Why::Given | Why::Cores => Ok(()),
            Why::PerformanceCores => f.write_str(" (performance cores)"),
            Why::Affinity => f.write_str(" (CPU affinity)"),
            Why::Quota => f.write_str(" (CPU quota)"),
        }
    }
}

impl Why {
    /// For people, after a number of threads.
    pub fn explained(self) -> &'static str {
        match self {
            Why::Given => "as set",
            Why::Cores => "one per physical core",
            Why::PerformanceCores => "one per performance core; the other cores are slower",
            Why::Affinity => "one per physical core that this process may run on",
            Why::Quota => "as many whole processors as the CPU quota of the container (cgroup) allows",
        }
    }
}

/// The most that the setting takes.
const MOST: u32 = 512;

/// A core with less than this share of the fastest one's speed would hold up the others.
const FAST: f64 = 0.6;

/// `None` if the files are not there.
fn on_linux(root: &Path) -> Option<Here> {
    let status = read(&root.join("proc/self/status"))?;
    let list = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:"))?;
    let allowed = cpus(list);
    let present: BTreeSet<u32> =
        read(&root.join("sys/devices/system/cpu/online")).map_or_else(|| allowed.clone(), |list| cpus(&list));
    let fast = performance(root, &allowed);
    let most = cores(root, &fast);
    let why = if fast.len() < allowed.len() {
        Why::PerformanceCores
    } else if most < cores(root, &performance(root, &present)) {
        Why::Affinity
    } else {
        Why::Cores
    };
    let quota = quota(root).map_or(u32::MAX, |processors| (processors as u32).max(1));
    let threads = if quota < most {
        Threads { count: quota, why: Why::Quota }
    } else {
        Threads { count: most.max(1), why }
    };
    let all = [cores(root, &allowed), allowed.len() as u32].map(|all| all.min(quota).min(MOST));
    let more: BTreeSet<u32> = all.into_iter().filter(|count| *count > threads.count).collect();
    Some(Here { threads, more: more.into_iter().collect() })
}

/// The physical cores of these processors: siblings share one.
fn cores(root: &Path, cpus: &BTreeSet<u32>) -> u32 {
    let siblings = |cpu: &u32| {
        let siblings = read(&of_cpu(root, *cpu, "topology/thread_siblings_list"));
        siblings.unwrap_or_else(|| cpu.to_string())
    };
    cpus.iter().map(siblings).collect::<BTreeSet<_>>().len() as u32
}

/// The fast ones of these processors. Linux lists the performance cores of hybrid Intel processors, and rates
/// the cores of Arm; elsewhere their clocks must tell.
fn performance(root: &Path, cpus: &BTreeSet<u32>) -> BTreeSet<u32> {
    let listed = read(&root.join("sys/devices/cpu_core/cpus")).map(|list| self::cpus(&list));
    let listed: BTreeSet<u32> = listed.into_iter().flatten().filter(|cpu| cpus.contains(cpu)).collect();
    if !listed.is_empty() {
        return listed;
    }
    let speeds = |file| {
        let speed = |cpu: &u32| Some((*cpu, read(&of_cpu(root, *cpu, file))?.trim().parse::<f64>().ok()?));
        cpus.iter().map(speed).collect::<Option<Vec<_>>>()
    };
    let Some(speeds) = speeds("cpu_capacity").or_else(|| speeds("cpufreq/cpuinfo_max_freq")) else {
        return cpus.clone();
    };
    let best = speeds.iter().map(|(_, speed)| *speed).fold(0.0, f64::max);
    speeds.into_iter().filter(|(_, speed)| *speed >= FAST * best).map(|(cpu, _)| cpu).collect()
}

fn of_cpu(root: &Path, cpu: u32, file: &str) -> PathBuf {
    root.join(format!("sys/devices/system/cpu/cpu{cpu}/{file}"))
}

/// The processors whose time the process may use, in processors: the least of its cgroup and those around it,
/// in both versions of cgroups.
fn quota(root: &Path) -> Option<f64> {
    let mounts = read(&root.join("proc/self/mountinfo"))?;
    let groups = read(&root.join("proc/self/cgroup"))?;
    let of_hierarchy = |line: &str| {
        let mut fields = line.splitn(3, ':').skip(1);
        let (controllers, group) = (fields.next()?, Path::new(fields.next()?));
        let is_first = controllers.is_empty();
        if !is_first && !controllers.split(',').any(|name| name == "cpu") {
            return None;
        }
        let (mounted, from) = mounts.lines().find_map(|line| mount(line, is_first))?;
        // A container may see its own group as the root of the mount.
        let below = group.strip_prefix(from).unwrap_or(Path::new(""));
        let top = root.join(mounted.strip_prefix("/").ok()?);
        let group = top.join(below);
        group.ancestors().take_while(|group| group.starts_with(&top)).filter_map(processors).reduce(f64::min)
    };
    groups.lines().filter_map(of_hierarchy).reduce(f64::min)
}

/// Where a line of `mountinfo` mounts cgroups, and which group is there: those of version 2, or those of
/// version 1 that share out processor time. Columns: proc_pid_mountinfo(5).
fn mount(line: &str, version_2: bool) -> Option<(&Path, &Path)> {
    let (place, system) = line.split_once(" - ")?;
    let (place, system): (Vec<&str>, Vec<&str>) = (place.split(' ').collect(), system.split(' ').collect());
    let is_it = match *system.first()? {
        "cgroup2" => version_2,
        "cgroup" => !version_2 && system.get(2)?.split(',').any(|option| option == "cpu"),
        _ => false,
    };
    is_it.then_some((Path::new(*place.get(4)?), Path::new(*place.get(3)?)))
}

/// The quota of one cgroup: processor time per period, both in microseconds.
fn processors(group: &Path) -> Option<f64> {
    let number = |file: &str| read(&group.join(file))?.trim().parse::<f64>().ok();
    let (time, period) = match read(&group.join("cpu.max")) {
        Some(both) => {
            let (time, period) = both.trim().split_once(' ')?;
            (time.parse().ok()?, period.parse().ok()?) // `max`: no quota
        }
        None => (number("cpu.cfs_quota_us")?, number("cpu.cfs_period_us")?),
    };
    (time > 0.0 && period > 0.0).then_some(time / period)
}

/// A list as in `0-3,8`.
fn cpus(list: &str) -> BTreeSet<u32> {
    let range = |part: &str| {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        Some(first.trim().parse().ok()?..=last.trim().parse().ok()?)
    };
    list.split(',').filter_map(range).flatten().collect()
}

fn read(path: &Path) -> Option<String> {
    std::fs::read_to_string(path).ok()
}

/// Without `/proc`: on Apple's processors the performance cores, on others all processors.
fn elsewhere() -> Here {
    let performance = cfg!(target_os = "macos").then(|| {
        let asked = Command::new("/usr/sbin/sysctl").arg("hw.perflevel0.physicalcpu").output();
        let line = String::from_utf8(asked.ok()?.stdout).ok()?;
        line.rsplit_once(": ")?.1.trim().parse().ok().filter(|count| *count > 0)
    });
    let all = std::thread::available_parallelism().map_or(1, |n| n.get() as u32).min(MOST);
    let threads = match performance.flatten() {
        Some(count) => Threads { count, why: Why::PerformanceCores },
        None => Threads { count: all, why: Why::Cores },
    };
    Here { threads, more: Some(all).filter(|all| *all > threads.count).into_iter().collect() }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The files of a machine.
    struct Machine(tempfile::TempDir);

    impl Machine {
        /// Processors without siblings, no cgroups.
        fn of(cpus: u32) -> Machine {
            let machine = Machine(tempfile::tempdir().unwrap());
            machine.may_run_on(&format!("0-{}", cpus - 1));
            machine.with("sys/devices/system/cpu/online", &format!("0-{}", cpus - 1))
        }

        fn may_run_on(&self, cpus: &str) {
            self.write(
                "proc/self/status",
                &format!("Name:\tx\nCpus_allowed:\tff\nCpus_allowed_list:\t{cpus}\n"),
            );
        }

        fn write(&self, file: &str, text: &str) {
            let path = self.0.path().join(file);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, format!("{text}\n")).unwrap();
        }

        fn with(self, file: &str, text: &str) -> Machine {
            self.write(file, text);
            self
        }

        fn each(self, cpus: std::ops::Range<u32>, file: &str, text: impl Fn(u32) -> String) -> Machine {
            cpus.for_each(|cpu| self.write(&format!("sys/devices/system/cpu/cpu{cpu}/{file}"), &text(cpu)));
            self
        }

        /// Two processors per core, as Intel numbers them: the siblings follow all cores.
        fn with_siblings(self, cores: u32) -> Machine {
            let siblings = |cpu: u32| format!("{},{}", cpu % cores, cpu % cores + cores);
            self.each(0..2 * cores, "topology/thread_siblings_list", siblings)
        }

        /// In this group of cgroups version 2.
        fn in_group(self, group: &str) -> Machine {
            let mounts = "24 30 0:22 / /proc rw - proc proc rw\n35 24 0:30 / /sys/fs/cgroup rw shared:9 - cgroup2 cgroup2 rw,nsdelegate";
            self.with("proc/self/mountinfo", mounts).with("proc/self/cgroup", &format!("0::{group}"))
        }

        /// In this group of version 1, where the mount shows the groups from `root` on.
        fn in_old_group(self, group: &str, root: &str) -> Machine {
            let mounts = format!(
                "31 23 0:28 / /sys/fs/cgroup ro - tmpfs tmpfs ro\n32 31 0:29 / /sys/fs/cgroup/cpuset rw - cgroup cgroup rw,cpuset\n\
                 33 31 0:30 {root} /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct"
            );
            let groups = format!("5:cpuset:/\n4:cpu,cpuacct:{group}\n1:name=systemd:{group}\n0::/");
            self.with("proc/self/mountinfo", &mounts).with("proc/self/cgroup", &groups)
        }

        fn threads(&self) -> (u32, Why) {
            let Threads { count, why } = on_linux(self.0.path()).unwrap().threads;
            (count, why)
        }

        /// The numbers that may prefill faster.
        fn more(&self) -> Vec<u32> {
            on_linux(self.0.path()).unwrap().more
        }
    }

    #[test]
    fn siblings_count_once() {
        assert_eq!(Machine::of(8).threads(), (8, Why::Cores));
        assert_eq!(Machine::of(8).more(), [0; 0]);
        assert_eq!(Machine::of(16).with_siblings(8).threads(), (8, Why::Cores));
        assert_eq!(Machine::of(16).with_siblings(8).more(), [16]);
        assert_eq!(on_linux(Path::new("/nowhere")), None);
    }

    #[test]
    fn affinity_to_three_processors() {
        let machine = Machine::of(16).with_siblings(8);
        machine.may_run_on("2,4-5");
        assert_eq!(machine.threads(), (3, Why::Affinity));
        machine.may_run_on("2,10,4"); // two of them are one core
        assert_eq!(machine.threads(), (2, Why::Affinity));
        machine.may_run_on("0-7"); // half of the processors, but all cores
        assert_eq!(machine.threads(), (8, Why::Cores));
    }

    #[test]
    fn hybrid_processors_use_their_performance_cores() {
        // 8 cores with two processors each and 16 without siblings, as Linux shows a Core i9-13900K.
        let pairs = |cpu: u32| format!("{}-{}", cpu / 2 * 2, cpu / 2 * 2 + 1);
        let siblings = "topology/thread_siblings_list";
        let machine = Machine::of(32)
            .each(0..16, siblings, pairs)
            .each(16..32, siblings, |cpu| cpu.to_string())
            .with("sys/devices/cpu_core/cpus", "0-15")
            .with("sys/devices/cpu_atom/cpus", "16-31");
        assert_eq!(machine.threads(), (8, Why::PerformanceCores));
        assert_eq!(machine.more(), [24, 32]);
        machine.may_run_on("16-19");
        assert_eq!(machine.threads(), (4, Why::Affinity), "no performance cores among them");
        machine.may_run_on("0,2,20");
        assert_eq!(machine.threads(), (2, Why::PerformanceCores));
    }

    #[test]
    fn slow_cores_are_told_by_their_capacity_or_else_by_their_clock() {
        let capacity =
            |cpu: u32| ["1024", "780", "780", "780", "280", "280", "280", "280"][cpu as usize].into();
        assert_eq!(Machine::of(8).each(0..8, "cpu_capacity", capacity).threads(), (4, Why::PerformanceCores));
        let clock = |cpu: u32| if cpu < 4 { "5100000" } else { "2500000" }.into();
        let clocked = Machine::of(12).each(0..12, "cpufreq/cpuinfo_max_freq", clock);
        assert_eq!(clocked.threads(), (4, Why::PerformanceCores));
        // Cores of one kind differ a little.
        let favoured = |cpu: u32| if cpu == 1 { "5800000" } else { "5500000" }.into();
        assert_eq!(
            Machine::of(8).each(0..8, "cpufreq/cpuinfo_max_freq", favoured).threads(),
            (8, Why::Cores)
        );
        let all_equal = clocked.each(0..12, "cpu_capacity", |_| "1024".into());
        assert_eq!(all_equal.threads(), (12, Why::Cores), "the capacity counts");
    }

    #[test]
    fn a_quota_of_two_on_64_cores() {
        let machine = || Machine::of(128).with_siblings(64);
        let quota = "sys/fs/cgroup/cpu.max";
        assert_eq!(machine().in_group("/").with(quota, "200000 100000").threads(), (2, Why::Quota));
        assert_eq!(machine().in_group("/").with(quota, "200000 100000").more(), [0; 0]);
        assert_eq!(machine().in_group("/").with(quota, "9900000 100000").more(), [99]);
        assert_eq!(Machine::of(768).with_siblings(384).more(), [MOST]);
        assert_eq!(machine().in_group("/").with(quota, "max 100000").threads(), (64, Why::Cores));
        assert_eq!(machine().in_group("/").with(quota, "9900000 100000").threads(), (64, Why::Cores));
        assert_eq!(machine().in_group("/").threads(), (64, Why::Cores));
        let old = |group, root| {
            let folder = "sys/fs/cgroup/cpu,cpuacct";
            let machine =
                machine().in_old_group(group, root).with(&format!("{folder}/cpu.cfs_period_us"), "50000");
            machine.with(&format!("{folder}/cpu.cfs_quota_us"), "100000")
        };
        assert_eq!(old("/", "/").threads(), (2, Why::Quota));
        assert_eq!(old("/docker/1f", "/docker/1f").threads(), (2, Why::Quota));
        let none = old("/", "/").with("sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us", "-1");
        assert_eq!(none.threads(), (64, Why::Cores));
    }

    #[test]
    fn a_quota_of_one_and_a_half_is_one_thread_and_less_is_one_too() {
        let with = |quota| Machine::of(4).in_group("/").with("sys/fs/cgroup/cpu.max", quota).threads();
        assert_eq!(with("150000 100000"), (1, Why::Quota));
        assert_eq!(with("20000 100000"), (1, Why::Quota));
    }

    #[test]
    fn of_nested_groups_the_smallest_quota_counts() {
        let nested = |outer: &str, inner: &str| {
            let machine = Machine::of(16).in_group("/a.slice/b.scope");
            let machine = machine.with("sys/fs/cgroup/a.slice/cpu.max", outer);
            machine.with("sys/fs/cgroup/a.slice/b.scope/cpu.max", inner).threads()
        };
        assert_eq!(nested("300000 100000", "max 100000"), (3, Why::Quota));
        assert_eq!(nested("300000 100000", "600000 100000"), (3, Why::Quota));
        assert_eq!(nested("300000 100000", "200000 100000"), (2, Why::Quota));
        let old = Machine::of(16)
            .in_old_group("/a/b", "/")
            .with("sys/fs/cgroup/cpu,cpuacct/a/cpu.cfs_quota_us", "500000")
            .with("sys/fs/cgroup/cpu,cpuacct/a/cpu.cfs_period_us", "100000")
            .with("sys/fs/cgroup/cpu,cpuacct/a/b/cpu.cfs_quota_us", "-1")
            .with("sys/fs/cgroup/cpu,cpuacct/a/b/cpu.cfs_period_us", "100000");
        assert_eq!(old.threads(), (5, Why::Quota));
    }

    #[test]
    fn the_threads_for_prefill_are_measured_once() {
        let folder = tempfile::tempdir().unwrap();
        let state = ModelState::at(Some(folder.path().join("models.json")));
        let here = |more: &[u32]| Here {
            threads: Threads { count: 8, why: Why::PerformanceCores },
            more: more.to_vec(),
        };
        let never = |_: &[u32]| -> Option<u32> { panic!("measured") };
        assert_eq!(here(&[]).prefill(&state, "m", true, never), None, "there is no other number");
        assert_eq!(here(&[24, 32]).prefill(&state, "m", false, never), None);
        let of = |counts: &[u32]| Some(counts[1]);
        assert_eq!(here(&[24, 32]).prefill(&state, "m", true, of), Some(24));
        assert_eq!(here(&[24, 32]).prefill(&state, "m", false, never), Some(24));
        assert_eq!(here(&[16]).prefill(&state, "m", false, never), None, "in another container");
        assert_eq!(here(&[24, 32]).prefill(&state, "n", true, |counts| Some(counts[0])), None);
        assert_eq!(here(&[24, 32]).prefill(&state, "n", true, never), None);
    }
}
