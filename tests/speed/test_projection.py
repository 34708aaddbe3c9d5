"""Hours and cost of a profile, from counted work."""

from __future__ import annotations

import pytest
import torchvision
import yaml
from torch import nn

from hwl.models import create_model
from hwl.paths import PROJECT
from hwl.speed import projection
from hwl.speed.projection import Gpu, Training, Work, hours, images_per_second, profile_trainings

# Of timm's published rates on an RTX 3090, from which the model's constants come.
RTX_3090 = Gpu("RTX 3090", TFLOPs=71.0, TB_per_s=0.936, dollars=0.0)


def training(name: str, images: float) -> Training:
    return Training(name, "ours", {}, (256, 192), images)


def test_the_work_of_a_small_model_is_that_counted_by_hand() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 2, 1))

    work = projection.training_work(model, (32, 64))

    pixels = 32 * 64
    assert work.flops == 6 * pixels * (4 * 3 * 9 + 2 * 4)
    assert work.activations == pixels * (4 + 4 + 2)
    assert model.training and not any(module._forward_hooks for module in model.modules())


def test_the_work_of_ours_is_three_forward_passes_of_its_exact_count() -> None:
    assert projection.training_work(create_model("ours"), (256, 192)).flops == 6 * 558_997_088


def test_the_work_is_counted_on_the_models_own_device() -> None:
    elsewhere = create_model("ours").to("meta")  # as on a GPU, an image of the CPU is refused
    here = create_model("ours")

    work = projection.training_work(elsewhere, (64, 32))

    assert work == projection.training_work(here, (64, 32))


@pytest.mark.parametrize(
    ("name", "published"),
    [("mobilenet_v3_large", 2732), ("mobilenet_v2", 2313), ("resnet50", 1218)],
)
def test_published_rates_are_met_within_a_third(name: str, published: float) -> None:
    work = projection.training_work(getattr(torchvision.models, name)(), (224, 224))

    assert images_per_second(work, RTX_3090) == pytest.approx(published, rel=1 / 3)


def test_the_slower_of_arithmetic_and_memory_limits_the_rate() -> None:
    gpu = Gpu("", TFLOPs=1.0, TB_per_s=1.0, dollars=0.0)

    assert images_per_second(Work(4 * 10**9, 1), gpu) == pytest.approx(100)
    assert images_per_second(Work(1, 10**9), gpu) == pytest.approx(1000 / 27)


def test_trainings_are_shared_out_the_longest_first() -> None:
    trainings = [training(str(n), 3600.0 * n) for n in (1, 2, 3, 4)]

    each, total = hours(trainings, dict.fromkeys("1234", 1.0), devices=2)

    assert (each, total) == ([1, 2, 3, 4], 5)


def test_a_trainings_images_are_those_learned_and_a_third_of_those_predicted() -> None:
    profile = {
        "recipe": {"input_height": 64, "input_width": 32, "epochs": 5, "evaluate_every": 2},
        "variants": {"ours": {}, "short": {"train_limit": 10, "val_limit": 3, "epochs": 2}},
        "seeds": {"ours": [0, 3]},
    }

    found = list(profile_trainings(profile, persons=100, boxes=6))

    assert [one.name for one in found] == ["ours-seed0", "ours-seed3", "short-seed0"]
    # Three validations, of which the last is after the last epoch.
    assert [one.images for one in found] == [500 + 3 * 4, 500 + 3 * 4, 20 + 2]


def test_the_paper_profile_has_its_nineteen_trainings() -> None:
    profile = yaml.safe_load((PROJECT / "profiles/paper.yaml").read_text())

    assert len(list(profile_trainings(profile))) == 19


@pytest.mark.slow
def test_the_table_of_the_documentation_is_that_of_today() -> None:
    profile = yaml.safe_load((PROJECT / "profiles/paper.yaml").read_text())

    page = (PROJECT / "docs/cluster.md").read_text()

    for row in projection.projection_table(profile).itertuples():
        assert f"| {row.GPU} | {row.devices} | {row.hours:.0f} | {row.dollars:.0f} |" in page


def test_a_table_has_a_row_a_gpu_and_number_of_them() -> None:
    profile = {
        "recipe": {"input_height": 64, "input_width": 32, "epochs": 210, "evaluate_every": 10},
        "variants": {
            "ours": {},
            "imagenet": {"model_options": {"backbone": "torchvision-imagenet"}},
        },
        "seeds": {},
    }

    table = projection.projection_table(profile, devices=(1, 2))

    assert table.devices.tolist() == [1, 2] * len(projection.GPUS)
    assert (table.hours[0] > table.hours[1]) and (table.dollars > 0).all()
    assert table.hours[::2].is_monotonic_decreasing
