"""Whole processes side by side: wall and processor time, peak memory, and how much others took meanwhile."""

from __future__ import annotations

import os
import statistics
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Taken:
    """What one run took: seconds, peak bytes, and the cores that were busy with something else (None: not known)."""

    wall: float
    user: float
    system: float
    peak: int
    others: float | None


def measure(command: Sequence[str], environment: Mapping[str, str]) -> Taken:
    """Run a command to its end. Raises ``SystemExit`` with what it said where it fails."""
    busy, started = _busy(), time.perf_counter()
    with subprocess.Popen(
        command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    ) as child:
        said = child.stderr.read() if child.stderr else ""
        _, status, usage = os.wait4(child.pid, 0)
        child.returncode = os.waitstatus_to_exitcode(status)
    wall, after = time.perf_counter() - started, _busy()
    if child.returncode:
        raise SystemExit(f"{' '.join(command)}\nfailed:\n{said[-2000:]}")
    own = usage.ru_utime + usage.ru_stime
    others = None if busy is None or after is None else max(0.0, (after - busy - own) / wall)
    return Taken(wall, usage.ru_utime, usage.ru_stime, usage.ru_maxrss << 10, others)


def table(taken: Mapping[str, Sequence[Taken]], baseline: str, peers: Sequence[str]) -> None:
    """Print a row per case: medians, and how many times the baseline's wall time it takes and is faster than peers."""
    walls = {name: statistics.median(run.wall for run in runs) for name, runs in taken.items() if runs}
    width = max(map(len, walls), default=0) + 2
    peers = [peer for peer in peers if peer in walls]
    columns = ["min", "wall", "max", "user", "sys", "peak MB", "others", f"× {baseline}"]
    print(f"{'':{width}}" + "".join(f"{c:>10}" for c in columns) + "".join(f"{f'{p} ×':>12}" for p in peers))
    for name, wall in walls.items():
        runs = taken[name]
        others = [run.others for run in runs if run.others is not None]
        cells = [
            f"{min(run.wall for run in runs):10.2f}{wall:10.2f}{max(run.wall for run in runs):10.2f}",
            f"{statistics.median(run.user for run in runs):10.2f}",
            f"{statistics.median(run.system for run in runs):10.2f}",
            f"{max(run.peak for run in runs) / 1e6:10.0f}",
            f"{statistics.median(others):10.2f}" if others else f"{'?':>10}",
            f"{wall / walls[baseline]:10.2f}" if baseline in walls else "",
            "".join(f"{walls[peer] / wall:12.2f}" for peer in peers),
        ]
        print(f"{name:{width}}{''.join(cells)}")


def _busy() -> float | None:
    """Seconds that all processors have spent in all processes, where the system tells."""
    try:
        counts = Path("/proc/stat").read_text().splitlines()[0].split()[1:]
    except OSError:
        return None
    user, nice, system, _, _, irq, softirq, *_ = map(int, counts)
    return float(user + nice + system + irq + softirq) / os.sysconf("SC_CLK_TCK")
