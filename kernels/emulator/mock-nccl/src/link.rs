//! The way to another rank.

use std::{
    net::Shutdown,
    os::unix::net::UnixStream,
    sync::{Arc, Mutex},
    thread,
};

use crate::{mailbox::Mailbox, message::Message};

/// The way to one rank.
pub enum Link {
    /// A thread of this process, or the rank itself.
    Local(Arc<Mailbox>),
    /// Another process.
    Remote(Mutex<UnixStream>),
}

impl Link {
    /// The way to the rank `rank` at the other end of a connection; what comes from there is
    /// delivered to `mailbox` by a thread until the connection ends.
    ///
    /// # Errors
    /// The system refuses.
    pub fn remote(
        connection: UnixStream,
        rank: u32,
        mailbox: Arc<Mailbox>,
    ) -> std::io::Result<Link> {
        let mut source = connection.try_clone()?;
        thread::spawn(move || {
            while let Ok(message) = Message::read(&mut source) {
                mailbox.deliver(message);
            }
            mailbox.lost(rank);
        });
        Ok(Link::Remote(Mutex::new(connection)))
    }

    /// Says something; false if the rank cannot be reached any more.
    pub fn send(&self, message: Message) -> bool {
        match self {
            Link::Local(mailbox) => {
                mailbox.deliver(message);
                true
            }
            Link::Remote(connection) => {
                let mut connection = connection.lock().unwrap_or_else(|e| e.into_inner());
                message.write(&mut *connection).is_ok()
            }
        }
    }

    /// Says no more. What was said still arrives.
    pub fn close(&self) {
        if let Link::Remote(connection) = self {
            let connection = connection.lock().unwrap_or_else(|e| e.into_inner());
            let _ = connection.shutdown(Shutdown::Write);
        }
    }

    /// Breaks the connection, as the end of `rank`'s process would.
    pub fn cut(&self, rank: u32) {
        match self {
            Link::Local(mailbox) => mailbox.lost(rank),
            Link::Remote(connection) => {
                let connection = connection.lock().unwrap_or_else(|e| e.into_inner());
                let _ = connection.shutdown(Shutdown::Both);
            }
        }
    }
}
