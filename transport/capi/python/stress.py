"""A stress client for any echo server of Sealane, by asyncio over the C ABI; takes the options of STCP's published stress tool.

    sealane certs --out certs
    sealane serve --echo --listen 127.0.0.1:6667 --cert certs/server.pem --key certs/server.key --ca certs/ca.pem
    python3 stress.py --host 127.0.0.1 --port 6667 --mode steady --clients 50 --duration 70 --msg-size 256 \\
        --messages-per-conn 500 --timeout 10 --report-every 0

Each client has a socket and a session of its own and one request under way. `steady`: it keeps them; `churn`: a new socket and session
after every --messages-per-conn messages. Every reply must be its request, byte for byte, and no two requests are the same. Prints one
JSON object at the end and ends with 1 if anything was corrupt, failed, late or lost, 2 when the options make no sense.
SEALANE_LIBRARY names the library where the system does not find it.
"""

import argparse
import asyncio
import json
import os
import struct
import sys
import time

import sealane

# What follows a message's numbers is a window onto these bytes; for longer messages they are repeated.
_BLOCK_BYTES = 1 << 16
_BLOCK = os.urandom(_BLOCK_BYTES) * 2
_NUMBERS = struct.Struct("<QQ")


def message(client, number, size):
    """What `client` sends as its message `number`: both numbers, and bytes that follow from them."""
    start = (client * 31 + number * 64) % _BLOCK_BYTES
    rest = size - _NUMBERS.size
    block = _BLOCK if rest <= _BLOCK_BYTES else _BLOCK * (rest // len(_BLOCK) + 2)
    return _NUMBERS.pack(client, number) + block[start : start + rest]


class Books:
    """What became of what was asked. Latencies in seconds."""

    def __init__(self):
        self.asked = self.verified = self.in_time = self.corrupt = self.errors = self.timeouts = self.drops = self.sessions = 0
        self.latencies, self.first_fault = [], None

    def fault(self, kind, why):
        setattr(self, kind, getattr(self, kind) + 1)
        self.first_fault = self.first_fault or why

    def summary(self, options, seconds):
        sorted_ms = [1000 * latency for latency in sorted(self.latencies)]

        def percentile(share):
            return round(sorted_ms[min(len(sorted_ms) - 1, int(share * len(sorted_ms)))], 3) if sorted_ms else None

        rps = self.in_time / seconds
        one_way = rps * options.msg_size / 1e6
        return {
            "mode": options.mode,
            "msg_size": options.msg_size,
            "clients": options.clients,
            "messages_per_conn": options.messages_per_conn if options.mode == "churn" else None,
            "seconds": seconds,
            "rps": round(rps, 1),
            "mb_s_one_way": round(one_way, 2),
            "mb_s_both": round(2 * one_way, 2),
            "mean_ms": round(sum(sorted_ms) / len(sorted_ms), 3) if sorted_ms else None,
            "p50_ms": percentile(0.5),
            "p99_ms": percentile(0.99),
            "p999_ms": percentile(0.999),
            "asked": self.asked,
            "verified": self.verified,
            "corrupt": self.corrupt,
            "errors": self.errors,
            "timeouts": self.timeouts,
            "drops": self.drops,
            "sessions": self.sessions,
            "first_fault": self.first_fault,
        }

    @property
    def clean(self):
        return self.verified > 0 and not (self.corrupt or self.errors or self.timeouts or self.drops)

    def answered(self, client, number, reply, wanted, in_time):
        if reply == wanted:
            self.verified += 1
            self.in_time += in_time
        else:
            self.fault("corrupt", f"client {client}, message {number}: the answer is not what was sent")


async def ask(socket, peer, client, number, options, books, end, late):
    """One request and its answer, which may come late. Whether the session is still good for more."""
    wanted = message(client, number, options.msg_size)
    books.asked += 1
    begun = time.monotonic()
    call = asyncio.ensure_future(socket.call(peer, wanted))
    done, _ = await asyncio.wait({call}, timeout=options.timeout)
    if not done:
        books.fault("timeouts", f"client {client}, message {number}: no answer within {options.timeout} s")
        late[call] = (number, wanted)
        return True
    try:
        reply = call.result()
    except sealane.Error as error:
        books.fault("errors", f"client {client}, message {number}: {error}")
        return False
    now = time.monotonic()
    books.latencies.append(now - begun)
    books.answered(client, number, reply, wanted, now <= end)
    return True


async def settle(client, options, books, late):
    """What is late has as long again to come at all; what does not is dropped."""
    if late:
        await asyncio.wait(late, timeout=options.timeout)
    for call, (number, wanted) in late.items():
        if not call.done():
            books.fault("drops", f"client {client}, message {number}: no answer at all")
            call.cancel()
        elif call.exception():
            books.fault("errors", f"client {client}, message {number}: {call.exception()}")
        else:
            books.answered(client, number, call.result(), wanted, False)
    await asyncio.gather(*late, return_exceptions=True)


async def session(client, number, options, books, end):
    """A socket, a session and its requests from `number` on; the next number, and whether it was good to the end."""
    good, asked, late = True, 0, {}
    async with sealane.AsyncSocket("0.0.0.0:0", ca=options.ca, cert=options.cert, key=options.key, wait=sealane.BLOCK) as socket:
        peer = socket.peer(f"{options.host}:{options.port}", options.name)
        books.sessions += 1
        while good and time.monotonic() < end and (options.mode == "steady" or asked < options.messages_per_conn):
            good = await ask(socket, peer, client, number + asked, options, books, end, late)
            asked += 1
        await settle(client, options, books, late)
    return number + asked, good


async def run_client(client, options, books, end):
    """Sessions, one after the other, until `end`."""
    number = 0
    while time.monotonic() < end:
        try:
            number, good = await session(client, number, options, books, end)
        except sealane.Error as error:
            if not books.sessions:
                raise  # there is no library, or the files cannot be read: that does not get better
            books.fault("errors", f"client {client}, a session: {error}")
            number, good = number + books.asked, False  # past all that it may have asked: no request comes twice
        if not good:
            await asyncio.sleep(0.1)  # a server that is gone is not asked without end


async def report(options, books, end):
    """A line now and then, on standard error."""
    while True:
        await asyncio.sleep(options.report_every)
        left, faults = max(0.0, end - time.monotonic()), books.corrupt + books.errors + books.timeouts + books.drops
        print(f"{left:.0f} s left: {books.verified} verified, {faults} faults, {books.sessions} sessions", file=sys.stderr)


async def stress(options):
    books, end = Books(), time.monotonic() + options.duration
    reporter = asyncio.ensure_future(report(options, books, end)) if options.report_every > 0 else None
    try:
        await asyncio.gather(*(run_client(client, options, books, end) for client in range(options.clients)))
    finally:
        if reporter:
            reporter.cancel()
    return books


def parse(arguments):
    def above(least, kind):
        def check(text):
            value = kind(text)
            if value < least:
                raise argparse.ArgumentTypeError(f"{text} is less than {least}")
            return value

        check.__name__ = kind.__name__
        return check

    parser = argparse.ArgumentParser(description="Stresses an echo server of Sealane and verifies every reply.")
    parser.add_argument("--host", required=True, help="address of the server")
    parser.add_argument("--port", required=True, type=above(1, int))
    parser.add_argument("--mode", choices=["steady", "churn"], default="steady", help="one session, or a new one after --messages-per-conn")
    parser.add_argument("--clients", type=above(1, int), default=50)
    parser.add_argument("--duration", type=above(0.1, float), default=70, help="seconds")
    parser.add_argument("--msg-size", type=above(_NUMBERS.size, int), default=256, help="bytes of each request")
    parser.add_argument("--messages-per-conn", type=above(1, int), default=500, help="of a session in mode churn")
    parser.add_argument("--timeout", type=above(0.001, float), default=10, help="seconds that an answer may take")
    parser.add_argument("--report-every", type=above(0, float), default=0, help="seconds between lines on standard error; 0: none")
    parser.add_argument("--ca", default="certs/ca.pem", help="PEM file of the authorities that are trusted")
    parser.add_argument("--cert", default="certs/client.pem", help="PEM file of our certificate chain; empty: anonymous")
    parser.add_argument("--key", default="certs/client.key", help="PEM file of its key")
    parser.add_argument("--name", default="localhost", help="the name in the server's certificate")
    options = parser.parse_args(arguments)
    if not options.cert:
        options.cert = options.key = None
    return options


def main(arguments=None):
    options = parse(arguments)
    try:
        books = asyncio.run(stress(options))
    except sealane.Error as error:
        print(f"stress: {error}", file=sys.stderr)
        return 1
    print(json.dumps(books.summary(options, options.duration)))
    return 0 if books.clean else 1


if __name__ == "__main__":
    sys.exit(main())
