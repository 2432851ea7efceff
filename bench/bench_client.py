#!/usr/bin/env python3
"""Side by side: NbdClient, by completions, by await and by await with synchronous continuations, and libnbd (fio's nbd
engine) on the same sockets, each with one connection; NbdClient with one and with more connections; and reads over TLS next
to nbdcopy, with as many connections as it uses.

As in bench.py, short slices run interleaved, round by round, and all share the processors.

Environment: ROUNDS (5), SECONDS per slice (1), ROWS (comma-separated names, "connections" and "tls" too; all by default),
CLIENTBENCH_BIN
(artifacts/native/clientbench/clientbench), NBDSERVE_BIN (out/nbdserve).
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from bench import ROOT, ROUNDS, SECONDS, SIZE_MIB, Row, median, median_ratio, run_slice
from bench_serve import OURS as NBDSERVE, Server, nbdkit, ours

PROGRAM = Path(os.environ.get("CLIENTBENCH_BIN") or ROOT / "artifacts/native/clientbench/clientbench")
TARGETS = {"rread32": (1.2, 0.8, 1.2), "rwrite32": (1.2, 0.8, 1.2), "read8": (1.0, 1.0, 1.0), "write8": (1.0, 1.0, 1.0)}
MODES = ("completion", "async", "synchronous")
ROWS = [
    Row("rread32", "4 KiB random read, depth 32", "IOPS", 1.2, ["--rw=randread", "--bs=4k", "--iodepth=32"]),
    Row("rwrite32", "4 KiB random write, depth 32", "IOPS", 1.2, ["--rw=randwrite", "--bs=4k", "--iodepth=32"]),
    Row("read8", "256 KiB random read, depth 8", "MB/s", 1.0, ["--rw=randread", "--bs=256k", "--iodepth=8"]),
    Row("write8", "256 KiB random write, depth 8", "MB/s", 1.0, ["--rw=randwrite", "--bs=256k", "--iodepth=8"]),
]


def run_ours(uri, mode, direction, block, depth, connections):
    arguments = [uri, mode, direction, str(block), str(depth), str(SECONDS), str(connections)]
    result = subprocess.run([PROGRAM, *arguments], capture_output=True, text=True, timeout=SECONDS + 60)
    if result.returncode != 0:
        sys.exit(f"bench: {PROGRAM} {' '.join(arguments)}:\n{result.stdout}{result.stderr}")
    return json.loads(result.stdout)


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
    """NbdClient, in one of the modes."""

    def __init__(self, server, mode, connections=1):
        self.name = mode
        self.server = server
        self.mode = mode
        self.connections = connections

    def measure(self, row):
        block, depth = (4096, 32) if row.unit == "IOPS" else (256 << 10, 8)
        direction = "write" if "write" in row.name else "read"
        figures = run_ours(self.server.uri, self.mode, direction, block, depth, self.connections)
        value = figures["iops"] if row.unit == "IOPS" else figures["bytes_per_second"] / 1e6
        return value, figures["allocated_per_operation"]


def measure(server, rows):
    peers = [Libnbd(server), *(Ours(server, mode) for mode in MODES)]
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
    print(f"{'':34}{'':6}" + "".join(f"{peer.name:>20}" for peer in peers) + f"{'target':>24}{'bytes/operation':>20}")
    for row in rows:
        base = figures[row.name]["libnbd"]
        cells = [f"{median(base):.0f}"]
        cells += [f"{median(figures[row.name][p.name]):.0f} ({median_ratio(figures[row.name][p.name], base):.2f}x)"
                  for p in peers[1:]]
        target = ">= {}x, {}x, {}x".format(*TARGETS[row.name])
        bytes_per_operation = ", ".join(f"{median(allocated[row.name][p.name]):.2f}" for p in peers[1:])
        print(f"{row.title:34}{row.unit:>5} " + "".join(f"{cell:>20}" for cell in cells)
              + f"{target:>24}{bytes_per_operation:>20}", flush=True)


def measure_connections(server):
    """What more connections than one bring, or cost."""
    counts = [1, 2, 4]
    figures = {}
    for number in range(ROUNDS):
        print(f"{server.name}, connections: round {number + 1} of {ROUNDS}", file=sys.stderr)
        for row in ROWS:
            for mode in MODES:
                turn = number % len(counts)
                for count in counts[turn:] + counts[:turn]:
                    value = Ours(server, mode, count).measure(row)[0]
                    figures.setdefault((row.title, mode), {}).setdefault(count, []).append(value)
    print(f"\n{server.name}; connections; medians (and the median of the rounds' ratios to one)\n")
    print(f"{'':46}" + "".join(f"{count:>18}" for count in counts))
    for (title, mode), values in figures.items():
        cells = [f"{median(values[count]):.0f} ({median_ratio(values[count], values[1]):.2f}x)" for count in counts]
        print(f"{title:34}{mode:>12}" + "".join(f"{cell:>18}" for cell in cells), flush=True)


def make_certificates(folder):
    """An authority, and a certificate of it for localhost, as NBD programs expect them in a folder."""
    folder.mkdir(parents=True)

    def certtool(template, *arguments):
        path = folder / "template"
        path.write_text(template)
        subprocess.run(["certtool", "--template", path, *arguments], cwd=folder, check=True, capture_output=True)

    for name in ("ca", "server"):
        certtool("", "--generate-privkey", "--outfile", f"{name}-key.pem")
    certtool("cn = benchmark\nca\ncert_signing_key\n",
             "--generate-self-signed", "--load-privkey", "ca-key.pem", "--outfile", "ca-cert.pem")
    certtool("cn = localhost\ndns_name = localhost\ntls_www_server\nsigning_key\nencryption_key\n",
             "--generate-certificate", "--load-ca-certificate", "ca-cert.pem", "--load-ca-privkey", "ca-key.pem",
             "--load-privkey", "server-key.pem", "--outfile", "server-cert.pem")


def measure_tls(folder):
    certificates = folder / "certificates"
    make_certificates(certificates)
    server = Server("tls", nbdkit("--tls=require", f"--tls-certificates={certificates}", "memory", f"{SIZE_MIB}M"),
                    folder / "tls", is_filled=False)
    uri = f"nbds+unix:///?socket={server.socket}&tls-certificates={certificates}&tls-hostname=localhost"
    theirs, ours_figures = [], []
    try:
        for number in range(ROUNDS):
            print(f"nbdkit memory over TLS: round {number + 1} of {ROUNDS}", file=sys.stderr)
            begin = time.perf_counter()
            # All of it is zeroes and not allocated: it is to be read nevertheless.
            subprocess.run(["nbdcopy", "--no-extents", "--connections=4", uri, "null:"], check=True)
            theirs.append((SIZE_MIB << 20) / (time.perf_counter() - begin) / 1e6)
            figures = run_ours(uri, "async", "read", 256 << 10, 64, connections=4)
            ours_figures.append(figures["bytes_per_second"] / 1e6)
    finally:
        server.stop()
    print(f"\nnbdkit memory over TLS (X.509), 256 KiB read: nbdcopy {median(theirs):.0f} MB/s, async {median(ours_figures):.0f} "
          f"MB/s ({median_ratio(ours_figures, theirs):.2f}x, target: >= 0.8x)")


def main():
    chosen = [name for name in os.environ.get("ROWS", "").split(",") if name]
    rows = [row for row in ROWS if not chosen or row.name in chosen]
    connections, tls = (not chosen or name in chosen for name in ("connections", "tls"))
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
        for name, command in servers.items() if rows or connections else ():
            server = Server(name, command, folder / name.replace(" ", "-"))
            try:
                if rows:
                    measure(server, rows)
                if connections:
                    measure_connections(server)
            finally:
                server.stop()
        if tls:
            measure_tls(folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
