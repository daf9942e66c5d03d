"""Judges the JSON of a measuring command: python3 .ci/rows.py demo|rtt|measured|memory|chaos|nonce|fabric|handshake|kv|grpc|stress|brief|slo FILE. Exits 1 with the reason."""

import json
import sys

COLUMNS = {
    "demo": ["peer", "size", "p50_us", "p99_us", "mb_s", "rps", "verified", "corrupt", "ratio_to_udp", "ratio_to_ktls_ideal"],
    "rtt": ["peer", "size", "mode", "outstanding", "p50_us", "p99_us", "rps", "cpu_us_per_rpc", "ratio_to_udp",
            "ratio_to_ktls_ideal", "cov"],
}
PEERS = {"udp", "tcp", "ktls-ideal", "tls", "sealane"}


def faults(check, report):
    """Yields what is wrong with a report, one sentence each."""
    rows = report.get("rows")
    if not isinstance(rows, list) or not rows:
        yield "no rows"
        return
    for row in rows:
        name = f"{row.get('peer')} at {row.get('size')} B"
        for column in COLUMNS[check]:
            if column not in row:
                yield f"{name}: no {column}"
        if not row.get("p50_us", 0) > 0:
            yield f"{name}: a p50 of {row.get('p50_us')}"
        if row.get("p99_us", 0) < row.get("p50_us", 0):
            yield f"{name}: p99 below p50"
        if check == "demo" and (row.get("corrupt") != 0 or not row.get("verified", 0) > 0):
            yield f"{name}: verified {row.get('verified')}, corrupt {row.get('corrupt')}"
    for size in {row.get("size") for row in rows}:
        missing = PEERS - {row.get("peer") for row in rows if row.get("size") == size}
        if missing:
            yield f"{size} B: not measured: {', '.join(sorted(missing))}"
    if check == "demo":
        if report.get("mutual") is not True:
            yield "demo without mutual authentication"
        if not report.get("handshake_ms", 0) > 0 or not report.get("cipher"):
            yield f"handshake_ms {report.get('handshake_ms')}, cipher {report.get('cipher')}"


def measured_faults(report):
    """Yields what is wrong with a run of peers of any kind: something failed or was corrupt, or Sealane was not measured."""
    rows = report.get("rows") or []
    for failure in report.get("failed", [{"error": "no list of failures"}]):
        yield f"{failure.get('peer')} at {failure.get('size')} B: {failure.get('error')}"
    if report.get("corrupt") != 0 or not report.get("verified", 0) > 0:
        yield f"verified {report.get('verified')}, corrupt {report.get('corrupt')}"
    if {row.get("size") for row in rows} != {row.get("size") for row in rows if row.get("peer") == "sealane"} or not rows:
        yield "Sealane was not measured everywhere"
    for missing in report.get("missing", []):
        print("{} is not here: {}".format(missing.get("peer"), missing.get("why")))
    for row in rows:
        rate = f" at {row['open_rate']:.0f}/s" if row.get("open_rate") else ""
        print("{:<14} {:>9} B x{:<3} {:>11.1f} RPC/s  p99 {:>10.1f} us{}".format(
            row["peer"], row["size"], row["outstanding"], row["rps"], row["p99_us"], rate))


def memory_faults(report):
    """The same for memory: every figure is there. Whether the goals are met is printed, not judged."""
    rows = report.get("rows") or []
    if {row.get("what") for row in rows} != {"idle session", "idle endpoint", "message under way"}:
        yield "not everything was measured"
    if not report.get("sites"):
        yield "nobody asked for memory"
    for row in rows:
        if row.get("what") != "message under way" and not row.get("heap_bytes", 0) > 0:
            yield f"{row.get('what')}, {row.get('side')}: {row.get('heap_bytes')} bytes"
        print("{:<18} {:<10} {:<7} {:>8} {:>12.0f} B  goal {} met {}".format(
            row["what"], row["kind"], row["side"], str(row["size"]), row["heap_bytes"], row["goal_bytes"], row["met"]))


def chaos_faults(report):
    """Yields what is wrong with a chaos run: a rule was broken, or something that should go wrong hardly did."""
    seeds = report.get("seeds", 0)
    for failure in report.get("failures", [{"what": "no list of failures"}]):
        yield f"seed {failure.get('seed')}: {failure.get('what')}"
    if report.get("violations") != 0 or not seeds > 0:
        yield f"{report.get('violations')} violations in {seeds} seeds"
    if not report.get("packets", 0) >= 100_000 * seeds:
        yield f"{report.get('packets')} packets; 100,000 a seed are promised"
    if not report.get("keys", {}).get("epochs_begun", 0) >= 20 * seeds:
        yield f"keys hardly changed: {report.get('keys')}"
    rare = {kind: count for kind, count in report.get("faults", {}).items() if count < 4 * seeds}
    if rare or len(report.get("faults", {})) < 30:
        yield f"too few of these faults: {rare} of {len(report.get('faults', {}))} kinds"
    print("chaos: {} seeds, {} packets, {} violations".format(seeds, report.get("packets"), report.get("violations")))


