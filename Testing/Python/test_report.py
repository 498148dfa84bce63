"""A radiologist opens the report: sides, units, numbers and warnings are right, and nothing on the page can do harm."""

import base64
import re
import shutil
import subprocess
import sys
import time
from dataclasses import replace
from html.parser import HTMLParser
from io import BytesIO

import numpy as np
import pytest
from example_result import AIF_LPS, LESION_LPS, axial_geometry, example_motion, example_result
from PIL import Image

from CTPerfusionSuiteLib.errors import RequestRefused
from CTPerfusionSuiteLib.report import canvas
from CTPerfusionSuiteLib.report.color_maps import CORE, flow_table, lightness, time_table
from CTPerfusionSuiteLib.report.orientation import RadiologicalView
from CTPerfusionSuiteLib.report.pictures import EDGE, HEAD_HEIGHT
from CTPerfusionSuiteLib.report.tiles import lay_out
from CTPerfusionSuiteLib.volumes import Geometry
from PerfusionMapsLib import perfusion_pictures
from PerfusionMapsLib.input_functions import InputFunction
from PerfusionMapsLib.lesions import mask_names
from PerfusionMapsLib.perfusion_report import write_report

PICTURES = ("qa_aif_vof.png", "qa_tmax_mip.png", "qa_core_penumbra.png", "qa_motion.png")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
needs_chromium = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here")


@pytest.fixture(scope="module")
def result():
    return example_result()


@pytest.fixture(scope="module")
def small():
    return example_result(axial_geometry((64, 64, 3), (3.4, 3.4, 10.0)))


@pytest.fixture(scope="module")
def folder(result, tmp_path_factory):
    folder = tmp_path_factory.mktemp("study")
    write_report(folder, result)
    return folder


def page_of(result, folder, **options) -> str:
    write_report(folder, result, **options)
    return (folder / "report.html").read_text(encoding="utf-8")


class Reader(HTMLParser):
    """Collects tags with their attributes, and the text."""

    def __init__(self, html):
        super().__init__()
        self.tags, self.text = [], ""
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.text += data + " "


def words_of(html: str) -> str:
    body = re.sub(r"<style>.*?</style>", "", html, flags=re.DOTALL)
    return " ".join(Reader(body).text.split())


def test_one_file_holds_everything_and_loads_nothing(folder):
    html = (folder / "report.html").read_text(encoding="utf-8")
    tags = Reader(html).tags
    assert not [tag for tag, _ in tags if tag in ("script", "link", "iframe", "object", "embed", "base")]
    sources = [attrs["src"] for tag, attrs in tags if tag == "img"]
    assert len(sources) >= 10 and all(source.startswith("data:image/png;base64,") for source in sources)
    assert not re.search(r"https?://|url\(|@import", re.sub(r"data:image/png;base64,[^\"]+", "", html))
    assert (folder / "report.html").stat().st_size < 8e6
    embedded = {base64.b64decode(source.split(",")[1]) for source in sources}
    for name in PICTURES:
        assert (folder / name).read_bytes() in embedded


def test_headline_numbers_carry_their_thresholds_and_agree_with_the_metrics(folder, result):
    words, volumes = words_of((folder / "report.html").read_text(encoding="utf-8")), result.metrics["volumes_ml"]
    assert f"Core {volumes['core']:.1f} mL rCBF < 30 % of normal tissue, within Tmax > 6 s" in words
    assert f"Hypoperfusion {volumes['hypoperfusion']:.0f} mL Tmax > 6 s" in words
    assert f"Mismatch ratio {result.metrics['mismatch_ratio']:.2f} hypoperfusion / core" in words
    assert "Side of hypoperfusion left" in words and "grid-Bayesian dictionary (bayes)" in words
    for key in ("4", "6", "8", "10"):
        assert f"Tmax > {key} s {volumes['tmax_gt'][key]:.1f}" in words
    for key in ("0.20", "0.30", "0.34", "0.38"):
        assert f"rCBF < {100 * float(key):.0f} % {volumes['rcbf_lt'][key]:.1f}" in words
    for name in ("intensity ratio (HIR)", "rescue ratio (PRR)", "CBV index, corrected", "Prolonged venous transit (PVT)"):
        assert name in words


