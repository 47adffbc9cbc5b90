//! The supervisor of the monitors, which are the threads that read the kernel's notifications: a monitor that fails or
//! panics is started again after a pause, and the engine is told when it stops and when it runs again.

use std::any::Any;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::thread::Builder;
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::{KernelEvent, Tell};
use crate::base::deadline::Deadline;

/// The pause before the first new start, and the longest one; each is twice as long as the one before.
const PAUSES: Pauses = Pauses { next: Duration::from_millis(100), max: Duration::from_secs(10) };

/// A monitor of one kind of notifications. All its methods are called in the network namespace in which it was started.
pub(in crate::kernel) trait Monitor: Send + 'static {
    /// What the notifications are read from.
    type Source: Send;

    /// Its name in `netd status`, and, with `-watch`, that of its thread.
    const NAME: &'static str;

    /// Subscribes to the notifications. After a new start the engine looks at everything, so that what happened
    /// before needs no report.
    fn subscribe(&mut self) -> io::Result<Self::Source>;

    /// Reports notifications to `tell` until `stop` is readable. An error starts the monitor again.
    fn listen(&mut self, source: &mut Self::Source, stop: BorrowedFd<'_>, tell: &Tell) -> io::Result<()>;
}

/// A running monitor. Dropping it stops the monitor's thread.
#[derive(Debug)]
pub(in crate::kernel) struct Running {
    /// Closing this end makes the other one readable.
    _stop: UnixStream,
}

/// Subscribes in the calling thread's network namespace, and listens on a separate thread.
pub(in crate::kernel) fn start<M: Monitor>(monitor: M, tell: Tell) -> io::Result<Running> {
    start_with(monitor, tell, PAUSES)
}

fn start_with<M: Monitor>(mut monitor: M, tell: Tell, pauses: Pauses) -> io::Result<Running> {
    let first = monitor.subscribe()?;
    let (stop, stopped) = UnixStream::pair()?;
    let thread = Builder::new().name(format!("{}-watch", M::NAME));
    thread.spawn(move || supervise(monitor, first, &stopped, &tell, pauses))?;
    Ok(Running { _stop: stop })
}

fn supervise<M: Monitor>(mut monitor: M, first: M::Source, stop: &UnixStream, tell: &Tell, pauses: Pauses) {
    let mut source = Ok(first);
    let mut pause = pauses;
    loop {
        let unstable = Deadline::after(pauses.max);
        let why = match source.and_then(|mut source| caught(|| monitor.listen(&mut source, stop.as_fd(), tell))) {
            Ok(()) => return,
            Err(error) => error.to_string(),
        };
        if unstable.remaining().is_none() {
            pause = pauses;
        }
        tell(KernelEvent::MonitorStopped { monitor: M::NAME, why });
        if has_stopped(stop, pause.take()) {
            return;
        }
        source = caught(|| monitor.subscribe());
        if source.is_ok() {
            tell(KernelEvent::MonitorRuns(M::NAME));
        }
    }
}

/// The result of `step`; a panic is an error. The monitor is not used after a panic except to subscribe anew.
fn caught<T>(step: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
    let panicked = |panic: Box<dyn Any + Send>| {
        let text = panic.downcast_ref::<&str>().map(ToString::to_string);
        let text = text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_default();
        Err(io::Error::other(format!("it panicked: {text}")))
    };
    catch_unwind(AssertUnwindSafe(step)).unwrap_or_else(panicked)
}

/// The pauses between starts.
#[derive(Debug, Clone, Copy)]
struct Pauses {
    next: Duration,
    max: Duration,
}

impl Pauses {
    /// The next pause.
    fn take(&mut self) -> Duration {
        let pause = self.next;
        self.next = (pause * 2).min(self.max);
        pause
    }
}

/// Waits for the stop, at most for the pause.
fn has_stopped(stop: &UnixStream, pause: Duration) -> bool {
    let until = Deadline::after(pause);
    loop {
        match wait(&[stop.as_fd()], Some(until)) {
            Ok(Woken::By(_)) => return true,
            Ok(Woken::Passed) => return false,
            Ok(Woken::Interrupted) => {}
            // There is no other way to wait; the thread would otherwise take a whole processor.
            Err(_) => {
                until.pause(pause);
                return false;
            }
        }
    }
}

/// Why a wait ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::kernel) enum Woken {
    /// The descriptor with this index, the first of those that are readable, closed or broken.
    By(usize),
    /// The deadline has passed.
    Passed,
    /// A signal arrived.
    Interrupted,
}

/// Waits until one of the descriptors is readable, or until the deadline if there is one.
pub(in crate::kernel) fn wait(fds: &[BorrowedFd<'_>], until: Option<Deadline>) -> io::Result<Woken> {
    let timeout = match until.map(Deadline::remaining) {
        None => PollTimeout::NONE,
        Some(None) => return Ok(Woken::Passed),
        // Rounded up, so as not to wake before the deadline.
        Some(Some(left)) => PollTimeout::try_from(left.as_millis() + 1).unwrap_or(PollTimeout::MAX),
    };
    let mut polled: Vec<PollFd<'_>> = fds.iter().map(|fd| PollFd::new(*fd, PollFlags::POLLIN)).collect();
    match poll(&mut polled, timeout) {
        Ok(0) => Ok(Woken::Passed),
        Ok(_) => {
            let ready = polled.iter().position(|fd| fd.revents().is_none_or(|events| !events.is_empty()));
            Ok(ready.map_or(Woken::Interrupted, Woken::By))
        }
        Err(nix::Error::EINTR) => Ok(Woken::Interrupted),
        Err(error) => Err(error.into()),
    }
}

/// What a read of notifications returned.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::kernel) enum Received {
    /// A datagram of this length.
    Datagram(usize),
    /// The receive buffer was full, and notifications were lost: the engine must look at everything.
    Lost,
    /// Nothing as yet.
    Nothing,
}

