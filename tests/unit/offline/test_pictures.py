"""Folders of pictures."""

import numpy as np
import pytest
from PIL import Image

from service.errors import ConfigurationError
from service.offline.chunks import Answer, Chunk
from service.offline.pictures import PictureReader, PictureWriter
from service.specs import ImageSpec, TensorSpec

SPEC = TensorSpec("float32", (1, 4, 4), (0, 1), ImageSpec())
ANY_SIZE = TensorSpec("float32", (1, None, None), (0, 1), ImageSpec())


def draw(path, grey, size=(4, 4)):
    Image.new("L", size, grey).save(path)


def read(folder, spec=SPEC, *, resize=False, max_pixels=1000, max_rows=100):
    return list(
        PictureReader(folder, spec, max_pixels=max_pixels, resize=resize, max_rows=max_rows)
    )


def greys(chunks):
    return [round(float(row.flat[0]) * 255) for chunk in chunks for row in chunk.rows]


@pytest.mark.parametrize("size", [1, 2, 3, 4, 9])
def test_pictures_come_in_the_order_of_their_names(tmp_path, size):
    for grey, name in ((30, "c.png"), (10, "a.webp"), (20, "b.JPG"), (40, "d.jpeg")):
        draw(tmp_path / name, grey)

    chunks = read(tmp_path, max_rows=size)
    assert [name for chunk in chunks for name in chunk.names or ()] == [
        "a.webp",
        "b.JPG",
        "c.png",
        "d.jpeg",
    ]
    assert greys(chunks) == pytest.approx([10, 20, 30, 40], abs=1)


def test_other_files_are_passed_over(tmp_path):
    draw(tmp_path / "a.png", 1)
    (tmp_path / "notes.txt").write_text("not a picture")
    (tmp_path / ".hidden.png").write_text("not a picture")

    assert [chunk.count for chunk in read(tmp_path)] == [1]


def test_a_broken_picture_or_one_of_another_size_is_named_and_costs_no_other(tmp_path):
    draw(tmp_path / "a.png", 10)
    (tmp_path / "b.png").write_bytes(b"not a picture")
    draw(tmp_path / "c.png", 30, (5, 4))
    draw(tmp_path / "d.png", 40)
    (tmp_path / "e.png").mkdir()

    (chunk,) = read(tmp_path)
    assert chunk.told_faults() == [
        "b.png: not a PNG, JPEG or WebP picture",
        "c.png: the picture has another size than the model's; --resize resizes it"
        " (expected 4x4, received 5x4)",
        "e.png: the file cannot be read",
    ]
    assert greys([chunk]) == [10, 40]
    assert chunk.kept.tolist() == [0, 3]


def test_resizing_brings_pictures_to_the_size_of_the_model(tmp_path):
    draw(tmp_path / "c.png", 30, (50, 10))

    (chunk,) = read(tmp_path, resize=True)
    assert chunk.rows.shape == (1, 1, 4, 4)


def test_a_picture_of_too_many_pixels_is_not_decoded(tmp_path):
    draw(tmp_path / "a.png", 30, (50, 50))

    (chunk,) = read(tmp_path, ANY_SIZE)
    assert "1000 pixels" in chunk.told_faults()[0]


def test_where_sizes_are_free_a_chunk_holds_pictures_of_one_size(tmp_path):
    for number, size in enumerate([(4, 4), (4, 4), (6, 4), (6, 4), (4, 4)]):
        draw(tmp_path / f"{number}.png", number, size)
    (tmp_path / "3.png").write_bytes(b"broken")

    chunks = read(tmp_path, ANY_SIZE)
    assert [chunk.rows.shape for chunk in chunks] == [(2, 1, 4, 4), (1, 1, 4, 6), (1, 1, 4, 4)]
    assert [(chunk.start, chunk.count) for chunk in chunks] == [(0, 2), (2, 2), (4, 1)]


def test_a_folder_without_pictures_is_refused(tmp_path):
    with pytest.raises(ConfigurationError, match="no picture"):
        read(tmp_path)


def test_a_folder_is_nothing_for_a_model_of_tables(tmp_path):
    draw(tmp_path / "a.png", 1)

    with pytest.raises(ConfigurationError, match="takes no pictures"):
        read(tmp_path, TensorSpec("float32", (4,)))


@pytest.mark.parametrize(
    ("names", "written"),
    [(["a.jpg", "b.png"], ["a.jpg.png", "b.png"]), (None, ["000000012.png", "000000013.png"])],
)
def test_each_reconstruction_is_a_picture_named_after_its_row(tmp_path, names, written):
    rows = np.zeros((2, 1, 4, 4), np.float32)
    rows[1] = 1

    PictureWriter(tmp_path, SPEC).write(Answer(Chunk(12, 2, rows, 0, {}, names=names), rows))

    assert sorted(path.name for path in tmp_path.iterdir()) == written
    assert [np.asarray(Image.open(tmp_path / name)).max() for name in written] == [0, 255]
