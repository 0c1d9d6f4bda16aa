"""Images in folders: what is read of them, in which order and under which name, and what is refused."""

import hashlib
import io
import os
import struct
import subprocess
import time
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import EpsImagePlugin, Image, ImageFile

from lt_repro.canonical import digest
from lt_repro.data import folder as module
from lt_repro.data.folder import read_folder
from lt_repro.data.images import select
from lt_repro.data.load import load_pool
from lt_repro.data.split import make_split, natural_ratio
from lt_repro.errors import DamagedError, RequestError

RED, GREEN, BLUE, WHITE = (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255)


def noise(seed, shape=(32, 32, 3)):
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def encoded(image, form="PNG", **options):
    file = io.BytesIO()
    (Image.fromarray(image) if isinstance(image, np.ndarray) else image).save(file, form, **options)
    return file.getvalue()


def put(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def made(folder, counts=(3, 2), test="test"):
    """A folder of noise: classes ant, bee, ... with so many training images and one test image each."""
    for k, (name, count) in enumerate(zip(("ant", "bee", "cat", "dog"), counts, strict=False)):
        for at in range(count):
            put(folder / "train" / name / f"{at}.png", encoded(noise(100 * k + at)))
        put(folder / test / name / "x.png", encoded(noise(1000 + k)))
    return folder


def load(folder):
    return load_pool(f"folder:{folder}", Path("nowhere"))


def first(folder, content, name="a.png"):
    """The one image of the first class, with this content."""
    put(made(folder, (0, 1)) / "train" / "ant" / name, content)
    return load(folder).train_images[0]


def refused(folder, *words):
    with pytest.raises(RequestError) as caught:
        load(folder)
    message = str(caught.value)
    assert not isinstance(caught.value, DamagedError)
    assert 2 <= len(message.splitlines()) <= 3, message
    for word in words:
        assert str(word) in message.splitlines()[0], message
    return message


# --- what a good folder becomes -------------------------------------------------------------------------------------


def test_the_pool_of_a_folder(tmp_path):
    pool = load(made(tmp_path / "My Pets.v2"))
    assert np.array_equal(pool.train_images, [noise(at) for at in (0, 1, 2, 100, 101)])
    assert np.array_equal(pool.test_images, [noise(at) for at in (1000, 1001)])
    assert (pool.train_labels.tolist(), pool.test_labels.tolist()) == ([0, 0, 0, 1, 1], [0, 1])
    assert pool.train_labels.dtype == pool.test_labels.dtype == np.int64
    assert pool.train_images.dtype == np.uint8
    assert pool.train_images.flags.c_contiguous
    assert pool.class_names == ("ant", "bee")
    assert (pool.hold_out, pool.source) == (0, tmp_path / "My Pets.v2")
    stem, _, content = pool.name.partition("-")
    assert stem == "my_pets_v2"
    assert content == read_folder(tmp_path / "My Pets.v2")[0][:8]


def test_the_name_is_pinned(tmp_path):
    for path in ("train/ant/a.pbm", "train/bee/é/b.pbm", "test/ant/c.pbm", "test/bee/d.pbm"):
        put(tmp_path / path, b"P1 1 1 0")
    contents = hashlib.sha256(b"P1 1 1 0").hexdigest()
    text = ",".join(f'"{name}":"{contents}"' for name in ("test/ant/c.pbm", "test/bee/d.pbm", "train/ant/a.pbm"))
    text = f'{{{text},"train/bee/\\u00e9/b.pbm":"{contents}"}}'
    assert read_folder(tmp_path)[0] == hashlib.sha256(text.encode()).hexdigest()


def test_classes_and_images_come_in_the_order_of_code_points(tmp_path):
    names = ("10", "9", "B", "a", "b", "Ω", "é")
    assert list(names) != sorted(names, key=str.lower)
    for k, name in enumerate(names[::-1]):
        put(tmp_path / "train" / name / "x.png", encoded(noise(k)))
        put(tmp_path / "test" / name / "x.png", encoded(noise(k)))
    assert load(tmp_path).class_names == tuple(sorted(names))
    inside = ("a/2.png", "a.png", "a/10.png", "B.png", "a-b.png", "c/d/e/1.png")
    for at, path in enumerate(inside):
        put(tmp_path / "train" / "b" / path, encoded(noise(50 + at)))
    pool = load(tmp_path)
    expected = [noise(50 + inside.index(path)) for path in sorted(inside)]
    chosen = pool.train_images[pool.train_labels == pool.class_names.index("b")]
    assert sorted(inside) == ["B.png", "a-b.png", "a.png", "a/10.png", "a/2.png", "c/d/e/1.png"]
    assert np.array_equal(chosen[:-1], expected)
    assert np.array_equal(chosen[-1], noise(names[::-1].index("b")))


def test_the_name_is_of_the_content_and_not_of_the_place(tmp_path):
    pets = made(tmp_path / "pets")
    before = load(pets).name
    (tmp_path / "elsewhere").mkdir()
    moved = pets.rename(tmp_path / "elsewhere" / "pets")
    assert load(moved).name == before
    assert load(moved.parent / "." / "pets" / ".." / "pets").name == before
    image = moved / "train" / "ant" / "0.png"
    content = image.read_bytes()
    put(image, encoded(noise(0), optimize=True) + b"x")  # the same pixels, other bytes
    other = load(moved)
    assert np.array_equal(other.train_images[0], noise(0))
    assert other.name != before
    put(image, content)
    assert load(moved).name == before
    for part in ("train", "test"):
        (moved / part / "ant").rename(moved / part / "anteater")
    assert load(moved).name != before
    assert load(moved).name.startswith("pets-")


def test_the_name_of_the_folder_where_one_stands(tmp_path, monkeypatch):
    name = load(made(tmp_path / "pets")).name
    monkeypatch.chdir(tmp_path / "pets")
    assert load(".").name == name
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    assert load("~/pets").name == name


def test_threads_and_blocks_change_nothing(tmp_path, monkeypatch):
    made(tmp_path, (9, 7, 5))
    real, results, read = module._pixels, [], []

    def late(content, depth):
        read.append(content)
        time.sleep(content[-20] % 4 / 1000)  # so that images end in another order than they begin
        return real(content, depth)

    for threads, block, pixels in ((1, 64, real), (8, 1, late), (3, 2, late), (2, 21, late)):
        monkeypatch.setattr(module, "_THREADS", threads)
        monkeypatch.setattr(module, "_BLOCK", block)
        monkeypatch.setattr(module, "_pixels", pixels)
        results.append(read_folder(tmp_path))
    assert len(read) == 3 * len(set(read)) == 3 * 24
    for sha256, arrays, *_ in results[1:]:
        assert sha256 == results[0][0]
        assert all(np.array_equal(arrays[key], array) for key, array in results[0].arrays.items())


def test_val_is_tested_on_where_there_is_no_test(tmp_path):
    made(tmp_path, test="val")
    assert np.array_equal(load(tmp_path).test_images, [noise(1000), noise(1001)])
    for k, name in enumerate(("ant", "bee")):
        put(tmp_path / "test" / name / "y.png", encoded(noise(2000 + k)))
    assert np.array_equal(load(tmp_path).test_images, [noise(2000), noise(2001)])


@pytest.mark.parametrize("test", ["Test", "VAL", "valid", "Validation"])
def test_the_parts_in_capitals_and_by_other_names(tmp_path, test):
    pool = load(made(tmp_path, test=test))
    (tmp_path / "train").rename(tmp_path / "Train")
    capitals = load(tmp_path)
    assert capitals.name == pool.name
    assert np.array_equal(capitals.train_images, pool.train_images)
    assert np.array_equal(capitals.test_images, [noise(1000), noise(1001)])
    (tmp_path / test).rename(tmp_path / test.lower())
    assert load(tmp_path).name == pool.name


@pytest.mark.parametrize(("test", "other"), [("test", "Test"), ("val", "valid"), ("Validation", "val")])
def test_two_folders_for_one_part_are_refused(tmp_path, test, other):
    made(tmp_path, test=test)
    put(tmp_path / other, b"a file is no part")
    load(tmp_path)
    (tmp_path / other).unlink()
    made(tmp_path, test=other)
    first, second = sorted((test, other))
    assert "rename" in refused(tmp_path, tmp_path, f"{first}/ and {second}/ could both be meant")
    (tmp_path / other).rename(tmp_path / "TRAIN")
    refused(tmp_path, tmp_path, "TRAIN/ and train/ could both be meant")


def test_test_images_that_are_trained_on_are_named(tmp_path):
    made(tmp_path)
    put(tmp_path / "test" / "bee" / "copy.bmp", encoded(noise(2), "BMP"))  # the same pixels of another class
    line = "1 of 3 test images are also training images, pixel by pixel"
    assert load(tmp_path).notes == (f"{line}: 'test/bee/copy.bmp' is 'train/ant/2.png'",)


def test_what_is_passed_over(tmp_path):
    made(tmp_path)
    name = load(tmp_path).name
    for path in (
        *("README.md", ".git/x", "extra/ant/x.png", "train/.DS_Store", "train/.hidden/x.png", "train/Thumbs.db"),
        *("train/ant/.DS_Store", "train/ant/._0.png", "train/ant/.cache/x", "train/ant/thumbs.db"),
        *("test/bee/Desktop.ini", "test/desktop.ini"),
    ):
        put(tmp_path / path, b"no image")
    assert load(tmp_path).name == name
    (line,) = notes(tmp_path)
    assert line == "skipped 9 hidden or system files or folders: 'test/bee/Desktop.ini', 'test/desktop.ini', ..."


@pytest.mark.parametrize(
    ("path", "shown"),
    [
        ("train/ant/Icon\r", r"train/ant/Icon\r"),
        *((path, path) for path in ("train/ant/0.png:Zone.Identifier", "test/bee/._x.png", "train/.DS_Store")),
        ("train/bee/@eaDir/0.png/x.jpg", "train/bee/@eaDir"),
        ("train/__MACOSX/ant/0.png", "train/__MACOSX"),
        ("train/ant/.ipynb_checkpoints/0.png", "train/ant/.ipynb_checkpoints"),
    ],
)
def test_what_a_file_system_leaves_is_skipped_with_a_note(tmp_path, path, shown):
    name = load(made(tmp_path)).name
    put(tmp_path / path, b"no image")
    pool = load(tmp_path)
    assert (pool.name, pool.notes) == (name, (f"skipped 1 hidden or system files or folders: '{shown}'",))


def test_classes_whose_names_look_the_same_are_refused(tmp_path):
    made(tmp_path, (3, 2))
    for part in ("train", "test"):
        for name in ("caf\u00e9", "cafe\u0301"):
            put(tmp_path / part / name / "x.png", encoded(noise(0)))
    refused(tmp_path, tmp_path, r"classes whose names look the same: 'cafe\u0301', 'caf\xe9'")
    for part in ("train", "test"):
        (tmp_path / part / "cafe\u0301").rename(tmp_path / part / "CAF\u00c9")  # upper and lower case are two classes
    assert load(tmp_path).class_names == ("CAF\u00c9", "ant", "bee", "caf\u00e9")


def test_links_are_followed(tmp_path):
    made(tmp_path / "there")
    linked = made(tmp_path / "here", (0, 2))
    put(tmp_path / "one.png", encoded(noise(7)))
    (linked / "train" / "ant").mkdir()
    (linked / "train" / "ant" / "linked.png").symlink_to(tmp_path / "one.png")
    (linked / "train" / "ant" / "more").symlink_to(tmp_path / "there" / "train" / "ant")
    (linked / "train" / "cat").symlink_to(tmp_path / "there" / "train" / "bee")
    (linked / "test" / "cat").symlink_to(tmp_path / "there" / "test" / "bee")
    pool = load(linked)
    assert pool.class_names == ("ant", "bee", "cat")
    assert np.array_equal(pool.train_images, [noise(at) for at in (7, 0, 1, 2, 100, 101, 100, 101)])


def test_a_split_as_the_images_are(tmp_path):
    pool = load(made(tmp_path, (2, 5, 3)))
    ratio = natural_ratio(pool.train_labels)
    images = select(pool, make_split(pool.train_labels, ratio=ratio, imb_type="as_is", name=pool.name))
    assert ratio == 2.5
    assert images.split.counts.tolist() == [2, 5, 3]
    assert images.class_names == ("ant", "bee", "cat")
    assert {image.tobytes() for image in images.train_images} == {image.tobytes() for image in pool.train_images}
    smaller = make_split(pool.train_labels, ratio=2, name=pool.name)
    assert select(pool, smaller).train_images.shape == (4, 32, 32, 3)


# --- pixels ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("form", "options"),
    [
        ("PNG", {}),
        ("BMP", {}),
        ("GIF", {}),
        ("WEBP", {"lossless": True}),
        ("TIFF", {"compression": "tiff_lzw"}),
        ("PPM", {}),
        ("TGA", {}),
        ("JPEG2000", {}),
        ("ICO", {"sizes": [(32, 32)]}),
    ],
)
def test_32_pixels_come_out_as_they_were(tmp_path, form, options):
    image = Image.fromarray(noise(0)).quantize(200).convert("RGB")  # no more colours than a GIF has
    assert np.array_equal(first(tmp_path, encoded(image, form, **options)), image)


