"""The page of a plan in a real browser: what the slider moves, and that nothing else happens."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from fakes_core import make_rows
from fakes_plan import as_log, made_plan

from crossroute.traffic.choice import Setting
from crossroute.traffic.planning import plan
from crossroute.traffic.report import write_report

if TYPE_CHECKING:
    from selenium.webdriver import Chrome

webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is not installed")

BROWSER = shutil.which("chromium") or shutil.which("google-chrome")
DRIVER = shutil.which("chromedriver")
pytestmark = pytest.mark.skipif(
    BROWSER is None or DRIVER is None, reason="no Chromium with its chromedriver is installed"
)
HOSTILE = "</script><img src=x onerror=\"document.title='pwned'\"><b>bold</b> {{style}}"
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chrome]:
    options = webdriver.ChromeOptions()
    options.binary_location = BROWSER
    for flag in (*FLAGS, f"--user-data-dir={tmp_path_factory.mktemp('browser')}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(DRIVER))
    yield driver
    driver.quit()


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("report") / "report.html"
    rows = [
        {**row, "task": "sums" if "*" in str(row["prompt"]) else "tales"} for row in make_rows(200)
    ]
    write_report(made_plan(rows=rows), path, calls_per_month=1_000_000)
    return path


def opened(browser: Chrome, path: Path, width: int = 1400, scheme: str = "light") -> None:
    browser.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride",
        {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False},
    )
    feature = {"name": "prefers-color-scheme", "value": scheme}
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [feature]})
    browser.get(path.as_uri())


def text(browser: Chrome, selector: str) -> str:
    return browser.find_element("css selector", selector).text.replace("\u00a0", " ")


def seen(browser: Chrome) -> dict[str, Any]:
    """What the slider moves."""
    point = browser.find_element("css selector", "#point")
    return {
        "willingness": text(browser, "#willingness"),
        "saving": text(browser, "#saving"),
        "loss": text(browser, "#loss"),
        "quality": text(browser, "#quality"),
        "cost": text(browser, "#cost"),
        "shares": text(browser, "#shares"),
        "topics": text(browser, "#topics"),
        "examples": text(browser, "#examples"),
        "said": browser.find_element("css selector", "#said").get_attribute("textContent"),
        "point": (point.get_attribute("cx"), point.get_attribute("cy")),
    }


def press(browser: Chrome, key: str) -> dict[str, Any]:
    browser.find_element("css selector", "#slider").send_keys(key)
    return seen(browser)


def contrast(one: str, other: str) -> float:
    """By WCAG, of two colours as `rgb(1, 2, 3)`."""

    def luminance(colour: str) -> float:
        channels = [int(x) / 255 for x in colour[colour.index("(") + 1 : -1].split(",")[:3]]
        red, green, blue = (
            x / 12.92 if x <= 0.04045 else ((x + 0.055) / 1.055) ** 2.4 for x in channels
        )
        return 0.2126 * red + 0.7152 * green + 0.0722 * blue

    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


def test_it_starts_at_the_recommendation(browser: Chrome, report: Path) -> None:
    opened(browser, report)
    found = made_plan()
    state = seen(browser)
    assert state["saving"] == f"{100 * found.saving:.0f} %"
    assert state["quality"] == f"{found.quality:.3f}"
    assert state["cost"] == f"${found.costs()[0] * 1e6:,.2f}"
    recommended = browser.find_element("css selector", "#recommended")
    assert state["point"] == (recommended.get_attribute("cx"), recommended.get_attribute("cy"))
    assert not browser.find_element("css selector", "#reset").is_displayed()
    for model, share in found.shares().items():
        assert f"{model}\n{100 * share:.0f} %" in state["shares"]


def test_keys_move_everything_by_one_setting(browser: Chrome, report: Path) -> None:
    opened(browser, report)
    start = seen(browser)
    cheapest = press(browser, "\ue011")  # Home
    best = press(browser, "\ue010")  # End
    for name in start:
        assert len({str(state[name]) for state in (start, cheapest, best)}) > 1, name
    assert best["saving"] != cheapest["saving"]
    assert press(browser, "\ue012") != best  # Left
    assert press(browser, "\ue014") == best  # Right
    assert press(browser, "\ue014") == best
    slider = browser.find_element("css selector", "#slider")
    assert slider.get_attribute("aria-valuetext") == best["willingness"]
    assert best["willingness"] in best["said"]
    browser.find_element("css selector", "#reset").click()
    assert seen(browser) == start


def test_keys_leave_no_setting_out(browser: Chrome, report: Path) -> None:
    opened(browser, report)
    script = "return JSON.parse(document.getElementById('data').textContent).curve.willingness"
    expected = browser.execute_script(script)
    slider = browser.find_element("css selector", "#slider")
    slider.send_keys("\ue011")
    found = []
    for _ in expected:
        found.append(10 ** float(slider.get_property("value")))
        slider.send_keys("\ue014")
    assert found == pytest.approx(expected, rel=1e-6)


def test_settings_at_no_price_and_at_any_have_their_place(browser: Chrome, tmp_path: Path) -> None:
    found = made_plan()
    assert found.evidence is not None
    assert found.setting is not None
    family, place = found.setting
    willingness = family.willingness.copy()
    willingness[0], willingness[-1] = np.inf, 0.0
    setting = Setting(replace(family, willingness=willingness), place)
    choice = found.evidence.choice._replace(setting=setting)
    path = tmp_path / "report.html"
    write_report(replace(found, evidence=found.evidence._replace(choice=choice)), path)
    opened(browser, path)
    assert press(browser, "\ue011")["willingness"] == "$0.00 a unit of quality"
    assert press(browser, "\ue014")["willingness"] != "$0.00 a unit of quality"
    assert press(browser, "\ue010")["willingness"] == "any price"
    assert "any price" in seen(browser)["said"]
    assert press(browser, "\ue012")["willingness"] != "any price"


def test_the_slider_is_dragged_to_settings_alone(browser: Chrome, report: Path) -> None:
    opened(browser, report)
    start = seen(browser)
    slider = browser.find_element("css selector", "#slider")
    wide = slider.size["width"]
    states = []
    for share in (-0.45, 0.0, 0.45):
        actions = webdriver.ActionChains(browser)
        actions.move_to_element_with_offset(slider, int(share * wide), 0).click().perform()
        states.append(seen(browser))
    prices = [state["willingness"] for state in states]
    assert len({*prices, start["willingness"]}) > 2
    # By the logarithm: the middle is nowhere near half of the highest.
    amounts = [float(price.split()[0].strip("$").replace(",", "")) for price in prices]
    assert amounts[0] < amounts[1] < amounts[2] / 10
    content = browser.execute_script(
        "return JSON.parse(document.getElementById('data').textContent)"
    )
    at = browser.execute_script("return Number(document.getElementById('slider').value)")
    assert min(abs(10**at / value - 1) for value in content["curve"]["willingness"] if value) < 1e-6


def test_examples_are_of_their_kind(browser: Chrome, report: Path) -> None:
    opened(browser, report)
    for kind, (now, before) in {"worse": (0, 1), "better": (1, 0), "cheaper": (1, 1)}.items():
        column = f"#examples [data-kind={kind}] .card:not(.none)"
        cards = browser.find_elements("css selector", column)
        assert cards
        for card in cards:
            scores = [
                float(one.text.split()[0]) for one in card.find_elements("css selector", "dd")
            ]
            assert scores == [now, before] or (kind == "cheaper" and scores == [0, 0])
            assert "sage" in card.text


def test_strangers_prompts_are_text(browser: Chrome, tmp_path: Path) -> None:
    rows = [
        {**row, "prompt": f"{HOSTILE} {row['prompt']}", "task": HOSTILE} for row in make_rows(120)
    ]
    path = tmp_path / "hostile.html"
    write_report(made_plan(rows=rows), path)
    opened(browser, path)
    assert browser.title.startswith("CrossRoute plan: ")
    assert not browser.find_elements("css selector", "img, b:not(.bars b), main a")
    assert HOSTILE in text(browser, "#examples")
    assert HOSTILE in text(browser, "#topics")


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [380, 800, 1400])
def test_it_is_readable_at_any_width_and_loads_nothing(
    browser: Chrome, report: Path, width: int, scheme: str
) -> None:
    opened(browser, report, width, scheme)
    assert browser.execute_script("return document.documentElement.scrollWidth") <= width
    colours = browser.execute_script(
        """
        const paper = getComputedStyle(document.body).backgroundColor;
        const selectors = ["h1", ".lead", "section > p", "#willingness", "summary", "tbody td",
          "thead th", ".ends", ".legend"];
        const ink = (one) => getComputedStyle(document.querySelector(one)).color;
        return selectors.map((one) => [one, ink(one), paper])
          .concat([["card", ink(".card dt"),
            getComputedStyle(document.querySelector(".card")).backgroundColor]]);
        """
    )
    for name, ink, paper in colours:
        assert contrast(ink, paper) >= 4.5, name
    assert (contrast(colours[0][2], "rgb(255, 255, 255)") < 2) == (scheme == "light")
    assert browser.execute_script("return performance.getEntriesByType('resource').length") == 0
    assert browser.get_log("browser") == []


def test_nothing_below_moves_when_the_slider_does(browser: Chrome, report: Path) -> None:
    opened(browser, report)
    places = "return [...document.querySelectorAll('h2')].map((one) => one.offsetTop)"
    before = browser.execute_script(places)
    for key in ("\ue011", "\ue010", "\ue00e"):
        press(browser, key)
        assert browser.execute_script(places) == before


def test_every_part_has_a_name(browser: Chrome, report: Path) -> None:
    opened(browser, report)
    named = browser.execute_script(
        """
        const slider = document.getElementById("slider");
        return [slider.labels[0].textContent, document.querySelectorAll("h1").length,
          document.querySelectorAll("th:not([scope])").length,
          document.querySelector("[aria-live]").id];
        """
    )
    assert named == ["Willingness to pay", 1, 0, "said"]


def test_a_page_without_a_script_is_the_verdict(browser: Chrome, report: Path) -> None:
    browser.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": True})
    try:
        opened(browser, report)
        assert text(browser, "h1").startswith("Route at a willingness to pay")
        assert "which is switched off" in text(browser, "main")
    finally:
        browser.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": False})


def test_a_log_has_no_examples_and_says_why(browser: Chrome, tmp_path: Path) -> None:
    path = tmp_path / "log.html"
    write_report(as_log(made_plan()), path)
    opened(browser, path)
    assert "one answer a prompt" in text(browser, "#examples-text")
    assert not browser.find_elements("css selector", ".card")
    assert browser.find_elements("css selector", "#reliability .bin")
    assert browser.get_log("browser") == []


def test_other_verdicts_are_pages_too(browser: Chrome, tmp_path: Path) -> None:
    path = tmp_path / "report.html"
    for found, begins in (
        (made_plan("fixed"), "Use clerk for all prompts"),
        (made_plan("more data"), "Stay with sage for now"),
        (plan(make_rows(10), baseline="sage"), "10 prompts can be compared"),
    ):
        write_report(found, path)
        opened(browser, path)
        assert text(browser, "h1").startswith(begins)
        has_curve = found.evidence is not None
        assert bool(browser.find_elements("css selector", "#point")) == has_curve
        assert not browser.find_elements("css selector", "#recommended")
        assert bool(browser.find_elements("css selector", "#curve .ring")) == has_curve
        assert browser.get_log("browser") == []
