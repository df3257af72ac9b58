"""Passes on many devices: chunks go out as rows of a Ray dataset, and what workers make of them comes back in order.

Ray schedules, moves data and repeats what a lost worker had at hand; what is made of a chunk, and how it is committed,
is as without it. Workers know no store: the driver alone commits, so a chunk counts once, whoever ran it how often.

What travels is pickled by this module and read by it alone, on machines that trust each other as Ray's do.
"""

import logging
import os
import pickle
import socket
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, Final

import pyarrow as pa

from armorm.features.embedding.canary import Canaries, take_canaries
from armorm.features.embedding.chunks import Chunk, Forwarded, Forwarder
from armorm.features.embedding.fingerprint import BackboneSettings, Fingerprint, read_fingerprint
from armorm.features.embedding.unfinished import Unfinished
from armorm.features.embedding.vectors import Pass, Texts
from armorm.features.errors import BackboneError, FeatureStoreError, InputError, WorkerError
from armorm.features.vectors.shards import Name, Vector

ADDRESS: Final = "RAY_ADDRESS"
"""The environment variable of a running cluster. Without it Ray is started on this machine, and stopped in the end."""

RETRIES: Final = 3
"""A chunk whose workers die so often, and once more, ends the run: its texts may be why."""

EVERY_S: Final = 1.0
"""Between two times that a worker tells, and the driver asks, how far the chunks have come that are at work."""

NOTHING: Final = Chunk([], frozenset())

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Finished:
    """What a worker gives back for a chunk."""

    worker: str
    canaries: Canaries
    seconds: float
    texts: Texts
    passes: list[Pass]


@dataclass(frozen=True, slots=True)
class Failed:
    """The report of a worker that cannot go on, with the reason."""

    worker: str
    why: str


class Tally:
    """The progress of the chunks at work: an actor that workers tell and the driver asks."""

    def __init__(self) -> None:
        """Begin with nothing at work."""
        self._done: dict[int, tuple[int, int]] = {}

    def tell(self, number: int, n_texts: int, n_tokens: int) -> None:
        """Note how much of a chunk is done; one that is repeated, after a worker's death, counts from the beginning."""
        self._done[number] = n_texts, n_tokens

    def at_work(self, first: int) -> tuple[int, int]:
        """Return texts and tokens of the chunks from that number on; those before it were taken by the driver."""
        self._done = {number: done for number, done in self._done.items() if number >= first}
        return sum(texts for texts, _ in self._done.values()), sum(tokens for _, tokens in self._done.values())


class Worker:
    """One copy of the backbone, in a process of its own on a machine that has its files."""

    def __init__(self, settings: BackboneSettings, backbone_id: str, token_budget: int, tally: Any) -> None:
        """Load the backbone. An error is reported with the first chunk, as Ray would restart the worker for ever."""
        from armorm.features.embedding.backbone import load

        self._name = f"{socket.gethostname()} (pid {os.getpid()})"
        self._failed: Failed | None = None
        self._tally = tally
        try:
            fingerprint = read_fingerprint(settings)
            if fingerprint.backbone_id != backbone_id:
                raise BackboneError(
                    settings.path,
                    f"got files of backbone {fingerprint.backbone_id[:12]} on this machine; expected the files of "
                    f"{backbone_id[:12]}, with which the run was started; copy them to this machine",
                )
            backbone = load(settings, fingerprint)
            self._canaries = take_canaries(backbone, token_budget=token_budget)
            self._forwarder = Forwarder(backbone, token_budget)
        except FeatureStoreError as error:
            self._failed = Failed(self._name, str(error))
        except Exception as error:  # of whatever kind, such as a driver's
            _log.exception("the backbone was not loaded")
            first_line = (str(error).splitlines() or ["no reason is given"])[0]
            self._failed = Failed(self._name, f"it cannot load the backbone: {type(error).__name__}: {first_line}")

    def __call__(self, row: pa.Table) -> pa.Table:
        """Return a row with what was made of a chunk."""
        return _row(self._failed or self._made(*_unpacked(row)))

    def _made(self, number: int, chunk: Chunk, done: Mapping[Name, Vector]) -> Finished | Failed:
        passes: list[Pass] = []
        told = time.monotonic()
        try:
            forwarded = self._forwarder.forward(chunk, done)
            for one in forwarded.passes:
                passes.append(one)
                if time.monotonic() - told >= EVERY_S:
                    told = time.monotonic()
                    self._tally.tell.remote(
                        number, sum(len(p.vectors) for p in passes), sum(p.n_tokens for p in passes)
                    )
        except FeatureStoreError as error:
            return Failed(self._name, str(error))
        return Finished(self._name, self._canaries, time.monotonic() - forwarded.started, forwarded.texts, passes)


