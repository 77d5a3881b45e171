"""Training in bfloat16 against float32 on the same episodes of real images: paired difference in accuracy.

    uv run python benchmarks/precision.py FOLDER [--classes isic2018] [--method atha:paper] [--episodes 60]

FOLDER holds class folders. Both run as `atha bench run` does, with nano, into one store that a second call goes on
with. Prints the differences, episode by episode, with their 95% interval as published and by Student's t.
"""

import argparse
from pathlib import Path

from atha.bench.executors import run_in_workers
from atha.bench.plan import make_plan
from atha.bench.runner import run_plan
from atha.bench.store import Store
from atha.data.opening import open_pool
from atha.data.sources.cdfsl import benchmarks
from atha.episodes import draw_episodes
from atha.machine import cores
from atha.statistics import mean_interval, paired


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--classes", help="the benchmark whose labels the folders have")
    parser.add_argument("--method", default="atha:paper")
    parser.add_argument("--episodes", type=int, default=60)
    parser.add_argument("--shot", type=int, default=1)
    parser.add_argument("--together", type=int, default=1)
    parser.add_argument("--store", type=Path, default=Path("precision.db"))
    options = parser.parse_args()
    texts = benchmarks()[options.classes].texts if options.classes else None
    pool = open_pool(str(options.folder), classes=texts)
    drawn = draw_episodes(pool, 5, options.shot, 15, options.episodes, 1)
    accuracy = {}
    for precision in ("float32", "bfloat16"):
        plan, _ = make_plan(
            [(pool, drawn)], [options.method], "nano", precision=precision, device="cpu", together=options.together
        )
        with Store(options.store, create=True) as store:
            run_plan(plan, store, lambda plan, jobs: run_in_workers(plan, jobs, cores()))
            done = store.done(plan.experiments[0][0])
        accuracy[precision] = [100 * done[episode.index] for episode in drawn.episodes]
        mean = mean_interval(accuracy[precision])
        print(f"{options.method}, {precision}: {mean.mean:.2f} +-{mean.half:.2f}% over {mean.n} episodes", flush=True)
    found = paired(accuracy["bfloat16"], accuracy["float32"])
    print(
        f"bfloat16 minus float32: {found.mean:+.2f} points, 95% +-{found.half:.2f} "
        f"(Student's t: +-{found.t_half:.2f}); {found.wins} above, {found.ties} equal, {found.losses} below"
    )


if __name__ == "__main__":
    main()
