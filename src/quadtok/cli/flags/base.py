"""The panels that `--help` shows flags in."""

QUADTREE, PREPARE, OUTPUT, RUN, SAY = "Quadtree", "Preprocessing", "Output", "Running", "Reporting"
