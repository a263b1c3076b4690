"""Whatever happens in whatever order: no call starts what it cannot pay for, and nothing stays set aside for ever."""

from __future__ import annotations

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import initialize, invariant, precondition, rule

from orchestrator.core.actions import CloseUpstream, OpenUpstream, ToUpstream
from orchestrator.core.context import Policy
from orchestrator.core.prices import Context
from orchestrator.core.states import State
from orchestrator.core.steps import Step, StepAction, StepPolicy
from orchestrator.protocol.answers import AnswerRequest
from tests.core.bench import USAGE, Bench
from tests.core.test_call_any_order import RUNGS, AnyOrder

BILL = 1_000
"""What every usage comes to on the bench."""
LIMIT = 3_000
STEPS = StepPolicy(
    (Step(0.5, StepAction.CONCISE), Step(0.7, StepAction.CHEAPER_RUNG), Step(0.9, StepAction.TIER_B)),
    concise_tokens=1_500,
)


class Prices:
    """A response costs what its output limit is at worst, writing a turn down one bill."""

    def response(self, rung: str, max_output_tokens: int, context: Context) -> int:
        return max(BILL, max_output_tokens)

    def transcription(self, model: str, seconds: float) -> int:
        return BILL if model else 0

    def answer(self, tier: str, request: AnswerRequest) -> tuple[int, int]:
        return (700, 500) if tier == "B" else (0, 0)

    def writing_down(self, seconds: float) -> int:
        return 100

    def spoken(self, rung: str, ms: float) -> int:
        return 0


class PaidAnyOrder(AnyOrder):
    """As `AnyOrder`, with money: the bucket may be nearly empty, and others spend from it."""

    def __init__(self) -> None:
        super().__init__()
        policy = Policy(transcription_model="gpt-transcribe", renew_before_s=5.0, max_output_tokens=LIMIT)
        self.bench = Bench(policy, rungs=RUNGS, costs=Prices(), cap=None, steps=STEPS)

    @initialize(
        up=st.booleans(),
        tier=st.sampled_from("AAAB"),
        bucket=st.sampled_from([None, 0, 5_000, 9_000, 20_000, 60_000]),
        cap=st.sampled_from([None, 7_000, 30_000]),
    )
    def start(self, up: bool, tier: str, bucket: int | None, cap: int | None) -> None:
        self.bench.bucket, self.bench.ctx.budget.cap = bucket, cap
        super().start(up=up, tier=tier)

    @rule(amount=st.integers(0, 30_000))
    def others_give_back(self, amount: int) -> None:
        if self.bench.bucket is not None:
            self.bench.bucket += amount

    @rule(share=st.floats(0, 1))
    def others_spend(self, share: float) -> None:
        """Of what this call has not claimed."""
        bench = self.bench
        if bench.bucket is not None:
            free = bench.bucket - bench.ctx.budget.spent - bench.ctx.budget.reserved - bench.held
            bench.bucket -= int(max(0, free) * share)

    @precondition(lambda self: self.bench.call.lingering)
    @rule(billed=st.booleans())
    def a_session_given_up_answers_the_cancel(self, billed: bool) -> None:
        bench = self.bench
        attempt = next(a.attempt for a in bench.all(OpenUpstream) if a.attempt in bench.call.lingering)
        provider = self.as_provider(attempt)
        if provider.open is not None:
            usage = USAGE if billed else None
            bench.provider(
                "response.done", response={"id": provider.open[0], "status": "cancelled", "usage": usage}
            )
            provider.open = None
        else:
            error = {
                "type": "invalid_request_error",
                "code": "response_cancel_not_active",
                "message": "Nothing.",
            }
            bench.provider("error", error=error)

    @invariant()
    def at_most_two_sessions_are_open(self) -> None:
        call = self.bench.call
        opened = {a.attempt for a in self.bench.all(OpenUpstream)}
        closed = {a.attempt for a in self.bench.all(CloseUpstream)}
        lingering = {attempt for attempt in opened if attempt in call.lingering}
        wanted = {call.serving, call._connecting, call.preparation and call.preparation.attempt} - {None}
        assert opened - closed - lingering == wanted, "no session outlives what it was opened for"
        assert not lingering & wanted

    @invariant()
    def nothing_is_started_that_is_not_paid_for(self) -> None:
        bench, budget = self.bench, self.bench.ctx.budget
        assert budget.reserved == sum(bench.ctx.purse.running.values())
        assert budget.ahead >= 0
        if bench.rows("unpaid_response"):
            return  # a provider that starts answers nobody let it start
        if bench.bucket is not None:
            assert budget.spent + budget.reserved + bench.held <= max(bench.bucket, budget.spent)
        if budget.cap is not None:
            assert budget.spent + budget.reserved <= budget.cap

    def nothing_outlives_the_call(self) -> None:
        bench = self.bench
        bench.wait(2.5)
        assert dict(bench.ctx.purse.running) == {}
        assert (bench.ctx.budget.reserved, bench.held) == (0, 0)
        billed = sum(row["nanodollars"] for row in bench.rows("charge"))
        assert billed == bench.ctx.budget.spent
        assert bench.call.state is State.ENDED
        assert not [a for a in bench.all(ToUpstream) if "event" in a.event]
        super().nothing_outlives_the_call()


PaidAnyOrder.TestCase.settings = settings(
    max_examples=100,
    stateful_step_count=40,
    deadline=None,
    print_blob=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)
TestPaidAnyOrder = PaidAnyOrder.TestCase
