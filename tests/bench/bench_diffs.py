"""The judge of diffs, measured: false "same" on mutants, twins recognised, speed, hostile inputs.

    python tests/bench/bench_diffs.py [--repos FOLDER...] [--commits 40] [--mutants 6] [--only LANGUAGE...]

Without --repos the samples of tests/fixtures/diffs are used. With it, each git repository's newest commits are
the patches: mutants change the lines that a commit changed, and are judged with the base, from hunks alone and
by fingerprint. Formatters (black, prettier, clang-format, rustfmt) make twins where they are on the path.
"""

# ruff: noqa: E501 - reports and hostile cases read best one to a line
from __future__ import annotations

import argparse
import difflib
import json
import random
import re
import resource
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))

from features.diffs.answers import open_and_digests  # noqa: E402
from features.diffs.calls import edit_of_text, edit_of_tree  # noqa: E402
from features.diffs.fingerprint import agreement, fingerprint  # noqa: E402
from features.diffs.judge import judge  # noqa: E402
from features.diffs.languages import language_of  # noqa: E402
from features.diffs.patches import parse_patch  # noqa: E402
from features.wire.types import Part  # noqa: E402
from tests.bench.mutations import mutants  # noqa: E402
from tests.bench.twins import find_tools, formatted, rewritten  # noqa: E402

if TYPE_CHECKING:
    from collections.abc import Iterator

SKIPPED = re.compile(r"\.min\.|\.lock$|package-lock|\.snap$|/dist/|/vendor/")
MAX_BYTES = 120_000


class Change(NamedTuple):
    """One file as a commit found and left it, and the rows that it wrote."""

    path: str
    before: bytes
    after: bytes
    rows: set[int]


def from_repository(folder: Path, commits: int) -> Iterator[Change]:
    """Files changed by the newest commits without merges."""

    def git(*words: str) -> bytes:
        return subprocess.run(["git", "-C", str(folder), *words], capture_output=True, check=False).stdout

    for commit in git("log", "--no-merges", "--format=%H", f"-{commits}").decode().split():
        for path in (
            git("diff", "--name-only", "--diff-filter=AM", "-z", f"{commit}^", commit).decode().split("\0")
        ):
            if not path or language_of(path) is None or SKIPPED.search(path):
                continue
            before, after = git("show", f"{commit}^:{path}"), git("show", f"{commit}:{path}")
            if 0 < len(after) < MAX_BYTES and b"\0" not in after and len(before) < MAX_BYTES:
                old, new = (
                    before.decode("utf-8", "replace").split("\n"),
                    after.decode("utf-8", "replace").split("\n"),
                )
                blocks = difflib.SequenceMatcher(None, old, new, autojunk=False).get_opcodes()
                rows = {
                    row for tag, _, _, start, end in blocks if tag != "equal" for row in range(start, end)
                }
                yield Change(path, before, after, rows)


def from_samples() -> Iterator[Change]:
    """The samples, as files that a commit has just made."""
    for path in sorted((ROOT / "tests" / "fixtures" / "diffs").iterdir()):
        source = path.read_bytes()
        yield Change(f"src/{path.name}", b"", source, set(range(source.count(b"\n") + 1)))


def as_patch(path: str, before: bytes, after: bytes, context: int):
    """A unified diff, parsed."""
    old, new = (text.decode("utf-8", "surrogateescape").splitlines(True) for text in (before, after))
    lines = difflib.unified_diff(old, new, f"a/{path}" if before else "/dev/null", f"b/{path}", n=context)
    return parse_patch("".join(lines).encode("utf-8", "surrogateescape"))


