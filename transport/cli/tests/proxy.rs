//! `sealane proxy` as a shell sees it: curl, a web server, redis-cli and redis-server know nothing of what is between them.
#![expect(clippy::disallowed_types, reason = "existing programs come by TCP")]

#[expect(dead_code, reason = "servers here are others")]
mod common;

use common::{SEALANE, certs};
use serde_json::Value;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

/// A process that is stopped with the test.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn has(program: &str) -> bool {
    let there = Command::new(program).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok();
    if !there {
        println!("no {program} here: skipped");
    }
    there
}

/// A proxy, where it listens, and where it tells what it does.
fn proxy(certs: &Path, who: &str, listen: &str, to: &str, more: &[&str]) -> (Running, [String; 2]) {
    let mut command = Command::new(SEALANE);
    command.args(["proxy", "--json", "--listen", listen, "--to", to, "--ca", "ca.pem", "--metrics", "127.0.0.1:0"]);
    command.args(["--cert", &format!("{who}.pem"), "--key", &format!("{who}.key")]).args(more).current_dir(certs);
    let mut running = Running(command.stdout(Stdio::piped()).spawn().expect("the command starts"));
    let mut said = BufReader::new(running.0.stdout.take().expect("piped"));
    let places = ["listening", "metrics"].map(|event| {
        let mut line = String::new();
        said.read_line(&mut line).expect("a line");
        let line: Value = serde_json::from_str(&line).expect("one JSON object a line");
        assert_eq!(line["event"], event);
        line["addr"].as_str().expect("an address").to_owned()
    });
    (running, places)
}

/// Both proxies before `target`, where the first listens, and where it tells what it does.
fn both(certs: &Path, target: &str) -> ([Running; 2], [String; 2]) {
    let (exit, [at, _]) = proxy(certs, "server", "sealane:127.0.0.1:0", &format!("tcp:{target}"), &[]);
    let (entrance, places) = proxy(certs, "client", "tcp:127.0.0.1:0", &format!("sealane:{at}"), &[]);
    ([exit, entrance], places)
}

/// A port that is free now.
fn free() -> u16 {
    TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a port").port()
}

fn wait_for(port: u16) {
    for _ in 0..600 {
        if TcpStream::connect(("127.0.0.1", port)).is_ok() {
            return;
        }
        std::thread::park_timeout(Duration::from_millis(50));
    }
    panic!("nobody listens on {port}");
}

fn run(command: &mut Command) -> Output {
    let output = command.output().expect("the command starts");
    assert!(output.status.success(), "{command:?}: {output:?}");
    output
}

