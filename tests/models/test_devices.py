"""A device that is not the CPU is believed when it computes what the CPU computes."""

from types import SimpleNamespace

import pytest
import torch
from test_speed_equivalence import made

from atha import devices
from atha.errors import BackboneError
from atha.models import forms


@pytest.fixture
def elsewhere(monkeypatch):
    """Features of a device that is none: the meta device takes weights, and computes nothing."""
    there = {}

    def encoder(backbone, precision):
        where = "here" if backbone.device.type == "cpu" else "there"
        return SimpleNamespace(images=lambda pixels: there[where])

    monkeypatch.setattr(forms, "prediction_encoder", encoder)
    return there


@pytest.mark.parametrize(("error", "believed"), [(0.0, True), (0.001, True), (0.2, False), (float("nan"), False)])
def test_a_device_proves_itself_when_a_model_comes_onto_it(elsewhere, error, believed):
    backbone, meta = made("clip"), torch.device("meta")
    elsewhere["here"] = torch.ones(1, 64)
    elsewhere["there"] = torch.ones(1, 64) + error * torch.arange(64)
    # Weights cannot come back from that device, so that they are not asked to.
    backbone.to = lambda device: backbone.model.to(device) if device == meta else None
    if believed:
        assert forms.move(backbone, meta) is backbone
        assert backbone.device == meta
        return
    with pytest.raises(BackboneError, match=r"meta computes other image features .* use --device cpu"):
        forms.move(backbone, meta)


def test_the_cpu_has_nothing_to_prove(elsewhere):
    backbone = made("clip")
    assert forms.move(backbone, torch.device("cpu")) is backbone


@pytest.mark.parametrize("right", [True, False])
def test_mps_is_chosen_by_itself_only_where_it_attends_right(monkeypatch, right):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    monkeypatch.setattr(devices, "attends_right", lambda device: right)
    assert devices.resolve_device("auto").type == ("mps" if right else "cpu")
    assert devices.resolve_device("mps").type == "mps"


def test_the_cpu_attends_as_itself():
    assert devices.attends_right(torch.device("cpu"))
