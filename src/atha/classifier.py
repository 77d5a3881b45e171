"""`Classifier`: a backbone, class names, a recipe and, after `fit`, what was trained."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from atha import defaults
from atha.adapter import files as adapter
from atha.adapter.card import write_card
from atha.adapter.record import Record
from atha.adapter.restoring import restore_fitted
from atha.adapter.support import SupportRecord
from atha.answering import Answerer
from atha.backbones import Backbone, load_backbone
from atha.classes import Classes
from atha.data import LabelledSource, Selection
from atha.data.images import ImageReader, SeveralImages, each_image
from atha.data.reading import Reading
from atha.data.views import Views
from atha.defaults import MAX_PIXELS
from atha.devices import resolve_device, resolve_precision
from atha.errors import AdapterError, DataError
from atha.estimator import Estimator, in_order, labelled
from atha.evaluation import Evaluation
from atha.fitting import Learned, learn, learn_more
from atha.methods.base import Fitted, Support
from atha.methods.tuned import fit_recipe, squeezes
from atha.models.forms import move
from atha.models.frozen import Frozen
from atha.models.training import TrainingStep, observer_of
from atha.recipe import Recipe
from atha.snapshot import Snapshot

if TYPE_CHECKING:
    from atha.export.exporting import Exported


class Classifier(Answerer, Estimator):
    """Classifies images by class texts: zero-shot until `fit`, adapted after it.

    Example::

        clf = Classifier.from_pretrained("openai/clip-vit-base-patch16", recipe="paper")
        clf.fit("support/").evaluate("test/").accuracy

    Attributes:
        backbone: the frozen model.
        recipe: how `fit` adapts it.
        max_pixels: larger images are refused, before decoding.
    """

    def __init__(
        self,
        backbone: Backbone,
        classes: Sequence[str] | Mapping[str, str] | None = None,
        recipe: str | Path | Recipe = defaults.RECIPE,
        device: str = "auto",
        max_pixels: int = MAX_PIXELS,
    ) -> None:
        self._device = resolve_device(device)
        self.backbone = move(backbone, self._device)
        self.recipe = Recipe.load(recipe)
        self._given = classes
        # A mapping may name some of the classes that the support set will have: one alone is no task yet.
        partial = classes is None or (isinstance(classes, Mapping) and len(classes) < 2)
        self._expected = None if partial else Classes.given(classes)  # type: ignore[arg-type]
        self.max_pixels = max_pixels
        self._precision = resolve_precision(self.recipe.training.precision, self._device)
        self._views = Views(
            backbone.image_processor, backbone.image_size, self.recipe.views.transform, squeezes(self.recipe)
        )
        self._frozen = Frozen(self.backbone, self._precision)
        # One object, put in place at once: who predicts meanwhile has all of the one before or all of the new one.
        self._learned: Learned | None = None

    @classmethod
    def from_pretrained(
        cls,
        model: str | Path,
        classes: Sequence[str] | Mapping[str, str] | None = None,
        recipe: str | Path | Recipe | None = None,
        *,
        backbone: str | None = None,
        download: bool = False,
        revision: str | None = None,
        device: str = "auto",
        max_pixels: int = MAX_PIXELS,
    ) -> "Classifier":
        """A classifier around a backbone, or one that was saved.

        Args:
            model: ``nano``, a hub id, a model folder, or a folder made by `save_pretrained`.
            classes: names, or a mapping from label (folder name) to the text that the model reads. For a backbone
                only; by default `fit` takes them from the support set.
            recipe: preset, file or `Recipe`; for a backbone only, by default `atha.defaults.RECIPE`.
            backbone: for a saved classifier, where its backbone is now, if not where it was.
            download: for a saved classifier, whether its backbone may come from the model hub, if it is not on this
                machine. Who wrote the folder names the model.
            revision: commit, branch or tag of a hub model.
            device: ``auto``, ``cpu``, ``cuda``, ``cuda:N`` or ``mps``.
            max_pixels: larger images are refused, before decoding.

        Raises:
            AthaError: a part cannot be found, read or used; the message says which and what to do.
        """
        if not adapter.is_adapter(model):
            if backbone is not None:
                raise AdapterError(f"backbone is for a saved adapter and {model} is none: give only the model")
            loaded = load_backbone(str(model), revision)
            return cls(loaded, classes, defaults.RECIPE if recipe is None else recipe, device, max_pixels)
        if classes is not None or recipe is not None:
            raise AdapterError(
                f"{model} is an adapter with classes and recipe of its own: leave classes and recipe out"
            )
        return cls.from_saved(
            adapter.read_adapter(model), backbone=backbone, download=download, device=device, max_pixels=max_pixels
        )

    @classmethod
    def from_saved(
        cls,
        saved: adapter.Saved,
        *,
        backbone: str | None = None,
        download: bool = False,
        device: str = "auto",
        max_pixels: int = MAX_PIXELS,
    ) -> "Classifier":
        """`from_pretrained` of an adapter that was read already.

        Args:
            saved: see `atha.adapter.files.read_adapter`.
            backbone: as for `from_pretrained`.
            download: as for `from_pretrained`.
            device: as for `from_pretrained`.
            max_pixels: as for `from_pretrained`.

        Raises:
            AdapterError: the adapter is damaged, or its backbone is not found or another.
        """
        loaded = adapter.load_backbone_of(saved, backbone, download)
        texts = dict(zip(saved.classes.labels, saved.classes.texts, strict=True))
        made = cls(loaded, texts, saved.recipe, device, max_pixels)
        fitted = restore_fitted(saved, made._frozen)
        made._learned = Learned(saved.classes, fitted, saved.support, saved.record)
        return made

    @property
    def classes(self) -> Classes | None:
        """Labels and texts; None until they are given or found by `fit`."""
        return self._expected if self._learned is None else self._learned.classes

    @property
    def record(self) -> Record | None:
        """What an adapter says of how it was made; None before `fit`."""
        return None if self._learned is None else self._learned.record

    @property
    def reader(self) -> ImageReader:
        """How images are read, as it was decided on the support set."""
        return self._now.reader

    @property
    def class_texts(self) -> dict[str, str]:
        """Label -> text that the model reads; empty until classes are known."""
        return dict(zip(self.classes.labels, self.classes.texts, strict=True)) if self.classes else {}

    @property
    def history(self) -> list[float]:
        """The loss of each training step."""
        return [] if self.record is None else list(self.record.run.losses)

    @property
    def support(self) -> SupportRecord | None:
        """What is kept of the support set; None before `fit`, and for an adapter that was saved without it."""
        return None if self._learned is None else self._learned.support

    @property
    def strengths(self) -> tuple[list[float], list[float]] | None:
        """Pull and push of each vision block as they are now; None without alignment."""
        return None if self._fitted is None else self._fitted.strengths

    @property
    def fitted(self) -> bool:
        """Whether there is an adaptation, or predictions are zero-shot."""
        return self._learned is not None

    def fit(
        self,
        support: LabelledSource | SeveralImages,
        labels: Iterable[str | int] | None = None,
        *,
        seed: int = 0,
        callbacks: Iterable[Callable[[TrainingStep], object]] = (),
        bands: Sequence[int] | Reading | None = None,
    ) -> "Classifier":
        """Adapt to labelled images; an earlier adaptation of this object is dropped.

        Args:
            support: class folders, a table, (image, label) pairs, or `LabelledImages`; or images, with ``labels``.
            labels: one for each image, where ``support`` has none.
            seed: fixes LoRA's start, dropout and augmentation; a run repeats bit for bit
                on one kind of CPU, with the same number of threads (``record.run.threads``).
            callbacks: functions, called in turn after each training step. What one raises ends the training and comes
                out here; the classifier is then as it was before.
            bands: of images with many, the numbers, from 1, of those that are red, green and blue, or of the one that
                is grey; or the whole rule by which images are read, from `atha.data.deciding.decide_reading`, which
                otherwise decides it here.

        Returns:
            This classifier.

        Raises:
            DataError: images, classes or callbacks cannot be used, or one image is in two classes; before training.
            BackboneError: the recipe aligns tokens and the backbone has none that can be.
            TrainingError: the loss is not finite.

        Warns:
            AthaWarning: for each image that cannot be read.
        """
        if self.recipe.alignment:
            self.backbone.check_alignable(growing=not self.recipe.alignment.keep_cls_out)
        observer = observer_of(callbacks)
        names = None if labels is None else list(labels)
        data = labelled(support, names, Selection("fit"))
        given = in_order(names) if self._given is None else self._given
        return self._learn(data, lambda asked: fit_recipe(self.recipe, asked, observer), seed, bands, given)

    def add(self, images: LabelledSource, classes: Mapping[str, str] | None = None) -> "Classifier":
        """Learn from more labelled images, of its classes or of new ones, where it is a blend.

        Probes are fitted anew, in milliseconds, from features that are kept of the images that were there. Without an
        adapted member the result is that of `fit` on all images. An adapted member stays as it was trained, as do the
        weights; it allows no new class.

        Args:
            images: as for `fit`. An image that is there already is named and not used.
            classes: texts of new classes, by label; by default their labels, cleaned.

        Returns:
            This classifier.

        Raises:
            DataError: nothing was fitted yet, it is no blend or was saved without its support set, images or classes
                cannot be used, or an image is there already in another class.

        Warns:
            AthaWarning: for each image that is not used.
        """
        if self._learned is None:
            raise DataError("there is nothing to add to yet: call fit first")
        self._learned = learn_more(images, self._learned, classes, self.recipe, self._views, self._frozen, self.reader)
        return self

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
        learned = self._noting(evaluation)
        record = learned.record.keeping(keep_support and learned.support is not None)
        self._learned = replace(learned, record=record)
        lora = learned.fitted.tuners.lora
        saved = adapter.Saved(
            Path(path),
            learned.classes,
            self.recipe,
            dict(learned.fitted.state()),
            record,
            learned.support if keep_support else None,
            lora.config(self.backbone) if lora is not None else None,
        )
        adapter.write_adapter(saved, write_card(learned.classes, self.recipe, record), overwrite)

    def export(
        self,
        path: str | Path,
        format: str = "onnx",
        *,
        quantize: str | None = None,
        calibrate: SeveralImages | None = None,
        accept_difference: bool = False,
        plain: bool = False,
        overwrite: bool = False,
        progress: Callable[[str, int, int], None] | None = None,
    ) -> "Exported":
        """Write the classifier as files that other programs run; see `atha.export` for what is in the folder.

        It ends with a comparison of what was written with this classifier, in float32.

        Args:
            path: the folder to make.
            format: ``onnx``, ``transformers`` or ``torch``.
            quantize: ``int8``: smaller and faster, and not equal; for ``onnx``.
            calibrate: images for it, such as the support set's; without, each image is scaled by its own values.
            accept_difference: write what the format cannot hold all of, too.
            plain: as for `predict`.
            overwrite: replace an export that is there.
            progress: called with (what is done, how much of it, of how much).

        Raises:
            ExportError: it cannot be exported so, or what was written is not equal to it; nothing is then written.
            AdapterError: the folder is in use or cannot be written.
            DataError: no classes yet.
        """
        from atha.export.base import Subject
        from atha.export.exporting import export

        return export(
            Subject.of(self._now),
            Path(path),
            format,
            quantize=quantize,
            calibrate=None if calibrate is None else list(each_image(calibrate)),
            accept_difference=accept_difference,
            plain=plain,
            overwrite=overwrite,
            told=(lambda what, done, of: None) if progress is None else progress,
        )

    def save_evaluation(self, path: str | Path, evaluation: Mapping[str, Evaluation]) -> None:
        """Add an evaluation to an adapter that was saved from this object; its weights are not touched.

        Args:
            path: the adapter's folder.
            evaluation: as for `save_pretrained`.

        Raises:
            AdapterError: the folder is no adapter.
        """
        self._learned = learned = self._noting(evaluation)
        adapter.update_record(path, learned.record, write_card(learned.classes, self.recipe, learned.record))

    def _noting(self, evaluation: Mapping[str, Evaluation] | None) -> Learned:
        """What was learned, with an evaluation in its record.

        Raises:
            AdapterError: nothing was.
        """
        if self._learned is None:
            raise AdapterError("there is no adaptation to save yet, call fit first")
        return replace(self._learned, record=self._learned.record.noting(evaluation))

    @property
    def _fitted(self) -> Fitted | None:
        return None if self._learned is None else self._learned.fitted

    def _learn(
        self,
        support: LabelledSource,
        fit: Callable[[Support], Fitted],
        seed: int,
        bands: Sequence[int] | Reading | None = None,
        given: Sequence[str] | Mapping[str, str] | None = None,
    ) -> "Classifier":
        """`fit`, of whatever makes a fitted model of the support set."""
        self._frozen = Frozen(self.backbone, self._precision)  # what the last one holds for speed, goes with it
        self._learned = learn(
            support,
            self._given if given is None else given,
            self.recipe,
            self._views,
            self._frozen,
            str(self._device),
            seed,
            bands,
            self.max_pixels,
            fit,
        )
        return self

    def _arguments(self) -> dict[str, Any]:
        return {
            "backbone": self.backbone,
            "classes": self._given,
            "recipe": self.recipe,
            "device": str(self._device),
            "max_pixels": self.max_pixels,
        }

    @property
    def _now(self) -> Snapshot:
        return Snapshot(self.recipe, self._views, self._frozen, self.max_pixels, self._expected, self._learned)