@pytest.mark.parametrize("size", [(500, 375), (31, 700), (1, 1), (33, 32), (300, 300), (5, 40)])
@pytest.mark.parametrize("form", ["PNG", "GIF", "WEBP", "JPEG"])
def test_a_solid_colour_stays(tmp_path, form, size):
    options = {"lossless": True} if form == "WEBP" else {}
    grey = form == "JPEG"  # a JPEG rounds colours, but this grey not
    colour = (128, 128, 128) if grey else (13, 200, 77)
    image = first(tmp_path, encoded(Image.new("RGB", size, colour), form, **options))
    assert image.shape == (32, 32, 3)
    assert np.array_equal(np.unique(image.reshape(-1, 3), axis=0), [colour])


@pytest.mark.parametrize(("size", "box"), [((96, 32), (32, 0, 64, 32)), ((32, 96), (0, 32, 32, 64))])
def test_the_middle_is_cut_out(tmp_path, size, box):
    image = Image.new("RGB", size, RED)
    image.paste(Image.fromarray(noise(3)), box)
    assert np.array_equal(first(tmp_path, encoded(image)), noise(3))


def test_fine_stripes_become_their_mean(tmp_path):
    stripes = np.zeros((320, 320, 3), np.uint8)
    stripes[::2] = 200
    image = first(tmp_path, encoded(stripes))
    assert np.abs(image.astype(int) - 100).max() <= 4  # the filter's lobes end at the image's edge


