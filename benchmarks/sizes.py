"""Parameters and multiply-adds of the backbones with and without MoTo, beside the paper's Table 2.

    python benchmarks/sizes.py                          # every backbone, about a minute
    python benchmarks/sizes.py --models DeiT-S          # some of them
    python benchmarks/sizes.py --page docs/sizes.md     # write the page that the documentation shows

Everything is built on the meta device at 224×224 with 1,000 classes and counted by `assembly.check`, as
`ablator plan` does: nothing is trained and no weight is drawn.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ablator.assembly.check import Size, check
from ablator.contracts.protocols import DataInfo
from ablator.plan.spec import TrialSpec

IMAGENET = DataInfo(
    name="ImageNet-1k",
    classes=tuple(str(index) for index in range(1000)),
    train_size=1_281_167,
    val_size=50_000,
    fingerprint="",
    licence="",
    mean=(0.485, 0.456, 0.406),
    std=(0.229, 0.224, 0.225),
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Printed:
    """One backbone of arXiv 2212.11115, Table 2: parameters in millions, multiply-adds in billions."""

    timm: str
    """Its name, as `model.name` takes it."""
    parameters: float
    gmacs: float
    moto_parameters: float
    """The same backbone with the paper's MoTo."""
    moto_gmacs: float
    stages: int = 1
    """Embeddings that MoTo can follow."""
    stem: bool = True
    """Whether the tokenizer is a convolution, which MoTo's stem can take the place of."""


def _printed(
    timm: str,
    baseline: tuple[float, float],
    moto: tuple[float, float],
    *,
    stages: int = 1,
    stem: bool = True,
) -> Printed:
    return Printed(
        timm=timm,
        parameters=baseline[0],
        gmacs=baseline[1],
        moto_parameters=moto[0],
        moto_gmacs=moto[1],
        stages=stages,
        stem=stem,
    )


PAPER: dict[str, Printed] = {
    "DeiT-S": _printed("deit_small_patch16_224", (22.1, 4.6), (22.5, 4.8)),
    "DeiT-B": _printed("deit_base_patch16_224", (86.6, 17.6), (86.9, 17.9)),
    "T2T-ViT-14": _printed("t2t_vit_14", (21.5, 5.2), (21.8, 5.4), stem=False),
    "PVT-Small": _printed("pvt_small", (24.5, 3.8), (24.7, 4.0), stages=4),
    "PVT-Medium": _printed("pvt_medium", (44.2, 6.7), (44.5, 6.9), stages=4),
    "Swin-T": _printed("swin_tiny_patch4_window7_224", (28.3, 4.5), (28.6, 4.7), stages=4),
    "Swin-S": _printed("swin_small_patch4_window7_224", (49.6, 8.7), (49.9, 8.9), stages=4),
    "PVTv2-B2": _printed("pvt_v2_b2", (25.4, 4.0), (25.6, 4.2), stages=4),
}

POST: dict[str, dict[str, Any]] = {
    "layout only": {"value": False},
    "layout, self-sampling": {"value": False, "self_sampling": True},
    "default": {},
    "self-sampling": {"self_sampling": True},
}
"""What MoTo is made of: the layout's filters alone, with the sampling branch, with the value convolution
(the project's default), with both."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Row:
    """One line of the table."""

    backbone: str
    moto: str
    """Placement and parts; `none` is the baseline."""
    settings: dict[str, Any] | None
    """The spec's section `moto`."""
    parameters: float
    """Millions, of the deployed model."""
    gmacs: float
    """Billions of multiply-adds for one image."""
    added_parameters: float
    """Millions beyond the baseline."""
    added_gmacs: float
    paper_parameters: float
    paper_gmacs: float
    paper_added_parameters: float
    """Difference of the two printed values."""
    paper_added_gmacs: float

    def cells(self) -> list[str]:
        """The table's cells, as text."""
        baseline = self.settings is None
        return [
            self.backbone,
            self.moto,
            f"{self.parameters:.3f}",
            f"{self.paper_parameters:.1f}",
            f"{self.parameters - self.paper_parameters:+.3f}",
            "" if baseline else f"{self.added_parameters:+.3f}",
            "" if baseline else f"{self.paper_added_parameters:+.1f}",
            f"{self.gmacs:.3f}",
            f"{self.paper_gmacs:.1f}",
            f"{self.gmacs - self.paper_gmacs:+.3f}",
            "" if baseline else f"{self.added_gmacs:+.3f}",
            "" if baseline else f"{self.paper_added_gmacs:+.1f}",
        ]


HEADER = (
    "backbone",
    "MoTo",
    "params M",
    "paper",
    "difference",
    "added M",
    "paper",
    "GMACs",
    "paper",
    "difference",
    "added G",
    "paper",
)


def variants(stages: int, stem: bool) -> dict[str, dict[str, Any] | None]:
    """Row name to the section `moto`, for a backbone with so many embeddings, with or without a stem."""
    found: dict[str, dict[str, Any] | None] = {"none": None}
    for name, settings in POST.items():
        found[f"post, {name}"] = settings
    if stages > 1:
        for name, settings in POST.items():
            found[f"post, all stages, {name}"] = {"stages": "all", **settings}
    if stem:
        found["stem"] = {"placement": "stem"}
    return found


