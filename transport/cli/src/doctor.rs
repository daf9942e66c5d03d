//! `sealane doctor`: what this machine offers to Sealane, and what to change. First all facts are gathered, then judged by a pure
//! function. It changes nothing itself, and it asks the kernel rather than a table of versions.

use anyhow::{Context, Result};
use serde::Serialize;
use std::fmt::Write;
use std::fs;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::process::ExitCode;
use udp::{Backend, Datagrams, Gso, Links, Speed};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// How good a finding is; the worst one is the machine's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
enum Verdict {
    /// Nothing to change.
    Ok,
    /// Works, but slower or less robust than it could be.
    Warn,
    /// Does not work.
    Bad,
}

#[derive(Debug, Serialize)]
struct Finding {
    what: &'static str,
    verdict: Verdict,
    found: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    change: Option<String>,
}

/// What the machine said, before anybody judged it.
#[derive(Clone, Debug)]
struct Facts {
    kernel: String,
    socket: Result<SocketFacts, String>,
    v6: Result<(), String>,
    wanted_receive_bytes: usize,
    wanted_send_bytes: usize,
    rmem_max_bytes: Option<usize>,
    wmem_max_bytes: Option<usize>,
    /// Those that are not down.
    interfaces: Vec<Interface>,
    loopback_mtu: Result<u32, String>,
    /// Whether the processor has AES and carry-less multiplication, which AES-GCM is made of.
    has_aes: bool,
    cpu: Vec<(&'static str, bool)>,
    engine: String,
    /// Further backends, and why one does not work here.
    backends: Vec<(Backend, Result<(), String>)>,
    cores: usize,
}

#[derive(Clone, Debug)]
struct Interface {
    name: String,
    mtu: u32,
    speed: Speed,
}

/// What one bound socket got. Buffers as asked for, without the kernel's own half.
#[derive(Clone, Debug)]
struct SocketFacts {
    gso: Gso,
    gro: bool,
    receive_bytes: usize,
    send_bytes: usize,
}

/// The largest packet we make where the path carries it: one record of 16 KiB with its headers, below any jumbo loopback.
const JUMBO_MTU_MIN: u32 = 16 * 1024 + 256;

/// IPv6 promises this much everywhere.
const MTU_MIN: u32 = 1280;

pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    let findings = judge(&gather());
    let verdict = findings.iter().map(|finding| finding.verdict).max().unwrap_or(Verdict::Ok);
    let text = if args.json {
        let report = serde_json::json!({ "verdict": verdict, "findings": findings });
        format!("{report}\n")
    } else {
        shown(&findings)
    };
    crate::print(&text)?;
    Ok(if verdict == Verdict::Bad { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

fn gather() -> Facts {
    let options = udp::Options::default();
    let bound = |ip: std::net::IpAddr| udp::bind(SocketAddr::new(ip, 0), &options).map_err(|error| error.to_string());
    let socket = bound(Ipv4Addr::LOCALHOST.into()).map(|socket| {
        let caps = socket.caps();
        SocketFacts {
            gso: caps.gso,
            gro: caps.gro,
            receive_bytes: caps.receive_buffer_bytes / 2,
            send_bytes: caps.send_buffer_bytes / 2,
        }
    });
    let (has_aes, cpu) = cpu();
    Facts {
        kernel: read("/proc/sys/kernel/osrelease").unwrap_or_else(|error| format!("unknown: {error:#}")),
        socket,
        v6: bound(Ipv6Addr::LOCALHOST.into()).map(|_| ()),
        wanted_receive_bytes: options.receive_buffer_bytes,
        wanted_send_bytes: options.send_buffer_bytes,
        rmem_max_bytes: number("/proc/sys/net/core/rmem_max"),
        wmem_max_bytes: number("/proc/sys/net/core/wmem_max"),
        interfaces: interfaces(),
        loopback_mtu: udp::path_mtu((Ipv4Addr::LOCALHOST, 0).into()).map_err(|error| error.to_string()),
        has_aes,
        cpu,
        engine: engine(),
        backends: [Backend::IoUring, Backend::Xdp].map(|backend| (backend, backend.check())).into(),
        cores: std::thread::available_parallelism().map_or(1, usize::from),
    }
}

fn read(path: &str) -> Result<String> {
    Ok(fs::read_to_string(path).with_context(|| format!("cannot read {path}"))?.trim().to_owned())
}

fn number(path: &str) -> Option<usize> {
    read(path).ok()?.parse().ok()
}

fn interfaces() -> Vec<Interface> {
    let Ok(entries) = fs::read_dir("/sys/class/net") else { return Vec::new() };
    let links = Links::default();
    let mut found: Vec<Interface> = entries
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .filter(|name| read(&format!("/sys/class/net/{name}/operstate")).is_ok_and(|state| state != "down"))
        .filter_map(|name| {
            let mtu = read(&format!("/sys/class/net/{name}/mtu")).ok()?.parse().ok()?;
            let speed = links.speed(&name);
            Some(Interface { name, mtu, speed })
        })
        .collect();
    found.sort_by(|a, b| a.name.cmp(&b.name));
    found
}

fn engine() -> String {
    let chosen = offload::select::select();
    let ciphers: Vec<String> = chosen.engine.caps().ciphers.iter().map(ToString::to_string).collect();
    format!("{} for {}; {}", chosen.engine.crypto().name(), ciphers.join(", "), chosen.why)
}

#[cfg(target_arch = "x86_64")]
fn cpu() -> (bool, Vec<(&'static str, bool)>) {
    let aes = is_x86_feature_detected!("aes");
    let multiply = is_x86_feature_detected!("pclmulqdq");
    let wide = [
        ("aes", aes),
        ("pclmulqdq", multiply),
        ("vaes", is_x86_feature_detected!("vaes")),
        ("vpclmulqdq", is_x86_feature_detected!("vpclmulqdq")),
        ("avx512f", is_x86_feature_detected!("avx512f")),
    ];
    (aes && multiply, wide.to_vec())
}

#[cfg(target_arch = "aarch64")]
fn cpu() -> (bool, Vec<(&'static str, bool)>) {
    use std::arch::is_aarch64_feature_detected;
    let aes = is_aarch64_feature_detected!("aes");
    let multiply = is_aarch64_feature_detected!("pmull");
    (aes && multiply, vec![("aes", aes), ("pmull", multiply)])
}

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
fn cpu() -> (bool, Vec<(&'static str, bool)>) {
    (false, Vec::new())
}

fn judge(facts: &Facts) -> Vec<Finding> {
    let mut findings = vec![kernel(facts)];
    match &facts.socket {
        Ok(socket) => {
            findings.extend([trains_out(socket), trains_in(socket)]);
            findings.push(buffer(
                "receive buffer",
                "rmem_max",
                socket.receive_bytes,
                facts.wanted_receive_bytes,
                facts.rmem_max_bytes,
            ));
            findings.push(buffer(
                "send buffer",
                "wmem_max",
                socket.send_bytes,
                facts.wanted_send_bytes,
                facts.wmem_max_bytes,
            ));
        }
        Err(error) => findings.push(finding(
            "UDP socket",
            Verdict::Bad,
            error,
            Some("let this process bind UDP sockets on 127.0.0.1"),
        )),
    }
    findings.push(match &facts.v6 {
        Ok(()) => finding("IPv6", Verdict::Ok, "works", None),
        Err(error) => finding(
            "IPv6",
            Verdict::Warn,
            error,
            Some("sysctl -w net.ipv6.conf.all.disable_ipv6=0, if peers have IPv6 addresses"),
        ),
    });
    findings.extend(facts.interfaces.iter().flat_map(|interface| [mtu(interface), link_rate(interface)]));
    findings.push(loopback(&facts.loopback_mtu));
    findings.push(processor(facts));
    findings.push(finding("record engine", Verdict::Ok, &facts.engine, None));
    // No trouble: they are asked for by name, and the ordinary one is the default because it measured best.
    findings.extend(facts.backends.iter().map(|(backend, works)| {
        let found = match works {
            Ok(()) => format!("{backend} works; SEALANE_BACKEND={backend} or `Builder::backend` chooses it"),
            Err(why) => format!("{backend} cannot be had: {why}"),
        };
        finding("backend", Verdict::Ok, &found, None)
    }));
    findings.push(match facts.cores {
        1 => finding(
            "cores",
            Verdict::Warn,
            "1: a spinning socket keeps its peer from running",
            Some("wait by blocking, or give the machine a second core"),
        ),
        cores => finding("cores", Verdict::Ok, &cores.to_string(), None),
    });
    findings
}

fn finding(what: &'static str, verdict: Verdict, found: &str, change: Option<&str>) -> Finding {
    Finding { what, verdict, found: found.to_owned(), change: change.map(str::to_owned) }
}

fn kernel(facts: &Facts) -> Finding {
    let mut numbers = facts.kernel.split(|c: char| !c.is_ascii_digit()).map_while(|n| n.parse::<u32>().ok());
    let version = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    // UDP_GRO came with 5.0, UDP_SEGMENT with 4.18.
    let (verdict, change) =
        if version < (5, 0) { (Verdict::Warn, Some("run Linux 5.0 or newer")) } else { (Verdict::Ok, None) };
    finding("kernel", verdict, &format!("Linux {}", facts.kernel), change)
}

fn trains_out(socket: &SocketFacts) -> Finding {
    let change = match socket.gso {
        Gso::Segments(_) => None,
        Gso::NotWanted => Some("switch segmentation on"),
        Gso::Unsupported => Some("run a kernel with UDP_SEGMENT (4.18): without it each datagram is a system call"),
        Gso::Refused(_) => {
            Some("look for a packet filter or an interface without checksum offload (ethtool -K DEV tx on)")
        }
    };
    let verdict = if change.is_some() { Verdict::Warn } else { Verdict::Ok };
    finding("trains out (GSO)", verdict, &socket.gso.to_string(), change)
}

fn trains_in(socket: &SocketFacts) -> Finding {
    if socket.gro {
        return finding("trains in (GRO)", Verdict::Ok, "yes", None);
    }
    let change = "run a kernel with UDP_GRO (5.0): without it each datagram is a system call";
    finding("trains in (GRO)", Verdict::Warn, "no", Some(change))
}

/// Judged by the limit rather than by what this process got: root gets past the limit, a service will not.
fn buffer(what: &'static str, sysctl: &str, got: usize, wanted: usize, limit: Option<usize>) -> Finding {
    let limit = limit.unwrap_or(got);
    let found = format!("{} of {} wanted; net.core.{sysctl} is {}", size(got), size(wanted), size(limit));
    let short = limit.min(got) < wanted;
    let change = short.then(|| format!("sysctl -w net.core.{sysctl}={wanted} (to keep it: a file in /etc/sysctl.d)"));
    finding(what, if short { Verdict::Warn } else { Verdict::Ok }, &found, change.as_deref())
}

fn size(bytes: usize) -> String {
    if bytes >= 1 << 20 {
        format!("{:.1} MiB", bytes as f64 / f64::from(1 << 20))
    } else {
        format!("{} KiB", bytes >> 10)
    }
}

fn mtu(Interface { name, mtu, .. }: &Interface) -> Finding {
    let mtu = *mtu;
    let found = format!("{name}: {mtu} B");
    if mtu < MTU_MIN {
        let change = format!("ip link set dev {name} mtu {MTU_MIN} (or more): shorter packets carry mostly headers");
        return finding("MTU", Verdict::Warn, &found, Some(&change));
    }
    finding("MTU", Verdict::Ok, &found, None)
}

/// A link whose rate is known is given data only as fast as it sends, so that the shortest message goes first and not the
/// oldest.
fn link_rate(Interface { name, speed, .. }: &Interface) -> Finding {
    let what = "link rate";
    let state =
        "state it with `Builder::link_rate`: until then short messages wait behind long ones in the interface's queue";
    match speed {
        Speed::Known(rate) => {
            finding(what, Verdict::Ok, &format!("{name}: {rate}: long messages to its peers are paced to it"), None)
        }
        Speed::MadeUp(rate) => {
            let found = format!("{name}: {rate} by its driver, but no device is below it: not believed, so not paced");
            finding(what, Verdict::Warn, &found, Some(state))
        }
        Speed::Unknown if name == "lo" => finding(what, Verdict::Ok, "lo: none, so not paced", None),
        Speed::Unknown => {
            finding(what, Verdict::Warn, &format!("{name}: its driver states none, so not paced"), Some(state))
        }
    }
}

fn loopback(mtu: &Result<u32, String>) -> Finding {
    let what = "path over loopback";
    match mtu {
        Ok(mtu) if *mtu >= JUMBO_MTU_MIN => {
            finding(what, Verdict::Ok, &format!("{mtu} B: a packet holds a whole record of 16 KiB"), None)
        }
        Ok(mtu) => finding(what, Verdict::Warn, &format!("{mtu} B"), Some("ip link set dev lo mtu 65536")),
        Err(error) => finding(what, Verdict::Warn, error, Some("ip link set dev lo up")),
    }
}

fn processor(facts: &Facts) -> Finding {
    let list = facts.cpu.iter().map(|(name, has)| format!("{name} {}", if *has { "yes" } else { "no" }));
    let list = list.collect::<Vec<_>>().join(", ");
    let found = if list.is_empty() { "nothing is known of its AES" } else { &list };
    if facts.has_aes {
        return finding("processor", Verdict::Ok, found, None);
    }
    finding(
        "processor",
        Verdict::Warn,
        found,
        Some("AES-GCM has no help from this processor: choose ChaCha20-Poly1305"),
    )
}

fn shown(findings: &[Finding]) -> String {
    let mut text = String::new();
    for Finding { what, verdict, found, change } in findings {
        let word = match verdict {
            Verdict::Ok => "ok",
            Verdict::Warn => "warn",
            Verdict::Bad => "BAD",
        };
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{word:<5} {what:<19} {found}");
        if let Some(change) = change {
            let _ = writeln!(text, "{:>25} change: {change}", "");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use udp::links::Rate;

    /// A machine with nothing to change.
    fn good() -> Facts {
        Facts {
            kernel: "6.18.5-cloud".to_owned(),
            socket: Ok(SocketFacts { gso: Gso::Segments(128), gro: true, receive_bytes: 4 << 20, send_bytes: 4 << 20 }),
            v6: Ok(()),
            wanted_receive_bytes: 4 << 20,
            wanted_send_bytes: 4 << 20,
            rmem_max_bytes: Some(4 << 20),
            wmem_max_bytes: Some(8 << 20),
            interfaces: vec![
                Interface { name: "eth0".to_owned(), mtu: 1500, speed: Speed::Known(Rate(25_000_000_000)) },
                Interface { name: "lo".to_owned(), mtu: 65_536, speed: Speed::Unknown },
            ],
            loopback_mtu: Ok(65_536),
            has_aes: true,
            cpu: vec![("aes", true), ("vaes", false)],
            engine: "software".to_owned(),
            backends: vec![(Backend::IoUring, Ok(())), (Backend::Xdp, Err("no capability".to_owned()))],
            cores: 2,
        }
    }

    /// The findings of a machine that are not ok, each with its change.
    fn troubles(change: impl FnOnce(&mut Facts)) -> Vec<(&'static str, Verdict, String)> {
        let mut facts = good();
        change(&mut facts);
        let not_ok = judge(&facts).into_iter().filter(|finding| finding.verdict != Verdict::Ok);
        not_ok.map(|f| (f.what, f.verdict, f.change.expect("who finds fault says what to change"))).collect()
    }

    fn one_trouble(change: impl FnOnce(&mut Facts)) -> (&'static str, Verdict, String) {
        let mut found = troubles(change);
        assert_eq!(found.len(), 1, "{found:?}");
        found.remove(0)
    }

    #[test]
    fn a_good_machine_has_nothing_to_change() {
        assert!(troubles(|_| {}).is_empty());
        assert!(judge(&good()).iter().all(|finding| finding.change.is_none()));
    }

    #[test]
    fn each_trouble_is_found_and_says_what_to_change() {
        use Verdict::{Bad, Warn};
        let socket =
            |change: fn(&mut SocketFacts)| one_trouble(|facts| change(facts.socket.as_mut().expect("a socket")));
        assert_eq!(socket(|s| s.gro = false).0, "trains in (GRO)");
        assert_eq!(socket(|s| s.gso = Gso::Unsupported).0, "trains out (GSO)");
        assert_eq!(socket(|s| s.gso = Gso::Refused(5)).0, "trains out (GSO)");
        let (what, verdict, change) = socket(|s| s.receive_bytes = 212_992);
        assert_eq!((what, verdict), ("receive buffer", Warn));
        assert!(change.starts_with("sysctl -w net.core.rmem_max=4194304 "), "{change}");
        let (what, _, change) = one_trouble(|facts| facts.wmem_max_bytes = Some(212_992));
        assert!(what == "send buffer" && change.contains("net.core.wmem_max=4194304"), "{change}");
        assert_eq!(one_trouble(|facts| facts.kernel = "4.19.0".to_owned()).0, "kernel");
        assert_eq!(one_trouble(|facts| facts.kernel = "unknown".to_owned()).0, "kernel");
        assert_eq!(one_trouble(|facts| facts.socket = Err("denied".to_owned())).1, Bad);
        assert_eq!(one_trouble(|facts| facts.v6 = Err("no".to_owned())).0, "IPv6");
        assert!(one_trouble(|facts| facts.interfaces[0].mtu = 576).2.contains("eth0"));
        assert_eq!(one_trouble(|facts| facts.loopback_mtu = Ok(1500)).0, "path over loopback");
        assert_eq!(one_trouble(|facts| facts.loopback_mtu = Err("none".to_owned())).1, Warn);
        assert_eq!(one_trouble(|facts| facts.has_aes = false).0, "processor");
        assert_eq!(one_trouble(|facts| facts.cores = 1).0, "cores");
    }

    /// A rate is shown where there is one; one that is unknown or made up is stated by whoever knows it.
    #[test]
    fn link_rates_are_shown_for_each_interface() {
        let rates = |facts: &Facts| {
            let rates = judge(facts).into_iter().filter(|finding| finding.what == "link rate");
            rates.map(|finding| finding.found).collect::<Vec<_>>()
        };
        let found = rates(&good());
        assert!(found.len() == 2 && found[0].starts_with("eth0: 25 Gbit/s:") && found[1].starts_with("lo: none"));
        let trouble = |speed| one_trouble(|facts| facts.interfaces[0].speed = speed);
        for speed in [Speed::Unknown, Speed::MadeUp(Rate(10_000_000))] {
            let (what, verdict, change) = trouble(speed);
            assert_eq!((what, verdict), ("link rate", Verdict::Warn));
            assert!(change.contains("Builder::link_rate"), "{change}");
        }
        let mut facts = good();
        facts.interfaces[0].speed = Speed::MadeUp(Rate(10_000_000));
        assert!(rates(&facts)[0].contains("10 Mbit/s") && rates(&facts)[0].contains("not believed"));
    }

    #[test]
    fn backends_that_cannot_be_had_are_no_trouble_and_say_why() {
        let found: Vec<_> = judge(&good()).into_iter().filter(|f| f.what == "backend").map(|f| f.found).collect();
        assert!(found[0].contains("SEALANE_BACKEND=io-uring") && found[1].contains("xdp cannot be had: no capability"));
    }

    #[test]
    fn people_read_one_line_and_its_change() {
        let findings =
            [finding("cores", Verdict::Warn, "1", Some("add one")), finding("IPv6", Verdict::Ok, "works", None)];
        assert_eq!(
            shown(&findings),
            "warn  cores               1\n                          change: add one\nok    IPv6                works\n"
        );
    }

    #[test]
    fn this_machine_answers() {
        let findings = judge(&gather());
        assert!(findings.len() >= 9, "{findings:?}");
    }
}
