"""The group that finds commands by walking this folder, and commands whose arguments may begin with a minus."""

from __future__ import annotations

import importlib
import keyword
import pkgutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from . import _errors

if TYPE_CHECKING:
    from collections.abc import Sequence


class Commands(click.Group):
    """Every public module in this folder is a command: its ``command``, imported when it is needed."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002  (the folder decides)
        here = str(Path(__file__).parent)
        names = [module.name for module in pkgutil.iter_modules([here]) if not module.name.startswith("_")]
        # A word of Python's cannot be a module's name without an underscore behind it: ``import_``.
        return sorted(name.removesuffix("_").replace("_", "-") for name in names)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in self.list_commands(ctx):
            return None
        name = cmd_name.replace("-", "_") + "_" * keyword.iskeyword(cmd_name)
        module = importlib.import_module(f"{__package__}.{name}")
        command: click.Command = module.command
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        known = self.list_commands(ctx)
        if args[0] not in known and not args[0].startswith("-") and not ctx.resilient_parsing:
            import difflib

            near = difflib.get_close_matches(args[0], known, n=1)
            guess = f", did you mean {near[0]!r}?" if near else ""
            raise click.UsageError(f"no such command {args[0]!r}{guess}", ctx)
        return super().resolve_command(ctx, args)

    def main(self, args: Sequence[str] | None = None, *rest: Any, **extra: Any) -> Any:
        """Run to the end and exit: the one place where errors become lines and exit codes."""
        words = sys.argv[1:] if args is None else [*args]
        try:
            code = super().main(words, *rest, **{**extra, "standalone_mode": False})
        except (Exception, KeyboardInterrupt) as error:  # noqa: BLE001  (the last line of defence: a bug is one line too)
            code = _errors.report(error, words)
        sys.exit(code if isinstance(code, int) else 0)


class Signed(click.Command):
    """A command whose arguments may begin with a minus sign: ``registry compose neg "-toxic"``.

    What looks like a short option but is none of the command's own is an argument. Long options are
    options as everywhere, and ``--`` still ends them.
    """

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        own = [param for param in self.get_params(ctx) if isinstance(param, click.Option)]
        known = {name for option in own for name in (*option.opts, *option.secondary_opts)}
        valued = {name for option in own if not (option.is_flag or option.count) for name in option.opts}
        options: list[str] = []
        arguments: list[str] = []
        words = iter(args)
        for word in words:
            if word == "--":
                arguments.extend(words)
            elif word in valued:
                value = next(words, None)
                if value is None:  # nothing may follow the option that lacks its value
                    return super().parse_args(ctx, [*options, word])
                options.extend([word, value])
            elif word.startswith("--") or word in known:
                options.append(word)
            else:
                arguments.append(word)
        return super().parse_args(ctx, [*options, "--", *arguments])
