"""Images in folders of classes, whatever Pillow reads."""

import io

import numpy as np
import pytest
from PIL import Image, features

from skipln_fairseq.common.errors import UserError
from skipln_fairseq.images.data import folders, read_split, recognise
from skipln_fairseq.images.data.folders import FileImages, read_folders
from skipln_fairseq.images.data.images import ArrayImages
from tests.support.image_files import write_folders


def test_folders_are_read_whatever_the_format(tmp_path):
    write_folders(tmp_path)
    assert recognise(tmp_path) == "folders"
    images = read_folders(tmp_path, "train", None)
    assert isinstance(images, ArrayImages)
    assert images.pixels.shape == (8, 7, 7, 3)  # the middle square
    assert images.labels.tolist() == [0] * 4 + [1] * 4
    assert images.classes == ["cat", "dog"]
    np.testing.assert_array_equal(images[4][3, 3], (200, 50, 0))
    assert read_folders(tmp_path, "valid", None) is None
    assert read_folders(tmp_path, "test", 5).pixels.shape == (8, 5, 5, 3)


def test_many_images_are_read_when_they_are_needed(tmp_path, monkeypatch):
    write_folders(tmp_path)
    whole = read_folders(tmp_path, "train", None)
    monkeypatch.setattr(folders, "IN_MEMORY", 10)
    images = read_folders(tmp_path, "train", None)
    assert isinstance(images, FileImages)
    np.testing.assert_array_equal(np.stack([images[n] for n in range(8)]), whole.pixels)


def test_grey_and_transparent_images_become_colours(tmp_path):
    write_folders(tmp_path, formats=("png",))
    cats = tmp_path / "train" / "cat"
    Image.new("L", (9, 7), 77).save(cats / "0.png")
    Image.new("RGBA", (9, 7), (1, 2, 3, 4)).save(cats / "1.png")
    Image.fromarray(np.full((7, 9), 77 * 256 + 5, np.uint16)).save(cats / "2.png")
    images = read_folders(tmp_path, "train", 7)
    assert [images[n][3, 3].tolist() for n in range(3)] == [[77, 77, 77], [1, 2, 3], [77, 77, 77]]


def test_images_of_16_bits_keep_their_greys(tmp_path):
    write_folders(tmp_path)
    ramp = np.arange(49, dtype=np.uint16).reshape(7, 7) * 1300
    Image.fromarray(ramp).save(tmp_path / "train" / "cat" / "0.png")
    np.testing.assert_array_equal(read_folders(tmp_path, "train", 7)[0][..., 0], ramp >> 8)


def test_a_turned_photograph_is_turned_back(tmp_path):
    write_folders(tmp_path, size=(7, 7), formats=("png",))
    pixels = np.zeros((7, 7, 3), np.uint8)
    pixels[0] = 255  # the upper row
    image = Image.fromarray(pixels)
    exif = image.getexif()
    exif[0x0112] = 3  # by half a turn
    image.save(tmp_path / "train" / "cat" / "0.png", exif=exif)
    np.testing.assert_array_equal(read_folders(tmp_path, "train", 7)[0], pixels[::-1])


def damaged_png():
    stream = io.BytesIO()
    Image.new("RGB", (9, 7)).save(stream, "png")
    content = bytearray(stream.getvalue())
    content[40] ^= 0xFF
    return bytes(content)


@pytest.mark.parametrize("name", ["0.png", "9.png"], ids=["first", "last"])
@pytest.mark.parametrize("content", ["text", "damaged", "32 bits", "bomb"])
def test_a_file_that_is_no_image_is_named(tmp_path, monkeypatch, content, name):
    write_folders(tmp_path)
    file = tmp_path / "train" / "cat" / name
    if content == "bomb":
        Image.new("RGB", (90, 90)).save(file)
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    elif content == "32 bits":
        Image.new("F", (9, 7)).save(file, "tiff")
    else:
        file.write_bytes(damaged_png() if content == "damaged" else b"text")
    with pytest.raises(UserError, match=rf"{name}: not an image that can be read") as error:
        read_folders(tmp_path, "train", None)
    assert "\n" not in str(error.value)


def test_a_class_that_training_lacks_is_refused(tmp_path):
    write_folders(tmp_path)
    (tmp_path / "test" / "eel").mkdir()
    with pytest.raises(UserError, match="training has no class eel"):
        read_folders(tmp_path, "test", None, ["cat", "dog"])
    assert read_folders(tmp_path, "train", None, ["cat", "dog", "fox"]).labels.tolist() == [0] * 4 + [1] * 4


def test_folders_of_classes_without_parts_are_the_training_part(tmp_path):
    write_folders(tmp_path, parts=("",))
    assert recognise(tmp_path) == "folders"
    images = read_folders(tmp_path, "train", None)
    assert (len(images), images.classes) == (8, ["cat", "dog"])
    assert read_folders(tmp_path, "test", None) is None
    (tmp_path / "test" / "cat").mkdir(parents=True)  # now there are parts, and that of training is missing
    assert read_folders(tmp_path, "train", None) is None


def test_classes_may_have_the_names_of_parts(tmp_path):
    for name in ("train", "valid", "invalid"):
        (tmp_path / name).mkdir()
        Image.new("RGB", (9, 7)).save(tmp_path / name / "1.png")
    assert recognise(tmp_path) == "folders"
    assert read_folders(tmp_path, "train", None).classes == ["invalid", "train", "valid"]
    assert read_folders(tmp_path, "valid", None) is None


@pytest.mark.parametrize("suffix", ["tga", "dds", "PNG"])
def test_classes_are_recognised_by_what_pillow_reads(tmp_path, suffix):
    """Not by the types that a system lists: few list these."""
    (tmp_path / "cat").mkdir()
    Image.new("RGB", (9, 7)).save(tmp_path / "cat" / f"1.{suffix}")
    assert recognise(tmp_path) == "folders"
    assert len(read_folders(tmp_path, "train", None)) == 1


def test_images_without_a_suffix_are_read_if_the_format_is_said(tmp_path):
    (tmp_path / "cat").mkdir()
    Image.new("RGB", (9, 7)).save(tmp_path / "cat" / "1", "png")
    with pytest.raises(UserError, match="no images: valid are"):
        recognise(tmp_path)
    assert len(read_split("folders", tmp_path, "train")) == 1


@pytest.mark.skipif(not features.check("avif"), reason="a Pillow without AVIF")
def test_a_damaged_avif_is_one_line(tmp_path):
    file = tmp_path / "train" / "cat" / "a.avif"
    file.parent.mkdir(parents=True)
    Image.new("RGB", (64, 64), (9, 8, 7)).save(file)
    whole = file.read_bytes()
    file.write_bytes(whole[:-10] + bytes(byte ^ 255 for byte in whole[-10:]))
    with pytest.raises(UserError, match=r"a\.avif: not an image that can be read"):
        read_folders(tmp_path, "train", None)


def test_a_folder_without_images_is_refused(tmp_path):
    with pytest.raises(UserError, match="no images: valid are"):
        recognise(tmp_path)
