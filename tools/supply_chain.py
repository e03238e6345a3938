"""What a release is made of, by name: is it pinned, under which licenses, with which known vulnerabilities.

::

    python -m tools.supply_chain constraints        every dependency is pinned in constraints.txt, and nothing else is
    python -m tools.supply_chain licenses           every license is one of those that were agreed to
    python -m tools.supply_chain audit              nothing with a known and mended vulnerability (asks PyPI)
    python -m tools.supply_chain sbom FILE          all of it as CycloneDX JSON
    python -m tools.supply_chain refresh            constraints.txt anew, from what is installed here

It looks at the environment that it runs in, and at ``pyproject.toml``. The exit code is 1 where something is wrong.
"""

from __future__ import annotations

import importlib.metadata as installed
import json
import re
import subprocess
import sys
import tomllib
import urllib.request
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
CONSTRAINTS = ROOT / "constraints.txt"
OWN = "adapter-registry"
INSTALLER = "pip"
"""It comes with the environment, and pins everything but itself."""
OF_TORCH = re.compile(r"(nvidia|cuda)-.+|triton")
"""The CUDA libraries of a torch that has them: it pins them itself, and NVIDIA licenses them to who takes that torch."""
RUNTIME = ("demo", "gguf", "paper", "paper-train", "plot", "postgres", "s3", "signing", "sweep", "testing")
"""The extras that a user may install; the others are for whoever works on the project."""

ALLOWED = {
    "0BSD", "Apache-2.0", "Apache-2.0 WITH LLVM-exception", "BSD-2-Clause", "BSD-3-Clause", "BSL-1.0", "CC0-1.0",
    "CNRI-Python", "ISC", "MIT", "MIT-0", "MIT-CMU", "MPL-2.0", "PSF-2.0", "Unlicense", "Zlib",
}  # fmt: skip
"""What may be depended on: SPDX identifiers."""
ACCEPTED = {
    "psycopg": "LGPL-3.0-only",  # imported as it is, and only by who installs the extra "postgres"
    "psycopg-binary": "LGPL-3.0-only",
}
"""What is allowed besides, for one package each."""
STATED = {"sigstore-models": "MIT"}
"""Licenses that a package has as a file, and not in its metadata."""
SPELLINGS = {
    "3-Clause BSD License": "BSD-3-Clause",
    "Apache 2.0 License": "Apache-2.0",
    "Apache License 2.0": "Apache-2.0",
    "Apache Software License": "Apache-2.0",
    "BSD License": "BSD-3-Clause",
    "ISC License (ISCL)": "ISC",
    "MIT License": "MIT",
    "Mozilla Public License 2.0 (MPL 2.0)": "MPL-2.0",
    "Python Software Foundation License": "PSF-2.0",
    "The Unlicense (Unlicense)": "Unlicense",
}
"""What older metadata calls them."""

TOLERATED: Mapping[str, tuple[str, date]] = {}
"""Vulnerabilities that were looked at: why they do no harm here, and the day until which that holds."""

_SPDX = re.compile(r"[A-Za-z0-9.+-]+(?: WITH [A-Za-z0-9.+-]+)?")
_WORDS = re.compile(r" (?:AND|OR) |[()]")
_PYPI = "https://pypi.org/pypi/{name}/json"


@dataclass
class Package:
    """A dependency that is installed, and what it needs itself."""

    name: str
    version: str
    license: str | None
    needs: set[str] = field(default_factory=set)


def closure(extras: Iterable[str]) -> dict[str, Package]:
    """Everything that the project with these extras needs, by normalized name."""
    found: dict[str, Package] = {}
    done: set[tuple[str, str]] = set()
    todo = list(own(extras))
    while todo:
        wanted = todo.pop()
        name = canonicalize_name(wanted.name)
        if name == OWN:
            todo.extend(own(wanted.extras))
            continue
        if name == INSTALLER:
            continue
        package = found.get(name) or _package(name)
        found[name] = package
        for extra in {"", *wanted.extras}:
            if (name, extra) in done:
                continue
            done.add((name, extra))
            for each in map(Requirement, installed.requires(name) or ()):
                if name == "torch" and OF_TORCH.fullmatch(canonicalize_name(each.name)):
                    continue
                if each.marker is None or each.marker.evaluate({"extra": extra}):
                    package.needs |= {canonicalize_name(each.name)} - {INSTALLER}
                    todo.append(each)
    return found


