"""What the licenses of the inputs leave for a result. No I/O; a help, not legal advice.

The rules follow what the licenses' own stewards say of them:

- Creative Commons, "Can I combine material under different Creative Commons licenses" (FAQ) and "Compatible Licenses":
  share-alike stays share-alike (of the same or a later version; BY-SA 4.0 may become GPLv3), non-commercial stays
  non-commercial, and of NoDerivatives material no adaptation may be shared.
- The Free Software Foundation, "Various Licenses and Comments about Them": Apache-2.0 and CC BY 4.0 fit into GPLv3,
  Apache-2.0 and ECL-2.0 do not fit into GPLv2, AFL-3.0 and Ms-PL into none; LGPL may become GPL, GPLv3 and AGPLv3
  combine; MPL-2.0 may become GPL, LGPL or AGPL.
- The EUPL's appendix of compatible licenses.
- The Llama, Gemma and (Open)RAIL agreements: derivatives are passed on under the same agreement.

What is not known here (``other``, ``unknown``, a name of one's own, nothing) gives no claim, and a note.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

_HUB = """
afl-3.0 agpl-3.0 apache-2.0 apple-amlr apple-ascl artistic-2.0 bigcode-openrail-m bigscience-bloom-rail-1.0
bigscience-openrail-m bsd bsd-2-clause bsd-3-clause bsd-3-clause-clear bsl-1.0 c-uda cc cc-by-2.0 cc-by-2.5 cc-by-3.0
cc-by-4.0 cc-by-nc-2.0 cc-by-nc-3.0 cc-by-nc-4.0 cc-by-nc-nd-3.0 cc-by-nc-nd-4.0 cc-by-nc-sa-2.0 cc-by-nc-sa-3.0
cc-by-nc-sa-4.0 cc-by-nd-4.0 cc-by-sa-3.0 cc-by-sa-4.0 cc0-1.0 cdla-permissive-1.0 cdla-permissive-2.0
cdla-sharing-1.0 creativeml-openrail-m deepfloyd-if-license ecl-2.0 epl-1.0 epl-2.0 etalab-2.0 eupl-1.1 eupl-1.2
fair-noncommercial-research-license gemma gfdl gpl gpl-2.0 gpl-3.0 grok2-community h-research intel-research isc lgpl
lgpl-2.1 lgpl-3.0 lgpl-lr llama2 llama3 llama3.1 llama3.2 llama3.3 llama4 lppl-1.3c mit mpl-2.0 ms-pl ncsa odbl odc-by
ofl-1.1 openmdw-1.0 openrail openrail++ osl-3.0 other pddl postgresql unknown unlicense wtfpl zlib
"""
LICENSES = frozenset(_HUB.split())
"""Identifiers that the Hub accepts in a card (its documentation, "Licenses")."""

_PUBLIC_DOMAIN = ("wtfpl", "unlicense", "pddl", "cc0-1.0")
# From what asks least to what asks most: of several, a result claims the last.
_PERMISSIVE = (
    *_PUBLIC_DOMAIN,
    *("zlib", "isc", "bsl-1.0", "postgresql", "ncsa", "mit", "bsd", "bsd-2-clause", "bsd-3-clause"),
    *(
        "bsd-3-clause-clear",
        "openmdw-1.0",
        "cdla-permissive-1.0",
        "cdla-permissive-2.0",
        "odc-by",
        "etalab-2.0",
    ),
    *("cc-by-2.0", "cc-by-2.5", "cc-by-3.0", "cc-by-4.0", "artistic-2.0", "ms-pl", "ecl-2.0", "afl-3.0"),
    "apache-2.0",
)
_GPL = ("gpl", "gpl-2.0", "gpl-3.0")
_AGPL = ("agpl-3.0",)
_NC_SA = {
    "cc-by-nc-sa-2.0": ("cc-by-nc-sa-3.0", "cc-by-nc-sa-4.0"),
    "cc-by-nc-sa-3.0": ("cc-by-nc-sa-4.0",),
    "cc-by-nc-sa-4.0": (),
}
_SHARE_ALIKE: dict[str, tuple[str, ...]] = {  # what it may become besides itself
    "lgpl": ("lgpl-2.1", "lgpl-3.0", *_GPL, *_AGPL),
    "lgpl-2.1": (*_GPL, *_AGPL),
    "lgpl-3.0": ("gpl-3.0", *_AGPL),
    "gpl": ("gpl-2.0", "gpl-3.0", *_AGPL),
    "gpl-2.0": (),
    "gpl-3.0": _AGPL,
    "agpl-3.0": (),
    "mpl-2.0": ("lgpl-2.1", "lgpl-3.0", *_GPL, *_AGPL),
    "eupl-1.1": ("eupl-1.2", "gpl-2.0", "epl-1.0", "osl-3.0"),
    "eupl-1.2": (
        *("gpl-2.0", "gpl-3.0", *_AGPL, "lgpl-2.1", "lgpl-3.0"),
        *("mpl-2.0", "epl-1.0", "osl-3.0", "cc-by-sa-3.0"),
    ),
    "epl-1.0": ("epl-2.0",),
    "epl-2.0": (),
    "cc-by-sa-3.0": ("cc-by-sa-4.0",),
    "cc-by-sa-4.0": ("gpl-3.0", *_AGPL),
    **_NC_SA,
    **dict.fromkeys(("cdla-sharing-1.0", "odbl", "osl-3.0", "gfdl", "lgpl-lr", "ofl-1.1", "lppl-1.3c"), ()),
}
_NON_COMMERCIAL = ("cc-by-nc-2.0", "cc-by-nc-3.0", "cc-by-nc-4.0")
_NO_DERIVATIVES = ("cc-by-nd-4.0", "cc-by-nc-nd-3.0", "cc-by-nc-nd-4.0")
_OWN_TERMS = (  # licenses of models and of research: passed on as they are
    *("llama2", "llama3", "llama3.1", "llama3.2", "llama3.3", "llama4", "gemma", "grok2-community"),
    *(
        "openrail",
        "openrail++",
        "bigscience-openrail-m",
        "bigscience-bloom-rail-1.0",
        "creativeml-openrail-m",
    ),
    *("bigcode-openrail-m", "deepfloyd-if-license", "fair-noncommercial-research-license", "h-research"),
    *("intel-research", "apple-amlr", "apple-ascl", "c-uda"),
)
_STRICTEST = (*_PERMISSIVE, *_NON_COMMERCIAL, *_SHARE_ALIKE, *_OWN_TERMS, *_NO_DERIVATIVES)
_FAMILIES = ("bsd", "gpl", "lgpl", "openrail")
_OLD_GPL = {"gpl", "gpl-2.0", "lgpl", "lgpl-2.1"}  # of those of no version, not all versions
_EVERY_GPL = _OLD_GPL | {"gpl-3.0", "lgpl-3.0", *_AGPL}
_NOT_INTO = {
    **dict.fromkeys(("apache-2.0", "ecl-2.0"), _OLD_GPL),
    **dict.fromkeys(("afl-3.0", "ms-pl"), _EVERY_GPL),
}
_SILENT = ("", "unknown", "other", "cc")
_FEW = 20
_CLOSED = (
    "proprietary",
    "all-rights-reserved",
    "noassertion",
    "confidential",
    "internal-only",
    "do-not-distribute",
)


@dataclass(frozen=True)
class Source:
    """Something that a result is made of, and the license it is known to have."""

    what: str
    license: str | None


@dataclass(frozen=True)
class Derived:
    """What a result may be published under: nothing where that is not known.

    ``conflicts`` say why it may not be published so, ``notes`` what else there is to know; one sentence each.
    """

    license: str | None
    conflicts: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


def identifier(text: str | None) -> str | None:
    """The Hub's identifier for what was written, None where it has none that says something."""
    shown = (text or "").strip().lower()
    return shown if shown in LICENSES and shown not in {"other", "unknown", "cc"} else None


