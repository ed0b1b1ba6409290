import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from pixelwise.errors import DataError, PixelwiseError
from pixelwise.inference import predictor as home
from pixelwise.inference.batching import Failure, PredictedImage, predict_all
from pixelwise.inference.predictor import Predictor, load

Image = npt.NDArray[Any]
SIZES = ((20, 24), (20, 24), (24, 20), (24, 20), (24, 20), (9, 9))


@pytest.fixture(scope="module")
def reference(make_model: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Predictor:
    return load(make_model(tmp_path_factory.mktemp("batches") / "m"), device="cpu", precision="fp32")


@pytest.fixture(scope="module")
def predictor(reference: Predictor) -> Predictor:
    """In bf16, where small images share batches."""
    return dataclasses.replace(reference, precision="bf16")


@pytest.fixture
def batches(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many images each batch held that is predicted while the fixture lives."""
    sizes: list[int] = []
    whole = Predictor.predict_images

    def counting(self: Predictor, images: Any, **options: Any) -> Any:
        sizes.append(len(images))
        return whole(self, images, **options)

    monkeypatch.setattr(Predictor, "predict_images", counting)
    return sizes


def image(number: int) -> Image:
    return np.random.default_rng(number).integers(0, 256, (*SIZES[number], 3), np.uint8)


def read(number: int) -> tuple[Image, str]:
    return image(number), f"extra {number}"


@pytest.mark.parametrize("keep_logits", [False, True])
def test_batches_give_what_each_image_gives_alone(predictor: Predictor, batches: list[int], keep_logits: bool) -> None:
    answers = list(predict_all(predictor, range(6), read, keep_logits=keep_logits))
    assert batches == [2, 3]
    for number, answer in enumerate(answers):
        assert isinstance(answer, PredictedImage)
        assert (answer.item, answer.extra) == (number, f"extra {number}")
        np.testing.assert_array_equal(answer.image, image(number))
        alone = predictor.predict(image(number))
        assert (answer.prediction.labels == alone.labels).mean() > 0.98
        np.testing.assert_allclose(answer.prediction.logits, alone.logits, atol=0.05)
        np.testing.assert_allclose(answer.prediction.probabilities, alone.probabilities, atol=0.05)


def test_the_reference_does_not_depend_on_an_image_s_neighbors(reference: Predictor, batches: list[int]) -> None:
    for number, answer in enumerate(predict_all(reference, range(6), read, keep_logits=True)):
        assert isinstance(answer, PredictedImage)
        np.testing.assert_array_equal(answer.prediction.logits, reference.predict(image(number)).logits)
    assert batches == []


def test_a_batch_has_no_more_pixels_than_a_whole_image(
    predictor: Predictor, batches: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert predictor.choose_batch_size((20, 24)) == home.MAX_BATCH
    assert predictor.choose_batch_size((360, 480)) == 6
    assert predictor.choose_batch_size((4000, 4000)) == 1
    monkeypatch.setattr(home, "WHOLE_PIXELS", 2 * 20 * 24)
    list(predict_all(predictor, range(6), read))
    assert batches == [2, 2]


def test_failures_keep_their_position_and_name(predictor: Predictor) -> None:
    def faulty(number: int) -> tuple[Image, None]:
        if number == 1:
            raise DataError("one: cannot be read.")
        return image(number).astype(np.uint16 if number == 3 else np.uint8), None

    answers = list(predict_all(predictor, range(6), faulty, name=lambda number: f"image {number}"))
    assert [answer.item for answer in answers] == list(range(6))
    failed = {answer.item: answer.error for answer in answers if isinstance(answer, Failure)}
    assert set(failed) == {1, 3}
    with pytest.raises(DataError, match=r"^one: cannot be read"):
        raise failed[1]
    with pytest.raises(PixelwiseError, match=r"^image 3: The image is uint16, but the model was trained on uint8"):
        raise failed[3]


def test_an_error_of_a_batch_only_fails_the_image_at_fault(predictor: Predictor, batches: list[int]) -> None:
    def read_other_dtype(number: int) -> tuple[Image, None]:
        return image(number).astype(np.uint16 if number == 3 else np.uint8), None

    answers = list(predict_all(predictor, range(6), read_other_dtype))
    assert [type(answer) for answer in answers] == [PredictedImage] * 3 + [Failure] + [PredictedImage] * 2
    assert [answer.item for answer in answers] == list(range(6))
    assert batches == [2, 3]  # the second one has failed, so its images were predicted one by one


def test_at_most_two_batches_are_read_ahead(predictor: Predictor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(home, "MAX_BATCH", 3)
    started: list[int] = []

    def noting(number: int) -> tuple[Image, None]:
        started.append(number)
        return image(0), None

    answers = predict_all(predictor, range(100), noting)
    next(answers)
    answers.close()  # type: ignore[attr-defined]
    assert len(started) <= 3 + 2 * 3


def test_nothing_to_predict(predictor: Predictor) -> None:
    assert list(predict_all(predictor, [], read)) == []
