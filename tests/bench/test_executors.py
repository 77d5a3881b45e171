"""Who runs the jobs must not matter: here, two or four workers, a Ray cluster, workers that die."""

import os
import random
import signal
import subprocess
import sys
import time
from importlib.util import find_spec, module_from_spec, spec_from_file_location
from pathlib import Path

import pytest

from atha.bench import nursery
from atha.bench.executors import DEATHS, run_here, run_in_workers
from atha.bench.plan import make_plan
from atha.bench.runner import run_plan
from atha.bench.store import Store
from atha.bench.work import BenchError, EpisodeRunner
from atha.data.opening import open_pool
from atha.episodes import draw_episodes
from atha.errors import AthaError
from atha.methods import Options
from conftest import COLOURS, write_images

# Dies by the first job in each of COUNT processes, the first of them with its parent if PARENT; then is zero-shot.
DEADLY = """
import os, signal
from pathlib import Path
from atha.methods.zero_shot import ZeroShot

class Deadly(ZeroShot):
    def fit(self, support):
        for number in range({count}):
            try:
                Path({place!r}, str(number)).touch(exist_ok=False)
            except FileExistsError:
                continue
            if number == 0 and {parent}:
                os.kill(os.getppid(), signal.SIGKILL)
            os.kill(os.getpid(), signal.SIGKILL)
        return super().fit(support)
"""


@pytest.fixture
def folder(tmp_path, tiny_clip, monkeypatch) -> Path:
    """Images, beside a model."""
    monkeypatch.setenv("ATHA_CACHE", str(tmp_path / "cache"))
    (tmp_path / "tiny").symlink_to(tiny_clip)
    return write_images(tmp_path / "pool", COLOURS, 6)


def planned(folder: Path, methods=("zero-shot", "atha:paper"), episodes=4):
    pool, model = open_pool(str(folder)), str(folder.parent / "tiny")
    options = Options(overrides=("training.steps=1",))
    return make_plan([(pool, draw_episodes(pool, 3, 1, 2, episodes))], methods, model, options=options)


def stored(path: Path, plan, executor, **options) -> dict:
    with Store(path, create=True) as store:
        run_plan(plan, store, executor, **options)
        return content(store)


def content(store: Store) -> dict:
    return {
        (one.hash, episode): (float(accuracy), found.tobytes())
        for one in store.experiments()
        for accuracy, (episode, found) in zip(one.accuracy, store.probabilities(one.hash), strict=True)
    }


def kills_module():
    source = spec_from_file_location("kills", Path(__file__).parents[2] / "benchmarks" / "kills.py")
    module = module_from_spec(source)
    source.loader.exec_module(module)
    return module


def deadly(tmp_path: Path, count: int, parent: bool = False) -> str:
    (tmp_path / "marks").mkdir()
    file = tmp_path / "deadly.py"
    file.write_text(DEADLY.format(count=count, parent=parent, place=str(tmp_path / "marks")))
    return f"{file}:Deadly"


def check_deadly(plan, found: dict, here: dict, tmp_path: Path, deaths: int) -> None:
    """Workers did die, of the method that does what zero-shot does, and nothing is lost or changed."""
    assert len(list((tmp_path / "marks").iterdir())) == deaths
    assert {key: value for key, value in found.items() if key in here} == here
    zero_shot, _, other = plan.experiments[0]
    assert len(found) == 12
    for episode in range(4):
        assert found[zero_shot, episode] == found[other, episode]


def test_images_made_ready_while_a_processor_is_idle_change_nothing(folder, tmp_path, monkeypatch):
    plan, backbone = planned(folder, ("zero-shot",))
    found, prepared = [], []
    real = EpisodeRunner.prepare
    monkeypatch.setattr(EpisodeRunner, "prepare", lambda self, job: (prepared.append(*job.episodes), real(self, job)))
    for cores in (1, 2):
        monkeypatch.setattr("atha.machine.cores", lambda cores=cores: cores)
        store = tmp_path / f"{cores}.db"
        found.append(stored(store, plan, lambda plan, jobs: run_here(plan, jobs, backbone)))
    assert found[0] == found[1]
    assert prepared == [1, 2, 3], "on one core, nothing is prepared"


