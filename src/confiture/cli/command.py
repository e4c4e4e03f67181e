"""The classes of commands and groups: their help, with examples and exit codes, and the text of usage errors."""

from __future__ import annotations

import gc
import re
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from importlib import import_module
from typing import Any, ClassVar, cast

import typer
from typer.core import TyperCommand, TyperGroup

from confiture.cli.help_texts import EXAMPLES, EXIT_CODES, MIGRATE, PREFIXES

#: The base class of usage errors. typer bundles click and exports no public name for it.
UsageFault: type[Exception] = next(c for c in typer.BadParameter.__mro__ if c.__name__ == "ClickException")

#: The placeholder of the value of an option, by the type of the value.
_METAVARS = {"int": "NUMBER", "float": "SECONDS", "str": "TEXT", "Path": "PATH", "file": "PATH", "path": "PATH"}
_DATABASES = ("--source", "--target")
#: The text that typer adds about the limits of a number; a value outside of them is explained when it is given.
_RANGE = re.compile(r"(?:; |(?<=\[))(?:-?[\d.]+<=)?x[<>]=-?[\d.]+(?:; )?")
#: A default in parentheses, as typer prints words, or a number of seconds with a fraction of zero.
_DEFAULT = re.compile(r"\[default: (?:\((.*)\)|(\d+)\.0)\]$")
#: The sentences of the validator, and plain ones.
_SENTENCES = (
    (r"Input should be greater than or equal to ([\d.]+)\.?", r"it must be at least \1"),
    (r"Input should be less than or equal to ([\d.]+)\.?", r"it must be at most \1"),
    (r"Input should be a valid integer.*", "it must be a whole number"),
    (r"Input should be a (?:valid|finite) number.*", "it must be a number"),
    (r"Input should be a valid boolean.*", "it must be true or false"),
    (r"Input should be (.+)", r"it must be \1"),
    (r"Value error, (.+?)\.?$", r"\1"),
)


def _plain(message: str) -> str:
    for pattern, sentence in _SENTENCES:
        message = re.sub(pattern, sentence, message)
    return message


@contextmanager
def _plain_faults() -> Iterator[None]:
    """Word a usage error without the sentences of the validator."""
    try:
        yield
    except UsageFault as error:
        fault = cast(Any, error)
        fault.message = _plain(fault.message)
        raise


def _metavar(option: Any, context: Any) -> str:
    """The placeholder of the value of an option: a choice in full, else its kind in capital letters."""
    if option.opts[0] in _DATABASES:
        return "DATABASE"
    shown = str(option.display_type(context)).strip("<>").removesuffix(" range")
    element = re.sub(r"list\[(.*)\]", r"\1", shown)
    return _METAVARS.get(element, shown if "|" in shown else element.upper())


def records(command: Any, context: Any, kind: str) -> Iterator[tuple[str, str]]:
    """The arguments or the options of a command, as its help prints them: each with its text."""
    for option in command.get_params(context):
        if option.param_type_name != kind:
            continue
        if option.param_type_name == "option" and option.metavar is None and not option.is_flag:
            option.metavar = _metavar(option, context)
        record = option.get_help_record(context)
        if record is not None:
            help_text = re.sub(r"\s*\[\]$", "", _RANGE.sub("", record[1]))
            yield re.sub(r" <.*>$", "", record[0]), _DEFAULT.sub(r"[default: \1\2]", help_text)


class Command(TyperCommand):
    """A command whose help ends with examples and exit codes.

    :ivar key: of its texts in ``help_texts``; None where it is the name.
    """

    key: str | None = None

    def make_context(self, *arguments: Any, **more: Any) -> Any:
        """Parse the command line; word a usage error plainly."""
        with _plain_faults():
            return super().make_context(*arguments, **more)

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """The arguments and options, each option with the kind of its value."""
        for title, kind in (("Arguments", "argument"), ("Options", "option")):
            if found := list(records(self, ctx, kind)):
                with formatter.section(title):
                    formatter.write_dl(found)

    def format_epilog(self, ctx: Any, formatter: Any) -> None:
        """Examples, as they are typed, and the exit codes."""
        name = self.key or self.name or ""
        with formatter.section("Examples"):
            for example in EXAMPLES.get(name, ()):
                formatter.write(f"{'':{formatter.current_indent}}{PREFIXES.get(name, 'confiture ')}{example}\n")
        with formatter.section("Exit codes"):
            formatter.write_dl([(str(code), text) for code, text in EXIT_CODES.get(name, {}).items()])


class Later(TyperCommand):
    """A command in the help of its group, by its summary; its file is imported when it is called.

    :cvar before: the words before its name in its key of ``help_texts``, with a blank.
    """

    before: ClassVar[str] = ""

    @property
    def key(self) -> str:
        """The key of its texts in ``help_texts``, and the name of its file and function, with ``_`` for a blank."""
        return f"{self.before}{self.name}"

    @cached_property
    def called(self) -> TyperCommand:
        """The command itself: the function of its file that bears its key, by the file's own class if it has one."""
        function = self.key.replace(" ", "_")
        file = import_module(f"confiture.cli.{function}")
        if not gc.isenabled():  # as ``main`` has left it
            gc.freeze()
            gc.enable()
        alone = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)
        alone.command(self.name, cls=getattr(file, "Command", Command))(getattr(file, function))
        found = cast(Any, typer.main.get_command(alone))
        found.key = self.key
        return cast(TyperCommand, found)

    def make_context(self, *arguments: Any, **more: Any) -> Any:
        """Parse the command line of the command itself, which the context then invokes."""
        return self.called.make_context(*arguments, **more)


class LaterOfMigrate(Later):
    """A command of the group ``migrate`` itself."""

    before = f"{MIGRATE} "


class Group(TyperGroup):
    """A group that prints its help, and succeeds, when it is called without a command."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse the command line; print the help when it is empty."""
        if not args and not ctx.resilient_parsing:
            typer.echo(ctx.get_help())
            ctx.exit(0)
        with _plain_faults():
            return super().parse_args(ctx, args)

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Find a command; for one that stands in a nested group, the error names the whole command line."""
        try:
            return super().resolve_command(ctx, args)
        except UsageFault as error:
            nested = next(self._nested(args[0], ctx.command_path), None)
            if nested is not None:
                fault = cast(Any, error)
                fault.message = f"No such command '{args[0]}' here. Did you mean: {nested}"
            raise

    def _nested(self, name: str, path: str) -> Iterator[str]:
        """The command lines of the commands of this name in the groups of this group."""
        for part, group in self.commands.items():
            if isinstance(group, Group):
                if name in group.commands:
                    yield f"{path} {part} {name}"
                yield from group._nested(name, f"{path} {part}")
