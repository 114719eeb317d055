"""Pairs that once were called the same and do something else, and near them pairs that are the same."""

# ruff: noqa: E501 - tables of sources read best one to a line
from __future__ import annotations

import pytest

from features.diffs.calls import edit_of_text, edit_of_tree
from features.diffs.fingerprint import agreement, fingerprint
from features.diffs.judge import judge

_ORDERED = ("def z():\n    pass\n", "def a({}):\n    return f\n")
_FRAMES = "import sys\ndef fmt(t):\n    return t.format(**sys._getframe(1).f_locals)\ndef g():\n    {} = 'x'\n    return fmt('hi {{name}}')\n"

# (path, a, b)
DIFFERENT = [
    # walrus in a comprehension
    ("m.py", "def f(xs):\n    y = 0\n    [y := x for x in xs]\n    return y\n", "def f(xs):\n    y = 0\n    [z := x for x in xs]\n    return y\n"),
    ("m.py", "def f(ps):\n    m = None\n    if any((m := p()) for p in ps):\n        return m\n", "def f(ps):\n    m = None\n    if any((n := p()) for p in ps):\n        return m\n"),
    ("m.py", "any((last := x) for x in xs)\nprint(last)\n", "any((final := x) for x in xs)\nprint(last)\n"),
    # order of definitions
    *(("m.py", _ORDERED[0] + _ORDERED[1].format(taken), _ORDERED[1].format(taken) + _ORDERED[0]) for taken in ("f=z", "f: z", "*, f=z", "*f: z")),
    ("m.py", "class A:\n    def get(self): ...\n    def do(self, cb=get): ...\n", "class A:\n    def do(self, cb=get): ...\n    def get(self): ...\n"),
    ("m.py", "def b(): 1\ndef a(): 2\nH = list(globals())\n", "def a(): 2\ndef b(): 1\nH = list(globals())\n"),
    ("m.py", "class A(metaclass=M):\n    def b(self): 1\n    def a(self): 2\n", "class A(metaclass=M):\n    def a(self): 2\n    def b(self): 1\n"),
    # attributes of imports
    ("a.rs", "#[cfg(windows)]\nuse b::Y;\nuse a::X;\n", "#[cfg(windows)]\nuse a::X;\nuse b::Y;\n"),
    ("a.rs", "use a;\n#[doc(hidden)]\n// said\npub use b;\npub use c;\n", "use a;\n#[doc(hidden)]\n// said\npub use c;\npub use b;\n"),
    ("a.js", "import /* c */ './a.js';\nimport b from 'b';\n", "import b from 'b';\nimport /* c */ './a.js';\n"),
    # directives of JavaScript
    ("a.js", ';"use strict";\nx = 1;\n', '"use strict";\nx = 1;\n'),
    ("a.js", 'function f(){;"use strict"; return this}\n', 'function f(){"use strict"; return this}\n'),
    ("a.tsx", ';"use client";\nx();\n', '"use client";\nx();\n'),
    ("a.jsx", "import {h} from 'p';\n/** @jsx h */\nimport A from './a';\n", "import {h} from 'p';\nimport A from './a';\n"),
    ("a.jsx", "import {h} from 'p';\n/** @jsx h */\nimport A from './a';\n", "import {h} from 'p';\n/** @jsx k */\nimport A from './a';\n"),
    ("a.ts", "import a from 'a';\n// @ts-ignore\nimport b from 'b';\n", "import a from 'a';\nimport b from 'b';\n"),
    # ends of block scalars
    ("a.yaml", "a: |+\n  x\n\n\nb: 1\n", "a: |+\n  x\nb: 1\n"),
    ("a.yaml", "a: |+\n  x\n\n\n", "a: |+\n  x\n"),
    ("a.yaml", "a: |\n  x  \nb: 1\n", "a: |\n  x\nb: 1\n"),
    ("a.yaml", "a: >+\n  x\n\n", "a: >+\n  x\n"),
    # Python
    ("m.py", "@dataclass\nclass P:\n    x: int = 0\n", "@dataclass\nclass P:\n    (x): int = 0\n"),
    ("m.py", "def f():\n    'doc'\nprint(f.__doc__)\n", "def f():\n    f'doc'\nprint(f.__doc__)\n"),
    ("m.py", '"""usage: a"""\ntype X = int\nprint(__doc__)\n', '"""usage: b"""\ntype X = int\nprint(__doc__)\n'),
    # names read as text
    ("m.py", _FRAMES.format("name"), _FRAMES.format("other")),
    ("m.py", "from builtins import locals as l\ndef g():\n    name = 'x'\n    return l()\n", "from builtins import locals as l\ndef g():\n    nm = 'x'\n    return l()\n"),
    ("m.py", "read = locals\ndef g():\n    name = 'x'\n    return read()\n", "read = locals\ndef g():\n    nm = 'x'\n    return read()\n"),
    ("m.py", "import duckdb\ndef f():\n    df = load()\n    return duckdb.sql('select * from df')\n", "import duckdb\ndef f():\n    frame = load()\n    return duckdb.sql('select * from df')\n"),
    ("m.py", "from patsy import dmatrix\ndef f():\n    age = load()\n    return dmatrix('age')\n", "from patsy import dmatrix\ndef f():\n    years = load()\n    return dmatrix('age')\n"),
    ("m.py", "import inspect\ndef h():\n    return inspect.stack()\ndef f():\n    age = g()\n    h()\n", "import inspect\ndef h():\n    return inspect.stack()\ndef f():\n    years = g()\n    h()\n"),
    ("m.py", "Q = 'a > @age'\ndef f(d):\n    age = 1\n    g = d.query\n    return k(g)\ndef k(g):\n    return g(Q)\n", "Q = 'a > @age'\ndef f(d):\n    old = 1\n    g = d.query\n    return k(g)\ndef k(g):\n    return g(Q)\n"),
    # C
    ("a.cpp", '#define C R"({"url":"http://a"})"\nint x;\n', '#define C R"({"url":"http://b"})"\nint x;\n'),
    ("a.cpp", '#define C R"({"m":"a  b"})"\nint x;\n', '#define C R"({"m":"a b"})"\nint x;\n'),
    ("a.cpp", '#define C R"(/* a */)"\nint x;\n', '#define C R"(/* b */)"\nint x;\n'),
    ("a.c", "#define S(x) #x\nchar *p = S(a-b);\n", "#define S(x) #x\nchar *p = S(a - b);\n"),
    ("a.c", "#define S(x) #x\n#define T(x) S(x)\nchar *p = T(a-b);\n", "#define S(x) #x\n#define T(x) S(x)\nchar *p = T(a - b);\n"),
    ("a.c", '#define M L"a"\n', '#define M L "a"\n'),
    # comments that are read
    ("m.py", "#!/usr/bin/env python3\nprint(1)\n", "#!/usr/bin/env python2\nprint(1)\n"),
    ("m.py", "# /// script\n# dependencies = ['a<3']\n# ///\nprint(1)\n", "# /// script\n# dependencies = ['b']\n# ///\nprint(1)\n"),
    ("m.py", "# cython: boundscheck=True\nprint(1)\n", "# cython: boundscheck=False\nprint(1)\n"),
    ("m.py", "# Databricks notebook source\n# MAGIC %sql DROP TABLE a\nprint(1)\n", "# Databricks notebook source\n# MAGIC %sql DROP TABLE b\nprint(1)\n"),
    ("a.go", 'package a\n/*\nint add(int a,int b){return a+b;}\n*/\nimport "C"\n', 'package a\n/*\nint add(int a,int b){return a-b;}\n*/\nimport "C"\n'),
    ("a.go", "package a\nfunc ExampleF() {\n\tF()\n\t// Output:\n\t// 1\n}\n", "package a\nfunc ExampleF() {\n\tF()\n\t// Output:\n\t// 2\n}\n"),
    ("a.go", "package a\ntype A struct {\n\t// +kubebuilder:validation:Minimum=1\n\tX int\n}\n", "package a\ntype A struct {\n\t// +kubebuilder:validation:Minimum=9\n\tX int\n}\n"),
    ("a.go", "// +build linux\n\npackage a\n", "// +build linux\npackage a\n"),
    ("a.sh", "#!/bin/bash\n#SBATCH --mem=4G\nrun\n", "#!/bin/bash\n#SBATCH --mem=400G\nrun\n"),
    ("a.sh", "#!/bin/bash\n# chkconfig: 345 90 10\nrun\n", "#!/bin/bash\n# chkconfig: - 90 10\nrun\n"),
    ("a.sh", "# usage: a\nsed -n 's/^# //p' \"$0\"\n", "# usage: b\nsed -n 's/^# //p' \"$0\"\n"),
    ("a.sql", "-- +goose Up\nCREATE TABLE a (x INT);\n-- +goose Down\nDROP TABLE a;\n", "-- +goose Up\nCREATE TABLE a (x INT);\nDROP TABLE a;\n"),
    ("a.sql", "-- name: GetUser :one\nSELECT 1;\n", "-- name: GetUser :many\nSELECT 1;\n"),
    ("a.sql", "--changeset a:1\nDROP TABLE x;\n", "--changeset a:2\nDROP TABLE x;\n"),
    ("a.sql", "SELECT 5--3\n;\n", "SELECT 5--4\n;\n"),
    ("a.rb", "# frozen-string-literal: true\nx = 'a'\n", "# frozen-string-literal: false\nx = 'a'\n"),
    ("a.rb", "# Frozen_String_Literal: true\nx = 'a'\n", "x = 'a'\n"),
    ("a.yaml", "#!py\na: 1\n", "#!jinja|yaml\na: 1\n"),
    ("a.yaml", "## template: jinja\n#cloud-config\na: 1\n", "#cloud-config\na: 1\n"),
    ("a.php", "<?php\n/*\nTemplate Name: Full\n*/\nf();\n", "<?php\n/*\nTemplate Name: Half\n*/\nf();\n"),
    ("a.php", "<?php\nclass A {\n/** @required */\npublic function setX(X $x) {}\n}\n", "<?php\nclass A {\npublic function setX(X $x) {}\n}\n"),
    ("a.php", "<?php\nclass A {\n/** @dataProvider a */\npublic function x() {}\n}\n", "<?php\nclass A {\n/** @dataProvider b */\npublic function x() {}\n}\n"),
    ("a.rs", "#[derive(Display)]\nenum E {\n    /// failed {0}\n    A(u8),\n}\n", "#[derive(Display)]\nenum E {\n    /// ok {0}\n    A(u8),\n}\n"),
    ("a.rs", "use clap::Parser;\n#[derive(Parser)]\nstruct A {\n    /// Port\n    p: u16,\n}\n", "use clap::Parser;\n#[derive(Parser)]\nstruct A {\n    /// Host\n    p: u16,\n}\n"),
    ("a.css", "@charset 'utf-8';\na{b:c}\n", '@charset "utf-8";\na{b:c}\n'),
    ("A.java", "class A { void f(){ // \\u000a g();\n } }\n", "class A { void f(){ // \\u000a h();\n } }\n"),
    ("A.java", "class A{ // a\rint x = 1;\n}\n", "class A{ // a\rint x = 2;\n}\n"),
    ("package.json", '{"a": 1}\n', '/* x */{"a": 1}\n'),
    ("a.html", "<!-- build:js a.js --><p>a</p><!-- endbuild -->\n", "<!-- build:js b.js --><p>a</p><!-- endbuild -->\n"),
    ("a.jl", "# ╔═╡ aaa\nx = 1\n", "# ╟─aaa\nx = 1\n"),
    # bytes before and after
    ("a.php", "<?php header('a');\n", "\ufeff<?php header('a');\n"),
    ("a.sh", "#!/bin/sh\necho 1\n", "\ufeff#!/bin/sh\necho 1\n"),
    ("a.php", "\n<?php header('x');\n", "<?php header('x');\n"),
    ("a.php", "<?php a(); ?> <?php b(); ?>\n", "<?php a(); ?><?php b(); ?>\n"),
    ("a.html", "<xmp>a   b</xmp>\n", "<xmp>a b</xmp>\n"),
    # Rust's macros
    ("a.rs", "macro_rules! n { ($x:expr) => {1}; ($x:expr,) => {2}; }\nfn f()->u8{ n![a,] }\n", "macro_rules! n { ($x:expr) => {1}; ($x:expr,) => {2}; }\nfn f()->u8{ n![a] }\n"),
    ("a.rs", "macro_rules! n { ($f:ident($x:expr,)) => {2}; }\nfn f()->u8{ n!(g(a,)) }\n", "macro_rules! n { ($f:ident($x:expr,)) => {2}; }\nfn f()->u8{ n!(g(a)) }\n"),
    ("a.rs", "fn f()->&'static str{ stringify!(g(x,)) }\n", "fn f()->&'static str{ stringify!(g(x)) }\n"),
]  # fmt: skip

