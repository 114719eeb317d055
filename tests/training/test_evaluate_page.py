"""The page stands alone, says what the JSON says, and survives names that look like markup."""

import re
from html.parser import HTMLParser

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from training.evaluate import Options, run
from training.evaluate.page import html_of
from training.report import Axis, Line, Point, picture

VOID = {"meta"}


class Checked(HTMLParser):
    """Holds every tag to its end, and collects what is read."""

    def __init__(self):
        super().__init__()
        self.open, self.words, self.links = [], [], []

    def handle_starttag(self, tag, attrs):
        self.links += [value for name, value in attrs if name in ("src", "href", "action")]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.links += [value for name, value in attrs if name in ("src", "href", "action")]

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.words.append(data)


def read(html):
    parser = Checked()
    parser.feed(html)
    assert parser.open == []
    return parser


@pytest.fixture(scope="module")
def result(tmp_path_factory):
    file = tmp_path_factory.mktemp("page") / "<outcomes>.csv"
    rows = [
        {
            "task_id": f"t{i}",
            "model": model,
            "success": int((i * 7 + k * i) % (3 + k) > 0),
            "cost_usd": price * (1 + i % 3),
            "category": "ab"[i % 2],
        }
        for i in range(80)
        for k, (model, price) in enumerate((("<b>big", 0.05), ("mid&", 0.01), ("small", 0.001)))
    ]
    pl.DataFrame(rows).write_csv(file)
    return run(file, Options(draws=200))


def test_the_page_stands_alone_and_says_what_the_result_says(result):
    html = html_of(result)
    found = read(html)
    assert found.links == []
    assert "http" not in html.replace("http-equiv", "")
    assert "<script" not in html
    words = " ".join(found.words)
    assert result["recommendation"] in words
    for entry in result["policies"]:
        assert f"{100 * entry['quality']:.1f} %" in words
        assert f"{entry['cost_usd']:.3g}" in words
    for model in ("<b>big", "mid&", "small"):
        assert model in words
    assert "Consensus is simulated" in words


def test_consensus_pays_for_every_call_and_stays_between_its_models(result):
    entry = next(e for e in result["policies"] if e["name"] == "consensus")
    pins = {m["model"]: m for m in result["models"]}
    assert entry["simulated"]
    assert entry["cost_usd"] >= min(m["cost_usd"] for m in pins.values())
    assert sum(entry["share"].values()) == pytest.approx(1)
    assert 0 <= entry["quality"] <= 1


def test_agreement_is_a_chance_and_never_more_right_than_released():
    import numpy as np

    from training.evaluate.consensus import MEASURED, Answers, released

    a, b = np.meshgrid(np.linspace(0, 1, 11), np.linspace(0, 1, 11))
    right, let = released(Answers(a, None), Answers(b, None), MEASURED)
    assert ((right >= 0) & (right <= let + 1e-12) & (let <= 1)).all()
    sure = Answers(np.array([1.0]), None)
    assert released(sure, sure, MEASURED)[0] == MEASURED.both_right


@given(
    st.lists(
        st.tuples(
            st.floats(-1e6, 1e6, allow_subnormal=False),
            st.floats(0, 1, allow_subnormal=False),
            st.text(max_size=9),
        ),
        max_size=8,
    )
)
def test_any_points_make_a_picture(rows):
    svg = picture(
        "about",
        (Axis("x"), Axis("y", 100, " %")),
        [Line([(x, y) for x, y, _ in rows], "l")],
        [Point(*r) for r in rows],
    )
    read(svg)
    numbers = [float(v) for v in re.findall(r'c[xy]="(-?[\d.]+)"', svg)]
    assert all(-1 <= v <= 721 for v in numbers)


def test_without_costs_there_is_no_picture_and_no_crash(tmp_path):
    rows = [
        {"task_id": f"t{i}", "model": m, "success": i % (2 + k)}
        for i in range(30)
        for k, m in enumerate(("a-model", "b-model", "c-model"))
    ]
    pl.DataFrame(rows).with_columns(pl.col("success").clip(0, 1)).write_csv(tmp_path / "o.csv")
    result = run(tmp_path / "o.csv", Options(draws=100))
    assert "no cost is known" in html_of(result)
    assert "consensus" not in [e["name"] for e in result["policies"]]
