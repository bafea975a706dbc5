"""Parameters and multiply-adds of every backbone and of what studies put into it, beside the papers'.

    python benchmarks/fidelity.py                            # every backbone, about a minute
    python benchmarks/fidelity.py --models DeiT-S            # some of them
    python benchmarks/fidelity.py --page docs/fidelity.md    # write the page that the documentation shows

Counted as in benchmarks/sizes.py: on the meta device, at 224×224 with 1,000 classes.
"""

from __future__ import annotations

import argparse
import dataclasses
import typing
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sizes import IMAGENET, markdown

from ablator.assembly.check import Size, check
from ablator.components.settings import TokenizerSettings
from ablator.errors import SeamError
from ablator.plan.spec import TrialSpec


@dataclasses.dataclass(frozen=True, kw_only=True)
class Published:
    """A backbone and what its original and arXiv 2212.11115 print."""

    model: dict[str, Any]
    """The spec's section `model`."""
    original: tuple[float, float] | None
    """Parameters in millions and multiply-adds in billions, as its authors print them."""
    tokenizer: dict[str, Any] | None = None
    """Its own tokenizer, where that is a component here."""
    moto: dict[str, Any] | None = None
    """Where moto_backbones.yaml puts MoTo."""
    printed_moto: tuple[float, float] | None = None
    """With MoTo, by arXiv 2212.11115, Table 2."""
    printed: dict[str, tuple[float, float]] = dataclasses.field(default_factory=dict)
    """With a tokenizer of Table 1 there, by kind."""


STEM: dict[str, Any] = {"placement": "stem"}
ALL_STAGES: dict[str, Any] = {"stages": "all", "value": False, "self_sampling": True}

BACKBONES: dict[str, Published] = {
    "DeiT-Ti": Published(model={"name": "deit_tiny_patch16_224"}, original=(5.7, 1.3), moto=STEM),
    "DeiT-S": Published(
        model={"name": "deit_small_patch16_224"},
        original=(22.1, 4.6),
        moto=STEM,
        printed_moto=(22.5, 4.8),
        printed={
            "frozen": (22.1, 4.6),
            "intra": (22.3, 4.7),
            "intra_local": (22.3, 5.1),
            "intra_local_inter": (25.7, 6.9),
        },
    ),
    "DeiT-B": Published(
        model={"name": "deit_base_patch16_224"}, original=(86.6, 17.6), moto=STEM, printed_moto=(86.9, 17.9)
    ),
    "DeiT_C-S": Published(
        model={"name": "deit_small_patch16_224", "options": {"depth": 11}},
        original=None,
        tokenizer={"kind": "conv_stem"},
        moto={"placement": "post"},
    ),
    "T2T-ViT-14": Published(
        model={"name": "t2t_vit_14"},
        original=(21.5, 4.8),
        moto={"self_sampling": True},
        printed_moto=(21.8, 5.4),
    ),
    "T2T-ViT-19": Published(model={"name": "t2t_vit_19"}, original=(39.2, 8.5), moto={"self_sampling": True}),
    "PVT-Small": Published(
        model={"name": "pvt_small"}, original=(24.5, 3.8), moto=ALL_STAGES, printed_moto=(24.7, 4.0)
    ),
    "PVT-Medium": Published(
        model={"name": "pvt_medium"}, original=(44.2, 6.7), moto=ALL_STAGES, printed_moto=(44.5, 6.9)
    ),
    "PVTv2-B1": Published(model={"name": "pvt_v2_b1"}, original=(14.0, 2.1), moto=ALL_STAGES),
    "PVTv2-B2": Published(
        model={"name": "pvt_v2_b2"}, original=(25.4, 4.0), moto=ALL_STAGES, printed_moto=(25.6, 4.2)
    ),
    "Swin-T": Published(
        model={"name": "swin_tiny_patch4_window7_224"},
        original=(28.3, 4.5),
        moto=ALL_STAGES,
        printed_moto=(28.6, 4.7),
    ),
    "Swin-S": Published(
        model={"name": "swin_small_patch4_window7_224"},
        original=(49.6, 8.7),
        moto=ALL_STAGES,
        printed_moto=(49.9, 8.9),
    ),
}

KINDS: tuple[str, ...] = typing.get_args(typing.get_type_hints(TokenizerSettings)["kind"])
"""Every tokenizer that a study can name."""

