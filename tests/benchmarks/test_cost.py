"""The cost benchmark: its callers, its provider, its calls through the real core, and what it says of them."""

from __future__ import annotations

import json
from base64 import b64decode
from collections import defaultdict
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import orjson
import pytest
from click.testing import CliRunner

from benchmarks import cost_calls, cost_picture
from benchmarks.cost import main
from benchmarks.cost_callers import KINDS, Callers, Plan, Turn
from benchmarks.cost_calls import Bucket, Result, Rows, SimulatedCall
from benchmarks.cost_clock import Clock
from benchmarks.cost_estimate import Check, check, fit, halves, row_files
from benchmarks.cost_policies import (
    MODELS,
    NO_POLICY,
    PROMPTS,
    SPEECH,
    TRANSCRIPTION,
    Meter,
    Setup,
    prices,
    setups,
)
from benchmarks.cost_provider import FORMAT, Bill, Provider, Reply, audio, words
from benchmarks.cost_report import LOST, Overspend, dear, failures, summarise
from benchmarks.cost_run import Day, jobs, run
from orchestrator.core.actions import Action, ToClient
from orchestrator.protocol.wire import parse_server_event
from tests.conformance.checker import Frame, assert_conformant

Event = dict[str, Any]
CENT = 10_000_000
"""In nano-dollars."""
SETUPS = {setup.id: setup for setup in (NO_POLICY, *setups(50 * CENT, 1200 * CENT, 200.0))}
CALLS = 60


# -- callers ----------------------------------------------------------------------------------------


def test_a_caller_depends_on_the_seed_and_its_number_alone() -> None:
    callers = Callers(7)
    plans = [callers.plan(number) for number in range(20)]
    assert [Callers(7).plan(number) for number in reversed(range(20))] == plans[::-1]
    assert Callers(8).plan(3) != plans[3]


def test_callers_are_of_all_kinds_and_within_bounds() -> None:
    plans = [Callers(1).plan(number) for number in range(2000)]
    for name, kind in KINDS.items():
        share = sum(plan.kind == name for plan in plans) / len(plans)
        assert share == pytest.approx(kind.share, abs=0.05)
    turns = [turn for plan in plans for turn in plan.turns]
    assert all(0.4 < turn.talk_s < 60 and 1.5 <= turn.answer_s <= 60 for turn in turns)
    assert 0.02 < sum(plan.gives_up_at is not None for plan in plans) / len(plans) < 0.2
    assert 0.02 < sum(turn.interrupted_at is not None for turn in turns) / len(turns) < 0.2


def test_halves_are_disjoint_and_alike() -> None:
    plans = [Callers(1).plan(number) for number in range(500)]
    first, second = halves(plans)
    assert (first | second, first & second) == (frozenset(range(500)), frozenset())
    lengths = [sum(len(plans[number].turns) for number in half) / len(half) for half in (first, second)]
    assert lengths[0] == pytest.approx(lengths[1], rel=0.02)


# -- the provider -----------------------------------------------------------------------------------


class Line:
    """What a provider needs of a call: it records what is said, and answers with `seconds` of speech."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.frames: list[Event] = []
        self.replies: list[Reply] = []
        self.hits = True

    def cached(self) -> bool:
        return self.hits

    def reply(self, instructions: str) -> Reply:
        return self.replies.pop(0)

    def answer_begins(self, seconds: float, rung: str) -> None:
        assert rung == MODELS[0]

    def from_provider(self, attempt: int, frame: bytes, item_id: str = "", ms: float = 0.0) -> None:
        event, wrong = parse_server_event(frame)
        assert event is not None, wrong
        self.frames.append(event)

    def of(self, kind: str) -> list[Event]:
        return [frame for frame in self.frames if frame["type"] == kind]


class Session:
    """A provider's session on a line, up and with these settings."""

    def __init__(self, **settings: Any) -> None:
        self.line, self.bill = Line(), Bill()
        self.provider = Provider(self.line, 1, MODELS[0], self.bill)
        wire = {"format": {"type": FORMAT.wire}}
        audio = {"input": {**wire, **settings.pop("input", {})}, "output": wire}
        session = {"type": "realtime", "instructions": "i" * 800, "audio": audio, **settings}
        self.provider.receive({"type": "session.update", "session": session})
        self.line.clock.run()

    def turn(self, seconds: float, *replies: float | None, until: float | None = None) -> None:
        """The caller speaks for so long and is answered; `until`: the next turn begins so long after it."""
        self.line.replies += [Reply(reply) for reply in replies]
        self.provider.speech_started()
        self.provider.heard_ms += seconds * 1000
        self.provider.speech_stopped(words(seconds))
        if until is None:
            self.line.clock.run()
        else:
            self.line.clock.after(until, self.provider.speech_started)
            self.line.clock.run()

    @property
    def usages(self) -> list[Event]:
        return [usage for _, usage in self.bill.responses]


