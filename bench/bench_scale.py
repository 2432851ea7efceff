#!/usr/bin/env python3
"""Many readers: 1,000 threads read one file of 8 EiB from front to back, each somewhere else.

Over /dev/fuse there are 64 connections; over io_uring the usual number, because each needs a processor of its own.
Prints how fast the slowest reader is compared with the median, and how much memory our program took before, at most, and
when the readers are gone: the blocks that are read ahead stay within their cap, and nobody starves. The resident size
counts the memory of a ring's entries twice, because it is mapped twice; the proportional size (PSS) counts it once.

Environment: READERS (1000), SECONDS (5), NBDFUSE_BIN (out/nbdfuse), NBDSERVE_BIN (out/nbdserve).
"""

import json
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
READERS = int(os.environ.get("READERS") or 1000)
SECONDS = int(os.environ.get("SECONDS") or 5)
IDLE_SECONDS = 3
TRANSPORTS = {"device": ["--transport=device", "-C", "64"], "uring": ["--transport=uring"]}
# The largest that a file can have, in whole pages.
SIZE = (1 << 63) - 4096
NBDFUSE = os.environ.get("NBDFUSE_BIN") or ROOT / "out/nbdfuse"
NBDSERVE = os.environ.get("NBDSERVE_BIN") or ROOT / "out/nbdserve"


def wait_for(condition, process):
    deadline = time.monotonic() + 20
    while not condition():
        if process.poll() is not None or time.monotonic() > deadline:
            sys.exit(f"bench_scale: {process.args[0]} did not start")
        time.sleep(0.01)


def memory_mib(process):
    """Resident and proportional size."""
    rollup = Path(f"/proc/{process.pid}/smaps_rollup").read_text()
    return [int(re.search(rf"^{name}:\s+(\d+)", rollup, re.M)[1]) / 1024 for name in ("Rss", "Pss")]


def readers(file):
    """Runs all readers; returns the bytes per second of each."""
    result = subprocess.run(
        ["fio", "--name=reader", "--thread", f"--numjobs={READERS}", "--rw=read", "--bs=128k", "--direct=1",
         "--ioengine=psync", "--size=1T", "--offset_increment=4P", "--time_based", f"--runtime={SECONDS}",
         "--allow_file_create=0", "--output-format=json", f"--filename={file}"],
        capture_output=True, text=True, timeout=SECONDS + 120)
    if result.returncode != 0:
        sys.exit(f"bench_scale: fio failed:\n{result.stderr[-500:]}")
    jobs = json.loads(result.stdout[result.stdout.index("{"):])["jobs"]
    return [job["read"]["bw_bytes"] for job in jobs]


def measure(transport):
    """Returns the rates of all readers, and the memory before, at most, and when idle again."""
    folder = Path(tempfile.mkdtemp(prefix="nbdfuse-scale-"))
    processes = []
    peak = [0.0, 0.0]
    try:
        server = subprocess.Popen([NBDSERVE, "--unix", folder / "s", "null", str(SIZE)], stdout=subprocess.DEVNULL)
        processes.append(server)
        wait_for((folder / "s").exists, server)
        file = folder / "mnt/disk"
        file.parent.mkdir()
        daemon = subprocess.Popen(
            [NBDFUSE, "-P", folder / "pid", *TRANSPORTS[transport], file, "--unix", folder / "s"])
        processes.append(daemon)
        wait_for((folder / "pid").exists, daemon)
        before = memory_mib(daemon)
        over = threading.Event()

        def watch():
            nonlocal peak
            while not over.wait(0.05):
                peak = [max(pair) for pair in zip(peak, memory_mib(daemon))]

        watcher = threading.Thread(target=watch)
        watcher.start()
        rates = readers(file)
        over.set()
        watcher.join()
        time.sleep(IDLE_SECONDS)
        return rates, before, peak, memory_mib(daemon)
    finally:
        for process in reversed(processes):
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        subprocess.run(["fusermount3", "-u", "-z", folder / "mnt"], stderr=subprocess.DEVNULL)
        shutil.rmtree(folder, ignore_errors=True)


def column(transport):
    rates, *memory = measure(transport)
    median, slowest = statistics.median(rates), min(rates)
    return [
        transport,
        f"{len(rates)}",
        f"{sum(rates) / 1e6:.0f}",
        f"{median / 1e6:.2f}",
        f"{slowest / 1e6:.2f}",
        f"{median / max(slowest, 1):.1f}",
        *(f"{rss:.0f} / {pss:.0f}" for rss, pss in memory),
    ]


def main():
    rows = ["", "readers", "all, MB/s", "median, MB/s", "slowest, MB/s", "median/slowest (target: <= 5)",
            "RSS / PSS before, MiB", "at most", f"{IDLE_SECONDS} s after the readers"]
    for cells in zip(rows, *(column(transport) for transport in TRANSPORTS)):
        print(f"{cells[0]:32}" + "".join(f"{cell:>16}" for cell in cells[1:]))


if __name__ == "__main__":
    main()