def nonce_faults(report):
    """Yields what is wrong with an audit of nonces: a duplicate, or something that was hardly looked at."""
    print("nonces: {} seals under {} keys, {} duplicates".format(*(report.get(key) for key in ("sealed", "keys", "duplicates"))))
    if report.get("duplicates") != 0:
        yield f"{report.get('duplicates')} duplicates"
    for name, least in {"sealed": 100_000, "epochs": 50, "attempts": 1, "retransmitted": 100, "restarts": 4}.items():
        if not report.get(name, 0) >= least:
            yield f"{name}: {report.get(name)}, fewer than {least}"


def fabric_faults(report):
    """The same for the reduced fabric experiment: 16 hosts are not 144, so small messages may be a quarter slower than published."""
    runs = report.get("workloads") or []
    if [run.get("workload") for run in runs] != ["w1", "w2", "w3", "w4", "w5"]:
        yield "not all workloads"
    for run in runs:
        name, small = run.get("workload"), run["rows"][0]
        print("{:<3} {:>8} messages  mean {:>6}  p99 of the smallest {:>6}, to Homa's {:>6}  {:>9} packets in {} s".format(
            *(str(x) for x in (name, run["samples"], run["mean_slowdown"], small["p99"], small["ratio_to_homa"], run["packets"],
                               run["seconds"]))))
        if run["refused"] or run["failed"]:
            yield f"{name}: refused {run['refused']}, failed {run['failed']}"
        if not 0.5 < small["ratio_to_homa"] < 1.25:
            yield f"{name}: small messages at {small['ratio_to_homa']} of what is published"
        if run["unfinished"] * 50 > run["samples"]:
            yield f"{name}: {run['unfinished']} of {run['samples']} messages did not arrive"


def handshake_faults(report):
    """The same for the handshake command: every way to begin, as what it claims to be. No time is judged on a machine that does more."""
    rows = report.get("rows") or []
    # Each mode: how the first request is protected, whether the session is forward secret, whether TLS over TCP has the like.
    modes = {
        "full": ("full", True, True),
        "resumed": ("full", True, True),
        "early-data": ("early-data", True, True),
        "ticket": ("published-ticket", False, False),
        "ticket-fs": ("published-ticket", True, False),
    }
    if [row.get("mode") for row in rows] != list(modes):
        yield "not all modes"
    for row in rows:
        protection, session, over_tcp = modes.get(row.get("mode"), (None, None, None))
        if row.get("protection") != protection or row.get("forward_secrecy") is not (protection == "full"):
            yield f"{row.get('mode')}: first request {row.get('protection')}, forward secrecy {row.get('forward_secrecy')}"
        if row.get("session_forward_secrecy") is not session:
            yield f"{row.get('mode')}: the session's forward secrecy is {row.get('session_forward_secrecy')}"
        hybrid = "X25519MLKEM768"
        if row.get("key_exchange") != (hybrid if session else None):
            yield f"{row.get('mode')}: key exchange {row.get('key_exchange')}"
        if (row.get("tcp") or {}).get("key_exchange") != (hybrid if over_tcp else None):
            yield f"{row.get('mode')}: over TCP {row.get('tcp')}"
        if not 0 < row.get("p50_us", 0) <= row.get("p95_us", 0):
            yield f"{row.get('mode')}: p50 {row.get('p50_us')}, p95 {row.get('p95_us')}"
        print("{:<12} p50 {:>8.0f} us  to TCP {}".format(row.get("mode"), row.get("p50_us"), row.get("ratio_to_tcp")))


def kv_faults(report):
    """The same for the key-value server: each peer answered everywhere, without an error. How fast is printed, not judged."""
    rows = report.get("rows") or []
    cells = {}
    for row in rows:
        cells.setdefault((row.get("workload"), row.get("value"), row.get("clients")), set()).add(row.get("peer"))
        if row.get("errors") != 0 or not row.get("ops", 0) > 0 or not 0 < row.get("p50_us", 0) <= row.get("p99_us", 0):
            yield f"{row}"
        print("{:<8} {} {:>9.0f}/s  p99 {:>9.1f} us  server {:>7.2f} us".format(
            row["peer"], row.get("workload") or row.get("clients"), row["ops"], row["p99_us"], row["server_cpu_us_per_op"]))
    if not cells or any(peers != {"tcp", "tls", "sealane"} for peers in cells.values()):
        yield f"not all peers everywhere: {cells}"