HEADER = (
    "backbone",
    "with",
    "params M",
    "printed",
    "difference",
    "GMACs",
    "printed",
    "difference",
    "in training M",
)


def size_of(backbone: Published, sections: dict[str, Any]) -> Size:
    """The size of a backbone with further sections of the spec."""
    own = {} if backbone.tokenizer is None else {"tokenizer": backbone.tokenizer}
    document = {"data": {"image_size": 224}, "model": backbone.model, **own, **sections}
    return check(TrialSpec.from_json(document), IMAGENET)


def variants(backbone: Published) -> dict[str, tuple[dict[str, Any], tuple[float, float] | None]]:
    """Row name to the sections that make it, and to what is printed of it."""
    found: dict[str, tuple[dict[str, Any], tuple[float, float] | None]] = {
        "": ({}, backbone.original),
        "MoTo": ({"moto": {"n": 8, **(backbone.moto or {})}}, backbone.printed_moto),
        "TokenProp": ({"tokenprop": {"loss": "l2"}}, None),
    }
    for kind in KINDS if backbone.tokenizer is None else ():
        found[kind] = ({"tokenizer": {"kind": kind}}, backbone.printed.get(kind))
    return found


def rows(name: str) -> list[list[str]]:
    """The lines of one backbone, itself first; a tokenizer that does not fit its stride has a dash."""
    made: list[list[str]] = []
    for label, (sections, printed) in variants(BACKBONES[name]).items():
        try:
            size = size_of(BACKBONES[name], sections)
        except SeamError:
            made.append([name, label, *["–"] * (len(HEADER) - 2)])
            continue
        cells = [name, label]
        for index, value in enumerate((size.parameters / 1e6, size.gmacs)):
            cells.append(f"{value:.3f}")
            cells += (
                ["", ""] if printed is None else [f"{printed[index]:.1f}", f"{value - printed[index]:+.3f}"]
            )
        more = size.training_parameters > size.parameters
        made.append([*cells, f"{size.training_parameters / 1e6:.3f}" if more else ""])
    return made


def table(lines: Sequence[Sequence[str]]) -> str:
    """The table of these lines."""
    return markdown([HEADER, *lines])


NOTES = """\
Without a part, *printed* is what the authors of the backbone print (DeiT, arXiv 2012.12877, with
DeiT-Ti's multiply-adds from 2102.12122; the repositories of T2T-ViT and PVT; Swin, 2103.14030); with one
it is arXiv 2212.11115, Tables 1 and 2. All backbones are within 0.1M parameters and 0.1G multiply-adds
of their originals; nobody prints a size for DeiT_C-S, which is DeiT-S with a convolutional stem and one
block fewer. *In training* adds what is not deployed: TokenProp's decoder. A dash is a tokenizer that
does not fit the backbone's stride.

Where printed and counted differ, and why:

- T2T-ViT-14: arXiv 2212.11115 prints 5.2G for the backbone and 5.4G with MoTo. 5.2 is what the
  repository of its authors said until June 2021 and then corrected to 4.8, for the same weights.
- MoTo: the paper publishes neither where it sits nor what it is made of. The placements here are those
  of `experiments/moto_backbones.yaml`; [sizes.md](sizes.md) has every other one and what can be
  concluded from them. On DeiT-B the stem is .475M larger than printed, since its second convolution
  is as wide as the embedding.
- The tokenizers of Table 1 are not published either. Ours are made to have their sizes.
- `cross_scale` (CrossFormer) and `token_learner` are not in the paper.

[sizes.md](sizes.md) says how is counted."""


def page(lines: Sequence[Sequence[str]]) -> str:
    """The documentation page."""
    return (
        "<!-- Written by `python benchmarks/fidelity.py --page docs/fidelity.md`. -->\n"
        "# Fidelity\n\n"
        "Every backbone at 224² with 1,000 classes, and with each part that studies put into it, beside\n"
        "what is printed. *Difference* is ours minus the printed value.\n\n"
        f"{table(lines)}\n{NOTES}\n"
    )


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument(
        "--models", nargs="+", choices=list(BACKBONES), default=list(BACKBONES), help="backbones"
    )
    parser.add_argument("--page", type=Path, help="also write the page with its explanations here")
    options = parser.parse_args()
    lines = [line for name in options.models for line in rows(name)]
    print(table(lines), end="")
    if options.page is not None:
        options.page.write_text(page(lines))


if __name__ == "__main__":
    main()
