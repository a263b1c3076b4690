"""Keys that tests give to what they start. No run may leave one of them behind: `planted_check` looks for them."""

from __future__ import annotations

import base64

SERVER = "planted-key-of-the-server-5e0f7c21"
PROVIDER = "sk-planted-key-of-the-provider-a94be310"
AGENT = "sk-planted-key-of-the-agent-77d20c5b"
CARTESIA = "sk_car_planted_key_1c83e9f4"
WEBHOOK = "whsec_" + base64.b64encode(b"planted secret of a webhook d01f").decode()
LINKS = "planted secret that addresses are signed with 0b6a"
CREDENTIALS = "planted secret that credentials are sealed with 93fe"

VALUES = {
    "server.api_key": SERVER,
    "openai.api_key": PROVIDER,
    "tier_b.agent_api_key": AGENT,
    "cartesia.api_key": CARTESIA,
    "a webhook's secret": WEBHOOK,
    "links.secret": LINKS,
    "credentials.secret": CREDENTIALS,
}
"""By what they are for."""