def grpc_faults(report):
    """The same for gRPC: each transport answered at each size; tonic's own where it was built. How fast is printed, not judged."""
    cells = {}
    for row in report.get("rows") or []:
        cells.setdefault(row.get("size"), set()).add(row.get("peer"))
        if not row.get("calls", 0) > 0 or not 0 < row.get("p50_us", 0) <= row.get("p99_us", 0):
            yield f"{row}"
        print("{:<14} {:>8} B  p50 {:>8.1f} us  p99 {:>8.1f} us  to tonic {}".format(
            row["peer"], row["size"], row["p50_us"], row["p99_us"], row["p50_to_tonic"]))
    expected = {"sealane", "sealane-block"} | (set() if report.get("missing") else {"tonic-tls"})
    if not cells or any(peers != expected for peers in cells.values()):
        yield f"not all peers everywhere: {cells}"


def stress_faults(report):
    """The same for stress: every row ran, a bad network struck where there was one, and every request was answered right."""
    rows = report.get("rows") or []
    bad = any(report.get("network", {}).get(kind, 0) > 0 for kind in ("loss", "reorder", "duplicate"))
    if [row.get("name") for row in rows] != ["256B", "4KB", "16KB", "64KB", "churn", "16MB"]:
        yield "not all rows"
    for row in rows:
        faults = {kind: row.get(kind) for kind in ("corrupt", "errors", "timeouts", "drops") if row.get(kind) != 0}
        if faults or not 0 < row.get("verified", 0) == row.get("asked"):
            yield f"{row.get('name')}: {faults}, {row.get('verified')} of {row.get('asked')}: {row.get('first_fault')}"
        if bad and not all(row["struck"][kind] > 0 for kind in ("lost", "reordered", "duplicated")):
            yield f"{row.get('name')}: the network did nothing: {row.get('struck')}"
        print("{:<6} {:>8.0f} RPS  {:>8.1f} MB/s one way  p50 {:>9.1f} us  p99.9 {:>9.1f} us  to STCP {}".format(
            row["name"], row["rps"], row["mb_s_one_way"], row["p50_us"], row["p999_us"], row["ratio_to_published"]))


def brief_faults(report):
    """The same for the brief: everything that it promises is there, whatever it is."""
    metrics = report.get("metrics") or {}
    wanted = [f"{peer}.sockets.{what}.p50_us" for peer in ("sealane", "tls") for what in ("handshake", "fresh", "resumed", "0-rtt", "reconnect", "steady")]
    for size in (1536, 4096, 393216, 1048576):
        for peer in ("sealane.sockets", "tcp.sockets", "tls.sockets", "sealane.in-process", "tls.in-process", "copy.in-process"):
            wanted += [f"{peer}.{size}.p50_us", f"{peer}.{size}.mb_s"]
    wanted += ["sealane.sockets.handshake.p95_us", "sealane.sockets.reconnect.p95_us", "sealane.in-process.fresh.p50_us", "tls.in-process.fresh.p50_us", "sealane.in-process.reconnect.p95_us", "frame.emit.ns", "frame.parse.ns", "seal.aes-128-gcm.16302.ns", "x25519.agree.ns"]
    for name in wanted:
        if not metrics.get(name, 0) > 0:
            yield f"{name}: {metrics.get(name)}"
    if report.get("failed") or report.get("corrupt") != 0 or not report.get("environment", {}).get("kernel"):
        yield f"failed {report.get('failed')}, corrupt {report.get('corrupt')}, environment {report.get('environment')}"
    print("brief: {} figures; a handshake {} us, reconnect p95 {} us".format(
        len(metrics), metrics.get("sealane.sockets.handshake.p50_us"), metrics.get("sealane.sockets.reconnect.p95_us")))


def slo_faults(report):
    """The same for limits: each was held against a figure. Whether it is kept to is printed, not judged: that is the machine's."""
    limits = report.get("limits")
    if not limits:
        yield "no limits"
    for limit in limits or []:
        value = limit.get("value")
        if value is None:
            yield f"{limit.get('metric')}: no such figure"
        print("{} {}: {}".format("PASS" if limit.get("pass") else "this machine does not keep to", limit.get("metric"), value))


def main():
    check, path = sys.argv[1:]
    with open(path, encoding="utf-8") as file:
        report = json.load(file)
    judges = {"measured": measured_faults, "memory": memory_faults, "chaos": chaos_faults, "nonce": nonce_faults, "fabric": fabric_faults, "handshake": handshake_faults, "kv": kv_faults, "grpc": grpc_faults, "stress": stress_faults, "brief": brief_faults, "slo": slo_faults}
    found = list(judges[check](report) if check in judges else faults(check, report))
    for row in (report.get("rows") or []) if check in COLUMNS else []:
        print("{:<12} {:>8} B  p50 {:>10} us  p99 {:>10} us".format(*(str(row.get(k)) for k in ("peer", "size", "p50_us", "p99_us"))))
    for fault in found:
        print("FAULT", fault, file=sys.stderr)
    sys.exit(1 if found else 0)


if __name__ == "__main__":
    main()
