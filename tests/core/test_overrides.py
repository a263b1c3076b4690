"""Overrides: their grammar, whom they match, which one wins."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.core.overrides import (
    Limit,
    Override,
    OverrideError,
    Scope,
    ScopeKind,
    Tier,
    When,
    applying,
    extended,
    in_share,
    make_override,
    parse_duration,
)


def choose_override(overrides: list[Override], **call: object) -> Override | None:
    """The one that counts first."""
    return next(iter(applying(overrides, **call)), None)  # type: ignore[arg-type]


CALL = {"call_id": "c1", "user": "u1", "purpose": "support", "bucket": "acme"}


def override(
    scope: str, *, id: str = "o", tier: str = "C", created: float = 0.0, until: float = 100.0
) -> Override:
    return Override(id, Tier(tier), Scope.parse(scope), until, "drill", "ann", created)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("90s", 90),
        ("15m", 900),
        ("2h", 7200),
        ("1d", 86_400),
        ("1h30m", 5400),
        (" 15M ", 900),
        ("30d", 2_592_000),
    ],
)
def test_durations(text: str, seconds: int) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["", "15", "m", "-5m", "1.5h", "15 m", "15min", "soon", "٣m\n5"])
def test_durations_that_are_none(text: str) -> None:
    with pytest.raises(OverrideError, match="a duration like 90s, 15m, 2h or 1h30m") as caught:
        parse_duration(text)
    assert caught.value.param == "for"


@pytest.mark.parametrize("text", ["0s", "0h0m", "31d", "99999999999h"])
def test_durations_too_short_or_too_long(text: str) -> None:
    with pytest.raises(OverrideError, match="from 1s to 30d"):
        parse_duration(text)


@pytest.mark.parametrize(
    ("text", "scope"),
    [
        ("all", Scope(ScopeKind.ALL)),
        ("call:c1", Scope(ScopeKind.CALL, "c1")),
        (" user:a:b ", Scope(ScopeKind.USER, "a:b")),
        ("purpose:support", Scope(ScopeKind.PURPOSE, "support")),
        ("bucket:acme", Scope(ScopeKind.BUCKET, "acme")),
    ],
)
def test_scopes(text: str, scope: Scope) -> None:
    assert Scope.parse(text) == scope
    assert str(scope) == text.strip()


@pytest.mark.parametrize(
    "text", ["", "everybody", "user", "user:", "user: ", "all:", "all:x", ":x", "USER:x"]
)
def test_scopes_that_are_none(text: str) -> None:
    with pytest.raises(OverrideError, match="all, call:ID, user:ID, purpose:NAME or bucket:NAME") as caught:
        Scope.parse(text)
    assert caught.value.param == "scope"


@pytest.mark.parametrize(
    ("scope", "matches"),
    [
        ("all", True),
        ("call:c1", True),
        ("call:c2", False),
        ("user:u1", True),
        ("user:c1", False),
        ("purpose:support", True),
        ("purpose:sales", False),
        ("bucket:acme", True),
        ("bucket:ac", False),
    ],
)
def test_whom_a_scope_matches(scope: str, matches: bool) -> None:
    assert override(scope).matches(**CALL) is matches


def test_the_most_specific_wins_then_the_newest() -> None:
    ladder = ["all", "bucket:acme", "purpose:support", "user:u1", "call:c1"]
    overrides = [override(scope, id=scope, created=float(-n)) for n, scope in enumerate(ladder)]
    while overrides:
        chosen = choose_override(overrides, **CALL, now=1.0)
        assert chosen is overrides.pop()
    pair = [override("user:u1", id="old", created=1.0), override("user:u1", id="new", created=2.0)]
    for order in (pair, pair[::-1]):
        chosen = choose_override(order, **CALL, now=3.0)
        assert chosen is not None
        assert chosen.id == "new"


def test_expiry_is_at_the_very_moment() -> None:
    one = override("all", until=100.0)
    assert choose_override([one], **CALL, now=99.999) is one
    assert choose_override([one], **CALL, now=100.0) is None


def test_of_two_of_the_same_moment_every_replica_takes_the_same() -> None:
    pair = [override("all", id="a", tier="B"), override("all", id="b", tier="C")]
    assert choose_override(pair, **CALL, now=1.0) is choose_override(pair[::-1], **CALL, now=1.0)


def test_made_out_of_an_operators_words() -> None:
    made = make_override(
        id="o1", tier="c", scope="user:42", duration="15m", reason=" drill ", who=" ", now=1000.0
    )
    assert made == Override("o1", Tier.C, Scope(ScopeKind.USER, "42"), 1900.0, "drill", "unknown", 1000.0)
    assert Override.from_dict(made.to_dict()) == made


@pytest.mark.parametrize(
    ("change", "param"),
    [
        ({"tier": "D"}, "tier"),
        ({"scope": "x"}, "scope"),
        ({"duration": "x"}, "for"),
        ({"reason": ""}, "reason"),
    ],
)
def test_what_is_wrong_is_named(change: dict[str, str], param: str) -> None:
    words = {"tier": "C", "scope": "all", "duration": "15m", "reason": "drill"} | change
    with pytest.raises(OverrideError) as caught:
        make_override(id="o1", who="ann", now=0.0, **words)
    assert caught.value.param == param


_scopes = st.sampled_from(
    ["all", "bucket:acme", "purpose:support", "user:u1", "user:u2", "call:c1", "call:c2"]
)
_overrides = st.lists(
    st.builds(
        override,
        _scopes,
        id=st.text("abc", min_size=1, max_size=3),
        created=st.floats(0, 50),
        until=st.floats(0, 100),
    )
)


@given(_overrides, st.floats(0, 100))
def test_the_chosen_one_matches_has_not_expired_and_nothing_beats_it(
    overrides: list[Override], now: float
) -> None:
    chosen = choose_override(overrides, **CALL, now=now)
    fitting = [o for o in overrides if o.matches(**CALL) and not o.expired(now)]
    if chosen is None:
        assert not fitting
        return
    assert chosen in fitting
    ranks = list(ScopeKind)
    for other in fitting:
        assert ranks.index(other.scope.kind) <= ranks.index(chosen.scope.kind)
        if other.scope.kind is chosen.scope.kind:
            assert other.created <= chosen.created


def test_a_share_is_of_the_calls_that_begin_from_then_on() -> None:
    one = Override("o", Tier.B, Scope.parse("all"), 100.0, "try", "ann", 10.0, share=20.0)
    named = [f"call_{n}" for n in range(5000)]
    who = {"user": "", "purpose": "", "bucket": ""}
    chosen = [call for call in named if one.matches(call_id=call, **who, started=10.0)]
    assert 0.18 < len(chosen) / len(named) < 0.22
    assert chosen == [call for call in named if one.matches(call_id=call, **who, started=99.0)]
    assert chosen == [call for call in named if one.matches(call_id=call, **who)], "and those about to begin"
    assert not any(one.matches(call_id=call, **who, started=9.9) for call in named)
    assert not one.matches(call_id="", **who), "a call without an id is none of a share"
    assert not in_share("another", "", 99.0)


@given(st.text(min_size=1), st.text(min_size=1), st.floats(0.01, 100), st.floats(0.01, 100))
def test_a_larger_share_holds_a_smaller_one(key: str, call: str, one: float, other: float) -> None:
    assert in_share(key, call, max(one, other)) or not in_share(key, call, min(one, other))


def test_all_that_can_be_said_of_one_stays_in_the_store() -> None:
    made = make_override(
        id="o1",
        tier="a/gpt-realtime-2.1",
        scope="all",
        duration="1m",
        reason="r",
        who="key_1",
        now=5.0,
        limit="Ceiling",
        share=12.5,
        when="now",
        name="desk",
        typed="ann",
    )
    assert (made.target, made.limit, made.when, made.by) == (
        "A/gpt-realtime-2.1",
        Limit.CEILING,
        When.NOW,
        "desk (ann)",
    )
    assert Override.from_dict(made.to_dict()) == made
    assert extended(made, "2m", 7.0).until == 127.0


def test_what_an_earlier_version_left_in_the_store_is_read() -> None:
    left = {"id": "o", "tier": "C", "scope": "all", "until": 9.0, "reason": "r", "who": "ann", "created": 1.0}
    read = Override.from_dict(left)
    assert (read.limit, read.share, read.when, read.rung, read.by) == (
        Limit.FORCE,
        100.0,
        When.NEXT_TURN,
        "",
        "ann",
    )


@pytest.mark.parametrize(
    ("change", "param", "expected"),
    [
        ({"limit": "roof"}, "limit", "force, ceiling, floor, not 'roof'"),
        ({"when": "soon"}, "when", "next_turn, now, not 'soon'"),
        ({"share": 0}, "share", "above 0 and up to 100 per cent, not 0"),
        ({"share": 101}, "share", "not 101"),
        ({"share": float("nan")}, "share", "not nan"),
        ({"tier": "A/ "}, "tier", "name of a rung after the slash"),
    ],
)
def test_what_is_wrong_with_a_limit_is_named(change: dict[str, object], param: str, expected: str) -> None:
    words = {"tier": "C", "scope": "all", "duration": "15m", "reason": "drill"} | change
    with pytest.raises(OverrideError, match=expected) as caught:
        make_override(id="o1", who="ann", now=0.0, **words)  # type: ignore[arg-type]
    assert caught.value.param == param
