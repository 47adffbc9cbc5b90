//! Scheduling precedence of a thread when the machine is busy.
//!
//! A thread that others wait for takes precedence over everything that is scheduled by default (`SCHED_RR` at the
//! lowest priority, sched(7)), whatever the share of its session or cgroup. It keeps the precedence as long as it uses
//! only a part of one processor. Beyond that it is scheduled by default again, with a large share (nice -10) and a
//! short slice, so that a flood of work does not make it starve the machine. Needs CAP_SYS_NICE; without it, it gets
//! only the short slice, which Linux supports since 6.12.
#![allow(unsafe_code, reason = "nix has neither sched_setattr(2) nor a thread's processor time")]

use std::io;
use std::time::{Duration, Instant};

use crate::base::monotonic;

/// The lowest priority above the default ones (sched(7)).
const LOWEST: u32 = 1;
/// Nice value, from 19 (last) to -20 (first): well before the default (0).
const SOON: i32 = -10;
/// How many nanoseconds it may run at a time while others wait: the shortest slice. A thread with a short slice is
/// scheduled sooner (`sched_runtime`, sched_setattr(2)).
const SLICE: u64 = 100_000;
/// It gives up the precedence when it has used more than 1/MUCH of a processor...
const MUCH: u32 = 2;
/// ...and takes it again when it has used less than 1/LITTLE...
const LITTLE: u32 = 4;
/// ...over at least this time.
const WINDOW: Duration = Duration::from_millis(50);
/// The usage is checked once in this many calls.
const CALLS: u32 = 16;

/// The precedence of the thread that has claimed it.
#[derive(Debug)]
pub struct Precedence {
    /// Whether it has the precedence now; `None` if that is not permitted.
    first: Option<bool>,
    calls: u32,
    began: Instant,
    used: Duration,
}

impl Precedence {
    /// Gives the calling thread the precedence, or as much as is permitted; also returns what was refused.
    pub fn claim() -> (Self, io::Result<()>) {
        let soon = by_default(Some(SOON)).or_else(|error| by_default(None).and(Err(error)));
        let first = before_all();
        let claimed =
            Self { first: first.is_ok().then_some(true), calls: 0, began: monotonic::now(), used: processor_time() };
        (claimed, first.and(soon))
    }

    /// Gives up or takes the precedence, depending on the thread's usage. That thread must call it often.
    pub fn update(&mut self) {
        let Some(first) = self.first else { return };
        self.calls += 1;
        if !self.calls.is_multiple_of(CALLS) {
            return;
        }
        let now = monotonic::now();
        let passed = now.duration_since(self.began);
        if passed < WINDOW {
            return;
        }
        let used = processor_time();
        let next = comes_first(first, used.saturating_sub(self.used), passed);
        (self.began, self.used) = (now, used);
        // A refused change is tried again in the next window.
        if next != first && (if next { before_all() } else { by_default(Some(SOON)) }).is_ok() {
            self.first = Some(next);
        }
    }
}

/// Whether a thread that used `used` of the time `of` is to have the precedence.
fn comes_first(first: bool, used: Duration, of: Duration) -> bool {
    used <= of / if first { MUCH } else { LITTLE }
}

fn before_all() -> io::Result<()> {
    set(libc::SCHED_RR, 0, LOWEST, 0)
}

fn by_default(nice: Option<i32>) -> io::Result<()> {
    // SAFETY: takes numbers only. On Linux the process 0 is the calling thread, not its whole process.
    let now = unsafe { libc::getpriority(libc::PRIO_PROCESS, 0) };
    set(libc::SCHED_OTHER, nice.unwrap_or(now), 0, SLICE)
}

/// sched_setattr(2) for the calling thread.
fn set(policy: libc::c_int, nice: i32, priority: u32, slice: u64) -> io::Result<()> {
    let attributes = libc::sched_attr {
        size: size_of::<libc::sched_attr>() as u32,
        sched_policy: policy.cast_unsigned(),
        sched_flags: 0,
        sched_nice: nice,
        sched_priority: priority,
        sched_runtime: slice,
        sched_deadline: 0,
        sched_period: 0,
    };
    // SAFETY: the kernel reads `size` bytes of the attributes. The thread 0 is the calling one.
    let done = unsafe { libc::syscall(libc::SYS_sched_setattr, 0, &raw const attributes, 0) };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// The processor time that the calling thread has used so far.
fn processor_time() -> Duration {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the kernel writes one timespec. It fails for unknown clocks only, and then leaves it at zero.
    unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &raw mut time) };
    Duration::new(time.tv_sec.unsigned_abs(), u32::try_from(time.tv_nsec).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The nice value and the policy of the calling thread (proc_pid_stat(5)).
    fn scheduled() -> (String, String) {
        let stat = std::fs::read_to_string("/proc/thread-self/stat").unwrap();
        let fields: Vec<&str> = stat.rsplit_once(") ").unwrap().1.split(' ').collect();
        (fields[16].to_owned(), fields[38].to_owned())
    }

    #[test]
    fn it_is_of_this_thread_alone() {
        let before = scheduled();
        let other = std::thread::spawn(|| Precedence::claim().1.map(|()| scheduled())).join().unwrap();
        // It is refused without privileges.
        assert!(other.as_ref().map_or(true, |(nice, policy)| nice == "-10" && policy == "2"), "{other:?}");
        assert_eq!(scheduled(), before);
    }

    #[test]
    fn who_takes_much_steps_back_until_it_takes_little() {
        let scheduled = std::thread::spawn(|| {
            let (mut claimed, done) = Precedence::claim();
            if done.is_err() {
                return None;
            }
            // In a window that is just over: much more than all of it, or nothing.
            let mut after = |used: Duration| {
                claimed.began = monotonic::now() - WINDOW;
                claimed.used = processor_time().saturating_sub(used);
                (0..CALLS).for_each(|_| claimed.update());
                scheduled()
            };
            // A thread's processor time begins at zero: it must have used some.
            while processor_time() < 4 * WINDOW {
                std::hint::spin_loop();
            }
            Some([after(4 * WINDOW), after(Duration::ZERO)])
        });
        // Without privileges there is no precedence to give up.
        let Some([busy, calm]) = scheduled.join().unwrap() else { return };
        assert_eq!((busy.1.as_str(), calm.1.as_str()), ("0", "2"));
        assert_eq!(busy.0, "-10");
    }

    #[test]
    fn a_share_between_the_two_changes_nothing() {
        let percent = |first, used| comes_first(first, Duration::from_millis(used), Duration::from_millis(100));
        assert!(percent(true, 50) && !percent(true, 51));
        assert!(percent(false, 25) && !percent(false, 26));
    }
}
