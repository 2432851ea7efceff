#!/usr/bin/env python3
"""What knowing the holes is worth, next to the C nbdfuse, and what it costs.

  cp      "cp --sparse=always" of a 16 GiB image with 1 % of data (target: 20 times as fast as the C nbdfuse)
  stat    the first stat(2) after mounting "nbdserve sparse-random 1T" (target: at most 5 ms)
  walk    all extents of the same disk by SEEK_DATA and SEEK_HOLE
  map     4 KiB random reads and writes at depth 32 after all holes were asked for, next to before (target: within noise)

Runs are interleaved, medians are told. Environment: ROUNDS (5), SECONDS per slice of fio (1), ROWS (comma-separated),
NBDFUSE_BIN (out/nbdfuse), NBDSERVE_BIN (out/nbdserve).
"""

import contextlib
import json
import os
import shutil
import signal
import statistics
import subprocess
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
ROUNDS = int(os.environ.get("ROUNDS") or 5)
SECONDS = int(os.environ.get("SECONDS") or 1)
ROWS = (os.environ.get("ROWS") or "cp,stat,walk,map").split(",")
OURS = os.environ.get("NBDFUSE_BIN") or str(ROOT / "out/nbdfuse")
SERVER = os.environ.get("NBDSERVE_BIN") or str(ROOT / "out/nbdserve")
THEIRS = shutil.which("nbdfuse")
GIB = 1 << 30


@contextlib.contextmanager
def mounted(folder, program, *source):
    """The file that shows the source."""
    point = Path(tempfile.mkdtemp(dir=folder))
    pid_file = Path(f"{point}.pid")
    process = subprocess.Popen([program, "-P", pid_file, point / "disk", *source], stderr=subprocess.DEVNULL)
    try:
        while not pid_file.exists() or pid_file.stat().st_size == 0:
            if process.poll() is not None:
                raise RuntimeError(f"{program} ended")
            time.sleep(0.005)
        yield point / "disk"
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait()


@contextlib.contextmanager
def served(folder, *arguments):
    """The URI of a server of ours."""
    path = Path(tempfile.mkdtemp(dir=folder)) / "socket"
    process = subprocess.Popen([SERVER, "--unix", path, *arguments], stdout=subprocess.DEVNULL)
    try:
        while not path.exists():
            time.sleep(0.005)
        yield f"nbd+unix:///?socket={path}"
    finally:
        process.terminate()
        process.wait()


def show(row, name, value, unit, note=""):
    print(f"{row:6} {name:26} {value:12.2f} {unit:5} {note}", flush=True)


def fill(uri):
    """One percent of data, in pieces of 1 MiB."""
    commands = []
    for i in range(160):
        commands += ["-c", f"write -q -P {i % 255 + 1} {i * 100 + 50}M 1M"]
    subprocess.run(["qemu-io", "-f", "raw", *commands, uri], check=True, stdout=subprocess.DEVNULL)


def bench_cp(folder):
    peers = {"nbdfuse": OURS} | ({"C nbdfuse": THEIRS} if THEIRS else {})
    times = {name: [] for name in peers}
    with served(folder, "memory", "16G") as uri:
        fill(uri)
        # One of the C program takes many seconds.
        for _ in range(min(ROUNDS, 3)):
            for name, program in peers.items():
                with mounted(folder, program, uri) as file:
                    copy = folder / "copy"
                    begin = time.perf_counter()
                    subprocess.run(["cp", "--sparse=always", file, copy], check=True)
                    times[name].append(time.perf_counter() - begin)
                    copy.unlink()
    medians = {name: statistics.median(taken) for name, taken in times.items()}
    for name, taken in medians.items():
        note = f"x{medians['C nbdfuse'] / taken:.1f} (target x20)" if name == "nbdfuse" and THEIRS else ""
        show("cp", name, taken, "s", note)


def bench_stat(folder):
    times = []
    with served(folder, "sparse-random", "1T") as uri:
        for _ in range(max(ROUNDS, 5)):
            with mounted(folder, OURS, uri) as file:
                begin = time.perf_counter()
                os.stat(file)
                times.append((time.perf_counter() - begin) * 1000)
    show("stat", "nbdfuse", statistics.median(times), "ms", f"slowest {max(times):.2f} ms (target 5 ms)")


def bench_walk(folder):
    times = []
    extents = 0
    with served(folder, "sparse-random", "1T") as uri:
        for _ in range(ROUNDS):
            with mounted(folder, OURS, uri) as file:
                fd = os.open(file, os.O_RDONLY)
                begin = time.perf_counter()
                position, extents = 0, 0
                with contextlib.suppress(OSError):
                    while True:
                        position = os.lseek(fd, os.lseek(fd, position, os.SEEK_DATA), os.SEEK_HOLE)
                        extents += 1
                times.append((time.perf_counter() - begin) * 1000)
                os.close(fd)
    show("walk", f"nbdfuse, {extents} extents", statistics.median(times), "ms")


def iops(file, how):
    out = subprocess.run(
        ["fio", "--name=x", f"--filename={file}", f"--rw={how}", "--bs=4k", "--iodepth=32", "--direct=1",
         "--ioengine=libaio", "--size=512M", "--time_based", f"--runtime={SECONDS}", "--output-format=json"],
        check=True, capture_output=True, text=True).stdout
    return json.loads(out)["jobs"][0]["read" if how == "randread" else "write"]["iops"]


def bench_map(folder):
    """The other half of the disk has 4096 extents. Captive servers: the map stays."""
    source = ["[", SERVER, "memory", "1G", "]"]
    with mounted(folder, OURS, *source) as without, mounted(folder, OURS, *source) as mapped:
        for file in (without, mapped):
            fd = os.open(file, os.O_WRONLY)
            for i in range(4096):
                os.pwrite(fd, b"x" * 4096, GIB // 2 + i * 65536)
            os.close(fd)
        os.close(os.open(mapped, os.O_RDONLY))
        os.stat(mapped)
        figures = {}
        for _ in range(ROUNDS):
            for how in ("randread", "randwrite"):
                for name, file in (("no map", without), ("with a map", mapped)):
                    figures.setdefault((how, name), []).append(iops(file, how))
        for (how, name), values in figures.items():
            ratio = statistics.median(values) / statistics.median(figures[how, "no map"])
            show("map", f"{how}, {name}", statistics.median(values), "IOPS", f"x{ratio:.2f}")


def main():
    with tempfile.TemporaryDirectory(prefix="bench-holes-") as name:
        for row in ROWS:
            {"cp": bench_cp, "stat": bench_stat, "walk": bench_walk, "map": bench_map}[row](Path(name))


if __name__ == "__main__":
    main()
