"""The guided tour: the main job on bundled adapters, every step a command that is printed and really run."""

from __future__ import annotations

import os
import shlex
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from registry import Registry, hub
from registry.demo import minilm
from registry.errors import Conflict, RegistryError

Command = Callable[[list[str]], int]
"""Runs the command line with these words; returns its exit code."""

Say = Callable[[str], None]

_REPO = "team/reviews"
_KINDS = ("lora", "ia3")
_MEASURED = (
    ("mostly-negative-lora", ("sentiment",)),
    ("mostly-positive-lora", ("sentiment",)),
    ("reviews-lora", ("sentiment",)),
    ("sentiment-lora", ("sentiment",)),
    ("source-lora", ("source",)),
    ("both-lora", ("sentiment", "source")),
    ("forget-lora", ("sentiment",)),
    ("mostly-negative-ia3", ("sentiment",)),
    ("mostly-positive-ia3", ("sentiment",)),
    ("reviews-ia3", ("sentiment",)),
    ("forget-ia3", ("sentiment",)),
)
"""Each adapter with the tasks that say something about it: a demo should not take longer than it must."""


def run(
    command: Command, say: Say, *, home: Path | None, repo: str | None, sentences: int | None = None
) -> None:
    """Run the tour in a scratch folder; ``home`` keeps its registry, ``repo`` publishes to the real Hub.
    ``sentences`` bounds how many are measured on, for a quick look.

    Raises ``RegistryError`` at the first step that does not do what it should.
    """
    if home is not None and home.exists():
        raise Conflict(f"{home} exists", hint="give a folder that does not exist yet")
    if repo is not None:
        hub.require_token()  # asked for now, not after everything else
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="registry-demo-") as name:
        scratch = Path(name)
        kept = (home or scratch / "home").absolute()
        (scratch / "adapters").symlink_to(minilm.DATA / "adapters")
        (scratch / "minilm").symlink_to(minilm.base_folder())
        settings = {"REGISTRY_HOME": str(kept), "REGISTRY_DATABASE_URL": "", "REGISTRY_BLOBS": ""}
        with _environment(settings), _folder(scratch):
            _Tour(command, say, sentences).run(repo)
    say(f"\nDone in {time.monotonic() - started:.0f} seconds.")
    if home is not None:
        say(f"The registry is kept: REGISTRY_HOME={shlex.quote(str(home))} registry list")


