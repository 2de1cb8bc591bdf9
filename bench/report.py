# SPDX-License-Identifier: BSD-3-Clause
"""The results: gathered as the rows run, written as Markdown and JSON."""

import json
import statistics
import sys


def number(x):
    return f"{x:.0f}" if abs(x) >= 100 else f"{x:.3g}"


class Result:
    """The figures of one row: a list of dictionaries for each series."""

    def __init__(self, row):
        self.row = row
        self.runs = {s.name: [] for s in row.series}

    def values(self, name, figure=None):
        """A figure in each round; by default the one that is compared."""
        runs = self.runs[name]
        figure = figure or next(iter(runs[0]))
        return [run[figure] for run in runs if figure in run]

    def median(self, name, figure=None):
        return statistics.median(self.values(name, figure) or [0])

    def ratios(self, name, base, figure=None):
        """One to the other in each round: what slows the machine for a
        while slows both.
        """
        return [a / b for a, b in zip(self.values(name, figure),
                                      self.values(base, figure)) if b] or [0]

    def ratio(self, peer, figure=None):
        return statistics.median(self.ratios(self.row.series[0].name, peer,
                                             figure))

    def missed(self, peer):
        floor = self.row.floors.get(peer)
        if floor is None:
            return False
        if self.row.more_is_better:
            return self.ratio(peer) < floor
        return self.ratio(peer) > floor

    def cell(self, name):
        values = self.values(name)
        text = (f"{number(statistics.median(values))} "
                f"({number(min(values))}–{number(max(values))})")
        if name == self.row.series[0].name:
            return text
        text += f": {self.ratio_text(name)}"
        if name in self.row.p99:
            text += f", p99 {self.ratio_text(name, 'p99')}"
        return text

    def ratio_text(self, peer, figure=None):
        ratios = self.ratios(self.row.series[0].name, peer, figure)
        return (f"**{self.ratio(peer, figure):.2f}** "
                f"({min(ratios):.2f}–{max(ratios):.2f})")

    def line(self):
        """The row in the table; a floor missed is marked."""
        ours, *peers = self.row.series
        floors = [f"{'≥' if self.row.more_is_better else '≤'} {floor} × {peer}"
                  f"{' ✗' if self.missed(peer) else ''}"
                  for peer, floor in self.row.floors.items()]
        floors += [f"p99 ≤ {most} × {peer}"
                   f"{' ✗' if self.ratio(peer, 'p99') > most else ''}"
                   for peer, most in self.row.p99.items() if most]
        floors = ", ".join(floors)
        cells = "; ".join(f"{s.name} {self.cell(s.name)}" for s in peers)
        return (f"| {self.row.title} | {self.cell(ours.name)} "
                f"{self.row.unit} | {cells} | {floors} |")

    def cost_lines(self):
        """CPU time and memory of each peer, where they were measured."""
        for s in self.row.series:
            if self.values(s.name, "cpu"):
                yield (f"| {self.row.title} | {s.name} | "
                       f"{self.median(s.name, 'cpu'):.2f} | "
                       f"{self.median(s.name, 'memory'):.0f} |")

    def latency_lines(self):
        for s in self.row.series:
            if self.values(s.name, "p99.9"):
                yield (f"| {self.row.title} | {s.name} | " + " | ".join(
                    number(self.median(s.name, k))
                    for k in ("p50", "p99", "p99.9", "max")) + " |")

    def as_json(self):
        return {"section": self.row.section, "title": self.row.title,
                "unit": self.row.unit,
                "more-is-better": self.row.more_is_better,
                "floors": self.row.floors,
                "ratios": {s.name: self.ratio(s.name)
                           for s in self.row.series[1:]},
                "p99-ratios": {peer: self.ratio(peer, "p99")
                               for peer in self.row.p99},
                "series": self.runs}


TABLE_HEAD = ("| work | nbdkit-cbw | beside: their figure, and ours ÷ theirs "
              "| wanted |\n| --- | --- | --- | --- |")


def markdown(about, results):
    """The whole report."""
    out = ["# Measured", ""]
    for part in ("machine", "versions", "parameters"):
        out.append(f"{part}: " + ", ".join(
            f"{k} {v}" for k, v in about[part].items()) + "  ")
    out += ["", "Medians of the rounds, with the smallest and the largest; a "
            "ratio is that of one round. ✗ marks what was not reached."]
    section = None
    for result in results:
        if result.row.section != section:
            section = result.row.section
            out += ["", f"## {section.capitalize()}", "", TABLE_HEAD]
        out.append(result.line())
    costs = [line for r in results for line in r.cost_lines()]
    if costs:
        out += ["", "## CPU time and memory of the servers", "",
                "| work | server | CPU seconds a GiB | MiB (resident, "
                "mapped segment and buffers too) |",
                "| --- | --- | --- | --- |", *costs]
    latencies = [line for r in results for line in r.latency_lines()]
    if latencies:
        out += ["", "## Latency, µs", "",
                "| work | server | p50 | p99 | p99.9 | max |",
                "| --- | --- | --- | --- | --- | --- |", *latencies]
    return "\n".join(out) + "\n"


def save(path, about, results):
    with open(f"{path}.md", "w") as f:
        f.write(markdown(about, results))
    with open(f"{path}.json", "w") as f:
        json.dump({**about, "rows": [r.as_json() for r in results]}, f,
                  indent=1)
        f.write("\n")


def compare(old, new):
    """Print how our figures changed between two runs (JSON files)."""
    runs = []
    for path in (old, new):
        with open(path) as f:
            runs.append(json.load(f))
    for part in ("machine", "parameters"):
        if runs[0][part] != runs[1][part]:
            sys.exit(f"bench: {old} and {new} cannot be compared: they are "
                     f"of different {part}: {runs[0][part]}, "
                     f"{runs[1][part]}")
    before = {(r["section"], r["title"]): r for r in runs[0]["rows"]}
    print("| work | before | after | after ÷ before |\n"
          "| --- | --- | --- | --- |")
    for row in runs[1]["rows"]:
        was = before.get((row["section"], row["title"]))
        if was is None:
            continue
        a, b = (statistics.median(next(iter(run.values()))
                                  for run in r["series"]["cbw"])
                for r in (was, row))
        print(f"| {row['title']} | {number(a)} | {number(b)} {row['unit']} "
              f"| {b / a:.2f} |")
