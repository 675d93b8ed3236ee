"""Heavy work as a task: one command, in a GPU pod or as a child process of the worker."""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseOperator
from airflow.sdk.exceptions import AirflowTaskTimeout

from include.config import FAMILIES, PROJECT_ROOT
from include.errors import BadConfiguration, Transient
from ragworks import child
from ragworks.outcomes import DONE, RESUMES, End, NoNode, failure

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from airflow.sdk import Context

    from include.config import Settings
    from include.store.model_runs import ModelRun
    from ragworks.operators.gpu_pod import GpuPodOperator
    from ragworks.profiles import PodProfile

TRAINING_KEY = "{{ dag.dag_id }}/{{ run_id }}"  # a run id alone is not unique among DAGs
MAX_GPUS = 64


class GpuTaskOperator(BaseOperator):
    """Run ``python -m include.training FAMILY --run-key KEY --step STEP`` where the GPUs are.

    ``RAGWORKS_COMPUTE`` decides where: ``kubernetes`` makes a pod with Airflow's KubernetesPodOperator and waits for it in the
    triggerer, without a worker slot; ``local`` runs the same command as a child process of the worker. The command reads what
    it is to do from the training's row (``ragworks.model_run``) and writes there what it did. The task reads that row and
    nothing else: it succeeds when the row says that the step is done.

    ======================================  ==========================================================
    the command ended with                  the task
    ======================================  ==========================================================
    0, and the row says done                succeeds
    0, and it does not                      fails and is retried; not retried when the row is missing
    75, or preempted, drained, killed       fails as Transient; the retry goes on from the checkpoint
    69                                      fails as ServiceUnavailable; is retried
    65, or out of memory                    fails as Terminal; is not retried
    anything else                           fails; retried as often as the task says
    ======================================  ==========================================================

    In Kubernetes the profiles of ``include/k8s/profiles.yaml`` are tried in order: a pod that finds no node within its
    profile's limit is deleted and the next profile is tried. After the last one the task fails as Transient. Marking the task
    failed deletes the pod, or stops the process; either has ``grace_seconds`` to save a checkpoint. See docs/gpu-tasks.md.

    :param family: ``reranker``, ``embedder`` or ``llm``.
    :param step: ``baseline``, ``train``, ``merge`` or ``evaluate``.
    :param run_key: names the training; a retry with the same key goes on with it (templated).
    :param gpus: how many GPUs, 1 to 64; None: what each profile says (templated).
    :param image: container image; None: the template's (templated).
    :param namespace: of the pod; None: the connection's, else Airflow's own (templated).
    :param kubernetes_conn_id: Airflow's connection to the cluster; in the cluster it may be missing.
    :param pod_template_file: YAML of a pod, below which everything is laid; its container is called ``base``.
    :param profiles_file: YAML of profiles; each is laid over the template.
    :param pod_arguments: further arguments of ``KubernetesPodOperator``, for example ``{"service_account_name": "trainer"}``;
        they win over profile and template. Never a secret: Airflow shows a task's arguments.
    :param deferrable: wait in the triggerer; False: the worker waits, and holds its slot.
    :param grace_seconds: between SIGTERM and SIGKILL, for a checkpoint. Spot nodes give 30 to 120 seconds' notice.
    :param startup_timeout_seconds: how long a pod that has a node may take to start: above all to pull its image.
    :param active_deadline_seconds: how long a pod may live, whatever happens to Airflow.
    :param logging_interval: seconds between two looks of the triggerer at the pod's log.
    :param poll_interval: seconds between two looks at the pod's state.
    :param command: what runs, before family, key and step; None: the training command of this project.
    """

    template_fields: Sequence[str] = ("run_key", "gpus", "image", "namespace", "pod_arguments")
    ui_color = "#fef7e0"

    def __init__(
        self,
        *,
        family: str,
        step: str = "train",
        run_key: str = TRAINING_KEY,
        gpus: int | str | None = None,
        image: str | None = None,
        namespace: str | None = None,
        kubernetes_conn_id: str | None = "kubernetes_default",
        pod_template_file: str = "include/k8s/training_pod.yaml",
        profiles_file: str = "include/k8s/profiles.yaml",
        pod_arguments: Mapping[str, Any] | None = None,
        deferrable: bool = True,
        grace_seconds: int = 120,
        startup_timeout_seconds: int = 1800,
        active_deadline_seconds: int = 86_400,
        logging_interval: int = 60,
        poll_interval: float = 10,
        command: Sequence[str] | None = None,
        pool: str = "gpu",
        **kwargs: Any,
    ) -> None:
        super().__init__(pool=pool, **kwargs)
        self.family = family
        self.step = step
        self.run_key = run_key
        self.gpus = gpus
        self.image = image
        self.namespace = namespace
        self.kubernetes_conn_id = kubernetes_conn_id
        self.pod_template_file = pod_template_file
        self.profiles_file = profiles_file
        self.pod_arguments = pod_arguments
        self.deferrable = deferrable
        self.grace_seconds = grace_seconds
        self.startup_timeout_seconds = startup_timeout_seconds
        self.active_deadline_seconds = active_deadline_seconds
        self.logging_interval = logging_interval
        self.poll_interval = poll_interval
        self.command = command
        self._process: subprocess.Popen[str] | None = None
        self._in_pod: GpuPodOperator | None = None

    def execute(self, context: Context) -> None:
        """Run the command, or defer until its pod ended.

        :raises RagworksError: it is not done; the kind of error says whether a retry may help.
        """
        from ragworks.hooks.ragworks import settings_from_airflow

        settings = settings_from_airflow()
        if settings.compute == "local":
            end = self._run_here(settings)
        else:
            with self._noting(settings):
                end = self.pod_operator(settings).run(context)
        self._conclude(settings, end)

    def resume(self, context: Context, event: dict[str, Any]) -> None:
        """Go on after the triggerer saw the pod change."""
        from ragworks.hooks.ragworks import settings_from_airflow

        settings = settings_from_airflow()
        with self._noting(settings):
            end = self.pod_operator(settings).resume(context, event)
        self._conclude(settings, end)

    def on_kill(self) -> None:
        """Delete the pod, or stop the process; both save a checkpoint first."""
        if self._process is not None:
            self._process.terminate()
        if self._in_pod is not None:
            self._in_pod.on_kill()

    def pod_operator(self, settings: Settings) -> GpuPodOperator:
        """The task as a pod.

        :raises BadConfiguration: an argument, the template or a profile is impossible.
        """
        from ragworks.operators.gpu_pod import GpuPodOperator

        cmd, *arguments = [text.replace("$(", "$$(") for text in self._arguments("python")]  # Kubernetes would expand $(NAME)
        self._in_pod = GpuPodOperator(
            task_id=self.task_id,
            execution_timeout=self.execution_timeout,
            profiles=self._profiles(settings),
            gpus=_gpus(self.gpus),
            environment=_environment(settings),
            pod_template_file=str(PROJECT_ROOT / self.pod_template_file),
            **{
                "name": f"ragworks-{self.family}-{self.step}",
                "labels": {"ragworks/family": self.family, "ragworks/step": self.step},
                "cmds": [cmd],
                "arguments": arguments,
                "image": self.image,
                "namespace": self.namespace,
                "kubernetes_conn_id": self.kubernetes_conn_id,
                "deferrable": self.deferrable,
                "termination_grace_period": self.grace_seconds,
                "startup_timeout_seconds": self.startup_timeout_seconds,
                "active_deadline_seconds": self.active_deadline_seconds,
                "logging_interval": self.logging_interval,
                "poll_interval": self.poll_interval,
                "random_name_suffix": True,
                "do_xcom_push": False,
                "on_finish_action": "delete_succeeded_pod",
                "termination_message_policy": "FallbackToLogsOnError",
                "log_events_on_failure": True,
                "log_pod_spec_on_failure": False,
                **(self.pod_arguments or {}),
            },
        )
        return self._in_pod

    def _profiles(self, settings: Settings) -> Sequence[PodProfile]:
        """Those that a language model's forecast says will do; without a forecast all."""
        from ragworks.profiles import read_profiles

        profiles = read_profiles(PROJECT_ROOT / self.profiles_file)
        forecast = self._row(settings).training.get("forecast") if self.family == "llm" else None
        if not forecast:
            return profiles
        fitting = [profile for profile in profiles if profile.name in forecast["fitting"]]
        if not fitting:
            why = f"the training fits none of {', '.join(profile.name for profile in profiles)}"
            raise BadConfiguration(f"training {self.run_key}", why, "Change its arguments, or add a profile with a larger GPU")
        return fitting

    def _row(self, settings: Settings) -> ModelRun:
        from include.store import model_runs
        from include.store.pool import open_pool

        with open_pool(settings) as pool, pool.connection() as connection:
            return model_runs.by_key(connection, self.run_key)

    @contextmanager
    def _noting(self, settings: Settings) -> Iterator[None]:
        """Keep on the row which profiles found no node: a command that never began cannot say so itself."""
        from include.store import model_runs
        from include.store.pool import open_pool

        try:
            yield
        except NoNode as error:
            noted = {"step": self.step, "profiles": error.profiles, "why": error.why}
            with open_pool(settings) as pool, pool.connection() as connection:
                run = model_runs.by_key(connection, self.run_key)
                told = {"error": str(error)} if run.state == "planned" else {}  # its other errors are of the command
                model_runs.change(connection, run.id, training=run.training | {"unscheduled": noted}, **told)
            raise

    def _arguments(self, python: str) -> list[str]:
        if self.family not in FAMILIES:
            raise BadConfiguration(f"family {self.family!r}", "there is no such family", f"Use one of {', '.join(FAMILIES)}")
        if self.step not in DONE:
            raise BadConfiguration(f"step {self.step!r}", "there is no such step", f"Use one of {', '.join(DONE)}")
        prefix = list(self.command) if self.command else [python, "-m", "include.training"]
        return [*prefix, self.family, "--run-key", self.run_key, "--step", self.step]

    def _run_here(self, settings: Settings) -> End:
        command = [sys.executable, "-P", str(Path(child.__file__)), str(self.grace_seconds), *self._arguments(sys.executable)]
        secret = {"RAGWORKS_DATABASE_URL": settings.database_url} if settings.database_url else {}
        with subprocess.Popen(
            command,
            stdin=subprocess.PIPE,  # held open: its end tells the child that this process died
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            cwd=PROJECT_ROOT,
            env=_memory(self.family) | os.environ | secret | {"PYTHONUNBUFFERED": "1"},
            start_new_session=True,
            text=True,
            errors="backslashreplace",
        ) as self._process:
            self.log.info("Process %d runs step %s of training %s", self._process.pid, self.step, self.run_key)
            try:
                code = self._follow(self._process)
            except AirflowTaskTimeout as error:
                self._process.terminate()
                code = self._follow(self._process)
                if code != 0:
                    what = f"process {self._process.pid} was stopped"
                    raise Transient(what, "the task reached its execution_timeout", RESUMES) from error
        return End(f"process {self._process.pid}", code)

    def _follow(self, process: subprocess.Popen[str]) -> int:
        for line in process.stdout or ():
            self.log.info("%s", line.rstrip())
        return process.wait()

    def _conclude(self, settings: Settings, end: End) -> None:
        run = self._row(settings)
        if error := failure(end, run, self.step):
            raise error
        price = "" if run.cost is None else f", cost {run.cost:.2f}"
        self.log.info("Training %d is %s at step %d: %.0f GPU-seconds%s", run.id, run.state, run.step, run.gpu_seconds, price)


