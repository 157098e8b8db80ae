"""The Slurm executor: a job a task, through submitit; what starts together is one job array.

A trial gives itself back when its job is pre-empted, or 90 s before it runs out of time (SIGTERM, SIGUSR2),
and the coordinator hands it out again; a job that Slurm itself requeues meets the trial's lease.
"""

import logging
import shutil
import signal
import subprocess
import time
from dataclasses import dataclass
from typing import Any

from experiments.cluster import SlurmCluster
from experiments.execute import GONE, UNFIT, Task
from experiments.node import Unfit, absolute, unfit

ASK_S = 30  # between questions to squeue, at most
REFUSED_S = 600.0  # for which sbatch may refuse once it has taken jobs: a controller that restarts
LATE_S = 15.0  # that a result may come after its job's end, on a file system that is slow to tell
STATES = {"NODE_FAIL": GONE, "BOOT_FAIL": GONE, "PREEMPTED": "pre-empted"}
AT_ONCE = 500  # jobs that a command names
MOST = 50  # jobs at a time, where nobody says


def work(task: Task) -> str | None:
    """What a job does."""
    if (why := unfit(task)) is not None:
        return why
    from experiments import trial

    return trial.CALLS[task.call](task.jobs, True)


@dataclass
class Sent:
    """A task and its job. over: since when Slurm says that it ended, without having left a result."""

    task: Task
    job: Any
    up: bool = False
    over: float | None = None
    killed: bool = False


