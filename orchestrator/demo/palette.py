"""Colours and names of the tiers, in the terminal and in the picture."""

from __future__ import annotations

COLOURS = {"A": "#2b8a3e", "B": "#e8590c", "C": "#9c36b5", "bridge": "#e0a000", "caller": "#1971c2"}
ALERT = "#e03131"
TIER_NAMES = {
    "A": "OpenAI Realtime, speech to speech",
    "B": "local speech and text models",
    "C": "fixed prompts",
}
