"""The report in a real browser, from disk: no error, and its search, sort and zoom do what they say."""

import shutil

import numpy as np
import pytest
from reported import open_with_many_clips, train_small

from kinemix.explain.report import ReportOptions, write_report

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore::ResourceWarning")]

CHROMIUM, DRIVER = shutil.which("chromium") or shutil.which("google-chrome"), shutil.which("chromedriver")
OPTIONS = ReportOptions(latency=False, doctor="none")


@pytest.fixture(scope="module")
def browser():
    webdriver = pytest.importorskip("selenium.webdriver")
    if CHROMIUM is None or DRIVER is None:
        pytest.skip("no chromium and chromedriver here")
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for argument in ("--headless=new", "--no-sandbox", "--disable-gpu", "--window-size=1200,900"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(DRIVER))
    yield driver
    driver.quit()


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    folder = tmp_path_factory.mktemp("report")
    tested = open_with_many_clips(train_small(folder), num_classes=400, per_class=3)
    return tested, write_report({"TSN": tested}, folder / "report.html", options=OPTIONS)


@pytest.fixture
def opened(browser, page):
    browser.get(page[1].as_uri())
    yield browser
    assert browser.get_log("browser") == []


def run(browser, script):
    return browser.execute_script(f"const map = document.querySelector('.confusion').drawing; {script}")


def type_into(browser, selector, text):
    field = browser.find_element("css selector", selector)
    field.clear()
    field.send_keys(text)
    return field


def test_matrix_is_drawn_and_search_finds_a_class(opened, page) -> None:
    scores = page[0].scores
    drawn = "const c = map.canvas; return new Set(c.getContext('2d').getImageData(0, 0, c.width, c.height).data).size"
    assert run(opened, drawn) > 20
    assert run(opened, "return map.view.span") == 400
    name = scores.class_names[123]
    type_into(opened, ".confusion .search", name)
    assert run(opened, "return map.order[map.cursor[0]]") == 123
    assert run(opened, "return map.view.span") == 24
    right = int(((scores.logits.argmax(axis=1) == 123) & (scores.labels == 123)).sum())
    readout = opened.find_element("css selector", ".confusion .readout").text
    assert readout.startswith(f"{name}: {round(100 * right / 3)} % of 3 right")
    type_into(opened, ".confusion .search", "no such thing")
    assert "No class" in opened.find_element("css selector", ".confusion .readout").text


def test_matrix_is_sorted_as_asked(opened, page) -> None:
    scores = page[0].scores
    accuracy = np.array([c.accuracy for c in scores.metrics().per_class])
    choose = (
        "const s = document.querySelector('.sort'); s.value = '{}'; s.dispatchEvent(new Event('change'));"
    )
    hardest = run(opened, choose.format("accuracy") + "return map.order")
    assert (np.diff(accuracy[hardest]) >= 0).all()
    assert run(opened, choose.format("label") + "return map.order") == list(range(400))
    names = [scores.class_names[k] for k in run(opened, choose.format("name") + "return map.order")]
    assert sorted(names) == sorted(scores.class_names)
    assert names != list(scores.class_names)


def test_zoom_by_button_key_and_back(opened) -> None:
    from selenium.webdriver.common.keys import Keys

    opened.find_element("css selector", ".zoom .in").click()
    assert run(opened, "return map.view.span") == pytest.approx(240)
    canvas = opened.find_element("css selector", ".confusion canvas")
    canvas.send_keys("+")
    assert run(opened, "return map.view.span") == pytest.approx(144)
    canvas.send_keys("-")
    assert run(opened, "return map.view.span") == pytest.approx(240)
    before = run(opened, "return map.cursor")
    canvas.send_keys(Keys.ARROW_DOWN, Keys.ARROW_DOWN, Keys.ARROW_RIGHT)
    assert run(opened, "return map.cursor") == [before[0] + 2, before[1] + 1]
    assert "answered as" in opened.find_element("css selector", ".confusion .readout").text
    opened.find_element("css selector", ".zoom .all").click()
    assert run(opened, "return map.view.span") == 400


def test_table_of_clips_is_searched_filtered_and_sorted(opened, page) -> None:
    scores = page[0].scores
    right = scores.logits.argmax(axis=1) == scores.labels

    def found():
        return opened.find_element("css selector", ".samples .found").text

    def column(number):
        cells = opened.find_elements("css selector", f".samples tbody td:nth-child({number})")
        return [cell.text for cell in cells]

    assert found() == "1200 of 1200 clips, 20 shown"
    shares = [float(text.removesuffix(" %")) for text in column(3)]
    assert shares == sorted(shares)
    opened.find_elements("css selector", ".samples th button")[2].click()
    shares = [float(text.removesuffix(" %")) for text in column(3)]
    assert shares == sorted(shares, reverse=True)
    script = (
        "const s = document.querySelector('.only'); s.value = 'wrong'; s.dispatchEvent(new Event('change'));"
    )
    opened.execute_script(script)
    assert found() == f"{(~right).sum()} of 1200 clips, 20 shown"
    opened.execute_script(script.replace("'wrong'", "'all'"))
    type_into(opened, ".samples .search", "/777.mp4" if scores.ids[0].count("/") > 2 else "777.mp4")
    assert found() == "1 of 1200 clips"
    assert column(4) == ["777.mp4"]
    assert column(1) == [scores.class_names[scores.labels[777]]]
    type_into(opened, ".samples .search", "Moving something")
    opened.find_element("css selector", ".samples .more").click()
    assert len(column(1)) == 220


def test_films_play_and_can_be_stopped(opened) -> None:
    playing = "return getComputedStyle(document.querySelector('.film img')).animationName"
    assert opened.execute_script(playing) == "film"
    opened.execute_script("document.querySelector('.pause').click()")
    assert opened.execute_script(playing) == "none"
    opened.execute_script("document.querySelector('.film img').scrollIntoView()")
    opened.set_script_timeout(10)
    loaded = opened.execute_async_script(
        "const done = arguments[0]; document.querySelector('.film img').decode().then(() => done(true), done)"
    )
    assert loaded is True


def test_every_section_is_reached_by_the_keyboard_and_nothing_is_wider_than_a_phone(opened) -> None:
    links = opened.find_elements("css selector", "nav a")
    targets = {link.get_attribute("href").rpartition("#")[2] for link in links}
    assert targets == {h.get_attribute("id") for h in opened.find_elements("css selector", "h2")}
    opened.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride",
        {"width": 390, "height": 800, "deviceScaleFactor": 2, "mobile": True},
    )
    try:
        assert opened.execute_script("return document.documentElement.scrollWidth") <= 390
        assert run(opened, "return map.canvas.clientWidth") > 300
    finally:
        opened.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def test_printed_films_are_strips(opened) -> None:
    opened.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})
    try:
        style = "const s = getComputedStyle(document.querySelector('.film img')); return [s.animationName, s.width]"
        name, width = opened.execute_script(style)
        box = opened.execute_script("return document.querySelector('.film').clientWidth")
        assert name == "none"
        assert float(width.removesuffix("px")) == pytest.approx(box, abs=1)
    finally:
        opened.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": ""})
