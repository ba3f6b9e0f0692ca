"""Every `postyard …` that a page names can be typed: the command exists, it has these options, and they take these words."""

import contextlib
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from services.cli.__main__ import postyard

ROOT = Path(__file__).parents[3]
PAGES = [ROOT / "README.md", ROOT / "ARCHITECTURE.md", *sorted((ROOT / "docs").glob("*.md"))]
_NAMED = r"(?:postyard|\.venv/bin/python -m services\.cli) ([a-z].*)"


def _words(text: str) -> list[str]:
    """Split what a shell would; what is in brackets may be left out, and is tried with it."""
    words = shlex.split(re.sub(r"(?<!\S)\[|\](?!\S)", "", text), comments=True)
    end = next((at for at, word in enumerate(words) if word and set(word) <= set("|<>;&")), None)
    return words[:end]


def typed() -> Iterator[tuple[str, list[str]]]:
    """Give the lines that are to be typed as they are, with their page."""
    for page in PAGES:
        for line in re.findall(rf"^ {{4}}{_NAMED}$", page.read_text(), re.MULTILINE):
            yield page.name, _words(line)


def mentioned() -> Iterator[tuple[str, list[str]]]:
    """Give what a sentence names, which may lack what the command requires."""
    for page in PAGES:
        for span in re.findall(r"`([^`\n]+)`", page.read_text()):
            if (found := re.fullmatch(_NAMED, span)) and "…" not in found[1]:
                yield page.name, _words(found[1])


def command_of(words: list[str]) -> tuple[click.Command, list[str]]:
    """Walk down the groups; gives the command, and the words left for it."""
    found: click.Command = postyard
    while isinstance(found, click.Group) and words:
        assert words[0] in found.commands, f"no such command: {words[0]}"
        found, words = found.commands[words[0]], words[1:]
    return found, words


def parse(words: list[str]) -> None:
    command, rest = command_of(words)
    with contextlib.suppress(click.exceptions.Exit):  # --help has been read.
        command.make_context("postyard", list(rest))


def shown(case: object) -> str:
    return " ".join(case) if isinstance(case, list) else str(case)


@pytest.mark.parametrize(("page", "words"), list(typed()), ids=shown)
def test_what_is_to_be_typed_is_understood(page: str, words: list[str]) -> None:
    try:
        parse(words)
    except click.ClickException as error:
        pytest.fail(f"{page}: postyard {' '.join(words)}: {error.format_message()}")


@pytest.mark.parametrize(("page", "words"), list(mentioned()), ids=shown)
def test_what_is_mentioned_exists_with_its_options(page: str, words: list[str]) -> None:
    command, rest = command_of(words)
    known = {name for each in command.params for name in (*each.opts, *each.secondary_opts)}
    assert {word for word in rest if word.startswith("-")} <= known | {"--help"}, page


@pytest.mark.parametrize(
    "line", ["limts show gmail", "pause --providr gmail --reason x", "slow --provider gmail --to x"]
)
def test_a_line_that_is_wrong_would_be_found(line: str) -> None:
    with pytest.raises((AssertionError, click.UsageError)):
        parse(_words(line))


def test_the_pages_name_the_commands_of_operators() -> None:
    assert len(list(typed())) >= 15
    assert {words[0] for _, words in [*typed(), *mentioned()]} >= {
        *("queue", "explain", "pause", "resume", "cancel", "reroute", "limit", "limits"),
        *("config", "topics", "simulate"),
    }