def test_audio_of_the_doubles_is_what_it_says() -> None:
    for ms in (0, 1, 2, 3, 601, 1001):
        assert b64decode(audio(ms)) == FORMAT.silence(ms)


def test_the_provider_bills_the_conversation_again_and_its_prefix_as_cached() -> None:
    session = Session()
    session.turn(2.0, 6.0)
    session.turn(3.0, 4.0)
    first, second = session.usages
    assert [usage["output_token_details"]["audio_tokens"] for usage in (first, second)] == [120, 80]
    assert first["input_token_details"]["audio_tokens"] == 20
    assert second["input_token_details"]["audio_tokens"] == 20 + 120 + 30 + 4, (
        "300 ms before the onset, less 160"
    )
    assert second["input_token_details"]["cached_tokens"] == first["input_tokens"] // 64 * 64 > 0
    told = [frame["response"]["usage"] for frame in session.line.of("response.done")]
    assert told == session.usages


def test_a_lost_cache_is_billed_in_full() -> None:
    session = Session()
    session.turn(2.0, 6.0)
    session.line.hits = False
    session.turn(2.0, 6.0)
    assert [usage["input_token_details"]["cached_tokens"] for usage in session.usages] == [0, 0]


def test_a_barge_in_cuts_the_bill_to_what_had_been_made() -> None:
    """Twenty seconds are made in five; after 0.35 + 3 s there are twelve."""
    session = Session()
    session.turn(2.0, 20.0, until=0.35 + 3.0)
    (usage,) = session.usages
    assert 0 < usage["output_token_details"]["audio_tokens"] <= 240
    (done,) = session.line.of("response.done")
    assert done["response"]["status_details"] == {"type": "cancelled", "reason": "turn_detected"}


def test_the_provider_starts_nothing_that_it_is_not_to_start() -> None:
    session = Session(input={"turn_detection": {"type": "server_vad", "create_response": False}})
    session.turn(2.0)
    assert session.usages == []
    session.line.replies.append(Reply(2.0))
    session.provider.receive({"type": "response.create", "response": {"max_output_tokens": 20}})
    session.line.clock.run()
    (done,) = session.line.of("response.done")
    assert (done["response"]["status"], session.usages[0]["output_tokens"] <= 20) == ("incomplete", True)


def test_the_provider_forgets_the_oldest_when_told_to() -> None:
    limits = {"post_instructions": 400}
    session = Session(truncation={"type": "retention_ratio", "retention_ratio": 0.5, "token_limits": limits})
    for _ in range(4):
        session.turn(2.0, 6.0)
    sizes = [usage["input_tokens"] - 200 for usage in session.usages]
    assert max(sizes) <= 400
    assert any(after < before for before, after in pairwise(sizes))


def test_a_second_answer_at_once_is_refused_as_the_provider_does() -> None:
    session = Session()
    session.line.replies.append(Reply(2.0))
    session.provider.receive({"type": "response.create"})
    session.provider.receive({"type": "response.create"})
    (error,) = session.line.of("error")
    assert error["error"]["code"] == "conversation_already_has_active_response"


# -- calls through the core -------------------------------------------------------------------------


def simulate(setup: Setup, calls: int = CALLS, seed: int = 5, rows: Rows | None = None) -> Bucket:
    callers = Callers(seed)
    bucket = Bucket("bucket 0", setup, Meter(prices()), [callers.plan(n) for n in range(calls)], seed, rows)
    bucket.run()
    return bucket


@pytest.fixture(scope="module")
def buckets() -> dict[str, Bucket]:
    return {name: simulate(setup) for name, setup in SETUPS.items()}


def test_without_a_budget_every_turn_is_answered_by_the_first_rung(buckets: dict[str, Bucket]) -> None:
    for result in buckets["none"].results:
        assert result.answered == {MODELS[0]: result.wanted}
        assert (result.lost, result.cut_short, result.steps, result.unpaid) == (0, 0, [], 0)
        assert result.ended in ("done", "gave up")


@pytest.mark.parametrize("name", SETUPS)
def test_all_that_is_billed_is_metered(buckets: dict[str, Bucket], name: str) -> None:
    """To the nano-dollar, but for answers given up whose bill can no longer come: those count at their worst."""
    for result in buckets[name].results:
        assert result.spent >= result.billed
        assert result.spent - result.billed <= 3 * CENT


@pytest.mark.parametrize("name", SETUPS)
def test_the_ledger_is_square_at_the_end(buckets: dict[str, Bucket], name: str) -> None:
    bucket = buckets[name]
    assert bucket.ledger.reserved == 0
    assert bucket.ledger.settled == sum(result.spent for result in bucket.results) == bucket.spent


