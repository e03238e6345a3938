"""Draw a plot into a file, which appears whole or not at all."""

from __future__ import annotations

import os
from pathlib import Path

from registry import plots
from registry._paths import expanded
from registry.errors import Conflict
from registry.plots import Catalog, Options
from registry.results import Plotted
from registry.verbs import _container


def plot(
    catalog: Catalog, what: str, subject: str, out: str | Path, options: Options, *, replace: bool
) -> Plotted:
    target = Path(out)
    form = plots.form_of(target)
    chosen = plots.load(what, options)
    if not replace and os.path.lexists(expanded(target)):
        raise Conflict(f"{target} exists", hint="name another file, or replace it with --force")
    drawing = chosen.draw(catalog, subject, options)
    data = plots.encode(drawing, form)
    with _container.new_file(target, replace=replace) as file:
        file.write(data)
    return Plotted(
        path=str(target), what=what, subject=drawing.subject, format=form, size=len(data), notes=drawing.notes
    )
