"""Whose process is gone is told from whose lives on, also when its number was given away again."""

import os
import platform
import subprocess
import sys

from training.tracking import LONGEST_MS, _gone, short, this_process


def test_a_process_lives_until_it_has_ended():
    assert not _gone(this_process(), 10 * LONGEST_MS)
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    owner = f"{platform.node()}:{child.pid}:"
    if sys.platform == "linux":
        assert _gone(owner + "1", 0)  # the number was another process's before
    child.communicate()
    assert _gone(owner, 0)


def test_another_machine_s_run_is_given_up_after_two_days():
    owner = f"elsewhere:{os.getpid()}:1"
    assert not _gone(owner, LONGEST_MS)
    assert _gone(owner, LONGEST_MS + 1)


def test_a_server_that_is_down_is_said_without_the_dump_of_a_request():
    dump = "API request to http://h:1/api failed with exception HTTPConnectionPool(host='h', port=1): "
    dump += "Max retries exceeded with url: /api?x={} (Caused by NewConnectionError('h: {}'))"
    assert short(dump.format("y" * 300, "[Errno 111] Connection refused")) == "no answer (connection refused)"
    assert short(dump.format("y", "Connection to h timed out.")) == "no answer (timed out)"
    assert short(dump.format("y", "what")) == "no answer"
    assert short("a line\nand another") == "a line"
