"""A pooler as many servers have one before them: it keeps its connections to the server when clients leave theirs."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from sqlalchemy.engine import URL

_PORT = 5432
_IDLE, _READY = b"I", b"Z"
_HEAD = 5  # a letter, and four bytes that count themselves and what follows


@contextmanager
def pooler(server: URL, folder: Path) -> Iterator[URL]:
    """The address of one, in a folder whose name is short."""
    kept: list[socket.socket] = []
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(f"{folder}/.s.PGSQL.{_PORT}")
        listener.listen()

        def serve() -> None:
            with suppress(OSError):
                while True:
                    client, _ = listener.accept()
                    threading.Thread(target=_between, args=(client, server, kept), daemon=True).start()

        threading.Thread(target=serve, daemon=True).start()
        try:
            query = {**server.query, "host": str(folder), "port": str(_PORT)}
            yield URL.create(
                server.drivername, server.username, server.password, database=server.database, query=query
            )
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            for each in kept:
                each.close()


def _between(client: socket.socket, server: URL, kept: list[socket.socket]) -> None:
    """Pass on what both say, but for the goodbye of a client outside of a transaction: its connection is kept."""
    beyond = _connected(server)
    states = [_IDLE]

    def back() -> None:
        rest = b""
        with suppress(OSError):
            while said := beyond.recv(1 << 16):
                rest += said
                while len(rest) >= _HEAD and len(rest) > (size := int.from_bytes(rest[1:_HEAD], "big")):
                    if rest[:1] == _READY:
                        states.append(rest[_HEAD : _HEAD + 1])
                    rest = rest[size + 1 :]
                client.sendall(said)

    threading.Thread(target=back, daemon=True).start()
    goodbye = b"X\x00\x00\x00\x04"
    with suppress(OSError):
        while said := client.recv(1 << 16):
            if said := said.removesuffix(goodbye):
                beyond.sendall(said)
    if states[-1] == _IDLE:
        kept.append(beyond)
    else:
        beyond.shutdown(socket.SHUT_RDWR)
        beyond.close()
    client.close()


def _connected(server: URL) -> socket.socket:
    host = server.host or str(server.query["host"])
    port = server.port or int(str(server.query.get("port", _PORT)))
    if not host.startswith("/"):
        return socket.create_connection((host, port))
    found = socket.socket(socket.AF_UNIX)
    found.connect(f"{host}/.s.PGSQL.{port}")
    return found