def test_two_shards_are_a_whole(folder, tmp_path):
    plan, backbone = planned(folder, episodes=3)

    def here(plan, jobs):
        return run_here(plan, jobs, backbone)

    whole = stored(tmp_path / "whole.db", plan, here)
    parts = [stored(tmp_path / f"{part}.db", plan, here, shard=(part, 2)) for part in (1, 2)]
    assert not parts[0].keys() & parts[1].keys()
    with Store(tmp_path / "merged.db", create=True) as merged:
        for part in (1, 2):
            with Store(tmp_path / f"{part}.db") as store:
                merged.merge(store)
        assert content(merged) == whole


def test_four_workers_give_the_same_and_a_dead_ones_episode_is_given_to_another(folder, tmp_path):
    methods = ("zero-shot", "prototypes")  # what is trained is compared where runs are killed, below
    plan, backbone = planned(folder, methods)
    here = stored(tmp_path / "here.db", plan, lambda plan, jobs: run_here(plan, jobs, backbone))
    # On systems where workers are forked, with what they are forked from.
    plan, _ = planned(folder, (*methods, deadly(tmp_path, 1, parent=nursery.possible("cpu"))))
    found = stored(tmp_path / "a.db", plan, lambda plan, jobs: run_in_workers(plan, jobs, 4))
    check_deadly(plan, found, here, tmp_path, 1)


def test_spawned_workers_give_the_same(folder, tmp_path, monkeypatch):
    """As on systems and for devices where none is forked."""
    plan, backbone = planned(folder, ("zero-shot", "prototypes"), episodes=1)
    here = stored(tmp_path / "here.db", plan, lambda plan, jobs: run_here(plan, jobs, backbone))
    monkeypatch.setattr(nursery, "possible", lambda device: False)
    monkeypatch.setattr(nursery.Nursery, "bear", None)
    assert len(here) == 2
    assert stored(tmp_path / "spawned.db", plan, lambda plan, jobs: run_in_workers(plan, jobs, 1)) == here


def test_an_episode_that_kills_every_worker_ends_the_run_and_keeps_the_rest(folder, tmp_path):
    plan, _ = planned(folder, ("zero-shot", deadly(tmp_path, 99)))
    with Store(tmp_path / "a.db", create=True) as store:
        with pytest.raises(BenchError, match=rf"{DEATHS} workers died on episode 0 of pool"):
            run_plan(plan, store, lambda plan, jobs: run_in_workers(plan, jobs, 1))
        assert (plan.experiments[0][0], 0) in content(store), "what had arrived is kept"


def test_a_workers_error_names_the_episode(folder, tmp_path, monkeypatch, capfd):
    """And the process that it was forked from had one thread, or no fork is safe, was out of Ctrl-C's reach, and ended
    without a word."""
    monkeypatch.setenv("OPENBLAS_NUM_THREADS", "1")  # its threads end before a fork and begin again
    seen, close = [], nursery.Nursery.close
    monkeypatch.setattr(
        nursery.Nursery, "close", lambda self: (seen.append(threads_and_blocked(self._process.pid)), close(self))
    )
    plan, _ = planned(folder)
    victim = folder / "red_thing" / "0_0.png"
    victim.write_bytes(b"no image any more")
    wanted = pytest.raises(AthaError, match=r"zero-shot on episode \d of pool: .*0_0\.png")
    with Store(tmp_path / "a.db", create=True) as store, wanted:
        run_plan(plan, store, lambda plan, jobs: run_in_workers(plan, jobs, 1))
    assert seen == ([(1, True)] if nursery.possible("cpu") else [])
    assert not capfd.readouterr().err


def threads_and_blocked(process: int) -> tuple[int, bool]:
    """How many threads a process has, and whether it will be given no SIGINT."""
    status = dict(line.split(":", 1) for line in Path(f"/proc/{process}/status").read_text().splitlines())
    return int(status["Threads"]), bool(int(status["SigBlk"], 16) >> (signal.SIGINT - 1) & 1)