def size_of(timm: str, moto: dict[str, Any] | None) -> Size:
    """The size of one model at 224×224 with 1,000 classes."""
    document: dict[str, Any] = {"data": {"image_size": 224}, "model": {"name": timm}}
    if moto is not None:
        # A section without keys would mean that MoTo is off.
        document["moto"] = {"n": 8, **moto}
    return check(TrialSpec.from_json(document), IMAGENET)


def rows(backbone: str) -> list[Row]:
    """Every line of one backbone, the baseline first."""
    paper = PAPER[backbone]
    made: list[Row] = []
    for name, settings in variants(paper.stages, paper.stem).items():
        size = size_of(paper.timm, settings)
        parameters, gmacs = size.parameters / 1e6, size.gmacs
        made.append(
            Row(
                backbone=backbone,
                moto=name,
                settings=settings,
                parameters=parameters,
                gmacs=gmacs,
                added_parameters=parameters - made[0].parameters if made else 0.0,
                added_gmacs=gmacs - made[0].gmacs if made else 0.0,
                paper_parameters=paper.moto_parameters if made else paper.parameters,
                paper_gmacs=paper.moto_gmacs if made else paper.gmacs,
                paper_added_parameters=paper.moto_parameters - paper.parameters,
                paper_added_gmacs=paper.moto_gmacs - paper.gmacs,
            )
        )
    return made


def markdown(lines: Sequence[Sequence[str]]) -> str:
    """A Markdown table; the first two columns are text, the others numbers."""
    rule = ["---", "---"] + ["---:"] * (len(lines[0]) - 2)
    return "".join(f"| {' | '.join(line)} |\n" for line in [lines[0], rule, *lines[1:]])


def table(found: Sequence[Row]) -> str:
    """The table of these rows."""
    return markdown([HEADER, *(row.cells() for row in found)])


CONVENTIONS = """\
Parameters are those of the deployed model: MoTo is in them, decoders that only training needs
(TokenProp) are not. Multiply-adds are what papers print under "GFLOPs": the 4.6 of DeiT-S are 4.6
billion multiply-adds, 9.2 billion floating-point operations. They are for one 224×224 image in
inference, where self-sampling is switched off, so that it adds parameters and no multiply-adds. The
counter is torch's `FlopCounterMode` over one forward pass on the meta device, halved. It sees matrix
products and convolutions, those of attention (written out for the count) and of MoTo's statistics
included; it does not see normalisation, softmax, activations, additions, pooling, and the element-wise
part of MoTo."""

DIFFERENCES = """\
All baselines round to what the paper prints, but for the multiply-adds of T2T-ViT-14: 5.2 is what the
repository of its authors gave until June 2021 and then corrected to 4.8, for the same weights. With MoTo
ours differ, because the paper publishes neither where MoTo sits nor what it is made of. It prints 0.2 to
0.4M more parameters on every backbone, whether the first embedding is 64 channels wide or 768, and
nothing whose size follows that width C does that: `post` costs n·C for the layout, C²/4 for
self-sampling and C² for the value convolution, which is too little behind a narrow first embedding
(Swin, PVT, PVTv2) and too much on a wide one (DeiT-B) or over four stages. The layout with
self-sampling over all stages comes near on Swin (+0.230M for a printed 0.3) and not on DeiT-S (+0.046M
for 0.4). `stem` is the reading that fits DeiT-S, the backbone of the paper's other tables: a projection
in two convolutions with MoTo on the 112 channels between them, 22.465M and 4.746 GMACs for a printed
22.5M and 4.8. Its second convolution is as wide as the embedding (DeiT-B: +0.807M for 0.3), and where
the first stride is 4 both are small (Swin, PVT, PVTv2). T2T-ViT's tokenizer is no convolution that a
stem could take the place of. Differences of two printed values carry the rounding of both, up to 0.1
either way."""


def page(found: Sequence[Row]) -> str:
    """The documentation page."""
    return (
        "<!-- Written by `python benchmarks/sizes.py --page docs/sizes.md`. -->\n"
        "# Parameters and multiply-adds\n\n"
        "The backbones at 224² with 1,000 classes, without MoTo and with it in every placement (n = 8),\n"
        "beside arXiv 2212.11115, Table 2. *Difference* is ours minus the paper's; *added* is beyond the\n"
        "same backbone without MoTo.\n\n"
        f"{table(found)}\n{CONVENTIONS}\n\n{DIFFERENCES}\n"
    )


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("--models", nargs="+", choices=list(PAPER), default=list(PAPER), help="backbones")
    parser.add_argument("--page", type=Path, help="also write the page with its explanations here")
    parser.add_argument("--output", type=Path, help="also write the rows as JSON here")
    options = parser.parse_args()
    found = [row for backbone in options.models for row in rows(backbone)]
    print(table(found), end="")
    if options.page is not None:
        options.page.write_text(page(found))
    if options.output is not None:
        options.output.write_text(json.dumps([dataclasses.asdict(row) for row in found], indent=1) + "\n")


if __name__ == "__main__":
    main()