@pytest.mark.parametrize("name", ["steps", "steps-retention", "steps-text"])
def test_steps_keep_every_cap_and_lose_next_to_nothing(buckets: dict[str, Bucket], name: str) -> None:
    results = buckets[name].results
    assert max(result.spent for result in results) <= 50 * CENT
    assert sum(result.spent for result in results) <= 1200 * CENT
    assert sum(result.unpaid for result in results) == 0
    assert any("concise" in result.steps for result in results)
    assert not any(result.ended == "cut off" for result in results)
    lost, cut = (sum(result.lost for result in buckets[each].results) for each in (name, "cut-off"))
    assert lost < cut / 3


def test_a_plain_limit_cuts_calls_off_after_the_money_is_gone(buckets: dict[str, Bucket]) -> None:
    over = [result for result in buckets["cut-off"].results if result.ended == "cut off"]
    assert over
    assert all(result.lost or result.spent >= 50 * CENT for result in over)
    assert max(result.spent for result in over) > 50 * CENT


def test_a_bucket_that_is_spent_up_is_never_overspent() -> None:
    """Thirty calls that would cost five dollars share half a dollar: prompts for most, and not a cent too much."""
    results = simulate(replace(SETUPS["steps"], bucket_cap=50 * CENT)).results
    assert sum(result.spent for result in results) <= 50 * CENT
    assert sum(result.answered.get(PROMPTS, 0) for result in results) > 0
    assert sum(result.answered.get(SPEECH, 0) for result in results) > 0


def test_the_same_seed_gives_the_same_calls() -> None:
    first, second = (simulate(SETUPS["steps"], calls=6).results for _ in range(2))
    assert first == second


def test_the_rows_are_those_of_an_event_log() -> None:
    rows: Rows = []
    bucket = simulate(NO_POLICY, calls=5, rows=rows)
    charged = sum(row["nanodollars"] for row in rows if row["type"] == "charge")
    assert charged == bucket.spent
    for result in bucket.results:
        types = [row["type"] for row in rows if row["call_id"] == f"call_{result.number}"]
        assert {"call_started", "call_ended", "charge", "turn_ended"} <= set(types)
    assert {row["model"] for row in rows if row["type"] == "charge"} == {MODELS[0], TRANSCRIPTION}


def test_clients_see_nothing_but_the_protocol(monkeypatch: pytest.MonkeyPatch) -> None:
    """Through steps, gates and handovers: every event that a client is sent is checked."""
    logs: dict[str, list[Frame]] = defaultdict(list)

    class Listened(SimulatedCall):
        def _carry_out(self, action: Action) -> None:
            if isinstance(action, ToClient) and self.there:
                logs[self.id].append(Frame(orjson.dumps(action.event).decode()))
            super()._carry_out(action)

        def send(self, event: Event) -> None:
            if self.there:
                logs[self.id].append(Frame(orjson.dumps(event).decode(), sent=True))
            super().send(event)

        def passed_on(self, frame: bytes) -> None:
            logs[self.id].append(Frame(frame.decode()))

    monkeypatch.setattr(cost_calls, "SimulatedCall", Listened)
    bucket = simulate(replace(SETUPS["steps"], call_cap=30 * CENT), calls=25)
    assert len(logs) == 25
    assert {"concise", "cheaper_rung", "tier_b"} <= {step for each in bucket.results for step in each.steps}
    for log in logs.values():
        assert_conformant(log, orchestrator=True, cut_short=True)


def test_answers_that_break_off_are_asked_for_again() -> None:
    """An answer longer than its limit: the caller asks for the rest, so that nothing is missing in the end."""
    plan = Plan(0, "order status", (Turn(2.0, 60.0, 0.5), Turn(2.0, 5.0, 0.5)))
    steps = replace(SETUPS["steps"], call_cap=100 * CENT, steps=replace(SETUPS["steps"].steps, steps=()))
    bucket = Bucket("bucket 0", steps, Meter(prices()), [plan], 1)
    bucket.policy = replace(bucket.policy, max_output_tokens=600)
    (result,) = bucket.run()
    assert (result.cut_short, result.said, result.answered) == (2, 4, {MODELS[0]: 2})


# -- what is said of them ---------------------------------------------------------------------------


def result(number: int = 0, **changes: Any) -> Result:
    plain = Result(
        number=number, kind="order status", spent=CENT, billed=CENT, seconds=60.0, wanted=3,
        answered={MODELS[0]: 3}, said=3, ended="done", steps=[], cut_short=0, unpaid=0,
    )  # fmt: skip
    return replace(plain, **changes)


