"""Manners: nothing on stderr, nothing global left changed, also in threads."""

import errno
import os
import subprocess
import sys
import threading
import warnings
from concurrent.futures import ThreadPoolExecutor

import pytest
from PIL import Image, PngImagePlugin

import bad_images
from bad_images import encode, photo
from quadtok.errors import ImageError
from quadtok.images import decode_image, read_image


def refusal(path):
    with pytest.raises(ImageError) as caught:
        read_image(path)
    return str(caught.value)


def test_libtiffs_complaints_do_not_reach_stderr_which_works_afterwards(tmp_path, capfd):
    path = bad_images.tiff_with_damaged_lzw(tmp_path)
    with ThreadPoolExecutor(4) as pool:
        said = list(pool.map(lambda _: refusal(path), range(20)))
    assert set(said) == {f"{path}: broken image data"}
    os.write(2, b"still here")
    assert capfd.readouterr().err == "still here"


def test_no_file_descriptor_is_left_open(tmp_path):
    path = bad_images.tiff_with_damaged_lzw(tmp_path)
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(5):
        refusal(path)
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_tiff_is_read_where_no_further_descriptor_can_be_had_and_leaves_none_open(monkeypatch):
    data, before = encode(photo(), "TIFF"), len(os.listdir("/proc/self/fd"))

    def no_more(*arguments, **options):
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    with monkeypatch.context() as patched:
        patched.setattr(os, "open", no_more)
        decode_image(data, "x.tif")
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_tiff_is_read_where_there_is_no_stderr(tmp_path):
    path = tmp_path / "x.tif"
    path.write_bytes(encode(photo(), "TIFF", compression="tiff_lzw"))
    script = (
        "import os, sys; os.close(2); from quadtok.images import read_image; print(read_image(sys.argv[1]).image.size)"
    )
    ran = subprocess.run([sys.executable, "-c", script, str(path)], stdout=subprocess.PIPE, text=True, timeout=60)
    assert ran.stdout == "(64, 48)\n"


def test_reading_in_threads_leaves_the_warning_filters_and_pillows_limit_alone(monkeypatch):
    # The first thread ends while the second is still inside: each would put back what it found.
    first_in, second_in, first_out = threading.Event(), threading.Event(), threading.Event()
    load = PngImagePlugin.PngImageFile.load

    def slow_load(image):
        if threading.current_thread().name == "first":
            first_in.set()
            assert second_in.wait(10)
        else:
            second_in.set()
            assert first_out.wait(10)
        return load(image)

    data = encode(photo(), "PNG")
    filters, limit = list(warnings.filters), Image.MAX_IMAGE_PIXELS
    monkeypatch.setattr(PngImagePlugin.PngImageFile, "load", slow_load)
    first, second = (threading.Thread(target=decode_image, args=(data, "x"), name=name) for name in ("first", "second"))
    first.start()
    assert first_in.wait(10)
    second.start()
    first.join()
    first_out.set()
    second.join()
    assert warnings.filters == filters
    assert limit == Image.MAX_IMAGE_PIXELS
