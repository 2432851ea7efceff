#!/usr/bin/env python3
"""Side by side: NbdClient, by completions and by await, and libnbd (fio's nbd engine) on the same sockets, each with one
connection.

As in bench.py, short slices run interleaved, round by round, and all share the processors.

Environment: ROUNDS (5), SECONDS per slice (1), ROWS (comma-separated names; all by default), CLIENTBENCH_BIN
(artifacts/native/clientbench/clientbench), NBDSERVE_BIN (out/nbdserve).
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

from bench import ROOT, ROUNDS, SECONDS, SIZE_MIB, Row, median, median_ratio, run_slice
from bench_serve import OURS as NBDSERVE, Server, nbdkit, ours

PROGRAM = Path(os.environ.get("CLIENTBENCH_BIN") or ROOT / "artifacts/native/clientbench/clientbench")
TARGETS = {"rread32": (1.2, 0.8), "rwrite32": (1.2, 0.8), "read8": (1.0, 1.0), "write8": (1.0, 1.0)}
ROWS = [
    Row("rread32", "4 KiB random read, depth 32", "IOPS", 1.2, ["--rw=randread", "--bs=4k", "--iodepth=32"]),
    Row("rwrite32", "4 KiB random write, depth 32", "IOPS", 1.2, ["--rw=randwrite", "--bs=4k", "--iodepth=32"]),
    Row("read8", "256 KiB random read, depth 8", "MB/s", 1.0, ["--rw=randread", "--bs=256k", "--iodepth=8"]),
    Row("write8", "256 KiB random write, depth 8", "MB/s", 1.0, ["--rw=randwrite", "--bs=256k", "--iodepth=8"]),
]


class Libnbd:
    """fio's NBD client, which is libnbd."""

    name = "libnbd"

    def __init__(self, server):
        self.server = server

    def fio(self, row):
        return self.server.fio(row)

    def measure(self, row):
        return run_slice(self, row)[0], None


class Ours:
    """NbdClient, by completions or by await."""

    def __init__(self, server, mode):
        self.name = mode
        self.server = server
        self.mode = mode

    def measure(self, row):
        block, depth = ("4096", "32") if row.unit == "IOPS" else (str(256 << 10), "8")
        direction = "write" if "write" in row.name else "read"
        result = subprocess.run(
            [PROGRAM, self.server.uri, self.mode, direction, block, depth, str(SECONDS), "1"],
            capture_output=True, text=True, timeout=SECONDS + 60)
        if result.returncode != 0:
            sys.exit(f"bench: {PROGRAM} failed for {self.name}, {row.name}:\n{result.stdout}{result.stderr}")
        figures = json.loads(result.stdout)
        value = figures["iops"] if row.unit == "IOPS" else figures["bytes_per_second"] / 1e6
        return value, figures["allocated_per_operation"]


def measure(server, rows):
    peers = [Libnbd(server), Ours(server, "completion"), Ours(server, "async")]
    figures = {row.name: {peer.name: [] for peer in peers} for row in rows}
    allocated = {row.name: {peer.name: [] for peer in peers} for row in rows}
    for number in range(ROUNDS):
        print(f"{server.name}: round {number + 1} of {ROUNDS}", file=sys.stderr)
        for row in rows:
            turn = number % len(peers)
            for peer in peers[turn:] + peers[:turn]:
                value, bytes_allocated = peer.measure(row)
                figures[row.name][peer.name].append(value)
                allocated[row.name][peer.name].append(bytes_allocated)
    print(f"\n{server.name}; {ROUNDS} rounds of {SECONDS} s; medians (and the median of the rounds' ratios to libnbd)\n")
    print(f"{'':34}{'':6}" + "".join(f"{peer.name:>20}" for peer in peers) + f"{'target':>18}{'bytes/operation':>20}")
    for row in rows:
        base = figures[row.name]["libnbd"]
        cells = [f"{median(base):.0f}"]
        cells += [f"{median(figures[row.name][p.name]):.0f} ({median_ratio(figures[row.name][p.name], base):.2f}x)"
                  for p in peers[1:]]
        target = ">= {}x, {}x".format(*TARGETS[row.name])
        bytes_per_operation = ", ".join(f"{median(allocated[row.name][p.name]):.2f}" for p in peers[1:])
        print(f"{row.title:34}{row.unit:>5} " + "".join(f"{cell:>20}" for cell in cells)
              + f"{target:>18}{bytes_per_operation:>20}", flush=True)


def main():
    chosen = os.environ.get("ROWS", "")
    rows = [row for row in ROWS if not chosen or row.name in chosen.split(",")]
    for program in (PROGRAM, NBDSERVE):
        if not program.exists():
            sys.exit(f"bench: {program} does not exist: run make bench")
    folder = Path(tempfile.mkdtemp(prefix="nbdclient-bench-"))
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    servers = {
        "nbdkit memory": nbdkit("memory", f"{SIZE_MIB}M"),
        "nbdserve memory": ours("memory", f"{SIZE_MIB}M"),
    }
    try:
        for name, command in servers.items():
            server = Server(name, command, folder / name.replace(" ", "-"))
            try:
                measure(server, rows)
            finally:
                server.stop()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
