"""The app in a real browser: clips dropped and recorded, answers and refusals, nothing from elsewhere."""

import json
import os
import shutil
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from trying import run_app

from kinemix.app.service import Limits, Service, read_examples

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning"),
]

CHROMIUM, DRIVER = shutil.which("chromium") or shutil.which("google-chrome"), shutil.which("chromedriver")
VIDEOS = Path(os.environ["KINEMIX_VIDEOS"]) if "KINEMIX_VIDEOS" in os.environ else None
PATIENCE = 120
LIMITS = Limits(megabytes=8, seconds=15)


@pytest.fixture(scope="module")
def browser():
    pytest.importorskip("gradio", reason="the app needs gradio: pip install 'kinemix[app]'")
    webdriver = pytest.importorskip("selenium.webdriver")
    if CHROMIUM is None or DRIVER is None:
        pytest.skip("no chromium and chromedriver here")
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    camera = ("--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream")
    for argument in ("--headless=new", "--no-sandbox", "--disable-gpu", "--window-size=1280,1000", *camera):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(DRIVER))
    yield driver
    driver.quit()


@pytest.fixture(scope="module")
def app(networks, clips, tmp_path_factory):
    folder = tmp_path_factory.mktemp("temporary")
    with pytest.MonkeyPatch.context() as patch, Service(networks, limits=LIMITS) as service:
        examples = read_examples(service, [str(clip) for clip in clips[6:9]])
        with run_app(service, patch, folder, examples=examples) as app:
            yield app


@pytest.fixture
def page(browser, app):
    browser.get(app.address)
    wait(browser, "#file input[type=file]")
    wait(browser, "#examples .thumbnail-item")
    return browser


def wait(browser, selector, *, until=lambda found: found):
    """What the selector finds, as soon as it is as it must be."""
    from selenium.webdriver.support.ui import WebDriverWait

    def look(driver):
        found = driver.find_elements("css selector", selector)
        return found if found and until(found) else None

    return WebDriverWait(browser, PATIENCE, ignored_exceptions=_stale()).until(look)


def _stale():
    from selenium.common.exceptions import StaleElementReferenceException

    return [StaleElementReferenceException]


def drop(browser, path):
    browser.find_element("css selector", "#file input[type=file]").send_keys(str(path))


def read_answer(browser, about):
    """Labels and scores in both directions, once the answer is about this."""
    wait(browser, "#answer .about", until=lambda found: about in found[0].text)
    return {
        kind: [
            (row.find_element("css selector", "th").text, row.find_element("css selector", ".score").text)
            for row in browser.find_elements("css selector", f"#answer .{kind} tr")
        ]
        for kind in ("forwards", "backwards")
    }


def expect(recogniser, clip):
    """The same from the library."""
    return {
        kind: [(one.label, f"{one.score:.1%}") for one in recogniser.predict(clip, order=order)]
        for kind, order in (("forwards", "forward"), ("backwards", "reverse"))
    }


def check_pictures(browser, count):
    """So many frames and as many maps, which the browser can show."""
    script = (
        "const done = arguments[0]; const pictures = [...document.querySelectorAll('#answer .film img')];"
        "Promise.all(pictures.map(p => p.decode())).then("
        "() => done(pictures.map(p => [p.alt, p.naturalWidth, p.clientWidth])), error => done(String(error)))"
    )
    browser.set_script_timeout(PATIENCE)
    pictures = browser.execute_async_script(script)
    assert len(pictures) == 2 * count
    assert all(natural > 50 and shown > 50 for _, natural, shown in pictures)
    return [text for text, _, _ in pictures]


def list_hosts(browser):
    """Of all that was asked for since the last time."""
    hosts = set()
    for entry in browser.get_log("performance"):
        message = json.loads(entry["message"])["message"]
        if message["method"] == "Network.requestWillBeSent":
            address = urlsplit(message["params"]["request"]["url"])
            if address.scheme not in ("data", "blob"):
                hosts.add(f"{address.scheme}://{address.netloc}")
    return hosts


def test_a_clip_is_dropped_and_answered(page, app, networks, clips, tmp_path):
    clip = tmp_path / "dropped <b>.mp4"
    shutil.copy(clips[4], clip)
    drop(page, clip)
    assert read_answer(page, "order") == expect(networks["order"], clips[4])
    texts = check_pictures(page, 4)
    assert texts[:2] == ["frame 2", "saliency in frame 2"]
    assert clip.exists()
    assert app.list_uploads() == []
    page.find_elements("css selector", "#model input")[1].click()
    assert read_answer(page, "plain") == expect(networks["plain"], clips[4])
    assert page.find_elements("css selector", "#file input[type=file]"), "another one can be dropped"
    drop(page, clips[5])
    wait(page, "#answer .about", until=lambda found: "dropped" not in found[0].text)
    assert read_answer(page, "plain") == expect(networks["plain"], clips[5])


def test_an_example_is_chosen(page, app, networks, clips):
    wait(page, "#examples .thumbnail-item")[2].click()
    assert read_answer(page, "order") == expect(networks["order"], clips[8])
    wait(page, "#examples .thumbnail-item")[0].click()
    wait(page, "#answer .forwards tr", until=lambda rows: rows[0].text.split()[0] == best(networks, clips[6]))
    assert read_answer(page, "order") == expect(networks["order"], clips[6])


