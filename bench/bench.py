#!/usr/bin/env python3
"""Side by side: nbdfuse, the programs it is compared with, and no FUSE at all.

Every peer has its own "nbdkit memory" on a Unix socket, filled with data. Short fio slices run interleaved, round
by round, so that a machine that gets slower or faster does so for all. All share the processors, so the figures
are about CPU cost; single differences under 15 % are noise. Rows with a link have servers that answer each read so
much later, and so are about waiting.

Environment: ROUNDS (5), SECONDS per slice (1, whole seconds: fio cuts fractions off), ROWS and PEERS
(comma-separated names; all by default), NBDFUSE_BIN (out/nbdfuse).
"""

import json
import os
import re
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
ROUNDS = int(os.environ.get("ROUNDS") or 5)
SECONDS = int(os.environ.get("SECONDS") or 1)
SIZE_MIB = 512
TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")
URING = Path("/sys/module/fuse/parameters/enable_uring")
OURS = Path(os.environ.get("NBDFUSE_BIN") or ROOT / "out/nbdfuse")


@dataclass
class Row:
    """One workload. The target is the ratio to the C nbdfuse that we want to reach."""

    name: str
    title: str
    unit: str
    target: float
    fio: list
    direct_fio: list = field(default_factory=list)
    drop_caches: bool = False
    link_ms: int = 0
    # What an ordinary user has: root may let the kernel read ahead more.
    kernel_read_ahead_kib: int = 0
    # Also with our read-ahead turned off, for the cost of it.
    without_read_ahead: bool = False
    # Ours with --cache=writeback, and all with an fsync at the end, whose time counts. The other programs have no such mode.
    writeback: bool = False
    uring_target: float = 0
    # Over io_uring, of what fio gets without FUSE.
    without_fuse_target: float = 0


DIRECT = ["--direct=1", "--ioengine=libaio"]
ONE_BY_ONE = ["--direct=1", "--ioengine=psync"]
# As programs read that do not tell the kernel what they will do.
BUFFERED = ["--direct=0", "--ioengine=psync", "--fadvise_hint=0"]