def own(extras: Iterable[str]) -> Iterator[Requirement]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    for text in [
        *project["dependencies"],
        *(t for extra in extras for t in project["optional-dependencies"][extra]),
    ]:
        requirement = Requirement(text)
        if requirement.marker is None or requirement.marker.evaluate():
            yield requirement


def _package(name: str) -> Package:
    try:
        found = installed.distribution(name)
    except installed.PackageNotFoundError:
        sys.exit(f"{name} is not installed: pip install -c constraints.txt -e '.[test]'")
    return Package(name, found.version.partition("+")[0], license_of(found))


def license_of(found: installed.Distribution) -> str | None:
    """An SPDX expression, from what the metadata says in one of its ways."""
    metadata = found.metadata.json
    said = str(metadata.get("license_expression") or metadata.get("license") or "").strip()
    if said in SPELLINGS:
        return SPELLINGS[said]
    if said and all(
        _SPDX.fullmatch(part) and part in {*ALLOWED, *ACCEPTED.values()} for part in _parts(said)
    ):
        return said
    classifiers = [str(each).split(" :: ") for each in metadata.get("classifier") or ()]
    named = {each[-1] for each in classifiers if each[0] == "License"} - {"OSI Approved"}
    spelled = sorted({SPELLINGS.get(each, each) for each in named})
    return " OR ".join(spelled) or STATED.get(canonicalize_name(str(metadata["name"]))) or said[:60] or None


def _parts(expression: str) -> list[str]:
    return [part.strip() for part in _WORDS.split(expression) if part.strip()]


def licenses(packages: Mapping[str, Package]) -> list[str]:
    """What is wrong with them; of alternatives one has to be allowed, of what applies together all."""
    wrong = []
    for package in packages.values():
        expression = package.license
        if expression is None:
            wrong.append(f"{package.name} {package.version} does not say its license")
            continue
        accepted = {*ALLOWED, *([ACCEPTED[package.name]] if package.name in ACCEPTED else [])}
        ways = [way.strip() for way in re.split(r" OR ", expression)]
        if not any(all(part in accepted for part in _parts(way)) for way in ways):
            wrong.append(f"{package.name} {package.version} is under {expression}, which nobody agreed to")
    return sorted(wrong)


def pins() -> dict[str, str]:
    lines = (line.partition("#")[0].strip() for line in CONSTRAINTS.read_text().splitlines())
    pairs = (line.split("==") for line in lines if line)
    return {canonicalize_name(name): version for name, version in pairs}


def constraints(packages: Mapping[str, Package]) -> list[str]:
    """Where the pins are not exactly what is needed."""
    pinned = pins()
    wrong = [f"{name} is not pinned" for name in packages.keys() - pinned]
    wrong += [f"{name} is pinned, and nothing needs it" for name in pinned.keys() - packages]
    wrong += [
        f"{name} is pinned to {pinned[name]}, and {each.version} is installed"
        for name, each in packages.items()
        if name in pinned and pinned[name] != each.version
    ]
    return sorted(wrong)


def refreshed(packages: Mapping[str, Package]) -> str:
    """The text of constraints.txt for these packages."""
    comments = [line for line in CONSTRAINTS.read_text().splitlines() if line.startswith("#")]
    return "\n".join([*comments, *(f"{name}=={packages[name].version}" for name in sorted(packages))]) + "\n"


@dataclass(frozen=True)
class Finding:
    """A known vulnerability of a version that is pinned."""

    name: str
    version: str
    id: str
    fixed_in: tuple[str, ...]

    def __str__(self) -> str:
        mended = f"mended in {', '.join(self.fixed_in)}" if self.fixed_in else "not mended yet"
        return f"{self.name} {self.version}: {self.id}, {mended}"


def audit(pinned: Mapping[str, str], runtime: Iterable[str], today: date) -> tuple[list[str], list[str]]:
    """What is wrong, and what is only to be known: what is not mended yet, or no part of what users install."""
    found, asked = _by_pip_audit(pinned)
    rest = {name: version for name, version in pinned.items() if name not in asked}
    more, also = _by_newest(rest)
    wrong, known = [], []
    users = set(runtime)
    for finding in sorted({*found, *more}, key=str):
        why, until = TOLERATED.get(finding.id, ("", date.min))
        if finding.fixed_in and finding.name in users and until < today:
            wrong.append(str(finding))
        else:
            known.append(f"{finding}{f' ({why})' if why else ''}")
    unknown = len(pinned) - len(asked | also)
    if unknown:
        known.append(f"of {len(pinned)} packages {unknown} could not be asked about")
    return wrong, known


