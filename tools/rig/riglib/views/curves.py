# SPDX-License-Identifier: GPL-2.0-only
"""The benchmark's curves: a table, CSV, and what gnuplot makes of them."""

import csv
import io
import itertools
import shutil
import subprocess

from .. import tables
from ..errors import Wrong
from . import text

# The curve that is drawn in characters, too.
MAIN = "change-other"
COLUMNS, LINES = 79, 24
CELL = 8			# characters, of a column in RESULTS, if its name is short
PANEL = 520, 400		# pixels
TICS = 25			# along an axis, at most
DASHES = 5			# kinds of them that gnuplot has


# What RESULTS has of the curves, and at which point.
SHOWN = (("change-same", 0), ("change-other", 1), ("change-other", 16),
          ("change-all", 16), ("vcpus-change", 64), ("rdmsr", 0), ("rdmsr", 16),
          ("wrmsr", 16), ("deadline", 0), ("deadline", 16), ("deadline-last", 16))


def values(results, variant, curve):
    """Of each point what was measured, or None."""
    figures = results.record("bench", variant).figures
    return [figures.get(name) for name in tables.points(curve).values()]


def medians(results, variant, curve):
    return [point["n"] if point else None for point in values(results, variant, curve)]


def steps(results, curve):
    """The variants whose curve is another one than that of the variant before, each
    with the last one that shares it."""
    found = []
    for variant in results.plan.variants:
        if found and medians(results, variant, curve) == medians(
                results, found[-1][0], curve):
            found[-1] = found[-1][0], variant
        else:
            found.append((variant, variant))
    return found


def lines_in_all(plan):
    """How many lines of KVM the patches up to that of each state add."""
    return dict(zip((state["name"] for state in plan.states),
                    itertools.accumulate(state["lines"] for state in plan.states)))


def span(first, last):
    return first if first == last else f"{first} .. {last}"


def as_csv(results):
    out = io.StringIO()
    table_ = csv.writer(out, lineterminator="\n")
    table_.writerow(["kernel", "vmx", "variant", "patch", "lines_added",
                     "lines_added_in_all", "curve", "x", "x_is", "unit", "of", "rounds",
                     "min", "quartile_1", "median", "quartile_3", "max",
                     "rounds_at_median"])
    plan, in_all = results.plan, lines_in_all(results.plan)
    keys = ("rounds", "min", "q1", "n", "q3", "max", "at_median")
    for state in plan.states:
        variant = state["same_as"] or state["name"]
        for curve in tables.read("curves"):
            for x, point in zip(tables.points(curve), values(results, variant, curve)):
                if point:
                    table_.writerow([
                        results.fact("host kernel"), plan.machine, state["name"],
                        state["what"], state["lines"], in_all[state["name"]], curve["name"], x,
                        curve["x"], unit(plan, curve), curve["unit"],
                        *(point[key] for key in keys)])
    return out.getvalue()


def unit(plan, curve=None):
    return "SRCU sections" if curve and curve["family"] == "srcu" \
        else plan.cpu_time.split(",")[0]


def vague(point):
    """Whether the median is none that comes again and again: as on a real CPU, and of
    the ioctl, which allocates memory and waits for SRCU, on an emulated one."""
    return 2 * point["at_median"] < point["rounds"]


def cell(point, exact):
    if not point:
        return text.number(None)
    return f"{'~' if exact and vague(point) else ''}{point['n']}"


def rows(results, curve):
    """The lines of a curve in the table: on a real CPU each has its spread, too."""
    exact, width = results.plan.exact, named(results.plan)
    for first, last in steps(results, curve):
        found = values(results, first, curve)
        yield f"  {span(first, last):<{width}}" + "".join(
            f"{cell(point, exact):>8}" for point in found)
        if not exact:
            yield f"  {'    quartiles':<{width}}" + "".join(
                f"{point['q3'] - point['q1'] if point else '':>8}" for point in found)


def named(plan):
    """The room for the names of two variants, and " .. "."""
    return max(18, 2 * max(map(len, plan.variants[1:])) + 4)


def table(results):
    """The table of "make bench"."""
    plan = results.plan
    room = max(10, *map(len, plan.variants))
    lines = ["What an MSR filter costs, patch by patch", "", *text.head(results), "",
             f"  {'variant':<{room}} {'lines':>5} {'all':>4}  the last patch in it"]
    in_all = lines_in_all(plan)
    for state in plan.states:
        same = f" [VMX: as {state['same_as']}]" if state["same_as"] else ""
        left = COLUMNS - 15 - room - len(same)
        what = state["what"]
        if len(what) > left:
            what = what[:left - 3] + "..."
        lines.append(f"  {state['name']:<{room}} {state['lines']:>5} "
                     f"{in_all[state['name']]:>4}  "
                     f"{what}{same}")
    lines += ["", "  lines: of KVM, added by the patch, its tests not among them, and in "
              "all", f"  Below: {plan.cpu_time}.  A variant that has the figures of",
              "  the one before it is not there.  bench.csv has all, and the spread."]
    lines += ["  ~: less than half of the rounds measured just that: the ioctl allocates",
              "  memory, and waits for SRCU, so that it matters what has run before"] \
        if plan.exact else ["  quartiles: how far they are apart"]
    for curve in tables.read("curves"):
        of = ", SRCU sections" if curve["family"] == "srcu" else ""
        lines += ["", f"  {curve['name']}: {curve['what']}{of}",
                  f"  {curve['x'] + ':':<{named(plan)}}" + "".join(
                      f"{x:>8}" for x in tables.points(curve)),
                  *rows(results, curve)]
    return "\n".join([*lines, *text.complaints(results)]) + "\n"


