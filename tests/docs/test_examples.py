"""The component of docs/extending.md, followed to the letter."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

_DRIVER = """
import importlib.util, sys, types
from typing import Annotated
from annotated_types import Gt
import torch
import ablator.components as room
from ablator.components import settings as owner
from ablator.contracts.settings import settings
from ablator.registry import COMPONENTS

declared, code, line = open(sys.argv[1]).read().split("=====")
exec(declared, {**vars(owner), "Gt": Gt, "__name__": owner.__name__}, found := {})
owner.GainSettings = found["GainSettings"]
module = types.ModuleType("ablator.components.gain")
sys.modules[module.__name__] = module
exec(code, vars(module))
exec(line, {"COMPONENTS": COMPONENTS, "GainSettings": owner.GainSettings})

from ablator.assembly.check import check
from ablator.assembly.build import assemble
from ablator.contracts.protocols import DataInfo
from ablator.plan.planning import plan
from ablator.study.schema import Arms, Study

study = Study(
    study="gain",
    base={
        "data": {"name": "digits", "image_size": 16},
        "model": {
            "name": "deit_tiny_patch16_224",
            "options": {"patch_size": 4, "embed_dim": 16, "depth": 1, "num_heads": 2},
        },
    },
    arms=(Arms(label="gain {start}", design="grid", set={"gain.start": [0.5, 1.0]}),),
    seeds=1,
)
base, half, one = plan(study, fingerprint=lambda data: "f").trials
info = DataInfo(
    name="d", classes=tuple("abc"), train_size=9, val_size=9, fingerprint="f", licence="",
    mean=(0.5,) * 3, std=(0.5,) * 3,
)
images_BCHW = torch.randn(2, 3, 16, 16)
outputs = [assemble(t.spec, info).model.eval()(images_BCHW)[0] for t in (base, half, one)]
assert torch.equal(outputs[0], outputs[2]) and not torch.equal(outputs[0], outputs[1])
assert check(half.spec, info).parameters == check(base.spec, info).parameters + 16
print("built")
"""


def test_a_component_is_its_settings_one_file_and_one_line(docs: Any, tmp_path: Any) -> None:
    declared, code, line = [b.text for b in docs.blocks("python") if b.file == "docs/extending.md"][:3]
    parts = tmp_path / "parts.txt"
    parts.write_text("=====".join((declared, code, line)), encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-c", _DRIVER, str(parts)], capture_output=True, text=True, timeout=300, check=False
    )
    assert done.stdout.strip() == "built", done.stderr