def derive(asked: str | None, inputs: Sequence[Source], *, changed: bool, public: bool) -> Derived:
    """What the licenses of ``inputs`` leave for a result that is to be published.

    ``asked`` is the license it is to have, None for the one that follows. ``changed``: the result is something
    new (a composition, a merged model); otherwise the first input is passed on as it is, and the others (its
    base model, what it was trained from) are only compared with.
    """
    conflicts = [] if not public else [_closed(each) for each in inputs if _is_closed(each.license)]
    if not changed:
        return _unchanged(asked, inputs, conflicts)
    known = [(each, found) for each in inputs if (found := identifier(each.license)) is not None]
    notes = _unknown(inputs)
    conflicts += [
        f"{each.what} is under {found}, of which nothing derived may be passed on"
        for each, found in known
        if found in _NO_DERIVATIVES
    ]
    if conflicts:
        return Derived(asked, tuple(conflicts), tuple(notes))
    if asked is not None:
        against = [_forbids(each, found, asked) for each, found in known if not allows(found, asked)]
        return Derived(asked, tuple(against), tuple(notes))
    return _result(known, notes, complete=len(known) == len(inputs))


def allows(license_: str, result: str) -> bool:
    """Whether something made of what is under ``license_`` may be passed on under ``result``."""
    wanted = identifier(result)
    if license_ == wanted:
        return True
    if license_ in _NO_DERIVATIVES or license_ in _OWN_TERMS:
        return False
    if license_ in _SHARE_ALIKE:
        return wanted in _SHARE_ALIKE[license_]
    if license_ in _NON_COMMERCIAL:
        return wanted in _NON_COMMERCIAL or wanted in _NC_SA
    # What is permissive asks for its notices to be kept, which a dedication to the public domain would not.
    kept = license_ in _PUBLIC_DOMAIN or wanted not in _PUBLIC_DOMAIN
    return kept and wanted not in _NOT_INTO.get(license_, set())


