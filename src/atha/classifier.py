"""`Classifier`: a backbone, class names, a recipe and, after `fit`, what was trained."""

import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from atha import defaults
from atha.adapter import files as adapter
from atha.adapter.card import write_card
from atha.adapter.support import SupportRecord, choose_pictures, picture
from atha.backbones import Backbone, load_backbone
from atha.classes import Classes
from atha.data import LabelledSource, read_labelled
from atha.data.images import ImageInput, open_image
from atha.data.support import decode_support
from atha.data.views import Views, crop_source
from atha.devices import resolve_device, resolve_precision
from atha.errors import AdapterError, AthaWarning, DataError
from atha.evaluation import Evaluation
from atha.explain import UNALIGNED, Explanation, TokenMaps, Watch, describe_anchors, token_maps
from atha.methods.base import LinearScores, Support, ViewedImages
from atha.methods.linear_probe import linear_probe
from atha.methods.tuned import FittedRecipe, fit_recipe, squeezes
from atha.methods.zero_shot import zero_shot
from atha.models import training
from atha.models.adaptation import Adaptation
from atha.models.forms import move
from atha.models.frozen import Frozen
from atha.models.inference import images_at_once
from atha.prediction import Prediction, Predictor
from atha.probability import softmax
from atha.recipe import Recipe


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
        self.backbone = move(backbone, self._device)
        self.recipe = Recipe.load(recipe)
        self._given = classes
        # A mapping may name some of the classes that the support set will have: one alone is no task yet.
        partial = classes is None or (isinstance(classes, Mapping) and len(classes) < 2)
        self.classes = None if partial else Classes.given(classes)  # type: ignore[arg-type]
        self.history: list[float] = []
        self.record: dict[str, Any] = {}
        self._precision = resolve_precision(self.recipe.training.precision, self._device)
        self._views = Views(
            backbone.image_processor, backbone.image_size, self.recipe.views.transform, squeezes(self.recipe)
        )
        self._frozen = Frozen(self.backbone, self._precision)
        self._fitted: FittedRecipe | None = None
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
        if not adapter.is_adapter(model):
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
        strengths = self._fitted.adaptation.tuners.strengths if self._fitted is not None else None
        if strengths is None:
            return None
        return strengths.alignment.pull.tolist(), strengths.alignment.push.tolist()

    @property
    def fitted(self) -> bool:
        """Whether there is an adaptation, or predictions are zero-shot."""
        return self._fitted is not None

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
            BackboneError: the recipe aligns tokens and the backbone has none that can be.
            TrainingError: the loss is not finite.

        Warns:
            AthaWarning: for each image that cannot be read.
        """
        started = time.perf_counter()
        if self.recipe.alignment:
            self.backbone.check_alignable(growing=not self.recipe.alignment.keep_cls_out)
        data = read_labelled(support)
        classes = Classes.of_support(data.labels, self._given)
        index = classes.index(data.labels, data.source)
        views, kind = self._views, self.recipe.views.support
        crops = kind == "random-crop"
        found = decode_support(
            data,
            lambda image: (views.plain(image), crop_source(image, views.size) if crops else None, picture(image)),
        )
        targets = [index[raw] for raw in found.labels]
        counts = {label: targets.count(position) for position, label in enumerate(classes.labels)}
        if empty := [label for label, count in counts.items() if count == 0]:
            raise DataError(
                f"class '{empty[0]}' has no support image that can be read{_reasons(found.left_out)}: add one, or "
                "leave the class out"
            )
        self._frozen = Frozen(self.backbone, self._precision)  # what the last one holds for speed, goes with it
        plain = torch.stack([view for view, _, _ in found.made])
        sources = [source for _, source, _ in found.made if source is not None]
        images = ViewedImages(plain, views, self._frozen, sources)
        labels = np.array(targets)
        asked = Support(images, labels, classes.texts, self.recipe.prompt.template, seed)
        observer = None if progress is None else lambda step, steps, loss, _: progress(step, steps, loss)
        fitted = fit_recipe(self.recipe, asked, observer)
        shown = choose_pictures(targets)
        pictures = tuple(found.made[place][2] for place in shown)
        self.classes, self._fitted = classes, fitted
        self._support = SupportRecord(images.features, labels, pictures, shown)
        tuners, losses = fitted.adaptation.tuners, fitted.adaptation.losses
        self.history = losses
        self.record = {
            "backbone": adapter.describe_backbone(self.backbone),
            "support": {"counts": counts, "sha256": found.hashes, "left_out": [*data.ignored, *found.left_out]},
            "run": {
                "seed": seed,
                "steps": len(losses),
                "logit_scale": fitted.adaptation.scale,
                "precision": self._precision,
                "device": str(self._device),
                "seconds": time.perf_counter() - started,
                "trained": {name: sum(map(Tensor.numel, values)) for name, values in tuners.parameters().items()},
                "lora_layers": len(tuners.lora.names) if tuners.lora is not None else 0,
                "losses": losses,
                "versions": {name: version(name) for name in ("atha", "torch")},
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

    def stream(self, images: Sequence[ImageInput], batch_size: int | None = None) -> Iterator[Prediction]:
        """Predict one image after the other in bounded memory, naming those that cannot be read.

        Args:
            images: of any number.
            batch_size: images that go through the model at once; None: see `atha.models.inference.images_at_once`.

        Raises:
            DataError: no classes yet, or ``images`` is no sequence of images.
        """
        labels = self._known_classes().labels
        if isinstance(images, str | Path):
            raise DataError(f"images is the single value '{images}', give a list of images")
        yield from self._predictor().stream(images, labels, self._size(batch_size))

    def explain(self, image: ImageInput) -> Explanation:
        """Where the model looks: similarity of every patch to every class at every block, before and after `fit`.

        The numbers are taken out of the forward passes that also give the probabilities, so they are those computed
        with. Without alignment nothing is moved; patches are then compared with adjoint anchors, and the tenth of
        them that would be head or tail is marked all the same.

        Args:
            image: one image.

        Raises:
            DataError: no classes yet, or the image cannot be read.
            BackboneError: the vision tower has no tokens.
        """
        self.backbone.check_alignable()
        classes = self._known_classes()
        photo = open_image(image)
        plain = self._views.plain(photo)
        return Explanation(
            image if isinstance(image, str) else str(image) if isinstance(image, Path) else "image",
            classes.labels,
            np.asarray(photo),
            plain.permute(1, 2, 0).numpy(),
            self._views.visible_box(photo.size),
            self._token_maps(plain, None),
            self._token_maps(plain, self._fitted) if self._fitted is not None else None,
        )

    def evaluate(
        self,
        test: LabelledSource,
        batch_size: int | None = None,
        progress: Callable[[int, int], None] | None = None,
    ) -> Evaluation:
        """Classify labelled images and compare with their labels.

        Images that were in the support set are left out and named, as are those that cannot be read.

        Args:
            test: class folders, a table, (image, label) pairs, or `LabelledImages`.
            batch_size: images that go through the model at once; None: see `atha.models.inference.images_at_once`.
            progress: called with (images done, images in all).

        Raises:
            DataError: no classes yet, a class that is not the classifier's, or no image left.
        """
        return self._evaluate(test, batch_size, progress, baselines=False)["adapted"]

    def compare(
        self,
        test: LabelledSource,
        batch_size: int | None = None,
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
        """Write the adaptation to a folder, whole or not at all; see `atha.adapter.files` for what is in it.

        Args:
            path: the folder to make.
            evaluation: result of `compare`, or ``{"adapted": ...}``, for record and model card.
            overwrite: replace an adapter that is there.
            keep_support: keep frozen features and small pictures of the support images in it, for reports.

        Raises:
            AdapterError: there is nothing to save, or the folder is in use or cannot be written.
        """
        if self._fitted is None or self.classes is None:
            raise AdapterError("there is no adaptation to save yet, call fit first")
        self._note(evaluation)
        kept = self._support if keep_support else None
        self.record["support"]["kept"] = kept is not None
        lora = self._fitted.adaptation.tuners.lora
        saved = adapter.Saved(
            self.classes,
            self.recipe,
            self._fitted.state(),
            self.record,
            kept,
            lora.config(self.backbone) if lora is not None else None,
        )
        adapter.write_adapter(path, saved, write_card(self.classes, self.recipe, self.record), overwrite)

    def save_evaluation(self, path: str | Path, evaluation: Mapping[str, Evaluation]) -> None:
        """Add an evaluation to an adapter that was saved from this object; its weights are not touched.

        Raises:
            AdapterError: the folder is no adapter.
        """
        if self.classes is None:
            raise AdapterError("there is no adaptation yet, call fit first")
        self._note(evaluation)
        adapter.update_record(path, self.record, write_card(self.classes, self.recipe, self.record))

    @classmethod
    def _load(cls, folder: Path, backbone: str | None, device: str) -> "Classifier":
        saved = adapter.read_adapter(folder)
        loaded = adapter.load_backbone_of(saved, folder, backbone)
        made = cls(loaded, dict(zip(saved.classes.labels, saved.classes.texts, strict=True)), saved.recipe, device)
        made.record, made._support = saved.record, saved.support
        made.history = list(saved.record["run"].get("losses", []))
        try:
            adaptation = Adaptation.load(
                loaded, saved.recipe, saved.tensors, float(saved.record["run"]["logit_scale"]), made.history
            )
        except (KeyError, RuntimeError, ValueError) as error:
            raise AdapterError(f"{folder} does not fit its own recipe ({error}): copy the adapter again") from None
        made._fitted = FittedRecipe(saved.recipe, adaptation, made._frozen)
        return made

    def _evaluate(
        self, test: LabelledSource, batch_size: int | None, progress: Callable[[int, int], None] | None, baselines: bool
    ) -> dict[str, Evaluation]:
        classes = self._known_classes()
        data = read_labelled(test)
        index = classes.index(data.labels, data.source)
        known = frozenset(self.record.get("support", {}).get("sha256", ()))
        predictor, size = self._predictor(), self._size(batch_size)
        found = predictor.classify(data, index, known, size, baselines, progress)
        if not found.truth:
            raise DataError(
                f"no image of {data.source} can be evaluated{_reasons(found.left_out)}: give other test images"
            )
        for sentence in found.left_out:
            warnings.warn(f"not evaluated: {sentence}", AthaWarning, stacklevel=3)

        def evaluation(probabilities: Any) -> Evaluation:
            truth = np.array(found.truth)
            return Evaluation(classes.labels, truth, np.array(probabilities), found.files, found.left_out)

        adapted = evaluation(found.probabilities)
        if not baselines:
            return {"adapted": adapted}
        features = np.array(found.features)
        made = {"zero-shot": evaluation(self._zero_shot().of_features(features))}
        if (support := self._support) is not None:
            probe = linear_probe(support.features, support.labels, len(classes.labels))
            made["linear probe"] = evaluation(probe.of_features(features))
        return made | {"adapted": adapted}

    def _predictor(self) -> Predictor:
        return Predictor(self._zero_shot() if self._fitted is None else self._fitted, self._views, self._frozen)

    def _zero_shot(self) -> LinearScores:
        texts = self._frozen.text_features(self._known_classes().texts, self.recipe.prompt.template)
        return zero_shot(texts, self.backbone.logit_scale)

    def _size(self, batch_size: int | None) -> int:
        return images_at_once(self.backbone) if batch_size is None else batch_size

    def _known_classes(self) -> Classes:
        if self.classes is None:
            raise DataError("the classes are not known yet: call fit, or give classes to from_pretrained")
        return self.classes

    @torch.no_grad()
    def _token_maps(self, plain: Tensor, fitted: FittedRecipe | None) -> TokenMaps:
        settings = self.recipe.alignment
        kind, head, tail = (settings.anchors, settings.head_ratio, settings.tail_ratio) if settings else UNALIGNED
        encoder = self._frozen.encoder if fitted is None else fitted.encoder
        anchors = None if fitted is None else fitted.adaptation.texts.anchors
        if anchors is None:
            prompts = self.backbone.prompts(self._known_classes().texts, self.recipe.prompt.template)
            anchors = encoder.texts(prompts, kind).anchors
        assert anchors is not None
        watch = Watch(anchors, head, tail, self.backbone.prefix_tokens)
        if fitted is None:
            features = self._frozen.features(plain[None], self._views, watch)
            probabilities = self._zero_shot().of_features(features)
        else:
            probabilities = softmax(fitted.look(plain[None], self._views, watch))
        strengths = None if fitted is None else self.strengths
        adapted = describe_anchors(kind, fitted is not None)
        return token_maps(watch.steps, self.backbone.grid, strengths, probabilities[0], adapted)

    def _note(self, evaluation: Mapping[str, Evaluation] | None) -> None:
        if evaluation is None:
            return
        others = {name: result.to_dict() for name, result in evaluation.items() if name != "adapted"}
        self.record["evaluation"] = {**evaluation["adapted"].to_dict(), "baselines": others}


def _reasons(left_out: Sequence[str]) -> str:
    return f" ({left_out[0]})" if left_out else ""
