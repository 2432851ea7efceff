#!/usr/bin/env python3
"""Side by side: nbdserve, nbdkit and qemu-nbd under fio's NBD client, and the copy of a sparse disk onto itself.

As in bench.py, short slices run interleaved, round by round, and all share the processors.

Environment: ROUNDS (5), SECONDS per slice (1), ROWS (comma-separated names; all by default), COPY_ROUNDS (3),
NBDSERVE_BIN (out/nbdserve).
"""

import os
import re
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from bench import ROOT, ROUNDS, SECONDS, SIZE_MIB, Row, end_process, median, median_ratio, run_slice, wait_until

OURS = Path(os.environ.get("NBDSERVE_BIN") or ROOT / "out/nbdserve")
COPY_ROUNDS = int(os.environ.get("COPY_ROUNDS") or 3)

RANDOM_4K = ["--bs=4k", "--iodepth=32"]
ROWS = [
    Row("rread32", "4 KiB random read, depth 32", "IOPS", 1.0, ["--rw=randread", *RANDOM_4K]),
    Row("rwrite32", "4 KiB random write, depth 32", "IOPS", 1.0, ["--rw=randwrite", *RANDOM_4K]),
    Row("rread1", "4 KiB random read, depth 1", "IOPS", 0.9, ["--rw=randread", "--bs=4k"]),
    Row("rwrite1", "4 KiB random write, depth 1", "IOPS", 0.9, ["--rw=randwrite", "--bs=4k"]),
    Row("read8", "256 KiB read, depth 8", "MB/s", 1.0, ["--rw=read", "--bs=256k", "--iodepth=8"]),
    Row("write8", "256 KiB write, depth 8", "MB/s", 1.0, ["--rw=write", "--bs=256k", "--iodepth=8"]),
]


class Server:
    """A server on a Unix socket. The command line gets SOCKET, PIDFILE and IMAGE filled in."""

    def __init__(self, name, command, folder, is_filled=True):
        self.name = name
        self.folder = folder
        folder.mkdir(parents=True)
        self.socket = folder / "nbd.sock"
        self.uri = f"nbd+unix:///?socket={self.socket}"
        self.pid_file = folder / "pid"
        self.log = folder / "log"
        self.command = [
            str(word).replace("SOCKET", str(self.socket)).replace("PIDFILE", str(self.pid_file))
            .replace("IMAGE", str(folder / "image")) for word in command]
        if "IMAGE" in command:
            (folder / "image").touch()
            os.truncate(folder / "image", SIZE_MIB << 20)
        self.start()
        if is_filled:
            subprocess.run(
                ["nbdcopy", "--", "[", "nbdkit", "--exit-with-parent", "random", f"{SIZE_MIB}M", "seed=1", "]", self.uri],
                check=True)

    def start(self):
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(self.command, stdout=log, stderr=log)
        wait_until(self.pid_file.exists, self.process, self.log)

    def fio(self, row):
        return [*row.fio, "--ioengine=nbd", f"--uri={self.uri}"]

    def peak_memory_mib(self):
        return int(re.search(r"VmHWM:\s+(\d+)", Path(f"/proc/{self.process.pid}/status").read_text())[1]) / 1024

    def statistics(self):
        """Our program's own counters, which it prints on SIGUSR1."""
        before = self.log.read_text().count("statistics: ")
        self.process.send_signal(signal.SIGUSR1)
        wait_until(lambda: self.log.read_text().count("statistics: ") > before, self.process, self.log)
        line = self.log.read_text().rpartition("statistics: ")[2]
        return {name: int(value) for name, value in re.findall(r"(\w+)=(\d+)", line)}

    def stop(self):
        end_process(self.process)


def ours(*backend):
    return [OURS, *backend, "--unix", "SOCKET", "--pidfile", "PIDFILE"]


def nbdkit(*plugin):
    return ["nbdkit", "-f", "-U", "SOCKET", "-P", "PIDFILE", *plugin]


GROUPS = {
    "memory": {
        "nbdserve": ours("memory", f"{SIZE_MIB}M"),
        "nbdkit": nbdkit("memory", f"{SIZE_MIB}M"),
    },
    "file": {
        "nbdserve": ours("file", "IMAGE"),
        "nbdkit": nbdkit("file", "IMAGE"),
        "qemu-nbd": ["qemu-nbd", "-t", "-e", "8", "-f", "raw", "-k", "SOCKET", "--pid-file", "PIDFILE", "IMAGE"],
    },
}

# 1 % of 1 TiB is data, for the sake of time.
COPY_GROUP = {
    "nbdserve": ours("sparse-random", "1T", "--percent", "1"),
    "nbdkit": nbdkit("sparse-random", "1T", "percent=1"),
}


