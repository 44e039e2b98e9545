"""What a Slurm job runs on each of its nodes: `python -m openr1.launch.node RUN_FOLDER STAGE [--shard i/N]`.

Ends with 0 where the stage is done, with 75 where the job should go back into the queue, else with the stage's code.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
from pathlib import Path

from openr1.config.recipe import load_run_yaml
from openr1.errors import OpenR1Error, Terminated
from openr1.launch.local import LocalRun
from openr1.launch.plan import make_plan
from openr1.launch.run import plan_lines
from openr1.launch.shard_plan import make_shard_plan
from openr1.log import LineSink, logger, setup_logging
from openr1.store import Shard

REQUEUE = 75


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m openr1.launch.node", description=__doc__)
    parser.add_argument("run", type=Path)
    parser.add_argument("stage")
    parser.add_argument("--shard", metavar="i/N")
    asked = parser.parse_args()
    sys.path.insert(0, os.getcwd())
    setup_logging(sink=LineSink())
    signal.signal(signal.SIGUSR1, lambda *_: os.kill(os.getpid(), signal.SIGTERM))
    try:
        recipe = load_run_yaml(asked.run)
        if asked.shard:
            steps = make_shard_plan(recipe, asked.run, [asked.stage], [], Shard.parse(asked.shard))
        else:
            steps = make_plan(recipe, asked.run, [asked.stage])
        for line in plan_lines(steps):
            logger.info("%s", line)
        run = LocalRun(recipe, asked.run, steps)
        forward = run._forward
        run._forward = lambda n: forward(signal.SIGTERM)  # type: ignore[method-assign]
        run.run()
    except Terminated as e:
        logger.info("%s", e)
        sys.exit(REQUEUE)
    except OpenR1Error as e:
        logger.error("openr1: %s", e)
        sys.exit(REQUEUE if e.exit_code == Terminated.exit_code else e.exit_code)


if __name__ == "__main__":
    main()
