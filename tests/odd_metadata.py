"""What a token file may say of its making: as quadtok writes it, and as anybody may."""

GARBAGE = [
    None,
    True,
    0,
    -3,
    1e300,
    10**400,
    "",
    "x",
    "\ud800\x1b[31m",
    [],
    [1],
    [None] * 4,
    ["a"] * 4,
    {},
    {"name": 5},
]
WELL_FORMED = {
    "scorer": {"name": "blur", "radius": 2},
    "tokens_requested": "7",
    "threshold": -2,
    "source": {"name": "cat.jpg", "format": "JPEG", "size": [640, 480], "sha256": "ab" * 32},
    "preprocess": {
        "image_size": [64, 64],
        "fit": "squash",
        "background": "#00ff00",
        "exif": False,
        "draft": 4,
        "crop_box": [0, 0.5, 640, 480],
    },
}
