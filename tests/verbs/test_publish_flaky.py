"""A Hub that fails one request in ten and loses one answer in twenty ends with exactly what was asked for."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest
from starlette.responses import JSONResponse, Response

from registry import Registry
from registry.errors import HubFailure
from registry.testing.hub import HubServer
from tests import hubs

pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")

REPOS = 30


class Weather:
    """What happens to requests, the same in each run."""

    def __init__(self, server: HubServer) -> None:
        self._real, self._chance = server._answer, random.Random(6)  # noqa: S311 (any will do)
        self.failed = self.lost = self.asked = 0
        vars(server)["_answer"] = self._answer

    async def _answer(self, *call: Any) -> Response:
        self.asked += 1
        chance = self._chance.random()
        if chance < 0.1:
            self.failed += 1
            return JSONResponse({"error": "busy"}, self._chance.choice([429, 500, 502, 503]))
        answer: Response = await self._real(*call)
        if chance < 0.15:
            self.lost += 1
            return JSONResponse({"error": "Bad Gateway"}, 502)
        return answer

    def clear(self, server: HubServer) -> None:
        vars(server)["_answer"] = self._real


@pytest.mark.parametrize("xet", [False, True], ids=["lfs", "xet"])
def test_every_release_is_there_once(
    xet: bool, catalog: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hubs.stock(catalog, tmp_path)
    with hubs.running(tmp_path, monkeypatch, xet=xet) as server:
        weather = Weather(server)
        wishes = [(f"team/r{n}", {"propose": True} if n % 3 == 2 else {"tag": "v1"}) for n in range(REPOS)]
        left = list(wishes)
        for _ in range(10):
            again = []
            for repo, options in left:
                try:
                    catalog.publish("detox", repo, **options)
                except HubFailure:
                    again.append((repo, options))
            left = again
        assert left == []
        assert weather.failed > 30
        assert weather.lost > 15
        weather.clear(server)
        for repo, options in wishes:
            proposed = "propose" in options
            branch = "refs/pr/1" if proposed else "main"
            assert [each.title for each in server.commits(repo, branch)] == [
                "Publish detox@1",
                "initial commit",
            ]
            found = hubs.api(server).get_repo_discussions(repo)
            assert [each.num for each in found] == ([1] if proposed else [])
            (row,) = [each for each in hubs.rows(catalog) if each.repo == repo and each.state != "failed"]
            assert (row.state, row.tagged) == ("done", not proposed)
            assert set(row.files) == set(server.files(repo, branch)) - {".gitattributes"}
        done = [each for each in catalog.publications(check=True) if each.state == "done"]
        assert [each.remote for each in sorted(done, key=lambda each: each.repo)] == [
            "open" if "propose" in options else "same"
            for _, options in sorted(wishes, key=lambda wish: wish[0])
        ]
