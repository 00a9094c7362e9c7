"""Ray with several nodes, of which one is lost, and a run on Ray that is killed."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.engine import test_workers as shared
from tests.engine.test_workers import NAMES, contents, litter, records
from tileup.cli.main import main
from tileup.engine.journal import NAME, Journal

if find_spec("ray") is None:  # it is imported where it is needed: that takes seconds
    pytest.skip("Ray is not installed", allow_module_level=True)
pytestmark = [pytest.mark.long, pytest.mark.slow]

folder, expected = shared.folder, shared.expected

NODES = """
import json, sys
from ray.cluster_utils import Cluster
from tests.engine.test_workers import SETTINGS, plain, slow
from tileup.engine import on_ray
from tileup.engine.engine import Team
from tileup.engine.jobs import find_jobs
from tileup.engine.outcomes import ByWorker, Finished
from tileup.engine.request import Request

cluster = Cluster()
cluster.add_node(num_cpus=0)
nodes = [cluster.add_node(num_cpus=1) for _ in range(2)]
lost, workers = [], set()

def hear(event):
    if isinstance(event, ByWorker):
        workers.add(event.worker)
    if isinstance(event, Finished) and not lost and len(workers) == 2:
        lost.append(nodes[0].node_id)
        cluster.remove_node(nodes[0], allow_graceful=False)  # its raylet is killed, and all below

jobs = find_jobs(Request(("in",), output="out", plan_json="auto"), SETTINGS)
team = Team(2, cluster.address)
outcomes = list(on_ray.run(jobs, SETTINGS, slow, hear, team=team))
print(json.dumps({"outcomes": [each.outcome for each in outcomes], "lost": len(lost)}))
cluster.shutdown()
"""


def quiet() -> dict[str, str]:
    own = {"RAY_AUTH_MODE": "disabled", "RAY_worker_niceness": "0"}
    return {each: os.environ[each] for each in os.environ if not each.startswith("RAY_")} | own


def test_a_node_that_is_lost_costs_nothing(folder: Path, expected: dict[str, bytes]) -> None:
    root = Path(__file__).parents[2]
    environment = quiet()
    environment["PYTHONPATH"] = f"{root}{os.pathsep}{environment.get('PYTHONPATH', '')}"
    done = subprocess.run(
        [sys.executable, "-c", NODES],
        capture_output=True,
        text=True,
        env=environment,
        timeout=500,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout.splitlines()[-1])
    assert told == {"outcomes": ["done"] * len(NAMES), "lost": 1}
    assert contents("out") == expected
    assert records("out") == records("one")
    assert len(Path("out", NAME).read_bytes().splitlines()) == len(NAMES), "none was made twice"
    assert litter("out") == []


def test_a_run_on_ray_that_is_killed_goes_on(folder: Path) -> None:
    flags = ("--preset", "smoke", "--window", "80", "--overlap", "16")
    command = ("upscale", "in", *flags)
    assert main([*command, "-o", "one", "-q"]) == 0
    ray = [sys.executable, "-m", "tileup", *command, "--engine", "ray", "--workers", "2"]
    with subprocess.Popen([*ray, "-o", "out"], stderr=subprocess.PIPE, env=quiet()) as running:
        assert running.stderr is not None
        while b"_2x.png  " not in (line := running.stderr.readline()):
            assert line, "it ended before a picture was done"
        running.kill()
    time.sleep(5)  # what was being written by its actors is not named any more
    there = contents("out")
    assert 0 < len(there) < len(NAMES)
    assert {each.output for each in Journal(Path("out")).records()} >= set(there)
    shutil.copytree("out", "there")
    assert main([*command, "-o", "out", "-q"]) == 0
    again = subprocess.run([*ray, "-o", "there", "-q"], env=quiet(), check=False)
    assert again.returncode == 0
    for output in ("out", "there"):
        assert contents(output) == contents("one")
        assert litter(output) == []
