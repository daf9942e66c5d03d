"""The Python client over real sockets on loopback: threads, asyncio, errors. `python3 test.py CERTS`; SEALANE_LIBRARY names the library."""

import asyncio
import contextlib
import io
import json
import os
import re
import sys
import threading
import time
import unittest

import sealane
import stress

CERTS = sys.argv.pop(1) if len(sys.argv) > 1 else "certs"


def certificates(who):
    return {"ca": f"{CERTS}/ca.pem", "cert": f"{CERTS}/{who}.pem", "key": f"{CERTS}/{who}.key"}


def server(kind=sealane.Socket, **knobs):
    return kind("127.0.0.1:0", serve=sealane.AUTHENTICATED, **certificates("server"), **knobs)


def client(kind=sealane.Socket, **knobs):
    return kind("127.0.0.1:0", **certificates("client"), **knobs)


def echo(socket):
    try:
        while True:
            came = socket.recv()
            if came.kind == sealane.REQUEST and came.payload == b"refuse":
                came.refuse()
            elif came.kind == sealane.REQUEST and came.payload != b"forget":
                came.echo()
            came = None  # frees it, and so refuses what was forgotten
    except sealane.Error as error:
        assert error.status == sealane.CLOSED, error


class Blocking(unittest.TestCase):
    def setUp(self):
        self.server, self.client = server(), client()
        self.thread = threading.Thread(target=echo, args=(self.server,))
        self.thread.start()
        self.peer = self.client.peer(self.server.address, "localhost")

    def tearDown(self):
        self.client.close()
        self.server.close()
        self.thread.join()

    def test_calls(self):
        for sent in (b"", b"hello", os.urandom(300_000), bytearray(b"changeable"), memoryview(b"view"), "text"):
            wanted = sent.encode() if isinstance(sent, str) else bytes(sent)
            self.assertEqual(self.client.call(self.peer, sent, deadline=60), wanted)
        self.assertTrue(self.client.info()["sessions"][0]["open"])

    def test_threads_share_a_socket(self):
        wrong = []

        def calls(mark):
            for n in range(50):
                sent = f"{mark} {n}".encode() * (n + 1)
                if self.client.call(self.peer, sent) != sent:
                    wrong.append(sent)

        threads = [threading.Thread(target=calls, args=(mark,)) for mark in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.assertEqual(wrong, [])

    def test_cookies_and_failures(self):
        self.client.send(self.peer, b"one", 7)
        came = self.client.recv(60)
        self.assertEqual((came.kind, came.cookie, came.payload), (sealane.RESPONSE, 7, b"one"))
        self.assertIn("localhost", came.identity)
        self.client.try_send(came.peer, b"refuse", 8)
        came = self.client.recv(60)
        self.assertEqual((came.kind, came.cookie, came.status), (sealane.FAILED, 8, sealane.REFUSED))
        self.assertIsNone(self.client.try_recv())
        self.assertIsNone(self.client.recv(0))
        self.client.tell(self.peer, b"no answer")
        self.client.send_one_way(self.peer, b"nor here")
        for text in (b"refuse", b"forget"):
            with self.assertRaises(sealane.Error) as caught:
                self.client.call(self.peer, text, deadline=60)
            self.assertEqual((caught.exception.status, caught.exception.may_have_run), (sealane.REFUSED, True))

    def test_batches(self):
        with self.client.batch():
            for cookie in range(1, 9):
                self.client.send(self.peer, str(cookie).encode(), cookie)
        came = [self.client.recv(60) for _ in range(8)]
        self.assertEqual(sorted((c.cookie, c.payload) for c in came), [(n, str(n).encode()) for n in range(1, 9)])
        with self.assertRaises(ZeroDivisionError):
            with self.client.batch():
                self.client.send(self.peer, b"sent all the same", 9)
                1 / 0
        self.assertEqual(self.client.recv(60).cookie, 9)

    def test_all_that_came_at_once(self):
        with self.client.batch():
            for cookie in range(1, 101):
                self.client.send(self.peer, b"forget" if cookie == 50 else str(cookie).encode(), cookie)
        came = {}
        while len(came) < 100:
            taken = self.client.recv_many(most=7, timeout=60)
            self.assertTrue(0 < len(taken) <= 7)
            came.update((delivery.cookie, delivery) for delivery in taken)
        self.assertEqual(came.pop(50).status, sealane.REFUSED)
        self.assertEqual({cookie: d.payload for cookie, d in came.items()}, {n: str(n).encode() for n in range(1, 101) if n != 50})
        self.assertEqual((self.client.try_recv_many(), self.client.recv_many(timeout=0)), ([], []))
        with self.assertRaises(sealane.Error):
            self.client.try_recv_many(most=0)

    def test_records_span_packets_where_that_is_asked_for(self):
        for asked in (False, True):
            with client(mtu=1500, spanning_records=asked) as calling:
                sent = os.urandom(100_000)
                self.assertEqual(calling.call(calling.peer(self.server.address, "localhost"), sent, deadline=60), sent)
                self.assertEqual(calling.info()["counters"].get("slices_sent", 0) >= 60, asked)

    def test_bad_input(self):
        for knobs in ({"ca": "/nowhere"}, {"serve": 9}, {"mtu": 3}, {"cert": "/nowhere"}):
            with self.assertRaises(sealane.Error):
                sealane.Socket("127.0.0.1:0", **knobs)
        with self.assertRaises(sealane.Error):
            self.client.peer("no address", "localhost")
        with self.assertRaises(sealane.Error) as caught:
            self.client.call(self.client.peer(self.server.address, "example.org"), b"not its name")
        self.assertEqual(caught.exception.status, -7)  # SEALANE_HANDSHAKE


class Installed(unittest.TestCase):
    def test_sessions_without_certificates(self):
        with sealane.Socket("127.0.0.1:0", installed=True, serve=True) as one, sealane.Socket("127.0.0.1:0", installed=True) as two:
            secret = os.urandom(32)
            self.assertIsNone(one.install_session(two.address, False, secret, "two"))
            peer = two.install_session(one.address, True, secret, "one")
            name = two.send(peer, b"hello", 1)
            came = one.recv(60)
            self.assertIn("two", came.identity)
            self.assertTrue(two.abort(name))
            self.assertFalse(two.abort(name))


class Asynchronous(unittest.TestCase):
    def test_a_server_and_many_calls(self):
        async def handler(came):
            if came.payload == b"never":
                await asyncio.sleep(3600)
            return None if came.payload == b"refuse" else came.payload[::-1]

        async def main():
            async with server(sealane.AsyncSocket) as serving, client(sealane.AsyncSocket) as calling:
                task = asyncio.ensure_future(serving.serve(handler))
                peer = calling.peer(serving.address, "localhost")
                sent = [os.urandom(1 + n * 500) for n in range(100)]
                got = await asyncio.wait_for(asyncio.gather(*(calling.call(peer, data) for data in sent)), 60)
                self.assertEqual(got, [data[::-1] for data in sent])
                with self.assertRaises(sealane.Error) as caught:
                    await calling.call(peer, b"refuse")
                self.assertEqual(caught.exception.status, sealane.REFUSED)
                with self.assertRaises(asyncio.TimeoutError):
                    await asyncio.wait_for(calling.call(peer, b"never"), 0.1)
                self.assertEqual(calling._calls, {})
                self.assertEqual(calling.info()["calls"], 0)
                waiting = asyncio.ensure_future(calling.call(peer, b"never"))
                await asyncio.sleep(0)
            with self.assertRaises(sealane.Error) as caught:
                await waiting
            self.assertEqual(caught.exception.status, sealane.CLOSED)
            await task

        asyncio.run(main())

    def test_more_than_is_held(self):
        async def handler(came):
            return came.payload[:8]

        async def main():
            async with server(sealane.AsyncSocket) as serving, client(sealane.AsyncSocket, send_bytes_max=200_000) as calling:
                task = asyncio.ensure_future(serving.serve(handler))
                peer = calling.peer(serving.address, "localhost")
                got = await asyncio.wait_for(asyncio.gather(*(calling.call(peer, bytes([n]) * 60_000) for n in range(40))), 60)
                self.assertEqual(got, [bytes([n]) * 8 for n in range(40)])
            await task

        asyncio.run(main())


    def test_more_replies_than_are_held(self):
        async def handler(came):
            return came.payload * 60_000

        async def main():
            serving, calling = server(sealane.AsyncSocket, send_bytes_max=200_000), client(sealane.AsyncSocket)
            async with serving, calling:
                task = asyncio.ensure_future(serving.serve(handler))
                peer = calling.peer(serving.address, "localhost")
                got = await asyncio.wait_for(asyncio.gather(*(calling.call(peer, bytes([n])) for n in range(40))), 60)
                self.assertEqual(got, [bytes([n]) * 60_000 for n in range(40)])
            await task

        asyncio.run(main())


class Stress(unittest.TestCase):
    """stress.py against servers that answer well, and against those that do not."""

    def run_against(self, answer, *more):
        """What it ends with, and its summary; `answer` makes a reply of a request, None leaves it unanswered."""
        serving, kept, count = server(), [], 0

        def loop():
            nonlocal count
            try:
                while True:
                    came = serving.recv()
                    if came.kind == sealane.REQUEST:
                        count += 1
                        reply = answer(count, came.payload)
                        kept.append(came) if reply is None else came.reply(reply)
            except sealane.Error as error:
                # One whose caller has gone is met by a reply, too.
                assert error.status == sealane.CLOSED, error

        thread = threading.Thread(target=loop)
        thread.start()
        paths = certificates("client")
        options = ["--host", "127.0.0.1", "--port", serving.address.rpartition(":")[2], "--ca", paths["ca"], "--cert", paths["cert"], "--key", paths["key"]]
        said = io.StringIO()
        try:
            with contextlib.redirect_stdout(said):
                code = stress.main([*options, "--clients", "3", "--duration", "0.5", "--msg-size", "5000", *more])
        finally:
            serving.close()
            thread.join()
            kept.clear()
        return code, json.loads(said.getvalue())

    def test_steady_is_clean(self):
        code, summary = self.run_against(lambda _, payload: payload, "--timeout", "60")
        self.assertEqual((code, summary["sessions"], summary["asked"]), (0, 3, summary["verified"]), summary)
        self.assertTrue(0 < summary["p50_ms"] <= summary["p99_ms"] <= summary["p999_ms"], summary)
        self.assertGreater(summary["rps"], 0)

    def test_churn_makes_sessions(self):
        code, summary = self.run_against(lambda _, payload: payload, "--timeout", "60", "--mode", "churn", "--messages-per-conn", "2")
        self.assertEqual((code, summary["first_fault"]), (0, None), summary)
        self.assertGreaterEqual(2 * summary["sessions"], summary["asked"], summary)

    def test_a_changed_byte_is_corrupt(self):
        code, summary = self.run_against(lambda count, payload: payload if count % 5 else payload[:-1] + bytes([payload[-1] ^ 1]), "--timeout", "60")
        self.assertEqual(code, 1)
        self.assertGreater(summary["corrupt"], 0, summary)
        self.assertEqual(summary["asked"], summary["verified"] + summary["corrupt"], summary)

    def test_no_answer_at_all_is_a_drop(self):
        code, summary = self.run_against(lambda count, payload: payload if count > 1 else None, "--timeout", "0.2")
        self.assertEqual((code, summary["drops"]), (1, 1), summary)
        self.assertGreaterEqual(summary["timeouts"], 1, summary)
        self.assertEqual(summary["asked"], summary["verified"] + summary["drops"], summary)

    def test_a_late_answer_is_a_timeout(self):
        code, summary = self.run_against(lambda count, payload: time.sleep(0.5 * (count == 5)) or payload, "--timeout", "0.3")
        self.assertEqual((code, summary["drops"], summary["asked"]), (1, 0, summary["verified"]), summary)
        self.assertGreater(summary["timeouts"], 0, summary)

    def test_a_server_that_ends_is_counted(self):
        serving, paths, said = server(), certificates("client"), io.StringIO()
        options = ["--host", "127.0.0.1", "--port", serving.address.rpartition(":")[2], "--ca", paths["ca"], "--cert", paths["cert"], "--key", paths["key"]]
        thread = threading.Thread(target=lambda: (serving.recv().reply(b"x" * 5000), serving.close()))
        thread.start()
        with contextlib.redirect_stdout(said):
            code = stress.main([*options, "--clients", "1", "--duration", "0.5", "--msg-size", "5000", "--mode", "churn", "--timeout", "20"])
        thread.join()
        summary = json.loads(said.getvalue())
        self.assertEqual(code, 1)
        self.assertGreater(summary["errors"], 0, summary)

    def test_bad_options(self):
        for options in (["--port", "1"], ["--host", "x", "--port", "0"], ["--host", "x", "--port", "1", "--msg-size", "3"]):
            with self.assertRaises(SystemExit) as caught, contextlib.redirect_stderr(io.StringIO()):
                stress.main(options)
            self.assertEqual(caught.exception.code, 2)
        with contextlib.redirect_stderr(io.StringIO()) as said:
            self.assertEqual(stress.main(["--host", "127.0.0.1", "--port", "1", "--ca", "/nowhere", "--duration", "0.1"]), 1)
        self.assertIn("/nowhere", said.getvalue())


class Header(unittest.TestCase):
    def test_the_module_says_what_the_header_says(self):
        path = os.path.join(os.path.dirname(os.path.abspath(__file__)), "../include/sealane.h")
        with open(path, encoding="utf-8") as file:
            header = file.read()
        numbers = {name: int(value) for name, value in re.findall(r"#define SEALANE_(\w+) (-?\d+)\n", header)}
        for name in ("OK", "NOTHING", "INVALID", "WOULD_BLOCK", "DEADLINE", "REFUSED", "CLOSED", "REQUEST", "RESPONSE", "ONE_WAY", "FAILED"):
            self.assertEqual(getattr(sealane, name), numbers[name], name)
        self.assertEqual(numbers["ERROR_TEXT_BYTES"], sealane._Error.text.size)
        for name, arguments in {**sealane._FUNCTIONS, **{name: [argument] for name, argument in sealane._FREEING.items()}}.items():
            declared = re.search(rf"\bsealane_{name}\(([^)]*)\)", header)
            self.assertIsNotNone(declared, name)
            self.assertEqual(declared.group(1).count(",") + 1, len(arguments) + (name in sealane._FUNCTIONS), name)


if __name__ == "__main__":
    unittest.main()
