"""The command line: ``registry``. One file per command or group of commands; this one only starts it."""

import gc
import signal
import sys
from io import TextIOWrapper

# Start-up allocates much and frees nothing: looking for garbage meanwhile is wasted time.
gc.set_threshold(50_000)

from ._group import Commands  # noqa: E402
from ._options import common, version_option  # noqa: E402

__all__ = ["main", "root"]

root = common(
    version_option(
        Commands(
            "registry",
            context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
            help="A catalog of LoRA and (IA)³ adapters, and a reproducible store of their compositions.\n\n"
            "REF is name@version, name@alias, name (its latest version) or sha256:… everywhere. Data goes to "
            "stdout; progress, hints and warnings go to stderr.\n\n"
            "Exit codes: 0 ok, 1 failure, 2 usage, 3 not found, 4 conflict, 5 integrity failure, 6 stale or "
            "would change, 7 refused input.",
        )
    )
)


def main() -> None:
    """Run the command line on ``sys.argv`` and exit with its code."""
    # What CI sends to end a job, and a terminal that is closed: leave through the same doors as Ctrl-C, so that nothing
    # half-done stays behind. Who started this by nohup wants it to go on.
    for name in ("SIGTERM", "SIGHUP"):
        number = getattr(signal, name, None)
        if number is not None and signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, lambda ended, _: sys.exit(128 + ended))
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):  # what a narrow encoding lacks is spelled out, never an error
            stream.reconfigure(errors="backslashreplace")
    root.main(prog_name="registry")
