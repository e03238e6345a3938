"""``python -m benchmarks [NAME [OPTION …]]``: run one benchmark, with its own options, or all of them."""

import importlib
import pkgutil
import sys
from pathlib import Path


def main(arguments: list[str]) -> None:
    folder = str(Path(__file__).parent)
    known = sorted(m.name for m in pkgutil.iter_modules([folder]) if not m.name.startswith("_"))
    names, options = (arguments[:1], arguments[1:]) if arguments else (known, [])
    if names[0] not in known:
        raise SystemExit(f"no benchmark called {names[0]}; there are: {', '.join(known)}")
    for name in names:
        print(f"\n== {name}")
        importlib.import_module(f"benchmarks.{name}").run(options)


if __name__ == "__main__":
    main(sys.argv[1:])