ROWS = [
    Row("rread32", "4 KiB random read, depth 32", "IOPS", 2.5, [*DIRECT, "--rw=randread", "--bs=4k", "--iodepth=32"],
        uring_target=4.0, without_fuse_target=0.95),
    Row("rwrite32", "4 KiB random write, depth 32", "IOPS", 2.3, [*DIRECT, "--rw=randwrite", "--bs=4k", "--iodepth=32"],
        uring_target=2.5),
    Row("rread1", "4 KiB random read, depth 1", "IOPS", 1.2, [*ONE_BY_ONE, "--rw=randread", "--bs=4k"], uring_target=1.75),
    Row("rwrite1", "4 KiB random write, depth 1", "IOPS", 1.05, [*ONE_BY_ONE, "--rw=randwrite", "--bs=4k"], uring_target=1.6),
    Row("dread", "1 MiB direct read, depth 4", "MB/s", 1.0, [*DIRECT, "--rw=read", "--bs=1M", "--iodepth=4"],
        uring_target=1.05),
    Row("dwrite", "1 MiB direct write, depth 4", "MB/s", 1.0, [*DIRECT, "--rw=write", "--bs=1M", "--iodepth=4"],
        uring_target=1.2),
    Row("sread", "1 MiB buffered sequential read", "MB/s", 1.8, [*BUFFERED, "--rw=read", "--bs=1M"],
        ["--rw=read", "--bs=256k", "--iodepth=8"], drop_caches=True),
    Row("swrite", "1 MiB buffered sequential write", "MB/s", 1.0, [*BUFFERED, "--rw=write", "--bs=1M"],
        ["--rw=write", "--bs=256k", "--iodepth=8"]),
    Row("mixed8", "16 KiB random 70/30, depth 8", "IOPS", 1.8,
        [*DIRECT, "--rw=randrw", "--rwmixread=70", "--bs=16k", "--iodepth=8"]),
]
ROWS += [
    Row("sread128", "the same, as ordinary user", "MB/s", 1.8, [*BUFFERED, "--rw=read", "--bs=1M"],
        drop_caches=True, kernel_read_ahead_kib=128),
    Row("rreadoff", "4 KiB random read, depth 1, cost", "IOPS", 1.2, [*ONE_BY_ONE, "--rw=randread", "--bs=4k"],
        without_read_ahead=True),
    *[Row(f"link{ms}", f"{ms} ms link: buffered read", "MB/s", target, [*BUFFERED, "--rw=read", "--bs=1M"],
          drop_caches=True, link_ms=ms, kernel_read_ahead_kib=128) for ms, target in ((1, 4), (10, 20), (50, 50))],
    Row("link10x2", "10 ms link: two streams", "MB/s", 20,
        [*BUFFERED, "--rw=read", "--bs=1M", "--numjobs=2", "--group_reporting", "--size=256M", "--offset_increment=256M"],
        drop_caches=True, link_ms=10, kernel_read_ahead_kib=128),
    Row("link10skip", "10 ms link: read 64K, skip 64K", "MB/s", 30, [*BUFFERED, "--rw=read:64k", "--bs=64k"],
        drop_caches=True, link_ms=10, kernel_read_ahead_kib=128),
    Row("link10rread", "10 ms link: 4 KiB random read", "IOPS", 0.95, [*ONE_BY_ONE, "--rw=randread", "--bs=4k"],
        link_ms=10, without_read_ahead=True),
]
ROWS.append(
    Row("swrite4k", "4 KiB buffered sequential write", "MB/s", 5.0,
        [*BUFFERED, "--rw=write", "--bs=4k", "--end_fsync=1"], uring_target=5.0, writeback=True))
CPU_ROW = "rread32"


class Server:
    """nbdkit's memory plugin on a Unix socket, filled with data."""

    def __init__(self, folder, link_ms):
        self.socket = folder / "nbd.sock"
        self.uri = f"nbd+unix:///?socket={self.socket}"
        pid_file = folder / "nbdkit.pid"
        # A link delays any number of requests at a time; the server's threads shall not be the limit.
        filters, delay = (["-t", "128", "--filter=delay"], [f"rdelay={link_ms}ms"]) if link_ms else ([], [])
        self.process = subprocess.Popen(
            ["nbdkit", "-f", "-U", self.socket, "-P", pid_file, *filters,
             "memory", f"{SIZE_MIB}M", "allocator=malloc", *delay])
        wait_until(pid_file.exists, self.process)
        subprocess.run(
            ["nbdcopy", "--", "[", "nbdkit", "--exit-with-parent", "random", f"{SIZE_MIB}M", "seed=1", "]", self.uri],
            check=True)

    def stop(self):
        self.process.kill()
        self.process.wait()


