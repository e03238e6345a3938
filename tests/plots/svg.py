"""What an SVG says, read as XML: its texts, and the marks of a group by its id."""

from __future__ import annotations

import re
from xml.etree import ElementTree as ET

SVG = "{http://www.w3.org/2000/svg}"


def read(data: bytes) -> ET.Element:
    return ET.fromstring(data)  # noqa: S314  (our own)


def texts(root: ET.Element) -> list[str]:
    return ["".join(each.itertext()).strip() for each in root.iter(f"{SVG}text")]


def ids(root: ET.Element, start: str) -> list[str]:
    return [each.attrib["id"] for each in root.iter(f"{SVG}g") if each.get("id", "").startswith(start)]


def group(root: ET.Element, name: str) -> ET.Element:
    (found,) = [each for each in root.iter(f"{SVG}g") if each.get("id") == name]
    return found


def marks(root: ET.Element, name: str) -> list[tuple[float, float]]:
    """The places of a group's marks."""
    return [
        (float(each.attrib["x"]), float(each.attrib["y"])) for each in group(root, name).iter(f"{SVG}use")
    ]


def shapes(root: ET.Element, name: str) -> list[ET.Element]:
    """Those of a group that are filled with a colour; cells without a value are there, and transparent."""
    found = [each for each in group(root, name).iter(f"{SVG}path") if "fill: #" in each.get("style", "")]
    return [each for each in found if "fill-opacity: 0" not in each.attrib["style"]]


def colour(shape: ET.Element) -> tuple[int, int, int]:
    found = re.search(r"fill: #([0-9a-f]{6})", shape.attrib["style"])
    assert found is not None
    return int(found[1][:2], 16), int(found[1][2:4], 16), int(found[1][4:], 16)
