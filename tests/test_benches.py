"""Every bench still finds what it measures: nothing has been renamed or taken away under it."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from router.gateway.service import Gateway
from router.gateway.settings import LogSettings, Settings
from router.gateway.upstream import Upstream

BENCH = Path(__file__).parent / "bench"
WANT_DATA = (
    "after",
    "amounts",
    "bill",
    "cache",
    "calibration",
    "certify",
    "coldstart",
    "control",
    "coverage",
    "dr_bound",
    "factors",
    "heads",
    "hidden_type",
    "labels",
    "replay",
    "same_diff",
    "same_rates",
    "tasktype",
    "turns",
)
BENCHES = sorted(BENCH.glob("*.py"))


@pytest.fixture
def bench(monkeypatch):
    """Import a file of tests/bench, under a name of its own."""

    def imported(path):
        monkeypatch.syspath_prepend(str(path.parent))
        spec = importlib.util.spec_from_file_location(f"bench_{path.stem}", path)
        module = importlib.util.module_from_spec(spec)
        monkeypatch.setitem(sys.modules, spec.name, module)
        spec.loader.exec_module(module)
        return module

    return imported


@pytest.mark.parametrize("path", BENCHES, ids=lambda path: path.stem)
def test_a_bench_finds_all_that_it_imports(path, bench):
    assert bench(path).__doc__


@pytest.mark.parametrize("name", WANT_DATA)
def test_a_bench_that_wants_data_says_so(name, bench, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", [f"bench_{name}.py"])
    with pytest.raises(SystemExit) as ended:
        bench(BENCH / f"bench_{name}.py").main()
    assert ended.value.code == 2
    assert f"usage: bench_{name}.py" in capsys.readouterr().err


async def test_what_failover_costs_is_measured(bench, monkeypatch, capsys):
    failover = bench(BENCH / "bench_failover.py")
    monkeypatch.setattr(failover, "CALLS", 1)
    await failover.main()
    assert capsys.readouterr().out.count("p90") == 5


async def test_the_soak_finds_what_a_gateway_holds(bench, tmp_path):
    gateway = Gateway(Settings(log=LogSettings(journal=str(tmp_path / "journal"))))
    gateway.upstream = Upstream(gateway.settings.upstream)
    held = bench(BENCH / "soakprobe.py").held(gateway)
    await gateway.upstream.close()
    assert held["upstream_busy"] == held["upstream_idle"] == held["in_flight"] == 0


def test_the_soak_says_in_one_line_that_its_probe_has_died(bench, tmp_path, monkeypatch):
    probe, soak = bench(BENCH / "soakprobe.py"), bench(BENCH / "soak.py")
    monkeypatch.setattr(probe, "EVERY_S", 0.0)
    with pytest.raises(AttributeError):
        probe._watch([SimpleNamespace(upstream=None)], tmp_path / "probe.jsonl")
    with pytest.raises(
        SystemExit, match=r"^soak: the probe of the gateway has died: AttributeError: .*'pool'"
    ):
        soak.probed(tmp_path)