def _memory(family: str) -> dict[str, str]:
    """A language model's training takes what was estimated only where glibc gives freed memory back: docs/adapters.md."""
    from include.training.llm.estimate import RETURN_MEMORY

    return dict(RETURN_MEMORY) if family == "llm" else {}


def _environment(settings: Settings) -> dict[str, str]:
    """What a pod must know of these settings; what is secret stands in the template by the name of its Secret."""
    if "@" in settings.artifacts.partition("://")[2].partition("/")[0]:
        fix = "Put them into the Secret ragworks-artifacts, by the names that the store's client reads"
        raise BadConfiguration(
            "RAGWORKS_ARTIFACTS", "the URL holds credentials, which would stand in the pod for all to read", fix
        )
    judge = {"RAGWORKS_LLM_BASE_URL": settings.llm_base_url, "RAGWORKS_LLM_MODEL": settings.llm_model}
    if "@" in (settings.llm_base_url or "").partition("://")[2].partition("/")[0]:
        fix = "Put the key into the Secret ragworks as llm-api-key, and leave it out of the URL"
        raise BadConfiguration("RAGWORKS_LLM_BASE_URL", "it holds credentials, and all may read a pod's variables", fix)
    told = {name: value for name, value in judge.items() if value}
    return {"RAGWORKS_ARTIFACTS": settings.artifacts, "RAGWORKS_ENV": settings.environment, **told}


def _gpus(value: int | str | None) -> int | None:
    text = str(value).strip()
    if value is None or text in ("", "None"):
        return None
    if not text.isdecimal() or not 1 <= int(text) <= MAX_GPUS:
        raise BadConfiguration(f"gpus {value!r}", "it is not a possible number", f"Use 1 to {MAX_GPUS}")
    return int(text)
