"""Answers about the service, as the document prints them, for the description of the API."""

from __future__ import annotations

from typing import Any, Final

ROOT: Final[dict[str, Any]] = {
    "message": "NSFW Detection API",
    "version": "1.0.0",
    "status": "operational",
    "models_available": ["triple_ensemble", "openclip_fallback"],
    "endpoints": {
        "single_prediction": "/predict/single",
        "multi_prediction": "/predict/multi",
        "streaming_prediction": "/predict/streaming",
        "health_check": "/health",
        "configuration": "/config",
        "statistics": "/stats",
        "web_interface": "/ui",
    },
}

HEALTH: Final[dict[str, Any]] = {
    "status": "healthy",
    "timestamp": "2024-01-15T10:30:00Z",
    "models": {
        "status": {"triple_ensemble": True, "openclip_fallback": True},
        "details": {
            "triple_ensemble": {
                "loaded": True,
                "type": "Triple-Model Ensemble System",
                "models": ["ViT-L-14", "ViT-H-14", "ViT-g-14"],
                "weights": {"ViT-L-14": "40%", "ViT-H-14": "35%", "ViT-g-14": "25%"},
                "classification_categories": ["male_only", "female_present", "adult_object"],
                "ensemble_method": "weighted_average",
            },
            "openclip_fallback": {
                "loaded": True,
                "type": "OpenCLIP-L/14 - Fallback Model",
                "model_info": {"device": "cpu", "model_name": "ViT-L-14", "pretrained": "laion2b_s32b_b82k"},
            },
        },
        "total_enabled": 2,
        "judging": "triple_ensemble",
    },
    "database": {"connected": True, "ping_success": True, "response_time_ms": 15.2},
    "configuration": {
        "sensitivity_level": "medium",
        "nsfw_threshold": 0.5,
        "effective_threshold": 0.5,
        "enable_image_hosting": True,
        "image_expiry_hours": 24,
        "max_image_size_mb": 50,
        "policy": "female-presence",
    },
    "system": {"api_version": "1.0.0", "python_version": "3.11.0", "clipmod_version": "0.5.0"},
}

CONFIG: Final[dict[str, Any]] = {
    "triple_model_ensemble": {
        "enabled": True,
        "models": [
            {"name": "ViT-L-14", "weight": 0.4, "description": "Large Vision Transformer - Primary model"},
            {
                "name": "ViT-H-14",
                "weight": 0.35,
                "description": "Huge Vision Transformer - Enhanced accuracy",
            },
            {
                "name": "ViT-g-14",
                "weight": 0.25,
                "description": "Giant Vision Transformer - Maximum capacity",
            },
        ],
        "classification_categories": {
            "male_only": {"label": "male only", "safety": "SAFE", "description": "Single men without women"},
            "female_present": {
                "label": "female present",
                "safety": "UNSAFE",
                "description": "Any woman/girl detected",
            },
            "adult_object": {
                "label": "adult object",
                "safety": "UNSAFE",
                "description": "Explicit content or adult toys",
            },
        },
        "ensemble_method": "weighted_average",
        "confidence_threshold": 0.5,
        "agreement_threshold": 0.7,
    },
    "fallback_model": {
        "openclip_model_name": "ViT-L-14",
        "openclip_pretrained": "laion2b_s32b_b82k",
        "enabled": True,
    },
    "sensitivity_level": "medium",
    "nsfw_threshold": 0.5,
    "effective_threshold": 0.5,
    "enable_image_hosting": True,
    "image_expiry_hours": 24,
    "max_image_size_mb": 50,
    "max_total_request_size_mb": 1000,
    "database_connected": True,
    "policy": "female-presence",
    "limits": {
        "multi_files": 10,
        "multi_size_mb": 500,
        "urls": 10,
        "url_timeout_s": 30.0,
        "streaming_files": 2500,
        "streaming_size_mb": 1000,
        "deadline_s": 120.0,
        "requests_at_once": 64,
        "formats": ["jpg", "jpeg", "png", "bmp", "gif", "webp", "avif", "tiff"],
    },
}

STATS: Final[dict[str, Any]] = {
    "total_requests": 15420,
    "total_images_processed": 45680,
    "nsfw_detections": 12340,
    "safe_detections": 33340,
    "average_confidence": 0.78,
    "average_processing_time_ms": 1250.5,
    "models_usage": {"triple_ensemble": 15420, "openclip_fallback": 0},
    "error_rate": 0.02,
    "uptime_hours": 168.5,
    "database_stats": {
        "total_predictions_stored": 45680,
        "total_images_hosted": 12340,
        "database_size_mb": 245.6,
    },
    "performance_metrics": {
        "p95_processing_time_ms": 2100.0,
        "p99_processing_time_ms": 3500.0,
        "max_concurrent_requests": 25,
    },
}
