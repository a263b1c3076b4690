"""Keys that tests give to what they start. No run may leave one of them behind: `planted_check` looks for them.

A test that configures anything with a key takes it from here, and so does one that presents a key which is refused
(`STRANGER`). `tests/test_planted.py` finds tests that do not.
"""

from __future__ import annotations

import base64

SERVER = "planted-key-of-the-server-5e0f7c21"
PROVIDER = "sk-planted-key-of-the-provider-a94be310"
METRICS = "planted-key-of-the-metrics-6c2d90ab"
SPARE = "sk-planted-key-of-a-spare-rung-2d7715ce"
AGENT = "sk-planted-key-of-the-agent-77d20c5b"
EARS = "sk-planted-key-of-transcription-604ac3b9"
VOICE = "sk-planted-key-of-the-voice-e81f92d7"
CARTESIA = "sk_car_planted_key_1c83e9f4"
WEBHOOK = "whsec_" + base64.b64encode(b"planted secret of a webhook d01f").decode()
LINKS = "planted secret that addresses are signed with 0b6a"
CREDENTIALS = "planted secret that credentials are sealed with 93fe"
REDIS = "planted-password-of-redis-3f5d08a2"
COLLECTOR = "planted-key-of-the-collector-f2a61b07"
MCP = "planted-key-of-an-mcp-server-98c4d1e6"
STRANGER = "planted-key-that-opens-nothing-b7720e14"

VALUES = {
    "server.api_key": SERVER,
    "openai.api_key": PROVIDER,
    "access.metrics_key": METRICS,
    "tier_a.rung.*.api_key": SPARE,
    "tier_b.agent_api_key": AGENT,
    "tier_b.stt_api_key": EARS,
    "tier_b.tts_api_key": VOICE,
    "cartesia.api_key": CARTESIA,
    "a webhook's secret": WEBHOOK,
    "links.secret": LINKS,
    "credentials.secret": CREDENTIALS,
    "redis.url's password": REDIS,
    "telemetry.otlp_headers": COLLECTOR,
    "mcp.*.api_key": MCP,
    "a key that is refused": STRANGER,
}
"""By what they are for. Nearly all have ``planted`` in them, by which the search is quick."""
