"""From the Hub client's errors to ours: one line each, with what to do, and without tokens or signed addresses."""

from __future__ import annotations

import json
import os
import re
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

import httpx2
from huggingface_hub import constants, errors
from huggingface_hub.utils._http import parse_ratelimit_headers
from huggingface_hub.utils.tqdm import are_progress_bars_disabled, disable_progress_bars, enable_progress_bars

from registry.errors import (
    Conflict,
    HubFailure,
    HubUnauthorized,
    HubUnavailable,
    NotFound,
    Refused,
    RegistryError,
    StorageFailure,
    UsageError,
)

SIGN_IN = "set HF_TOKEN to a valid token, or run: hf auth login"

_LONGEST = 300
_TOKEN_VARIABLES = ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN")
_SECRET = re.compile(r"hf_(?:[a-z]+_)?[A-Za-z0-9._-]{20,}|Bearer [^\s'\"]+")
_ADDRESS = re.compile(r"(https?://)(?:[^\s/@]*@)?([^\s/?#'\"]+)[^\s'\"]*")
_BUSY = frozenset({408, 425, 429})
# What was cut off in the middle, or answered by a gateway, other than a Hub that was not reached at all.
_CUT = (
    json.JSONDecodeError,
    httpx2.ReadTimeout,
    httpx2.WriteTimeout,
    httpx2.PoolTimeout,
    httpx2.ReadError,
    httpx2.WriteError,
    httpx2.RemoteProtocolError,
)
_TRY_AGAIN = "check the network and HF_ENDPOINT, then try again"
_CLOSED = "client has been closed"  # by another thread, that met a broken connection
# The client's own errors are among these; uploads wrap what they met in a RuntimeError, xet raises OSErrors.
_FOREIGN = (OSError, ValueError, RuntimeError, httpx2.HTTPError, httpx2.InvalidURL, errors.OIDCError)


class Busy(HubUnavailable):
    """The Hub, or the way to it, failed in a way that may be over soon; it asked to ``wait`` so many seconds, or did not say."""

    def __init__(self, message: str, *, hint: str | None = None, wait: float | None = None) -> None:
        super().__init__(message, hint=hint)
        self.wait = wait


_Kind = type[RegistryError]
_KINDS: tuple[tuple[tuple[type[BaseException], ...], _Kind, str], ...] = (
    ((errors.OfflineModeIsEnabled,), HubUnavailable, "the Hub client is offline: unset HF_HUB_OFFLINE"),
    ((errors.LocalTokenNotFoundError, errors.OIDCError), HubUnauthorized, SIGN_IN),
    ((errors.HFValidationError,), UsageError, "a repo is OWNER/NAME"),
    ((httpx2.InvalidURL, httpx2.UnsupportedProtocol), UsageError, "HF_ENDPOINT must be an http(s) address"),
    # The one thing of the user's in the head of a request is the token.
    ((httpx2.LocalProtocolError, UnicodeEncodeError), HubUnauthorized, SIGN_IN),
    (_CUT, Busy, _TRY_AGAIN),
    (
        (httpx2.HTTPError, ConnectionError, TimeoutError, errors.LocalEntryNotFoundError),
        HubUnavailable,
        _TRY_AGAIN,
    ),
)
_PRIVATE = "check the name; a private repo is shown only to those who may read it"
_STATUSES: dict[int, tuple[_Kind, str | None]] = {
    400: (Refused, None),
    401: (HubUnauthorized, f"{SIGN_IN}; a repo that does not exist is answered so too"),
    403: (HubUnauthorized, "use a token with the right to do that"),
    404: (NotFound, _PRIVATE),
    409: (Conflict, "look at what is there, then run the command again"),
    410: (NotFound, _PRIVATE),
    412: (Conflict, "look at what changed there, then run the command again"),
    413: (Refused, None),
    422: (Refused, None),
}


