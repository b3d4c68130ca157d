"""The place of a process among those of its run, from the variables that each launcher sets."""

import os
import re
import socket
import sys
from types import SimpleNamespace

import pytest
from lightning.fabric.utilities.rank_zero import rank_zero_only

from hybrids.errors import UserError
from hybrids.training.ranks import find_ranks

LAUNCHER_VARIABLES = (
    "SLURM_ TORCHELASTIC_ LSB_ JSM_ KUBERNETES_ ENVIRONMENT RANK LOCAL_RANK GROUP_RANK NODE_RANK WORLD_SIZE MASTER_"
)


@pytest.fixture
def launched(monkeypatch):
    """Set the variables of a launcher, and no others."""
    monkeypatch.setattr(rank_zero_only, "rank", rank_zero_only.rank)
    for name in list(os.environ):
        if name.startswith(tuple(LAUNCHER_VARIABLES.split())):
            monkeypatch.delenv(name)

    def launch(**variables):
        for name, value in variables.items():
            monkeypatch.setenv(name, str(value))

    return launch


SRUN = {  # https://slurm.schedmd.com/srun.html: srun --nodes=2 --ntasks-per-node=2, the second task of the second node
    "SLURM_JOB_ID": 4242, "SLURM_JOB_NAME": "train", "SLURM_NODELIST": "n[1-2]", "SLURM_NNODES": 2, "SLURM_NTASKS": 4,
    "SLURM_NTASKS_PER_NODE": 2, "SLURM_NODEID": 1, "SLURM_PROCID": 3, "SLURM_LOCALID": 1, "SLURM_STEP_ID": 0,
}  # fmt: skip
TORCHRUN = {  # https://docs.pytorch.org/docs/stable/elastic/run.html: torchrun --nnodes=2 --nproc-per-node=2
    "TORCHELASTIC_RUN_ID": "none", "RANK": 3, "LOCAL_RANK": 1, "GROUP_RANK": 1, "WORLD_SIZE": 4, "LOCAL_WORLD_SIZE": 2,
    "MASTER_ADDR": "n1", "MASTER_PORT": 29500,
}  # fmt: skip
KUBEFLOW = {"KUBERNETES_PORT": "tcp://10.0.0.1:443", "MASTER_ADDR": "job-master-0", "MASTER_PORT": 23456}


@pytest.mark.parametrize(
    ("variables", "devices", "nodes", "rank"),
    [
        ({}, 1, 1, 0),
        ({}, 2, 1, 0),
        (SRUN, 2, 2, 3),
        ({**SRUN, "SLURM_PROCID": 2, "SLURM_LOCALID": 0}, 2, 2, 2),  # the first of its node
        ({**SRUN, "SLURM_NTASKS": 2, "SLURM_NTASKS_PER_NODE": 1, "SLURM_PROCID": 1, "SLURM_LOCALID": 0}, 1, 2, 1),
        (TORCHRUN, 2, 2, 3),
        ({**TORCHRUN, "RANK": 2, "LOCAL_RANK": 0}, 2, 2, 2),
        ({**SRUN, **TORCHRUN}, 2, 2, 3),  # torchrun, started by srun
        ({**KUBEFLOW, "RANK": 1, "WORLD_SIZE": 2}, 1, 2, 1),
        ({"LOCAL_RANK": 1}, 2, 1, 1),
        ({"NODE_RANK": 1}, 2, 2, 2),  # the user starts each node, Lightning the ranks of it
        ({"NODE_RANK": 1, "LOCAL_RANK": 1}, 2, 2, 3),
    ],
)
def test_the_rank_is_that_among_all_nodes_whoever_started_it(launched, variables, devices, nodes, rank):
    launched(**variables)
    ranks = find_ranks(devices, nodes)
    assert (ranks.rank, ranks.world_size, ranks.is_first) == (rank, devices * nodes, rank == 0)