def count(n, what):
    return f"{n} {what[:-1] if n == 1 else what}"


def of_readme(results, heading):
    """Of some points what each patch changes: a column where any of them changes."""
    by_name = {curve["name"]: curve for curve in tables.read("curves")}
    found = {variant: [text.number((results.record("bench", variant).figures.get(
        f"{name} {x}") or {"n": None})["n"]) for name, x in SHOWN]
        for variant in results.plan.variants}
    shown = [variant for i, variant in enumerate(results.plan.variants)
             if not i or found[variant] != found[results.plan.variants[i - 1]]]
    lines = lines_in_all(results.plan)
    titles = ["none" if one == "unpatched" else one for one in shown]

    def row(what, cells):
        return f"  {what:<26}" + "".join(f"{cell:>{max(CELL, len(title) + 1)}}"
                                         for cell, title in zip(cells, titles))

    return [heading, "", row("patches", titles),
            row("lines of KVM, in all", [lines[variant] for variant in shown]),
            *(row(f"{name}, {count(x, by_name[name]['x'])}", [found[one][i] for one in shown])
              for i, (name, x) in enumerate(SHOWN)),
            *plain(results).rstrip("\n").split("\n"), ""]


# ---- gnuplot

def quoted(words):
    return '"' + words.replace("\\", "").replace('"', "'") + '"'


def tics(points):
    """Of the points along an axis, those that there is room to name."""
    room = (max(points) - min(points)) / TICS
    shown = []
    for x in points:
        if not shown or x - shown[-1] >= room:
            shown.append(x)
    return shown


def plot(results, curve, number):
    """The commands for one curve: its data, its axes, a line for each step."""
    plan, points = results.plan, tables.points(curve)
    lines = lines_in_all(plan)
    said, drawn = [], []
    for i, (first, last) in enumerate(steps(results, curve)):
        name = f"$data{number}_{i}"
        came = [(x, point) for x, point in zip(points, values(results, first, curve))
                if point]
        if not came:
            continue
        said += [f"{name} << EOD", *(f"{x} {point['q1']} {point['n']} {point['q3']}"
                                     for x, point in came), "EOD"]
        spread = not plan.exact or any(vague(point) for _, point in came)
        how = "1:3:2:4 with yerrorlines" if spread else "1:3 with linespoints"
        title = f"{span(first, last)}, {lines[first]} lines"
        drawn.append(f"{name} using {how} dashtype {i % DASHES + 1} pointtype {i + 1} "
                     f"linecolor black title {quoted(title)}")
    said += [f"set title {quoted(curve['what'])}", f"set xlabel {quoted(curve['x'])}",
             f"set ylabel {quoted(unit(plan, curve) + ', ' + curve['unit'])}",
             f"set xtics ({', '.join(map(str, tics(points)))})"]
    return said + ["plot " + ", \\\n     ".join(drawn)] if drawn else []


def gnuplot(commands):
    if not shutil.which("gnuplot"):
        raise Wrong("gnuplot is not here: make setup")
    done = subprocess.run(["gnuplot"], input="\n".join(commands) + "\n",
                          capture_output=True, text=True, check=False)
    if done.returncode:
        said = [line for line in done.stderr.split("\n") if line.strip()]
        raise Wrong(f"gnuplot: {said[-1] if said else 'it fails'}")
    return done.stdout


HEAD = ("set encoding utf8", "set yrange [0:*]",
        "set key outside below left reverse Left maxcols 2")


def draw(results, out):
    """An SVG for each family of curves; lines differ in their dashes and points."""
    families = {}
    for curve in tables.read("curves"):
        families.setdefault(curve["family"], []).append(curve)
    for family, members in families.items():
        plots = [plot(results, curve, i) for i, curve in enumerate(members)]
        plots = [one for one in plots if one]
        path = out / f"{family}.svg"
        path.unlink(missing_ok=True)
        if not plots:
            continue
        wide = 2 if len(plots) > 1 else 1
        high = -(-len(plots) // wide)
        gnuplot([f"set terminal svg noenhanced size {PANEL[0] * wide},"
                 f"{PANEL[1] * high} font 'sans,11' background 'white' dashlength 1.5",
                 f"set output {quoted(str(path))}", *HEAD,
                 f"set multiplot layout {high},{wide}",
                 *(line for one in plots for line in one), "unset multiplot"])


def plain(results):
    """The main curve in characters."""
    curve = next(row for row in tables.read("curves") if row["name"] == MAIN)
    commands = plot(results, curve, 0)
    if not commands:
        return ""
    # Characters cannot stand on their side, and a title that is long is left out.
    commands = [one for one in commands if not one.startswith(("set ylabel",
                                                               "set title"))]
    said = gnuplot([f"set terminal dumb noenhanced size {COLUMNS},{LINES}", *HEAD,
                    "set key default bottom right", *commands])
    lines = [line.rstrip() for line in said.replace("\f", "\n").split("\n")]
    return "\n".join(["", f"  {curve['name']}: {unit(results.plan)}, {curve['unit']}",
                      *"\n".join(lines).strip("\n").split("\n"), ""])