# (path, a, b): still the same
SAME = [
    ("m.py", "def f(xs):\n    [y := x for x in xs]\n    return y\n", "def f(xs):\n    [z := x for x in xs]\n    return z\n"),
    ("m.py", "def b(x: int = 1): 1\ndef a(): 2\n", "def a(): 2\ndef b(x: int = 1): 1\n"),
    ("m.py", "def f():\n    age = 1\n    return age + g(eval('1'))\ndef h():\n    x = 1\n    return k(x) + x\n", "def f():\n    age = 1\n    return age + g(eval('1'))\ndef h():\n    y = 1\n    return k(y) + y\n"),
    ("m.py", "#!/usr/bin/env python3\nx = 1\n", "#!/usr/bin/env python3\n# said\nx = 1  # more\n"),
    ("m.py", "# -*- coding: utf-8 -*-\nx = 1\n", "x = 1\n"),
    ("a.rs", "/// said\nfn f() {}\n", "fn f() {}\n"),
    ("a.rs", "#[cfg(a)]\nuse z::Y;\nuse b::X;\nuse a::X;\n", "#[cfg(a)]\nuse z::Y;\nuse a::X;\nuse b::X;\n"),
    ("a.js", "x = 1;;\ny();\n", "x = 1;\ny();\n"),
    ("tsconfig.json", '{"a": 1}\n', '{"a": 1 /* x */}\n'),
    (".vscode/settings.json", '{"a": 1}\n', '// x\n{"a": 1}\n'),
    ("a.php", "<?php\n/** @param int $a said */\nf();\n", "<?php\n/** @param int $a */\nf();\n"),
    ("a.go", "package a\n// said\nfunc f() {}\n", "package a\nfunc f() {}\n"),
    ("a.yaml", "a: |\n  x\n\n\nb: 1\n", "a: |\n  x\nb: 1\n"),
    ("a.c", "#define S(x) (x)\nint p = S(a-b);\n", "#define S(x) (x)\nint p = S(a - b);\n"),
    ("a.sql", "-- Orders: all\nSELECT 1;\n", "SELECT 1;\n"),
    ("m.py", f"x = (0x{'f' * 5000}, 1)\n", f"x = (0x{'f' * 5000}, 1)  # said\n"),
]  # fmt: skip