def forward_on_ray(
    begun: Iterable[tuple[Chunk, Unfinished]],
    backbone: BackboneSettings,
    fingerprint: Fingerprint,
    *,
    token_budget: int,
    workers: int,
    check: Callable[[Canaries], None],
    at_work: Callable[[int, int], None] = lambda n_texts, n_tokens: None,
) -> Iterator[tuple[Chunk, Unfinished, Forwarded]]:
    """Yield what workers make of chunks, in the order of the chunks.

    Args:
        begun: chunks, and what is known of each. All go into Ray's object store, which spills to disk, before the first
            is forwarded.
        backbone: loaded by every worker from its own machine.
        fingerprint: of the backbone; a machine whose files have another one is refused.
        token_budget: of a pass.
        workers: how many copies of the backbone; each takes a GPU if its device is one, else a core.
        check: given the canaries of each worker, before the first of what it has made.
        at_work: given, while a chunk is waited for, the texts and tokens that are done of those not given back yet.

    Raises:
        InputError: Ray is not installed or not to be reached, or has fewer GPUs here than there are to be workers.
        WorkerError: a worker cannot go on, or workers die of one chunk.
    """
    on_gpu = backbone.device.startswith("cuda")
    with _running(workers, on_gpu=on_gpu) as ray:
        refs, unfinished = [], []
        for number, (chunk, known) in enumerate(begun):
            refs.append(ray.put(_row((number, chunk, known.done))))
            unfinished.append(known)
        tally = ray.remote(num_cpus=0)(Tally).remote()
        # a run that lacks canaries alone has them taken all the same
        rows = _rows(
            refs or [ray.put(_row((0, NOTHING, {})))],
            (replace(backbone, device="cuda") if on_gpu else backbone, fingerprint.backbone_id, token_budget, tally),
            workers,
            num_gpus=1 if on_gpu else 0,
        )
        checked = set[str]()
        taken = 0

        def wait_for_one() -> None:
            at_work(*ray.get(tally.at_work.remote(taken)))

        for number, made in enumerate(_awaited(rows, wait_for_one)):
            taken = number + 1
            if isinstance(made, Failed):
                raise WorkerError(made.worker, made.why)
            if made.worker not in checked:
                check(made.canaries)
                checked.add(made.worker)
            if refs:
                _, chunk, _ = _unpacked(ray.get(refs[number]))
                forwarded = Forwarded(time.monotonic() - made.seconds, made.texts, made.passes)
                yield chunk, unfinished[number], forwarded


def _rows(refs: list[Any], given: tuple[Any, ...], workers: int, *, num_gpus: int) -> Iterator[Finished | Failed]:
    """Run the dataset; its results are in the order of the references."""
    from ray.data import ActorPoolStrategy, from_arrow_refs
    from ray.exceptions import RayActorError
    from ray.util.annotations import RayDeprecationWarning

    dataset = from_arrow_refs(refs)
    dataset.context.execution_options.preserve_order = True
    dataset.context.enable_progress_bars = False  # the embedding has its own
    dataset.context.print_on_execution_start = False
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RayDeprecationWarning)  # of `max_task_retries`, for which nothing else is there
        made = dataset.map_batches(
            Worker,
            batch_size=1,
            batch_format="pyarrow",
            compute=ActorPoolStrategy(size=min(workers, len(refs))),
            fn_constructor_args=given,
            num_cpus=1,
            num_gpus=num_gpus,
            max_restarts=-1,
            max_task_retries=RETRIES,
        )
    try:
        for row in made.iter_batches(batch_size=1, batch_format="pyarrow", prefetch_batches=0):
            yield _unpacked(row)
    except RayActorError as error:
        raise WorkerError(
            "of Ray",
            f"got {RETRIES + 1} deaths over one chunk; expected it to be embedded; memory that does not suffice is the "
            "usual reason: see the logs of Ray, and set token_budget, or max_tokens in [backbone], lower",
        ) from error