class Peer:
    """A program that shows the server's export as a file. This one has the C nbdfuse's command line."""

    options = []

    def __init__(self, name, program, folder, link_ms, more_options=()):
        self.name = name
        self.program = program
        self.more_options = more_options
        self.folder = folder
        self.mount_point = folder / "mnt"
        self.mount_point.mkdir(parents=True)
        self.file = self.mount_point / "disk"
        self.log = folder / "log"
        self.process = None
        self.server = Server(folder, link_ms)

    def command(self):
        return [self.program, *self.options, *self.more_options, self.file, "--unix", self.server.socket]

    def start(self):
        """Returns how many seconds it took until the first block could be read."""
        begin = time.perf_counter()
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(self.command(), stdout=log, stderr=log)
        wait_until(self.is_usable, self.process, self.log)
        return time.perf_counter() - begin

    def set_kernel_read_ahead(self, kib):
        """The kernel reads ahead so much; returns how much it did."""
        device = os.stat(self.file).st_dev
        path = Path(f"/sys/class/bdi/{os.major(device)}:{os.minor(device)}/read_ahead_kb")
        before = path.read_text()
        path.write_text(str(kib))
        return int(before)

    def is_usable(self):
        try:
            with open(self.file, "rb", buffering=0) as disk:
                return len(disk.read(4096)) == 4096
        except OSError:
            return False

    def fio(self, row):
        return [*row.fio, f"--filename={self.file}"]

    def cpu_seconds(self):
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / TICKS_PER_SECOND

    def memory_mib(self):
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(re.search(r"VmRSS:\s+(\d+)", status)[1]) / 1024

    def stop(self):
        if self.process and self.process.poll() is None:
            end_process(self.process)
        self.process = None
        mounted = Path("/proc/self/mountinfo").read_text()
        for path in (self.file, self.mount_point):
            if f" {path} " in mounted:
                subprocess.run(["fusermount3", "-u", "-z", path], stderr=subprocess.DEVNULL)

    def end(self):
        self.stop()
        self.server.stop()


class DevicePeer(Peer):
    """Ours, with its requests through /dev/fuse."""

    options = ["--transport=device"]


class UringPeer(Peer):
    """Ours, with its requests through io_uring."""

    options = ["--transport=uring"]


class QemuPeer(Peer):
    """qemu-storage-daemon's FUSE export over its NBD client. It mounts over an existing file."""

    def command(self):
        self.file.touch()
        return [self.program,
                "--blockdev", f"driver=nbd,node-name=disk,server.type=unix,server.path={self.server.socket}",
                "--export", f"type=fuse,id=disk,node-name=disk,mountpoint={self.file},writable=on"]


class WithoutReadAhead(Peer):
    """Our program over /dev/fuse, with its read-ahead turned off."""

    options = ["--transport=device", "--readahead=off"]


class NoFuse(Peer):
    """fio's own NBD client: the limit that a FUSE program with ordinary sockets can come near to."""

    def start(self):
        return None

    def fio(self, row):
        arguments = row.direct_fio or [option for option in row.fio if not option.startswith(("--direct", "--ioengine"))]
        return [*arguments, "--ioengine=nbd", f"--uri={self.server.uri}"]


def end_process(process):
    """Ends a program, by force when it takes too long."""
    process.terminate()
    try:
        process.wait(10)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def wait_until(condition, process, log=None):
    deadline = time.monotonic() + 20
    while not condition():
        if process.poll() is not None or time.monotonic() > deadline:
            sys.exit(f"bench: {process.args[0]} did not start\n{log.read_text() if log else ''}")
        time.sleep(0.0005)


def run_slice(peer, row):
    """Returns the row's figure and the bytes moved."""
    if row.kernel_read_ahead_kib and os.geteuid() == 0 and not isinstance(peer, NoFuse):
        before = peer.set_kernel_read_ahead(row.kernel_read_ahead_kib)
        try:
            return run_fio(peer, row)
        finally:
            peer.set_kernel_read_ahead(before)
    return run_fio(peer, row)


def run_fio(peer, row):
    if row.drop_caches and os.geteuid() == 0:
        Path("/proc/sys/vm/drop_caches").write_text("1")
    # A second pass would find everything in the kernel's cache.
    passes = [] if row.drop_caches else ["--time_based"]
    result = subprocess.run(
        ["fio", "--name=slice", "--thread", f"--size={SIZE_MIB}M", *passes, f"--runtime={SECONDS}",
         "--allow_file_create=0", "--fallocate=none", "--norandommap", "--randrepeat=0", "--output-format=json",
         *peer.fio(row)],
        capture_output=True, text=True, timeout=SECONDS + 60)
    if result.returncode != 0:
        sys.exit(f"bench: fio failed for {peer.name}, {row.name}:\n{result.stdout[-2000:]}{result.stderr}")
    job = json.loads(result.stdout[result.stdout.index("{"):])["jobs"][0]
    moved = job["read"]["io_bytes"] + job["write"]["io_bytes"]
    if row.unit == "IOPS":
        return job["read"]["iops"] + job["write"]["iops"], moved
    return (job["read"]["bw_bytes"] + job["write"]["bw_bytes"]) / 1e6, moved


