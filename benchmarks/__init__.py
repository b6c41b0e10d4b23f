"""Timings, as ratios against a bare loop or a peer in the same run. Never imported, never run by the tests."""
