"""Prose uses the words of docs/glossary.md, never a private word for the same thing."""

import ast
import io
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DOCUMENTS = ("*.md", "docs/*.md", "*/README.md")
# Folders whose comments and docstrings are checked too.
CODE = (
    "aegaeon",
    "baselines",
    "workloads",
    "profiles",
    "kernels",
    "figures",
    "notebooks",
    "tests/support",
)
# Whole words, in any case, and what to write instead.
WORDS = {
    r"nobody": "a noun with `no`: no instance, no request",
    r"whoever|whyever": "the noun that is meant",
    r"anew": "again, restarted, recomputed, rebuilt",
    r"(?:made|makes?|making) (?:\w+ )?again": "restarted, rebuilt, repeated",
    r"beside": "in addition to, next to, while … runs",
    r"so long|so many": "the number or the constant's unit",
    r"on end": "consecutive",
    r"shells?": "model engine",
    r"lent|lends?|lending|borrow(?:s|ed|ing)?": "leased",
    r"books?": "ledger",
    r"pieces? of work": "work item",
    r"box(?:es)?": "pending requests",
    r"bur(?:y|ies|ied|ying|ial)": "reap, clean up",
    r"haste": "shutdown deadline",
    r"tickets?": "transfer id",
    r"journeys?": "transfer",
    r"abroad": "in flight",
    r"crowd(?:s|ed|ing)?|company": "neighbours, slowdown by neighbours",
    r"numbers? to reach": "target",
    r"tables? beside the rows": "detail table",
    r"none the wiser|notices? (?:any|no)\w*": "what happens, or does not",
}
PRIVATE = re.compile(
    "|".join(rf"\b(?:{pattern})\b" for pattern in WORDS).replace(" ", r"\s+"), re.IGNORECASE
)
# The number of the first line, and the text.
Block = tuple[int, str]


def documents() -> list[Path]:
    found = [path for pattern in DOCUMENTS for path in ROOT.glob(pattern)]
    return sorted(p for p in found if not p.relative_to(ROOT).parts[0].startswith("."))


def modules() -> list[Path]:
    return sorted(path for folder in CODE for path in (ROOT / folder).rglob("*.py"))


def of_markdown(text: str) -> Iterator[Block]:
    """Yield a document without names in code, targets of links and addresses."""
    yield 1, re.sub(r"`[^`\n]*`|\]\([^)\n]*\)|<?https?://\S+", " ", text)


def of_python(text: str) -> Iterator[Block]:
    """Yield a module's comments and docstrings without names in code."""
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type == tokenize.COMMENT:
            yield token.start[0], re.sub(r"`[^`\n]*`", " ", token.string)
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            found = ast.get_docstring(node, clean=False)
            if found is not None:
                yield node.body[0].lineno, re.sub(r"`[^`\n]*`", " ", found)


def private(blocks: Iterator[Block]) -> list[str]:
    """Return each private word with its line and what to write instead."""
    return [
        f"line {first + text.count(chr(10), 0, match.start())}: {match[0]!r}, write {better(match)}"
        for first, text in blocks
        for match in PRIVATE.finditer(text)
    ]


def better(match: re.Match[str]) -> str:
    word = " ".join(match[0].split())
    return next(text for pattern, text in WORDS.items() if re.fullmatch(pattern, word, re.I))


@pytest.mark.parametrize("path", documents(), ids=lambda p: p.relative_to(ROOT).as_posix())
def test_documents_use_the_words_of_the_glossary(path: Path) -> None:
    assert private(of_markdown(path.read_text())) == []


def test_code_uses_the_words_of_the_glossary() -> None:
    found = {path.relative_to(ROOT).as_posix(): path.read_text() for path in modules()}
    words = {path: private(of_python(text)) for path, text in found.items()}
    assert {path: ours for path, ours in words.items() if ours} == {}


def test_private_words_are_found_in_prose_only() -> None:
    text = "A shell is made\nagain.\nThe [bo-x](docs/box.md) of `shell.py` is a bookcase.\n"
    assert private(of_markdown(text)) == [
        "line 1: 'shell', write model engine",
        "line 1: 'made\\nagain', write restarted, rebuilt, repeated",
    ]
    source = '"""Nobody\n\nlends.\n"""\nbox = "shell"  # anew, in `haste`\n'
    found = [each.split(",")[0] for each in private(of_python(source))]
    assert found == ["line 5: 'anew'", "line 1: 'Nobody'", "line 3: 'lends'"]