def find_peers(folder, link_ms, rows):
    """All that are installed, the C nbdfuse first: the others are compared with it."""
    peers = []
    for directory in ["/usr/bin", *os.environ.get("PATH", "").split(":")]:
        program = shutil.which("nbdfuse", path=directory)
        if program and not OURS.samefile(program) and not is_ours(program):
            peers.append(("c-nbdfuse", Peer, program))
            break
    if shutil.which("qemu-storage-daemon"):
        peers.append(("qsd", QemuPeer, "qemu-storage-daemon"))
    peers.append(("ours", DevicePeer, OURS))
    if any(row.without_read_ahead for row in rows):
        peers.append(("ours-ra-off", WithoutReadAhead, OURS))
    if URING.exists() and URING.read_text().startswith("Y"):
        peers.append(("ours-uring", UringPeer, OURS))
    else:
        print(f"bench: without FUSE over io_uring (as root: echo Y >{URING})", file=sys.stderr)
    if not link_ms:
        peers.append(("direct", NoFuse, "fio"))
    chosen = os.environ.get("PEERS", "")
    ours = ["--cache=writeback"] if rows[0].writeback else []
    return [kind(name, program, folder / name, link_ms, ours if program == OURS else [])
            for name, kind, program in peers if not chosen or name in chosen.split(",")]


def is_ours(program):
    """Whether a program is our nbdfuse, perhaps installed: only ours has this option."""
    result = subprocess.run([program, "--long-options"], capture_output=True, text=True)
    return "--connect-timeout" in result.stdout.split()


def statistics_of(peer):
    """Our program's own counters, which it prints on SIGUSR1."""
    before = peer.log.read_text().count("nbdfuse: statistics: ")
    peer.process.send_signal(signal.SIGUSR1)
    deadline = time.monotonic() + 5
    while peer.log.read_text().count("nbdfuse: statistics: ") == before:
        if time.monotonic() > deadline:
            return None
        time.sleep(0.01)
    line = peer.log.read_text().rpartition("nbdfuse: statistics: ")[2]
    return {name: int(value) for name, value in re.findall(r"(\w+)=(\d+)", line)}


def allocated_per_request(peer):
    """Bytes that our program allocates for a request once it has warmed up; None when it cannot tell."""
    row = next(row for row in ROWS if row.name == CPU_ROW)
    run_slice(peer, row)
    samples = [statistics_of(peer), statistics_of(peer)]
    run_slice(peer, row)
    samples.append(statistics_of(peer))
    if not all(samples):
        return None
    # Printing the statistics allocates too: the first two samples say how much.
    printing = samples[1]["allocated_bytes"] - samples[0]["allocated_bytes"]
    allocated = samples[2]["allocated_bytes"] - samples[1]["allocated_bytes"] - printing
    requests = samples[2]["requests"] - samples[1]["requests"]
    return max(allocated, 0) / requests if requests else None


def median(values):
    return statistics.median(values) if values else None


def median_ratio(values, base):
    return median([value / other for value, other in zip(values, base) if other])


class Table:
    """Prints one line for each row: every peer's median, the ratio to the C nbdfuse, and what we want."""

    def __init__(self, peers):
        self.peers = peers
        print(f"{'':34}{'':6}" + "".join(f"{peer.name:>20}" for peer in peers) + f"{'target':>22}")

    def line(self, title, unit, values, target="", digits=0):
        base = values.get("c-nbdfuse")
        cells = []
        for peer in self.peers:
            own = values.get(peer.name)
            text = "-" if not own else f"{median(own):.{digits}f}"
            if own and base and peer.name != "c-nbdfuse":
                text += f" ({median_ratio(own, base):.2f}x)"
            cells.append(f"{text:>20}")
        print(f"{title:34}{unit:>5} " + "".join(cells) + f"{target:>22}", flush=True)