def test_research_use_only_is_said_on_top_and_at_the_bottom(folder):
    words = words_of((folder / "report.html").read_text(encoding="utf-8")).removeprefix("CT perfusion of the brain ")
    notice = "Research use only. Not for clinical diagnosis."
    assert words.startswith(notice) and words.endswith(notice)


def test_a_name_in_the_header_never_reaches_the_page_unless_asked(small, tmp_path):
    leaky = replace(small, provenance={**small.provenance, "patient_name": "DOE^JANE", "input": {"PatientID": "MRN-4711", "frames": 40}})
    html = page_of(leaky, tmp_path)
    assert "DOE^" not in html and "MRN-" not in html and "Frames" in html
    assert "Roe, Richard" in page_of(leaky, tmp_path, patient="Roe, Richard")


def test_header_text_is_escaped(small, tmp_path):
    evil = "<script>alert(1)</script>"
    metrics = {**small.metrics, "qc": [{"code": "x", "severity": "warning", "message": f"series '{evil}' skipped"}], "method": evil}
    hostile = replace(small, metrics=metrics, source_header={"series_description": evil + "\"><img src=x onerror=alert(2)>"},
                      provenance={evil: {evil: [evil]}})
    html = page_of(hostile, tmp_path, patient=evil)
    tags = Reader(html).tags
    assert not [tag for tag, _ in tags if tag == "script"]
    assert not [attrs for _, attrs in tags if "onerror" in attrs]
    assert html.count("&lt;script&gt;") >= 5


def test_relative_maps_are_marked_relative_everywhere(small, tmp_path):
    relative = example_result(small.geometry, calibrated=False)
    words = words_of(page_of(relative, tmp_path))
    assert "mL/100 g/min" not in words.replace("\u00a0", " ").split("Definitions")[0]
    assert words.count("relative values without absolute units") == 2  # under quality, and above the maps
    assert "CBF (relative)" in words and "CBV (relative)" in words and "CBF and CBV relative only" in words
    assert perfusion_pictures.map_window(relative, "cbf").unit == "relative"
    assert perfusion_pictures.map_title(relative, "cbv").endswith("(relative)")
    assert perfusion_pictures.map_title(relative, "mtt").endswith("time")  # a ratio of the two keeps its unit
    assert perfusion_pictures.map_window(small, "cbf").unit == "mL/100 g/min"
    assert "relative values" not in words_of(page_of(small, tmp_path))


@pytest.mark.parametrize("signs", [(1, 1, 1), (-1, 1, 1), (1, -1, -1), (-1, -1, 1)])
def test_the_left_lesion_is_on_the_right_of_the_picture_whichever_way_the_axes_point(signs):
    geometry = axial_geometry((96, 96, 6), (2.2, 2.2, 8.0), signs)
    result = example_result(geometry)
    assert result.metrics["lesion_side"] == "left"
    view = RadiologicalView(geometry)
    layout = lay_out(view, result.masks["brain_mask"], 1200)
    core, brain = (layout.sample(result.masks[name]) >= 0.5 for name in (mask_names(result.thresholds)[1], "brain_mask"))
    middle = layout.tile_width / 2
    assert np.mean(np.nonzero(core)[2]) > middle + 0.1 * layout.tile_width
    assert abs(np.mean(np.nonzero(brain)[2]) - middle) < 0.02 * layout.tile_width
    assert np.all(np.diff(layout.positions_mm) > 0)  # inferior to superior
    # Anterior at the top: the arteries lie above the sinus.
    vessel, sinus = view.position(AIF_LPS[:1])[0], view.position(np.array([[0.0, 79.0, 20.0]]))[0]
    assert vessel[1] < sinus[1] and vessel[2] < view.shape[2] / 2 < view.position(np.array([LESION_LPS]))[0][2]
    picture = np.asarray(Image.open(BytesIO(perfusion_pictures.core_penumbra_picture(result))).convert("RGB"), int)[HEAD_HEIGHT:]
    head = perfusion_pictures.head_layout(result, per_row=6)
    magenta = (np.abs(picture - CORE).sum(axis=2) < 30).nonzero()
    within_tile = (magenta[1] - EDGE) % (head.tile_width + head.gap)
    assert len(within_tile) > 50 and np.mean(within_tile > head.tile_width / 2) > 0.99


