"""`Classifier`: a backbone, class names, a recipe and, after `fit`, what was trained."""

import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from atha import defaults, training
from atha.adaptation import adapt
from atha.adapter import Saved, is_adapter, load_state, read_adapter, save_lora, update_record, write_adapter
from atha.backbones import NANO, Backbone, licence, load_backbone
from atha.card import write_card
from atha.classes import Classes
from atha.data import LabelledImages, LabelledSource, Sample, read_labelled
from atha.data.images import ImageInput, ImageProblem, content_hash, open_image
from atha.data.views import SupportSet, Views, crop_source
from atha.devices import autocast, resolve_device, resolve_precision, seeded
from atha.diagnostics.tokens import UNALIGNED, Explanation, TokenMaps, describe_anchors, token_maps, watch
from atha.errors import AdapterError, AthaWarning, BackboneError, DataError
from atha.evaluation import Evaluation
from atha.methods.linear_probe import linear_probe
from atha.recipe import Recipe
from atha.support import SupportRecord, choose_pictures, picture
from atha.tuners import ClassTexts, TunedModel, cosine


@dataclass(frozen=True)
class Prediction:
    """What `Classifier.stream` says of one image. With ``problem``, the image could not be read.

    Attributes:
        file: as given.
        label: the class with the largest probability.
        probability: of that class.
        probabilities: of all classes, in their order.
        problem: why there is no prediction.
    """

    file: str
    label: str = ""
    probability: float = float("nan")
    probabilities: tuple[float, ...] = ()
    problem: str = ""


