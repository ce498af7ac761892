"""Where a classifier looks: importance maps to choose tokens by, such as the paper's Grad-CAM oracle.

from quadtok.oracle import grad_cam
maps = grad_cam(model, images, size=(256, 256))
plan = get_quadtree()(get_scorer("precomputed", maps=maps)(images, spec), spec)
"""

from __future__ import annotations

from quadtok.oracle.cam import grad_cam
from quadtok.oracle.layers import default_layer

__all__ = ["default_layer", "grad_cam"]
