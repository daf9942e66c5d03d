#![allow(missing_docs, clippy::disallowed_methods)]
use sim::{experiment::*, fabric::Network, framing::Framing, workload::Workload};
fn main() {
    let a: Vec<String> = std::env::args().collect();
    let plan = Plan {
        network: Network::paper(a[3].parse().unwrap()),
        workload: Workload::named(&a[1]).unwrap(),
        load: a[2].parse().unwrap(),
        framing: if a[5] == "on" { Framing::Sealane } else { Framing::Paper },
        seed: 1,
        messages: a[4].parse().unwrap(),
        warmup: 0.2, measured: a.iter().any(|x|x=="measured"), pacer: a.iter().any(|x|x=="pacer"), without: Mechanism::ALL.iter().filter(|(n,_)| a.iter().any(|x| x==n)).map(|(_,m)|*m).collect(),
    };
    let t = std::time::Instant::now();
    let o = run(&plan, |_| ());
    let s = t.elapsed().as_secs_f64();
    println!(
        "{:.1}s packets {} {:.0}/s happenings {} ({:.1}/packet) refused {} failed {} measured {}us used {:.3} goodput {:.3} edge {} core {} {:?} mean {:.2}",
        s,
        o.packets,
        o.packets as f64 / s,
        o.happenings,
        o.happenings as f64 / o.packets as f64,
        o.refused,
        o.failed,
        o.measured / 1_000_000,
        o.used,
        o.goodput,
        o.edge_queue_peak,
        o.core_queue_peak,
        o.hosts,
        o.slowdowns.mean()
    );
    for r in o.slowdowns.table() {
        let h = r.published[0].unwrap_or_default();
        println!(
            "{:5} {:>8}..{:>8} n {:7} unfin {:4}  p50 {:6.2} ({:5.2}) p99 {:6.2} ({:5.2}) own {:6.2} {:?}",
            r.position,
            r.bytes_over,
            r.bytes_upto,
            r.samples,
            r.unfinished,
            r.measured.p50,
            h.p50,
            r.measured.p99,
            h.p99,
            r.own.p99,
            r.verdict
        );
    }
}