class SlurmExecutor:
    """workers: jobs at a time, those that wait in Slurm's queue included; 0: MOST. device: of each job."""

    def __init__(self, workers: int, device: str, cluster: SlurmCluster) -> None:
        if not cluster.local and shutil.which("sbatch") is None:
            raise Unfit(
                "there is no sbatch here: launch from where Slurm takes jobs, or --cluster local=true"
            )
        self.workers, self.device, self.cluster = workers or MOST, device, cluster
        self.submitter: Any = None
        self.new, self.sent, self.bad = list[Task](), list[Sent](), set[str]()
        self.asked = self.proven = False
        self.again = self.refused_at = 0.0  # when sbatch is asked again, and since when it refuses

    @property
    def free(self) -> list[str]:
        return [f"job {n}" for n in range(len(self.new) + len(self.sent) + 1, self.workers + 1)]

    def start(self, task: Task) -> None:
        self.new.append(task)  # `poll` submits what has come together

    def _submit(self) -> None:
        from submitit.core.utils import FailedSubmissionError, UncompletedJobError

        tasks = [absolute(task, self.device) for task in self.new]
        self.submitter = self.submitter or self._submitter(tasks[0])
        try:
            with self.submitter.batch():
                jobs = [self.submitter.submit(work, task) for task in tasks]
        except (FailedSubmissionError, UncompletedJobError, OSError) as error:
            now = time.monotonic()
            self.refused_at = self.refused_at or now
            if not self.proven or now - self.refused_at > REFUSED_S:
                raise Unfit(f"sbatch refused: {' '.join(str(error).split())[-300:]}") from None
            self.again = now + ASK_S
            return
        self.refused_at = 0.0
        self.sent += [Sent(task, job) for task, job in zip(self.new, jobs, strict=True)]
        self.new = []

    def _submitter(self, task: Task) -> Any:
        import submitit
        from submitit.core.logger import get_logger
        from submitit.slurm.slurm import SlurmJob

        get_logger().setLevel(logging.ERROR)
        SlurmJob.watcher = _watcher()
        ask, kind = self.cluster, "local" if self.cluster.local else "slurm"
        made = submitit.AutoExecutor(task.log.parent / "slurm" / "%j", kind)
        told = {
            "mem_gb": ask.memory_gb,
            "slurm_partition": ask.partition,
            "slurm_account": ask.account,
            "slurm_qos": ask.qos,
            "slurm_constraint": ask.constraint,
            "slurm_setup": [ask.setup] if ask.setup else None,
            "slurm_exclude": ",".join(sorted(self.bad)) or None,
            "slurm_array_parallelism": self.workers,
        }
        made.update_parameters(
            name=f"shapelex-{task.log.parent.name}",
            timeout_min=ask.time,
            cpus_per_task=ask.cpus,
            gpus_per_node=int(ask.gpus),
            **told,
        )
        return made

    def poll(self, timeout_s: float) -> list[tuple[Task, str | None]]:
        ended = list[tuple[Task, str | None]]()
        if self.asked:
            self.asked = False
            ended += self._interrupt()
        if self.new and time.monotonic() >= self.again:
            self._submit()
        until = time.monotonic() + timeout_s
        while not (found := [sent for sent in self.sent if self._over(sent)]) and time.monotonic() < until:
            time.sleep(min(0.05, timeout_s))
        return ended + [self._end(sent) for sent in found]

    def _over(self, sent: Sent) -> bool:
        """Whether the job has ended. A result is its last word; where it can leave none, Slurm says so."""
        if sent.over is None and sent.job.done():
            sent.over = time.monotonic()
        if sent.over is None:
            return False
        late = sent.killed or time.monotonic() - sent.over > LATE_S
        return late or sent.job.paths.result_pickle.exists()

    def _end(self, sent: Sent) -> tuple[Task, str | None]:
        self.sent.remove(sent)
        paths = sent.job.paths
        if sent.killed:  # whatever it still said
            return sent.task, "killed"
        if not paths.result_pickle.exists():
            state = sent.job.state.partition(" ")[0]  # "CANCELLED by 1000"
            how = f"its job {sent.job.job_id} ended as {state}: {paths.stderr}"
            return sent.task, STATES.get(state, how)
        if (error := sent.job.exception()) is not None:
            lines = str(error).split("----------------------")[1].strip().splitlines()
            return sent.task, f"{lines[-1]}: {paths.stderr}"
        if (how := sent.job.result()) is not None and how.startswith(UNFIT):
            why = how.removeprefix(UNFIT)
            if not self.proven:
                raise Unfit(why)
            self.bad.add(why.split()[0])
            self.submitter = None  # the next asks for other machines
        else:
            self.proven = True
        if how == "pre-empted" and not self.cluster.local:
            _scancel([], [sent])  # or Slurm would run it again beside the next one
        shutil.rmtree(paths.folder, ignore_errors=True)
        return sent.task, how

    def _interrupt(self) -> list[tuple[Task, str | None]]:
        """Ask what runs to give itself back, and take back what waits."""
        waiting = [sent for sent in self.sent if self._queued(sent)]
        self.sent = [sent for sent in self.sent if sent not in waiting]
        back = [*self.new, *(sent.task for sent in waiting)]
        self.new = []
        if self.cluster.local:
            for sent in self.sent:
                sent.job._process.send_signal(signal.SIGTERM)  # which its controller hands on
        else:
            _scancel(["--state=PENDING"], waiting)
            _scancel(["--signal=TERM"], self.sent)
        return [(task, "pre-empted") for task in back]

    def _queued(self, sent: Sent) -> bool:
        sent.up = sent.up or self.cluster.local or sent.job.paths.stdout.exists()
        return not sent.up

    def queued(self, task: Task) -> bool:
        return all(sent.task is not task or self._queued(sent) for sent in self.sent)

    def interrupt(self) -> None:
        self.asked = True

    def kill(self, task: Task) -> None:
        for sent in self.sent:
            if sent.task is task:
                sent.killed = True
                sent.job.cancel(check=False)

    def learn(self, task: Task, how: str | None, peak_mb: float | None) -> None:
        pass

    def close(self) -> None:
        if self.cluster.local:
            for sent in self.sent:
                sent.job.cancel()
            for sent in self.sent:
                sent.job._process.wait()
        else:
            _scancel([], self.sent)
        self.new, self.sent = [], []


def _watcher() -> Any:
    """What submitit asks how jobs are. Its own asks sacct, which says nothing where Slurm keeps no database;
    squeue lists a job for minutes after its end."""
    from submitit.slurm.slurm import SlurmInfoWatcher

    class Squeue(SlurmInfoWatcher):
        def _make_command(self) -> list[str] | None:
            command = ["squeue", "--me", "--states=all", "--format=%i|%T|%N"]
            return command if self._registered - self._finished else None

        def read_info(self, string: bytes | str) -> dict[str, dict[str, str]]:
            lines = (string if isinstance(string, str) else string.decode()).splitlines()[1:]
            found = super().read_info("\n".join(["JobID|State|NodeList", *lines]))
            missing = self._registered - self._finished - found.keys()
            return found | {job: {"State": "FORGOTTEN"} for job in missing}

    return Squeue(delay_s=ASK_S)


def _scancel(words: list[str], sent: list[Sent]) -> None:
    for start in range(0, len(sent), AT_ONCE):
        names = [each.job.job_id for each in sent[start : start + AT_ONCE]]
        subprocess.run(["scancel", "--quiet", *words, *names], check=False, stdin=subprocess.DEVNULL)
