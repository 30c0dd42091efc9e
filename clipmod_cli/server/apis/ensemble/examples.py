"""Answers to pictures, as the document prints them, for the description of the API."""

from __future__ import annotations

from typing import Any, Final

EXTRAS: Final[dict[str, Any]] = {
    "needs_review": False,
    "degraded": False,
    "unsafe_score": 0.87,
    "threshold": 0.5,
    "policy": "female-presence",
    "kind": "image",
    "truncated": False,
    "sha256": "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
    "width": 1200,
    "height": 800,
    "format": "JPEG",
}
"""What clipmod adds to each picture's answer."""

SINGLE: Final[dict[str, Any]] = {
    "image": "example_image.jpg",
    "results": {
        "triple_ensemble": {
            "image_name": "example_image.jpg",
            "final_decision": "NSFW",
            "confidence": 0.87,
            "processing_time_ms": 1250.5,
            "models_used": ["ViT-L-14", "ViT-H-14", "ViT-g-14"],
            "per_model_predictions": {
                "ViT-L-14": {
                    "predicted_category": "female_present",
                    "confidence": 0.89,
                    "category_probabilities": {
                        "male_only": 0.12,
                        "female_present": 0.89,
                        "adult_object": 0.03,
                    },
                    "inference_time_ms": 420.3,
                },
                "ViT-H-14": {
                    "predicted_category": "female_present",
                    "confidence": 0.85,
                    "category_probabilities": {
                        "male_only": 0.15,
                        "female_present": 0.85,
                        "adult_object": 0.05,
                    },
                    "inference_time_ms": 380.7,
                },
                "ViT-g-14": {
                    "predicted_category": "female_present",
                    "confidence": 0.82,
                    "category_probabilities": {
                        "male_only": 0.18,
                        "female_present": 0.82,
                        "adult_object": 0.07,
                    },
                    "inference_time_ms": 449.5,
                },
            },
            "ensemble_prediction": {
                "predicted_category": "female_present",
                "confidence": 0.87,
                "safety_decision": "UNSAFE",
                "ensemble_method": "weighted_average",
                "model_agreement": 0.85,
                "category_ensemble_probabilities": {
                    "male_only": 0.15,
                    "female_present": 0.87,
                    "adult_object": 0.05,
                },
                "unsafe_score": 0.87,
            },
        }
    },
    "final_decision": "NSFW",
    "confidence": 0.87,
    "total_time_ms": 1250.5,
    "ensemble_category": "female_present",
    "models_used": ["ViT-L-14", "ViT-H-14", "ViT-g-14"],
    "prediction_file": "predictions/example_image_prediction.json",
    "image_hosted": True,
    "image_url": "http://localhost:8000/image/abc123def456",
    "image_id": "abc123def456",
    "image_expires_hours": 24,
    "image_size_mb": 2.3,
    **EXTRAS,
}

MULTI: Final[dict[str, Any]] = {
    "predictions": [
        {
            "image": "image2.png",
            "results": {
                "triple_ensemble": {
                    "final_decision": "NSFW",
                    "confidence": 0.78,
                    "ensemble_prediction": {
                        "predicted_category": "female_present",
                        "safety_decision": "UNSAFE",
                        "confidence": 0.78,
                    },
                }
            },
            "final_decision": "NSFW",
            "confidence": 0.78,
            "ensemble_category": "female_present",
            "total_time_ms": 1245.7,
            "models_used": ["ViT-L-14", "ViT-H-14", "ViT-g-14"],
            "image_hosted": True,
            "image_url": "http://localhost:8000/image/ghi789jkl012",
            "image_id": "ghi789jkl012",
            **EXTRAS,
        }
    ],
    "summary": {
        "total_images": 1,
        "nsfw_images": 1,
        "safe_images": 0,
        "total_time_ms": 1245.7,
        "average_time_per_image_ms": 1245.7,
        "errors": None,
    },
}

URLS: Final[dict[str, Any]] = {
    "predictions": [
        {
            "url": "https://example.com/image2.png",
            "image": "image2.png",
            "results": {
                "triple_ensemble": {
                    "final_decision": "NSFW",
                    "confidence": 0.78,
                    "ensemble_prediction": {
                        "predicted_category": "female_present",
                        "safety_decision": "UNSAFE",
                        "confidence": 0.78,
                    },
                }
            },
            "final_decision": "NSFW",
            "confidence": 0.78,
            "ensemble_category": "female_present",
            "total_time_ms": 1445.7,
            "models_used": ["ViT-L-14", "ViT-H-14", "ViT-g-14"],
            "image_hosted": True,
            "image_url": "http://localhost:8000/image/abc123def456",
            "image_id": "abc123def456",
            **EXTRAS,
        }
    ],
    "summary": {
        "total_images": 1,
        "nsfw_images": 1,
        "safe_images": 0,
        "total_time_ms": 1445.7,
        "average_time_per_image_ms": 1445.7,
        "errors": None,
    },
}

PROBLEM: Final[dict[str, Any]] = {"detail": "File too large. Maximum size: 50MB"}

URL_REQUEST: Final[dict[str, Any]] = {
    "urls": ["https://example.com/image1.jpg", "https://example.com/image2.png"]
}
