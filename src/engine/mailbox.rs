//! The engine's mailbox: waits for the next command, at most until a repair is due.

use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};

use tokio::sync::mpsc;

use super::Command;
use crate::base::deadline::Deadline;

/// The receiving end of the engine's commands. It must be used by the thread that made it.
pub(crate) struct Mailbox {
    commands: mpsc::Receiver<Command>,
    waker: Waker,
}

/// Why a wait ended.
pub(crate) enum Next {
    Command(Command),
    /// The deadline has passed.
    Due,
    /// Every handle was dropped.
    Closed,
}

/// Wakes the engine's thread when a command arrives.
struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

impl Mailbox {
    /// A mailbox of the calling thread.
    pub(crate) fn new(commands: mpsc::Receiver<Command>) -> Self {
        Self { commands, waker: Arc::new(Unpark(thread::current())).into() }
    }

    /// Waits for a command, at most until the deadline.
    pub(crate) fn next(&mut self, until: Option<Deadline>) -> Next {
        loop {
            match self.commands.poll_recv(&mut Context::from_waker(&self.waker)) {
                Poll::Ready(Some(command)) => return Next::Command(command),
                Poll::Ready(None) => return Next::Closed,
                Poll::Pending => {}
            }
            // A park may end early: then the mailbox is polled again.
            match until.map(Deadline::remaining) {
                None => thread::park(),
                Some(Some(left)) => thread::park_timeout(left),
                Some(None) => return Next::Due,
            }
        }
    }

    /// A command that has arrived already.
    pub(crate) fn try_next(&mut self) -> Option<Command> {
        self.commands.try_recv().ok()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use tokio::sync::oneshot;

    fn stop() -> Command {
        Command::Stop(oneshot::channel().0)
    }

    #[test]
    fn a_command_wakes_the_thread_and_a_deadline_ends_the_wait() {
        let (sender, receiver) = mpsc::channel(4);
        let mut mailbox = Mailbox::new(receiver);
        assert!(matches!(mailbox.next(Some(Deadline::after(Duration::from_millis(2)))), Next::Due));
        let other = sender.clone();
        let thread = std::thread::spawn(move || other.blocking_send(stop()));
        assert!(matches!(mailbox.next(None), Next::Command(Command::Stop(_))));
        thread.join().unwrap().unwrap();
        sender.try_send(stop()).unwrap();
        assert!(
            matches!(mailbox.next(Some(Deadline::after(Duration::ZERO))), Next::Command(_)),
            "a command comes first"
        );
        drop(sender);
        assert!(matches!(mailbox.next(None), Next::Closed));
    }
}