def best(networks, clip):
    return networks["order"].predict(clip)[0].label


@pytest.mark.skipif(VIDEOS is None, reason="KINEMIX_VIDEOS is not set")
@pytest.mark.parametrize(
    "name", ["mmaction2__demo.mp4", "mmaction2__test.avi", "exoplayer__bear-vp9-odd-dimensions.webm"]
)
def test_real_clips(page, app, networks, name):
    """One of them is of a kind that no browser plays."""
    clip = VIDEOS / "odd" / name
    drop(page, clip)
    assert read_answer(page, name) == expect(networks["order"], clip)
    check_pictures(page, 4)
    assert app.list_uploads() == []
    assert page.find_elements("css selector", ".toast-body") == []


def test_what_cannot_be_answered_is_told_and_the_next_one_is_answered(page, app, networks, clips, tmp_path):
    text = tmp_path / "text.mp4"
    text.write_text("this is a text\n" * 40)
    cut = tmp_path / "cut.mp4"
    cut.write_bytes(clips[0].read_bytes()[:4000])
    for path in (text, cut):
        drop(page, path)
        wait(page, "#answer .refusal", until=lambda found, path=path: found[0].text.startswith(path.name))
        (refusal,) = page.find_elements("css selector", "#answer .refusal")
        assert refusal.text.startswith(f"{path.name}: not a video, or its header is damaged")
        assert refusal.get_attribute("role") == "alert"
    large = tmp_path / "large.mp4"
    with large.open("wb") as file:
        file.truncate(2 * 2**30)
    drop(page, large)
    toasts = wait(page, ".toast-body", until=lambda found: "exceed" in found[0].text)
    assert 'exceed the maximum allowed size of 8.0 Mb: "large.mp4"' in toasts[0].text
    assert app.list_uploads() == []
    page.get(app.address)
    wait(page, "#file input[type=file]")
    drop(page, clips[0])
    assert read_answer(page, "order") == expect(networks["order"], clips[0])


def test_the_camera(page, app):
    """What the browser makes up as a camera's picture is recorded, sent, and answered."""
    page.execute_script(
        "window.recorded = 0; const start = MediaRecorder.prototype.start;"
        "MediaRecorder.prototype.start = function (...given) {"
        "  this.addEventListener('dataavailable', event => { window.recorded += event.data.size; });"
        "  return start.apply(this, given); }"
    )
    tabs = {tab.text: tab for tab in page.find_elements("css selector", "button[role=tab]")}
    tabs["Camera"].click()
    wait(page, "#camera button", until=lambda found: found[0].is_displayed())[0].click()
    wait(page, "#camera .capture-button")[0].click()
    wait(page, "body", until=lambda _: page.execute_script("return window.recorded") > 30000)
    page.find_element("css selector", "#camera .capture-button").click()
    ranked = read_answer(page, "sample.")
    assert len(ranked["forwards"]) == len(ranked["backwards"]) == 5
    check_pictures(page, 4)
    assert app.list_uploads() == []


def test_the_keyboard_reaches_everything(page):
    from selenium.webdriver.common.keys import Keys

    reached = set()
    body = page.find_element("css selector", "body")
    body.send_keys(Keys.TAB)
    for _ in range(25):
        focused = page.switch_to.active_element
        inside = "return ['model', 'file', 'examples'].filter(id => document.getElementById(id).contains(arguments[0]))"
        reached |= set(page.execute_script(inside, focused))
        reached |= {"tabs"} & ({"tabs"} if focused.get_attribute("role") == "tab" else set())
        focused.send_keys(Keys.TAB)
    assert reached == {"model", "file", "examples", "tabs"}
    example = page.find_elements("css selector", "#examples .thumbnail-item")[1]
    page.execute_script("arguments[0].focus()", example)
    page.switch_to.active_element.send_keys(Keys.ENTER)
    wait(page, "#answer .forwards tr")


@pytest.mark.parametrize("width", [360, 390, 1280])
def test_nothing_is_wider_than_the_screen_or_cut(page, width):
    device = {"width": width, "height": 800, "deviceScaleFactor": 2, "mobile": width < 500}
    page.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", device)
    try:
        wait(page, "#examples .thumbnail-item")[0].click()
        wait(page, "#answer .forwards tr")
        check_pictures(page, 4)
        assert page.execute_script("return document.documentElement.scrollWidth") <= width
        cut = (
            "return [...document.querySelectorAll('#answer th, #answer h2, #answer .score')]"
            ".filter(e => e.scrollWidth > e.clientWidth + 1).map(e => e.textContent)"
        )
        assert page.execute_script(cut) == []
        small = (
            "return [...document.querySelectorAll('#answer *')].filter(e => e.textContent.trim() && "
            "parseFloat(getComputedStyle(e).fontSize) < 12).length"
        )
        assert page.execute_script(small) == 0
    finally:
        page.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def test_nothing_comes_from_elsewhere_and_nothing_breaks(page, app):
    list_hosts(page)
    page.get_log("browser")
    page.get(app.address)
    wait(page, "#examples .thumbnail-item")[0].click()
    wait(page, "#answer .forwards tr")
    assert list_hosts(page) == {app.address}
    assert [entry for entry in page.get_log("browser") if entry["level"] == "SEVERE"] == []
