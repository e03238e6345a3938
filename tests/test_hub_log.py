"""What the Hub client logs."""

from __future__ import annotations

import importlib
from pathlib import Path

import pytest
from huggingface_hub.utils._http import http_backoff

from registry import _hub_log
from registry.testing.hub import HubServer

SIGNED = "?X-Amz-Signature=abc&X-Amz-Credential=me"


@pytest.mark.parametrize("trouble", ["refused", "cut"])
def test_an_upload_that_is_repeated_does_not_show_its_signature(
    trouble: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("huggingface_hub.utils._http.time.sleep", lambda _: None)
    importlib.import_module("registry.hub")  # whoever speaks to the Hub through it is safe
    with HubServer(tmp_path / "hub", xet=False) as hub:
        hub.fail("PUT .*") if trouble == "refused" else hub.cut("PUT .*")
        http_backoff("PUT", f"{hub.url}/_storage/objects/a{SIGNED}", content=b"", max_retries=1)
        assert f"thrown while requesting PUT {hub.url}/_storage/objects/a" in caplog.text
    assert "abc" not in caplog.text
    assert "Amz" not in caplog.text


def test_what_is_no_secret_stays() -> None:
    token = "hf_" + "x" * 34
    said = _hub_log.hidden(f"at https://me:pw@cdn.example/a/b?Signature=abc, really? Bearer abc or {token}")
    assert said == "at https://cdn.example/a/b really? *** or ***"
    assert _hub_log.hidden("Retrying in 1s [Retry 1/5].") == "Retrying in 1s [Retry 1/5]."