def turned(orientation, form, size):
    """An image whose left half is red, stored so that it must be turned by this EXIF orientation."""
    width, height = size
    upright = Image.new("RGB", size, BLUE)
    upright.paste(RED, (0, 0, width // 2, height))
    back = {1: None, 3: Image.Transpose.ROTATE_180, 6: Image.Transpose.ROTATE_90, 5: Image.Transpose.TRANSPOSE}
    stored = upright if back[orientation] is None else upright.transpose(back[orientation])
    exif = Image.Exif()
    exif[0x0112] = orientation
    return encoded(stored, form, exif=exif, **({"quality": 100, "subsampling": 0} if form == "JPEG" else {}))


@pytest.mark.parametrize("size", [(32, 32), (640, 640)])
@pytest.mark.parametrize("orientation", [1, 3, 5, 6])
@pytest.mark.parametrize("form", ["JPEG", "PNG", "TIFF"])
def test_an_image_is_turned_as_exif_says(tmp_path, form, orientation, size):
    image = first(tmp_path, turned(orientation, form, size)).astype(int)
    assert np.abs(image[:, :12] - RED).max() <= 4
    assert np.abs(image[:, 20:] - BLUE).max() <= 4


def test_a_jpeg_of_four_inks(tmp_path):
    ink = Image.new("CMYK", (64, 64), (0, 255, 255, 0))
    assert np.abs(first(tmp_path, encoded(ink, "JPEG", quality=95)).astype(int) - RED).max() <= 4


def test_a_large_jpeg_is_as_one_that_is_decoded_in_full(tmp_path):
    smooth = Image.fromarray(noise(4, (6, 8, 3))).resize((1024, 768), Image.Resampling.BICUBIC)
    quick = first(tmp_path / "a", encoded(smooth, "JPEG", quality=95)).astype(int)
    full = first(tmp_path / "b", encoded(smooth)).astype(int)
    assert np.abs(quick - full).max() <= 8


def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def test_grey_of_16_bits_is_divided_not_cut_off(tmp_path):
    levels = np.arange(1024, dtype=np.uint16).reshape(32, 32) * 64
    grey = np.repeat((levels >> 8).astype(np.uint8)[..., None], 3, axis=2)
    assert np.array_equal(first(tmp_path / "png", encoded(levels)), grey)
    assert np.array_equal(first(tmp_path / "tiff", encoded(levels, "TIFF")), grey)
    pgm = b"P5 32 32 65535\n" + levels.astype(">u2").tobytes()
    assert Image.open(io.BytesIO(pgm)).mode == "I"
    assert np.array_equal(first(tmp_path / "pgm", pgm), grey)


def notes(folder):
    return list(load(folder).notes)


@pytest.mark.parametrize(
    ("largest", "bits"),
    [(0, 8), (255, 8), (256, 10), (1023, 10), (1024, 12), (4095, 12), (4096, 14), (16383, 14), (16384, 16)],
)
def test_white_is_the_largest_value_of_the_bits_that_a_set_uses(tmp_path, largest, bits):
    levels = np.linspace(0, largest, 1024).astype(np.uint16).reshape(32, 32)
    for form in ("PNG", "TIFF"):
        image = first(tmp_path / form, encoded(levels, form))
        assert np.array_equal(image[..., 0], levels >> (bits - 8))
        line = f"{bits} of 16 bits used in 1 image: {2**bits - 1} is read as white"
        assert notes(tmp_path / form) == ([line] if bits < 16 else [])


def test_all_images_of_a_set_have_the_same_white(tmp_path):
    levels = np.arange(1024, dtype=np.uint16).reshape(32, 32)
    assert np.array_equal(first(tmp_path, encoded(4 * levels))[..., 0], levels >> 2)
    name = load(tmp_path).name
    put(tmp_path / "test" / "bee" / "y.png", encoded(16 * levels))
    pool = load(tmp_path)
    assert np.array_equal(pool.train_images[0, ..., 0], levels >> 4)
    assert np.array_equal(pool.test_images[-1, ..., 0], levels >> 2)
    assert np.array_equal(pool.train_images[1], noise(100))  # those of 8 bits stay
    assert notes(tmp_path) == ["14 of 16 bits used in 2 images: 16383 is read as white"]
    put(tmp_path / "test" / "bee" / "y.png", encoded(64 * levels))
    assert (load(tmp_path).train_images[0].max(), notes(tmp_path)) == (4095 >> 8, [])
    (tmp_path / "test" / "bee" / "y.png").unlink()
    assert load(tmp_path).name == name


def test_a_set_whose_white_is_found_has_a_name_that_says_so(tmp_path):
    """So that a run on its pixels is not taken for a run on the same files read as 16 bits."""
    content = encoded(np.full((4, 4), 4095, np.uint16))
    first(tmp_path, content)
    files = {path.relative_to(tmp_path).as_posix(): path.read_bytes() for path in tmp_path.rglob("*.png")}
    named = {name: hashlib.sha256(file).hexdigest() for name, file in files.items()}
    assert read_folder(tmp_path).sha256 == digest(named | {"bits": 12}) != digest(named)


def test_a_format_that_states_its_white_is_not_stretched(tmp_path):
    levels = np.arange(1024, dtype=np.uint16).reshape(32, 32)
    for white in (65535, 4095):
        content = f"P5 32 32 {white}\n".encode() + levels.astype(">u2").tobytes()
        image = first(tmp_path / str(white), content)
        assert np.abs(image[..., 0] - 255 * (levels / white)).max() <= 1
        assert notes(tmp_path / str(white)) == []


def packed(samples, bits):
    """Rows of samples (H, W, C) of so many bits each, the highest first, each row filled up to whole bytes."""
    values = np.asarray(samples, np.int64).reshape(len(samples), -1, 1)
    rows = (values >> np.arange(bits)[::-1] & 1).reshape(len(samples), -1).astype(np.uint8)
    return [row.tobytes() for row in np.packbits(rows, axis=1)]


def png(pixels, colour, *chunks, bits=16):
    """A PNG of any depth, which Pillow does not write; `colour` as in its header."""
    height, width = pixels.shape[:2]
    rows = b"".join(b"\0" + row for row in packed(pixels, bits))
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + b"".join(chunks) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


@pytest.mark.parametrize(("colour", "channels"), [(2, 3), (6, 4), (4, 2)])
def test_colours_of_16_bits_are_read_where_all_are_used_and_else_refused(tmp_path, colour, channels):
    pixels = np.random.default_rng(0).integers(0, 1 << 16, (32, 32, channels), dtype=np.uint16)
    if channels in (2, 4):
        pixels[..., -1] = 65535
    expected = np.broadcast_to(pixels[..., :3] if channels > 2 else pixels[..., :1], (32, 32, 3)) >> 8
    assert np.array_equal(first(tmp_path / "full", png(pixels, colour)), expected)
    dark = pixels.copy()
    dark[..., : channels - (channels in (2, 4))] >>= 4
    put(made(tmp_path / "dark") / "train" / "ant" / "a.png", png(dark, colour))
    refused(tmp_path / "dark", "1 of 8 files", "(it uses 12 of 16 bits a colour, and Pillow reads the upper 8)")
    put(tmp_path / "full" / "test" / "ant" / "a.png", png(dark, colour))
    assert np.array_equal(load(tmp_path / "full").train_images[0], expected)


def test_a_clear_grey_level_of_16_bits_is_white(tmp_path):
    levels = np.full((32, 32, 1), 1000, np.uint16)
    levels[:16] = 2000
    image = first(tmp_path, png(levels, 0, chunk(b"tRNS", struct.pack(">H", 2000))))
    assert (np.unique(image[:12]).tolist(), np.unique(image[20:]).tolist()) == ([255], [1000 >> 4])
    assert "transparency in 1 image: put on white" in notes(tmp_path)


def test_what_is_lost_is_noted(tmp_path):
    assert notes(made(tmp_path)) == []
    ant = tmp_path / "train" / "ant"
    put(ant / "clear.png", encoded(Image.new("RGBA", (9, 9), (1, 2, 3, 254))))
    put(ant / "opaque.png", encoded(Image.new("RGBA", (9, 9), (1, 2, 3, 255))))
    palette = Image.new("P", (9, 9))
    palette.putpalette([*GREEN, *RED])
    put(ant / "palette.png", encoded(palette, transparency=b"\x80"))
    put(ant / "ink.jpg", encoded(Image.new("CMYK", (9, 9)), "JPEG"))
    put(ant / "film.gif", encoded(palette, "GIF", save_all=True, append_images=[Image.new("RGB", (9, 9), RED)]))
    assert sorted(notes(tmp_path)) == [
        "CMYK in 1 image: brought to RGB without a colour profile",
        "several frames in 1 image: the first is used",
        "transparency in 2 images: put on white",
    ]


def test_large_images_are_noted_with_their_size(tmp_path):
    def sizes():
        return [note for note in notes(tmp_path) if "pixel by pixel" not in note]

    made(tmp_path, (0, 0))
    for part in ("train", "test"):
        for name in ("ant", "bee"):
            put(tmp_path / part / name / "x.jpg", encoded(Image.new("RGB", (1024, 768), RED), "JPEG"))
            (tmp_path / part / name / "x.png").unlink(missing_ok=True)
    assert sizes() == ["images are 1024x768, brought to 32x32"]
    put(tmp_path / "train" / "ant" / "x.jpg", encoded(Image.new("RGB", (64, 400)), "JPEG"))
    assert sizes() == ["images are up to 1024x768, brought to 32x32"]
    for part, name in (("train", "bee"), ("test", "ant"), ("test", "bee")):
        put(tmp_path / part / name / "x.jpg", encoded(Image.new("RGB", (64, 400)), "JPEG"))
    assert sizes() == []


@pytest.mark.parametrize(("kind", "level"), [(np.float32, 1), (np.int32, -1), (np.int32, 1 << 16)])
def test_grey_of_an_unknown_white_is_refused(tmp_path, kind, level):
    put(made(tmp_path) / "train" / "bee" / "z.tif", encoded(np.full((4, 4), level, kind), "TIFF"))
    refused(
        tmp_path, "'train/bee/z.tif' (TIFF of values other than unsigned ones of at most 16 bits, which is not read)"
    )


def test_what_is_transparent_is_white(tmp_path):
    half = Image.new("RGBA", (32, 32), (*RED, 255))
    half.paste((*GREEN, 0), (0, 0, 16, 32))
    expected = np.full((32, 32, 3), RED)
    expected[:, :16] = WHITE
    assert np.array_equal(first(tmp_path / "png", encoded(half)), expected)
    assert np.array_equal(first(tmp_path / "webp", encoded(half, "WEBP", lossless=True)), expected)
    palette = Image.new("P", (32, 32), 1)
    palette.putpalette([*GREEN, *RED])
    palette.paste(0, (0, 0, 16, 32))
    assert np.array_equal(first(tmp_path / "index", encoded(palette, transparency=0)), expected)
    assert np.array_equal(first(tmp_path / "bytes", encoded(palette, transparency=b"\0\xff")), expected)
    assert np.array_equal(first(tmp_path / "gif", encoded(palette, "GIF", transparency=0)), expected)
    veil = first(tmp_path / "veil", encoded(Image.new("RGBA", (100, 50), (0, 0, 0, 51))))
    assert np.array_equal(np.unique(veil), [204])


@pytest.mark.parametrize(
    ("mode", "colour", "expected"),
    [
        *(("1", 1, WHITE), ("L", 77, (77, 77, 77)), ("LA", (77, 255), (77, 77, 77)), ("P", 0, GREEN)),
        *(("RGB", RED, RED), ("RGBA", (*RED, 255), RED)),
    ],
)
def test_every_mode_becomes_colour(tmp_path, mode, colour, expected):
    image = Image.new(mode, (40, 40), colour)
    if mode == "P":
        image.putpalette([*GREEN, *RED])
    assert np.array_equal(np.unique(first(tmp_path, encoded(image)).reshape(-1, 3), axis=0), [expected])


@pytest.mark.parametrize("form", ["GIF", "PNG", "WEBP", "TIFF"])
def test_the_first_frame_of_several(tmp_path, form):
    frames = [Image.new("RGB", (32, 32), colour) for colour in (RED, GREEN, BLUE)]
    options = {"lossless": True} if form == "WEBP" else {}
    content = encoded(frames[0], form, save_all=True, append_images=frames[1:], **options)
    assert Image.open(io.BytesIO(content)).n_frames == 3
    assert np.array_equal(np.unique(first(tmp_path, content).reshape(-1, 3), axis=0), [RED])


def test_a_damaged_second_frame_is_not_read(tmp_path):
    frames = [Image.fromarray(noise(at)).quantize(200) for at in range(2)]
    content = encoded(frames[0], "GIF", save_all=True, append_images=frames[1:])
    second = content.rindex(b"\x21\xf9")  # the control block of the second frame
    damaged = content[: second + 12]
    with pytest.raises((IndexError, struct.error)):
        Image.open(io.BytesIO(damaged)).seek(1)
    assert np.array_equal(first(tmp_path, damaged), frames[0].convert("RGB"))
    assert "several frames in 1 image: the first is used" in notes(tmp_path)


def test_the_ending_of_a_name_says_nothing(tmp_path):
    assert np.array_equal(first(tmp_path / "a", encoded(noise(5)), "image.jpg"), noise(5))
    assert np.array_equal(first(tmp_path / "b", encoded(noise(5)), "image"), noise(5))


def test_pillows_warnings_stay_inside(tmp_path, recwarn):
    content = encoded(noise(6))
    with_trash = content[:33] + chunk(b"acTL", struct.pack(">II", 0, 0)) + content[33:]
    with pytest.warns(UserWarning, match="Invalid APNG"):
        Image.open(io.BytesIO(with_trash))
    assert np.array_equal(first(tmp_path, with_trash), noise(6))
    assert not recwarn.list


# --- pixels known by construction -----------------------------------------------------------------------------------

BYTE_ORDERS = {"<": b"II*\0", ">": b"MM\0*"}
SIGNED, FLOAT = {339: [2]}, {339: [3]}


def backwards(data):
    return np.packbits(np.unpackbits(np.frombuffer(data, np.uint8), bitorder="little")).tobytes()


def tiff(samples, bits, photometric, order="<", deflate=False, tags=()):
    """A TIFF of samples (H, W, C), eight rows a strip; `tags` are further ones or other values, lists by number."""
    height, width, channels = samples.shape
    entries = {256: [width], 257: [height], 258: [bits] * channels, 259: [8 if deflate else 1], 262: [photometric]}
    entries |= {277: [channels], 278: [8]} | dict(tags)
    strips = []
    for plane in [samples] if entries.get(284) != [2] else np.split(samples, channels, axis=2):
        values = np.diff(plane, axis=1, prepend=0) if 317 in entries else plane  # a predictor
        kind = {1: "u", 2: "i", 3: "f"}[entries.get(339, [1])[0]]
        for part in np.split(values, height // 8):
            raw = b"".join(packed(part, bits)) if bits % 16 else part.astype(f"{order}{kind}{bits // 8}").tobytes()
            raw = zlib.compress(raw) if deflate else raw
            strips.append(backwards(raw) if entries.get(266) == [2] else raw)
    lengths = [len(strip) for strip in strips]
    entries |= {273: [8 + sum(lengths[:at]) for at in range(len(strips))], 279: lengths}
    data = b"".join(strips)
    data += bytes(len(data) % 2)
    fields, beside, end = b"", b"", 8 + len(data) + 2 + 12 * len(entries) + 4
    for tag, values in sorted(entries.items()):
        raw = struct.pack(f"{order}{len(values)}I", *values)
        place = struct.pack(f"{order}I", end + len(beside))
        fields += struct.pack(f"{order}HHI", tag, 4, len(values)) + (raw if len(values) == 1 else place)
        beside += raw if len(values) > 1 else b""
    directory = struct.pack(f"{order}H", len(entries)) + fields + bytes(4)
    return BYTE_ORDERS[order] + struct.pack(f"{order}I", 8 + len(data)) + data + directory + beside


def random(bits, channels=1, opaque=False):
    """Samples (32, 32, C) of so many bits, the first of them 0 and the last the largest; or with an opaque alpha."""
    samples = np.random.default_rng(bits).integers(0, 1 << bits, (32, 32, channels))
    samples[0, 0], samples[-1, -1] = 0, (1 << bits) - 1
    if opaque:
        samples[..., -1] = (1 << bits) - 1
    return samples


def in_colour(samples, bits):
    """Samples as 8 bits of red, green and blue."""
    levels = samples >> bits - 8 if bits >= 8 else samples * 255 // ((1 << bits) - 1)
    return np.broadcast_to(levels[..., :3] if levels.shape[2] > 2 else levels[..., :1], (32, 32, 3))


PALETTE = np.random.default_rng(1).integers(0, 256, (256, 3))


def colours(bits, scale=257):
    return {320: (PALETTE[: 1 << bits].T * scale).ravel().tolist()}


@pytest.mark.parametrize("order", BYTE_ORDERS)
@pytest.mark.parametrize("deflate", [False, True])
def test_a_tiff_is_read_as_it_was_written_or_refused(tmp_path, order, deflate):
    """Every photometric interpretation and depth, each in both byte orders."""
    grey = {bits: in_colour(random(bits), bits) for bits in (1, 2, 4, 8, 12, 16)}
    three, ink = random(8, 3), random(8, 4)
    printed = np.round((255 - ink[..., :3]) * (255 - ink[..., 3:]) / 255)
    read = {
        **{f"white is 0, {bits} bits": (255 - grey[bits], (random(bits), bits, 0)) for bits in (1, 2, 4, 8)},
        **{f"black is 0, {bits} bits": (grey[bits], (random(bits), bits, 1)) for bits in (1, 2, 4, 8, 16)},
        **{f"palette, {bits} bits": (PALETTE[random(bits)[..., 0]], (random(bits), bits, 3)) for bits in (1, 2, 4, 8)},
        **{f"RGB, {bits} bits": (in_colour(random(bits, 3), bits), (random(bits, 3), bits, 2)) for bits in (8, 16)},
        "CMYK": (printed, (ink, 8, 5)),
    }
    for name, (expected, content) in read.items():
        tags = colours(content[1]) if content[2] == 3 else {}
        image = first(tmp_path / name, tiff(*content, order, deflate, tags))
        assert np.abs(image - expected.astype(int)).max() <= (content[2] == 5), name
    never = {
        **{f"white is 0, {bits} bits": (random(bits), bits, 0, {}) for bits in (12, 16)},
        **{f"RGB, {bits} bits": (random(bits, 3), bits, 2, {}) for bits in (1, 2, 4, 12)},
        **{f"black is 0, {bits} bits": (random(16), bits, 1, {}) for bits in (24, 32)},
        **{f"signed, {bits} bits": (random(bits - 1), bits, 1, SIGNED) for bits in (8, 16)},
        "signed, 32 bits": (random(16), 32, 1, SIGNED),
        "floats": (random(1).astype(float), 32, 1, FLOAT),
        "half floats": (random(1).astype(float), 16, 1, FLOAT),
        "mask": (random(1), 1, 4, {}),
        "YCbCr": (three, 8, 6, {530: [1, 1]}),
        "CIELab": (three, 8, 8, {}),
        "ICCLab": (three, 8, 9, {}),
        "a palette of 8 bits": (random(8), 8, 3, colours(8, 1)),
        "inks that are not CMYK": (ink, 8, 5, {332: [2]}),
        "a fourth channel without a meaning": (ink, 8, 2, {}),
        "a grey alpha of white is 0": (random(8, 2, True), 8, 0, {338: [2]}),
    }
    for name, (samples, bits, photometric, tags) in never.items():
        put(
            made(tmp_path / "never") / "train" / "ant" / "a.tif", tiff(samples, bits, photometric, order, deflate, tags)
        )
        assert "8-bit PNG" in refused(tmp_path / "never", "1 of 8 files", "'train/ant/a.tif'"), name


@pytest.mark.parametrize("order", BYTE_ORDERS)
def test_a_tiff_of_12_bits_has_its_own_white(tmp_path, order):
    """Its white is 4095 whatever else is in the set, so that a class of such files is not darker than the others."""
    content = tiff(random(12), 12, 1, order)
    if order == ">":
        put(made(tmp_path) / "train" / "ant" / "a.tif", content)
        refused(tmp_path, "'train/ant/a.tif' (not an image that Pillow can open)")
        return
    assert np.array_equal(first(tmp_path, content), in_colour(random(12), 12))
    put(tmp_path / "train" / "bee" / "b.tif", tiff(random(16), 16, 1))
    assert np.array_equal(load(tmp_path).train_images[0], in_colour(random(12), 12))
    assert notes(tmp_path) == []


@pytest.mark.parametrize("order", BYTE_ORDERS)
@pytest.mark.parametrize("deflate", [False, True])
def test_a_tiff_in_other_arrangements(tmp_path, order, deflate):
    """Bits from the right, differences, separate planes and further channels."""
    planes, from_the_right, differences = {284: [2]}, {266: [2]}, {317: [2]}
    shown = {
        **{f"from the right, {bits} bits": (random(bits), bits, 0, from_the_right) for bits in (1, 2, 4)},
        "from the right": (random(8), 8, 1, from_the_right),
        "RGB from the right": (random(8, 3), 8, 2, from_the_right),
        "planes": (random(8, 3), 8, 2, planes),
        "an unused channel": (random(8, 4), 8, 2, {338: [0]}),
        "alpha": (random(8, 4, True), 8, 2, {338: [2]}),
        "16 bits and alpha": (random(16, 4, True), 16, 2, {338: [2]}),
        "multiplied by alpha": (random(8, 4, True), 8, 2, {338: [1]}),
        "grey and alpha": (random(8, 2, True), 8, 1, {338: [2]}),
    }
    hidden = {
        "grey planes": (random(8), 8, 0, planes),
        "palette planes": (random(8), 8, 3, planes | colours(8)),
        "CMYK planes": (random(16, 4), 16, 5, planes),
        "grey and alpha in planes": (random(8, 2, True), 8, 1, planes | {338: [2]}),
    }
    if deflate:
        shown |= {f"differences, {bits} bits": (random(bits, 3), bits, 2, differences) for bits in (8, 16)}
        shown |= {"planes of 16 bits": (random(16, 3), 16, 2, planes)}
    else:  # Pillow itself then reads the strips
        hidden |= {"planes of 16 bits": (random(16, 3), 16, 2, planes)}
        hidden |= {"planes from the right": (random(8, 3), 8, 2, planes | from_the_right)}
    for name, (samples, bits, photometric, tags) in shown.items():
        expected = in_colour(samples, bits)
        expected = expected if photometric else 255 - expected
        image = first(tmp_path / name, tiff(samples, bits, photometric, order, deflate, tags))
        assert np.array_equal(image, expected), name
    for name, (samples, bits, photometric, tags) in hidden.items():
        put(
            made(tmp_path / "never") / "train" / "ant" / "a.tif", tiff(samples, bits, photometric, order, deflate, tags)
        )
        assert "8-bit PNG" in refused(tmp_path / "never", "1 of 8 files", "'train/ant/a.tif'"), name


def test_a_colour_tiff_in_jpeg_compression(tmp_path):
    assert (
        np.abs(first(tmp_path, encoded(Image.new("RGB", (32, 32), RED), "TIFF", compression="jpeg")) - RED).max() <= 4
    )


@pytest.mark.parametrize(
    ("bits", "colour"),
    [*((bits, 0) for bits in (1, 2, 4, 8, 16)), *((bits, 3) for bits in (1, 2, 4, 8)), *((b, 2) for b in (8, 16))],
)
def test_a_png_is_read_as_it_was_written(tmp_path, bits, colour):
    samples = random(bits, 3 if colour == 2 else 1)
    palette = [chunk(b"PLTE", PALETTE[: 1 << bits].astype(np.uint8).tobytes())] if colour == 3 else []
    expected = PALETTE[samples[..., 0]] if colour == 3 else in_colour(samples, bits)
    assert np.array_equal(first(tmp_path / "plain", png(samples, colour, *palette, bits=bits)), expected)
    gamma = chunk(b"gAMA", struct.pack(">I", 100000))
    assert np.array_equal(first(tmp_path / "gamma", png(samples, colour, gamma, *palette, bits=bits)), expected)
    clear = samples[5, 5]  # this level or colour is transparent
    key = b"\xff" * int(clear[0]) + b"\0" if colour == 3 else struct.pack(f">{len(clear)}H", *clear)
    content = png(samples, colour, *palette, chunk(b"tRNS", key), bits=bits)
    if (bits, colour) in ((2, 0), (4, 0), (16, 2)):  # Pillow compares with the level before it is scaled
        put(made(tmp_path / "key") / "train" / "ant" / "a.png", content)
        refused(
            tmp_path / "key", "'train/ant/a.png' (PNG of 2, 4 or 16 bits with a transparent colour, which is not read)"
        )
    else:
        on_white = np.where((samples == clear).all(axis=2)[..., None], 255, expected)
        assert np.array_equal(first(tmp_path / "key", content), on_white)


@pytest.mark.parametrize("white", [1, 100, 255, 1000, 4095, 65535])
def test_a_netpbm_file_is_read_as_it_was_written(tmp_path, white):
    samples = np.random.default_rng(white).integers(0, white + 1, (32, 32, 3))
    for letters, values in (("P2P5", samples[..., :1]), ("P3P6", samples)):
        text = " ".join(map(str, values.ravel())).encode()
        for kind, body in ((letters[:2], text), (letters[2:], values.astype(">u2" if white > 255 else "u1").tobytes())):
            image = first(tmp_path / kind, f"{kind} 32 32 {white}\n".encode() + body)
            assert np.abs(image - values * 255 / white).max() <= 1


def test_a_netpbm_file_of_floats_is_refused(tmp_path):
    content = b"Pf 32 32 -1.0\n" + np.zeros((32, 32), "<f4").tobytes()
    put(made(tmp_path) / "train" / "ant" / "a.pfm", content)
    refused(tmp_path, "'train/ant/a.pfm' (its grey levels are not 8 or 16 bits)")


def bmp(bits, rows, masks=(), palette=b"", height=32):
    """A BMP; `rows` from the bottom up unless the height is negative."""
    fields = 32, height, 1, bits, 3 if masks else 0, len(rows), 0, 0, len(palette) // 4, 0
    header = struct.pack("<IiiHHIIiiII", 40, *fields) + struct.pack(f"<{len(masks)}I", *masks) + palette
    begin = 14 + len(header)
    return b"BM" + struct.pack("<IHHI", begin + len(rows), 0, 0, begin) + header + rows


def test_a_bmp_is_read_as_it_was_written(tmp_path):
    pixels, blue_first = noise(1), noise(1)[::-1, :, ::-1]
    assert np.array_equal(first(tmp_path / "24", bmp(24, blue_first.tobytes())), pixels)
    assert np.array_equal(first(tmp_path / "down", bmp(24, pixels[..., ::-1].tobytes(), height=-32)), pixels)
    padded = np.concatenate([blue_first, np.zeros((32, 32, 1), np.uint8)], axis=2).tobytes()
    assert np.array_equal(first(tmp_path / "32", bmp(32, padded)), pixels)
    assert np.array_equal(first(tmp_path / "masks", bmp(32, padded, (0xFF0000, 0xFF00, 0xFF))), pixels)
    for bits in (1, 4, 8):
        samples = random(bits)
        palette = np.pad(PALETTE[: 1 << bits, ::-1], ((0, 0), (0, 1))).astype(np.uint8).tobytes()
        content = bmp(bits, b"".join(packed(samples[::-1], bits)), palette=palette)
        assert np.array_equal(first(tmp_path / f"palette{bits}", content), PALETTE[samples[..., 0]])
    for green in (5, 6):
        red = green + 5
        whites = np.array([31, (1 << green) - 1, 31])
        levels = noise(2) * (whites / 255)
        levels = levels.astype(int)
        words = (levels[..., 0] << red | levels[..., 1] << 5 | levels[..., 2])[::-1].astype("<u2").tobytes()
        content = bmp(16, words, (31 << red, int(whites[1]) << 5, 31))
        assert np.abs(first(tmp_path / f"words{green}", content) - levels * 255 / whites).max() <= 1


def test_a_jpeg_of_four_inks_says_whether_they_are_inverted(tmp_path):
    ink = (40, 90, 200, 30)
    content = encoded(Image.new("CMYK", (32, 32), ink), "JPEG", quality=100)
    marker = content.index(b"Adobe")
    printed = [(255 - part) * (255 - ink[3]) / 255 for part in ink[:3]]
    assert np.abs(first(tmp_path / "cmyk", content) - printed).max() <= 2
    # The same stored levels as YCCK: the three first ones are luma and chroma of inverted inks.
    luma, blue, red, black = (255 - part for part in ink)
    inks = luma + np.array([1.402 * (red - 128), -0.344 * (blue - 128) - 0.714 * (red - 128), 1.772 * (blue - 128)])
    printed = (255 - np.clip(inks, 0, 255)) * black / 255
    content_ycck = content[: marker + 11] + b"\2" + content[marker + 12 :]
    assert np.abs(first(tmp_path / "ycck", content_ycck) - printed).max() <= 2
    put(made(tmp_path / "unmarked") / "train" / "ant" / "a.jpg", content[: marker - 4] + content[marker + 12 :])
    refused(tmp_path / "unmarked", "'train/ant/a.jpg' (CMYK JPEG without Adobe's marker, which is not read)")


@pytest.mark.parametrize("form", ["SGI", "PCX"])
def test_a_format_whose_pixels_are_untested_is_refused(tmp_path, form):
    put(made(tmp_path) / "train" / "ant" / "a.png", encoded(noise(0), form))
    refused(tmp_path, f"'train/ant/a.png' ({form}, which is not read)")


# --- damaged files --------------------------------------------------------------------------------------------------


def test_a_broken_image_is_named_and_all_are_counted(tmp_path):
    made(tmp_path)
    put(tmp_path / "train" / "bee" / "sub" / "bad.png", b"hello, this is text\n" * 20)
    message = refused(tmp_path, tmp_path, "1 of 8 files", "'train/bee/sub/bad.png' (not an image that Pillow can open)")
    assert "0x" not in message
    put(tmp_path / "test" / "ant" / "empty.jpg", b"")
    refused(tmp_path, "2 of 9 files", "'train/bee/sub/bad.png'", "'test/ant/empty.jpg' (0 bytes)")
    put(tmp_path / "train" / "ant" / "0.png", encoded(noise(0))[:1000])
    message = refused(tmp_path, "3 of 9 files", "'train/ant/0.png' (", "'train/bee/sub/bad.png'")
    assert "empty.jpg" not in message


@pytest.mark.parametrize(
    ("form", "options"),
    [
        *(("PNG", {}), ("JPEG", {}), ("JPEG", {"progressive": True}), ("GIF", {}), ("BMP", {}), ("PPM", {})),
        *(("WEBP", {}), ("WEBP", {"lossless": True}), ("TIFF", {})),
    ],
)
def test_a_truncated_image_is_refused(tmp_path, form, options):
    content = encoded(Image.fromarray(noise(0)).resize((200, 150)), form, **options)
    made(tmp_path)
    for kept in (len(content) - 5, len(content) * 2 // 3, len(content) // 3, 30):
        put(tmp_path / "test" / "bee" / "cut", content[:kept])
        refused(tmp_path, "1 of 8 files", "'test/bee/cut' (")
    put(tmp_path / "test" / "bee" / "cut", content)
    assert len(load(tmp_path).test_images) == 3


def test_one_wrong_bit_in_a_png_is_found(tmp_path):
    made(tmp_path)
    content = encoded(noise(0))
    data = content.index(b"IDAT") + 4
    for at in (20, data + 10, data + 1500, len(content) - 14):
        put(tmp_path / "train" / "bee" / "0.png", content[:at] + bytes([content[at] ^ 4]) + content[at + 1 :])
        refused(tmp_path, "1 of 7 files", "'train/bee/0.png' (")


def test_an_image_too_large_to_be_meant_is_refused(tmp_path, monkeypatch):
    made(tmp_path)
    for width, reason in ((1 << 14, "16384 x 4097 pixels"), (30_000, "exceeds limit"), (60_000, "exceeds limit")):
        header = struct.pack(">IIBBBBB", width, 4097, 8, 2, 0, 0, 0)
        chunks = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")
        put(tmp_path / "train" / "ant" / "bomb.png", b"\x89PNG\r\n\x1a\n" + chunks)
        refused(tmp_path, "'train/ant/bomb.png' (", reason)
    monkeypatch.setattr(module, "_MOST_PIXELS", 32 * 32)
    put(tmp_path / "train" / "ant" / "bomb.png", encoded(noise(0, (33, 32, 3))))
    refused(tmp_path, "1 of 8 files", "'train/ant/bomb.png' (32 x 33 pixels)")


def test_a_file_too_large_to_be_meant_is_not_read(tmp_path):
    path = put(made(tmp_path) / "train" / "ant" / "film.png", b"")
    os.truncate(path, (1 << 29) + 1)  # sparse: it takes no room
    refused(tmp_path, "'train/ant/film.png' (536870913 bytes)")


def test_what_is_no_file_is_refused_at_once(tmp_path):
    made(tmp_path)
    ant = tmp_path / "train" / "ant"
    os.mkfifo(ant / "pipe.png")
    refused(tmp_path, "1 of 8 files", "'train/ant/pipe.png' (not a file, or a broken link)")
    (ant / "pipe.png").unlink()
    for target in ("/dev/zero", "nowhere.png", "loop.png"):
        (ant / "loop.png").symlink_to(target)
        refused(tmp_path, "1 of 8 files", "'train/ant/loop.png' (not a file, or a broken link)")
        (ant / "loop.png").unlink()
    assert len(load(tmp_path).train_images) == 5


def test_a_file_that_cannot_be_opened_is_named(tmp_path, monkeypatch):
    def fails(path):
        raise PermissionError(13, "Permission denied", str(path))

    made(tmp_path)
    monkeypatch.setattr(Path, "read_bytes", fails)
    refused(tmp_path, "7 of 7 files", "'train/ant/0.png' (Permission denied), 'train/ant/1.png' (Permission denied)")


def test_a_postscript_program_is_not_run(tmp_path, monkeypatch):
    def ran(*args, **options):
        raise AssertionError("a program was run")

    content = encoded(Image.new("RGB", (40, 40), RED), "EPS")
    monkeypatch.setattr(EpsImagePlugin, "gs_binary", "gs")
    monkeypatch.setattr(subprocess, "check_call", ran)
    with pytest.raises(AssertionError, match="was run"), Image.open(io.BytesIO(content)) as image:
        image.load()
    put(made(tmp_path) / "train" / "ant" / "a.png", content)
    refused(tmp_path, "'train/ant/a.png' (EPS, which is not read)")


def test_an_error_without_words_is_called_by_its_kind(tmp_path, monkeypatch):
    def fails(*_):
        raise MemoryError

    made(tmp_path)
    monkeypatch.setattr(ImageFile.ImageFile, "load", fails)
    refused(tmp_path, "'train/ant/0.png' (MemoryError)")


@pytest.mark.parametrize(("name", "shown"), [("a\nb.png", r"a\nb.png"), (os.fsdecode(b"a\xff.png"), r"a\udcff.png")])
def test_a_name_that_cannot_be_printed_is_read_and_named(tmp_path, name, shown):
    path = put(made(tmp_path) / "train" / "ant" / name, encoded(noise(9)))
    assert np.array_equal(load(tmp_path).train_images[3], noise(9))
    path.write_bytes(b"text")
    refused(tmp_path, f"'train/ant/{shown}'")


# --- other layouts --------------------------------------------------------------------------------------------------


def test_a_folder_that_is_not_there(tmp_path):
    refused(tmp_path / "pets", tmp_path / "pets", "no such folder")
    put(tmp_path / "file", b"")
    refused(tmp_path / "file", tmp_path / "file", "no such folder")
    refused("~no-such-user/pets", "~no-such-user/pets", "no such folder")


def test_missing_parts(tmp_path):
    refused(tmp_path, tmp_path, "no train/")
    made(tmp_path, test="tests")
    refused(tmp_path, tmp_path, "no test/ and no val/")
    (tmp_path / "tests").rename(tmp_path / "val")
    assert len(load(tmp_path).test_images) == 2


def test_an_image_outside_the_class_folders(tmp_path):
    made(tmp_path)
    for part in ("train", "test"):
        path = put(tmp_path / part / "stray.png", encoded(noise(0)))
        refused(tmp_path, tmp_path, f"'{part}/stray.png' is not in a class folder")
        path.unlink()
    assert len(load(tmp_path).train_images) == 5


def test_a_class_without_images(tmp_path):
    made(tmp_path)
    for part in ("train", "test"):
        put(tmp_path / part / "cow" / "deep" / ".hidden.png", encoded(noise(0)))
        refused(tmp_path, tmp_path, f"no images in '{part}/cow'")
        put(tmp_path / part / "cow" / "deep" / "seen.png", encoded(noise(0)))
    assert load(tmp_path).class_names == ("ant", "bee", "cow")


def test_classes_in_one_part_only(tmp_path):
    made(tmp_path, (3, 2, 2))
    (tmp_path / "test" / "bee").rename(tmp_path / "test" / "Bee")
    refused(tmp_path, tmp_path, "2 classes in one part only: 'Bee' is not in train/, 'bee' is not in test/")
    (tmp_path / "test").rename(tmp_path / "val")
    refused(tmp_path, "'bee' is not in val/")
    for number in range(9):
        put(tmp_path / "train" / f"A{number}" / "x.png", encoded(noise(0)))
    message = refused(tmp_path, "11 classes", "'A0' is not in val/, 'A1' is not in val/, 'A2' is not in val/")
    assert "A3" not in message


@pytest.mark.parametrize(("counts", "words"), [((3,), "1 classes in train/: 'ant'"), ((), "0 classes in train/")])
def test_fewer_than_two_classes(tmp_path, counts, words):
    (tmp_path / "train").mkdir()
    (tmp_path / "test").mkdir()
    refused(made(tmp_path, counts), tmp_path, words)


@pytest.mark.parametrize("target", [".", "..", "../..", "deep"])
def test_a_circle_of_links(tmp_path, target):
    folder = made(tmp_path / "pets")
    (folder / "train" / "bee" / "deep").mkdir()
    (folder / "train" / "bee" / "deep" / "round").symlink_to(folder / "train" / "bee" / target)
    refused(folder, f"'{folder / 'train' / 'bee' / 'deep' / 'round'}' is a link to a folder that contains it")


@pytest.mark.parametrize("name", ["iterdir", "is_dir"])
@pytest.mark.parametrize("place", ["pets", "pets/train", "pets/test", "pets/train/bee", "pets/train/bee/sub"])
def test_a_folder_that_cannot_be_read_at_any_depth(tmp_path, monkeypatch, place, name):
    real = getattr(Path, name)

    def fails(path):
        if path == tmp_path / place:
            raise PermissionError(13, "Permission denied", str(path))
        return real(path)

    put(made(tmp_path / "pets") / "train" / "bee" / "sub" / "x.png", encoded(noise(0)))
    monkeypatch.setattr(Path, name, fails)
    message = refused(tmp_path / "pets", f"'{tmp_path / place}' cannot be read: Permission denied")
    assert message.endswith("make it readable, or use a copy that is")


@pytest.mark.parametrize(
    ("train", "test", "codes"),
    [
        ("caf\u00e9", "cafe\u0301", r"'cafe\u0301' and 'caf\xe9'"),
        ("\u1112\u1161\u11ab", "\ud55c", r"'\u1112\u1161\u11ab' and '\ud55c'"),
    ],
)
def test_names_that_look_the_same_are_told_apart(tmp_path, train, test, codes):
    made(tmp_path)
    put(tmp_path / "train" / train / "x.png", encoded(noise(0)))
    put(tmp_path / "test" / test / "x.png", encoded(noise(0)))
    message = refused(tmp_path, "2 classes in one part only")
    assert f"{codes} look the same and differ in Unicode normalisation (NFC, NFD)" in message
    (tmp_path / "test" / test).rename(tmp_path / "test" / "CAF\u00c9")
    assert "normalisation" not in refused(tmp_path, "2 classes in one part only")


def test_a_class_name_that_cannot_be_printed(tmp_path):
    made(tmp_path)
    for part in ("train", "test"):
        put(tmp_path / part / "\x1b[31m" / "x.png", encoded(noise(0)))
    refused(tmp_path, tmp_path, "class names")
