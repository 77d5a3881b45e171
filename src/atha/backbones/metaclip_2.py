"""MetaCLIP 2, as transformers' `MetaClip2Model` (arXiv 2507.22062): CLIP in many languages, with their vocabulary."""

from atha.backbones.clip import ClipBackbone


class MetaClip2Backbone(ClipBackbone):
    """CLIP but for the tokenizer, whose padding is not its end token."""

    family = "metaclip_2"
    about = "MetaCLIP 2, CLIP in many languages"
    examples = (
        "facebook/metaclip-2-worldwide-b32",
        "facebook/metaclip-2-worldwide-l14",
        "facebook/metaclip-2-worldwide-huge-quickgelu",
    )
    model_class = "MetaClip2Model"
    largest_id = None
