"""Summaries of real test runners, and failures, read out of tool results."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from features.testruns import RunOutcome, edit_failed, looks_failed, open_result, read_tests

SUMMARIES = [
    ("===== 1 failed, 2 passed in 0.12s =====", 1, 2),
    ("1 failed, 31 passed, 2 skipped, 1 warning in 4.20s\n", 1, 31),
    ("============ 12 passed in 0.50s ============", 0, 12),
    ("====== 3 passed, 1 warning, 2 errors in 1.31s ======", 2, 3),
    ("ERROR tests/test_a.py\n!!! Interrupted !!!\n=== 1 error in 0.10s ===", 1, None),
    ("=== 1 failed, 2 passed, 1 error in 61.2s (0:01:01) ===", 2, 2),
    (
        "...\n----------\nRan 3 tests in 0.001s\n\nOK",
        0,
        3,
    ),
    ("Ran 5 tests in 0.1s\n\nFAILED (failures=1, errors=2)\n", 3, 2),
    ("Ran 5 tests in 0.1s\n\nFAILED (errors=2)\n", 2, 3),
    ("Test Suites: 1 failed, 1 total\nTests:       1 failed, 2 passed, 3 total\nTime:        0.5 s", 1, 2),
    ("Tests:       1 failed, 1 skipped, 2 passed, 4 total\n", 1, 2),
    ("Tests:       8 passed, 8 total\nSnapshots:   0 total", 0, 8),
    (" Test Files  1 failed (1)\n      Tests  1 failed | 2 passed (3)\n   Start at  10:00:00", 1, 2),
    (" Test Files  2 passed (2)\n      Tests  9 passed (9)\n", 0, 9),
    ("  3 passing (10ms)\n  1 failing\n\n  1) adds:\n     AssertionError: expected 1\n", 1, 3),
    ("\n  7 passing (10ms)\n", 0, 7),
    ("--- FAIL: TestAdd (0.00s)\n    a_test.go:5: got 1\nFAIL\nFAIL\texample.com/a\t0.002s\nFAIL\n", 1, None),
    ("ok  \texample.com/a\t0.002s\n", 0, None),
    ("=== RUN   TestAdd\n--- PASS: TestAdd (0.00s)\nPASS\nok  \texample.com/a\t0.002s\n", 0, None),
    ("test result: ok. 5 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.00s", 0, 5),
    (
        "test result: ok. 5 passed; 0 failed; 0 ignored\n"
        + "x\n" * 900
        + "test result: FAILED. 1 passed; 2 failed;",
        2,
        6,
    ),
    ("     Summary [   0.1s] 5 tests run: 4 passed, 1 failed, 0 skipped", 1, 4),
    ("[INFO] Tests run: 5, Failures: 1, Errors: 1, Skipped: 0\n[INFO] BUILD FAILURE", 2, 3),
    ("5 tests completed, 2 failed\n\nFAILURE: Build failed with an exception.", 2, 3),
    ("Finished in 0.01 seconds\n10 examples, 2 failures\n", 2, 8),
    ("5 runs, 9 assertions, 1 failures, 0 errors, 0 skips", 1, 4),
    ("OK (5 tests, 7 assertions)", 0, 5),
    ("FAILURES!\nTests: 5, Assertions: 7, Failures: 1.", 1, 4),
    ("Tests: 5, Assertions: 7, Errors: 1, Failures: 2.", 3, 2),
    ("Passed!  - Failed:     0, Passed:     5, Skipped:     0, Total:     5, Duration: 3 ms", 0, 5),
    ("Failed!  - Failed:     2, Passed:     3, Skipped:     0, Total:     5", 2, 3),
    ("1 doctest, 5 tests, 1 failure\n", 1, 4),
    ("Executed 5 tests, with 1 failure (0 unexpected) in 0.1 seconds", 1, 4),
    ("80% tests passed, 1 tests failed out of 5\n", 1, 4),
    ("# tests 5\n# pass 4\n# fail 1\n", 1, 4),
    ("ℹ tests 5\nℹ pass 5\nℹ fail 0\n", 0, 5),
    (" 4 pass\n 1 fail\nRan 5 tests across 1 files. [10ms]", 1, 4),
    ("\x1b[31m\x1b[1m1 failed\x1b[0m, \x1b[32m2 passed\x1b[0m\x1b[31m in 0.12s\x1b[0m", 1, 2),
]


@pytest.mark.parametrize(("output", "failed", "passed"), SUMMARIES)
def test_summaries(output, failed, passed):
    assert read_tests(output) == RunOutcome(failed, passed)
    assert read_tests("line of output\n" * 500 + output.replace("\n", "\r\n")) == RunOutcome(failed, passed)


@pytest.mark.parametrize(
    "output",
    [
        "",
        "3 files changed in 2 commits",
        "done in 0.5s",
        "Compiled 12 modules in 3.1s",
        "no tests ran in 0.01s",
        "all of it passed review",
        "PASSWORD=FAIL",
    ],
)
def test_other_output_is_no_test_run(output):
    assert read_tests(output) is None


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("Exit code 1\nTraceback", 1),
        ("Exit code: 0\nWall time: 0.1 seconds\nOutput:\nx", 0),
        ("Chunk ID: 4a\nWall time: 0.0 seconds\nProcess exited with code 127\nOutput:\n", 127),
        ('{"output":"a\\nb","metadata":{"exit_code":2,"duration_seconds":0.1}}', 2),
        ("<returncode>1</returncode>\n<output>\nx</output>", 1),
        ("x" * 5000 + "\n[Command finished with exit code 3]", 3),
        ("the exit sign", None),
        ("", None),
    ],
)
def test_exit_codes(text, code):
    assert open_result(text, shell=True).exit_code == code


def test_codex_output_is_unwrapped():
    assert open_result('{"output":"a\\nb","metadata":{"exit_code":2}}', shell=False).text == "a\nb"
    assert open_result('{"output": broken', shell=True).text == '{"output": broken'


def test_failures():
    assert looks_failed("Error: no such file", shell=False)
    assert not looks_failed("line 1\nTraceback (most recent call last)", shell=False)  # a file that was read
    assert looks_failed("bash: pyetst: command not found", shell=True)
    assert edit_failed("<tool_use_error>String to replace not found in file.\nString:")
    assert edit_failed("apply_patch verification failed: Failed to find expected lines in a.py")
    assert not edit_failed("The file a.py has been updated successfully.")


@settings(max_examples=200, deadline=None)
@given(st.text(alphabet="=1 ,passedfilr\nTests:ok.\t|()%#", max_size=400))
def test_any_output_is_read(output):
    outcome = read_tests(output)
    assert outcome is None or (outcome.failed or 0) >= 0
    open_result(output, shell=True)


@pytest.mark.parametrize(
    "piece", ["1 failed, ", "Tests: ", "Ran 1 tests in ", " in ", "9", "Tests:  1 ", "\n ", "3 passing"]
)
def test_hostile_output(piece):
    """Only the tail is read: patterns that blew up would hang this test."""
    assert read_tests(piece * 200_000) == read_tests((piece * 200_000)[-10_000:])
