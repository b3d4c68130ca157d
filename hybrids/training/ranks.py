"""Which of the processes of one run this one is, whoever started them.

Lightning knows torchrun, Slurm, LSF, MPI and Kubeflow as launchers. Without one it starts the ranks of a machine
itself, or a user does with LOCAL_RANK and NODE_RANK. (Its XLA is for TPUs, which `trainer.accelerator`
does not offer.)
"""

import logging
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch.distributed as dist
from lightning.fabric.plugins.environments.cluster_environment import ClusterEnvironment
from lightning.fabric.plugins.environments.kubeflow import KubeflowEnvironment
from lightning.fabric.plugins.environments.lightning import LightningEnvironment
from lightning.fabric.plugins.environments.lsf import LSFEnvironment
from lightning.fabric.plugins.environments.mpi import MPIEnvironment
from lightning.fabric.plugins.environments.slurm import SLURMEnvironment
from lightning.fabric.plugins.environments.torchelastic import TorchElasticEnvironment

from hybrids.errors import UserError

log = logging.getLogger(__name__)

_PARENT = "HYBRIDS_FIRST_RANK"
"""Environment variable by which a rank that Lightning starts knows the process id of the first one."""

_GO, _ENDED = "go", "ended"


@dataclass(frozen=True)
class Ranks:
    """The place of this process among those of its run."""

    environment: ClusterEnvironment
    rank: int
    """Over all nodes. The first rank, 0, reads and writes the folder of the run, and speaks."""
    world_size: int
    parent: int | None
    """Process id of the first rank, where that one has started this one."""
    are_all_there: bool
    """Whether a launcher has started every rank; else Lightning starts the others when the first begins to train."""

    @property
    def is_first(self) -> bool:
        return self.rank == 0

    def hear(self, backend: str) -> Any:
        """What the first rank tells; None for a rank that it has started, which need not be told.

        SystemExit where the first rank ended instead; that one says why.
        """
        if not self.are_all_there:
            return None
        told = [_ENDED, None]
        self._connect(backend)
        dist.broadcast_object_list(told, src=0)
        if told[0] == _ENDED:
            raise SystemExit(1)
        return told[1]

    @contextmanager
    def telling(self, backend: str) -> Iterator[Callable[[Any], None]]:
        """For the first rank: a function to tell the others, once, what is to be done; an error before tells to end."""
        told = []

        def tell(word: str, what: Any = None) -> None:
            told.append(word)
            if self.are_all_there:
                self._connect(backend)
                dist.broadcast_object_list([word, what], src=0)

        if self.world_size > 1 and not self.are_all_there:
            os.environ[_PARENT] = str(os.getpid())
        try:
            yield lambda what: tell(_GO, what)
        except BaseException:
            if not told:
                tell(_ENDED)
            raise

    def _connect(self, backend: str) -> None:
        """As Lightning would when training begins; it then finds the connection made."""
        if not dist.is_initialized():
            log.info("rank %d of %d, started by %s", self.rank, self.world_size, _name(self.environment))
            os.environ["MASTER_ADDR"] = self.environment.main_address
            os.environ["MASTER_PORT"] = str(self.environment.main_port)
            dist.init_process_group(backend, rank=self.rank, world_size=self.world_size)


def find_ranks(devices: int, num_nodes: int) -> Ranks:
    """The place of this process; UserError where a launcher has started another number than is asked for."""
    environment = _find_environment()
    wanted = devices * num_nodes
    # As a strategy of Lightning does: an environment that knows better ignores what it is told.
    environment.set_global_rank(environment.node_rank() * devices + environment.local_rank())
    environment.set_world_size(wanted)
    _check_size(environment, devices, num_nodes)
    rank = environment.global_rank()
    parent = os.environ.get(_PARENT) if rank else None
    return Ranks(
        environment=environment,
        rank=rank,
        world_size=wanted,
        parent=None if parent is None else int(parent),
        are_all_there=wanted > 1 and parent is None and environment.creates_processes_externally,
    )


def _find_environment() -> ClusterEnvironment:
    """What Lightning would find, and Kubeflow, which it takes only if told to; torchrun may run inside Slurm."""
    if TorchElasticEnvironment.detect():
        return TorchElasticEnvironment()
    if _is_started_by_srun():
        return _build_slurm()
    for environment in (LSFEnvironment, MPIEnvironment):
        if environment.detect():
            return environment()
    return KubeflowEnvironment() if _is_kubeflow() else LightningEnvironment()


def _is_started_by_srun() -> bool:
    """Not so in a batch script without srun, nor for a single task, whose further ranks Lightning can start."""
    in_batch_script = os.environ.get("ENVIRONMENT") == "BATCH" and "SLURM_STEP_ID" not in os.environ
    return SLURMEnvironment.detect() and not in_batch_script and os.environ["SLURM_NTASKS"] != "1"


def _build_slurm() -> SLURMEnvironment:
    try:
        return SLURMEnvironment()
    except RuntimeError:
        tasks = os.environ["SLURM_NTASKS"]
        raise UserError(f"Slurm was asked for --ntasks={tasks} tasks; say --ntasks-per-node=<tasks> instead") from None


def _is_kubeflow() -> bool:
    """A pod of a PyTorchJob: https://www.kubeflow.org/docs/components/trainer/legacy-v1/user-guides/pytorch."""
    given = {"KUBERNETES_PORT", "MASTER_ADDR", "MASTER_PORT", "WORLD_SIZE", "RANK"}
    return given <= os.environ.keys() and "LOCAL_RANK" not in os.environ


def _check_size(environment: ClusterEnvironment, devices: int, num_nodes: int) -> None:
    started = environment.world_size()
    settings = f"trainer.devices={devices} and trainer.num_nodes={num_nodes}"
    launcher = _name(environment)
    if started != devices * num_nodes:
        raise UserError(
            f"{settings} make {devices * num_nodes} ranks, but {launcher} has started {started} processes; allowed: "
            f"as many, with trainer=ddp or trainer=ddp_cpu and the devices of a node and the nodes of the launcher"
        )
    try:
        environment.validate_settings(num_devices=devices, num_nodes=num_nodes)
    except ValueError as error:
        raise UserError(f"{settings} are not what {launcher} has started: {error}") from None


def _name(environment: ClusterEnvironment) -> str:
    return type(environment).__name__.removesuffix("Environment")
