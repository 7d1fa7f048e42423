"""Turns rounds of numbers into tables."""

import math
from statistics import median


def table(title, header, rows):
    cells = [list(map(str, row)) for row in [header, *rows]]
    widths = [max(len(row[column]) for row in cells) for column in range(len(header))]
    lines = [f"\n{title}"]
    for row in cells:
        lines.append("  ".join(cell.ljust(width) if at == 0 else cell.rjust(width)
                               for at, (cell, width) in enumerate(zip(row, widths))))
    return "\n".join(lines)


def low_quartile(values):
    """Noise on a shared machine only ever adds CPU time, so the quiet rounds tell the cost."""
    return sorted(values)[len(values) // 4]


def cost(rounds):
    return low_quartile([entry["cpu_us"] for entry in rounds])


def cost_ratio(rounds, reference_rounds):
    return cost(rounds) / cost(reference_rounds)


def middle(rounds, *path):
    def pick(entry):
        for name in path:
            entry = entry[name]
        return entry
    return median(pick(entry) for entry in rounds)


def added(by_target, name, *path):
    """What a server adds to what it takes without one, at the median of the rounds."""
    return middle(by_target[name], *path) - middle(by_target["direct"], *path)


def geometric_mean(values):
    return math.exp(sum(map(math.log, values)) / len(values))


def cpu_table(scenario, unit, by_target, reference):
    rows = []
    for name, rounds in by_target.items():
        pairs = [mine["cpu_us"] / theirs["cpu_us"] for mine, theirs in zip(rounds, by_target[reference])]
        rows.append([name, f"{cost(rounds):.2f}", f"{cost_ratio(rounds, by_target[reference]):.3f}",
                     f"{min(pairs):.2f}..{max(pairs):.2f}",
                     f"{max(entry['per_second'] for entry in rounds):.0f}" if "per_second" in rounds[0] else "-",
                     sum(entry["failed"] for entry in rounds)])
    return table(f"CPU per {unit}, {scenario}", ["server", "us", "ratio", "of pairs", "most/s", "failed"], rows)


def stream_delay_table(by_target):
    rows = []
    for name in by_target:
        row = [name]
        for kind in ("first_event_us", "event_delay_us"):
            for at in ("p50", "p99"):
                row += [f"{added(by_target, name, kind, at):+.0f}"]
        rows.append(row)
    return table("Streaming delay added to direct, us",
                 ["server", "first p50", "first p99", "event p50", "event p99"], rows)


def latency_table(by_target, rate):
    rows = [[name, f"{middle(rounds, 'p50'):.0f}", f"{middle(rounds, 'p99'):.0f}",
             f"{added(by_target, name, 'p50'):+.0f}", f"{added(by_target, name, 'p99'):+.0f}",
             sum(entry["failed"] for entry in rounds)] for name, rounds in by_target.items()]
    return table(f"Latency of chat at {rate} requests/s, us",
                 ["server", "p50", "p99", "added p50", "added p99", "failed"], rows)


def reload_table(rounds, keys, rate):
    rows = [[name, *(f"{middle(of, at):.0f}" for at in ("p50", "p99", "max")), sum(entry["failed"] for entry in of)]
            for name, of in rounds.items()]
    again = rounds["reloading"]
    count, each = sum(entry["reloads"] for entry in again), middle(again, "reload_seconds")
    return table(f"Latency of chat at {rate} requests/s, us, with {keys} keys; {count} reloads of {each:.1f} s",
                 ["gateway", "p50", "p99", "max", "failed"], rows)


def memory_table(points_by_target):
    rows = []
    for name, points in points_by_target.items():
        (_, idle), *filled = points
        row = [name, f"{idle / 2**20:.1f}"]
        for count, resident in filled:
            row += [count, f"{resident / 2**20:.1f}", f"{(resident - idle) / max(count, 1):.0f}"]
        rows.append(row)
    steps = (max(map(len, rows)) - 2) // 3
    header = ["server", "idle MiB"] + ["streams", "MiB", "bytes/stream"] * steps
    return table("Memory with quiet open streams", header, [row + ["-"] * (len(header) - len(row)) for row in rows])
