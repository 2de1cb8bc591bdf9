# SPDX-License-Identifier: BSD-3-Clause
"""Plots of a run's results, SVG by gnuplot."""

import re
import statistics
import subprocess

STYLE = """set terminal svg size 760,{height} font "sans-serif,12" \
background "white"
set output "{path}"
set title "{title}"
set border 3
set tics nomirror
set grid {grid} lc rgb "#dddddd"
"""
COLOURS = ("#2468a0", "#b0b0b0", "#d08030", "#70a050", "#907090")


def gnuplot(script):
    subprocess.run(["gnuplot"], input=script, text=True, check=True)


def table(rows):
    """Inline data for gnuplot; a label is quoted."""
    return "\n".join(" ".join(f'"{c}"' if isinstance(c, str) else f"{c:g}"
                              for c in row) for row in rows)


def bars(path, title, ylabel, results, names):
    """Groups of bars: a group for each result, a bar for each series."""
    rows = [(r.row.title.replace(", ", "\\n", 1),
             *((r.median(n) if n in r.runs else 0) for n in names))
            for r in results]
    script = STYLE.format(path=path, title=title, grid="y", height=420)
    script += f"""set style data histograms
set style fill solid
set boxwidth 0.9
set ylabel "{ylabel}"
set yrange [0:*]
set key outside right top vertical
set xtics font ",10"
$data << END
{table(rows)}
END
plot """
    script += ", ".join(
        f'$data using {i + 2}:xtic(1) title "{name}" lc rgb "{COLOURS[i]}"'
        for i, name in enumerate(names))
    gnuplot(script + "\n")


def lines(path, title, xlabel, ylabel, curves):
    """curves: name -> [(x, y)], both axes logarithmic."""
    script = STYLE.format(path=path, title=title, grid="x y", height=360)
    script += f"""set logscale xy
set logscale x 2
set xlabel "{xlabel}"
set ylabel "{ylabel}"
set key outside right top vertical
"""
    for i, points in enumerate(curves.values()):
        script += f"$d{i} << END\n{table(points)}\nEND\n"
    script += "plot " + ", ".join(
        f'$d{i} using 1:2 with linespoints title "{name}" lw 2 '
        f'lc rgb "{COLOURS[i % len(COLOURS)]}"'
        for i, name in enumerate(curves))
    gnuplot(script + "\n")


def relative(results, base):
    """The results as multiples of a series of theirs."""
    class Relative:
        def __init__(self, result):
            self.row, self.runs = result.row, result.runs
            self.result = result

        def median(self, name):
            return statistics.median(self.result.ratios(name, base))
    return [Relative(r) for r in results]


def draw(directory, results):
    """All the plots for which there are results; returns their names."""
    made = []

    def path(name):
        made.append(name)
        return f"{directory}/{name}"

    first = [r for r in results if "first touch" in r.row.title and
             r.row.section == "guest writes"]
    if first:
        bars(path("first-touch.svg"), "Guest writes, first touch",
             "times QEMU's rate", relative(first, "qemu"), ("cbw", "qemu"))
    steady = [r for r in results if r.row.section == "guest writes" and
              "first touch" not in r.row.title]
    if steady:
        bars(path("steady.svg"), "Guest writes: no snapshot, and all copied",
             "times nbdkit without the filter", relative(steady, "nbdkit"),
             ("cbw", "nbdkit", "qemu"))
    view = [r for r in results if r.row.section == "the view"]
    if view:
        bars(path("view.svg"), "Reading the view",
             "times nbdkit's file plugin read directly",
             relative(view, "nbdkit"), ("cbw", "nbdkit", "qemu"))
    curves, sizes = {}, {}
    for r in results:
        found = re.match(r"(.*), clusters of (\d+)k", r.row.title)
        if found and r.row.unit == "IOPS":
            for name in r.runs:
                curves.setdefault(f"{name}, {found[1]}", []).append(
                    (int(found[2]), r.median(name)))
        found = re.match(r"(\w+), (\d+) ([GT])iB", r.row.title)
        if found and r.row.section == "sparse disks":
            gib = int(found[2]) * (1024 if found[3] == "T" else 1)
            sizes.setdefault(found[1], []).append((gib, r.median("cbw")))
    if curves:
        lines(path("clusters.svg"), "First touch by cluster size",
              "cluster size, KiB (QEMU: at least 64)", "writes/s", curves)
    if sizes:
        lines(path("sizes.svg"), "Sparse disks", "disk, GiB", "ms", sizes)
    return made
