"""Every data set gives the classes, labels and pixels that are on disk."""

from __future__ import annotations

import dataclasses
import io
import pickle
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from ablator import data as room
from ablator.data.catalog import open_source
from ablator.data.settings import DataSettings
from ablator.errors import DataError, SettingError, UnknownName
from ablator.registry import DATASETS

Picture = Callable[[int, int, int], Image.Image]


def test_digits_are_the_real_ones() -> None:
    source = open_source(DataSettings(name="digits", holdout=0.2))
    assert (len(source.train.labels), len(source.val.labels)) == (1438, 359)
    assert np.bincount(source.val.labels).min() >= 34
    both = np.concatenate(
        [[np.asarray(s.read(i))[..., 0] for i in range(len(s.labels))] for s in (source.train, source.val)]
    )
    assert both.max() == 255
    assert both.mean() / 255 == pytest.approx(source.mean[0], abs=1e-4)
    assert both.std() / 255 == pytest.approx(source.std[0], abs=1e-4)


def test_the_holdout_seed_changes_the_split_and_not_the_fingerprint() -> None:
    one = open_source(DataSettings(name="digits"))
    other = open_source(DataSettings(name="digits", holdout_seed=1))
    first = [np.asarray(source.image("val", 0)) for source in (one, other)]
    assert not np.array_equal(first[0], first[1])
    assert one.fingerprint == other.fingerprint


def test_a_data_set_is_opened_once_whatever_the_fraction_and_size() -> None:
    settings = DataSettings(name="digits")
    changed = dataclasses.replace(settings, fraction=0.5, fraction_seed=3, image_size=64, max_corrupt=9)
    assert open_source(changed) is open_source(settings)


def test_info_counts_the_fraction() -> None:
    info = room.info(DataSettings(name="digits", fraction=0.1))
    assert 140 <= info.train_size <= 147
    assert info.val_size == 359
    assert info.classes == tuple("0123456789")


def test_every_registered_data_set_loads_without_torch_names() -> None:
    for entry in DATASETS:
        assert callable(entry.load()), entry.name


def test_an_unknown_name_gets_the_nearest() -> None:
    with pytest.raises(UnknownName, match="did you mean 'digits'"):
        room.info(DataSettings(name="digit"))


def test_fashion_mnist_reads_idx_files(fashion: Path) -> None:
    source = open_source(DataSettings(name="fashion_mnist", root=str(fashion)))
    assert source.classes[0] == "T-shirt/top"
    assert len(source.train.labels) == 40
    expected = np.random.default_rng(0).integers(0, 256, (40, 28, 28), np.uint8)
    assert np.array_equal(np.asarray(source.image("train", 39))[..., 1], expected[39])


def test_fashion_mnist_that_is_missing_says_where_and_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(DataError) as error:
        room.info(DataSettings(name="fashion_mnist", root=str(tmp_path)))
    for part in (str(tmp_path), "apt-get install dataset-fashion-mnist", "dpkg-deb -x", "--profile laptop"):
        assert part in str(error.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"not gzip", "cannot be read"), (b"\x1f\x8b\x08\x00", "cannot be read")],
)
def test_a_damaged_idx_file_is_named(fashion: Path, content: bytes, message: str) -> None:
    (fashion / "train-images-idx3-ubyte.gz").write_bytes(content)
    with pytest.raises(DataError, match=f"train-images-idx3-ubyte.gz {message}"):
        room.info(DataSettings(name="fashion_mnist", root=str(fashion)))


def test_a_short_idx_file_is_named(fashion: Path) -> None:
    (fashion / "t10k-labels-idx1-ubyte.gz").unlink()
    (fashion / "t10k-labels-idx1-ubyte").write_bytes(bytes([0, 0, 8, 1, 0, 0, 0, 20]) + bytes(19))
    with pytest.raises(DataError, match="holds 19 bytes"):
        room.info(DataSettings(name="fashion_mnist", root=str(fashion)))


def test_both_layouts_of_cifar10_are_the_same_data(cifar: tuple[Path, Path]) -> None:
    binary, python = (open_source(DataSettings(name="cifar10", root=str(root))) for root in cifar)
    assert binary.fingerprint == python.fingerprint
    assert len(binary.train.labels) == 50
    assert binary.train.labels.tolist() == list(range(10)) * 5
    raw = np.frombuffer((cifar[0] / "data_batch_1.bin").read_bytes(), np.uint8).reshape(-1, 3073)
    assert np.array_equal(
        np.asarray(binary.image("train", 3)), raw[3, 1:].reshape(3, 32, 32).transpose(1, 2, 0)
    )
    assert np.array_equal(np.asarray(binary.image("val", 3)), np.asarray(python.image("val", 3)))


