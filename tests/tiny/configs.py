"""What the three tiny models look like, in open_clip's own terms.

They differ where a backend can go wrong: picture size, patch, interpolation,
fit, normalisation, activation, head and MLP widths, context length.
"""

from __future__ import annotations

from typing import Any

VOCABULARY = 49_408
# open_clip's tokenizer numbers its end mark last, so every row must be there
HALF = [0.5, 0.5, 0.5]
OPENAI_MEAN = [0.48145466, 0.4578275, 0.40821073]
OPENAI_STD = [0.26862954, 0.26130258, 0.27577711]


def _preprocess(
    size: int, mean: list[float], std: list[float], interpolation: str, resize_mode: str
) -> dict[str, Any]:
    """Returns open_clip's `preprocess_cfg`; `size` in pixels."""
    return {
        "size": [size, size],
        "mode": "RGB",
        "mean": mean,
        "std": std,
        "interpolation": interpolation,
        "resize_mode": resize_mode,
        "fill_color": 0,
    }


CONFIGS: dict[str, dict[str, Any]] = {
    # like ViT-L-14 laion2b: normalised by halves, bicubic, centre crop
    "tiny-l": {
        "model_cfg": {
            "embed_dim": 32,
            "vision_cfg": {"image_size": 32, "layers": 3, "width": 64, "head_width": 32, "patch_size": 8},
            "text_cfg": {
                "context_length": 77,
                "vocab_size": VOCABULARY,
                "width": 16,
                "heads": 2,
                "layers": 1,
            },
        },
        "preprocess_cfg": _preprocess(32, HALF, HALF, "bicubic", "shortest"),
    },
    # another interpolation, and OpenAI's activation
    "tiny-h": {
        "model_cfg": {
            "embed_dim": 48,
            "quick_gelu": True,
            "vision_cfg": {"image_size": 48, "layers": 3, "width": 64, "head_width": 16, "patch_size": 12},
            "text_cfg": {
                "context_length": 32,
                "vocab_size": VOCABULARY,
                "width": 24,
                "heads": 2,
                "layers": 3,
            },
        },
        "preprocess_cfg": _preprocess(48, OPENAI_MEAN, OPENAI_STD, "bilinear", "shortest"),
    },
    # no crop but a squash; and as odd as ViT-g-14: neither heads nor MLP are round numbers
    "tiny-g": {
        "model_cfg": {
            "embed_dim": 64,
            "vision_cfg": {
                "image_size": 64,
                "layers": 3,
                "width": 66,
                "head_width": 22,
                "mlp_ratio": 4.3637,
                "patch_size": 16,
            },
            "text_cfg": {
                "context_length": 16,
                "vocab_size": VOCABULARY,
                "width": 16,
                "heads": 2,
                "layers": 1,
            },
        },
        "preprocess_cfg": _preprocess(64, OPENAI_MEAN, OPENAI_STD, "bicubic", "squash"),
    },
}
