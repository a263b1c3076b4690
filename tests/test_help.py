"""What `--help` tells: every command is found, has an example, and the examples are command lines that work."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator

import click
import pytest

from orchestrator.cli import _SECTIONS, main

COMMENT = re.compile(r"\s{2,}|\s[|>&]|\s\$\(")
"""Where the command ends in the line of an example."""


def commands(command: click.Command, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    yield path
    if isinstance(command, click.Group):
        context = click.Context(command)
        for name in command.list_commands(context):
            inner = command.get_command(context, name)
            assert inner is not None
            yield from commands(inner, (*path, name))


def find(path: tuple[str, ...]) -> click.Command:
    found: click.Command = main
    for name in path:
        assert isinstance(found, click.Group)
        inner = found.get_command(click.Context(found), name)
        assert inner is not None, f"there is no command {' '.join(path)}"
        found = inner
    return found


PATHS = list(commands(main))
EXAMPLES = [
    (path, line.strip())
    for path in PATHS
    for line in (find(path).epilog or "").splitlines()
    if re.match(r"\s+([A-Z_]+=\S+ )*orchestrator ", line)
]


def test_there_are_many() -> None:
    assert len(PATHS) > 40
    assert len(EXAMPLES) > 60


def test_every_command_stands_under_one_heading() -> None:
    names = [name for section in _SECTIONS.values() for name in section]
    assert len(names) == len(set(names))
    assert [path[0] for path in PATHS if len(path) == 1] == names


@pytest.mark.parametrize("path", PATHS, ids=" ".join)
def test_it_has_an_example_and_says_what_each_option_is_for(path: tuple[str, ...]) -> None:
    command = find(path)
    shown = f"orchestrator {' '.join(path)}"
    assert any(shown in line for _, line in EXAMPLES), f"no example of {shown}"
    silent = [each.name for each in command.params if isinstance(each, click.Option) and not each.help]
    assert not silent, f"options of {shown} without a word"
    assert len(command.get_short_help_str(limit=200)) >= 10


@pytest.mark.parametrize(("path", "line"), EXAMPLES, ids=[line for _, line in EXAMPLES])
def test_the_examples_are_command_lines(path: tuple[str, ...], line: str) -> None:
    words = shlex.split(COMMENT.split(line)[0])
    arguments = words[words.index("orchestrator") + 1 :]
    command: click.Command = main
    while isinstance(command, click.Group) and arguments and not arguments[0].startswith("-"):
        inner = command.get_command(click.Context(command), arguments[0])
        if inner is None:
            break
        command, arguments = inner, arguments[1:]
    context = click.Context(command)
    given, rest, _ = command.make_parser(context).parse_args(list(arguments))
    assert not rest, f"what are {rest} in {line!r}?"
    for option in command.params:
        if isinstance(option, click.Option) and option.required and not isinstance(command, click.Group):
            assert given.get(str(option.name)), f"{line!r} lacks {option.opts}"