def _by_pip_audit(pinned: Mapping[str, str]) -> tuple[list[Finding], set[str]]:
    """What pip-audit finds, and the packages that it could ask about."""
    words = [
        "pip_audit",
        "-r",
        str(CONSTRAINTS),
        "--no-deps",
        "--disable-pip",
        "-f",
        "json",
        "--progress-spinner",
        "off",
    ]
    try:
        done = subprocess.run(
            [sys.executable, "-m", *words], capture_output=True, text=True, check=False, timeout=120
        )
        told = json.loads(done.stdout)["dependencies"]
    except (subprocess.TimeoutExpired, ValueError, KeyError):  # not installed, or the service out of reach
        return [], set()
    asked = [each for each in told if "skip_reason" not in each]
    found = [
        Finding(canonicalize_name(each["name"]), each["version"], hole["id"], tuple(hole["fix_versions"]))
        for each in asked
        for hole in each["vulns"]
    ]
    names: set[str] = {canonicalize_name(each["name"]) for each in asked}
    return found, names & pinned.keys()


def _by_newest(pinned: Mapping[str, str]) -> tuple[list[Finding], set[str]]:
    """For an index without a page for each version: what is said of the newest, where that is the pinned one."""
    found, asked = [], set()
    with ThreadPoolExecutor(8) as pool:
        for name, page in zip(pinned, pool.map(_page, pinned), strict=True):
            if page is not None and page["info"]["version"] == pinned[name]:
                asked.add(name)
                found += [
                    Finding(name, pinned[name], hole["id"], tuple(hole.get("fixed_in") or ()))
                    for hole in page.get("vulnerabilities") or ()
                    if not hole.get("withdrawn")
                ]
    return found, asked


def _page(name: str) -> Any:
    try:
        with urllib.request.urlopen(_PYPI.format(name=name), timeout=10) as answer:  # noqa: S310  (https, and ours)
            return json.load(answer)
    except (OSError, ValueError):
        return None


def sbom(packages: Mapping[str, Package], version: str, *, at: datetime | None = None) -> dict[str, Any]:
    """The bill of materials of a release, as CycloneDX 1.6."""
    me = f"pkg:pypi/{OWN}@{version}"
    refs = {name: f"pkg:pypi/{name}@{package.version}" for name, package in packages.items()}
    direct = {canonicalize_name(each.name) for each in own(RUNTIME)} - {OWN}
    needs = {me: sorted(refs[name] for name in direct)}
    needs |= {refs[name]: sorted(refs[each] for each in packages[name].needs) for name in sorted(packages)}
    when = {} if at is None else {"timestamp": at.astimezone(UTC).isoformat(timespec="seconds")}
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "serialNumber": uuid.uuid5(uuid.NAMESPACE_URL, json.dumps(needs)).urn,
        "version": 1,
        "metadata": {**when, "component": _component(Package(OWN, version, "Apache-2.0"), me, "application")},
        "components": [_component(packages[name], refs[name], "library") for name in sorted(packages)],
        "dependencies": [{"ref": ref, "dependsOn": below} for ref, below in needs.items()],
    }


def _component(package: Package, ref: str, sort: str) -> dict[str, Any]:
    told = {"licenses": [{"expression": package.license}]} if package.license else {}
    return {
        "type": sort, "bom-ref": ref, "name": package.name, "version": package.version, "purl": ref, **told
    }  # fmt: skip


def main(words: Sequence[str]) -> int:
    wrong: list[str] = []
    match list(words):
        case ["constraints"]:
            wrong = constraints(closure(["test"]))
        case ["licenses"]:
            wrong = licenses(closure(RUNTIME))
        case ["audit"]:
            wrong, known = audit(pins(), closure(RUNTIME), datetime.now(UTC).date())
            print(*(f"warning: {each}" for each in known), sep="\n", file=sys.stderr)
        case ["sbom", file]:
            from registry.version import VERSION

            made = sbom(closure(RUNTIME), VERSION, at=datetime.now(UTC))
            Path(file).write_text(json.dumps(made, indent=2) + "\n")
        case ["refresh"]:
            CONSTRAINTS.write_text(refreshed(closure(["test"])))
        case _:
            print(__doc__, file=sys.stderr)
            return 2
    for each in wrong:
        print(f"error: {each}", file=sys.stderr)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
