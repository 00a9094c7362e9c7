"""The table of runs: what the program says and makes, recorded. See tests/test_runs.py."""