#[test]
fn a_browser_and_a_web_server() {
    if !has("curl") || !has("python3") {
        return;
    }
    let dir = tempfile::tempdir().expect("a folder");
    let certs = certs(dir.path());
    let file: Vec<u8> = (0..3_000_000u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    std::fs::create_dir(dir.path().join("www")).expect("a folder");
    std::fs::write(dir.path().join("www/file"), &file).expect("a file");
    let port = free();
    let mut server = Command::new("python3");
    server.args(["-m", "http.server", &port.to_string(), "--bind", "127.0.0.1", "--directory", "www"]);
    server.current_dir(dir.path()).stdout(Stdio::null()).stderr(Stdio::null());
    let _server = Running(server.spawn().expect("the command starts"));
    wait_for(port);
    let (_proxies, [door, metrics]) = both(&certs, &format!("127.0.0.1:{port}"));
    let url = format!("http://{door}/file");
    let got = run(Command::new("curl").args(["-sSf", "--max-time", "60", &url])).stdout;
    assert!(got == file, "{} of {} bytes came", got.len(), file.len());
    // Several at once, and what is not there.
    let many = run(Command::new("curl")
        .args(["-sSf", "--max-time", "60", "-Z", &url, "-o", "a", &url, "-o", "b"])
        .current_dir(dir.path()));
    drop(many);
    for name in ["a", "b"] {
        assert!(std::fs::read(dir.path().join(name)).expect("a file") == file, "{name}");
    }
    let missing = Command::new("curl")
        .args(["-s", "-o", "/dev/null", "-w", "%{http_code}", &format!("http://{door}/no")])
        .output();
    assert_eq!(missing.expect("the command starts").stdout, b"404");
    let told = run(Command::new("curl").args(["-sSf", &format!("http://{metrics}/metrics")])).stdout;
    let told = String::from_utf8_lossy(&told);
    assert!(told.contains("\nsealane_proxy_opened_total 4\n"), "{told}");
    let bytes = told.lines().find_map(|line| line.strip_prefix("sealane_proxy_back_bytes_total "));
    let bytes: usize = bytes.and_then(|bytes| bytes.parse().ok()).expect("a number");
    assert!(bytes > 3 * file.len(), "{bytes}");
}

/// [P-4.6] What the server sends goes in slices where its proxy is asked for that, and packets are small.
#[test]
fn records_span_packets_where_that_is_asked_for() {
    const BYTES: usize = 300_000;
    let dir = tempfile::tempdir().expect("a folder");
    let certs = certs(dir.path());
    let server = TcpListener::bind("127.0.0.1:0").expect("a port");
    let target = format!("tcp:{}", server.local_addr().expect("it is bound"));
    let serving = std::thread::spawn(move || {
        for _ in 0..2 {
            server.accept().expect("a connection").0.write_all(&[7; BYTES]).expect("it is taken");
        }
    });
    for more in [&["--mtu", "1500"][..], &["--mtu", "1500", "--spanning-records"]] {
        let (_exit, [at, metrics]) = proxy(&certs, "server", "sealane:127.0.0.1:0", &target, more);
        let (_entrance, [door, _]) = proxy(&certs, "client", "tcp:127.0.0.1:0", &format!("sealane:{at}"), more);
        let mut got = Vec::new();
        TcpStream::connect(door).and_then(|mut stream| stream.read_to_end(&mut got)).expect("an answer");
        assert!(got.len() == BYTES && got.iter().all(|&byte| byte == 7), "{} bytes", got.len());
        let mut told = String::new();
        let mut asking = TcpStream::connect(metrics).expect("it listens");
        asking.write_all(b"GET /metrics HTTP/1.0\r\n\r\n").expect("it is taken");
        asking.read_to_string(&mut told).expect("an answer");
        let slices = told.lines().find_map(|line| line.strip_prefix("sealane_slices_sent_total")?.rsplit(' ').next());
        let slices: usize = slices.and_then(|slices| slices.parse().ok()).expect("a number");
        assert_eq!(slices > BYTES / 1500, more.len() > 2, "{slices}");
    }
    serving.join().expect("both were served");
}

#[test]
fn redis_and_its_client() {
    if !has("redis-server") || !has("redis-cli") {
        return;
    }
    let dir = tempfile::tempdir().expect("a folder");
    let certs = certs(dir.path());
    let port = free().to_string();
    let mut server = Command::new("redis-server");
    server.args(["--port", &port, "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]);
    let _server = Running(server.current_dir(dir.path()).stdout(Stdio::null()).spawn().expect("the command starts"));
    wait_for(port.parse().expect("a number"));
    let (_proxies, [door, _]) = both(&certs, &format!("127.0.0.1:{port}"));
    let door = door.rsplit_once(':').expect("a port").1.to_owned();
    let cli = |args: &[&str]| {
        String::from_utf8(run(Command::new("redis-cli").args(["-p", &door]).args(args)).stdout).expect("UTF-8")
    };
    assert_eq!(cli(&["set", "key", "value"]), "OK\n");
    assert_eq!(cli(&["get", "key"]), "value\n");
    let mut piped = Command::new("redis-cli");
    piped.args(["-p", &door, "--pipe"]).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut piped = piped.spawn().expect("the command starts");
    let mut input = piped.stdin.take().expect("piped");
    for number in 0..20_000 {
        write!(input, "*2\r\n$4\r\nINCR\r\n$1\r\n{}\r\n", number % 7).expect("written");
    }
    drop(input);
    let said = piped.wait_with_output().expect("it ends");
    let said = String::from_utf8_lossy(&said.stdout).into_owned();
    assert!(said.contains("errors: 0, replies: 20000"), "{said}");
    assert_eq!(cli(&["get", "0"]), "2858\n");
}

#[test]
fn what_cannot_work_is_said() {
    let dir = tempfile::tempdir().expect("a folder");
    let certs = certs(dir.path());
    let says = |args: &[&str], code: i32, why: &str| {
        let output =
            Command::new(SEALANE).arg("proxy").args(args).current_dir(&certs).output().expect("the command starts");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(code), "{said}");
        assert!(said.contains(why), "{said}");
    };
    says(&["--listen", "tcp:127.0.0.1:0", "--to", "tcp:127.0.0.1:1", "--ca", "ca.pem"], 1, "neither end is Sealane's");
    says(&["--listen", "sealane:127.0.0.1:0", "--to", "tcp:127.0.0.1:1", "--ca", "ca.pem"], 1, "--cert and --key");
    says(&["--listen", "udp:127.0.0.1:0", "--to", "tcp:127.0.0.1:1", "--ca", "ca.pem"], 2, "tcp:HOST:PORT");
    says(&["--listen", "tcp:localhost", "--to", "sealane:127.0.0.1:1", "--ca", "ca.pem"], 2, "has no port");
    says(&["--listen", "tcp:127.0.0.1:0", "--to", "sealane:127.0.0.1:1"], 2, "--ca");
    says(
        &["--listen", "tcp:127.0.0.1:0", "--to", "sealane:127.0.0.1:1", "--ca", "ca.pem", "--connections", "0"],
        2,
        "from 1 to 2048",
    );
}