def measure_group(name, commands, rows, folder):
    servers = []
    try:
        for server, command in commands.items():
            servers.append(Server(server, command, folder / name / server))
        figures = {row.name: {} for row in rows}
        for number in range(ROUNDS):
            print(f"{name}: round {number + 1} of {ROUNDS}", file=sys.stderr)
            for row in rows:
                for server in servers[number % len(servers):] + servers[:number % len(servers)]:
                    figures[row.name].setdefault(server.name, []).append(run_slice(server, row)[0])
        print(f"\n{name:34}{'':6}" + "".join(f"{server.name:>20}" for server in servers) + f"{'target':>10}")
        for row in rows:
            line(row, figures[row.name], servers)
        print_allocated(servers[0], rows)
    finally:
        for server in servers:
            server.stop()


def line(row, values, servers):
    """The figure of each server; behind the others' how many times as fast ours is."""
    own = values["nbdserve"]
    cells = []
    for server in servers:
        text = f"{median(values[server.name]):.0f}"
        if server.name != "nbdserve":
            text += f" ({median_ratio(own, values[server.name]):.2f}x)"
        cells.append(f"{text:>20}")
    print(f"{row.title:34}{row.unit:>5} " + "".join(cells) + f"{'>= ' + str(row.target) + 'x':>10}", flush=True)


def print_allocated(server, rows):
    row = rows[0]
    run_slice(server, row)
    first = server.statistics()
    run_slice(server, row)
    second = server.statistics()
    requests = second["requests"] - first["requests"]
    if requests:
        allocated = (second["allocated_bytes"] - first["allocated_bytes"]) / requests
        print(f"allocated for each request in steady state: {allocated:.3f} bytes, those of the connection included (target: 0)")


def measure_copy(folder):
    """The C nbdcopy copies a sparse disk onto itself."""
    servers = []
    times = {}
    try:
        for name, command in COPY_GROUP.items():
            servers.append(Server(name, command, folder / "copy" / name, is_filled=False))
        for number in range(COPY_ROUNDS):
            print(f"copy: round {number + 1} of {COPY_ROUNDS}", file=sys.stderr)
            for server in servers[number % len(servers):] + servers[:number % len(servers)]:
                begin = time.perf_counter()
                subprocess.run(["nbdcopy", server.uri, server.uri], check=True)
                times.setdefault(server.name, []).append(time.perf_counter() - begin)
        print("\nsparse-random 1T, 1 % data, copied onto itself by nbdcopy")
        for server in servers:
            print(f"    {server.name:12}{median(times[server.name]):8.1f} s{server.peak_memory_mib():10.1f} MiB at most")
        ratio = median_ratio(times["nbdserve"], times["nbdkit"])
        print(f"    nbdserve needs {ratio:.2f}x the time (target: <= 1.1x) and should need at most 64 MB")
    finally:
        for server in servers:
            server.stop()


def first_byte(path):
    """Connects, chooses the default export and reads 512 bytes."""
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(path))
        stream = client.makefile("rb")
        stream.read(18)
        client.sendall(struct.pack(">I8sII", 3, b"IHAVEOPT", 1, 0))
        stream.read(10)
        client.sendall(struct.pack(">IHHQQI", 0x25609513, 0, 0, 1, 0, 512))
        return len(stream.read(16 + 512)) == 16 + 512


def measure_start(folder):
    folder = folder / "start"
    folder.mkdir()
    times = {}
    for number in range(max(ROUNDS, 5)):
        for name, command in GROUPS["memory"].items():
            path = folder / f"{name}{number}"
            words = [str(word).replace("SOCKET", str(path)).replace("PIDFILE", str(path) + ".pid") for word in command]
            begin = time.perf_counter()
            process = subprocess.Popen(words, stdout=subprocess.DEVNULL)
            try:
                wait_until(lambda: is_served(path), process)
                times.setdefault(name, []).append((time.perf_counter() - begin) * 1000)
            finally:
                process.terminate()
                process.wait()
    print("\nstart to first byte: " + ", ".join(f"{name} {median(values):.1f} ms" for name, values in times.items())
          + " (target: <= 50 ms)")


def is_served(path):
    try:
        return first_byte(path)
    except OSError:
        return False


def main():
    if not OURS.exists():
        sys.exit(f"bench: {OURS} does not exist: run make")
    chosen = os.environ.get("ROWS", "")
    rows = [row for row in ROWS if not chosen or row.name in chosen.split(",")]
    folder = Path(tempfile.mkdtemp(prefix="nbdserve-bench-"))
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    print(f"\n{os.cpu_count()} CPUs, Linux {os.uname().release}; {ROUNDS} rounds of {SECONDS} s; medians "
          "(and the median of the rounds' ratios of nbdserve to the other)")
    try:
        for name, commands in GROUPS.items():
            if rows and all(shutil.which(str(command[0])) for command in commands.values()):
                measure_group(name, commands, rows, folder)
        measure_start(folder)
        if COPY_ROUNDS:
            measure_copy(folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
