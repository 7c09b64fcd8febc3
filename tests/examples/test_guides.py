"""README.md and the guides: what they quote exists, what they show works."""

from __future__ import annotations

import inspect
import re
from pathlib import Path
from typing import NamedTuple

import pytest

from pollin_actors.facade import Callbacks, Endpoints
from tests.examples.programs import ROOT

README = ROOT / "README.md"
EXAMPLES = ROOT / "examples"
INDEX = EXAMPLES / "README.md"
GUIDES = sorted(set(EXAMPLES.glob("*.md")) - {INDEX})
PAGES = [*sorted(ROOT.glob("*.md")), INDEX, *GUIDES]
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\(([^)#\s]+)(?:#[^)\s]*)?\)")


class Block(NamedTuple):
    """A fenced block: its language and its text."""

    language: str
    text: str


def blocks_of(page: Path, language: str) -> list[str]:
    found = [Block(*match) for match in FENCE.findall(page.read_text(encoding="utf-8"))]
    return [block.text for block in found if block.language == language]


@pytest.mark.parametrize("guide", GUIDES, ids=lambda path: path.name)
def test_quotes_are_verbatim(guide: Path) -> None:
    """Every block of Python in a guide names its file first and occurs in it, letter for letter."""
    quotes = blocks_of(guide, "python")
    assert quotes, "a guide that quotes nothing"
    for quote in quotes:
        first, _, code = quote.partition("\n")
        assert first.startswith("# examples/"), f"does not name its file: {first}"
        source = (ROOT / first.removeprefix("# ")).read_text(encoding="utf-8")
        assert code.strip("\n") in source, f"is not in {first.removeprefix('# ')}:\n{code}"


def test_every_example_is_quoted() -> None:
    """No example lies there without a guide that leads to it."""
    text = "".join(guide.read_text(encoding="utf-8") for guide in GUIDES)
    files = [path.name for path in EXAMPLES.glob("*.py") if path.name != "__init__.py"]
    assert [name for name in files if f"# examples/{name}\n" not in text] == []


def test_the_index_names_all_of_it() -> None:
    """Every guide and every program is in examples/README.md."""
    linked = set(LINK.findall(INDEX.read_text(encoding="utf-8")))
    there = {path.name for path in EXAMPLES.iterdir() if path.suffix in (".md", ".py", ".yaml")}
    assert there - {"README.md", "__init__.py"} == linked


@pytest.mark.parametrize("page", PAGES, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_links_lead_somewhere(page: Path) -> None:
    """A link to a file of the project leads to one that is there."""
    links = LINK.findall(page.read_text(encoding="utf-8"))
    local = [link for link in links if "://" not in link]
    assert [link for link in local if not (page.parent / link).exists()] == []


def test_the_embedding_in_the_readme_works(capsys: pytest.CaptureFixture[str]) -> None:
    """The README's program prints what the README says it prints."""
    (program,) = blocks_of(README, "python")
    (printed,) = blocks_of(README, "text")[-1:]
    exec(compile(program, "README.md", "exec"), {})
    assert capsys.readouterr().out == printed


def test_the_readme_has_two_commands_of_one_line_each() -> None:
    """The first ends in ``pollin serve``, the second in pytest; each makes its own environment."""
    serve, test = (block.rstrip("\n") for block in blocks_of(README, "bash"))
    for command in (serve, test):
        assert command.startswith("python3 -m venv .venv")
        assert "\n" not in command
        assert "\\" not in command
    assert serve.endswith(" && .venv/bin/pollin serve")
    assert test.endswith(" && .venv-test/bin/python -m pytest")


@pytest.mark.parametrize("facade", [Endpoints, Callbacks])
def test_the_readme_lists_every_operation(facade: type) -> None:
    """Each method of the facade stands in the README's tables, with all of its arguments."""
    text = README.read_text(encoding="utf-8")
    for name, method in inspect.getmembers(facade, inspect.isfunction):
        if name.startswith("_") or name == "ref":
            continue
        rows = [line for line in text.splitlines() if line.startswith(f"| `{name}(")]
        assert rows, f"{facade.__name__}.{name} is in no table"
        for argument in inspect.signature(method).parameters:
            if argument not in ("self", "timeout"):
                assert any(argument in row for row in rows), f"{name}: {argument} is not shown"
