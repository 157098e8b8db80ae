"""The Slurm executor: a job a task, through submitit; what starts together is one job array.

A trial gives itself back when its job is pre-empted, or 90 s before it runs out of time (SIGTERM, SIGUSR2),
and the coordinator hands it out again: Slurm itself requeues no job of ours.
"""

import logging
import shutil
import signal
import subprocess
import time
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from experiments.cluster import SlurmCluster
from experiments.code import source_hash
from experiments.execute import GONE, UNFIT, Task
from experiments.node import Fitness, Unfit, absolute, unfit, unused
from experiments.progress import Pace

SCAN_S = 0.5  # between looks for results
ASK_S = 30  # between questions to squeue, at most
AGAIN_S = 30.0  # between tries where sbatch refuses
LATE_S = 15.0  # that a result may come after its job's end, on a file system that is slow to tell
MOST = 50  # jobs at a time, where nobody says
AT_ONCE = 500  # jobs that a command names
# Of squeue(1), states that a job does not leave; and one that it has no word for.
ENDED = {
    "BOOT_FAIL", "CANCELLED", "COMPLETED", "DEADLINE", "FAILED", "NODE_FAIL", "OUT_OF_MEMORY", "PREEMPTED",
    "TIMEOUT", "FORGOTTEN",
}  # fmt: skip
HOWS = {"NODE_FAIL": GONE, "BOOT_FAIL": GONE, "PREEMPTED": "pre-empted"}


def work(task: Task) -> str | None:
    """What a job does."""
    if (why := unfit(task, source_hash())) is not None:
        return why
    from experiments import trial

    return trial.CALLS[task.call](task.jobs, True)


