"""The store: every episode's result, written once, in one SQLite file that survives being killed.

An experiment is the hash of all that defines it; a result's key is the experiment and the episode. A result comes in
one transaction, with a write-ahead log, so that the file is whole at every moment and several processes may write it.
"""

import json
import time
import warnings
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from atha.bench.checking import COLUMNS, Damage, Described, check_probabilities, check_results
from atha.bench.results import Experiment, Result, definition_hash
from atha.bench.store_file import TIMEOUT, StoreError, StoreFile
from atha.calibration import brier, calibration_parts
from atha.episodes import Episode, EpisodeSet
from atha.errors import AthaWarning
from atha.texts import json_table

# What is there first stays. Not INSERT OR IGNORE, which would pass over other faults of a row without a word.
_ADD_EXPERIMENT = "INSERT INTO experiments (hash, method, model, definition) VALUES (?, ?, ?, ?) ON CONFLICT DO NOTHING"
_ADD_EPISODE = "INSERT INTO episodes VALUES (?, ?, ?) ON CONFLICT DO NOTHING"
_ADD_RESULT = "INSERT INTO results VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING"
_RESULTS = (
    f"SELECT {COLUMNS} FROM results r LEFT JOIN probabilities p ON p.experiment = r.experiment "  # noqa: S608 - our own
    "AND p.episode = r.episode WHERE r.experiment = ? ORDER BY r.episode"
)
# Sentences on damage that are shown one by one.
_SHOWN = 10
_ADD_PROBABILITIES = "INSERT INTO probabilities VALUES (?, ?, ?) ON CONFLICT DO NOTHING"