def test_a_coronal_grid_is_shown_in_axial_slices():
    # I to the left, J downward, K to the front.
    geometry = Geometry((40, 30, 50), (3.0, 5.0, 4.0), (-60.0, 98.0, 90.0), ((1, 0, 0), (0, 0, -1), (0, -1, 0)))
    view = RadiologicalView(geometry)
    assert view.shape == (30, 50, 40) and view.spacing == (5.0, 4.0, 3.0)
    values = np.zeros(geometry.shape)
    values[7, 11, 23] = 1.0
    seen = np.argwhere(view.apply(values))[0]
    assert np.allclose(view.position(geometry.to_lps((23, 11, 7))), seen)
    assert np.isclose(view.slice_positions_mm[seen[0]], geometry.to_lps((23, 11, 7))[2])
    assert np.all(np.diff(view.slice_positions_mm) > 0)


def test_pixels_that_are_not_square_keep_the_shape_of_the_head():
    square = example_result(axial_geometry((96, 96, 3), (2.2, 2.2, 10.0)))
    oblong = example_result(axial_geometry((192, 96, 3), (1.1, 2.2, 10.0)))
    shapes = []
    for result in (square, oblong):
        layout = perfusion_pictures.brain_layout(result)
        brain = layout.sample(result.masks["brain_mask"])[1] >= 0.5
        rows, columns = (np.ptp(np.flatnonzero(brain.any(axis=axis))) for axis in (1, 0))
        shapes.append(rows / columns)
    assert np.allclose(shapes, 164 / 132, rtol=0.04)


def test_many_thin_slices_are_shown_in_even_steps_and_the_page_says_so(tmp_path):
    result = example_result(axial_geometry((40, 40, 50), (5.5, 5.5, 2.0)), bayes=False)
    layout = perfusion_pictures.brain_layout(result)
    assert len(layout.slices) <= 24 and set(np.diff(layout.slices)) == {3}
    assert "Every third slice is shown." in words_of(page_of(result, tmp_path))


def test_colors_grow_evenly_lighter_so_gray_prints_stay_ordered():
    for table in (flow_table(), time_table()):
        steps = np.diff(lightness(table))
        assert steps.min() > -0.35 and abs(steps.mean() - 0.33) < 0.05  # rounding to 8 bits is worth 0.3
        assert np.all(np.diff(lightness(table)[::8]) > 0)


def test_a_study_without_lesion_vein_motion_or_intervals_still_has_a_report(tmp_path):
    healthy = example_result(axial_geometry((64, 64, 2), (3.4, 3.4, 10.0)), lesion=False, motion=False, bayes=False, flags=())
    curve = InputFunction(healthy.aif.times, healthy.aif.hu, source="csv")
    words = words_of(page_of(replace(healthy, vof=None, aif=curve, aif_candidates=(), vof_candidates=()), tmp_path))
    assert "Mismatch ratio \u2013 no hypoperfusion" in words and "No quality flag was raised." in words
    assert "No venous output function was used." in words and "Core 0.0 mL" in words
    assert "95 % intervals." not in words.split("Definitions")[0]


def test_unknown_numbers_are_said_to_be_unknown_never_zero(small, tmp_path):
    metrics = {**small.metrics, "mismatch_ratio": None, "hir": None, "prr_percent": None,
               "reference": dict.fromkeys(("cbf", "volume_ml", "side")),
               "cbv_index": dict.fromkeys(("corrected", "conventional", "roi")), "pvt": dict.fromkeys(("positive", "sss_tmax_s"))}
    metrics["volumes_ml"] = {**metrics["volumes_ml"], "core": None, "penumbra": None, "mismatch": None, "core_physical": None,
                             "rcbf_lt": dict.fromkeys(metrics["volumes_ml"]["rcbf_lt"])}
    masks = {name: mask for name, mask in small.masks.items() if not name.startswith(("core", "penumbra"))}
    words = words_of(page_of(replace(small, metrics=metrics, masks=masks), tmp_path))
    assert "Core \u2013 rCBF < 30 %" in words and "not determined: too little normal tissue" in words
    assert "Hypoperfusion intensity ratio (HIR) not assessable" in words and "rCBF < 20 % not assessable" in words
    assert "0.0 mL" not in words