@dataclass
class Sent:
    """A task and its job. over: since when Slurm says that it ended, without having left a result."""

    name: str
    task: Task
    job: Any = None
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
        self.folder: Path | None = None  # of submitit's files
        self.new, self.sent, self.taken_back = list[Sent](), list[Sent](), list[Sent]()
        self.bad, self.fitness, self.scans = set[str](), Fitness(), Pace(SCAN_S)
        self.asked, self.again, self.over = False, 0.0, list[Sent]()

    @property
    def free(self) -> list[str]:
        taken = {sent.name for sent in (*self.new, *self.sent)}
        return list(islice(unused("job", taken), max(0, self.workers - len(taken))))

    def start(self, task: Task) -> None:
        self.new.append(Sent(self.free[0], task))  # `poll` submits what has come together

    def _submit(self) -> None:
        from submitit.core.utils import FailedSubmissionError, UncompletedJobError

        tasks = [absolute(sent.task, self.device) for sent in self.new]
        self.submitter = self.submitter or self._submitter(tasks[0])
        try:
            with self.submitter.batch():
                jobs = [self.submitter.submit(work, task) for task in tasks]
        except (FailedSubmissionError, UncompletedJobError, OSError) as error:
            if not self.sent:  # else it may have too many of ours, or be away: nothing that runs is to suffer
                raise Unfit(f"sbatch refused: {' '.join(str(error).split())[-300:]}") from None
            self.again = time.monotonic() + AGAIN_S
            return
        for sent, job in zip(self.new, jobs, strict=True):
            sent.job = job
        self.sent, self.new = [*self.sent, *self.new], []

    def _submitter(self, task: Task) -> Any:
        import submitit
        from submitit.core.logger import get_logger
        from submitit.slurm.slurm import SlurmJob

        get_logger().setLevel(logging.ERROR)
        SlurmJob.watcher = _watcher()
        ask, kind = self.cluster, "local" if self.cluster.local else "slurm"
        self.folder = task.log.parent / "slurm"
        made = submitit.AutoExecutor(self.folder / "%j", kind)
        told = {
            "mem_gb": ask.memory_gb,
            "slurm_partition": ask.partition,
            "slurm_account": ask.account,
            "slurm_qos": ask.qos,
            "slurm_constraint": ask.constraint,
            "slurm_setup": [ask.setup] if ask.setup else None,
            "slurm_exclude": ",".join(sorted(self.bad)) or None,
        }
        made.update_parameters(
            name=f"shapelex-{task.log.parent.name}",
            timeout_min=ask.time,
            cpus_per_task=ask.cpus,
            gpus_per_node=int(ask.gpus),
            slurm_array_parallelism=self.workers,
            slurm_srun_args=[f"--cpus-per-task={ask.cpus}"],  # which srun of Slurm 22.05 does not inherit
            slurm_additional_parameters={"no-requeue": True},
            **told,
        )
        return made

    def poll(self, timeout_s: float) -> list[tuple[Task, str | None]]:
        back = self._interrupt() if self.asked else []
        if self.new and time.monotonic() >= self.again:
            self._submit()
        until, self.over = time.monotonic() + timeout_s, []
        while not self.over and time.monotonic() < until:
            self.scans.keep(self._scan)
            time.sleep(min(0.05, timeout_s))
        return back + [self._end(sent) for sent in self.over]

    def _scan(self) -> None:
        self.over = [sent for sent in self.sent if self._is_over(sent)]

    def _is_over(self, sent: Sent) -> bool:
        """Whether the job has ended. A result is its last word; where it can leave none, Slurm says so."""
        if sent.over is None and sent.job.done():
            sent.over = time.monotonic()
        if sent.over is None:
            return False
        late = sent.killed or time.monotonic() - sent.over > LATE_S
        return late or sent.job.paths.result_pickle.exists()

    def _end(self, sent: Sent) -> tuple[Task, str | None]:
        self.sent.remove(sent)
        how, paths = self._how(sent), sent.job.paths
        if not self.fitness.learn(how) and how is not None:
            self.bad.add(how.removeprefix(UNFIT).split()[0])
            self.submitter = None  # the next asks for other machines
        if paths.result_pickle.exists():
            shutil.rmtree(paths.folder, ignore_errors=True)
        else:
            self._cancel([sent])
        return sent.task, how

    def _how(self, sent: Sent) -> str | None:
        """How its job ended."""
        job, paths = sent.job, sent.job.paths
        if sent.killed:  # whatever it still said
            return "killed"
        if paths.result_pickle.exists():
            if (error := job.exception()) is None:
                return job.result()
            return f"{str(error).split('----------------------')[1].strip().splitlines()[-1]}: {paths.stderr}"
        state, node = job.state.partition(" ")[0], job.get_info(mode="cache").get("NodeList", "")
        if state == "FAILED" and node and not paths.stdout.exists():
            return f"{UNFIT}{node} can't write into {paths.folder.parent}"
        return HOWS.get(state, f"its job {job.job_id} ended as {state}: {paths.stderr}")

    def _interrupt(self) -> list[tuple[Task, str | None]]:
        """Ask what runs to give itself back, and take back what waits."""
        self.asked = False
        waiting = [sent for sent in self.sent if self._queued(sent)]
        self.sent = [sent for sent in self.sent if sent not in waiting]
        back = [sent.task for sent in (*self.new, *waiting)]
        self.new, self.taken_back = [], [*self.taken_back, *waiting]
        if self.cluster.local:
            for sent in self.sent:
                sent.job._process.send_signal(signal.SIGTERM)  # which its controller hands on
        else:
            _scancel(["--state=PENDING"], waiting)
            _scancel(["--signal=TERM"], [*self.sent, *self.taken_back])
        return [(task, "pre-empted") for task in back]

    def _queued(self, sent: Sent) -> bool:
        sent.up = sent.up or self.cluster.local or sent.job.paths.stdout.exists()
        return not sent.up

    def queued(self, task: Task) -> bool:
        if any(sent.task is task for sent in self.new):
            return True
        return any(sent.task is task and self._queued(sent) for sent in self.sent)

    def interrupt(self) -> None:
        self.asked = True  # a signal's handler calls this: `poll` does it

    def kill(self, task: Task) -> None:
        killed = [sent for sent in self.sent if sent.task is task]
        for sent in killed:
            sent.killed = True
        self._cancel(killed)

    def learn(self, task: Task, how: str | None, peak_mb: float | None) -> None:
        pass

    def _cancel(self, jobs: list[Sent]) -> None:
        if self.cluster.local:
            for sent in jobs:
                sent.job.cancel()
        else:
            _scancel([], jobs)

    def close(self) -> None:
        self._cancel([*self.sent, *self.taken_back])
        if self.cluster.local:
            for sent in self.sent:
                sent.job._process.wait()
        self.new, self.sent, self.taken_back = [], [], []
        for path in self.folder.iterdir() if self.folder is not None else ():
            if path.is_dir() and {one.name for one in path.iterdir()} <= {f"{path.name}_submission.sh"}:
                shutil.rmtree(path, ignore_errors=True)  # an array's, beside its jobs' own folders
            elif not path.exists():  # a link to a job's script, which is gone with its folder
                path.unlink(missing_ok=True)


def _watcher() -> Any:
    """What submitit asks how jobs are. Its own asks sacct, which says nothing where Slurm keeps no database;
    squeue lists a job for minutes after its end."""
    from submitit.slurm.slurm import SlurmInfoWatcher

    class Squeue(SlurmInfoWatcher):
        def _make_command(self) -> list[str] | None:
            command = ["squeue", "--me", "--array", "--states=all", "--format=%i|%T|%N"]
            return command if self._registered - self._finished else None

        def is_done(self, job_id: str, mode: str = "standard") -> bool:
            return self.get_state(job_id, mode=mode).upper() in ENDED

        def read_info(self, string: bytes | str) -> dict[str, dict[str, str]]:
            lines = (string if isinstance(string, str) else string.decode()).splitlines()[1:]
            found = super().read_info("\n".join(["JobID|State|NodeList", *lines]))
            gone = (job for job in self._registered - found.keys() if not self.is_done(job, mode="cache"))
            return found | {job: {"State": "FORGOTTEN"} for job in gone}

    return Squeue(delay_s=ASK_S)


def _scancel(words: list[str], sent: list[Sent]) -> None:
    for start in range(0, len(sent), AT_ONCE):
        names = [each.job.job_id for each in sent[start : start + AT_ONCE]]
        subprocess.run(["scancel", "--quiet", *words, *names], check=False, stdin=subprocess.DEVNULL)
