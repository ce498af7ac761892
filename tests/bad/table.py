"""The 62 cases of hostile input (the conventions' list, E.3), and what quadtok does with each.

A number has as many rows as there are ways to meet it. Where quadtok is deliberately other than the list, a comment
says so.
"""

import math
import signal

import torch

import bad_images
import quadtok
from bad import inputs, processes, runs, tokens
from bad.rows import FAILED, Alone, Elsewhere, Image, Library, Processes, TokenFile
from bad_images import BOMBS, REFUSED, TO_UNSIGNED, UNSUPPORTED
from quadtok.storage.token_file import encode_tokens

Row = Image | TokenFile | Alone | Library | Elsewhere

SPEC = quadtok.Spec(64, 64, 16, 32, 7)
BOTH_WRITE = "{input} and {folder}/{other} would both write {out}.pt; use --keep-ext"
DECODERS = "tests/decoders/test_processes.py::"
NOT_OURS = "not a quadtok token file"


def tokenized(images):
    return quadtok.tokenize(images, SPEC, "blur")


def parent(path):
    return [path.parent]


def twice(path):
    return [path, path, path.parent / "." / path.name]


CASES: dict[int, tuple[str, list[Row]]] = {
    1: (
        "an image cut in half",
        [
            Image(bad_images.jpeg_cut_in_half, FAILED, "truncated image"),
            Image(bad_images.png_cut_in_half, FAILED, "truncated image"),
            Image(bad_images.gif_cut_in_half, FAILED, "truncated image"),
            Image(bad_images.jpeg2000_cut_in_half, FAILED, "truncated image"),
            Image(bad_images.webp_cut_in_half, FAILED, "broken image data"),  # no telling a cut from other damage
            Image(bad_images.tiff_cut_in_half, FAILED, "broken image data"),
        ],
    ),
    2: (
        "an image without its last bytes",
        [
            Image(bad_images.jpeg_without_its_last_two_bytes, FAILED, "truncated image"),
            Image(bad_images.avif_without_its_last_byte, FAILED, "truncated image"),
        ],
    ),
    3: ("a PNG without its end, whose pixels are complete", [Image(bad_images.png_without_its_end)]),
    4: (
        "damaged data",
        [
            Image(bad_images.png_with_a_flipped_byte, FAILED, "broken image data"),
            Image(bad_images.tiff_with_damaged_lzw, FAILED, "broken image data"),
            Image(bad_images.avif_with_damaged_pixels, FAILED, "broken image data"),
            Image(bad_images.png_without_rows, FAILED, "broken image data"),
            Image(bad_images.tiff_without_rows, FAILED, "broken image data: 16 × 0 pixels"),
            Image(bad_images.tiff_with_too_many_samples, FAILED, REFUSED[bad_images.tiff_with_too_many_samples]),
        ],
    ),
    5: ("an empty file", [Image(bad_images.empty, FAILED, "empty file")]),
    6: ("a text named .jpg", [Image(bad_images.text_named_jpg, FAILED, "not a supported image")]),
    7: ("a PNG named .jpg", [Image(bad_images.png_named_jpg)]),
    8: (
        "another format; Ghostscript is never started (tests/images)",
        [
            Image(make, FAILED, UNSUPPORTED)
            for make in (
                bad_images.svg,
                bad_images.eps,
                bad_images.psd,
                bad_images.pdf,
                bad_images.fits,
                bad_images.heic,
            )
        ],
    ),
    # The list has `--max-pixels` there; it is the library's sentence. Memory and time: tests/images.
    9: (
        "a file that announces more pixels than there is memory",
        [Image(make, FAILED, said) for make, said in BOMBS.items() if make != bad_images.png_of_108_megapixels],
    ),
    10: (
        "an image of which Pillow only warns",
        [Image(bad_images.png_of_108_megapixels, FAILED, BOMBS[bad_images.png_of_108_megapixels])],
    ),
    # Refused on the list; but the pixels are fine, and the text is not even inflated.
    11: ("a bomb in a text chunk", [Image(bad_images.png_with_a_text_bomb)]),
    12: (
        "a large legal image",
        [
            Image(inputs.jpeg_of_64_megapixels),
            Alone(runs.max_pixels, 1, "{photo}: 15 000 pixels exceed max_pixels 14 999"),
        ],
    ),
    13: ("a CMYK JPEG", [Image(bad_images.cmyk_jpeg)]),
    14: (
        "16-bit gray, scaled and not clipped (tests/images)",
        [
            Image(make)
            for make in (
                bad_images.gray16_png,
                bad_images.gray16_tiff,
                bad_images.gray16_tiff_turned,
                bad_images.gray16_pgm,
            )
        ],
    ),
    15: (
        "a TIFF of floats or 32-bit integers",
        [
            Image(bad_images.float_tiff, FAILED, f"a TIFF of 32-bit floating-point numbers {TO_UNSIGNED}"),
            Image(bad_images.int32_tiff, FAILED, f"a TIFF of 32-bit signed integers {TO_UNSIGNED}"),
        ],
    ),
    16: (
        "transparency, composited over --background (tests/images)",
        [Image(make) for make in (bad_images.rgba_png, bad_images.la_png, bad_images.palette_png_with_transparency)],
    ),
    17: ("an EXIF orientation, applied (tests/images)", [Image(inputs.turned(number)) for number in range(2, 9)]),
    18: (
        "a corrupt EXIF block",
        [
            Image(bad_images.jpeg_with_corrupt_exif, note="unreadable EXIF block, taken as upright"),
            Image(bad_images.jpeg_with_cut_exif, note="unreadable EXIF block, taken as upright"),
        ],
    ),
    19: (
        "several frames or pages",
        [
            *(Image(inputs.frames(name), note="first of 3 frames") for name in ("GIF", "WEBP", "PNG")),
            Image(inputs.tiff_of_three_pages, note="first of 3 frames"),
        ],
    ),
    20: ("one pixel, or one column", [Image(bad_images.one_pixel), Image(bad_images.one_by_96)]),
    21: ("a strip of 20000 × 1", [Image(bad_images.strip_of_20000)]),
    22: ("a folder named x.jpg", [Image(inputs.inside_a_folder_named_jpg, given=parent)]),
    23: (
        "no regular file, which is not even opened",
        [
            Image(make, FAILED, "not a regular file")
            for make in (bad_images.named_pipe, bad_images.socket, bad_images.device)
        ],
    ),
    24: (
        "links to nothing and in loops",
        [
            Image(bad_images.dangling_link, FAILED, "no such file"),
            Image(bad_images.link_to_itself, FAILED, "Too many levels of symbolic links"),
            Image(inputs.beside_a_loop_of_links, given=parent),
        ],
    ),
    25: ("no permission to read", [Alone(runs.no_permission, 1, "{photo}: permission denied")]),
    26: (
        "a file that vanishes or changes after it was found",
        [
            Alone(runs.a_file_that_vanishes, 1, "{photo}: no such file"),
            Alone(runs.a_file_that_changes, 0, "done: 1 written"),
        ],
    ),
    27: (
        "nothing found",
        [
            # Beside others it costs itself alone.
            Image(inputs.an_empty_folder, FAILED, "no images found in {input}"),
            Alone(runs.an_empty_folder, 2, "no images found in {folder}"),
            Alone(runs.a_glob_without_matches, 2, "no images match {folder}/*.jpg"),
        ],
    ),
    28: ("a missing path among good ones", [Image(inputs.gone, FAILED, "no such file")]),
    # The list has a link and what it leads to done once; two paths are two inputs here, and nobody's class is lost.
    29: (
        "one path given thrice; a link beside the file",
        [Image(inputs.small, given=twice), Image(inputs.link_to_another)],
    ),
    # The list ends the run; here both sides of a clash fail, and the others are done.
    30: (
        "one name in two folders",
        [
            Image(inputs.named("a/cat.png")),
            Image(inputs.named("b/cat.png")),
            Alone(runs.two_roots_with_one_name, 1, "{folder}/a/cat.png and {folder}/b/cat.png would both write"),
        ],
    ),
    31: (
        "two endings of one name",
        [
            Image(
                inputs.in_one_folder(mine),
                FAILED,
                BOTH_WRITE.replace("{other}", other),
            )
            for mine, other in (("cat.jpg", "cat.png"), ("cat.png", "cat.jpg"))
        ],
    ),
    32: (
        "names that differ in case, on a disk that ignores it",
        [Alone(runs.names_that_differ_in_case, 1, "would both write")],
    ),
    33: (
        "odd names (more ways: test_odd_names.py)",
        [
            *(Image(inputs.named(name)) for name in inputs.ODD_NAMES.values()),
            Alone(runs.a_leading_dash, 0, "done: 1 written"),
            Alone(runs.a_list_of_odd_names, 0, "done: 1 written"),
            Alone(runs.an_output_name_that_is_too_long, 1, "the name is too long for this disk"),
        ],
    ),
    34: ("the output is there, of the same settings", [Alone(runs.the_same_again, 0, "0 written, 1 skipped")]),
    35: (
        "the output is there, of other settings or somebody else's",
        [
            Alone(runs.other_settings, 1, "use --overwrite"),
            Alone(runs.a_foreign_output, 1, "use --overwrite"),
        ],
    ),
    36: (
        "an output that cannot be written",
        [
            Alone(runs.an_output_that_is_a_folder, 1, "is a folder, not a regular file"),
            Alone(runs.a_named_output_that_is_a_folder, 2, "output {folder} is a folder: use --output-dir"),
            Alone(runs.an_output_folder_that_is_a_file, 2, "{folder}/file is not a folder"),
            Alone(runs.a_read_only_folder, 1, "{folder}: no permission to write"),
        ],
    ),
    37: ("an output that is an input", [Alone(runs.an_output_that_is_an_input, 2, "is an input: choose another name")]),
    38: (
        "a full disk (a real one: test_full_disk.py)",
        [Alone(runs.a_full_disk, 1, "no space left on device")],
    ),
    39: (
        "Ctrl-C, once and twice",
        [
            Processes(processes.interrupted, 130, "run the same command to go on"),
            Processes(processes.interrupted_twice, -signal.SIGINT),  # which a shell shows as 130
        ],
    ),
    40: (
        "SIGTERM, SIGKILL and a power cut",
        [
            Processes(processes.terminated, 143, "run the same command to go on"),
            Processes(processes.killed, 0, "0 failed"),
            Elsewhere("tests/test_files.py::test_a_process_killed_at_any_moment_leaves_no_torn_file"),
        ],
    ),
    41: ("a closed stdout", [Processes(processes.a_closed_stdout, 1)]),
    42: (
        "a process that decodes and dies",
        [
            Elsewhere(DECODERS + "test_a_file_that_processes_die_of_is_named_and_the_others_lose_nothing"),
            Elsewhere(DECODERS + "test_a_file_at_which_a_process_was_killed_is_tried_once_more"),
            Elsewhere("tests/cli/test_workers.py::test_decoding_processes_that_are_killed_cost_no_file"),
        ],
    ),
    43: (
        "no memory on the GPU for a batch",
        [
            Elsewhere("tests/jobs/engines/test_threads.py::test_where_memory_runs_out_a_batch_is_halved"),
            Elsewhere("tests/jobs/engines/test_threads.py::test_an_image_that_does_not_fit_alone_fails_alone"),
        ],
    ),
    44: (
        "a device that is not there",
        [
            Alone(
                runs.tokenize_with("--device", "cuda:77"),
                2,
                "there is no such device here; there is ",
            ),
            Alone(runs.tokenize_with("--device", "tpu"), 2, "none of auto, cpu, cuda and cuda:N"),
        ],
    ),
    45: (
        "a geometry that no quadtree has, with the nearest that one has",
        [
            Alone(runs.tokenize_with("-n", "101"), 2, "each split adds 3. Try 100 or 103."),
            Alone(runs.tokenize_with("-n", "10"), 2, "num_tokens 10 is fewer than the 16 roots"),
            Alone(runs.tokenize_with("-n", "300"), 2, "num_tokens 300 is more than the 256 finest patches"),
            Alone(runs.tokenize_with("-s", "224"), 2, "use max_patch 32 or 56 with min_patch 14, or height 256"),
            Alone(runs.tokenize_with("--min-patch", "12"), 2, "use max_patch 48 or 96"),
        ],
    ),
    46: (
        "weights that are not here, and no network",
        [Alone(runs.no_weights_and_no_network, 2, "give its path as weights")],
    ),
    47: (
        "weights that are none, or of another model",
        [Alone(runs.weights_of(content), 2, "weights {folder}/weights.pt: not a") for content in (b"", b"text", None)],
    ),
    48: (
        "a map that is missing, of another size, or not finite",
        [
            Alone(runs.a_map(None), 1, "coffee.pt: no such file"),
            Alone(runs.a_map(lambda: torch.rand(5, 16, 16)), 1, "holds 5 scales, 2 can be split"),
            Alone(runs.a_map(lambda: torch.full((16, 16), math.nan)), 1, "holds NaN"),
        ],
    ),
    49: (
        "a .pt that is a program",
        [TokenFile(tokens.with_code, f"{NOT_OURS} (it holds more than plain tensors)")],
    ),
    50: (
        "a .pt that is torn, or something else",
        [
            TokenFile(tokens.cut, "damaged or cut short"),
            TokenFile(bytes, NOT_OURS, drawn="empty file"),
            TokenFile(tokens.a_jpeg, NOT_OURS, drawn=""),  # drawn as the image that it is
            TokenFile(tokens.a_bare_tensor, NOT_OURS),
            TokenFile(tokens.another_projects, NOT_OURS),
        ],
    ),
    51: (
        "a .pt that promises more than there is memory (memory and time: tests/storage/test_archive.py)",
        [
            TokenFile(tokens.without_a_step, f"{NOT_OURS} (its entries have other types)"),
            TokenFile(
                tokens.of_a_huge_grid,
                "its geometry is impossible: num_tokens 17 is fewer than the 250000000000 roots, the patches of size "
                "max_patch: use 250000000000 or 250000000003, or a larger max_patch",
            ),
            TokenFile(tokens.deflated, f"{NOT_OURS} (a compressed archive)"),
        ],
    ),
    52: (
        "a flipped bit",
        [TokenFile(tokens.with_a_flipped_bit, "checksum mismatch: the file was damaged after it was written")],
    ),
    53: (
        "tokens that are no tiling",
        [
            TokenFile(make, "tokens do not tile the image exactly once")
            for make in (tokens.overlapping, tokens.missing, tokens.out_of_the_grid)
        ],
    ),
    54: ("a newer format", [TokenFile(tokens.newer, "format version 2, this quadtok reads 1; upgrade it")]),
    55: ("a .pt saved on a GPU; a plain one", [TokenFile(tokens.from_a_gpu), TokenFile(tokens.good)]),
    56: (
        "features of other tokens",
        [
            Alone(runs.features_of(64, 5), 2, "[1, 64, 5]"),
            Alone(runs.features_of(101, 5), 2, "they still hold the cls token"),
            Alone(runs.features_of(2, 100, 5), 2, "there are 1 token files"),
        ],
    ),
    # Files of all sizes are in the one run; the library takes one size.
    57: (
        "a batch of images of another size",
        [
            Library(lambda: tokenized(torch.zeros(1, 3, 64, 80)), "images are 64×80 (height × width) and"),
            Library(lambda: tokenized([torch.zeros(3, 64, 64), torch.zeros(3, 64, 80)]), "give all of them one size"),
        ],
    ),
    # No image file holds such pixels. The library takes them, and stores none.
    58: (
        "pixels that are no numbers",
        [
            Library(lambda: tokenized(torch.full((1, 3, 64, 64), math.nan))),
            Library(lambda: encode_tokens(tokenized(torch.full((1, 3, 64, 64), math.nan))), "NaN"),
            Library(lambda: encode_tokens(tokenized(torch.full((1, 3, 64, 64), math.inf))), "NaN"),
        ],
    ),
    59: ("a flat image", [Image(inputs.flat), Alone(runs.flat_by_every_quadtree, 0, "done: 1 written")]),
    60: (
        "a torchvision of another torch",
        [Alone(runs.another_torchvision, 2, "torchvision does not fit torch")],
    ),
    61: ("two processes and one folder", [Processes(processes.two_processes, 0, "0 failed")]),
    62: (
        "a clock that is wrong, a tree that was copied",
        [
            Alone(runs.a_copied_tree, 0, "0 written, 1 skipped"),
            Alone(runs.a_set_back_clock, 0, "0 written, 1 skipped"),
        ],
    ),
}
