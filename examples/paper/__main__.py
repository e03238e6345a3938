"""Train, compose and evaluate the paper's five settings in small, and write docs/paper.md.

python -m examples.paper --from-trained             evaluates the kept modules at the λ of the kept curves
python -m examples.paper --from-trained --curves    computes the curves over λ too, and chooses λ anew
python -m examples.paper --fetch --train            fetches the texts and trains the modules that are not there
python -m examples.paper --fetch --train --into DIR trains all of them anew, in a folder of your own
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from functools import partial
from pathlib import Path

import platformdirs

if __name__ == "__main__":
    # Everything is local; a look at the Hub could only slow things down. The processes started here inherit it.
    os.environ["HF_HUB_OFFLINE"] = "1"

from examples.paper import _report, _run, corpora, initialization, writing
from examples.paper._rows import KINDS, TRAINED


def main() -> int:
    options = _options()
    there = [name for name in _run.NAMES if (Path(__file__).parent / f"{name}.py").exists()]
    names = [name for name in there if options.setting is None or _run.NUMBERS[name] in options.setting]
    kinds = tuple(kind for kind in KINDS if options.kind in (None, kind))
    modules = TRAINED if options.into is None else options.into / "trained"
    given = _run.jobs_of(names, kinds, range(options.seeds), options.home, modules)
    if options.fetch:
        corpora.fetch(options.work)
    if options.train:
        told("training what is not there")
        _run.spread(partial(_run.train, work=options.work), given, options.jobs)
    return measure(options, given) if options.train or options.from_trained else 0


def measure(options: argparse.Namespace, given: list[_run.Job]) -> int:
    """Compute the rows, keep them if modules or curves are new, and write the page."""
    into = options.into
    kept = _run.MEASURED if into is None else into / "measured.json"
    out = options.out or (Path("docs/paper.md") if into is None else into / "paper.md")
    before = _run.load(kept) if kept.exists() else _run.Measured((), (), ())
    after = before
    anew = options.train or options.curves
    if anew:
        told("composing every λ, evaluating on the validation split")
        after = _run.merged(after, _run.curves(given, options.jobs))
    told("evaluating on the test split")
    rows = _run.tables(given, after.rows, options.jobs, checking=not anew)
    other = [] if anew else _run.differences(before, rows)
    if anew or other:  # figures that are the kept ones but for rounding are left as they are
        after = _run.merged(after, rows)
    seeds = sorted({job.seed for job in given if (job.setting, job.kind) == ("distribution", "lora")})
    if anew and seeds:
        told("starting from one initialization, and from two")
        starts = _run.spread(partial(initialization.measure, modules=given[0].modules), seeds, options.jobs)
        after = _run.merged(after, (), [each for found in starts for each in found])
    if anew:
        after = _run.merged(after, written=sampled(given, after, options.jobs))
    for line in other:
        print(line, file=sys.stderr)
    if not anew:
        told(f"{len(rows)} rows: {len(other) or 'no'} figures are not the kept ones")
    if anew:
        _run.save(after, kept)
        _report.draw(after, out.parent / "images")
    out.write_text(_report.page(after), "utf-8")
    told(f"wrote {out}")
    return 1 if other else 0


def sampled(given: list[_run.Job], measured: _run.Measured, jobs: int) -> list[writing.Written]:
    """What the models write, where there is a judge."""
    asked = [job for job in given if job.setting in writing.SETTINGS]
    if asked and not writing.available():
        told("what the models write is left as it was: its judge is in the extra paper-train")
        return []
    told("sampling what the models write")
    found = _run.spread(writing.measure, _run.at_best(asked, measured.rows), jobs)
    return [each for some in found for each in some]


_STARTED = time.perf_counter()


def told(what: str) -> None:
    print(f"{time.perf_counter() - _STARTED:6.1f} s  {what}", file=sys.stderr, flush=True)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m examples.paper",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    cache = Path(platformdirs.user_cache_dir("adapter-registry")) / "paper"
    add = parser.add_argument
    add("--setting", type=int, action="append", choices=range(1, 6), help="only this one; may be repeated")
    add("--kind", choices=KINDS, help="only this kind of module")
    add("--seeds", type=int, default=3, metavar="K", help="seeds 0 to K - 1 (default: 3)")
    add("--fetch", action="store_true", help="download the texts that are not in the work folder yet")
    add(
        "--train",
        action="store_true",
        help="train the modules that are not kept yet, then measure everything",
    )
    add("--from-trained", action="store_true", help="measure the kept modules")
    add("--curves", action="store_true", help="also every λ on the validation split, and choose λ anew")
    add(
        "--into",
        type=Path,
        metavar="DIR",
        help="modules, figures and page of your own, in this folder; those of the project stay as they are",
    )
    add(
        "--out",
        type=Path,
        help="the page to write (default: docs/paper.md, or paper.md in the folder of --into)",
    )
    add(
        "--work",
        type=Path,
        default=cache,
        metavar="DIR",
        help="where fetched texts are (default: the user's cache)",
    )
    add(
        "--home", type=Path, metavar="DIR", help="keep the catalogs here, one for each setting, kind and seed"
    )
    add("--jobs", type=int, default=2, help="processes, of one thread each (default: 2)")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
