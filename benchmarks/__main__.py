"""``python -m benchmarks [NAME …]``: run the named benchmarks, or all of them."""

import importlib
import pkgutil
import sys
from pathlib import Path


def main(names: list[str]) -> None:
    known = sorted(m.name for m in pkgutil.iter_modules([str(Path(__file__).parent)]) if m.name != "__main__")
    unknown = [name for name in names if name not in known]
    if unknown:
        raise SystemExit(f"no benchmark called {unknown[0]}; there are: {', '.join(known)}")
    for name in names or known:
        print(f"\n== {name}")
        importlib.import_module(f"benchmarks.{name}").run()


main(sys.argv[1:])
