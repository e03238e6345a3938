"""`python -m registry.testing.hub ROOT`: a Hub of your own until interrupted."""

import argparse
import signal
import sys
import threading
from pathlib import Path

from registry.testing.hub import LOCAL_TOKEN, HubServer


def main() -> None:
    """Serve, and print the two variables that point a client here."""
    parser = argparse.ArgumentParser(
        prog="python -m registry.testing.hub", description="A Hugging Face Hub on loopback."
    )
    parser.add_argument("root", type=Path, help="folder that keeps the repositories")
    parser.add_argument("--port", type=int, default=0, help="port to listen on (a free one if not given)")
    parser.add_argument(
        "--no-xet", action="store_true", help="plain LFS only; clients need HF_HUB_DISABLE_XET=1"
    )
    parser.add_argument("--cdn", action="store_true", help="serve large files from a second port")
    parser.add_argument(
        "--multipart-chunk", type=int, metavar="BYTES", help="cut LFS uploads into parts of this size"
    )
    parser.add_argument(
        "--commit-quota", type=int, metavar="N", help="commits that a repository takes in an hour"
    )
    trouble = parser.add_argument_group("trouble, by chance")
    for name, what in (
        ("fail", "requests that fail: 503, 500, 429 or a connection that is cut"),
        ("lose", "writes that are done, and whose answer is lost"),
        ("slow", "requests that take longer"),
    ):
        trouble.add_argument(f"--{name}", type=float, default=0.0, metavar="RATE", help=f"share of {what}")
    trouble.add_argument("--delay", type=float, default=0.1, metavar="SECONDS", help="how much longer")
    trouble.add_argument("--retry-after", type=int, default=1, metavar="SECONDS", help="what a 429 asks for")
    trouble.add_argument("--seed", type=int, default=0, help="of the dice")
    trouble.add_argument("--pattern", default="", help='regular expression, only for such "METHOD /path"')
    given = parser.parse_args()
    stopped = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stopped.set())
    server = HubServer(
        given.root,
        port=given.port,
        xet=not given.no_xet,
        cdn=given.cdn,
        multipart_chunk=given.multipart_chunk,
        commit_quota=given.commit_quota,
    )
    if given.fail or given.lose or given.slow:
        server.unreliable(
            fail=given.fail,
            lose=given.lose,
            slow=given.slow,
            delay=given.delay,
            retry_after=given.retry_after,
            seed=given.seed,
            pattern=given.pattern,
        )
    with server as hub:
        sys.stdout.write(f"HF_ENDPOINT={hub.url}\nHF_TOKEN={LOCAL_TOKEN}\n")
        sys.stdout.flush()
        stopped.wait()


if __name__ == "__main__":
    main()
