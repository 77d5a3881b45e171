"""A fitted model from what an adapter's folder holds, once its backbone is there."""

from atha.adapter.files import LORA, Saved
from atha.adapter.record import CLASSES, LORA_FILES, SUPPORT, TENSORS
from atha.errors import AdapterError, reason
from atha.methods import restore
from atha.methods.base import Fitted
from atha.models.frozen import Frozen
from atha.tensors import TensorError

_AGAIN = "copy the adapter again or fit it again"


def restore_fitted(saved: Saved, frozen: Frozen) -> Fitted:
    """The fitted model, whose tensors are checked against recipe, classes and backbone.

    Args:
        saved: what was read.
        frozen: the backbone that the adapter is for.

    Raises:
        AdapterError: the folder's files do not belong together; names the one.
    """
    folder, classes = saved.folder, len(saved.classes.labels)
    try:
        fitted = restore(saved.record.definition, saved.tensors, saved.recipe, frozen)
    except AdapterError as error:
        raise AdapterError(f"{folder} cannot be used, {error}: update atha") from None
    except TensorError as error:
        file = folder / (LORA_FILES[1] if error.name.startswith(LORA) else TENSORS)
        raise AdapterError(f"{file} does not fit its own recipe, {error}: {_AGAIN}") from None
    # A definition may hold anything: whatever a kind makes of what is not its own, it cannot be used.
    except (ArithmeticError, AttributeError, LookupError, RuntimeError, TypeError, ValueError) as error:
        raise AdapterError(f"{folder} does not fit its own recipe ({reason(error)}): {_AGAIN}") from None
    if fitted.classes not in (None, classes):
        raise AdapterError(
            f"{folder / TENSORS} is for {fitted.classes} classes and {CLASSES} beside it names {classes}: {_AGAIN}"
        )
    width = frozen.backbone.joint_width
    if saved.support is not None and saved.support.features.shape[1] != width:
        raise AdapterError(
            f"{folder / SUPPORT} has features of {saved.support.features.shape[1]} values and the backbone makes "
            f"{width}: {_AGAIN}"
        )
    return fitted