def test_a_pickle_that_would_run_code_is_refused(cifar: tuple[Path, Path], tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return print, (str(tmp_path),)

    (cifar[1] / "cifar-10-batches-py" / "data_batch_2").write_bytes(pickle.dumps(Evil()))
    with pytest.raises(DataError, match=r"builtins\.print"):
        room.info(DataSettings(name="cifar10", root=str(cifar[1])))


def test_a_folder_with_train_and_val(tree: Callable[..., Path]) -> None:
    root = tree()
    source = open_source(DataSettings(name="folder", root=str(root)))
    assert source.classes == ("ant", "bee")
    assert source.train.labels.tolist() == [0] * 6 + [1] * 6
    assert source.train.name(7) == str(root / "train/bee/1.png")
    assert np.array_equal(np.asarray(source.image("val", 2)), np.asarray(Image.open(root / "val/ant/2.png")))


def test_a_relative_root_lies_where_the_machine_says(
    tree: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    root = tree()
    settings = DataSettings(name="folder", root=root.name)
    absolute = room.info(DataSettings(name="folder", root=str(root)))
    monkeypatch.setenv("ABLATOR_DATA", str(tmp_path / "elsewhere"))
    with pytest.raises(DataError, match=r"elsewhere/\w+, which is not there"):
        room.info(settings)
    monkeypatch.setenv("ABLATOR_DATA", str(root.parent))
    assert room.info(settings).fingerprint == absolute.fingerprint


@pytest.mark.parametrize("split", ["validation", "valid", "test"])
def test_a_validation_folder_by_another_name(tree: Callable[..., Path], split: str) -> None:
    source = open_source(DataSettings(name="folder", root=str(tree(splits=("train", split)))))
    assert split in source.val.name(0)


def test_one_tree_is_split_without_overlap(tree: Callable[..., Path]) -> None:
    root = tree(per_class=10, splits=("",))
    source = open_source(DataSettings(name="folder", root=str(root), holdout=0.3))
    train, val = ({s.name(i) for i in range(len(s.labels))} for s in (source.train, source.val))
    assert not train & val
    assert len(train | val) == 20
    assert sorted(source.val.labels.tolist()) == [0] * 3 + [1] * 3
    assert all(
        f"/{source.classes[label]}/" in source.val.name(i) for i, label in enumerate(source.val.labels)
    )


def test_the_fingerprint_follows_names_and_sizes(tree: Callable[..., Path], picture: Picture) -> None:
    root = tree()

    def fingerprint(holdout: float) -> str:  # another holdout opens the tree again
        return room.info(DataSettings(name="folder", root=str(root), holdout=holdout)).fingerprint

    before = fingerprint(0.1)
    assert fingerprint(0.11) == before
    (root / "train/ant/0.png").rename(root / "train/ant/zero.png")
    renamed = fingerprint(0.12)
    picture(99, 90, 90).save(root / "train/ant/1.png")
    assert len({before, renamed, fingerprint(0.13)}) == 3


def test_links_are_followed_and_a_circle_is_not(tree: Callable[..., Path], tmp_path: Path) -> None:
    root = tree()
    linked = tmp_path / "linked"
    linked.mkdir()
    for split in ("train", "val"):
        (linked / split).symlink_to(root / split)
    (root / "train/ant/again").symlink_to(root / "train/ant")
    assert room.info(DataSettings(name="folder", root=str(linked))).train_size == 12


def test_every_kind_of_image_becomes_rgb(tree: Callable[..., Path], picture: Picture) -> None:
    root = tree(per_class=1)
    folder = root / "train/ant"
    picture(1, 30, 20).convert("L").save(folder / "grey.png")
    picture(1, 30, 20).convert("1").save(folder / "bits.png")
    picture(1, 30, 20).quantize(8).save(folder / "palette.gif")
    picture(1, 30, 20).save(folder / "photo.JPG")
    picture(1, 30, 20).convert("CMYK").save(folder / "print.tif")
    clear = picture(1, 30, 20).convert("RGBA")
    clear.putalpha(0)
    clear.save(folder / "rgba.png")
    deep = np.arange(600, dtype=np.uint16).reshape(20, 30) * 100
    Image.fromarray(deep).save(folder / "deep.png")
    source = open_source(DataSettings(name="folder", root=str(root)))
    images = {Path(source.train.name(i)).name: source.image("train", i) for i in range(8)}
    assert {image.mode for image in images.values()} == {"RGB"}
    assert len({name for name in images if images[name].size == (30, 20)}) == 7
    assert np.array_equal(np.asarray(images["deep.png"])[..., 2], deep >> 8)
    assert not np.asarray(images["rgba.png"]).any()
    grey = np.asarray(images["grey.png"])
    assert np.array_equal(grey[..., 0], grey[..., 2])


def _folder_mistakes() -> dict[str, tuple[Callable[[Path], None], str]]:
    def nothing(root: Path) -> None:
        root.mkdir()

    def flat(root: Path) -> None:
        root.mkdir()
        Image.new("RGB", (9, 9)).save(root / "a.png")

    def classes(*names: str, images: bool = True) -> Callable[[Path], None]:
        def make(root: Path) -> None:
            for name in names:
                (root / name).mkdir(parents=True)
                if images:
                    Image.new("RGB", (9, 9)).save(root / name / "a.png")

        return make

    return {
        "missing": (lambda root: None, "not there"),
        "empty": (nothing, "no class folders"),
        "flat": (flat, "no class folders"),
        "single": (classes("cat"), "single class, 'cat'"),
        "no images": (classes("cat", "dog", images=False), r"no images in the class folder\(s\) cat, dog"),
        "extra": (classes("train/cat", "train/dog", "val/cat", "val/cow"), r"class\(es\) cow of"),
        "one each": (classes("cat", "dog"), "single image"),
    }


@pytest.mark.parametrize("name", _folder_mistakes())
def test_a_tree_that_is_not_one_is_refused(tmp_path: Path, name: str) -> None:
    make, message = _folder_mistakes()[name]
    make(tmp_path / "root")
    with pytest.raises(DataError, match=message) as error:
        room.info(DataSettings(name="folder", root=str(tmp_path / "root")))
    assert "folder" in str(error.value)


@pytest.mark.parametrize("name", ["folder", "parquet"])
def test_a_root_that_is_not_set(name: str) -> None:
    with pytest.raises(SettingError, match=r"data\.root is not set"):
        room.info(DataSettings(name=name))


def test_digits_with_a_root_is_a_forgotten_name() -> None:
    with pytest.raises(SettingError, match=r"set data\.name to 'folder'"):
        room.info(DataSettings(name="digits", root="/data/mine"))


def _encoded(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


@pytest.mark.parametrize("struct", [False, True])
def test_parquet_rows_keep_image_and_label_together(tmp_path: Path, picture: Picture, struct: bool) -> None:
    contents = [_encoded(picture(number, 12, 10)) for number in range(20)]
    column = [{"bytes": content, "path": None} for content in contents] if struct else contents
    labels = [("cat", "dog")[number % 2] for number in range(20)]
    pq.write_table(pa.table({"image": column, "label": labels}), tmp_path / "a.parquet", row_group_size=3)
    source = open_source(DataSettings(name="parquet", root=str(tmp_path), holdout=0.2))
    assert source.classes == ("cat", "dog")
    assert (len(source.train.labels), len(source.val.labels)) == (16, 4)
    restored = pickle.loads(pickle.dumps(source.train))  # as a loader process that is not forked gets it
    for images in (source.train, source.val, restored):
        for index in reversed(range(len(images.labels))):
            encoded = _encoded(images.read(index))
            assert labels[contents.index(encoded)] == source.classes[images.labels[index]]


def test_parquet_train_and_val_files_and_names_of_classes(tmp_path: Path, picture: Picture) -> None:
    (tmp_path / "data").mkdir()
    names = b'{"info": {"features": {"label": {"names": ["cat", "dog", "cow"]}}}}'
    for split, values in (("train-0", [2, 0]), ("train-1", [0, 2]), ("validation-0", [2])):
        table = pa.table({"image": [_encoded(picture(value, 9, 9)) for value in values], "label": values})
        table = table.replace_schema_metadata({b"huggingface": names})
        pq.write_table(table, tmp_path / "data" / f"{split}.parquet")
    source = open_source(DataSettings(name="parquet", root=str(tmp_path)))
    assert source.classes == ("cat", "cow")
    assert source.train.labels.tolist() == [1, 0, 0, 1]
    assert source.val.labels.tolist() == [1]


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"img": [b"x"], "label": [1]}, "has no column image"),
        ({"image": ["x", "y"], "label": [1, 2]}, "column 'image'"),
        ({"image": [b"x", b"y"], "label": [1.0, 2.0]}, "column 'label'"),
        ({"image": [b"x", b"y"], "label": [1, None]}, "1 rows without a label"),
        ({"image": [b"x", b"y"], "label": [1, 1]}, "single class"),
    ],
)
def test_parquet_columns_that_do_not_fit(
    tmp_path: Path, columns: dict[str, list[object]], message: str
) -> None:
    pq.write_table(pa.table(columns), tmp_path / "a.parquet")
    with pytest.raises(DataError, match=message):
        room.info(DataSettings(name="parquet", root=str(tmp_path / "a.parquet")))


def test_parquet_that_is_missing_or_damaged(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no \.parquet file"):
        room.info(DataSettings(name="parquet", root=str(tmp_path)))
    (tmp_path / "a.parquet").write_bytes(b"PAR1 and no more")
    with pytest.raises(DataError, match=r"a\.parquet cannot be read"):
        room.info(DataSettings(name="parquet", root=str(tmp_path)))