def test_the_worst_flag_comes_first_in_words(small, tmp_path):
    flags = [{"code": "a", "severity": "info", "message": "Small remark."},
             {"code": "b", "severity": "critical", "message": "Scan truncated."},
             {"code": "c", "severity": "warning", "message": "Weak bolus."}]
    words = words_of(page_of(replace(small, metrics={**small.metrics, "qc": flags}), tmp_path))
    assert "Quality Serious Scan truncated. Warning Weak bolus. Note Small remark." in words


def test_dropped_frames_are_counted_and_two_table_positions_are_drawn(small, tmp_path):
    shuttle = replace(small, motion=example_motion(small.aif.times, slabs=2))
    words = words_of(page_of(shuttle, tmp_path))
    assert "in each table position" in words and "2 of 40 frames dropped" in words
    assert Image.open(tmp_path / "qa_motion.png").size[0] > 1000


def test_each_picture_can_be_had_alone(result):
    pngs = [perfusion_pictures.map_picture(result, name) for name in ("cbf", "ttp", "rcbf")]
    pngs += [perfusion_pictures.motion_picture(result), perfusion_pictures.tmax_projection_picture(result)]
    for png in pngs:
        image = Image.open(BytesIO(png))
        assert image.format == "PNG" and image.size[0] <= 1700


def test_without_matplotlib_the_refusal_names_it_before_anything_is_written(result, tmp_path, monkeypatch):
    found = canvas.importlib.util.find_spec
    monkeypatch.setattr(canvas.importlib.util, "find_spec", lambda name: None if name == "matplotlib" else found(name))
    with pytest.raises(RequestRefused, match="matplotlib"):
        write_report(tmp_path, result)
    assert not list(tmp_path.iterdir())


def test_maps_can_be_written_where_matplotlib_is_not_even_imported():
    code = ("import sys, PerfusionMapsLib.perfusion_report; "
            "sys.exit(any(name.split('.')[0] in ('matplotlib', 'jinja2', 'PIL') for name in sys.modules))")
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_a_large_study_is_reported_quickly(tmp_path):
    result = example_result(axial_geometry((256, 256, 16), (0.86, 0.86, 5.0)))
    start = time.process_time()
    write_report(tmp_path, result)
    assert time.process_time() - start < 8.0
    assert (tmp_path / "report.html").stat().st_size < 8e6


def chromium(*arguments) -> subprocess.CompletedProcess:
    command = [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, timeout=90)


@needs_chromium
@pytest.mark.parametrize("width", [1200, 800])
def test_a_browser_shows_the_whole_page_within_the_window(folder, tmp_path, width):
    shot = tmp_path / "page.png"
    chromium(f"--screenshot={shot}", f"--window-size={width},9000", (folder / "report.html").as_uri())
    pixels = np.asarray(Image.open(shot).convert("RGB"), int)
    below = pixels[120:]
    assert (np.abs(below - CORE).sum(axis=2) < 30).sum() > 200  # the core is seen
    assert below[:, -8:].min() > 120  # nothing dark is cut off at the right edge


@needs_chromium
def test_a_browser_finds_every_picture_and_runs_no_script(folder):
    dom = chromium("--dump-dom", (folder / "report.html").as_uri()).stdout.decode("utf-8")
    tags = Reader(dom).tags
    assert len([tag for tag, _ in tags if tag == "img"]) >= 10 and "</body>" in dom
    assert not [tag for tag, _ in tags if tag == "script"]
    assert all(attrs.get("alt") for tag, attrs in tags if tag == "img")


@needs_chromium
def test_the_page_prints_on_a4(folder, tmp_path):
    chromium(f"--print-to-pdf={tmp_path / 'page.pdf'}", "--no-pdf-header-footer", (folder / "report.html").as_uri())
    pdf = (tmp_path / "page.pdf").read_bytes()
    boxes = re.findall(rb"/MediaBox\s*\[0 0 ([\d.]+) ([\d.]+)\]", pdf)
    assert 3 <= len(boxes) <= 10
    assert all(abs(float(w) - 595) < 2 and abs(float(h) - 842) < 2 for w, h in boxes)