class Classifier:
    """Classifies images by class texts: zero-shot until `fit`, adapted after it.

    Example::

        clf = Classifier.from_pretrained("openai/clip-vit-base-patch16", recipe="paper")
        clf.fit("support/").evaluate("test/").accuracy

    Attributes:
        backbone: the frozen model.
        recipe: how `fit` adapts it.
        classes: labels and texts; None until they are given or found by `fit`.
        history: the loss of each training step.
    """

    def __init__(
        self,
        backbone: Backbone,
        classes: Sequence[str] | Mapping[str, str] | None = None,
        recipe: str | Path | Recipe = defaults.RECIPE,
        device: str = "auto",
    ) -> None:
        self._device = resolve_device(device)
        self.backbone = backbone.to(self._device)
        self.recipe = Recipe.load(recipe)
        self._given = classes
        # A mapping may name some of the classes that the support set will have: one alone is no task yet.
        partial = classes is None or (isinstance(classes, Mapping) and len(classes) < 2)
        self.classes = None if partial else Classes.given(classes)  # type: ignore[arg-type]
        self.history: list[float] = []
        self._scale = 1.0
        self.record: dict[str, Any] = {}
        self._precision = resolve_precision(self.recipe.training.precision, self._device)
        views = self.recipe.views
        self._views = Views(
            backbone.image_processor, backbone.image_size, views.transform, views.support == "five-view"
        )
        self._tuned: TunedModel | None = None
        self._texts: ClassTexts | None = None
        self._zero_shot: ClassTexts | None = None
        self._support: SupportRecord | None = None

    @classmethod
    def from_pretrained(
        cls,
        model: str | Path,
        classes: Sequence[str] | Mapping[str, str] | None = None,
        recipe: str | Path | Recipe | None = None,
        *,
        backbone: str | None = None,
        revision: str | None = None,
        device: str = "auto",
    ) -> "Classifier":
        """A classifier around a backbone, or one that was saved.

        Args:
            model: ``nano``, a hub id, a model folder, or a folder made by `save_pretrained`.
            classes: names, or a mapping from label (folder name) to the text that the model reads. For a backbone
                only; by default `fit` takes them from the support set.
            recipe: preset, file or `Recipe`; for a backbone only, by default `atha.defaults.RECIPE`.
            backbone: for a saved classifier, where its backbone is now, if not where it was.
            revision: commit, branch or tag of a hub model.
            device: ``auto``, ``cpu``, ``cuda``, ``cuda:N`` or ``mps``.

        Raises:
            AthaError: a part cannot be found, read or used; the message says which and what to do.
        """
        if not is_adapter(model):
            if backbone is not None:
                raise AdapterError(f"backbone is for a saved adapter and {model} is none: give only the model")
            return cls(
                load_backbone(str(model), revision), classes, defaults.RECIPE if recipe is None else recipe, device
            )
        if classes is not None or recipe is not None:
            raise AdapterError(
                f"{model} is an adapter with classes and recipe of its own: leave classes and recipe out"
            )
        return cls._load(Path(model), backbone, device)

    @property
    def class_texts(self) -> dict[str, str]:
        """Label -> text that the model reads; empty until classes are known."""
        return dict(zip(self.classes.labels, self.classes.texts, strict=True)) if self.classes else {}

    @property
    def support(self) -> SupportRecord | None:
        """What is kept of the support set; None before `fit`, and for an adapter that was saved without it."""
        return self._support

    @property
    def strengths(self) -> tuple[list[float], list[float]] | None:
        """Pull and push of each vision block as they are now; None without alignment."""
        if self._tuned is None or self._tuned.alignment is None:
            return None
        alignment = self._tuned.alignment.alignment
        return alignment.pull.tolist(), alignment.push.tolist()

    @property
    def fitted(self) -> bool:
        """Whether there is an adaptation, or predictions are zero-shot."""
        return self._tuned is not None

    def fit(self, support: LabelledSource, *, seed: int = 0, progress: training.Progress | None = None) -> "Classifier":
        """Adapt to labelled images; an earlier adaptation of this object is dropped.

        Args:
            support: class folders, a table, (image, label) pairs, or `LabelledImages`.
            seed: fixes LoRA's start, dropout and augmentation; on one CPU a run repeats bit for bit.
            progress: called after each step with (step, steps, loss).

        Returns:
            This classifier.

        Raises:
            DataError: images or classes cannot be used, or one image is in two classes; before training.
            TrainingError: the loss is not finite.

        Warns:
            AthaWarning: for each image that cannot be read.
        """
        started = time.perf_counter()
        data = read_labelled(support)
        classes = Classes.of_support(data.labels, self._given)
        index = classes.index(data.labels, data.source)
        images, labels, hashes, left_out = _decode_support(data)
        targets = [index[raw] for raw in labels]
        counts = {label: targets.count(position) for position, label in enumerate(classes.labels)}
        if empty := [label for label, count in counts.items() if count == 0]:
            raise DataError(
                f"class '{empty[0]}' has no support image that can be read{_reasons(left_out)}: add one, or leave the "
                "class out"
            )
        prompts = self.backbone.prompts(classes.texts, self.recipe.prompt.template)
        self._drop()
        self.classes = classes
        views = self.recipe.views.support
        plain = torch.stack([self._views.plain(image) for image in images])
        sources = [crop_source(image, self._views.size) for image in images] if views == "random-crop" else []
        support_set = SupportSet(plain, torch.tensor(targets), self._views, views, seed, sources)
        tuned, self._texts, self.history = adapt(self.backbone, self.recipe, prompts, support_set, progress)
        self._tuned = tuned
        self._support = self._support_record(plain, images, targets)
        self._scale = self.recipe.training.resolve_logit_scale(support_set.shot)
        self.record = {
            "backbone": self._describe_backbone(),
            "support": {"counts": counts, "sha256": hashes, "left_out": [*data.ignored, *left_out]},
            "run": {
                "seed": seed,
                "steps": len(self.history),
                "logit_scale": self._scale,
                "precision": self._precision,
                "device": str(self._device),
                "seconds": time.perf_counter() - started,
                "trained": {name: sum(map(Tensor.numel, values)) for name, values in tuned.parameters().items()},
                "lora_layers": tuned.lora_layer_count,
                "losses": self.history,
                "versions": {name: version(name) for name in ("atha", "torch", "transformers", "peft")},
            },
        }
        return self

    def predict(self, images: Sequence[ImageInput]) -> list[str]:
        """The label of each image, that of the largest probability.

        Raises:
            DataError: no classes yet, or an image cannot be read.
        """
        labels = self._known_classes().labels
        return [labels[index] for index in self.predict_proba(images).argmax(axis=1)]

    def predict_proba(self, images: Sequence[ImageInput]) -> Float[np.ndarray, "n N"]:
        """Class probabilities of each image, in the order of ``classes.labels``; rows sum to 1.

        Raises:
            DataError: no classes yet, or an image cannot be read.
        """
        predictions = list(self.stream(images))
        bad = [prediction.problem for prediction in predictions if prediction.problem]
        if bad:
            raise DataError(
                f"{len(bad)} of {len(predictions)} images cannot be read, the first is {bad[0]}: leave it out"
            )
        rows = np.array([prediction.probabilities for prediction in predictions])
        return rows.reshape(len(predictions), len(self._known_classes().labels))

    def stream(self, images: Sequence[ImageInput], batch_size: int = defaults.BATCH_SIZE) -> Iterator[Prediction]:
        """Predict one image after the other in bounded memory, naming those that cannot be read.

        Raises:
            DataError: no classes yet, or ``images`` is no sequence of images.
        """
        labels = self._known_classes().labels
        if isinstance(images, str | Path):
            raise DataError(f"images is the single value '{images}', give a list of images")
        texts = self._current_texts()
        position = 0
        for batch in self._views.stream(images, batch_size):
            rows = iter(self._probabilities([image for image in batch if isinstance(image, Tensor)], texts))
            for image in batch:
                file = str(images[position])
                position += 1
                if isinstance(image, ImageProblem):
                    yield Prediction(file, problem=str(image))
                else:
                    row = next(rows)
                    best = int(row.argmax())
                    yield Prediction(file, labels[best], float(row[best]), tuple(row.tolist()))

    @torch.no_grad()
    def explain(self, image: ImageInput) -> Explanation:
        """Where the model looks: similarity of every patch to every class at every block, before and after `fit`.

        The numbers are taken out of the forward passes that also give the probabilities, so they are those computed
        with. Without alignment nothing is moved; patches are then compared with adjoint anchors, and the tenth of
        them that would be head or tail is marked all the same.

        Args:
            image: one image.

        Raises:
            DataError: no classes yet, or the image cannot be read.
        """
        classes = self._known_classes()
        photo = open_image(image)
        plain = self._views.plain(photo)
        return Explanation(
            image if isinstance(image, str) else str(image) if isinstance(image, Path) else "image",
            classes.labels,
            np.asarray(photo),
            plain.permute(1, 2, 0).numpy(),
            self._views.visible_box(photo.size),
            self._token_maps(plain, adapted=False),
            self._token_maps(plain, adapted=True) if self.fitted else None,
        )

    def evaluate(
        self,
        test: LabelledSource,
        batch_size: int = defaults.BATCH_SIZE,
        progress: Callable[[int, int], None] | None = None,
    ) -> Evaluation:
        """Classify labelled images and compare with their labels.

        Images that were in the support set are left out and named, as are those that cannot be read.

        Args:
            test: class folders, a table, (image, label) pairs, or `LabelledImages`.
            batch_size: images that go through the model at once.
            progress: called with (images done, images in all).

        Raises:
            DataError: no classes yet, a class that is not the classifier's, or no image left.
        """
        return self._evaluate(test, batch_size, progress, baselines=False)["adapted"]

    def compare(
        self,
        test: LabelledSource,
        batch_size: int = defaults.BATCH_SIZE,
        progress: Callable[[int, int], None] | None = None,
    ) -> dict[str, Evaluation]:
        """`evaluate`, beside what the frozen backbone does on the same images, from the same support set.

        Returns:
            Evaluations named ``zero-shot``, ``linear probe`` (logistic regression on frozen features) and ``adapted``;
            without the probe where a saved adapter does not keep its support set's features.

        Raises:
            DataError: as for `evaluate`.
        """
        return self._evaluate(test, batch_size, progress, baselines=True)

    def save_pretrained(
        self,
        path: str | Path,
        evaluation: Mapping[str, Evaluation] | None = None,
        overwrite: bool = False,
        keep_support: bool = True,
    ) -> None:
        """Write the adaptation to a folder, whole or not at all; see `atha.adapter` for what is in it.

        Args:
            path: the folder to make.
            evaluation: result of `compare`, or ``{"adapted": ...}``, for record and model card.
            overwrite: replace an adapter that is there.
            keep_support: keep frozen features and small pictures of the support images in it, for reports.

        Raises:
            AdapterError: there is nothing to save, or the folder is in use or cannot be written.
        """
        if self._tuned is None or self._texts is None or self.classes is None:
            raise AdapterError("there is no adaptation to save yet, call fit first")
        self._note(evaluation)
        tensors = {"class_text_features": self._texts.features}
        if self._texts.anchors is not None:
            tensors["anchors"] = self._texts.anchors
        if self._tuned.alignment is not None:
            tensors["strengths.pull"] = self._tuned.alignment.alignment.pull
            tensors["strengths.push"] = self._tuned.alignment.alignment.push
        if self._tuned.context is not None:
            tensors["context"] = self._tuned.context.vectors
        kept = self._support if keep_support else None
        self.record["support"]["kept"] = kept is not None
        saved = Saved(self.classes, self.recipe, tensors, self.record, kept)
        card = write_card(self.classes, self.recipe, self.record)
        write_adapter(path, saved, save_lora(self._tuned) if self.recipe.lora else None, card, overwrite)

    def save_evaluation(self, path: str | Path, evaluation: Mapping[str, Evaluation]) -> None:
        """Add an evaluation to an adapter that was saved from this object; its weights are not touched.

        Raises:
            AdapterError: the folder is no adapter.
        """
        if self.classes is None:
            raise AdapterError("there is no adaptation yet, call fit first")
        self._note(evaluation)
        update_record(path, self.record, write_card(self.classes, self.recipe, self.record))

    @classmethod
    def _load(cls, folder: Path, backbone: str | None, device: str) -> "Classifier":
        saved = read_adapter(folder)
        try:
            made_for, scale = saved.record["backbone"], float(saved.record["run"]["logit_scale"])
            source = backbone or made_for["path"] or made_for["name"]
            fingerprint, revision = made_for["fingerprint"], made_for["revision"]
        except (KeyError, TypeError, ValueError):
            raise AdapterError(
                f"{folder} has an incomplete atha.json: copy the adapter again or fit it again"
            ) from None
        try:
            loaded = _load_pinned(source, None if backbone else revision)
        except BackboneError as error:
            raise AdapterError(
                f"the backbone of {folder} cannot be loaded, say where it is with --model: {error}"
            ) from None
        if loaded.fingerprint() != fingerprint:
            raise AdapterError(
                f"{folder} was made for '{made_for['name']}' with other weights than those of '{source}': "
                "give the backbone that it was made for with --model"
            )
        made = cls(loaded, dict(zip(saved.classes.labels, saved.classes.texts, strict=True)), saved.recipe, device)
        made.record, made._scale = saved.record, scale
        made._support = saved.support
        made.history = list(saved.record["run"].get("losses", []))
        try:
            with seeded(0, made._device):  # LoRA's random start is overwritten: leave the caller's generator alone
                made._tuned = TunedModel(
                    loaded, saved.recipe, loaded.prompts(saved.classes.texts, saved.recipe.prompt.template)
                )
            load_state(made._tuned, saved.tensors, folder)
            made._texts = ClassTexts(
                saved.tensors["class_text_features"].to(made._device),
                saved.tensors["anchors"].to(made._device) if made._tuned.alignment else None,
            )
        except (KeyError, RuntimeError, ValueError) as error:
            raise AdapterError(f"{folder} does not fit its own recipe ({error}): copy the adapter again") from None
        return made

    def _evaluate(
        self, test: LabelledSource, batch_size: int, progress: Callable[[int, int], None] | None, baselines: bool
    ) -> dict[str, Evaluation]:
        classes = self._known_classes()
        data = read_labelled(test)
        index = classes.index(data.labels, data.source)
        samples, left_out = self._without_support(data)
        texts = self._current_texts()
        truth, files, rows, features = [], [], [], []
        for number, batch in enumerate(self._views.stream([sample.image for sample in samples], batch_size)):
            pairs = list(zip(samples[number * batch_size :], batch, strict=False))
            left_out += [str(image) for _, image in pairs if isinstance(image, ImageProblem)]
            good = [(sample, image) for sample, image in pairs if isinstance(image, Tensor)]
            truth += [index[sample.label] for sample, _ in good]
            files += [str(sample.image) for sample, _ in good]
            images = [image for _, image in good]
            rows += list(self._probabilities(images, texts))
            if baselines:
                features += list(self._frozen_features(images))
            if progress is not None:
                progress(min((number + 1) * batch_size, len(samples)), len(samples))
        if not truth:
            raise DataError(f"no image of {data.source} can be evaluated{_reasons(left_out)}: give other test images")
        for sentence in left_out:
            warnings.warn(f"not evaluated: {sentence}", AthaWarning, stacklevel=3)

        def evaluation(probabilities: Any) -> Evaluation:
            return Evaluation(classes.labels, np.array(truth), np.array(probabilities), files, left_out)

        if not baselines:
            return {"adapted": evaluation(rows)}
        zero_shot = self._zero_shot_texts()
        logits = self.backbone.logit_scale * cosine(torch.from_numpy(np.array(features)), zero_shot.features.cpu())
        made = {"zero-shot": evaluation(_softmax(logits))}
        if (known := self._support) is not None:
            probe = linear_probe(known.features, known.labels, np.array(features), len(classes.labels))
            made["linear probe"] = evaluation(probe)
        return made | {"adapted": evaluation(rows)}

    def _support_record(self, plain: Tensor, images: list[Image.Image], targets: list[int]) -> SupportRecord:
        features = np.concatenate([self._frozen_features(list(part)) for part in plain.split(defaults.BATCH_SIZE)])
        shown = choose_pictures(targets)
        return SupportRecord(features, np.array(targets), tuple(picture(images[place]) for place in shown), shown)

    def _without_support(self, data: LabelledImages) -> tuple[list[Sample], list[str]]:
        known = set(self.record.get("support", {}).get("sha256", ()))
        kept, left_out = [], list(data.ignored)
        for sample in data.samples:
            try:
                seen = bool(known) and content_hash(sample.image) in known
            except ImageProblem:
                seen = False  # named when it is decoded
            if seen:
                left_out.append(f"{sample.image}: the same image is in the support set")
            else:
                kept.append(sample)
        return kept, left_out

    def _autocast(self) -> AbstractContextManager[object]:
        return autocast(self._precision, self._device)

    def _known_classes(self) -> Classes:
        if self.classes is None:
            raise DataError("the classes are not known yet: call fit, or give classes to from_pretrained")
        return self.classes

    def _current_texts(self) -> ClassTexts:
        return self._texts if self._texts is not None else self._zero_shot_texts()

    @torch.no_grad()
    def _zero_shot_texts(self) -> ClassTexts:
        if self._zero_shot is None:
            prompts = self.backbone.prompts(self._known_classes().texts, self.recipe.prompt.template)
            with self._frozen(), self._autocast():
                self._zero_shot = ClassTexts(self.backbone.encode_text(prompts).final.float())
        return self._zero_shot

    @torch.no_grad()
    def _probabilities(self, images: list[Tensor], texts: ClassTexts) -> Float[np.ndarray, "B N"]:
        if not images:
            return np.empty((0, len(texts.features)))
        pixels = self._pixels(images)
        with self._autocast():
            found = self._tuned.image_features(pixels, texts) if self._tuned else self.backbone.encode_image(pixels)
        scale = self._scale if self._tuned else self.backbone.logit_scale
        return _softmax(scale * cosine(found, texts.features))

    def _token_maps(self, plain: Tensor, adapted: bool) -> TokenMaps:
        settings = self.recipe.alignment
        kind, head, tail = (settings.anchors, settings.head_ratio, settings.tail_ratio) if settings else UNALIGNED
        tuned = self._tuned if adapted else None
        alignment = tuned.alignment.alignment if tuned is not None and tuned.alignment is not None else None
        texts = self._current_texts() if adapted else self._zero_shot_texts()
        with nullcontext() if adapted else self._frozen():
            anchors = texts.anchors
            if anchors is None:
                prompts = self.backbone.prompts(self._known_classes().texts, self.recipe.prompt.template)
                with self._autocast():
                    anchors = self.backbone.anchors(self.backbone.encode_text(prompts), kind)
            with watch(self.backbone, anchors, head, tail, alignment) as steps:
                probabilities = self._probabilities([plain], texts) if adapted else self._frozen_probabilities([plain])
        strengths = self.strengths if adapted else None
        return token_maps(steps, self.backbone.grid, strengths, probabilities[0], describe_anchors(kind, adapted))

    def _frozen_probabilities(self, images: list[Tensor]) -> Float[np.ndarray, "B N"]:
        features = torch.from_numpy(self._frozen_features(images))
        return _softmax(self.backbone.logit_scale * cosine(features, self._zero_shot_texts().features.cpu()))

    @torch.no_grad()
    def _frozen_features(self, images: list[Tensor]) -> Float[np.ndarray, "B E"]:
        if not images:
            return np.empty((0, 0), dtype=np.float32)
        with self._frozen(), self._autocast():
            return self.backbone.encode_image(self._pixels(images)).float().cpu().numpy()

    def _pixels(self, images: list[Tensor]) -> Float[Tensor, "B 3 H W"]:
        return self._views.normalise(torch.stack(images)).to(self._device)

    def _frozen(self) -> AbstractContextManager[None]:
        return self._tuned.disabled() if self._tuned is not None else nullcontext()

    def _drop(self) -> None:
        if self._tuned is not None:
            self._tuned.detach()
        self._tuned = self._texts = self._zero_shot = self._support = None
        self.history, self.record = [], {}

    def _describe_backbone(self) -> dict[str, Any]:
        described = self.backbone.describe()
        folder = Path(self.backbone.name).expanduser()
        return {
            **{key: described[key] for key in ("name", "revision", "family", "parameters")},
            "path": str(folder.resolve()) if folder.is_dir() and self.backbone.name != NANO else None,
            "fingerprint": self.backbone.fingerprint(),
            "licence": licence(self.backbone.name, self.backbone.revision),
        }

    def _note(self, evaluation: Mapping[str, Evaluation] | None) -> None:
        if evaluation is None:
            return
        others = {name: result.to_dict() for name, result in evaluation.items() if name != "adapted"}
        self.record["evaluation"] = {**evaluation["adapted"].to_dict(), "baselines": others}