def test_summaries_add_up() -> None:
    setup = Setup("steps", "steps", 2 * CENT, 5 * CENT)
    first = [result(0), result(1, spent=3 * CENT, billed=2 * CENT, steps=["concise", "tier_b"])]
    second = [result(2, answered={MODELS[0]: 1, SPEECH: 1}, ended="goodbye")]
    days = [Day("steps", "bucket 0", first, 0, 0), Day("steps", "bucket 1", second, 0, 0)]
    found = summarise(setup, days)
    assert (found.calls, found.total, found.max, found.turns) == (3, 0.05, 0.03, 9)
    assert found.answered == {LOST: 1, MODELS[0]: 7, SPEECH: 1}
    assert found.over_call_cap == Overspend(0.02, 1, 0.01, 0.01)
    assert found.over_bucket_cap == Overspend(0.05, 0, 0.0, 0.0)
    assert found.stepped == {"concise": 1 / 3, "tier_b": 1 / 3}
    assert found.unmetered == -0.01
    (wrong,) = failures([found], [], 0.03)
    assert wrong == "steps: 1 calls spent up to $0.010000 more than the cap"


def test_broken_promises_are_told() -> None:
    setup = Setup("steps", "steps", 2 * CENT, 5 * CENT)
    poor = summarise(setup, [Day("steps", "bucket 0", [result(billed=2 * CENT)], 0, 0)])
    estimate = Check("none", "no budget", 1.05, 10, 1.0, 1.0)
    assert failures([poor], [estimate, replace(estimate, setup="steps")], 0.03) == [
        "steps: $0.010000 was billed and not metered",
        "the estimate is +5.00% off, more than 3%",
    ]
    plain = replace(poor, setup="cut-off")
    assert failures([plain], [replace(estimate, predicted=1.02)], 0.03) == []


def test_jobs_are_days_of_a_hundred_calls(tmp_path: Path) -> None:
    wanted = jobs(NO_POLICY, range(205), seed=3)
    assert [len(job.numbers) for job in wanted] == [100, 100, 5]
    job = replace(wanted[-1], rows_of=frozenset({201}), rows_to=tmp_path / "rows.jsonl")
    day = run(job)
    assert [result.number for result in day.results] == [200, 201, 202, 203, 204]
    rows = [orjson.loads(line) for line in (tmp_path / "rows.jsonl").read_bytes().splitlines()]
    assert {row["call_id"] for row in rows} == {"call_201"}


def test_the_estimator_is_fitted_to_one_half_and_held_against_the_other(tmp_path: Path) -> None:
    """With a hundred and twenty calls it is not exact; it must be nearer than a guess."""
    numbers = range(120)
    fitted, others = halves(Callers(5).plan(number) for number in numbers)
    with row_files(jobs(NO_POLICY, numbers, seed=5), fitted) as (wanted, files):
        results = [each for job in wanted for each in run(job).results]
        columns = fit(files)
    found = check(NO_POLICY, columns, results, fitted, calls=3000, seed=1)
    assert found.calls == len(others) == 60
    assert found.mean == pytest.approx(sum(r.spent for r in results if r.number in others) / 60e9)
    assert abs(found.error) < 0.15
    assert not any(file.exists() for file in files)


def test_the_picture_is_drawn(tmp_path: Path) -> None:
    days = [Day("none", "bucket 0", [result(n, spent=n * CENT) for n in range(1, 9)], 0, 0)]
    summaries = [summarise(setup, days) for setup in SETUPS.values()]
    costs = {setup: [0.01 * n for n in range(1, 9)] for setup in SETUPS}
    dears = [dear(setup, {2, 3}, days[0].results) for setup in SETUPS.values()]
    assert (dears[0].calls, dears[0].turns, dears[0].answered) == (2, 6, {LOST: 0, MODELS[0]: 6})
    cost_picture.draw(tmp_path / "cost.png", summaries, dears, costs)
    assert (tmp_path / "cost.png").read_bytes().startswith(b"\x89PNG")


def test_the_command_writes_its_figures(tmp_path: Path) -> None:
    options = ["--calls", "12", "--seed", "3", "--processes", "1", "--estimate-calls", "200"]
    done = CliRunner().invoke(main, [*options, "--output", str(tmp_path)])
    # So few calls may differ from what an estimate says of them, and nothing else may be wrong.
    assert done.exit_code in (0, 1), done.output
    assert "more than the cap" not in done.output
    assert "billed and not metered" not in done.output
    assert "Seed 3" in done.output
    found = json.loads((tmp_path / "cost.json").read_text())
    assert [each["setup"] for each in found["setups"]] == list(SETUPS)
    assert all(each["calls"] == 12 for each in found["setups"])
    assert [each["setup"] for each in found["estimates"]] == [name for name in SETUPS if name != "cut-off"]
    assert {"machine", "columns", "seed", "took_s", "call_cap_usd"} <= set(found)
    assert (tmp_path / "cost.png").exists()
    table = (tmp_path / "cost.md").read_text()
    assert table.count("| no budget |") == 3
    assert "| steps |" in table