class Store:
    """Results on disk.

    Args:
        path: the SQLite file.
        create: make it if it is not there; else it must be.
        timeout: seconds to wait for another process that is writing.

    Raises:
        StoreError: no such file, a file of another kind or of a newer version, or it cannot be read or written.
    """

    def __init__(self, path: Path, create: bool = False, timeout: float = TIMEOUT) -> None:
        self.path = path
        self._file = StoreFile(path, create, timeout)

    def __enter__(self) -> "Store":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def copy(self, path: Path) -> None:
        """Write all that there is now to another file, which is empty or not there."""
        self._file.copy(path)

    def start_run(self, environment: Mapping[str, Any]) -> int:
        """Note the circumstances of the results to come; returns their id."""
        with self._file.transaction():
            cursor = self._file.connection.execute(
                "INSERT INTO runs (started, environment) VALUES (?, ?)", (time.time(), json.dumps(environment))
            )
        assert cursor.lastrowid is not None
        return cursor.lastrowid

    def add_experiment(self, method: str, model: str, definition: Mapping[str, Any]) -> str:
        """Make an experiment known; returns its hash. Nothing changes if it is known already."""
        key = definition_hash(definition)
        with self._file.transaction():
            self._file.connection.execute(
                _ADD_EXPERIMENT,
                (key, method, model, json.dumps(definition, sort_keys=True)),
            )
        return key

    def add_episodes(self, episodes: EpisodeSet) -> None:
        """Keep the episodes' images by id, once.

        Raises:
            StoreError: the store has other episodes under the same key.
        """
        rows = [(episodes.key, one.index, _content(one)) for one in episodes.episodes]
        with self._file.transaction():
            self._file.connection.executemany(_ADD_EPISODE, rows)
            kept = dict(
                self._file.connection.execute(
                    "SELECT episode, content FROM episodes WHERE sequence = ?", (episodes.key,)
                )
            )
            for _, index, content in rows:
                if kept[index] != content:
                    raise StoreError(f"{self.path} holds another episode {index} of this sequence: use another store")

    def add(self, results: Iterable[Result], run: int) -> int:
        """Write results, all or none; those that are there already stay as they are. Returns how many are new."""
        rows, blobs = [], []
        ids = self._ids()
        for one in results:
            rows.append((ids[one.experiment], *_row(one), run))
            blobs.append((ids[one.experiment], one.episode, one.probabilities.astype("<f4").tobytes()))
        with self._file.transaction():
            before = self._file.connection.total_changes
            self._file.connection.executemany(_ADD_RESULT, rows)
            written = self._file.connection.total_changes - before
            self._file.connection.executemany(_ADD_PROBABILITIES, blobs)
        return written

    def done(self, experiment: str) -> dict[int, float]:
        """Episode -> accuracy, for what is there of an experiment."""
        with self._file.errors():
            found = self._file.connection.execute(
                "SELECT episode, accuracy FROM results WHERE typeof(accuracy) = 'real' AND experiment = "
                "(SELECT id FROM experiments WHERE hash = ?) ORDER BY episode",
                (experiment,),
            )
            return dict(found)

    def has(self, experiment: str, episode: int) -> bool:
        """Whether a result is there, by now and of whatever process."""
        with self._file.errors():
            found = self._file.connection.execute(
                "SELECT 1 FROM results WHERE episode = ? AND experiment = (SELECT id FROM experiments WHERE hash = ?)",
                (episode, experiment),
            )
            return found.fetchone() is not None

    def experiments(self) -> list[Experiment]:
        """All experiments that have results, in the order in which they were begun.

        Warns:
            AthaWarning: for what is damaged and left out.
        """
        found, damaged = self.read()
        self.warn(damaged)
        return found

    def read(self, only: Sequence[str] | None = None, thorough: bool = False) -> tuple[list[Experiment], list[Damage]]:
        """Experiments that have results, in the order in which they were begun, and what is damaged.

        Args:
            only: hashes of those that are wanted; None: all.
            thorough: whether probabilities are looked at too.
        """
        found: list[Experiment] = []
        damaged: list[Damage] = []
        with self._file.errors():
            execute = self._file.connection.execute
            runs = {identity for (identity,) in execute("SELECT id FROM runs")}
            known = execute("SELECT id, hash, method, model, definition FROM experiments ORDER BY id").fetchall()
            for identity, *row in known:
                if only is not None and row[0] not in only:
                    continue
                name = f"the experiment {row[1]} ({str(row[0])[:12]})"
                try:
                    described = Described.read(*row)
                except ValueError as error:
                    damaged.append(Damage(name, str(error), (identity, None)))
                    continue
                experiment, bad = check_results(described, execute(_RESULTS, (identity,)).fetchall(), runs)
                if thorough and experiment is not None:
                    bad += self._bad_probabilities(identity, experiment)
                found += [] if experiment is None else [experiment]
                damaged += [Damage(f"episode {one} of {name}", why, (identity, one)) for one, why in bad]
        return found, damaged

    def warn(self, damaged: Sequence[Damage]) -> None:
        """Say what is left out; raises the warning `AthaWarning`."""
        for one in damaged[:_SHOWN]:
            warnings.warn(
                f"{self.path}: {one} and is left out, atha bench run --repair does it again", AthaWarning, stacklevel=3
            )
        if len(damaged) > _SHOWN:
            warnings.warn(f"{self.path}: {len(damaged) - _SHOWN} more are left out", AthaWarning, stacklevel=3)

    def _bad_probabilities(self, identity: int, experiment: Experiment) -> list[tuple[int, str]]:
        sizes, bad = experiment.definition["episodes"], []
        for episode in experiment.episodes.tolist():
            (blob,) = self._file.connection.execute(
                "SELECT probabilities FROM probabilities WHERE experiment = ? AND episode = ?", (identity, episode)
            ).fetchone()
            try:
                check_probabilities(blob, sizes["way"], sizes["way"] * sizes["query"])
            except ValueError as error:
                bad.append((episode, str(error)))
        return bad

    def probabilities(self, experiment: str) -> Iterator[tuple[int, Float[np.ndarray, "Q N"]]]:
        """Episode and probabilities of its query images, (way * query, way), in the order of episodes.

        Raises:
            StoreError: some are damaged.
        """
        with self._file.errors():
            rows = self._file.connection.execute(
                "SELECT r.episode, length(r.classes) / 2, p.probabilities FROM results r "
                "JOIN probabilities p ON p.experiment = r.experiment AND p.episode = r.episode "
                "WHERE r.experiment = (SELECT id FROM experiments WHERE hash = ?) ORDER BY r.episode",
                (experiment,),
            )
            for episode, way, blob in rows:
                try:
                    found = check_probabilities(blob, way, len(blob) // (4 * way))
                except (TypeError, ValueError, ArithmeticError) as error:
                    raise StoreError(
                        f"episode {episode} of experiment {experiment[:12]} in {self.path} is damaged ({error}): do it "
                        "again with atha bench run --repair"
                    ) from None
                yield episode, found

    def runs(self) -> list[dict[str, Any]]:
        """The circumstances of each run, with ``started`` in seconds since 1970.

        Raises:
            StoreError: some are damaged.
        """
        with self._file.errors():
            rows = self._file.connection.execute("SELECT started, environment FROM runs ORDER BY id").fetchall()
        try:
            return [{"started": float(started), **json_table(environment)} for started, environment in rows]
        except (TypeError, ValueError) as error:
            raise StoreError(f"what {self.path} says of a run is damaged ({error}): use a copy of it") from None

    def repair(self, definitions: Mapping[str, tuple[str, str, Mapping[str, Any]]]) -> int:
        """Take away damaged results of some experiments, so that they can be done again.

        Args:
            definitions: by hash: method, model and definition, which are written anew where they are damaged.

        Returns:
            How many results were taken away.
        """
        with self._file.transaction():
            execute = self._file.connection.execute
            for key, (method, model, definition) in definitions.items():
                text = json.dumps(definition, sort_keys=True)
                execute("UPDATE OR IGNORE experiments SET hash = ? WHERE definition IS ?", (key, text))
                execute(
                    "UPDATE experiments SET method = ?, model = ?, definition = ? WHERE hash = ? AND NOT "
                    "(method IS ? AND model IS ? AND definition IS ?)",
                    (method, model, text, key, method, model, text),
                )
            rows = {one.row for one in self.read(list(definitions), thorough=True)[1]}
            for row in rows:
                execute("DELETE FROM results WHERE experiment IS ? AND episode IS ?", row)
                execute("DELETE FROM probabilities WHERE experiment IS ? AND episode IS ?", row)
        return len(rows)

    def merge(self, other: "Store") -> tuple[int, int]:
        """Take over what another store has and this one has not.

        Returns:
            How many results were new, and how many were here already.

        Raises:
            StoreError: the stores disagree on a result: accuracies or episodes differ; nothing is taken over.
        """
        new = known = 0
        if mine := self.read()[1]:
            raise StoreError(f"{self.path} is damaged, {mine[0]}: do it again with atha bench run --repair")
        damaged = other.read(thorough=True)[1]
        other.warn(damaged)
        skipped = {one.row for one in damaged}
        with other._file.errors():
            experiments = other._file.connection.execute(
                "SELECT id, hash, method, model, definition FROM experiments"
            ).fetchall()
            episodes = other._file.connection.execute("SELECT sequence, episode, content FROM episodes").fetchall()
            runs = other._file.connection.execute("SELECT id, started, environment FROM runs ORDER BY id").fetchall()
        with self._file.transaction():
            execute = self._file.connection.execute
            run_ids = {}
            for identity, *described in runs:
                there = execute("SELECT id FROM runs WHERE started = ? AND environment = ?", described).fetchone()
                if there is None:
                    cursor = execute("INSERT INTO runs (started, environment) VALUES (?, ?)", described)
                    there = (cursor.lastrowid,)
                run_ids[identity] = there[0]
            for row in episodes:
                execute(_ADD_EPISODE, row)
                found = execute("SELECT content FROM episodes WHERE sequence = ? AND episode = ?", row[:2]).fetchone()
                if found[0] != row[2]:
                    raise StoreError(
                        f"{self.path} and {other.path} have different episodes of one key: keep them apart"
                    )
            for identity, key, *described in experiments:
                if (identity, None) in skipped:
                    continue
                execute(
                    _ADD_EXPERIMENT,
                    (key, *described),
                )
                here = execute("SELECT id FROM experiments WHERE hash = ?", (key,)).fetchone()[0]
                counts = self._merge_results(other, identity, here, run_ids, skipped)
                new, known = new + counts[0], known + counts[1]
        return new, known

    def _merge_results(
        self, other: "Store", there: int, here: int, runs: Mapping[int, int | None], skipped: Container[Any]
    ) -> tuple[int, int]:
        mine = {
            episode: tuple(known)
            for episode, *known in self._file.connection.execute(
                "SELECT episode, hash, accuracy FROM results WHERE experiment = ?", (here,)
            )
        }
        new = known = 0
        for row in other._file.connection.execute("SELECT * FROM results WHERE experiment = ?", (there,)):
            episode, content, accuracy = row[1:4]
            if (there, episode) in skipped:
                continue
            if episode in mine:
                known += 1
                if mine[episode][0] != content:
                    raise StoreError(
                        f"{self.path} and {other.path} have another episode {episode} each: keep them apart"
                    )
                if mine[episode][1] != accuracy:
                    raise StoreError(
                        f"{self.path} and {other.path} have different accuracies of episode {episode} "
                        f"({mine[episode][1]:.4f} and {accuracy:.4f}): keep them apart"
                    )
                continue
            new += 1
            self._file.connection.execute(_ADD_RESULT, (here, *row[1:-1], runs[row[-1]]))
            blob = other._file.connection.execute(
                "SELECT probabilities FROM probabilities WHERE experiment = ? AND episode = ?", (there, episode)
            ).fetchone()
            self._file.connection.execute(_ADD_PROBABILITIES, (here, episode, *blob))
        return new, known

    def _ids(self) -> dict[str, int]:
        with self._file.errors():
            return dict(self._file.connection.execute("SELECT hash, id FROM experiments"))


def _row(result: Result) -> tuple[Any, ...]:
    """Episode, hash, accuracy, Brier score, calibration, classes, correct, seconds, memory."""
    truth = result.truth
    correct = result.right.reshape(len(result.classes), -1).sum(axis=1)
    return (
        result.episode,
        result.hash,
        result.accuracy,
        brier(result.probabilities, truth),
        calibration_parts(result.probabilities, truth).astype("<f8").tobytes(),
        result.classes.astype("<i2").tobytes(),
        correct.astype("<i2").tobytes(),
        result.seconds,
        result.memory,
    )


def _content(episode: Episode) -> str:
    return json.dumps({"classes": episode.classes, "support": episode.support, "query": episode.query})
