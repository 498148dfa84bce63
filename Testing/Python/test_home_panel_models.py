"""A user keeps learned models: only what its author packed gets in, and nothing outside the models folder is ever touched."""

import os
import zipfile

import pytest
from model_archives import CARD, files_of_model, write_archive

from CTPerfusionSuiteLib import models
from CTPerfusionSuiteLib.errors import DataRefused, RequestRefused
from CTPerfusionSuiteLib.models import import_model, list_models, remove_model


def test_a_model_is_imported_listed_with_its_card_and_removed(tmp_path):
    model = import_model(write_archive(tmp_path / "tiny.zip", files_of_model()), tmp_path / "models")
    assert (model.name, model.version, model.task, model.card, model.intact) == ("tiny", "0.1.0", "Core segmentation", CARD, True)
    assert [found.name for found in list_models(tmp_path / "models")] == ["tiny"]
    remove_model(model.folder, tmp_path / "models")
    assert list_models(tmp_path / "models") == []


def test_a_model_packed_without_a_folder_of_its_own_is_imported_too(tmp_path):
    model = import_model(write_archive(tmp_path / "tiny.zip", files_of_model(), root=""), tmp_path / "models")
    assert model.folder == tmp_path / "models" / "tiny" and model.intact


def test_a_weight_changed_by_one_bit_is_noticed(tmp_path):
    model = import_model(write_archive(tmp_path / "tiny.zip", files_of_model()), tmp_path / "models")
    weights = model.folder / "models" / "model.pt"
    content = bytearray(weights.read_bytes())
    content[1000] ^= 1
    weights.write_bytes(content)
    (found,) = list_models(tmp_path / "models")
    assert found.faults == ("models/model.pt was changed",)
    assert list_models(tmp_path / "models", compare=False)[0].intact  # quick: not looked at


@pytest.mark.parametrize(
    ("what", "words"),
    [
        ({"models/model.pt": b"other weights"}, "was changed"),
        ({"models/more.pt": b"a stranger"}, "not announced"),
        ({"models/run.py": b"import os"}, "kind"),
        ({"docs/README.md": b""}, "card"),
        ({"configs/metadata.json": b"{}"}, "metadata"),
        ({"configs/metadata.json": b"\xff\xfe nothing"}, "metadata"),
    ],
)
def test_what_is_not_as_its_author_packed_it_is_refused_and_leaves_nothing(tmp_path, what, words):
    archive = write_archive(tmp_path / "tiny.zip", {**files_of_model(), **what})
    with pytest.raises(DataRefused, match=words):
        import_model(archive, tmp_path / "models")
    assert os.listdir(tmp_path / "models") == []


@pytest.mark.parametrize("name", ["../outside.txt", "/absolute.txt", "..\\outside.txt", "C:/outside.txt"])
def test_an_archive_cannot_write_outside_the_models_folder(tmp_path, name):
    archive = write_archive(tmp_path / "tiny.zip", files_of_model())
    with zipfile.ZipFile(archive, "a") as packed:
        packed.writestr(name, "gotcha")
    with pytest.raises(DataRefused, match="leaves its folder"):
        import_model(archive, tmp_path / "models")
    assert sorted(os.listdir(tmp_path)) == ["models", "tiny.zip"]
    assert os.listdir(tmp_path / "models") == []


def test_a_link_in_an_archive_is_refused(tmp_path):
    archive = write_archive(tmp_path / "tiny.zip", files_of_model())
    with zipfile.ZipFile(archive, "a") as packed:
        entry = zipfile.ZipInfo("tiny/models/link.pt")
        entry.external_attr = 0o120777 << 16
        packed.writestr(entry, "/etc/passwd")
    with pytest.raises(DataRefused, match="leaves its folder"):
        import_model(archive, tmp_path / "models")


def test_an_archive_that_would_fill_the_disk_is_refused_before_it_is_unpacked(tmp_path, monkeypatch):
    monkeypatch.setattr(models, "MAX_BYTES", 5000)
    with pytest.raises(DataRefused, match="no model of ours"):
        import_model(write_archive(tmp_path / "tiny.zip", files_of_model()), tmp_path / "models")


@pytest.mark.parametrize("name", ["../tiny", "a/b", "", ".hidden", "x" * 200])
def test_a_model_cannot_choose_a_name_that_is_a_path(tmp_path, name):
    with pytest.raises(DataRefused, match="plain name"):
        import_model(write_archive(tmp_path / "tiny.zip", files_of_model(name)), tmp_path / "models")
    assert os.listdir(tmp_path / "models") == []


def test_something_else_than_an_archive_is_refused_in_words(tmp_path):
    (tmp_path / "photo.zip").write_bytes(b"not a zip file at all")
    with pytest.raises(DataRefused, match="no readable .zip"):
        import_model(tmp_path / "photo.zip", tmp_path / "models")
    with pytest.raises(RequestRefused, match="does not exist"):
        import_model(tmp_path / "missing.zip", tmp_path / "models")


def test_a_model_is_replaced_only_when_asked(tmp_path):
    archive = write_archive(tmp_path / "tiny.zip", files_of_model())
    import_model(archive, tmp_path / "models")
    with pytest.raises(RequestRefused, match="already"):
        import_model(archive, tmp_path / "models")
    newer = write_archive(tmp_path / "newer.zip", files_of_model(version="0.2.0"))
    assert import_model(newer, tmp_path / "models", replace=True).version == "0.2.0"


def test_only_models_directly_in_the_models_folder_can_be_removed(tmp_path):
    (tmp_path / "models").mkdir()
    (tmp_path / "holiday" / "configs").mkdir(parents=True)
    (tmp_path / "holiday" / "configs" / "metadata.json").write_text("{}")
    for place in (tmp_path / "holiday", tmp_path / "models", tmp_path / "models" / ".." / "holiday"):
        with pytest.raises(RequestRefused, match="no model of the models folder"):
            remove_model(place, tmp_path / "models")
    assert (tmp_path / "holiday" / "configs" / "metadata.json").is_file()


def test_no_weights_are_unpickled(tmp_path):
    trap = b"cos\nmkdir\n(S'" + str(tmp_path / "pwned").encode() + b"'\ntR."  # a pickle that would make a folder
    contents = files_of_model()
    import hashlib
    import json

    contents["models/model.pt"] = trap
    metadata = json.loads(contents["configs/metadata.json"])
    metadata["sha256"]["models/model.pt"] = hashlib.sha256(trap).hexdigest()
    contents["configs/metadata.json"] = json.dumps(metadata).encode()
    model = import_model(write_archive(tmp_path / "tiny.zip", contents), tmp_path / "models")
    assert model.intact and not (tmp_path / "pwned").exists()