def main():
    chosen = os.environ.get("ROWS", "")
    rows = [row for row in ROWS if not chosen or row.name in chosen.split(",")]
    if not OURS.exists():
        sys.exit(f"bench: {OURS} does not exist: run make")
    folder = Path(tempfile.mkdtemp(prefix="nbdfuse-bench-"))
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    try:
        for link_ms, writeback in sorted({(row.link_ms, row.writeback) for row in rows}):
            alike = [row for row in rows if (row.link_ms, row.writeback) == (link_ms, writeback)]
            peers = []
            try:
                peers = find_peers(folder / f"{link_ms}ms-{writeback}", link_ms, alike)
                measure(peers, alike)
            finally:
                for peer in peers:
                    peer.end()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def measure(peers, rows):
    daemons = [peer for peer in peers if not isinstance(peer, NoFuse)]
    start, memory = {}, {}
    for _ in range(ROUNDS):
        for peer in daemons:
            peer.stop()
            start.setdefault(peer.name, []).append(peer.start() * 1000)
            memory.setdefault(peer.name, []).append(peer.memory_mib())

    figures = {row.name: {} for row in rows}
    cpu = {}
    for number in range(ROUNDS):
        print(f"round {number + 1} of {ROUNDS}", file=sys.stderr)
        for row in rows:
            # Nobody always has the same neighbour.
            for peer in peers[number % len(peers):] + peers[:number % len(peers)]:
                before = peer.cpu_seconds() if peer in daemons else 0
                figure, moved = run_slice(peer, row)
                figures[row.name].setdefault(peer.name, []).append(figure)
                if row.name == CPU_ROW and peer in daemons and moved:
                    cpu.setdefault(peer.name, []).append((peer.cpu_seconds() - before) / (moved / 1e9))

    link = f", link of {rows[0].link_ms} ms" if rows[0].link_ms else ", ours with --cache=writeback" if rows[0].writeback else ""
    print(f"\n{os.cpu_count()} CPUs, Linux {os.uname().release}; {ROUNDS} rounds of {SECONDS} s; medians{link} "
          "(and the median of the rounds' ratios to the C nbdfuse)\n")
    table = Table(peers)
    for row in rows:
        uring = f", uring {row.uring_target}x" if row.uring_target else ""
        table.line(row.title, row.unit, figures[row.name], f">= {row.target}x{uring}")
        on, off = figures[row.name].get("ours"), figures[row.name].get("ours-ra-off")
        if row.without_read_ahead and on and off:
            print(f"  of that without our read-ahead: {median_ratio(on, off):.2f} (target: >= 0.95)")
        uring, direct = figures[row.name].get("ours-uring"), figures[row.name].get("direct")
        if row.without_fuse_target and uring and direct:
            print(f"  over io_uring, of fio without FUSE: {median_ratio(uring, direct):.2f} "
                  f"(target: >= {row.without_fuse_target})")
    if rows[0].link_ms or rows[0].writeback:
        return
    table.line("daemon's CPU for 1 GB in 4 KiB", "s", cpu, "<= 0.4x, uring 0.15x", digits=2)
    table.line("start until usable", "ms", start, "<= 1.5x", digits=1)
    table.line("resident memory after start", "MiB", memory, "<= 40 MB", digits=1)

    for peer in daemons:
        if peer.program == OURS and is_ours(peer.program):
            allocated = allocated_per_request(peer)
            text = "no statistics" if allocated is None else f"{allocated:.3f} bytes (target: 0)"
            print(f"{peer.name}: allocated for each request in steady state: {text}")


if __name__ == "__main__":
    main()