/// Tells apart what ends a monitor, and what does not.
pub(in crate::kernel) fn received(read: io::Result<usize>) -> io::Result<Received> {
    match read {
        Ok(len) => Ok(Received::Datagram(len)),
        Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => Ok(Received::Lost),
        Err(error) if matches!(error.kind(), io::ErrorKind::Interrupted | io::ErrorKind::WouldBlock) => {
            Ok(Received::Nothing)
        }
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;
    use std::sync::mpsc::{Receiver, Sender, channel};
    use std::sync::{Arc, Mutex};

    use super::*;

    const SHORT: Pauses = Pauses { next: Duration::from_millis(1), max: Duration::from_millis(8) };

    /// What one start of the monitor does.
    #[derive(Debug, Clone, Copy)]
    enum Does {
        FailsToSubscribe,
        Fails,
        Panics,
        Listens,
    }

    struct Scripted {
        script: VecDeque<Does>,
        listens: Sender<()>,
        ended: Sender<()>,
    }

    impl Monitor for Scripted {
        type Source = Does;
        const NAME: &'static str = "test";

        fn subscribe(&mut self) -> io::Result<Does> {
            match self.script.pop_front().unwrap() {
                Does::FailsToSubscribe => Err(io::Error::other("no socket")),
                does => Ok(does),
            }
        }

        fn listen(&mut self, does: &mut Does, stop: BorrowedFd<'_>, _: &Tell) -> io::Result<()> {
            match does {
                Does::Fails => return Err(io::Error::other("no more")),
                Does::Panics => panic!("index {}", 7),
                Does::FailsToSubscribe | Does::Listens => {}
            }
            self.listens.send(()).unwrap();
            assert_eq!(wait(&[stop], None).unwrap(), Woken::By(0));
            self.ended.send(()).unwrap();
            Ok(())
        }
    }

    fn started(script: &[Does]) -> (Running, Receiver<KernelEvent>, Receiver<()>, Receiver<()>) {
        let ((tell, told), (listens, listening), (ended, end)) = (channel(), channel(), channel());
        let tell = Mutex::new(tell);
        let tell: Tell = Arc::new(move |event| tell.lock().unwrap().send(event).unwrap_or(()));
        let monitor = Scripted { script: script.iter().copied().collect(), listens, ended };
        (start_with(monitor, tell, SHORT).unwrap(), told, listening, end)
    }

    /// A monitor that failed was not started again, and only the log said so.
    #[test]
    fn a_monitor_that_fails_is_started_again_until_it_listens_and_the_engine_is_told() {
        use Does::{Fails, FailsToSubscribe, Listens, Panics};
        let (running, told, listening, end) = started(&[Fails, Panics, FailsToSubscribe, Fails, Listens]);
        listening.recv_timeout(Duration::from_secs(5)).unwrap();
        let stopped = |why: &str| KernelEvent::MonitorStopped { monitor: "test", why: why.into() };
        let runs = || KernelEvent::MonitorRuns("test");
        let expected = [
            stopped("no more"),
            runs(),
            stopped("it panicked: index 7"),
            stopped("no socket"),
            runs(),
            stopped("no more"),
            runs(),
        ];
        assert_eq!(told.try_iter().collect::<Vec<_>>(), expected);
        drop(running);
        end.recv_timeout(Duration::from_secs(5)).unwrap();
        assert_eq!(told.recv(), Err(std::sync::mpsc::RecvError), "the thread ends, and tells nothing");
    }

    #[test]
    fn a_monitor_is_stopped_in_a_pause_too() {
        let (tell, told) = channel();
        let tell: Tell = Arc::new({
            let tell = Mutex::new(tell);
            move |event| tell.lock().unwrap().send(event).unwrap_or(())
        });
        let monitor = Scripted { script: [Does::Fails].into(), listens: channel().0, ended: channel().0 };
        let long = Pauses { next: Duration::from_secs(3600), max: Duration::from_secs(3600) };
        let running = start_with(monitor, tell, long).unwrap();
        assert!(matches!(told.recv_timeout(Duration::from_secs(5)), Ok(KernelEvent::MonitorStopped { .. })));
        drop(running);
        assert_eq!(told.recv_timeout(Duration::from_secs(5)), Err(std::sync::mpsc::RecvTimeoutError::Disconnected));
    }

    #[test]
    fn pauses_double_up_to_ten_seconds() {
        let mut pauses = PAUSES;
        let millis: Vec<u128> = (0..10).map(|_| pauses.take().as_millis()).collect();
        assert_eq!(millis, [100, 200, 400, 800, 1600, 3200, 6400, 10_000, 10_000, 10_000]);
    }

    #[test]
    fn lost_notifications_end_no_monitor() {
        let failed = |errno| received(Err(io::Error::from_raw_os_error(errno)));
        assert_eq!(failed(libc::ENOBUFS).unwrap(), Received::Lost);
        for errno in [libc::EINTR, libc::EAGAIN] {
            assert_eq!(failed(errno).unwrap(), Received::Nothing);
        }
        assert_eq!(received(Ok(20)).unwrap(), Received::Datagram(20));
        assert_eq!(failed(libc::EBADF).unwrap_err().raw_os_error(), Some(libc::EBADF));
    }
}