def _load_pinned(source: str, revision: str | None) -> Backbone:
    try:
        return load_backbone(source, revision)
    except BackboneError:
        if revision is None:
            raise
        # A commit with pickle weights only has its safetensors elsewhere on the hub, found by the model's name; whether
        # they are the same weights, the fingerprint decides.
        return load_backbone(source)


def _decode_support(data: LabelledImages) -> tuple[list[Image.Image], list[str], list[str], list[str]]:
    """Images, raw labels and content hashes of all that can be read, and sentences on the rest."""
    images, labels, hashes, left_out = [], [], [], []
    first: dict[str, Sample] = {}
    for sample in data.samples:
        try:
            image, digest = open_image(sample.image), content_hash(sample.image)
        except ImageProblem as problem:
            left_out.append(str(problem))
            warnings.warn(f"not used: {problem}", AthaWarning, stacklevel=3)
            continue
        twin = first.setdefault(digest, sample)
        if twin.label != sample.label:
            raise DataError(
                f"{sample.image} ({sample.label}) and {twin.image} ({twin.label}) are the same image in two classes: "
                "remove one"
            )
        images.append(image)
        labels.append(sample.label)
        hashes.append(digest)
    for sentence in data.ignored:
        warnings.warn(sentence, AthaWarning, stacklevel=3)
    return images, labels, hashes, left_out


def _reasons(left_out: Sequence[str]) -> str:
    return f" ({left_out[0]})" if left_out else ""


def _softmax(logits: Tensor) -> Float[np.ndarray, "B N"]:
    return logits.double().softmax(dim=-1).cpu().numpy()