def mutation_report(changes: list[Change], per_file: int, rng: random.Random) -> int:
    """False "same" among mutants: with the base, from hunks, by strong and weak fingerprints."""
    tried: Counter[str] = Counter()
    kinds: Counter[str] = Counter()
    wrong: Counter[tuple[str, str, str]] = Counter()
    for path, before, after, rows in changes:
        language = language_of(path)
        assert language is not None
        base = {path: before} if before else {}
        strong_a, weak_a = edit_of_tree({path: after}), as_patch(path, before, after, 3)
        prints = fingerprint(strong_a, base), fingerprint(weak_a)
        for mutant in mutants(after, language.name, rng, rows, per_file):
            tried[language.name] += 1
            kinds[mutant.kind] += 1
            strong_b, weak_b = edit_of_tree({path: mutant.source}), as_patch(path, before, mutant.source, 3)
            found = {
                "base": judge(strong_a, strong_b, base, set_aside=False).same,
                "hunks": judge(weak_a, weak_b, set_aside=False).same,
                "print": agreement(prints[0], fingerprint(strong_b, base)).level is not None,
                "weak print": agreement(prints[1], fingerprint(weak_b)).level is not None,
            }
            for how, same in found.items():
                if same:
                    wrong[language.name, mutant.kind, how] += 1
                    print(f"FALSE SAME ({how}, {language.name}, {mutant.kind}) in {path}")
                    sys.stdout.writelines(_difference(after, mutant.source))
    print(
        f"mutants: {sum(tried.values()):,} pairs, {len(tried)} languages, false same: {sum(wrong.values())}"
    )
    print("  by language:", ", ".join(f"{name} {count:,}" for name, count in sorted(tried.items())))
    print("  by kind:", ", ".join(f"{name} {count:,}" for name, count in kinds.most_common()))
    return sum(wrong.values())


def _difference(a: bytes, b: bytes) -> list[str]:
    """The lines in which two sources differ, for the reader of the report."""
    old, new = (text.decode("utf-8", "replace").splitlines(True) for text in (a, b))
    return list(difflib.unified_diff(old, new, n=1))[2:14]


def twin_report(changes: list[Change], rng: random.Random) -> None:
    """Share of twins recognised at their level, by language and kind."""
    tools, tried, seen = find_tools(), Counter(), Counter()
    for path, _, after, _ in changes:
        language = language_of(path)
        assert language is not None
        for twin in [*formatted(after, language.name, tools), *rewritten(after, language.name, rng)]:
            key = language.name, twin.kind
            verdict = judge(edit_of_tree({path: after}), edit_of_tree({path: twin.source}), set_aside=False)
            tried[key] += 1
            seen[key] += verdict.same and verdict.level <= twin.level
    print(f"twins: {sum(seen.values()):,} of {sum(tried.values()):,} recognised at their level")
    for name in sorted({language for language, _ in tried}):
        kinds = [
            f"{kind} {seen[name, kind]}/{count}"
            for (lang, kind), count in sorted(tried.items())
            if lang == name
        ]
        total = sum(count for (lang, _), count in tried.items() if lang == name)
        good = sum(count for (lang, _), count in seen.items() if lang == name)
        print(f"  {name}: {good}/{total} = {good / total:.1%} ({', '.join(kinds)})")


def timed(about: str, work) -> None:
    """CPU milliseconds of the best of seven runs of some work (wall time here is others' load), its answer."""
    best, answer = 1e9, None
    for _ in range(7):
        started = time.process_time()
        answer = work()
        best = min(best, time.process_time() - started)
        if best > 0.5:
            break
    print(f"  {about}: {best * 1e3:,.3f} ms · {answer}")


def speed_report() -> None:
    """A 3,500-line file of each kind judged, fingerprinted, compared."""
    import argparse as library

    source = Path(library.__file__).read_bytes()
    source = b"\n".join((source + source).split(b"\n")[:3500])
    source = source[: source.rindex(b"\nclass ")] + b"\n"
    path = "src/big.py"
    other = source.replace(b"return result", b"return  (result)  # so", 1).replace(b"'store'", b'"store"', 1)
    wrong = source.replace(b"is None", b"is not None", 1)
    base = {path: source.replace(b"def ", b"def  ", 1)}
    a, b, c = (edit_of_tree({path: text}) for text in (source, other, wrong))
    print(f"speed, {source.count(10):,} lines of Python:")
    timed("judge, same at L2", lambda: judge(a, b, base).level)
    timed("judge, not the same", lambda: judge(a, c, base).level)
    timed("fingerprint", lambda: len(fingerprint(a, base)))
    one, two = fingerprint(a, base), fingerprint(b, base)
    timed("compare two fingerprints", lambda: agreement(one, two).level)
    script = (ROOT / "tests" / "fixtures" / "diffs" / "sample.js").read_bytes()
    big = b"\n".join(re.sub(rb"(import|export) [^\n]*\n", b"", script) for _ in range(120))
    x, y = edit_of_tree({"a.js": big}), edit_of_tree({"a.js": big.replace(b"amount", b"sum", 1)})
    timed(f"judge, {big.count(10):,} lines of JavaScript, not the same", lambda: judge(x, y).level)


