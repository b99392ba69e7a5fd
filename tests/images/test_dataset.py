"""What chance does to images and to batches, and what it does not; the moments of pixels."""

import math
from typing import ClassVar

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from skipln_fairseq.images.data import ImageDataset, moments
from skipln_fairseq.images.data.augment import augmented
from skipln_fairseq.images.data.images import ArrayImages
from tests.support.image_files import RNG

IMAGES = ArrayImages(RNG.integers(0, 256, (12, 6, 6, 3), dtype=np.uint8), np.arange(12) % 3, ["a", "b", "c"])


def dataset(**options):
    return ImageDataset(IMAGES, np.arange(12), **options)


@given(st.integers(0, 4), st.booleans(), st.integers(0, 10**6))
def test_a_crop_is_a_window_of_the_padded_image(padding, flip, seed):
    image = RNG.integers(1, 256, (5, 6, 2), dtype=np.uint8)
    found = augmented(image, padding, flip, np.random.default_rng(seed))
    assert found.shape == image.shape
    padded = np.pad(image, ((padding, padding), (padding, padding), (0, 0)))
    windows = [padded[y : y + 5, x : x + 6] for y in range(2 * padding + 1) for x in range(2 * padding + 1)]
    windows += [window[:, ::-1] for window in windows] if flip else []
    assert any(np.array_equal(found, window) for window in windows)


def test_every_window_and_both_sides_come():
    image = np.arange(1, 10, dtype=np.uint8).reshape(3, 3, 1)
    found = {augmented(image, 1, True, np.random.default_rng(n)).tobytes() for n in range(400)}
    assert len(found) == 18  # 9 windows, none its own mirror


def test_chance_follows_from_seed_epoch_and_image_alone():
    first, again, other = (dataset(padding=2, flip=True, seed=seed) for seed in (1, 1, 2))

    def images(of, order):
        found = {index: image for index, image, _ in (of[index] for index in order)}
        return [found[index].tobytes() for index in range(12)]

    assert images(first, range(12)) == images(again, reversed(range(12)))
    assert images(first, range(12)) != images(other, range(12))
    again.set_epoch(2)
    assert images(first, range(12)) != images(again, range(12))


def test_evaluation_knows_no_chance():
    plain = dataset()
    for index in range(12):
        np.testing.assert_array_equal(plain[index][1], IMAGES[index])
    assert plain.ordered_indices().tolist() == list(range(12))


def test_batches_are_drawn_anew_in_each_epoch():
    shuffled = dataset(shuffle=True)
    first = shuffled.ordered_indices().tolist()
    shuffled.set_epoch(2)
    assert sorted(first) == list(range(12)) != first
    assert shuffled.ordered_indices().tolist() != first


def test_a_batch_is_bytes_with_channels_first():
    batch = dataset().collater([dataset()[index] for index in range(12)])
    pixels = batch["net_input"]["image"].numpy()
    assert pixels.dtype == np.uint8
    np.testing.assert_array_equal(pixels, IMAGES.pixels.transpose(0, 3, 1, 2))
    assert batch["target"].tolist() == IMAGES.labels.tolist()
    assert batch["nsentences"] == 12


@given(st.integers(1, 300), st.integers(1, 70))
def test_batches_differ_by_one_image_and_lose_none(count, size):
    batches = dataset().batch_by_size(np.arange(count), max_sentences=size, required_batch_size_multiple=8)
    assert np.concatenate(batches).tolist() == list(range(count))
    lengths = {len(batch) for batch in batches}
    assert max(lengths) <= size
    assert max(lengths) - min(lengths) <= 1
    assert len(batches) == math.ceil(count / size)


def test_tokens_are_images():
    assert [len(batch) for batch in dataset().batch_by_size(np.arange(12), max_tokens=5)] == [4, 4, 4]
    assert len(dataset().batch_by_size(np.arange(12))) == 1


# --- moments -----------------------------------------------------------------------------------


def test_moments_are_those_of_the_pixels():
    pixels = IMAGES.pixels[[1, 4, 7]] / 255
    mean, deviation = moments(IMAGES, np.array([1, 4, 7]))
    np.testing.assert_allclose(mean, pixels.mean((0, 1, 2)))
    np.testing.assert_allclose(deviation, pixels.std((0, 1, 2)))


def test_of_many_images_some_are_taken_and_each_is_read_once():
    class Counted:
        reads: ClassVar = []

        def __getitem__(self, number):
            self.reads.append(number)
            return np.full((2, 2, 1), number, np.uint8)

    mean, _ = moments(Counted(), np.arange(101), at_most=11)
    assert Counted.reads == list(range(0, 101, 10))
    assert mean == [pytest.approx(50 / 255)]


def test_one_colour_has_a_deviation():
    one = ArrayImages(np.full((3, 2, 2, 1), 9, np.uint8), np.zeros(3), ["a"])
    assert moments(one, np.arange(3)) == ([pytest.approx(9 / 255)], [pytest.approx(1 / 255)])
