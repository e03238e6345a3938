"""``python -m registry``: the command line, also from a checkout that is not installed.

Installed, the command line is ``registry.cli``; in a checkout its folder lies beside this package.
"""

from importlib import import_module
from importlib.util import find_spec

if __name__ == "__main__":
    import_module("registry.cli" if find_spec("registry.cli") else "cli").main()
