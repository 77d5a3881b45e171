"""The part of a photo that its plain view shows, for the geometries of real processors."""

import pytest

from atha.data.processor import ImageProcessor
from atha.data.views import Views

SIZES = [(600, 450), (450, 600), (3000, 100), (64, 64), (97, 640)]


def clip(size: dict[str, int]) -> ImageProcessor:
    return ImageProcessor.of({"image_processor_type": "CLIPImageProcessor", "size": size, "crop_size": 64})


@pytest.mark.parametrize("size", SIZES)
def test_shortest_side_and_centre_crop(size):
    processor = clip({"shortest_edge": 64})
    found = Views(processor, 64).visible_box(size)
    width, height = size
    side = min(size)
    one = side / 64  # a pixel of the view
    wanted = ((width - side) / 2, (height - side) / 2, (width + side) / 2, (height + side) / 2)
    assert found == pytest.approx(wanted, abs=one)


@pytest.mark.parametrize("size", SIZES)
def test_squeezed_to_a_square(size):
    processor = ImageProcessor.of({"image_processor_type": "SiglipImageProcessor", "size": {"height": 64, "width": 64}})
    assert Views(processor, 64).visible_box(size) == pytest.approx((0, 0, *size), abs=max(size) / 64)


@pytest.mark.parametrize("size", SIZES)
def test_published_geometry_shows_the_middle(size):
    processor = clip({"shortest_edge": 64})
    left, top, right, bottom = Views(processor, 64, "cdfsl").visible_box(size)
    edge, shown = 5 / 73, 64 / 73  # 73 = int(1.15 * 64); torchvision's crop begins at round(4.5) = 4 or 5
    assert ((right - left) / size[0], (bottom - top) / size[1]) == pytest.approx((shown, shown), abs=0.01)
    assert (left / size[0], top / size[1]) == pytest.approx((edge, edge), abs=0.02)


def test_padding_lies_outside_of_the_photo():
    padding = clip({"max_height": 64, "max_width": 64})  # the crop is larger than the photo then
    found = Views(padding, 64).visible_box((200, 100))
    assert found == pytest.approx((0, -50, 200, 150), abs=3)
