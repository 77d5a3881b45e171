"""The service under load, on this machine: answers, times, memory, hostile requests, and an end in the middle.

    uv run python benchmarks/serving.py load ADAPTER IMAGES [--requests 2000] [--connections 16] [--most 8]
    uv run python benchmarks/serving.py hostile ADAPTER IMAGES [--requests 1000]
    uv run python benchmarks/serving.py end ADAPTER IMAGES

ADAPTER is a folder made by atha fit, IMAGES a folder of images. Every loop has an end. ``load`` compares each answer
with what the classifier says in this process, then sends the same requests to a service that takes one image at a time
(``--batch-size 1``) and over one connection.
"""

import argparse
import http.client
import json
import os
import random
import re
import signal
import socket
import statistics
import struct
import subprocess
import sys
import time
import zlib
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil

import atha

BOUNDARY = "b7Xq"
KIND = f"multipart/form-data; boundary={BOUNDARY}"
HOSTILE_CONNECTIONS = 8
#: Status, body and seconds.
Reply = tuple[int, dict[str, Any], float]


@contextmanager
def served(adapter: str, *options: str) -> Iterator[tuple[int, "subprocess.Popen[str]"]]:
    command = [sys.executable, "-m", "atha", "serve", adapter, "--port", "0", *options]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        found = re.search(r":(\d+)/", process.stdout.readline())
        assert found, "the service did not start"
        try:
            yield int(found[1]), process
        finally:
            process.kill()


def form(files: list[Path]) -> bytes:
    parts = [
        f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="image"; filename="{file.name}"\r\n\r\n'.encode()
        + file.read_bytes()
        for file in files
    ]
    return b"\r\n".join([*parts, f"--{BOUNDARY}--\r\n".encode()])


def post(connection: http.client.HTTPConnection, body: bytes) -> tuple[int, dict[str, object]]:
    connection.request("POST", "/predict", body, {"Content-Type": KIND})
    reply = connection.getresponse()
    return reply.status, json.loads(reply.read())


def send(port: int, requests: list[list[Path]], connections: int) -> tuple[list[Reply], float]:
    """Replies with their seconds, and the seconds of all."""

    def line(own: list[tuple[int, list[Path]]]) -> list[tuple[int, Reply]]:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
        found = []
        for place, files in own:
            started = time.perf_counter()
            found.append((place, (*post(connection, form(files)), time.perf_counter() - started)))
        return found

    started = time.perf_counter()
    with ThreadPoolExecutor(connections) as pool:
        lines = [list(enumerate(requests))[first::connections] for first in range(connections)]
        replies = dict(pair for found in pool.map(line, lines) for pair in found)
    return [replies[place] for place in range(len(requests))], time.perf_counter() - started


def load(options: argparse.Namespace) -> None:
    files = sorted(path for path in Path(options.images).rglob("*") if path.is_file())[:200]
    draw = random.Random(0)
    requests = [draw.sample(files, draw.randint(1, options.most)) for _ in range(options.requests)]
    asked = sorted({file for some in requests for file in some})
    expected = {one.file: one for one in atha.Classifier.from_pretrained(options.adapter).stream(map(str, asked))}
    ways = {"batches": ((), options.connections), "one image at a time": (("--batch-size", "1"), options.connections),
            "one connection": ((), 1)}  # fmt: skip
    for way, (arguments, connections) in ways.items():
        with served(options.adapter, *arguments) as (port, process):
            send(port, requests[:32], connections)
            memory = psutil.Process(process.pid)
            some = requests if way == "batches" else requests[: options.compared]
            first, seconds, resident = [], 0.0, [memory.memory_info().rss]
            for begin in range(0, len(some), 200):
                replies, took = send(port, some[begin : begin + 200], connections)
                first += replies
                seconds += took
                resident.append(memory.memory_info().rss)
            wrong = sum(
                status != 200
                or [list(row["probabilities"].values()) for row in told["predictions"]]
                != [list(expected[str(file)].probabilities) for file in own]
                for own, (status, told, _) in zip(some, first, strict=True)
            )
            times = sorted(took for *_, took in first)
            count = sum(len(own) for own, (status, *_) in zip(some, first, strict=True) if status == 200)
            print(json.dumps({
                "way": way, "requests": len(some), "images": count, "wrong": wrong,
                "images a second": round(count / seconds, 1),
                "p50 ms": round(1000 * statistics.median(times)), "p99 ms": round(1000 * times[int(0.99 * len(times))]),
                "resident MB": [round(one / 1e6) for one in resident],
            }), flush=True)  # fmt: skip


def bomb() -> bytes:
    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0")) + chunk(b"IEND", b"")


def whole(body: bytes, kind: str = KIND, more: str = "") -> bytes:
    head = f"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n"
    return f"{head}{more}\r\n".encode() + body


def one_file(content: bytes, head: str = 'form-data; name="image"; filename="a.png"') -> bytes:
    start = f"--{BOUNDARY}\r\nContent-Disposition: {head}\r\n\r\n"
    return start.encode() + content + f"\r\n--{BOUNDARY}--\r\n".encode()


