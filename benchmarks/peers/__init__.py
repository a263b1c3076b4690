"""The same faults of a Realtime provider against the orchestrator and against what others offer, side by side."""
