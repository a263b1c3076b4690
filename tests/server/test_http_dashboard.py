"""`/dashboard` as files: who gets them, what holds a browser to them alone, and that the package has all of them."""

from __future__ import annotations

import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from orchestrator.server.http_dashboard import KINDS, POLICY
from tests import planted
from tests.server.test_http import client_of, error_of, make_server

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "orchestrator" / "server" / "dashboard"
FILES = sorted(path.name for path in FOLDER.iterdir())


async def test_the_page_and_its_files_are_open() -> None:
    async with client_of(make_server(server={"api_key": planted.SERVER})) as client:
        page = await client.get("/dashboard")
        assert page.headers["content-type"] == "text/html; charset=utf-8"
        assert (await client.get("/v1/status")).status_code == 401
        for name in re.findall(r'(?:href|src)="(dashboard/[^"]+)"', page.text):
            file = await client.get(f"/{name}")
            assert file.status_code == 200, name
            assert file.headers["content-type"].startswith(KINDS[Path(name).suffix].split(";")[0])


async def test_a_browser_is_held_to_them() -> None:
    async with client_of(make_server()) as client:
        for path in ("/dashboard", "/dashboard/app.js", "/dashboard/style.css"):
            answer = await client.get(path)
            assert answer.headers["content-security-policy"] == POLICY
            assert answer.headers["x-content-type-options"] == "nosniff"
            assert answer.headers["referrer-policy"] == "no-referrer"
    assert "unsafe" not in POLICY
    assert "default-src 'none'" in POLICY
    assert "http" not in POLICY


async def test_what_has_not_changed_is_not_sent_again() -> None:
    async with client_of(make_server()) as client:
        first = await client.get("/dashboard/app.js")
        again = await client.get("/dashboard/app.js", headers={"If-None-Match": first.headers["etag"]})
        assert (again.status_code, again.content) == (304, b"")
        assert again.headers["content-security-policy"] == POLICY


@pytest.mark.parametrize(
    "name", ["nothing.js", "index.html", "..%2Fapp.py", "%2e%2e%2fhttp.py", "__init__.py"]
)
async def test_there_is_nothing_else(name: str) -> None:
    async with client_of(make_server()) as client:
        answer = await client.get(f"/dashboard/{name}")
        assert answer.status_code == 404
        if "%" not in name:
            assert "app.js" in error_of(answer, 404)["message"]


@pytest.mark.parametrize("name", FILES)
def test_no_file_names_another_host_or_makes_markup_of_text(name: str) -> None:
    text = (FOLDER / name).read_text()
    assert Path(name).suffix in KINDS
    found = [
        url for url in re.findall(r"https?://[^\s\"'`]+|\burl\([^)]*\)", text) if "www.w3.org" not in url
    ]
    assert found == []
    wrong = (
        r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function|style=\"|\bon\w+=\""
    )
    assert re.findall(wrong, text) == []
    assert len(text.splitlines()) <= 350


def test_every_import_is_there() -> None:
    for path in FOLDER.glob("*.js"):
        for name in re.findall(r'from "\./([^"]+)"', path.read_text()):
            assert (FOLDER / name).exists(), f"{path.name} wants {name}"


def test_the_wheel_has_all_of_them(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    inside = {Path(name).name for name in zipfile.ZipFile(wheel).namelist() if "server/dashboard/" in name}
    assert inside == set(FILES)
