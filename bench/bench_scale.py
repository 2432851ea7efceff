#!/usr/bin/env python3
"""Many readers: 1,000 threads read one file of 8 EiB from front to back, each somewhere else, over 64 connections.

Prints how fast the slowest reader is compared with the median, and how much memory our program took: the blocks that
are read ahead stay within their cap, and nobody starves.

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
CONNECTIONS = 64
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


def memory_mib(process, name):
    status = Path(f"/proc/{process.pid}/status").read_text()
    return int(re.search(rf"{name}:\s+(\d+)", status)[1]) / 1024


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


def main():
    folder = Path(tempfile.mkdtemp(prefix="nbdfuse-scale-"))
    processes = []
    peak = 0.0
    try:
        server = subprocess.Popen([NBDSERVE, "--unix", folder / "s", "null", str(SIZE)], stdout=subprocess.DEVNULL)
        processes.append(server)
        wait_for((folder / "s").exists, server)
        file = folder / "mnt/disk"
        file.parent.mkdir()
        daemon = subprocess.Popen([NBDFUSE, "-P", folder / "pid", "-C", str(CONNECTIONS), file, "--unix", folder / "s"])
        processes.append(daemon)
        wait_for((folder / "pid").exists, daemon)
        before = memory_mib(daemon, "VmRSS")
        over = threading.Event()

        def watch():
            nonlocal peak
            while not over.wait(0.05):
                peak = max(peak, memory_mib(daemon, "VmRSS"))

        watcher = threading.Thread(target=watch)
        watcher.start()
        rates = readers(file)
        over.set()
        watcher.join()
        median, slowest = statistics.median(rates), min(rates)
        print(f"{len(rates)} readers, {CONNECTIONS} connections: {sum(rates) / 1e6:.0f} MB/s; median {median / 1e6:.2f} MB/s, "
              f"slowest {slowest / 1e6:.2f} MB/s: {median / max(slowest, 1):.1f} times slower (target: <= 5)")
        print(f"memory: {before:.0f} MiB before, at most {peak:.0f} MiB")
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


if __name__ == "__main__":
    main()