class _Bars:
    """The client's progress bars, hidden as long as any thread is inside: the switch is one for all of them."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._inside = 0
        self._hidden = False

    def __enter__(self) -> None:
        with self._lock:
            if self._inside == 0:
                self._hidden = (
                    constants.HF_HUB_DISABLE_PROGRESS_BARS is None and not are_progress_bars_disabled()
                )
                if self._hidden:
                    disable_progress_bars()
            self._inside += 1

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._inside -= 1
            if self._inside == 0 and self._hidden:
                enable_progress_bars()


_bars = _Bars()


@contextmanager
def translated(doing: str) -> Iterator[None]:
    """Run calls of the client, without its progress bars, and raise our errors for its own.

    ``doing`` completes "cannot …".
    """
    with _bars:
        try:
            yield
        except RegistryError:
            raise
        except _FOREIGN as error:
            # Not chained: the client's errors carry requests, with their headers and signed addresses.
            raise translate(error, doing) from None
        except Exception as error:
            if not _of_the_client(error):
                raise
            # What it meets in an answer that is not what it expects: a KeyError, a TypeError …
            what = f"the Hub's answer cannot be understood ({type(error).__name__})"
            raise HubFailure(f"cannot {doing}: {what}", hint="is HF_ENDPOINT a Hub?") from None


def _of_the_client(error: BaseException) -> bool:
    """Whether the client raised it, or what the client called, and not we."""
    frame, name = error.__traceback__, ""
    while frame is not None:
        module = str(frame.tb_frame.f_globals.get("__name__", ""))
        if module.partition(".")[0] in {"registry", "huggingface_hub"}:
            name = module
        frame = frame.tb_next
    return name.startswith("huggingface_hub")


def translate(error: BaseException, doing: str) -> RegistryError:
    """Our error for one that the client raised."""
    error = _met(error)
    if isinstance(error, errors.HfHubHTTPError):
        return _refusal(error, doing)
    for types, kind, hint in _KINDS:
        if isinstance(error, types):
            return kind(f"cannot {doing}: {clean(str(error)) or type(error).__name__}", hint=hint)
    if isinstance(error, OSError) and error.strerror:
        return StorageFailure(f"cannot {doing}: {error.strerror}", hint="check the disk and its permissions")
    if isinstance(error, PermissionError):  # from the xet client, which means the storage's
        return HubUnauthorized(f"cannot {doing}: {clean(str(error))}", hint="use a token that may do that")
    if isinstance(error, ValueError) and "Invalid metadata" in str(error):
        return Refused(f"cannot {doing}: the Hub refuses the model card: {clean(str(error))}")
    return HubFailure(f"cannot {doing}: {clean(str(error)) or type(error).__name__}")


def waiting(headers: Mapping[str, str]) -> float | None:
    """The seconds that the Hub asks to wait, by its rate limit or by ``Retry-After`` (seconds, or a date)."""
    limit = parse_ratelimit_headers(headers)
    if limit is not None and limit.remaining == 0:
        return float(limit.reset_in_seconds)
    said = headers.get("retry-after", "").strip()
    if said.isdecimal():
        return float(said[:9])
    try:
        until = parsedate_to_datetime(said)
    except ValueError:
        return None
    return max(0.0, (until.astimezone(UTC) - datetime.now(UTC)).total_seconds())


def clean(text: str) -> str:
    """One short line; no token, and no more of an address than its host."""
    for variable in _TOKEN_VARIABLES:
        if token := os.environ.get(variable):
            text = text.replace(token, "***")
    line = " ".join(_ADDRESS.sub(r"\1\2/…", _SECRET.sub("***", text)).split())
    return line if len(line) <= _LONGEST else line[:_LONGEST] + "…"


def _met(error: BaseException) -> BaseException:
    """What the client met, where it wraps that in an error of its own."""
    while isinstance(error, RuntimeError | errors.LocalEntryNotFoundError) and error.__cause__ is not None:
        error = error.__cause__
    if isinstance(error, RuntimeError) and _CLOSED in str(error):
        return httpx2.ReadError(str(error))
    return error


def _refusal(error: errors.HfHubHTTPError, doing: str) -> RegistryError:
    status = error.response.status_code
    line = f"cannot {doing}: the Hub answered {status}"
    if said := clean(error.server_message or error.response.reason_phrase):
        line += f", {said}"
    if isinstance(error, errors.GatedRepoError):
        return HubUnauthorized(
            line, hint="accept the terms on its page on the Hub, with your token's account"
        )
    if status in _BUSY or status >= 500:
        wait = waiting(error.response.headers)
        told = "later" if wait is None else f"in {wait:.0f} s"
        return Busy(line, hint=f"the Hub is busy or down; try again {told}", wait=wait)
    kind, hint = _STATUSES.get(status, (HubFailure, None))
    return kind(line, hint=hint)