def _unchanged(asked: str | None, inputs: Sequence[Source], conflicts: list[str]) -> Derived:
    itself, others = inputs[0], inputs[1:]
    own = identifier(itself.license)
    if asked is not None and own is not None and not allows(own, asked):
        conflicts.append(_forbids(itself, own, asked))
    chosen = asked or (None if _is_closed(itself.license) else itself.license)
    notes: list[str] = []
    if chosen is None and not _is_closed(itself.license):
        notes += _unknown([itself])
    for each in others:
        found = identifier(each.license)
        if found is not None and chosen is not None and not allows(found, chosen):
            notes.append(f"{each.what} is under {found}, whose terms still hold for using them together")
    return Derived(chosen, tuple(conflicts), tuple(notes))


def _result(known: list[tuple[Source, str]], notes: list[str], *, complete: bool) -> Derived:
    """The strictest of the inputs' licenses that all of them allow."""
    stated = sorted({found for _, found in known}, key=_STRICTEST.index)
    fitting = [each for each in stated if all(allows(other, each) for other in stated)]
    if stated and not fitting:  # none of their own: the mildest other one, as GPLv3 is for MPL and Apache
        exact = (each for each in _STRICTEST if each not in _FAMILIES)
        fitting = [each for each in exact if all(allows(other, each) for other in stated)][:1]
    if stated and not fitting:
        pairs = _pairs(known)
        beside = [pair for pair in pairs if _hold_beside(*pair)]
        against = [pair for pair in pairs if pair not in beside]
        if beside and not against:
            return Derived(
                None, (), (*notes, *(f"{_both(*pair)}: the terms of both hold" for pair in beside))
            )
        worst = against[0] if against else (known[0], known[-1])  # no two of them, but all together
        return Derived(None, (f"{_both(*worst)}, which cannot be met at once",), tuple(notes))
    if not complete or not fitting:
        return Derived(None, (), tuple(notes))
    if len(stated) > 1:
        notes = [*notes, "attribution and notices of every input are still to be kept"]
    return Derived(fitting[-1], (), tuple(notes))


_Stated = tuple[Source, str]


def _pairs(known: list[_Stated]) -> list[tuple[_Stated, _Stated]]:
    """Every two licenses that no license fits, each with the first input that is under it."""
    ones = list({found: (source, found) for source, found in reversed(known)}.values())[::-1]
    return [
        (one, other)
        for place, one in enumerate(ones)
        for other in ones[place + 1 :]
        if not any(allows(one[1], each) and allows(other[1], each) for each in _STRICTEST)
    ]


def _hold_beside(one: _Stated, other: _Stated) -> bool:
    """Whether neither forbids the other's terms beside its own, and there only is no identifier for both."""
    both = {one[1], other[1]}
    return bool(both & {*_NON_COMMERCIAL} and both & {*_OWN_TERMS})


def _both(one: _Stated, other: _Stated) -> str:
    return f"{one[0].what} is under {one[1]} and {other[0].what} under {other[1]}"


def _is_closed(text: str | None) -> bool:
    words = "-".join((text or "").strip().lower().replace("_", " ").replace("-", " ").split())
    return words.startswith(_CLOSED)


def _closed(each: Source) -> str:
    return f"{each.what} is marked {each.license!r:.100}, so nothing made of it can be public"


def _unknown(inputs: Sequence[Source]) -> list[str]:
    """What of the inputs cannot be judged, in few sentences however many they are."""
    open_ = [each for each in inputs if identifier(each.license) is None and not _is_closed(each.license)]
    silent = [each.what for each in open_ if (each.license or "").strip().lower() in _SILENT]
    named = [each for each in open_ if (each.license or "").strip().lower() not in _SILENT]
    notes = [
        f"{each.what} is under {each.license!r:.100}, which cannot be judged here" for each in named[:_FEW]
    ]
    if silent:
        more = f" and {len(silent) - _FEW} more" if len(silent) > _FEW else ""
        notes.append(f"the license of {', '.join(silent[:_FEW])}{more} is not known")
    return notes


def _forbids(each: Source, found: str, asked: str) -> str:
    return f"{each.what} is under {found}, which does not allow {asked!r:.100} for what is made of it"