def _verdict(path: str, a: str, b: str):
    return judge(*(edit_of_tree({path: text.encode()}) for text in (a, b)), set_aside=False)


@pytest.mark.parametrize(("path", "a", "b"), DIFFERENT)
def test_what_does_something_else_is_never_the_same(path, a, b):
    assert not _verdict(path, a, b).same
    prints = [fingerprint(edit_of_tree({path: text.encode()})) for text in (a, b)]
    assert agreement(*prints).level is None


@pytest.mark.parametrize(("path", "a", "b"), SAME)
def test_what_does_the_same_beside_it_still_is(path, a, b):
    assert _verdict(path, a, b).same


_ODD = (["a = 1;", "b = 2;", "c = 3;"], ["d = 1;", "e = 2;", "f = 3;"])
_TEXT = (["    first line", "    second line", "    third line"], ["    after", "    later", "    last"])
_FLAT = (["import os", "", "DEBUG = True"], ["", "NAME = 'a'", ""])
_CLASS = (["    name = 'a'", "    kind = 'b'", ""], ["", "    other = 1", "    last = 2"])
_CURLY = ("a.js", "a.ts", "a.go", "A.java", "a.rs", "a.cs", "a.cpp")

# (path, lines around, lines added by A, by B)
WEAKLY_DIFFERENT = [
    ("m.py", _FLAT, ["TTL = 60", "CACHES = {'ttl': TTL}"], ["AGE = 60", "CACHES = {'ttl': AGE}"]),
    ("m.py", _CLASS, ["    max_size = 10", "    limit = max_size"], ["    size = 10", "    limit = size"]),
    ("m.py", _CLASS, ["    def f(self):", "        return 1", "    top = 10", "    limit = top"], ["    def f(self):", "        return 1", "    size = 10", "    limit = size"]),
    ("m.py", (["a = 1", "b = 2", "c = 3"], ["d = 1", "e = 2", "f = 3"]), ["# hello"], ["# bye"]),
    *((path, _ODD, ["url = https://a.example/x"], ["url = https://b.example/x"]) for path in _CURLY),
    *((path, _TEXT, ["    Hello   World"], ["    Hello World"]) for path in _CURLY),
    *((path, _TEXT, ["    see // a"], ["    see // b"]) for path in _CURLY),
]  # fmt: skip