def attack(kind: str, port: int, photo: bytes) -> int:
    """The status of the answer to one hostile request; 0: none."""
    start = b"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: " + KIND.encode()
    chunked = start + b"\r\nTransfer-Encoding: chunked\r\n\r\n"
    sent = {
        "wrong type": whole(b"{}", "application/json"),
        "truncated image": whole(one_file(photo[: len(photo) // 3])),
        "no image": whole(one_file(os.urandom(3000))),
        "bomb": whole(one_file(bomb())),
        "an address": whole(one_file(b"http://127.0.0.1/x", 'form-data; name="url"')),
        "wrong form": whole(b"--" + os.urandom(200)),
        "no boundary": whole(one_file(photo), "multipart/form-data"),
        "unfinished form": whole(one_file(photo)[:-9]),
        "other host": whole(one_file(photo)).replace(b"localhost", b"evil.example"),
        "other origin": whole(one_file(photo), more="Origin: http://evil.example\r\n"),
        "huge headers": start + b"\r\nX-A: " + b"a" * 300_000 + b"\r\n\r\n",
        "no HTTP": os.urandom(400) + b"\r\n\r\n",
        "wrong chunks": chunked + b"zz\r\nnonsense\r\n",
        "said to be huge": start + b"\r\nContent-Length: 99999999999\r\n\r\n",
        "endless": chunked,
        "slow headers": b"POST /predict HTTP/1.1\r\nHost: local",
        "slow body": start + b"\r\nContent-Length: 5000\r\n\r\n" + b"--" + BOUNDARY.encode(),
    }[kind]
    with socket.create_connection(("127.0.0.1", port), timeout=90) as line:
        try:
            line.sendall(sent)
            if kind == "endless":
                block = b"10000\r\n" + b"\0" * 0x10000 + b"\r\n"
                head = one_file(b"")[: -len(BOUNDARY) - 8]
                line.sendall(f"{len(head):x}\r\n".encode() + head + b"\r\n")
                for _ in range(4000):
                    line.sendall(block)
        except OSError:
            pass
        answer = b""
        try:
            while part := line.recv(65536):
                answer += part
                if b"}" in answer:
                    break
        except OSError:
            pass
    found = re.match(rb"HTTP/1\.1 (\d+)", answer)
    return int(found[1]) if found and b'{"error": "' in answer else 0


KINDS = ["wrong type", "truncated image", "no image", "bomb", "an address", "wrong form", "no boundary",
         "unfinished form", "other host", "other origin", "huge headers", "no HTTP", "wrong chunks",
         "said to be huge"]  # fmt: skip
SLOW = ["endless", "slow headers", "slow body"]


def hostile(options: argparse.Namespace) -> None:
    photo = next(path for path in sorted(Path(options.images).rglob("*")) if path.is_file()).read_bytes()
    asked = [*SLOW * 8, *(KINDS[place % len(KINDS)] for place in range(options.requests - 8 * len(SLOW)))]
    random.Random(0).shuffle(asked)
    with served(options.adapter) as (port, process):
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=90)
        before = psutil.Process(process.pid).memory_info().rss
        with ThreadPoolExecutor(HOSTILE_CONNECTIONS) as pool:
            statuses = Counter(zip(asked, pool.map(lambda kind: attack(kind, port, photo), asked), strict=True))
        for (kind, status), count in sorted(statuses.items()):
            print(json.dumps({"request": kind, "status": status or "none", "times": count}))
        status, _ = post(connection, whole(one_file(photo)).partition(b"\r\n\r\n")[2])
        after = psutil.Process(process.pid).memory_info().rss
        print(json.dumps({"alive": process.poll() is None, "a good request after it": status,
                          "resident MB": [round(before / 1e6), round(after / 1e6)]}))  # fmt: skip


def end(options: argparse.Namespace) -> None:
    files = sorted(path for path in Path(options.images).rglob("*") if path.is_file())[:8]
    with served(options.adapter) as (port, process), ThreadPoolExecutor(16) as pool:
        asked = [pool.submit(send, port, [files], 1) for _ in range(16)]
        time.sleep(0.3)
        process.send_signal(signal.SIGTERM)
        statuses = Counter(one.result()[0][0][0] if one.exception() is None else "refused" for one in asked)
        print(json.dumps({"answers": statuses, "code": process.wait(120)}))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=["load", "hostile", "end"])
    parser.add_argument("adapter")
    parser.add_argument("images")
    parser.add_argument("--requests", type=int, default=1000)
    parser.add_argument("--compared", type=int, default=200, help="Of load: requests of each other way.")
    parser.add_argument("--connections", type=int, default=16)
    parser.add_argument("--most", type=int, default=8, help="Of load: images of a request.")
    options = parser.parse_args()
    {"load": load, "hostile": hostile, "end": end}[options.what](options)


if __name__ == "__main__":
    main()
