"""The panels that `--help` shows flags in, and what sentences of the library call them."""

from quadtok.jobs.words import Words

QUADTREE, PREPARE, OUTPUT, RUN, SAY = "Quadtree", "Preprocessing", "Output", "Running", "Reporting"

FLAGS = Words(
    output="--output",
    output_dir="--output-dir",
    overwrite="--overwrite",
    keep_ext="--keep-ext",
    relative_to="--relative-to",
    maps="--maps",
    precomputed="--scorer precomputed",
    points="--points",
    point="--scorer point",
    device="--device",
    image="--image",
    features="--features",
    against="--against",
    num_tokens="--tokens",
    threshold="--threshold",
    image_size="--image-size",
    min_patch="--min-patch",
    max_patch="--max-patch",
    scorer="--scorer",
    ray="--engine ray",
    layout_alone="--dtype none",
)