WEAKLY_SAME = [
    ("m.py", (["    for a in b:", "        c(a)", "    d()"], ["    return d", "", "x = 1"]), ["    now = g()", "    h(now, now)"], ["    then = g()", "    h(then, then)"]),
    ("m.py", (["    self.a = 1", "    c(a)", "    d()"], ["    e()", "", ""]), ["    now = g()", "    h(now, now)"], ["    then = g()  # said", "    h(then, then)"]),
    ("a.js", (["  if (a) {", "    b();", "  } else {"], ["  }", "  c();", "}"]), ["    d(1); // said"], ["    d(1);"]),
]  # fmt: skip


def _hunk(path: str, around: tuple[list[str], list[str]], added: list[str]):
    before, after = around
    size = len(before) + len(after)
    head = f"--- a/{path}\n+++ b/{path}\n@@ -10,{size} +10,{size + len(added)} @@\n"
    lines = [*(" " + x for x in before), *("+" + x for x in added), *(" " + x for x in after)]
    return edit_of_text(head + "\n".join(lines) + "\n")


@pytest.mark.parametrize(("path", "around", "a", "b"), WEAKLY_DIFFERENT)
def test_a_hunk_that_may_stand_in_a_string_or_a_class_is_not_called_the_same(path, around, a, b):
    edits = _hunk(path, around, a), _hunk(path, around, b)
    assert not judge(*edits).same
    assert agreement(*(fingerprint(edit) for edit in edits)).level is None


@pytest.mark.parametrize(("path", "around", "a", "b"), WEAKLY_SAME)
def test_a_hunk_of_a_function_s_body_is_still_known(path, around, a, b):
    assert judge(_hunk(path, around, a), _hunk(path, around, b)).level == "L2"
