"""What a file is for, judged by its path: product code, or something a reviewer sets aside."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Literal

Role = Literal["code", "test", "doc", "lock", "scratch"]

_SHORT = 400  # characters of a path that comes again, as those of a session's edits do
_KEPT = 4_096  # of them remembered

_TEST_DIR = re.compile(
    r"(^|/)(tests|__tests__|specs?|e2e|testdata|__snapshots__|cypress)/|^(test|testing)/|/src/test/|^src/test/"
)
_TEST_FILE = re.compile(
    r"(^|/)(test_[^/]*\.py|[^/]*_test\.(py|go|rb|c|cc|cpp|js|ts|jl|php)|tests\.py|conftest\.py|runtests\.jl"
    r"|[^/]*\.(test|spec)\.[cm]?[jt]sx?|[^/]*(Test|Tests|IT)\.(java|kt|cs|php)|[^/]*_spec\.rb|test_[^/]*\.(rb|sh|c|cpp|jl))$"
)
_DOC = re.compile(
    r"(^|/)(docs?|documentation|changelog\.d|changes|changelog|newsfragments|whatsnew|release_notes)/"
    r"|\.(md|rst|adoc|markdown|mdx)$|(^|/)(README|CHANGES|CHANGELOG|HISTORY|NEWS|AUTHORS|LICENSE|CONTRIBUTORS)(\.[a-z]+)?$",
    re.IGNORECASE,
)
_LOCK = re.compile(
    r"(^|/)(package-lock\.json|npm-shrinkwrap\.json|yarn\.lock|pnpm-lock\.yaml|bun\.lockb?|go\.sum|composer\.lock"
    r"|Manifest\.toml|packages\.lock\.json|[^/]+\.lock)$"
)
_SCRATCH = re.compile(
    r"^(?:[^/]*[_-])?(?:repro|reproduce[rs]?|reproduction|debug|demo|verify|verification|check|scratch|temp|tmp|example"
    r"|simple|final|comprehensive|edge|validate|validation)(?:[_-][^/]*)?\.(?:py|js|ts|sh|rb|go)$"
    r"|(^|/)[^/]+\.(orig|rej|bak|log|pyc|swp)$|(^|/)\.(DS_Store|coverage)$|(^|/)__pycache__/",
    re.IGNORECASE,
)


def role_of(path: str, *, created: bool = False) -> Role:
    """The role of a path. Only a file which the edit creates can be scratch, such as reproduce_bug.py."""
    return _role(path, created) if len(path) <= _SHORT else _role.__wrapped__(path, created)


@lru_cache(maxsize=_KEPT)
def _role(path: str, created: bool) -> Role:
    if _LOCK.search(path):
        return "lock"
    if _TEST_DIR.search(path) or _TEST_FILE.search(path):
        return "test"
    if _DOC.search(path):
        return "doc"
    if created and _SCRATCH.search(path):
        return "scratch"
    return "code"
