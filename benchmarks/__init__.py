"""What the orchestrator promises, measured: one module a question. Run one as `python -m benchmarks.failover`."""
