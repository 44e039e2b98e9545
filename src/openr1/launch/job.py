"""Which job, node and attempt a process of Slurm's belongs to, as Slurm's environment tells it inside a step."""

from __future__ import annotations

import socket
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from openr1.errors import UserError
from openr1.nodes.network import address_of, address_towards, expand_hosts
from openr1.store import Shard


@dataclass(frozen=True)
class Job:
    """One node's view of a step that runs one task a node. `index` counts the nodes of the step, `gpus` are those that
    Slurm gave to the job on this node, `ends_at` is when its time is up (seconds since the epoch)."""

    id: str
    step: str
    restart: int
    index: int
    names: list[str]
    name: str
    gpus: int
    ends_at: float | None
    launch_address: str | None

    @classmethod
    def of(cls, environment: Mapping[str, str]) -> Job:
        """Raises UserError outside a step, and for a step that does not run one task a node."""
        found = environment.get
        nodes = found("SLURM_STEP_NODELIST") or found("SLURM_JOB_NODELIST")
        if not found("SLURM_JOB_ID") or not nodes or found("SLURM_NODEID") is None:
            raise UserError(
                "openr1.launch.node: not inside a step of a Slurm job; `openr1 submit` writes the file that starts it"
            )
        names, index = expand_hosts(nodes), int(environment["SLURM_NODEID"])
        tasks = int(found("SLURM_STEP_NUM_TASKS") or len(names))
        if tasks != len(names):
            raise UserError(
                f"openr1.launch.node: {tasks} tasks on {len(names)} nodes; start one a node (srun --ntasks-per-node=1)"
            )
        end = found("SLURM_JOB_END_TIME")
        return cls(
            id=environment["SLURM_JOB_ID"],
            step=found("SLURM_STEP_ID") or "0",
            restart=int(found("SLURM_RESTART_COUNT") or 0),
            index=index,
            names=names,
            name=found("SLURMD_NODENAME") or names[index],
            gpus=int(found("SLURM_GPUS_ON_NODE") or 0),
            ends_at=float(end) if end and end.isdigit() else None,
            launch_address=found("SLURM_LAUNCH_NODE_IPADDR"),
        )

    @property
    def meeting(self) -> str:
        """The name of the folder in which the nodes of this attempt find each other."""
        return f"{self.id}.{self.step}-{self.restart}"

    def address(self, interface: str | None) -> str:
        """The address at which other nodes reach this one: that of `interface`, or the one towards the batch host.

        Raises UserError where neither can be told.
        """
        if interface is not None:
            return address_of(interface)
        try:
            return address_towards(self.launch_address) if self.launch_address else socket.gethostbyname(self.name)
        except OSError as e:
            raise UserError(
                f"{self.name}: has no address that can be told ({e}); set cluster.network_interface"
            ) from e


def job_folder(run: Path, stage: str, shard: Shard | None = None) -> Path:
    """Where the jobs of a stage keep their record and meet; outside its folder, which may be moved aside."""
    return run / ".jobs" / f"{stage}{f'.shard-{shard.name}' if shard else ''}"
