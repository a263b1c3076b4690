"""`orchestrator`: the list of commands; each is imported when it is called."""

from __future__ import annotations

import difflib
import importlib

import click

# A simulator, a demo or the settings bring what `--help` and other commands do not need.
_SECTIONS: dict[str, dict[str, tuple[str, str, str]]] = {
    "Begin": {
        "models": ("models_cli", "models", "Fetch, list and check the local models."),
        "serve": ("serve_cli", "serve", "Take calls until interrupted."),
        "demo": ("demo.cli", "demo", "Make a call here, and take its provider away."),
        "simulate": ("simulate.cli", "simulate", "Run a simulated provider to test against."),
        "keys": ("keys_cli", "keys", "Make API keys, list, rotate and revoke them."),
        "prompts": ("prompts_cli", "prompts", "Check the catalogue of prompts; speak them ahead."),
    },
    "See": {
        "status": ("status_cli", "status", "Show tiers, breakers, overrides, budgets and calls."),
        "watch": ("watch_cli", "watch", "Watch how things stand and what happens."),
        "calls": ("calls_cli", "calls", "Show calls in progress."),
        "call": ("calls_cli", "call", "Show one call: its figures and its timeline."),
        "events": ("events_cli", "events", "Follow what happens in calls."),
        "route": ("route_cli", "route", "Ask where a call would go, why, and what would change that."),
        "audit": ("audit_cli", "audit", "Who did what and why: list, export, verify."),
    },
    "Act": {
        "force": ("overrides_cli", "force", "Force a tier on calls, for a time."),
        "extend": ("overrides_cli", "extend", "Let an override last longer, or shorter."),
        "clear": ("overrides_cli", "clear", "End an override before its time."),
        "drill": ("drills_cli", "drill", "Practise a failover on some calls; what they heard."),
        "approvals": (
            "approvals_cli",
            "approvals",
            "Approve tool calls that wait for a person, or reject them.",
        ),
    },
    "Money": {
        "budget": ("calls_cli", "budget", "Show what is spent of which budget today."),
        "estimate": ("estimate.cli", "estimate", "Estimate what calls will cost, before they are made."),
        "prices": ("money_cli", "prices", "Show what is billed here, and at which prices."),
        "bill": ("money_cli", "bill_command", "Work out the bill of recorded calls again."),
    },
}
_COMMANDS = {name: where for section in _SECTIONS.values() for name, where in section.items()}


class _Group(click.Group):
    """Commands under headings, in the order in which they are needed."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _COMMANDS:
            return None
        module, name, _ = _COMMANDS[cmd_name]
        command = getattr(importlib.import_module(f"orchestrator.{module}"), name)
        assert isinstance(command, click.Command)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        name = args[0]
        if name not in _COMMANDS and not name.startswith("-"):
            near = " or ".join(difflib.get_close_matches(name, _COMMANDS))
            ctx.fail(f"there is no command {name!r}" + (f"; did you mean {near}?" if near else ""))
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        width = max(map(len, _COMMANDS))
        for title, commands in _SECTIONS.items():
            with formatter.section(title):
                formatter.write_dl([(name.ljust(width), told) for name, (_, _, told) in commands.items()])


@click.group(
    cls=_Group,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="""\b
Examples:
  orchestrator models fetch                       the local models, once
  OPENAI_API_KEY=... orchestrator serve           then connect to ws://127.0.0.1:8080/v1/realtime
  orchestrator status                             tiers, breakers, overrides, budgets, calls
  orchestrator route --user 42                    where a call would go, why, and what would change that
  orchestrator events --type handover             handovers, as they happen
  orchestrator force C --for 15m --reason drill   everybody to Tier C for a quarter of an hour
  orchestrator approvals list                     tool calls that wait for a person's yes

\b
Commands ask the server of --url or ORCHESTRATOR_URL, else that of the settings (--config or ORCHESTRATOR_CONFIG),
with the key in ORCHESTRATOR_API_KEY. Most take --json. `orchestrator COMMAND --help` has examples.

\b
Exit codes: 0 done; 1 the server said no, or the settings cannot be used; 2 a wrong command line;
3 nobody answers; 4 the key is missing or may not; 5 not now (overloaded, or not ready): try again.
""",
)
@click.version_option(package_name="voice-orchestrator")
def main() -> None:
    """Keep live voice calls alive when their OpenAI Realtime provider is not.

    Tier A relays to OpenAI, Tier B answers with local models, Tier C says fixed prompts. Clients speak the
    OpenAI Realtime protocol to one address, whatever the tier.
    """
