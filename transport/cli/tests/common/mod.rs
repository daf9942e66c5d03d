//! A server and calls to it, as processes.

use serde_json::Value;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Output, Stdio};

pub(crate) const SEALANE: &str = env!("CARGO_BIN_EXE_sealane");

/// A server that is stopped with the test.
pub(crate) struct Server {
    pub(crate) child: Child,
    pub(crate) addr: String,
    pub(crate) said: BufReader<ChildStdout>,
}

impl Server {
    /// The next line that it prints.
    pub(crate) fn line(&mut self) -> Value {
        let mut line = String::new();
        self.said.read_line(&mut line).expect("a line");
        serde_json::from_str(&line).expect("one JSON object a line")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub(crate) fn certs(dir: &Path) -> PathBuf {
    let made = Command::new(SEALANE).args(["certs", "--out"]).arg(dir).output().expect("the command starts");
    assert!(made.status.success(), "{made:?}");
    dir.to_owned()
}

pub(crate) fn serve_command(certs: &Path, listen: &str, more: &[&str]) -> Command {
    let mut command = Command::new(SEALANE);
    let identity = ["--cert", "server.pem", "--key", "server.key"];
    command.args(["serve", "--echo", "--json", "--listen", listen]).args(identity).args(more);
    command.current_dir(certs);
    command
}

pub(crate) fn serve(certs: &Path, more: &[&str]) -> Server {
    let mut command = serve_command(certs, "127.0.0.1:0", more);
    let mut child = command.stdout(Stdio::piped()).spawn().expect("the command starts");
    let said = BufReader::new(child.stdout.take().expect("piped"));
    let mut server = Server { child, addr: String::new(), said };
    server.addr = server.line()["addr"].as_str().expect("an address").to_owned();
    server
}

pub(crate) fn call(certs: &Path, server: &Server, args: &[&str]) -> Output {
    let output = Command::new(SEALANE).args(["call", &server.addr]).args(args).current_dir(certs).output();
    output.expect("the command starts")
}

pub(crate) const OURS: [&str; 6] = ["--ca", "ca.pem", "--cert", "client.pem", "--key", "client.key"];
