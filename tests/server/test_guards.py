"""What those who are known may do."""

from __future__ import annotations

import pytest

from orchestrator.core.grants import Grant
from orchestrator.server.guards import lacking
from orchestrator.server.identity import LOCAL, ROOT, Identity, Scope


def test_keys_of_old_and_this_machine_may_do_everything() -> None:
    assert all(lacking(identity, scope) is None for identity in (LOCAL, ROOT) for scope in Scope)


@pytest.mark.parametrize("scope", list(Scope))
def test_no_scope_holds_another_one(scope: Scope) -> None:
    holder = Identity("key_1", "till", frozenset({scope}))
    for wanted in Scope:
        refusal = lacking(holder, wanted)
        if wanted is scope:
            assert refusal is None
            continue
        assert refusal is not None
        assert (refusal.status, refusal.code) == (403, "scope_missing")
        assert f"scope {wanted}" in refusal.message
        assert f"till has {scope}" in refusal.message


def test_one_of_several_scopes_is_enough() -> None:
    assert (
        lacking(Identity("key_1", "till", frozenset({Scope.METRICS})), Scope.OPERATOR, Scope.METRICS) is None
    )


def test_what_opens_one_call_opens_nothing_else() -> None:
    refusal = lacking(Identity("ek_1", "a call", grant=Grant("call_1")), *Scope)
    assert refusal is not None
    assert refusal.code == "credential_for_one_call"
