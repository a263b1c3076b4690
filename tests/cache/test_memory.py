from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from cache.memory import Lru


def test_the_least_recently_used_goes_first():
    lru: Lru[str, str] = Lru(30)
    for key in "abc":
        lru.put(key, key.upper(), 10)
    assert lru.get("a") == "A"
    lru.put("d", "D", 10)
    assert [key in lru for key in "abcd"] == [True, False, True, True]


def test_one_large_entry_moves_out_as_many_as_it_needs():
    lru: Lru[str, str] = Lru(30)
    for key in "abc":
        lru.put(key, key, 10)
    lru.put("d", "d", 15)
    assert [key in lru for key in "abcd"] == [False, False, True, True]
    assert lru.used == 25


def test_what_is_larger_than_the_limit_is_not_kept_and_moves_nobody_out():
    lru: Lru[str, str] = Lru(30)
    lru.put("a", "a", 30)
    lru.put("b", "b", 31)
    assert lru.get("a") == "a"
    assert lru.get("b") is None


def test_an_entry_put_again_counts_once():
    lru: Lru[str, int] = Lru(30)
    lru.put("a", 1, 10)
    lru.put("a", 2, 20)
    assert (lru.get("a"), lru.used, len(lru)) == (2, 20, 1)
    lru.put("a", 3, 31)
    assert ("a" in lru, lru.used) == (False, 0)


@given(st.lists(st.tuples(st.integers(0, 8), st.integers(0, 60), st.sampled_from(["put", "get", "drop"]))))
def test_it_never_holds_more_than_its_limit_and_counts_right(steps):
    lru: Lru[int, int] = Lru(100)
    sizes: dict[int, int] = {}
    for key, size, step in steps:
        if step == "put":
            lru.put(key, size, size)
            sizes[key] = size
        elif step == "get":
            assert lru.get(key) in (None, sizes.get(key))
        else:
            lru.drop(key)
            assert key not in lru
        assert lru.used <= 100
        assert lru.used == sum(sizes[key] for key in sizes if key in lru)
