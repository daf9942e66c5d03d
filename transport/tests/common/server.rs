//! A server in a thread, that answers every request and notes how it came.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use sealane::{Delivery, Protection, Request, Socket};

/// Each message that ran, how it was protected, and how often.
pub type Ran = Arc<Mutex<HashMap<Vec<u8>, Vec<Protection>>>>;

pub struct Server {
    pub at: SocketAddr,
    pub ran: Ran,
    pub socket: Arc<Socket>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    /// Answers every request with `answer` of it.
    pub fn new(socket: Socket, answer: impl Fn(&Request) -> Vec<u8> + Send + 'static) -> Self {
        let (at, socket, ran) = (socket.local_addr(), Arc::new(socket), Ran::default());
        let (serving, noting) = (Arc::clone(&socket), Arc::clone(&ran));
        let thread = std::thread::spawn(move || {
            while let Ok(delivery) = serving.recv() {
                let Delivery::Request(request) = delivery else { continue };
                noting.lock().unwrap().entry(request.payload.to_vec()).or_default().push(request.protection);
                let answer = answer(&request);
                let _ = serving.reply(request.token, answer);
            }
        });
        Self { at, ran, socket, thread: Some(thread) }
    }

    pub fn echo(socket: Socket) -> Self {
        Self::new(socket, |request| request.payload.to_vec())
    }

    pub fn ran(&self, message: &[u8]) -> Vec<Protection> {
        self.ran.lock().unwrap().get(message).cloned().unwrap_or_default()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.socket.close();
        let _ = self.thread.take().unwrap().join();
    }
}
