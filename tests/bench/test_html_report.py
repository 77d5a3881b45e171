"""The report on a benchmark as a page: the store's numbers, escaped, with paired differences."""

import pytest
from test_store import definition, fill

from atha.bench.compare import compare
from atha.bench.report import arenas
from atha.bench.store import Store
from atha.errors import DataError
from atha.reports.benchmark import benchmark_report
from browser import WIDTHS, chromium, look

EVIL = "<script>alert(1)</script>"


def found_in(path, *experiments):
    with Store(path, create=True) as store:
        for described, episodes in experiments:
            fill(store, described, episodes)
    with Store(path) as store:
        return arenas(store.experiments())


def method(name, dataset="pets"):
    return definition(name, dataset=dataset, method={"name": name, "precision": "float32"})


def test_holds_tables_differences_scatter_and_time(tmp_path):
    found = found_in(tmp_path / "r.db", *((method(name), range(40)) for name in ("lora", "zero-shot", "prototypes")))
    html = benchmark_report(found, "r.db")
    for words in ("Paired differences to lora", "Episode by episode: zero-shot", "Time", "p (Holm)", "s / episode"):
        assert words in html
    for one in compare(found, "lora"):
        assert f"{100 * one.difference.mean:+.2f} ± {100 * one.difference.half:.2f}" in html
    assert "nothing should be concluded" not in html
    assert len(html.encode()) < 5_000_000


def test_few_episodes_and_single_methods_are_said(tmp_path):
    found = found_in(tmp_path / "r.db", (method("zero-shot"), range(4)))
    html = benchmark_report(found, "r.db")
    assert "only 4 episodes" in html
    assert "Paired differences" not in html


def test_names_are_text(tmp_path):
    found = found_in(tmp_path / "r.db", (method(EVIL, EVIL), range(3)), (method("zero-shot", EVIL), range(3)))
    html = benchmark_report(found, f"{EVIL}.db")
    assert "<script" not in html
    assert "&lt;script&gt;alert(1)" in html


def test_an_unknown_baseline_is_named(tmp_path):
    found = found_in(tmp_path / "r.db", (method("zero-shot"), range(3)), (method("lora"), range(3)))
    with pytest.raises(DataError, match="no method shares episodes with 'tip'"):
        benchmark_report(found, "r.db", "tip")
    assert "Paired differences to zero-shot" in benchmark_report(found, "r.db", "zero-shot")


def test_many_episodes_are_thinned_in_scatter_plots_and_it_is_said(tmp_path):
    found = found_in(tmp_path / "r.db", (method("lora"), range(900)), (method("zero-shot"), range(900)))
    html = benchmark_report(found, "r.db")
    assert "One in 3 of 900 episodes is drawn" in html
    assert len(html.encode()) < 1_000_000


@pytest.mark.browser
@pytest.mark.skipif(chromium() is None, reason="no Chromium is installed")
@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("width", WIDTHS)
def test_in_a_browser(tmp_path, width, dark):
    found = found_in(tmp_path / "r.db", *((method(name), range(40)) for name in ("lora", "zero-shot", EVIL)))
    page = tmp_path / "report.html"
    page.write_text(benchmark_report(found, "r.db"), "utf-8")
    seen = look(page, width, dark)
    assert seen.errors == seen.requests == seen.missing == seen.wider_than_page == seen.barriers == []
    assert (seen.overflow, seen.without_alt, seen.dialogs, seen.elements["script"]) == (0, 0, 0, 0)
    assert EVIL in seen.text