def test_lsf_tells_the_rank(launched, monkeypatch, tmp_path):
    """https://www.ibm.com/docs/en/spectrum-lsf: jsrun, two hosts, one task on each."""
    monkeypatch.setattr(socket, "gethostname", lambda: "n2")
    (tmp_path / "rankfile").write_text("launch\nn1\nn2\n")
    launched(
        LSB_JOBID=77, LSB_DJOB_RANKFILE=tmp_path / "rankfile", JSM_NAMESPACE_SIZE=2, JSM_NAMESPACE_RANK=1,
        JSM_NAMESPACE_LOCAL_RANK=0,
    )  # fmt: skip
    assert find_ranks(1, 2).rank == 1


def test_mpi_tells_the_rank(launched, monkeypatch):
    world = SimpleNamespace(
        Get_size=lambda: 2,
        Get_rank=lambda: 1,
        gather=lambda host, root: None,
        bcast=lambda value, root: [socket.gethostname()],
        Split=lambda color: SimpleNamespace(Get_rank=lambda: 1),
    )
    monkeypatch.setattr("lightning.fabric.plugins.environments.mpi._MPI4PY_AVAILABLE", True)
    monkeypatch.setitem(sys.modules, "mpi4py", SimpleNamespace(MPI=SimpleNamespace(COMM_WORLD=world, Comm=object)))
    assert find_ranks(2, 1).rank == 1


@pytest.mark.parametrize(
    "variables",
    [
        {"SLURM_NTASKS": 2, "SLURM_NTASKS_PER_NODE": 2, "SLURM_JOB_NAME": "bash", "SLURM_PROCID": 0},
        {"SLURM_NTASKS": 2, "SLURM_JOB_NAME": "interactive", "SLURM_PROCID": 0},
        {
            **SRUN,
            "SLURM_NTASKS": 1,
            "SLURM_PROCID": 0,
            "SLURM_LOCALID": 0,
            "SLURM_NODEID": 0,
        },  # one task, as submitit's
    ],
)
@pytest.mark.parametrize("devices", [1, 2])
def test_slurm_that_has_not_started_the_ranks_leaves_them_to_lightning(launched, variables, devices):
    launched(**variables)
    ranks = find_ranks(devices, 1)
    assert ranks.is_first and ranks.world_size == devices and not ranks.are_all_there


def test_a_batch_script_without_srun_is_one_process(launched):
    """sbatch --ntasks-per-node=2: the script runs once, on the first node, and has no step of its own."""
    script = {name: value for name, value in SRUN.items() if name != "SLURM_STEP_ID"}
    launched(**script | {"ENVIRONMENT": "BATCH", "SLURM_PROCID": 0, "SLURM_LOCALID": 0, "SLURM_NODEID": 0})
    assert not find_ranks(2, 1).are_all_there
    launched(SLURM_STEP_ID=0)  # with srun
    assert find_ranks(2, 2).are_all_there


@pytest.mark.parametrize(
    ("variables", "devices", "nodes", "told"),
    [
        (SRUN, 1, 1, "trainer.devices=1 and trainer.num_nodes=1 make 1 ranks, but SLURM has started 4 processes"),
        (SRUN, 4, 1, "--ntasks-per-node=2"),
        (SRUN, 1, 4, "--ntasks-per-node=2"),
        (TORCHRUN, 2, 1, "make 2 ranks, but TorchElastic has started 4 processes"),
        ({**KUBEFLOW, "RANK": 0, "WORLD_SIZE": 3}, 2, 1, "make 2 ranks, but Kubeflow has started 3 processes"),
        ({"SLURM_NTASKS": 2, "SLURM_PROCID": 0}, 2, 1, "say --ntasks-per-node=<tasks> instead"),
    ],
)
def test_another_number_of_processes_than_the_settings_say_is_refused(launched, variables, devices, nodes, told):
    launched(**variables)
    with pytest.raises(UserError, match=re.escape(told)):
        find_ranks(devices, nodes)