UNGUARDED = """
import sys
from pathlib import Path
from atha.bench.executors import run_in_workers
from atha.bench.plan import make_plan
from atha.data.opening import open_pool
from atha.episodes import draw_episodes
from atha.bench.work import Job

pool = open_pool(sys.argv[1])
plan, _ = make_plan([(pool, draw_episodes(pool, 3, 1, 2, 1))], ["zero-shot"], "nano")
{guard}
    print(len(list(run_in_workers(plan, [Job(0, (0,), (0,))], 1))), flush=True)
"""


@pytest.mark.slow
@pytest.mark.parametrize("guard", ["if True:", "if __name__ == '__main__':"])
def test_a_script_without_a_guard_is_told_so_and_starts_no_more(folder, tmp_path, guard):
    script = tmp_path / "script.py"
    script.write_text(UNGUARDED.format(guard=guard))
    command = [sys.executable, str(script), str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    if guard == "if True:":
        assert done.returncode == 1
        assert done.stderr.count("before the\n        current process has finished its bootstrapping phase") == DEATHS
        assert f"{DEATHS} workers died" in done.stderr
    else:
        assert (done.returncode, done.stdout, "Traceback" in done.stderr) == (0, "1\n", False), done.stderr


@pytest.mark.ray
@pytest.mark.skipif(find_spec("ray") is None, reason="the extra 'ray' is not installed")  # atha is to import it first
def test_ray_gives_the_same_and_replaces_dead_workers(folder, tmp_path):
    from atha.bench.on_ray import run_on_ray

    plan, backbone = planned(folder)
    here = stored(tmp_path / "here.db", plan, lambda plan, jobs: run_here(plan, jobs, backbone))
    plan, _ = planned(folder, ("zero-shot", "atha:paper", deadly(tmp_path, 1)))
    found = stored(tmp_path / "ray.db", plan, lambda plan, jobs: run_on_ray(plan, jobs, workers=2))
    check_deadly(plan, found, here, tmp_path, 1)


def test_killed_runs_end_as_undisturbed_ones(folder, tmp_path):
    """Two workers, of which one is killed, and then the driver; benchmarks/kills.py is the same with fifty."""
    found = kills_module().survive(
        folder, tmp_path, 2, "local", 8, random.Random(3), pause=0.1, model=str(tmp_path / "tiny")
    )
    assert found["equal"], found
    assert found["results"] == 24
    assert found["left_behind"] == 0
    assert found["kills_of_the_driver"] == found["kills_of_a_worker"] == 1


@pytest.mark.skipif(not hasattr(signal, "pthread_sigmask"), reason="no signals as on Unix")
@pytest.mark.parametrize("moment", ["start", "work"])
def test_ctrl_c_ends_a_run_with_one_sentence(folder, tmp_path, moment):
    store = tmp_path / "a.db"
    command = [
        sys.executable, "-m", "atha", "bench", "run", "--dataset", str(folder), "--way", "3",
        "--model", str(tmp_path / "tiny"),
        "--method", "zero-shot", "--shot", "1", "--query", "2", "--episodes", "1000", "--workers", "2",
        "--store", str(store),
    ]  # fmt: skip
    # A test run in the background of a shell ignores Ctrl-C, and so would what it starts.
    before = signal.signal(signal.SIGINT, signal.SIG_DFL)
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    process = subprocess.Popen(command, **pipes, text=True, start_new_session=True)
    signal.signal(signal.SIGINT, before)
    # While workers are being started, or when they have begun to give results.
    wanted = store.exists if moment == "start" else (lambda: kills_module()._count(store) > 0)
    while not wanted() and process.poll() is None:
        time.sleep(0.1)
    os.killpg(process.pid, signal.SIGINT)  # the workers get it too, as from a terminal
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 130, errors
    assert "the same command goes on" in errors
    assert errors.rstrip().endswith("Error: stopped by the keyboard, nothing half-written is left")
    assert "Traceback" not in errors