def digest_report() -> None:
    """Digests of an answer's edits, as the gateway makes them, without a grammar."""
    source = Path(argparse.__file__).read_text()
    whole = "\n".join((source + source).split("\n")[:3500])
    many = [{"old_string": f"{'a' * n}b", "new_string": f"{'a' * n}c"} for n in range(1000, 2900, 30)]
    answers = {
        "an edit": ("Edit", {"file_path": "a.py", "old_string": "x = 1\ny = 2", "new_string": "x = 2"}),
        "a file of 3,500 lines": ("Write", {"file_path": "a.py", "content": whole}),
        "63 edits that hold each other": ("MultiEdit", {"file_path": "a.py", "edits": many}),
        "256 kB of blanks": ("Write", {"file_path": "a.py", "content": " \n" * (120 << 10)}),
    }
    print("digests of an answer:")
    for name, (tool, arguments) in answers.items():
        parts = [Part(kind="tool_call", text=json.dumps(arguments), name=tool)]
        timed(name, lambda p=parts: len(open_and_digests(p)[1]))


def hostile_report() -> None:
    """Bounded answers to what nobody should send."""
    good = parse_patch("--- a/x.py\n+++ b/x.py\n@@ -1 +1 @@\n-a\n+b\n")
    head = b"--- a/x.py\n+++ b/x.py\n"
    deep = 20_000
    cases = {
        "100 MB patch": head + b"@@ -1 +1 @@\n-a\n+b\n" * 5_600_000,
        "a million hunks": head + b"@@ -1 +1 @@\n-a\n+b\n" * 800_000,
        "a hunk of a million lines": head + b"@@ -0,0 +1,1000000 @@\n" + b"+x = 1\n" * 1_000_000,
        "16 MB in one line": head + b"@@ -1 +1 @@\n-a\n+" + b"x" * (15 << 20) + b"\n",
        "brackets 20,000 deep": head + b"@@ -1 +1 @@\n-a\n+" + b"[" * deep + b"]" * deep + b"\n",
        "x+x+x… 300,000 times": head + b"@@ -1 +1 @@\n-a\n+x" + b"+x" * 300_000 + b"\n",
        "if in if, 2,000 deep": head
        + b"@@ -1 +1,2000 @@\n-a\n"
        + b"".join(b"+" + b" " * n + b"if a:\n" for n in range(2000)),
        "5,000 files": b"".join(
            b"--- a/%d.py\n+++ b/%d.py\n@@ -1 +1 @@\n-a\n+b\n" % (n, n) for n in range(5000)
        ),
        "invalid UTF-8": head + b"@@ -1 +1 @@\n-a\n+" + bytes(range(128, 256)) * 1000 + b"\n",
        "binary": bytes(range(256)) * 40_000,
        "a path that leaves": b"--- a/../../x\n+++ b/../../x\n@@ -1 +1 @@\n-a\n+b\n",
        "unclosed markers": b"<<<<<<< SEARCH\n" * 200_000,
        "markers without end": b"<<<<<<< SEARCH\na\n=======\n" * 100_000,
    }
    print("hostile inputs, judged against a good patch with and without the base:")
    for name, data in cases.items():
        for base in ({"x.py": b"a\n"}, None):
            timed(
                f"{name} ({'base' if base else 'hunks'})",
                lambda d=data, b=base: judge(good, edit_of_text(d), b).level,
            )
    print(
        f"  peak memory of this process: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:,.0f} MB"
    )


def main() -> None:
    """Print every report; exit 1 on a false "same"."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repos", nargs="*", type=Path, default=[])
    parser.add_argument("--commits", type=int, default=40)
    parser.add_argument("--mutants", type=int, default=0, help="per changed file")
    parser.add_argument("--only", nargs="*", default=[])
    parser.add_argument("--skip", nargs="*", default=[], choices=["mutants", "twins", "speed", "hostile"])
    options = parser.parse_args()
    gone = [
        str(folder)
        for folder in options.repos
        if not (folder / ".git").exists() and not (folder / "HEAD").exists()
    ]
    if gone:
        parser.error(f"no git repository: {', '.join(gone)}")
    changes = [change for folder in options.repos for change in from_repository(folder, options.commits)]
    changes = changes if options.repos else list(from_samples())
    changes = [c for c in changes if not options.only or language_of(c.path).name in options.only]
    wrong = 0
    if "mutants" not in options.skip:
        wrong = mutation_report(changes, options.mutants or (6 if options.repos else 80), random.Random(1))
    if "twins" not in options.skip:
        twin_report(changes, random.Random(2))
    if "speed" not in options.skip:
        speed_report()
        digest_report()
    if "hostile" not in options.skip:
        hostile_report()
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
