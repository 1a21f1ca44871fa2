"""A real Slurm on this machine: its controller and two nodes, on 127.0.0.1 and in one folder."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
from pathlib import Path

import psutil

CONFIGURATION = """\
ClusterName=one
SlurmctldHost={host}(127.0.0.1)
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={root}/munge.sock
CredType=cred/munge
StateSaveLocation={root}/state
SlurmdSpoolDir={root}/spool/%n
SlurmctldPidFile={root}/slurmctld.pid
SlurmdPidFile={root}/slurmd-%n.pid
SlurmctldLogFile={root}/slurmctld.log
SlurmdLogFile={root}/slurmd-%n.log
SlurmctldPort={ports[0]}
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
MpiDefault=none
ReturnToService=2
SwitchType=switch/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
CommunicationParameters=NoCtldInAddrAny,NoInAddrAny
SchedulerType=sched/backfill
SchedulerParameters=sched_interval=2,bf_interval=2,requeue_delay=1
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
JobRequeue=1
KillWait=60
SlurmdTimeout=10
SlurmctldTimeout=30
MinJobAge=3600
InactiveLimit=0
AccountingStorageType=accounting_storage/none
JobCompType=jobcomp/none
SlurmdParameters=config_overrides
NodeName=n1 NodeHostname={host} NodeAddr=127.0.0.1 Port={ports[1]} CPUs=1 RealMemory=4000
NodeName=n2 NodeHostname={host} NodeAddr=127.0.0.1 Port={ports[2]} CPUs=1 RealMemory=4000
PartitionName=low Nodes=n[1-2] Default=YES MaxTime=INFINITE State=UP PriorityTier=1 GraceTime={grace}
PartitionName=high Nodes=n[1-2] MaxTime=INFINITE State=UP PriorityTier=10 PreemptMode=OFF
"""
PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "squeue", "scontrol", "scancel")
PATH = os.pathsep.join((os.environ.get("PATH", ""), "/usr/sbin", "/sbin"))


def missing() -> str:
    """Why there can be no Slurm here; "" if there can."""
    without = [name for name in PROGRAMS if shutil.which(name, path=PATH) is None]
    if without:
        return f"Slurm is not installed ({', '.join(without)} missing): apt-get install slurm-wlm munge"
    return "" if os.getuid() == 0 else "its daemons are started as root"


class Slurm:
    """The daemons, started; `environment` makes Slurm's commands talk to them."""

    def __init__(self, root: Path, grace: int = 0) -> None:
        self.root = root
        for name in ("state", "spool/n1", "spool/n2"):
            (root / name).mkdir(parents=True)
        sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(3)]
        ports = [one.getsockname()[1] for one in sockets]
        for one in sockets:
            one.close()
        conf = root / "slurm.conf"
        host = socket.gethostname()
        conf.write_text(CONFIGURATION.format(root=root, host=host, ports=ports, grace=grace))
        version = subprocess.run(["slurmd", "-V"], capture_output=True, text=True, env={"PATH": PATH})
        known = version.stdout.split()[-1] >= "23.11"  # control groups are not needed, and not touched
        (root / "cgroup.conf").write_text(f"CgroupPlugin={'disabled' if known else 'cgroup/v1'}\n")
        self.environment = {
            **{key: value for key, value in os.environ.items() if not key.startswith("SLURM_")},
            "SLURM_CONF": str(conf),
            "PATH": PATH,
        }
        key = root / "munge.key"
        key.write_bytes(os.urandom(1024))
        key.chmod(0o600)
        self._run("munged", "--force", f"--socket={root}/munge.sock", f"--key-file={key}",
                  f"--pid-file={root}/munged.pid", f"--log-file={root}/munged.log",
                  f"--seed-file={root}/munged.seed")  # fmt: skip
        self._run("slurmctld", "-f", str(conf))
        for node in ("n1", "n2"):
            self.start_node(node)
        self.wait(lambda: self.ask("sinfo", "-h", "-N", "-o", "%t").split() == ["idle"] * 4, 60)

    def start_node(self, node: str) -> None:
        self._run("slurmd", "-N", node, "-f", str(self.root / "slurm.conf"))

    def _run(self, *words: str) -> None:
        done = subprocess.run(
            words,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=60,
            stdin=subprocess.DEVNULL,
        )
        assert done.returncode == 0, (words, done.stdout, done.stderr)

    def ask(self, *words: str) -> str:
        done = subprocess.run(
            words, env=self.environment, capture_output=True, text=True, timeout=60, check=False
        )
        return done.stdout + done.stderr

    def queue(self) -> list[str]:
        return self.ask("squeue", "-h", "-r", "-o", "%i %T %N %r").splitlines()

    def wait(self, reached, seconds: float, what: str = "it") -> None:
        deadline = time.monotonic() + seconds
        while not reached():
            assert time.monotonic() < deadline, f"{what} was not reached: {self.queue()}"
            time.sleep(0.3)

    def processes(self, node: str = "") -> list[psutil.Process]:
        """Its daemons, first those that watch over jobs, and what these started; or a node's alone."""
        names = {"munged", "slurmctld", "slurmd"}
        found, steps = [], {}
        for process in psutil.process_iter():
            try:
                ours = process.name() in names and str(self.root) in " ".join(process.cmdline())
                ours = ours or process.environ().get("SLURM_CONF") == str(self.root / "slurm.conf")
                of_node = node in (process.environ().get("SLURMD_NODENAME"), *process.cmdline())
            except psutil.Error:
                continue
            if ours and (not node or of_node):
                found.append(process)
                parent = process.parent()
                if parent is not None and parent.name() == "slurmstepd":
                    steps[parent.pid] = parent  # its title has taken the place of its environment
        found.sort(key=lambda process: process.name() not in names)
        return [*steps.values(), *found]

    def close(self) -> None:
        for process in self.processes():
            if process.pid != os.getpid():
                try:
                    process.kill()
                except psutil.Error:
                    continue
        shutil.rmtree(self.root, ignore_errors=True)