class _Tour:
    """The steps, in the folder that holds ``adapters/`` and ``minilm/``."""

    def __init__(self, command: Command, say: Say, sentences: int | None) -> None:
        self._command = command
        self._say = say
        self._sentences = sentences

    def run(self, repo: str | None) -> None:
        self._add()
        self._compose()
        self._materialize()
        self._measure()
        self._trace()
        self._publish(repo)

    def _add(self) -> None:
        self._title("Catalog eight trained adapters of one base model")
        for adapter in minilm.adapters():
            source = f"adapters/{adapter.folder.name}"
            self._do(f"add {source} {adapter.name} --task {adapter.task} --base-path minilm --format quiet")
        self._do("list")

    def _compose(self) -> None:
        self._title("Compose: the mixture of two skewed halves, the sum of two tasks, a negation")
        for kind in _KINDS:
            self._do(f"compose reviews-{kind} '0.5*mostly-negative-{kind} + 0.5*mostly-positive-{kind}'")
            self._do(f"compose forget-{kind} '-sentiment-{kind}' --format quiet")
        self._do("compose both-lora 'sentiment-lora + source-lora' --format quiet")
        self._say("\nWritten otherwise it is still the same recipe, so nothing is computed:")
        self._do("compose again '0.5*mostly-positive-lora + 0.50*mostly-negative-lora'")
        self._say("\nWhat does not belong together is refused:")
        self._do("check 'sentiment-lora + sentiment-ia3'", expect=7)

    def _materialize(self) -> None:
        self._title("Materialize: a PEFT adapter, and a model with the adapter merged in")
        self._do("checkout reviews-lora reviews-adapter")
        self._do("materialize reviews-lora --as model --base-path minilm --out reviews-model")

    def _measure(self) -> None:
        self._title("Measure the effect, with PEFT and transformers: accuracy in % on held-out sentences")
        self._say(f"\n{'':36}{'sentiment':>10}{'source':>10}")
        self._row("base model", {task: self._accuracy(task) for task in minilm.TASKS})
        with Registry.open() as catalog:
            for name, tasks in _MEASURED:
                self._score(catalog, name, tasks)
        merged = self._accuracy("sentiment", model=Path("reviews-model"))
        self._row("reviews-lora merged into the base", {"sentiment": merged})
        self._do("eval list both-lora")

    def _accuracy(self, task: str, *, model: Path | None = None, adapter: Path | None = None) -> float:
        return minilm.accuracy(task, model=model, adapter=adapter, sentences=self._sentences)

    def _score(self, catalog: Registry, name: str, tasks: tuple[str, ...]) -> None:
        """Measure one adapter from a checkout of its own, and record what was found as evaluations."""
        folder = Path(f"measured-{name}")
        catalog.checkout(name, folder)
        values = {task: self._accuracy(task, adapter=folder) for task in tasks}
        for task, value in values.items():
            catalog.add_evaluation(
                name, "accuracy", round(value / 100, 4), dataset=f"vader-{task}", split="test"
            )
        self._row(name, values)

    def _trace(self) -> None:
        self._title("Trace back, and prove that it can be made again")
        self._do("compose mixture 'truncate(reviews-lora + 0.3*source-lora, rank=8)'")
        self._do("lineage mixture")
        self._do("verify --rebuild")

    def _publish(self, repo: str | None) -> None:
        if repo is not None:
            self._title("Publish to the Hub")
            self._push(repo)
            return
        from registry.testing.hub import LOCAL_TOKEN, HubServer

        self._title("Publish, through the huggingface_hub client, to a Hub on this machine")
        with (
            HubServer(Path("hub").absolute()) as hub,
            _environment({"HF_ENDPOINT": hub.url, "HF_TOKEN": LOCAL_TOKEN}),
        ):
            self._push(_REPO)
            files = hub.files(_REPO)
        self._say("\nWhat the repo holds now:")
        for path, content in sorted(files.items()):
            self._say(f"  {path:28}{len(content):>9,} bytes")

    def _push(self, repo: str) -> None:
        self._do(f"publish reviews-lora {repo}")
        self._say("\nThe same content again makes no commit:")
        self._do(f"publish reviews-lora {repo} --format quiet")
        self._do("publications --check")

    def _title(self, text: str) -> None:
        self._say(f"\n━━ {text}")

    def _row(self, name: str, values: Mapping[str, float]) -> None:
        cells = [f"{values[task]:>10.1f}" if task in values else " " * 10 for task in ("sentiment", "source")]
        self._say(f"{name:36}{''.join(cells)}".rstrip())

    def _do(self, line: str, *, expect: int = 0) -> None:
        self._say(f"\n$ registry {line}")
        code = self._command(shlex.split(line))
        if code != expect:
            raise RegistryError(f"the demo stopped: exit code {code} where {expect} was expected")


@contextmanager
def _environment(values: Mapping[str, str]) -> Iterator[None]:
    """Set environment variables for a while; an empty value unsets one."""
    before = {name: os.environ.get(name) for name in values}
    try:
        for name, value in values.items():
            _set(name, value or None)
        yield
    finally:
        for name, old in before.items():
            _set(name, old)


def _set(name: str, value: str | None) -> None:
    if value is None:
        os.environ.pop(name, None)
    else:
        os.environ[name] = value


@contextmanager
def _folder(path: Path) -> Iterator[None]:
    before = Path.cwd()
    os.chdir(path)
    try:
        yield
    finally:
        os.chdir(before)
