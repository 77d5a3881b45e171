"""The part of a photo that its plain view shows, for the geometries of real processors."""

import pytest
import transformers

from atha.data.views import Views

SIZES = [(600, 450), (450, 600), (3000, 100), (64, 64), (97, 640)]


@pytest.mark.parametrize("size", SIZES)
def test_shortest_side_and_centre_crop(size):
    processor = transformers.CLIPImageProcessor(size={"shortest_edge": 64}, crop_size={"height": 64, "width": 64})
    found = Views(processor, 64).visible_box(size)
    width, height = size
    side = min(size)
    one = side / 64  # a pixel of the view
    wanted = ((width - side) / 2, (height - side) / 2, (width + side) / 2, (height + side) / 2)
    assert found == pytest.approx(wanted, abs=one)


@pytest.mark.parametrize("size", SIZES)
def test_squeezed_to_a_square(size):
    processor = transformers.SiglipImageProcessor(size={"height": 64, "width": 64})
    assert Views(processor, 64).visible_box(size) == pytest.approx((0, 0, *size), abs=max(size) / 64)


@pytest.mark.parametrize("size", SIZES)
def test_published_geometry_shows_the_middle(size):
    processor = transformers.CLIPImageProcessor(size={"shortest_edge": 64}, crop_size={"height": 64, "width": 64})
    left, top, right, bottom = Views(processor, 64, "cdfsl").visible_box(size)
    edge, shown = 5 / 73, 64 / 73  # 73 = int(1.15 * 64); torchvision's crop begins at round(4.5) = 4 or 5
    assert ((right - left) / size[0], (bottom - top) / size[1]) == pytest.approx((shown, shown), abs=0.01)
    assert (left / size[0], top / size[1]) == pytest.approx((edge, edge), abs=0.02)


def test_padding_lies_outside_of_the_photo():
    class Padded:
        """Pads to a square, then resizes."""

        def __call__(self, images, **_):
            import torch
            from torchvision.transforms import v2

            image = v2.functional.pil_to_tensor(images[0])
            height, width = image.shape[1:]
            side = max(height, width)
            wide, high = side - width, side - height
            padded = v2.functional.pad(image, [wide // 2, high // 2, wide - wide // 2, high - high // 2])
            return {"pixel_values": torch.stack([v2.functional.resize(padded, [64, 64])])}

    found = Views(Padded(), 64).visible_box((200, 100))
    assert found == pytest.approx((0, -50, 200, 150), abs=3)