def _awaited(rows: Iterator[Finished | Failed], waiting: Callable[[], None]) -> Iterator[Finished | Failed]:
    """Yield rows as they come; until the next one does, call `waiting` now and then, in the thread of the caller."""
    pool = ThreadPoolExecutor(1)
    try:
        while True:
            coming = pool.submit(next, rows, None)
            while not wait([coming], timeout=EVERY_S).done:
                waiting()
            if (row := coming.result()) is None:
                return
            yield row
    finally:
        pool.shutdown(wait=False)  # whoever is stopped does not wait for a chunk


@contextmanager
def _running(workers: int, *, on_gpu: bool) -> Iterator[Any]:
    """Connect to Ray as it runs already, or to the environment's cluster, or start it here for so many workers."""
    # Read when Ray is imported or started. Neither figures for its makers nor lines of its own on the terminal; and
    # workers that do the very work that was asked for are no background jobs, which Ray takes them for.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_worker_niceness", "0")
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
    try:
        import ray
        import ray.data
    except ModuleNotFoundError as error:
        raise InputError(
            f'embed.engine: got "ray", and no module {error.name}; expected Ray Data; '
            "run `pip install 'armorm[ray]'`, or set engine = \"local\""
        ) from error
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    if ray.is_initialized():
        yield ray
        return
    address = os.environ.get(ADDRESS)
    own: dict[str, Any] = {} if address else {"num_cpus": workers, "include_dashboard": False}
    try:
        if address:
            _reach(address)
        with _without_stderr():
            ray.init(address or "local", log_to_driver=False, logging_level=logging.ERROR, **own)
        ray._private.worker.print_to_stdstream = _log_error  # which goes to standard output, whatever `init` is told
    except (OSError, RuntimeError, ValueError) as error:
        first_line = str(error).strip().splitlines()[0]
        raise InputError(
            f"{ADDRESS}: got {address or 'nothing'}, where Ray does not start ({first_line}); expected the address of "
            "a running cluster, or none to start it on this machine"
        ) from error
    try:
        n_gpus = int(ray.cluster_resources().get("GPU", 0))  # type: ignore[no-untyped-call]
        if on_gpu and not address and n_gpus < workers:
            raise InputError(
                f"embed.workers: got {workers}, on a machine with {n_gpus} GPUs for Ray; expected one each; set it "
                f"lower, or name a cluster in {ADDRESS}"
            )
        yield ray
    finally:
        ray.shutdown()


@contextmanager
def _without_stderr() -> Iterator[None]:
    """Discard standard error: Ray's library writes a line there when it starts, about the level that was set."""
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


def _log_error(data: Any, ignore_prefix: bool) -> None:
    """Log what went wrong on the cluster, such as the death of a worker; what Ray advises is in its own logs."""
    for line in data["lines"]:
        _log.warning("Ray: %s", line.split(". ")[0])


def _reach(address: str) -> None:
    """Refuse a `host:port` that does not answer: Ray itself would try for many minutes."""
    host, _, port = address.rpartition(":")
    if port.isdecimal() and "//" not in host:
        socket.create_connection((host.strip("[]"), int(port)), timeout=10).close()


def _row(value: Any) -> pa.Table:
    """Return a table of one row: Ray's unit of work."""
    return pa.table({"pickled": pa.array([pickle.dumps(value, protocol=5)], pa.large_binary())})


def _unpacked(row: pa.Table) -> Any:
    return pickle.loads(row["pickled"][0].as_buffer())
