"""The package itself: what `import ablator` costs and gives, and the process's own exit codes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path


def python(code: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_import_loads_nothing_heavy() -> None:
    heavy = "{'torch', 'ray', 'mlflow', 'pandas', 'numpy', 'timm', 'pydantic', 'rich', 'typer'}"
    assert python(f"import sys, ablator; print(sorted({heavy} & set(sys.modules)))") == "[]"


def test_the_api_loads_without_torch_ray_or_mlflow() -> None:
    code = "import sys, ablator; ablator.run; print(sorted({'torch', 'ray', 'mlflow'} & set(sys.modules)))"
    assert python(code) == "[]"


def test_functions_stay_functions_whatever_rooms_are_imported() -> None:
    code = (
        "import ablator.plan.spec, ablator.report.table, ablator, typing\n"
        "from ablator.plan.planning import Plan\n"
        "from ablator import plan, report\n"
        "assert callable(plan) and callable(report) and callable(ablator.plan)\n"
        "assert all(hasattr(ablator, name) for name in ablator.__all__)\n"
        "print(typing.get_type_hints(plan)['return'] is Plan)"
    )
    assert python(code) == "True"


def test_an_unknown_name_is_an_attribute_error() -> None:
    code = "import ablator\ntry:\n    ablator.trane\nexcept AttributeError as e:\n    print(e)"
    assert "trane" in python(code)


def test_the_script_exits_with_2_and_no_traceback(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "ablator", "run", "nope.yaml"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.startswith("error: study nope.yaml: no such file")
    assert list(tmp_path.iterdir()) == []


def test_a_reader_that_goes_away_does_not_end_the_command(study: Path) -> None:
    command = [sys.executable, "-m", "ablator", "plan", study.name, "-p", "laptop", "--no-size"]
    with subprocess.Popen(
        command, cwd=study.parent, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        errors = process.stderr.read()
    assert (process.returncode, errors) == (0, "")
