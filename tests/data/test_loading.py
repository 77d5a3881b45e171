"""Loading ahead is `map`: whatever the number of threads, in order, lazily, errors where they belong."""

import threading
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from atha.data.loading import load_ahead


@given(st.lists(st.integers()), st.integers(1, 9), st.integers(1, 4))
@settings(max_examples=50, deadline=None)
def test_is_map(numbers, ahead, threads):
    def load(number):
        time.sleep((number % 3) / 5000)  # later ones are often done before earlier ones
        return -number

    assert list(load_ahead(load, numbers, ahead, threads)) == [-number for number in numbers]


def test_takes_no_more_than_it_may():
    taken = []

    def sources():
        for number in range(1000):
            taken.append(number)
            yield number

    results = load_ahead(lambda number: number, sources(), ahead=5, threads=2)
    for done, result in enumerate(results, start=1):
        assert result == done - 1
        assert len(taken) <= done + 5
        if done == 20:
            break
    results.close()
    time.sleep(0.05)
    assert len(taken) <= 25, "nothing is taken after the end"


def test_an_exception_comes_where_its_result_would():
    results = load_ahead(lambda number: 1 // number, [1, 1, 0, 1], ahead=4, threads=2)
    assert [next(results), next(results)] == [1, 1]
    with pytest.raises(ZeroDivisionError):
        next(results)


def test_threads_end_with_the_generator():
    before = threading.active_count()
    results = load_ahead(lambda number: number, range(100), ahead=8, threads=3)
    next(results)
    results.close()
    assert threading.active_count() == before
